"""The static graph for models with the hooks of whole blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.contract.guard import call, foreign
from rec_runner.contract.hooks import call_hook
from rec_runner.data.rows import Window, take
from rec_runner.engine.arrays import encode_in_pieces, joined_log_odds, norms, step_labels
from rec_runner.engine.base import Outcome, step_seed
from rec_runner.engine.scoring import BlockScoring
from rec_runner.engine.static.base import StaticBase
from rec_runner.engine.static.program import Program, hook_weights
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.paddle_api.constants import keep_constants
from rec_runner.paddle_api.executor import RepeatedRun
from rec_runner.paddle_api.fused_adam import merge_updates
from rec_runner.paddle_api.slots import schedule_of, slot_names, slots_of

SCORING = "scoring."  # before the names of the variables that only scoring has


class BlockStaticEngine(BlockScoring, StaticBase):
    """Drives a model that has the hooks of whole blocks.

    Three programs share the weights: ``encode`` (features to encoded), ``train`` and ``score``
    (encoded features and labels to loss and log-odds). With the hooks that score raw rows
    ``score`` is a program of weights of its own (features to log-odds).
    """

    reads_blocks = True
    metrics: TaskMetrics
    steps_schedule = True

    def _set_up(self) -> None:
        super()._set_up()
        with Program().building(), foreign(self.model, "create_feeds"):
            self._feature_shape = self.model.create_feeds()[0].shape
        self.encode_program = Program()
        with self.encode_program.building():
            features = static.data("features", self._feature_shape, "float32")
            call(self.model, "build_layer", training=False)
            self.encode_program.fetches = [call(self.model, "encode", features)]
        self._encoded_step: RepeatedRun | None = None
        with_weights = self.encode_program
        if not self.scores_rows:
            with_weights = self._encoded_program()
            self._encoded_step = self._repeated(with_weights)
        self._weights = {name: w.name for name, w in self.model.layer.state_dict().items()}
        paddle.seed(self.seed)
        self._run_startup(with_weights)
        self._encode_step = self._repeated(self.encode_program)
        self._scoring: dict[str, tuple[Any, ...]] = {}  # shapes of what score_rows needs

    def _repeated(self, program: Program) -> RepeatedRun:
        return RepeatedRun(self.executor, self.place, self.scope, program)

    def _encoded_program(self) -> Program:
        """The program that scores encoded rows."""
        self.score_program = Program()
        with self.score_program.building():
            self._build_steps(self.score_program, training=False)
        return self.score_program

    def _build_steps(self, program: Program, training: bool) -> Any:
        size = self.encode_program.fetches[0].shape[-1]
        encoded = static.data("encoded", [None, size], "float32")
        labels = static.data("labels", [len(self.metrics.task_names), None, 1], "float32")
        more = {}
        if self.weighs_rows:
            more["weights"] = static.data("weights", [None, 1], "float32")
        call(self.model, "build_layer", training)
        with foreign(self.model, "loss_and_log_odds"):
            program.fetches = list(self.model.loss_and_log_odds(encoded, labels, **more))
        return program.fetches[0]

    def _training_program(self) -> Program:
        self.train_program = Program()
        with self.train_program.building():
            loss = self._build_steps(self.train_program, training=True)
            self.optimizer = call_hook(self.model, "make_optimizer")
            _, pairs = self.optimizer.minimize(loss)
            merge_updates(self.train_program.main, self.optimizer)
            if self.watches_gradients:
                gradients = {weight.name: gradient for weight, gradient in pairs}
                self.train_program.fetch_gradients(gradients, self._weights)
            keep_constants(self.train_program.main, self.train_program.fetches)
        self._train_step = self._repeated(self.train_program)
        return self.train_program

    def train(self, window: Window, step: int) -> Outcome:
        self._weights_taken = False
        schedule = self.schedule()
        losses, odds = [], []
        with foreign(self.model, "loss_and_log_odds"):
            unknown = self._unknown(window)
            for index, feed in enumerate(self._feeds(window)):
                kept = self._keep(unknown[index]) if unknown and unknown[index] else []
                paddle.seed(step_seed(self.seed, step + index))
                loss, batch_odds, *gradients = self._train_step.run(feed)
                self._put_back(kept)
                if schedule is not None:
                    schedule.step()
                losses.append(loss)
                odds.append(batch_odds)
        if gradients:
            self.gradient_norms = norms(dict(zip(self.train_program.gradients, gradients)))
        self._count(window, joined_log_odds(odds))
        return Outcome(np.stack(losses), window.batch_rows, {})

    def schedule(self) -> paddle.optimizer.lr.LRScheduler | None:
        return schedule_of(self.optimizer)

    def _take_weights(self) -> None:
        weights = self._scoring_weights()
        shapes = {name: (*value.shape, value.dtype) for name, value in weights.items()}
        if shapes != self._scoring:
            self._build_scoring(weights)
            self._scoring = shapes
        for name, value in weights.items():
            self._set(SCORING + name, value)

    def _build_scoring(self, weights: Mapping[str, np.ndarray]) -> None:
        program = Program()
        with program.building():
            features = static.data("features", self._feature_shape, "float32")
            variables = hook_weights(weights, SCORING)
            odds = call(self.model, "score_rows", features, variables)
            program.fetches = [odds]
        self._run_startup(program)
        self._row_step = self._repeated(program)

    def _score_rows(self, window: Window) -> np.ndarray:
        rows, size = window.arrays["features"], window.batch_size
        feeds = ({"features": rows[i : i + size]} for i in range(0, window.rows, size))
        with foreign(self.model, "score_rows"):
            return np.concatenate([self._row_step.run(feed)[0] for feed in feeds])

    def _score_encoded(self, window: Window) -> np.ndarray:
        if self._encoded_step is None:  # its weights are there
            self._encoded_step = self._repeated(self._encoded_program())
        with foreign(self.model, "loss_and_log_odds"):
            odds = [self._encoded_step.run(feed)[1] for feed in self._feeds(window)]
        return joined_log_odds(odds)

    def _encode(self, features: np.ndarray) -> np.ndarray:
        def encode(rows: np.ndarray) -> np.ndarray:
            return self._encode_step.run({"features": rows})[0]

        with foreign(self.model, "encode"):
            return encode_in_pieces(features, encode)

    def _slots(self) -> list[str]:
        return slot_names(self.optimizer)

    def _holders(self, name: str) -> list[str]:
        variable = self._weights[name]
        return [variable, *(slot.name for slot in slots_of(self.optimizer, variable))]

    def _read(self, holder: str) -> np.ndarray:
        return self._get(holder)

    def _write(self, holder: str, array: np.ndarray) -> None:
        self._set(holder, array)

    def _feeds(self, window: Window) -> Iterator[dict[str, np.ndarray]]:
        rows = {"encoded": window.arrays["features"]}
        weights = self._row_weights(window)
        if weights is not None:
            rows["weights"] = weights
        starts = range(0, window.rows, window.batch_size)
        batches = chain.from_iterable(step_labels(window.arrays["labels"], window.batch_size))
        for start, labels in zip(starts, batches):
            yield {**take(rows, slice(start, start + window.batch_size)), "labels": labels}
