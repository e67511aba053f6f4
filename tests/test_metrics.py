"""AUC and log loss: those of scikit-learn, ties included, undefined where there is one class."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from rec_runner.metrics.auc import auc, log_loss, probability
from rec_runner.metrics.auc_rows import AucRows
from rec_runner.metrics.base import sounds_like_error
from rec_runner.metrics.model_metrics import FetchedMetrics, ModelMetrics
from rec_runner.metrics.running import RunningAuc
from rec_runner.metrics.tasks import TaskMetrics


def draw(rng: np.random.Generator, rows: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores rounded to `digits` so that some tie."""
    labels = rng.random(rows) < 0.2
    labels[:2] = [False, True]
    scores = np.round(rng.normal(size=rows) + labels, digits).astype(np.float32)
    return labels, scores


@pytest.mark.parametrize("rows", [2, 3, 10, 1000, 20_000])
@pytest.mark.parametrize("digits", [0, 1, 6], ids=["many_ties", "ties", "few_ties"])
def test_auc_is_that_of_scikit_learn(rng, rows: int, digits: int) -> None:
    labels, scores = draw(rng, rows, digits)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_auc_of_known_cases() -> None:
    labels = np.array([0, 0, 1, 1])
    assert auc(labels, np.array([1.0, 2, 3, 4])) == 1.0
    assert auc(labels, np.array([4.0, 3, 2, 1])) == 0.0
    assert auc(labels, np.zeros(4)) == 0.5
    assert auc(labels, np.array([1.0, 3, 2, 4])) == 0.75
    assert auc(labels, np.array([1.0, 2, 2, 3])) == 0.875


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [1, 1]])
def test_auc_of_one_class_is_undefined(labels: list[int]) -> None:
    assert auc(np.array(labels, np.float32), np.zeros(len(labels))) is None


def test_log_loss_is_that_of_scikit_learn(rng) -> None:
    labels, scores = draw(rng, 5000, 6)
    ours = log_loss(labels, scores)
    assert ours == pytest.approx(sklearn_log_loss(labels, probability(scores)), abs=1e-9)
    assert log_loss(np.empty(0), np.empty(0)) is None


def test_log_loss_of_sure_predictions_is_exact_and_finite() -> None:
    log_odds = np.array([1000.0, -1000.0], np.float32)
    assert log_loss(np.array([1, 0]), log_odds) == 0.0
    assert log_loss(np.array([0, 1]), log_odds) == pytest.approx(1000.0)


@pytest.mark.filterwarnings("error")
def test_log_loss_of_infinite_log_odds() -> None:
    """A certain row costs nothing where it is right; NaN comes of NaN alone; nothing is warned."""
    one, inf, nan = np.float32(1), np.float32(np.inf), np.float32(np.nan)
    for odds, labels, expected in (
        ([inf, -inf], [1, 0], 0.0),
        ([inf, -inf, one], [1, 0, 1], np.log1p(np.exp(-1)) / 3),
        ([inf], [0], np.inf),
        ([-inf, inf, one], [1, 1, 0], np.inf),
        ([nan], [1], np.nan),
        ([nan, inf, -inf], [1, 0, 0], np.nan),
    ):
        for kind in (np.bool_, np.float32, np.int64):
            value = log_loss(np.array(labels, kind), np.array(odds))
            assert value == pytest.approx(expected, rel=1e-12, nan_ok=True)
        chances = 1 / (1 + np.exp(-np.array(odds)))
        np.testing.assert_allclose(probability(np.array(odds)), chances, rtol=1e-6)


def test_probability_keeps_the_order_of_small_values() -> None:
    log_odds = np.array([-80, -60, -40, -39.999, -20, 0, 5], np.float32)
    expected = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
    np.testing.assert_allclose(probability(log_odds), expected, rtol=1e-12)
    assert probability(np.array([-1e30, 1e30], np.float32)).tolist() == [0, 1]


