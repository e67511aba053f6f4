"""What a person says of the labels, weights and groups of a table, held against its values."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

from raw_tables.kinds import FEW_VALUES, Decision, missing_share, text_marks
from raw_tables.profile import Form, TableError
from raw_tables.tally import Tally
from raw_tables.words import quoted

ZERO_ONE = {"0", "1", "true", "false"}
YES = {"1", "y", "yes", "true", "t", "on", "positive", "pos", "是", "click", "clicked", "bought"}
SHOWN = 5


class Asked(NamedTuple):
    """A label as a person asks for it.

    Attributes:
        name: of the column.
        type: ``binary`` or ``regression``; empty: to be told from the values.
        positive: what stands after ``=``, the values that mean 1.
    """

    name: str
    type: str = ""
    positive: tuple[str, ...] = ()


def find_column(text: str, form: Form, option: str) -> str:
    """The column that a person means by its name, or by its number, counted from 1.

    Raises:
        TableError: there is none.
    """
    if text in form.names:
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= len(form.names):
        return form.names[int(text) - 1]
    if not form.header:
        count = f"columns are numbered from 1 to {len(form.names)}, as no first line names them"
        raise TableError(f"{option} {text}: there is no such column: {count} (--header: it does)")
    near = difflib.get_close_matches(text, form.names, n=3, cutoff=0.5)
    more = ", …" if len(form.names) > 10 else ""
    hint = f"did you mean {' or '.join(near)}?" if near else ", ".join(form.names[:10]) + more
    raise TableError(f"{option} {text}: there is no such column; {hint}")


def find_columns(texts: Sequence[str], form: Form, option: str) -> list[str]:
    """Several columns; a text that is no name may be some of them, with commas between."""
    found = []
    for text in texts:
        parts = [text] if text in form.names else [part.strip() for part in text.split(",")]
        found += [find_column(part, form, option) for part in parts]
    return list(dict.fromkeys(found))


def read_labels(texts: Sequence[str], form: Form) -> list[Asked]:
    """The labels of a command line: ``NAME``, ``NAME:regression`` or ``NAME=VALUE``.

    Raises:
        TableError: there is no such column, or what follows its name is neither.
    """
    found: dict[str, Asked] = {}
    for text in texts:
        for asked in _read_label(text, form):
            before = found.get(asked.name, asked)
            if (before.type or asked.type) != asked.type and asked.type:
                raise TableError(f"--label {text}: it is binary elsewhere")
            positive = tuple(dict.fromkeys((*before.positive, *asked.positive)))
            found[asked.name] = Asked(asked.name, asked.type or before.type, positive)
            if found[asked.name].type == "regression" and positive:
                raise TableError(f"--label {text}: a regression has no positive values")
    return list(found.values())


def _read_label(text: str, form: Form) -> list[Asked]:
    if text in form.names:
        return [Asked(text)]
    # The longest first: a name may have an = or a colon in it.
    numbered = [str(i) for i in range(1, len(form.names) + 1)]
    for name in sorted((*form.names, *numbered), key=len, reverse=True):
        for sign in "=:":
            if name and text.startswith(name + sign):
                rest, column = text[len(name) + 1 :], find_column(name, form, "--label")
                if sign == "=":
                    return [Asked(column, "binary", (rest.strip(),))]
                if rest in ("regression", "binary"):
                    return [Asked(column, rest)]
                raise TableError(f"--label {text}: expected regression or binary after the colon")
    name = text.split("=")[0].split(":")[0]
    if name != text:
        find_column(name, form, "--label")
    return [Asked(name) for name in find_columns([text], form, "--label")]


def decide_label(asked: Asked, tally: Tally) -> Decision:
    """What a label's column is to be.

    Raises:
        TableError: it has no values, or it cannot be told which of them are positive.
    """
    what = f"label {quoted(asked.name)}"
    if not tally.known:
        raise TableError(f"{what} is blank in every row")
    marks = tuple(tally.marks) if tally.is_number else text_marks(tally)
    counts = {**tally.counts, **{m: n for m, n in tally.marks.items() if m not in marks}}
    words: dict[str, Any] = {"name": asked.name, "kind": "label"}
    warnings: list[str] = []
    many = tally.distinct > FEW_VALUES or not tally.whole
    binary = {text.lower() for text in counts} <= ZERO_ONE or _are_0_1(tally)
    if asked.type == "regression" or (not asked.type and tally.is_number and many):
        if not tally.is_number:
            odd = ", ".join(quoted(text) for text in list(tally.odd)[:3])
            raise TableError(f"{what} should be numbers for a regression, and has {odd}")
        words["type"] = "regression"
        fate = "a regression task" + ("" if asked.type else ", as it has many numbers")
        single = tally.distinct == 1
    elif asked.positive or not binary:
        fate, single = _positive(what, asked, tally, counts, words), False
    else:
        fate = "a task: 1 or 0"
        single = tally.low == tally.high if tally.is_number else len(counts) == 1
    if single:
        warnings.append(f"{what} is {next(iter(counts))} in every row; nothing can be learned")
    if marks:
        words["missing"] = True
        known = 1 - missing_share(tally, marks)
        fate += f"; blank in {100 * (1 - known):.3g}% of the rows, which is taken for not known"
        if known < 0.5:
            warnings.append(f"{what} is known in only {100 * known:.3g}% of the rows")
    return Decision(words, fate, marks, warnings)


def _are_0_1(tally: Tally) -> bool:
    return tally.is_number and tally.whole and 0 <= tally.low and tally.high <= 1


def _positive(
    what: str, asked: Asked, tally: Tally, counts: dict[str, int], words: dict[str, Any]
) -> str:
    """Which values mean 1; what is done with the others, for people."""
    ranked = sorted(counts, key=lambda text: -counts[text])
    shown = ", ".join(quoted(text) for text in ranked[:SHOWN]) + ", …" * (len(ranked) > SHOWN)
    positive = [text for given in asked.positive for text in _values(given, counts)]
    for text in positive:
        if text not in counts:
            raise TableError(f"{what} has no value {quoted(text)}, but {shown}")
    if not positive:
        if len(counts) == 1:
            raise TableError(f"{what} has one value only, {shown}; two are expected")
        if len(counts) > 2 or tally.halved:
            number = f", or --label {asked.name}:regression" if tally.is_number else ""
            example = f'--label "{asked.name}={ranked[-1]}"'
            said = f"{tally.distinct} values ({shown}); say which mean 1, such as {example}{number}"
            raise TableError(f"{what} has {said}")
        positive = [_likely(ranked, tally.is_number)]
    words["positive"] = positive
    rest = [text for text in ranked if text not in positive]
    if not rest:
        raise TableError(f"{what}: all its values, {shown}, are said to mean 1")
    if len(rest) == 1 and not tally.halved:
        words["negative"] = rest
    others = quoted(rest[0]) if len(rest) == 1 else "any other"
    told = ", ".join(quoted(text) for text in positive)
    return f"a task: {told} is 1, {others} is 0" + ("" if asked.positive else " (told by itself)")


def _values(given: str, counts: dict[str, int]) -> list[str]:
    return [given] if given in counts else [part.strip() for part in given.split(",")]


def _likely(two: Sequence[str], numbers: bool) -> str:
    """Which of two values means 1: a word for yes, the larger number, or the rarer one."""
    if numbers:
        return max(two, key=float)
    return next((text for text in two if text.lower() in YES), two[1])


def decide_weight(name: str, tally: Tally) -> Decision:
    """A column that weighs the rows.

    Raises:
        TableError: a weight is missing, is no number or is negative.
    """
    what = f"weight {quoted(name)}"
    blank, odd = sum(tally.marks.values()), list(tally.odd)
    if blank:
        raise TableError(f"{what} is blank in {blank} of {tally.rows} rows; each needs a weight")
    if odd:
        raise TableError(f"{what} should be a number, and has {quoted(odd[0])}")
    if tally.low < 0:
        raise TableError(f"{what} should not be negative, and goes down to {tally.low:g}")
    if tally.high == 0:
        raise TableError(f"{what} is 0 in every row")
    return Decision({"name": name, "kind": "weight"}, "weighs the rows in loss and metrics")


def decide_group(name: str, tally: Tally) -> Decision:
    """A column that parts the rows into groups."""
    marks = text_marks(tally)
    return Decision({"name": name, "kind": "group"}, "parts the rows for AUC within groups", marks)
