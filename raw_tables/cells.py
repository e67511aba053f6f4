"""Columns of cells as the arrays that a model takes, and what is wrong with a cell.

The cells of a column come as an Arrow array. Of text only the distinct ones are looked at, once
each. These are the same whether a table is kept as text or as Parquet: an integer 3 is the text
``3``, a float 3.0 too, true is ``true``, a decimal has the digits that it is kept with; null is
missing, as is a float that is NaN. A code of whole numbers is the same category or id with ``.0``
behind it, as whole numbers become where some of a column were missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raw_tables.schema import Column, Schema
from raw_tables.words import BLANKS, quoted

# As csv_line has it: no hexadecimal digits, no underscores, no digits of other scripts.
_NUMBER = r"\A[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\z"
_IS_NUMBER = re.compile(_NUMBER.replace(r"\z", r"\Z"))
_WHOLE = r"-?[0-9]+(\.0)?"
_NOT_FINITE = ("nan", "inf", "infinity")
MISSING_GROUP = 0  # the hash of no text that anyone will find


class Values(NamedTuple):
    """One column.

    Attributes:
        values: ``[n]``; NaN where a number or label is missing.
        bad: which cells cannot be used, bool ``[n]``; None: all can.
    """

    values: np.ndarray
    bad: np.ndarray | None = None


class Arrays(NamedTuple):
    """Rows.

    Attributes:
        features: float32 ``[n, feature_size]``: numbers, categories, ids.
        labels: float32 ``[n, tasks]``.
        weights: float32 ``[n]``, or None.
        groups: int64 ``[n]``, or None.
        bad: of each column of ``Cells.columns`` with bad cells, which they are.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    bad: Mapping[int, np.ndarray]


def is_supported(kind: pa.DataType) -> bool:
    """Whether :func:`as_text` has a text for values of this type."""
    if pa.types.is_dictionary(kind):
        return is_supported(kind.value_type)
    t = pa.types
    return any(
        is_one(kind)
        for is_one in (
            *(t.is_string, t.is_large_string, t.is_string_view, t.is_boolean, t.is_null),
            *(t.is_integer, t.is_floating, t.is_decimal),
        )
    )


def is_date(kind: pa.DataType) -> bool:
    """Whether :func:`date_text` has a text for values of this type."""
    return any(is_one(kind) for is_one in (pa.types.is_date, pa.types.is_timestamp))


def date_text(array: pa.Array) -> pa.Array:
    """Dates or times as text; those of a time zone as it is in Greenwich."""
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp(array.type.unit))
    return array.cast(pa.string())


def as_text(array: pa.Array) -> pa.Array:
    """Values as text without blanks around it; null where there is none."""
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    text = array if pa.types.is_string(array.type) else array.cast(pa.string())
    return pc.utf8_trim(text, characters=BLANKS)


