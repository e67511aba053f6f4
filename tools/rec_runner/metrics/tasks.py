"""AUC and log loss of binary tasks whose log-odds the engine hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.metrics.auc import auc, log_loss, probability
from rec_runner.metrics.base import Metrics
from rec_runner.metrics.running import RunningAuc
from rec_runner.system.errors import UserError
from rec_runner.system.schema import array, check


class Kind(NamedTuple):
    """A metric of a task.

    Attributes:
        measure: from labels ``[n]`` and log-odds ``[n]`` to its value, None where it is undefined.
        lower_is_better: its direction.
    """

    measure: Callable[[np.ndarray, np.ndarray], float | None]
    lower_is_better: bool


KINDS = {"auc": Kind(auc, False), "logloss": Kind(log_loss, True)}


class TaskMetrics(Metrics):
    """Exact metrics of every task: ``auc_<task>``, then ``logloss_<task>``.

    Holds 4 bytes for a score and 1 for a label, per row and task, and from the first log line of a
    pass on the scores a second time, sorted.

    Args:
        task_names: names of the T tasks.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        self.task_names = tuple(task_names)
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._labels: list[np.ndarray] = []
        self._log_odds: list[np.ndarray] = []
        self._restart_running()

    def _restart_running(self) -> None:
        self._running = [RunningAuc() for _ in self.task_names]
        self._counted = 0  # updates that they have

    def update(self, labels: np.ndarray, log_odds: np.ndarray) -> None:
        """Add rows: labels ``[n, T]`` and log-odds float32 ``[n, T]``.

        Raises:
            UserError: labels or log-odds are not those of T tasks.
        """
        shape = (len(labels), len(self.task_names))
        if labels.shape != shape or log_odds.shape != shape:
            raise UserError(
                f"the model names {shape[1]} tasks: labels of shape {list(shape)} are expected of "
                f"the reader, which gives {list(labels.shape)}, and log-odds [T, N, 1] of "
                "loss_and_log_odds or score_rows [N, T], whose joined ones have shape "
                f"{list(log_odds.shape)}"
            )
        self._labels.append(labels.astype(np.bool_))
        self._log_odds.append(log_odds)

    @property
    def labels(self) -> np.ndarray:
        """Labels of all rows so far, bool ``[n, T]``."""
        return _joined(self._labels, len(self.task_names), np.bool_)

    @property
    def log_odds(self) -> np.ndarray:
        """Log-odds of all rows so far, float32 ``[n, T]``."""
        return _joined(self._log_odds, len(self.task_names), np.float32)

    def result(self) -> dict[str, float | None]:
        """``auc_<task>`` of every task, then ``logloss_<task>``; None where undefined."""
        labels, log_odds = self.labels, self.log_odds
        return {
            f"{name}_{task_name}": kind.measure(labels[:, task], log_odds[:, task])
            for name, kind in KINDS.items()
            for task, task_name in enumerate(self.task_names)
        }

    def running(self) -> dict[str, float | None]:
        """``auc_<task>`` over the rows so far; each row is counted once."""
        fresh = slice(self._counted, None)
        if self._labels[fresh]:
            labels = np.concatenate(self._labels[fresh])
            log_odds = np.concatenate(self._log_odds[fresh])
            for task, running in enumerate(self._running):
                running.add(labels[:, task], log_odds[:, task])
        self._counted = len(self._labels)
        return {f"auc_{name}": r.value() for name, r in zip(self.task_names, self._running)}

    def lower_is_better(self, name: str) -> bool:
        """As its kind, which stands before the task; what is none is the loss."""
        kinds = [kind for key, kind in KINDS.items() if f"{name}_".startswith(f"{key}_")]
        return kinds[0].lower_is_better if kinds else True

    def last_batch(self, rows: int) -> dict[str, np.ndarray]:
        """Its ``labels`` and ``log_odds``, ``[rows, T]``."""
        first = len(self._labels)
        while first and sum(map(len, self._labels[first:])) < rows:
            first -= 1
        labels = _joined(self._labels[first:], len(self.task_names), np.bool_)
        log_odds = _joined(self._log_odds[first:], len(self.task_names), np.float32)
        start = len(labels) - rows
        return {"labels": labels[start:].astype(np.float32), "log_odds": log_odds[start:]}

    def predictions(self) -> dict[str, np.ndarray]:
        """``label_<task>`` and ``probability_<task>`` of every task."""
        columns = {}
        for task, name in enumerate(self.task_names):
            columns[f"label_{name}"] = self.labels[:, task].astype(np.int8)
            columns[f"probability_{name}"] = probability(self.log_odds[:, task])
        return columns

    def state_dict(self) -> dict[str, Any]:
        """Labels and log-odds of all rows so far."""
        return {"labels": self.labels, "log_odds": self.log_odds}

    def load_state_dict(self, state: Mapping[str, Any], rows: int) -> None:
        """See :meth:`Metrics.load_state_dict`."""
        check(state, {"labels": array(2, np.bool_), "log_odds": array(2, np.floating)}, "metrics")
        if len(state["labels"]) != rows or np.isnan(state["log_odds"]).any():
            raise ValueError(f"metrics should be labels and log-odds of {rows} rows")
        self.reset()
        self.update(state["labels"], state["log_odds"])

    def mark(self) -> int:
        """Number of updates."""
        return len(self._labels)

    def rewind(self, mark: int) -> None:
        """Forget the updates after :meth:`mark`."""
        del self._labels[mark:], self._log_odds[mark:]
        if self._counted > mark:  # rare: a line was written in between
            self._restart_running()


def _joined(pieces: Sequence[np.ndarray], width: int, dtype: type) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty((0, width), dtype)
