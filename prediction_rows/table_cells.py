"""Rows of JSON as features of a table: what :mod:`raw_tables.cells` does to columns, to a row.

A cell means what the same value means in a Parquet file. That it is done without Arrow makes one
row some twenty times as fast.
"""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Callable

import numpy as np
import pyarrow as pa

from prediction_rows.json_lines import Wrong
from prediction_rows.json_text import cell_text, printable
from raw_tables.cells import Cells, hashes, is_number
from raw_tables.schema import Column
from raw_tables.words import BLANKS, quoted

NAN = float("nan")
EXACT = 1 << 53  # whole numbers up to here are floats
SMALL = 2.0**-125  # below, float32 has fewer digits
MANY = 8  # names that a sentence lists
HINTS = 10  # rows of which it is told what may have been meant, which takes long
LOOKED_AT = 2000  # names for that


class _Bad(Exception):
    """A cell that cannot be used."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.wrong = Wrong(name, message)


class RowCells:
    """What the cells of a row mean.

    Attributes:
        cells: what those of a column do.
        names: columns that are features, in the order of the cells of an array.

    Args:
        cells: by a schema of nothing but features.
        others: columns that rows may have besides.
    """

    def __init__(self, cells: Cells, others: Iterable[str]) -> None:
        schema = cells.schema
        self.cells = cells
        self.names = schema.feature_names
        self._known = frozenset((*self.names, *others))
        self._columns = {column.name: column for column in schema.columns}
        self._marks = frozenset((None, *schema.missing))
        self._numbers = tuple(column.name for column in schema.numbers)
        self._categories = tuple(
            (column.name, cells.codes[column.name], len(column.values))
            for column in schema.categories
        )
        self._ids = tuple((column.name, column.buckets) for column in schema.ids)

    def convert(
        self, rows: Sequence[Any], strict: bool = False
    ) -> tuple[np.ndarray, dict[int, Wrong]]:
        """Features of rows, and what is wrong with which.

        Args:
            rows: objects by column name, or arrays of cells in the order of ``names``; or what is
                wrong with one.
            strict: an object may have no names but those of columns.

        Returns:
            float32 ``[n, feature_size]``, zeros of a bad row; what is wrong, by place.
        """
        values: list[list[float]] = []
        wrong: dict[int, Wrong] = {}
        nothing = [0.0] * len(self.names)
        for place, row in enumerate(rows):
            found = row if isinstance(row, Wrong) else self._row(row, strict, len(wrong) < HINTS)
            if isinstance(found, Wrong):
                wrong[place] = found
                found = nothing
            values.append(found)
        with np.errstate(over="ignore"):
            features = np.array(values, np.float64).astype(np.float32)
        if not values:
            return features.reshape(0, len(self.names)), wrong
        if np.isinf(features).any():
            for place in np.flatnonzero(np.isinf(features).any(axis=1)).tolist():
                wrong[place] = self._first_wrong(self._getter(rows[place]))
                features[place] = 0
            wrong = dict(sorted(wrong.items()))
        return features, wrong

    def _row(self, row: Any, strict: bool, hint: bool) -> list[float] | Wrong:
        """Features of one row; infinite where a number is too large."""
        if isinstance(row, Mapping):
            if strict and not self._known.issuperset(row):
                return self._unknown(row, hint)
            get: Callable[[str], Any] = row.get
        elif isinstance(row, (list, tuple)):
            if len(row) != len(self.names):
                first = ", ".join(map(quoted, self.names[:MANY])) + ", ..." * (
                    len(self.names) > MANY
                )
                count = f"row has {len(row)} cells, expected {len(self.names)}"
                return Wrong("", f"{count}: {first}")
            get = dict(zip(self.names, row)).get
        else:
            return Wrong("", "row is neither an object nor an array")
        try:
            return self._features(get)
        except _Bad:
            return self._first_wrong(get)

    def _getter(self, row: Any) -> Callable[[str], Any]:
        return row.get if isinstance(row, Mapping) else dict(zip(self.names, row)).get

    def _features(self, get: Callable[[str], Any]) -> list[float]:
        found: list[float] = []
        add, quick = found.append, self.cells.as_numbers
        for name in self._numbers:
            value = get(name)
            kind = type(value)
            if kind is float and quick:
                add(value)
            elif kind is int and quick and -EXACT <= value <= EXACT:
                add(value)
            else:
                add(NAN if value is None else self._number(name, value))
        for name, codes, other in self._categories:
            value = get(name)
            if type(value) is str:
                code = codes.get(value)
                if code is None:
                    code = codes.get(value.strip(BLANKS), other)
                add(code)
            else:
                add(codes.get(self._text(name, value), other))
        for name, buckets in self._ids:
            add(self._bucket(name, self._text(name, get(name)), buckets))
        return found

    def _text(self, name: str, value: Any) -> str | None:
        try:
            return cell_text(value)
        except TypeError as error:
            kind = self._columns[name].kind
            need = "a number" if kind == "number" else "text or a number"
            message = f"column {quoted(name)}: {error} is no cell, expected {need}"
            raise _Bad(name, message) from error

    def _number(self, name: str, value: Any) -> float:
        """A number, or the text of one; infinite where it is too large."""
        if type(value) is float and self.cells.as_numbers and math.isfinite(value):
            return value
        text = self._text(name, value)
        if text is None or text in self._marks:
            return NAN
        if not is_number(text):
            raise _Bad(name, printable(self.cells.fault(self._columns[name], text)))
        number = float(text)
        # It is to be the float32 nearest to the text, not to the float64 nearest to that: these
        # differ only where that float64 lies in the very middle between two float32.
        middle = struct.unpack("<Q", struct.pack("<d", number))[0] & 0x1FFFFFFF == 0x10000000
        if middle or 0 < abs(number) < SMALL:
            return pa.scalar(text).cast(pa.float32()).as_py()
        return number

    def _bucket(self, name: str, text: str | None, buckets: int) -> int:
        if text is None or text in self._marks:
            return buckets
        try:
            if text.endswith(".0"):
                return int(hashes([text])[0]) % buckets
            digest = blake2b(text.encode(), digest_size=8).digest()
            return int.from_bytes(digest, "little") % buckets
        except UnicodeEncodeError as error:
            what = f"{text[:40]!r} has half of a surrogate pair, expected text"
            raise _Bad(name, f"column {quoted(name)}: {what}") from error

    def _first_wrong(self, get: Callable[[str], Any]) -> Wrong:
        """What is wrong with a row, in the first column of the table that has anything."""
        for column in self.cells.columns:
            try:
                self._look_at(column, get(column.name))
            except _Bad as bad:
                return bad.wrong
        raise AssertionError("a row with nothing wrong")

    def _look_at(self, column: Column, value: Any) -> None:
        text = self._text(column.name, value)
        if column.kind == "id":
            self._bucket(column.name, text, 1)
        if column.kind != "number":
            return
        with np.errstate(over="ignore"):
            single = np.float32(self._number(column.name, value))
        if np.isinf(single):
            raise _Bad(column.name, self.cells.fault(column, text))

    def _unknown(self, row: Mapping[Any, Any], hint: bool) -> Wrong:
        name = next(str(key) for key in row if key not in self._known)
        near = difflib.get_close_matches(name[:100], self.names[:LOOKED_AT], n=1) if hint else []
        meant = f"; did you mean {quoted(near[0])}?" if near else ""
        return Wrong(printable(name[:100]), f"there is no column {printable(quoted(name))}{meant}")
