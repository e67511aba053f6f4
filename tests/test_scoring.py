"""Rows scored as they are read: the same scores with less work, and every promise kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
import pytest
from helpers import Result, make_model_dir, override, run_cases, write_table

from input_encoding import adapt
from net import ShareBottomLayer, score_rows, scoring_weights
from rec_runner.engine.scoring import differences

GRAPHS = ("dygraph", "static")
HYPER = {"feature_size": 6, "bottom_size": 9, "tower_size": 4, "task_names": ["a", "b"]}
KINDS = ("none", "standard", "piecewise_linear")
CHANGED = "\nShareBottomLayer._activate = lambda self, hidden, dropout: paddle.tanh(hidden)\n"
LATER = """
scores, taken = scoring_weights, []

def scoring_weights(state):
    weights = scores(state)
    weights["out.bias"] += len(taken)
    taken.append(state)
    return weights
"""
WIDER = """
scores, weights_of, taken = score_rows, scoring_weights, []

def scoring_weights(state):
    taken.append(state)
    return {**weights_of(state), **({"more": np.zeros(2, np.float32)} if taken[1:] else {})}

def score_rows(features, weights):
    odds = scores(features, weights)
    return odds + weights["more"] if "more" in weights else odds
"""
ENCODED = "\ndel ModelHooks.score_rows\n"


def make_rows(rng: np.random.Generator, number: int) -> np.ndarray:
    """Columns of 0 and 1, of small amounts and zeros, and of a mean that dwarfs its spread."""
    rows = rng.integers(0, 2, size=(number, 6)).astype(np.float32)
    rows[:, 1] = np.where(rng.random(number) < 0.5, 0, rng.exponential(0.01, number))
    rows[:, 4] = rng.normal(1e6, 2, number)
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tasks", "bottom", "tower"), [(1, 7, 4), (2, [9, 5], 3), (3, 8, [6, 4, 2])]
)
def test_raw_rows_score_as_encoded_ones(rng, kind: str, tasks: int, bottom, tower) -> None:
    rows = make_rows(rng, 50)
    state = adapt([rows], kind, 9)
    net = ShareBottomLayer(6, tasks, bottom, tower, 0.5, 0.5, "xavier", "xavier", kind, 9, state)
    net.eval()
    for weight in net.parameters():
        if not weight.stop_gradient:  # no bias of 0
            weight.set_value(paddle.normal(shape=weight.shape))
    weights = scoring_weights({name: w.numpy() for name, w in net.state_dict().items()})
    tensors = {name: paddle.to_tensor(value) for name, value in weights.items()}
    features = paddle.to_tensor(rows)
    found = score_rows(features, tensors).numpy()
    encoded = net.encoding(features)
    expected = net.log_odds(encoded).numpy()[..., 0].T
    assert found.shape == (50, tasks)
    # Raw columns of a million make such log-odds too, and last digits of such a size.
    size = max(1.0, np.abs(encoded.numpy()).max())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("column", "value"), [(0, np.nan), (3, -np.inf), (4, np.inf), (1, 3e38)])
def test_a_row_that_is_not_finite_has_no_score(rng, kind: str, column: int, value: float) -> None:
    rows = make_rows(rng, 40)
    state = adapt([rows], kind, 9)
    net = ShareBottomLayer(6, 2, 8, 3, numeric_encoding=kind, piecewise_bins=9, statistics=state)
    rows[17, column] = value
    weights = scoring_weights({name: w.numpy() for name, w in net.state_dict().items()})
    tensors = {name: paddle.to_tensor(array) for name, array in weights.items()}
    features = paddle.to_tensor(rows)
    fits = np.isfinite(net.encoding(features).numpy()).all(axis=1)
    assert np.array_equal(np.isfinite(score_rows(features, tensors).numpy()).all(axis=1), fits)
    assert fits.sum() == 39 + (value == 3e38 and kind == "none")


class Runs:
    """Two directories trained and then scored in several ways, on both graphs.

    Args:
        folder: where everything lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(3)
        rows = make_rows(rng, 300)
        labels = (rng.normal(size=(300, 2)) + rows[:, [0, 2]] > 0.5).astype(np.float32)
        write_table(folder / "rows" / "rows.csv", np.column_stack([labels, rows]))
        rows[111, 1] = 3e38
        table = np.column_stack([labels, rows])
        write_table(folder / "huge" / "a.csv", table[:100])
        write_table(folder / "huge" / "b.csv", table[100:])
        others = f"(features[:, 4:5] != {rows[0, 4]}).astype('float32')"
        many = "(paddle.shape(features)[0] > 32).astype('float32')"
        more = {
            "whole": {},
            "encoded": {"model_hooks.py": ENCODED},
            # It is compared with the network on 32 rows.
            "more": {"net.py": self.instead("score_rows", f"scores(features, weights) + {many}")},
            "changed": {"net.py": CHANGED},
            "changed, encoded": {"net.py": CHANGED, "model_hooks.py": ENCODED},
            "all but the first": {
                "net.py": self.instead("score_rows", f"scores(features, weights) + {others}")
            },
            "from the second on": {"net.py": LATER},
            "wider": {"net.py": WIDER},
            "nan": {"net.py": self.instead("score_rows", "scores(features, weights) * np.nan")},
            "narrow": {"net.py": self.instead("score_rows", "(scores(features, weights)[:, :1])")},
            "listed": {"net.py": self.instead("scoring_weights", "[]")},
            "failing": {"net.py": self.instead("score_rows", "undefined_name")},
        }
        self.models = {name: self.model(name, files) for name, files in more.items()}
        cases = []
        for kind in ("standard", "piecewise_linear"):
            for graph in GRAPHS:
                cases.append(self.case("train", graph, "whole", kind))
        for result in run_cases(cases, cwd=folder):
            assert result.status == 0, result.stderr

    @staticmethod
    def instead(name: str, what: str) -> str:
        """Code that has a function of ``net.py`` give something else."""
        parameters = "features, weights" if name == "score_rows" else "state"
        return f"\nscores = {name}\n\ndef {name}({parameters}):\n    return {what}\n"

    def model(self, name: str, files: dict[str, str]) -> Path:
        """A directory with code appended to some files."""
        runner = {"train_reader_path": "census_reader", "epochs": 2, "print_interval": 5}
        runner.update(train_data_dir="../rows", test_data_dir="../rows", valid_data_dir="../rows")
        runner.update(train_batch_size=32, infer_batch_size=70, save_predictions=True)
        config = make_model_dir(self.folder / name, runner, HYPER)
        for file, code in files.items():
            with open(self.folder / name / file, "a", encoding="utf-8") as stream:
                stream.write(code)
        return config

    def saved(self, graph: str, kind: str) -> Path:
        """Where a run's checkpoints are."""
        return self.folder / f"saved-{graph}-{kind}"

    def case(self, job: str, graph: str, model: str, kind: str, **more: object) -> tuple:
        """A command line."""
        saved = self.saved(graph, kind)
        key = "model_save_path" if job == "train" else "infer_load_path"
        options = override(hyper_parameters__numeric_encoding=kind, **{key: saved}, **more)
        return job, graph, ["-m", str(self.models[model]), *options]

    def infer(self, cases: Sequence[tuple]) -> list[Result]:
        """Run command lines."""
        return run_cases(cases, cwd=self.folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("scoring"))


