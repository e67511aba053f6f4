"""Metrics of tasks whose labels and scores the engine hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rec_runner.metrics.auc import auc, log_loss, probability
from rec_runner.metrics.base import Metrics
from rec_runner.metrics.grouped import grouped_auc
from rec_runner.metrics.regression import RunningErrors, errors
from rec_runner.metrics.rows import CHUNK_ROWS, Rows, RowStore, TaskRows, of_task
from rec_runner.metrics.running import RunningAuc, WeightedRunningAuc
from rec_runner.system.errors import UserError
from rec_runner.system.schema import array, check

BINARY, REGRESSION = "binary", "regression"


class Kind(NamedTuple):
    """A metric of a task.

    Attributes:
        task_type: of which tasks.
        lower_is_better: its direction.
    """

    task_type: str
    lower_is_better: bool


KINDS = {
    "auc": Kind(BINARY, False),
    "logloss": Kind(BINARY, True),
    "gauc": Kind(BINARY, False),
    "mse": Kind(REGRESSION, True),
    "mae": Kind(REGRESSION, True),
    "r2": Kind(REGRESSION, False),
}


class TaskMetrics(Metrics):
    """Exact metrics of every task: a kind, ``auc`` say, then the task: ``auc_<task>``.

    Of binary tasks AUC, log loss and, where rows have groups, GAUC; of regressions MSE, MAE and R2
    in the target's own unit. A row without a task's label does not count there.

    Holds 4 bytes for a score and 1 for a label, per row and task, and from the first log line of a
    pass on the scores a second time, sorted. Labels that are not all 0 or 1 take 4 bytes.

    Args:
        task_names: names of the T tasks.
        task_types: ``binary`` or ``regression`` for each; None for all binary.

    Raises:
        UserError: the types are not such.
    """

    def __init__(self, task_names: Sequence[str], task_types: Sequence[str] | None = None) -> None:
        self.task_names = tuple(task_names)
        self.task_types = tuple(task_types or (BINARY,) * len(self.task_names))
        unknown = {*self.task_types} - {BINARY, REGRESSION}
        if unknown or len(self.task_types) != len(self.task_names):
            raise UserError(
                f"the model names {len(self.task_names)} tasks: as many types, {BINARY} or "
                f"{REGRESSION}, are expected of task_types, which gives {list(self.task_types)}"
            )
        self._regressions = [kind == REGRESSION for kind in self.task_types]
        self.default_monitor = "auc" if BINARY in self.task_types else "r2"
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._store = RowStore(len(self.task_names))
        self._restart_running()

    def _restart_running(self) -> None:
        self._running: list[Any] = []  # one for each task, from the first rows on
        self._counted = 0  # rows that they have

    def update(
        self,
        labels: np.ndarray,
        log_odds: np.ndarray,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """Add rows.

        Args:
            labels: ``[n, T]``; NaN where one is not known.
            log_odds: float32 ``[n, T]``; of a regression, the prediction.
            weights: ``[n]``, finite and not negative; None where rows have none.
            groups: int64 ``[n]``; None where rows have none.

        Raises:
            UserError: labels or log-odds are not those of T tasks, or weights or groups not those
                of n rows.
        """
        shape = (len(labels), len(self.task_names))
        if labels.shape != shape or log_odds.shape != shape:
            raise UserError(
                f"the model names {shape[1]} tasks: labels of shape {list(shape)} are expected of "
                f"the reader, which gives {list(labels.shape)}, and log-odds [T, N, 1] of "
                "loss_and_log_odds or score_rows [N, T], whose joined ones have shape "
                f"{list(log_odds.shape)}"
            )
        for name, values in (("weights", weights), ("groups", groups)):
            if values is not None and values.shape != shape[:1]:
                raise UserError(
                    f"{name} of shape {list(shape[:1])} are expected of the reader, which gives "
                    f"{list(values.shape)}"
                )
        if weights is not None and not _are_weights(weights):
            raise UserError("a weight that the reader gives is negative or not finite")
        self._store.append(Rows(self._kept(labels), log_odds, weights, groups))

    def _kept(self, labels: np.ndarray) -> np.ndarray:
        blank = labels.dtype.kind == "f" and np.isnan(labels).any()
        return labels.astype(np.float32 if blank or any(self._regressions) else np.bool_)

    @property
    def labels(self) -> np.ndarray:
        """Labels of all rows so far, as :class:`Rows` has them."""
        return self._store.rows().labels

    @property
    def log_odds(self) -> np.ndarray:
        """Log-odds of all rows so far, float32 ``[n, T]``; of a regression, the predictions."""
        return self._store.rows().log_odds

    def result(self) -> dict[str, float | None]:
        """Each kind of every task in turn, None where undefined; then what was counted.

        That is ``rows_<task>``, the rows whose label is known, where some are not, and
        ``left_out_groups_<task>``, the groups of one class, where there are groups.
        """
        # A pass ends with this: many rows are not to be in memory more often than needed.
        self._restart_running()
        known, found = self._store.known(), []
        all_known = (known == len(self._store)).all()
        for task, regression in enumerate(self._regressions):
            values = _measured(self._store.of_task(task, regression), regression)
            found.append(values if all_known else {**values, "rows": int(known[task])})
        return {
            f"{kind}_{name}": values[kind]
            for kind in (*KINDS, "rows", "left_out_groups")
            for name, values in zip(self.task_names, found)
            if kind in values
        }

    def running(self) -> dict[str, float | None]:
        """AUCs, and errors of regressions, over the rows so far; each row is counted once."""
        while self._counted < len(self._store):
            self._count(self._store.rows(self._counted, self._counted + CHUNK_ROWS))
        counted = self._running or [_running(kind, False) for kind in self._regressions]
        values = [
            running.values() if regression else {"auc": running.value()}
            for running, regression in zip(counted, self._regressions)
        ]
        return {
            f"{kind}_{name}": of_task[kind]
            for kind in KINDS
            for name, of_task in zip(self.task_names, values)
            if kind in of_task
        }

    def _count(self, rows: Rows) -> None:
        """Have the running values count rows: not many at once, which would take memory."""
        self._running = self._running or [
            _running(regression, rows.weights is not None) for regression in self._regressions
        ]
        for task, (running, regression) in enumerate(zip(self._running, self._regressions)):
            labels, scores, weights, _ = of_task(rows, task, regression)
            running.add(labels, scores, *([] if weights is None else [weights]))
        self._counted += len(rows.labels)

    def possible_names(self) -> list[str]:
        """See :meth:`Metrics.possible_names`; GAUC, which takes rows with groups, is among them."""
        types = list(zip(self.task_names, self.task_types))
        return [f"{k}_{name}" for k, kind in KINDS.items() for name, t in types if t == kind[0]]

    def lower_is_better(self, name: str) -> bool:
        """As its kind, which stands before the task; what is none is the loss."""
        kinds = [kind for key, kind in KINDS.items() if f"{name}_".startswith(f"{key}_")]
        return kinds[0].lower_is_better if kinds else True

    def last_batch(self, rows: int) -> dict[str, np.ndarray]:
        """Its ``labels`` and ``log_odds``, ``[rows, T]``; ``weights`` and ``groups`` if any."""
        last = self._store.rows(max(len(self._store) - rows, 0))
        return {**_there(last), "labels": last.labels.astype(np.float32)}

    def predictions(self) -> dict[str, np.ndarray]:
        """``label_<task>`` and ``probability_<task>``, or ``prediction_<task>``, of every task.

        A label that is not known is NaN. Besides, ``weight`` and ``group`` of rows that have one.
        """
        rows, columns = self._store.rows(), {}
        for task, (name, regression) in enumerate(zip(self.task_names, self._regressions)):
            labels, scores = rows.labels[:, task], rows.log_odds[:, task]
            whole = labels.dtype == np.bool_
            columns[f"label_{name}"] = labels.astype(np.int8) if whole else labels
            if regression:
                columns[f"prediction_{name}"] = scores
            else:
                columns[f"probability_{name}"] = probability(scores)
        optional = {"weight": rows.weights, "group": rows.groups}
        return {**columns, **{k: values for k, values in optional.items() if values is not None}}

    def state_dict(self) -> dict[str, Any]:
        """Labels and log-odds of all rows so far; weights and groups of rows that have some."""
        return _there(self._store.rows())

    def load_state_dict(self, state: Mapping[str, Any], rows: int) -> None:
        """See :meth:`Metrics.load_state_dict`."""
        kinds = [np.bool_, np.float32]
        rules = {"labels": array(2, *kinds), "log_odds": array(2, np.floating)}
        optional = {"weights": array(1, np.floating), "groups": array(1, np.int64)}
        check(
            state, {**rules, **{k: rule for k, rule in optional.items() if k in state}}, "metrics"
        )
        labels = state["labels"]
        if len(labels) != rows or np.isnan(state["log_odds"]).any():
            raise ValueError(f"metrics should be labels and log-odds of {rows} rows")
        for column, regression in zip(labels.T, self._regressions):
            fit = np.isfinite(column) if regression else (column == 0) | (column == 1)
            if not (fit | np.isnan(column)).all():
                expected = "finite numbers" if regression else "0 or 1"
                raise ValueError(f"metrics.labels should be {expected} where they are known")
        self.reset()
        self.update(labels, state["log_odds"], state.get("weights"), state.get("groups"))
        if not rows:  # with which others may come that have weights
            self.reset()

    def mark(self) -> int:
        """Number of rows."""
        return len(self._store)

    def rewind(self, mark: int) -> None:
        """Forget the rows after :meth:`mark`."""
        self._store.truncate(mark)
        if self._counted > mark:  # rare: a line was written in between
            self._restart_running()


def _measured(rows: TaskRows, regression: bool) -> dict[str, Any]:
    """The kinds of a task, and how many groups were left out."""
    labels, scores, weights, groups = rows
    if regression:
        return dict(errors(labels, scores, weights))
    values = {"auc": auc(labels, scores, weights), "logloss": log_loss(labels, scores, weights)}
    if groups is None:
        return values
    gauc, left_out = grouped_auc(labels, scores, groups, weights)
    return {**values, "gauc": gauc, "left_out_groups": left_out}


def _running(regression: bool, weighted: bool) -> Any:
    if regression:
        return RunningErrors()
    return WeightedRunningAuc() if weighted else RunningAuc()


def _there(rows: Rows) -> dict[str, np.ndarray]:
    return {name: array for name, array in rows._asdict().items() if array is not None}


def _are_weights(weights: np.ndarray) -> bool:
    return bool((np.isfinite(weights) & (weights >= 0)).all())
