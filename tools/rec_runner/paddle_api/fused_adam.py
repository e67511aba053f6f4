"""Steps of Adam and AdamW with less around their update operators.

With ``use_multi_tensor=True`` Adam updates all weights by one operator, ``merged_adam_``, which is
three times as fast on a CPU as ``adam_`` for each; their numbers differ in the last digit. Paddle
heeds it in the eager graph only.

Private: ``paddle._C_ops``, operators of Paddle 3's programs, and attributes of
``paddle.optimizer.Adam`` and ``AdamW`` of a Paddle 3 that has ``amsgrad``; Paddle 2.6 has operators
with other arguments and keeps its own step.
"""

from __future__ import annotations

from typing import Any, Callable

import paddle

from rec_runner.paddle_api.representation import in_new_representation
from rec_runner.paddle_api.slots import step_optimizer

# What the direct update takes as it is; the rest of an optimizer has to be as a plain one's.
_SETTINGS = ("_beta1", "_beta2", "_epsilon")
_FREE = {
    *_SETTINGS,
    *("_learning_rate", "_learning_rate_map", "_parameter_list", "_param_groups", "_default_dict"),
    *("_accumulators", "_accumulators_holder", "_already_create_accumulator", "_opti_name_list"),
    *("_name", "helper", "clear_gradients"),
    # Of use_multi_tensor: what it updates, by type.
    *("_param_dict", "_master_weight_dict", "_moment1_dict", "_moment2_dict"),
    *("_beta1_pow_acc_dict", "_beta2_pow_acc_dict"),
}
_SLOTS = ("moment1", "moment2", None, "beta1_pow_acc", "beta2_pow_acc")  # None: of amsgrad


def direct_update(optimizer: Any) -> Callable[[], None]:
    """``step`` and ``clear_grad`` of an optimizer that has stepped once, with less in between.

    Paddle's Python around the update operators costs as much as the operators do when layers are
    small. For Adam and AdamW, all of whose settings but rate, betas, epsilon, AdamW's decay and
    ``use_multi_tensor`` are at their defaults, the operators are called here directly, with the
    very arguments that ``paddle.optimizer.Adam`` gives them; for anything else this is ``step``
    and ``clear_grad``.
    """

    def whole() -> None:
        step_optimizer(optimizer)

    if not _is_plain(optimizer):
        return whole
    weights = list(optimizer._parameter_list)
    trained = [weight for weight in weights if not weight.stop_gradient]
    if any(weight.name not in optimizer._accumulators["moment1"] for weight in trained):
        return whole  # no gradient has reached it yet; Paddle makes its slots when one does
    merges = optimizer._use_multi_tensor and _same_weights(optimizer, trained)
    update = (_merged if merges else _one_by_one)(optimizer, trained)

    def settings() -> list[Any]:
        """What a network may change between two steps."""
        own = [(w.stop_gradient, w.optimize_attr["learning_rate"], w.regularizer) for w in weights]
        return [optimizer._grad_clip, getattr(optimizer, "_weight_decay", None), *own]

    seen = settings()

    def direct() -> None:
        if settings() != seen:
            return whole()
        if not isinstance(optimizer._learning_rate, float):
            optimizer._create_global_learning_rate()
        update(optimizer._global_learning_rate())
        for weight in trained:
            weight.clear_gradient(False)

    return direct


def _one_by_one(optimizer: Any, weights: list[Any]) -> Callable[[Any], None]:
    """An update of each weight by an operator of its own, given the learning rate."""
    decoupled = isinstance(optimizer, paddle.optimizer.AdamW)
    operator: Any = paddle._C_ops.adamw_ if decoupled else paddle._C_ops.adam_
    decay = (1.0, optimizer._weight_decay, True) if decoupled else ()
    betas = [getattr(optimizer, name) for name in _SETTINGS]
    tail = (*betas, *decay, False, 1000, False, False, False)
    slots = [
        [kind and optimizer._get_accumulator_master(kind, weight) for kind in _SLOTS]
        for weight in weights
    ]

    def update(rate: Any) -> None:
        for weight, found in zip(weights, slots):
            operator(weight, _gradient(weight), rate, *found, None, None, *tail)

    return update


def _merged(optimizer: Any, weights: list[Any]) -> Callable[[Any], None]:
    """An update of all weights by one operator, given the learning rate."""
    slots = [kind and _held(optimizer, kind) for kind in _SLOTS]
    betas = [getattr(optimizer, name) for name in _SETTINGS]

    def update(rate: Any) -> None:
        head = weights, [_gradient(weight) for weight in weights], [rate] * len(weights)
        paddle._C_ops.merged_adam_(*head, *slots, None, *betas, False, False, False)

    return update


def _held(optimizer: Any, kind: str) -> list[Any]:
    """What an optimizer that updates all weights by one operator has of each weight."""
    return getattr(optimizer, f"_{kind}_dict")["FP32_DenseTensor"][0]


def _same_weights(optimizer: Any, weights: list[Any]) -> bool:
    return [w.name for w in _held(optimizer, "param")] == [w.name for w in weights]


def _gradient(weight: Any) -> Any:
    """Of a weight that a batch did not reach Paddle's own step has zeros, of the last one."""
    return paddle.zeros_like(weight) if weight.grad is None else weight.grad


def merge_updates(program: Any, optimizer: Any) -> None:
    """Give ``use_multi_tensor`` its effect on a program of the new representation.

    Args:
        program: the main program, current, to which the optimizer has just added its updates.
        optimizer: it; one that is no plain Adam which is to update all weights by one operator, or
            has weights of other types than float32, stays as it is.
    """
    if not (in_new_representation() and type(optimizer) is paddle.optimizer.Adam):
        return
    block = program.global_block()
    updates = [operator for operator in block.ops if operator.name() == "pd_op.adam_"]
    plain = optimizer._use_multi_tensor and hasattr(optimizer, "_amsgrad")
    if not updates or not plain or optimizer._amsgrad or optimizer._multi_precision:
        return
    operands = list(zip(*([update.operand_source(i) for i in range(8)] for update in updates)))
    parameters, gradients = operands[:2]
    dense = all(gradient.is_dense_tensor_type() for gradient in gradients)
    if not dense or any(parameter.dtype != paddle.float32 for parameter in parameters):
        return
    values = [None if i == 5 else list(column) for i, column in enumerate(operands)]
    betas = [getattr(optimizer, name) for name in _SETTINGS]
    paddle._C_ops.merged_adam_(*values, None, *betas, False, False, False)
    for update in updates:
        block.remove_op(update)


def _is_plain(optimizer: Any) -> bool:
    """Whether an optimizer has nothing that the direct update does not know."""
    kind = type(optimizer)
    if kind not in (paddle.optimizer.Adam, paddle.optimizer.AdamW):
        return False
    parameters, own = optimizer._parameter_list, vars(optimizer)
    if isinstance(parameters[0], dict) or not all(map(_is_plain_parameter, parameters)):
        return False
    merges = {"use_multi_tensor": True} if optimizer._use_multi_tensor else {}
    plain = vars(kind(optimizer._learning_rate, parameters=parameters, **merges))
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