def records(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("kind", ["standard", "piecewise_linear"])
def test_scores_of_raw_rows_are_those_of_validation_and_of_encoded_rows(runs, kind: str) -> None:
    ways = ("whole", "encoded")
    both = {"infer_start_epoch": 0, "infer_end_epoch": 2}  # other weights, the same rows
    for graph in GRAPHS:
        folder, scores = runs.saved(graph, kind), {}
        for way in ways:
            (folder / "infer_metrics.jsonl").unlink(missing_ok=True)
            (result,) = runs.infer([runs.case("infer", graph, way, kind, **both)])
            assert result.status == 0, result.stderr
            scores[way] = [
                np.loadtxt(folder / epoch / "predictions.csv", delimiter=",", skiprows=1)
                for epoch in ("0", "1")
            ]
            if way == "whole":
                found = records(folder, "infer_metrics.jsonl")
        assert len(scores["whole"][0]) == 300
        assert np.abs(scores["whole"][0] - scores["whole"][1]).max() > 1e-3
        np.testing.assert_allclose(scores["whole"], scores["encoded"], rtol=0, atol=1e-6)
        valid = [r for r in records(folder, "metrics.jsonl") if r["phase"] == "valid"]
        for one, other in zip(valid, found):
            same = [name for name in one if name.startswith(("auc", "logloss"))]
            assert len(same) == 4
            assert [one[name] for name in same] == [other[name] for name in same]


def predictions(runs: Runs, graph: str, model: str) -> tuple[np.ndarray, list[str]]:
    """Of a directory, and what it was told."""
    for file in runs.saved(graph, "standard").glob("*/predictions.csv"):
        file.unlink()  # another's
    (result,) = runs.infer([runs.case("infer", graph, model, "standard")])
    assert result.status == 0, result.stderr
    (file,) = runs.saved(graph, "standard").glob("*/predictions.csv")
    found = np.loadtxt(file, delimiter=",", skiprows=1)[:, 1::2]
    return found, result.sentences


@pytest.mark.parametrize("graph", GRAPHS)
def test_all_but_the_first_rows_are_scored_by_the_hook_alone(runs, graph: str) -> None:
    own, _ = predictions(runs, graph, "whole")
    more, sentences = predictions(runs, graph, "more")
    assert not sentences
    odds = np.log(more / (1 - more)) - np.log(own / (1 - own))
    np.testing.assert_allclose(odds[:280], 1, atol=1e-4)  # whole batches
    np.testing.assert_allclose(odds[280:], 0, atol=1e-4)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_network_that_the_hook_does_not_follow_scores_by_itself(runs, graph: str) -> None:
    first, _ = predictions(runs, graph, "whole")
    found, sentences = predictions(runs, graph, "changed")
    expected, none = predictions(runs, graph, "changed, encoded")
    (sentence,) = sentences
    assert "the hook score_rows gives log-odds" in sentence and "is not used" in sentence
    assert not none
    assert np.abs(found - first).max() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("way", ["all but the first", "from the second on", "nan", "wider"])
def test_a_score_that_is_not_the_networks_is_found_at_any_batch_size_and_epoch(
    runs, graph: str, way: str
) -> None:
    both = {"infer_start_epoch": 0, "infer_end_epoch": 2, "infer_batch_size": 1}
    found = []
    for model in (way, "encoded"):
        (result,) = runs.infer([runs.case("infer", graph, model, "standard", **both)])
        assert result.status == 0, result.stderr
        told = [text for text in result.sentences if "the hook score_rows gives" in text]
        assert len(told) == (model == way != "wider")
        files = sorted(runs.saved(graph, "standard").glob("*/predictions.csv"))
        found.append([np.loadtxt(file, delimiter=",", skiprows=1) for file in files])
        for file in files:
            file.unlink()
    np.testing.assert_allclose(*found, rtol=0, atol=1e-6)


def test_what_goes_wrong_is_said_as_ever(runs) -> None:
    asked = {
        "huge": ("whole", {"test_data_dir": runs.folder / "huge"}),
        **{name: (name, {}) for name in ("narrow", "listed", "failing")},
    }
    said = {
        "huge": "the value 3e+38 of feature 1 (from 0) is too large for this network, whose "
        "encoding of it is not a finite number",
        "narrow": "score_rows [N, T], whose joined ones have shape",
        "listed": "Model.scoring_weights should return a dict of arrays, and returned a list of 0",
        "failing": "score_rows failed: NameError: name 'undefined_name' is not defined (net.py",
    }
    cases = [
        runs.case("infer", graph, model, "standard", **more)
        for graph in GRAPHS
        for model, more in asked.values()
    ]
    for result, name in zip(runs.infer(cases), 2 * list(asked)):
        (sentence,) = result.sentences
        assert said[name] in sentence
        assert result.status == (1 if name == "huge" else 2)
        if name == "huge":
            assert f"{runs.folder / 'huge' / 'b.csv'}: the value" in sentence


def test_a_number_near_0_is_compared_as_one_of_many_millions() -> None:
    own = np.array([[2.0, 1369.25], [0.1, 2e8], [-3.0, -4e7]], np.float32)
    ours = own + np.array([0, -2.75], np.float32)
    labels = np.array([[1, 3e8], [0, np.nan], [1, -1e8]], np.float32)
    types = ("binary", "regression")
    for few in (slice(3), slice(1)):  # rows that are compared
        assert differences(ours[few], own[few], labels, types).max() < 1e-6
    assert differences(ours, own, labels).max() > 1e-3
    ours[1, 1] *= 1.01
    assert differences(ours, own, labels, types).argmax() == 3
    ours[0, 0] += 0.01
    assert differences(ours, own, labels, types).max() > 3e-3  # of log-odds each its own
    own[2] = ours[2] = np.nan, np.inf
    off = differences(ours, own, labels, types)
    assert (off[2] == 0).all() and np.isfinite(off).all()
    ours[2] = 0
    assert np.isinf(differences(ours, own, labels, types)[2]).all()
