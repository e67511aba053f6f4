"""Inference models whose outputs have the names that were asked for.

Private: ``paddle.static.pir_io.append_pir_fetch_ops`` of Paddle 3, which gives outputs their names,
and ``_rename_var`` of old programs, in all versions; how values of either kind are found by name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import paddle

from rec_runner.paddle_api.representation import in_new_representation

_OLD_NAME = re.compile(r"(\w+?)_(\d+)\.tmp_(\d+)")


def save_inference_model(
    prefix: Path, inputs: list[Any], outputs: Mapping[str, Any], executor: Any, program: Any
) -> None:
    """As ``paddle.static.save_inference_model``, with named outputs.

    Args:
        prefix: the files' name without suffix.
        inputs: variables to feed.
        outputs: variables to fetch, by the name that ``paddle.inference`` shall call them.
        executor: its current scope holds the weights.
        program: what holds the variables.
    """

    def save() -> None:
        # Paddle warns that AUCs should be at 0; the tools count theirs elsewhere.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Be sure that you have set auc states")
            paddle.static.save_inference_model(
                str(prefix), inputs, list(outputs.values()), executor, program=program
            )

    if not in_new_representation():
        save()
        _rename_outputs(prefix.with_suffix(".pdmodel"), list(outputs))
        return
    append = paddle.static.pir_io.append_pir_fetch_ops

    def append_named(program: Any, fetches: Any) -> None:
        append(program, [(value, name) for (value, _), name in zip(fetches, outputs)])

    from unittest.mock import patch  # brings asyncio with it, for what few runs do

    with patch.object(paddle.static.pir_io, "append_pir_fetch_ops", append_named):
        save()


def _rename_outputs(file: Path, names: list[str]) -> None:
    """Rename what a saved program of the old kind fetches.

    An input's or a weight's name stays theirs; a variable fetched twice keeps its own.
    """
    program = paddle.static.deserialize_program(file.read_bytes())
    block = program.global_block()
    fed = [op.output("Out")[0] for op in block.ops if op.type == "feed"]
    fetched = [op.input("X")[0] for op in block.ops if op.type == "fetch"]
    for old, new in zip(fetched, names):
        taken = block.vars.get(new)
        kept = taken is not None and (taken.persistable or new in fed)
        if old == new or kept or fetched.count(old) > 1:
            continue
        if taken is not None:
            block._rename_var(new, f"{new}.inner")
        block._rename_var(old, new)
    file.write_bytes(program.desc.serialize_to_string())


class Origin(NamedTuple):
    """What a variable is computed from.

    Attributes:
        feeds: names of variables that are fed.
        learned: weights, or anything else that a program keeps, are among it.
    """

    feeds: set[str]
    learned: bool


def origin_of(program: Any, variable: Any) -> Origin:
    """What a variable is computed from, at any remove.

    Args:
        program: what holds it.
        variable: it.
    """
    if not in_new_representation():
        block, needed = program.global_block(), {variable.name}
        for operator in reversed(block.ops):
            if needed.intersection(operator.output_arg_names):
                needed.update(operator.input_arg_names)
        found = [block.vars[name] for name in needed if name in block.vars]
        fed = {item.name for item in found if getattr(item, "is_data", False)}
        return Origin(fed, any(item.persistable for item in found))
    captured = paddle.base.libpaddle.pir.get_used_external_value  # of its inner blocks
    values, seen, origin = [variable], set(), Origin(set(), False)
    while values:
        operator = values.pop().get_defining_op()  # None of an operand that is left out
        if operator is not None and operator.id() not in seen:
            seen.add(operator.id())
            if operator.name() == "pd_op.data":
                origin.feeds.add(operator.result(0).name)
            origin = origin._replace(learned=origin.learned or _is_weight(operator))
            values += [*operator.operands_source(), *captured(operator)]
    return origin


def _is_weight(operator: Any) -> bool:
    return operator.name() == "builtin.parameter"


def by_old_name(program: Any, name: str) -> Any:
    """The variable that the old representation calls so.

    There ``sigmoid_0.tmp_1`` is the second result of the first ``sigmoid``; the new one has no
    names, but its operators stand in the same order.
    """
    block = program.global_block()
    if not in_new_representation():
        return block.vars.get(name)
    match = _OLD_NAME.fullmatch(name)
    if match is None:
        return None
    operators = [op for op in block.ops if op.name() == f"pd_op.{match[1]}"]
    place, result = int(match[2]), int(match[3])
    if place >= len(operators) or result >= operators[place].num_results():
        return None
    return operators[place].result(result)
