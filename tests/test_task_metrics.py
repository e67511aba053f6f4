"""Metrics of labels as they are in life: blank, weighed, grouped, regressions; by scikit-learn."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from sklearn import metrics as sklearn

from rec_runner.loop.monitor import Monitor
from rec_runner.metrics import rows as rows_module
from rec_runner.metrics.auc import probability
from rec_runner.metrics.regression import RunningErrors
from rec_runner.metrics.rows import Rows, RowStore
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.report.predictions import write_predictions
from rec_runner.report.report import Report, show
from rec_runner.system.errors import UserError

NAMES, TYPES = ["click", "buy", "paid"], ["binary", "binary", "regression"]
ALL = slice(None)


class Shop:
    """Rows with every trait: ``buy`` blank unless ``click``, ``paid`` unless ``buy``.

    Args:
        rng: where they come from.
        rows: how many.
        weights: what rows weigh: None, or by name of a way.
        groups: of how many groups; 0 for no groups.
    """

    def __init__(
        self, rng: np.random.Generator, rows: int, weights: str | None = "any", groups: int = 40
    ) -> None:
        hidden = rng.normal(size=(rows, 3))
        click, buy = hidden[:, 0] > 0.2, hidden[:, 1] > 0.5
        labels = np.stack([click, buy, 30 + 7 * hidden[:, 2]], axis=1).astype(np.float32)
        labels[~click, 1] = np.nan
        labels[~(click & buy), 2] = np.nan
        self.labels = labels
        scores = hidden + rng.normal(size=hidden.shape)
        scores[:, 2] = 30 + 4 * scores[:, 2]
        self.scores = np.round(scores, 1).astype(np.float32)  # so that some tie
        drawn = {
            "any": rng.exponential(size=rows),
            "some zero": rng.integers(0, 4, rows),
            "far apart": 10.0 ** rng.uniform(-12, 12, rows),
        }
        self.weights = None if weights is None else drawn[weights].astype(np.float32)
        ids = rng.integers(-(2**63), 2**63 - 1, max(groups, 1), np.int64)
        self.groups = rng.choice(ids, rows) if groups else None

    def arrays(self, rows: slice = ALL) -> tuple[Any, ...]:
        """What ``update`` takes, of some rows."""
        arrays = (self.labels, self.scores, self.weights, self.groups)
        return tuple(None if array is None else array[rows] for array in arrays)

    def metrics(self, batch: int | None = None, types: Any = TYPES) -> TaskMetrics:
        """Metrics of all rows, added a batch at a time."""
        found = TaskMetrics(NAMES, types)
        for start in range(0, len(self.labels), batch or len(self.labels)):
            found.update(*self.arrays(slice(start, start + (batch or len(self.labels)))))
        return found


def judged(shop: Shop, end: int | None = None) -> dict[str, float]:
    """What scikit-learn says of the first rows."""
    found: dict[str, float] = {}
    labels, scores, weights, groups = shop.arrays(slice(end))
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    for task, name in enumerate(NAMES):
        known = ~np.isnan(labels[:, task]) & (weights > 0)
        y, p, w = labels[known, task], scores[known, task].astype(np.float64), weights[known]
        if TYPES[task] == "binary":
            found[f"auc_{name}"] = sklearn.roc_auc_score(y, p, sample_weight=w)
            found[f"logloss_{name}"] = sklearn.log_loss(y, probability(p), sample_weight=w)
            if groups is not None:
                aucs, sums, left_out = [], [], 0
                for group in np.unique(groups[known]):
                    here = groups[known] == group
                    if len(set(y[here])) < 2:
                        left_out += 1
                        continue
                    aucs.append(sklearn.roc_auc_score(y[here], p[here], sample_weight=w[here]))
                    sums.append(w[here].sum())
                found[f"gauc_{name}"] = np.average(aucs, weights=sums)
                found[f"left_out_groups_{name}"] = left_out
        else:
            found[f"mse_{name}"] = sklearn.mean_squared_error(y, p, sample_weight=w)
            found[f"mae_{name}"] = sklearn.mean_absolute_error(y, p, sample_weight=w)
            found[f"r2_{name}"] = sklearn.r2_score(y, p, sample_weight=w)
        found[f"rows_{name}"] = np.count_nonzero(~np.isnan(labels[:, task]))
    return found


@pytest.mark.parametrize("groups", [0, 1, 40, 700])
@pytest.mark.parametrize("weights", [None, "any", "some zero", "far apart"])
def test_metrics_are_those_of_scikit_learn_on_known_rows(rng, weights, groups: int) -> None:
    shop = Shop(rng, 2000, weights, groups)
    ours, expected = shop.metrics(batch=300).result(), judged(shop)
    assert {k: pytest.approx(v, rel=1e-9, abs=1e-9) for k, v in expected.items()} == ours
    kinds = list(dict.fromkeys(name[: name.rindex("_")] for name in ours))
    gauc = ["gauc"] if groups else []
    assert kinds == [
        "auc",
        "logloss",
        *gauc,
        "mse",
        "mae",
        "r2",
        "rows",
        *(["left_out_groups"] if gauc else []),
    ]


@pytest.mark.parametrize("weights", [None, "any", "some zero", "far apart"])
def test_running_values_are_those_of_all_rows_so_far(rng, weights) -> None:
    shop = Shop(rng, 3000, weights, groups=5)
    metrics, lines = TaskMetrics(NAMES, TYPES), [100, 101, 140, 900, 2990, 3000]
    kinds = ("auc", "mse", "mae", "r2")
    for start, end in zip([0, *lines], lines):
        for first in range(start, end, 50):
            metrics.update(*shop.arrays(slice(first, min(first + 50, end))))
        running, expected = metrics.running(), judged(shop, end)
        expected = {k: v for k, v in expected.items() if k.split("_")[0] in kinds}
        assert {k: pytest.approx(v, rel=1e-9, abs=1e-9) for k, v in expected.items()} == running


@pytest.mark.parametrize("reads", [False, True], ids=["quiet", "read"])
def test_what_is_rewound_is_forgotten_and_a_checkpoint_gone_on_from(rng, reads: bool) -> None:
    shop = Shop(rng, 900, "any", 7)
    metrics = TaskMetrics(NAMES, TYPES)
    metrics.update(*shop.arrays(slice(0, 300)))
    metrics.running()
    mark = metrics.mark()
    metrics.update(*shop.arrays(slice(300, 600)))
    if reads:
        metrics.running()
    metrics.rewind(mark)
    metrics.update(*shop.arrays(slice(600, 900)))
    later = TaskMetrics(NAMES, TYPES)
    later.load_state_dict(metrics.state_dict(), rows=600)
    kept = Shop(rng, 1)
    kept.labels, kept.scores, kept.weights, kept.groups = (
        np.delete(array, np.s_[300:600], axis=0) for array in shop.arrays()
    )
    expected = kept.metrics().result()
    assert metrics.result() == later.result() == expected
    for running in (metrics.running(), later.running()):
        assert running == {k: pytest.approx(expected[k], abs=1e-9) for k in running}
    last = later.last_batch(20)
    assert sorted(last) == ["groups", "labels", "log_odds", "weights"]
    np.testing.assert_array_equal(last["labels"], kept.labels[-20:])
    np.testing.assert_array_equal(last["weights"], kept.weights[-20:])


def test_weights_of_two_are_a_row_given_twice(rng) -> None:
    shop = Shop(rng, 500, "some zero", 9)
    times = shop.weights.astype(int)
    twice = Shop(rng, 1)
    twice.labels, twice.scores, _, twice.groups = (
        np.repeat(array, times, axis=0) for array in shop.arrays()
    )
    twice.weights = None
    weighed, repeated = shop.metrics().result(), twice.metrics().result()
    assert any(times == 0) and any(times == 2)
    for name in weighed.keys() - {f"rows_{name}" for name in NAMES}:
        assert weighed[name] == pytest.approx(repeated[name], abs=1e-9), name


def test_plain_rows_give_what_they_gave_and_hold_what_they_held(rng) -> None:
    """No count of rows, one byte a label, four a score; weights of one change no AUC."""
    shop = Shop(rng, 1_000_000, None, 0)
    shop.labels = np.nan_to_num(shop.labels) > 0.5
    shop.scores = shop.scores.astype(np.float32)
    names = [f"{kind}_{name}" for kind in ("auc", "logloss") for name in NAMES]
    tracemalloc.start()
    metrics = shop.metrics(types=None)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1.01 * len(shop.labels) * 3  # the scores are the engine's own
    assert metrics.state_dict()["labels"].dtype == np.bool_
    plain = metrics.result()
    assert list(plain) == names and list(metrics.running()) == names[:3]
    shop.weights = np.ones(len(shop.labels), np.float32)
    assert shop.metrics(types=None).result() == pytest.approx(plain, rel=1e-12)


def test_what_cannot_be_told_is_undefined() -> None:
    metrics = TaskMetrics(NAMES, TYPES)
    blank = np.full((4, 3), np.nan, np.float32)
    scores, weights, groups = np.ones((4, 3), np.float32), np.ones(4), np.arange(4)
    metrics.update(blank, scores, weights, groups)
    kinds = {"auc", "logloss", "gauc", "mse", "mae", "r2"}
    found = metrics.result()
    assert {k: v for k, v in found.items() if k.split("_")[0] in kinds} == dict.fromkeys(
        metrics.possible_names()
    )
    assert [found[f"rows_{name}"] for name in NAMES] == [0, 0, 0]
    assert set(metrics.running().values()) == {None}

    rows = TaskMetrics(NAMES, TYPES)
    labels = np.array([[0, 0, 0.1], [1, 1, 0.1], [1, 0, 0.1]], np.float32)
    rows.update(labels, np.ones((3, 3), np.float32), np.array([1.0, 0.0, 1.0]), np.array([5, 5, 6]))
    found = rows.result()
    assert found["auc_click"] == 0.5 and found["gauc_click"] is None
    assert found["auc_buy"] is None and found["r2_paid"] is None  # all the same: no variance
    assert found["mae_paid"] == pytest.approx(0.9) and found["left_out_groups_click"] == 2
    assert "rows_click" not in found

    running = RunningErrors()  # whose spread of rounding is not 0
    running.add(np.full(3, 7.7), np.ones(3), np.array([0.1, 0.55, 1.0]))
    assert running.values()["r2"] is None


def test_a_row_that_weighs_nothing_does_not_count_however_wrong() -> None:
    metrics, inf = TaskMetrics(["a"]), np.float32(np.inf)
    scores = np.array([[-inf], [1], [-1]], np.float32)
    metrics.update(np.array([[1], [1], [0]], np.float32), scores, np.array([0.0, 1.0, 2.0]))
    expected = {"auc_a": 1.0, "logloss_a": pytest.approx(np.log1p(np.exp(-1)))}
    assert metrics.result() == expected


def test_weighed_rows_may_come_after_a_checkpoint_without_any() -> None:
    metrics = TaskMetrics(["a"])
    metrics.load_state_dict(TaskMetrics(["a"]).state_dict(), rows=0)
    metrics.update(np.ones((2, 1)), np.ones((2, 1), np.float32), np.ones(2), np.ones(2, np.int64))
    assert metrics.result()["left_out_groups_a"] == 1


def test_running_weighted_auc_is_quick(rng) -> None:
    """Five hundred lines over 200,000 rows take hardly longer than some sorts of all of them."""
    shop = Shop(rng, 200_000, "any", 0)
    metrics, start = TaskMetrics(NAMES, TYPES), time.process_time()
    for first in range(0, 200_000, 400):
        metrics.update(*shop.arrays(slice(first, first + 400)))
        metrics.running()
    assert time.process_time() - start < 5  # all again for each line would be 100 times as long
    assert metrics.running()["auc_buy"] == pytest.approx(judged(shop)["auc_buy"], abs=1e-9)
    assert (
        len(metrics._running[0]._negatives) < 12
    )  # else each line would take longer than the last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": np.zeros((2, 2))}, "names 3 tasks"),
        ({"weights": np.ones(3)}, "weights of shape [2]"),
        ({"groups": np.ones((2, 1), np.int64)}, "groups of shape [2]"),
        ({"weights": np.array([1.0, -1.0])}, "negative"),
        ({"weights": np.array([1.0, np.nan])}, "finite"),
    ],
)
def test_rows_of_another_shape_are_refused(arguments: dict[str, Any], said: str) -> None:
    metrics = TaskMetrics(NAMES, TYPES)
    good = {"labels": np.zeros((2, 3)), "log_odds": np.zeros((2, 3), np.float32)}
    with pytest.raises(UserError) as caught:
        metrics.update(**{**good, **arguments})
    assert said in str(caught.value)


def test_types_and_weights_that_do_not_fit_are_refused() -> None:
    for types in (["binary"], ["binary", "binary", "ranking"]):
        with pytest.raises(UserError, match="task_types"):
            TaskMetrics(NAMES, types)
    metrics = TaskMetrics(["a"])
    rows = np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)
    metrics.update(*rows)
    with pytest.raises(UserError, match="weights with some rows and none with others"):
        metrics.update(*rows, weights=np.ones(2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", np.full((5, 3), 0.5, np.float32)),
        ("labels", np.full((5, 3), np.inf, np.float32)),
        ("labels", np.zeros((5, 3), np.float64)),
        ("labels", np.zeros((5, 2), np.float32)),
        ("labels", np.zeros((4, 3), np.float32)),
        ("log_odds", np.full((5, 3), np.nan, np.float32)),
        ("weights", np.full(5, -1.0)),
        ("weights", np.full(5, np.nan)),
        ("weights", np.ones(4)),
        ("weights", np.ones(5, np.int64)),
        ("weights", None),
        ("groups", np.ones(5)),
        ("groups", np.ones((5, 1), np.int64)),
        ("groups", "text"),
    ],
)
def test_a_strangers_state_is_refused(rng, name: str, value: Any) -> None:
    shop = Shop(rng, 5)
    state = {**shop.metrics().state_dict(), name: value}
    with pytest.raises((ValueError, UserError)):
        TaskMetrics(NAMES, TYPES).load_state_dict(state, rows=5)


def record_of(metrics: TaskMetrics, epoch: int = 0) -> dict[str, Any]:
    """A validation record as ``Meter`` makes it."""
    head = {"phase": "valid", "graph": "dygraph", "epoch": epoch}
    return {**head, **metrics.result(), "rows": 9, "seconds": 0.1, "rows_per_second": 90.0}


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("auc", False),
        ("gauc", False),
        ("logloss", True),
        ("mse", True),
        ("mae", True),
        ("r2", False),
    ],
)
def test_monitor_knows_kinds_and_tasks_and_their_direction(rng, name: str, lower: bool) -> None:
    metrics = Shop(rng, 300).metrics()
    record = record_of(metrics)
    of_tasks = [key for key in record if key.startswith(f"{name}_")]
    monitor = Monitor(name, metrics)
    monitor.check()
    value = monitor.value(record)
    assert value == pytest.approx(np.mean([record[key] for key in of_tasks]))
    assert (
        monitor.is_better(record, value + 1) == lower == (not monitor.is_better(record, value - 1))
    )
    for key in of_tasks:
        Monitor(key, metrics).check()
        assert Monitor(key, metrics).value(record) == record[key]
        assert metrics.lower_is_better(key) == lower


def test_monitors_default_and_what_there_is_not(rng) -> None:
    paid = TaskMetrics(["paid", "spent"], ["regression"] * 2)
    assert (
        Monitor(None, paid).text == "r2" and Monitor(None, TaskMetrics(NAMES, TYPES)).text == "auc"
    )
    assert Monitor(None, TaskMetrics(["a"])).text == "auc"
    for name, metrics in (("auc", paid), ("rows", paid), ("loss", paid), ("mse_click", paid)):
        with pytest.raises(UserError) as caught:
            Monitor(name, metrics).check()
        assert str(caught.value) == (
            f"runner.monitor: validation gives no {name}; "
            "it gives mse_paid, mse_spent, mae_paid, mae_spent, r2_paid, r2_spent"
        )
    shop = Shop(rng, 50, None, groups=0)
    with pytest.raises(UserError, match="gives no gauc, for which rows need groups; it gives auc_"):
        Monitor("gauc", shop.metrics()).value(record_of(shop.metrics()))
    with pytest.raises(UserError, match="gives no rows_buy"):
        Monitor("rows_buy", shop.metrics()).value(record_of(shop.metrics()))


def test_lines_show_metrics_and_what_was_counted(rng, tmp_path: Path, capsys) -> None:
    report = Report(tmp_path / "metrics.jsonl")
    record = record_of(Shop(rng, 300).metrics())
    report.epoch_line(record)
    line = capsys.readouterr().out
    for name in ("gauc_click", "r2_paid"):
        assert f"{name}: {record[name]:.6f}" in line
    for name in ("rows_buy", "left_out_groups_buy"):
        assert f"{name}: {record[name]}," in line
    report.summary()
    head = capsys.readouterr().out.splitlines()[0].split()
    assert (
        "gauc_buy" in head
        and "mae_paid" in head
        and not {"rows_buy", "left_out_groups_buy"} & {*head}
    )


def test_predictions_leave_blank_labels_empty(rng, tmp_path: Path) -> None:
    shop = Shop(rng, 200)
    write_predictions(tmp_path / "predictions.csv", shop.metrics(batch=9).predictions())
    head, *lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert "nan" not in "".join(lines).lower()
    assert head.replace('"', "") == (
        "label_click,probability_click,label_buy,probability_buy,label_paid,prediction_paid,"
        "weight,group"
    )
    table = pyarrow.csv.read_csv(tmp_path / "predictions.csv")
    assert table["label_buy"].null_count == np.isnan(shop.labels[:, 1]).sum() > 0
    np.testing.assert_array_equal(table["label_buy"].to_numpy(), shop.labels[:, 1])
    np.testing.assert_allclose(table["label_paid"].to_numpy(), shop.labels[:, 2], rtol=1e-6)
    np.testing.assert_allclose(table["prediction_paid"].to_numpy(), shop.scores[:, 2], rtol=1e-6)
    np.testing.assert_allclose(table["weight"].to_numpy(), shop.weights, rtol=1e-6)
    np.testing.assert_array_equal(table["group"].to_numpy(), shop.groups)
    plain = TaskMetrics(["a"])
    plain.update(np.array([[1.0], [0.0]]), np.zeros((2, 1), np.float32))
    write_predictions(tmp_path / "plain.csv", plain.predictions())
    assert (tmp_path / "plain.csv").read_text() == '"label_a","probability_a"\n1,0.5\n0,0.5\n'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.000000"),
        (-0.25, "-0.250000"),
        (1e-4, "0.000100"),
        (2.5e-9, "2.500000e-09"),  # of a rate
        (144.557945, "144.557945"),
        (6.0063494e26, "6.006349e+26"),
        (np.inf, "inf"),
        (None, "undefined"),
    ],
)
def test_errors_of_any_unit_can_be_read(value: float | None, shown: str) -> None:
    assert show(value) == shown


def test_rows_in_chunks_are_the_rows_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "CHUNK_ROWS", 7)
    random = np.random.default_rng(0)
    for _ in range(50):
        store, came = RowStore(2), []
        for _ in range(random.integers(1, 12)):
            labels, n = random.random((random.integers(0, 20), 2)) < 0.5, 0
            n = len(labels)
            if random.random() < 0.4:
                labels = np.where(random.random((n, 2)) < 0.3, np.nan, labels).astype(np.float32)
            rows = Rows(labels, random.random((n, 2)), random.random(n), random.integers(0, 5, n))
            store.append(rows)
            came.append(rows)
            if random.random() < 0.3:  # as where a batch is skipped
                length = int(random.integers(0, len(store) + 1))
                store.truncate(length)
                came = [Rows._make(np.concatenate(parts)[:length] for parts in zip(*came))]
        whole = Rows._make(np.concatenate(parts) for parts in zip(*came))
        assert len(store) == len(whole.labels)
        first, end = sorted(random.integers(0, len(store) + 1, 2))
        for kept, array in zip(store.rows(first, end), whole) if end > first else ():
            assert np.array_equal(
                kept.astype(float), array[first:end].astype(float), equal_nan=True
            )
        known = ~np.isnan(whole.labels.astype(float))
        assert store.known().tolist() == known.sum(axis=0).tolist()
        if len(store):
            of_one, counts = store.of_task(1, False), known[:, 1] & (whole.weights > 0)
            assert np.array_equal(of_one.scores, whole.log_odds[counts, 1])
            assert np.array_equal(of_one.labels, whole.labels[counts, 1] == 1)
