"""Labels as they are in life, as the tools hand them on: not known, weighed, of several types."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import ROOT, Result, override, run_cases
from model_dirs import make_data
from sklearn.metrics import roc_auc_score

from rec_runner.checkpoint.weights import load_weights
from rec_runner.config import Config
from rec_runner.data import row_cache
from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import Window, are_labels, check_encoded, named_block
from rec_runner.data.sources import row_draws, share_of
from rec_runner.engine.labels import row_weights, unknown_tasks
from rec_runner.system.errors import RunError, UserError

BATCH = 8
GRAPHS = ("dygraph", "static")
OPTIMIZERS = ("adam", "adamw")
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
    assert len(ours) == 16
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
    for optimizer in OPTIMIZERS:
        one, two = (f"resumed-{graph}-{optimizer}-{name}" for name in ("whole", "again"))
        first = {"train_data_dir": "data/first", "hyper_parameters__optimizer": optimizer}
        runs = [(one, {**first, "epochs": 2}), (two, first)]
        runs += [(two, {**first, "epochs": 2, "resume": "true"})]
        well(train(home, *((graph, name, given) for name, given in runs)))
        assert_equal(state(home / two / "1"), state(home / one / "1"))


# Weights and groups of rows ---------------------------------------------------------------------

GIVEN = {"hyper_parameters__given": "[weights,groups]", "hyper_parameters__weighs": "true"}


def infer(home: Path, graph: str, folder: str, **settings: Any) -> Result:
    """Score the test rows with what a training left in a folder."""
    config = str(home / "model" / "config.yaml")
    given = override(infer_load_path=folder, **settings)
    return run_cases([("infer", graph, ["-m", config, *given])], home)[0]


def records(file: Path) -> list[dict[str, Any]]:
    """Records of epochs, without what the clock decides."""
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for record in found:
        del record["seconds"], record["rows_per_second"]
    return found


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_weight_of_two_is_a_row_given_twice(home: Path, graph: str) -> None:
    table = blank(rows(5, 4))
    table[::3, 5] = 1  # most are blank
    table[:, 6] = np.arange(len(table)) % 2 + 1
    twice = np.repeat(table, table[:, 6].astype(int), axis=0)
    for name, found in ("weighed", table), ("twice", twice):
        if not (home / "model" / "data" / name).exists():
            write(home / "model" / "data" / name, found)
    common = {"train_batch_size": 100, "epochs": 4, "hyper_parameters__adapts": "true"}
    runs = [
        (f"weighed-{graph}", {**common, **GIVEN, "train_data_dir": "data/weighed"}),
        (f"twice-{graph}", {**common, "train_data_dir": "data/twice"}),
        (f"plain-{graph}", {**common, "train_data_dir": "data/weighed"}),
    ]
    well(train(home, *((graph, name, given) for name, given in runs)))
    weighed, given_twice, plain = (load_weights(home / name / "3") for name, _ in runs)
    for name, array in weighed.items():
        np.testing.assert_allclose(array, given_twice[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert (weighed["tower"] != plain["tower"]).any()
    mean = np.average(table[:, :4], axis=0, weights=table[:, 6])
    np.testing.assert_allclose(weighed["center"], mean, rtol=1e-5, atol=1e-6)
    one, other = (records(home / name / "metrics.jsonl")[-1] for name, _ in runs[:2])
    for key in ("auc_click", "logloss_click", "loss"):
        assert one[key] == pytest.approx(other[key], rel=1e-4)
    assert "gauc_click" in one and "gauc_click" not in other


@pytest.mark.parametrize("graph", GRAPHS)
def test_weights_groups_and_blanks_in_scoring(home: Path, graph: str) -> None:
    test = rows(6, 6)[:-3]
    test[test[:, 4] == 0, 5] = np.nan
    if not (home / "model" / "data" / "blanks").exists():
        write(home / "model" / "data" / "blanks", test)
    well(train(home, (graph, f"scored-{graph}", GIVEN)))
    given = {**GIVEN, "test_data_dir": "data/blanks", "save_predictions": "true"}
    result = infer(home, graph, f"scored-{graph}", **given)
    assert result.status == 0 and result.sentences == [], result.stderr
    (record,) = records(home / f"scored-{graph}" / "infer_metrics.jsonl")
    text = (home / f"scored-{graph}" / "0" / "predictions.csv").read_text(encoding="utf-8")
    names, *lines = text.splitlines()
    cells = [[float(cell or "nan") for cell in line.split(",")] for line in lines]
    column = dict(zip(names.replace('"', "").split(","), np.array(cells).T))
    known = ~np.isnan(test[:, 5])
    expected = roc_auc_score(
        test[known, 5], column["probability_buy"][known], sample_weight=test[known, 6]
    )
    assert record["auc_buy"] == pytest.approx(expected, abs=1e-6)
    assert record["rows"] == len(test)


def test_weights_that_one_side_alone_knows_of(home: Path) -> None:
    given = "hyper_parameters__given"
    weighs = {"hyper_parameters__weighs": "true"}
    asked = train(home, *((graph, "asked", weighs) for graph in GRAPHS))
    for result in asked:
        assert result.status == 2
        (sentence,) = result.sentences
        assert "weighs_rows asks for weights of rows, and the reader's blocks" in sentence
        assert sentence.endswith(f"(files: {home / 'model' / 'data' / 'all' / 'rows.txt'})")
    unasked, _ = well(
        train(
            home,
            ("dygraph", "unasked", {given: "[weights]", "epochs": 2}),
            ("dygraph", "plain", {"epochs": 2}),
        )
    )
    (warning,) = unasked.sentences
    assert "the reader gives an array weights, which this model has no use for" in warning
    assert_equal(state(home / "unasked" / "1"), state(home / "plain" / "1"))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.array([1, -0.5, 1]), "the weight -0.5, expected a finite number of at least 0"),
        (np.array([1, np.nan, 1]), "the weight nan"),
        (np.array([1, 1, np.inf]), "the weight inf"),
        (np.ones((3, 2)), "should hold a number for each of 3 rows, and is float64 of shape"),
        (np.array(["1", "1", "1"]), "should hold a number for each of 3 rows"),
    ],
)
def test_weights_that_are_none(weights: np.ndarray, said: str) -> None:
    arrays = {"features": np.ones((3, 2)), "labels": np.ones((3, 1)), "weights": weights}
    with pytest.raises(UserError, match=re.escape(said)):
        row_weights(Window(0, 3, arrays, 3))


def test_which_batches_tell_nothing_of_a_task() -> None:
    labels = np.ones((10, 2), np.float32)
    window = Window(0, 4, {"labels": labels}, 10)
    assert unknown_tasks(window, None) == []
    labels[[1, 5], 0] = labels[8, 1] = np.nan
    assert unknown_tasks(window, None) == []
    labels[8:, 1] = np.nan
    labels[:4, :] = np.nan
    assert unknown_tasks(window, None) == [[0, 1], [], [1]]
    weights = np.ones((10, 1), np.float32)
    weights[8:] = 0  # such rows count nothing
    assert unknown_tasks(window, weights) == [[0, 1], [], [0, 1]]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("weights_of_task = lambda s, t: {'towers': 0}", "not towers: 0, and returned a dict"),
        ("weights_of_task = lambda s, t: {'tower': 2}", "not tower: 2, and returned a dict"),
        ("weights_of_task = lambda s, t: ['tower']", "should return a dict of an index"),
        ("weighs_rows = lambda s, c: 1", "weighs_rows should return True or False"),
        ("task_types = lambda s, c: ['binary', 'ordinal']", "a list of binary or regression"),
        ("task_types = lambda s, c: ['binary']", "names 2 tasks: as many types"),
        ("adapt_blocks = lambda s, b, c: {'center': 0.0}", "weights of the network by name"),
    ],
)
def test_hooks_that_give_something_else(home: Path, tmp_path: Path, code: str, said: str) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(home / "model", tmp_path / "model", ignore=ignore)
    write(tmp_path / "model" / "data" / "all", blank(rows(1)))
    with open(tmp_path / "model" / "dygraph_model.py", "a", encoding="utf-8") as module:
        module.write(f"\nDygraphModel.{code}\n")
    (result,) = train(tmp_path, ("dygraph", "saved", {}))
    assert result.status == 2
    (sentence,) = result.sentences
    assert said in sentence


def test_a_regression_is_trained_cached_and_scored(home: Path, tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(home / "model", tmp_path / "model", ignore=ignore)
    table = rows(7, 6)
    table[:, 5] = 100 * table[:, 0]
    table[::5, 5] = np.nan
    write(tmp_path / "model" / "data" / "all", table)
    net = tmp_path / "model" / "net.py"
    code = net.read_text(encoding="utf-8").replace(
        'losses = F.binary_cross_entropy_with_logits(odds, labels, reduction="none")',
        "losses = (odds - labels) ** 2",
    )
    net.write_text(code.replace("def weighs_rows", TYPES), encoding="utf-8")
    cache = {"cache_dir": tmp_path / "cache", "epochs": 2, "save_predictions": "true"}
    cache |= {"test_at_end": "true", "test_data_dir": "data/all"}
    runs = [(graph, f"{graph}-{n}", cache) for graph in GRAPHS for n in range(2)]
    results = well(train(tmp_path, *runs))
    assert [result.sentences for result in results] == [[]] * 4
    (kept,) = (tmp_path / "cache").glob("rows-*")  # of the training rows and the test rows
    found = np.fromfile(kept / "labels.bin", np.float32).reshape(-1, 2)
    np.testing.assert_allclose(found, table[:, 4:6], rtol=1e-6)
    for graph in GRAPHS:
        first, again = (records(tmp_path / f"{graph}-{n}" / "metrics.jsonl") for n in range(2))
        assert first == again
        assert {"mse_buy", "mae_buy", "r2_buy"} <= first[-1].keys()


TYPES = """def task_types(self, config):
        return ("binary", "regression")

    def weighs_rows"""


# Caches and encodings ---------------------------------------------------------------------------


def cache(folder: Path, arrays: Rows, types: tuple[str, ...] = ()) -> RowCache:
    """A cache that has been given rows."""
    (folder / "rows.txt").write_text("1")
    fit = partial(are_labels, task_types=types)
    disk = RowCache(folder / "cache", [str(folder / "rows.txt")], "settings", fit)
    assert len(list(disk.written([named_block(arrays, "rows.txt")]))) == 1
    return disk


def test_a_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    table = blank(rows(8, 3)).astype(np.float32)
    table[3, 2] = np.nan
    arrays = {"features": table[:, :4], "labels": table[:, 4:6], "weights": table[:, 6]}
    arrays["groups"] = np.arange(len(table)) - (1 << 62)
    stored = cache(tmp_path, arrays).load()
    assert stored is not None and stored.rows == len(table)
    for start, end in ((0, 99), (5, 9)):
        found = stored.block(start, end).arrays
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array[start:end])


@pytest.mark.parametrize(
    ("name", "array", "types"),
    [
        ("labels", np.full((4, 2), 0.5, np.float32), ()),
        ("labels", np.full((4, 2), 0.5, np.float32), ("regression", "binary")),
        ("labels", np.full((4, 2), np.inf, np.float32), ("regression", "regression")),
        ("labels", np.ones((4, 2), np.int64), ()),
        ("features", np.ones(4, np.float32), ()),
        ("more", np.ones(4, np.float64), ()),
        ("more", np.ones((4, 2, 2), np.float32), ()),
        ("more", np.ones((4, 0), np.float32), ()),
    ],
)
def test_what_no_cache_holds(
    tmp_path: Path, name: str, array: np.ndarray, types: tuple[str, ...]
) -> None:
    ones = np.ones((4, 2), np.float32)
    assert cache(tmp_path, {"features": ones, "labels": ones, name: array}, types).load() is None
    right = {"labels": np.full((4, 2), np.nan, np.float32), "features": ones, "more": ones[:, 0]}
    assert cache(tmp_path, right, types).load() is not None


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("weights", {"dtype": "float64", "shape": [2]}),
        ("weights", {"dtype": "float32", "shape": [4, 1 << 70]}),
        ("weights", {"dtype": "float32", "shape": [4, 1, 1]}),
        ("weights", {"dtype": "float32", "shape": []}),
        ("weights", {"dtype": ["float32"], "shape": [4]}),
        ("features", {"dtype": "int64", "shape": [4, 1]}),
        ("labels", {"dtype": "float32", "shape": [4]}),
    ],
)
def test_a_manifest_that_takes_one_type_for_another(
    tmp_path: Path, name: str, entry: dict[str, Any]
) -> None:
    ones = np.ones((4, 2), np.float32)
    disk = cache(tmp_path, {"features": ones, "labels": ones[:, :1], "weights": ones[:, 0]})
    assert disk.load() is not None
    manifest = json.loads((disk.path / "manifest.json").read_text())
    manifest["arrays"][name].update(entry)
    manifest["own_crc32"] = row_cache._own_checksum(manifest)
    (disk.path / "manifest.json").write_text(json.dumps(manifest))
    assert disk.load() is None


def test_what_an_encoding_makes_nothing_of() -> None:
    raw = np.array([[1, 2, 3], [np.nan, 5, -3e38], [4, np.nan, 6]], np.float32)
    encoded = np.array([[1, 2, 3], [0, 5, -np.inf], [4, 0, 6]], np.float32)
    check_encoded(raw[[0, 2]], encoded[[0, 2]], ["a.csv"])  # a missing number is encoded
    with pytest.raises(RunError, match=r"a\.csv: the value -3e\+38 of feature 2 \(from 0\) is too"):
        check_encoded(raw, encoded, ["a.csv"])
    with pytest.raises(RunError, match=r"a\.csv: feature 1 \(from 0\) of a row is missing"):
        check_encoded(raw[::2], raw[::2], ["a.csv"])
    # What is missing in a row that came out well is not what is wrong with another one.
    raw = np.array([[1, np.nan, 3], [2, np.nan, -3e38]], np.float32)
    encoded = np.array([[1, 0, 3], [2, 0, np.nan]], np.float32)
    with pytest.raises(RunError, match=r"a\.csv: the value -3e\+38 of feature 2 \(from 0\) is too"):
        check_encoded(raw, encoded, ["a.csv"])


# Test rows --------------------------------------------------------------------------------------


def test_shares_do_not_depend_on_each_other() -> None:
    def rows_of(part: str, **shares: Any) -> set[int]:
        config = Config({f"runner.{name}": value for name, value in shares.items()})
        share = share_of(config, part)
        return set(np.flatnonzero(share.keep(3, 0, 1000))) if share else set(range(1000))

    draws = row_draws(3, 0, 1000)
    assert rows_of("valid", valid_share=0.2) == set(np.flatnonzero(draws < 0.2))
    assert rows_of("train", valid_share=0.2) == set(np.flatnonzero(draws >= 0.2))
    assert rows_of("train") == rows_of("train", valid_share=0.2, valid_data_dir="x")
    both = {"valid_share": 0.2, "test_share": 0.3}
    parts = [rows_of(part, **both) for part in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1000
    assert parts[2] == rows_of("test", test_share=0.3) == set(np.flatnonzero(draws < 0.3))


@pytest.mark.parametrize("graph", GRAPHS)
def test_test_rows_that_are_a_share_are_scored_at_the_end_as_infer_does(
    home: Path, graph: str
) -> None:
    name, again = f"share-{graph}", f"share-again-{graph}"
    given = {"test_share": 0.3, "valid_share": 0.2, "test_at_end": "true", "epochs": 3}
    given |= {"save_predictions": "true", "monitor": "max:logloss_click"}  # an early one is best
    (result,) = well(train(home, (graph, name, given)))
    found = records(home / name / "metrics.jsonl")
    assert [r["phase"] for r in found] == ["train", "valid"] * 3 + ["infer"]
    rows_of = {record["phase"]: record["rows"] for record in found}
    assert sum(rows_of.values()) == 20 * BATCH and min(rows_of.values()) > 20
    best = json.loads((home / name / "best.json").read_text())["epoch"]
    assert found[-1]["epoch"] == best == 0
    assert f"test rows, scored with the weights of epoch {best}, the best:" in result.stdout
    assert result.stdout.splitlines()[-1].split()[:2] == [str(best), "infer"]
    predictions = home / name / str(best) / "predictions.csv"
    text = predictions.read_bytes()
    predictions.unlink()
    scored = infer(home, graph, name, test_share=0.3, save_predictions="true")
    assert scored.status == 0 and scored.sentences == [], scored.stderr
    assert records(home / name / "infer_metrics.jsonl") == found[-1:]
    assert predictions.read_bytes() == text
    if graph == "static":
        return
    # With fewer epochs, then resumed: the same, and a run that has ended is tested once more.
    on = {**given, "resume": "true"}
    first = {**given, "epochs": 1, "test_at_end": "false"}
    well(train(home, (graph, again, first), (graph, again, on), (graph, again, on)))
    assert records(home / again / "metrics.jsonl") == found
    # What was trained on, by another share, may be among the test rows.
    scored = infer(home, graph, name, test_share=0.4)
    assert scored.status == 0
    (warning,) = scored.sentences
    assert "runner.test_share was 0.3 when checkpoint" in warning
    refused = train(home, (graph, again, {**on, "test_share": 0.2}))[0]
    assert refused.status == 2 and "runner.test_share was 0.3" in refused.stderr


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_folder_of_test_rows_is_scored_at_the_end(home: Path, graph: str) -> None:
    name = f"folder-{graph}"
    given = {"test_data_dir": "data/test", "test_at_end": "true", "epochs": 2}
    (result,) = well(train(home, (graph, name, given)))
    assert "the weights of epoch 1, the last:" in result.stdout
    scored = infer(home, graph, name, test_data_dir="data/test", infer_start_epoch=1)
    assert scored.status == 0 and scored.sentences == [], scored.stderr
    found = records(home / name / "metrics.jsonl")
    assert records(home / name / "infer_metrics.jsonl") == found[-1:]
    assert found[-1]["rows"] == 4 * BATCH - 3


def test_a_directory_that_has_the_contract_alone_is_tested_at_the_end(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "model_dirs" / "mmoe", tmp_path / "model")
    make_data.write("mmoe", tmp_path / "model")
    runs = [(graph, graph, {"test_at_end": "true", "epochs": 1}) for graph in GRAPHS]
    well(train(tmp_path, *runs))
    for graph in GRAPHS:
        result = infer(tmp_path, graph, graph, infer_end_epoch=1)
        assert result.status == 0, result.stderr
        found = records(tmp_path / graph / "metrics.jsonl")[-1:]
        assert found == records(tmp_path / graph / "infer_metrics.jsonl")
    (refused,) = train(tmp_path, ("dygraph", "refused", {"test_share": 0.2}))
    assert refused.status == 2
    assert "runner.test_share needs a reader with blocks(); use test_data_dir" in refused.stderr


def test_test_rows_that_cannot_be(home: Path) -> None:
    at_end = {"test_at_end": "true"}
    reader = home / "model" / "slow_reader.py"
    reader.write_text("class RecDataset:\n    def __iter__(self):\n        return iter(())\n")
    cases = {
        "runner.test_data_dir is missing": at_end,
        "runner.test_data_dir: ": {**at_end, "test_data_dir": "nowhere"},
        "runner.test_share 0.5 and runner.valid_share 0.5 leave nothing to train on": {
            "test_share": 0.5,
            "valid_share": 0.5,
        },
        "is left to test on with runner.test_share 1e-09": {**at_end, "test_share": 1e-9},
        "RecDataset of slow_reader.py has no blocks()": {
            **at_end,
            "test_data_dir": "data/test",
            "infer_reader_path": "slow_reader",
        },
    }
    results = train(home, *(("dygraph", "cannot", given) for given in cases.values()))
    for result, said in zip(results, cases):
        assert result.status == 2, said
        (sentence,) = result.sentences
        assert said in sentence
    well(train(home, ("dygraph", "both", {"test_share": 0.2})))
    result = infer(home, "dygraph", "both", test_share=0.2, test_data_dir="data/test")
    (warning,) = result.sentences
    assert "runner.test_share has no effect here: it draws from train_data_dir" in warning
