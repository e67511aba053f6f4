"""Which columns a row of text has, where its cells are, and whether it names them.

Cells may be quoted as RFC 4180 has it: ``"1.5"``, or a name with a comma in it, where two quotes
stand for one. A quoted cell ends on its line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

MANY = 8  # of columns: no row of so many happens to count them
MOST_NAMES = 100_000  # each takes far more memory than the bytes that it is
# No two parts of it can match the same digits: on bad text it would take forever to try them all.
NUMBER = re.compile(rb"[ \t]*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?[ \t]*")
NOT_FINITE = re.compile(rb"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
# From quote to quote. It begins where a cell does, or at the second of two quotes that mean one.
_QUOTED = re.compile(rb'(?<![^," \t])"[^"]*"')
# No line holds a line end, so these can stand for the commas and quotes that part no cells.
_HIDE, SHOW = bytes.maketrans(b',"', b"\n\r"), bytes.maketrans(b"\n\r", b',"')

# How what is said of a row goes on, by its columns and how many are expected. The files of Census
# that UCI gives out have 42 columns, the encoded ones 501.
_RAW_CENSUS = "; this looks like the raw Census file, which datasets/census/prepare.py encodes"
HINTS = {(42, 501): _RAW_CENSUS}


class RowError(ValueError):
    """A row that cannot be used; the message names file, line, column and value."""

    user_error = True  # one sentence for the user, not a traceback
    column: int | None = None  # the one that cannot be used, where it is a single one


@dataclass(frozen=True)
class Layout:
    """Which columns a row has. Columns are counted from 0.

    Attributes:
        feature_size: number of feature columns.
        label_columns: column of each task's label.
        hints: how what is said of a row goes on, by its columns and how many are expected.
        features: column of each feature; empty stands for all that are nothing else, in file order.
        weight_column: column of the row's weight, if there is one.
        ignored_columns: columns that are not looked at.
        names: of all columns, where they are known.
        blank_labels: a label may be blank, and is NaN then.
        regression: for each task, whether its label may be any number; empty: none may.
    """

    feature_size: int
    label_columns: tuple[int, ...]
    hints: Mapping[tuple[int, int], str] = field(default_factory=dict)
    features: tuple[int, ...] = ()
    weight_column: int | None = None
    ignored_columns: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    blank_labels: bool = False
    regression: tuple[bool, ...] = ()

    @property
    def column_num(self) -> int:
        """Columns of a row."""
        return self.feature_size + len(self._others)

    @cached_property
    def feature_columns(self) -> list[int]:
        """Column of each feature."""
        others = self._others
        return list(self.features) or [c for c in range(self.column_num) if c not in others]

    @cached_property
    def _others(self) -> frozenset[int]:
        weight = () if self.weight_column is None else (self.weight_column,)
        return frozenset((*self.label_columns, *weight, *self.ignored_columns))

    def column(self, number: int) -> str:
        """A column in a sentence; a row may have more than there are names."""
        name = "".join(f" {name!r}" for name in self.names[number : number + 1])
        return f"column {number} (from 0){name}"

    @property
    def expected_columns(self) -> str:
        """How many columns a row should have, in a sentence."""
        labels = len(self.label_columns)
        others = self.column_num - labels - self.feature_size
        more = f", {others} more" if others else ""
        return f"{self.column_num} ({labels} labels and {self.feature_size} features{more})"

    def with_header(self, line: bytes) -> Layout | None:
        """The layout of a file with this first line; None where it is a row.

        Raises:
            RowError: as :meth:`of`.
        """
        names = header_names(line, self.column_num)
        is_one = names and (self.names or len(names) == self.column_num)
        return self.of(names) if is_one else None

    def of(self, names: tuple[str, ...]) -> Layout:
        """The layout of a file with these columns, matched by name to what the names here are for.

        Columns of other names are ignored; so are all names where there are none here.

        Raises:
            RowError: a name is there twice, or is missing.
        """
        if not self.names or names == self.names:
            return self
        refuse_repeated(names)
        place = {name: column for column, name in enumerate(names)}
        used = [c for c in range(self.column_num) if c not in self.ignored_columns]
        missing = [self.names[c] for c in used if self.names[c] not in place]
        if missing:
            near = difflib.get_close_matches(missing[0], set(names) - set(self.names), n=1)
            hint = f" (there is {near[0]!r})" if near else ""
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            what = f"column {missing[0]!r}{hint}{more}"
            raise RowError(f"its header lacks {what}, which the training files have")
        at = {column: place[self.names[column]] for column in used}
        return replace(
            self,
            features=tuple(at[column] for column in self.feature_columns),
            label_columns=tuple(at[column] for column in self.label_columns),
            weight_column=None if self.weight_column is None else at[self.weight_column],
            ignored_columns=tuple(sorted({*range(len(names))} - {*at.values()})),
            names=names,
        )


def refuse_repeated(names: tuple[str, ...]) -> None:
    """Refuse a header in which two columns have one name.

    Raises:
        RowError: names the first.
    """
    seen: dict[str, int] = {}
    for column, name in enumerate(names):
        if seen.setdefault(name, column) != column:
            raise RowError(f"columns {seen[name]} and {column} (from 0) are both called {name!r}")


def header_names(line: bytes, column_num: int) -> tuple[str, ...]:
    """The names in a file's first line; none unless it names every column, and none by a number.

    At least one name has to begin with a letter: ``0x1F``, ``'1'`` and ``5%`` are no names but
    numbers that some other program wrote, and a row of them is not to be passed over.

    Args:
        line: the line.
        column_num: columns that are expected; a line of many more is none of names.
    """
    line = hidden(line, column_num)
    if line.count(b",") >= max(column_num, MOST_NAMES):
        return ()
    cells = [content(cell).strip() for cell in line.split(b",")]
    if any(not name or NUMBER.fullmatch(name) or NOT_FINITE.fullmatch(name) for name in cells):
        return ()
    names = tuple(map(as_text, cells))
    return names if any(map(_begins_with_letter, names)) else ()


def are_numbered(cells: Sequence[str]) -> bool:
    """Whether the cells of a first line number the columns, as pandas does without names.

    A few might be a row.
    """
    texts = [cell.strip() for cell in cells]
    return len(texts) >= MANY and any(
        texts == [*map(str, range(first, first + len(texts)))] for first in (0, 1)
    )


def no_header(line: bytes, column_num: int) -> str:
    """What keeps a first line that looks like a header from being one, as the end of a sentence.

    Args:
        line: a line that :func:`header_names` finds no names in.
        column_num: columns that are expected.
    """
    cells = hidden(line, column_num).split(b",", 99)
    names = sum(content(cell).strip()[:1].isalpha() for cell in cells)
    what = "; a header has to name every column, none of them by a number"
    return what if 2 * names > len(cells) else ""


def as_text(name: bytes) -> str:
    """A name in whatever encoding."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _begins_with_letter(name: str) -> bool:
    """Whether the first letter or digit is a letter, of any script."""
    return next((character.isalpha() for character in name if character.isalnum()), False)


def count_cells(line: bytes) -> int:
    """Number of columns of a row."""
    return hidden(line, MOST_NAMES).count(b",") + 1


def hidden(line: bytes, column_num: int) -> bytes:
    """A line whose only commas are those between cells, and whose only quotes are stray ones."""
    # No row has more of them; each takes far more memory than the byte that it is.
    if not 0 < line.count(b'"') <= 1000 + 4 * column_num:
        return line
    return _QUOTED.sub(lambda quoted: quoted[0].translate(_HIDE), line)


def content(cell: bytes) -> bytes:
    """A cell of a :func:`hidden` line without its quotes; as it is if anything is beside them."""
    inner = cell.strip(b" \t")
    if inner[:1] == inner[-1:] == b"\r":
        inner = inner[1:-1].replace(b"\r\r", b'"')
        cell = cell if b"\r" in inner else inner
    return cell.translate(SHOW)
