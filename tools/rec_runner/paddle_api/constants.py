"""Numbers that a static program would make anew at every run, made once.

Operators such as ``mean`` or Adam's update take their settings as tensors, each made by an operator
``full`` of its own: a fifth of the operators of a small network's step. Private: operators and
values of Paddle 3's programs, ``paddle.pir.core``; the old representation stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.utils import unique_name

from rec_runner.paddle_api.representation import in_new_representation

_FULL = "pd_op.full"
_MOST_NUMBERS = 16  # of a tensor
# What reads a constant and gives memory of its own. Others may change it, or hand it on under
# another name to one that does, as branches and loops do.
_READERS = (
    *("full_like", "mean", "pow", "scale", "less_than", "greater_than", "equal"),
    *("add", "subtract", "multiply", "divide", "maximum", "minimum"),
    *("merged_adam_", "adam_", "adamw_"),  # which change what else they are given
)
_KINDS = {paddle.float32: "float32", paddle.float64: "float64", paddle.int64: "int64"}


def keep_constants(program: Any, fetches: Sequence[Any]) -> None:
    """Make variables of the constants of a program, which its start-up program sets.

    Args:
        program: the main program, current, its start-up not run yet.
        fetches: its values that will be fetched; they stay as they are.
    """
    on_cpu = paddle.get_device() == "cpu"  # elsewhere they would have to be fetched to be read
    if not on_cpu or not in_new_representation():
        return
    block = program.global_block()
    for operator in [operator for operator in block.ops if operator.name() == _FULL]:
        value = operator.result(0)
        if any(value.is_same(fetch) for fetch in fetches):
            continue
        if not value.use_empty():
            if not _is_only_read(value) or value.dtype not in _KINDS:
                continue
            constant = paddle.pir.core.create_persistable_value(
                _KINDS[value.dtype],
                list(value.shape),
                name=unique_name.generate("constant"),
                initializer=paddle.nn.initializer.Constant(operator.attrs()["value"]),
            )
            constant.stop_gradient = True
            value.replace_all_uses_with(constant)
        block.remove_op(operator)


def _is_only_read(value: Any) -> bool:
    """Whether all operators that take a value, a small one, are known to only read it."""
    numbers = 1
    for size in value.shape:
        numbers *= size
    users = [user.name() for user in value.all_used_ops()]
    return numbers <= _MOST_NUMBERS and {*users} <= {f"pd_op.{name}" for name in _READERS}
