"""The static-graph path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.config import Config
from rec_runner.data import Window
from rec_runner.engine import Engine, Outcome, has_fast_hooks, log_odds, step_labels
from rec_runner.model_dir import ModelDir
from rec_runner.paddle_state import place_of, rename_slots, select_device, step_seed


class StaticEngine(Engine):
    """Drives ``static_model.py``; see :class:`Engine`.

    Three programs share one scope of weights: ``encode`` (features to encoded), ``train`` and
    ``score`` (encoded and labels to loss and logits). A model without the hooks has only the
    last two, from its own feeds.
    """

    path = "static"

    def __init__(self, model_dir: ModelDir, config: Config) -> None:
        super().__init__(model_dir, config)
        paddle.enable_static()
        self.model = model_dir.load("static_model", "StaticModel")(config)
        self.seed = config.runner("seed")
        self.scope = static.Scope()
        self.place = place_of(select_device(config))
        self.executor = static.Executor(self.place)
        self.optimizer: Any = None
        if not has_fast_hooks(self.model):
            raise NotImplementedError
        self.task_names = tuple(self.model.task_names(config))
        with _Program().building():
            feature_shape = self.model.create_feeds()[0].shape
        self.encode_program = _Program()
        with self.encode_program.building():
            features = static.data("features", feature_shape, "float32")
            self.model.build_layer(training=False)
            encoded = self.model.encode(features)
        self.encode_program.fetches = [encoded]
        self.encoded_size = encoded.shape[-1]
        self.score_program = self._build(training=False)
        self._names = {name: value.name for name, value in self.model.layer.state_dict().items()}
        paddle.seed(self.seed)
        self._run_startup(self.score_program)

    def _build(self, training: bool) -> _Program:
        program = _Program()
        with program.building():
            encoded = static.data("encoded", [None, self.encoded_size], "float32")
            labels = static.data("labels", [len(self.task_names), None, 1], "int64")
            self.model.build_layer(training)
            program.fetches = list(self.model.loss_and_logits(encoded, labels))
            if training:
                self.optimizer = self.model.make_optimizer()
                self.optimizer.minimize(program.fetches[0])
        return program

    def _run_startup(self, program: _Program) -> None:
        with static.scope_guard(self.scope):
            self.executor.run(program.startup)

    def _run(self, program: _Program, feed: Mapping[str, Any]) -> list[np.ndarray]:
        with static.scope_guard(self.scope):
            return self.executor.run(program.main, feed=feed, fetch_list=program.fetches)

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        weights = self.state_dict()
        self.train_program = self._build(training=True)
        self._run_startup(self.train_program)
        self.set_state_dict(weights)

    def train(self, window: Window, step: int) -> Outcome:
        features, labels = window.arrays
        encoded = self._run(self.encode_program, {"features": features})[0]
        losses, logits = [], []
        for index, start in enumerate(range(0, window.rows, window.batch_size)):
            rows = slice(start, start + window.batch_size)
            paddle.seed(step_seed(self.seed, step + index))
            loss, batch_logits = self._run(
                self.train_program, {"encoded": encoded[rows], "labels": step_labels(labels[rows])}
            )
            self._step_schedule()
            losses.append(loss)
            logits.append(batch_logits)
        return Outcome(np.stack(losses), labels, log_odds(np.concatenate(logits, axis=1)), {})

    def _step_schedule(self) -> None:
        schedule = self.optimizer._learning_rate
        if isinstance(schedule, paddle.optimizer.lr.LRScheduler):
            schedule.step()

    def score(self, window: Window) -> Outcome:
        features, labels = window.arrays
        encoded = self._run(self.encode_program, {"features": features})[0]
        feed = {"encoded": encoded, "labels": step_labels(labels)}
        logits = self._run(self.score_program, feed)[1]
        return Outcome(np.empty(0), labels, log_odds(logits), {})

    def adapt(self, features: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        hook = getattr(self.model, "adapt", None)
        return hook(features, self.config) if hook else {}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: self._get(variable) for name, variable in self._names.items()}

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        for name, value in state.items():
            self._set(self._names[name], value)

    def _get(self, variable: str) -> np.ndarray:
        return np.array(self.scope.find_var(variable).get_tensor())

    def _set(self, variable: str, value: np.ndarray) -> None:
        self.scope.find_var(variable).get_tensor().set(np.ascontiguousarray(value), self.place)

    def optimizer_state(self) -> dict[str, Any]:
        names = {variable: name for name, variable in self._names.items()}
        state = {name: self._get(name) for name in self._slot_variables()}
        slots = rename_slots(state, names, "_", "/")
        schedule = self.optimizer._learning_rate
        if isinstance(schedule, paddle.optimizer.lr.LRScheduler):
            return {**slots, "schedule": schedule.state_dict()}
        return slots

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        slots = {key: value for key, value in state.items() if key != "schedule"}
        for name, value in rename_slots(slots, self._names, "/", "_").items():
            self._set(name, value)
        if "schedule" in state:
            self.optimizer._learning_rate.set_state_dict(state["schedule"])

    def _slot_variables(self) -> list[str]:
        return [
            variable.name
            for slots in self.optimizer._accumulators.values()
            for variable in slots.values()
        ]

    def reset_metrics(self) -> None:
        pass

    def own_metrics(self) -> dict[str, Any]:
        return {}


class _Program:
    """A program with its start-up and what to fetch."""

    def __init__(self) -> None:
        self.main = static.Program()
        self.startup = static.Program()
        self.fetches: list[Any] = []

    def building(self) -> Any:
        """Context in which operators go into this program, weights named as in every other."""
        from contextlib import ExitStack

        stack = ExitStack()
        stack.enter_context(static.program_guard(self.main, self.startup))
        stack.enter_context(paddle.utils.unique_name.guard())
        return stack
