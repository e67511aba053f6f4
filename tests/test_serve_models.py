"""tools/serve.py with real exports: served predictions are those of infer; damaged exports."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import export_of, trained
from helpers import run, run_cases
from serving import TOOL, Running, serving

CSV = {"Content-Type": "text/csv"}
TOLERANCE = 1e-5


def predicted(kind: str, graph: str) -> dict[str, np.ndarray]:
    """What ``infer`` predicts of the test rows, by task."""
    made = trained(kind, graph)
    line = ["-m", made.config, *made.options, "runner.save_predictions=true"]
    (result,) = run_cases([("infer", graph, line)], cwd=made.folder)
    assert result.status == 0, result.stderr
    with open(made.folder / "0" / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(("probability_", "prediction_"))]
    return {name.split("_", 1)[1]: np.array([float(r[name]) for r in rows]) for name in names}


def served(service: Running, body: Any, headers: dict[str, str]) -> dict[str, np.ndarray]:
    """What the service predicts, by task."""
    answer = service.ask("/predict", body, headers)
    assert answer.status == 200, answer.body[:500]
    rows = answer.json["predictions"]
    return {task: np.array([row[task] for row in rows]) for task in rows[0]}


def cells_of(value: str, kind: str) -> Any:
    """A cell of text as a JSON client has it: numbers as numbers, a blank as null."""
    value = value.strip()
    return None if not value else float(value) if kind == "number" else value


@pytest.mark.parametrize(
    "kind, graph, runtime",
    [("shop", "dygraph", "onnx"), ("raw", "static", "paddle"), ("numeric", "dygraph", "auto")],
)
def test_served_predictions_are_those_of_infer(
    tmp_path: Path, kind: str, graph: str, runtime: str
) -> None:
    folder, made, expected = export_of(kind, graph), trained(kind, graph), predicted(kind, graph)
    data = made.test.read_bytes()
    text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    arguments = ("--model", folder, "--runtime", runtime, "--quiet")
    with serving(tmp_path / "log", *arguments, program=TOOL) as service:
        about = service.ask("/model").json
        assert [task["name"] for task in about["tasks"]] == list(expected)
        assert about["runtime"] == ("paddle" if runtime == "paddle" else "onnx")
        maps = Path(f"/proc/{service.process.pid}/maps").read_text()
        assert ("/paddle/" in maps) == (runtime == "paddle")  # neither needs the other
        # The file as it is, labels and all; then what a client makes of it.
        table = list(csv.reader(text.decode().splitlines()))
        names = [column["name"] for column in about["columns"]]
        if kind == "shop":
            places = [table[0].index(name) for name in names]
            table = table[1:]
        else:
            all_names = made_names(made.config.parent, kind, len(table[0]))
            places = [all_names.index(name) for name in names]
        kinds = [column["kind"] for column in about["columns"]]
        arrays = [[cells_of(row[p], k) for p, k in zip(places, kinds)] for row in table]
        objects = [dict(zip(names, row)) for row in arrays]
        for body, headers in (
            (text, {**CSV, "Accept": "application/json"}),
            (arrays, {}),
            ({"rows": objects}, {}),
        ):
            found = served(service, body, headers)
            assert list(found) == list(expected)
            for task, values in expected.items():
                size = max(1.0, float(np.abs(values).max()))
                np.testing.assert_allclose(found[task], values, rtol=0, atol=TOLERANCE * size)
                alone = served(service, objects[7], {})[task]
                np.testing.assert_allclose(alone, values[7:8], rtol=0, atol=TOLERANCE * size)
        # The example that the model gives of itself is a row.
        assert service.ask("/predict", about["example"]).status == 200
        assert service.stop() == 0


def made_names(folder: Path, kind: str, columns: int) -> list[str]:
    """Names of all columns of the bundled files, which have no header."""
    if kind == "numeric":
        return [str(number) for number in range(columns)]
    import yaml

    schema = yaml.safe_load((folder / "datasets/census/schema.yaml").read_text("utf-8"))
    return [column["name"] for column in schema["columns"]]


def test_faults_of_a_real_model_name_column_and_value(tmp_path: Path) -> None:
    arguments = ("--model", export_of("shop", "dygraph"))
    with serving(tmp_path / "log", *arguments, program=TOOL) as service:
        good = service.ask("/model").json["example"]
        for change, column, value in (
            ({"price": "dear"}, "price", "dear"),
            ({"price": None, "age": "old"}, "age", "old"),
            ({"price": [1]}, "price", "a list of 1"),
            ({"price": 1e300}, "price", 1e300),
            ({"age": True}, "age", True),
            ({"user_id": {}}, "user_id", "an object of 0"),
            ({"colour": "red"}, "colour", "red"),
        ):
            answer = service.ask("/predict", [good, {**good, **change}])
            assert answer.status == 422, answer
            error = answer.json["error"]
            assert (error["row"], error["column"], error["value"]) == (2, column, value)
            assert error["message"].startswith("row 2: ") and column in error["message"]
            places = [column["name"] for column in service.ask("/model").json["columns"]]
            if column in places:
                array = [{**good, **change}[name] for name in places]
                told = service.ask("/predict", {"rows": [array]}).json["error"]
                assert (told["row"], told["column"], told["value"]) == (1, column, value)
        short = service.ask("/predict", [[1, 2]])
        assert short.status == 422 and "2" in short.json["error"]["message"]
        answer = service.ask("/predict", b'{"price": 1e999}', {"Content-Type": "application/json"})
        assert answer.status == 400
        for text, said in (
            (b"user_id,city\n1,Berlin\n", "device"),
            (b"\x00\x01\x02", ""),
            (gzip.compress(b"1,2"), "gzip"),
            (b"PAR1" * 9, ""),
        ):
            answer = service.ask("/predict", text, CSV)
            assert answer.status == 422 and said in answer.json["error"]["message"], answer
        assert "Traceback" not in service.text() and "error" not in service.text()


def damaged(folder: Path, how: str) -> None:
    """Damage an export."""
    file = folder / "model.json"
    told = json.loads(file.read_text("utf-8"))
    if how == "changed":
        file.write_text(file.read_text("utf-8").replace("Berlin", "Borlin"), "utf-8")
    elif how == "another's":
        file.write_text('{"model": {"class_name": "Sequential"}}', "utf-8")
    elif how == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "no text":
        file.write_bytes(bytes(range(256)))
    elif how == "weights":
        data = bytearray((folder / "model.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "model.onnx").write_bytes(data)
    elif how == "a link":
        (folder / "model.onnx").rename(folder / "real.onnx")
        (folder / "model.onnx").symlink_to(folder / "real.onnx")
    elif how == "leads elsewhere":
        told["files"]["../../etc/passwd"] = told["files"]["model.onnx"]
        file.write_text(json.dumps(told), "utf-8")
    else:
        file.unlink()


HOW = ["changed", "another's", "half", "no text", "weights", "a link", "leads elsewhere", "none"]


def test_a_damaged_or_foreign_export_is_refused_and_never_takes_the_place_of_a_good_one(
    tmp_path: Path,
) -> None:
    model = shutil.copytree(export_of("shop", "dygraph"), tmp_path / "model")
    with serving(tmp_path / "log", "--model", model, program=TOOL) as service:
        own = service.ask("/health").headers["x-model"]
        example = service.ask("/model").json["example"]
        expected = service.ask("/predict", example).json
        for number, how in enumerate(HOW, 1):
            shutil.rmtree(model)
            shutil.copytree(export_of("shop", "dygraph"), model)
            damaged(model, how)
            service.process.send_signal(signal.SIGHUP)
            lines = service.lines(least=number, event="reload failed", model=own)
            assert len(lines) == number, how
            assert service.ask("/predict", example).json == expected
        assert not service.lines(wait=0, event="reloaded")
    assert "Traceback" not in (tmp_path / "log").read_text("utf-8")
    damaged(model := shutil.copytree(export_of("shop", "dygraph"), tmp_path / "other"), "changed")
    result = run([sys.executable, str(TOOL), "--model", str(model)], cwd=tmp_path)
    assert result.status == 2 and len(result.sentences) == 1 and str(model) in result.stderr
