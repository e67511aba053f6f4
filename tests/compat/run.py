"""Run the test-suite and the four tools under other versions: ``make test-compat``.

Environments are made beside this project as ``.venv-py310-paddle26`` and the like, from the
interpreters that are on PATH or that pyenv has; a second run finds them ready. Only the standard
library is used here.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("trainer", "infer", "static_trainer", "static_infer")
PINNED = ROOT / "requirements.txt"
FOR_TESTS = (ROOT / "requirements-serve.txt", ROOT / "requirements-dev.txt")
IN_PARALLEL = ("-n", "2", "--dist", "loadfile")  # as ``make test`` does
# Paddle 2.6's last release; its wheel knows no NumPy 2 and imports setuptools.
PADDLE_26 = ("paddlepaddle==2.6.2", "numpy==1.26.4", "setuptools==80.9.0")


class Setting(NamedTuple):
    """One line of the table.

    Attributes:
        python: version of Python.
        paddle: what the environment's name says of Paddle.
        suite: run the test-suite, not only the tools.
        instead: requirements that replace those of the same packages.
        newest: a package whose newest release takes the place of the pinned one.
        tests: what of the test-suite runs.
    """

    python: str
    paddle: str
    suite: bool
    instead: tuple[str, ...] = ()
    newest: str = ""
    tests: str = "tests"

    @property
    def name(self) -> str:
        """What picks it on the command line."""
        parts = [f"py{self.python.replace('.', '')}", f"paddle{self.paddle}", self.newest]
        return "-".join(filter(None, parts))

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return ROOT / f".venv-{self.name}"

    @property
    def python_file(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def requirements(self) -> str:
        """What to install, as pip reads it."""
        lines = PINNED.read_text().splitlines()
        if self.suite:
            lines += [line for file in FOR_TESTS for line in file.read_text().splitlines()]
        replaced = tuple(requirement.split("==")[0] + "==" for requirement in self.instead)
        kept = [line for line in lines if not line.startswith(("-r", *replaced))]
        return "\n".join([*kept, *self.instead]) + "\n"


SETTINGS = (
    Setting("3.11", "33", suite=True),
    Setting("3.10", "26", suite=True, instead=PADDLE_26),
    Setting("3.9", "33", suite=False),
    Setting("3.10", "33", suite=False),
    Setting("3.12", "33", suite=False),
    Setting("3.13", "33", suite=False),
    Setting("3.11", "33", suite=True, newest="matplotlib", tests="tests/test_plot.py"),
)


def main() -> int:
    """Run what the command line picks; 0 if all that could run is green."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--only", nargs="*", choices=names, help="these settings alone")
    parser.add_argument("--no-suite", action="store_true", help="run the tools only")
    options = parser.parse_args()
    lines, missing, green = [], [], True
    for setting in SETTINGS:
        if options.only and setting.name not in options.only:
            continue
        python = find_python(setting.python)
        if python is None:
            missing.append(setting.python)
            continue
        line, passed = run_setting(setting, python, setting.suite and not options.no_suite)
        lines.append(line)
        green = green and passed
    header = ["Python", "paddlepaddle", "NumPy", "four tools", "AUCs, both paths", "test-suite"]
    print_table([header, *lines])
    if missing:
        print(f"not run, no interpreter found: Python {', '.join(dict.fromkeys(missing))}")
    green = green and not (missing and options.only)  # what was asked for by name has to run
    print("green" if green else "RED")
    return 0 if green else 1


def find_python(version: str) -> str | None:
    """An interpreter of a version such as ``3.10``: of pyenv's, or on PATH."""
    candidates = []
    if shutil.which("pyenv"):
        root = capture(["pyenv", "root"])[1].strip()
        candidates += sorted(Path(root, "versions").glob(f"{version}*/bin/python{version}"))
    candidates += filter(None, [shutil.which(f"python{version}"), shutil.which("python3")])
    probe = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for candidate in map(str, candidates):
        status, found = capture([candidate, "-c", probe])
        if status == 0 and found.strip() == version:
            return candidate
    return None


def run_setting(setting: Setting, interpreter: str, suite: bool) -> tuple[list[str], bool]:
    """Make the environment, run what is asked for; a line of the table, whether all passed."""
    python = str(setting.python_file)
    say(f"{setting.name}: environment")
    if not make_environment(setting, interpreter):
        return [setting.python, setting.paddle, "-", "environment failed", "-", "-"], False
    probe = (
        "import platform, numpy, paddle;"
        "print(platform.python_version(), paddle.__version__, numpy.__version__)"
    )
    versions = capture([python, "-c", probe])[1].split()[-3:]
    say(f"{setting.name}: tools")
    tools, scores, tools_pass = run_tools(python)
    result, suite_passes = "-", True
    if suite:
        say(f"{setting.name}: test-suite")
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", *IN_PARALLEL]
        status, output = capture([*command, str(ROOT / setting.tests)], cwd=ROOT)
        summary = [line for line in output.splitlines() if re.search(r"\d (passed|failed)", line)]
        result, suite_passes = summary[-1].strip("= ") if summary else "no result", status == 0
        if setting.newest:
            ask = f"from importlib.metadata import version; print(version('{setting.newest}'))"
            release = capture([python, "-c", ask])[1].strip()
            result = f"{Path(setting.tests).name} with {setting.newest} {release}: {result}"
        if not suite_passes:
            print(output)
    return [*versions, tools, scores, result], tools_pass and suite_passes


def make_environment(setting: Setting, interpreter: str) -> bool:
    """A virtual environment with the requirements, unless there is one already."""
    installed, wanted = setting.folder / "installed.txt", setting.requirements
    install = [str(setting.python_file), "-m", "pip", "install", "-q"]
    if not (installed.is_file() and installed.read_text() == wanted):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "requirements.txt")
            file.write_text(wanted)
            make = [interpreter, "-m", "venv", "--clear", str(setting.folder)]
            if not (succeeds(make) and succeeds([*install, "-r", str(file)])):
                return False
        installed.write_text(wanted)
    # What is newest is asked anew each time.
    return not setting.newest or succeeds([*install, "-U", setting.newest])


def run_tools(python: str) -> tuple[str, str, bool]:
    """The four tools on the sample, each path inferring from its own checkpoints."""
    start = time.perf_counter()
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        for tool in TOOLS:
            command = [python, str(ROOT / "tools" / f"{tool}.py"), "-m", str(ROOT / "config.yaml")]
            out = f"{folder}/{'static' if 'static' in tool else 'dygraph'}"
            command += ["-o", f"runner.model_save_path={out}", f"runner.infer_load_path={out}"]
            status, output = capture(command, cwd=Path(folder))
            if status:
                print(output)
                return f"{tool}: status {status}", "-", False
            if "infer" in tool:
                line = [line for line in output.splitlines() if " done, " in line][-1]
                scores.append(re.findall(r"auc_\w+: (\d\.\d{4})", line))
    same = scores[0] == scores[1]
    shown = " ".join(scores[0]) if same else f"{scores[0]} and {scores[1]} differ"
    return f"ok, {time.perf_counter() - start:.0f} s", shown, same


def capture(command: list[str], cwd: Path | None = None) -> tuple[int, str]:
    """Run to the end; exit status and output."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def succeeds(command: list[str]) -> bool:
    """Run to the end; print the output of a command that fails."""
    status, output = capture(command)
    if status:
        print(output)
    return status == 0


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def print_table(lines: list[list[str]]) -> None:
    """Print as Markdown."""
    print("| " + " | ".join(lines[0]) + " |")
    print("|" + " --- |" * len(lines[0]))
    for line in lines[1:]:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    sys.exit(main())
