"""Files written aside: never through a link, two writers at once, what killed runs leave behind."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import (
    TOOLS,
    Result,
    epoch_lines,
    files_below,
    make_model_dir,
    override,
    run_cases,
    write_table,
)
from test_resume_again import HYPER, RUNNER

from rec_plots.write import write_pictures
from rec_runner.checkpoint.lock import FolderLock
from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import Block
from rec_runner.report.visualdl import Visual
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import atomic_write, write_json

SECRET = "not to be overwritten\n"
EPOCHS = 3

# Runs what is called "<folder>.py" beside the folder of checkpoints, at the end of each pass over
# the rows, and "<folder>.first.py" before there is one.
SCRIPTED_READER = """
from pathlib import Path

import census_reader

class RecDataset(census_reader.RecDataset):
    def __init__(self, file_list, config):
        super().__init__(file_list, config)
        self.folder = config["runner.infer_load_path"]
        self.run("first.py")

    def blocks(self):
        yield from super().blocks()
        self.run("py")

    def run(self, suffix):
        script = Path(f"{self.folder}.{suffix}")
        if script.exists():
            exec(script.read_text(), {"folder": Path(self.folder)})
"""
# As a training run prunes.
PRUNE = """
import os, shutil
for epoch in {epochs}:
    if (folder / epoch).exists():
        os.replace(folder / epoch, folder / f".{{epoch}}.gone")
        shutil.rmtree(folder / f".{{epoch}}.gone")
"""
REPLACE = """
import os
if not (folder / "0" / "new").exists():
    (folder / ".0.part").mkdir()
    (folder / ".0.part" / "new").touch()
    os.replace(folder / "0", folder / ".0.old")
    os.replace(folder / ".0.part", folder / "0")
