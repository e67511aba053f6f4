"""Paddle's two representations of static programs, and what differs between them.

Paddle 3 has a new one and the old one, Paddle 2.6 the old one only. Private: ``paddle.pir_utils``,
``paddle.framework.in_pir_mode``, ``paddle.base.framework`` and ``data_feeder``, attributes of
operators (``set_bool_attr``, ``_set_attr``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import paddle
from paddle.base import framework
from paddle.base.data_feeder import convert_dtype


def has_two_representations() -> bool:
    """Whether this Paddle can hold a static program in a new and in an old representation.

    Paddle 3 has both and starts with the new one; Paddle 2.6 has the old one only.
    """
    return hasattr(getattr(paddle, "pir_utils", None), "OldIrGuard")


def use_representation(old: bool) -> None:
    """Build programs in Paddle's old or new representation from now on; static mode has to be on.

    Programs, scopes and executors that were made before must not be used any more.
    """
    if has_two_representations() and in_new_representation() == old:
        # Paddle means these for a with block; an engine stays with its representation.
        guard = paddle.pir_utils.OldIrGuard() if old else paddle.pir_utils.IrGuard()
        guard.__enter__()


def in_new_representation() -> bool:
    """Whether programs are built in Paddle 3's new representation."""
    return paddle.framework.in_pir_mode()


def layer_names_anew() -> AbstractContextManager[Any]:
    """Inside, ``static.nn`` layers are named from zero; the guard of a program does the rest.

    They take their names from the current program of the old kind, even in the new representation.
    """
    if has_two_representations() and in_new_representation():
        return framework.program_guard(framework.Program())
    return nullcontext()


def type_name(variable: Any) -> str:
    """A static variable's type as NumPy calls it."""
    return convert_dtype(variable.dtype)


def set_to_inference(program: Any) -> None:
    """Let a program's dropout, batch norm and their like act as in inference."""
    for operator in program.global_block().ops:
        if hasattr(operator, "set_bool_attr"):
            if "is_test" in operator.attrs():
                operator.set_bool_attr("is_test", True)
        elif operator.has_attr("is_test"):
            operator._set_attr("is_test", True)
