"""The ``auc`` operators of a static program, found by what they are, and ``paddle.metric.Auc``.

Paddle 3's representation calls the operator ``pd_op.auc`` and links values to it; the old one
calls it ``auc`` and links by variable names. Private: ``paddle._C_ops`` and ``paddle.pir.core`` of
Paddle 3, the code of ``paddle.static.auc``, ``Auc._curve``, what operators say of their inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any

import paddle
from paddle.utils import unique_name

from rec_runner.paddle_api.representation import in_new_representation

# Operators that leave a number what it is.
_SAME_NUMBER = (
    *("cast", "reshape", "reshape2", "squeeze", "squeeze2", "unsqueeze", "unsqueeze2"),
    *("assign", "share_data", "share_data_"),
)


def is_roc_auc(metric: Any) -> bool:
    """Whether a metric is Paddle's own ``Auc``, of the ROC curve."""
    return type(metric) is paddle.metric.Auc and metric._curve == "ROC"


@contextmanager
def auc_with_states() -> Iterator[None]:
    """Inside, ``paddle.static.auc`` gives in the new representation what it does in the old one.

    That is the AUC of all batches, that of the latest ones, and a list of four variables in which
    the rows of each class are counted: of the latest batches, then of all. The function's code is
    replaced, so that modules which have imported it by name are served too.
    """
    function = paddle.static.auc
    own = function.__code__
    function.__code__ = _code()
    try:
        yield
    finally:
        function.__code__ = own


def _code() -> CodeType:
    def auc(input, label, curve, num_thresholds, topk, slide_steps, ins_tag_weight):  # type: ignore
        from rec_runner.paddle_api.auc import make_auc

        return make_auc(input, label, curve, num_thresholds, slide_steps, ins_tag_weight)

    return auc.__code__


def make_auc(
    predictions: Any, labels: Any, curve: str, thresholds: int, steps: int, tags: Any
) -> tuple[Any, Any, list[Any]]:
    """Add the operators of an AUC, and the variables in which they count, to the new program.

    Args:
        predictions: probabilities ``[N, 2]``.
        labels: ``[N, 1]``.
        curve: ``ROC`` or ``PR``.
        thresholds: one less than the bins.
        steps: how many batches are the latest ones.
        tags: ``ins_tag_weight``, or None.

    Returns:
        AUC of all batches, of the latest ones, and the four variables.
    """
    bins = thresholds + 1
    shapes = ([(1 + steps) * bins + 1], [1, bins])
    states = [_counts(shape) for shape in shapes for _ in range(2)]
    tags = paddle.full([1, 1], 1.0, "float32") if tags is None else tags
    aucs = []
    for (positive, negative), slide in ((states[:2], steps), (states[2:], 0)):
        value, *counted = paddle._C_ops.auc(
            predictions, labels, positive, negative, tags, curve, thresholds, slide
        )
        for count, state in zip(counted, (positive, negative)):
            paddle.assign(count, state)
        aucs.append(value)
    return aucs[1], aucs[0], states


def _counts(shape: list[int]) -> Any:
    return paddle.pir.core.create_persistable_value(
        "int64",
        shape,
        name=unique_name.generate("_generated_var"),  # as the old representation calls it
        initializer=paddle.nn.initializer.Constant(0.0),
    )


def auc_inputs(program: Any, fetches: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Prediction and label of each AUC among named values, and the rows' tags if it has any.

    Args:
        program: what holds them.
        fetches: name to value.

    Returns:
        for each that is the AUC of all rows, what the operator reads, see ``AucRows.add``.
    """
    find = _new_inputs if in_new_representation() else _old_inputs
    found = {name: find(program.global_block(), value) for name, value in fetches.items()}
    return {name: inputs for name, inputs in found.items() if inputs is not None}


def auc_state(program: Any) -> list[str]:
    """Names of the variables in which ``auc`` operators count rows.

    In the new representation there are some only :func:`auc_with_states`; else each run counts its
    own batch only.
    """
    operators = program.global_block().ops
    if in_new_representation():
        aucs = [operator for operator in operators if operator.name() == "pd_op.auc"]
        states = [operator.operand_source(place) for operator in aucs for place in (2, 3)]
        return list(dict.fromkeys(state.name for state in states if state.persistable))
    aucs = [operator for operator in operators if operator.type == "auc"]
    names = [name for op in aucs for name in op.input("StatPos") + op.input("StatNeg")]
    return list(dict.fromkeys(names))


def is_auc_state(value: Any, state: Sequence[str]) -> bool:
    """Whether a value is a table of counts, not an AUC.

    In the new representation ``paddle.static.auc`` itself gives one in the place of the AUC of the
    latest batches.

    Args:
        value: any value of a program.
        state: what :func:`auc_state` gave.
    """
    if not in_new_representation():
        return value.name in state
    if value.has_name and value.name in state:
        return True
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
    if operator.attrs()["slide_steps"]:
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
