"""The eager path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.engine import Engine, Outcome
from rec_runner.model_dir import ModelDir
from rec_runner.paddle_state import rename_slots, select_device, step_seed
from rec_runner.window import Window


class DygraphEngine(Engine):
    """Drives any ``dygraph_model.py`` by the contract alone, a batch at a time."""

    path = "dygraph"

    def __init__(self, model_dir: ModelDir, config: Config, model: Any) -> None:
        super().__init__(model_dir, config, model)
        select_device(config)
        paddle.seed(self.seed)
        self.net = model.create_model(config)
        self.optimizer: Any = None
        self.metrics: list[Any] = []
        self.metric_names: list[str] = []
        self._make_metrics()

    def _make_metrics(self) -> None:
        self.metrics, self.metric_names = self.model.create_metrics()

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        self.optimizer = self.model.create_optimizer(self.net, self.config)

    def train(self, window: Window, step: int) -> Outcome:
        self.net.train()
        paddle.seed(step_seed(self.seed, step))
        loss, self.metrics, values = self.model.train_forward(
            self.net, self.metrics, window.arrays, self.config
        )
        self._update(loss)
        return Outcome(loss.detach().numpy().reshape(-1)[:1], None, None, values or {})

    def _update(self, loss: paddle.Tensor) -> None:
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()

    def score(self, window: Window) -> Outcome:
        self.net.eval()
        with paddle.no_grad():
            self.metrics, values = self.model.infer_forward(
                self.net, self.metrics, window.arrays, self.config
            )
        return Outcome(np.empty(0), None, None, values or {})

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.net.state_dict().items()}

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        own = self.net.state_dict()
        for name, value in state.items():
            own[name].set_value(value)

    def optimizer_state(self) -> dict[str, Any]:
        names = {value.name: name for name, value in self.net.state_dict().items()}
        state = self.optimizer.state_dict()
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
        self.optimizer.set_state_dict(theirs)

    def reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset()

    def own_metrics(self) -> dict[str, Any]:
        return {name: m.accumulate() for name, m in zip(self.metric_names, self.metrics)}
