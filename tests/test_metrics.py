"""AUC and log loss: those of scikit-learn, ties included, undefined where there is one class."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from rec_runner.metrics.auc import auc, log_loss, probability
from rec_runner.metrics.base import sounds_like_error
from rec_runner.metrics.model_metrics import FetchedMetrics, ModelMetrics
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


def test_running_auc_follows_the_exact_one(rng) -> None:
    metrics = TaskMetrics(["a", "b"])
    for scale in (1.0, 1.0, 3.0):
        labels = rng.random((4000, 2)) < 0.3
        log_odds = (rng.normal(size=(4000, 2)) * scale + labels).astype(np.float32)
        metrics.update(labels, log_odds)
        running, exact = metrics.running(), metrics.result()
        for name, value in running.items():
            assert value == pytest.approx(exact[name], abs=5e-4)


def test_running_auc_takes_any_number(rng) -> None:
    metrics = TaskMetrics(["a"])
    metrics.update(np.array([[0], [1], [1], [0]]), np.array([[-1e30], [1e30], [12], [-12]], "f4"))
    assert metrics.running()["auc_a"] == 1.0


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
