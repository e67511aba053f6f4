"""The static-graph path for models with the hooks of whole blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.contract.guard import call, foreign
from rec_runner.data.rows import Window
from rec_runner.engine.base import (
    Outcome,
    count_scores,
    encode_in_pieces,
    joined_log_odds,
    norms,
    step_labels,
)
from rec_runner.engine.static.contract import Program, StaticEngine
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.paddle_api.state import rename_slots, step_seed


class BlockStaticEngine(StaticEngine):
    """Drives a model that has the hooks of whole blocks.

    Three programs share the weights: ``encode`` (features to encoded), ``train`` and ``score``
    (encoded features and labels to loss and log-odds).
    """

    steps_schedule = True
    reads_blocks = True

    def _prepare(self) -> None:
        self.metrics = TaskMetrics(call(self.model, "task_names", self.config))
        with Program().building(), foreign(self.model, "create_feeds"):
            feature_shape = self.model.create_feeds()[0].shape
        self.encode_program = Program()
        with self.encode_program.building():
            features = static.data("features", feature_shape, "float32")
            with foreign(self.model, "encode"):
                self.model.build_layer(training=False)
                self.encode_program.fetches = [self.model.encode(features)]
        self.score_program = Program()
        with self.score_program.building():
            self._build_steps(self.score_program, training=False)
        self._weights = {name: w.name for name, w in self.model.layer.state_dict().items()}
        paddle.seed(self.seed)
        self._run_startup(self.score_program)
        self._encode_step = self._repeated(self.encode_program)
        self._score_step = self._repeated(self.score_program)

    def _repeated(self, program: Program) -> RepeatedRun:
        return RepeatedRun(self.executor, self.place, self.scope, program)

    def _build_steps(self, program: Program, training: bool) -> Any:
        size = self.encode_program.fetches[0].shape[-1]
        encoded = static.data("encoded", [None, size], "float32")
        labels = static.data("labels", [len(self.metrics.task_names), None, 1], "float32")
        with foreign(self.model, "loss_and_log_odds"):
            self.model.build_layer(training)
            program.fetches = list(self.model.loss_and_log_odds(encoded, labels))
        return program.fetches[0]

    def _build_training(self) -> None:
        self.train_program = Program()
        with self.train_program.building():
            loss = self._build_steps(self.train_program, training=True)
            with foreign(self.model, "make_optimizer"):
                self.optimizer = self.model.make_optimizer()
            _, pairs = self.optimizer.minimize(loss)
        if self.watches_gradients:
            gradients = {weight.name: gradient for weight, gradient in pairs}
            self.train_program.fetch_gradients(gradients, self._weights)
        self._train_step = self._repeated(self.train_program)

    def train(self, window: Window, step: int) -> Outcome:
        schedule = self.schedule()
        losses, odds = [], []
        for index, feed in enumerate(_feeds(window)):
            paddle.seed(step_seed(self.seed, step + index))
            loss, batch_odds, *gradients = self._train_step.run(feed)
            if schedule is not None:
                schedule.step()
            losses.append(loss)
            odds.append(batch_odds)
        if gradients:
            self.gradient_norms = norms(dict(zip(self.train_program.gradients, gradients)))
        self.metrics.update(window.arrays["labels"], joined_log_odds(odds))
        return Outcome(np.stack(losses), window.batch_rows, {})

    def schedule(self) -> paddle.optimizer.lr.LRScheduler | None:
        rate = self.optimizer._learning_rate
        return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None

    def score(self, window: Window) -> Outcome:
        odds = [self._score_step.run(feed)[1] for feed in _feeds(window)]
        return count_scores(self.metrics, window, joined_log_odds(odds))

    def encode(self, features: np.ndarray) -> np.ndarray:
        return encode_in_pieces(features, lambda rows: self._encode_step.run({"features": rows})[0])

    def optimizer_state(self) -> dict[str, Any]:
        names = {variable: name for name, variable in self._weights.items()}
        slots = rename_slots({name: self._get(name) for name in self._slots()}, names, "_", "/")
        schedule = self.schedule()
        return {**slots, "schedule": schedule.state_dict()} if schedule else slots

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        slots = {key: value for key, value in state.items() if key != "schedule"}
        self._set_slots(slots, self._slots())
        schedule = self.schedule()
        if schedule is not None:
            schedule.set_state_dict(state["schedule"])

    def _slots(self) -> list[str]:
        return [
            variable.name
            for slots in self.optimizer._accumulators.values()
            for variable in slots.values()
        ]


def _feeds(window: Window) -> Iterator[dict[str, np.ndarray]]:
    features, labels = window.arrays["features"], window.arrays["labels"]
    starts = range(0, window.rows, window.batch_size)
    batches = chain.from_iterable(step_labels(labels, window.batch_size))
    for start, batch_labels in zip(starts, batches):
        yield {"encoded": features[start : start + window.batch_size], "labels": batch_labels}


class RepeatedRun:
    """One program, run again and again without what ``Executor.run`` repeats each time.

    Under Paddle 3 ``Executor.run`` prints the whole program to text at every call, to look up
    the compiled one: 0.35 ms, nearly half a step of 32 rows. Here it is looked up once.

    Args:
        executor: runs the program where this Paddle has no compiled one to look up.
        place: where feeds go.
        scope: holds the weights.
        program: what to run.
    """

    def __init__(self, executor: Any, place: Any, scope: Any, program: Program) -> None:
        self._executor = executor
        self._place = place
        self._scope = scope
        self._program = program
        self._compiled: Any = None

    def run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Feed arrays by name; the program's fetches come back."""
        with static.scope_guard(self._scope):
            if self._compiled is None and not self._look_up(feed):
                return self._executor.run(
                    self._program.main, feed=dict(feed), fetch_list=self._program.fetches
                )
            for name, array in feed.items():
                tensor = paddle.base.core.DenseTensor()
                tensor.set(np.ascontiguousarray(array), self._place, self._zero_copy)
                paddle.base.core.set_feed_variable(self._scope, tensor, name, 0)
            if self._schedule is not None:
                rate = np.array([self._schedule()], np.float32)
                self._scope.find_var(self._rate).get_tensor().set(rate, self._place)
            return self._compiled.run(self._names)

    def _look_up(self, feed: Mapping[str, np.ndarray]) -> bool:
        cache = getattr(self._executor, "_executor_cache", None)
        if not paddle.framework.in_pir_mode() or not hasattr(cache, "get_pir_program_and_executor"):
            return False
        main, self._compiled, _ = cache.get_pir_program_and_executor(
            self._program.main,
            dict(feed),
            self._program.fetches,
            "feed",
            "fetch",
            self._place,
            self._scope,
            None,
        )
        self._names = list(feed)
        self._zero_copy = isinstance(self._place, paddle.CPUPlace)
        self._schedule = getattr(main, "lr_scheduler", None)
        self._rate = getattr(main, "lr_name", None)
        return True
