"""One line of comma-separated numbers: its values, or what is wrong with it.

:mod:`csv_blocks` comes here for lines that cannot be used; reading one takes far longer than its
share of a block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from csv_layout import NOT_FINITE, NUMBER, SHOW, Layout, RowError, content, hidden


@dataclass
class BadRows:
    """What to do with rows that cannot be used, and a count of those skipped.

    Attributes:
        cap: how many may be skipped before reading stops; 0 stops at the first.
        count: rows skipped so far.
        first: the messages of the first ten of them.
    """

    cap: int = 0
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Count one bad row.

        Raises:
            RowError: more rows were bad than ``cap`` allows.
        """
        if self.count == self.cap:
            skipped = f" (and {self.cap} bad rows were skipped before it, the most allowed)"
            raise RowError(message + skipped if self.cap else message)
        self.count += 1
        if len(self.first) < 10:
            self.first.append(message)


def parse_row(line: bytes, layout: Layout) -> np.ndarray:
    """All columns of a row, float32; what is ignored or blank is NaN.

    Raises:
        RowError: what is wrong with it, and in which column.
    """
    text = hidden(line, layout.column_num)
    if line.count(b'"') % 2:
        before, _, rest = text.rpartition(b'"')
        cell = (before.rpartition(b",")[2] + b'"' + rest.partition(b",")[0]).translate(SHOW)
        problem = "has a quote without its other half; line breaks inside quotes are not supported"
        raise bad_value(layout, before.count(b","), cell, problem)
    columns = text.count(b",") + 1
    if columns != layout.column_num:
        hint = layout.hints.get((columns, layout.column_num), "")
        raise RowError(f"row has {columns} columns, expected {layout.expected_columns}{hint}")
    cells = text.split(b",")
    if b'"' in line:
        cells = [content(cell) for cell in cells]
    left_out = set(layout.ignored_columns)
    if layout.blank_labels:
        left_out.update(c for c in layout.label_columns if not cells[c].strip(b" \t"))
    numbers = {cell for cell in set(cells) if NUMBER.fullmatch(cell)}
    for column, cell in enumerate(cells):
        if cell not in numbers and column not in left_out:
            word = NOT_FINITE.fullmatch(cell.strip())
            problem = "is not a finite number" if word else "is not a number"
            raise bad_value(layout, column, cell, problem)
    # Arrow's conversion here too: another's might round differently.
    texts = [None if c in left_out else cell.strip() for c, cell in enumerate(cells)]
    values = pa.array(texts, pa.string()).cast(pa.float32()).to_numpy(zero_copy_only=False)
    for column in np.flatnonzero(~np.isfinite(values)):
        if column not in left_out:
            raise bad_value(layout, column, cells[column], "is too large for float32")
    for task, column in enumerate(layout.label_columns):
        free = column in left_out or (layout.regression and layout.regression[task])
        if not free and values[column] not in (0, 1):
            raise bad_value(layout, column, cells[column], "should be 0 or 1", "label")
    weight = layout.weight_column
    if weight is not None and values[weight] < 0:
        raise bad_value(layout, weight, cells[weight], "should not be negative", "weight")
    return values


def bad_value(
    layout: Layout, column: int, cell: bytes, problem: str, kind: str = "value"
) -> RowError:
    """The error that a cell of a row cannot be used."""
    error = RowError(f"{layout.column(column)}: {kind} {shown(cell)} {problem}")
    error.column = column
    return error


def shown(cell: bytes) -> str:
    """A cell in a message."""
    # Only blanks are left out: a character that cannot be seen may be what is wrong.
    return repr(cell[:40].strip(b" \t").decode("utf-8", "backslashreplace"))
