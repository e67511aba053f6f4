"""The eager path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.data import Window
from rec_runner.engine import Engine, Outcome, has_fast_hooks, log_odds, step_labels
from rec_runner.model_dir import ModelDir
from rec_runner.paddle_state import rename_slots, select_device, step_seed


class DygraphEngine(Engine):
    """Drives ``dygraph_model.py``; see :class:`Engine`."""

    path = "dygraph"

    def __init__(self, model_dir: ModelDir, config: Config) -> None:
        super().__init__(model_dir, config)
        self.model = model_dir.load("dygraph_model", "DygraphModel")()
        self.seed = config.runner("seed")
        select_device(config)
        paddle.seed(self.seed)
        self.net = self.model.create_model(config)
        self.optimizer: Any = None
        if has_fast_hooks(self.model):
            self.task_names = tuple(self.model.task_names(config))
        else:
            self.metrics, self.metric_names = self.model.create_metrics()

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        self.optimizer = self.model.create_optimizer(self.net, self.config)

    def train(self, window: Window, step: int) -> Outcome:
        self.net.train()
        if self.task_names is None:
            return self._train_batch(window, step)
        features, labels = self._tensors(window)
        losses, logits = [], []
        for index, (x, y) in enumerate(zip(features, labels)):
            paddle.seed(step_seed(self.seed, step + index))
            loss, batch_logits = self.model.loss_and_logits(self.net, x, y, self.config)
            self._update(loss)
            losses.append(loss.detach())
            logits.append(batch_logits.detach())
        return Outcome(
            paddle.stack(losses).numpy(),
            window.arrays[1],
            log_odds(paddle.concat(logits, axis=1).numpy()),
            {},
        )

    def _tensors(self, window: Window) -> tuple[list[paddle.Tensor], list[paddle.Tensor]]:
        """Encoded features and labels of each batch."""
        features, labels = window.arrays
        with paddle.no_grad():
            encoded = self.model.encode(self.net, paddle.to_tensor(features))
            targets = paddle.to_tensor(step_labels(labels))
            sizes = [window.batch_size] * (window.rows // window.batch_size)
            if window.rows % window.batch_size:
                sizes.append(window.rows % window.batch_size)
            return paddle.split(encoded, sizes), paddle.split(targets, sizes, axis=1)

    def _train_batch(self, window: Window, step: int) -> Outcome:
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
        schedule = self.optimizer._learning_rate
        if isinstance(schedule, paddle.optimizer.lr.LRScheduler) and self.task_names is not None:
            schedule.step()

    def score(self, window: Window) -> Outcome:
        self.net.eval()
        with paddle.no_grad():
            if self.task_names is None:
                self.metrics, values = self.model.infer_forward(
                    self.net, self.metrics, window.arrays, self.config
                )
                return Outcome(np.empty(0), None, None, values or {})
            features, labels = window.arrays
            encoded = self.model.encode(self.net, paddle.to_tensor(features))
            targets = paddle.to_tensor(step_labels(labels))
            _, logits = self.model.loss_and_logits(self.net, encoded, targets, self.config)
            return Outcome(np.empty(0), labels, log_odds(logits.numpy()), {})

    def adapt(self, features: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        hook = getattr(self.model, "adapt", None)
        return hook(features, self.config) if hook else {}

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
        slots = rename_slots(
            {key: np.asarray(value) for key, value in state.items()}, names, "_", "/"
        )
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
        if self.task_names is None:
            for metric in self.metrics:
                metric.reset()

    def own_metrics(self) -> dict[str, Any]:
        return {name: m.accumulate() for name, m in zip(self.metric_names, self.metrics)}
