"""The model in use, and how a new one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np

import rec_runner
from rec_runner.contract.guard import call, foreign
from rec_runner.contract.model_dir import ModelDir
from rec_runner.exported.manifest import Manifest
from rec_runner.exported.open import open_export
from rec_runner.service.batcher import Scorer
from rec_runner.system.errors import UserError

READERS = "prediction_rows.open"


class Rows(Protocol):
    """Rows that a model directory's reader made of a request."""

    features: np.ndarray
    faults: Mapping[int, Any]


class Reader(Protocol):
    """What makes rows of a request: ``prediction_rows/rows.py`` says more."""

    names: Sequence[str]
    feature_size: int

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of JSON objects by column name."""

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows of JSON arrays, their cells in the order of ``names``."""

    def text(self, data: bytes) -> Rows:
        """Rows of delimited text."""


class Model:
    """One export, opened.

    Args:
        name: its id.
        tasks: names of what it predicts.
        rows: makes rows of a request.
        scorer: scores them.
        about: what ``GET /model`` tells of it.
    """

    def __init__(
        self,
        name: str,
        tasks: Sequence[str],
        rows: Reader,
        scorer: Scorer,
        about: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.header = name.encode("ascii")
        self.tasks = tuple(tasks)
        self.rows = rows
        self.scorer = scorer
        self.about = dict(about)

    def warm_up(self) -> None:
        """Score a row, so that a model that cannot is found out before it is put to use.

        Raises:
            ValueError: what comes out is no score for each task.
        """
        scores = self.scorer.predict(np.zeros((1, self.rows.feature_size), np.float32))
        if scores.shape != (1, len(self.tasks)):
            raise ValueError(
                f"a row's scores are of shape {scores.shape}, (1, {len(self.tasks)}) was expected"
            )


class Models:
    """Holds the model in use.

    Args:
        first: the one to start with.
        open_model: opens it anew.
        told: called in the loop with the model's id and the one before, None at the start.
    """

    def __init__(
        self,
        first: Model,
        open_model: Callable[[], Model],
        told: Callable[[str, str | None], None],
    ) -> None:
        self.now = first
        self._open = open_model
        self._told = told
        self._running: asyncio.Task[Model] | None = None
        told(first.name, None)

    async def reload(self) -> Model:
        """Open the export anew, aside, and put it in the place of the model in use.

        Requests that are being answered keep the model that they began with. Who asks while it is
        being opened may be meant to get a still newer one, so it is opened once more.

        Raises:
            Exception: it cannot be opened; the model in use stays.
        """
        before = self._running
        task = asyncio.get_running_loop().create_task(self._reload(before))
        self._running = task
        return await asyncio.shield(task)

    async def _reload(self, before: asyncio.Task[Model] | None) -> Model:
        if before is not None:
            await asyncio.wait([before])
        model = await asyncio.get_running_loop().run_in_executor(None, self._opened)
        old, self.now = self.now, model
        self._told(model.name, old.name)
        return model

    def _opened(self) -> Model:
        model = self._open()
        model.warm_up()
        return model


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
        return Model(manifest.model, manifest.task_names, reader, exported, about)

    return open_model


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
