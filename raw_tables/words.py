"""The words of a schema: which there are, and what each takes.

The YAML is read as text throughout: ``values: [1, 2.50, no, null]`` are the four texts that are
written there, not an integer, a float, false and nothing, because cells are compared as text too.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import yaml

# The words that a column of each kind may have beside name and kind.
WORDS: dict[str, tuple[str, ...]] = {
    "number": ("missing",),
    "category": ("values", "other", "missing", "group"),
    "id": ("buckets", "embedding", "group"),
    "label": ("task", "type", "positive", "negative", "missing"),
    "weight": (),
    "group": (),
    "ignore": (),
}
FEATURES = ("number", "category", "id")
TYPES = ("binary", "regression")
DELIMITERS = {",": ",", ";": ";", "\t": "\t", "tab": "\t", "|": "|"}
MISSING = ("", "?", "NA", "null")
BLANKS = " \t"  # what cells are stripped of
MOST_CODES = (1 << 24) - 2  # codes are float32, which holds no more whole numbers exactly
MOST_EMBEDDING = 4096


def quoted(text: str) -> str:
    """A name as a sentence shows it: between quotes, on one line, not all of a long one."""
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=False)


class Unfit(Exception):
    """What is wrong with a schema, as the end of a sentence."""


# All scalars are text to the base loader, and no tag has a meaning. The one in C is faster, and
# crashes on what is nested deeply.
class _Loader(yaml.BaseLoader):
    """YAML's base loader, which refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """A mapping of a schema."""
        keys: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and keys.setdefault(key.value, line) != line:
                lines = f"in lines {keys[key.value]} and {line}"
                raise yaml.YAMLError(f"{quoted(key.value)} is given twice, {lines}")
        if len(keys) != len(node.value):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"a key of line {line} is given twice, or is no text")
        return dict(super().construct_mapping(node, deep))


def read_yaml(text: str) -> Any:
    """The value of a YAML text: texts, lists and mappings, whatever its tags say.

    Raises:
        Unfit: it is no YAML, or gives a key twice.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise Unfit(f" is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise Unfit(" is nested too deeply to be a schema") from error


def parse_words(tree: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The words of each column, and those of the schema as a whole; each of its type.

    Args:
        tree: what :func:`read_yaml` gave.

    Raises:
        Unfit: a word is missing, is none, or has a value that it does not take.
    """
    if not isinstance(tree, dict):
        raise Unfit(" should be a mapping with columns")
    _check_words(": ", tree, ("columns", "missing", "delimiter", "header", "tasks"))
    items = tree.get("columns")
    if items == []:
        raise Unfit(": columns should list at least one column")
    if not isinstance(items, list):
        raise Unfit(f": columns should be a list of columns, got {_shown(items)}")
    columns = [_column(item, place) for place, item in enumerate(items, start=1)]
    whole = {
        "missing": _texts(": ", "missing", tree["missing"]) if "missing" in tree else MISSING,
        "delimiter": _choice(": ", "delimiter", tree.get("delimiter", ","), DELIMITERS),
        "header": _truth(": ", "header", tree.get("header", "true")),
        "tasks": _texts(": ", "tasks", tree["tasks"]) if "tasks" in tree else (),
    }
    return columns, whole


def _column(item: Any, place: int) -> dict[str, Any]:
    where = f": column {place} (from 1): "
    if not isinstance(item, dict):
        raise Unfit(f"{where}should be a mapping with name and kind, got {_shown(item)}")
    if "name" not in item:
        raise Unfit(f"{where}name is missing")
    name = _text(where, "name", item["name"])
    where = f": column {quoted(name)}: "
    if "kind" not in item:
        _check_words(where, item, tuple(dict.fromkeys(chain(("name", "kind"), *WORDS.values()))))
        raise Unfit(f"{where}kind is missing, expected one of {', '.join(WORDS)}")
    kind = _choice(where, "kind", item["kind"], {kind: kind for kind in WORDS})
    _check_words(where, item, ("name", "kind", *WORDS[kind]), f" of kind {kind}")
    words: dict[str, Any] = {"name": name, "kind": kind}
    for word in item.keys() - words.keys():
        words[word] = _CHECKS[word](where, word, item[word])
    if kind == "category" and "values" not in words:
        raise Unfit(f"{where}values is missing, expected the list of its categories")
    if kind == "label":
        words.setdefault("task", name)
        _check_label(where, words)
    return words


def _check_label(where: str, words: Mapping[str, Any]) -> None:
    """What one word of a label asks of another."""
    if not words["task"].isprintable():
        raise Unfit(f"{where}task should be one line of text, got {words['task']!r}")
    for word in ("positive", "negative"):
        if word in words and words.get("type") == "regression":
            raise Unfit(f"{where}{word} does not go with type regression")
    if "negative" in words and "positive" not in words:
        raise Unfit(f"{where}negative does not go without positive")
    for text in words.get("negative", ()):
        if text in words["positive"]:
            raise Unfit(f"{where}negative and positive both have {_shown(text)}")


def _check_words(where: str, given: Mapping[str, Any], known: Sequence[str], of: str = "") -> None:
    for word in given:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(known)}"
            raise Unfit(f"{where}{quoted(word)} is no word{of}; {hint}")


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    return "nothing" if value in (None, "") else repr(value if len(value) < 60 else value[:57])


def _text(where: str, word: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit(f"{where}{word} should be a text, got {_shown(value)}")
    if value != value.strip(BLANKS):
        raise Unfit(f"{where}{word} should not begin or end with blanks, got {_shown(value)}")
    return value


def _texts(where: str, word: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise Unfit(f"{where}{word} should be a list of texts, got {_shown(value)}")
    if not value and word != "missing":
        raise Unfit(f"{where}{word} should list at least one text")
    if len(value) > MOST_CODES:
        raise Unfit(f"{where}{word} should list at most {MOST_CODES} texts")
    seen: set[str] = set()
    for text in value:
        if text != text.strip(BLANKS):
            need = "should not begin or end with blanks, of which cells are stripped"
            raise Unfit(f"{where}{word}: {_shown(text)} {need}")
        if text in seen:
            raise Unfit(f"{where}{word} lists {text[:60]!r} twice")
        seen.add(text)
    return tuple(value)


def _truth(where: str, word: str, value: Any) -> bool:
    return _choice(where, word, value, {"true": True, "false": False})


def _choice(where: str, word: str, value: Any, choices: Mapping[str, Any]) -> Any:
    if not isinstance(value, str) or value not in choices:
        named = ", ".join(quoted(name) if not name.isalpha() else name for name in choices)
        raise Unfit(f"{where}{word} should be one of {named}, got {_shown(value)}")
    return choices[value]


def _whole(where: str, word: str, value: Any) -> int:
    most = {"buckets": MOST_CODES, "embedding": MOST_EMBEDDING}[word]
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    if not digits or not 1 <= int(value) <= most:
        need = f"should be a whole number from 1 to {most}"
        raise Unfit(f"{where}{word} {need}, got {_shown(value)}")
    return int(value)


def _type(where: str, word: str, value: Any) -> str:
    return _choice(where, word, value, {name: name for name in TYPES})


_CHECKS = {
    "values": _texts,
    "other": _truth,
    "missing": _truth,
    "group": _truth,
    "buckets": _whole,
    "embedding": _whole,
    "task": _text,
    "type": _type,
    "positive": _texts,
    "negative": _texts,
}
