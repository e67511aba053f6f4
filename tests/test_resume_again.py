"""What a resume finds, finishes, refuses and replays, and who may write to a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from helpers import ROOT, TOOLS, Result, make_model_dir, override, run_cases, write_table
from test_resume import PATHS, assert_same_run

from rec_runner.checkpoint.lock import FolderLock
from rec_runner.checkpoint.resume import check_fingerprint
from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights
from rec_runner.data.fingerprint import content_fingerprint
from rec_runner.system.errors import UserError

RUNNER = {
    "train_data_dir": "train",
    "test_data_dir": "train",
    "train_reader_path": "census_reader",
    "infer_reader_path": "census_reader",
    "train_batch_size": 10,
    "infer_batch_size": 100,
    "epochs": 2,
    "print_interval": 4,
}
HYPER = {"feature_size": 6, "task_names": ["a", "b"], "label_columns": [0, 1], "bottom_size": 5}
STEPS = 10  # of an epoch of 95 rows
OPTIMIZER = "hyper_parameters__optimizer."

# Adds noise to the rows; sends its process a signal once, where "<run>.signal" says:
# folder of the rows, number of the row, passes over them to let go by.
NOISY_READER = """
import os, random, signal
from pathlib import Path
import numpy as np
from paddle.io import IterableDataset

class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list
        self.flag = Path(config["runner.model_save_path"] + ".signal")

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for number, line in enumerate(lines):
                    self.send(Path(file).parent.name, number)
                    noise = np.random.normal(), random.random(), 0.0, 0.0, 0.0
                    yield [float(field) + n for field, n in zip(line.split(","), noise)]

    def send(self, folder, number):
        if not self.flag.exists():
            return
        where, row, passes = self.flag.read_text().split()
        if (where, int(row)) == (folder, number):
            self.flag.write_text(f"{where} {row} {int(passes) - 1}")
            if int(passes) == 0:
                self.flag.unlink()
                os.kill(os.getpid(), signal.SIGTERM)
