"""Well-signed files with wrong things inside: refused in a sentence, or passed over."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, override, run_cases

from rec_runner.checkpoint.format import own_checksum
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.data import row_cache
from rec_runner.data.block_source import BlockSource
from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import are_labels, named_block
from rec_runner.system.errors import RunError, UserError

sys.path.insert(0, str(ROOT / "fuzz"))
from fuzz_cases import SUBJECTS

MIDDLE = "1-5"  # checkpoint in mid-epoch


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    """A change that sets what stands at a path of names and indices."""

    def change(tree: Any) -> None:
        for name in path[:-1]:
            tree = tree[name]
        tree[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[Any], None]:
    """A change that leaves out what stands there."""

    def change(tree: Any) -> None:
        for name in path[:-1]:
            tree = tree[name]
        del tree[path[-1]]

    return change


# What is changed, and what the sentence says.
MANIFEST: list[tuple[Callable[[Any], None], str]] = [
    (
        put("progress", "epoch", value="1"),
        "progress.epoch should be a whole number from 0, got '1'",
    ),
    (
        put("progress", "batch", value=5.0),
        "progress.batch should be a whole number from 0, got 5.0",
    ),
    (
        put("progress", "step", value=True),
        "progress.step should be a whole number from 0, got True",
    ),
    (put("progress", "step", value=1 << 70), "got a number of more than 64 bits"),
    (put("progress", "run", value=None), "progress.run should be text, got None"),
    (put("progress", "best_epoch", value=[1]), "progress.best_epoch should be"),
    (put("progress", "best_value", value="high"), "progress.best_value should be"),
    (put("progress", "skipped_batches", value=-1), "progress.skipped_batches should be"),
    (put("progress", "records", value=None), "progress.records should be a list, got None"),
    (put("progress", "records", value=[1]), "progress.records[0] should be an object, got 1"),
    (drop("progress", "records", 0, "seconds"), "progress.records[0].seconds is missing"),
    (put("progress", "records", 0, "loss", value={"a": 1}), "progress.records[0].loss should be"),
    (put("progress", "more", value=1), "progress should hold no 'more'"),
    (drop("progress", "batch"), "progress.batch is missing"),
    (put("saved_at", value="now"), "saved_at should be a finite number, got 'now'"),
    (put("fingerprint", value=[]), "fingerprint should be an object, got a list of 0"),
    (put("sha256", value={}), "sha256.rec.pdopt is missing"),
    (drop("sha256", "rec.pdstate"), "sha256.rec.pdstate is missing"),
    (
        put("sha256", "rec.pdopt", value=7),
        "sha256.rec.pdopt should be 64 hexadecimal digits, got 7",
    ),
]
F4 = np.float32
METER: list[tuple[Callable[[Any], None], str]] = [
    (lambda state: state.clear(), "rec.pdstate: seconds is missing"),
    (put("seconds", value="long"), "rec.pdstate: seconds should be a finite number, got 'long'"),
    (put("losses", value=[1.0]), "rec.pdstate: losses should be an array of 1 dimensions"),
    (
        put("losses", value=np.zeros(3, F4)),
        "rec.pdstate: losses should be 5 finite numbers, or none",
    ),
    (
        put("batch_rows", value=np.zeros(5)),
        "batch_rows should be an array of 1 dimensions of integer",
    ),
    (put("batch_rows", value=np.zeros(0, int)), "batch_rows should be the rows of 5 batches"),
    (put("batch_rows", value=np.full(5, -8)), "batch_rows should be the rows of 5 batches"),
    (put("values", value=3), "rec.pdstate: values should be an object, got 3"),
    (
        put("values", "x", value=[[1], [1, 2]]),
        "values.x should be a number, text or a list of such",
    ),
    (put("metrics", value=None), "rec.pdstate: metrics should be an object, got None"),
]
OURS: list[tuple[str, Callable[[Any], None], str]] = [
    ("pdopt", lambda state: state.clear(), "rec.pdopt is not of this optimizer: "),
    ("pdopt", lambda state: state.pop(next(iter(state))), "rec.pdopt is not of this optimizer: "),
    ("pdopt", put("schedule", value={}), "schedule holds []"),
    ("pdopt", put("schedule", "last_epoch", value="3"), "schedule.last_epoch should be a finite"),
    ("pdopt", put("schedule", "last_epoch", value=-12), "schedule.last_epoch should not be neg"),
    ("pdopt", put("schedule", value=3), "schedule should be an object, got 3"),
    ("pdopt", put("more", value="text"), "rec.pdopt: more should be an array, got 'text'"),
    ("pdstate", drop("metrics", "labels"), "metrics.labels is missing"),
    (
        "pdstate",
        put("metrics", "labels", value=np.zeros((39, 2), bool)),
        "labels and log-odds of 40",
    ),
    ("pdstate", put("metrics", "labels", value=np.full((40, 2), 7)), "metrics.labels should be"),
    ("pdstate", put("metrics", "log_odds", value=np.full((40, 2), np.nan, F4)), "of 40 rows"),
    ("pdstate", put("metrics", "log_odds", value=np.zeros((40, 3), F4)), "2 tasks"),
]
FOREIGN: dict[str, list[tuple[str, Callable[[Any], None], str]]] = {
    "sequence-dygraph": [
        ("pdstate", put("metrics", "metrics", value={}), "metrics.0 is missing"),
        ("pdstate", put("metrics", "metrics", "1", value={}), "metrics.1 is empty"),
        (
            "pdstate",
            put("metrics", "metrics", "1", "total", value="x"),
            "metrics.1.total should be",
        ),
        ("pdstate", put("metrics", "metrics", "1", "accumulate", value=1), "what a metric counts"),
        (
            "pdstate",
            put("metrics", "metrics", "0", "labels", value=np.ones(3, bool)),
            "and a label",
        ),
        ("pdstate", put("metrics", "metrics", "1", "count", value=[np.zeros((2, 3))]), "failed: "),
        ("pdstate", put("metrics", "last", value=[]), "last should be an object, got a list of 0"),
    ],
    "auc_states-static": [
        ("pdstate", put("metrics", "rows", value=[]), "rows should be an object"),
        ("pdstate", put("metrics", "rows", value={"auc": 1}), "rows of an AUC should be an object"),
        ("pdstate", put("metrics", "counts", value={"a": "b"}), "counts.a should be an array"),
        ("pdstate", put("metrics", "last", value={"a": None}), "last.a should be an array"),
    ],
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that a signal ended in mid-epoch, by subject of the fuzzer."""
    folder = tmp_path_factory.mktemp("real")
    names = ["ours-dygraph", "ours-static", *FOREIGN]
    script = "import fuzz_cases as f, pathlib as p, sys\n"
    script += "for name in sys.argv[2:]: f.make_files(name, p.Path(sys.argv[1], name))"
    command = [sys.executable, "-c", script, str(folder), *names]
    subprocess.run(command, cwd=ROOT / "fuzz", check=True)
    return folder


