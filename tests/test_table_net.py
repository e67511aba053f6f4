"""Rows of a table in the network: their encoding, ids, blank labels, weights, regression tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from census_rows import columns_module, generate
from helpers import paddlerec_state
from paddle import static

from dygraph_model import DygraphModel
from hyper_parameters import ConfigError, HyperParameters
from paddlerec_weights import WeightsError, convert_state_dict
from raw_tables.schema import Column, Schema, load_schema
from static_model import StaticModel
from table_reader import RecDataset
from table_settings import NoSchemaError, schema_from

KINDS = ("none", "standard", "piecewise_linear")
GRAPHS = ("dygraph", "static")
Arrays = dict[str, np.ndarray]

SHOP = """
columns:
  - {name: age, kind: number, missing: true}
  - {name: city, kind: category, values: [Berlin, Lagos, Lima], other: true, missing: true}
  - {name: user, kind: id, buckets: 30, embedding: 4}
  - {name: price, kind: number}
  - {name: item, kind: id, buckets: 7, embedding: 2}
  - {name: day, kind: category, values: [mo, tu]}
  - {name: click, kind: label}
  - {name: buy, kind: label, missing: true}
  - {name: paid, kind: label, type: regression, missing: true}
  - {name: w, kind: weight}
"""


def config_of(folder: Path, text: str, **changes: Any) -> dict[str, Any]:
    """Flat config of a small network with a schema, or with none where its text is empty."""
    (folder / "schema.yaml").write_text(text, encoding="utf-8")
    small = {"schema": "schema.yaml" * bool(text), "bottom_size": 9, "tower_size": 5, **changes}
    hyper = {f"hyper_parameters.{name}": value for name, value in small.items()}
    return {"config_abs_dir": str(folder), "runner.epochs": 1, **hyper}


def shop_rows(rng: np.random.Generator, rows: int) -> Arrays:
    """Rows of :data:`SHOP` as its reader gives them."""
    numbers = rng.normal([40, 9], [9, 2], size=(rows, 2)).astype(np.float32)
    numbers[::5, 0] = np.nan
    numbers[1::7, 1] = np.nan
    sizes = (5, 4, 31, 8)  # city and day have codes for other and missing, ids one for missing
    codes = np.stack([rng.integers(0, size, rows) for size in sizes], axis=1)
    click = (numbers[:, 1] > 9) ^ (codes[:, 2] % 2 == 0)
    labels = np.stack([click, codes[:, 0] < 2, rng.normal(100, 20, rows)], axis=1)
    labels = labels.astype(np.float32)
    labels[~click, 1:] = np.nan
    features = np.concatenate([numbers, codes], axis=1).astype(np.float32)
    return {
        "features": features,
        "labels": labels,
        "weights": rng.integers(0, 3, rows).astype(np.float32),
    }


class Run:
    """A network on one graph, by the wrappers' hooks, as the tools call them.

    Args:
        graph: ``dygraph`` or ``static``.
        config: flat config.
        learnt: entries of the state dict to begin with.
    """

    def __init__(self, graph: str, config: Mapping[str, Any], learnt: Arrays | None = None) -> None:
        self.graph, self.config = graph, config
        self.is_static = graph == "static"
        self.settings = HyperParameters.from_config(config)
        paddle.seed(11)
        if not self.is_static:
            self.model: Any = DygraphModel()
            self.net = self.model.create_model(config)
            self.optimizer = self.model.create_optimizer(self.net, config)
        else:
            self._build()
        self.set_state(learnt or {})

    def _build(self) -> None:
        paddle.enable_static()
        try:
            self.model = StaticModel(self.config)
            self.main, startup = static.Program(), static.Program()
            with static.program_guard(self.main, startup), paddle.utils.unique_name.guard():
                tasks = self.settings.task_num
                feeds = [static.data("features", [None, self.settings.feature_size], "float32")]
                feeds.append(static.data("labels", [tasks, None, 1], "float32"))
                if self.settings.weighs_rows:
                    feeds.append(static.data("weights", [None, 1], "float32"))
                self.net = self.model.build_layer(True)
                encoded = self.model.encode(feeds[0])
                loss, odds = self.model.loss_and_log_odds(encoded, *feeds[1:])
                self.model.make_optimizer().minimize(loss)
            self.fetches = [encoded, loss, odds]
            self.scope, self.executor = static.Scope(), static.Executor(paddle.CPUPlace())
            with static.scope_guard(self.scope):
                self.executor.run(startup)
        finally:
            paddle.disable_static()

    def state(self) -> Arrays:
        """Copies of the weights, by name."""
        if not self.is_static:
            return {name: value.numpy().copy() for name, value in self.net.state_dict().items()}
        return {
            name: np.array(self.scope.find_var(w.name).get_tensor())
            for name, w in self.net.state_dict().items()
        }

    def set_state(self, state: Arrays) -> None:
        """Set some of the weights."""
        own = self.net.state_dict()
        for name, value in state.items():
            assert list(own[name].shape) == list(value.shape), name
            if self.is_static:
                found = self.scope.find_var(own[name].name).get_tensor()
                found.set(value.astype(np.float32), paddle.CPUPlace())
            else:
                own[name].set_value(value)

    def train(self, rows: Arrays, epochs: int = 1, batch: int = 64) -> list[float]:
        """Train without shuffling; the losses."""
        losses = []
        for step in range(epochs * -(-len(rows["labels"]) // batch)):
            start = step * batch % (-(-len(rows["labels"]) // batch) * batch)
            some = {name: value[start : start + batch] for name, value in rows.items()}
            losses.append(float(self._step(some)[1]))
        return losses

    def step(self, rows: Arrays) -> list[np.ndarray]:
        """Encoded rows, loss and what is predicted ``[T, N, 1]``, of a training step."""
        return self._step(rows)

    def _step(self, rows: Arrays) -> list[np.ndarray]:
        labels = np.ascontiguousarray(rows["labels"].T)[..., np.newaxis]
        weights = {"weights": rows["weights"][:, np.newaxis]} if self.settings.weighs_rows else {}
        if self.is_static:
            feed = {"features": rows["features"], "labels": labels, **weights}
            paddle.enable_static()
            try:
                with static.scope_guard(self.scope):
                    return self.executor.run(self.main, feed=feed, fetch_list=self.fetches)
            finally:
                paddle.disable_static()
        encoded = self.model.encode(self.net, paddle.to_tensor(rows["features"]))
        tensors = {name: paddle.to_tensor(value) for name, value in weights.items()}
        loss, odds = self.model.loss_and_log_odds(
            self.net, encoded, paddle.to_tensor(labels), self.config, **tensors
        )
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        return [encoded.numpy(), loss.numpy(), odds.numpy()]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """What the hook ``score_rows`` gives of the weights as they are ``[N, T]``."""
        weights = self.model.scoring_weights(self.state())
        tensors = {name: paddle.to_tensor(value) for name, value in weights.items()}
        return self.model.score_rows(paddle.to_tensor(features), tensors).numpy()


def census_schema() -> Schema:
    """UCI's own fields, in file order."""
    fixed = columns_module().read_columns()
    positive = {name: values[:1] for name, values in columns_module().LABELS.items()}
    columns = []
    for name in columns_module().RAW_FIELDS:
        if name in positive:
            columns.append(Column(name, "label", task=name, positive=positive[name]))
        elif name in fixed.numeric:
            columns.append(Column(name, "number"))
        else:
            columns.append(Column(name, "category", values=fixed.categories[name]))
    order = [*fixed.numeric, *fixed.onehot, "income_50k", "marital_stat"]
    return Schema(tuple(sorted(columns, key=lambda column: order.index(column.name))))


