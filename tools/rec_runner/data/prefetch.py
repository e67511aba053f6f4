"""Items made in a background thread, ahead of who uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """Make items in a background thread, at most ``depth`` ahead of the consumer."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def hand_over(kind: str, value: Any) -> bool:
        while not closed.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand_over("item", item):
                    return
                del item  # the next one is made without this one in memory
            hand_over("end", None)
        except BaseException as error:  # raised again in the consumer
            hand_over("error", error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            # Handed over, not kept: a frame that waits in yield would hold on to the item.
            handed = [value]
            del value
            yield handed.pop()
    finally:
        closed.set()
        thread.join()
