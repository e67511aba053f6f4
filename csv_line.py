"""One line of comma-separated numbers: which columns it has, its cells, what is wrong with it.

Cells may be quoted as RFC 4180 has it: ``"1.5"``, or a name with a comma in it, where two quotes
stand for one. A quoted cell ends on its line. :mod:`csv_blocks` comes here for the first line of a
file and for lines that cannot be used; reading one takes far longer than its share of a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

# No two parts of it can match the same digits: on bad text it would take forever to try them all.
_NUMBER = re.compile(rb"[ \t]*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?[ \t]*")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
# From quote to quote. It begins where a cell does, or at the second of two quotes that mean one.
_QUOTED = re.compile(rb'(?<![^," \t])"[^"]*"')
# No line holds a line end, so these can stand for the commas and quotes that part no cells.
_HIDE, _SHOW = bytes.maketrans(b',"', b"\n\r"), bytes.maketrans(b"\n\r", b',"')


class RowError(ValueError):
    """A row that cannot be used; the message names file, line, column and value."""

    user_error = True  # one sentence for the user, not a traceback


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


@dataclass(frozen=True)
class Layout:
    """Which columns a row has.

    Attributes:
        feature_size: number of feature columns: all that are not labels, in file order.
        label_columns: index of each task's label column, counted from 0.
        hints: how what is said of a row goes on, by its columns and how many are expected.
    """

    feature_size: int
    label_columns: tuple[int, ...]
    hints: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def column_num(self) -> int:
        """Columns of a row, labels and features together."""
        return self.feature_size + len(self.label_columns)

    @property
    def feature_columns(self) -> list[int]:
        """Index of each feature column, counted from 0."""
        return [c for c in range(self.column_num) if c not in self.label_columns]


def is_header(line: bytes, layout: Layout) -> bool:
    """Whether a file's first line names the columns: every one of them, and none by a number.

    At least one name has to begin with a letter: ``0x1F``, ``'1'`` and ``5%`` are no names but
    numbers that some other program wrote, and a row of them is not to be passed over.
    """
    line = _hidden(line, layout)
    if line.count(b",") + 1 != layout.column_num:
        return False
    names = [_content(cell).strip() for cell in line.split(b",")]
    return any(map(_begins_with_letter, names)) and not any(
        not name or _NUMBER.fullmatch(name) or _NOT_FINITE.fullmatch(name) for name in names
    )


def _begins_with_letter(name: bytes) -> bool:
    """Whether the first letter or digit is a letter, of any script and in whatever encoding."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = name.decode("latin-1")
    return next((character.isalpha() for character in text if character.isalnum()), False)


def parse_row(line: bytes, layout: Layout) -> np.ndarray:
    """All columns of a row, float32.

    Raises:
        RowError: what is wrong with it, and in which column.
    """
    hidden = _hidden(line, layout)
    if line.count(b'"') % 2:
        before, _, rest = hidden.rpartition(b'"')
        cell = (before.rpartition(b",")[2] + b'"' + rest.partition(b",")[0]).translate(_SHOW)
        problem = "has a quote without its other half; line breaks inside quotes are not supported"
        raise _bad_value(before.count(b","), cell, problem)
    columns = hidden.count(b",") + 1
    if columns != layout.column_num:
        labels = len(layout.label_columns)
        expected = f"{layout.column_num} ({labels} labels and {layout.feature_size} features)"
        hint = layout.hints.get((columns, layout.column_num), "")
        raise RowError(f"row has {columns} columns, expected {expected}{hint}")
    cells = [_content(cell) for cell in hidden.split(b",")]
    for column, cell in enumerate(cells):
        if not _NUMBER.fullmatch(cell):
            word = _NOT_FINITE.fullmatch(cell.strip())
            raise _bad_value(column, cell, "is not a finite number" if word else "is not a number")
    # Arrow's conversion here too: another's might round differently.
    numbers = pa.array([cell.strip() for cell in cells], pa.string())
    values = numbers.cast(pa.float32()).to_numpy()
    for column in np.flatnonzero(~np.isfinite(values)):
        raise _bad_value(column, cells[column], "is too large for float32")
    for column in layout.label_columns:
        if values[column] not in (0, 1):
            raise _bad_value(column, cells[column], "should be 0 or 1", "label")
    return values


def _hidden(line: bytes, layout: Layout) -> bytes:
    """A line whose only commas are those between cells, and whose only quotes are stray ones."""
    # No row has more of them; each takes far more memory than the byte that it is.
    if not 0 < line.count(b'"') <= 1000 + 4 * layout.column_num:
        return line
    return _QUOTED.sub(lambda quoted: quoted[0].translate(_HIDE), line)


def _content(hidden: bytes) -> bytes:
    """A cell without the quotes around it; as it stands if anything else is there."""
    cell = hidden.strip(b" \t")
    if cell[:1] == cell[-1:] == b"\r":
        inner = cell[1:-1].replace(b"\r\r", b'"')
        hidden = hidden if b"\r" in inner else inner
    return hidden.translate(_SHOW)


def _bad_value(column: int, cell: bytes, problem: str, kind: str = "value") -> RowError:
    # Only blanks are left out: a character that cannot be seen may be what is wrong.
    shown = cell[:40].strip(b" \t").decode("utf-8", "backslashreplace")
    return RowError(f"column {column} (from 0): {kind} {shown!r} {problem}")
