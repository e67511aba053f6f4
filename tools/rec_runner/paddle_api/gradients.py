"""The gradients in a static program, found at the operators that use them.

Every update operator of Paddle, ``adam_`` for instance, reads a weight and its gradient; the old
representation of programs calls the two ``Param`` and ``Grad``, the new one ``param`` and ``grad``.
Private: what operators say of their inputs, and ``paddle.base.core.VarDesc``.
"""

from __future__ import annotations

from typing import Any

import paddle

from rec_runner.paddle_api.representation import in_new_representation

_OLD = ("Param", "Grad")


def optimized_gradients(program: Any) -> dict[str, Any]:
    """Gradients as the optimizer gets them, clipped where it clips, by name of their weight."""
    block = program.global_block()
    if in_new_representation():
        updates = [op for op in block.ops if _inputs(op)[:2] == ["param", "grad"]]
        return {op.operand_source(0).name: op.operand_source(1) for op in updates}
    updates = [op for op in block.ops if {"Param", "Grad"} <= set(op.input_names)]
    pairs = [(weight, grad) for op in updates for weight, grad in zip(*map(op.input, _OLD))]
    return {weight: block.var(gradient) for weight, gradient in pairs}


def _inputs(operator: Any) -> list[str]:
    """Names of an operator's operands; Paddle knows those of its own operators only."""
    return list(operator.get_input_names()) if operator.name().startswith("pd_op.") else []


def is_dense(gradient: Any) -> bool:
    """Whether a gradient is there and an array; sparse embeddings have rows of one only."""
    if gradient is None:
        return False
    if hasattr(gradient, "is_dense_tensor_type"):
        return gradient.is_dense_tensor_type()
    return gradient.type != paddle.base.core.VarDesc.VarType.SELECTED_ROWS
