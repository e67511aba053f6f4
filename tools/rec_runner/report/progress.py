"""A progress bar on stderr."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """Shows how far rows have come.

    Args:
        total: bytes of the whole input; None where that is not known, and rows are counted.
        shown: whether there is a terminal to show it on.
    """

    def __init__(self, total: int | None, shown: bool) -> None:
        self._bar: Any = None
        self._in_bytes = total is not None
        if not shown:
            return
        from tqdm import tqdm

        unit = "B" if self._in_bytes else " rows"
        self._bar = tqdm(total=total, unit=unit, unit_scale=True, file=sys.stderr, leave=False)

    def update(self, rows: int, place: int) -> None:
        """Show that there are so many rows, and so many bytes read."""
        if self._bar is not None:
            if self._in_bytes:
                self._bar.set_postfix_str(f"{rows:,} rows", refresh=False)
            self._bar.update(max((place if self._in_bytes else rows) - self._bar.n, 0))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
