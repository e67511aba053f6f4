"""Columns by name: files whose header has another order, names in the config, what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import ROOT, TASKS, Result, epoch_lines, make_model_dir, run_cases, sample

from census_reader import RecDataset
from column_names import ConfigError
from hyper_parameters import HyperParameters
from leaks import warn_of_leaks

FEATURES = ("age", "price", "visits", "hours", "clicks_before", "days")
LABELS = ("click", "buy")
NAMES = (*LABELS, *FEATURES)
SWAPPED = (*LABELS, *FEATURES[::-1])  # labels where they were: nothing of it looks wrong
MIXED = ("days", "buy", "visits", "age", "clicks_before", "click", "hours", "price")
RUNNER = {
    "train_data_dir": "train",
    "test_data_dir": "test",
    "train_reader_path": "census_reader",
    "train_batch_size": 50,
    "infer_batch_size": 100,
    "epochs": 2,
    "print_interval": 100,
    "save_predictions": True,
    "model_save_path": "out",
    "infer_load_path": "out",
    "use_gpu": False,
}
HYPER: dict[str, object] = {"task_names": ["click", "buy"], "bottom_size": 8, "tower_size": 4}
HYPER["optimizer"] = {"class": "adam", "learning_rate": 0.02}
BY_NUMBER = {**HYPER, "feature_size": 6, "label_columns": [0, 1]}


class Rows(NamedTuple):
    """Rows of a shop by column name; what sells is a matter of the features."""

    columns: dict[str, np.ndarray]

    def write(self, file: Path, names: Sequence[str] = NAMES, header: bool = True) -> Path:
        """Write some columns, in the order of ``names``."""
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [",".join(names)] * header
        lines += [",".join(row) for row in zip(*(self.columns[name] for name in names))]
        file.write_text("".join(f"{line}\n" for line in lines))
        return file


def shop(rows: int, seed: int = 1) -> Rows:
    """Six features of different scale, two labels that follow from them, a date, blanks."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 6)) * [9, 0.1, 3, 1, 5, 2] + [40, 1, 0, 10, 7, 3]
    score = (values[:, 0] - 40) / 9 + 20 * (values[:, 1] - 1) / 2 + rng.normal(size=rows)
    columns = {name: np.char.mod("%.4g", values[:, i]) for i, name in enumerate(FEATURES)}
    columns["click"] = np.where(score > 0, "1", "0")
    columns["buy"] = np.where(score - values[:, 3] + 10 > 1, "1", "0")
    columns["date"] = np.full(rows, "2026-11-26")
    return Rows(columns)


def case(command: str, graph: str, folder: Path, *overrides: str) -> tuple[str, str, list[str]]:
    """A command line in a model directory of its own."""
    return command, graph, ["-m", str(folder / "config.yaml"), "-o", "runner.seed=3", *overrides]


def directory(tmp_path: Path, hyper: dict[str, object] = BY_NUMBER, **runner: object) -> Path:
    """A model directory; its output goes into it."""
    folder = tmp_path / "model"
    paths = {"model_save_path": str(folder / "out"), "infer_load_path": str(folder / "out")}
    make_model_dir(folder, {**RUNNER, **paths, **runner}, hyper)
    return folder


def run(tmp_path: Path, *cases: tuple[str, str, list[str]]) -> list[Result]:
    """Run all command lines, which have to succeed."""
    results = run_cases(cases, tmp_path)
    for result in results:
        assert result.status == 0, result.stderr
    return results


def metrics(result: Result) -> dict[int, dict[str, float]]:
    """What the last line of each epoch says, but for times."""
    return epoch_lines(result.stdout)


