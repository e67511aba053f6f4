"""The network: its shapes, its arithmetic, its loss, and PaddleRec's weights in it."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from helpers import numpy_forward, paddlerec_state

from dropout import relu_dropout
from hyper_parameters import HyperParameters
from loss import multi_task_loss
from net import ShareBottomLayer
from paddlerec_weights import convert_state_dict


def loss_of(logits: np.ndarray, labels: np.ndarray, weights: list[float] | tuple = ()) -> float:
    """``multi_task_loss`` of class logits ``[T, N, 2]`` and labels ``[T, N, 1]``."""
    logits = np.asarray(logits, np.float32)
    log_odds = paddle.to_tensor(logits[..., 1:] - logits[..., :1])
    return multi_task_loss(log_odds, paddle.to_tensor(np.asarray(labels, np.float32)), weights)


def load(net: ShareBottomLayer, state: dict[str, np.ndarray]) -> None:
    """Set every weight; the keys have to be exactly those of the network."""
    own = net.state_dict()
    assert own.keys() == state.keys()
    for name, value in state.items():
        assert list(own[name].shape) == list(value.shape), name
        own[name].set_value(value)


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
@pytest.mark.parametrize("encoding", ["none", "standard", "piecewise_linear"])
def test_forward_gives_probabilities_per_task(rng, tasks: int, encoding: str) -> None:
    net = ShareBottomLayer(10, tasks, 6, 4, numeric_encoding=encoding, piecewise_bins=5)
    output = net(paddle.to_tensor(rng.normal(size=(13, 10)).astype(np.float32)))
    assert isinstance(output, list)
    assert len(output) == tasks
    for probabilities in output:
        assert probabilities.shape == [13, 2]
        assert probabilities.dtype == paddle.float32
        np.testing.assert_allclose(probabilities.numpy().sum(axis=1), 1, atol=1e-6)
    if tasks > 1:
        assert not np.allclose(output[0].numpy(), output[1].numpy())


def test_the_published_sizes() -> None:
    net = ShareBottomLayer(499, 2, 117, 8)
    weights = sum(int(np.prod(p.shape)) for p in net.parameters())
    assert weights == 499 * 117 + 117 + 2 * (117 * 8 + 8) + 2 * (8 * 2 + 2)


@pytest.mark.parametrize("tasks", [0, -1])
def test_a_network_without_tasks_is_refused(tasks: int) -> None:
    with pytest.raises(ValueError, match=f"task_num should be at least 1, got {tasks}"):
        ShareBottomLayer(3, tasks, 4, 4)


def test_several_layers_keep_the_order_of_sizes(rng) -> None:
    net = ShareBottomLayer(10, 3, [9, 7], [5, 4, 3])
    assert [list(layer.weight.shape) for layer in net.bottom] == [[10, 9], [9, 7]]
    assert [layer.weight.shape for layer in net.tower] == [[3, 7, 5], [3, 5, 4], [3, 4, 3]]
    assert net.out.weight.shape == [3, 3, 2]
    assert net(paddle.to_tensor(rng.normal(size=(4, 10)).astype("f4")))[2].shape == [4, 2]


def settings(
    encoding: str = "none", bins: int = 128, features: int = 12, bottom: int = 9
) -> HyperParameters:
    """Settings of which only the encoding and the bottom's sizes count here."""
    return HyperParameters(
        features, bottom_size=(bottom,), numeric_encoding=encoding, piecewise_bins=bins
    )


@pytest.mark.parametrize("tasks", [1, 2, 4])
@pytest.mark.parametrize("encoding", ["none", "standard", "piecewise_linear"])
def test_paddlerec_weights_compute_what_numpy_computes(rng, tasks: int, encoding: str) -> None:
    state = paddlerec_state(rng, 12, tasks, 9, 5)
    net = ShareBottomLayer(12, tasks, 9, 5, numeric_encoding=encoding, piecewise_bins=6)
    load(net, convert_state_dict(state, settings(encoding, 6)))
    features = rng.normal(size=(31, 12)).astype(np.float32) * 3
    ours = np.stack([output.numpy() for output in net(paddle.to_tensor(features))])
    np.testing.assert_allclose(ours, numpy_forward(state, features), atol=1e-6)


def test_more_than_ten_tasks_keep_their_order(rng) -> None:
    state = paddlerec_state(rng, 3, 12, 4, 2)
    converted = convert_state_dict(state, settings(features=3, bottom=4))
    for task in range(12):
        np.testing.assert_array_equal(
            converted["out.weight"][task], state[f"tower_out_{task}.weight"]
        )


def test_our_own_keys_pass_through() -> None:
    net = ShareBottomLayer(5, 2, 4, 3, numeric_encoding="standard")
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    converted = convert_state_dict(state, settings("standard"))
    assert converted.keys() == state.keys()
    assert all(converted[name] is state[name] for name in state)


@pytest.mark.parametrize("missing", ["bottom.bias", "tower_1.bias", "tower_out_1.weight"])
def test_a_paddlerec_checkpoint_that_lacks_an_array_is_refused(rng, missing: str) -> None:
    state = paddlerec_state(rng, 12, 2, 9, 5)
    del state[missing]
    with pytest.raises(ValueError, match=f"no {missing}"):
        convert_state_dict(state, settings())