"""


def paused(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has said that it is ready, and sleeps at the script's end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


WRITERS = """if True:
    import sys, time
    from contextlib import ExitStack
    from pathlib import Path
    import numpy as np
    from rec_runner.data.row_cache import RowCache
    from rec_runner.data.rows import Block
    from rec_runner.system.files import atomic_write

    cache, *files = map(Path, sys.argv[1:])
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(atomic_write(file)).write(b"half")
        rows = {"features": np.zeros((2, 3), np.float32), "labels": np.zeros((2, 1), np.float32)}
        writing = RowCache(cache, [], 0).written(Block(rows, ("f",)) for _ in range(2))
        next(writing)
        print("ready", flush=True)
        time.sleep(1000)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a model directory, in whose folder ``out`` are checkpoints and exports."""
    folder = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(3)
    table = np.column_stack([rng.integers(0, 2, (95, 2)), rng.normal(size=(95, 6))])
    write_table(folder / "train" / "rows.txt", table)
    runner = {
        **RUNNER,
        "epochs": EPOCHS,
        "infer_reader_path": "scripted_reader",
        "use_save_data": True,
        "save_predictions": True,
        "use_inference": True,
        "save_inference_feed_varnames": ["features"],
        "save_inference_fetch_varnames": ["probability_a"],
    }
    config = make_model_dir(folder, runner, HYPER)
    (folder / "scripted_reader.py").write_text(SCRIPTED_READER)
    options = override(model_save_path=folder / "out")
    (result,) = run_cases([("train", "static", ["-m", config, *options])], cwd=folder)
    assert result.status == 0, result.stderr
    return config


@pytest.fixture
def out(trained: Path, tmp_path: Path) -> Path:
    """A copy of its checkpoints."""
    return shutil.copytree(trained.parent / "out", tmp_path / "out")


def infer(config: Path, folder: Path, **more: object) -> Result:
    options = override(infer_load_path=folder, cache_mb=0, **more)
    (result,) = run_cases([("infer", "dygraph", ["-m", config, *options])], cwd=config.parent)
    return result


def resume(config: Path, folder: Path, **more: object) -> Result:
    options = override(model_save_path=folder, resume="true", **more)
    (result,) = run_cases([("train", "static", ["-m", config, *options])], cwd=config.parent)
    return result


def parts_below(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.rglob("*") if entry.name.endswith(".part"))


# Links ------------------------------------------------------------------------------------------


def test_no_run_writes_through_links_in_a_strangers_folder(
    trained: Path, out: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text(SECRET)
    names = ("metrics.jsonl", "infer_metrics.jsonl", "run.json", "best.json")
    beside = ("predictions.csv", "last_infer_batch.npz", "last_train_batch.npz")
    files = [out / name for name in names]
    files += [out / str(epoch) / name for epoch in range(EPOCHS) for name in beside]
    for file in files:
        file.with_name(f".{file.name}.part").symlink_to(mine)
        if file.name not in ("run.json", "best.json"):
            file.unlink(missing_ok=True)
            file.symlink_to(mine)
    assert infer(trained, out).status == 0
    assert mine.read_text() == SECRET
    assert resume(trained, out, epochs=EPOCHS + 1).status == 0
    assert mine.read_text() == SECRET
    written = [out / name for name in names[:2]] + [out / "0" / name for name in beside[:2]]
    assert not [file for file in written if file.is_symlink()]


def test_an_epochs_folder_that_is_a_link_is_read_but_not_written_to(
    trained: Path, out: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.move(out / "1", tmp_path / "elsewhere")
    (out / "1").symlink_to(elsewhere)
    there = files_below(Path(elsewhere))
    result = infer(trained, out)
    assert result.status == 0
    assert set(epoch_lines(result.stdout)) == {0, 1, 2}
    names = ("predictions.csv", "last_infer_batch.npz")
    assert result.sentences == [
        f"warning: checkpoint {out / '1'} is a link, {name} is not written through it"
        for name in names
    ]
    assert files_below(Path(elsewhere)) == there


def test_a_part_is_made_exclusively_and_with_the_usual_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, file = tmp_path / "mine", tmp_path / "out" / "run.json"
    write_json(file, 1)
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode
    with atomic_write(tmp_path / "out" / "other"):
        (name,) = {entry.name for entry in file.parent.iterdir()} - {"run.json"}
    # As if somebody had known the name.
    token = "".join(re.findall("[0-9a-f]{16}", name))
    monkeypatch.setattr("secrets.token_hex", lambda size: token)
    name = name.replace("other", "run.json")
    for make in (lambda part: part.symlink_to(mine), lambda part: os.link(mine, part)):
        mine.write_text(SECRET)
        make(file.with_name(name))
        with pytest.raises(RunError, match="run.json cannot be written: File exists"):
            write_json(file, 2)
        assert mine.read_text() == SECRET and file.read_text() == "1"
        file.with_name(name).unlink()


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder", "other name"])
def test_a_lock_that_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    mine, lock = tmp_path / "mine", tmp_path / "out" / ".lock"
    lock.parent.mkdir()
    mine.write_text(SECRET)
    if kind == "link":
        lock.symlink_to(mine)
    elif kind == "dangling":
        lock.symlink_to(tmp_path / "new")
    elif kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        os.link(mine, lock)
    with pytest.raises(UserError, match="lock is not a lock of a run"), FolderLock(lock.parent):
        pass
    assert mine.read_text() == SECRET
    assert not (tmp_path / "new").exists()


def test_pictures_and_logs_do_not_go_through_links(out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("plots", "visualDL_log"):
        (out / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="plots is a link"):
        list(write_pictures([str(out)], None, ["svg"], "en", None))
    pytest.importorskip("visualdl")
    with pytest.raises(UserError, match="visualDL_log is a link"):
        Visual(out)
    assert files_below(tmp_path / "elsewhere") == []


# Two at once ------------------------------------------------------------------------------------


def test_two_processes_write_the_same_files_at_once(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from rec_runner.data.row_cache import RowCache
        from rec_runner.data.rows import Block
        from rec_runner.system.files import write_json

        folder, rows = Path(sys.argv[1]), np.full((2, 3), 7, np.float32)
        block = Block({"features": rows, "labels": rows}, ("f",))
        print("ready", flush=True)
        for number in range(300):
            write_json(folder / "a.json", [number] * 100)
            if number % 10 == 0:  # it removes left-overs too
                assert len(list(RowCache(folder, [], 0).written([block]))) == 1
    """
    processes = [paused(script, tmp_path) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=300)
    assert [process.returncode for process in processes] == [0, 0]
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
    cached = RowCache(tmp_path, [], 0).load()
    assert cached is not None and cached.rows == 2


# Left-overs -------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("fcntl") is None, reason="no locks to tell")
def test_what_a_killed_run_leaves_goes_at_the_next_and_what_a_live_one_writes_stays(
    trained: Path, out: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    files = [out / "infer_metrics.jsonl", out / "0" / "predictions.csv", out / "1" / "a.npz"]
    other = out / "0" / ".mine.part"
    other.write_text(SECRET)
    lookalike = out / ".mine.rec-0123456789abcdef.part"
    lookalike.symlink_to(other)
    dead, live = (paused(WRITERS, cache, *files) for _ in range(2))
    try:
        before = parts_below(tmp_path)
        kill(dead)
        assert len(before) == 2 * 4 + 2
        assert infer(trained, out, test_data_dir="train", cache_dir=cache).status == 0
        left = parts_below(tmp_path)
        assert len(left) == 4 + 2
        assert resume(trained, out, cache_dir=cache).status == 0
        assert parts_below(tmp_path) == left
    finally:
        kill(live)
    assert resume(trained, out).status == 0
    assert parts_below(out) == [".mine.part", lookalike.name]
    assert lookalike.is_symlink() and other.read_text() == SECRET
    rows = np.zeros((1, 1), np.float32)
    list(RowCache(cache, [], 1).written([Block({"features": rows, "labels": rows}, ("f",))]))
    assert parts_below(cache) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_pointed_out_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    with FolderLock(tmp_path / "out"):
        write_json(tmp_path / "out" / "a.json", 1)
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"warning: the file system of {tmp_path / 'out'} has no locks")
    assert (tmp_path / "out" / "a.json").read_text() == "1"


