"""Checkpoints and resume: a run killed at any moment ends as one that never was."""

from __future__ import annotations

import functools
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from helpers import (
    CONFIG,
    ROOT,
    TOOLS,
    Forks,
    Result,
    make_model_dir,
    override,
    run_cases,
    run_tool,
)

from rec_runner.checkpoint.safe_pickle import load_arrays

PATHS = ("dygraph", "static")
TRAINER = {"dygraph": "trainer", "static": "static_trainer"}
KILLS = 20
STARTING = 2  # of them so early that Paddle may not be there yet
EPOCHS = 24
# Everything that has a state: dropout, the order of the rows, moments, schedule, patience.
SETTINGS = {
    "epochs": EPOCHS,
    "save_steps": 7,
    "print_interval": 5,
    "shuffle": "true",
    "shuffle_buffer": 300,
    "valid_share": 0.2,
    "patience": EPOCHS,
    "keep_checkpoints": 4,
    "hyper_parameters__bottom_dropout": 0.2,
    "hyper_parameters__tower_dropout": 0.1,
    "hyper_parameters__optimizer.schedule": "cosine",
    "hyper_parameters__optimizer.warmup_epochs": 1.5,
    "hyper_parameters__optimizer.weight_decay": 0.01,
}


class Finished(NamedTuple):
    """A run and one that was killed again and again, both at their end."""

    whole: Path
    killed: Path
    whole_log: str
    killed_logs: list[str]
    kills: int


def numbers(log: str) -> dict[str, str]:
    """The lines of whole lines' numbers by epoch, batch and phase, without times."""
    found = {}
    for line in log.splitlines(keepends=True):
        match = re.search(r"(epoch: \d+(?:, batch_id: \d+| done| validated)), (.*)\n", line)
        if match:
            text = re.sub(r", (avg_reader_cost|epoch time).*", "", match[2])
            found[match[1]] = text
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, without times."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [without_times(json.loads(line)) for line in lines]


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("seconds", "rows_per_second")}


def checkpoint(folder: Path) -> tuple[dict[str, Any], ...]:
    """Weights, optimizer and progress of a checkpoint, without what names this very run."""
    progress = json.loads((folder / "rec.json").read_text(encoding="utf-8"))["progress"]
    progress["records"] = [without_times(record) for record in progress["records"]]
    del progress["run"]
    return load_arrays(folder / "rec.pdparams"), load_arrays(folder / "rec.pdopt"), progress


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, Mapping):
        assert list(one) == list(other)
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other


def assert_same_run(one: Path, other: Path) -> None:
    """All that two runs left is equal, but for times and names."""
    names = sorted(p.name for p in one.iterdir() if p.name != ".lock")
    assert names == sorted(p.name for p in other.iterdir() if p.name != ".lock")
    for name in names:
        if (one / name).is_dir():
            assert_same(checkpoint(one / name), checkpoint(other / name))
    assert records(one) == records(other)
    if "best.json" in names:
        assert (one / "best.json").read_bytes() == (other / "best.json").read_bytes()


def train_killed(path: str, arguments: Sequence[object], cwd: Path, rng: random.Random) -> Finished:
    """Train once in peace and once killed ``KILLS`` times, the first few in starting up."""
    whole, killed = cwd / "whole", cwd / "killed"
    arguments = ["-m", str(CONFIG), *map(str, arguments)]
    done = run_tool(TRAINER[path], *arguments, f"runner.model_save_path={whole}", cwd=cwd)
    assert done.status == 0, done.stderr
    arguments += [f"runner.model_save_path={killed}", "runner.resume=true"]
    logs = [kill_in_starting(path, arguments, cwd, rng) for _ in range(STARTING)]
    forks, status = Forks(), -signal.SIGKILL
    while status == -signal.SIGKILL:
        log = cwd / f"log-{len(logs)}.txt"
        log.touch()
        forks.start(cases=[("train", path, arguments)], cwd=str(cwd), log=str(log))
        if len(logs) < KILLS:
            kill_at_random(forks, log, rng)
        status = forks.wait()
        logs.append(log.read_text(encoding="utf-8"))
    assert status == 0, logs[-1]
    return Finished(whole, killed, done.stdout, logs, len(logs) - 1)


def kill_in_starting(path: str, arguments: Sequence[str], cwd: Path, rng: random.Random) -> str:
    """SIGKILL at any moment up to the first steps; what it had said."""
    command = [sys.executable, "-u", str(TOOLS / f"{TRAINER[path]}.py"), *arguments]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(rng.uniform(0.2, 2))
        process.kill()
        return process.stdout.read()


