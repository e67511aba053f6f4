"""Metrics that a model keeps itself, on either graph, for directories without our hooks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import paddle

from rec_runner.contract.guard import call, foreign
from rec_runner.metrics.auc_rows import AucRows, ExactAuc, with_exact_aucs
from rec_runner.metrics.base import MAX_SHOWN, Metrics, array_of, plain, sounds_like_error
from rec_runner.system.schema import ARRAY, OBJECT, Rule, check, check_each, is_shown

_SCORES = tuple(getattr(paddle.metric, n) for n in ("Auc", "Accuracy", "Precision", "Recall"))
_LAST = Rule("an array, or text", lambda value: ARRAY.fits(value) or is_shown(value))
Counters = Mapping[str, np.ndarray]


class ModelMetrics(Metrics):
    """The ``paddle.metric`` objects of a ``DygraphModel``, which updates them itself.

    Args:
        metrics: what ``create_metrics`` gives; each plain AUC is replaced by an exact one.
        names: their names.

    Attributes:
        metrics: what ``train_forward`` and ``infer_forward`` are handed, and hand back.
        last: values of the last batch that the model wants printed.
    """

    def __init__(self, metrics: Sequence[Any], names: Sequence[str]) -> None:
        self.metrics = with_exact_aucs(list(metrics))
        self.names = list(names)
        self.last: Mapping[str, Any] = {}

    def reset(self) -> None:
        """Forget all rows."""
        self.last = {}
        for metric in self.metrics:
            call(metric, "reset")

    def result(self) -> dict[str, Any]:
        """Values over all rows so far; AUCs exact."""
        return plain({name: _exact(metric) for name, metric in zip(self.names, self.metrics)})

    def running(self) -> dict[str, Any]:
        """What the metrics themselves say."""
        values = {name: _accumulated(m) for name, m in zip(self.names, self.metrics)}
        return plain(values, arrays=True)

    def lower_is_better(self, name: str) -> bool:
        """By the metric's class, else by what it says of itself, else by its name."""
        metric = dict(zip(self.names, self.metrics)).get(name)
        said = getattr(metric, "lower_is_better", None)
        if isinstance(said, bool):
            return said
        return not isinstance(metric, _SCORES) and sounds_like_error(name)

    def last_batch(self, rows: int) -> dict[str, np.ndarray]:
        """What the model wanted printed of it."""
        return {name: _plain_array(value) for name, value in self.last.items()}

    def state_dict(self) -> dict[str, Any]:
        """What each metric has counted: its numbers, arrays and lists of numbers."""
        states = {str(index): _state(metric) for index, metric in enumerate(self.metrics)}
        last = {name: _saved(array) for name, array in self.last_batch(0).items()}
        return {"metrics": states, "last": last}

    def load_state_dict(self, state: Mapping[str, Any], rows: int) -> None:
        """See :meth:`Metrics.load_state_dict`."""
        metrics = {str(index): OBJECT for index in range(len(self.metrics))}
        check(state, {"metrics": metrics, "last": OBJECT})
        check_each(state["last"], _LAST, "last")
        self.last = dict(state["last"])
        for index, metric in enumerate(self.metrics):
            saved = state["metrics"][str(index)]
            if isinstance(metric, ExactAuc):
                metric.rows.load_state_dict(saved)
                continue
            for name, value in saved.items():
                if not _is_counted(value) or callable(getattr(type(metric), name, None)):
                    raise ValueError(f"metrics.{index}.{name[:40]} should be what a metric counts")
            if not saved and _state(metric):
                raise ValueError(f"metrics.{index} is empty")
            vars(metric).update({k: _like(getattr(metric, k, v), v) for k, v in saved.items()})

    def mark(self) -> Any:
        """Copies of what the metrics hold."""
        return list(self.metrics), [_mark(metric) for metric in self.metrics], self.last

    def rewind(self, mark: Any) -> None:
        """Put back what :meth:`mark` copied."""
        self.metrics, held, self.last = list(mark[0]), mark[1], mark[2]
        for metric, values in zip(self.metrics, held):
            if isinstance(metric, ExactAuc):
                metric.rows.rewind(values)
            else:
                vars(metric).clear()
                vars(metric).update({name: _copied(value) for name, value in values.items()})


