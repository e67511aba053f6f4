"""The eager graph for models with the hooks of whole blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Callable

import numpy as np
import paddle

from rec_runner.contract.guard import foreign
from rec_runner.data.rows import Window
from rec_runner.engine.arrays import encode_in_pieces, joined_log_odds, norms, step_labels
from rec_runner.engine.base import Outcome, step_seed
from rec_runner.engine.dygraph.base import DygraphBase
from rec_runner.engine.labels import Kept
from rec_runner.engine.scoring import BlockScoring
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.paddle_api.device import as_tensor
from rec_runner.paddle_api.fused_adam import direct_update, whole_step
from rec_runner.paddle_api.slots import slots_of


class BlockDygraphEngine(BlockScoring, DygraphBase):
    """Drives a model that has the hooks of whole blocks: nothing waits between two steps."""

    reads_blocks = True
    metrics: TaskMetrics
    steps_schedule = True

    def train(self, window: Window, step: int) -> Outcome:
        self._weights_taken = False
        self.net.train()
        losses, odds = [], []
        with foreign(self.model, "loss_and_log_odds"):
            unknown = self._unknown(window)
            for index, (features, labels, weights) in enumerate(self._batches(window)):
                paddle.seed(step_seed(self.seed, step + index))
                loss, batch_odds = self.model.loss_and_log_odds(
                    self.net, features, labels, self.config, **weights
                )
                loss.backward()
                if self.watches_gradients and index == window.batches - 1:
                    self.gradient_norms = norms(self._gradients())
                self._apply_gradients(unknown[index] if unknown else ())
                losses.append(loss.detach())
                odds.append(batch_odds.detach())
        log_odds = joined_log_odds([paddle.concat(odds, axis=1).numpy()])
        self._count(window, log_odds)
        return Outcome(paddle.stack(losses).numpy(), window.batch_rows, {})

    def start_training(self, steps_per_epoch: int | None) -> None:
        super().start_training(steps_per_epoch)
        self._update: Callable[[], None] | None = None

    def _apply_gradients(self, unknown: Sequence[int] = ()) -> None:
        """A step, which leaves alone what is of tasks alone of which the batch tells nothing."""
        kept = self._keep(unknown) if unknown else []
        self._step()
        self._put_back(kept)
        schedule = self.schedule()
        if schedule is not None:
            schedule.step()

    def _step(self) -> None:
        if self._update is None:
            # The first step is Paddle's own: it makes the optimizer's slots.
            self._step_optimizer(whole_step)
            self._update = direct_update(self.optimizer)
        else:
            self._update()

    def _keep(self, tasks: Sequence[int]) -> Kept:
        if self._update is None:  # there are no slots yet
            self._make_slots()
        return super()._keep(tasks)

    def _holders(self, name: str) -> list[paddle.Tensor]:
        weight = self._tensors[name]
        return [weight, *slots_of(self.optimizer, weight.name)]

    @cached_property
    def _tensors(self) -> Mapping[str, paddle.Tensor]:
        return self.net.state_dict()

    def _read(self, holder: paddle.Tensor) -> np.ndarray:
        return holder.numpy()

    def _write(self, holder: paddle.Tensor, array: np.ndarray) -> None:
        holder.set_value(array)

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        super().set_optimizer_state(state)
        self._update = None

    def _batches(
        self, window: Window
    ) -> Iterator[tuple[paddle.Tensor, paddle.Tensor, dict[str, paddle.Tensor]]]:
        """Encoded features ``[N, E]`` and labels ``[T, N, 1]`` of each batch.

        And by name what else ``loss_and_log_odds`` takes: ``weights`` ``[N, 1]``, or nothing.
        """
        rows, start = as_tensor(window.arrays["features"]), 0
        weights = self._row_weights(window)
        more = {} if weights is None else {"weights": as_tensor(weights)}
        for stack in step_labels(window.arrays["labels"], window.batch_size):
            for labels in paddle.unbind(as_tensor(stack)):
                batch = slice(start, start + window.batch_size)
                yield rows[batch], labels, {name: array[batch] for name, array in more.items()}
                start += window.batch_size

    def _take_weights(self) -> None:
        weights = self._scoring_weights()
        self._scoring = {name: as_tensor(value) for name, value in weights.items()}

    def _score_rows(self, window: Window) -> np.ndarray:
        rows, size = as_tensor(window.arrays["features"]), window.batch_size
        batches = (rows[start : start + size] for start in range(0, window.rows, size))
        with paddle.no_grad(), foreign(self.model, "score_rows"):
            odds = [self.model.score_rows(batch, self._scoring).numpy() for batch in batches]
            return np.concatenate(odds)

    def _score_encoded(self, window: Window) -> np.ndarray:
        self.net.eval()
        with paddle.no_grad(), foreign(self.model, "loss_and_log_odds"):
            odds = [
                self.model.loss_and_log_odds(self.net, *batch, self.config, **weights)[1].numpy()
                for *batch, weights in self._batches(window)
            ]
        return joined_log_odds(odds)

    def _encode(self, features: np.ndarray) -> np.ndarray:
        with paddle.no_grad(), foreign(self.model, "encode"):
            return encode_in_pieces(
                features, lambda rows: self.model.encode(self.net, as_tensor(rows)).numpy()
            )
