"""What the engines of models with the hooks of whole blocks share: labels, and scoring.

Raw rows are scored where there is a hook for it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Callable

import numpy as np

from rec_runner.contract.hooks import call_hook, has
from rec_runner.data.rows import Window, check_encoded, take
from rec_runner.engine.base import Engine, Outcome
from rec_runner.engine.labels import (
    Kept,
    TaskWeights,
    counted_arrays,
    row_weights,
    unknown_tasks,
)
from rec_runner.metrics.auc import probability
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.log import warn

COMPARED_ROWS = 32
# Of a score. Another order of the same sums changes it by a thousandth of that.
_TOLERANCE = 1e-3


class BlockScoring(Engine):
    """What both engines of such models share.

    The hook ``score_rows`` says a second time what the network computes. With each set of weights
    the two are compared at the first rows that are scored; where they differ, the network is right,
    and scores all rows from then on.
    """

    metrics: TaskMetrics
    _follows_network = True  # the hook ``score_rows``, as far as has been seen
    _weights_taken = False  # as they are now
    _to_compare = 0  # rows, with these weights
    _warned = False  # of weights that the model has no use for

    @abstractmethod
    def _holders(self, name: str) -> Sequence[Any]:
        """What holds a weight, and each of its optimizer's slots that is there by now."""

    @abstractmethod
    def _read(self, holder: Any) -> np.ndarray:
        """A copy of what a holder holds."""

    @abstractmethod
    def _write(self, holder: Any, array: np.ndarray) -> None:
        """Set what a holder holds."""

    @cached_property
    def _task_weights(self) -> TaskWeights:
        return TaskWeights(self.model, self.state_dict())

    def _unknown(self, window: Window) -> list[list[int]]:
        """The tasks of which each batch tells nothing; empty where there is no need to know."""
        if not has(self.model, "weights_of_task"):
            return []
        return unknown_tasks(window, self._row_weights(window))

    def _keep(self, tasks: Sequence[int]) -> Kept:
        """What :meth:`_put_back` takes, before a step that tells nothing of some tasks."""
        return self._task_weights.keep(tasks, self._holders, self._read)

    def _put_back(self, kept: Kept) -> None:
        """Undo what a step did to the weights of these tasks, and to their slots."""
        for holder, index, value in kept:
            array = value
            if index is not ...:
                array = self._read(holder)
                array[index] = value
            self._write(holder, array)

    def _row_weights(self, window: Window) -> np.ndarray | None:
        """What ``loss_and_log_odds`` takes as ``weights`` of a window's rows, if it takes any.

        Raises:
            UserError: the model asks for them, and the reader gives none, or bad ones.
        """
        if self.weighs_rows:
            return row_weights(window)
        if "weights" in window.arrays and not self._warned:
            self._warned = True
            warn(
                "the reader gives an array weights, which this model has no use for: all rows "
                "count alike, unless a hook weighs_rows says that loss_and_log_odds takes weights"
            )
        return None

    def _count(self, window: Window, log_odds: np.ndarray) -> None:
        """Let the metrics count the log-odds ``[n, T]`` of a window."""
        arrays = window.arrays
        more = counted_arrays(arrays, self.weighs_rows)
        self.metrics.update(arrays["labels"], log_odds, **more)

    @abstractmethod
    def _take_weights(self) -> None:
        """Make what ``score_rows`` needs of the weights."""

    @abstractmethod
    def _score_rows(self, window: Window) -> np.ndarray:
        """Log-odds ``[n, T]`` of a window of raw rows, by the hook ``score_rows``."""

    @abstractmethod
    def _score_encoded(self, window: Window) -> np.ndarray:
        """Log-odds ``[n, T]`` of a window of encoded rows, by the network."""

    def score(self, window: Window) -> Outcome:
        """See :meth:`Engine.score`."""
        if not self.scores_rows:
            return self._count_scores(window, self._score_encoded(window))
        self._make_ready()
        if self._follows_network and self._to_compare:
            self._compare(window)
        if self._follows_network:
            return self._count_scores(window, self._score_rows(window))
        return self._count_scores(window, self._score_encoded(self._encoded(window)))

    def predict(self, features: np.ndarray, batch_size: int) -> np.ndarray:
        """What the network says of raw rows, without labels; nothing is counted.

        Args:
            features: float32 ``[n, F]``.
            batch_size: how many rows are computed at once.

        Returns:
            float32 ``[n, T]``: a binary task's probability of class 1, a regression task's number;
            NaN where the network gives none, of values too large for it for instance.
        """
        if not len(features):
            return np.empty((0, len(self.metrics.task_names)), np.float32)
        window = self._without_labels(features, batch_size)
        if self.scores_rows:
            self._make_ready()
            if self._follows_network and self._to_compare:
                self._compare(window, self._score_leniently)
        by_rows = self.scores_rows and self._follows_network
        found = self._score_rows(window) if by_rows else self._score_leniently(window)
        shape = window.arrays["labels"].shape
        if found.shape != shape:
            raise UserError(
                f"{self.model_dir.path}: the model gives log-odds of shape {list(found.shape)} for "
                f"{window.rows} rows, expected {list(shape)}"
            )
        predictions = found.astype(np.float32)
        for task in range(predictions.shape[1]):
            if not self.task_types or self.task_types[task] == "binary":
                predictions[:, task] = probability(found[:, task])
        return predictions

    def _make_ready(self) -> None:
        """Give the hook ``score_rows`` the weights as they are."""
        if self._follows_network and not self._weights_taken:
            self._take_weights()
            self._weights_taken, self._to_compare = True, COMPARED_ROWS

    def _without_labels(self, features: np.ndarray, batch_size: int) -> Window:
        """Rows as a window to score: labels and weights are there, and say nothing."""
        rows, tasks = len(features), len(self.metrics.task_names)
        arrays = {"features": features, "labels": np.zeros((rows, tasks), np.float32)}
        if self.weighs_rows:
            arrays["weights"] = np.ones(rows, np.float32)
        return Window(0, batch_size, arrays, rows)

    def _score_leniently(self, window: Window) -> np.ndarray:
        """Log-odds ``[n, T]`` by the network itself, NaN of rows that it cannot encode."""
        encoded = self.encode(window.arrays["features"])
        bad = ~np.isfinite(encoded.reshape(len(encoded), -1)).all(axis=1)
        if bad.any():
            encoded = np.where(bad.reshape(-1, *[1] * (encoded.ndim - 1)), 0, encoded)
        encoded = encoded.astype(np.float32, copy=False)
        arrays = {**window.arrays, "features": encoded}
        found = self._score_encoded(window._replace(arrays=arrays))
        return np.where(bad[:, np.newaxis], np.float32(np.nan), found)

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """See :meth:`Engine.set_state_dict`."""
        super().set_state_dict(state)  # type: ignore[safe-super]
        self._weights_taken = False

    def _compare(
        self, window: Window, network: Callable[[Window], np.ndarray] | None = None
    ) -> None:
        """Let a few rows be scored both ways.

        Args:
            window: some rows.
            network: scores raw rows by the network itself; by default a row that cannot be encoded
                is an error.
        """
        rows = min(window.rows, self._to_compare)
        self._to_compare -= rows
        some = window._replace(arrays=take(window.arrays, slice(rows)), rows=rows)
        ours, own = self._score_rows(some), (network or self.network_log_odds)(some)
        if ours.shape != own.shape:
            return  # the metrics tell it
        off = differences(ours, own, window.arrays["labels"], self.task_types)
        self._follows_network = bool(off.max() <= _TOLERANCE)
        if not self._follows_network:
            row = int(off.max(axis=1).argmax())
            warn(
                f"the hook score_rows gives log-odds {_numbers(ours[row])} where the network's "
                f"are {_numbers(own[row])}, and is not used; a network that has changed has to "
                "change there too"
            )

    def network_log_odds(self, window: Window) -> np.ndarray:
        """Log-odds ``[n, T]`` of a window of raw rows, by the network itself; nothing is counted.

        Raises:
            RunError: a row is too large to be encoded.
        """
        return self._score_encoded(self._encoded(window))

    def _encoded(self, window: Window) -> Window:
        raw = window.arrays["features"]
        encoded = self.encode(raw)
        check_encoded(raw, encoded, window.files)
        return window._replace(arrays={**window.arrays, "features": encoded})

    def _scoring_weights(self) -> dict[str, np.ndarray]:
        """What the hook ``score_rows`` needs of the weights as they are."""
        return call_hook(self.model, "scoring_weights", self.state_dict())

    def _count_scores(self, window: Window, log_odds: np.ndarray) -> Outcome:
        """Let the metrics count the log-odds ``[n, T]`` of a window that was scored.

        Raises:
            RunError: one is not a number: no metric of them would mean anything.
        """
        if np.isnan(log_odds).any():
            if self.scores_rows:
                self._encoded(window)  # says so if a row is too large to be encoded
            row = int(np.argmax(np.isnan(log_odds).any(axis=1)))
            raise RunError(
                f"the network gives NaN for row {window.first_batch * window.batch_size + row} "
                f"(from 0) of the rows scored{window.place}; are its values very large?"
            )
        self._count(window, log_odds)
        return Outcome(np.empty(0), window.batch_rows, {})


def differences(
    ours: np.ndarray, own: np.ndarray, labels: np.ndarray, task_types: Sequence[str] = ()
) -> np.ndarray:
    """How far scores ``[n, T]`` are off the network's own, as a share of what they are.

    A prediction near 0 of numbers that go into the millions is a difference of such: it is held
    against the spread of the labels, or the largest prediction, if that is more.

    Args:
        ours: scores.
        own: the network's.
        labels: ``[m, T]``, of these or more rows; NaN where one is not known.
        task_types: what each task is; by default all are binary.
    """
    sizes = np.abs(own, dtype=np.float64)
    for task, kind in enumerate(task_types):
        if kind == "regression":
            known = labels[~np.isnan(labels[:, task]), task].astype(np.float64)
            spread = known.std() if len(known) else 0.0
            largest = sizes[np.isfinite(sizes[:, task]), task].max(initial=0.0)
            sizes[:, task] = max(spread, largest)
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(ours - own) / (1 + sizes)
    off[np.isnan(off)] = np.inf  # a number that only one of the two has
    off[(ours == own) | (np.isnan(ours) & np.isnan(own))] = 0
    return off


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)
