"""The schema of a person's own table: what each column is, read from YAML.

Which words a schema has and what each takes, :mod:`raw_tables.words` says.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raw_tables.words import FEATURES, MISSING, WORDS, Unfit, parse_words, quoted, read_yaml


class SchemaError(ValueError):
    """A schema that cannot be used; the message names file, column and word."""

    user_error = True  # one sentence for the user, not a traceback


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: its name in the header; unique.
        kind: a key of :data:`WORDS`.
        values: category: its texts; the place of each is its code.
        other: category: texts that are not listed have a slot of their own.
        missing: number: an indicator column tells the network what was missing; category: what is
            missing has a slot of its own; label: a blank one is not known, and masked.
        buckets: id: number of hash values; what is missing gets one more.
        embedding: id: size of its learned vector.
        task: label: name of its task.
        type: label: ``binary`` or ``regression``.
        positive: label: the texts that mean 1; empty: labels are 0 and 1.
        negative: label: the texts that mean 0; empty: all that are not in ``positive``.
        group: category, id: also parts the rows into groups, as a column of kind ``group`` does.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    other: bool = False
    missing: bool = False
    buckets: int = 100_000
    embedding: int = 16
    task: str = ""
    type: str = "binary"
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    group: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Name, kind and the words of its kind, given or not, as JSON has them."""
        words = {word: getattr(self, word) for word in ("name", "kind", *WORDS[self.kind])}
        return {w: list(v) if isinstance(v, tuple) else v for w, v in words.items()}


