"""Constants of a static program that are made once: the same numbers, with fewer operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest

from rec_runner.paddle_api.constants import keep_constants

RUNS = 3


@pytest.fixture(autouse=True)
def _static() -> Iterator[None]:
    paddle.enable_static()
    yield
    paddle.disable_static()


def trained(build: Callable[[Any], list[Any]], keep: bool) -> tuple[list[np.ndarray], list[str]]:
    """What the runs of a program fetch, and the names of its operators."""
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    with paddle.static.program_guard(main, startup), paddle.static.scope_guard(scope):
        paddle.seed(1)
        fetches = build(paddle.static.data("x", [None, 3], "float32"))
        if keep:
            keep_constants(main, fetches)
        names = [operator.name() for operator in main.global_block().ops]
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(startup)
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        found = [executor.run(main, feed={"x": x}, fetch_list=fetches) for _ in range(RUNS)]
    return [array for arrays in found for array in arrays], names


def step(x: Any) -> list[Any]:
    """A training step."""
    loss = (paddle.nn.Linear(3, 2)(x) * 3.0).mean()
    paddle.optimizer.Adam(0.1).minimize(loss)
    return [loss]


def counted(x: Any) -> list[Any]:
    """A constant that an operator changes where it is."""
    count = paddle.full([1], 5.0)
    return [paddle.increment(count), x.sum()]


def fetched(x: Any) -> list[Any]:
    """A constant that is fetched."""
    return [paddle.full([2], 4.0), x.sum()]


def shared(x: Any) -> list[Any]:
    """A constant that has a second name, by which it is changed."""
    second = paddle._C_ops.share_data(paddle.full([1], 5.0))
    return [paddle.increment(second), x.sum()]


def branched(x: Any) -> list[Any]:
    """Constants that branches give, of which one is changed behind them."""
    first, second = paddle.full([1], 5.0), paddle.full([1], 7.0)
    given = paddle.static.nn.cond(x.sum() > 0, lambda: first, lambda: second)
    return [paddle.increment(given)]


def given_by_a_loop(x: Any) -> list[Any]:
    """A constant that a loop gives, and that is changed behind it."""
    count, given = paddle.full([1], 0, "int64"), paddle.full([1], 5.0)
    _, given = paddle.static.nn.while_loop(
        lambda i, _: i < 3, lambda i, _: (i + 1, given), [count, x.sum().reshape([1])]
    )
    return [paddle.increment(given)]


def of_other_kinds(x: Any) -> list[Any]:
    """Constants too large to be kept, and of a type that a start-up does not make."""
    large = x.sum() + paddle.full([17], 5.0)
    return [large, x.sum().astype("int32") + paddle.full([1], 5, "int32")]


def looped(x: Any) -> list[Any]:
    """Constants that a loop counts with."""
    count, end = paddle.full([1], 0, "int64"), paddle.full([1], 3, "int64")
    total = paddle.full([1], 0.0)
    _, total = paddle.static.nn.while_loop(
        lambda i, t: i < end, lambda i, t: (i + 1, t + x.sum()), [count, total]
    )
    return [total]


BUILDS = (step, counted, fetched, shared, branched, given_by_a_loop, of_other_kinds, looped)


@pytest.mark.skipif(
    int(paddle.__version__.split(".")[0]) < 3, reason="Paddle 2 builds in the old representation"
)
@pytest.mark.parametrize("build", BUILDS)
def test_a_program_gives_the_same_with_its_constants_made_once(build: Any) -> None:
    (own, before), (found, after) = trained(build, keep=False), trained(build, keep=True)
    for one, other in zip(own, found):
        assert np.array_equal(one, other)
    if build is step:
        assert before.count("pd_op.full") >= 8
        assert "pd_op.full" not in after
        assert not np.array_equal(own[0], own[1])  # it learns
    if build is of_other_kinds:
        assert before == after
