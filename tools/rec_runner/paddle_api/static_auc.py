"""The ``auc`` operators of a static program, found by what they are.

Paddle 3's representation calls the operator ``pd_op.auc`` and links values to it; the old one
calls it ``auc`` and links by variable names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle

# Operators that leave a number what it is.
_SAME_NUMBER = ("cast", "reshape", "reshape2", "squeeze", "squeeze2", "unsqueeze", "unsqueeze2")
_SAME_NUMBER += ("assign", "share_data", "share_data_")


def auc_inputs(program: Any, fetches: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Prediction and label of each AUC among named values, and the rows' tags if it has any.

    Args:
        program: what holds them.
        fetches: name to value.

    Returns:
        for each that is the AUC of all rows, what the operator reads, see ``AucRows.add``.
    """
    find = _new_inputs if paddle.framework.in_pir_mode() else _old_inputs
    found = {name: find(program.global_block(), value) for name, value in fetches.items()}
    return {name: inputs for name, inputs in found.items() if inputs is not None}


def auc_state(program: Any) -> list[str]:
    """Names of the variables in which ``auc`` operators count rows.

    In the new representation there are none: each run counts its own batch only.
    """
    if paddle.framework.in_pir_mode():
        return []
    names: dict[str, None] = {}
    for operator in program.global_block().ops:
        if operator.type == "auc":
            names.update(dict.fromkeys(operator.input("StatPos") + operator.input("StatNeg")))
    return list(names)


def is_auc_state(value: Any, state: Sequence[str]) -> bool:
    """Whether a value is a table of counts, not an AUC.

    In the new representation ``paddle.static.auc`` gives one in the place of the AUC of the latest
    batches.

    Args:
        value: any value of a program.
        state: what :func:`auc_state` gave.
    """
    if not paddle.framework.in_pir_mode():
        return value.name in state
    operator = value.get_defining_op()
    if operator is None or operator.name() != "pd_op.auc":
        return False
    return not value.is_same(operator.result(0))


def _new_inputs(block: Any, value: Any) -> tuple[Any, ...] | None:
    operator = value.get_defining_op()
    while operator is not None and operator.name().replace("pd_op.", "") in _SAME_NUMBER:
        value = operator.operand_source(0)
        operator = value.get_defining_op()
    if operator is None or operator.name() != "pd_op.auc" or is_auc_state(value, ()):
        return None
    tags = operator.operand_source(4)
    maker = tags.get_defining_op()
    constant = maker is not None and maker.name() == "pd_op.full"
    inputs = operator.operand_source(0), operator.operand_source(1)
    return inputs if constant else (*inputs, tags)


def _old_inputs(block: Any, value: Any) -> tuple[Any, ...] | None:
    makers = {name: op for op in block.ops for name in op.output_arg_names}
    operator = makers.get(value.name)
    while operator is not None and operator.type in _SAME_NUMBER:
        value = block.var(operator.input("X")[0])
        operator = makers.get(value.name)
    if operator is None or operator.type != "auc" or operator.attr("slide_steps"):
        return None
    if value.name not in operator.output("AUC"):
        return None
    tags = operator.input("InsTagWeight") if "InsTagWeight" in operator.input_names else []
    varying = [n for n in tags if n not in makers or makers[n].type != "fill_constant"]
    names = [*operator.input("Predict"), *operator.input("Label"), *varying]
    return tuple(block.var(name) for name in names)
