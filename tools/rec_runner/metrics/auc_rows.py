"""AUC of a model's own predictions: exact over all rows of a pass, not counted in bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.metrics.auc import auc
from rec_runner.metrics.base import array_of
from rec_runner.metrics.binned import BinnedAuc
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
        self._binned = BinnedAuc(0.0, 1.0)

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
        self._binned.add(positive, scores)

    def exact(self) -> float | None:
        """AUC of all rows so far; None where a class is missing."""
        state = self.state_dict()
        return auc(state["labels"], state["scores"])

    def running(self) -> float | None:
        """The same from counts in bins, in a time that does not grow with the rows."""
        return self._binned.value()

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

    def mark(self) -> tuple[int, np.ndarray]:
        """Where the count stands, for :meth:`rewind`."""
        return len(self._scores), self._binned.counts.copy()

    def rewind(self, mark: tuple[int, np.ndarray]) -> None:
        """Forget the rows that came after :meth:`mark`."""
        updates, counts = mark
        del self._scores[updates:], self._labels[updates:]
        self._binned.counts[:] = counts


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
        """AUC so far, as ``Auc`` counts it: cheap, within 1/4096, 0 where undefined."""
        return self.rows.running() or 0.0

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self.rows = AucRows()


def with_exact_aucs(metrics: list[Any]) -> list[Any]:
    """A model's metrics, each plain ROC ``Auc`` among them replaced by an exact one."""
    return [ExactAuc(metric.name()) if is_roc_auc(metric) else metric for metric in metrics]
