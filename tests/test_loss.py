"""The loss of labels as they are in life: blank, weighed, of unlike classes, of a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import static

from loss import RegressionTarget, multi_task_loss

Arrays = dict[str, np.ndarray]
ROWS = 12


def eager(arrays: Arrays, **options: Any) -> tuple[float, np.ndarray]:
    """Loss, and its gradient to the log-odds."""
    tensors = {name: paddle.to_tensor(value) for name, value in arrays.items()}
    tensors["log_odds"].stop_gradient = False
    loss = multi_task_loss(**tensors, **_with_target(options))
    loss.backward()
    return float(loss), tensors["log_odds"].grad.numpy()


def static_graph(arrays: Arrays, **options: Any) -> tuple[float, np.ndarray]:
    """The same, by a static program."""
    paddle.enable_static()
    try:
        main, startup = static.Program(), static.Program()
        with static.program_guard(main, startup):
            shapes = {name: [v.shape[0], None, *v.shape[2:]] for name, v in arrays.items()}
            shapes.update({"rows": [None, 1]} if "rows" in arrays else {})
            feeds = {name: static.data(name, shape, "float32") for name, shape in shapes.items()}
            feeds["log_odds"].stop_gradient = False
            loss = multi_task_loss(**feeds, **_with_target(options))
            (gradient,) = static.gradients(loss, feeds["log_odds"])
        executor, scope = static.Executor(paddle.CPUPlace()), static.Scope()
        with static.scope_guard(scope):
            executor.run(startup)
            found = executor.run(main, feed=arrays, fetch_list=[loss, gradient])
        return float(found[0]), found[1]
    finally:
        paddle.disable_static()


def _with_target(options: dict[str, Any]) -> dict[str, Any]:
    if "target" not in options:
        return options
    mean, std = (np.asarray(numbers, np.float32) for numbers in options["target"])
    target = RegressionTarget(options["regression"], {"target.mean": mean, "target.std": std})
    return {name: v for name, v in options.items() if name != "regression"} | {"target": target}


def entropy(odds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row in float64."""
    odds = odds.astype(np.float64)
    return np.logaddexp(0, odds) - odds * labels


GRAPHS = pytest.mark.parametrize("run", [eager, static_graph])
Run = Callable[..., tuple[float, np.ndarray]]


@pytest.fixture
def arrays(rng) -> Arrays:
    """Log-odds and labels of three tasks; a third of the second one's labels is blank."""
    labels = rng.integers(0, 2, size=(3, ROWS, 1)).astype(np.float32)
    labels[1, ::3] = np.nan
    return {"log_odds": rng.normal(size=(3, ROWS, 1)).astype(np.float32), "labels": labels}


@GRAPHS
def test_a_blank_label_costs_nothing(run: Run, arrays: Arrays) -> None:
    loss, gradient = run(arrays, masked=True)
    odds, labels = arrays["log_odds"][..., 0], arrays["labels"][..., 0]
    each = entropy(odds, labels)
    assert loss == pytest.approx(float(np.nanmean(each, axis=1).sum()), rel=1e-5)
    blank = np.isnan(arrays["labels"])
    assert (gradient[blank] == 0).all()
    known = (~blank).sum(axis=1, keepdims=True)
    expected = (1 / (1 + np.exp(-arrays["log_odds"])) - arrays["labels"]) / known
    np.testing.assert_allclose(gradient[~blank], expected[~blank], atol=1e-6)


@GRAPHS
@pytest.mark.parametrize("huge", [1.0, 1e30])
def test_a_task_without_a_known_label_costs_nothing(run: Run, arrays: Arrays, huge: float) -> None:
    arrays["labels"][1] = np.nan
    arrays["log_odds"][1] *= huge
    loss, gradient = run(arrays, masked=True)
    others = [0, 2]
    each = entropy(arrays["log_odds"][others, :, 0], arrays["labels"][others, :, 0])
    assert loss == pytest.approx(float(each.mean(axis=1).sum()), rel=1e-5)
    assert (gradient[1] == 0).all()
    assert np.isfinite(gradient).all()
    arrays["labels"][:] = np.nan
    loss, gradient = run(arrays, masked=True)
    assert loss == 0
    assert (gradient == 0).all()


