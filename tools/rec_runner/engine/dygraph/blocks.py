"""The eager path for models with the hooks of whole blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Callable

import numpy as np
import paddle

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
from rec_runner.engine.dygraph.contract import DygraphEngine, step_optimizer
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.paddle_api.state import step_seed

# Paddle 2.6 takes only DLPack capsules, not objects that make them.
_SHARES_MEMORY = int(paddle.__version__.split(".")[0]) >= 3


class BlockDygraphEngine(DygraphEngine):
    """Drives a model that has the hooks of whole blocks: nothing waits between two steps."""

    steps_schedule = True
    reads_blocks = True

    def _make_metrics(self) -> None:
        self.metrics = TaskMetrics(call(self.model, "task_names", self.config))

    def train(self, window: Window, step: int) -> Outcome:
        self.net.train()
        losses, odds = [], []
        for index, (features, labels) in enumerate(self._batches(window)):
            paddle.seed(step_seed(self.seed, step + index))
            with foreign(self.model, "loss_and_log_odds"):
                loss, batch_odds = self.model.loss_and_log_odds(
                    self.net, features, labels, self.config
                )
            loss.backward()
            if self.watches_gradients and index == window.batches - 1:
                self.gradient_norms = norms(self._gradients())
            self._apply_gradients()
            losses.append(loss.detach())
            odds.append(batch_odds.detach())
        log_odds = joined_log_odds([paddle.concat(odds, axis=1).numpy()])
        self.metrics.update(window.arrays["labels"], log_odds)
        return Outcome(paddle.stack(losses).numpy(), window.batch_rows, {})

    def start_training(self, steps_per_epoch: int | None) -> None:
        super().start_training(steps_per_epoch)
        self._update: Callable[[], None] | None = None

    def _apply_gradients(self) -> None:
        if self._update is None:
            # The first step is Paddle's own: it makes the optimizer's slots.
            step_optimizer(self.optimizer)
            self._update = direct_update(self.optimizer)
        else:
            self._update()
        schedule = self.schedule()
        if schedule is not None:
            schedule.step()

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        super().set_optimizer_state(state)
        self._update = None

    def _batches(self, window: Window) -> Iterator[tuple[paddle.Tensor, paddle.Tensor]]:
        """Encoded features ``[N, E]`` and labels ``[T, N, 1]`` of each batch."""
        rows, start = as_tensor(window.arrays["features"]), 0
        for stack in step_labels(window.arrays["labels"], window.batch_size):
            batches = as_tensor(stack)
            for index in range(len(stack)):
                yield rows[start : start + window.batch_size], batches[index]
                start += window.batch_size

    def score(self, window: Window) -> Outcome:
        self.net.eval()
        with paddle.no_grad(), foreign(self.model, "loss_and_log_odds"):
            odds = [
                self.model.loss_and_log_odds(self.net, features, labels, self.config)[1].numpy()
                for features, labels in self._batches(window)
            ]
        return count_scores(self.metrics, window, joined_log_odds(odds))

    def encode(self, features: np.ndarray) -> np.ndarray:
        with paddle.no_grad(), foreign(self.model, "encode"):
            return encode_in_pieces(
                features, lambda rows: self.model.encode(self.net, as_tensor(rows)).numpy()
            )


def as_tensor(array: np.ndarray) -> paddle.Tensor:
    """A Tensor that shares the array's memory where device and Paddle allow it, else a copy."""
    shareable = array.flags.c_contiguous and array.flags.writeable
    if _SHARES_MEMORY and shareable and paddle.get_device() == "cpu":
        return paddle.utils.dlpack.from_dlpack(array)
    return paddle.to_tensor(array)


def direct_update(optimizer: paddle.optimizer.Optimizer) -> Callable[[], None]:
    """``step`` and ``clear_grad`` of an optimizer that has stepped once, with less in between.

    Paddle's Python around the update operators costs as much as the operators do when layers are
    small. For Adam and AdamW without clipping the operators are called here directly, with the
    very arguments that ``paddle.optimizer.Adam._append_optimize_op`` gives them; for anything
    else this is ``step`` and ``clear_grad``.
    """

    def whole() -> None:
        step_optimizer(optimizer)

    decoupled = type(optimizer) is paddle.optimizer.AdamW
    plain = type(optimizer) is paddle.optimizer.Adam and optimizer.regularization is None
    known = decoupled or plain
    if not known or optimizer._grad_clip is not None or not hasattr(optimizer, "_amsgrad"):
        return whole

    operator = paddle._C_ops.adamw_ if decoupled else paddle._C_ops.adam_
    decay = (1.0, optimizer._weight_decay, True) if decoupled else ()
    tail = (optimizer._beta1, optimizer._beta2, optimizer._epsilon, *decay)
    tail = (*tail, False, 1000, False, False, False)
    kinds = ("moment1", "moment2", None, "beta1_pow_acc", "beta2_pow_acc")
    slots = []
    for parameter in optimizer._parameter_list:
        if not parameter.trainable:
            continue
        if parameter.name not in optimizer._accumulators["moment1"]:
            return whole  # no gradient has reached it yet; Paddle makes its slots when one does
        found = [kind and optimizer._get_accumulator_master(kind, parameter) for kind in kinds]
        slots.append((parameter, found))

    constant = isinstance(optimizer._learning_rate, float)

    def direct() -> None:
        if not constant:
            optimizer._create_global_learning_rate()
        rate = optimizer._global_learning_rate()
        for parameter, found in slots:
            gradient = parameter.grad
            if gradient is not None:
                operator(parameter, gradient, rate, *found, None, None, *tail)
                parameter.clear_gradient(False)

    return direct