def census_rows(count: int) -> tuple[Arrays, Arrays]:
    """The same made-up rows of Census: as a table, and one-hot as ``prepare.py`` writes them."""
    fixed, raw = columns_module().read_columns(), columns_module().RAW_FIELDS
    rows = [dict(zip(raw, line.split(", "))) for line in generate(count)]
    positive = {name: values[0] for name, values in columns_module().LABELS.items()}
    names = ("income_50k", "marital_stat")
    labels = [[row[name] == positive[name] for name in names] for row in rows]
    numbers = [[float(row[name]) for name in fixed.numeric] for row in rows]
    codes = [[fixed.categories[n].index(row[n]) for n in fixed.onehot] for row in rows]
    onehot = [
        [row[n] == value for n in fixed.onehot for value in fixed.categories[n]] for row in rows
    ]
    labels = np.array(labels, np.float32)
    table = np.concatenate([numbers, codes], axis=1).astype(np.float32)
    prepared = np.concatenate([numbers, onehot], axis=1).astype(np.float32)
    return {"features": table, "labels": labels}, {"features": prepared, "labels": labels}


def yaml_of(schema: Schema) -> str:
    """A schema as its file has it: JSON, which YAML reads too."""
    tree = schema.as_dict()
    for column in tree["columns"]:
        for word in [word for word, value in column.items() if value == []]:
            del column[word]
    return json.dumps(tree)


