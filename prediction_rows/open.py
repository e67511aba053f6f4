"""The columns that a model was trained on, as JSON, and the reader of rows by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prediction_rows.rows import PredictionRows, RowsError

# KINDS: by "kind", (module-level function) columns of a config, and reader from columns.


class ColumnsError(ValueError):
    """What a model says of its columns cannot be; of a damaged or a foreign ``model.json``."""

    user_error = True  # one sentence for the user, not a traceback


def columns_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that is to be known of a model's columns to read rows for it, as JSON.

    Args:
        config: flat config of the trained model, with ``columns`` of its checkpoint.

    Returns:
        ``{"kind": "table", "schema": {…}}`` or ``{"kind": "numbers", …}``.
    """
    raise NotImplementedError


def open_rows(columns: Any) -> PredictionRows:
    """The reader of rows with these columns.

    Args:
        columns: what :func:`columns_of` gave, perhaps from a file of strangers.

    Raises:
        ColumnsError: it is nothing of the kind.
    """
    raise NotImplementedError


__all__ = ["ColumnsError", "RowsError", "columns_of", "open_rows"]
