"""Labels as they are in life, as the tools hand them on: not known, weighed, of several types."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import ROOT, Result, override, run_cases

from rec_runner.checkpoint.weights import load_weights

BATCH = 8
GRAPHS = ("dygraph", "static")
OPTIMIZERS = ("adam", "adamw", "momentum")
RUNNER = {
    "train_data_dir": "data/all",
    "train_batch_size": BATCH,
    "infer_batch_size": BATCH,
    "print_interval": 50,
    "shuffle_buffer": 64,
    "epochs": 1,
}
Rows = Mapping[str, np.ndarray]
OF_BUY = {"tower": 1, "tower_bias": 1, "head_1.weight": ..., "head_1.bias": ...}


def rows(seed: int, batches: int = 1) -> np.ndarray:
    """Four features, two labels, a weight, a group."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(batches * BATCH, 4))
    labels = features[:, :2] + rng.normal(size=(len(features), 2)) / 2 > 0
    groups = rng.integers(0, 3, (len(features), 2))
    return np.column_stack([features, labels, groups + 1])


def blank(table: np.ndarray, task: int = 1) -> np.ndarray:
    """The same rows, a task's label not known."""
    table = table.copy()
    table[:, 4 + task] = np.nan
    return table


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory, and folders of rows: ``all`` known, or with batches that are blank."""
    home = tmp_path_factory.mktemp("labels")
    model = home / "model"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests" / "model_dirs" / "labels", model, ignore=ignore)
    hyper = {"rate": 0.02, "optimizer": "adam"}
    config = {"runner": RUNNER, "hyper_parameters": hyper}
    (model / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    known, last = rows(1, 20), rows(2)
    tables = {
        "all": known,
        "then": np.concatenate([known, blank(last)]),
        "first": np.concatenate([blank(last), known[: 3 * BATCH]]),
        "only": blank(last),
        "test": rows(3, 4)[:-3],
    }
    for name, table in tables.items():
        write(model / "data" / name, table)
    return home


def write(folder: Path, table: np.ndarray) -> None:
    folder.mkdir(parents=True)
    np.savetxt(folder / "rows.txt", table, fmt="%.7g")


def train(home: Path, *runs: tuple[str, str, Mapping[str, Any]]) -> list[Result]:
    """Trainings ``(graph, folder, settings)``, one after another."""
    config = str(home / "model" / "config.yaml")
    cases = [
        ("train", graph, ["-m", config, *override(model_save_path=name, **settings)])
        for graph, name, settings in runs
    ]
    return run_cases(cases, home)


def well(results: list[Result]) -> list[Result]:
    for result in results:
        assert result.status == 0, result.stderr
    return results


def state(folder: Path) -> dict[str, np.ndarray]:
    """Weights, and slots of the optimizer as ``<weight>/<slot>``."""
    slots = pickle.loads((folder / "rec.pdopt").read_bytes())
    slots = {key: np.asarray(value) for key, value in slots.items() if key != "schedule"}
    return {**load_weights(folder), **slots}


def parts_of_buy(found: Rows) -> dict[str, np.ndarray]:
    """What is of the task ``buy`` alone, weights and slots."""
    parts = {}
    for name, array in found.items():
        weight = name.split("/")[0]
        if weight in OF_BUY and (weight.startswith("head") or array.ndim > 1):
            parts[name] = array[OF_BUY[weight]]
    return parts


def assert_equal(one: Rows, other: Rows) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name


@pytest.fixture(scope="module")
def batches_of_blanks(home: Path) -> dict[tuple[str, str, str], dict[str, np.ndarray]]:
    """What is left by graph, optimizer and rows."""
    keys = [(g, o, r) for g in GRAPHS for o in OPTIMIZERS for r in ("all", "then", "first", "only")]
    on = {"hyper_parameters__rate": 0.0}
    keys += [(g, o, "still") for g in GRAPHS for o in OPTIMIZERS]
    runs = []
    for graph, optimizer, name in keys:
        given = {"train_data_dir": f"data/{'only' if name == 'still' else name}"}
        given.update(on if name == "still" else {}, hyper_parameters__optimizer=optimizer)
        runs.append((graph, "-".join((graph, optimizer, name)), given))
    well(train(home, *runs))
    return {key: state(home / "-".join(key) / "0") for key in keys}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_batch_that_tells_nothing_of_a_task_changes_nothing_of_its_tower(
    batches_of_blanks: Mapping[tuple[str, str, str], Rows], graph: str, optimizer: str
) -> None:
    before, after = (batches_of_blanks[graph, optimizer, name] for name in ("all", "then"))
    ours = parts_of_buy(before)
    assert {name.split("/")[0] for name in ours} == OF_BUY.keys()
    assert len(ours) == {"adam": 16, "adamw": 16, "momentum": 8}[optimizer]
    assert_equal(parts_of_buy(after), ours)
    for name in before.keys() - ours.keys() - {"center"}:
        assert (before[name] != after[name]).any(), name
    for name in ("tower", "tower_bias"):
        assert (before[name][0] != after[name][0]).any()


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nor_does_the_first_batch_of_all(
    batches_of_blanks: Mapping[tuple[str, str, str], Rows], graph: str, optimizer: str
) -> None:
    only, still = (batches_of_blanks[graph, optimizer, name] for name in ("only", "still"))
    ours = parts_of_buy(only)
    assert_equal(ours, parts_of_buy(still))  # at a rate of 0 all weights are as they began
    fresh = {"beta1_pow_acc_0": 0.9, "beta2_pow_acc_0": 0.999}
    for name in [name for name in ours if "/" in name]:
        assert (ours[name] == np.float32(fresh.get(name.split("/")[1], 0))).all(), name
    assert (only["tower"][0] != still["tower"][0]).any()
    assert (only["bottom.weight"] != still["bottom.weight"]).any()


def test_both_graphs_train_alike(
    batches_of_blanks: Mapping[tuple[str, str, str], Rows],
) -> None:
    for optimizer in OPTIMIZERS:
        for name in ("then", "first"):
            one, other = (batches_of_blanks[graph, optimizer, name] for graph in GRAPHS)
            assert one.keys() == other.keys()
            for key, array in one.items():
                np.testing.assert_allclose(array, other[key], rtol=2e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_resume_whose_first_batch_tells_nothing_of_a_task(home: Path, graph: str) -> None:
    for optimizer in OPTIMIZERS[:2]:
        one, two = (f"resumed-{graph}-{optimizer}-{name}" for name in ("whole", "again"))
        first = {"train_data_dir": "data/first", "hyper_parameters__optimizer": optimizer}
        runs = [(one, {**first, "epochs": 2}), (two, first)]
        runs += [(two, {**first, "epochs": 2, "resume": "true"})]
        well(train(home, *((graph, name, given) for name, given in runs)))
        assert_equal(state(home / two / "1"), state(home / one / "1"))