"""


def snapshot(run: str, epoch: int, batch: int = 0, **progress: Any) -> Snapshot:
    """A checkpoint of next to nothing."""
    weights = {"w": np.full(3, epoch, np.float32)}
    meter = {"seconds": 1.0, "losses": np.ones(batch, np.float32), "values": {}, "metrics": {}}
    meter["batch_rows"] = np.full(batch, 32)
    return Snapshot(
        Progress(run, epoch, batch, **progress), weights, {}, meter if batch else {}, {}
    )


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# Which checkpoint counts ------------------------------------------------------------------------


def test_an_older_runs_later_epochs_are_not_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    for run, epochs in (("old", 4), ("new", 2)):
        checkpoints.begin(run)
        for epoch in range(epochs):
            checkpoints.save(snapshot(run, epoch + 1))
    assert checkpoints.newest().progress.epoch == 2
    assert capsys.readouterr().err == ""
    (tmp_path / "1" / "rec.json").write_text("{")
    found = checkpoints.newest()
    assert (found.progress.run, found.progress.epoch) == ("new", 1)
    assert capsys.readouterr().err.count("is damaged: rec.json") == 1
    (tmp_path / "0" / "rec.json").write_text("{")
    assert checkpoints.newest() is None
    assert "no whole checkpoint of the last run is left" in capsys.readouterr().err


def test_every_unreadable_manifest_is_named_where_it_may_be_the_last_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(str(tmp_path))  # as one left that has no run.json
    for epoch in range(3):
        checkpoints.save(snapshot("old", epoch + 1))
    checkpoints.save(snapshot("new", 1))
    (tmp_path / "0" / "rec.json").write_text("{")
    assert checkpoints.newest().progress.epoch == 3
    said = capsys.readouterr().err
    assert f"{tmp_path / '0'} is damaged: rec.json" in said
    assert "it is passed over" in said
    (tmp_path / "run.json").write_text("[]")
    assert checkpoints.newest().progress.epoch == 3
    assert f"{tmp_path / 'run.json'} is damaged" in capsys.readouterr().err


def test_a_run_that_has_saved_nothing_does_not_go_on_from_an_older_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(snapshot("old", 1))
    checkpoints.begin("new")
    assert checkpoints.newest() is None


@pytest.mark.parametrize("how", ["newest", "save"])
def test_a_checkpoint_killed_in_mid_replacement_is_put_back(tmp_path: Path, how: str) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(snapshot("run", 1, 7))
    os.replace(tmp_path / "1-7", tmp_path / ".1-7.old")
    shutil.copytree(tmp_path / ".1-7.old", tmp_path / ".1-7.part")
    (tmp_path / ".1-7.part" / "rec.json").write_text("{")
    if how == "newest":
        assert checkpoints.newest().progress.batch == 7
    else:
        checkpoints.save(snapshot("run", 1))
        assert names(tmp_path) == ["0"]  # it came back and gave way to a newer one


def test_a_kill_while_a_checkpoint_is_removed_leaves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(snapshot("run", 1, 7))
    rmtree = shutil.rmtree

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if "1-7" in folder.name and folder.exists():
            for name in ("rec.json", "rec.pdparams"):
                (folder / name).unlink()
            raise KeyboardInterrupt
        rmtree(folder, ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(snapshot("run", 1))
    checkpoints.save(snapshot("run", 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]


def test_a_failed_replacement_leaves_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(snapshot("run", 1, 7))
    replace, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(UserError, match="earlier checkpoints are intact"):
        checkpoints.save(snapshot("run", 1, 7))
    assert names(tmp_path) == ["1-7"]
    load_weights(tmp_path / "1-7")


def test_a_config_with_keys_that_are_no_text_is_saved_and_read(tmp_path: Path) -> None:
    odd = [{10: 1, 9: 2, "a": 3, None: 4, (1, 2): 5}]
    Checkpoints(str(tmp_path), None, {"config": {"hyper_parameters.x": odd}}).save(
        snapshot("run", 1)
    )
    load_weights(tmp_path / "0")


# What must not change ---------------------------------------------------------------------------


def test_a_byte_in_the_middle_of_a_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    data = bytearray(5 << 20)
    file.write_bytes(data)
    before = content_fingerprint(file)
    os.utime(file, ns=(1, 1))
    assert content_fingerprint(file) == before
    data[len(data) // 2] = 1
    file.write_bytes(data)
    assert content_fingerprint(file) != before


def test_settings_are_compared_by_what_they_mean(tmp_path: Path) -> None:
    def resolve(given: Mapping[str, Any]) -> dict[str, Any]:
        return {"hyper_parameters.size": int(given.get("hyper_parameters.size", 5))}

    given = {"hyper_parameters.size": 5}
    check_fingerprint({}, given, tmp_path, resolve)
    with pytest.raises(UserError, match="size was missing .* and is 5 now"):
        check_fingerprint({}, given, tmp_path)
    with pytest.raises(UserError, match="size was 5 .* and is 6 now"):
        check_fingerprint(given, {"hyper_parameters.size": 6}, tmp_path, resolve)
    with pytest.raises(UserError, match="size was 'x' .* and is 5 now"):
        check_fingerprint({"hyper_parameters.size": "x"}, given, tmp_path, resolve)


# The lock ---------------------------------------------------------------------------------------


def test_the_lock_dies_with_its_process_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    script = """if True:
        import os, sys, time
        from pathlib import Path
        from rec_runner.checkpoint.lock import FolderLock
        with FolderLock(Path(sys.argv[1])):
            if os.fork() == 0:
                print(os.getpid(), flush=True)  # only now has it let go of the lock
            time.sleep(1000)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        text=True,
    )
    child = int(process.stdout.readline())
    try:
        with pytest.raises(UserError, match="another run is writing"), FolderLock(tmp_path):
            pass
        process.kill()
        process.wait()
        os.kill(child, 0)  # it is there still
        with FolderLock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_folder_is_removed_only_where_nothing_came_of_the_run_that_made_it(
    tmp_path: Path,
) -> None:
    for name, files, stays in (("a", (), 0), ("b", ("run.json",), 0), ("c", ("x",), 1)):
        with FolderLock(tmp_path / name):
            for file in files:
                (tmp_path / name / file).touch()
        assert (tmp_path / name).exists() == bool(stays)
    (tmp_path / "d").mkdir()
    with FolderLock(tmp_path / "d"):
        pass
    assert (tmp_path / "d").exists()


def test_a_lock_on_a_file_that_has_just_been_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, acquire, calls = tmp_path / "out", FileLock.acquire, []

    def as_the_last_holder_leaves(lock: FileLock, *given: Any, **named: Any) -> Any:
        result = acquire(lock, *given, **named)
        calls.append(lock)
        if len(calls) == 1:
            shutil.rmtree(folder)
        return result

    monkeypatch.setattr(FileLock, "acquire", as_the_last_holder_leaves)
    with FolderLock(folder):
        assert len(calls) == 2
        with pytest.raises(UserError, match="another run"), FolderLock(folder):
            pass


# Whole runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with 95 rows."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(95, 8))
    table[:, :2] = rng.integers(0, 2, (95, 2))
    folder = tmp_path_factory.mktemp("again")
    write_table(folder / "model" / "train" / "a.txt", table)
    return make_model_dir(folder / "model", RUNNER, HYPER)