@pytest.mark.parametrize("graph", ["dygraph", "static"])
def test_files_of_other_orders_are_put_right(tmp_path: Path, graph: str) -> None:
    """Training files and a test file in other orders give what those in one order give."""
    folder = directory(tmp_path)
    first, second, test = shop(300, 1), shop(300, 2), shop(200, 3)
    for name, names in (("train", NAMES), ("mixed", SWAPPED)):
        first.write(folder / name / "a.csv")
        second.write(folder / name / "b.csv", names)
    test.write(folder / "test" / "rows.csv")
    test.write(folder / "test_swapped" / "rows.csv", SWAPPED)
    test.write(folder / "test_more" / "rows.csv", ["date", *MIXED])
    out = [f"runner.{key}={folder / 'mixed_out'}" for key in ("model_save_path", "infer_load_path")]
    trained, scored, swapped_test, more_test, mixed, mixed_scored = run(
        tmp_path,
        case("train", graph, folder, "runner.valid_data_dir=test"),
        case("infer", graph, folder),
        case("infer", graph, folder, "runner.test_data_dir=test_swapped"),
        case("infer", graph, folder, "runner.test_data_dir=test_more"),
        case(
            *("train", graph, folder, "runner.train_data_dir=mixed"),
            *("runner.valid_data_dir=test_swapped", *out),
        ),
        case("infer", graph, folder, *out),
    )
    assert max(line["auc_click"] for line in metrics(scored).values()) > 0.7
    for other in (swapped_test, more_test, mixed_scored):
        assert metrics(other) == metrics(scored)
    assert metrics(mixed) == metrics(trained)


def test_a_label_that_is_left_out_of_label_columns_is_told_of(tmp_path: Path) -> None:
    """It is a feature then; one that is the other label under a slightly other name."""
    folder = directory(tmp_path, {**HYPER, "label_columns": ["click", "buy"]})
    rows = shop(600)
    rows.columns["label_buy"] = rows.columns["buy"]
    rows.columns["other"] = rows.columns["buy"]
    rows.write(folder / "train" / "a.csv", [*NAMES, "other"])
    rows.write(folder / "called" / "a.csv", [*NAMES, "label_buy"])
    alone, called = run(
        tmp_path,
        case("train", "dygraph", folder, "runner.epochs=1"),
        case("train", "static", folder, "runner.epochs=1", "runner.train_data_dir=called"),
    )
    assert "feature 'other' alone predicts task buy" in alone.stderr
    assert "feature 'label_buy'" in called.stderr


def test_names_stand_for_numbers(tmp_path: Path) -> None:
    """By name or by number, with feature_size or without, the run is the same."""
    folder = directory(tmp_path)
    shop(300).write(
        folder / "train" / "a.csv", [*FEATURES[:2], "buy", "date", *FEATURES[2:], "click"]
    )
    hyper = {
        "number": "[8, 2]",
        "name": "[click, buy]",
    }
    cases = []
    for way, labels in hyper.items():
        ignored = {"number": "[3]", "name": "[date]"}[way]
        size = ["hyper_parameters.feature_size=null"] * (way == "name")
        cases.append(
            case(
                *("train", "dygraph", folder),
                f"runner.model_save_path={folder / way}",
                f"hyper_parameters.label_columns={labels}",
                f"hyper_parameters.ignored_columns={ignored}",
                *size,
            )
        )
    number, name = run(tmp_path, *cases)
    assert metrics(number) == metrics(name)
    notes = json.loads((folder / "name" / "1" / "rec.json").read_text())
    assert notes["fingerprint"]["columns"]["features"] == list(FEATURES)
    assert notes["fingerprint"]["columns"]["labels"] == ["click", "buy"]


def test_without_the_hook_names_come_from_the_first_training_file(tmp_path: Path) -> None:
    """As with PaddleRec's tools, which make a reader of some files and a config."""
    train, test = tmp_path / "train" / "a.csv", tmp_path / "test.csv"
    rows = shop(5)
    rows.write(train)
    rows.write(test, ["date", *MIXED])
    config = {
        "config_abs_dir": str(tmp_path),
        "runner.train_data_dir": "train",
        "hyper_parameters.label_columns": ["click", "buy"],
    }
    settings = HyperParameters.from_config(config)
    assert (settings.feature_size, settings.task_names) == (6, ("click", "buy"))
    expected, *others = (
        [np.concatenate(row) for row in RecDataset([str(file)], given)]
        for given in (config, {**config, "hyper_parameters.feature_size": 6})
        for file in (train, test)
    )
    assert len(expected) == 5
    for other in others:
        np.testing.assert_array_equal(other, expected)
    headless = rows.write(tmp_path / "headless.csv", header=False)
    np.testing.assert_array_equal(
        [np.concatenate(row) for row in RecDataset([str(headless)], config)], expected
    )
    (tmp_path / "train" / "a.csv").write_text("0,1,5,6,7\n")
    del config["hyper_parameters.label_columns"]
    assert HyperParameters.from_config(config).feature_size == 3
    assert HyperParameters.from_config({}).feature_size == 499


