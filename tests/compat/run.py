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
FOR_TESTS = ROOT / "requirements-dev.txt"
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
    """

    python: str
    paddle: str
    suite: bool
    instead: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return ROOT / f".venv-py{self.python.replace('.', '')}-paddle{self.paddle}"

    @property
    def python_file(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def requirements(self) -> str:
        """What to install, as pip reads it."""
        lines = PINNED.read_text().splitlines()
        if self.suite:
            lines += FOR_TESTS.read_text().splitlines()
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
)


def main() -> int:
    """Run what the command line picks; 0 if all that could run is green."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="py310-paddle26", help="these settings alone")
    parser.add_argument("--no-suite", action="store_true", help="run the tools only")
    options = parser.parse_args()
    lines, missing, green = [], [], True
    for setting in SETTINGS:
        if options.only and setting.folder.name.replace(".venv-", "") not in options.only:
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
    say(f"{setting.folder.name}: environment")
    if not make_environment(setting, interpreter):
        return [setting.python, setting.paddle, "-", "environment failed", "-", "-"], False
    probe = (
        "import platform, numpy, paddle;"
        "print(platform.python_version(), paddle.__version__, numpy.__version__)"
    )
    versions = capture([python, "-c", probe])[1].split()[-3:]
    say(f"{setting.folder.name}: tools")
    tools, scores, tools_pass = run_tools(python)
    result, suite_passes = "-", True
    if suite:
        say(f"{setting.folder.name}: test-suite")
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", *IN_PARALLEL]
        status, output = capture([*command, str(ROOT / "tests")], cwd=ROOT)
        summary = [line for line in output.splitlines() if re.search(r"\d (passed|failed)", line)]
        result, suite_passes = summary[-1].strip("= ") if summary else "no result", status == 0
        if not suite_passes:
            print(output)
    return [*versions, tools, scores, result], tools_pass and suite_passes


def make_environment(setting: Setting, interpreter: str) -> bool:
    """A virtual environment with the requirements, unless there is one already."""
    installed, wanted = setting.folder / "installed.txt", setting.requirements
    if installed.is_file() and installed.read_text() == wanted:
        return True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text(wanted)
        for command in (
            [interpreter, "-m", "venv", "--clear", str(setting.folder)],
            [str(setting.python_file), "-m", "pip", "install", "-q", "-r", str(file)],
        ):
            status, output = capture(command)
            if status:
                print(output)
                return False
    installed.write_text(wanted)
    return True


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
