"""Checkpoints: ``<folder>/<epoch>/rec.pdparams`` and ``rec.pdopt``, one format for both paths."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv

from rec_runner.errors import UserError
from rec_runner.files import written_aside
from rec_runner.metrics import TaskMetrics, probability
from rec_runner.safe_pickle import load_arrays

WEIGHTS = "rec.pdparams"
OPTIMIZER = "rec.pdopt"


class Checkpoints:
    """The epochs saved under one folder.

    Args:
        folder: ``runner.model_save_path`` or ``runner.infer_load_path``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in self.folder.iterdir()
            if entry.name.isdigit() and (entry / WEIGHTS).is_file()
        )

    def save(self, epoch: int, weights: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
        """Write an epoch's checkpoint.

        Raises:
            RunError: it cannot be written; an earlier one of the same epoch still stands.
        """
        folder = self.folder / str(epoch)
        for name, state in ((OPTIMIZER, optimizer), (WEIGHTS, weights)):
            with written_aside(folder / name) as stream:
                pickle.dump(dict(state), stream, protocol=4)

    def load_weights(self, epoch: int) -> dict[str, np.ndarray]:
        """Weights of an epoch, by name; see :func:`load_weights`."""
        return load_weights(self.folder / str(epoch))


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Weights of a checkpoint folder, by name.

    Raises:
        UserError: no such checkpoint, or a file that is not one.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise UserError(f"checkpoint {file} not found")
    state = load_arrays(file)
    # paddle.save adds a table of variable names to a Layer's state dict.
    state.pop("StructuredToParameterName@@", None)
    return {name: np.asarray(value) for name, value in state.items()}


def write_predictions(file: Path, tasks: TaskMetrics) -> None:
    """Write ``label_<task>,probability_<task>,…`` of every row, whole or not at all."""
    columns = {}
    for task, name in enumerate(tasks.task_names):
        columns[f"label_{name}"] = tasks.labels[:, task].astype(np.int8)
        columns[f"probability_{name}"] = probability(tasks.log_odds[:, task])
    with written_aside(file) as stream:
        pyarrow.csv.write_csv(pyarrow.table(columns), stream)