@dataclass(frozen=True)
class Schema:
    """All columns of a table, and how its files are written. Build it with :func:`load_schema`.

    Attributes:
        columns: in file order.
        missing: texts that mean that a value is missing.
        delimiter: what parts the cells of a text file.
        header: the first line of a text file has the names; otherwise columns go by position.
        tasks: names of the tasks in their order; empty: that of the columns.
    """

    columns: tuple[Column, ...]
    missing: tuple[str, ...] = MISSING
    delimiter: str = ","
    header: bool = True
    tasks: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> tuple[Column, ...]:
        """The columns of one kind, in schema order."""
        return tuple(column for column in self.columns if column.kind == kind)

    @property
    def numbers(self) -> tuple[Column, ...]:
        """Columns of kind number: the first features of a row."""
        return self.of_kind("number")

    @property
    def categories(self) -> tuple[Column, ...]:
        """Columns of kind category: the features after the numbers."""
        return self.of_kind("category")

    @property
    def ids(self) -> tuple[Column, ...]:
        """Columns of kind id: the last features."""
        return self.of_kind("id")

    @property
    def labels(self) -> tuple[Column, ...]:
        """Columns of kind label, one for each task, in the order of the tasks."""
        labels = self.of_kind("label")
        by_task = {column.task: column for column in labels}
        return tuple(by_task[task] for task in self.tasks) or labels

    @property
    def weight(self) -> Column | None:
        """The column that weighs the rows, if there is one."""
        return next(iter(self.of_kind("weight")), None)

    @property
    def group(self) -> Column | None:
        """The column that parts the rows into groups, if there is one; perhaps a feature too."""
        return next((c for c in self.columns if c.kind == "group" or c.group), None)

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that features are made of, in the order of the features."""
        return (*self.numbers, *self.categories, *self.ids)

    @property
    def feature_size(self) -> int:
        """Features of a row: one float32 for each column that is one."""
        return len(self.features)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature."""
        return tuple(column.name for column in self.features)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Name of each task."""
        return tuple(column.task for column in self.labels)

    @property
    def task_types(self) -> tuple[str, ...]:
        """``binary`` or ``regression`` of each task."""
        return tuple(column.type for column in self.labels)

    @property
    def blank_labels(self) -> bool:
        """Whether a label may be missing."""
        return any(column.missing for column in self.labels)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it: what goes into checkpoints."""
        return {
            "columns": [column.as_dict() for column in self.columns],
            "missing": list(self.missing),
            "delimiter": self.delimiter,
            "header": self.header,
            "tasks": list(self.task_names),
        }

    @property
    def checksum(self) -> str:
        """SHA-256 of :meth:`as_dict`, as hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def configured_schema(config: Mapping[str, Any]) -> Schema | None:
    """The schema that ``hyper_parameters.schema`` of a flat config names, or None without one.

    Raises:
        SchemaError: see :func:`load_schema`.
    """
    name = config.get("hyper_parameters.schema")
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise SchemaError(f"hyper_parameters.schema should be the name of a file, got {name!r}")
    return load_schema(Path(config.get("config_abs_dir", ""), name))


def load_schema(path: str | Path) -> Schema:
    """Read a schema and check it.

    Args:
        path: the YAML file.

    Raises:
        SchemaError: it cannot be read, is not YAML, gives a word twice, has a word that is none or
            a value that its word does not take, lacks a feature or a label.
    """
    what = f"schema {path}"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SchemaError(f"{what} is not UTF-8 text: {error.reason}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise SchemaError(f"{what} cannot be read: {reason}") from error
    return parse_schema(text, what)


def parse_schema(text: str, what: str) -> Schema:
    """A schema of its text.

    Args:
        text: YAML.
        what: what it is, for sentences.

    Raises:
        SchemaError: see :func:`load_schema`.
    """
    try:
        return build_schema(read_yaml(text))
    except Unfit as error:
        raise SchemaError(f"{what}{error}") from error


def build_schema(tree: Any) -> Schema:
    """A schema of the values that its YAML has.

    Args:
        tree: texts, lists and mappings, see :func:`raw_tables.words.read_yaml`.

    Raises:
        Unfit: they are none.
    """
    columns, whole = parse_words(tree)
    schema = Schema(tuple(Column(**words) for words in columns), **whole)
    _check_together(schema)
    return schema


def _check_together(schema: Schema) -> None:
    """What the columns ask of each other."""
    tasks = tuple(column.task for column in schema.of_kind("label"))
    for word, names in (("name", tuple(c.name for c in schema.columns)), ("task", tasks)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise Unfit(f": two columns have the {word} {quoted(twice[0])}")
    for word in ("weight", "group"):
        columns = [c for c in schema.columns if c.kind == word or (word == "group" and c.group)]
        if len(columns) > 1:
            first, second = (quoted(column.name) for column in columns[:2])
            raise Unfit(f": column {second}: {word} is column {first} already")
    if not schema.features:
        raise Unfit(f": columns should have a feature, of kind {', '.join(FEATURES)}")
    if not tasks:
        raise Unfit(": columns should have one of kind label")
    if schema.tasks and sorted(schema.tasks) != sorted(tasks):
        listed = ", ".join(map(quoted, tasks))
        raise Unfit(f": tasks should list the tasks of the labels, {listed}, in any order")


def difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What keeps rows of one schema from being rows of another, or None.

    How files are written (``delimiter``, ``header``) and what no row has (columns of kind
    ``ignore``, the order in which columns of different kinds stand) may differ.

    Args:
        was: :meth:`Schema.as_dict` of a model.
        now: that of the rows it is given.

    Returns:
        one clause, which names the column and the word.
    """
    try:
        before, after = (
            {c["name"]: {**c, "kind": c["kind"]} for c in d["columns"]} for d in (was, now)
        )
        marks = [list(d["missing"]) for d in (was, now)]
    except (KeyError, TypeError):
        return "one of the two is no schema"
    before, after = _used(before), _used(after)
    for name, column in before.items():
        if name not in after:
            return f"column {quoted(name)} of kind {column['kind']} is not used now"
        for word in ("kind", *column):
            if column[word] != after[name].get(word):
                return f"column {quoted(name)}: {_word_difference(word, column, after[name])}"
    for name, column in after.items():
        if name not in before:
            return f"column {quoted(name)} of kind {column['kind']} was not used before"
    for kind in FEATURES:
        orders = [[n for n, c in d.items() if c["kind"] == kind] for d in (before, after)]
        for old, new in zip(*orders):
            if old != new:
                return f"columns {quoted(old)} and {quoted(new)} of kind {kind} changed places"
    for word, (old, new) in (("missing", marks), ("tasks", [d.get("tasks") for d in (was, now)])):
        if old != new:
            return _word_difference(word, {word: old}, {word: new})
    return None


def _used(columns: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: column for name, column in columns.items() if column.get("kind") != "ignore"}


def _word_difference(word: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How the value of one word changed; of a list, its first text that did."""
    old, new = was.get(word), now.get(word)
    if not (isinstance(old, list) and isinstance(new, list)):
        return f"{word} was {old!r} and is {new!r}"
    for texts, others, clause in ((old, new, "no longer has"), (new, old, "did not have")):
        known = set(map(str, others))
        for text in texts:
            if str(text) not in known:
                return f"{word} {clause} {quoted(str(text))}"
    return f"{word} has the same texts in another order"
