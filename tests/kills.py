"""Kills a short training at each of its file operations in turn, resumes it, compares all files.

    python tests/kills.py                              every operation, both graphs
    python tests/kills.py --graph static --at 137      one of them, with what each process said
    python tests/kills.py --graph static --list        the operations, numbered

A process dies by a real SIGKILL to itself before its n-th file operation: before a file is opened
for writing, written to, flushed to disk, renamed, removed, before a folder is made or removed; and
amid a write, half of its bytes being on disk. What Paddle writes by itself, in an export, counts as
one operation, amid which it leaves half of each file. The next process resumes, and has to start
where the last checkpoint stands that had its name. In the end the output folder and ``cache_dir``
have to hold the files of a run that was never killed, and no other ones, with the same bytes but
for times and names of runs.

A kill leaves what was written in the system's memory, a power cut does not; so the order of the
operations is looked at too: what takes its name has to be on disk before.

Three scenarios: ``new`` is killed once; ``twice`` is killed in the resumed run too, at an operation
drawn by chance; ``again`` is a new run, with other weights to start with, in an old run's folder,
killed once between its note and its first checkpoint.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import io
import json
import multiprocessing
import os
import pickle
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zlib  # noqa: F401 - Paddle 2.6 brings one of its own, which breaks Python's unless it is first
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tools")]

from helpers import make_model_dir, override, write_table  # noqa: E402

GRAPHS = ("dygraph", "static")
SCENARIOS = ("new", "twice", "again")
SECONDS = 300  # that a run may take on a loaded machine
RUNNER = {
    "train_data_dir": "train",
    "train_reader_path": "census_reader",
    "train_batch_size": 10,
    "epochs": 3,
    "print_interval": 2,
    "save_steps": 2,
    "shuffle": True,
    "shuffle_buffer": 20,
    "valid_share": 0.2,
    "keep_checkpoints": 1,
    "use_save_data": True,
    "cache_dir": "cache",
    "model_save_path": "out",
}
EXPORT = {
    "use_inference": True,
    "save_inference_feed_varnames": ["features"],
    "save_inference_fetch_varnames": ["probability_a"],
}
HYPER = {
    "feature_size": 4,
    "task_names": ["a", "b"],
    "label_columns": [0, 1],
    "bottom_size": 3,
    "tower_size": 2,
    "bottom_dropout": 0.2,
    "optimizer": {"class": "adam", "learning_rate": 0.05},
}
ROWS = 52  # 42 to train on: 4 batches, so that every second checkpoint in mid-epoch is at its end
# Events of ``sys.audit``, and where their paths and the folders that these are relative to stand.
EVENTS = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.truncate": ((0, None),),
}
PLACE = re.compile(r"out/\.(\d+)(?:-(\d+))?\.part")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Deaths:
    """Counts the file operations of this process below a folder, and kills it at one of them.

    Args:
        root: the folder.
        at: number of the operation, from 1; 0 never kills.

    Attributes:
        seen: the operations so far, for people to read.
    """

    def __init__(self, root: Path, at: int) -> None:
        self.root = f"{root}{os.sep}"
        self.at = at
        self.seen: list[str] = []

    def install(self) -> None:
        """Watch this process from now on."""
        import paddle

        self._open, self._fsync = io.open, os.fsync
        self._export = paddle.static.save_inference_model
        sys.addaudithook(self._hear)
        builtins.open = io.open = self._opened  # type: ignore[assignment]
        os.fsync = self._flushed
        paddle.static.save_inference_model = self._exported

    def point(self, what: str, path: object, amid: Callable[[], None] = lambda: None) -> None:
        """An operation on a path: die here, if it is its turn, after the part of it in ``amid``."""
        self.seen.append(f"{what} {os.path.relpath(str(path), self.root)}")
        if len(self.seen) == self.at:
            self.at = 0
            amid()
            os.kill(os.getpid(), signal.SIGKILL)

    def path(self, name: Any, folder: int | None = None) -> str | None:
        """A path as text, None where it is not below the root."""
        if isinstance(name, int):
            name = f"/proc/self/fd/{name}"
            name = os.readlink(name) if os.path.islink(name) else name
        elif folder is not None and folder >= 0:
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(name))
        found = os.path.abspath(os.fsdecode(name))
        return found if found.startswith(self.root) else None

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            name, mode, flags = given
            writes = any(letter in mode for letter in "wax+") if mode else flags & WRITES
            if writes and not isinstance(name, int) and self.path(name):
                self.point("open", self.path(name))
        elif event in EVENTS:
            places = EVENTS[event]
            found = [self.path(given[n], None if d is None else given[d]) for n, d in places]
            if any(found):
                self.point(event, next(filter(None, found)))

    def _flushed(self, handle: int) -> None:
        path = self.path(handle)
        if path:
            self.point("fsync", path)
        self._fsync(handle)

    def _opened(self, file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        stream = self._open(file, mode, *rest, **named)
        path = self.path(file)
        return Written(stream, path, self) if path and set(mode) & set("wax+") else stream

    def _exported(self, prefix: str, *rest: Any, **named: Any) -> None:
        def half() -> None:
            for file in Path(prefix).parent.iterdir():
                os.truncate(file, file.stat().st_size // 2)

        self.point("export", prefix)
        self._export(prefix, *rest, **named)
        self.point("amid the export", prefix, half)


class Written:
    """A file opened for writing, each write to which is an operation, and again amid it."""

    def __init__(self, stream: Any, path: str, deaths: Deaths) -> None:
        self._stream, self._path, self._deaths = stream, path, deaths

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, data: Any) -> int:
        """Write, or die before it or amid it."""

        def half() -> None:
            whole = data if isinstance(data, str) else bytes(data)
            self._stream.write(whole[: len(whole) // 2])
            self._stream.flush()

        if len(data):
            self._deaths.point("write", self._path)
            self._deaths.point("amid a write", self._path, half)
        return self._stream.write(data)


class Run(NamedTuple):
    """How a process ended, what it said, and its file operations if it came to its end."""

    status: int
    said: str
    operations: list[str]


class Setting(NamedTuple):
    """What the runs of a graph and a scenario share.

    Attributes:
        graph: which.
        scenario: which.
        config: the model directory's.
        old: a folder to start in, or None.
        options: of the run that is killed first; those after it have ``resume``.
        whole: the folder of a run that was never killed.
        points: its file operations.
        first: number of the first operation to kill at.
        last: number of the last one.
    """

    graph: str
    scenario: str
    config: Path
    old: Path | None
    options: dict[str, Any]
    whole: Path
    points: list[str]
    first: int
    last: int


def run(folder: Path, graph: str, config: Path, at: int = 0, **options: Any) -> Run:
    """Train in a process of its own, which dies at an operation.

    Args:
        folder: working directory; the file operations below it count.
        graph: ``dygraph`` or ``static``.
        config: the model directory's.
        at: which operation; 0 is none.
        options: keys of the runner.
    """
    with tempfile.TemporaryDirectory() as aside:
        log, operations = Path(aside, "log"), Path(aside, "operations")
        child = os.fork()
        if not child:
            arguments = ["-m", str(config), *(override(**options) if options else [])]
            _child(folder, graph, arguments, at, log, operations)
        _, status = os.waitpid(child, 0)
        seen = json.loads(operations.read_text()) if operations.exists() else []
        said = log.read_text(encoding="utf-8", errors="replace")
    return Run(os.waitstatus_to_exitcode(status), said, seen)


def _child(
    folder: Path, graph: str, arguments: list[str], at: int, log: Path, operations: Path
) -> None:
    """The rest of a child process."""
    status = 3
    try:
        signal.alarm(SECONDS)
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(handle, stream.fileno())
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        from rec_runner.cli import main

        deaths = Deaths(folder, at)
        deaths.install()
        status = main("train", graph, arguments)
        operations.write_text(json.dumps(deaths.seen))
    finally:
        os._exit(status)


def prepare(work: Path, graph: str, scenario: str) -> Setting:
    """Make a model directory and the run that is never killed."""
    config = work / "model" / "config.yaml"
    if not config.exists():
        rng = np.random.default_rng(0)
        table = rng.normal(size=(ROWS, 6))
        table[:, :2] = table[:, 2:4] > 0
        write_table(config.parent / "train" / "a.txt", table[: ROWS // 2])
        write_table(config.parent / "train" / "b.txt", table[ROWS // 2 :])
        runner = {**RUNNER, "train_data_dir": str(config.parent / "train")}
        make_model_dir(config.parent, runner, HYPER)
    options = {} if graph == "dygraph" else {k: json.dumps(v) for k, v in EXPORT.items()}
    old = None
    if scenario == "again":
        old = work / f"{graph}-old"
        old.mkdir()
        _succeeded(run(old, graph, config, **options, epochs=2, keep_checkpoints=2))
        options.update(model_init_path=str(old / "out" / "1"), epochs=2)
    whole = work / f"{graph}-{scenario}-whole"
    _start(whole, old)
    points = _succeeded(run(whole, graph, config, **options)).operations
    first, last = 1, len(points)
    if scenario == "again":
        ends = [n for n, point in enumerate(points, 1) if point.startswith("os.rename")]
        noted = next(n for n in ends if "run.json" in points[n - 1])
        if any("cache" in point for point in points[:noted]):
            raise SystemExit("a new run reads data before the folder notes it")
        first = noted + 1
        last = next(n for n in ends if ".0-2.part" in points[n - 1]) + 8
    return Setting(graph, scenario, config, old, options, whole, points, first, last)


def _succeeded(run: Run) -> Run:
    if run.status:
        raise SystemExit(f"a run that nothing killed ended with {run.status}:\n{run.said}")
    return run


def _start(folder: Path, old: Path | None) -> None:
    if old is None:
        folder.mkdir()
    else:
        shutil.copytree(old, folder)


class Outcome(NamedTuple):
    """What came of killing a run at an operation.

    Attributes:
        at: the operation.
        kills: how many processes died.
        faults: what differs from the run that was never killed.
        said: what each process said.
    """

    at: int
    kills: int
    faults: list[str]
    said: list[str]


def kill_at(setting: Setting, at: int, work: Path) -> Outcome:
    """Kill a run at an operation, resume it to its end, and compare."""
    folder = work / f"{setting.graph}-{setting.scenario}-{at}"
    _start(folder, setting.old)
    start = partial(run, folder, setting.graph, setting.config, **setting.options)
    runs, faults = [start(at=at)], []
    if setting.scenario == "twice":
        second = random.Random(f"{setting.graph} {at}").randint(1, len(setting.points))
        runs.append(start(at=second, resume="true"))
    if runs[-1].status != 0:
        runs.append(start(resume="true"))
    kills = sum(r.status == -signal.SIGKILL for r in runs)
    if runs[0].status != -signal.SIGKILL:
        faults.append(f"the run to kill ended with {runs[0].status}")
    if runs[-1].status != 0 or any(r.status not in (0, -signal.SIGKILL) for r in runs):
        faults.append(f"the runs ended with {', '.join(str(r.status) for r in runs)}")
    faults += [line for r in runs[1:] for line in r.said.splitlines() if "damaged" in line]
    began = [place for r in runs[1:] if (place := _began_at(r.said)) is not None]
    before = reached(setting.points[: at - 1])
    if began and (began[0] != before or began != sorted(began)):
        faults.append(f"resumed at {began}, was at {before}")
    if not faults:
        faults += differences(setting.whole, folder)
    shutil.rmtree(folder)
    return Outcome(at, kills, faults, [r.said for r in runs])


def reached(points: list[str]) -> tuple[int, int]:
    """Epoch and batch of the newest checkpoint that has got its name in some operations."""
    names = [PLACE.fullmatch(p.partition(" ")[2]) for p in points if p.startswith("os.rename")]
    places = [(int(n[1]), int(n[2])) if n[2] else (int(n[1]) + 1, 0) for n in names if n]
    return max(places, default=(0, 0))


def _began_at(said: str) -> tuple[int, int] | None:
    """Where a run that resumed says that it started; None if it died before."""
    match = re.search(r"resume: starts at epoch (\d+), batch (\d+)", said)
    return (int(match[1]), int(match[2])) if match else None


def unflushed(points: list[str]) -> list[str]:
    """What a power cut could cost: names given, or checkpoints removed, before all is on disk."""
    dirty: set[str] = set()
    flushed: set[str] = set()
    exports: set[str] = set()
    faults = []
    for point in points:
        what, _, path = point.rpartition(" ")
        if what in ("open", "write"):
            dirty.add(path)
        elif what == "amid the export":
            exports.add(path)
        elif what == "fsync":
            dirty.discard(path)
            flushed.add(path)
        elif what == "os.rename":
            faults += [file for file in dirty if f"{file}/".startswith(f"{path}/")]
            if os.path.splitext(path)[0] in exports and path not in flushed:
                faults.append(path)
            if PLACE.fullmatch(path):
                dirty.add("out/")  # its entries
        if point == "fsync out":
            dirty.discard("out/")
        elif re.fullmatch(r"os.rename out/\d+(-\d+)?", point) and "out/" in dirty:
            faults.append(path)
    return [f"{file} is not on disk in time" for file in faults]


def differences(whole: Path, other: Path) -> list[str]:
    """What differs between the files below two folders, times and names of runs apart."""
    faults = []
    theirs, ours = _entries(whole), _entries(other)
    faults += [f"{name} is missing" for name in theirs if name not in ours]
    faults += [f"{name} is left over" for name in ours if name not in theirs]
    for name in theirs:
        if name in ours and (whole / name).is_file():
            if _content(whole / name) != _content(other / name):
                faults.append(f"{name} differs")
    return faults


def _entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _content(file: Path) -> Any:
    """What has to be equal: all bytes, but for times and names of runs."""
    data = file.read_bytes()
    if file.name in ("run.json", "metrics.jsonl"):
        return [_timeless(json.loads(line)) for line in data.splitlines()]
    if file.name == "rec.json":
        manifest = json.loads(data)
        manifest["sha256"].pop("rec.pdstate", None)
        manifest["config"].pop("runner.resume", None)
        manifest["progress"]["records"] = [_timeless(r) for r in manifest["progress"]["records"]]
        manifest["progress"].pop("run")
        return _timeless(manifest)
    if file.name == "rec.pdstate":  # of our own making, a moment ago
        return pickle.dumps(_timeless(pickle.loads(data)))
    return data


def _timeless(value: dict[str, Any]) -> dict[str, Any]:
    rest = {"saved_at", "own_sha256", "run", "seconds", "rows_per_second"}
    return {key: item for key, item in value.items() if key not in rest}


def load() -> None:
    """Import Paddle and the tools, so that a process that is forked has them."""
    import rec_runner
    from rec_runner.system.environment import prepare_environment

    prepare_environment(1, None)
    for module in pkgutil.walk_packages(rec_runner.__path__, "rec_runner."):
        importlib.import_module(module.name)


def chosen(setting: Setting, sample: int | None) -> list[int]:
    """The operations to kill at: all, or some."""
    operations = range(setting.first, setting.last + 1)
    if sample is None:
        return list(operations)
    few = sample if setting.scenario == "new" else sample // 3
    return sorted(random.Random(setting.graph).sample(operations, few))


def _kill(job: tuple[Setting, int], work: Path) -> tuple[Setting, Outcome]:
    return job[0], kill_at(*job, work)


def outcomes(jobs: list[tuple[Setting, int]], work: Path) -> Iterator[tuple[Setting, Outcome]]:
    """Kill at each of some operations, two at a time."""
    pool = multiprocessing.get_context("fork").Pool(2)
    yield from pool.imap_unordered(partial(_kill, work=work), jobs)
    pool.close()
    pool.join()


def main() -> int:
    """Run from the command line; status 1 where anything differs."""
    parser = argparse.ArgumentParser(description="Kill trainings at each of their file operations.")
    parser.add_argument("--graph", choices=GRAPHS, action="append", help="else both")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="else all three")
    parser.add_argument("--at", type=int, help="kill at this operation only, and show the output")
    some = "take so many operations, of other scenarios than new a third; always the same ones"
    parser.add_argument("--sample", type=int, help=some)
    parser.add_argument("--list", action="store_true", help="only list the operations")
    given = parser.parse_args()
    started = time.perf_counter()
    load()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        settings = [
            prepare(work, graph, scenario)
            for graph in given.graph or GRAPHS
            for scenario in given.scenario or (("new",) if given.at or given.list else SCENARIOS)
        ]
        if given.list:
            for setting in settings:
                for number, point in enumerate(setting.points, 1):
                    print(setting.graph, setting.scenario, number, point)
            return 0
        jobs = [(setting, at) for setting in settings for at in chosen(setting, given.sample)]
        if given.at:
            jobs = [(setting, given.at) for setting in settings]
        killed = different = 0
        early = [fault for setting in settings for fault in unflushed(setting.points)]
        print("".join(f"{fault}\n" for fault in early), end="", flush=True)
        for setting, outcome in outcomes(jobs, work):
            killed += outcome.kills
            different += bool(outcome.faults)
            if outcome.faults:
                where = f"--graph {setting.graph} --scenario {setting.scenario} --at {outcome.at}"
                point = setting.points[outcome.at - 1]
                print(f"{where}: {point}: {'; '.join(outcome.faults)}", flush=True)
            if given.at:
                print("\n-- resumed --\n".join(outcome.said))
        for setting in settings:
            taken = sum(job[0] is setting for job in jobs)
            total = len(setting.points)
            print(f"{setting.graph} {setting.scenario}: {taken} of {total} operations")
        seconds = time.perf_counter() - started
        print(f"{killed} kills, {different} of {len(jobs)} runs differ, {seconds:.0f} s")
    return int(different > 0 or bool(early))


if __name__ == "__main__":
    sys.exit(main())
