"""AUC of a model's own predictions: exact over the rows of a pass, not counted in bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.metrics.auc import auc
from rec_runner.metrics.base import array_of
from rec_runner.metrics.running import RunningAuc
from rec_runner.paddle_api.auc import is_roc_auc
from rec_runner.system.schema import array, check


class AucRows:
    """Predictions and labels of a pass, and their AUC."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._restart_running()

    def _restart_running(self) -> None:
        self._running = RunningAuc()
        self._counted = 0  # updates that it has

    def add(self, predictions: Any, labels: Any, tags: Any = None) -> None:
        """Add rows.

        Args:
            predictions: probabilities ``[n, 2]`` of both classes, or of class 1 in any shape.
            labels: ``[n]`` or ``[n, 1]``, 0 or 1.
            tags: ``ins_tag_weight``: 0 for a row that does not count; one for each row, else the
                first one is that of all.
        """
        table = array_of(predictions)
        scores = table[:, -1] if table.ndim == 2 else table.reshape(-1)
        positive = array_of(labels).reshape(-1) > 0.5
        if tags is not None:
            counts = array_of(tags).reshape(len(tags), -1)[:, 0] != 0
            counts = counts if len(counts) == len(scores) else np.repeat(counts[:1], len(scores))
            scores, positive = scores[counts], positive[counts]
        self._scores.append(np.array(scores))
        self._labels.append(positive)

    def exact(self) -> float | None:
        """AUC of all rows so far; None where a class is missing."""
        state = self.state_dict()
        return auc(state["labels"], state["scores"])

    def running(self) -> float | None:
        """The same, in a time that hardly grows with the rows before those since the last call."""
        fresh = slice(self._counted, None)
        if self._scores[fresh]:
            labels, scores = (np.concatenate(x[fresh]) for x in (self._labels, self._scores))
            self._running.add(labels, scores)
        self._counted = len(self._scores)
        return self._running.value()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Scores and labels of all rows so far."""
        if not self._scores:
            return {"scores": np.empty(0, np.float32), "labels": np.empty(0, np.bool_)}
        return {"scores": np.concatenate(self._scores), "labels": np.concatenate(self._labels)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        check(
            state, {"scores": array(1, np.number), "labels": array(1, np.bool_)}, "rows of an AUC"
        )
        if len(state["scores"]) != len(state["labels"]):
            raise ValueError("rows of an AUC should have a score and a label each")
        self.reset()
        if len(state["scores"]):
            self.add(state["scores"], state["labels"])

    def mark(self) -> int:
        """Where the count stands, for :meth:`rewind`."""
        return len(self._scores)

    def rewind(self, mark: int) -> None:
        """Forget the rows that came after :meth:`mark`."""
        del self._scores[mark:], self._labels[mark:]
        if self._counted > mark:  # a model's own code may ask for the running value at any time
            self._restart_running()


class ExactAuc(paddle.metric.Auc):
    """Stands in for a model's ``paddle.metric.Auc``, whose bins cost precision and time.

    Args:
        name: as ``Auc`` has it.
    """

    def __init__(self, name: str = "auc") -> None:
        super().__init__(name=name)
        self.rows = AucRows()

    def update(self, preds: Any, labels: Any) -> None:
        """Add a batch: probabilities ``[n, 2]``, labels ``[n, 1]``."""
        self.rows.add(preds, labels)

    def accumulate(self) -> float:
        """AUC so far, exact and quick; 0 where it is undefined, as ``Auc`` has it."""
        return self.rows.running() or 0.0

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self.rows = AucRows()


def with_exact_aucs(metrics: list[Any]) -> list[Any]:
    """A model's metrics, each plain ROC ``Auc`` among them replaced by an exact one."""
    return [ExactAuc(metric.name()) if is_roc_auc(metric) else metric for metric in metrics]
