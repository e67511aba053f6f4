"""The input statistics: learnt in one pass, neutral before, harmless to what needs none."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from column_statistics import NumericColumn
from input_encoding import InputEncoding, adapt, encode_columns, neutral_state
from net import ShareBottomLayer
from rec_runner.engine.arrays import encode_by_columns

KINDS = ("standard", "piecewise_linear")
BINS = 24


def pieces(features: np.ndarray, *cuts: int) -> list[np.ndarray]:
    """Features cut into uneven blocks, an empty one among them."""
    return [*np.split(features, cuts), features[:0]]


def encode(features: np.ndarray, kind: str, state: dict[str, np.ndarray]) -> np.ndarray:
    """What an InputEncoding with `state` makes of features."""
    layer = InputEncoding(features.shape[1], kind, BINS)
    own = layer.state_dict()
    for name, value in state.items():
        own[name.removeprefix("encoding.")].set_value(value.astype(np.float32))
    encoded = layer(paddle.to_tensor(features)).numpy()
    assert encoded.shape == (len(features), layer.out_size)
    return encoded


@pytest.fixture
def features(rng) -> np.ndarray:
    """Six columns: one-hot, amount, zeros, ones, late numeric, constant."""
    rows = 1000
    amount = np.where(rng.random(rows) < 0.9, 0, rng.integers(1, 99_999, rows))
    late = rng.integers(0, 2, rows).astype(float)
    late[900:] = rng.normal(50, 9, 100)
    columns = [
        rng.integers(0, 2, rows),
        amount,
        np.zeros(rows),
        np.ones(rows),
        late,
        np.full(rows, 0.1),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(), (1, 2, 500), (333, 899, 901), (64, 128, 950)])
def test_mean_and_deviation_are_those_of_numpy(features, kind: str, cuts: tuple[int, ...]) -> None:
    state = adapt(iter(pieces(features, *cuts)), kind, BINS)
    double = features.astype(np.float64)
    for column in (1, 4):
        assert state["encoding.mean"][column] == pytest.approx(double[:, column].mean(), rel=1e-6)
        assert 1 / state["encoding.scale"][column] == pytest.approx(
            double[:, column].std(), rel=1e-6
        )
    encoded = encode(features, kind, state)
    assert np.abs(encoded[:, [1, 4]].mean(axis=0)).max() < 1e-5
    assert encoded[:, [1, 4]].std(axis=0) == pytest.approx([1, 1], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_binary_columns_pass_through(features, kind: str) -> None:
    encoded = encode(features, kind, adapt(pieces(features, 10), kind, BINS))
    np.testing.assert_array_equal(encoded[:, [0, 2, 3]], features[:, [0, 2, 3]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.1, -7, 1994, 1e30])
def test_a_constant_column_divides_by_nothing(features, kind: str, value: float) -> None:
    features[:, 5] = value
    state = adapt(pieces(features, 3, 77), kind, BINS)
    assert all(np.isfinite(array).all() for array in state.values())
    assert state["encoding.scale"][5] == 1
    assert 5 not in state.get("encoding.bin_column", [])
    encoded = encode(features, kind, state)
    assert np.isfinite(encoded).all()
    assert len(np.unique(encoded[:, 5])) == 1


def test_large_values_lose_no_precision() -> None:
    values = (1e7 + np.arange(4096) % 5).astype(np.float32)[:, np.newaxis]
    state = adapt(pieces(values, 5, 1000), "standard", BINS)
    assert 1 / state["encoding.scale"][0] == pytest.approx(values.astype(float).std(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_neutral_before_adapt(features, kind: str) -> None:
    encoded = encode(features, kind, {})
    np.testing.assert_array_equal(encoded[:, : features.shape[1]], features)
    assert not encoded[:, features.shape[1] :].any()


def test_no_encoding_needs_no_statistics(features) -> None:
    assert adapt(pieces(features), "none", BINS) == {}
    layer = InputEncoding(6, "none", BINS)
    assert not layer.state_dict()
    np.testing.assert_array_equal(layer(paddle.to_tensor(features)).numpy(), features)


def test_bins_rise_with_the_value_from_0_to_1(features) -> None:
    state = adapt(pieces(features, 500), "piecewise_linear", BINS)
    column = state["encoding.bin_column"]
    used = state["encoding.bin_scale"] > 0
    assert set(column[used]) == {1, 4}
    grid = np.tile(features[:1], (400, 1))
    for index in (1, 4):
        low, high = features[:, index].min(), features[:, index].max()
        grid[:, index] = np.linspace(low - 1, high + 1, 400)
    encoded = encode(grid, "piecewise_linear", state)[:, 6:]
    assert encoded.min() == 0
    assert encoded.max() == 1
    assert (np.diff(encoded, axis=0) >= 0).all()
    for index in (1, 4):
        of_column = encoded[:, (column == index) & used]
        assert not of_column[0].any()  # below every bin
        assert of_column[-1].all()  # above every bin
        assert len(np.unique(of_column.sum(axis=1))) > 300  # every value has its own code


def test_heavy_zeros_do_not_take_the_bins(features) -> None:
    state = adapt(pieces(features, 500), "piecewise_linear", BINS)
    amount = (state["encoding.bin_column"] == 1) & (state["encoding.bin_scale"] > 0)
    starts = state["encoding.bin_start"][amount]
    assert len(starts) >= BINS // 2 - 1
    assert (np.diff(starts) > 0).all()
    positive = np.sort(features[features[:, 1] > 0, 1])
    assert np.median(starts) == pytest.approx(np.median(positive), rel=0.3)


def test_a_column_of_few_values_gets_few_bins(rng) -> None:
    features = np.stack([rng.integers(0, 3, 500), rng.normal(size=500)], axis=1).astype(np.float32)
    state = adapt([features], "piecewise_linear", BINS)
    used = state["encoding.bin_scale"] > 0
    columns, counts = np.unique(state["encoding.bin_column"][used], return_counts=True)
    assert dict(zip(columns.tolist(), counts.tolist())) == {0: 2, 1: BINS - 2}


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_belong_to_the_state_dict_and_no_optimizer_moves_them(features, kind) -> None:
    net = ShareBottomLayer(6, 2, 4, 3, numeric_encoding=kind, piecewise_bins=BINS)
    state = adapt([features], kind, BINS)
    own = net.state_dict()
    for name, value in state.items():
        assert list(own[name].shape) == list(value.shape)
        own[name].set_value(value.astype(np.float32))
    optimizer = paddle.optimizer.AdamW(0.1, parameters=net.parameters(), weight_decay=0.1)
    trained = {p.name for p in net.parameters() if not p.stop_gradient}
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    paddle.stack(net(paddle.to_tensor(features)))[..., 1].mean().backward()
    optimizer.step()
    for name, value in net.state_dict().items():
        same = np.array_equal(before[name], value.numpy())
        assert same == (name in state), name
        assert (value.name in trained) == (name not in state)


@pytest.mark.parametrize("kind", ["none", *KINDS])
@pytest.mark.parametrize("learnt", [False, True])
def test_columns_encoded_without_paddle_are_those_of_the_network_to_the_bit(
    features, kind: str, learnt: bool
) -> None:
    features[::7, 0] = -0.0
    features[3, 4], features[5, 1] = 3e38, -1e-3
    state = adapt(pieces(features, 500), kind, BINS) if learnt else {}
    whole = {**neutral_state(6, kind, BINS), **state}
    for own in (False, True):
        given = features.copy()
        out = encode_by_columns(given, lambda rows: encode_columns(rows, kind, whole), own)
        wanted = encode(features, kind, state)
        assert out[:, :6].tobytes() == wanted[:, :6].tobytes()
        assert out.shape == wanted.shape and np.array_equal(out, wanted)  # a zero's sign apart
        assert (out is given) == (own and kind != "piecewise_linear")
        assert own or np.array_equal(given, features)


def test_a_row_that_overflows_stays_raw(features) -> None:
    state = adapt(pieces(features, 500), "standard", BINS)
    features[900, 4] = 3e38
    state["encoding.scale"][4] = 1e3
    given = features.copy()
    out = encode_by_columns(given, lambda rows: encode_columns(rows, "standard", state), True)
    assert np.isinf(out[900, 4]) and out is not given
    assert given[900, 4] == features[900, 4]


@pytest.mark.parametrize("late", [0, 255, 256, 257, 899, 1999])
def test_a_column_is_numeric_from_any_row_on_with_all_rows_before_it(rng, late: int) -> None:
    features = rng.integers(0, 2, (2000, 3)).astype(np.float32)
    features[::5, 2] = -0.0
    features[late:, 1] = rng.choice(np.float32([0, 1, 0.5, -1, 1e-30, 3e38]), 2000 - late)
    features[late, 1] = 1e-30
    blocks = pieces(features, 300, 900, 1900)
    state = adapt(blocks, "standard", BINS)
    column, first = NumericColumn(), np.searchsorted([300, 900, 1900], late, "right")
    column.add(np.sort(np.concatenate([block[:, 1] for block in blocks[:first]] or [[]])))
    for block in blocks[first:]:
        column.add(block[:, 1])
    assert state["encoding.mean"].tolist() == [0, np.float32(column.mean), 0]
    assert state["encoding.scale"].tolist() == [1, np.float32(1 / column.std), 1]
