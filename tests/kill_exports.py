"""Kills exports at their file operations, each in a process of its own; prints what was left.

    python tests/kill_exports.py FOLDER KILLS LINE…

An export into ``FOLDER/work/out`` is killed by a real SIGKILL at some of its file operations, see
``kills.py``: at as many as ``KILLS`` says, evenly spread. Each finds the export ``FOLDER/old``
there. All that comes before the first of them is done once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import zlib  # noqa: F401 - Paddle 2.6 brings one of its own, which breaks Python's unless it is first
from contextlib import AbstractContextManager
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tools")]

from kills import Deaths  # noqa: E402

from rec_runner import export  # noqa: E402
from rec_runner.cli import main  # noqa: E402
from rec_runner.exported.open import open_export  # noqa: E402

SECONDS = 120
FOLDER, KILLS = Path(sys.argv[1]), int(sys.argv[2])
WORK, COUNT = FOLDER / "work", FOLDER / "count"
new_export = export.new_export
deaths: list[Deaths] = []  # of this process, if it is one to be killed


def start() -> None:
    """The folder as it is before an export."""
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(FOLDER / "old", WORK / "out")


def killed_first(target: Path) -> AbstractContextManager[Path]:
    """In place of ``new_export``: the process forks, and its children are killed amid it."""
    old = open_export(FOLDER / "old").manifest.model
    at, operations = 0, 0
    for turn in range(KILLS + 1):
        start()
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            deaths.append(Deaths(WORK, at))
            deaths[0].install()
            return new_export(target)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if turn == 0:
            assert status == 0
            operations = int(COUNT.read_text())
        else:
            model = open_export(WORK / "out").manifest.model  # whole, whichever it is
            fate = "old" if model == old else "new"
            left = sum(entry.name != "out" for entry in WORK.iterdir())
            print(f"{at} of {operations}: status {status}, {fate}, {left} left", flush=True)
        at = 1 + turn * (operations - 1) // max(KILLS - 1, 1)
    return new_export(target)


export.new_export = killed_first
status = main("export", "", [*sys.argv[3:], "--out", str(WORK / "out")])
if deaths:
    COUNT.write_text(str(len(deaths[0].seen)))
    os._exit(status)
assert [entry.name for entry in WORK.iterdir()] == ["out"]
sys.exit(status)
