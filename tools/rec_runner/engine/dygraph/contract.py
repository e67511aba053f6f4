"""The eager path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.contract.model_dir import ModelDir, check_returned, foreign
from rec_runner.data.rows import Window
from rec_runner.engine.base import Engine, Outcome, norms
from rec_runner.paddle_api.state import rename_slots, select_device, step_seed
from rec_runner.loop.meter import MAX_SHOWN
from rec_runner.metrics.rows import ExactAuc, with_exact_aucs
from rec_runner.system.errors import UserError


class DygraphEngine(Engine):
    """Drives any ``dygraph_model.py`` by the contract alone, a batch at a time."""

    path = "dygraph"

    def __init__(
        self, model_dir: ModelDir, config: Config, model: Any, training: bool = True
    ) -> None:
        super().__init__(model_dir, config, model, training)
        paddle.disable_static()
        select_device(config)
        paddle.seed(self.seed)
        with foreign(model, "create_model"):
            self.net = model.create_model(config)
        is_layer = isinstance(self.net, paddle.nn.Layer)
        check_returned(model, "create_model", self.net, is_layer, "a paddle.nn.Layer")
        self.optimizer: Any = None
        self.metrics: list[Any] = []
        self.metric_names: list[str] = []
        self._last: Mapping[str, Any] = {}
        self._make_metrics()

    def _make_metrics(self) -> None:
        self.metrics, self.metric_names = self._new_metrics()

    def _new_metrics(self) -> tuple[list[Any], list[str]]:
        with foreign(self.model, "create_metrics"):
            metrics, names = self.model.create_metrics()
            return with_exact_aucs(metrics), list(names)

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        self._make_optimizer()

    def _make_optimizer(self) -> None:
        with foreign(self.model, "create_optimizer"):
            self.optimizer = self.model.create_optimizer(self.net, self.config)
        fits = hasattr(self.optimizer, "step")
        check_returned(self.model, "create_optimizer", self.optimizer, fits, "an optimizer")

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

    def _gradients(self) -> dict[str, np.ndarray]:
        """Gradients by weight, sparse ones left out."""
        found = {name: weight.grad for name, weight in self.net.named_parameters()}
        dense = {name: g for name, g in found.items() if g is not None and g.is_dense()}
        return {name: gradient.numpy() for name, gradient in dense.items()}

    def score(self, window: Window) -> Outcome | None:
        self.net.eval()
        try:
            self.metrics, values = self._infer(window, self.metrics)
        except UserError as error:
            return self.leave_out(
                window, error, lambda whole: self._infer(whole, self._new_metrics()[0])
            )
        self._last = values or {}
        return Outcome(np.empty(0), None, None, self._last)

    def _infer(self, window: Window, metrics: list[Any]) -> tuple[list[Any], Any]:
        with foreign(self.model, "infer_forward"), paddle.no_grad():
            metrics, values = self.model.infer_forward(
                self.net, metrics, window.arrays, self.config
            )
        return metrics, values

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.net.state_dict().items()}

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        own = self.net.state_dict()
        for name, value in state.items():
            own[name].set_value(value)

    def optimizer_state(self) -> dict[str, Any]:
        names = {value.name: name for name, value in self.net.state_dict().items()}
        # Until its first step an optimizer holds the slots that were set; 2.6 does not give them.
        held = getattr(self.optimizer, "_accumulators_holder", {})
        state = {**held, **self.optimizer.state_dict()}
        schedule = state.pop("LR_Scheduler", None)
        arrays = {key: np.asarray(value) for key, value in state.items()}
        slots = rename_slots(arrays, names, "_", "/")
        return {**slots, "schedule": schedule} if schedule else slots

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        names = {name: value.name for name, value in self.net.state_dict().items()}
        slots = {key: value for key, value in state.items() if key != "schedule"}
        theirs: dict[str, Any] = {
            key: paddle.to_tensor(value)
            for key, value in rename_slots(slots, names, "/", "_").items()
        }
        if "schedule" in state:
            theirs["LR_Scheduler"] = state["schedule"]
        if not self._slots() <= theirs.keys():
            self._make_optimizer()  # the state is from before those slots were made
        self.optimizer.set_state_dict(theirs)
        held = getattr(self.optimizer, "_accumulators_holder", {})
        for name in self._slots() & held.keys():
            del held[name]  # set already; Paddle would take the rest for all that is yet to come

    def _slots(self) -> set[str]:
        """Names of the optimizer's slots; it makes them at its first steps."""
        kinds = getattr(self.optimizer, "_accumulators", {}).values()
        return {slot.name for slots in kinds for slot in slots.values()}

    def schedule(self) -> Any:
        rate = self.optimizer._learning_rate
        return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None

    def learning_rate(self) -> float | None:
        return float(self.optimizer.get_lr()) if self.optimizer is not None else None

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


def step_optimizer(optimizer: Any) -> None:
    """``step`` and ``clear_grad``; slots that it makes are named alike in every optimizer.

    Paddle numbers them, so that those of an optimizer made anew would not be found again.
    """
    with paddle.utils.unique_name.guard():
        optimizer.step()
        optimizer.clear_grad()


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
