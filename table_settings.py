"""What the schema of a table says of the model's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from raw_tables.schema import Schema, build_schema, load_schema
from raw_tables.words import Unfit

COLUMNS = "columns"  # key of a flat config: what the reader says of its columns


class NoSchemaError(ValueError):
    """What a run has kept of its columns is no schema."""

    user_error = True  # one sentence for the user, not a traceback


def table_of(config: Mapping[str, Any]) -> Schema:
    """The schema of a config's rows: what its run has kept of one, else the file that it names.

    Args:
        config: flat config with ``hyper_parameters.schema``.

    Raises:
        SchemaError: the file is no schema, or cannot be read.
        NoSchemaError: what the run has kept is none.
    """
    kept = config.get(COLUMNS)
    if isinstance(kept, Mapping) and "schema" in kept:
        return schema_from(kept["schema"])
    path = str(Path(config.get("config_abs_dir", ""), config["hyper_parameters.schema"]))
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return load_schema(path)  # says what is wrong
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)  # a run asks some twenty times
def _read(path: str, changed: int, size: int) -> Schema:
    return load_schema(path)


def schema_from(kept: Any, what: str = "the schema that the run has kept") -> Schema:
    """The schema that :meth:`raw_tables.schema.Schema.as_dict` told.

    Args:
        kept: what it told.
        what: what a sentence calls it.

    Raises:
        NoSchemaError: it is none.
    """
    try:
        return build_schema(_as_text(kept))
    except (Unfit, RecursionError) as error:
        raise NoSchemaError(f"{what}{error}") from error


def feature_names(config: Mapping[str, Any]) -> list[str] | None:
    """Names of the features of rows of numbers, where the reader knows them."""
    kept = config.get(COLUMNS)
    names = kept.get("features") if isinstance(kept, Mapping) else None
    return names if isinstance(names, list) else None


def _as_text(value: Any, inside: bool = False) -> Any:
    """A schema as its YAML has it: all is text, and what is empty is left out of a column."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if not (inside and v in ([], ""))}
        return {key: _as_text(item, inside) for key, item in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_as_text(item, inside=True) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def decided_by(table: Schema) -> dict[str, Any]:
    """Keys of ``hyper_parameters`` that a schema decides, with their values."""
    return {
        "feature_size": table.feature_size,
        "task_num": len(table.labels),
        "task_names": table.task_names,
        "task_types": table.task_types,
        "label_columns": tuple(column.name for column in table.labels),
        "weight_column": table.weight.name if table.weight else None,
        "ignored_columns": tuple(column.name for column in table.of_kind("ignore")),
        "feature_columns": table.feature_names,
        "blank_labels": table.blank_labels,
    }


def by_name(table: Schema, value: Any) -> Any:
    """Columns given by position, as names where the schema has them."""
    if isinstance(value, (list, tuple)):
        return tuple(by_name(table, item) for item in value)
    is_place = isinstance(value, int) and not isinstance(value, bool)
    return table.columns[value].name if is_place and 0 <= value < len(table.columns) else value


def meaning_of(table: Schema) -> dict[str, Any]:
    """What of a schema a resume compares, by keys: whatever makes rows other rows.

    They sort before the keys of what follows from them, such as the network's sizes.
    """
    used = [column for column in table.columns if column.kind != "ignore"]
    meaning: dict[str, Any] = {f"{COLUMNS}.names": [column.name for column in used]}
    for column in used:
        for word, value in column.as_dict().items():
            meaning[f"{COLUMNS}.{column.name}.{word}"] = value
    return {**meaning, f"{COLUMNS}.missing": list(table.missing)}