@GRAPHS
def test_a_weight_of_two_is_a_row_given_twice(run: Run, arrays: Arrays, rng) -> None:
    options = {
        "masked": True,
        "weights": [2.0, 0.5, 1.5],
        "positive_weight": [3.0, 1.0, 1.0],
        "regression": [False, False, True],
        "target": ([0, 0, 5], [1, 1, 2]),
    }
    arrays["labels"][2] = rng.normal(5, 2, size=(ROWS, 1))
    times = rng.integers(0, 3, ROWS)
    weighed, gradient = run({**arrays, "rows": times[:, np.newaxis].astype(np.float32)}, **options)
    repeated = {name: np.repeat(value, times, axis=1) for name, value in arrays.items()}
    loss, each = run(repeated, **options)
    assert weighed == pytest.approx(loss, rel=1e-5)
    starts = np.cumsum(times) - times
    first = np.where(times > 0, each[:, np.minimum(starts, times.sum() - 1), 0], 0)
    np.testing.assert_allclose(gradient[..., 0], first * times, atol=1e-6)


@GRAPHS
def test_a_positive_counts_as_the_config_says(run: Run, arrays: Arrays) -> None:
    arrays["labels"] = np.nan_to_num(arrays["labels"])
    weights = np.array([2, 0.25, 1], np.float32)
    loss, _ = run(arrays, positive_weight=weights.tolist())
    labels = arrays["labels"][..., 0]
    each = entropy(arrays["log_odds"][..., 0], labels)
    each *= np.where(labels == 1, weights[:, np.newaxis], 1)
    assert loss == pytest.approx(float(each.mean(axis=1).sum()), rel=1e-5)


@GRAPHS
def test_a_number_is_learnt_on_its_own_scale(run: Run, arrays: Arrays, rng) -> None:
    prices = rng.normal(1e6, 1e3, size=ROWS)
    prices[3] = np.nan  # whatever the scale, nothing is computed of it
    arrays["labels"][2, :, 0] = prices
    options = {"regression": [False, False, True], "target": ([0, 0, 1e6], [1, 1, 1e3])}
    loss, gradient = run(arrays, masked=True, **options)
    odds = arrays["log_odds"][..., 0]
    each = np.concatenate(
        [
            entropy(odds[:2], arrays["labels"][:2, :, 0]),
            [(odds[2] - (arrays["labels"][2, :, 0].astype(np.float64) - 1e6) / 1e3) ** 2],
        ]
    )
    assert loss == pytest.approx(float(np.nanmean(each, axis=1).sum()), rel=1e-4)
    assert gradient[2, 3, 0] == 0
    assert np.isfinite(gradient).all()


@GRAPHS
def test_a_blank_number_of_any_scale_costs_nothing(run: Run, arrays: Arrays) -> None:
    arrays["labels"][2, 1:] = np.nan
    arrays["labels"][2, 0] = 1e30
    options = {"regression": [False, False, True], "target": ([0, 0, 1e30], [1, 1, 1])}
    loss, gradient = run(arrays, masked=True, **options)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert (gradient[2, 1:] == 0).all()


def test_what_a_number_is_predicted_as_has_its_own_unit() -> None:
    target = RegressionTarget(
        [False, True],
        {
            "target.mean": np.array([0, 50], np.float32),
            "target.std": np.array([1, 4], np.float32),
        },
    )
    log_odds = paddle.to_tensor([[[0.25]], [[0.5]]])
    np.testing.assert_array_equal(target.prediction(log_odds).numpy(), [[[0.25]], [[52]]])


def test_nothing_asked_for_is_what_it_was(arrays: Arrays) -> None:
    """Operator by operator: a program of plain labels is as it was before there were others."""
    paddle.enable_static()
    try:
        main = static.Program()
        with static.program_guard(main, static.Program()):
            odds, labels = (static.data(name, [3, None, 1], "float32") for name in ("o", "l"))
            multi_task_loss(odds, labels)
    finally:
        paddle.disable_static()
    names = [getattr(op, "type", None) or op.name() for op in main.global_block().ops]
    assert not [name for name in names if "isnan" in name or "where" in name]
