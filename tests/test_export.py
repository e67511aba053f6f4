"""The export tool: what it writes predicts what the checkpoint does, or nothing is left of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from exports import Trained, export_of, make_all, trained
from helpers import ROOT, TOOLS, override, run, run_cases, run_tool, sample
from paddle import inference
from test_model_dirs import copy as copy_directory

from prediction_rows.open import open_rows
from rec_runner.checkpoint.choice import choose_epoch
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.config import load_config
from rec_runner.exported import open as opening
from rec_runner.exported.check import off, sample_rows
from rec_runner.exported.facts import column_facts, example_row
from rec_runner.exported.manifest import PADDLE_PROGRAMS, read_manifest
from rec_runner.exported.open import Exported, open_export
from rec_runner.exported.write import check_target, named_tasks, new_export
from rec_runner.system import files
from rec_runner.system.errors import RunError, UserError
from table_reader import RecDataset

TOLERANCE = 1e-5
CASES = [("numeric", "dygraph"), ("raw", "static"), ("shop", "dygraph"), ("shop", "static")]
TASKS = {
    "numeric": {"income": "binary", "marital": "binary"},
    "raw": {"income": "binary", "marital": "binary"},
    "shop": {"click": "binary", "buy": "binary", "price_paid": "regression"},
}


def features_of(made: Trained, kind: str) -> np.ndarray:
    """The test rows, as the training's reader gives them; of numbers by NumPy alone."""
    if kind == "numeric":
        return sample("test")[0]
    schema = "schema.yaml" if kind == "shop" else "datasets/census/schema.yaml"
    config = {"config_abs_dir": str(made.config.parent), "hyper_parameters.schema": schema}
    return np.concatenate([b["features"] for b in RecDataset([str(made.test)], config).blocks()])


