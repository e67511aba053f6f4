"""What several tests share: the tools as processes, their log lines, small model directories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
CONFIG = ROOT / "config.yaml"
FEATURE_SIZE = 499
TASKS = ("income", "marital")
METRICS = tuple(f"{kind}_{task}" for kind in ("auc", "logloss") for task in TASKS)

# Notices of the libraries, not of ours: "file.py:12: UserWarning: …" and the line of code below it.
_NOTICE = re.compile(r"^\S+\.py:\d+: \w*Warning: .*\n(  .*\n)?", re.MULTILINE)
_PAIR = re.compile(r"(\w+): ?(-?\d+\.\d+|undefined)")

# Runs the tools' main for many command lines in one process: importing Paddle takes long.
_CASES_SCRIPT = """
import contextlib, io, json, sys, traceback
from rec_runner.cli import main

results = []
for command, path, arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command, path, arguments)
        except SystemExit as stop:
            status = stop.code
        except BaseException:
            traceback.print_exc()
            status = -1
    results.append([status, out.getvalue(), err.getvalue()])
json.dump(results, sys.stdout)
"""


class Result(NamedTuple):
    """How a tool ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def sentences(self) -> list[str]:
        """Lines on stderr, without the notices of the libraries."""
        return _NOTICE.sub("", self.stderr).splitlines()


def run_tool(tool: str, *arguments: object, cwd: Path, **environment: str) -> Result:
    """Run ``tools/<tool>.py`` to its end in a process of its own.

    Args:
        tool: ``trainer``, ``infer``, ``static_trainer`` or ``static_infer``.
        arguments: its command line.
        cwd: working directory.
        environment: further environment variables.
    """
    command = [sys.executable, "-u", str(TOOLS / f"{tool}.py"), *map(str, arguments)]
    return run(command, cwd=cwd, **environment)


def run(command: Sequence[str], cwd: Path, stdin: str = "", **environment: str) -> Result:
    """Run any command to its end."""
    process = subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,  # of a loaded machine
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    return Result(process.returncode, process.stdout, process.stderr)


def run_ok(tool: str, *arguments: object, cwd: Path) -> str:
    """Run a tool that has to succeed; its stdout."""
    result = run_tool(tool, *arguments, cwd=cwd)
    assert result.status == 0, f"{tool} ended with {result.status}:\n{result.stderr}"
    return result.stdout


def run_cases(cases: Iterable[tuple[str, str, Sequence[str]]], cwd: Path) -> list[Result]:
    """Run ``(command, path, arguments)`` command lines one after another in one process."""
    command = [sys.executable, "-c", _CASES_SCRIPT]
    result = run(command, cwd=cwd, stdin=json.dumps(list(cases)), PYTHONPATH=str(TOOLS))
    assert result.status == 0, result.stderr
    return [Result(*values) for values in json.loads(result.stdout)]


def override(**values: object) -> list[str]:
    """``-o`` and its ``key=value`` strings; ``__`` is a dot, a name without is ``runner``'s."""
    pairs = []
    for name, value in values.items():
        key = name.replace("__", ".") if "__" in name else f"runner.{name}"
        pairs.append(f"{key}={value}")
    return ["-o", *pairs]


def epoch_lines(stdout: str) -> dict[int, dict[str, float]]:
    """Values by name of every ``epoch: N done, …`` line, by epoch."""
    lines = {}
    for line in stdout.splitlines():
        match = re.search(r"epoch: (\d+) done, (.*), epoch time: \d+(\.\d+)? s$", line)
        if match:
            lines[int(match[1])] = {k: float(v) for k, v in _PAIR.findall(match[2])}
    return lines


def batch_lines(stdout: str) -> list[tuple[int, int, dict[str, float]]]:
    """``(epoch, batch_id, values by name)`` of every ``epoch: N, batch_id: M, …`` line."""
    lines = []
    for line in stdout.splitlines():
        match = re.search(r"epoch: (\d+), batch_id: (\d+), (.*)$", line)
        if match:
            values = {k: float(v) for k, v in _PAIR.findall(match[3])}
            lines.append((int(match[1]), int(match[2]), values))
    return lines


def files_below(folder: Path) -> list[str]:
    """All files below a folder, relative to it; none where there is no such folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def make_model_dir(folder: Path, runner: Mapping[str, Any], hyper: Mapping[str, Any]) -> Path:
    """A model directory of its own: the repository's model files and a config.

    Returns:
        the config's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in ROOT.glob("*.py"):
        shutil.copy(file, folder)
    config = folder / "config.yaml"
    tree = {"runner": dict(runner), "hyper_parameters": dict(hyper)}
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return config


def write_table(file: Path, table: np.ndarray) -> Path:
    """Write a matrix as comma-separated text; the folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(file, table, delimiter=",", fmt="%.7g")
    return file


def sample(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The bundled rows: features float32 ``[n, 499]``, labels ``[n, 2]`` of income and marital."""
    file = ROOT / "data" / split / f"{split}_data.txt"
    table = np.loadtxt(file, delimiter=",", dtype=np.float64)
    return table[:, 2:].astype(np.float32), table[:, [1, 0]]


def paddlerec_state(
    rng: np.random.Generator, features: int, tasks: int, bottom: int, tower: int
) -> dict[str, np.ndarray]:
    """A state dict under PaddleRec's keys of this model, the duplicate of the bottom included."""

    def linear(prefix: str, size_in: int, size_out: int) -> dict[str, np.ndarray]:
        return {
            f"{prefix}.weight": (rng.normal(size=(size_in, size_out)) / 10).astype(np.float32),
            f"{prefix}.bias": (rng.normal(size=size_out) / 10).astype(np.float32),
        }

    state = linear("bottom", features, bottom)
    state["_param_bottom.weight"] = state["bottom.weight"]
    state["_param_bottom.bias"] = state["bottom.bias"]
    for task in range(tasks):
        state.update(linear(f"tower_{task}", bottom, tower))
        state.update(linear(f"tower_out_{task}", tower, 2))
    return state


def numpy_forward(state: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Probabilities ``[T, N, 2]`` of a network with PaddleRec's keys, in float64."""
    double = {name: value.astype(np.float64) for name, value in state.items()}

    def linear(prefix: str, x: np.ndarray) -> np.ndarray:
        return x @ double[f"{prefix}.weight"] + double[f"{prefix}.bias"]

    bottom = np.maximum(linear("bottom", features.astype(np.float64)), 0)
    tasks = sum(name.startswith("tower_out_") and name.endswith(".weight") for name in state)
    logits = np.stack(
        [
            linear(f"tower_out_{task}", np.maximum(linear(f"tower_{task}", bottom), 0))
            for task in range(tasks)
        ]
    )
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)