def kill_at_random(process: Forks, log: Path, rng: random.Random) -> None:
    """SIGKILL some log lines and milliseconds after the start."""
    lines = rng.randint(1, 7)
    while process.alive() and log.read_bytes().count(b" - INFO - ") < lines:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.03))
    process.kill()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """Both paths at once, as there are two cores."""
    optimizers = {"dygraph": "adamw", "static": "adam"}

    def work(path: str) -> Finished:
        choice = {"hyper_parameters__optimizer.class": optimizers[path]}
        arguments = override(**SETTINGS, **choice)
        seed = random.randrange(1 << 32)  # it is in every path that a failure shows
        folder = tmp_path_factory.mktemp(f"{path}-seed-{seed}-")
        return train_killed(path, arguments, folder, random.Random(seed))

    with ThreadPoolExecutor(len(PATHS)) as pool:
        return dict(zip(PATHS, pool.map(work, PATHS)))


@pytest.mark.parametrize("path", PATHS)
def test_a_run_killed_twenty_times_ends_bit_for_bit_as_one_never_killed(
    finished: dict[str, Finished], path: str
) -> None:
    run = finished[path]
    assert run.kills == KILLS
    assert len(records(run.whole)) == 2 * EPOCHS  # training and validation
    assert_same_run(run.whole, run.killed)


@pytest.mark.parametrize("path", PATHS)
def test_it_logs_the_same_numbers(finished: dict[str, Finished], path: str) -> None:
    run = finished[path]
    expected = numbers(run.whole_log)
    assert len(expected) > 6 * EPOCHS
    seen: dict[str, str] = {}
    for log in run.killed_logs:
        for place, text in numbers(log).items():
            assert text == expected[place], place  # twice, if it was killed before the next save
            seen[place] = text
    assert seen.keys() == expected.keys()


@pytest.mark.parametrize("path", PATHS)
def test_it_was_killed_in_mid_epoch_too(finished: dict[str, Finished], path: str) -> None:
    starts = [
        re.search(r"starts at epoch (\d+), batch (\d+)", t) for t in finished[path].killed_logs
    ]
    places = [(int(match[1]), int(match[2])) for match in starts if match]
    assert places == sorted(places)
    assert any(batch for _, batch in places)
    assert len(set(places)) > KILLS / 3


class Base(NamedTuple):
    """A run of three epochs on one path, and a way to make more of them in one process."""

    folder: Path
    tmp: Path
    train: Callable[..., list[Result]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Base]:
    """Three epochs on the sample, by path, made when first asked for."""

    @functools.lru_cache(None)
    def make(path: str) -> Base:
        tmp = tmp_path_factory.mktemp(path)

        def train(*runs: tuple[Path, Mapping[str, object]]) -> list[Result]:
            cases = []
            for folder, settings in runs:
                given = {"save_steps": 20, "print_interval": 10, "epochs": 3, **settings}
                arguments = ["-m", str(CONFIG), *override(model_save_path=folder, **given)]
                cases.append(("train", path, arguments))
            return run_cases(cases, tmp)

        (result,) = train((tmp / "three", {}))
        assert result.status == 0, result.stderr
        return Base(tmp / "three", tmp, train)

    return make


@pytest.fixture
def base(bases: Callable[[str], Base]) -> Base:
    """The eager path's: what a checkpoint is does not depend on the path."""
    return bases("dygraph")


def copy(base: Base, name: str) -> Path:
    folder = base.tmp / name
    shutil.copytree(base.folder, folder)
    return folder


