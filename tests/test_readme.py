"""The READMEs: every command runs, every parameter is the code's, every link leads somewhere.

The commands are read out of the files and run in order, identical ones once, in a copy of the
repository. Those of our tools share one process, which runs the very files ``tools/*.py``, because
importing Paddle takes longer than most of them; all others go to bash. A command runs as it stands
unless ``SHORTENED`` appends to it or ``NOT_RUN_AS_IT_STANDS`` names it; any other command that
exits non-zero fails the test.
"""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from census_rows import generate
from helpers import ROOT, Result, epoch_lines, paddlerec_state, run

from hyper_parameters import SECTION, HyperParameters
from rec_runner.keys import RUNNER_KEYS
from rec_runner.report.visualdl import FOLDER

READMES = ("README.md", "README_EN.md")
SECTIONS = (
    "模型简介",
    "数据准备",
    "运行环境",
    "快速开始",
    "模型组网",
    "效果复现",
    "进阶使用",
    "FAQ",
)
SECONDS = 120  # for one command
SERVED = "http://127.0.0.1:8000"
TOOL = re.compile(r"python (-u )?tools/\w+\.py( |$)")

# What is appended, to need no internet or to take seconds rather than hours.
SHORTENED = {
    # A server on this machine stands in for UCI's.
    "sh datasets/census/run.sh": "--url {url}",
    "python benchmarks/quality.py": "--seeds 1 --only fast --paths eager -o runner.epochs=1",
    "python benchmarks/throughput.py": "--quick --sides eager --only training",
    "python benchmarks/scaling.py": "--quick --only rows --paths eager",
}

# Runs tools/*.py for the command lines that come on stdin, one JSON list each.
_TOOLS_SCRIPT = """
import contextlib, io, json, runpy, sys, traceback

for line in sys.stdin:
    sys.argv = json.loads(line)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
            status = -1
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def text(readme: str) -> str:
    """A README's text."""
    return (ROOT / readme).read_text(encoding="utf-8")


def commands(markdown: str) -> list[str]:
    """Commands of the ``bash`` and ``sh`` blocks, here-documents whole, comments left out."""
    found = []
    for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```$", markdown, re.M | re.S):
        lines = iter(block.replace("\\\n", " ").splitlines())
        for line in lines:
            here = re.search(r"<<'(\w+)'", line)
            if here:
                for more in lines:
                    line += f"\n{more}"
                    if more == here[1]:
                        break
            else:
                line = re.sub(r"(^|\s+)#.*", "", line)
            if line:
                found.append(line)
    return found


ALL_COMMANDS = list(dict.fromkeys(c for readme in READMES for c in commands(text(readme))))


class Shell:
    """Runs commands in a copy of the repository.

    Args:
        folder: the copy.
        url: of an archive that stands in for UCI's.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.results: dict[str, Result] = {}
        self.server: subprocess.Popen[str] | None = None
        self.address = ""  # where it serves
        programs = folder.parent / "bin"
        programs.mkdir()
        for name in ("python", "python3"):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
            program.chmod(0o755)
        path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join(path),
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }
        self._tools = subprocess.Popen(
            [sys.executable, "-c", _TOOLS_SCRIPT],
            cwd=folder,
            env={**self.environment, "PYTHONPATH": "tools"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End the process of the tools, and the service that a command started."""
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=SECONDS)
        self._tools.stdin.close()
        self._tools.wait(SECONDS)
        self._tools.stdout.close()

    def run(self, command: str) -> Result:
        """Run a command as it stands, the first time; then what it gave."""
        if command not in self.results:
            by_tools = TOOL.match(command) and not re.search(r"[|&;<>$`\n]", command)
            self.results[command] = self._run_tool(command) if by_tools else self._bash(command)
        return self.results[command]

    def _run_tool(self, command: str) -> Result:
        words = [word for word in shlex.split(command)[1:] if word != "-u"]
        timer = threading.Timer(SECONDS, self._tools.kill)
        timer.start()
        try:
            self._tools.stdin.write(json.dumps(words) + "\n")
            self._tools.stdin.flush()
            return Result(*json.loads(self._tools.stdout.readline()))
        finally:
            timer.cancel()

    def _bash(self, command: str) -> Result:
        process = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Result(process.returncode, process.stdout, process.stderr)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A copy of the repository, with what the READMEs take as given beside it."""
    folder = tmp_path_factory.mktemp("readme") / "repository"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    _raw_rows(folder / "raw")
    old = folder / "old_output" / "0"  # what PaddleRec's eager trainer left
    old.mkdir(parents=True)
    state = paddlerec_state(np.random.default_rng(0), 499, 2, 117, 8)
    (old / "rec.pdparams").write_bytes(pickle.dumps(state, protocol=4))
    site = folder.parent / "site"
    site.mkdir()
    with zipfile.ZipFile(site / "census.zip", "w") as archive:
        for file in (folder / "raw").iterdir():
            archive.write(file, file.name)
    handler = partial(_QuietHandler, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shell = Shell(folder, f"http://127.0.0.1:{server.server_port}/census.zip")
    yield shell
    shell.close()
    server.shutdown()
    server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _raw_rows(folder: Path) -> None:
    """UCI's two files, made up; with few rows even ``config_bigdata.yaml`` takes seconds."""
    folder.mkdir()
    for name, rows, seed in (("data", 400, 1), ("test", 300, 2)):
        lines = "".join(f"{line}\n" for line in generate(rows, seed))
        file = folder / f"census-income.{name}.gz"
        file.write_bytes(gzip.compress(lines.encode()))