COSINE = {f"{OPTIMIZER}schedule": "cosine"}
VALID = {"valid_share": 0.2}
EXPORT = {
    "use_inference": "true",
    "save_inference_feed_varnames": "[features]",
    "save_inference_fetch_varnames": "[probability_a]",
}
MORE = {"resume": "true", "epochs": 3}
# Name of a run, of the one it goes on from, and its settings.
RESUMED = {
    "class": ("plain", {**MORE, f"{OPTIMIZER}class": "sgd"}),
    "momentum": ("plain", {**MORE, f"{OPTIMIZER}class": "momentum"}),
    "now-cosine": ("plain", {**MORE, **COSINE}),
    "now-constant": ("cosine", MORE),
    "defaults": (
        "plain",
        {
            **MORE,
            "hyper_parameters__bottom_dropout": 0.0,
            "hyper_parameters__bottom_size": "[5]",
            "hyper_parameters__task_num": 2,
            f"{OPTIMIZER}class": "adam",
        },
    ),
    "settled": ("valid", {"resume": "true", "keep_checkpoints": 1, **VALID}),
    "exported": ("plain", {"resume": "true", **EXPORT}),
    "patience": ("plain", {**MORE, "patience": 3}),
}


@pytest.fixture(scope="module")
def runs(config: Path) -> dict[tuple[str, str], Result]:
    """Every run of :data:`RESUMED` on both paths; folders are called ``<path>-<name>``."""
    home = config.parent

    def trained(settings: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[Any, Result]:
        cases = [
            ("train", path, ["-m", str(config), *override(model_save_path=f"{path}-{name}", **s)])
            for (path, name), s in settings.items()
        ]
        return dict(zip(settings, run_cases(cases, home)))

    bases = {"plain": {}, "cosine": {**COSINE, "epochs": 2}, "valid": VALID}
    for result in trained({(p, n): s for p in PATHS for n, s in bases.items()}).values():
        assert result.status == 0, result.stderr
    for path in PATHS:
        for name, (base, _) in RESUMED.items():
            shutil.copytree(home / f"{path}-{base}", home / f"{path}-{name}")
        # As a kill leaves it between the rename of a checkpoint and what follows.
        best = home / f"{path}-settled" / "best.json"
        best.write_text('{"epoch": 7, "value": 1.0}')
    return trained({(p, n): s for p in PATHS for n, (_, s) in RESUMED.items()})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["class", "momentum"])
def test_another_kind_of_optimizer_is_refused(
    runs: dict[tuple[str, str], Result], path: str, name: str
) -> None:
    result = runs[path, name]
    assert result.status == 2
    (sentence,) = result.sentences
    assert "resume refused: hyper_parameters.optimizer.class was missing" in sentence


@pytest.mark.parametrize("path", PATHS)
def test_a_new_schedule_starts_where_the_run_stands_and_one_that_is_gone_is_dropped(
    config: Path, runs: dict[tuple[str, str], Result], path: str
) -> None:
    for name in ("now-cosine", "now-constant"):
        assert runs[path, name].status == 0, runs[path, name].stderr
        assert "optimizer.schedule was" in runs[path, name].stderr
    states = {
        name: load_arrays(config.parent / f"{path}-{name}" / "2" / "rec.pdopt")
        for name in ("now-cosine", "now-constant")
    }
    assert states["now-cosine"]["schedule"]["last_epoch"] == 3 * STEPS
    assert "schedule" not in states["now-constant"]


@pytest.mark.parametrize("path", PATHS)
def test_defaults_may_be_spelt_out(
    config: Path, runs: dict[tuple[str, str], Result], path: str
) -> None:
    result = runs[path, "defaults"]
    assert result.status == 0, result.stderr
    assert result.sentences == []
    assert (config.parent / f"{path}-defaults" / "2").is_dir()


@pytest.mark.parametrize("path", PATHS)
def test_a_resume_finishes_the_last_save_though_nothing_is_left_to_train(
    config: Path, runs: dict[tuple[str, str], Result], path: str
) -> None:
    assert runs[path, "settled"].status == 0, runs[path, "settled"].stderr
    whole, settled = (config.parent / f"{path}-{name}" for name in ("valid", "settled"))
    best = (whole / "best.json").read_bytes()
    assert (settled / "best.json").read_bytes() == best
    kept = {str(json.loads(best)["epoch"]), "1"}
    assert {name for name in names(settled) if name.isdigit()} == kept