def flip(file: Path, place: float = 0.5) -> None:
    """Change one bit."""
    data = bytearray(file.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    file.write_bytes(data)


def truncate(file: Path) -> None:
    """Leave half of it."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def delete(file: Path) -> None:
    """Remove it."""
    file.unlink()


DAMAGES = [(d, f) for d in (flip, truncate, delete) for f in ("pdparams", "pdopt", "json")]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(base: Base) -> None:
    folders = []
    for damage, name in DAMAGES:
        folders.append(copy(base, f"{damage.__name__}-{name}"))
        damage(folders[-1] / "2" / f"rec.{name}")
    results = base.train(*((folder, {"resume": "true"}) for folder in folders))
    for folder, result in zip(folders, results):
        assert result.status == 0, result.stderr
        warning = f"warning: checkpoint {folder / '2'} is damaged: rec."
        assert any(line.startswith(warning) for line in result.sentences), result.stderr
        assert any("going back to the one before it" in line for line in result.sentences)
        assert "resume: starts at epoch 2, batch 0" in result.stdout
        assert_same_run(base.folder, folder)


def test_infer_names_a_damaged_checkpoint_and_refuses_it(base: Base) -> None:
    cases, folders = [], []
    for damage, name in DAMAGES:
        if (damage, name) == (delete, "json"):
            continue  # what is left is as PaddleRec's
        folders.append(copy(base, f"infer-{damage.__name__}-{name}"))
        damage(folders[-1] / "2" / f"rec.{name}")
        arguments = override(infer_load_path=folders[-1], infer_start_epoch=1, infer_end_epoch=3)
        cases.append(("infer", "dygraph", ["-m", str(CONFIG), *arguments]))
    for folder, result in zip(folders, run_cases(cases, base.tmp)):
        assert result.status == 2
        assert "epoch: 1 done" in result.stdout  # the whole one before it
        assert "epoch: 2 done" not in result.stdout
        (sentence,) = result.sentences
        assert f"{folder / '2'} is damaged: rec." in sentence


def test_every_bit_of_the_manifest_counts(base: Base) -> None:
    """Any digit of it may have rotted, of the step, the best value, the time."""
    from rec_runner.checkpoint.weights import load_weights
    from rec_runner.system.errors import UserError

    folder = copy(base, "manifest") / "2"
    text = (folder / "rec.json").read_text(encoding="utf-8")
    digits = [match.start() for match in re.finditer(r"\d", text)]
    for place in digits:
        changed = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        with suppress(json.JSONDecodeError):  # 96 became 06, which is no number
            if json.loads(changed) == json.loads(text):
                continue  # a last digit of a number that makes no difference
        (folder / "rec.json").write_text(changed, encoding="utf-8")
        with pytest.raises(UserError, match="is damaged"):
            load_weights(folder)
    (folder / "rec.json").write_text(text, encoding="utf-8")
    load_weights(folder)


def test_where_none_is_whole_training_starts_afresh_and_says_so(base: Base) -> None:
    folder = copy(base, "none")
    for epoch in range(3):
        flip(folder / str(epoch) / "rec.pdparams", 0.9)
    (result,) = base.train((folder, {"resume": "true"}))
    assert result.status == 0
    assert sum("is damaged" in line for line in result.sentences) == 3
    assert f"no whole checkpoint is left in {folder}; training starts afresh" in result.stderr
    assert_same_run(base.folder, folder)


@pytest.mark.parametrize("path", PATHS)
def test_a_finished_run_is_not_trained_on_and_a_longer_one_goes_on(
    bases: Callable[[str], Base], path: str
) -> None:
    base = bases(path)
    finished, longer, six = copy(base, "finished"), copy(base, "longer"), base.tmp / "six"
    before = (finished / "2" / "rec.json").read_bytes()
    nothing, more, whole = base.train(
        (finished, {"resume": "true"}),
        (longer, {"resume": "true", "epochs": 6}),
        (six, {"epochs": 6}),
    )
    assert nothing.status == more.status == whole.status == 0
    assert "batch_id" not in nothing.stdout
    assert (finished / "2" / "rec.json").read_bytes() == before
    assert "resume: starts at epoch 3, batch 0" in more.stdout
    assert_same_run(six, longer)


def test_resume_without_a_checkpoint_starts_from_the_beginning(base: Base) -> None:
    folder = base.tmp / "new"
    (result,) = base.train((folder, {"resume": "true"}))
    assert result.status == 0
    assert result.sentences == []
    assert_same_run(base.folder, folder)


def test_without_resume_a_run_starts_anew_in_the_same_folder(base: Base) -> None:
    folder = copy(base, "again")
    flip(folder / "1" / "rec.pdparams")
    (folder / "best.json").write_text('{"epoch": 0, "value": 1}')  # of a run with validation
    (folder / "1-20").mkdir()
    (folder / ".1-7.part").mkdir()
    (result,) = base.train((folder, {}))
    assert result.status == 0
    assert result.sentences == []
    assert_same_run(base.folder, folder)


def test_what_must_not_change_is_named(base: Base) -> None:
    text = (ROOT / "data" / "train" / "train_data.txt").read_text(encoding="utf-8")
    tree = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))

    def resumed(name: str, files: Mapping[str, str], **changes: object) -> tuple[str, str, list]:
        """The run resumed from a folder of its own with its own data."""
        config = make_model_dir(base.tmp / name, tree["runner"], tree["hyper_parameters"])
        for file, content in files.items():
            file = config.parent / "data" / "train" / file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        given = {"epochs": 4, "resume": "true", "model_save_path": base.folder, **changes}
        return "train", "dygraph", ["-m", str(config), *override(**given)]

    same = {"train_data.txt": text}
    other = {"train_data.txt": text.replace("0", "1", 1)}  # of the same size
    hyper = "hyper_parameters."
    cases = {
        # One of sizes that fit no row is refused by the rows, before that.
        rf"{hyper}task_names was \['income', 'marital'\] .* is \['a', 'b'\]": resumed(
            "moved", same, hyper_parameters__task_names="[a, b]"
        ),
        rf"{hyper}label_columns was \[1, 0\] .* is \[0, 1\]": resumed(
            "moved", same, hyper_parameters__label_columns="[0, 1]"
        ),
        f"{hyper}bottom_size was 117 .* is 64": resumed(
            "moved", same, hyper_parameters__bottom_size=64
        ),
        "runner.train_batch_size was 32 .* is 16": resumed("moved", same, train_batch_size=16),
        "runner.seed was 12345 .* is 1": resumed("moved", same, seed=1),
        "runner.shuffle was False .* is True": resumed("moved", same, shuffle="true"),
        "runner.valid_share was 0.0 .* is 0.1": resumed("moved", same, valid_share=0.1),
        "file train_data.txt of runner.train_data_dir was .* is ": resumed("other", other),
        "file b.txt of .* was missing .* is '.* bytes": resumed("more", {**same, "b.txt": text}),
        "file train_data.txt .* was '.* bytes.* is missing": resumed("less", {"z.txt": text}),
    }
    before = sorted(p.name for p in base.folder.iterdir())
    for difference, result in zip(cases, run_cases(cases.values(), base.tmp)):
        assert result.status == 2
        assert "batch_id" not in result.stdout
        (sentence,) = result.sentences
        assert re.search(f"resume refused: {difference}", sentence), sentence
        assert str(base.folder) in sentence
    assert sorted(p.name for p in base.folder.iterdir()) == before


def test_another_learning_rate_is_pointed_out_and_goes(base: Base) -> None:
    folder = copy(base, "rate")
    rate = {"hyper_parameters__optimizer.learning_rate": 0.002}
    (result,) = base.train((folder, {"resume": "true", "epochs": 4, **rate}))
    assert result.status == 0
    assert "optimizer.learning_rate was 0.001" in result.stderr
    assert (folder / "3").is_dir()


def test_pruning_spares_the_best_and_the_last(base: Base) -> None:
    settings = {"valid_share": 0.2, "monitor": "logloss", "epochs": 9}
    faster = {"hyper_parameters__optimizer.learning_rate": 0.003}  # so that it overfits soon
    runs = [({}, "all"), ({"keep_checkpoints": 1}, "one"), ({"keep_checkpoints": 3}, "three-kept")]
    results = base.train(
        *((base.tmp / name, {**settings, **faster, **keep}) for keep, name in runs)
    )
    assert [result.status for result in results] == [0, 0, 0]
    values = {
        record["epoch"]: record["logloss_income"] + record["logloss_marital"]
        for record in records(base.tmp / "all")
        if record["phase"] == "valid"
    }
    best = min(values, key=values.__getitem__)
    assert 0 < best < 6
    kept = {
        name: {int(p.name) for p in (base.tmp / name).iterdir() if p.name.isdigit()}
        for _, name in runs
    }
    assert kept["all"] == set(range(9))
    assert kept["one"] == {best, 8}
    assert kept["three-kept"] == {best, 7, 8}
    for _, name in runs:
        assert json.loads((base.tmp / name / "best.json").read_text())["epoch"] == best


def test_a_run_that_stopped_early_stays_stopped(base: Base) -> None:
    folder = base.tmp / "early"
    settings = {"valid_share": 0.2, "monitor": "logloss", "epochs": 30, "patience": 2}
    settings["hyper_parameters__optimizer.learning_rate"] = 0.003
    first, again = base.train((folder, settings), (folder, {**settings, "resume": "true"}))
    assert first.status == again.status == 0
    best = json.loads((folder / "best.json").read_text())["epoch"]
    assert max(r["epoch"] for r in records(folder)) == best + 2 < 20
    assert "batch_id" not in again.stdout


def test_a_checkpoint_notes_what_it_was_made_with(base: Base) -> None:
    manifest = json.loads((base.folder / "2" / "rec.json").read_text())
    assert manifest["config"]["runner.train_batch_size"] == 32
    assert manifest["config"]["hyper_parameters.optimizer.learning_rate"] == 0.001
    assert {"python", "paddlepaddle", "numpy", "pyarrow"} <= manifest["versions"].keys()
    assert manifest["progress"]["step"] == 3 * 32
