"""Columns that a config names: by number or by name, and how many are left to be features.

What the columns are called, the training files' headers say. The tools note it with the model and
hand it on as ``config["columns"]``; where they do not, the first training file is looked at.
"""

from __future__ import annotations

import difflib
import glob
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from csv_layout import RowError, refuse_repeated
from csv_text import MAX_LINE_BYTES, Head, read_head

SECTION = "hyper_parameters."
# Those that a row may have, by the key that names them.
KEYS = ("label_columns", "weight_column", "ignored_columns", "feature_columns")


class ConfigError(ValueError):
    """A hyper-parameter of the wrong type or value; the message names key, value and need."""

    user_error = True  # one sentence for the user, not a traceback


def bad_setting(key: str, need: str, value: Any) -> ConfigError:
    """The error that a hyper-parameter has this value; ``need`` says what it should do."""
    value = list(value) if isinstance(value, tuple) else value
    return ConfigError(f"{SECTION}{key} should {need}, got {value!r}")


def known_head(config: Mapping[str, Any]) -> Head | None:
    """What ``config["columns"]`` tells of rows of text, see ``RecDataset.columns``."""
    columns = config.get("columns")
    if not isinstance(columns, Mapping) or "column_num" not in columns:
        return None
    number, names = columns["column_num"], columns.get("names", ())
    fits = _are_names(names) and _are_names(columns.get("features", ()))
    counts = type(number) is int and 0 <= number <= MAX_LINE_BYTES
    if not (fits and counts and len(names) in (0, number)):
        raise ConfigError(f"the checkpoint tells of columns that cannot be ({number!r} of them)")
    return Head(tuple(names), number)


def _are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def training_head(config: Mapping[str, Any]) -> Head | None:
    """What the first training file begins with; None where it cannot be found or read.

    Raises:
        RowError: it is no text, or two of its columns have one name.
    """
    folder, name = config.get("config_abs_dir"), config.get("runner.train_data_dir")
    if not (isinstance(folder, str) and isinstance(name, str)):
        return None
    path = Path(folder, name)
    try:
        if path.is_dir():
            found = [file for file in path.iterdir() if not file.name.startswith(".")]
        elif path.exists():  # a name that is there is no pattern
            found = [path]
        else:
            pattern = os.path.join(glob.escape(folder), name)
            found = [Path(file) for file in glob.glob(pattern, recursive=True)]
        first = min(filter(Path.is_file, found), default=None)
        return None if first is None else head_of(str(first))
    except OSError:  # the reader tells
        return None