def test_chosen_features_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    rows = shop(5)
    rows.write(tmp_path / "train" / "a.csv", ["date", *MIXED])
    config = {
        "config_abs_dir": str(tmp_path),
        "runner.train_data_dir": "train",
        "hyper_parameters.label_columns": ["buy"],
        "hyper_parameters.feature_columns": ["price", "age", 1],
    }
    reader = RecDataset([str(tmp_path / "train" / "a.csv")], config)
    (block,) = reader.blocks()
    names = ["price", "age", "days"]
    table = np.stack([rows.columns[name].astype(np.float32) for name in names], axis=1)
    np.testing.assert_array_equal(block.features, table)
    assert reader.columns()["features"] == names


def test_training_files_are_found_as_the_tools_find_them(tmp_path: Path) -> None:
    """One file, a pattern, a folder with characters that patterns are made of."""
    folder = tmp_path / "a [1]"
    for name in ("deep/one/x [2].csv", "deep/two/y.csv", ".hidden"):
        shop(2).write(folder / "train" / name)
    shop(2).write(folder / "rows.csv", header=False)
    hyper = {"label_columns": ["click", "buy"]}
    config: dict[str, object] = {f"hyper_parameters.{k}": v for k, v in hyper.items()}
    for name in ("train/deep/one/x [2].csv", "train/deep/one", "train/**/*.csv", "train/deep/*/y*"):
        names = {"config_abs_dir": str(folder), "runner.train_data_dir": name}
        assert HyperParameters.from_config({**config, **names}).label_columns == (0, 1), name


@pytest.mark.filterwarnings("error")
def test_tasks_that_nothing_names_are_told_of(tmp_path: Path) -> None:
    """Columns 1 and 0 are Census's tasks: in a file with other names, most likely none at all."""
    shop(2).write(tmp_path / "train" / "rows.csv")
    config = {"config_abs_dir": str(tmp_path), "runner.train_data_dir": "train"}
    told = (
        r"label_columns is not given: task income is column 1 \(from 0\) 'buy', task marital is co"
    )
    with pytest.warns(UserWarning, match=told):
        HyperParameters.from_config(config)
    for key, value in (("task_names", ["a", "b"]), ("label_columns", [0, 1])):
        HyperParameters.from_config({**config, f"hyper_parameters.{key}": value})
    rows = shop(2).columns
    names = ("marital_stat", "income_50k", "age")  # as datasets/census/prepare.py --header has it
    census = Rows(dict(zip(names, (rows["click"], rows["buy"], rows["age"]))))
    census.write(tmp_path / "train" / "rows.csv", names)
    assert HyperParameters.from_config(config).feature_size == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"column_num": "8"},
        {"column_num": 8, "names": None},
        {"column_num": 8, "names": ["a"]},
        {"column_num": 8, "names": list(NAMES), "features": 6},
        {"column_num": 8, "names": list(NAMES), "features": [[]]},
    ],
)
def test_columns_of_a_checkpoint_that_cannot_be_are_a_sentence(columns: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="the checkpoint tells of columns that cannot be"):
        HyperParameters.from_config({"columns": columns})


def test_columns_of_a_network_without_names_are_taken_as_they_stand(tmp_path: Path) -> None:
    """With a warning, where files have names: their order cannot be compared."""
    folder = directory(tmp_path, epochs=1)
    shop(100).write(folder / "train" / "a.csv", header=False)
    for name in ("a", "b"):
        shop(100, 2).write(folder / "test" / f"{name}.csv", SWAPPED)
    trained, scored = run(
        tmp_path,
        case("train", "static", folder, "runner.valid_data_dir=test"),
        case("infer", "dygraph", folder),
    )
    for result in (trained, scored):
        (warning,) = result.sentences
        assert "test/a.csv has a header, which the training files had not" in warning


