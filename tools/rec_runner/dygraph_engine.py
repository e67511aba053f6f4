"""The eager path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.data import Window
from rec_runner.engine import Engine, Outcome, log_odds, step_labels
from rec_runner.model_dir import ModelDir
from rec_runner.paddle_state import rename_slots, select_device, step_seed


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


class BlockDygraphEngine(DygraphEngine):
    """Drives a model that has the hooks of whole blocks: nothing waits between two steps."""

    def _make_metrics(self) -> None:
        self.task_names = tuple(self.model.task_names(self.config))

    def train(self, window: Window, step: int) -> Outcome:
        self.net.train()
        losses, logits = [], []
        for index, (features, labels) in enumerate(zip(*self._batches(window))):
            paddle.seed(step_seed(self.seed, step + index))
            loss, batch_logits = self.model.loss_and_logits(self.net, features, labels, self.config)
            self._update(loss)
            losses.append(loss.detach())
            logits.append(batch_logits.detach())
        return Outcome(
            paddle.stack(losses).numpy(),
            window.arrays[1],
            log_odds(paddle.concat(logits, axis=1).numpy()),
            {},
        )

    def _update(self, loss: paddle.Tensor) -> None:
        super()._update(loss)
        schedule = self.optimizer._learning_rate
        if isinstance(schedule, paddle.optimizer.lr.LRScheduler):
            schedule.step()

    def _tensors(self, window: Window) -> tuple[paddle.Tensor, paddle.Tensor]:
        features, labels = window.arrays
        encoded = self.model.encode(self.net, paddle.to_tensor(features))
        return encoded, paddle.to_tensor(step_labels(labels))

    def _batches(self, window: Window) -> tuple[list[paddle.Tensor], list[paddle.Tensor]]:
        """Encoded features and labels of each batch, cut from the window by one operator."""
        sizes = [window.batch_size] * (window.rows // window.batch_size)
        if window.rows % window.batch_size:
            sizes.append(window.rows % window.batch_size)
        with paddle.no_grad():
            features, labels = self._tensors(window)
            return paddle.split(features, sizes), paddle.split(labels, sizes, axis=1)

    def score(self, window: Window) -> Outcome:
        self.net.eval()
        with paddle.no_grad():
            features, labels = self._tensors(window)
            _, logits = self.model.loss_and_logits(self.net, features, labels, self.config)
        return Outcome(np.empty(0), window.arrays[1], log_odds(logits.numpy()), {})

    def adapt(self, features: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        hook = getattr(self.model, "adapt", None)
        return hook(features, self.config) if hook else {}
