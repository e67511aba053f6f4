"""What checkpoints and checks cost, as a share of an epoch; under 3 % is the aim.

    python benchmarks/checkpoint_overhead.py [--rounds 7] [--json results.json]

Trains epochs of the real loop in turns, with everything switched off (no checkpoint, no test of a
loss or a weight), with the default settings (a checkpoint per epoch) and with a checkpoint every
500 batches besides. Two figures for each: how much longer its median epoch took than the bare one,
and the share of the epoch that was spent inside saving and checking, by the clock; the second
hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools")]

ROWS = 66_508
PATHS = ("dygraph", "static")
SAVE_STEPS = {"bare": 0, "default": 0, "every 500 batches": 500}


def main() -> None:
    """Run both paths, each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of training files")
    parser.add_argument("--batch", type=int, default=32, help="rows in a batch")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each kind")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        print(json.dumps(measure(options.path, options.data, options.batch, options.rounds)))
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".overhead-") as folder:
        data = options.data or find_rows(Path(folder))
        results = {}
        for path in PATHS:
            command = [sys.executable, __file__, "--path", path, "--data", str(data.resolve())]
            command += ["--batch", str(options.batch), "--rounds", str(options.rounds)]
            output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout
            results[path] = json.loads(output.splitlines()[-1])
    print_table(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def find_rows(scratch: Path) -> Path:
    """Folder of Census rows, or of the sample's repeated until they are as many."""
    real = ROOT / "datasets" / "census" / "train_all"
    if any(real.glob("*.txt")) or any(real.glob("*.gz")):
        return real
    text = (ROOT / "data" / "train" / "train_data.txt").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    folder = scratch / "rows"
    folder.mkdir()
    with open(folder / "rows.txt", "w", encoding="utf-8") as stream:
        for start in range(0, ROWS, len(lines)):
            stream.writelines(lines[: ROWS - start])
    return folder


def measure(path: str, data: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Train epochs of every kind in turns.

    Returns:
        ``rows`` and, by kind, the ``seconds`` of each epoch and of it the seconds ``inside``
        saving and checking, and the number of checkpoints.
    """
    from rec_runner.config import load_config
    from rec_runner.system.environment import prepare_environment

    config = load_config(
        str(ROOT / "config.yaml"),
        [f"runner.train_data_dir={data}", f"runner.train_batch_size={batch}"],
    )
    prepare_environment(config.runner("thread_num"), batch)
    from rec_runner.build import build_engine
    from rec_runner.data.sources import open_source

    engine, reader = build_engine(path, config, "train", scores=False)
    source = open_source(config, reader, "train", True, "train_data_dir")
    engine.set_state_dict(engine.model.adapt(source.features(), config))
    engine.start_training(source.count(lambda: None))
    source.encode_with(engine.encode, keep=True)

    results: dict[str, Any] = {kind: {"seconds": [], "inside": []} for kind in SAVE_STEPS}
    for turn in range(rounds + 1):
        # Each kind comes first, second and third equally often.
        order = [list(SAVE_STEPS)[(turn + place) % len(SAVE_STEPS)] for place in range(3)]
        for kind in order:
            seconds, inside, saves = one_epoch(engine, source, config, kind)
            if turn:  # the first fills caches
                results[kind]["seconds"].append(seconds)
                results[kind]["inside"].append(inside)
                results[kind]["checkpoints"] = saves
    return {"rows": source.known_rows, "batch": batch, **results}


def one_epoch(engine: Any, source: Any, config: Any, kind: str) -> tuple[float, float, int]:
    """Seconds of an epoch, of these inside saving and checking, and checkpoints written."""
    from rec_runner.checkpoint.resume import run_fingerprint
    from rec_runner.checkpoint.snapshot import Progress, Snapshot
    from rec_runner.checkpoint.store import Checkpoints
    from rec_runner.loop.loop import Plan, Training
    from rec_runner.report.report import Report
    from rec_runner.system.signals import StopSignal

    fingerprint = run_fingerprint(config)
    plan = Plan(1, 1000, SAVE_STEPS[kind], "auc", None, False, fingerprint)
    notes = {"config": dict(config), "versions": {}}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.ExitStack() as stack:
        inside = stack.enter_context(clocked() if kind != "bare" else nothing_checked())
        stack.enter_context(contextlib.redirect_stdout(open(os.devnull, "w")))
        start = time.perf_counter()
        training = Training(
            engine=engine,
            source=source,
            valid_source=None,
            plan=plan,
            checkpoints=Checkpoints(folder, None, notes),
            report=Report(None),
            stop=StopSignal(),
            finish_epoch=lambda *_: None,
        )
        training.run(Snapshot(Progress(), {}, {}, {}, fingerprint))
        seconds = time.perf_counter() - start
    return seconds, sum(inside), sum(inside.saves) if kind != "bare" else 0


class Clock(list):
    """Seconds of every call, outermost ones only, and how many of them were saves."""

    def __init__(self) -> None:
        super().__init__()
        self.saves: list[int] = []
        self._depth = 0

    def around(self, function: Callable[..., Any], save: bool = False) -> Callable[..., Any]:
        """The function, clocked."""

        def clocked_function(*arguments: Any, **named: Any) -> Any:
            self._depth += 1
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._depth -= 1
                self.saves.append(int(save))
                if not self._depth:
                    self.append(time.perf_counter() - start)

        return clocked_function


@contextlib.contextmanager
def clocked() -> Iterator[Clock]:
    """Clock all that saves or checks."""
    from rec_runner.loop import finite
    from rec_runner.loop.loop import Training

    clock, checks = Clock(), finite.FiniteTraining
    with (
        patch.object(Training, "_save", clock.around(Training._save, save=True)),
        patch.object(checks, "broken", clock.around(checks.broken)),
        patch.object(finite, "np", _with(np, isfinite=clock.around(np.isfinite))),
    ):
        yield clock


@contextlib.contextmanager
def nothing_checked() -> Iterator[list[float]]:
    """The loop without checkpoints and checks."""
    from rec_runner.loop.finite import FiniteTraining
    from rec_runner.loop.loop import Training

    def train(checks: Any, window: Any, epoch: int, step: int) -> Any:
        return checks.engine.train(window, step), []

    with (
        patch.object(Training, "_save", lambda *_: None),
        patch.object(FiniteTraining, "broken", lambda *_: []),
        patch.object(FiniteTraining, "train", train),
    ):
        yield []


class _with:  # noqa: N801 - reads as what it does
    """A module with some of its names replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def print_table(results: dict[str, Any]) -> None:
    """Median epochs and what they cost more."""
    print(f"{'path':8} {'kind':18} {'epoch s':>8} {'longer %':>9} {'inside %':>9} {'saves':>6}")
    for path, result in results.items():
        bare = statistics.median(result["bare"]["seconds"])
        for kind in SAVE_STEPS:
            epoch = statistics.median(result[kind]["seconds"])
            inside = statistics.median(result[kind]["inside"])
            saves = result[kind]["checkpoints"]
            print(
                f"{path:8} {kind:18} {epoch:8.3f} {100 * (epoch / bare - 1):9.2f} "
                f"{100 * inside / bare:9.2f} {saves:6}"
            )
        print(f"{path:8} {result['rows']:,} rows, batches of {result['batch']}")


if __name__ == "__main__":
    main()
