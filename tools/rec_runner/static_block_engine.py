"""The static-graph path for models with the hooks of whole blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.engine import Outcome, log_odds, step_labels
from rec_runner.paddle_state import rename_slots, step_seed
from rec_runner.static_engine import Program, StaticEngine
from rec_runner.window import Window


class BlockStaticEngine(StaticEngine):
    """Drives a model that has the hooks of whole blocks.

    Three programs share the weights: ``encode`` (features to encoded), ``train`` and ``score``
    (encoded features and labels to loss and logits).
    """

    def _prepare(self) -> None:
        self.task_names = tuple(self.model.task_names(self.config))
        with Program().building():
            feature_shape = self.model.create_feeds()[0].shape
        self.encode_program = Program()
        with self.encode_program.building():
            features = static.data("features", feature_shape, "float32")
            self.model.build_layer(training=False)
            self.encode_program.fetches = [self.model.encode(features)]
        self.score_program = Program()
        with self.score_program.building():
            self._build_steps(self.score_program, training=False)
        self._weights = {name: w.name for name, w in self.model.layer.state_dict().items()}
        paddle.seed(self.seed)
        self._run_startup(self.score_program)

    def _build_steps(self, program: Program, training: bool) -> Any:
        size = self.encode_program.fetches[0].shape[-1]
        encoded = static.data("encoded", [None, size], "float32")
        labels = static.data("labels", [len(self.task_names), None, 1], "int64")
        self.model.build_layer(training)
        program.fetches = list(self.model.loss_and_logits(encoded, labels))
        return program.fetches[0]

    def _build_training(self) -> None:
        self.train_program = Program()
        with self.train_program.building():
            loss = self._build_steps(self.train_program, training=True)
            self.optimizer = self.model.make_optimizer()
            self.optimizer.minimize(loss)

    def train(self, window: Window, step: int) -> Outcome:
        features, labels = window.arrays
        encoded = self._run(self.encode_program, {"features": features})[0]
        schedule = self._schedule()
        losses, logits = [], []
        for index, start in enumerate(range(0, window.rows, window.batch_size)):
            rows = slice(start, start + window.batch_size)
            paddle.seed(step_seed(self.seed, step + index))
            loss, batch_logits = self._run(
                self.train_program, {"encoded": encoded[rows], "labels": step_labels(labels[rows])}
            )
            if schedule is not None:
                schedule.step()
            losses.append(loss)
            logits.append(batch_logits)
        return Outcome(np.stack(losses), labels, log_odds(np.concatenate(logits, axis=1)), {})

    def _schedule(self) -> paddle.optimizer.lr.LRScheduler | None:
        rate = self.optimizer._learning_rate
        return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None

    def score(self, window: Window) -> Outcome:
        features, labels = window.arrays
        encoded = self._run(self.encode_program, {"features": features})[0]
        feed = {"encoded": encoded, "labels": step_labels(labels)}
        logits = self._run(self.score_program, feed)[1]
        return Outcome(np.empty(0), labels, log_odds(logits), {})

    def adapt(self, features: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        hook = getattr(self.model, "adapt", None)
        return hook(features, self.config) if hook else {}

    def optimizer_state(self) -> dict[str, Any]:
        names = {variable: name for name, variable in self._weights.items()}
        slots = rename_slots({name: self._get(name) for name in self._slots()}, names, "_", "/")
        schedule = self._schedule()
        return {**slots, "schedule": schedule.state_dict()} if schedule else slots

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        slots = {key: value for key, value in state.items() if key != "schedule"}
        for name, value in rename_slots(slots, self._weights, "/", "_").items():
            self._set(name, value)
        schedule = self._schedule()
        if schedule is not None:
            schedule.set_state_dict(state["schedule"])

    def _slots(self) -> list[str]:
        return [
            variable.name
            for slots in self.optimizer._accumulators.values()
            for variable in slots.values()
        ]

    def reset_metrics(self) -> None:
        pass

    def own_metrics(self) -> dict[str, Any]:
        return {}
