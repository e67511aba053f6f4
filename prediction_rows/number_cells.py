"""Values of JSON or of Parquet as the numbers that a model takes, or what is wrong with one."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from csv_layout import NOT_FINITE, NUMBER
from csv_line import shown
from prediction_rows.json_lines import Wrong
from prediction_rows.json_text import printable
from prediction_rows.number_layout import FeatureLayout

_NUMBERS = frozenset([int, float])
_NUMBER = re.compile(NUMBER.pattern.decode(), re.ASCII)
HINTS = 10  # rows of which it is told what may have been meant, which takes long
_LOOKED_AT = 2000  # words that a name which is none may have been meant to be
_MOST_BITS = 1000  # of a whole number that is shown


class NumberCells:
    """Cells to features.

    Args:
        layout: of rows that have the features and nothing else.
        others: what else the training files have; an object may have it too, and it is not looked
            at.
    """

    def __init__(self, layout: FeatureLayout, others: Collection[str]) -> None:
        self.names = layout.called
        self._layout = layout
        self._known = frozenset([*self.names, *others])
        self._cells: Callable[[Any], Sequence[Any]] = itemgetter(*self.names)
        if len(self.names) == 1:
            self._cells = lambda row: [row[self.names[0]]]

    def features(
        self, rows: Sequence[Any], strict: bool = False
    ) -> tuple[np.ndarray, dict[int, Wrong]]:
        """Rows from objects by column name, or from arrays of cells in the order of the features.

        Args:
            rows: each one of the two; a :class:`Wrong`, or what is neither, is a bad row.
            strict: an object may not have a name that no column of the training files has.

        Returns:
            features float32 ``[n, features]``, zeros of a bad row; what is wrong with each of
            these, by its place.
        """
        features = np.zeros((len(rows), len(self.names)), np.float32)
        wrong: dict[int, Wrong] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for place, row in enumerate(rows):
                by_name = isinstance(row, Mapping)
                hint = len(wrong) < HINTS
                cells = self._by_name(row, strict, hint) if by_name else self._in_order(row)
                if isinstance(cells, Wrong):
                    found: Wrong | None = cells
                else:
                    found = self._fill(features[place], cells, by_name)
                if found is not None:
                    wrong[place] = found
                    features[place] = 0
        return features, wrong

    def bad_cell(self, feature: int, cell: Any, name: str = "") -> Wrong:
        """What is wrong with a cell that is no finite float32.

        Args:
            feature: its place among the features.
            cell: its value.
            name: of its column, where the cell was found by it.
        """
        where = f"column {name!r}" if name else self._layout.column(feature)
        problem = _problem(cell) or "is too large for float32"
        return Wrong(name or self.names[feature], f"{where}: value {_shown(cell)} {problem}")

    def _by_name(self, row: Mapping[str, Any], strict: bool, hint: bool) -> Sequence[Any] | Wrong:
        try:
            cells = self._cells(row)
        except KeyError:
            missing = [name for name in self.names if name not in row]
            others = [key for key in row if key not in self._known] if hint else []
            near = _near(missing[0], others)
            meant = f" (there is {near})" if near else ""
            more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
            return Wrong(missing[0], f"column {missing[0]!r} is missing{meant}{more}")
        if strict and len(row) > len(self.names):
            for key in row:
                if key not in self._known:
                    absent = [name for name in self.names if name not in row] if hint else []
                    near = _near(key, absent) or _near(key, self.names if hint else ())
                    meant = f"; did you mean {near}?" if near else ""
                    return Wrong(printable(key[:100]), f"there is no column {key[:100]!r}{meant}")
        return cells

    def _in_order(self, row: Any) -> Sequence[Any] | Wrong:
        if isinstance(row, Wrong):
            return row
        if not isinstance(row, (list, tuple)):
            return Wrong("", "row is neither an object nor an array")
        if len(row) != len(self.names):
            expected = f"expected the {len(self.names)} features"
            return Wrong("", f"row has {len(row)} columns, {expected}")
        return row

    def _fill(self, features: np.ndarray, cells: Sequence[Any], by_name: bool) -> Wrong | None:
        """Put cells into their row of features, or tell what is wrong with the first bad one."""
        values = cells
        if not _NUMBERS.issuperset(map(type, cells)):
            texts = {}
            for place, cell in enumerate(cells):
                if type(cell) is str and _NUMBER.fullmatch(cell):
                    texts[place] = cell.strip()
                elif _problem(cell):
                    return self.bad_cell(place, cell, self.names[place] if by_name else "")
            # Arrow's conversion, as of text: another's might round differently.
            read = pa.array(list(texts.values()), pa.string()).cast(pa.float32())
            numbers = dict(zip(texts, read.to_numpy(zero_copy_only=False).tolist()))
            values = [numbers.get(place, cell) for place, cell in enumerate(cells)]
        try:
            features[:] = values
        except OverflowError:  # a whole number
            features[:] = [_rounded(value) for value in values]
        # Of finite numbers of float32 a sum in float64 is finite.
        if math.isfinite(features.sum(dtype=np.float64)):
            return None
        odd = np.flatnonzero(~np.isfinite(features)).tolist()
        first = next((place for place in odd if _problem(cells[place])), odd[0])
        return self.bad_cell(first, cells[first], self.names[first] if by_name else "")


def _rounded(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _problem(cell: Any) -> str:
    """Why a cell is no number, in the words of :mod:`csv_line`; empty: it is one of some size."""
    if isinstance(cell, float):
        return "" if math.isfinite(cell) else "is not a finite number"
    if isinstance(cell, (int, Decimal)) and not isinstance(cell, bool):
        return ""
    if isinstance(cell, str):
        if _NUMBER.fullmatch(cell):
            return ""
        text = cell.encode("utf-8", "backslashreplace")
        return "is not a finite number" if NOT_FINITE.fullmatch(text.strip()) else "is not a number"
    return "is not a number"


def _shown(cell: Any) -> str:
    """A cell in a message, as one of text would be."""
    if isinstance(cell, int) and cell.bit_length() > _MOST_BITS:
        return "of very many digits"
    if not isinstance(cell, str):
        try:
            cell = "" if cell is None else json.dumps(cell, default=str)
        except RecursionError:
            cell = "a list or an object"
    return shown(cell[:100].encode("utf-8", "backslashreplace"))


def _near(name: str, words: Sequence[str]) -> str:
    """The word that may have been meant, in quotes; empty: none."""
    short = [word for word in words[:_LOOKED_AT] if len(word) <= 100]
    return "".join(map(repr, difflib.get_close_matches(name[:100], short, n=1)))