# Commands that are not run as they stand


def make(shell: Shell, command: str) -> None:
    """The target is there; its recipe is run, by this Python and not by a new .venv."""
    ready = [word for name in ("", "-dev", "-serve") for word in ("-o", f".venv/.ready{name}")]
    _, target = command.split()
    alone = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL"]  # the suite itself may run under make
    dry = shell.run(shlex.join([*alone, "make", "-n", *ready, "BIN=/BIN", target]))
    assert dry.status == 0, dry.stderr
    recipe = dry.stdout.replace("/BIN/", "").splitlines()
    assert recipe
    if target == "serve":  # it serves as a command of the READMEs does, after a training
        assert recipe.pop() in (f"{command} --port 8000" for command in ALL_COMMANDS)
        first, *recipe = recipe
        recipe = [first.partition(" || ")[2], first, *recipe]
    if target in ("quickstart", "serve"):
        for line in recipe:
            result = shell.run(line)
            assert result.status == 0, f"{line}\n{result.stderr}"
    if target == "serve":
        assert shell.run(first).stdout == ""  # a second time there is nothing to train


def activate(shell: Shell, command: str) -> None:
    """No environment is made here; the one named is the one that make would make."""
    folder = command.split()[1][: -len("/bin/activate")]
    assert f" -m venv {folder}\n" in (shell.folder / "Makefile").read_text(encoding="utf-8")


def pip(shell: Shell, command: str) -> None:
    """Nothing is installed; the file is there, or pyproject.toml names the package."""
    project = (shell.folder / "pyproject.toml").read_text(encoding="utf-8")
    first, *rest = shlex.split(command)[4:]
    if first == "-r":
        assert len(rest) == 1 and (shell.folder / rest[0]).is_file()
        return
    for package in (first, *rest):
        assert re.search(rf'"{re.escape(package)}\W', project), package


def with_visual(shell: Shell, command: str) -> None:
    """Runs; where VisualDL is not installed, says so."""
    result = shell.run(command)
    if importlib.util.find_spec("visualdl"):
        assert result.status == 0, result.stderr
    else:
        assert result.status == 2 and "needs VisualDL" in result.stderr


def visualdl(shell: Shell, command: str) -> None:
    """Where it is installed the server is started, asked for its page, and ended."""
    program, option, logdir = shlex.split(command)
    assert (program, option, Path(logdir).name) == ("visualdl", "--logdir", FOLDER)
    if not importlib.util.find_spec("visualdl"):
        return
    assert any((shell.folder / logdir).iterdir())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [program, option, logdir, "--host", "127.0.0.1", "--port", str(port)],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            assert _answers(port, server)
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its own group: it starts processes


