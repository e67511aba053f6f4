"""Items made in a background thread, ahead of who uses them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Generic, TypeVar

Item = TypeVar("Item")


class Prefetched(Generic[Item]):
    """Makes items in a background thread, from now on.

    Args:
        items: what makes them. It is left where it stands when this is closed.
        depth: how much may wait for the consumer before the next item joins it.
        weigh: how much an item is.

    Attributes:
        error: what ended the making, raised again in the consumer when its turn comes.
    """

    def __init__(
        self, items: Iterable[Item], depth: int = 1, weigh: Callable[[Item], int] = lambda item: 1
    ) -> None:
        self.error: BaseException | None = None
        self._depth, self._weigh = depth, weigh
        self._ready: deque[Item] = deque()
        self._weight = 0
        self._closed = self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._work, args=(items,), name="prefetch", daemon=True
        )
        self._thread.start()

    def _work(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if not self._hand_over(item):
                    return
                del item  # the next one is made without this one in memory
        except BaseException as error:  # raised again in the consumer
            self.error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _hand_over(self, item: Item) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._weight < self._depth)
            if not self._closed:
                self._ready.append(item)
                self._weight += self._weigh(item)
                self._changed.notify_all()
            return not self._closed

    def __iter__(self) -> Iterator[Item]:
        """All items, once; the thread ends when the iterator is closed."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ready or self._ended)
                    if not self._ready:
                        break
                    # Handed over, not kept: a frame that waits in yield would hold on to it.
                    self._weight -= self._weigh(self._ready[0])
                    handed = [self._ready.popleft()]
                    self._changed.notify_all()
                yield handed.pop()
            if self.error is not None:
                raise self.error
        finally:
            self.close()

    def close(self) -> None:
        """End the thread, once it has made what it is about to."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()


def prefetch(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """Make items in a background thread, at most ``depth`` ahead of the consumer."""
    yield from Prefetched(items, depth)


def run_ahead(jobs: Iterator[Callable[[], Item]], depth: int = 1) -> Iterator[Item]:
    """What jobs give, which a background thread runs at most ``depth`` ahead of the consumer.

    The jobs themselves are taken from their iterator in the consumer's thread. What one of them
    raises, or their iterator, is raised in its turn.
    """
    ahead: deque[Future[Item]] = deque()
    error: Exception | None = None
    left = True
    with ThreadPoolExecutor(1, thread_name_prefix="run-ahead") as pool:
        try:
            while left or ahead:
                while left and len(ahead) <= depth:
                    try:
                        ahead.append(pool.submit(next(jobs)))
                    except StopIteration:
                        left = False
                    except Exception as raised:
                        error, left = raised, False
                if ahead:
                    yield ahead.popleft().result()
            if error is not None:
                raise error
        finally:
            for job in ahead:
                job.cancel()