@cache
def scored_by_infer() -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """What ``infer`` predicts of the test rows, by kind and graph, by task."""
    make_all(CASES)
    lines, found = [], {}
    for kind, graph in CASES:
        made = trained(kind, graph)
        options = [*made.options, "runner.save_predictions=true"]
        lines.append(("infer", graph, ["-m", made.config, *options]))
    for result in run_cases(lines, trained(*CASES[0]).folder):
        assert result.status == 0, result.stderr
    for case in CASES:
        file = trained(*case).folder / "0" / "predictions.csv"
        with open(file, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        names = [name for name in rows[0] if name.startswith(("probability_", "prediction_"))]
        columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
        found[case] = {name.split("_", 1)[1]: values for name, values in columns.items()}
    return found


@pytest.mark.parametrize(("kind", "graph"), CASES)
def test_both_formats_predict_what_infer_does(kind: str, graph: str) -> None:
    expected = scored_by_infer()[kind, graph]
    made, folder = trained(kind, graph), export_of(kind, graph)
    features = features_of(made, kind)
    assert {**TASKS[kind]} == {t.name: t.type for t in read_manifest(folder).tasks}
    assert list(expected) == list(TASKS[kind])
    for runtime in ("onnx", "paddle"):
        model = open_export(folder, runtime)
        assert model.runtime == runtime
        found = model.predict(features)
        assert found.dtype == np.float32
        assert found.shape == (len(features), len(expected))
        # Batches of other sizes, no rows, and rows that are no copy of their own.
        np.testing.assert_allclose(model.predict(features[::2]), found[::2], atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(model.predict(features[5:6]), found[5:6], atol=1e-6, rtol=1e-6)
        assert model.predict(features[:0]).shape == (0, len(expected))
        for place, (task, values) in enumerate(expected.items()):
            size = 1.0 if TASKS[kind][task] == "binary" else np.abs(values).max()
            assert np.ptp(values) > 1e-3 * size  # there is something to be wrong about
            np.testing.assert_allclose(found[:, place], values, rtol=0, atol=TOLERANCE * size)
        model.close()


@pytest.mark.parametrize(("kind", "graph"), CASES[:3])
def test_a_client_with_paddle_inference_alone_gets_the_same(kind: str, graph: str) -> None:
    """With all that Paddle switches on by itself, oneDNN too."""
    made, folder = trained(kind, graph), export_of(kind, graph)
    features = features_of(made, kind)
    program = next(folder / name for name in PADDLE_PROGRAMS if (folder / name).exists())
    config = inference.Config(str(program), str(folder / "paddle_model.pdiparams"))
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    assert predictor.get_input_names() == ["features"]
    assert predictor.get_output_names() == list(TASKS[kind])
    for rows in (features, features[:3]):
        handle = predictor.get_input_handle("features")
        handle.reshape(rows.shape)
        handle.copy_from_cpu(np.ascontiguousarray(rows))
        predictor.run()
        found = [predictor.get_output_handle(task).copy_to_cpu() for task in TASKS[kind]]
        expected = open_export(folder, "onnx").predict(rows)
        np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["raw", "shop"])
def test_the_manifest_says_what_a_client_needs(kind: str) -> None:
    made, folder = trained(kind, "static"), export_of(kind, "static")
    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    rest = {key: value for key, value in told.items() if key != "model"}
    text = json.dumps(rest, sort_keys=True).encode()
    assert told["model"] == hashlib.sha256(text).hexdigest()
    names = {file.name for file in folder.iterdir()} - {"model.json"}
    assert names == set(told["files"]) >= {"model.onnx", "paddle_model.pdiparams"}
    for name, noted in told["files"].items():
        data = (folder / name).read_bytes()
        assert noted == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    features = features_of(made, kind)
    assert told["inputs"] == [
        {"name": "features", "dtype": "float32", "shape": [None, features.shape[1]]}
    ]
    assert [output["name"] for output in told["outputs"]] == list(TASKS[kind])
    assert told["checked"]["tolerance"] == TOLERANCE
    assert 0 <= told["checked"]["onnx"] <= TOLERANCE >= told["checked"]["paddle"] >= 0
    assert told["checked"]["rows"] == min(len(features), 1000)
    assert (told["epoch"], told["graph"]) == (0, "static")
    record = json.loads((made.folder / "metrics.jsonl").read_text().splitlines()[-1])
    metrics = {key: record[key] for key in record if key.startswith(("auc", "logloss", "mse"))}
    assert metrics.items() <= told["metrics"].items()
    assert metrics
    assert {"python", "paddlepaddle", "numpy", "onnx"} <= told["versions"].keys()
    assert "hyper_parameters.bottom_size" in told["config"]


def test_facts_of_columns_are_those_of_the_rows() -> None:
    made, folder = trained("shop", "static"), export_of("shop", "static")
    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    with open(made.test, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    prices = sorted(float(row["price"]) for row in rows)
    ages = sorted(float(row["age"]) for row in rows if row["age"])
    facts = told["column_facts"]
    last = len(prices) - 1
    found = [facts["price"][word] for word in ("low", "typical", "high")]
    assert found == [prices[int(share * last)] for share in (0.01, 0.5, 0.99)]
    assert facts["age"]["typical"] == ages[(len(ages) - 1) // 2]
    devices = [row["device"] for row in rows]
    most = sorted(set(devices), key=devices.count, reverse=True)
    assert facts["device"] == {"typical": most[0], "most": most}
    assert facts["user_id"] == {"typical": None}
    assert told["example"] == {name: fact["typical"] for name, fact in facts.items()}
    assert list(told["columns"]) == ["kind", "schema"]


class Counted:
    """A source of rows that are numbered, in blocks of 700."""

    closed = read = 0

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def raw_arrays(self) -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, self.rows, 700):
            numbers = np.arange(first, min(self.rows, first + 700), dtype=np.float32)
            self.read += len(numbers)
            yield {"features": np.stack([numbers, -numbers], 1), "labels": numbers[:, np.newaxis]}

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("rows", [1, 999, 1000, 1001, 2000, 2001, 50_000])
def test_sample_rows_are_spread_over_the_files(rows: int) -> None:
    source = Counted(rows)
    sampled = sample_rows(source)
    found = sampled["features"][:, 0].astype(int)
    np.testing.assert_array_equal(found, sampled["labels"][:, 0])
    assert len(found) == min(rows, 1000)
    gaps = np.diff(found)
    assert (found[0], source.read, source.closed) == (0, rows, 1)
    if rows > 1:
        assert 0 < gaps.min() <= gaps.max() <= 2 * rows / 1000
        assert found[-1] >= rows * 0.99 - 1


def test_no_more_is_read_for_a_sample_than_is_quick() -> None:
    source = Counted(10**9)
    found = sample_rows(source, most_read=10_000)["features"][:, 0]
    assert (source.read, source.closed, len(found)) == (5600, 1, 1000)
    assert 5500 < found[-1] < 5600
    assert len(sample_rows(Counted(10**9), most_read=1)["labels"]) == 1000


def test_the_example_has_one_value_of_each_category_that_columns_of_ones_stand_for() -> None:
    names = ["age", "red", "green", "blue", "height", "big", "small", "city"]
    columns = [{"name": name, "kind": "number"} for name in names]
    columns[-1].update(kind="category", values=["Lima", "Ulm"])
    nan = np.nan
    rows = [
        [20, 1, 0, 0, 150, 1, 0, 0],
        [39, 1, 0, 0, nan, nan, 1, 1],
        [40, 0, 1, 0, 170, 0, 1, 1],
        [41, 0, 0, 1, 180, 1, 0, 1],
        [90, 0, 0, 1, 190, 0, 1, 0],
        [90, 0, 1, 0, 160, 0, 1, 2],
    ]
    features = np.array(rows, np.float32)
    facts = column_facts(columns, features)
    assert [facts[name]["typical"] for name in names[1:4]] == [0, 0, 0]
    example = example_row(columns, features, facts)
    assert list(example) == names
    assert list(example.values()) == [40, 0, 1, 0, 170, 0, 1, "Ulm"]
    nothing = np.full((2, 8), nan, np.float32)
    nothing[:, 7] = 3
    facts = column_facts(columns, nothing)
    assert set(example_row(columns, nothing, facts).values()) == {None}


@pytest.mark.parametrize(("kind", "graph"), CASES[:3])
def test_the_example_is_a_row_that_can_be_predicted(kind: str, graph: str) -> None:
    model = open_export(export_of(kind, graph), "onnx")
    manifest = model.manifest
    reader = open_rows(manifest.columns)
    assert [column["name"] for column in reader.describe()] == list(manifest.column_facts)
    rows = reader.objects([manifest.example])
    assert (dict(rows.faults), len(rows.features)) == ({}, 1)
    assert np.isfinite(model.predict(rows.features)).all()
    numbers = [f for f in manifest.column_facts.values() if "low" in f]
    assert numbers
    assert all(fact["low"] <= fact["typical"] <= fact["high"] for fact in numbers)


def test_ids_are_hashed_as_the_manifest_says() -> None:
    made, folder = trained("shop", "static"), export_of("shop", "static")
    said = read_manifest(folder).hashing
    assert "BLAKE2b" in said and "little-endian" in said and "user_id: 300" in said
    with open(made.test, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {"user_id": 300, "referrer": 50}
    features = features_of(made, "shop")[:, -len(columns) :]
    for place, (name, buckets) in enumerate(columns.items()):
        digests = [hashlib.blake2b(row[name].encode(), digest_size=8).digest() for row in rows]
        codes = [int.from_bytes(digest, "little") % buckets for digest in digests]
        expected = [code if row[name] else buckets for code, row in zip(codes, rows)]
        np.testing.assert_array_equal(features[:, place], expected)
    assert read_manifest(export_of("raw", "static")).hashing == ""


def test_a_model_that_differs_from_its_checkpoint_is_not_left(tmp_path: Path) -> None:
    """The hooks of a directory say another network than the one that it has trained."""
    made = trained("shop", "dygraph")
    shutil.copytree(made.config.parent, tmp_path / "directory")
    network = tmp_path / "directory" / "net.py"
    text, bias = network.read_text(encoding="utf-8"), 'weights["out.bias"].reshape(-1)'
    assert text.count(f"{bias}\n") == 1
    network.write_text(text.replace(f"{bias}\n", f"{bias} + 0.001\n"), encoding="utf-8")
    shutil.copytree(export_of("shop", "dygraph"), tmp_path / "old")
    before = contents(tmp_path / "old")
    config = tmp_path / "directory" / "config.yaml"
    lines = [
        ["-m", config, "--out", out, "--format", kind, *made.options]
        for kind, out in (("paddle", "new"), ("onnx", "old"))
    ]
    for line, result in zip(lines, run_cases([("export", "", line) for line in lines], tmp_path)):
        assert result.status == 1, result.stderr
        (said,) = result.sentences
        assert f"nothing is exported: the {line[5]} model differs from the checkpoint by" in said
        assert re.search(r"row \d+ .* task (click|buy|price_paid), at most 1e-05", said)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "old"]
    assert contents(tmp_path / "old") == before


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_export_takes_the_place_of_an_older_one_and_of_nothing_else(tmp_path: Path) -> None:
    made = trained("shop", "static")
    for name in ("old", "more", "torn"):
        shutil.copytree(export_of("shop", "static"), tmp_path / name)
    (tmp_path / "more" / "notes.txt").write_text("mine")
    (tmp_path / "torn" / "model.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    for name, plain, forced in (
        ("old", "", ""),
        ("empty", "", ""),
        ("new", "", ""),
        ("more", "it holds 'notes.txt' besides an export; --force replaces the whole folder", ""),
        ("torn", "it holds a damaged export (model.json); --force replaces the whole folder", ""),
        ("home", "it holds 'letter.txt' and no export; give another folder", "it holds"),
        ("file", "it is a link or a file, a folder was expected", "it is"),
        ("link", "it is a link or a file, a folder was expected", "it is"),
    ):
        for force, error in ((False, plain), (True, forced)):
            if not error:
                check_target(tmp_path / name, force)
                continue
            with pytest.raises(UserError) as raised:
                check_target(tmp_path / name, force)
            assert str(raised.value).startswith(f"--out {tmp_path / name}: {error}")
    line = ["-m", made.config, "--format", "onnx", *made.options, "--out"]
    outs = (["old"], ["more"], ["more", "--force"])
    done = run_cases([("export", "", [*line, *out]) for out in outs], tmp_path)
    assert [result.status for result in done] == [0, 2, 0]
    for name in ("old", "more"):
        assert sorted(contents(tmp_path / name)) == ["model.json", "model.onnx"]
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


def test_a_folder_that_cannot_be_made_is_no_removed_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent, why in ((tmp_path / "file", "File exists"), (Path("/proc/none"), "No such file")):
        with pytest.raises(RunError, match=f"{parent} cannot be made: {why}"):
            new_export(parent / "out").__enter__()


def test_where_names_cannot_be_exchanged_the_older_folder_stays_until_the_new_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if source.name == "new":
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", failing)
        with pytest.raises(OSError, match="No space left"):
            files.replace_folder(tmp_path / "new", tmp_path / "old")
    assert [entry.name for entry in (tmp_path / "old").iterdir()] == ["old"]
    files.replace_folder(tmp_path / "new", tmp_path / "old")
    assert [entry.name for entry in (tmp_path / "old").iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


def test_the_epoch_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    """Of three checkpoints; later a mark says that the second is best."""
    made, folder = trained("shop", "dygraph"), tmp_path / "run"
    for epoch in range(3):
        shutil.copytree(made.folder / "0", folder / str(epoch))
    base = [f"runner.infer_load_path={folder}"]

    def chosen(asked: str | None = None, **options: object) -> int:
        config = load_config(str(made.config), [*base, *override(**options)[1:]])
        return choose_epoch(config, Checkpoints(config.runner("infer_load_path")), asked)

    assert [chosen(), chosen("0"), chosen("last"), chosen("2")] == [2, 0, 2, 2]
    assert chosen(infer_start_epoch=1, infer_end_epoch=2) == 1
    assert chosen(infer_start_epoch=1) == 2
    for asked, options, error in (
        ("best", {}, f"--epoch best: the run in {folder} marked none"),
        ("7", {}, f"no checkpoint of epoch 7 in {folder}; epochs there: 0, 1, 2"),
        ("-1", {}, "--epoch -1: best, last or the number of an epoch was expected"),
        ("first", {}, "--epoch first: best, last or the number of an epoch was expected"),
        (None, {"infer_end_epoch": 9}, "no checkpoint of epoch 8"),
        (None, {"infer_load_path": tmp_path / "none"}, "no checkpoint of any epoch in"),
        ("last", {"infer_load_path": tmp_path / "none"}, "epochs there: none"),
    ):
        with pytest.raises(UserError, match=re.escape(error)):
            chosen(asked, **options)
    (folder / "best.json").write_text('{"epoch": 1, "value": 0.5}')
    assert [chosen(), chosen("best"), chosen("last")] == [1, 1, 2]
    line = ["-m", made.config, "--format", "paddle", "-o", *base]
    (result,) = run_cases([("export", "", line)], tmp_path)
    assert f"{folder / 'export'}: epoch 1 as paddle, model " in result.stdout
    told = read_manifest(folder / "export")
    assert (told.epoch, told.graph, told.formats) == (1, "dygraph", ("paddle",))
    assert f"model {told.model[:12]}; largest difference from the checkpoint in" in result.stdout


def test_what_is_missing_is_told_in_a_sentence(tmp_path: Path) -> None:
    made = trained("shop", "static")
    no_rows = ["runner.test_data_dir=none.csv", "runner.train_data_dir=null"]
    line = ["-m", made.config, *made.options]
    done = run_cases(
        [
            ("export", "", [*line, *no_rows, "--out", "a"]),
            # Rows to check with are those to train on, where those to test on are gone.
            ("export", "", [*line, no_rows[0], "--out", "b", "--format", "paddle"]),
            ("export", "", [*line, "hyper_parameters.tower_size=7", "--out", "c"]),
            ("export", "", [*line, "--format", "tar"]),
        ],
        tmp_path,
    )
    assert [result.status for result in done] == [2, 0, 2, 2]
    assert "there are no rows to check an export with (runner.test_data_dir: " in done[0].stderr
    assert "give some by -o runner.test_data_dir=" in done[0].stderr
    assert read_manifest(tmp_path / "b").checked["rows"] == 1000
    (warning,) = done[1].stderr.splitlines()
    assert warning.startswith("warning: runner.test_data_dir: ")
    assert "none.csv is not a folder" in warning
    assert warning.endswith("; the export is checked with the rows of runner.train_data_dir")
    assert "this config's network" in done[2].stderr
    assert "argument --format: invalid choice: 'tar'" in done[3].stderr
    assert not any("Traceback" in result.stderr for result in done)
    # A machine without the packages that write and run ONNX.
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for package in ("onnx", "onnxruntime"):
        (blocked / f"{package}.py").write_text(f"raise ImportError('no {package} here')")
    result = run_tool("export", *line, "--out", "d", cwd=tmp_path, PYTHONPATH=str(blocked))
    assert result.status == 2
    (said,) = result.sentences
    assert "python -m pip install onnx" in said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "blocked"]


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "is not that of an export, its format is not": lambda m: m.update(format="another"),
    "is of version 2 of exports, these tools read version 1": lambda m: m.update(version=2),
    "tasks is missing": lambda m: m.pop("tasks"),
    "tasks should be a list": lambda m: m.update(tasks={"click": 1}),
    "tasks[0].type should be 'binary' or 'regression', got 'number'": lambda m: m["tasks"][
        0
    ].update(type="number"),
    "tasks[1].name should be a name, got ''": lambda m: m["tasks"][1].update(name=""),
    "tasks should be at most 10000, each of another name": lambda m: m["tasks"][1].update(
        name="click"
    ),
    "outputs should be those of the tasks": lambda m: m["outputs"].pop(),
    "inputs should be the features alone": lambda m: m["inputs"][0].update(shape=[None]),
    "inputs[0].shape should be a list of whole numbers": lambda m: m["inputs"][0].update(
        shape=[None, -4]
    ),
    "files names files that are not an export's": lambda m: m["files"].update(
        {"../../secret": m["files"]["model.onnx"]}
    ),
    "files.model.onnx.sha256 should be 64 hexadecimal digits": lambda m: m["files"][
        "model.onnx"
    ].update(sha256="../x"),
    "files lacks one of the onnx model's": lambda m: m["files"].pop("model.onnx"),
    "formats should name each format once": lambda m: m.update(formats=[]),
    "formats[0] should be 'onnx' or 'paddle', got '/etc'": lambda m: m.update(formats=["/etc"]),
    "columns should be an object or null": lambda m: m.update(columns=[1]),
    "column_facts.age should be an object": lambda m: m["column_facts"].update(age=3),
    "example.age should be a number, text or a list of such": lambda m: m["example"].update(
        age={"a": 1}
    ),
    "versions.numpy should be text": lambda m: m["versions"].update(numpy=2),
    "checked.rows should be a whole number from 0": lambda m: m["checked"].update(rows=-1),
    "epoch should be a whole number from 0 or null": lambda m: m.update(epoch=1e300),
    "metrics.auc should be": lambda m: m["metrics"].update(auc={}),
    "graph should be text or null": lambda m: m.update(graph=3),
}


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    """An export to be damaged."""
    shutil.copytree(export_of("shop", "static"), tmp_path / "torn")
    return tmp_path / "torn"


def rewrite(folder: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    """Change ``model.json`` and sign it anew, as anyone can."""
    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    damage(told)
    rest = {key: value for key, value in told.items() if key != "model"}
    told["model"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    (folder / "model.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.mark.parametrize("error", DAMAGE)
def test_each_word_of_a_foreign_manifest_is_checked(error: str, torn: Path) -> None:
    rewrite(torn, lambda told: None)
    assert read_manifest(torn).task_names == ("click", "buy", "price_paid")
    rewrite(torn, DAMAGE[error])
    with pytest.raises(UserError) as raised:
        open_export(torn)
    assert error in str(raised.value)
    assert str(torn) in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_damaged_export_is_refused(torn: Path, tmp_path: Path) -> None:
    whole = contents(torn)

    def refused(*words: str, folder: Path = torn) -> None:
        for runtime in ("onnx", "paddle"):
            with pytest.raises(UserError) as raised:
                open_export(folder, runtime)
            assert all(word in str(raised.value) for word in words), raised.value
        for name, data in whole.items():
            (torn / name).unlink(missing_ok=True)
            (torn / name).write_bytes(data)
        open_export(torn, "onnx").close()

    for name, data in whole.items():
        if name in ("model.json", "model.onnx"):
            continue
        half = data[: len(data) // 2]
        for damage in (data[:-1] + bytes([data[-1] ^ 1]), half, b"", data + b"x"):
            (torn / name).write_bytes(damage)
            with pytest.raises(UserError, match=f"is damaged: {re.escape(name)}: its checksum"):
                open_export(torn, "paddle")
        (torn / name).unlink()
        with pytest.raises(UserError, match=f"is damaged: {re.escape(name)}: No such file"):
            open_export(torn, "paddle")
        (torn / name).write_bytes(data)
    (torn / "model.json").write_bytes(whole["model.json"].replace(b"click", b"clack"))
    refused("model.json: its checksum is not the one noted")
    (torn / "model.json").write_bytes(whole["model.json"][:-20])
    refused("is damaged: model.json: ")
    (torn / "model.json").write_bytes(b"[" * 100_000)
    refused("is damaged: model.json: ")
    (torn / "model.json").write_bytes(b"[1]")
    refused("model.json is not that of an export")
    (torn / "model.json").write_bytes(b" " * (33 << 20))
    refused("it is larger than 32 MB")
    (torn / "model.json").unlink()
    refused("holds no export: it has no model.json")
    (torn / "model.json").unlink()
    os.mkfifo(torn / "model.json")
    refused("it is not a plain file")
    (torn / "model.json").unlink()
    (torn / "model.json").symlink_to("/etc/passwd")
    refused("it is a link")
    refused("is not a folder", folder=tmp_path / "none")
    # Files that another program made, their checksums noted as they should be.
    for name, runtime in (("model.onnx", "onnx"), ("paddle_model.pdiparams", "paddle")):
        data = b"\x00" * 64
        noted = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (torn / name).write_bytes(data)
        rewrite(torn, lambda told, name=name, noted=noted: told["files"].update({name: noted}))
        with pytest.raises(UserError):
            open_export(torn, runtime)


def ask(
    model: Exported, features: np.ndarray, expected: np.ndarray, first: int, wrong: list[int]
) -> None:
    """Ask for a few rows again and again; note each wrong answer."""
    for turn in range(15):
        rows = slice(first + 7 * turn, first + 8 * turn + 1)
        if not np.allclose(model.predict(features[rows]), expected[rows], atol=1e-6):
            wrong.append(first)


def test_threads_get_their_own_predictions() -> None:
    made, folder = trained("raw", "static"), export_of("raw", "static")
    features = features_of(made, "raw")
    for runtime in ("paddle", "onnx"):
        model = open_export(folder, runtime)
        expected = model.predict(features)
        wrong: list[int] = []

        threads = [
            threading.Thread(target=ask, args=(model, features, expected, first, wrong))
            for first in range(0, 80, 10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        model.close()


def test_onnx_runs_without_paddle() -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from rec_runner.exported.open import open_export\n"
        "model = open_export(Path(sys.argv[1]))\n"
        "print(model.runtime, model.predict(np.zeros((3, 499), np.float32)).shape)\n"
        "print(sorted({'paddle', 'onnx', 'pandas'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(export_of("numeric", "dygraph"))]
    done = run(command, cwd=TOOLS)
    assert done.stdout.splitlines() == ["onnx (3, 2)", "[]"], done.stderr


def test_the_runtime_is_one_that_there_is(torn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "onnxruntime" else name)
    assert open_export(torn).runtime == "paddle"
    with pytest.raises(UserError, match="python -m pip install onnxruntime"):
        open_export(torn, "onnx")
    with pytest.raises(UserError, match="runtime 'tf' is none, expected auto or onnx or paddle"):
        open_export(torn, "tf")
    rewrite(torn, lambda told: (told["formats"].remove("paddle"), _only_onnx(told["files"])))
    with pytest.raises(UserError, match="python -m pip install onnxruntime"):
        open_export(torn)
    with pytest.raises(UserError, match="has no paddle model: it was written with --format onnx"):
        open_export(torn, "paddle")


def _only_onnx(listed: dict[str, Any]) -> None:
    for name in [name for name in listed if name.startswith("paddle")]:
        del listed[name]


def test_tasks_of_any_name_have_an_output(tmp_path: Path) -> None:
    """Names that the input, a weight, an intermediate result or another output has too."""
    made, features = trained("numeric", "dygraph"), sample("test")[0][:50]
    expected = open_export(export_of("numeric", "dygraph"), "onnx").predict(features)
    names_of_runs = (["features", "weight.out.weight"], ['收入 €/a "b"\n', "relu_0.tmp_0"])
    lines = []
    for number, names in enumerate(names_of_runs):
        tasks = f"hyper_parameters.task_names={json.dumps(names)}"
        lines.append(["-m", made.config, "--out", number, *made.options, tasks])
    done = run_cases([("export", "", line) for line in lines], tmp_path)
    for number, (names, result) in enumerate(zip(names_of_runs, done)):
        out = tmp_path / str(number)
        assert result.status == 0, result.stderr
        assert list(read_manifest(out).task_names) == names
        for runtime in ("onnx", "paddle"):
            found = open_export(out, runtime).predict(features)
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [t.output for t in named_tasks(["features", "", "a\tb", "features_"], [])] == [
        "features_",
        "_",
        "a_b",
        "features__",
    ]


def test_how_far_predictions_are_off() -> None:
    own = np.array([[0.5, 1000.0], [0.25, 3000.0], [np.nan, -1000.0]])
    binary = off(own + [2e-5, 0], own, ("binary", "regression"))
    np.testing.assert_allclose(binary[:2, 0], 2e-5, rtol=1e-6)
    assert (binary[2, 0], binary[0, 1]) == (0, 0)  # both are NaN; both are the same
    # A share of the spread, and of a tenth of the number itself.
    shift = off(own + [0, 0.02], own, ("binary", "regression"))
    spread = np.std([1000, 3000, -1000])
    np.testing.assert_allclose(shift[:, 1], 0.02 / (spread + [100, 300, 100]), rtol=1e-6)
    assert off(np.array([[np.nan]]), np.array([[0.5]]), ("binary",)).item() == np.inf
    assert off(np.array([[0.5]]), np.array([[np.nan]]), ("binary",)).item() == np.inf
    assert off(np.array([[2.0]]), np.array([[2.0]]), ("regression",)).item() == 0


def test_a_directory_without_our_hooks_is_exported_from_its_static_model(tmp_path: Path) -> None:
    """Against what infer fetched of the same rows."""
    read: dict[str, Callable[[list[float]], dict[str, list[float] | float]]] = {
        "mmoe": lambda row: {"features": row[2:]},
        "sequence": lambda row: {"history": [*row[2:8], *[0] * (8 - len(row))], "target": row[1]},
        "old_representation": lambda row: {"features": row[:4]},
    }
    cases = []
    for name in read:
        config = copy_directory(name, tmp_path / name)
        line = ["-m", config, *override(infer_load_path=tmp_path / name / "out")]
        batch = ["runner.infer_batch_size=1000", "runner.use_save_data=true"]
        train = ["-m", config, *override(model_save_path=tmp_path / name / "out", epochs=1)]
        cases += [
            ("train", "static", train),
            ("infer", "static", [*line, *batch, *override(infer_end_epoch=1)]),
            ("export", "", [*line, "--epoch", "0"]),
        ]
    config = copy_directory("dygraph_only", tmp_path / "dygraph_only")
    saved = tmp_path / "dygraph_only" / "saved"
    cases.append(("train", "dygraph", ["-m", config, *override(model_save_path=saved, epochs=1)]))
    cases.append(("export", "", ["-m", config, *override(infer_load_path=saved)]))
    cases.append(("export", "", [*cases[2][2], "--format", "onnx"]))
    *done, without, onnx = run_cases(cases, tmp_path)
    assert [result.status for result in done] == [0] * 10, [r.stderr for r in done]
    assert "has no static_model.py: without our hooks an export is made of what" in without.stderr
    assert "python -m pip install paddle2onnx" in onnx.stderr
    assert (without.status, onnx.status) == (2, 2)
    for name, fields in read.items():
        folder = tmp_path / name / "out" / "export"
        batch = np.load(tmp_path / name / "out" / "0" / "last_infer_batch.npz")
        files_ = sorted((tmp_path / name / "data" / "test").iterdir())
        lines = [line for file in files_ for line in file.read_text().splitlines()]
        rows = [fields([float(text) for text in line.replace(",", " ").split()]) for line in lines]
        model = open_export(folder)
        manifest = model.manifest
        assert (model.runtime, manifest.tasks, manifest.columns) == ("paddle", (), None)
        assert [tensor.name for tensor in manifest.inputs] == list(rows[0])
        feeds = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        assert manifest.outputs
        for tensor, found in zip(manifest.outputs, model.run(feeds)):
            assert tensor.name.startswith("prediction")
            assert found.shape == (len(rows), 2)
            assert tensor.shape == (None, 2)
            np.testing.assert_allclose(found, batch[tensor.name], atol=1e-6)
        with pytest.raises(UserError, match="rows for it need that directory's own reader"):
            model.predict(np.zeros((1, 4), np.float32))


def test_an_export_that_is_killed_leaves_the_older_one_or_the_new_one_whole(tmp_path: Path) -> None:
    made = trained("shop", "dygraph")
    shutil.copytree(export_of("shop", "dygraph"), tmp_path / "old")
    script = ROOT / "tests" / "kill_exports.py"
    command = [sys.executable, script, tmp_path, 8, "-m", made.config, *made.options]
    done = run([str(word) for word in command], cwd=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    killed = re.findall(r"^(\d+) of (\d+): status -9, (old|new), (\d) left$", done.stdout, re.M)
    assert len(killed) == 8, done.stdout
    assert (killed[0][0], killed[-1][0]) == ("1", killed[-1][1])
    fates = [fate for *_, fate, _ in killed]
    assert fates == sorted(fates, reverse=True)  # old until it is new
    assert {"old", "new"} == set(fates)
    assert any(left == "1" for *_, left in killed)  # which the next one removes