def numbers(array: pa.Array, marks: Sequence[str], as_numbers: bool = True) -> Values:
    """Numbers as the float32 nearest to them; NaN where one is missing.

    Args:
        array: numbers, or text; of the type of a column that :func:`is_supported`.
        marks: texts that mean that one is missing.
        as_numbers: no mark is a number, which would have to be looked for as text.
    """
    if pa.types.is_dictionary(array.type):
        array = _distinct(array)
        return _spread(numbers(array.dictionary, marks, as_numbers), array, np.nan)
    bad = None
    if as_numbers and (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        single = array.cast(pa.float32(), safe=False)
    else:
        text = as_text(array)
        missing = pc.or_(text.is_null(), pc.is_in(text, pa.array(marks, pa.string())))
        good = pc.and_not(pc.fill_null(pc.match_substring_regex(text, _NUMBER), False), missing)
        single = pc.if_else(good, text, pa.scalar("nan")).cast(pa.float32())
        bad = ~np.asarray(pc.or_(good, missing))
    values = single.to_numpy(zero_copy_only=False)  # null is NaN
    large = np.isinf(values)
    return Values(values, large if bad is None else large | bad)


def is_number(text: str) -> bool:
    """Whether a text is a number, of whatever size."""
    return _IS_NUMBER.match(text) is not None


def _texts(array: pa.Array) -> list[str | None]:
    """As :func:`as_text`; of few values faster."""
    if not pa.types.is_string(array.type):
        return as_text(array).to_pylist()
    return [text and text.strip(BLANKS) for text in array.to_pylist()]


def _distinct(array: pa.Array) -> pa.Array:
    """As a dictionary array, of not many more texts than there are cells."""
    if pa.types.is_dictionary(array.type):
        # That of a Parquet file is of all its rows.
        if len(array.dictionary) <= 2 * len(array) + 100:
            return array
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    return array.dictionary_encode()


def _spread(distinct: Values, array: pa.Array, missing: float, bad: bool = False) -> Values:
    """Values of the distinct cells to all cells of a dictionary array; null is ``missing``."""
    values, wrong, places = distinct.values, distinct.bad, array.indices
    if places.null_count:
        places = places.fill_null(len(values))
        values = np.append(values, np.array([missing], values.dtype))
        wrong = None if wrong is None and not bad else np.append(_mask(distinct), bad)
    places = places.to_numpy()
    return Values(values[places], None if wrong is None else wrong[places])


def _mask(values: Values) -> np.ndarray:
    return np.zeros(len(values.values), bool) if values.bad is None else values.bad


def _other_way(text: str) -> str:
    """A whole number as it is also written: 7 as 7.0, 7.0 as 7; any other text as it is."""
    if not re.fullmatch(_WHOLE, text):
        return text
    return text[:-2] if text.endswith(".0") else f"{text}.0"


def hashes(texts: Sequence[str | None]) -> np.ndarray:
    """A 64-bit hash of each text, uint64; the same on every machine, and of 7 and 7.0."""
    short = [_other_way(text) if text and text.endswith(".0") else text or "" for text in texts]
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in short]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