def test_a_file_without_a_header_among_others_is_read_by_position(tmp_path: Path) -> None:
    """Which is pointed out once, and its columns have to be as many."""
    folder = directory(tmp_path, epochs=1)
    shop(100, 1).write(folder / "train" / "a.csv", header=False)
    shop(100, 2).write(folder / "train" / "b.csv")
    shop(100, 3).write(folder / "few" / "a.csv", NAMES[:-1], header=False)
    good, few = run_cases(
        [
            case("train", "dygraph", folder),
            case("infer", "dygraph", folder, "runner.test_data_dir=few"),
        ],
        tmp_path,
    )
    (warning,) = good.sentences
    assert "a.csv has no header: its columns are taken to be in the order of the other" in warning
    assert few.status == 2
    assert "row has 7 columns, expected 8 (2 labels and 6 features)" in few.sentences[-1]


@pytest.mark.parametrize("graph", ["dygraph", "static"])
def test_blank_labels_and_weights_of_rows_by_name(tmp_path: Path, graph: str) -> None:
    """Blank or quoted blank is not known; a row of weight 0 is as if it were not there."""
    hyper = {**HYPER, "label_columns": ["click", "buy"], "weight_column": "w"}
    folder = directory(tmp_path, {**hyper, "blank_labels": True})
    rows = shop(300)
    rows.columns["w"] = np.where(np.arange(300) % 3 == 0, "0", "2.5")
    rows.columns["buy"] = rows.columns["buy"].astype(object)
    rows.columns["buy"][::2] = ""
    rows.columns["buy"][::4] = '""'
    rows.write(folder / "train" / "a.csv", [*MIXED, "w"])
    rows.write(folder / "test" / "a.csv", ["w", *NAMES])
    _, scored = run(tmp_path, case("train", graph, folder), case("infer", graph, folder))
    kept = Rows({name: column[np.arange(300) % 3 != 0] for name, column in rows.columns.items()})
    kept.write(folder / "test_kept" / "a.csv", [*MIXED, "w"])
    (again,) = run(tmp_path, case("infer", graph, folder, "runner.test_data_dir=test_kept"))
    assert metrics(again) == metrics(scored)


def test_a_run_is_resumed_with_its_columns(tmp_path: Path) -> None:
    """Bit for bit; a header that changed is refused, a run that knew no names goes on."""
    folder = directory(tmp_path)
    file = shop(300).write(folder / "train" / "a.csv", MIXED)
    shop(100, 2).write(folder / "test" / "a.csv")
    named = "hyper_parameters.label_columns=[click, buy]"

    def to(name: str, *more: str) -> list[str]:
        keys = ("model_save_path", "infer_load_path")
        return [*(f"runner.{key}={folder / name}" for key in keys), named, *more]

    run(
        tmp_path,
        case("train", "dygraph", folder, *to("out", "runner.epochs=1")),
        case("train", "dygraph", folder, *to("out", "runner.resume=true")),
        case("train", "static", folder, *to("whole")),
    )
    resumed, whole = ((folder / name / "1" / "rec.pdparams") for name in ("out", "whole"))
    weights = [pickle.loads(file.read_bytes()) for file in (resumed, whole)]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)
    file.write_text(file.read_text().replace("visits", "visitors"))
    (refused,) = run_cases(
        [case("train", "dygraph", folder, *to("out", "runner.resume=true", "runner.epochs=3"))],
        tmp_path,
    )
    assert refused.status == 2
    assert "a.csv:1: its header lacks column 'visits' (there is 'visitors')" in refused.stderr