@pytest.mark.parametrize("kind", ["standard", "piecewise_linear"])
def test_census_as_it_comes_is_encoded_and_trained_as_one_hot(kind: str, tmp_path: Path) -> None:
    table, prepared = census_rows(512)
    how = {"numeric_encoding": kind, "piecewise_bins": 24, "bottom_dropout": 0.1}
    theirs = config_of(tmp_path, "", **how)
    ours = config_of(tmp_path, yaml_of(census_schema()), **how)
    found = {}
    for name, config, rows in (("table", ours, table), ("prepared", theirs, prepared)):
        model = DygraphModel()
        blocks = [{k: v[:300] for k, v in rows.items()}, {k: v[300:] for k, v in rows.items()}]
        learnt = model.adapt_blocks(blocks, config)
        for graph in GRAPHS:
            run = Run(graph, config, learnt)
            encoded = run.step({k: v[:64] for k, v in rows.items()})[0]
            losses = run.train(rows, epochs=2)
            found[name, graph] = run.state(), losses, encoded, run.scores(rows["features"])
    assert found["table", "dygraph"][2].shape == (64, 499 + 24 * (kind == "piecewise_linear"))
    for graph in GRAPHS:
        state, losses, encoded, scores = found["table", graph]
        other = found["prepared", graph]
        np.testing.assert_array_equal(encoded, other[2])
        assert losses == other[1]
        trained = {name for name in state if not name.startswith("encoding.")}
        assert trained == {name for name in other[0] if not name.startswith("encoding.")}
        for name in trained:
            np.testing.assert_array_equal(state[name], other[0][name])
        np.testing.assert_allclose(scores, other[3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["table", "dygraph"][3], found["table", "static"][3], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_column_is_encoded_as_the_schema_says(kind: str, rng, tmp_path: Path) -> None:
    config = config_of(tmp_path, SHOP, numeric_encoding=kind, piecewise_bins=6)
    rows = shop_rows(rng, 200)
    rows["weights"][:] = 1
    learnt = DygraphModel().adapt_blocks([rows], config)
    numbers = rows["features"][:, :2].astype(np.float64)
    means = np.nanmean(numbers, axis=0)
    np.testing.assert_allclose(learnt["encoding.fill"], means, rtol=1e-6)
    known = np.where(np.isnan(numbers), means, numbers)
    if kind != "none":
        known = (known - means) / np.nanstd(numbers, axis=0)
    city, day = rows["features"][:, 2], rows["features"][:, 3]
    slots = [np.isnan(numbers[:, 0]), *(city == code for code in range(5)), day == 0, day == 1]
    for graph in GRAPHS:
        run = Run(graph, config, learnt)
        encoded = run.step(rows)[0]
        assert encoded.shape[1] == 2 + 8 + (6 if kind == "piecewise_linear" else 0) + 2
        np.testing.assert_allclose(encoded[:, :2], known, atol=1e-5)
        np.testing.assert_array_equal(encoded[:, 2:10], np.stack(slots, axis=1))
        np.testing.assert_array_equal(encoded[:, -2:], rows["features"][:, -2:])
        assert np.isfinite(encoded).all()
        columns, values = run.model.encode_columns(rows["features"], learnt)
        np.testing.assert_array_equal(columns, np.arange(encoded.shape[1]))
        np.testing.assert_array_equal(values, encoded)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_scored_as_the_network_predicts(
    graph: str, kind: str, rng, tmp_path: Path
) -> None:
    config = config_of(tmp_path, SHOP, numeric_encoding=kind, piecewise_bins=6)
    rows = shop_rows(rng, 200)
    run = Run(graph, config, DygraphModel().adapt_blocks([rows], config))
    run.train(rows, epochs=3)
    scores = run.scores(rows["features"])
    predicted = run.step(rows)[2][..., 0].T
    np.testing.assert_allclose(scores, predicted, rtol=1e-4, atol=1e-4)
    if kind != "none":
        assert 50 < scores[:, 2].mean() < 150  # in its own unit


@pytest.mark.parametrize("columns", ["number", "category", "id"])
def test_a_table_of_one_kind_of_columns(columns: str, rng, tmp_path: Path) -> None:
    of_kind = {
        "number": "{name: a, kind: number}",
        "category": "{name: a, kind: category, values: [x, y]}",
        "id": "{name: a, kind: id, buckets: 3, embedding: 2}",
    }
    text = f"columns: [{of_kind[columns]}, {{name: y, kind: label}}]"
    config = config_of(tmp_path, text, numeric_encoding="piecewise_linear", id_dropout=0.2)
    rows = {
        "features": rng.integers(0, 4, size=(50, 1)).astype(np.float32),
        "labels": rng.integers(0, 2, size=(50, 1)).astype(np.float32),
    }
    learnt = DygraphModel().adapt_blocks([rows], config)
    both = [Run(graph, config, learnt) for graph in GRAPHS]
    losses = [run.train(rows, epochs=3) for run in both]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(*(run.scores(rows["features"]) for run in both), atol=1e-4)


@pytest.mark.parametrize("graph", GRAPHS)
def test_ids_learn_what_their_rows_share(graph: str, rng, tmp_path: Path) -> None:
    config = config_of(tmp_path, SHOP, **{"optimizer.learning_rate": 0.02})
    rows = shop_rows(rng, 600)
    run = Run(graph, config, DygraphModel().adapt_blocks([rows], config))
    unseen = rows["features"][:, 4] == 11
    seen = {name: value[~unseen] for name, value in rows.items()}
    run.train(seen, epochs=30)
    state = run.state()
    assert state["embedding.0.weight"].shape == (31, 4)
    assert state["embedding.1.weight"].shape == (8, 2)
    assert not state["embedding.0.weight"][11].any()  # no row was of it
    assert state["embedding.0.weight"][30].any()  # missing is learnt as any other
    clicked = seen["labels"][:, 0] == 1
    odds = run.scores(seen["features"])[:, 0]
    assert ((odds > 0) == clicked).mean() > 0.85  # by the parity of an id


def test_dropped_ids_are_dropped_alike_and_only_in_training(rng, tmp_path: Path) -> None:
    config = config_of(tmp_path, SHOP, id_dropout=0.5)
    rows = shop_rows(rng, 64)
    learnt = DygraphModel().adapt_blocks([rows], config)
    learnt["embedding.0.weight"] = rng.normal(5, 1, size=(31, 4)).astype(np.float32)
    runs = [Run(graph, config, learnt) for graph in GRAPHS]
    start = runs[0].state()
    found = []
    for run in runs:
        run.set_state(start)
        paddle.seed(5)
        found.append(run.step(rows)[2])
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)
    runs[0].set_state(start)
    scores = runs[0].scores(rows["features"])
    assert not np.allclose(scores, found[0][..., 0].T, atol=1e-3)
    np.testing.assert_array_equal(scores, runs[0].scores(rows["features"]))


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_task_without_a_known_label_gives_its_tower_no_gradient(
    graph: str, rng, tmp_path: Path
) -> None:
    config = config_of(tmp_path, SHOP, **{"optimizer.class": "sgd"})
    rows = shop_rows(rng, 64)
    run = Run(graph, config, DygraphModel().adapt_blocks([rows], config))
    before = run.state()
    rows["labels"][:, 1] = np.nan
    run.train(rows, epochs=4)
    after = run.state()
    own = run.model.weights_of_task(1)
    assert own.keys() == {"tower.0.weight", "tower.0.bias", "out.weight", "out.bias"}
    for name, index in own.items():
        np.testing.assert_array_equal(after[name][index], before[name][index])
        assert (after[name][0] != before[name][0]).any()
        assert (after[name][2] != before[name][2]).any()


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_weight_of_two_trains_as_a_row_given_twice(graph: str, rng, tmp_path: Path) -> None:
    config = config_of(tmp_path, SHOP, **{"optimizer.class": "sgd", "optimizer.learning_rate": 0.1})
    rows = shop_rows(rng, 80)
    learnt = DygraphModel().adapt_blocks([rows], config)
    weighed = Run(graph, config, learnt)
    start = weighed.state()
    losses = weighed.train(rows, epochs=5, batch=80)
    times = rows["weights"].astype(int)
    twice = {name: np.repeat(value, times, axis=0) for name, value in rows.items()}
    twice["weights"] = np.ones(times.sum(), np.float32)
    repeated = Run(graph, config, start)
    np.testing.assert_allclose(losses, repeated.train(twice, 5, times.sum()), rtol=1e-4)
    other = repeated.state()
    for name, value in weighed.state().items():
        np.testing.assert_allclose(value, other[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("bins", [6, 500])
def test_a_weight_of_two_is_learnt_from_as_a_row_given_twice(
    bins: int, rng, tmp_path: Path
) -> None:
    how = {"numeric_encoding": "piecewise_linear", "piecewise_bins": bins}
    config = config_of(tmp_path, SHOP, **how)
    rows = shop_rows(rng, 300)
    rows["features"][:70, 0] = rng.integers(0, 2, 70)  # more than 0 and 1 comes later
    rows["features"][rng.random(300) < 0.3, 1] = 2.5  # a value that fills more than a tenth
    rows["features"][rows["weights"] == 0, :2] = 1e30
    rows["labels"][rows["weights"] == 0, 2] = 1e30
    times = rows["weights"].astype(int)
    twice = {name: np.repeat(value, times, axis=0) for name, value in rows.items()}
    twice["weights"] = np.ones(times.sum(), np.float32)
    pieces = [{k: v[a : a + 50] for k, v in rows.items()} for a in range(0, 300, 50)]
    less = [{**piece, "weights": piece["weights"] / 8} for piece in pieces]
    expected = DygraphModel().adapt_blocks([twice], config)
    for blocks in (pieces, less):
        learnt = DygraphModel().adapt_blocks(blocks, config)
        assert learnt.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(learnt[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_targets_are_learnt_from_known_labels(rng, tmp_path: Path) -> None:
    rows = shop_rows(rng, 300)
    del rows["weights"]
    pieces = [{k: v[:100] for k, v in rows.items()}, {k: v[100:] for k, v in rows.items()}]
    learnt = DygraphModel().adapt_blocks(pieces, config_of(tmp_path, SHOP))
    paid = rows["labels"][:, 2].astype(np.float64)
    np.testing.assert_allclose(learnt["target.mean"], [0, 0, np.nanmean(paid)], rtol=1e-6)
    np.testing.assert_allclose(learnt["target.std"], [1, 1, np.nanstd(paid)], rtol=1e-5)
    rows["labels"][:, 2] = 7
    assert DygraphModel().adapt_blocks([rows], config_of(tmp_path, SHOP))["target.std"][2] == 1


def test_rows_of_numbers_may_have_such_labels_too(rng) -> None:
    config = {
        "hyper_parameters.feature_size": 3,
        "hyper_parameters.task_names": ["click", "paid"],
        "hyper_parameters.task_types": ["binary", "regression"],
        "hyper_parameters.blank_labels": True,
        "hyper_parameters.weight_column": 2,
        "hyper_parameters.positive_weight": [4, 1],
    }
    rows = {
        "features": rng.normal(size=(40, 3)).astype(np.float32),
        "labels": np.stack([rng.integers(0, 2, 40), rng.normal(9, 3, 40)], 1).astype(np.float32),
        "weights": rng.random(40).astype(np.float32),
    }
    rows["labels"][::3, 1] = np.nan
    model = DygraphModel()
    assert model.task_names(config) == ("click", "paid")
    assert model.task_types(config) == ("binary", "regression")
    assert model.weighs_rows(config) is True
    learnt = model.adapt_blocks([rows], config)
    both = [Run(graph, config, learnt) for graph in GRAPHS]
    losses = [run.train(rows, epochs=20) for run in both]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_plain_settings_ask_for_nothing_new() -> None:
    model = DygraphModel()
    assert model.task_types({}) == ("binary", "binary")
    assert model.weighs_rows({}) is False
    net = model.create_model({})
    kinds = {name.split(".")[0] for name in net.state_dict()}
    assert kinds == {"encoding", "bottom", "tower", "out"}


def refused(folder: Path, text: str = SHOP, **changes: Any) -> str:
    """The sentence that settings at odds are refused with."""
    with pytest.raises(ConfigError) as caught:
        HyperParameters.from_config(config_of(folder, text, **changes))
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "agrees", "differs"),
    [
        ("feature_size", 6, 7),
        ("task_num", 3, 2),
        ("task_names", ["click", "buy", "paid"], ["buy", "click", "paid"]),
        ("task_types", ["binary", "binary", "regression"], ["binary", "binary", "binary"]),
        ("label_columns", ["click", 7, "paid"], [0, 1, 2]),
        ("weight_column", "w", "age"),
        ("ignored_columns", [], ["age"]),
        ("feature_columns", ["age", "price", "city", "day", "user", "item"], ["age"]),
        ("blank_labels", True, False),
    ],
)
def test_what_the_schema_decides_is_not_decided_twice(
    key: str, agrees: Any, differs: Any, tmp_path: Path
) -> None:
    settings = HyperParameters.from_config(config_of(tmp_path, SHOP, **{key: agrees}))
    assert settings == HyperParameters.from_config(config_of(tmp_path, SHOP))
    message = refused(tmp_path, **{key: differs})
    assert message.startswith(f"hyper_parameters.{key} should be left out, or be ")
    assert message.endswith(f"as in the schema, got {differs!r}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"positive_weight": [1, 2]},
            "positive_weight should have one per task (3), got [1.0",
        ),
        ({"positive_weight": [1, 2, 3]}, "positive_weight should be 1 for a regression task"),
        ({"positive_weight": [0, 1, 1]}, "positive_weight should be positive"),
        ({"id_dropout": 1}, "id_dropout should lie in [0, 1)"),
        ({"schema": 7}, "schema should be of type str, got 7"),
        ({"blank_labels": "yes"}, "blank_labels should be of type bool, got 'yes'"),
        ({"task_types": ["binary", "ranking"]}, "task_types should list only binary, regression"),
    ],
)
def test_a_setting_that_cannot_be(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert f"hyper_parameters.{expected}" in refused(tmp_path, **changes)


def test_a_network_of_too_many_vectors_is_refused(tmp_path: Path) -> None:
    text = SHOP.replace("buckets: 30, embedding: 4", "buckets: 10000000, embedding: 4096")
    with pytest.raises(ConfigError, match="expected at most"):
        DygraphModel().create_model(config_of(tmp_path, text))


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys by which a resume tells two configs apart."""
    was, is_now = (DygraphModel.resolved_settings(config) for config in (then, now))
    return sorted(key for key in was.keys() & is_now.keys() if was[key] != is_now[key])


def test_a_resume_compares_what_the_schema_says(tmp_path: Path) -> None:
    for name in ("then", "now"):
        (tmp_path / name).mkdir()
    then = config_of(tmp_path / "then", SHOP)
    moved = config_of(tmp_path / "now", SHOP + "\n# the same elsewhere\n")
    assert differing(then, {**moved, "hyper_parameters.schema": "./schema.yaml"}) == []
    changed = config_of(tmp_path / "now", SHOP.replace("Lagos", "Oslo"))
    assert differing(then, changed) == ["columns.city.values"]
    fewer = config_of(tmp_path / "now", SHOP.replace("buckets: 30", "buckets: 31"))
    assert differing(then, fewer) == ["columns.user.buckets"]
    without = "\n".join(line for line in SHOP.splitlines() if "item" not in line)
    assert differing(then, config_of(tmp_path / "now", without))[0] == "columns.names"


def test_the_schema_that_a_run_has_kept_stands_for_its_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, SHOP)
    schema = load_schema(tmp_path / "schema.yaml")
    kept = json.loads(json.dumps({"schema": schema.as_dict(), "checksum": schema.checksum}))
    assert schema_from(kept["schema"]).as_dict() == schema.as_dict()
    (tmp_path / "schema.yaml").unlink()
    settings = HyperParameters.from_config({**config, "columns": kept})
    assert settings.table == schema_from(kept["schema"])
    number, label = ({"name": name, "kind": name} for name in ("number", "label"))
    apart = ([number, label, label], [number], [label], [{**number, "name": "label"}, label])
    broken = [{}, [], None, {"columns": [{"name": "a"}]}, {"columns": 7}]
    for schema in (*broken, *({"columns": columns} for columns in apart)):
        with pytest.raises(NoSchemaError):
            schema_from(schema)
    assert schema_from({"columns": [number, label]}).task_names == ("label",)


def test_paddlerec_weights_do_not_fit_a_table(rng, tmp_path: Path) -> None:
    settings = HyperParameters.from_config(config_of(tmp_path, SHOP))
    with pytest.raises(WeightsError, match="rows of numbers.*schema"):
        convert_state_dict(paddlerec_state(rng, 6, 3, 9, 5), settings)
    own = Run("dygraph", config_of(tmp_path, SHOP)).state()
    assert convert_state_dict(own, settings).keys() == own.keys()


class ShopFiles:
    """A file of :data:`SHOP`, and its config."""

    def __init__(self, folder: Path, rng: np.random.Generator, rows: int = 96) -> None:
        names = ("age", "city", "user", "price", "item", "day", "click", "buy", "paid", "w")
        lines = [",".join(names)]
        for _ in range(rows):
            click = int(rng.integers(2))
            age = "" if rng.random() < 0.2 else str(rng.integers(18, 80))
            cells = [age, rng.choice(["Berlin", "Lagos", "Oslo", ""]), f"u{rng.integers(40)}"]
            cells += [f"{rng.normal(9, 2):.3f}", f"i{rng.integers(9)}", rng.choice(["mo", "tu"])]
            paid = f"{rng.normal(100, 20):.2f}" if click else ""
            cells += [str(click), str(rng.integers(2)) if click else "", paid]
            lines.append(",".join([*map(str, cells), f"{rng.random():.3f}"]))
        (folder / "rows").mkdir()
        (folder / "rows" / "shop.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.config = {
            **config_of(folder, SHOP),
            "runner.train_data_dir": "rows",
            "runner.train_reader_path": "table_reader",
        }
        self.dataset = RecDataset([str(folder / "rows" / "shop.csv")], self.config)

    def batches(self) -> list[list[paddle.Tensor]]:
        """Batches as PaddleRec's tools have them made."""
        loader = paddle.io.DataLoader(self.dataset, batch_size=32, drop_last=True)
        return [batch for batch in loader]  # noqa: C416 - it has no length, which list() asks for


def test_paddlerec_trains_a_table_on_the_eager_graph(rng, tmp_path: Path) -> None:
    shop = ShopFiles(tmp_path, rng)
    model = DygraphModel()
    net = model.create_model(shop.config)
    optimizer = model.create_optimizer(net, shop.config)
    metrics, names = model.create_metrics()
    assert names == ["auc_click", "auc_buy"]
    with pytest.warns(UserWarning, match="input statistics are learnt from rows"):
        for batch in shop.batches():
            loss, metrics, values = model.train_forward(net, metrics, batch, shop.config)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
    assert np.isfinite(float(values["loss"]))
    block = next(iter(shop.dataset.blocks()))
    known = ~np.isnan(block["labels"][:, 2])
    paid = np.average(block["labels"][known, 2], weights=block["weights"][known])
    np.testing.assert_allclose(net.target.mean.numpy()[2], paid, rtol=1e-6)
    assert all(0 < metric.accumulate() < 1 for metric in metrics)
    net.eval()
    metrics, _ = model.create_metrics()
    for batch in shop.batches():
        metrics, _ = model.infer_forward(net, metrics, batch, shop.config)
    known = ~np.isnan(block["labels"][:, 1])
    buy = block["labels"][known, 1]
    odds = net.log_odds(net.encoding(paddle.to_tensor(block["features"]))).numpy()
    positive, negative = odds[1][known][buy == 1], odds[1][known][buy == 0]
    assert metrics[1].accumulate() == pytest.approx((positive > negative.T).mean(), abs=0.02)


@pytest.mark.parametrize("representation", ["new", "old"])
def test_paddlerec_trains_a_table_on_the_static_graph(
    representation: str, rng, tmp_path: Path
) -> None:
    shop = ShopFiles(tmp_path, rng)
    two = hasattr(getattr(paddle, "pir_utils", None), "OldIrGuard")  # not in Paddle 2.6
    old = representation == "old" and two
    guard = paddle.pir_utils.OldIrGuard() if old else nullcontext()
    batches = [[np.asarray(array) for array in batch] for batch in shop.batches()]
    batches.append([batches[0][0], batches[0][1], np.full((32, 1), np.nan, "f4"), *batches[0][3:]])
    paddle.enable_static()
    try:
        with guard, static.scope_guard(static.Scope()):
            training, scoring, startup = (static.Program() for _ in range(3))
            executor = static.Executor(paddle.CPUPlace())
            with static.program_guard(training, startup), paddle.utils.unique_name.guard():
                model = StaticModel(shop.config)
                feeds = model.create_feeds()
                with pytest.warns(UserWarning, match="input statistics are learnt from rows"):
                    fetches = model.net(feeds)
                model.create_optimizer()
            executor.run(startup)
            names = [feed.name for feed in feeds]
            assert names == "features label_click label_buy label_paid weight".split()
            aucs = []
            for batch in batches:
                feed = dict(zip(names, batch))
                found = executor.run(training, feed=feed, fetch_list=list(fetches.values()))
                assert np.isfinite(found[0]).all()
                aucs.append(float(found[2]))
            assert list(fetches) == ["cost", "auc_click", "auc_buy"]
            if old:  # the new representation forgets earlier batches
                assert 0 < aucs[-2] < 1
            with static.program_guard(scoring, startup), paddle.utils.unique_name.guard():
                model = StaticModel(shop.config)
                fetches = model.infer_net(model.create_feeds(is_infer=True))
            found = executor.run(scoring, feed=feed, fetch_list=list(fetches.values()))
            named = dict(zip(fetches, found))
            predictions = ("probability_click", "probability_buy", "prediction_paid")
            assert named.keys() == {"cost", "auc_click", "auc_buy", *predictions}
            assert {named[name].shape for name in predictions} == {(32,)}
            assert 0 < named["probability_buy"].min() < named["probability_buy"].max() < 1
            assert 50 < named["prediction_paid"].mean() < 150
    finally:
        paddle.disable_static()
