"""The eager path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.contract.guard import call, check_returned, foreign
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.rows import Window
from rec_runner.engine.base import Engine, Outcome, norms
from rec_runner.metrics.own import ModelMetrics
from rec_runner.paddle_api.state import rename_slots, select_device, step_seed
from rec_runner.system.errors import UserError


class DygraphEngine(Engine):
    """Drives any ``dygraph_model.py`` by the contract alone, a batch at a time."""

    graph = "dygraph"

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
        self._make_metrics()

    def _make_metrics(self) -> None:
        self.metrics = self._new_metrics()

    def _new_metrics(self) -> ModelMetrics:
        with foreign(self.model, "create_metrics"):
            return ModelMetrics(*self.model.create_metrics())

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
        returned = call(
            self.model, "train_forward", self.net, self.metrics.metrics, window.arrays, self.config
        )
        loss, metrics, values = self._checked("train_forward", returned, 3)
        fits = isinstance(loss, paddle.Tensor)
        check_returned(self.model, "train_forward", loss, fits, "a Tensor as the loss")
        with foreign(self.model, "train_forward"):
            loss.backward()
            if self.watches_gradients:
                self.gradient_norms = norms(self._gradients())
            step_optimizer(self.optimizer)
        self.metrics.metrics, self.metrics.last = metrics, values
        losses = loss.detach().numpy().reshape(-1)
        return Outcome(losses.mean(keepdims=True), window.batch_rows, values)

    def _checked(self, member: str, returned: Any, size: int) -> tuple[Any, ...]:
        """What ``train_forward`` or ``infer_forward`` returned, which ends in metrics and values.

        Raises:
            UserError: it is something else.
        """
        what = f"a tuple of {size}: {'loss, ' * (size - 2)}metrics_list, print_dict or None"
        fits = isinstance(returned, (tuple, list)) and len(returned) == size
        check_returned(self.model, member, returned, fits, what)
        *rest, metrics, values = returned
        fits = isinstance(metrics, (list, tuple))
        check_returned(self.model, member, metrics, fits, "a list as metrics_list")
        fits = values is None or isinstance(values, Mapping)
        check_returned(self.model, member, values, fits, "a dict or None as print_dict")
        return (*rest, list(metrics), values or {})

    def _gradients(self) -> dict[str, np.ndarray]:
        """Gradients by weight, sparse ones left out."""
        found = {name: weight.grad for name, weight in self.net.named_parameters()}
        dense = {name: g for name, g in found.items() if g is not None and g.is_dense()}
        return {name: gradient.numpy() for name, gradient in dense.items()}

    def score(self, window: Window) -> Outcome | None:
        self.net.eval()
        try:
            metrics, values = self._infer(window, self.metrics.metrics)
        except UserError as error:
            return self.leave_out(
                window, error, lambda whole: self._infer(whole, self._new_metrics().metrics)
            )
        self.metrics.metrics, self.metrics.last = metrics, values
        return Outcome(np.empty(0), window.batch_rows, values)

    def _infer(self, window: Window, metrics: list[Any]) -> tuple[Any, ...]:
        with paddle.no_grad():
            returned = call(
                self.model, "infer_forward", self.net, metrics, window.arrays, self.config
            )
        return self._checked("infer_forward", returned, 2)

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


def step_optimizer(optimizer: Any) -> None:
    """``step`` and ``clear_grad``; slots that it makes are named alike in every optimizer.

    Paddle numbers them, so that those of an optimizer made anew would not be found again.
    """
    with paddle.utils.unique_name.guard():
        optimizer.step()
        optimizer.clear_grad()
