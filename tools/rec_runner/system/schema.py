"""What a file that strangers may have written is to hold, checked where it is read.

A rule is a :class:`Rule`; a dict of rules by name, for an object that has these names at least; or
a list of one rule, for a list of any length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.system.errors import UserError
from rec_runner.system.files import open_file

MAX_JSON_BYTES = 32 << 20
_SHOWN = 60


class Rule(NamedTuple):
    """What a value should be.

    Attributes:
        expected: it in words, after "should be".
        fits: whether a value is that.
    """

    expected: str
    fits: Callable[[Any], bool]


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 0 that fits into 64 bits; a boolean is none."""
    return type(value) is int and 0 <= value < 1 << 63


def is_number(value: Any) -> bool:
    """Whether a value is a finite number of at most 64 bits' size; a boolean is none."""
    return type(value) in (int, float) and abs(value) < 1 << 64


def is_shown(value: Any, depth: int = 4) -> bool:
    """Whether a log line and a record can show a value: a number, text, a list of such."""
    if isinstance(value, list):
        even = len({len(item) if isinstance(item, list) else -1 for item in value}) < 2
        return depth > 0 and even and all(is_shown(item, depth - 1) for item in value)
    return value is None or isinstance(value, (bool, str, float)) or is_number(value)


COUNT = Rule("a whole number from 0", is_count)
NUMBER = Rule("a finite number", is_number)
FLOAT = Rule("a number", lambda value: isinstance(value, float) or is_number(value))
TEXT = Rule("text", lambda value: isinstance(value, str))
OBJECT = Rule("an object", lambda value: isinstance(value, dict))
ARRAY = Rule("an array", lambda value: isinstance(value, (np.ndarray, np.generic)))
SHOWN = Rule("a number, text or a list of such", is_shown)


def optional(rule: Rule) -> Rule:
    """The same, or nothing."""
    return Rule(f"{rule.expected} or null", lambda value: value is None or rule.fits(value))


def array(dimensions: int, *kinds: type) -> Rule:
    """An array of so many dimensions, its numbers of one of some kinds, ``np.floating`` say."""
    names = " or ".join(kind.__name__ for kind in kinds)

    def fits(value: Any) -> bool:
        if not isinstance(value, np.ndarray) or value.ndim != dimensions:
            return False
        return any(np.issubdtype(value.dtype, kind) for kind in kinds)

    return Rule(f"an array of {dimensions} dimensions of {names}", fits)


def check(value: Any, rule: Any, place: str = "") -> None:
    """Compare a value with a rule, see the module.

    Raises:
        ValueError: it does not fit; names its place, what was expected and what there is.
    """
    if isinstance(rule, Mapping):
        check(value, OBJECT, place)
        for name, inner in rule.items():
            if name not in value:
                raise ValueError(f"{_join(place, name)} is missing")
            check(value[name], inner, _join(place, name))
    elif isinstance(rule, list):
        check(value, Rule("a list", lambda items: isinstance(items, list)), place)
        for number, item in enumerate(value):
            check(item, rule[0], f"{place}[{number}]")
    elif not rule.fits(value):
        raise ValueError(f"{place or 'it'} should be {rule.expected}, got {shown(value)}")


def check_each(value: Any, rule: Any, place: str = "") -> None:
    """The same for an object of any names, whose values shall all follow one rule."""
    check(value, OBJECT, place)
    for name, item in value.items():
        check(item, rule, _join(place, name))


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def shown(value: Any) -> str:
    """A value in a few words, however large or deep it is."""
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a number of more than 64 bits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def alike(saved: np.dtype, own: np.dtype) -> bool:
    """Whether a saved array can take the type of its place: both floating, or the very same."""
    return saved == own or all(np.issubdtype(kind, np.floating) for kind in (saved, own))


def fitting(value: Any, own: np.ndarray, place: str) -> np.ndarray:
    """A saved array in the type of what it is to replace.

    Raises:
        ValueError: it is no such array.
    """
    found = np.asarray(value) if ARRAY.fits(value) else None
    if found is not None and found.shape == own.shape:
        if alike(found.dtype, own.dtype):
            return found.astype(own.dtype, copy=False)
    raise ValueError(f"{place} should be {shown(own)}, got {shown(value)}")


def read_json(file: Path) -> Any:
    """A JSON file that a stranger may have put there.

    Raises:
        OSError: it cannot be read, or is no plain file.
        ValueError: it is not JSON, or larger than any of ours.
        RecursionError: it is nested too deep.
    """
    with open_file(file) as stream:
        data = stream.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"it is larger than {MAX_JSON_BYTES >> 20} MB")
    return json.loads(data.decode("utf-8"))


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Errors inside, where a run to resume is put to use, as one sentence.

    Args:
        what: what is not as it should be.

    Raises:
        UserError: says what was wrong with it; in place of any exception that is not one of ours.
    """
    try:
        yield
    except Exception as error:
        if getattr(error, "user_error", False):
            raise
        text = " ".join(str(error).split())[:200]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(
            f"resume refused: {what}: {kind}{text}; start afresh with -o runner.resume=false"
        ) from error
