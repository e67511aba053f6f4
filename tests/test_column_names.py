"""Columns by name: files whose header has another order, names in the config, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import Result, epoch_lines, make_model_dir, run_cases

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
        case("train", graph, folder),
        case("infer", graph, folder),
        case("infer", graph, folder, "runner.test_data_dir=test_swapped"),
        case("infer", graph, folder, "runner.test_data_dir=test_more"),
        case("train", graph, folder, "runner.train_data_dir=mixed", *out),
        case("infer", graph, folder, *out),
    )
    assert metrics(scored)[1]["auc_click"] > 0.8
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
