"""The multi-task loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor


def multi_task_loss(log_odds: Tensor, labels: Tensor, weights: Sequence[float] = ()) -> Tensor:
    """Weighted sum over tasks of the mean cross-entropy, from log-odds, never from probabilities.

    (``paddle.nn.functional.cross_entropy`` and ``log_softmax`` cap what a row can cost at 64.)

    Args:
        log_odds: float32 ``[T, N, 1]``, see :meth:`net.ShareBottomLayer.log_odds`.
        labels: float32 ``[T, N, 1]``, 0 or 1.
        weights: a weight per task; empty weighs every task 1.

    Returns:
        float32 scalar.
    """
    task_num = log_odds.shape[0]
    if not weights:
        return F.binary_cross_entropy_with_logits(log_odds, labels) * task_num
    entropy = F.binary_cross_entropy_with_logits(log_odds, labels, reduction="none")
    scale = paddle.to_tensor(np.asarray(weights, np.float32).reshape(-1, 1, 1))
    return (entropy * scale).mean() * task_num
