"""The share-bottom model for the static-graph tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F

from hyper_parameters import HyperParameters
from input_encoding import Statistics
from loss import multi_task_loss
from model_hooks import Config, ModelHooks
from net import ShareBottomLayer
from optimizer import make_optimizer

Variable = Any  # paddle.static.Variable, or pir.Value under Paddle 3


class StaticModel(ModelHooks):
    """PaddleRec's contract first, our tools' optional hooks after it.

    Args:
        config: flat config.

    Attributes:
        layer: the network, once it has been built into the current program. Hook: tools read
            the names of a checkpoint from it.
    """

    layer: ShareBottomLayer

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = HyperParameters.from_config(config)
        self._loss: Variable = None

    def create_feeds(self, is_infer: bool = False) -> list[Variable]:
        """``[features [N, F], label [N, 1] of each task]``, in reader order."""
        features = paddle.static.data("features", [None, self.settings.feature_size], "float32")
        labels = [
            paddle.static.data(f"label_{name}", [None, 1], "int64")
            for name in self.settings.task_names
        ]
        return [features, *labels]

    def net(self, inputs: Sequence[Variable], is_infer: bool = False) -> dict[str, Variable]:
        """Loss and each task's AUC; in inference the probabilities of class 1 too.

        In Paddle 3's new program representation ``paddle.static.auc`` forgets earlier batches: a
        tool that prints what it fetches then prints the AUC of a batch; ours count all rows.
        """
        self.build_layer(not is_infer, None if is_infer else self._adapted(self.config))
        labels = paddle.stack([label.astype("float32") for label in inputs[1:]])
        self._loss, log_odds = self.loss_and_log_odds(self.encode(inputs[0]), labels)
        # Paddle 3.3's sigmoid refuses the variables of the old program representation.
        both = F.softmax(paddle.concat([paddle.zeros_like(log_odds), log_odds], axis=-1))
        probabilities = paddle.unbind(both, axis=0)
        fetches = {"cost": self._loss}
        for name, prediction, label in zip(self.settings.task_names, probabilities, inputs[1:]):
            fetches[f"auc_{name}"] = paddle.static.auc(prediction, label)[0]
            if is_infer:
                fetches[f"probability_{name}"] = prediction[:, 1]
        return fetches

    def infer_net(self, inputs: Sequence[Variable]) -> dict[str, Variable]:
        """As :meth:`net`, for inference."""
        return self.net(inputs, is_infer=True)

    def create_optimizer(self, strategy: Any = None) -> None:
        """Append the backward pass and the update of the loss that :meth:`net` left."""
        optimizer = self.make_optimizer()
        if strategy is not None:
            optimizer = paddle.distributed.fleet.distributed_optimizer(optimizer, strategy)
        optimizer.minimize(self._loss)

    def build_layer(self, training: bool, statistics: Statistics | None = None) -> ShareBottomLayer:
        """Hook: put the network's parameters into the current program."""
        self.layer = ShareBottomLayer.from_settings(self.settings, statistics)
        self.layer.train() if training else self.layer.eval()
        return self.layer

    def make_optimizer(self) -> paddle.optimizer.Optimizer:
        """Hook: the optimizer, not yet applied to a loss."""
        return make_optimizer(self.config)

    def encode(self, features: Variable) -> Variable:
        """Hook: what no training step changes, done once for many batches."""
        return self.layer.encoding(features)

    def loss_and_log_odds(self, encoded: Variable, labels: Variable) -> tuple[Variable, Variable]:
        """Hook: scalar loss, and log-odds of class 1 ``[T, N, 1]``; labels are alike."""
        log_odds = self.layer.log_odds(encoded)
        return multi_task_loss(log_odds, labels, self.settings.loss_weights), log_odds
