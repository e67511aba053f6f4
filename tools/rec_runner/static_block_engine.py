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
        self._train_step: _Step | None = None

    def train(self, window: Window, step: int) -> Outcome:
        features, labels = window.arrays
        encoded = self._run(self.encode_program, {"features": features})[0]
        schedule = self._schedule()
        losses, logits = [], []
        with static.scope_guard(self.scope):
            for index, start in enumerate(range(0, window.rows, window.batch_size)):
                rows = slice(start, start + window.batch_size)
                feed = {"encoded": encoded[rows], "labels": step_labels(labels[rows])}
                if self._train_step is None:
                    self._train_step = _Step(
                        self.executor, self.place, self.scope, self.train_program, feed
                    )
                paddle.seed(step_seed(self.seed, step + index))
                loss, batch_logits = self._train_step.run(feed)
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


class _Step:
    """One program, run again and again without what ``Executor.run`` repeats each time.

    Under Paddle 3 ``Executor.run`` prints the whole program to text at every call, to look up
    the compiled one: 0.35 ms, nearly half a step of 32 rows. Here it is looked up once.
    """

    def __init__(
        self, executor: Any, place: Any, scope: Any, program: Program, feed: Mapping[str, Any]
    ) -> None:
        self._executor = executor
        self._place = place
        self._scope = scope
        self._program = program
        self._compiled: Any = None
        cache = getattr(executor, "_executor_cache", None)
        if paddle.framework.in_pir_mode() and hasattr(cache, "get_pir_program_and_executor"):
            compiled = cache.get_pir_program_and_executor(
                program.main, feed, program.fetches, "feed", "fetch", place, scope, None
            )
            self._compiled = compiled[1]
            self._names = list(feed)
            self._schedule = getattr(compiled[0], "lr_scheduler", None)
            self._rate = getattr(compiled[0], "lr_name", None)

    def run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if self._compiled is None:
            return self._executor.run(
                self._program.main, feed=feed, fetch_list=self._program.fetches
            )
        for name, array in feed.items():
            tensor = paddle.base.core.DenseTensor()
            tensor.set(array, self._place)
            paddle.base.core.set_feed_variable(self._scope, tensor, name, 0)
        if self._schedule is not None:
            rate = np.array([self._schedule()], np.float32)
            self._scope.find_var(self._rate).get_tensor().set(rate, self._place)
        return self._compiled.run(self._names)
