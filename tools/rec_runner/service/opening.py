"""From an export folder to a model that answers requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

import rec_runner
from rec_runner.contract.guard import call, foreign
from rec_runner.contract.model_dir import ModelDir
from rec_runner.exported.manifest import Manifest
from rec_runner.exported.open import open_export
from rec_runner.service.models import Model, Rows
from rec_runner.system.errors import UserError

READERS = "prediction_rows.open"


def export_opener(folder: Path, runtime: str, threads: int | None) -> Callable[[], Model]:
    """What opens the export of a folder, whichever lies there when it is called.

    Args:
        folder: of the export.
        runtime: ``auto``, ``onnx`` or ``paddle``.
        threads: of the runtime.

    Raises:
        UserError: these tools do not lie in a model directory that reads rows to predict on.
    """
    open_rows = ModelDir(Path(rec_runner.__file__).resolve().parents[2]).load_function(
        READERS, "open_rows"
    )

    def open_model() -> Model:
        exported = open_export(folder, runtime, threads)
        manifest = exported.manifest
        if manifest.columns is None:
            raise UserError(
                f"export {folder} does not say what the columns of rows are: it is of a model "
                "directory with a reader of its own, and can be served by a program of yours that "
                "makes its inputs"
            )
        with foreign(open_rows):
            reader = open_rows(manifest.columns)
        if reader.feature_size != manifest.feature_size:
            raise UserError(
                f"export {folder} is damaged: its columns make {reader.feature_size} features, "
                f"its model takes {manifest.feature_size}"
            )
        about = describe(manifest, call(reader, "describe"))
        about["runtime"] = exported.runtime
        return Model(manifest.model, manifest.task_names, _Guarded(reader), exported, about)

    return open_model


class _Guarded:
    """A reader, its errors as one sentence each."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.names: tuple[str, ...] = tuple(reader.names)
        self.feature_size: int = reader.feature_size

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of JSON objects by column name."""
        return call(self._reader, "objects", rows)

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows of JSON arrays."""
        return call(self._reader, "arrays", rows)

    def text(self, data: bytes) -> Rows:
        """Rows of delimited text."""
        return call(self._reader, "text", data)


def describe(manifest: Manifest, columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``GET /model`` tells of an export.

    Args:
        manifest: what the export says of itself.
        columns: of rows, as their reader describes them.
    """
    return {
        "model": manifest.model,
        "tasks": [{"name": task.name, "type": task.type} for task in manifest.tasks],
        "columns": [
            {**column, **manifest.column_facts.get(str(column["name"]), {})} for column in columns
        ],
        "example": dict(manifest.example),
        "hashing": manifest.hashing,
        "metrics": dict(manifest.metrics),
        "epoch": manifest.epoch,
        "graph": manifest.graph,
        "created": manifest.created,
        "versions": dict(manifest.versions),
    }