@dataclass(frozen=True)
class Cells:
    """What the cells of each column mean, by a schema.

    Attributes:
        schema: the schema.
        columns: the columns that are used, in schema order.
        codes: of each category column, the code of each text that is listed or a mark.
        as_numbers: no mark is a number.
    """

    schema: Schema
    columns: tuple[Column, ...]
    codes: Mapping[str, Mapping[str | None, int]]
    as_numbers: bool

    @classmethod
    def of(cls, schema: Schema) -> Cells:
        """What cells mean by this schema."""
        codes: dict[str, dict[str | None, int]] = {}
        for column in schema.categories:
            missing = dict.fromkeys((None, *schema.missing), len(column.values) + 1)
            codes[column.name] = {_other_way(v): code for code, v in enumerate(column.values)}
            codes[column.name].update(missing)
            codes[column.name].update({v: code for code, v in enumerate(column.values)})
        used = tuple(column for column in schema.columns if column.kind != "ignore")
        return cls(schema, used, codes, not any(map(is_number, schema.missing)))

    def reads_numbers(self, column: Column) -> bool:
        """Whether the cells of a column are read as numbers, not looked up as text."""
        return column.kind in ("number", "weight") or column.type == "regression"

    def arrays(self, given: Sequence[pa.Array]) -> Arrays:
        """Rows from the cells of each of ``columns``."""
        read = {column.name: array for column, array in zip(self.columns, given)}
        bad = {}
        columns: dict[str, np.ndarray] = {}
        for place, column in enumerate(self.columns):
            if column.kind == "group":
                continue
            if not self.reads_numbers(column):
                read[column.name] = _distinct(read[column.name])
            values = self._values(column, read[column.name])
            columns[column.name] = values.values
            if values.bad is not None and values.bad.any():
                bad[place] = values.bad
        rows = len(given[0])
        features = np.empty((rows, self.schema.feature_size), np.float32)
        labels = np.empty((rows, len(self.schema.labels)), np.float32)
        for table, names in ((features, self.schema.features), (labels, self.schema.labels)):
            for place, column in enumerate(names):
                table[:, place] = columns[column.name]
        weight, group = self.schema.weight, self.schema.group
        return Arrays(
            *(features, labels, columns[weight.name] if weight else None),
            self._groups(read[group.name]) if group else None,
            bad,
        )

    def _values(self, column: Column, array: pa.Array) -> Values:
        marks = self.schema.missing
        if self.reads_numbers(column):
            found = numbers(array, marks, self.as_numbers)
            values, bad = found.values, _mask(found)
            if column.kind == "weight":
                bad = bad | ~(values >= 0)
            elif column.kind == "label" and not column.missing:
                bad = bad | np.isnan(values)
            return Values(values, bad)
        texts = _texts(array.dictionary)
        if column.kind == "label":
            return _spread(self._labels(column, texts), array, np.nan, bad=not column.missing)
        if column.kind == "category":
            codes, other = self.codes[column.name], len(column.values)
            missing = codes[None]
            distinct = np.array([codes.get(text, other) for text in texts], np.float32)
        else:
            missing = column.buckets
            distinct = (hashes(texts) % np.uint64(missing)).astype(np.float32)
            distinct[[text is None or text in marks for text in texts]] = missing
        return _spread(Values(distinct), array, missing)

    def _labels(self, column: Column, texts: list[str | None]) -> Values:
        """Distinct texts of a binary label."""
        if column.positive:
            known: dict[str | None, float] = dict.fromkeys((None, *self.schema.missing), np.nan)
            known.update(dict.fromkeys(column.negative, 0.0))
            known.update(dict.fromkeys(column.positive, 1.0))
            other = np.inf if column.negative else 0.0
            values = np.array([known.get(text, other) for text in texts], np.float32)
            bad = np.isinf(values)
        else:
            truths = {"true": "1", "false": "0"}
            read = [text and truths.get(text.lower(), text) for text in texts]
            found = numbers(pa.array(read, pa.string()), self.schema.missing)
            values = found.values
            bad = _mask(found) | (~np.isin(values, (0, 1)) & ~np.isnan(values))
        return Values(values, bad if column.missing else bad | np.isnan(values))

    def _groups(self, array: pa.Array) -> np.ndarray:
        array = _distinct(array)
        texts, marks = _texts(array.dictionary), (None, *self.schema.missing)
        values = hashes(texts).view(np.int64)
        values = np.where([text in marks for text in texts], MISSING_GROUP, values)
        return _spread(Values(values), array, MISSING_GROUP).values

    def fault(self, column: Column, text: str | None) -> str:
        """Why a cell cannot be used, and what was expected.

        Args:
            column: its column.
            text: what it holds, as :func:`as_text` has it.
        """
        return f"column {quoted(column.name)}: {self._fault(column, text)}"

    def _fault(self, column: Column, text: str | None) -> str:
        what = {"weight": "a weight of 0 or more", "number": "a number"}.get(column.kind, "0 or 1")
        what = "a number" if column.type == "regression" else what
        if column.negative:
            what = "one of positive or negative in the schema"
        masks = "; with missing: true in the schema it is not known, and masked"
        if text is None or text in self.schema.missing:
            return (
                f"{show(text)} is missing, expected {what}{masks if column.kind == 'label' else ''}"
            )
        if not self.reads_numbers(column):
            return f"{show(text)} is not a label, expected {what}"
        if not is_number(text):
            finite = "finite " if text.lower().lstrip("+-") in _NOT_FINITE else ""
            marks = ", ".join(map(repr, self.schema.missing[:6]))
            or_mark = (
                f" or what means missing ({marks})" if marks and column.kind == "number" else ""
            )
            return f"{show(text)} is not a {finite}number, expected {what}{or_mark}"
        if column.kind == "weight" and text.startswith("-"):
            return f"{show(text)} is negative, expected {what}"
        return f"{show(text)} is too large, expected {what} within float32"


def show(text: str | None) -> str:
    """A cell as a sentence shows it."""
    return "null" if text is None else repr(text if len(text) <= 40 else text[:37] + "...")
