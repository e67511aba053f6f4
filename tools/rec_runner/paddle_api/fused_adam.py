"""Steps of Adam and AdamW with less Python around their update operators.

Private: ``paddle._C_ops`` and attributes of ``paddle.optimizer.Adam`` and ``AdamW`` of a Paddle 3
that has ``amsgrad``; Paddle 2.6 has operators with other arguments and keeps its own step.
"""

from __future__ import annotations

from typing import Any, Callable

import paddle

from rec_runner.paddle_api.slots import step_optimizer

# What the direct update takes as it is; the rest of an optimizer has to be as a plain one's.
_SETTINGS = ("_beta1", "_beta2", "_epsilon")
_FREE = {
    *_SETTINGS,
    *("_learning_rate", "_learning_rate_map", "_parameter_list", "_param_groups", "_default_dict"),
    *("_accumulators", "_accumulators_holder", "_already_create_accumulator", "_opti_name_list"),
    *("_name", "helper", "clear_gradients"),
}
_SLOTS = ("moment1", "moment2", None, "beta1_pow_acc", "beta2_pow_acc")


def direct_update(optimizer: Any) -> Callable[[], None]:
    """``step`` and ``clear_grad`` of an optimizer that has stepped once, with less in between.

    Paddle's Python around the update operators costs as much as the operators do when layers are
    small. For Adam and AdamW, all of whose settings but rate, betas, epsilon and AdamW's decay are
    at their defaults, the operators are called here directly, with the very arguments that
    ``paddle.optimizer.Adam._append_optimize_op`` gives them; for anything else this is ``step`` and
    ``clear_grad``.
    """

    def whole() -> None:
        step_optimizer(optimizer)

    if not _is_plain(optimizer):
        return whole
    decoupled = isinstance(optimizer, paddle.optimizer.AdamW)
    operator: Any = paddle._C_ops.adamw_ if decoupled else paddle._C_ops.adam_
    decay = (1.0, optimizer._weight_decay, True) if decoupled else ()
    tail = (*(getattr(optimizer, name) for name in _SETTINGS), *decay)
    tail = (*tail, False, 1000, False, False, False)
    weights = list(optimizer._parameter_list)

    def settings() -> list[Any]:
        """What a network may change between two steps."""
        own = [(w.stop_gradient, w.optimize_attr["learning_rate"], w.regularizer) for w in weights]
        return [optimizer._grad_clip, getattr(optimizer, "_weight_decay", None), *own]

    seen = settings()
    slots = []
    for parameter in (p for p in weights if not p.stop_gradient):
        if parameter.name not in optimizer._accumulators["moment1"]:
            return whole  # no gradient has reached it yet; Paddle makes its slots when one does
        found = [kind and optimizer._get_accumulator_master(kind, parameter) for kind in _SLOTS]
        slots.append((parameter, found))

    def direct() -> None:
        if settings() != seen:
            return whole()
        if not isinstance(optimizer._learning_rate, float):
            optimizer._create_global_learning_rate()
        rate = optimizer._global_learning_rate()
        for parameter, found in slots:
            gradient = parameter.grad
            if gradient is None:  # Paddle's own step has zeros of the last one that there was
                gradient = paddle.zeros_like(parameter)
            operator(parameter, gradient, rate, *found, None, None, *tail)
            parameter.clear_gradient(False)

    return direct


def _is_plain(optimizer: Any) -> bool:
    """Whether an optimizer has nothing that the direct update does not know."""
    kind = type(optimizer)
    if kind not in (paddle.optimizer.Adam, paddle.optimizer.AdamW):
        return False
    parameters, own = optimizer._parameter_list, vars(optimizer)
    if isinstance(parameters[0], dict) or not all(map(_is_plain_parameter, parameters)):
        return False
    plain = vars(kind(optimizer._learning_rate, parameters=parameters))
    free = _FREE | ({"_weight_decay"} if kind is paddle.optimizer.AdamW else set())
    return (
        "_amsgrad" in own
        and own.keys() == plain.keys()
        and all(isinstance(own[name], (int, float)) for name in _SETTINGS)
        and all(_same(own[name], plain[name]) for name in own.keys() - free)
    )


def _is_plain_parameter(parameter: Any) -> bool:
    """Whether a parameter's own settings are at their defaults."""
    return (
        parameter.optimize_attr == {"learning_rate": 1.0}
        and parameter.regularizer is None
        and getattr(parameter, "main_grad", None) is None
    )


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
