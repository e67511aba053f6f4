"""Inference models of the static path, for ``runner.use_inference``."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import paddle

from rec_runner.config import Config
from rec_runner.system.errors import RunError, UserError

PREFIX = "rec_inference"
_OLD_NAME = re.compile(r"(\w+?)_(\d+)\.tmp_(\d+)")


def chosen(program: Any, config: Config) -> tuple[list[Any], list[Any]]:
    """What ``save_inference_feed_varnames`` and ``…fetch_varnames`` name.

    Args:
        program: what the model builds for inference, see ``static_engine.Program``.
        config: the run's config.

    Raises:
        UserError: a name is not given, or is none of the program's.
    """
    feeds = {variable.name: variable for variable in program.feeds}
    inputs = [
        _pick(config, "save_inference_feed_varnames", name, feeds.get(name), list(feeds))
        for name in _names(config, "save_inference_feed_varnames")
    ]
    named = program.named
    outputs = [
        _pick(
            config,
            "save_inference_fetch_varnames",
            name,
            named.get(name, _by_old_name(program.main, name)),
            list(named),
        )
        for name in _names(config, "save_inference_fetch_varnames")
    ]
    return inputs, outputs


def export(program: Any, executor: Any, config: Config, folder: Path) -> None:
    """Save the part of a program between its :func:`chosen` inputs and outputs.

    Args:
        program: what the model builds for inference, see ``static_engine.Program``.
        executor: its executor; the current scope holds the weights.
        config: the run's config.
        folder: where ``rec_inference.*`` go.

    Raises:
        UserError: a name is not given, or is none of the program's.
        RunError: the files cannot be written.
    """
    inputs, outputs = chosen(program, config)
    aside = _aside(folder)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        paddle.static.save_inference_model(
            str(aside / PREFIX), inputs, outputs, executor, program=program.main
        )
        for file in aside.iterdir():
            os.replace(file, folder / file.name)
        aside.rmdir()
    except OSError as error:
        raise RunError(f"{folder / PREFIX} cannot be written: {error.strerror or error}") from error


def is_exported(folder: Path) -> bool:
    """Whether :func:`export` has been done, to its end, into a folder."""
    return any(folder.glob(f"{PREFIX}.*")) and not _aside(folder).exists()


def _aside(folder: Path) -> Path:
    return folder / f".{PREFIX}.part"


def _names(config: Config, key: str) -> list[str]:
    value = config.runner(key)
    if not value:
        raise UserError(f"{config['yaml_path']}: runner.use_inference needs runner.{key}")
    return [value] if isinstance(value, str) else list(value)


def _pick(config: Config, key: str, name: str, found: Any, known: list[str]) -> Any:
    if found is None:
        raise UserError(
            f"{config['yaml_path']}: runner.{key}: the network has no {name}; it has "
            f"{', '.join(known)}"
        )
    return found


def _by_old_name(program: Any, name: str) -> Any:
    """The variable that the old representation calls so.

    There ``sigmoid_0.tmp_1`` is the second result of the first ``sigmoid``; the new one has no
    names, but its operators stand in the same order.
    """
    block = program.global_block()
    if not paddle.framework.in_pir_mode():
        return block.vars.get(name)
    match = _OLD_NAME.fullmatch(name)
    if match is None:
        return None
    operators = [op for op in block.ops if op.name() == f"pd_op.{match[1]}"]
    place, result = int(match[2]), int(match[3])
    if place >= len(operators) or result >= operators[place].num_results():
        return None
    return operators[place].result(result)