class FetchedMetrics(Metrics):
    """What a ``StaticModel`` gives to fetch: AUCs over all rows, the rest as the last batch has it.

    Args:
        counters: gives the counts that ``auc`` operators keep in variables, by name.
        set_counters: sets such counts.
    """

    def __init__(
        self, counters: Callable[[], Counters], set_counters: Callable[[Counters], None]
    ) -> None:
        self.counters = counters
        self.set_counters = set_counters
        self._auc_rows: dict[str, AucRows] = {}
        self._last: dict[str, Any] = {}

    def reset(self) -> None:
        """Forget all rows."""
        self._auc_rows, self._last = {}, {}
        self.set_counters({name: np.zeros_like(count) for name, count in self.counters().items()})

    def update(self, values: Mapping[str, Any], auc_inputs: Mapping[str, Sequence[Any]]) -> None:
        """Add a batch.

        Args:
            values: what was fetched, by name.
            auc_inputs: what each AUC's operator read, by name; see ``AucRows.add``.
        """
        self._last = dict(values)
        for name, inputs in auc_inputs.items():
            self._auc_rows.setdefault(name, AucRows()).add(*inputs)

    def result(self) -> dict[str, Any]:
        """AUCs of all rows and what the last batch gave, but for its loss.

        The loss is a pass's mean in its record; the last batch's would stand beside it.
        """
        rest = {name: v for name, v in self._last.items() if name != loss_name(self._last)}
        return plain({**rest, **{name: rows.exact() for name, rows in self._auc_rows.items()}})

    def running(self) -> dict[str, Any]:
        """The same, the loss included."""
        aucs = {name: rows.running() for name, rows in self._auc_rows.items()}
        return plain({**self._last, **aucs}, arrays=True)

    def lower_is_better(self, name: str) -> bool:
        """An AUC's operator tells that it is one, whatever its name."""
        return name not in self._auc_rows and sounds_like_error(name)

    def last_batch(self, rows: int) -> dict[str, np.ndarray]:
        """What was fetched of it, but for AUCs."""
        return {name: np.asarray(value) for name, value in self._last.items()}

    def state_dict(self) -> dict[str, Any]:
        """Rows of each AUC, counts of the operators, the last batch's values."""
        return {
            "rows": {name: rows.state_dict() for name, rows in self._auc_rows.items()},
            "counts": dict(self.counters()),
            "last": self.last_batch(0),
        }

    def load_state_dict(self, state: Mapping[str, Any], rows: int) -> None:
        """See :meth:`Metrics.load_state_dict`."""
        check(state, {"rows": OBJECT, "counts": OBJECT, "last": OBJECT})
        for part in ("counts", "last"):
            check_each(state[part], ARRAY, part)
        self._auc_rows = {}
        for name, scored in state["rows"].items():
            self._auc_rows[name] = AucRows()
            self._auc_rows[name].load_state_dict(scored)
        self._last = dict(state["last"])
        self.set_counters(state["counts"])

    def mark(self) -> Any:
        """Where each AUC's rows stand; copies of the rest."""
        marks = {name: rows.mark() for name, rows in self._auc_rows.items()}
        return marks, dict(self.counters()), dict(self._last)

    def rewind(self, mark: Any) -> None:
        """Forget the rows that came after :meth:`mark`."""
        marks, counters, self._last = mark
        self._auc_rows = {name: rows for name, rows in self._auc_rows.items() if name in marks}
        for name, rows in self._auc_rows.items():
            rows.rewind(marks[name])
        # A network that was built anew meanwhile has counters that the mark knows nothing of.
        fresh = {name: np.zeros_like(count) for name, count in self.counters().items()}
        self.set_counters({**fresh, **counters})


def loss_name(values: Mapping[str, Any]) -> str | None:
    """The loss among what a model fetches: by its usual names, else the first that sounds so."""
    likely = [n for n in values if "cost" in n.lower() or "loss" in n.lower()]
    return next((n for n in ("cost", "loss", *likely) if n in values), None)


def _exact(metric: Any) -> Any:
    return metric.rows.exact() if isinstance(metric, ExactAuc) else _accumulated(metric)


def _accumulated(metric: Any) -> Any:
    """A metric's value; a few numbers in an array are a list, which every record shows."""
    with foreign(metric, "accumulate"):
        value = metric.accumulate()
        array = array_of(value)
    return array.tolist() if array.ndim == 1 and array.size <= MAX_SHOWN else value


def _state(metric: Any) -> dict[str, Any]:
    if isinstance(metric, ExactAuc):
        return metric.rows.state_dict()
    kept = {}
    for name, value in vars(metric).items():
        value = value.numpy() if isinstance(value, paddle.Tensor) else value
        if _is_counted(value):
            kept[name] = value.copy() if isinstance(value, (list, np.ndarray)) else value
    return kept


def _is_counted(value: Any) -> bool:
    """Whether a metric's attribute is a count: a number, an array, a list of such."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(n, (int, float)) or _is_array(n) for n in numbers)


def _is_array(value: Any) -> bool:
    """Whether it is an array, or a number of NumPy's, that a checkpoint can hold as it is."""
    return isinstance(value, (np.ndarray, np.generic)) and (
        value.dtype.kind in "biuf" and value.dtype.itemsize <= 8
    )


def _plain_array(value: Any) -> np.ndarray:
    """A value as an array of numbers, or of text where it is anything else."""
    array = array_of(value)
    return array if _is_array(array) else array.astype(str)


def _saved(array: np.ndarray) -> Any:
    """An array as a checkpoint holds it, which has no arrays of text."""
    return array if _is_array(array) else array.tolist()


def _like(own: Any, saved: Any) -> Any:
    """What was saved of an attribute, a Tensor where it is one; arrays that can be written to."""
    if isinstance(own, paddle.Tensor):
        return paddle.to_tensor(saved)
    return copy.deepcopy(saved)


def _mark(metric: Any) -> Any:
    if isinstance(metric, ExactAuc):
        return metric.rows.mark()
    return {name: _copied(value) for name, value in vars(metric).items()}


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # what cannot be copied, such as a module, is not a count
        return value
