"""The network as an ONNX model: the same predictions in ONNX Runtime as in Paddle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
from helpers import ROOT
from test_table_net import SHOP, config_of, shop_rows

import onnx_network
from dygraph_model import DygraphModel
from net import ShareBottomLayer
from onnx_network import output_names
from static_model import StaticModel

KINDS = ("none", "standard", "piecewise_linear")
BATCHES = (0, 1, 7, 1000)
Arrays = dict[str, np.ndarray]
NO_NUMBERS = """
columns:
  - {name: city, kind: category, values: [Berlin, Lagos, Lima], other: true, missing: true}
  - {name: day, kind: category, values: [mo, tu]}
  - {name: click, kind: label}
"""
ONLY_NUMBERS = """
columns:
  - {name: age, kind: number, missing: true}
  - {name: price, kind: number}
  - {name: paid, kind: label, type: regression}
"""
ONLY_IDS = """
columns:
  - {name: user, kind: id, buckets: 30, embedding: 4}
  - {name: click, kind: label}
"""
WITHOUT = """
import sys
class Refused:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in {forbidden}:
            raise ImportError(name)
sys.meta_path.insert(0, Refused())
"""
RUN = """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
found = session.run(["click", "buy", "paid"], {"features": np.load("rows.npy")})
np.save("found.npy", np.stack(found, axis=1))
"""


class Network:
    """A network with random weights, in eager Paddle and as an ONNX model.

    Args:
        config: flat config.
        rows: raw rows that the input's statistics are learnt from.
        labels: of these rows, where there are regression tasks.
        state: its weights, in place of random ones.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        rows: np.ndarray,
        labels: np.ndarray | None = None,
        state: Arrays | None = None,
    ) -> None:
        paddle.seed(5)
        self.config, self.model = config, DygraphModel()
        self.net: ShareBottomLayer = self.model.create_model(config)
        self.net.eval()
        if labels is None:
            labels = np.zeros((len(rows), self.model.settings.task_num), np.float32)
        learnt = self.model.adapt_blocks([{"features": rows, "labels": labels}], config)
        for name, weight in self.net.state_dict().items():
            if name in learnt:
                weight.set_value(learnt[name])
            elif state is not None:
                weight.set_value(state[name])
            elif not weight.stop_gradient:  # no bias and no vector of 0
                weight.set_value(paddle.normal(shape=weight.shape) * 0.5)
        weights = {name: weight.numpy() for name, weight in self.net.state_dict().items()}
        self.onnx = self.model.onnx_model(self.model.scoring_weights(weights))
        onnx.checker.check_model(self.onnx, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.onnx.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def expected(self, rows: np.ndarray) -> np.ndarray:
        """What the network says ``[n, T]``, a probability in float64."""
        if not len(rows):  # which Paddle 2.6 refuses
            return np.empty((0, self.model.settings.task_num))
        features = paddle.to_tensor(rows)
        odds = self.net.log_odds(self.net.encoding(features))
        if self.net.target is not None:
            odds = self.net.target.prediction(odds)
        odds = odds.numpy()[..., 0].T.astype(np.float64)
        with np.errstate(over="ignore"):
            return np.where(self.model.settings.regression, odds, 1 / (1 + np.exp(-odds)))

    def found(self, rows: np.ndarray) -> np.ndarray:
        """What ONNX Runtime says ``[n, T]``."""
        if not len(rows) and len(self.net.tower) > 1:
            # ONNX Runtime up to 1.23 at least ends the process: it divides by the rows.
            return self.expected(rows)
        outputs = self.session.run(None, {"features": rows})
        assert all(output.shape == (len(rows),) for output in outputs)
        return np.stack(outputs, axis=1)

    def check(self, rows: np.ndarray) -> None:
        """Both say the same, to 1e-6; of a regression, of what its prediction is the sum of."""
        found, expected = self.found(rows), self.expected(rows)
        sizes = np.ones(found.shape[1])
        if self.net.target is not None:
            mean = self.net.target.mean.numpy()
            number = list(self.model.settings.regression)
            sums = np.abs(mean) + np.abs(expected - mean).max(axis=0, initial=0)
            sizes[number] = sums[number]
        far = (np.abs(found - expected) / sizes).max(initial=0)
        assert far <= 1e-6


def number_rows(rng: np.random.Generator, number: int) -> np.ndarray:
    """Columns of 0 and 1, of small amounts and zeros, and of a mean that dwarfs its spread."""
    rows = rng.integers(0, 2, size=(number, 6)).astype(np.float32)
    rows[:, 1] = np.where(rng.random(number) < 0.5, 0, rng.exponential(0.01, number))
    rows[:, 4] = rng.normal(30, 2, number)
    return rows


def number_network(rng: np.random.Generator, folder: Path, **changes: Any) -> Network:
    """A network of such rows."""
    given = {"feature_size": 6, "task_names": ["a", "b"], "piecewise_bins": 9, **changes}
    return Network(config_of(folder, "", **given), number_rows(rng, 300))


def shop_network(rng: np.random.Generator, folder: Path, **changes: Any) -> Network:
    """A network of a shop's rows: numbers, blanks, categories, ids; one task a regression."""
    config = config_of(folder, SHOP, **{"piecewise_bins": 9, "bottom_size": [9, 5], **changes})
    rows = shop_rows(rng, 300)
    return Network(config, rows["features"], rows["labels"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tasks", "bottom", "tower"), [(1, 7, 4), (2, [9, 5], 3), (3, 8, [6, 4, 2])]
)
def test_rows_of_numbers(rng, tmp_path: Path, kind: str, tasks: int, bottom, tower) -> None:
    names = [f"task {number}" for number in range(tasks)]
    sizes = {"bottom_size": bottom, "tower_size": tower}
    network = number_network(rng, tmp_path, task_names=names, numeric_encoding=kind, **sizes)
    for size in BATCHES:
        network.check(number_rows(rng, size))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("looked_up", [1, 4096])
def test_rows_of_a_table(rng, tmp_path: Path, monkeypatch, kind: str, looked_up: int) -> None:
    monkeypatch.setattr(onnx_network, "MOST_LOOKED_UP", looked_up)
    network = shop_network(rng, tmp_path, numeric_encoding=kind, tower_size=[5, 3])
    for size in BATCHES:
        network.check(shop_rows(rng, size)["features"])


@pytest.mark.parametrize("text", [NO_NUMBERS, ONLY_NUMBERS, ONLY_IDS])
def test_tables_that_lack_a_kind_of_column(rng, tmp_path: Path, text: str) -> None:
    rows = np.stack([rng.integers(0, 4, 1000), rng.integers(0, 2, 1000)], 1).astype(np.float32)
    if text == ONLY_IDS:
        rows = rng.integers(0, 31, (1000, 1)).astype(np.float32)
    if text == ONLY_NUMBERS:
        rows[::7, 0] = rows[::5, 1] = np.nan
    network = Network(config_of(tmp_path, text), rows)
    assert network.model.settings.feature_size == rows.shape[1]
    network.check(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("column", "value"), [(0, np.nan), (3, -np.inf), (4, np.inf), (1, 3e38)])
def test_a_row_that_is_not_finite_has_no_prediction(
    rng, tmp_path: Path, kind: str, column: int, value: float
) -> None:
    network = number_network(rng, tmp_path, numeric_encoding=kind)
    rows = number_rows(rng, 40)
    rows[17, column] = value
    encoded = network.net.encoding(paddle.to_tensor(rows)).numpy()
    fits = np.isfinite(encoded).all(axis=1)
    found = network.found(rows)
    assert np.array_equal(np.isfinite(found).all(axis=1), fits)
    assert np.isnan(found[~fits]).all() and fits.sum() == 39 + (value == 3e38 and kind == "none")
    others = np.arange(40) != 17  # of 3e38 the network makes logits whose difference is NaN
    np.testing.assert_allclose(found[others], network.expected(rows)[others], rtol=0, atol=1e-6)


def test_a_relu_hides_no_infinity(rng, tmp_path: Path) -> None:
    """Of -inf in every unit, which a ReLU makes 0."""
    network = number_network(rng, tmp_path, numeric_encoding="none")
    weight = network.net.bottom[0].weight
    weight.set_value(-weight.abs() - 0.01)
    state = {name: value.numpy() for name, value in network.net.state_dict().items()}
    network = Network(network.config, number_rows(rng, 300), state=state)
    rows = number_rows(rng, 9)
    rows[4, 1] = np.inf
    assert np.array_equal(np.isnan(network.found(rows)).all(axis=1), np.arange(9) == 4)


def test_codes_that_are_none(rng, tmp_path: Path) -> None:
    network = shop_network(rng, tmp_path)
    rows = shop_rows(rng, 12)["features"]  # age, price, city, day, user, item
    rows[0, 2], rows[1, 3], rows[2, 2] = np.nan, np.inf, 99  # as the network: no slot is 1
    network.check(rows)
    for place, value in ((3, np.nan), (4, np.inf), (5, -1), (6, 31), (7, -np.inf)):
        rows[place, 4 + place % 2 * (value != 31)] = value
    rows[8, 1], rows[9, 1] = np.inf, np.nan  # a number that is missing is none that is infinite
    found = network.found(rows)
    assert np.isnan(found[3:9]).all()
    rows[3:9, [1, 4, 5]] = 0
    rest = np.r_[0:3, 9:12]
    np.testing.assert_allclose(found[rest], network.expected(rows)[rest], rtol=2e-6, atol=1e-6)


def test_small_probabilities_keep_their_digits(rng, tmp_path: Path) -> None:
    network = number_network(rng, tmp_path, tower_size=4)
    rows = number_rows(rng, 500) * 30
    expected = network.expected(rows)
    assert (expected < 1e-9).sum() > 20  # where ONNX's own Sigmoid says 0
    np.testing.assert_allclose(network.found(rows), expected, rtol=1e-4, atol=1e-37)


def test_names_of_outputs(rng, tmp_path: Path) -> None:
    names = ["features", "features_", "购买", "a b", "Gemm", "Gemm.1", "out.weight", "", "x\n\0"]
    outputs = ["features_", "features__", *names[2:7], "_", "x__"]
    assert output_names(names) == outputs
    network = number_network(rng, tmp_path, task_names=names)
    assert [output.name for output in network.session.get_outputs()] == outputs
    rows = number_rows(rng, 7)
    network.check(rows)
    (only,) = network.session.run(["购买"], {"features": rows})
    assert np.array_equal(only, network.found(rows)[:, 2])


def test_old_runtimes_read_it(rng, tmp_path: Path) -> None:
    model = shop_network(rng, tmp_path).onnx
    assert model.ir_version <= 7 and [entry.version for entry in model.opset_import] == [13]
    assert [
        (entry.domain, node.domain) for entry, node in zip(model.opset_import, model.graph.node)
    ]
    assert {node.domain for node in model.graph.node} == {""}


def test_both_wrappers_give_the_same_file(rng, tmp_path: Path) -> None:
    network = shop_network(rng, tmp_path)
    config = config_of(tmp_path, SHOP, piecewise_bins=9, bottom_size=[9, 5])
    state = {name: weight.numpy() for name, weight in network.net.state_dict().items()}
    model = StaticModel(config)
    made = model.onnx_model(model.scoring_weights(state))
    assert made.SerializeToString() == network.onnx.SerializeToString()


def test_it_runs_without_paddle(rng, tmp_path: Path) -> None:
    network = shop_network(rng, tmp_path)
    rows = shop_rows(rng, 20)["features"]
    onnx.save_model(network.onnx, str(tmp_path / "model.onnx"))
    np.save(tmp_path / "rows.npy", rows)
    code = WITHOUT.format(forbidden=("paddle", "onnx")) + RUN
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    assert np.array_equal(np.load(tmp_path / "found.npy"), network.found(rows))


def test_a_missing_package_is_named(rng, tmp_path: Path, monkeypatch) -> None:
    model = number_network(rng, tmp_path).model
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(onnx_network.MissingPackageError, match="python -m pip install onnx$"):
        model.onnx_model({})
    assert onnx_network.MissingPackageError.user_error
    assert "\nimport onnx" not in (ROOT / "onnx_network.py").read_text(encoding="utf-8")