def attacked(real: Path, name: str, file: str, change: Callable[[Any], None], target: Path) -> Path:
    """A copy of a real run's folder, a file of its checkpoint changed and all signed anew."""
    shutil.copytree(real / name / "out", target)
    shutil.copytree(real / name / "past" / "0", target / "0")
    folder = target / MIDDLE
    manifest = json.loads((folder / "rec.json").read_text())
    if file == "json":
        change(manifest)
    else:
        path = folder / f"rec.{file}"
        state = pickle.loads(path.read_bytes())
        change(state)
        path.write_bytes(pickle.dumps(state, 4))
        manifest["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["own_sha256"] = own_checksum(manifest)
    (folder / "rec.json").write_text(json.dumps(manifest))
    return target


def resume_all(real: Path, name: str, changes: list[Any], tmp_path: Path) -> None:
    """Each changed run resumed: a sentence that says what is wrong, and no internal error."""
    graph, lines = SUBJECTS[name][1], []
    for number, (file, change, _) in enumerate(changes):
        out = attacked(real, name, file, change, tmp_path / str(number))
        options = override(model_save_path=out, resume="true")
        lines.append(("train", graph, ["-m", real / name / "fuzz.yaml", *options]))
    for (file, _, said), result in zip(changes, run_cases(lines, tmp_path)):
        assert "internal error" not in result.stderr, (file, said, result.stderr)
        assert said in result.sentences[0], result.stderr
        # Passed over for the end of the epoch before, or refused.
        assert result.status == (0 if result.sentences[0].startswith("warning: ") else 2)
        assert len(result.sentences) == 1


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [*(("json", *item) for item in MANIFEST), *(("pdstate", *item) for item in METER)],
)
def test_a_signed_checkpoint_with_other_types_is_passed_over(
    real: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    change: Callable[[Any], None],
    said: str,
) -> None:
    out = attacked(real, "ours-static", file, change, tmp_path / "out")
    found = Checkpoints(str(out)).newest()
    assert found is not None
    assert (found.progress.epoch, found.progress.batch) == (1, 0)
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: checkpoint {out / MIDDLE} is damaged: rec.{file}: ")
    assert said in warning


@pytest.mark.parametrize("graph", ["dygraph", "static"])
def test_a_resume_refuses_or_passes_over_what_a_signed_checkpoint_should_not_hold(
    real: Path, tmp_path: Path, graph: str
) -> None:
    changes = {
        "dygraph": OURS,
        "static": [("json", *MANIFEST[0]), ("pdstate", *METER[0]), *OURS[::2]],
    }
    resume_all(real, f"ours-{graph}", changes[graph], tmp_path)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_resume_refuses_what_a_directorys_own_metrics_do_not_give(
    real: Path, tmp_path: Path, name: str
) -> None:
    resume_all(real, name, FOREIGN[name], tmp_path)


