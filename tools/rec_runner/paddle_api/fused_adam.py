"""Steps of Adam and AdamW with less around their update operators.

With ``use_multi_tensor=True`` Adam updates all weights by one operator, ``merged_adam_``, which is
three times as fast on a CPU as ``adam_`` for each; their numbers differ in the last digit. Paddle
heeds it in the eager graph only, and has no such option of AdamW. An AdamW that was given the
attribute ``use_multi_tensor`` is updated here as such an Adam is, after every weight has been
multiplied by ``1 - rate * decay``.

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
_MERGE = "use_multi_tensor"  # of an AdamW, on which somebody set it
_SLOTS = ("moment1", "moment2", None, "beta1_pow_acc", "beta2_pow_acc")  # None: of amsgrad


def whole_step(optimizer: Any) -> None:
    """``step`` and ``clear_grad``, but that an AdamW may have one operator for all weights.

    Paddle's own step does all else, so that nothing but the operator differs.
    """
    if not _merges_decay(optimizer):
        return step_optimizer(optimizer)
    updates: list[tuple[Any, Any]] = []  # block, and weight and gradient
    own = optimizer._append_optimize_op
    with paddle.utils.unique_name.guard(), paddle.no_grad():
        optimizer._append_optimize_op = lambda *update: updates.append(update)
        try:
            optimizer.step()
        finally:
            del optimizer._append_optimize_op
        pairs = [pair for _, pair in updates]
        if pairs and all(_fits(*pair) for pair in pairs):
            weights, gradients = map(list, zip(*pairs))
            rates = [optimizer._create_param_lr(pair) for pair in pairs]
            slots = [kind and _slots_of(optimizer, kind, weights) for kind in _SLOTS]
            _update_all(optimizer, weights, gradients, rates, slots)
        else:
            for update in updates:
                own(*update)
        optimizer.clear_grad()


def direct_update(optimizer: Any) -> Callable[[], None]:
    """``step`` and ``clear_grad`` of an optimizer that has stepped once, with less in between.

    Paddle's Python around the update operators costs as much as the operators do when layers are
    small. For Adam and AdamW, all of whose settings but rate, betas, epsilon, AdamW's decay and
    ``use_multi_tensor`` are at their defaults, the operators are called here directly, with the
    very arguments that ``paddle.optimizer.Adam`` gives them; for anything else this is
    :func:`whole_step`.
    """

    def whole() -> None:
        whole_step(optimizer)

    if not _is_plain(optimizer):
        return whole
    weights = list(optimizer._parameter_list)
    trained = [weight for weight in weights if not weight.stop_gradient]
    if any(weight.name not in optimizer._accumulators["moment1"] for weight in trained):
        return whole  # no gradient has reached it yet; Paddle makes its slots when one does
    decays = _merges_decay(optimizer)
    merges = decays or (optimizer._use_multi_tensor and _same_weights(optimizer, trained))
    update = (_merged if merges else _one_by_one)(optimizer, trained)

    def settings() -> list[Any]:
        """What a network may change between two steps."""
        own = [(w.stop_gradient, w.optimize_attr["learning_rate"], w.regularizer) for w in weights]
        return [optimizer._grad_clip, getattr(optimizer, "_weight_decay", None), *own]

    seen = settings()

    def direct() -> None:
        fit = not decays or all(_fits(weight, weight.grad) for weight in trained)
        if not fit or settings() != seen:
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
    slots = [kind and _slots_of(optimizer, kind, weights) for kind in _SLOTS]

    def update(rate: Any) -> None:
        gradients = [_gradient(weight) for weight in weights]
        _update_all(optimizer, weights, gradients, [rate] * len(weights), slots)

    return update


def _update_all(
    optimizer: Any, weights: list[Any], gradients: list[Any], rates: list[Any], slots: list[Any]
) -> None:
    """Update all weights by one operator, in either graph; an AdamW's decay by one each before."""
    operators: Any = paddle._C_ops
    if not _is_adam(optimizer):
        # One for all weights, unless one of them has a rate of its own.
        distinct = {hash(rate): rate for rate in rates}
        decay = -optimizer._weight_decay
        kept = {key: operators.scale(rate, decay, 1.0, True) for key, rate in distinct.items()}
        with paddle.no_grad():
            weights = [
                operators.scale_(weight, kept[hash(rate)], 0.0, True)
                for weight, rate in zip(weights, rates)
            ]
    betas = [getattr(optimizer, name) for name in _SETTINGS]
    head = weights, gradients, rates
    operators.merged_adam_(*head, *slots, None, *betas, False, False, False)


