"""Signals, full disks, vanished files, two runs at once, bad rows, numbers going wrong."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    TOOLS,
    Result,
    make_model_dir,
    override,
    run,
    run_cases,
    run_fork,
    run_tool,
    write_table,
)
from model_dirs import make_data

from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.weights import load_weights

MODEL_DIRS = Path(__file__).parent / "model_dirs"
PATHS = ("dygraph", "static")
TRAINER = {"dygraph": "trainer", "static": "static_trainer"}

# A reader whose passes over the files can be made to take long: blocks of one row, then a nap in
# every pass from number $SLEEP_FROM on, counted from 0. A look at the first block is no pass.
SLOW_READER = """
import os, time
from census_reader import RecDataset as Rows
passes = [0]

class RecDataset(Rows):
    def blocks(self):
        number = None
        for block in super().blocks():
            for row in range(len(block.labels)):
                if row >= 40 and number >= int(os.environ["SLEEP_FROM"]):
                    print("napping", flush=True)
                    time.sleep(float(os.environ["SLEEP"]))
                one = slice(row, row + 1)
                yield type(block)(block.features[one], block.labels[one], block.file)
                if number is None:
                    number = passes[0]
                    passes[0] += 1
"""
RUNNER = {
    "train_data_dir": "train",
    "test_data_dir": "train",
    "train_reader_path": "census_reader",
    "infer_reader_path": "census_reader",
    "train_batch_size": 10,
    "infer_batch_size": 100,
    "epochs": 3,
    "print_interval": 4,
    "save_steps": 3,
}
HYPER = {"feature_size": 6, "task_names": ["a", "b"], "label_columns": [0, 1], "bottom_size": 5}


@pytest.fixture
def config(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A model directory with 95 rows in two files."""
    table = rng.normal(size=(95, 8))
    table[:, :2] = rng.integers(0, 2, (95, 2))
    write_table(tmp_path / "model" / "train" / "a.txt", table[:60])
    write_table(tmp_path / "model" / "train" / "b.txt", table[60:])
    return make_model_dir(tmp_path / "model", RUNNER, HYPER)


def slow(config: Path) -> Path:
    """The same with the slow reader."""
    (config.parent / "slow_reader.py").write_text(SLOW_READER)
    return config


