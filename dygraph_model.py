"""The share-bottom model for the eager (dygraph) tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from hyper_parameters import HyperParameters
from loss import multi_task_loss
from model_hooks import Config, ModelHooks
from net import ShareBottomLayer
from optimizer import make_optimizer

Batch = Sequence[Any]
Metrics = Sequence[paddle.metric.Metric]


class DygraphModel(ModelHooks):
    """PaddleRec's contract first, our tools' optional hooks after it.

    ``batch_data`` is ``[features [N, F], label [N, 1] of each task]``, as
    :class:`census_reader.RecDataset` gives it.
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
        labels = [paddle.to_tensor(label).astype("float32") for label in batch_data[1:]]
        return features, paddle.stack(labels).reshape([len(labels), -1, 1])

    def create_loss(self, log_odds: Tensor, labels: Tensor, config: Config) -> Tensor:
        """Scalar loss from log-odds and labels, both ``[T, N, 1]``."""
        return multi_task_loss(log_odds, labels, self.settings.loss_weights)

    def create_optimizer(self, dy_model: ShareBottomLayer, config: Config) -> Any:
        """The optimizer that the config names."""
        return make_optimizer(config, dy_model.parameters())

    def create_metrics(self) -> tuple[list[paddle.metric.Metric], list[str]]:
        """An AUC per task; our own tools use their exact one instead."""
        names = self.settings.task_names
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
        loss, log_odds = self.loss_and_log_odds(dy_model, encoded, labels, config)
        _update(metrics_list, log_odds, labels)
        return loss, metrics_list, {"loss": loss}

    def infer_forward(
        self, dy_model: ShareBottomLayer, metrics_list: Metrics, batch_data: Batch, config: Config
    ) -> tuple[Metrics, None]:
        """The metrics are updated."""
        features, labels = self.create_feeds(batch_data, config)
        _update(metrics_list, dy_model.log_odds(dy_model.encoding(features)), labels)
        return metrics_list, None

    def encode(self, dy_model: ShareBottomLayer, features: Tensor) -> Tensor:
        """Hook: what no training step changes, done once for many batches."""
        return dy_model.encoding(features)

    def loss_and_log_odds(
        self, dy_model: ShareBottomLayer, encoded: Tensor, labels: Tensor, config: Config
    ) -> tuple[Tensor, Tensor]:
        """Hook: scalar loss, and log-odds of class 1 ``[T, N, 1]``.

        ``encoded`` is float32 ``[N, E]``, ``labels`` float32 ``[T, N, 1]``.
        """
        log_odds = dy_model.log_odds(encoded)
        return self.create_loss(log_odds, labels, config), log_odds

    def _adapt_itself(self, dy_model: ShareBottomLayer, config: Config) -> None:
        state = dy_model.state_dict()
        mean = state.get("encoding.mean")
        if mean is not None and not mean.numpy().any():  # none came with loaded weights
            for name, value in self._adapted(config).items():
                state[name].set_value(value)


def _update(metrics: Metrics, log_odds: Tensor, labels: Tensor) -> None:
    positive = F.sigmoid(log_odds).numpy()
    probabilities = np.concatenate([1 - positive, positive], axis=-1)
    for metric, prediction, label in zip(metrics, probabilities, labels.numpy().astype(np.int64)):
        metric.update(prediction, label)
