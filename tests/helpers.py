"""What several tests share: the tools as processes, their log lines, small model directories."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
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
COMMANDS = {
    "trainer": ("train", "dygraph"),
    "infer": ("infer", "dygraph"),
    "static_trainer": ("train", "static"),
    "static_infer": ("infer", "static"),
}
METRICS = tuple(f"{kind}_{task}" for kind in ("auc", "logloss") for task in TASKS)

# Notices of the libraries, not of ours: "file.py:12: UserWarning: …" and the line of code below it.
_NOTICE = re.compile(r"^\S+\.py:\d+: \w*Warning: .*\n(  .*\n)?", re.MULTILINE)
_PAIR = re.compile(r"(\w+): ?(-?\d+\.\d+(?:e[+-]\d+)?|undefined)")

# Imports Paddle once, which takes long, and runs each request of stdin in a child of its own: the
# tools' main for some command lines. With "out" their ends are written there, else the output of
# the only one goes to "log" as it comes. Answers with the child's process id, then its status.
_SERVER = """
import contextlib, importlib, io, json, os, pkgutil, resource, sys, traceback, zlib

import rec_runner
from rec_runner.system.environment import prepare_environment

prepare_environment(None, None)
for module in pkgutil.walk_packages(rec_runner.__path__, "rec_runner."):
    if "plots" not in module.name and ".service" not in module.name:  # that is for no command
        importlib.import_module(module.name)

answers = os.fdopen(os.dup(1), "w")

def run(command, path, arguments):
    from rec_runner import cli, predict

    try:
        if command == "predict":
            return predict.main(arguments)
        return cli.main(command, path, arguments)
    except SystemExit as stop:
        return stop.code
    except BaseException:
        traceback.print_exc()
        return -1

def run_all(request):
    os.chdir(request["cwd"])
    if request.get("memory"):
        with open("/proc/self/statm") as pages:
            now = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + request["memory"],) * 2)
    if "log" in request:
        for stream in (sys.stdout, sys.stderr):
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, stream.fileno())
            stream.reconfigure(line_buffering=True)
        return run(*request["cases"][0])
    results = []
    for case in request["cases"]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(*case)
        results.append([status, out.getvalue(), err.getvalue()])
    with open(request["out"], "w", encoding="utf-8") as stream:
        json.dump(results, stream)
    return 0

for line in sys.stdin:
    child = os.fork()
    if not child:
        answers.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.exit(run_all(json.loads(line)))
    print(child, file=answers, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
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


def run_ok(tool: str, *arguments: object, cwd: Path, real: bool = False) -> str:
    """Run a tool that has to succeed, in a process of its own if ``real``; its stdout."""
    result = (run_tool if real or tool not in COMMANDS else run_fork)(tool, *arguments, cwd=cwd)
    assert result.status == 0, f"{tool} ended with {result.status}:\n{result.stderr}"
    return result.stdout


class Forks:
    """Processes that have Paddle at hand from the start, one at a time.

    Where what happens before or while Paddle is imported matters, use :func:`run_tool`.
    """

    def __init__(self) -> None:
        self.environment = _settings()
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOOLS)},
        )
        self.pid = 0
        atexit.register(self.close)

    def close(self) -> None:
        """End the process that forks; what it started goes on."""
        self._server.communicate()

    def start(self, **request: object) -> None:
        """Start a process: ``cases``, ``cwd`` and either ``out`` or ``log``."""
        assert self._server.stdin and self._server.stdout
        print(json.dumps(request), file=self._server.stdin, flush=True)
        self.pid = int(self._server.stdout.readline())

    def alive(self) -> bool:
        """Whether the process runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, 600 s at most; its status, that of a signal negative."""
        assert self._server.stdout
        timer = threading.Timer(600, self.kill)  # of a loaded machine
        timer.start()
        try:
            return int(self._server.stdout.readline())
        finally:
            timer.cancel()


_forks: list[Forks] = []


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def run_cases(
    cases: Iterable[tuple[str, str, Sequence[object]]],
    cwd: Path,
    fresh: bool = False,
    memory: int = 0,
) -> list[Result]:
    """Run ``(command, path, arguments)`` command lines one after another in one process.

    Args:
        cases: the command lines; of ``predict``, which takes any graph, the path is nothing.
        cwd: working directory.
        fresh: in a process with a hash seed of its own.
        memory: how many bytes more than at its start the process may take; 0 sets no limit.
    """
    lines = [(command, path, [*map(str, arguments)]) for command, path, arguments in cases]
    if fresh or not _forks or _forks[0].environment != _settings():
        for forks in _forks:
            forks.close()
        _forks[:] = [Forks()]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        _forks[0].start(cases=lines, cwd=str(cwd), out=str(out), memory=memory)
        status = _forks[0].wait()
        assert status == 0, f"the process of the command lines ended with {status}"
        return [Result(*values) for values in json.loads(out.read_text(encoding="utf-8"))]


def run_fork(tool: str, *arguments: object, cwd: Path) -> Result:
    """Run a tool as :func:`run_tool` does, but quicker: in a process that has Paddle already."""
    (result,) = run_cases([(*COMMANDS[tool], arguments)], cwd)
    return result


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
    for package in ("raw_tables", "prediction_rows"):
        shutil.copytree(ROOT / package, folder / package, dirs_exist_ok=True)
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
