"""The share-bottom model for the static-graph tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F

from hyper_parameters import HyperParameters
from input_encoding import Statistics
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
        """``[features [N, F], label [N, 1] of each task]``, in reader order.

        And the weights of the rows ``[N, 1]``, where they have some.
        """
        features = paddle.static.data("features", [None, self.settings.feature_size], "float32")
        kind = "float32" if self._labels_may_be_other() else "int64"
        names = [f"label_{name}" for name in self.settings.task_names]
        feeds = [features, *(paddle.static.data(name, [None, 1], kind) for name in names)]
        if self.settings.weighs_rows:
            feeds.append(paddle.static.data("weight", [None, 1], "float32"))
        return feeds

    def net(self, inputs: Sequence[Variable], is_infer: bool = False) -> dict[str, Variable]:
        """Loss and each binary task's AUC; in inference what is predicted too.

        That is ``probability_<task>`` of class 1, or ``prediction_<task>`` of a regression task.

        In Paddle 3's new program representation ``paddle.static.auc`` forgets earlier batches: a
        tool that prints what it fetches then prints the AUC of a batch; ours count all rows.
        """
        self.build_layer(not is_infer, None if is_infer else self._adapted(self.config))
        settings = self.settings
        columns = inputs[1 : 1 + settings.task_num]
        labels = paddle.stack([label.astype("float32") for label in columns])
        weights = inputs[-1] if settings.weighs_rows else None
        encoded = self.encode(inputs[0])
        self._loss, predicted = self.loss_and_log_odds(encoded, labels, weights)
        # Paddle 3.3's sigmoid refuses the variables of the old program representation.
        both = F.softmax(paddle.concat([paddle.zeros_like(predicted), predicted], axis=-1))
        probabilities = paddle.unbind(both, axis=0)
        fetches = {"cost": self._loss}
        for task, name in enumerate(settings.task_names):
            if settings.regression[task]:
                if is_infer:
                    fetches[f"prediction_{name}"] = predicted[task, :, 0]
                continue
            fetches[f"auc_{name}"] = self._auc(probabilities[task], columns[task])
            if is_infer:
                fetches[f"probability_{name}"] = probabilities[task][:, 1]
        return fetches

    def _auc(self, probabilities: Variable, label: Variable) -> Variable:
        """AUC of the rows whose label is known.

        The operator takes no empty batch: of one without a known label it gets all, to be left out.
        """
        if not self._labels_may_be_other():
            return paddle.static.auc(probabilities, label)[0]
        known = label == label
        some = known.astype("float32").max().reshape([1, 1])
        rows = paddle.nonzero(known.astype("float32")[:, 0] >= some[0])[:, 0]
        label = paddle.where(known, label, paddle.zeros_like(label))
        label = paddle.gather(label, rows).astype("int64")
        return paddle.static.auc(paddle.gather(probabilities, rows), label, ins_tag_weight=some)[0]

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

    def loss_and_log_odds(
        self, encoded: Variable, labels: Variable, weights: Variable = None
    ) -> tuple[Variable, Variable]:
        """Hook: scalar loss, and log-odds of class 1 ``[T, N, 1]``, or numbers of a regression.

        ``labels`` are ``[T, N, 1]`` too, ``weights`` ``[N, 1]``.
        """
        log_odds = self.layer.log_odds(encoded)
        loss, target = self._loss_of(self.layer, log_odds, labels, weights), self.layer.target
        return loss, log_odds if target is None else target.prediction(log_odds)
