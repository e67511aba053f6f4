"""Labels and predicted probabilities of every row, as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv

from rec_runner.metrics.tasks import TaskMetrics, probability
from rec_runner.system.files import atomic_write


def write_predictions(file: Path, tasks: TaskMetrics) -> None:
    """Write ``label_<task>,probability_<task>,…`` of every row, whole or not at all."""
    columns = {}
    for task, name in enumerate(tasks.task_names):
        columns[f"label_{name}"] = tasks.labels[:, task].astype(np.int8)
        columns[f"probability_{name}"] = probability(tasks.log_odds[:, task])
    with atomic_write(file) as stream:
        pyarrow.csv.write_csv(pyarrow.table(columns), stream)
