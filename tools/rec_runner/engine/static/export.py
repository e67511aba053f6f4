"""Inference models of the static graph, for ``runner.use_inference``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rec_runner.config import Config
from rec_runner.paddle_api.inference_model import by_old_name, save_inference_model
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import sync_file
from rec_runner.system.parts import part_folder

PREFIX = "rec_inference"
_PROGRAMS = (".json", ".pdmodel")  # of Paddle 3, and of Paddle 2


def chosen(program: Any, config: Config) -> tuple[list[Any], dict[str, Any]]:
    """What ``save_inference_feed_varnames`` and ``…fetch_varnames`` name; outputs by these names.

    Args:
        program: what the model builds for inference, see ``program.Program``.
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
    outputs = {
        name: _pick(
            config,
            "save_inference_fetch_varnames",
            name,
            named.get(name, by_old_name(program.main, name)),
            list(named),
        )
        for name in _names(config, "save_inference_fetch_varnames")
    }
    return inputs, outputs


def export(program: Any, executor: Any, config: Config, folder: Path) -> None:
    """Save the part of a program between its :func:`chosen` inputs and outputs.

    Args:
        program: what the model builds for inference, see ``program.Program``.
        executor: its executor; the current scope holds the weights.
        config: the run's config.
        folder: where ``rec_inference.*`` go.

    Raises:
        UserError: a name is not given, or is none of the program's.
        RunError: the files cannot be written, or the folder is a link.
    """
    inputs, outputs = chosen(program, config)
    if folder.is_symlink():
        raise RunError(f"{folder} is a link and is not written through, a folder was expected")
    try:
        with part_folder(folder / PREFIX) as part:
            save_inference_model(part / PREFIX, inputs, outputs, executor, program.main)
            # The program comes last: where it is, all is.
            for file in sorted(part.iterdir(), key=lambda file: file.suffix in _PROGRAMS):
                with open(file, "rb+") as stream:
                    sync_file(stream)
                os.replace(file, folder / file.name)
    except OSError as error:
        raise RunError(f"{folder / PREFIX} cannot be written: {error.strerror or error}") from error


def is_exported(folder: Path) -> bool:
    """Whether :func:`export` has been done, to its end, into a folder."""
    return any((folder / PREFIX).with_suffix(suffix).exists() for suffix in _PROGRAMS)


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
