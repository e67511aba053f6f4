"""What each column of a table should be: number, category, id, or left out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raw_tables.profile import Profile
from raw_tables.tally import MOST_ODD, NUMBER, SURE_MARKS, Tally
from raw_tables.words import quoted

MOST_VALUES = 256  # of a category; more are hashed
LEAST_ROWS = 10  # of a value that gets a slot of its own, fewer in small tables
COVERED = 0.8  # of the rows, by values that are not rare: else the column is hashed
MOST_BUCKETS = 1_000_000
ID_SIZES = ((10, 4), (100, 8), (math.inf, 16))  # rows to a value: below, the longest vector
ALL_BUT_UNIQUE = 0.95  # values by rows from which on a text says nothing of another row
FEW_VALUES = 20
FEW_CODES = 64

_ENDS = r"(^|[^A-Za-z])({})$"
ID_NAME = re.compile(
    _ENDS.format("id|ID|Id|uid|UID|uuid|UUID|guid|GUID")
    + r"|[a-z](Id|ID)$|(?i:user|item|customer|product|session|device|shop|order)(?i:id)$|编号$"
)
CODE_NAME = re.compile(
    _ENDS.format(r"(?i:code|zip|zip_?code|post_?code|postal_?code|plz)") + "|代码$"
)
TIME_NAME = re.compile(
    _ENDS.format(r"(?i:\w*time|\w*date|timestamp|ts|at)") + "|[a-z](Time|Date|At)$"
)
EPOCHS = ((1e9, 2.1e9), (1e12, 2.1e12))  # seconds and milliseconds since 1970, from 2001 to 2036


@dataclass
class Decision:
    """What a column is to be.

    Attributes:
        words: its words in the schema.
        fate: what is done to it, for people.
        marks: its texts that say that a value is missing.
        warnings: sentences.
    """

    words: dict[str, Any]
    fate: str
    marks: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.words["kind"]


def decide_features(
    profile: Profile, taken: Collection[str], asked: Mapping[str, str]
) -> dict[str, Decision]:
    """What the columns are to be that a person did not name as label, weight or group.

    Args:
        profile: what the files hold.
        taken: names of the others.
        asked: the kind that a person wants some to be: category, id or ignore.
    """
    found = {}
    for name, tally in profile.tallies.items():
        if name in taken:
            continue
        kind = asked.get(name)
        if kind == "ignore":
            found[name] = left_out(name, "left out, as you say")
        elif kind == "id":
            found[name] = _id(name, tally)
        elif kind == "category":
            found[name] = _category(name, tally, math.inf) or _unlisted(name, tally)
        else:
            found[name] = _of_itself(name, tally, profile.types.get(name))
    return found


def left_out(name: str, why: str, *warnings: str) -> Decision:
    """A column that is not used."""
    return Decision({"name": name, "kind": "ignore"}, why, (), list(warnings))


def _of_itself(name: str, tally: Tally, unread: pa.DataType | None) -> Decision:
    what = f"column {quoted(name)}"
    if unread is not None:
        dated = pa.types.is_temporal(unread)
        return left_out(name, f"left out: {'dates or times' if dated else unread}")
    if not tally.known:
        return left_out(
            name, "left out: no values", f"{what} is blank in every row; it is left out"
        )
    if tally.distinct == 1 and tally.known == tally.rows:
        return left_out(name, "left out: the same everywhere")
    if tally.dates or _is_time(name, tally):
        return left_out(name, "left out: dates or times")
    if tally.successive and tally.rows > 2:
        said = f"{what} numbers the rows, which says nothing of other rows; it is left out"
        return left_out(name, "left out: numbers the rows", said)
    numbers = _as_number(name, tally)
    if numbers is not None and np.float32(tally.low) == np.float32(tally.high):
        numbers = None  # long numbers of accounts, say, which float32 does not tell apart
    is_id = bool(ID_NAME.search(name)) and (numbers is None or tally.whole)
    unique = tally.distinct >= ALL_BUT_UNIQUE * tally.known and tally.known > FEW_VALUES
    if unique and (is_id or numbers is None):
        said = f"{what} has another value in nearly every row; it is left out"
        why = "left out: another value in nearly every row"
        return left_out(name, why, said, *_with_commas(name, tally))
    is_code = tally.is_number and (tally.padded or (tally.whole and CODE_NAME.search(name)))
    if numbers is not None and not is_id and not is_code:
        return numbers
    category = _category(name, tally)
    return _id(name, tally) if category is None else category


def _is_time(name: str, tally: Tally) -> bool:
    spans = any(low <= tally.low and tally.high < high for low, high in EPOCHS)
    return tally.is_number and tally.whole and spans and bool(TIME_NAME.search(name))


def _as_number(name: str, tally: Tally) -> Decision | None:
    """A column of numbers; a few texts among many numbers say that one is missing."""
    odd = tuple(tally.odd)
    if not tally.is_number:
        rare = tally.odd_rows <= 0.1 * tally.known and len(odd) <= MOST_ODD
        if not (rare and tally.distinct - len(odd) >= FEW_VALUES):
            return None
    marks = (*tally.marks, *odd)
    warnings = []
    if odd:
        texts = ", ".join(quoted(text) for text in odd[:3]) + ("…" if len(odd) > 3 else "")
        warnings = [
            f"column {quoted(name)} is numbers but for {texts} "
            f"({tally.odd_rows} {_plural(tally.odd_rows, 'row')}), "
            "which is taken for missing"
        ]
    words: dict[str, Any] = {"name": name, "kind": "number"}
    if marks:
        words["missing"] = True
    fate = "a number" + (", and whether it is there" if marks else "")
    if not odd and _like_codes(tally):
        fate += f"; are these codes? --category {name}"
    return Decision(words, fate, marks, warnings)


def _like_codes(tally: Tally) -> bool:
    """Whether numbers are nearly all of 0, 1, 2 and so on, up to some number that is not large."""
    counted = tally.low in (0, 1) and tally.distinct >= 0.9 * (tally.high - tally.low + 1)
    return tally.whole and counted and 2 < tally.distinct <= FEW_CODES


def text_marks(tally: Tally) -> tuple[str, ...]:
    """The texts of a column of words that say that one is missing."""
    return tuple(mark for mark in tally.marks if mark in SURE_MARKS)


def _category(name: str, tally: Tally, most: float = MOST_VALUES) -> Decision | None:
    """A column of few values; None where they are more than ``most``, or most rows' are rare."""
    if tally.halved:
        return None
    marks = text_marks(tally)
    counts = {**tally.counts, **{m: n for m, n in tally.marks.items() if m not in marks}}
    least = min(LEAST_ROWS, max(2, tally.rows // 1000))
    # What may mean missing in another column is missing here too, unless it is listed.
    kept = [text for text, n in counts.items() if n >= least or text in tally.marks]
    if not kept:
        kept = list(counts)
    rare = {text: n for text, n in counts.items() if text not in set(kept)}
    covered = sum(counts.values()) - sum(rare.values())
    if len(kept) > most or (most < math.inf and covered < COVERED * sum(counts.values())):
        return None
    words: dict[str, Any] = {"name": name, "kind": "category", "values": sorted(kept, key=_order)}
    fate = f"{len(kept)} {_plural(len(kept), 'input')} of 0 or 1"
    if rare:
        words["other"] = True
        rows = sum(rare.values())
        fate += f", one for {len(rare)} rare {_plural(len(rare), 'value')}"
        fate += f" ({rows} {_plural(rows, 'row')})"
    if marks:
        words["missing"] = True
        fate += ", one for missing"
    return Decision(words, fate, marks, _with_commas(name, tally))


def _with_commas(name: str, tally: Tally) -> list[str]:
    """A warning where all values are numbers with a decimal comma."""
    said = "writes numbers with a decimal comma, which are read as words; write them with a point"
    return [f"column {quoted(name)} {said}"] if tally.commas else []


def _order(text: str) -> tuple[float, str]:
    """Numbers by their size, then all else as text."""
    return (float(text) if re.match(NUMBER, text) else math.inf), text


def _unlisted(name: str, tally: Tally) -> Decision:
    """A column that a person takes for a category, and that has more values than are counted."""
    decision = _id(name, tally)
    many = f"has too many values to be listed, about {tally.distinct:,}"
    decision.warnings.append(f"column {quoted(name)} {many}; it is hashed, as by --id {name}")
    return decision


def _id(name: str, tally: Tally) -> Decision:
    """A column of many values, hashed into buckets that each learn a vector."""
    buckets = min(_rounded_up(2 * tally.distinct), MOST_BUCKETS)
    # As long as there are rows to learn it from, and, as is often done, no longer than the fourth
    # root of how many there are.
    of_rows = next(size for rows, size in ID_SIZES if tally.known < rows * tally.distinct)
    of_values = 2 ** max(2, math.ceil(math.log2(max(tally.distinct, 2)) / 4))
    embedding = min(of_rows, of_values)
    words = {"name": name, "kind": "id", "buckets": buckets, "embedding": embedding}
    fate = f"hashed to {buckets:,} buckets, a learned vector of {embedding}"
    return Decision(words, fate, text_marks(tally), _with_commas(name, tally))


def _rounded_up(number: int) -> int:
    """The next of 100, 200, 500, 1000, 2000 and so on."""
    ten = 10 ** max(2, len(str(number)) - 1)
    return next(step * ten for step in (1, 2, 5, 10) if step * ten >= number)


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def value_text(tally: Tally, kind: str) -> str:
    """How many values there are, and which, for a table."""
    about = "about " if tally.halved else ""
    count = f"{about}{tally.distinct:,}"
    if kind in ("number", "weight") or (tally.is_number and not tally.counts.keys() - {"0", "1"}):
        low, high = (f"{value:.6g}" for value in (tally.low, tally.high))
        if tally.distinct < 3:
            return f"{count}: {low}" + f", {high}" * (low != high)
        return f"{count}: {low} to {high}"
    shown = ", ".join(t if len(t) <= 20 else f"{t[:19]}…" for t in tally.examples(3))
    return f"{count}: {shown}{', …' if tally.distinct > 3 else ''}" if tally.distinct else "none"


def missing_share(tally: Tally, marks: Collection[str]) -> float:
    """Share of the cells in which a value is missing."""
    among_numbers = sum(tally.odd[mark] for mark in marks)
    return (sum(tally.marks[mark] for mark in marks) + among_numbers) / tally.rows


def all_marks(decisions: Mapping[str, Decision]) -> tuple[str, ...]:
    """The marks of all columns, the empty text first, which is one in any case."""
    return tuple(dict.fromkeys(["", *(m for d in decisions.values() for m in d.marks)]))
