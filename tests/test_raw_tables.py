"""A person's own table, from the file to scored test rows: text, blanks, ids, weights, a price."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    COMMANDS,
    ROOT,
    Forks,
    override,
    run_cases,
    run_tool,
)
from paddle import inference
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, roc_auc_score

from raw_tables.schema import load_schema
from rec_runner.checkpoint.safe_pickle import load_arrays
from table_reader import RecDataset

sys.path.append(str(ROOT / "benchmarks"))
import shop
from shop_rows import write_shop

GRAPHS = {"dygraph": "trainer", "static": "static_trainer"}
INFER = {"dygraph": "infer", "static": "static_infer"}
ROWS = 4_000
EPOCHS = 3
LABELS = ["--label", "click", "--label", "buy", "--label", "price_paid"]
OPTIONS = [*LABELS, "--weight", "w", "--id", "user_id", "--group", "user_id"]
BINARY = ("click", "buy")
SCORES = ["probability_click", "probability_buy", "prediction_price_paid"]
EXPORTED = {
    "use_inference": "true",
    "save_inference_feed_varnames": "[features]",
    "save_inference_fetch_varnames": f"[{', '.join(SCORES)}]",
}


def table(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def last_record(folder: Path, phase: str) -> dict[str, Any]:
    """The last record of a phase in ``metrics.jsonl``."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["phase"] == phase][-1]


