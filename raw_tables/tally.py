"""What one column of a table holds, counted value by value in bounded memory."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# What files have where a value is missing. The first are so in any column; the others are so among
# numbers, but may be words among words: NA is a country, none an answer.
SURE_MARKS = tuple("|?|null|Null|NULL|nan|NaN|NAN|N/A|n/a|#N/A|<NA>|\\N".split("|"))
MARKS = (*SURE_MARKS, "NA", "na", "None", "none", "-", "--", ".")
BLANKS = " \t"

NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
PADDED = r"^0\d+$"  # a code: as a number, it would lose its zeros
DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?"
_MONTH = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DATE = "|".join(
    (
        r"\d{4}([-/.])\d{1,2}[-/.]\d{1,2}",
        r"\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})",
        rf"(\d{{1,2}}[- ])?({_MONTH})[a-z]*[- ](\d{{1,2}},? )?\d{{4}}",
        r"\d{4}年\d{1,2}月(\d{1,2}日)?",
        r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    )
)
DATE = rf"^(({_DATE})([T ]({_CLOCK}))? ?(Z|UTC|[+-]\d{{2}}:?\d{{2}})?|{_CLOCK})$"
LARGEST = float(np.finfo(np.float32).max)
MOST_ODD = 20
MOST_BYTES = 4 << 20  # of the texts that a column keeps
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


class Tally:
    """Counts of a column's values.

    Values are counted one by one while there are few of them. Where there are more than ``room``,
    those whose checksum is in the upper half of all are forgotten, then all but the lowest quarter,
    and so on: how many there are is then told from how many are left (adaptive sampling; Flajolet
    1990, *On Adaptive Sampling*), to a percent or so.

    Args:
        room: most values that are kept.

    Attributes:
        rows: cells so far.
        marks: how often each text of :data:`MARKS` was there; none of them is in ``counts``.
        counts: how often each value was there; some of the values where ``halved`` is not 0.
        halved: how often the values that are kept were halved.
        numbers: cells that are numbers of float32.
        odd: how often each value was there that is no such number; not all, if more than MOST_ODD.
        odd_rows: cells that are no such numbers.
        low: the smallest number.
        high: the largest.
        whole: all numbers are whole.
        padded: a number begins with a zero that it does not need.
        dates: all values are dates or times.
        commas: all values are numbers with a decimal comma.
        successive: the cells of each file are whole numbers, each one more than that before it.
    """

    def __init__(self, room: int) -> None:
        self.room, self.rows = room, 0
        self.marks: Counter[str] = Counter()
        self.counts: dict[str, int] = {}
        self.halved = self._bytes = 0
        self.numbers = self.odd_rows = 0
        self.odd: Counter[str] = Counter()
        self.low, self.high = np.inf, -np.inf
        self.whole, self.padded = True, False
        self.dates = self.commas = self.successive = True
        self._last: int | None = None

    @property
    def distinct(self) -> int:
        """How many values there are, marks aside; not exact where ``halved`` is not 0."""
        return len(self.counts) << self.halved

    @property
    def known(self) -> int:
        """Cells that hold a value, and no mark."""
        return self.numbers + self.odd_rows

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return self.numbers > 0 and not self.odd_rows

    def examples(self, most: int) -> list[str]:
        """The values that were there most often."""
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [text for text, _ in ranked[:most]]

    def begin_file(self) -> None:
        """The next cell is the first of a file."""
        self._last = None

    def add(self, cells: pa.Array) -> None:
        """Count the cells of some more rows.

        Args:
            cells: text; null is taken for an empty text.
        """
        if not len(cells):
            return
        self.rows += len(cells)
        if self.successive:
            self.successive = self._goes_on(_trimmed(cells))
        counted = pc.value_counts(cells)
        texts, counts = _trimmed(counted.field(0)), counted.field(1)
        marks = pc.is_in(texts, value_set=pa.array(MARKS, texts.type))
        for text, count in zip(*(_list(a, marks) for a in (texts, counts))):
            self.marks[text] += count
        rest = pc.invert(marks)
        texts, counts = texts.filter(rest), counts.filter(rest)
        if len(texts):
            self._look(texts, counts)
            self._count(texts, counts)

    def _goes_on(self, cells: pa.Array) -> bool:
        try:
            numbers = cells.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            return False
        if self._last is not None:
            numbers = np.insert(numbers, 0, self._last)
        self._last = int(numbers[-1]) if len(numbers) else self._last
        return bool((np.diff(numbers) == 1).all())

    def _look(self, texts: pa.Array, counts: pa.Array) -> None:
        """Tell what the values are like."""
        shaped = pc.match_substring_regex(texts, NUMBER)
        values = texts.filter(shaped).cast(pa.float64()).to_numpy()
        fits = np.abs(values) <= LARGEST
        is_number = shaped.to_numpy(zero_copy_only=False).copy()
        is_number[is_number] = fits
        found, of_each = values[fits], counts.to_numpy()
        self.numbers += int(of_each[is_number].sum())
        if len(found):
            self.low = min(self.low, float(found.min()))
            self.high = max(self.high, float(found.max()))
            self.whole = self.whole and bool((found == np.floor(found)).all())
            self.padded = self.padded or _any(texts, PADDED)
        if len(found) < len(texts):
            odd = pa.array(~is_number)
            self.odd_rows += int(of_each[~is_number].sum())
            if len(self.odd) <= MOST_ODD:
                self.odd.update(dict(zip(*(_list(a, odd, MOST_ODD + 1) for a in (texts, counts)))))
        self.dates = self.dates and _all(texts, DATE)
        self.commas = self.commas and _all(texts, DECIMAL_COMMA)

    def _count(self, texts: pa.Array, counts: pa.Array) -> None:
        kept = self._kept_of(texts)
        for text, count in zip(_list(texts, kept), _list(counts, kept)):
            if text not in self.counts:
                self._bytes += len(text)
            self.counts[text] = self.counts.get(text, 0) + count
        while len(self.counts) > self.room or (self._bytes > MOST_BYTES and len(self.counts) > 1):
            self.halved += 1
            every = pa.array(self.counts, pa.string())
            left = _list(every, self._kept_of(every))
            self.counts = {text: self.counts[text] for text in left}
            self._bytes = sum(map(len, left))

    def _kept_of(self, texts: pa.Array) -> pa.Array:
        if not self.halved:
            return pa.array(np.ones(len(texts), bool))
        return pa.array(_checksums(texts) < np.uint64(1 << (64 - self.halved)))


def _checksums(texts: pa.Array) -> np.ndarray:
    """A checksum of each text, uint64: its bytes as the digits of a number, mixed."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] + np.uint64(1)
    ends = ends - ends[0]
    powers, inverse = _powers(1 << len(letters).bit_length())
    sums = np.concatenate([[np.uint64(0)], np.cumsum(letters * powers[: len(letters)])])
    checks = (sums[ends[1:]] - sums[ends[:-1]]) * inverse[ends[:-1]]
    checks = (checks ^ (checks >> np.uint64(29))) * _BASE
    return (checks ^ (checks >> np.uint64(32))) * _INVERSE


@lru_cache(maxsize=2)
def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    powers, inverse = (np.cumprod(np.full(length, b, np.uint64)) for b in (_BASE, _INVERSE))
    return powers, inverse


def _trimmed(cells: pa.Array) -> pa.Array:
    return pc.utf8_trim(cells.fill_null(""), BLANKS)


def _list(values: pa.Array, where: pa.Array, most: int | None = None) -> list:
    return values.filter(where)[:most].to_pylist()


def _any(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _all(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())
