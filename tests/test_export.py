"""The export tool: what it writes predicts what the checkpoint does, or nothing is left of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from exports import Trained, export_of, trained
from helpers import ROOT, TOOLS, Result, make_model_dir, override, run, run_cases, run_tool, sample
from test_model_dirs import copy as copy_directory

from rec_runner.exported.check import off
from rec_runner.exported.manifest import Manifest, read_manifest
from rec_runner.exported.open import Exported, open_export
from rec_runner.exported.write import named_tasks
from rec_runner.system.errors import UserError
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


def scored_by_infer(made: Trained, graph: str) -> dict[str, np.ndarray]:
    """What ``infer`` predicts of the test rows, by task."""
    options = [*made.options, "runner.save_predictions=true"]
    (result,) = run_cases([("infer", graph, ["-m", made.config, *options])], cwd=made.folder)
    assert result.status == 0, result.stderr
    with open(made.folder / "0" / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(("probability_", "prediction_"))]
    return {name.split("_", 1)[1]: np.array([float(r[name]) for r in rows]) for name in names}


def run_export(made: Trained, *arguments: object, cwd: Path) -> Result:
    """The tool on a checkpoint."""
    line = ["-m", made.config, *arguments, *([] if "-o" in arguments else made.options)]
    (result,) = run_cases([("export", "", line)], cwd)
    return result


@pytest.mark.parametrize(("kind", "graph"), CASES)
def test_both_formats_predict_what_infer_does(kind: str, graph: str) -> None:
    made, folder = trained(kind, graph), export_of(kind, graph)
    features, expected = features_of(made, kind), scored_by_infer(made, graph)
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
        for kind in ("paddle", "onnx")
        for out in ("new", "old")
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