def _slots_of(optimizer: Any, kind: str, weights: list[Any]) -> list[Any]:
    if _is_adam(optimizer):
        return _held(optimizer, kind)
    return [optimizer._get_accumulator_master(kind, weight) for weight in weights]


def _held(optimizer: Any, kind: str) -> list[Any]:
    """What an optimizer that updates all weights by one operator has of each weight."""
    return getattr(optimizer, f"_{kind}_dict")["FP32_DenseTensor"][0]


def _same_weights(optimizer: Any, weights: list[Any]) -> bool:
    return [w.name for w in _held(optimizer, "param")] == [w.name for w in weights]


def _gradient(weight: Any) -> Any:
    """Of a weight that a batch did not reach Paddle's own step has zeros, of the last one."""
    return paddle.zeros_like(weight) if weight.grad is None else weight.grad


def _fits(weight: Any, gradient: Any) -> bool:
    """Whether the operator for all weights takes this one."""
    dense = gradient is None or gradient.is_dense()
    return dense and weight.dtype == paddle.float32


def merge_updates(program: Any, optimizer: Any) -> None:
    """Give ``use_multi_tensor`` its effect on a program of the new representation.

    Args:
        program: the main program, current, to which the optimizer has just added its updates.
        optimizer: it; one that is no plain Adam or AdamW which is to update all weights by one
            operator, or has weights of other types than float32, stays as it is.
    """
    if not in_new_representation():
        return
    if _is_adam(optimizer):
        plain = optimizer._use_multi_tensor and hasattr(optimizer, "_amsgrad")
        if not plain or optimizer._amsgrad or optimizer._multi_precision:
            return
    elif not _merges_decay(optimizer):
        return
    block = program.global_block()
    names = ("pd_op.adam_", "pd_op.adamw_")
    updates = [operator for operator in block.ops if operator.name() in names]
    if not updates:
        return
    operands = list(zip(*([update.operand_source(i) for i in range(8)] for update in updates)))
    parameters, gradients, rates, *slots = (list(column) for column in operands)
    dense = all(gradient.is_dense_tensor_type() for gradient in gradients)
    if not dense or any(parameter.dtype != paddle.float32 for parameter in parameters):
        return
    slots[2] = None  # type: ignore[call-overload]  # of amsgrad
    _update_all(optimizer, parameters, gradients, rates, slots)
    for update in updates:
        block.remove_op(update)


def _is_adam(optimizer: Any) -> bool:
    return type(optimizer) is paddle.optimizer.Adam


def _merges_decay(optimizer: Any) -> bool:
    """Whether an optimizer is an AdamW that is to update all weights by one operator, and can."""
    own = vars(optimizer)
    if type(optimizer) is not paddle.optimizer.AdamW or not own.get(_MERGE):
        return False
    parameters = optimizer._parameter_list or [None]  # of a program's optimizer they are not known
    unknown = ("_lazy_mode", "_multi_precision", "_use_lowprecision_moment", "_lr_ratio")
    return (
        own.get("_amsgrad") is False
        and not any(own[name] for name in (*unknown, "_apply_decay_param_fun"))
        and not isinstance(parameters[0], dict)
        and all(isinstance(own[name], (int, float)) for name in _SETTINGS)
    )


def _is_plain(optimizer: Any) -> bool:
    """Whether an optimizer has nothing that the direct update does not know."""
    kind = type(optimizer)
    if kind not in (paddle.optimizer.Adam, paddle.optimizer.AdamW):
        return False
    parameters, own = optimizer._parameter_list, vars(optimizer)
    if isinstance(parameters[0], dict) or not all(map(_is_plain_parameter, parameters)):
        return False
    adam = _is_adam(optimizer)
    merges = {"use_multi_tensor": True} if adam and optimizer._use_multi_tensor else {}
    plain = vars(kind(optimizer._learning_rate, parameters=parameters, **merges))
    free = _FREE if adam else _FREE | {"_weight_decay"}
    return (
        "_amsgrad" in own
        and own.keys() - {_MERGE} == plain.keys()
        and all(isinstance(own[name], (int, float)) for name in _SETTINGS)
        and all(_same(own[name], plain[name]) for name in plain.keys() - free)
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
