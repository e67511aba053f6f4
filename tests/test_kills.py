"""A sample of what ``make test-kills`` does whole, and runs that end before they save anything."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, Result, make_model_dir, override, run, run_cases, run_tool, write_table

from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights
from rec_runner.system.errors import RunError

RUNNER = {
    "train_data_dir": "train",
    "test_data_dir": "train",
    "train_reader_path": "ending_reader",
    "infer_reader_path": "ending_reader",
    "train_batch_size": 10,
    "infer_batch_size": 100,
    "epochs": 2,
    "print_interval": 4,
}
HYPER = {"feature_size": 6, "task_names": ["a", "b"], "label_columns": [0, 1], "bottom_size": 5}

# Sends its process the signal that file "how" names, once, in a pass over the rows.
ENDING_READER = """
import os
from pathlib import Path
from census_reader import RecDataset as Rows

class RecDataset(Rows):
    def blocks(self):
        for block in super().blocks():
            if Path("how").exists():
                signum = int(Path("how").read_text())
                Path("how").unlink()
                os.kill(os.getpid(), signum)
            yield block
"""


def test_a_run_killed_at_any_file_operation_is_resumed_to_the_same_files() -> None:
    """Some operations of both graphs; ``make test-kills`` takes all of them."""
    result = run([sys.executable, str(ROOT / "tests" / "kills.py"), "--sample", "9"], cwd=ROOT)
    assert result.status == 0, result.stdout + result.stderr
    match = re.search(r"(\d+) kills, 0 of 30 runs differ", result.stdout)
    assert match and int(match[1]) > 30, result.stdout


def test_what_cannot_be_added_to_a_checkpoint_does_not_cost_it(tmp_path: Path) -> None:
    """An export on a full disk, say; its error is told once the checkpoint stands."""
    checkpoints = Checkpoints(str(tmp_path), keep=1)
    state = {"w": np.ones(3, np.float32)}
    batch = {"labels": np.zeros((2, 1), np.float32)}
    for epoch in (1, 2):
        progress = Progress("run", epoch, best_epoch=epoch - 1, best_value=0.5)

        def add(folder: Path) -> None:
            (folder / "half").touch()
            raise RunError("no space")

        with pytest.raises(RunError, match="no space"):
            checkpoints.save(Snapshot(progress, state, {}, {}, {}, batch), add)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "best.json"]
    assert load_weights(tmp_path / "1").keys() == {"w"}
    assert np.load(tmp_path / "1" / "last_train_batch.npz")["labels"].shape == (2, 1)


def test_a_link_in_the_place_of_a_half_written_checkpoint_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / "out").mkdir()
    for name in (".0.part", ".0.old", ".7.gone"):
        (tmp_path / "out" / name).symlink_to(elsewhere)
    (tmp_path / "out" / "0").symlink_to(tmp_path / "nowhere")
    checkpoints = Checkpoints(str(tmp_path / "out"))
    for _ in range(2):
        checkpoints.save(Snapshot(Progress("run", 1), {"w": np.ones(3, np.float32)}, {}, {}, {}))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["0"]
    assert (elsewhere / "file").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_in_the_place_of_a_checkpoint_is_removed_without_waiting(tmp_path: Path) -> None:
    for name in ("0", ".0.part", ".0.old", ".7.gone"):
        os.mkfifo(tmp_path / name)
    script = """if True:
        import sys
        from rec_runner.checkpoint.snapshot import Progress, Snapshot
        from rec_runner.checkpoint.store import Checkpoints

        Checkpoints(sys.argv[1]).save(Snapshot(Progress("run", 1), {}, {}, {}, {}))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, env=environment, timeout=60, check=True)
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


# A new run in an old run's folder ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory whose run in ``out`` has trained 2 epochs; ``first`` is a copy of that."""
    folder, rng = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    table = rng.normal(size=(95, 8))
    table[:, :2] = rng.integers(0, 2, (95, 2))
    write_table(folder / "train" / "a.txt", table)
    make_model_dir(folder, RUNNER, HYPER)
    (folder / "ending_reader.py").write_text(ENDING_READER)
    (result,) = cases(folder, {"model_save_path": "out"})
    assert result.status == 0, result.stderr
    shutil.copytree(folder / "out", folder / "first")
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "home")


def cases(home: Path, *options: dict[str, object]) -> list[Result]:
    """Train once for each set of options, in one process."""
    lines = [("train", "dygraph", ["-m", "config.yaml", *override(**o)]) for o in options]
    return run_cases(lines, home)


def weights(folder: Path) -> dict[str, bytes]:
    """Bytes of each weight of a checkpoint."""
    return {name: array.tobytes() for name, array in load_arrays(folder / "rec.pdparams").items()}


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ended_in_its_first_pass_is_not_taken_for_the_one_before_it(
    home: Path, signum: int
) -> None:
    new = {"model_save_path": "out", "model_init_path": "first/1"}
    (home / "how").write_text(str(int(signum)))
    ended = run_tool("trainer", "-m", "config.yaml", *override(**new), cwd=home)
    assert ended.status == (-9 if signum == signal.SIGKILL else 143)
    assert "epoch: 0, batch_id" not in ended.stdout
    infer = ["-m", "config.yaml", *override(infer_load_path="out")]
    (scored,) = run_cases([("infer", "dygraph", infer)], home)
    assert scored.status == 2
    assert "epochs there: 0 (an earlier run's), 1 (an earlier run's)" in scored.sentences[0]

    resumed, fresh = cases(
        home, {**new, "resume": "true"}, {**new, "model_save_path": "fresh", "epochs": 2}
    )
    assert resumed.status == fresh.status == 0, resumed.stderr + fresh.stderr
    (sentence,) = resumed.sentences
    assert "the last run in out ended before its first checkpoint: training starts" in sentence
    assert "resume: starts at epoch 0, batch 0" in resumed.stdout
    assert weights(home / "out" / "1") == weights(home / "fresh" / "1")


def test_a_run_that_fails_before_it_saves_leaves_the_one_before_it_to_be_resumed(
    home: Path,
) -> None:
    note = (home / "out" / "run.json").read_bytes()
    shutil.copytree(home / "train", home / "bad")
    with (home / "bad" / "a.txt").open("a") as stream:
        stream.write("0,1,what\n")
    out = {"model_save_path": "out"}
    failed = [
        {**out, "model_init_path": "first/7"},
        {**out, "train_data_dir": "bad"},
        {**out, "hyper_parameters__optimizer__learning_rate": 1e30},
        {**out, "resume": "true", "seed": 7},
    ]
    for given, result in zip(failed, cases(home, *failed)):
        assert result.status in (1, 2), given
        assert len(result.sentences) == 1
        assert (home / "out" / "run.json").read_bytes() == note, given
    (more,) = cases(home, {**out, "resume": "true", "epochs": 3})
    assert more.status == 0
    assert more.sentences == []
    assert "resume: starts at epoch 2, batch 0" in more.stdout
    (home / "out" / "run.json").unlink()
    cases(home, failed[0])
    assert not (home / "out" / "run.json").exists()