def test_a_missing_export_of_the_last_epoch_is_made(
    config: Path, runs: dict[tuple[str, str], Result]
) -> None:
    assert runs["static", "exported"].status == 0, runs["static", "exported"].stderr
    folder = config.parent / "static-exported"
    assert "rec_inference.pdiparams" in names(folder / "1")
    assert "rec_inference.pdiparams" not in names(folder / "0")


@pytest.mark.parametrize("path", PATHS)
def test_patience_without_validation_rows_is_pointed_out(
    runs: dict[tuple[str, str], Result], path: str
) -> None:
    result = runs[path, "patience"]
    assert result.status == 0
    (sentence,) = result.sentences
    assert "runner.patience has no effect without validation rows" in sentence


@pytest.mark.parametrize("path", PATHS)
def test_a_reader_that_draws_numbers_is_replayed(tmp_path: Path, path: str) -> None:
    """Stopped in mid-epoch, and in validation: weights, metrics and records are as of one run."""
    rng = np.random.default_rng(0)
    for file in ROOT.joinpath("tests", "model_dirs", "regression").glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "reader.py").write_text(NOISY_READER)
    for name, rows in (("train", 120), ("valid", 40)):
        write_table(tmp_path / name / "rows.txt", rng.normal(size=(rows, 5)))
    config = tmp_path / "config.yaml"
    shutil.copy(ROOT / "tests" / "model_dirs" / "regression" / "config.yaml", config)
    shared = {"train_data_dir": "train", "valid_data_dir": "valid", "epochs": 3}
    shared.update(monitor={"dygraph": "mse", "static": "mae"}[path], use_save_data="true")
    stops = {"mid-epoch": "train 60 1", "validation": "valid 20 1"}
    runs = [("whole", {})]
    for name, place in stops.items():
        (tmp_path / f"{name}.signal").write_text(place)
        runs += [(name, {}), (name, {"resume": "true"})]
    cases = [
        ("train", path, ["-m", str(config), *override(**shared, model_save_path=n, **more)])
        for n, more in runs
    ]
    whole, *others = run_cases(cases, tmp_path)
    assert whole.status == 0, whole.stderr
    for name, stopped, resumed in zip(stops, others[::2], others[1::2]):
        assert stopped.status == 143, stopped.stderr
        where = "in the validation of epoch 1" if name == "validation" else "after epoch 1, batch"
        (sentence,) = stopped.sentences
        assert f"stopped by a signal {where}" in sentence
        assert resumed.status == 0, resumed.stderr
        assert "starts at epoch 1, batch " in resumed.stdout
        if name == "validation":
            assert "epoch: 1, batch_id" not in resumed.stdout
        assert_same_run(tmp_path / "whole", tmp_path / name)
        for epoch in "012":
            batches = [tmp_path / run / epoch / "last_train_batch.npz" for run in ("whole", name)]
            assert batches[0].read_bytes() == batches[1].read_bytes()


def test_infer_tells_an_earlier_runs_epochs_and_other_tasks(config: Path, tmp_path: Path) -> None:
    out = {"model_save_path": tmp_path / "out", "infer_load_path": tmp_path / "out"}
    named = {"infer_start_epoch": 1, "infer_end_epoch": 2}
    swapped = {"hyper_parameters__task_names": "[b, a]"}
    given = [
        ("train", {"epochs": 3}),
        ("train", {"epochs": 1, "seed": 2}),
        ("infer", {}),
        ("infer", named),
        ("infer", swapped),
    ]
    lines = [
        (command, "dygraph", ["-m", str(config), *map(str, override(**out, **more))])
        for command, more in given
    ]
    *_, plain, asked, other = run_cases(lines, cwd=tmp_path)
    left_out = [f"warning: checkpoint {tmp_path / 'out' / e} is an earlier run's" for e in "12"]
    assert plain.sentences == [f"{sentence} and is left out" for sentence in left_out]
    assert "epoch: 0 done" in plain.stdout and "epoch: 1 done" not in plain.stdout
    assert asked.sentences[0] == f"{left_out[0]} and is scored"
    assert "epoch: 1 done" in asked.stdout
    assert "hyper_parameters.task_names was ['a', 'b']" in other.stderr


def test_infer_after_a_run_that_saved_nothing_names_whose_epochs_are_there(
    config: Path, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(str(tmp_path / "out"))
    checkpoints.save(snapshot("old", 1))
    checkpoints.begin("new")
    options = override(infer_load_path=tmp_path / "out")
    (result,) = run_cases([("infer", "dygraph", ["-m", str(config), *options])], cwd=tmp_path)
    assert result.status == 2
    (sentence,) = result.sentences
    assert "no checkpoint of any epoch" in sentence and "0 (an earlier run's)" in sentence
