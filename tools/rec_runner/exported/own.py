"""The export of a model with our hooks: raw rows in, one output for each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.config import Config
from rec_runner.contract.guard import check_returned, foreign
from rec_runner.contract.hooks import call_hook
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.rows import Source
from rec_runner.engine.scoring import BlockScoring
from rec_runner.exported.check import checkpoint_scores, largest_difference, sample_rows
from rec_runner.exported.facts import column_facts, example_row
from rec_runner.exported.open import Exported
from rec_runner.exported.write import named_tasks, tensors, write_hooks_onnx, write_paddle

# Of a model directory: how rows for it are read, and how ids become numbers.
ROWS_MODULE, HASHING_MODULE = "prediction_rows.open", "prediction_rows.id_hashing"


class OwnModel:
    """What there is to export of a checkpoint, with what it predicts of sample rows.

    Args:
        engine: with the checkpoint's weights.
        source: sample rows.
        config: the run's config.

    Attributes:
        said: ``tasks``, ``inputs``, ``outputs`` and what is known of columns, for a manifest.
        rows: how many :meth:`largest_difference` compares.
    """

    def __init__(self, engine: BlockScoring, source: Source, config: Config) -> None:
        self._model = engine.model
        self._tasks = named_tasks(engine.metrics.task_names, engine.task_types)
        self._types = [task.type for task in self._tasks]
        arrays = sample_rows(source)
        self._features = arrays["features"]
        self.rows, self._feature_size = self._features.shape
        size = config.batch_size("infer") or config.required("train_batch_size")
        self._own = checkpoint_scores(engine, arrays, size, self._types)
        self._weights = call_hook(self._model, "scoring_weights", engine.state_dict())
        self.said: dict[str, Any] = {
            "tasks": self._tasks,
            **tensors(self._feature_size, self._tasks),
            **_columns(config, self._features),
        }

    def write(self, folder: Path, kind: str) -> None:
        """Write it in a format.

        Raises:
            UserError: a hook failed, or the package that writes it is not installed.
            OSError: a file cannot be written.
        """
        if kind == "onnx":
            write_hooks_onnx(folder, self._model, self._weights, self._tasks)
        else:
            write_paddle(folder, self._model, self._weights, self._feature_size, self._tasks)

    def largest_difference(self, model: Exported) -> tuple[float, str]:
        """How far an exported model is off at most, see ``check.off``; and where."""
        far, row, task = largest_difference(model.predict, self._features, self._own, self._types)
        return far, f"row {row} (from 0) of the sample rows, task {self._tasks[task].name}"


def _columns(config: Config, features: np.ndarray) -> dict[str, Any]:
    """What a manifest says of columns, where the model directory has a reader of rows for it."""
    model_dir = ModelDir(config.model_dir)
    if not (config.model_dir / f"{ROWS_MODULE.replace('.', '/')}.py").is_file():
        return {}
    told = model_dir.load_function(ROWS_MODULE, "columns_of")
    opened = model_dir.load_function(ROWS_MODULE, "open_rows")
    hashed = model_dir.load_function(HASHING_MODULE, "hashing_of")
    with foreign(told):
        columns = told(config)
    with foreign(opened):
        described = opened(columns).describe()
    with foreign(hashed):
        hashing = hashed(columns)
    fits = len(described) == features.shape[1]
    check_returned(opened, "", described, fits, f"a reader of {features.shape[1]} columns")
    facts = column_facts(described, features)
    return {
        "columns": columns,
        "column_facts": facts,
        "example": example_row(described, features, facts),
        "hashing": hashing,
    }
