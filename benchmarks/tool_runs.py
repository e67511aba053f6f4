"""The tools as a person runs them: wall seconds and peak memory of their processes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import common

OLD = "old_"  # starts the names of what is another commit's, see ``against.py``


class ToolRun(NamedTuple):
    """A row of the table.

    Attributes:
        end: of the tool's name.
        note: what the row says besides.
        config: name of the config file.
        overrides: ``key=value`` of ``-o``.
        before: ends of the tools that run once, untimed, before the first turn.
        data: the rows are those of the benchmark, not those that the config names.
    """

    end: str
    note: str
    config: str
    overrides: tuple[str, ...]
    before: tuple[str, ...] = ()
    data: bool = True


_BIG = "config_bigdata.yaml"
_MODEL = ("runner.epochs=1", "runner.model_save_path=model", "runner.infer_load_path=model")
_FAST = ("runner.model_save_path=fast",)
_SAMPLE = ("runner.model_save_path=sample", "runner.infer_load_path=sample")
START_UP = ToolRun(
    "infer", " -m config.yaml, the sample", "config.yaml", _SAMPLE, ("trainer",), data=False
)
RUNS = {
    "tools": (
        ToolRun("trainer", "", _BIG, _MODEL),
        ToolRun("infer", "", _BIG, _MODEL),
        ToolRun("trainer", " -m config_fast.yaml", "config_fast.yaml", _FAST),
    ),
    "caches": (
        ToolRun("trainer", ", cache_mb=0", _BIG, (*_MODEL, "runner.cache_mb=0")),
        ToolRun(
            *("trainer", ", cache_dir, 2nd run", _BIG, (*_MODEL, "runner.cache_dir=rows")),
            before=("trainer",),
        ),
    ),
    "startup": (START_UP,),
}


def measure_tools(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Run the tools in turns.

    Args:
        options: ``repeats``; ``sides``, of which the graph paths run; ``only``, which of
            :data:`RUNS`; ``data``; ``trees``, model directories by the prefix of what is theirs.

    Returns:
        by row of the table, by column, a figure per turn: ``seconds`` and ``peak_mb`` of each
        tree; for :data:`START_UP` ``import_seconds`` too, those of ``import paddle`` alone.
    """
    rows: dict[str, dict[str, list[float]]] = {}
    runs = [run for part, runs in RUNS.items() if part in options.only for run in runs]
    paths = [path for path in common.PATHS if path in options.sides]
    with tempfile.TemporaryDirectory(prefix="tools-") as scratch:
        for turn in range(1, options.repeats + 1):
            for path, run in [(path, run) for path in paths for run in runs]:
                name = f"{_tool(path, run.end)}.py{run.note}"
                columns = rows.setdefault(name, {})
                ends: dict[str, common.Ended] = {}
                for prefix, tree in common.to_and_fro(options.trees.items(), turn):
                    folder = Path(scratch, f"{prefix}{path}")
                    folder.mkdir(exist_ok=True)
                    for end in run.before if turn == 1 else ():
                        _run(_tool(path, end), run, tree, folder, options.data)
                    ends[prefix] = _run(_tool(path, run.end), run, tree, folder, options.data)
                if run is START_UP:
                    ended = common.run_python(["-c", "import paddle"], Path(scratch))
                    columns.setdefault("import_seconds", []).append(ended.seconds)
                for prefix, ended in ends.items():
                    columns.setdefault(f"{prefix}seconds", []).append(ended.seconds)
                    columns.setdefault(f"{prefix}peak_mb", []).append(ended.peak_mb)
                found = ", ".join(
                    f"{column} {values[-1]:.1f}" for column, values in columns.items()
                )
                common.say(f"turn {turn}, {name}: {found}")
    return rows


def _tool(path: str, end: str) -> str:
    return f"static_{end}" if path == "static" else end


def _run(tool: str, run: ToolRun, tree: Path, folder: Path, data: common.Data) -> common.Ended:
    overrides = [*run.overrides, *(data.overrides() if run.data else ())]
    return common.run_tool(tool, tree / run.config, overrides, folder, tree / "tools")