def test_weights_to_start_from_know_their_columns(tmp_path: Path) -> None:
    """Files of another order are matched to them; a column that they lack is named."""
    folder = directory(tmp_path, epochs=1)
    rows = shop(300)
    for name, names in (("train", NAMES), ("swapped", SWAPPED), ("lacking", (*NAMES[:-1], "date"))):
        rows.write(folder / name / "a.csv", names)
    start = f"runner.model_init_path={folder / 'out' / '0'}"

    def on(graph: str, name: str) -> tuple[str, str, list[str]]:
        paths = f"runner.model_save_path={folder / graph / name}", f"runner.train_data_dir={name}"
        return case("train", graph, folder, start, *paths)

    graphs = ("dygraph", "static")
    run(tmp_path, case("train", "dygraph", folder))
    run(tmp_path, *(on(graph, name) for graph in graphs for name in ("train", "swapped")))
    for graph in graphs:
        saved = [folder / graph / name / "0" / "rec.pdparams" for name in ("train", "swapped")]
        same, put_right = (pickle.loads(file.read_bytes()) for file in saved)
        for name, array in same.items():
            np.testing.assert_array_equal(put_right[name], array, err_msg=f"{graph} {name}")
    (refused,) = run_cases([on("dygraph", "lacking")], tmp_path)
    assert refused.status == 2
    assert "lacking/a.csv:1: its header lacks column 'days'" in refused.stderr


def test_weights_to_start_from_know_their_schema(tmp_path: Path) -> None:
    """Codes of categories in another order would mean others to the same weights."""
    hyper = {**HYPER, "task_names": None, "schema": "schema.yaml"}
    folder = directory(tmp_path, hyper, epochs=1, train_reader_path="table_reader")
    rows = shop(60)
    rows.columns["city"] = np.resize(["Lima", "Oslo", "Rome"], 60)
    rows.write(folder / "train" / "a.csv", (*NAMES, "city"))
    label = ", ".join(f"{{name: {name}, kind: label}}" for name in LABELS)
    for file, values in (("schema", "Lima, Oslo"), ("other", "Oslo, Lima")):
        city = f"{{name: city, kind: category, values: [{values}]}}"
        (folder / f"{file}.yaml").write_text(f"columns: [{label}, {city}]")
    start = f"runner.model_init_path={folder / 'out' / '0'}", "runner.model_save_path=second"
    other = "hyper_parameters.schema=other.yaml"
    trained, begun, refused = run_cases(
        [
            case("train", "dygraph", folder),
            case("train", "static", folder, *start),
            case("train", "dygraph", folder, *start, other),
        ],
        tmp_path,
    )
    assert (trained.status, begun.status, refused.status) == (0, 0, 2), trained.stderr
    assert 'column "city": values has the same texts in another order' in refused.stderr