def head_of(file: str) -> Head:
    """What a file begins with, read once as long as it does not change.

    Raises:
        RowError: it is no text, or two columns have one name.
        OSError: it cannot be read.
    """
    stat = os.stat(file)
    return _head_of(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _head_of(file: str, size: int, changed: int) -> Head:
    head = read_head(file)
    try:
        refuse_repeated(head.names)
    except RowError as error:
        raise RowError(f"{file}:1: {error}") from error
    return head


def first_named(files: Iterable[str]) -> Head | None:
    """The head of the first file that has a header."""
    return next((head for head in map(head_of, files) if head.names), None)


def settle_columns(
    values: dict[str, Any],
    config: Mapping[str, Any],
    default_size: int,
    default_tasks: Sequence[str] = (),
) -> None:
    """Put numbers in the place of names, and set ``feature_size`` where it is not given.

    Where ``feature_columns`` are given, all columns that nothing names become ignored ones, so
    that a row has as many columns as there are labels, weight, features and ignored ones.

    Args:
        values: settings by key, changed in place; ``label_columns`` is there.
        config: flat config.
        default_size: ``feature_size`` where nothing tells it.
        default_tasks: names of the tasks, where nothing in the config tells tasks or columns.

    Raises:
        ConfigError: a name or number that no column has, a column that is named twice, a size that
            is not that of the features, or no feature is left.
    """
    given = {key: _as_list(values.get(key)) for key in KEYS}
    named = any(isinstance(column, str) for columns in given.values() for column in columns)
    head = known_head(config)
    if head is None and (named or "feature_size" not in values or given["feature_columns"]):
        head = training_head(config)
    names, column_num = head or Head((), 0)
    owner: dict[int, str] = {}
    for key, columns in given.items():
        numbers = [_number(key, c, names) if isinstance(c, str) else c for c in columns]
        if len(set(numbers)) != len(numbers):
            raise bad_setting(key, "not repeat a column", columns)
        for column in numbers:
            if column in owner:
                name = "".join(f" {name!r}" for name in names[column : column + 1])
                keys = f"{SECTION}{owner[column]} and {SECTION}{key}"
                raise ConfigError(f"{keys} both name column {column} (from 0){name}")
            owner[column] = key
        if key in values:
            values[key] = numbers[0] if key == "weight_column" else tuple(numbers)
    if names and default_tasks:
        _warn_of_default_tasks(default_tasks, values["label_columns"], names)
    features = values.get("feature_columns", ())
    if not (features or names):
        _count_features(values, head, len(owner), default_size)
        column_num = values["feature_size"] + len(owner)
    for column, key in owner.items():
        if column_num and not 0 <= column < column_num:
            raise bad_setting(key, f"lie in 0..{column_num - 1}", given[key])
    if features:
        _choose_features(values, features, column_num, owner)
    elif names:
        _count_features(values, head, len(owner), default_size)


def _warn_of_default_tasks(
    tasks: Sequence[str], columns: Sequence[int], names: Sequence[str]
) -> None:
    """Tell which columns are taken for labels where none is named and the header has others."""
    pairs = [pair for pair in zip(tasks, columns) if pair[1] < len(names)]
    if any(task not in names[column] for task, column in pairs):
        what = ", ".join(f"task {task} is column {c} (from 0) {names[c]!r}" for task, c in pairs)
        warnings.warn(f"{SECTION}label_columns is not given: {what}", stacklevel=1)


def _choose_features(
    values: dict[str, Any], features: tuple[int, ...], column_num: int, owner: Mapping[int, str]
) -> None:
    """Ignore all columns but the features that are named, and what else is."""
    size = len(features)
    if values.setdefault("feature_size", size) != size:
        size_given = f"feature_size is {values['feature_size']}"
        raise ConfigError(f"{SECTION}{size_given}, but {SECTION}feature_columns names {size}")
    if not column_num:
        raise ConfigError(
            f"{SECTION}feature_columns needs a training file, which says how many columns a "
            "row has, and none can be read"
        )
    if features == tuple(sorted(features)):  # as they come without the key
        values["feature_columns"] = ()
    rest = [column for column in range(column_num) if column not in owner]
    values["ignored_columns"] = tuple(sorted([*values.get("ignored_columns", ()), *rest]))


def _count_features(
    values: dict[str, Any], head: Head | None, others: int, default_size: int
) -> None:
    """See how many columns are left to be features, when ``others`` are something else."""
    names, column_num = head or Head((), 0)
    left = column_num - others
    of_all = f"of the {column_num} columns of the training files"
    size = values.setdefault("feature_size", left if column_num else default_size)
    if size < 1:
        raise ConfigError(f"{of_all} none is left to be a feature{_parted(column_num)}")
    if names and size != left:  # of a file without names the rows tell
        what = f"feature_size is {size}, but {of_all} {max(left, 0)} are left to be features"
        raise ConfigError(f"{SECTION}{what}")


def _parted(column_num: int) -> str:
    """What may be wrong where a row is one cell."""
    return "; are cells parted by commas?" if column_num == 1 else ""


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _number(key: str, name: str, names: tuple[str, ...]) -> int:
    """The number of a column that a key names.

    Raises:
        ConfigError: there is none of this name.
    """
    if name in names:
        return names.index(name)
    if not names:
        raise ConfigError(
            f"{SECTION}{key} names column {name!r}, but the training files have no header that "
            "names every column, none by a number; give its number, from 0"
        )
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else _parted(len(names))
    raise ConfigError(f"{SECTION}{key} names column {name!r}, which the header lacks{hint}")