@pytest.mark.parametrize("module", ["none", "refusing"])
def test_without_locks_left_overs_go_by_their_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    locks = SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4) if module == "refusing" else None
    monkeypatch.setattr("rec_runner.system.parts._fcntl", locks)
    names = {".a.rec-0123456789abcdef.part", ".b.rec-0123456789abcdef.part"}
    for name, age in zip(sorted(names), (1, 30)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").touch()
        changed = time.time() - age * 24 * 3600
        os.utime(tmp_path / name, (changed, changed))
    rows = np.zeros((1, 1), np.float32)
    block = Block({"features": rows, "labels": rows}, ("f",))
    list(RowCache(tmp_path, [], 0).written([block]))
    write_json(tmp_path / "a.json", 1)
    assert parts_below(tmp_path) == [".a.rec-0123456789abcdef.part"]
    assert (tmp_path / "a.json").read_text() == "1"
    assert RowCache(tmp_path, [], 0).load() is not None


def test_left_over_pictures_go(out: Path) -> None:
    file = out / "plots" / "roc.svg"
    file.parent.mkdir()
    kill(paused(WRITERS, out.parent / "cache", file))
    assert len(parts_below(file.parent)) == 1
    list(write_pictures([str(out)], None, ["svg"], "en", None))
    assert parts_below(file.parent) == []


def test_an_export_that_was_cut_short_is_made_again(trained: Path, out: Path) -> None:
    last = out / str(EPOCHS - 1)
    names = sorted(file.name for file in last.glob("rec_inference.*"))
    assert len(names) == 2
    (program,) = (name for name in names if not name.endswith(".pdiparams"))
    (last / program).unlink()  # it is given its name last
    assert resume(trained, out).status == 0
    assert sorted(file.name for file in last.glob("rec_inference.*")) == names

    elsewhere = out.parent / "elsewhere"
    shutil.move(last, elsewhere)
    (elsewhere / program).unlink()
    last.symlink_to(elsewhere)
    there = files_below(elsewhere)
    result = resume(trained, out)
    assert result.status == 1
    expected = "is a link and is not written through, a folder was expected"
    assert result.sentences == [f"error: {last} {expected}"]
    assert files_below(elsewhere) == there


# Pruned while they are scored -------------------------------------------------------------------

GONE = "was removed or replaced meanwhile, as by a training run with runner.keep_checkpoints"


@pytest.mark.parametrize("options", [{}, {"infer_start_epoch": 0, "infer_end_epoch": 3}])
def test_a_pruned_checkpoint_is_not_made_anew(
    trained: Path, out: Path, options: dict[str, int]
) -> None:
    shutil.rmtree(out / "2")
    shutil.copytree(out / "0", out / "2")
    out.with_name("out.py").write_text(PRUNE.format(epochs=["0", "1"]))
    result = infer(trained, out, **options)
    assert {entry.name for entry in out.iterdir() if entry.name[0] != "."} >= {"2", "run.json"}
    assert not (out / "0").exists() and not (out / "1").exists()
    said = [
        f"warning: checkpoint {out / '0'} {GONE}; predictions.csv is not written",
        f"warning: checkpoint {out / '0'} {GONE}; last_infer_batch.npz is not written",
    ]
    if options:
        assert result.status == 2
        asked = "which runner.infer_start_epoch and runner.infer_end_epoch name,"
        assert result.sentences == [*said, f"error: checkpoint {out / '1'}, {asked} {GONE}"]
        assert set(epoch_lines(result.stdout)) == {0}
    else:
        assert result.status == 0
        left_out = f"warning: checkpoint {out / '1'} {GONE}, and is left out"
        assert result.sentences == [*said, left_out]
        assert set(epoch_lines(result.stdout)) == {0, 2}
        assert (out / "2" / "predictions.csv").is_file()
        assert len((out / "infer_metrics.jsonl").read_text().splitlines()) == 2


def test_predictions_of_a_checkpoint_that_was_replaced_do_not_go_beside_the_new_one(
    trained: Path, out: Path
) -> None:
    out.with_name("out.py").write_text(REPLACE)
    result = infer(trained, out, infer_start_epoch=0, infer_end_epoch=1)
    assert result.status == 0
    assert result.sentences[0].endswith(f"{GONE}; predictions.csv is not written")
    assert os.listdir(out / "0") == ["new"]


def test_where_no_checkpoint_is_left_to_score_infer_says_so(
    trained: Path, out: Path, tmp_path: Path
) -> None:
    out.with_name("out.first.py").write_text(PRUNE.format(epochs=["0", "1", "2"]))
    result = infer(trained, out, cache_dir=tmp_path / "cache")
    assert result.status == 2
    assert result.sentences == [
        *(f"warning: checkpoint {out / str(e)} {GONE}, and is left out" for e in range(EPOCHS)),
        f"error: {out}: no checkpoint is left to score; start again",
    ]
    assert not (out / "infer_metrics.jsonl").exists()