def test_checkpoints_of_a_run_that_knew_no_columns_go_on(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    shop(300).write(folder / "train" / "a.csv")
    shop(100, 2).write(folder / "test" / "a.csv")
    reader = folder / "census_reader.py"
    text = reader.read_text()
    reader.write_text(text.replace("def columns(", "def columns_of_later("))
    run(tmp_path, case("train", "dygraph", folder, "runner.epochs=1"))
    reader.write_text(text)
    more = ["runner.resume=true", "runner.infer_start_epoch=0", "runner.infer_end_epoch=2"]
    resumed, scored = run(
        tmp_path, case("train", "dygraph", folder, *more), case("infer", "dygraph", folder, *more)
    )
    assert (resumed.sentences, scored.sentences) == ([], [])
    noted = [json.loads((folder / "out" / n / "rec.json").read_text()) for n in "01"]
    assert ["columns" in notes["fingerprint"] for notes in noted] == [False, True]


BAD_CONFIGS = {
    "no_such_column": (
        ["label_columns=[clik, buy]"],
        "label_columns names column 'clik', which the header lacks; did you mean 'click'?",
    ),
    "named_twice": (
        ["ignored_columns=[buy]"],
        "label_columns and hyper_parameters.ignored_columns both name column 1 (from 0) 'buy'",
    ),
    "weight_out_of_range": (
        ["weight_column=11", "feature_size=null"],
        "hyper_parameters.weight_column should lie in 0..7, got [11]",
    ),
    "ignored_out_of_range": (
        ["ignored_columns=[8]"],
        "ignored_columns should lie in 0..7, got [8]",
    ),
    "feature_twice": (
        ["feature_columns=[age, age]", "feature_size=null"],
        "hyper_parameters.feature_columns should not repeat a column, got ['age', 'age']",
    ),
    "other_size": (
        ["feature_columns=[age]"],
        "feature_size is 6, but hyper_parameters.feat",
    ),
    "size_of_fewer": (
        ["feature_size=5"],
        "feature_size is 5, but of the 8 columns of the training files 6 are left to be features",
    ),
    "none_is_left": (
        [f"ignored_columns=[{', '.join(FEATURES)}]", "feature_size=null"],
        "of the 8 columns of the training files none is left to be a feature",
    ),
    "schema": (["schema=schema.yaml", "label_columns=null"], "census_reader reads rows of numbers"),
    "no_column": (["weight_column=1.5"], "should be of type int or of names of columns, got 1.5"),
    "blanks": (["blank_labels=1"], "hyper_parameters.blank_labels should be of type bool, got 1"),
}
BAD_FILES = {
    "twice": (
        "click,buy,age,price,visits,hours,age,days\n",
        "columns 2 and 6 (from 0) are both called 'age'",
    ),
    "negative_weight": (
        "0,1,1,2,-0.5,4,5,6\n",
        ":2: column 4 (from 0) 'visits': weight '-0.5' should not be negative",
    ),
    "text_label": (
        "0,yes,1,2,3,4,5,6\n",
        ":2: column 1 (from 0) 'buy': value 'yes' is not a number",
    ),
    "too_large": ("0,1,1,2,3,4,5,1e39\n", "'days': value '1e39' is too large for float32"),
    "header_with_numbers": (
        "click,buy,1,2,3,hours,clicks_before,days\n0,1,1,2,3,4,5,6\n",
        "is not a number; a header has to name every column, none of them by a number",
    ),
    "stray_quote": ('0,1,1,2,3,4,5,6,7"\n', "column 8 (from 0): value '7\"' has a quote without"),
    "blank_label": ("0,,1,2,3,4,5,6\n", "'buy': value '' is not a number"),
}


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = directory(tmp_path, {**HYPER, "label_columns": ["click", "buy"]}, epochs=1)
    shop(100).write(folder / "train" / "a.csv")
    header = ",".join(NAMES) + "\n"
    named = {"out": [], "more": ["date"]}
    for name, more in named.items():
        shop(100).write(folder / f"train_{name}" / "b.csv", [*NAMES, *more])
    shop(100).write(folder / "mixed" / "a.csv")
    shop(100).write(folder / "mixed" / "b.csv", [*NAMES, "date"])
    shop(100).write(folder / "test" / "a.csv", NAMES[:-1])
    shop(100).write(folder / "headless" / "a.csv", header=False)
    schema = [f"{{name: {n}, kind: {'label' if n in LABELS else 'number'}}}" for n in NAMES]
    (folder / "schema.yaml").write_text(f"columns: [{', '.join(schema)}]")
    text = (folder / "train" / "a.csv").read_text()
    for name, other in (("index", text.replace("age", "", 1)), ("semi", text.replace(",", ";"))):
        (folder / name).mkdir()
        (folder / name / "a.csv").write_text(other)
    cases, wanted = [case("train", "dygraph", folder)], {"trained": ""}
    for name, (overrides, sentence) in BAD_CONFIGS.items():
        graph = "static" if len(cases) % 2 else "dygraph"
        size = "hyper_parameters.feature_size=6"
        keys = [f"hyper_parameters.{override}" for override in overrides]
        cases.append(case("train", graph, folder, size, *keys))
        wanted[name] = sentence
    for name, (line, sentence) in BAD_FILES.items():
        text = line if line.startswith("click,") else header + line
        (folder / name).mkdir()
        (folder / name / "a.csv").write_text(text)
        weight = ["hyper_parameters.weight_column=visits"] * (name == "negative_weight")
        by_number = ["hyper_parameters.label_columns=[0, 1]", "hyper_parameters.feature_size=6"]
        more = by_number if name == "header_with_numbers" else weight
        cases.append(case("train", "static", folder, f"runner.train_data_dir={name}", *more))
        wanted[name] = sentence
    for name, command, overrides, sentence in (
        ("extra", "train", ["train_data_dir=mixed"], "b.csv:1: its header has column 'date', whi"),
        (
            "no_header",
            "train",
            ["train_data_dir=headless"],
            "training files have no header th",
        ),
        (
            "nameless",
            "train",
            ["train_data_dir=index"],
            "that names every column, none by",
        ),
        ("semicolons", "train", ["train_data_dir=semi"], "lacks; are cells parted by commas?"),
        ("lacks", "infer", [], "test/a.csv:1: its header lacks column 'days', which the training"),
        ("twice_in_test", "infer", ["test_data_dir=twice"], "are both called 'age'"),
    ):
        cases.append(case(command, "dygraph", folder, *(f"runner.{o}" for o in overrides)))
        wanted[name] = sentence
    chosen = "hyper_parameters.ignored_columns=[age]"
    cases.append(case("infer", "dygraph", folder, chosen, "runner.test_data_dir=train"))
    wanted["other_features"] = "was trained on other features than the config's: with 'age'"
    for (name, sentence), result in zip(wanted.items(), run_cases(cases, tmp_path)):
        assert result.status == (2 if sentence else 0), (name, result.stderr)
        assert sentence in "".join(result.sentences), (name, result.stderr)
        assert len(result.sentences) == bool(sentence), (name, result.stderr)


def test_checkpoints_of_other_columns_are_not_scored_together(tmp_path: Path) -> None:
    folder = directory(tmp_path, {**HYPER, "label_columns": ["click", "buy"]}, epochs=1)
    rows = shop(100)
    rows.write(folder / "train" / "a.csv")
    rows.write(folder / "test" / "a.csv")
    swapped = rows.write(folder / "swapped" / "a.csv", SWAPPED)
    assert swapped.exists()
    other = [f"runner.model_save_path={folder / 'other'}", "runner.train_data_dir=swapped"]
    run(tmp_path, case("train", "dygraph", folder), case("train", "dygraph", folder, *other))
    shutil.copytree(folder / "other" / "0", folder / "out" / "1")
    both = ["runner.infer_start_epoch=0", "runner.infer_end_epoch=2"]
    refused, one = run_cases(
        [
            case("infer", "dygraph", folder, *both),
            case("infer", "dygraph", folder, "runner.infer_start_epoch=1"),
        ],
        tmp_path,
    )
    assert refused.status == 2
    assert "were trained on other columns (features are in another order)" in refused.stderr
    assert one.status == 0, one.stderr


def told(features: np.ndarray, labels: np.ndarray, *tasks: str) -> list[str]:
    """What `warn_of_leaks` says of features called a, b, c."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_leaks(features.astype(np.float32), "abc", labels.astype(np.float32), tasks)
    return [str(warning.message).split(":")[0] for warning in caught]


def test_leaks_are_told_of_and_chance_is_not(rng: np.random.Generator) -> None:
    """By AUC either way, by correlation, by name; not by what a few rows happen to have."""
    click = (rng.random(2000) < 0.1).astype(float)
    price = rng.normal(50, 9, 2000)
    features = rng.normal(size=(2000, 3))
    assert told(features, np.stack([click, price], axis=1), "click", "price") == []
    features[:, 1] = -click + rng.normal(0, 0.01, 2000)
    assert told(features, click[:, None], "click") == [
        "feature 'b' alone predicts task click (AUC 0.0000)"
    ]
    features[:, 2] = click
    assert told(features, click[:, None], "click") == [
        "features 'b', 'c' alone predict task click (AUC 0.0000, 1.0000)"
    ]
    known = np.where(rng.random(2000) < 0.5, click, np.nan)
    assert len(told(features, known[:, None], "click")) == 1
    few = np.where(np.cumsum(click) <= 29, click, np.nan)
    assert told(features, few[:, None], "click") == []
    assert told(features, np.zeros((2000, 1)), "click") == []
    features[:, 0] = 3 - price / 7
    assert told(features, price[:, None], "price") == [
        "feature 'a' alone predicts task price (correlation -1.0000)"
    ]
    assert told(rng.normal(size=(9, 3)), np.zeros((9, 1)), "Label_B") == [
        "feature 'b' is called like task Label_B"
    ]


def test_the_sample_has_no_leak() -> None:
    names = (ROOT / "datasets" / "census" / "columns.txt").read_text().splitlines()[2:]
    features, labels = sample("train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_leaks(features, names, labels, TASKS)