def test_a_checkpoint_of_skipped_batches_alone_needs_no_slots(real: Path, tmp_path: Path) -> None:
    def change(state: Any) -> None:
        state.clear()

    out = attacked(real, "ours-dygraph", "pdopt", change, tmp_path / "out")
    meter = pickle.loads((out / MIDDLE / "rec.pdstate").read_bytes())
    meter.update(losses=np.zeros(0, F4), batch_rows=np.zeros(0, int))
    meter["metrics"] = {"labels": np.zeros((0, 2), bool), "log_odds": np.zeros((0, 2), F4)}
    (out / MIDDLE / "rec.pdstate").write_bytes(pickle.dumps(meter, 4))
    manifest = json.loads((out / MIDDLE / "rec.json").read_text())
    manifest["progress"]["skipped_batches"] = manifest["progress"]["step"]
    for name in manifest["sha256"]:
        data = (out / MIDDLE / name).read_bytes()
        manifest["sha256"][name] = hashlib.sha256(data).hexdigest()
    manifest["own_sha256"] = own_checksum(manifest)
    (out / MIDDLE / "rec.json").write_text(json.dumps(manifest))
    options = override(model_save_path=out, resume="true", skip_bad_batches="true")
    config = real / "ours-dygraph" / "fuzz.yaml"
    (result,) = run_cases([("train", "dygraph", ["-m", config, *options])], tmp_path)
    assert result.status == 0, result.stderr
    assert f"starts at epoch 1, batch {manifest['progress']['batch']}" in result.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"epoch": true, "value": 0.5}', "best.json is damaged: epoch should be a whole number"),
        ('{"epoch": 0.0, "value": 0.5}', "epoch should be a whole number from 0, got 0.0"),
        ('{"epoch": "0", "value": 0.5}', "epoch should be a whole number from 0, got '0'"),
        ('{"epoch": 0}', "value is missing"),
        ("[0]", "it should be an object, got a list of 1"),
    ],
)
def test_a_mark_of_the_best_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(UserError, match="is damaged") as caught:
        Checkpoints(str(tmp_path)).best_epoch()
    assert said in str(caught.value)


# Caches -------------------------------------------------------------------------------------------


def cache(folder: Path, rows: int = 100) -> RowCache:
    """A cache of rows with labels 0 and 1."""
    data = folder / "rows.txt"
    data.write_text("1")
    disk = RowCache(folder / "cache", [str(data)], "settings", are_labels)
    labels = (np.arange(rows * 2) % 3 == 0).astype(F4).reshape(rows, 2)
    block = (np.arange(rows * 3, dtype=F4).reshape(rows, 3), labels, "rows.txt")
    for _ in disk.written([named_block(block, "rows.txt")]):
        pass
    assert disk.load() is not None
    return disk


def sign(disk: RowCache, manifest: dict[str, Any]) -> None:
    manifest["own_crc32"] = row_cache._own_checksum(manifest)
    (disk.path / "manifest.json").write_text(json.dumps(manifest))


def test_a_cached_label_that_no_reader_gives_is_not_believed(tmp_path: Path) -> None:
    disk = cache(tmp_path)
    labels = np.fromfile(disk.path / "labels.bin", F4)
    labels[17] = 7
    labels.tofile(disk.path / "labels.bin")
    manifest = json.loads((disk.path / "manifest.json").read_text())
    manifest["arrays"]["labels"]["crc32"] = zlib.crc32(labels.tobytes())
    sign(disk, manifest)
    assert disk.load() is None


@pytest.mark.parametrize(
    "change",
    [
        put("skipped", value=["3", []]),
        put("skipped", value=[3, [1]]),
        put("skipped", value=[-3, []]),
        put("files", value=[[3, 100]]),
        put("files", value=[["rows.txt", 101], ["rows.txt", -1]]),
        put("files", value=[["rows.txt", 100.0]]),
        put("files", value={"rows.txt": 100}),
        put("arrays", "labels", "crc32", value="1"),
        put("arrays", "more", value={"dtype": "float32", "shape": [100, 0], "crc32": 0}),
        put("arrays", value=[]),
    ],
)
def test_a_cache_manifest_of_other_types_is_not_believed(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    disk = cache(tmp_path)
    (disk.path / "more.bin").write_bytes(b"")
    manifest = copy.deepcopy(json.loads((disk.path / "manifest.json").read_text()))
    change(manifest)
    sign(disk, manifest)
    assert disk.load() is None


def test_a_cache_that_is_cut_short_in_use_ends_in_a_sentence_not_in_a_signal(
    tmp_path: Path,
) -> None:
    disk = cache(tmp_path, rows=100_000)
    source = BlockSource(lambda: None, 10, "rows", chunk_rows=1000, disk=disk)
    windows = source.windows(stops=[(100, 0)])
    next(windows)
    with open(disk.path / "features.bin", "r+b") as file:
        file.truncate(100)
    with pytest.raises(RunError, match="was cut short while in use") as caught:
        list(windows)
    assert str(disk.path) in str(caught.value)


def test_a_cache_that_is_replaced_in_use_is_read_on(tmp_path: Path) -> None:
    disk = cache(tmp_path, rows=10_000)
    source = BlockSource(lambda: None, 10, "rows", chunk_rows=1000, disk=disk)
    before = [window.arrays["features"] for window in source.windows(stops=[(100, 0)])]
    shutil.rmtree(disk.path)
    after = [window.arrays["features"] for window in source.windows(stops=[(100, 0)])]
    np.testing.assert_array_equal(np.concatenate(before), np.concatenate(after))
