"""The multi-task loss, and the scale on which a network predicts numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class RegressionTarget(nn.Layer):
    """Between a number's own unit and the scale on which it is learnt; untrained.

    The network's log-odds stand for the standardised number in a regression task.

    Args:
        regression: whether each task is one.
        statistics: ``target.mean`` and ``target.std`` ``[T]`` of the known training labels, 0 and 1
            for a binary task and where they are left out.
    """

    def __init__(
        self, regression: Sequence[bool], statistics: Mapping[str, np.ndarray] | None = None
    ) -> None:
        super().__init__()
        self.is_regression = np.asarray(regression, np.bool_).reshape(-1, 1, 1)
        start = {**neutral_target(len(regression)), **(statistics or {})}
        self.mean, self.std = (
            self.create_parameter(
                [len(regression)],
                attr=paddle.ParamAttr(trainable=False),
                default_initializer=nn.initializer.Assign(start[f"target.{name}"]),
            )
            for name in ("mean", "std")
        )

    def standard(self, labels: Tensor) -> Tensor:
        """Labels ``[T, N, 1]`` as they are learnt."""
        return (labels - self.mean.reshape([-1, 1, 1])) / self.std.reshape([-1, 1, 1])

    def prediction(self, log_odds: Tensor) -> Tensor:
        """Log-odds ``[T, N, 1]``; of a regression task the number in its own unit."""
        return log_odds * self.std.reshape([-1, 1, 1]) + self.mean.reshape([-1, 1, 1])


def neutral_target(task_num: int) -> dict[str, np.ndarray]:
    """Statistics that leave labels as they are, entries of the network's state dict."""
    shape = (task_num,)
    return {"target.mean": np.zeros(shape, np.float32), "target.std": np.ones(shape, np.float32)}


def multi_task_loss(
    log_odds: Tensor,
    labels: Tensor,
    weights: Sequence[float] = (),
    *,
    masked: bool = False,
    rows: Tensor | None = None,
    positive_weight: Sequence[float] = (),
    target: RegressionTarget | None = None,
) -> Tensor:
    """Weighted sum over tasks of the mean loss of their known labels.

    Of a binary task it is the cross-entropy, from log-odds, never from probabilities
    (``paddle.nn.functional.cross_entropy`` and ``log_softmax`` cap what a row can cost at 64); of
    a regression task the squared error on the standardised label.

    Args:
        log_odds: float32 ``[T, N, 1]``, see :meth:`net.ShareBottomLayer.log_odds`.
        labels: float32 ``[T, N, 1]``, 0 or 1, or the number of a regression task.
        weights: a weight per task; empty weighs every task 1.
        masked: labels may be NaN, not known; a task without a known one costs 0.
        rows: float32 ``[N, 1]``, the weight of each row; none weighs every row 1.
        positive_weight: factor of the loss of a positive row, per task; empty is 1 for all.
        target: which tasks are regression tasks, and their scale; none are where left out.

    Returns:
        float32 scalar.
    """
    task_num = log_odds.shape[0]
    if masked or rows is not None or positive_weight or target is not None:
        each = _mean_losses(log_odds, labels, masked, rows, positive_weight, target)
        return (each * _per_task(weights) if weights else each).mean() * task_num
    if not weights:
        return F.binary_cross_entropy_with_logits(log_odds, labels) * task_num
    entropy = F.binary_cross_entropy_with_logits(log_odds, labels, reduction="none")
    return (entropy * _per_task(weights)).mean() * task_num


def _per_task(values: Sequence[float]) -> Tensor:
    return paddle.to_tensor(np.asarray(values, np.float32).reshape(-1, 1, 1))


def _mean_losses(
    log_odds: Tensor,
    labels: Tensor,
    masked: bool,
    rows: Tensor | None,
    positive_weight: Sequence[float],
    target: RegressionTarget | None,
) -> Tensor:
    """Loss of each task ``[T, 1, 1]``.

    What is not known is replaced before any arithmetic: 0 times NaN is NaN, in a gradient too. A
    quotient of means is that of sums, which Paddle 3.3 refuses in its old program representation,
    as it does ``isnan``.
    """
    counts = paddle.ones_like(labels) if rows is None else paddle.ones_like(labels) * rows
    zeros = paddle.zeros_like(labels)
    known = labels == labels if masked else None
    number = None if target is None else paddle.to_tensor(target.is_regression)
    truth = labels if number is None else paddle.where(number, zeros, labels)
    if known is not None:
        truth = paddle.where(known, truth, zeros)
        counts = counts * known.astype(labels.dtype)
    loss = F.binary_cross_entropy_with_logits(log_odds, truth, reduction="none")
    if positive_weight:
        loss = loss * (1.0 + truth * (_per_task(positive_weight) - 1.0))
    if target is not None:
        seen = number if known is None else known & number
        distance = paddle.where(seen, log_odds - target.standard(labels), zeros)
        loss = paddle.where(number, distance * distance, loss)
    total = counts.mean(axis=1, keepdim=True)
    total = paddle.where(total > 0, total, paddle.ones_like(total))
    return (loss * counts).mean(axis=1, keepdim=True) / total
