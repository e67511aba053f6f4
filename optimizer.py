"""Optimizer and learning-rate schedule, as the config's ``hyper_parameters.optimizer`` says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import paddle
from paddle.optimizer import lr

from hyper_parameters import HyperParameters

INFINITE = 3.4e38  # to Paddle, about: gradients that are scaled down to it would be NaN


def make_optimizer(
    config: Mapping[str, Any], parameters: Sequence[paddle.Tensor] | None = None
) -> paddle.optimizer.Optimizer:
    """Build the optimizer.

    Args:
        config: flat config. A schedule other than ``constant`` runs over ``runner.epochs`` and
            needs ``config["steps_per_epoch"]``, which our tools set; PaddleRec's do not, and the
            rate then stays constant.
        parameters: what it trains; None in static mode, where Paddle finds them in the program.
    """
    settings = HyperParameters.from_config(config)
    rate = _learning_rate(config, settings)
    clip = None
    if 0 < settings.grad_clip_norm < INFINITE:
        clip = paddle.nn.ClipGradByGlobalNorm(settings.grad_clip_norm)
    common: dict[str, Any] = {"learning_rate": rate, "parameters": parameters, "grad_clip": clip}
    decay = settings.weight_decay
    if settings.optimizer == "adamw":
        adamw = paddle.optimizer.AdamW(weight_decay=decay, **common)
        adamw.use_multi_tensor = True  # Paddle has the option of Adam only; our tools heed it
        return adamw
    common["weight_decay"] = decay or None
    if settings.optimizer == "adam":
        # One operator for all weights: on a CPU three times as fast as one for each.
        return paddle.optimizer.Adam(use_multi_tensor=True, **common)
    classes = {
        "sgd": paddle.optimizer.SGD,
        "momentum": paddle.optimizer.Momentum,
        "adagrad": paddle.optimizer.Adagrad,
    }
    return classes[settings.optimizer](**common)


def _learning_rate(config: Mapping[str, Any], settings: HyperParameters) -> float | lr.LRScheduler:
    steps = config.get("steps_per_epoch")
    if not steps or (settings.schedule == "constant" and not settings.warmup_epochs):
        return settings.learning_rate
    epochs = config.get("runner.epochs") or 1
    return lr.LambdaDecay(
        settings.learning_rate,
        lambda step: schedule_factor(settings, (step + 0.5) / steps, epochs),
    )


def schedule_factor(settings: HyperParameters, epoch: float, epochs: float) -> float:
    """Share of the highest learning rate that applies at a point of the run.

    Args:
        settings: ``schedule``, ``warmup_epochs``, ``decay_epochs`` and ``decay_rate`` count.
        epoch: epochs done, a fraction included.
        epochs: length of the run in epochs.

    Returns:
        a factor in [0, 1].
    """
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    if settings.schedule == "cosine":
        length = (settings.decay_epochs or epochs) - settings.warmup_epochs
        done = min((epoch - settings.warmup_epochs) / max(length, 1e-9), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * done))
    if settings.schedule == "step":
        return settings.decay_rate ** math.floor(epoch / settings.decay_epochs)
    return 1.0
