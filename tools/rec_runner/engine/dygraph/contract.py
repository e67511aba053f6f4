"""The eager path for any model directory, by the contract alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.contract.model_dir import ModelDir, foreign
from rec_runner.data.rows import Window
from rec_runner.engine.arrays import norms
from rec_runner.engine.base import Outcome, step_seed
from rec_runner.engine.dygraph.base import DygraphBase
from rec_runner.loop.meter import MAX_SHOWN
from rec_runner.metrics.rows import ExactAuc, with_exact_aucs
from rec_runner.paddle_api.slots import step_optimizer
from rec_runner.system.errors import UserError


class DygraphEngine(DygraphBase):
    """Drives any ``dygraph_model.py`` by the contract alone, a batch at a time."""

    def __init__(
        self, model_dir: ModelDir, config: Config, model: Any, training: bool = True
    ) -> None:
        super().__init__(model_dir, config, model, training)
        self.metrics, self.metric_names = self._new_metrics()
        self._last: Mapping[str, Any] = {}

    def _new_metrics(self) -> tuple[list[Any], list[str]]:
        with foreign(self.model, "create_metrics"):
            metrics, names = self.model.create_metrics()
            return with_exact_aucs(metrics), list(names)

    def train(self, window: Window, step: int) -> Outcome:
        self.net.train()
        paddle.seed(step_seed(self.seed, step))
        with foreign(self.model, "train_forward"):
            loss, self.metrics, values = self.model.train_forward(
                self.net, self.metrics, window.arrays, self.config
            )
            loss.backward()
            if self.watches_gradients:
                self.gradient_norms = norms(self._gradients())
            step_optimizer(self.optimizer)
        self._last = values or {}
        losses = loss.detach().numpy().reshape(-1)
        return Outcome(losses.mean(keepdims=True), None, None, self._last)

    def score(self, window: Window) -> Outcome | None:
        self.net.eval()
        try:
            self.metrics, values = self._infer(window, self.metrics)
        except UserError as error:
            self.leave_out(window, error, lambda whole: self._infer(whole, self._new_metrics()[0]))
            return None
        self._last = values or {}
        return Outcome(np.empty(0), None, None, self._last)

    def _infer(self, window: Window, metrics: list[Any]) -> tuple[list[Any], Any]:
        with foreign(self.model, "infer_forward"), paddle.no_grad():
            metrics, values = self.model.infer_forward(
                self.net, metrics, window.arrays, self.config
            )
        return metrics, values

    def reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset()

    def own_metrics(self) -> dict[str, Any]:
        return {
            name: metric.rows.exact() if isinstance(metric, ExactAuc) else _accumulated(metric)
            for name, metric in zip(self.metric_names, self.metrics)
        }

    def running_metrics(self) -> dict[str, Any]:
        return {name: _accumulated(m) for name, m in zip(self.metric_names, self.metrics)}

    def last_values(self) -> dict[str, np.ndarray]:
        return {
            name: np.asarray(value.numpy() if hasattr(value, "numpy") else value)
            for name, value in self._last.items()
        }

    def metrics_state(self) -> dict[str, Any]:
        return {str(index): _metric_state(metric) for index, metric in enumerate(self.metrics)}

    def set_metrics_state(self, state: Mapping[str, Any]) -> None:
        for index, metric in enumerate(self.metrics):
            saved = state.get(str(index), {})
            if isinstance(metric, ExactAuc):
                metric.rows.load_state_dict(saved)
            else:
                vars(metric).update(saved)


def _accumulated(metric: Any) -> Any:
    """A metric's value; a few numbers in an array are a list, which every record shows."""
    value = metric.accumulate()
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return array.tolist() if array.ndim == 1 and array.size <= MAX_SHOWN else value


def _metric_state(metric: Any) -> dict[str, Any]:
    """What a metric has counted: its numbers, arrays and lists of numbers."""
    if isinstance(metric, ExactAuc):
        return metric.rows.state_dict()
    kept = {}
    for name, value in vars(metric).items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(number, (int, float, np.ndarray, np.number)) for number in numbers):
            kept[name] = value.copy() if isinstance(value, (list, np.ndarray)) else value
    return kept
