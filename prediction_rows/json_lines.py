"""JSON lines: a row a line, an object by column name or an array of cells."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np

from csv_text import MAX_LINE_BYTES, told
from prediction_rows.json_text import parse_json, printable, shown_text
from prediction_rows.rows import Fault, Rows, RowsError
from prediction_rows.streams import Stream, lines_of
from raw_tables.words import quoted


class Wrong(NamedTuple):
    """What is wrong with a row, wherever it is from: see :class:`prediction_rows.rows.Fault`."""

    column: str
    message: str


# Of JSON objects, arrays, and what is already known to be wrong: features float32
# ``[n, feature_size]``, zeros of a bad row; and of each bad row, by its place, what is wrong. Keys
# of an object that are no columns are to be passed over.
Convert = Callable[[Sequence[Any]], tuple[np.ndarray, Mapping[int, Wrong]]]


class JsonLines(NamedTuple):
    """JSON lines to rows, the same for every kind of columns.

    Attributes:
        name: what messages call the file.
        names: columns that are features, in the order of the cells of an array.
        convert: makes features of the values.
        keep: columns whose cells are wanted too.
        blanks: a key that is not there is a missing value, not a fault.
    """

    name: str
    names: tuple[str, ...]
    convert: Convert
    keep: Sequence[str] = ()
    blanks: bool = True

    def jobs(self, stream: Stream) -> Iterator[Callable[[], Rows]]:
        """What reads each piece of a stream, see :func:`prediction_rows.rows.ahead`.

        Raises:
            RowsError: no row of the first piece has any of the columns, or one that is kept; a
                gzip file is damaged.
            OSError: it cannot be read.
        """
        first, after = True, 1
        with told(self.name, lambda: after):
            for line, data in lines_of(stream):
                if first and data:
                    values = self.values(line, data)
                    if values:
                        self._look_at([value for _, value in values])
                        first = False
                after = line + data.count(b"\n")
                yield partial(self._read, line, data)

    def values(self, line: int, data: bytes) -> list[tuple[int, Any]]:
        """Number of each line that is not blank, and its value; a :class:`Wrong` where it is none.

        Args:
            line: number of the first.
            data: whole lines, or nothing in place of one that is too long.
        """
        if not data:
            too_long = f"line is longer than {MAX_LINE_BYTES >> 20} MB"
            return [(line, Wrong("", too_long))]
        found = []
        for number, text in enumerate(data.split(b"\n"), start=line):
            if text.strip():
                try:
                    value = parse_json(text)
                    if not isinstance(value, (dict, list)):
                        value = Wrong("", f"is {_kind(value)}, expected an object or an array")
                except ValueError as error:
                    value = Wrong("", f"row is {error}")
                found.append((number, value))
        return found

    def _read(self, line: int, data: bytes) -> Rows:
        numbered = self.values(line, data)
        values = [value for _, value in numbered]
        features, wrong = self.convert(values)
        faults = {
            place: Fault(f"{self.name}:{numbered[place][0]}", *what)
            for place, what in wrong.items()
        }
        kept = {name: [self._cell(value, name) for value in values] for name in self.keep}
        return Rows(features, faults, kept)

    def _cell(self, value: Any, name: str) -> str | None:
        """The text of a kept cell."""
        if isinstance(value, dict):
            return shown_text(value.get(name))
        if isinstance(value, list) and name in self.names and len(value) == len(self.names):
            return shown_text(value[self.names.index(name)])
        return None

    def _look_at(self, values: Sequence[Any]) -> None:
        """Refuse or warn of what is wrong with all rows: an absent key is a missing value."""
        objects = [value for value in values if isinstance(value, dict)]
        keys = {key for value in objects for key in value}
        if len(objects) < len(values):
            keys.update(self.names)
        for name in self.keep:
            if name not in keys:
                raise RowsError(
                    f"{self.name}: there is no column {quoted(name)}{_near(name, keys)}"
                )
        absent = [name for name in self.names if name not in keys]
        if len(absent) == len(self.names) and objects:
            there = ", ".join(printable(quoted(key)) for key in [*keys][:8])
            raise RowsError(
                f"{self.name}: no row has any of the columns {', '.join(map(quoted, absent[:8]))}"
                f"{', ...' * (len(absent) > 8)}; there is {there or 'none'}"
            )
        if absent and self.blanks:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            what = f"the first rows have no {quoted(absent[0])}{_near(absent[0], keys)}{more}"
            warnings.warn(f"{self.name}: {what}: taken as missing", stacklevel=1)


def _near(name: str, keys: set[str]) -> str:
    """What may have been meant, as the end of a clause."""
    short = [key for key in keys if len(key) <= 100]
    near = difflib.get_close_matches(name, short[:1000], n=1)
    return f" (there is {printable(quoted(near[0]))})" if near else ""


def _kind(value: Any) -> str:
    return "null" if value is None else "text" if isinstance(value, str) else "a single value"