def test_a_paddlerec_checkpoint_of_unlike_tasks_is_refused(rng) -> None:
    state = paddlerec_state(rng, 12, 2, 9, 5)
    state["tower_1.weight"] = state["tower_1.weight"][:, :3]
    with pytest.raises(ValueError, match=r"tower_1.weight has shape \[9, 3\]"):
        convert_state_dict(state, settings())


def numpy_loss(logits: np.ndarray, labels: np.ndarray, weights: list[float]) -> float:
    """The weighted sum of mean cross-entropies in float64."""
    logits = logits.astype(np.float64)
    log_sum = np.logaddexp(logits[..., 0], logits[..., 1])
    chosen = np.take_along_axis(logits, labels, axis=-1)[..., 0]
    return float((np.asarray(weights) * (log_sum - chosen).mean(axis=1)).sum())


@pytest.mark.parametrize("weights", [[], [1, 1, 1], [2, 0.5, 0], [0.1, 0.2, 3]])
def test_loss_is_the_weighted_sum_of_the_tasks(rng, weights: list[float]) -> None:
    logits = rng.normal(size=(3, 17, 2)).astype(np.float32)
    labels = rng.integers(0, 2, size=(3, 17, 1))
    loss = loss_of(logits, labels, weights)
    assert float(loss) == pytest.approx(numpy_loss(logits, labels, weights or [1, 1, 1]), rel=1e-5)
    assert loss.ndim == 0


@pytest.mark.parametrize("size", [30, 1e3, 1e6, 1e30])
def test_loss_of_huge_log_odds_is_finite_and_so_is_its_gradient(size: float) -> None:
    log_odds = paddle.to_tensor([[[-size], [size]]], dtype="float32")
    log_odds.stop_gradient = False
    right = multi_task_loss(log_odds, paddle.to_tensor([[[0.0], [1.0]]]))
    wrong = multi_task_loss(log_odds, paddle.to_tensor([[[1.0], [1.0]]]))
    assert float(right) == pytest.approx(0, abs=1e-6)
    assert float(wrong) == pytest.approx(size / 2, rel=1e-5)
    wrong.backward()
    np.testing.assert_allclose(log_odds.grad.numpy(), [[[-0.5], [0]]], atol=1e-6)


def test_log_odds_are_the_difference_of_the_logits() -> None:
    net = ShareBottomLayer(4, 3, 5, 2)
    rows = paddle.rand([6, 4])
    logits = net.logits(rows).numpy()
    np.testing.assert_allclose(
        net.log_odds(rows).numpy()[..., 0], logits[..., 1] - logits[..., 0], atol=1e-6
    )


def test_forward_of_huge_features_is_finite() -> None:
    net = ShareBottomLayer(4, 2, 3, 2)
    output = net(paddle.full([2, 4], 1e30))
    assert all(np.isfinite(probabilities.numpy()).all() for probabilities in output)


def test_settings_reach_the_network() -> None:
    config = {
        "hyper_parameters.feature_size": 6,
        "hyper_parameters.task_names": ["a", "b", "c"],
        "hyper_parameters.label_columns": [0, 1, 2],
        "hyper_parameters.bottom_size": [50, 40],
        "hyper_parameters.tower_size": 3,
        "hyper_parameters.bottom_dropout": 0.5,
        "hyper_parameters.tower_initializer": "constant",
        "hyper_parameters.numeric_encoding": "none",
    }
    net = ShareBottomLayer.from_settings(HyperParameters.from_config(config))
    assert [list(layer.weight.shape) for layer in net.bottom] == [[6, 50], [50, 40]]
    for layer in (*net.tower, net.out):
        assert (layer.weight.numpy() == np.float32(0.1)).all()
        assert not layer.bias.numpy().any()
    assert len(np.unique(net.bottom[0].weight.numpy())) > 1
    features = paddle.ones([64, 6])
    assert not np.allclose(net.logits(features).numpy()[:, 0], net.logits(features).numpy()[:, 1])
    net.eval()
    assert np.allclose(net.logits(features).numpy()[:, :1], net.logits(features).numpy())


@pytest.mark.parametrize("name", ["xavier", "kaiming"])
def test_initial_weights_have_the_spread_of_their_fan(name: str) -> None:
    net = ShareBottomLayer(400, 2, 200, 100, initializer=name, tower_initializer=name)
    for weight, fan_in, fan_out in (
        (net.bottom[0].weight, 400, 200),
        (net.tower[0].weight, 200, 100),
    ):
        limit = np.sqrt(6 / (fan_in + fan_out) if name == "xavier" else 6 / fan_in)
        assert np.abs(weight.numpy()).max() == pytest.approx(limit, rel=0.01)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_dropout_drops_what_paddles_own_does(share: float) -> None:
    x = paddle.randn([64, 117])
    x.stop_gradient = False
    weights = paddle.randn([64, 117])
    found = []
    for dropout in (relu_dropout, lambda x, share: F.dropout(F.relu(x), share)):
        paddle.seed(7)
        out = dropout(x, share)
        (out * weights).sum().backward()
        found.append((out.numpy(), x.grad.numpy()))
        x.clear_grad()
    for ours, own in zip(*found):
        np.testing.assert_allclose(ours, own, rtol=1e-6)
        assert np.array_equal(ours == 0, own == 0)


def test_dropout_drops_its_share() -> None:
    kept = (relu_dropout(paddle.ones([1000, 1000]), 0.3).numpy() > 0).mean()
    assert abs(kept - 0.7) < 0.003  # six standard deviations
