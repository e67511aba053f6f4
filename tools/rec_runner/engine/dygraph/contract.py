"""The eager graph for any model directory, by the contract alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from rec_runner.contract.guard import call, check_returned, foreign
from rec_runner.data.rows import Window
from rec_runner.engine.arrays import norms
from rec_runner.engine.base import Outcome, step_seed
from rec_runner.engine.dygraph.base import DygraphBase
from rec_runner.metrics.model_metrics import ModelMetrics
from rec_runner.system.errors import UserError


class DygraphEngine(DygraphBase):
    """Drives any ``dygraph_model.py`` by the contract alone, a batch at a time."""

    metrics: ModelMetrics

    def _set_up(self) -> None:
        super()._set_up()
        self.metrics = self._new_metrics()

    def _new_metrics(self) -> ModelMetrics:
        made = call(self.model, "create_metrics")
        fits = isinstance(made, (tuple, list)) and len(made) == 2 and len(made[0]) == len(made[1])
        what = "a list of metrics and a list of as many names"
        check_returned(self.model, "create_metrics", made, fits, what)
        return ModelMetrics(*made)

    def train(self, window: Window, step: int) -> Outcome:
        self.net.train()
        paddle.seed(step_seed(self.seed, step))
        returned = call(
            self.model, "train_forward", self.net, self.metrics.metrics, window.arrays, self.config
        )
        loss, metrics, values = self._checked("train_forward", returned, 3)
        fits = isinstance(loss, paddle.Tensor)
        check_returned(self.model, "train_forward", loss, fits, "a Tensor as the loss")
        with foreign(self.model, "train_forward"):
            loss.backward()
            if self.watches_gradients:
                self.gradient_norms = norms(self._gradients())
            self._step_optimizer()
        self.metrics.metrics, self.metrics.last = metrics, values
        losses = loss.detach().numpy().reshape(-1)
        return Outcome(losses.mean(keepdims=True), window.batch_rows, values)

    def score(self, window: Window) -> Outcome | None:
        self.net.eval()
        try:
            metrics, values = self._infer(window, self.metrics.metrics)
        except UserError as error:
            self._leave_out(
                window, error, lambda whole: self._infer(whole, self._new_metrics().metrics)
            )
            return None
        self.metrics.metrics, self.metrics.last = metrics, values
        return Outcome(np.empty(0), window.batch_rows, values)

    def _infer(self, window: Window, metrics: list[Any]) -> tuple[Any, ...]:
        with paddle.no_grad():
            returned = call(
                self.model, "infer_forward", self.net, metrics, window.arrays, self.config
            )
        return self._checked("infer_forward", returned, 2)

    def _checked(self, member: str, returned: Any, size: int) -> tuple[Any, ...]:
        """What ``train_forward`` or ``infer_forward`` returned, which ends in metrics and values.

        Raises:
            UserError: it is something else.
        """
        what = f"a tuple of {size}: {'loss, ' * (size - 2)}metrics_list, print_dict or None"
        fits = isinstance(returned, (tuple, list)) and len(returned) == size
        check_returned(self.model, member, returned, fits, what)
        *rest, metrics, values = returned
        fits = isinstance(metrics, (list, tuple))
        check_returned(self.model, member, metrics, fits, "a list as metrics_list")
        fits = values is None or isinstance(values, Mapping)
        check_returned(self.model, member, values, fits, "a dict or None as print_dict")
        named = {" ".join(str(name).split()): value for name, value in (values or {}).items()}
        return (*rest, list(metrics), named)