def _answers(port: int, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            # VisualDL chooses the page's language by this header, and fails without one.
            connection.request("GET", "/app/index", headers={"Accept-Language": "en"})
            return connection.getresponse().status == 200
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    return False


def serve(shell: Shell, command: str) -> None:
    """The service is started at a free port, and stays for what asks it."""
    words = [sys.executable, *shlex.split(command)[1:], "--port", "0"]
    shell.server = subprocess.Popen(
        words,
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    timer = threading.Timer(SECONDS, shell.server.kill)
    timer.start()
    _, serves, shell.address = shell.server.stdout.readline().strip().partition("serving at ")
    timer.cancel()
    assert serves


def curl(shell: Shell, command: str) -> None:
    """The service that runs is asked; where there is no curl, nothing is."""
    assert SERVED in command and shell.address
    if shutil.which("curl"):
        asked = re.sub(r"\bcurl ", "curl --fail-with-body ", command)
        result = shell.results[command] = shell.run(asked.replace(SERVED, shell.address))
        assert result.status == 0, result.stdout + result.stderr


NOT_RUN_AS_IT_STANDS: dict[str, Callable[[Shell, str], None]] = {
    r"make [\w-]+$": make,
    r"\. \S+/bin/activate$": activate,
    r"python -m pip install ": pip,
    r"python .*runner\.use_visual=true": with_visual,
    r"visualdl ": visualdl,
    r"python tools/serve\.py ": serve,
    r"(.*\| )?curl ": curl,
}


def run_by_the_rules(shell: Shell, command: str) -> None:
    """Run a command of a README."""
    for pattern, handler in NOT_RUN_AS_IT_STANDS.items():
        if re.match(pattern, command):
            handler(shell, command)
            return
    extra = next((e for c, e in SHORTENED.items() if f"{command} ".startswith(f"{c} ")), "")
    result = shell.run(f"{command} {extra.format(url=shell.url)}" if extra else command)
    assert result.status == 0, f"status {result.status}\n{result.stdout[-500:]}{result.stderr}"


@pytest.fixture(scope="module")
def failures(shell: Shell) -> list[str]:
    """What went wrong when all commands were run, in the order in which the READMEs give them."""
    failed = []
    for command in ALL_COMMANDS:
        try:
            run_by_the_rules(shell, command)
        except (AssertionError, ValueError, OSError, subprocess.TimeoutExpired) as error:
            failed.append(f"$ {command}\n{type(error).__name__}: {error}")
    return failed


def test_every_command_runs(failures: list[str]) -> None:
    assert not failures, "\n\n".join(failures)


def test_the_scores_shown_are_those_printed(shell: Shell, failures: list[str]) -> None:
    printed = shell.results["python -u tools/infer.py -m config.yaml"].stdout
    ((epoch, scores),) = epoch_lines(printed).items()
    names = [*scores]
    for readme in READMES:
        table = rf"^epoch +phase +{' +'.join(names)} +rows/s\n +{epoch} +infer +(.*)$"
        shown = re.search(table, text(readme), re.M)
        assert shown, f"{readme} does not show the table of config.yaml"
        values = [float(value) for value in shown[1].split()[: len(names)]]
        # Other processors and versions of Paddle round differently.
        assert values == pytest.approx([*scores.values()], abs=0.02), readme


def test_the_table_of_the_shop_is_that_shown(shell: Shell, failures: list[str]) -> None:
    """What the schema tool says of each column, and what the trainer scores the test rows with."""
    (told,) = (r.stdout for command, r in shell.results.items() if "tools/schema.py" in command)
    columns, _, _ = told.partition("\n\n")
    printed = shell.results["python -u tools/trainer.py -m config_shop.yaml"].stdout
    head, *_, scored = printed[printed.index("epoch  phase") :].splitlines()
    for readme in READMES:
        blocks = re.findall(r"^```text\n(.*?)^```$", text(readme), re.M | re.S)
        block = next(block for block in blocks if block.startswith("column "))
        shown = [line.split() for line in block.splitlines() if not line.startswith("warning: ")]
        assert shown == [line.split() for line in columns.splitlines()], readme
        titles = " +".join(map(re.escape, head.split()))  # how wide they are, speed decides
        table = re.search(rf"^{titles}\n +\d+ +infer +(.*)$", text(readme), re.M)
        assert table, f"{readme} does not show the table of config_shop.yaml"
        # Not the losses of a price: they are large, and few rows have one.
        rows = (table[1].split(), scored.split()[2:])
        given, now = (dict(zip(head.split()[2:], row)) for row in rows)
        for name in ("auc_click", "auc_buy", "logloss_click", "logloss_buy"):
            assert float(given[name]) == pytest.approx(float(now[name]), abs=0.04), (readme, name)


def test_the_predictions_shown_are_those_given(shell: Shell, failures: list[str]) -> None:
    """Those of a file, and those of a request, which are also those of standard input."""
    (kept,) = (r.stdout for command, r in shell.results.items() if "--keep" in command)
    pipes = ((c, r.stdout) for c, r in shell.results.items() if "| python tools/predict" in c)
    ((line, piped),) = pipes
    row = re.search("{.*}", line)[0]
    answers = [r.stdout for c, r in shell.results.items() if "curl" in c and row in c]
    for readme in READMES:
        shown = text(readme)
        blocks = re.findall(r"^```text\n(.*?)^```$", shown, re.M | re.S)
        assert _numbers_out(kept) in map(_numbers_out, blocks), readme
        given = json.loads(re.search(r"^```json\n(.*?)^```$", shown, re.M | re.S)[1])
        assert row in shown.partition("curl ")[2]
        for answer in map(json.loads, answers):
            assert answer.keys() == given.keys()
            (now,), (then,) = answer["predictions"], given["predictions"]
            # Other processors and versions of Paddle round differently in training.
            assert now == pytest.approx(then, abs=0.05)
            head, scores = (cells.split(",") for cells in piped.split())
            assert dict(zip(head, map(float, scores))) == pytest.approx(now, abs=1e-6)
    files = [shell.folder / f"output_scores.{kind}" for kind in ("csv", "parquet")]
    rows = [len(files[0].read_text().splitlines()) - 1, pq.read_metadata(files[1]).num_rows]
    assert rows == [360, 360]


def _numbers_out(block: str) -> str:
    """A table without what is different in another training."""
    return re.sub(r"\b0\.\d+", "0", block)


@pytest.mark.parametrize("readme", READMES)
def test_what_a_command_needs_is_set_up_before_it(readme: str) -> None:
    given = commands(text(readme))

    def first(start: str) -> int:
        return next(place for place, command in enumerate(given) if command.startswith(start))

    assert first("make quickstart") < first(". .venv/bin/activate") < first("python ")
    assert first("python -m pip install matplotlib") < first("python tools/plot.py")
    assert first("python -m pip install -r requirements-dev.txt") < first("python benchmarks/")
    assert first("python -m pip install -r requirements-serve.txt") < first(
        "python tools/export.py"
    )
    assert first("python tools/serve.py") < next(i for i, c in enumerate(given) if "curl " in c)


def test_commands_are_read_out_of_blocks() -> None:
    markdown = (
        "text\n```bash\n# why\na b   # what\ncat <<'X'\n# in\nX\nc \\\n  d\n```\n```text\ne\n```\n"
    )
    assert commands(markdown) == ["a b", "cat <<'X'\n# in\nX", "c    d"]


# Parameters


def expected_parameters() -> dict[str, tuple[str, str]]:
    """Type and default of every key, as the tables should write them."""
    keys: dict[str, tuple[str, Any]] = {}
    for key in RUNNER_KEYS:
        keys[f"runner.{key.name}"] = (key.type, key.default)
    keys[f"{SECTION}task_num"] = ("int", None)  # not a setting of its own: see from_config
    for item in fields(HyperParameters):
        if "key" not in item.metadata:
            continue
        kind = re.sub(r"^tuple\[(\w+), \.\.\.\]$", r"list[\1]", item.type.split(" | ")[0])
        if item.metadata["names"]:
            kind = kind.replace("int", "int/str")
        keys[SECTION + item.metadata["key"]] = (kind, item.default)
    return {key: (kind, as_yaml(default)) for key, (kind, default) in keys.items()}


def as_yaml(value: Any) -> str:
    """A value as a config would write it."""
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]


def parameter_rows(readme: str) -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning of each row of a README's table."""
    marks = r"<!-- parameters:begin -->\n(.*?)<!-- parameters:end -->"
    _, _, *lines = re.search(marks, text(readme), re.S)[1].strip().splitlines()
    rows = []
    for line in lines:
        row = re.fullmatch(r"\| `([^`]+)` \| (\S+) \| `([^`]+)` \| (\S.*) \|", line)
        assert row, f"{readme}: {line}"
        rows.append(row.groups())
    return rows


@pytest.mark.parametrize("readme", READMES)
def test_the_parameter_table_is_that_of_the_code(readme: str) -> None:
    rows = parameter_rows(readme)
    shown = {key: (kind, default) for key, kind, default, _ in rows}
    assert len(shown) == len(rows), "a key has two rows"
    assert shown == expected_parameters()


@pytest.mark.parametrize("readme", READMES)
def test_every_choice_is_named(readme: str) -> None:
    meanings = {key: meaning for key, _, _, meaning in parameter_rows(readme)}
    for item in fields(HyperParameters):
        for choice in item.metadata.get("choices", ()):
            assert f"`{choice}`" in meanings[SECTION + item.metadata["key"]], choice


def test_every_hyper_parameter_of_the_table_is_read() -> None:
    rows = {key: default for key, _, default, _ in parameter_rows(READMES[0])}
    values = {key: yaml.safe_load(default) for key, default in rows.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unknown key is warned of
        assert HyperParameters.from_config(values) == HyperParameters()


# Structure


def headings(readme: str) -> list[tuple[int, str]]:
    """Level and text of each heading outside code blocks."""
    prose = re.sub(r"^```.*?^```$", "", text(readme), flags=re.M | re.S)
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", prose, re.M)]


def test_sections_are_those_of_paddlerec_in_both_languages() -> None:
    chinese, english = (headings(readme) for readme in READMES)
    assert tuple(title for level, title in chinese if level == 2) == SECTIONS
    assert [level for level, _ in chinese] == [level for level, _ in english]


def test_both_languages_give_the_same_commands() -> None:
    def plain(readme: str) -> list[str]:
        found = (command.replace(" --lang en", "") for command in commands(text(readme)))
        return [re.sub(r" +# .*", "", command) for command in found]

    assert plain(READMES[0]) == plain(READMES[1])


@pytest.mark.parametrize("readme", READMES)
def test_every_link_leads_somewhere(readme: str) -> None:
    anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for _, t in headings(readme)}
    for target in re.findall(r"\]\(([^)]+)\)", text(readme)):
        file, _, anchor = target.partition("#")
        if not target.startswith("http"):
            assert not file or (ROOT / file).is_file(), target
            assert not anchor or anchor in anchors, target


def test_the_inference_model_is_used_as_told(shell: Shell, failures: list[str]) -> None:
    blocks = {
        block
        for readme in READMES
        for block in re.findall(r"^```python\n(.*?)^```$", text(readme), re.M | re.S)
    }
    (block,) = blocks  # the same in both
    if version("paddlepaddle").startswith("2."):
        block = block.replace(".json", ".pdmodel")  # as the lines above it say
    result = run([sys.executable, "-c", block], cwd=shell.folder)
    assert result.status == 0, result.stderr
    for task in ("income", "marital"):
        assert re.search(rf"^probability_{task} \[\S+ \S+\]$", result.stdout, re.M)