def scores(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs between two runs that are alike."""
    return {k: v for k, v in record.items() if k not in ("seconds", "rows_per_second", "graph")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with the shop's files, schema and config, by the command of the README."""
    folder = tmp_path_factory.mktemp("shop") / "model"
    shop.copy_model_directory(folder)
    write_shop(folder, ROWS, users=300)
    files = [folder / "train.csv", "--test", folder / "test.csv"]
    out = ["-o", folder / "config_shop.yaml"]
    result = run_tool("schema", *files, *OPTIONS, *out, cwd=folder.parent)
    assert result.status == 0, result.stderr
    assert all(sentence.startswith("warning: ") for sentence in result.sentences)
    return folder


@pytest.fixture(scope="module")
def trained(model: Path) -> dict[str, Path]:
    """Output folders of the second command, on both graphs, and of a graph's infer after it."""
    cases = []
    for graph, tool in GRAPHS.items():
        asked = override(
            epochs=EPOCHS,
            patience=EPOCHS,
            save_predictions="true",
            model_save_path=f"output_{graph}",
            infer_load_path=f"output_{graph}",
            **(EXPORTED if graph == "static" else {}),
        )
        config = ["-m", model / "config_shop.yaml", *asked]
        cases += [(*COMMANDS[tool], config), (*COMMANDS[INFER[graph]], config)]
    for result in run_cases(cases, model.parent):
        assert result.status == 0, result.stderr
        assert result.sentences == []
    return {graph: model.parent / f"output_{graph}" for graph in GRAPHS}


def test_columns_are_taken_for_what_they_are(model: Path) -> None:
    schema = load_schema(model / "schema.yaml")
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds == {
        "user_id": "id",
        "city": "category",
        "device": "category",
        "category": "category",
        "age": "number",
        "price": "number",
        "referrer": kinds["referrer"],
        "signup": "ignore",
        "w": "weight",
        "click": "label",
        "buy": "label",
        "price_paid": "label",
    }
    assert kinds["referrer"] in ("category", "id")  # 400 of them
    assert schema.task_names == ("click", "buy", "price_paid")
    assert schema.task_types == ("binary", "binary", "regression")
    assert [label.missing for label in schema.labels] == [False, True, True]
    assert schema.group is not None and schema.group.name == "user_id"


def test_both_graphs_give_the_same_numbers(trained: dict[str, Path]) -> None:
    for phase in ("train", "valid", "infer"):
        eager, static = (scores(last_record(trained[graph], phase)) for graph in GRAPHS)
        assert eager.keys() == static.keys()
        for name, value in eager.items():
            assert static[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_infer_gives_what_the_end_of_training_gave(trained: dict[str, Path]) -> None:
    for folder in trained.values():
        line = (folder / "infer_metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        assert scores(json.loads(line)) == scores(last_record(folder, "infer"))


@pytest.mark.parametrize("graph", GRAPHS)
def test_metrics_are_those_of_the_known_rows_with_their_weights(
    trained: dict[str, Path], model: Path, graph: str
) -> None:
    record = last_record(trained[graph], "infer")
    rows = table(model / "test.csv")
    predictions = table(trained[graph] / str(record["epoch"]) / "predictions.csv")
    assert len(rows) == len(predictions) == record["rows"]
    for task in (*BINARY, "price_paid"):
        known = [index for index, row in enumerate(rows) if row[task]]
        labels = np.array([float(rows[index][task]) for index in known])
        weights = np.array([float(rows[index]["w"]) for index in known])
        column = f"{'probability' if task in BINARY else 'prediction'}_{task}"
        given = np.array([float(predictions[index][column]) for index in known])
        assert [bool(row[f"label_{task}"]) for row in predictions] == [bool(r[task]) for r in rows]
        if task in BINARY:
            judged = {
                "auc": roc_auc_score(labels, given, sample_weight=weights),
                "logloss": log_loss(labels, given, sample_weight=weights),
            }
        else:
            judged = {
                "r2": r2_score(labels, given, sample_weight=weights),
                "mae": mean_absolute_error(labels, given, sample_weight=weights),
            }
        for kind, value in judged.items():
            assert record[f"{kind}_{task}"] == pytest.approx(value, rel=1e-5), (kind, task)
        if task != "click":
            assert record[f"rows_{task}"] == len(known) < len(rows)


def test_an_inference_model_takes_what_the_reader_gives(
    trained: dict[str, Path], model: Path
) -> None:
    epoch = last_record(trained["static"], "infer")["epoch"]
    folder = trained["static"] / str(epoch)
    config = {"hyper_parameters.schema": "schema.yaml", "config_abs_dir": str(model)}
    blocks = RecDataset([str(model / "test.csv")], config).blocks()
    features = np.concatenate([block["features"] for block in blocks])
    (program,) = (p for p in folder.glob("rec_inference.*") if p.suffix in (".json", ".pdmodel"))
    files = str(program), str(program.with_suffix(".pdiparams"))
    predictor = inference.create_predictor(inference.Config(*files))
    predictor.get_input_handle("features").copy_from_cpu(features)
    predictor.run()
    predictions = table(folder / "predictions.csv")
    for name, output in zip(SCORES, predictor.get_output_names()):
        given = [float(row[name]) for row in predictions]
        found = predictor.get_output_handle(output).copy_to_cpu()
        np.testing.assert_allclose(found, given, rtol=1e-4, atol=1e-5, err_msg=name)


def test_gauc_is_within_users(trained: dict[str, Path], model: Path) -> None:
    record = last_record(trained["dygraph"], "infer")
    rows = table(model / "test.csv")
    predictions = table(trained["dygraph"] / str(record["epoch"]) / "predictions.csv")
    by_user: dict[str, list[tuple[float, float, float]]] = {}
    for row, prediction in zip(rows, predictions):
        one = (float(row["click"]), float(prediction["probability_click"]), float(row["w"]))
        by_user.setdefault(row["user_id"], []).append(one)
    total = weight = left_out = 0.0
    for user in by_user.values():
        labels, given, weights = zip(*user)
        if len(set(labels)) < 2:
            left_out += 1
            continue
        total += roc_auc_score(labels, given, sample_weight=weights) * sum(weights)
        weight += sum(weights)
    assert record["gauc_click"] == pytest.approx(total / weight, abs=1e-6)
    assert record["left_out_groups_click"] == left_out > 0


def test_other_formats_give_the_same_metrics(trained: dict[str, Path], model: Path) -> None:
    """Parquet, and gzip with semicolons; the schema told anew from each."""
    cases, outputs = [], []
    for name in ("parquet", "semicolons"):
        folder = model.parent / name
        shop.copy_model_directory(folder)
        write = shop.VARIANTS[name].write
        train, test = (write(folder / p, table(model / f"{p}.csv")) for p in ("train", "test"))
        out = ["-o", folder / "config_shop.yaml"]
        result = run_tool("schema", train, "--test", test, *OPTIONS, *out, cwd=folder)
        assert result.status == 0, result.stderr
        asked = override(epochs=EPOCHS, patience=EPOCHS, model_save_path=f"output_{name}")
        cases.append((*COMMANDS["trainer"], ["-m", folder / "config_shop.yaml", *asked]))
        outputs.append(model.parent / f"output_{name}")
    for result in run_cases(cases, model.parent):
        assert result.status == 0, result.stderr
    expected = scores(last_record(trained["dygraph"], "infer"))
    for folder in outputs:
        assert scores(last_record(folder, "infer")) == expected


def checkpoint(folder: Path) -> dict[str, Any]:
    """Weights and optimizer state of the last epoch."""
    newest = folder / str(EPOCHS - 1)
    return {
        f"{part}/{name}": value
        for part in ("pdparams", "pdopt")
        for name, value in load_arrays(newest / f"rec.{part}").items()
    }


def same(one: Any, other: Any) -> bool:
    """Whether two values are alike to the last bit."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_killed_run_is_resumed_bit_for_bit(
    trained: dict[str, Path], model: Path, graph: str, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    asked = override(
        epochs=EPOCHS, patience=EPOCHS, save_steps=5, resume="true", model_save_path=folder
    )
    arguments = [*map(str, ["-m", model / "config_shop.yaml", *asked])]
    forks = Forks()
    case = [*COMMANDS[GRAPHS[graph]], arguments]
    log = tmp_path / "log"
    forks.start(cases=[case], cwd=str(model.parent), log=str(log))
    begun = time.monotonic()
    while not mid_epoch(folder) and forks.alive() and time.monotonic() < begun + 120:
        time.sleep(0.002)
    forks.kill()
    forks.wait()
    forks.close()
    assert mid_epoch(folder)
    (result,) = run_cases([(*COMMANDS[GRAPHS[graph]], arguments)], model.parent)
    assert result.status == 0, result.stderr
    assert "starts at epoch" in result.stdout
    whole, killed = checkpoint(trained[graph]), checkpoint(folder)
    assert whole.keys() == killed.keys()
    assert all(same(value, killed[name]) for name, value in whole.items())
    assert scores(last_record(folder, "infer")) == scores(last_record(trained[graph], "infer"))


def mid_epoch(folder: Path) -> list[Path]:
    """Checkpoints of a run's folder that were saved within an epoch."""
    return [path for path in folder.glob("[0-9]*-[0-9]*") if path.is_dir()]


def test_another_schema_is_refused_with_the_difference(
    trained: dict[str, Path], model: Path
) -> None:
    """By a run that is resumed, and by infer."""
    folder = model.parent / "changed"
    shutil.copytree(model, folder)
    file = folder / "schema.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("tablet", "pad"), encoding="utf-8")
    config = ["-m", folder / "config_shop.yaml"]
    output = trained["dygraph"]
    again = override(epochs=EPOCHS + 1, resume="true", model_save_path=output)
    cases = [
        (*COMMANDS["trainer"], [*config, *again]),
        (*COMMANDS["infer"], [*config, *override(infer_load_path=output)]),
    ]
    for result in run_cases(cases, model.parent):
        assert result.status == 2, result.stdout
        (sentence,) = result.sentences
        assert 'column "device"' in sentence and '"tablet"' in sentence, sentence


def test_a_schema_of_files_that_are_written_otherwise_scores_the_same(
    trained: dict[str, Path], model: Path
) -> None:
    """Another delimiter, and a further column that is for nothing, are no other schema."""
    folder = model.parent / "otherwise"
    shutil.copytree(model, folder)
    file = folder / "schema.yaml"
    text = file.read_text(encoding="utf-8").replace('delimiter: ","', 'delimiter: ";"')
    new = text.replace("columns:\n", "columns:\n  - {name: new, kind: ignore}\n")
    file.write_text(new, encoding="utf-8")
    rows = table(model / "test.csv")
    with open(folder / "test.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["new", *rows[0]], "", delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    asked = override(infer_load_path=trained["dygraph"], test_data_dir=folder / "test.csv")
    before = last_record(trained["dygraph"], "infer")
    (result,) = run_cases(
        [(*COMMANDS["infer"], ["-m", folder / "config_shop.yaml", *asked])], model.parent
    )
    assert result.status == 0, result.stderr
    assert f"{before['auc_click']:.6f}" in result.stdout


ROW = "u1,Lima,phone,tea S,30,9.5,site1,2024-01-01,1,1,0,"
BAD_INPUTS = {
    # what becomes of the schema, the header and the row; what is said
    "a label that is text": ("", "", (",1,1,0,", ",1,perhaps,0,"), "column \"click\": 'perhaps'"),
    "a negative weight": ("", "", (",1,1,0,", ",-1,1,0,"), "column \"w\": '-1' is negative"),
    "beyond float32": ("", "", ("9.5", "1e39"), "column \"price\": '1e39' is too large"),
    "a column that is lacking": ("", ("price,", "cost,"), "", 'there is no column "price", only'),
    "two of one name": ("", ("price,", "age,"), "", 'two columns have the name "age"'),
    "an empty list": (("[desktop, phone, tablet, tv]", "[]"), "", "", "at least one text"),
    "no such kind": (("kind: weight", "kind: wait"), "", "", 'column "w": kind should be one of'),
}


@pytest.mark.parametrize("tool", GRAPHS.values())
def test_bad_input_is_one_sentence(model: Path, tool: str) -> None:
    header = (model / "train.csv").read_text(encoding="utf-8").splitlines()[0]
    schema = (model / "schema.yaml").read_text(encoding="utf-8")
    cases = []
    for place, changes in enumerate(BAD_INPUTS.values()):
        texts = [schema, header, ROW]
        for i, change in enumerate(changes[:3]):
            if change:
                assert texts[i].count(change[0]) == 1, change
                texts[i] = texts[i].replace(*change)
        folder = model.parent / f"bad_{tool}_{place}"
        shutil.copytree(model, folder)
        (folder / "schema.yaml").write_text(texts[0], encoding="utf-8")
        (folder / "train.csv").write_text("\n".join([texts[1], ROW, texts[2], ""]))
        asked = override(model_save_path=folder / "output", valid_share=0.0)
        cases.append((*COMMANDS[tool], ["-m", folder / "config_shop.yaml", *asked]))
    for (name, changes), result in zip(BAD_INPUTS.items(), run_cases(cases, model.parent)):
        sentences = [line for line in result.sentences if not line.startswith("warning: ")]
        assert (result.status, len(sentences)) == (2, 1), (name, result.stderr)
        assert changes[3] in sentences[0], (name, sentences)