def test_tasks_are_kept_apart(rng) -> None:
    labels = np.stack([draw(rng, 3000, 2)[0], np.zeros(3000, bool)], axis=1)
    scores = rng.normal(size=(3000, 2)).astype(np.float32) + labels
    metrics = TaskMetrics(["a", "b"])
    for start in range(0, 3000, 700):
        metrics.update(labels[start : start + 700].astype(np.float32), scores[start : start + 700])
    result = metrics.result()
    assert list(result) == ["auc_a", "auc_b", "logloss_a", "logloss_b"]
    assert result["auc_a"] == pytest.approx(roc_auc_score(labels[:, 0], scores[:, 0]), abs=1e-9)
    assert result["auc_b"] is None
    expected = sklearn_log_loss(labels[:, 1], probability(scores[:, 1]), labels=[0, 1])
    assert result["logloss_b"] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(metrics.labels, labels)
    np.testing.assert_array_equal(metrics.log_odds, scores)


def test_no_rows_give_undefined_metrics() -> None:
    metrics = TaskMetrics(["a"])
    assert metrics.result() == {"auc_a": None, "logloss_a": None}
    assert metrics.running() == {"auc_a": None}


def spreads(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Scores float32 as models may give them; raw inputs, for instance, go far, or stay close."""
    plain = rng.normal(size=rows)
    signs = rng.choice([-1.0, 1.0], rows)
    special = np.array([-np.inf, np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38])
    bits = rng.integers(0, 1 << 32, rows, np.uint32).view(np.float32)
    return {
        "usual": plain,
        "wide": 40 * plain,
        "beyond": 100 + plain,
        "tiny rate": -9 + 0.3 * plain,
        "narrow": 1e-7 * plain,
        "narrow, far from 0": 3.0 + 1e-6 * plain,
        "tied": np.round(plain),
        "one": np.zeros(rows),
        "any power": signs * 10.0 ** rng.uniform(-44, 38, rows),
        "special": rng.choice(special, rows),
        "any bits": np.where(np.isnan(bits), 0.0, bits),
        "drifting": np.linspace(0, 300, rows) + plain,
        "falling": np.sort(plain)[::-1],
        "small probability": 1e-9 * rng.random(rows),
        "probability": 1 / (1 + np.exp(-8 * plain)),
    }


def scikit_learn_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Of ranks, since scikit-learn takes no infinity."""
    return float(roc_auc_score(labels, np.unique(scores, return_inverse=True)[1]))


@pytest.mark.parametrize("rate", [0.002, 0.3, 0.9])
def test_running_auc_is_that_of_scikit_learn_however_scores_spread(rng, rate: float) -> None:
    """In each log line, of a model's log-odds and of its own probabilities."""
    rows, lines = 6000, [1, 2, 40, 700, 701, 3000, 6000]
    for name, scores in spreads(rng, rows).items():
        with np.errstate(over="ignore"):
            scores = scores.astype(np.float32)
        labels = rng.random(rows) < rate
        order = np.argsort(np.argsort(scores, kind="stable"))
        labels |= rng.random(rows) < rate * order / rows  # so that scores tell something
        tasks, own = TaskMetrics(["a"]), AucRows()
        for start, end in zip([0, *lines], lines):
            for batch in np.array_split(np.arange(start, end), max(1, (end - start) // 200)):
                tasks.update(labels[batch, None], scores[batch, None])
                own.add(scores[batch], labels[batch])
            both = tasks.running()["auc_a"], own.running()
            if labels[:end].all() or not labels[:end].any():
                assert both == (None, None)
            else:
                assert both[0] == both[1] == own.exact() == tasks.result()["auc_a"]
                expected = scikit_learn_auc(labels[:end], scores[:end])
                assert both[0] == pytest.approx(expected, abs=1e-9), (name, end)


def test_running_auc_counts_nan_as_the_exact_one_does(rng) -> None:
    rows = AucRows()
    for _ in range(50):
        scores = rng.choice(np.array([np.nan, -np.inf, 0.1, 0.2, np.inf], np.float32), 20)
        rows.add(scores, rng.random(20) < 0.5)
        assert rows.running() == rows.exact()


@pytest.mark.parametrize("reads", [False, True], ids=["quiet", "read"])
def test_running_auc_forgets_what_is_rewound(rng, reads: bool) -> None:
    """Whether or not its value was asked for in between, and goes on from a checkpoint's rows."""
    labels = rng.random((900, 1)) < 0.4
    scores = rng.normal(size=(900, 1)).astype(np.float32)
    tasks, own = TaskMetrics(["a"]), AucRows()

    def add(start: int, end: int) -> None:
        tasks.update(labels[start:end], scores[start:end])
        own.add(scores[start:end], labels[start:end])

    add(0, 300)
    own.running(), tasks.running()
    marks = tasks.mark(), own.mark()
    add(300, 500)
    if reads:
        own.running(), tasks.running()
    tasks.rewind(marks[0]), own.rewind(marks[1])
    add(600, 900)
    expected = auc(np.delete(labels, np.s_[300:600]), np.delete(scores, np.s_[300:600]))
    assert tasks.running()["auc_a"] == own.running() == expected
    later = TaskMetrics(["a"]), AucRows()
    later[0].load_state_dict(tasks.state_dict(), rows=600)
    later[1].load_state_dict(own.state_dict())
    assert later[0].running()["auc_a"] == later[1].running() == expected


def test_log_lines_do_not_sort_all_rows_again(rng, monkeypatch: pytest.MonkeyPatch) -> None:
    sort, rows = np.sort, []

    def counted(array: np.ndarray) -> np.ndarray:
        rows.append(len(array))
        return sort(array)

    monkeypatch.setattr(np, "sort", counted)
    running = RunningAuc()
    for _ in range(2000):
        running.add(rng.random(20) < 0.5, rng.random(20))
    assert sum(rows) < 40 * 2000 * 20  # all again for each line would be 1,000 times


@pytest.mark.parametrize(
    "name",
    "loss ctr_loss ctr_mse ctr_logloss hit_loss map_loss MSELoss BCELoss RMSELoss totalloss losses "
    "smape mse2 mean_absolute_error auc_loss cost".split(),
)
def test_less_of_an_error_is_better_whatever_else_its_name_holds(name: str) -> None:
    assert sounds_like_error(name)


@pytest.mark.parametrize(
    "name",
    "auc auc_apply auc_application auc_supply auc_referral loss_auc cost_auc acc ctr ndcg hit_rate "
    "apply recall_at_5 myAUC".split(),
)
def test_more_of_anything_else_is_better(name: str) -> None:
    assert not sounds_like_error(name)


def test_a_models_own_metric_tells_its_direction() -> None:
    class Own(paddle.metric.Accuracy):
        """Says of itself that less is better."""

        lower_is_better = True

    metrics = ModelMetrics(
        [Own(), paddle.metric.Accuracy(), paddle.metric.Auc()], ["a", "b_loss", "c_loss"]
    )
    assert [metrics.lower_is_better(name) for name in ("a", "b_loss", "c_loss", "d_loss")] == [
        True,
        False,
        False,
        True,
    ]


def test_a_models_own_metric_that_counts_in_a_tensor_goes_on_from_its_state() -> None:
    class Count(paddle.metric.Accuracy):
        """Counts batches in a Tensor."""

        batches = None

        def reset(self) -> None:
            self.batches = paddle.zeros([1])

        def accumulate(self) -> float:
            return float(self.batches)

    first, second = (ModelMetrics([Count()], ["batches"]) for _ in range(2))
    for metrics in (first, second):
        metrics.reset()
    first.metrics[0].batches += 7
    second.load_state_dict(first.state_dict(), rows=7)
    second.metrics[0].batches += 1
    assert second.result() == {"batches": 8.0}


def test_rewinding_forgets_what_operators_counted_too() -> None:
    """Also in counters that were not there yet: the network was built anew for a bad batch."""
    variables = {"old": np.array([3])}
    metrics = FetchedMetrics(lambda: {k: v.copy() for k, v in variables.items()}, variables.update)
    mark = metrics.mark()
    variables.update(old=np.array([5]), new=np.array([2]))
    metrics.rewind(mark)
    assert {name: int(value[0]) for name, value in variables.items()} == {"old": 3, "new": 0}


def test_log_odds_of_a_network_in_double_precision_are_gone_on_from() -> None:
    before, after = TaskMetrics(["a"]), TaskMetrics(["a"])
    before.update(np.array([[0], [1]], np.float32), np.array([[-1.0], [2.0]]))
    after.load_state_dict(before.state_dict(), 2)
    assert after.log_odds.dtype == np.float64
    assert after.result() == before.result()