def start(tool: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """A tool as a process that runs on."""
    return subprocess.Popen(
        [sys.executable, "-u", str(TOOLS / f"{tool}.py"), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Its output up to a line that holds ``text``."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            break
    else:
        raise AssertionError(f"{''.join(seen)}\n{process.stderr.read()}")
    return "".join(seen)


def end(process: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Status, rest of stdout, and what our tools said on stderr."""
    stdout, stderr = process.communicate(timeout=100)
    said = [line for line in stderr.splitlines() if line.startswith(("error:", "warning:"))]
    assert "Traceback" not in stderr
    return process.returncode, stdout, said


def places(folder: Path) -> list[str]:
    """Names of the checkpoints in a folder; nothing half-written is there."""
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    assert not [name for name in names if name.endswith((".part", ".old"))]
    return sorted(name for name in names if name[0].isdigit())


def assert_infer_reads(config: Path, folder: Path, epoch: int) -> None:
    chosen = override(infer_load_path=folder, infer_start_epoch=epoch, infer_end_epoch=epoch + 1)
    result = run_fork("infer", "-m", config, *chosen, cwd=config.parent)
    assert result.status == 0, result.stderr
    assert f"epoch: {epoch} done" in result.stdout


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = load_arrays(one / "rec.pdparams"), load_arrays(other / "rec.pdparams")
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.tobytes() == right[name].tobytes(), name


@pytest.mark.parametrize(
    "path, signum", [("dygraph", signal.SIGINT), ("static", signal.SIGTERM)], ids=PATHS
)
def test_a_signal_ends_a_run_in_order_and_it_goes_on_from_there(
    config: Path, path: str, signum: int
) -> None:
    whole, stopped = config.parent / "whole", config.parent / "stopped"
    settings = {"epochs": 400, "save_steps": 0, "hyper_parameters__bottom_dropout": 0.3}
    arguments = override(model_save_path=stopped, **settings)
    process = start(TRAINER[path], "-m", config, *arguments, cwd=config.parent)
    read_until(process, "epoch: 1, batch_id: 4")
    process.send_signal(signum)
    status, _, said = end(process)
    assert status == 128 + signum
    (sentence,) = said
    match = re.fullmatch(
        r"error: stopped by a signal after epoch (\d+)(?:, batch (\d+))?; "
        r"go on with -o runner.resume=true",
        sentence,
    )
    assert match
    epoch, batch = int(match[1]), match[2]
    name = str(epoch) if batch is None else f"{epoch}-{int(batch) + 1}"
    assert name in places(stopped)

    settings["epochs"] = epoch + 2
    results = run_cases(
        [
            ("train", path, ["-m", str(config), *override(model_save_path=folder, **more)])
            for folder, more in (
                (whole, settings),
                (stopped, {**settings, "resume": "true"}),
            )
        ],
        config.parent,
    )
    assert [result.status for result in results] == [0, 0]
    at = f"starts at epoch {epoch + 1}, batch 0"
    if batch is not None:
        at = f"starts at epoch {epoch}, batch {int(batch) + 1}"
    assert at in results[1].stdout
    assert places(whole) == places(stopped)
    assert_same_weights(whole / str(epoch + 1), stopped / str(epoch + 1))


def test_a_second_signal_ends_it_at_once_and_leaves_the_last_checkpoint(config: Path) -> None:
    folder = config.parent / "out"
    given = {"model_save_path": folder, "train_reader_path": "slow_reader", "cache_mb": 0}
    process = start(  # passes: statistics, epoch 0, then epoch 1, which never ends
        *("trainer", "-m", slow(config), *override(**given)),
        cwd=config.parent,
        SLEEP_FROM="2",
        SLEEP="1000",
    )
    read_until(process, "napping")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    for _ in range(10):  # two that come before a busy machine hands over the first are one
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
            break
    assert end(process)[0] == 143
    assert "0" in places(folder)
    assert_infer_reads(config, folder, 0)
    more = run_fork(
        *("trainer", "-m", config, *override(model_save_path=folder, resume="true")),
        cwd=config.parent,
    )
    assert more.status == 2  # another reader: refused, the checkpoint is read and the lock is free
    assert "runner.train_reader_path was 'slow_reader'" in more.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_first_reading_pass(config: Path, signum: int) -> None:
    folder = config.parent / "out"
    given = {"model_save_path": folder, "train_reader_path": "slow_reader", "shuffle_buffer": 5}
    process = start(
        *("trainer", "-m", slow(config), *override(**given)),
        cwd=config.parent,
        SLEEP_FROM="0",
        SLEEP="0.2",
    )
    read_until(process, "napping")
    process.send_signal(signum)
    status, stdout, said = end(process)
    assert status == 128 + signum
    # The reading begins while the network is being built, and that may have been where it came.
    ways = ["", " before the first step; nothing new was saved"]
    assert said in [[f"error: stopped by a signal{way}"] for way in ways]
    assert stdout.count("napping") < 30
    assert places(folder) == []


@pytest.mark.parametrize(
    "tool, signum", [("infer", signal.SIGTERM), ("static_trainer", signal.SIGINT)]
)
def test_a_signal_at_any_time_gives_one_sentence(config: Path, tool: str, signum: int) -> None:
    """Even while Paddle is imported, which installs handlers of its own."""
    process = start(tool, "-m", config, cwd=config.parent)
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.exists():
        pytest.skip("what a process has loaded is told by /proc only")
    while "libpaddle" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(signum)
    status, _, said = end(process)
    assert status == 128 + signum
    assert said == ["error: stopped by a signal"]


# A tool that gets a signal while it imports Paddle.
IMPORTING = """
import importlib.abc, os, signal, sys, time

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "paddle.base":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            print("went on", flush=True)

sys.meta_path.insert(0, Finder())
from rec_runner.cli import main
sys.exit(main("train", "static"))
"""


def test_a_signal_waits_until_paddle_is_imported(config: Path) -> None:
    """A thread of NumPy's, of which there is one where OpenBLAS has two, does not take it."""
    command = [sys.executable, "-c", IMPORTING, "-m", str(config)]
    result = run(command, config.parent, PYTHONPATH=str(TOOLS), OPENBLAS_NUM_THREADS="2")
    assert (result.status, result.stdout) == (143, "went on\n")
    assert result.sentences == ["error: stopped by a signal"]


def train_with_workers(folder: Path) -> tuple[subprocess.Popen[str], list[str]]:
    """A run without end that has two worker processes, and their numbers."""
    shutil.copytree(MODEL_DIRS / "map_style", folder / "map_style")
    make_data.write("map_style", folder / "map_style")
    config = folder / "map_style" / "config.yaml"
    settings = {"num_workers": 2, "epochs": 100_000, "print_interval": 1, "model_save_path": "out"}
    process = start("trainer", "-m", config, *override(**settings), cwd=folder)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("which processes a process has started is told by /proc only")
    read_until(process, "epoch: 1, batch_id: 4")
    while len(workers := children.read_text().split()) < 2:  # of one epoch or the next
        time.sleep(0.01)
    return process, workers


def test_workers_of_a_killed_run_end_and_leave_no_shared_memory(tmp_path: Path) -> None:
    process, workers = train_with_workers(tmp_path)
    process.kill()
    process.wait()
    started = time.monotonic()
    while any(map(runs, workers)) and time.monotonic() - started < 20:
        time.sleep(0.05)
    left = [worker for worker in workers if runs(worker)]
    for worker in left:
        os.kill(int(worker), signal.SIGKILL)
    process.communicate()
    assert left == []
    assert not [f for worker in workers for f in Path("/dev/shm").glob(f"paddle_{worker}_*")]


def test_a_signal_that_workers_get_too_ends_the_run_in_order(tmp_path: Path) -> None:
    """As Ctrl-C in a terminal, or ``timeout``, sends it to all of them; some come too early."""
    process, workers = train_with_workers(tmp_path)
    for number in range(20):
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(int(worker), (signal.SIGINT, signal.SIGTERM)[number % 2])
        time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = children.read_text().split()
    process.send_signal(signal.SIGTERM)
    status, _, said = end(process)
    assert status == 143
    (sentence,) = said
    assert "go on with -o runner.resume=true" in sentence


def runs(process: str) -> bool:
    """Whether a process runs: one that has ended may be there until it is waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# A tool that sends itself a signal at some call of a Python function, counted from the moment when
# the network begins to be built. Paddle calls Python from C++ there, where nothing may be raised.
AT_CALL = """
import json, os, sys
from rec_runner.cli import main
from rec_runner.system.environment import prepare_environment

prepare_environment(None, None)
import rec_runner.infer, rec_runner.train

def run(call, signum, log, *arguments):
    calls = [None]

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "build_engine":
            calls[0] = 0
        if calls[0] is not None:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signum)

    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.setprofile(profile)
    status = main(*arguments)
    sys.setprofile(None)
    sys.stdout.flush()
    sys.stderr.flush()
    return status, calls[0]

def fork(*arguments):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status, calls = run(*arguments)
        os.write(write, b"%d" % calls)
        os._exit(status)
    os.close(write)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(os.read(read, 20) or 0)

signum, points, folder, *arguments = json.load(sys.stdin)
calls = fork(0, signum, f"{folder}/whole", *arguments)[1]
for point in range(points):
    call = 1 + calls * point // points
    print(fork(call, signum, f"{folder}/{point}", *arguments)[0])
"""


def assert_stopped(config: Path, signum: int, points: int, command: str, graph: str) -> None:
    """Signal a tool at so many moments; each time it says so, and of no error."""
    logs = config.parent / f"logs-{command}-{graph}"
    logs.mkdir()
    arguments = ["-m", str(config), *override(epochs=1, save_steps=0, print_interval=1000)]
    given = json.dumps([signum, points, str(logs), command, graph, arguments])
    script = [sys.executable, "-c", AT_CALL]
    result = run(script, config.parent, stdin=given, PYTHONPATH=str(TOOLS))
    assert result.status == 0, result.stderr
    said = []
    for point in range(points):
        lines = (logs / str(point)).read_text().splitlines()
        said.append([line for line in lines if re.match("(internal )?error: ", line)])
    assert result.stdout.split() == [str(128 + signum)] * points, said
    for lines in said:
        assert len(lines) == 1 and lines[0].startswith("error: stopped by a signal"), said


def test_a_signal_at_any_call_while_the_network_is_built_or_scores(config: Path) -> None:
    assert_stopped(config, signal.SIGINT, 10, "train", "static")
    assert run_fork("trainer", "-m", config, *override(epochs=1), cwd=config.parent).status == 0
    assert_stopped(config, signal.SIGTERM, 4, "infer", "dygraph")


# What a model directory's code may make of a signal that it is in the middle of.
TAKES = {
    "nothing": "raise",
    "an_error_of_its_own": "raise RuntimeError('no callstack') from None",
    "nothing_at_all": "pass",
}
SIGNALLED = """

def signalled(method, name):
    import os, signal, time

    signals = [signal.SIGTERM]

    def wrapped(*arguments, **named):
        try:
            if signals:
                os.kill(os.getpid(), signals.pop())
                time.sleep(0.001)
        except:
            {handler}
        return method(*arguments, **named)

    return wrapped

{kind}.{method} = signalled({kind}.{method}, "{method}")
"""


@pytest.mark.parametrize("path, method", zip(PATHS, ("create_model", "build_layer")))
def test_a_signal_is_told_whatever_the_directory_makes_of_it(
    config: Path, path: str, method: str
) -> None:
    tool = {"dygraph": "infer", "static": "static_trainer"}[path]
    if tool == "infer":
        result = run_fork("trainer", "-m", config, *override(epochs=1), cwd=config.parent)
        assert result.status == 0, result.stderr
    file = config.parent / f"{path}_model.py"
    source, kind = file.read_text(), f"{path.capitalize()}Model"
    for name, handler in TAKES.items():
        file.write_text(source + SIGNALLED.format(handler=handler, kind=kind, method=method))
        result = run_fork(tool, "-m", config, cwd=config.parent)
        said = (result.status, result.sentences)
        assert said == (143, ["error: stopped by a signal"]), name


def test_two_runs_on_one_folder_are_refused_until_the_first_is_gone(config: Path) -> None:
    folder = config.parent / "out"
    given = {"model_save_path": folder, "train_reader_path": "slow_reader", "cache_mb": 0}
    arguments = ["-m", slow(config), *override(**given)]
    first = start("trainer", *arguments, cwd=config.parent, SLEEP_FROM="2", SLEEP="1000")
    read_until(first, "napping")
    environment = {"SLEEP_FROM": "1000", "SLEEP": "0"}
    second = run_tool("static_trainer", *arguments, cwd=config.parent, **environment)
    assert second.status == 2
    assert second.stdout == ""
    (sentence,) = second.sentences
    assert f"another run is writing to {folder}" in sentence
    assert_infer_reads(config, folder, 0)  # reading is not writing
    first.kill()
    first.communicate()
    third = run_tool("trainer", *arguments, "runner.resume=true", cwd=config.parent, **environment)
    assert third.status == 0, third.stderr
    assert "resume: starts at epoch 1, batch 0" in third.stdout
    assert places(folder) == ["0", "1", "2"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or run(mount, tmp_path).status != 0:
        pytest.skip("may not mount a file system here")
    yield folder
    run(["umount", "-l", str(folder)], tmp_path)


def test_a_full_disk_costs_no_earlier_checkpoint(config: Path, small_disk: Path) -> None:
    folder = small_disk / "out"
    given = {"model_save_path": folder, "epochs": 100}
    result = run_fork("trainer", "-m", config, *override(**given), cwd=config.parent)
    assert_no_space(result, folder)
    last = max(int(name) for name in places(folder) if "-" not in name)
    assert_infer_reads(config, folder, last)
    for epoch in range(last):
        shutil.rmtree(folder / str(epoch))
    given.update(epochs=last + 2, resume="true")
    result = run_fork("trainer", "-m", config, *override(**given), cwd=config.parent)
    assert result.status == 0, result.stderr


def assert_no_space(result: Result, folder: Path) -> None:
    """One sentence; and every checkpoint that is there can be read."""
    assert result.status == 1
    (sentence,) = result.sentences
    assert "No space left on device" in sentence
    assert str(folder) in sentence
    for name in places(folder):
        load_weights(folder / name)


# Where no file system can be mounted: fsync fails from some call on, once for each argument.
STUB = """
import json, os, sys
from rec_runner.cli import main

fsync = os.fsync

def run(calls, arguments):
    count = [0]

    def stub(handle):
        count[0] += 1
        if count[0] >= calls:
            raise OSError(28, os.strerror(28))
        return fsync(handle)

    os.fsync = stub
    print("case", main("train", "dygraph", arguments), file=sys.stderr)

for calls, arguments in json.load(sys.stdin):
    run(calls, arguments)
"""


def test_no_space_at_any_moment_of_a_save(config: Path) -> None:
    folders = {calls: config.parent / f"out-{calls}" for calls in range(1, 40)}
    runs = [
        (calls, ["-m", str(config), *override(model_save_path=folder, epochs=100)])
        for calls, folder in folders.items()
    ]
    command = [sys.executable, "-c", STUB]
    result = run(command, config.parent, stdin=json.dumps(runs), PYTHONPATH=str(TOOLS))
    assert result.status == 0, result.stderr
    told = "\n".join(result.sentences).split("\ncase 1")
    assert len(told) == len(runs) + 1
    for folder, sentence in zip(folders.values(), told):
        assert_no_space(Result(1, "", sentence.strip()), folder)
    assert "0" not in places(folders[1])
    assert {"0", "1-6"} <= set(places(folders[39]))


def test_a_read_only_folder_is_named(config: Path, small_disk: Path) -> None:
    folder = small_disk / "out"
    arguments = ["-m", config, *override(model_save_path=folder, keep_checkpoints=1)]
    assert run_fork("trainer", *arguments, cwd=config.parent).status == 0
    assert run(["mount", "-o", "remount,ro", str(small_disk)], config.parent).status == 0
    for more in (["runner.resume=true"], [f"runner.model_save_path={folder}/new"]):
        result = run_fork("trainer", *arguments, *more, cwd=config.parent)
        assert result.status == 1
        (sentence,) = result.sentences
        assert f"{folder}" in sentence
        assert "Read-only file system" in sentence
    assert_infer_reads(config, folder, 2)


def test_a_folder_that_is_a_file_is_named(config: Path) -> None:
    folder = config.parent / "out"
    folder.write_text("")
    arguments = override(model_save_path=folder)
    result = run_fork("trainer", "-m", config, *arguments, cwd=config.parent)
    assert result.status == 1
    (sentence,) = result.sentences
    assert f"{folder} cannot be written to: File exists" in sentence


@pytest.mark.parametrize("path", PATHS)
def test_a_data_file_that_vanishes_in_mid_epoch_is_named(config: Path, path: str) -> None:
    folder = config.parent / "out"
    given = {"model_save_path": folder, "epochs": 100_000, "cache_mb": 0, "keep_checkpoints": 2}
    process = start(TRAINER[path], "-m", config, *override(**given), cwd=config.parent)
    read_until(process, "epoch: 1 done")
    missing = config.parent / "train" / "b.txt"
    text = missing.read_text()
    missing.unlink()
    status, _, said = end(process)
    assert status == 1
    assert said == [f"error: {missing} cannot be read: No such file or directory"]
    last = max(int(name) for name in places(folder) if "-" not in name)
    missing.write_text(text)
    assert_infer_reads(config, folder, last)
    given.update(epochs=last + 3, resume="true")
    again = run_fork(TRAINER[path], "-m", config, *override(**given), cwd=config.parent)
    assert again.status == 0, again.stderr


@pytest.mark.parametrize("path", PATHS)
def test_an_epoch_whose_validation_fails_is_not_trained_again(config: Path, path: str) -> None:
    shutil.copytree(config.parent / "train", config.parent / "valid")
    given = {"valid_data_dir": "valid", "cache_mb": 0, "shuffle": "true", "use_save_data": "true"}
    lost = {**given, "model_save_path": config.parent / "out", "epochs": 100_000}
    process = start(TRAINER[path], "-m", config, *override(**lost), cwd=config.parent)
    read_until(process, "epoch: 1 done")
    rows = (config.parent / "valid" / "a.txt").read_text()
    (config.parent / "valid" / "a.txt").unlink()
    status, stdout, said = end(process)
    assert (status, len(said)) == (1, 1)
    assert "a.txt cannot be read" in said[0]
    (place,) = [name for name in places(config.parent / "out") if "-" in name]
    epoch = int(place.split("-")[0])
    assert place == f"{epoch}-10"
    (config.parent / "valid" / "a.txt").write_text(rows)

    lost.update(epochs=epoch + 2, resume="true")
    again = run_fork(TRAINER[path], "-m", config, *override(**lost), cwd=config.parent)
    assert again.status == 0, again.stderr
    assert not [line for line in again.stdout.splitlines() if f"epoch: {epoch}, batch_id" in line]
    whole = {**given, "model_save_path": config.parent / "whole", "epochs": epoch + 2}
    result = run_fork(TRAINER[path], "-m", config, *override(**whole), cwd=config.parent)
    assert result.status == 0, result.stderr
    for name in (str(epoch), str(epoch + 1)):
        assert_same_weights(config.parent / "out" / name, config.parent / "whole" / name)
        batches = [config.parent / run / name / "last_train_batch.npz" for run in ("out", "whole")]
        assert batches[0].read_bytes() == batches[1].read_bytes()


@pytest.mark.parametrize("path", PATHS)
def test_a_value_too_large_for_the_encoding_is_named(config: Path, path: str) -> None:
    for file in (config.parent / "train").iterdir():
        table = np.loadtxt(file, delimiter=",")
        table[:, 2:] *= 1e-3  # standardised by a thousand
        write_table(file, table)
    result = run_fork(TRAINER[path], "-m", config, cwd=config.parent)
    assert result.status == 0, result.stderr
    table = np.zeros((30, 8))
    table[:, 1] = np.arange(30) % 2
    table[17, 4] = 3e38
    write_table(config.parent / "huge" / "rows.txt", table)
    scoring = {"test_data_dir": "huge", "infer_load_path": "model_output"}
    infer = {"dygraph": "infer", "static": "static_infer"}[path]
    result = run_fork(infer, "-m", config, *override(**scoring), cwd=config.parent)
    assert result.status == 1
    said = [line for line in result.sentences if line.startswith("error:")]
    assert len(said) == 1 and "rows.txt: the value 3e+38 of feature 2 " in said[0]


@pytest.mark.parametrize("path", PATHS)
def test_scores_that_are_not_numbers_are_refused(config: Path, path: str) -> None:
    result = run_fork("trainer", "-m", config, cwd=config.parent)
    assert result.status == 0, result.stderr
    state = load_arrays(config.parent / "model_output" / "2" / "rec.pdparams")
    state["tower.0.bias"] = np.full_like(state["tower.0.bias"], 1e3)
    state["out.weight"] = np.full_like(state["out.weight"], 3e38)  # both logits overflow
    (config.parent / "changed" / "0").mkdir(parents=True)
    with open(config.parent / "changed" / "0" / "rec.pdparams", "wb") as stream:
        pickle.dump(state, stream, protocol=4)
    scoring = {"infer_load_path": "changed", "infer_start_epoch": 0, "infer_end_epoch": 1}
    infer = {"dygraph": "infer", "static": "static_infer"}[path]
    result = run_fork(infer, "-m", config, *override(**scoring), cwd=config.parent)
    assert result.status == 1
    said = [line for line in result.sentences if line.startswith("error:")]
    assert len(said) == 1 and "NaN for row 0 (from 0)" in said[0] and "a.txt" in said[0]
    assert not (config.parent / "changed" / "infer_metrics.jsonl").exists()


def grown(text: str) -> str:
    return text + text


def of_other_values(text: str) -> str:
    return "\n".join(reversed(text.split("\n")[:-1])) + "\n"


@pytest.mark.parametrize("path, change", zip(PATHS, (grown, of_other_values)))
def test_a_data_file_that_is_replaced_in_mid_run_is_noticed(
    config: Path, path: str, change: Callable[[str], str]
) -> None:
    folder = config.parent / "out"
    given = {"model_save_path": folder, "epochs": 100_000, "cache_mb": 0, "keep_checkpoints": 2}
    process = start(TRAINER[path], "-m", config, *override(**given), cwd=config.parent)
    read_until(process, "epoch: 1 done")
    data = config.parent / "train" / "b.txt"
    size = data.stat().st_size
    new = data.with_name(".new")
    new.write_text(change(data.read_text()))
    assert (new.stat().st_size == size) == (change is of_other_values)
    os.replace(new, data)
    status, _, said = end(process)
    assert status == 1
    (sentence,) = said
    sizes = re.fullmatch(
        f"error: {data} was changed while the run was reading it: it had (\\d+) bytes of .* UTC, "
        r"and has (\d+) bytes of .* UTC",
        sentence,
    )
    assert sizes and sizes.groups() == (str(size), str(data.stat().st_size))


# Changes the last data file at the n-th opening of a data file: while the checksums are computed,
# in the first pass or in a later one.
TOUCHED = """
import builtins, json, os, sys
from rec_runner.cli import main
from rec_runner.system.environment import prepare_environment

prepare_environment(None, None)
import rec_runner.infer, rec_runner.train

real = open

def run(opening, file, command, graph, arguments):
    count = [0]

    def opened(name, *rest, **named):
        if os.path.dirname(str(name)) == os.path.dirname(file):
            count[0] += 1
            if count[0] == opening:
                os.utime(file, ns=(0, os.stat(file).st_mtime_ns + 1))
        return real(name, *rest, **named)

    builtins.open = opened
    print("case", main(command, graph, arguments), count[0], flush=True)
    builtins.open = real

for case in json.load(sys.stdin):
    run(*case)
"""


HEADS = 2  # first lines, one of each file


@pytest.mark.parametrize(
    "settings, looks, openings",
    [
        ({"cache_mb": 0}, HEADS, 8),  # for checksums, for statistics, then in two epochs
        ({"cache_dir": "cache"}, HEADS + 1, 4),  # afterwards they are in memory
        ({"hyper_parameters__numeric_encoding": "none"}, HEADS, 6),  # without blocks()
    ],
)
def test_a_data_file_that_changes_at_any_moment_is_noticed(
    config: Path, settings: dict[str, object], looks: int, openings: int
) -> None:
    """But for looks at heads and at the first block, for names and sizes, which are checked again.

    Checksums are taken while a run trains: which opening is whose is not the same each time.
    """
    file = config.parent / "train" / "b.txt"
    cases = []
    if settings.get("hyper_parameters__numeric_encoding"):
        reader = config.parent / "census_reader.py"
        reader.write_text(
            reader.read_text().replace("blocks()", "rows_()").replace("def blocks", "def rows_")
        )
    for opening in [*range(1, looks + openings + 1), 0, looks + 1]:
        arguments = [
            "-m",
            str(config),
            *override(model_save_path=f"out-{opening}", epochs=2, **settings),
        ]
        cases.append((opening, str(file), "train", "dygraph", arguments))
    command = [sys.executable, "-c", TOUCHED]
    result = run(command, config.parent, stdin=json.dumps(cases), PYTHONPATH=str(TOOLS))
    assert result.status == 0, result.stderr
    ended = re.findall(r"^case (\d+) (\d+)$", result.stdout, re.MULTILINE)
    # The last but one is left alone, and its rows are in the cache, if there is one, of the last.
    statuses = [0] * looks + [1] * openings + [0, 1]
    assert [int(status) for status, _ in ended] == statuses, result.stderr
    assert int(ended[-2][1]) == looks + openings
    said = [line for line in result.sentences if line.startswith("error: ")]
    assert len(said) == openings + 1
    for sentence in said:
        assert f"{file} was changed while the run was reading it" in sentence


# Rewrites a data file of the training rows once they have been read, before anything else is done.
REWRITING_READER = """
from pathlib import Path
from census_reader import RecDataset as Rows

class RecDataset(Rows):
    def skipped_rows(self):
        file = Path(self.file_list[-1])
        file.write_text(file.read_text().upper() + chr(10))
        return super().skipped_rows()
"""


@pytest.mark.parametrize("path", PATHS)
def test_a_data_file_that_changes_between_reading_and_checksum_is_noticed(
    config: Path, path: str
) -> None:
    """Rows are read while the network is built, checksums are taken afterwards."""
    (config.parent / "rewriting_reader.py").write_text(REWRITING_READER)
    given = override(train_reader_path="rewriting_reader", model_save_path="out", epochs=1)
    result = run_fork(TRAINER[path], "-m", config, *given, cwd=config.parent)
    assert result.status == 1
    file = config.parent / "train" / "b.txt"
    assert f"error: {file} was changed while the run was reading it" in result.sentences[-1]


# Numbers going wrong ----------------------------------------------------------------------------

PLAIN = {"hyper_parameters__numeric_encoding": "none"}


def with_huge_rows(config: Path, *rows: int) -> list[str]:
    """Make rows of the data finite as float32, but too large to compute with."""
    names = []
    for file in sorted((config.parent / "train").iterdir()):
        table = np.loadtxt(file, delimiter=",")
        first = 0 if file.name == "a.txt" else 60
        for row in rows:
            if first <= row < first + len(table):
                table[row - first, 2:] = 3e38
        write_table(file, table)
        names.append(str(file))
    return names


def cases(config: Path, path: str, runs: Sequence[dict[str, object]]) -> list[Any]:
    """Train with these settings one after another in one process."""
    lines = [("train", path, ["-m", str(config), *override(**{**PLAIN, **r})]) for r in runs]
    return run_cases(lines, config.parent)


@pytest.mark.parametrize("path", PATHS)
def test_a_loss_that_is_not_finite_stops_the_run_or_is_skipped(config: Path, path: str) -> None:
    files = with_huge_rows(config, 45, 77)  # batches 4 and 7
    stopped, one, two = (config.parent / name for name in ("stopped", "one", "two"))
    skip = {"skip_bad_batches": "true"}
    failed, resumed, first, second = cases(
        config,
        path,
        [
            {"model_save_path": stopped},
            {"model_save_path": stopped, "resume": "true", **skip},
            {"model_save_path": one, **skip},
            {"model_save_path": two, "print_interval": 1, "save_steps": 0, **skip},
        ],
    )
    assert failed.status == 1
    (sentence,) = failed.sentences
    assert re.search(r"loss is (nan|inf) at epoch 0, batch 4 ", sentence)
    assert f"(files: {', '.join(files)})" in sentence
    assert "runner.skip_bad_batches=true" in sentence
    assert resumed.status == first.status == second.status == 0
    assert "resume: starts at epoch 0, batch 3" in resumed.stdout  # the last good one was kept
    for result in (resumed, first, second):
        for epoch in range(3):
            assert re.search(f"epoch: {epoch}, skipped, .*batch_id 4", result.stdout)
        assert "skipped batches with a loss that was not finite: 6" in result.stdout
    for folder in (stopped, two):  # wherever the log lines and the checkpoints fall
        assert_same_weights(one / "2", folder / "2")
    for line in (one / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["rows"] == 75  # 20 of them in the batches left out
        assert np.isfinite(record["loss"])


@pytest.mark.parametrize("path", PATHS)
def test_the_very_first_batch_may_be_skipped(config: Path, path: str) -> None:
    """Of the run, when the optimizer has made no slots yet, and of what a resumed run trains."""
    with_huge_rows(config, 5)
    by_one = {"print_interval": 1, "save_steps": 0}
    cosine = {"hyper_parameters__optimizer.schedule": "cosine"}
    runs = [
        {"model_save_path": config.parent / name, "skip_bad_batches": "true", **settings}
        for name, settings in (
            ("four", {}),
            ("one", by_one),
            ("short", {"epochs": 1}),
            ("short", {"resume": "true"}),
            ("cosine_four", cosine),
            ("cosine_one", {**by_one, **cosine}),
        )
    ]
    for result in cases(config, path, runs):
        assert result.status == 0, result.stderr
        assert re.search("epoch: [01], skipped, .*batch_id 0\n", result.stdout)
    for name, other in (("four", "one"), ("four", "short"), ("cosine_four", "cosine_one")):
        assert_same_weights(config.parent / name / "2", config.parent / other / "2")


@pytest.mark.parametrize("path", PATHS)
def test_weights_that_are_not_finite_are_never_saved(config: Path, path: str) -> None:
    sgd = {"hyper_parameters__optimizer.class": "sgd"}
    rate = {"hyper_parameters__optimizer.learning_rate": "1.0e+39"}  # infinite as float32
    out, skipping = config.parent / "out", config.parent / "skipping"
    one_batch = {"train_batch_size": 95, "print_interval": 1, "save_steps": 0}
    # In the only batch of the epoch the loss is fine, the weights after it are not.
    stopped, skipped = cases(
        config,
        path,
        [
            {"model_save_path": out, **sgd, **rate, **one_batch},
            {"model_save_path": skipping, **sgd, **rate, "skip_bad_batches": "true"},
        ],
    )
    assert stopped.status == 1
    assert "weights are not finite after epoch 0: " in stopped.stderr
    assert places(out) == []
    assert skipped.status == 1
    assert "no batch of epoch 0 gave finite numbers" in skipped.stderr


# Rows that cannot be used -----------------------------------------------------------------------


def spoil(config: Path) -> tuple[list[int], Path]:
    """Put twelve bad rows into a.txt; their line numbers and a folder without them."""
    file = config.parent / "train" / "a.txt"
    lines = file.read_text().splitlines()
    bad = [3, 4, 8, 15, 16, 23, 42, 43, 44, 45, 46, 50]
    for number in bad:
        lines.insert(number - 1, "0,1,nonsense")
    good = config.parent / "good"
    shutil.copytree(file.parent, good)
    file.write_text("\n".join(lines))
    return bad, good


@pytest.mark.parametrize("path", PATHS)
def test_bad_rows_are_skipped_counted_and_shown_or_end_the_run(config: Path, path: str) -> None:
    bad, _ = spoil(config)
    out, clean, uncached = (config.parent / name for name in ("out", "clean", "uncached"))
    skip = {"bad_rows": "skip", "save_steps": 0}
    runs = [
        {"model_save_path": config.parent / "none"},
        {"model_save_path": config.parent / "few", **skip, "bad_rows_cap": 11},
        {"model_save_path": out, **skip, "bad_rows_cap": 12},
        {"model_save_path": uncached, **skip, "cache_mb": 0},
        {"model_save_path": clean, "train_data_dir": "good", "save_steps": 0},
        *(
            {"model_save_path": config.parent / f"disk{cap}-{n}", **skip, "bad_rows_cap": cap}
            for n, cap in enumerate((12, 12, 11))
        ),
    ]
    for settings in runs[-3:]:
        settings["cache_dir"] = config.parent / "cache"
    stopped, few, skipped, every_time, without, *on_disk = cases(config, path, runs)
    assert [result.status for result in on_disk] == [0, 0, 2]  # counted and capped from there too
    file = config.parent / "train" / "a.txt"
    assert stopped.status == few.status == 2
    assert f"{file}:3: row has 3 columns, expected 8" in stopped.sentences[0]
    assert f"{file}:50: row has 3 columns" in few.sentences[0]
    assert "11 bad rows were skipped before it, the most allowed" in few.sentences[0]
    assert skipped.status == every_time.status == without.status == 0
    told = f"rows of {file.parent} skipped: 12; the first 10:"
    for result in (skipped, *on_disk[:2]):
        assert result.stdout.count(told) == 1  # read once, then kept
    assert every_time.stdout.count(told) == 1 + RUNNER["epochs"]
    assert "skipped: " not in without.stdout
    shown = re.findall(rf"{re.escape(str(file))}:(\d+): row has 3 columns", skipped.stdout)
    assert list(map(int, shown)) == bad[:10]
    for folder in (out, uncached):
        assert_same_weights(clean / "2", folder / "2")


def test_infer_tells_of_skipped_rows_too(config: Path) -> None:
    bad, _ = spoil(config)
    given = override(bad_rows="skip", save_steps=0, epochs=1)
    assert run_fork("trainer", "-m", config, *given, cwd=config.parent).status == 0
    result = run_fork("infer", "-m", config, *given, cwd=config.parent)
    assert result.status == 0, result.stderr
    assert f"skipped: {len(bad)}; the first 10:" in result.stdout


def test_a_gzip_file_cut_short_is_refused_in_either_mode(config: Path) -> None:
    file = config.parent / "train" / "a.txt"
    file.write_bytes(gzip.compress(file.read_bytes())[:-20])
    out = config.parent / "out"
    runs = [{"model_save_path": out, "bad_rows": mode} for mode in ("error", "skip")]
    for result in cases(config, "dygraph", runs):
        assert result.status == 2
        (sentence,) = result.sentences
        assert f"{file}: damaged gzip before the first line: " in sentence
