"""The share-bottom model for the eager (dygraph) tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from hyper_parameters import HyperParameters
from model_hooks import Config, ModelHooks
from net import ShareBottomLayer
from optimizer import make_optimizer

Batch = Sequence[Any]
Metrics = Sequence[paddle.metric.Metric]


class DygraphModel(ModelHooks):
    """PaddleRec's contract first, our tools' optional hooks after it.

    ``batch_data`` is ``[features [N, F], label [N, 1] of each task]``, and the weights of the rows
    ``[N, 1]`` where they have some, as the readers' ``RecDataset`` gives it.
    """

    def create_model(self, config: Config) -> ShareBottomLayer:
        """The network; the other methods rely on this call having come first."""
        self.settings = HyperParameters.from_config(config)
        network = ShareBottomLayer.from_settings(self.settings)
        network.untrained = True  # train_forward asks
        return network

    def create_feeds(self, batch_data: Batch, config: Config) -> tuple[Tensor, Tensor]:
        """``(features float32 [N, F], labels float32 [T, N, 1])``."""
        features = paddle.to_tensor(batch_data[0], dtype="float32")
        columns = batch_data[1 : 1 + self.settings.task_num]
        labels = [paddle.to_tensor(label).astype("float32") for label in columns]
        return features, paddle.stack(labels).reshape([len(labels), -1, 1])

    def create_optimizer(self, dy_model: ShareBottomLayer, config: Config) -> Any:
        """The optimizer that the config names."""
        return make_optimizer(config, dy_model.parameters())

    def create_metrics(self) -> tuple[list[paddle.metric.Metric], list[str]]:
        """An AUC per binary task; our own tools use their exact metrics instead."""
        tasks = zip(self.settings.task_names, self.settings.regression)
        names = [name for name, is_regression in tasks if not is_regression]
        return [paddle.metric.Auc("ROC") for _ in names], [f"auc_{name}" for name in names]

    def train_forward(
        self, dy_model: ShareBottomLayer, metrics_list: Metrics, batch_data: Batch, config: Config
    ) -> tuple[Tensor, Metrics, dict[str, Tensor]]:
        """Loss of a batch; the metrics are updated.

        Tools that call this know no hook ``adapt``: a network without input statistics learns
        them before its first batch.
        """
        if getattr(dy_model, "untrained", False):
            dy_model.untrained = False
            self._adapt_itself(dy_model, config)
        features, labels = self.create_feeds(batch_data, config)
        encoded = self.encode(dy_model, features)
        weights = _weights(batch_data) if self.settings.weighs_rows else None
        loss, log_odds = self.loss_and_log_odds(dy_model, encoded, labels, config, weights)
        self._update(metrics_list, log_odds, labels)
        return loss, metrics_list, {"loss": loss}

    def infer_forward(
        self, dy_model: ShareBottomLayer, metrics_list: Metrics, batch_data: Batch, config: Config
    ) -> tuple[Metrics, None]:
        """The metrics are updated."""
        features, labels = self.create_feeds(batch_data, config)
        self._update(metrics_list, dy_model.log_odds(dy_model.encoding(features)), labels)
        return metrics_list, None

    def encode(self, dy_model: ShareBottomLayer, features: Tensor) -> Tensor:
        """Hook: what no training step changes, done once for many batches."""
        return dy_model.encoding(features)

    def loss_and_log_odds(
        self,
        dy_model: ShareBottomLayer,
        encoded: Tensor,
        labels: Tensor,
        config: Config,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hook: scalar loss, and log-odds of class 1 ``[T, N, 1]``, or numbers of a regression.

        ``encoded`` is float32 ``[N, E]``, ``labels`` float32 ``[T, N, 1]``, ``weights`` float32
        ``[N, 1]``.
        """
        log_odds = dy_model.log_odds(encoded)
        loss = self._loss_of(dy_model, log_odds, labels, weights)
        return loss, log_odds if dy_model.target is None else dy_model.target.prediction(log_odds)

    def _adapt_itself(self, dy_model: ShareBottomLayer, config: Config) -> None:
        state = dy_model.state_dict()
        learnt = ("encoding.mean", "encoding.fill", "target.mean")
        known = [state[name] for name in learnt if name in state]
        if known and not any(value.numpy().any() for value in known):  # none came with weights
            for name, value in self._adapted(config).items():
                state[name].set_value(value)

    def _update(self, metrics: Metrics, log_odds: Tensor, labels: Tensor) -> None:
        """Count the known labels of each binary task."""
        positive = F.sigmoid(log_odds).numpy()
        probabilities = np.concatenate([1 - positive, positive], axis=-1)
        binary = ~np.asarray(self.settings.regression)
        rows = zip(metrics, probabilities[binary], labels.numpy()[binary])
        for metric, prediction, label in rows:
            known = ~np.isnan(label[:, 0])
            if known.any():
                metric.update(prediction[known], label[known].astype(np.int64))


def _weights(batch_data: Batch) -> Tensor:
    return paddle.to_tensor(batch_data[-1]).astype("float32").reshape([-1, 1])
