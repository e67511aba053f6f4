"""The columns that a model was trained on, as JSON, and the reader of rows by it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from hyper_parameters import SECTION
from prediction_rows.number_columns import NumberColumns
from prediction_rows.numbers import NumberRows
from prediction_rows.rows import PredictionRows
from prediction_rows.table import TableRows
from raw_tables.schema import Schema, SchemaError, configured_schema, difference
from table_settings import NoSchemaError, schema_from, table_of

TABLE, NUMBERS = "table", "numbers"
MOST_COLUMNS = 100_000
MOST_LETTERS = 10_000  # of a name or of one of its values
_WHAT = "the columns that the model tells"


class ColumnsError(ValueError):
    """What a model says of its columns cannot be; of a damaged or a foreign ``model.json``."""

    user_error = True  # one sentence for the user, not a traceback


def columns_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that is to be known of a model's columns to read rows for it, as JSON.

    Args:
        config: flat config of the trained model, with ``columns`` of its checkpoint.

    Returns:
        ``{"kind": "table", "schema": {…}}`` or ``{"kind": "numbers", …}``.

    Raises:
        ConfigError, SchemaError, NoSchemaError: the config has no such columns.
    """
    if config.get(f"{SECTION}schema"):
        trained = table_of(config).as_dict()
        with suppress(SchemaError):  # the file need not be there any longer
            now = configured_schema(config)
            found = difference(trained, now.as_dict()) if now else None
            if found:
                name = f"schema {config[f'{SECTION}schema']}"
                what = f"{name} is not the one that the model was trained with: {found}"
                warnings.warn(f"{what}; rows are read by the model's own", stacklevel=1)
        return {"kind": TABLE, "schema": trained}
    return NumberColumns.of_config(config).as_json()


def open_rows(columns: Any) -> PredictionRows:
    """The reader of rows with these columns.

    Args:
        columns: what :func:`columns_of` gave, perhaps from a file of strangers.

    Raises:
        ColumnsError: it is nothing of the kind; or another sentence of the same.
    """
    kind = columns.get("kind") if isinstance(columns, Mapping) else None
    if kind == TABLE:
        return TableRows(_checked_schema(columns.get("schema")))
    if kind == NUMBERS:
        try:
            return NumberRows(NumberColumns.of_json(columns))
        except ValueError as error:
            raise ColumnsError(f"{_WHAT}: {error}") from error
    raise ColumnsError(f"{_WHAT}: kind should be {TABLE} or {NUMBERS}, got {str(kind)[:60]!r}")


def _checked_schema(kept: Any) -> Schema:
    """A schema that a stranger may have written.

    Raises:
        ColumnsError: it is none.
    """
    listed = kept.get("columns") if isinstance(kept, Mapping) else None
    if not isinstance(listed, list):
        raise ColumnsError(f"{_WHAT}: schema should be an object with a list of columns")
    if len(listed) > MOST_COLUMNS:
        raise ColumnsError(f"{_WHAT}: schema has {len(listed)} columns, at most {MOST_COLUMNS} fit")
    _check_texts(kept)
    try:
        return schema_from(kept, f"{_WHAT}: schema")
    except NoSchemaError as error:
        raise ColumnsError(str(error)) from error


def _check_texts(tree: Any, depth: int = 4) -> None:
    """Refuse what no text of a schema is, and would be shown or compared at a great cost."""
    if isinstance(tree, (Mapping, list)):
        if depth == 0:
            raise ColumnsError(f"{_WHAT}: schema is nested too deeply to be one")
        of = chain(tree, tree.values()) if isinstance(tree, Mapping) else tree
        for item in of:
            _check_texts(item, depth - 1)
    elif isinstance(tree, str):
        if len(tree) > MOST_LETTERS:
            raise ColumnsError(f"{_WHAT}: schema has a text of {len(tree)} letters")
        if not tree.isascii() and any("\ud800" <= letter <= "\udfff" for letter in tree):
            raise ColumnsError(f"{_WHAT}: schema has half of a surrogate pair, {tree[:60]!r}")
    elif isinstance(tree, int) and tree.bit_length() > 64:
        raise ColumnsError(f"{_WHAT}: schema has a number of more than 64 bits")
