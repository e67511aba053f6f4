"""The eager path for models with the hooks of whole blocks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import paddle

from rec_runner.dygraph_engine import DygraphEngine
from rec_runner.engine import Outcome, log_odds, step_labels
from rec_runner.paddle_state import step_seed
from rec_runner.window import Window


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
