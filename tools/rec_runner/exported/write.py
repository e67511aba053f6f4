"""The files of an export: written aside, checked there, renamed whole."""

from __future__ import annotations

import errno
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import static

from rec_runner.contract.guard import call, check_returned
from rec_runner.contract.hooks import call_hook, has
from rec_runner.engine.static.program import Program, hook_weights
from rec_runner.exported.manifest import (
    FILES,
    MANIFEST,
    PADDLE,
    Manifest,
    Task,
    Tensor,
    describe_file,
    is_export,
)
from rec_runner.exported.onnx_file import write_onnx
from rec_runner.paddle_api.inference_model import save_inference_model
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import replace_folder, sync_file, sync_folder
from rec_runner.system.parts import part_folder, remove_left_overs

FEATURES = "features"


def named_tasks(names: Sequence[str], types: Sequence[str]) -> tuple[Task, ...]:
    """Tasks, each with a name for its output: its own, as far as it can be that.

    A name that is empty, the input's or another output's gets underscores at its end; a character
    that cannot be printed becomes one.

    Args:
        names: of the tasks.
        types: ``binary`` or ``regression`` of each; empty: all are binary.
    """
    taken = {FEATURES, ""}
    tasks = []
    for name, kind in zip(names, types or ["binary"] * len(names)):
        output = "".join(char if char.isprintable() else "_" for char in name)
        while output in taken:
            output += "_"
        taken.add(output)
        tasks.append(Task(name, kind, output))
    return tuple(tasks)


def write_paddle(
    folder: Path,
    model: Any,
    weights: Mapping[str, np.ndarray],
    feature_size: int,
    tasks: Sequence[Task],
) -> None:
    """Write the network of the hook ``score_rows`` as a Paddle inference model.

    Args:
        folder: where ``paddle_model.*`` go.
        model: a model with the hook; Paddle is in static mode from now on.
        weights: what ``scoring_weights`` gives.
        feature_size: features of a row.
        tasks: of the model.

    Raises:
        UserError: the hook failed.
        OSError: a file cannot be written.
    """
    paddle.enable_static()
    program = Program()
    prefix = _free_prefix([task.output for task in tasks])
    with program.building():
        features = static.data(FEATURES, [None, feature_size], "float32")
        variables = hook_weights(weights, prefix)
        odds = paddle.unbind(call(model, "score_rows", features, variables), axis=1)
        outputs = {
            task.output: F.sigmoid(value) if task.type == "binary" else paddle.assign(value)
            for task, value in zip(tasks, odds)
        }
    place = paddle.CPUPlace()
    executor, scope = static.Executor(place), static.Scope()
    with static.scope_guard(scope):
        executor.run(program.startup)
        for name, value in weights.items():
            tensor = scope.find_var(prefix + name).get_tensor()
            tensor.set(np.ascontiguousarray(value), place)
        save_inference_model(folder / PADDLE, [features], outputs, executor, program.main)


def write_hooks_onnx(
    folder: Path, model: Any, weights: Mapping[str, np.ndarray], tasks: Sequence[Task]
) -> None:
    """Write the network as the hook ``onnx_model`` has it.

    Args:
        folder: where ``model.onnx`` goes.
        model: a model with our hooks.
        weights: what ``scoring_weights`` gives.
        tasks: of the model.

    Raises:
        UserError: it has no such hook, or that failed; or the package onnx is missing.
        OSError: a file cannot be written.
    """
    if not has(model, "onnx_model"):
        kind = f"{inspect.getfile(type(model))}: class {type(model).__name__}"
        raise UserError(f"{kind} has no hook onnx_model; --format paddle exports it without")
    made = call_hook(model, "onnx_model", weights)
    found = [output.name for output in made.graph.output]
    expected = [task.output for task in tasks]
    what = f"a model with the outputs {', '.join(expected)}"
    check_returned(model, "onnx_model", made, found == expected, what)
    write_onnx(made, folder)


def _free_prefix(outputs: Sequence[str]) -> str:
    """What no output's name begins with: Paddle takes weights and outputs of one name for one."""
    prefix = "weight."
    while any(name.startswith(prefix) for name in outputs):
        prefix = f"_{prefix}"
    return prefix


def tensors(feature_size: int, tasks: Sequence[Task]) -> dict[str, tuple[Tensor, ...]]:
    """``inputs`` and ``outputs`` of a manifest, of a model with our hooks."""
    return {
        "inputs": (Tensor(FEATURES, "float32", (None, feature_size)),),
        "outputs": tuple(Tensor(task.output, "float32", (None,)) for task in tasks),
    }


def check_target(folder: Path, force: bool) -> None:
    """Whether an export may take a folder's name.

    Args:
        folder: where it is to be.
        force: replace an export that is damaged, or beside which other things lie.

    Raises:
        UserError: something else stands there than an export or an empty folder.
    """
    what = f"--out {folder}"
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{what}: it is a link or a file, a folder was expected")
    names = {entry.name for entry in folder.iterdir()}
    others, ours = sorted(names - set(FILES)), is_export(folder)
    if not names or (ours and not others):
        return
    if others and not ours:
        raise UserError(f"{what}: it holds {others[0]!r} and no export; give another folder")
    found = f"{others[0]!r} besides an export" if others else f"a damaged export ({MANIFEST})"
    if not force:
        raise UserError(f"{what}: it holds {found}; --force replaces the whole folder")


@contextmanager
def new_export(folder: Path) -> Iterator[Path]:
    """A folder to write an export into, that takes its name at the end, or goes.

    What a killed run left beside it goes first.

    Args:
        folder: the name it shall have; what stands there is replaced at once.

    Raises:
        RunError: a file cannot be written; what stood there before still does.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder.parent} cannot be made: {error.strerror or error}") from error
    try:
        remove_left_overs(folder.parent)
        with part_folder(folder) as part:
            yield part
            for file in part.iterdir():
                with open(file, "rb+") as stream:
                    sync_file(stream)
            sync_folder(part)
            replace_folder(part, folder)
    except OSError as error:
        if error.errno == errno.ENOENT and not folder.parent.is_dir():
            raise RunError(f"{folder.parent} was removed meanwhile") from error
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error


def noted_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Checksum and size of each file that has been written into a new export."""
    files = sorted(file for file in folder.iterdir() if file.name != MANIFEST)
    return {file.name: describe_file(file) for file in files}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``model.json``.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(manifest.as_json(), indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_bytes(text.encode("utf-8"))
