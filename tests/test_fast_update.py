"""The fast eager update against Paddle's own step, for every setting that an optimizer may have.

Each case trains with both and has to end in the same bits, but in last digits where an AdamW asks
for one operator for all weights, which Paddle's own step has not; where a static program can have
the setting, that one has to end in the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import paddle
import pytest
from paddle.utils import unique_name

from rec_runner.paddle_api.fused_adam import direct_update, merge_updates, whole_step
from rec_runner.paddle_api.slots import step_optimizer

STEPS = 6
SHAPES = {"hidden": (3, 4), "out": (4, 2)}
# Paddle 2.6 has operators with other arguments, and keeps its own step always.
HAS_FAST = hasattr(
    paddle.optimizer.Adam(parameters=[paddle.create_parameter([1], "float32")]), "_amsgrad"
)


class Case(NamedTuple):
    """A setting.

    Attributes:
        kind: the optimizer's class.
        options: its arguments, made anew for every run.
        attributes: of the parameter ``hidden``.
        change: what happens to the optimizer and its parameters before the third step.
        fast: whether the fast update knows it.
        static: whether a static program can have it.
        merged: an AdamW that asks for one operator for all weights.
    """

    kind: str
    options: Callable[[], Mapping[str, Any]] = dict
    attributes: Callable[[], Mapping[str, Any]] = dict
    change: Callable[[Any, list[Any]], None] = lambda optimizer, parameters: None
    fast: bool = False
    static: bool = True
    merged: bool = False


def schedule() -> dict[str, Any]:
    return {"learning_rate": paddle.optimizer.lr.LambdaDecay(0.1, lambda step: 1 / (1 + step))}


def clip() -> dict[str, Any]:
    return {"grad_clip": paddle.nn.ClipGradByGlobalNorm(0.1)}


def freeze(place: int, frozen: bool) -> Callable[[Any, list[Any]], None]:
    def change(optimizer: Any, parameters: list[Any]) -> None:
        parameters[place].stop_gradient = frozen

    return change


def l2() -> Any:
    return paddle.regularizer.L2Decay(0.5)


CASES = {
    "plain": Case("Adam", fast=True),
    "decoupled": Case("AdamW", lambda: {"weight_decay": 0.3}, fast=True),
    "betas": Case("Adam", lambda: {"beta1": 0.5, "beta2": 0.6, "epsilon": 1e-3}, fast=True),
    "schedule": Case("AdamW", schedule, fast=True, static=False),
    "another rate": Case("Adam", change=lambda o, p: o.set_lr(0.5), fast=True, static=False),
    "another schedule": Case(
        "Adam",
        change=lambda o, p: o.set_lr_scheduler(paddle.optimizer.lr.NaturalExpDecay(0.5, 0.1)),
        fast=True,
        static=False,
    ),
    "frozen": Case("Adam", attributes=lambda: {"trainable": False}, fast=True),
    "frozen later": Case("Adam", change=freeze(0, True), fast=True, static=False),
    "thawed later": Case(
        "AdamW",
        attributes=lambda: {"trainable": False},
        change=freeze(0, False),
        fast=True,
        static=False,
    ),
    "clipped later": Case(
        "AdamW",
        change=lambda o, p: setattr(o, "_grad_clip", clip()["grad_clip"]),
        static=False,
        fast=True,
    ),
    "a weight's rate later": Case(
        "Adam",
        change=lambda o, p: p[0].optimize_attr.update(learning_rate=0.1),
        static=False,
        fast=True,
    ),
    "a weight's regularizer later": Case(
        "Adam", change=lambda o, p: setattr(p[0], "regularizer", l2()), static=False, fast=True
    ),
    "decay later": Case(
        "AdamW", change=lambda o, p: setattr(o, "_weight_decay", 0.5), static=False, fast=True
    ),
    "amsgrad": Case("Adam", lambda: {"amsgrad": True}),
    "decoupled amsgrad": Case("AdamW", lambda: {"amsgrad": True}),
    "lazy mode": Case("Adam", lambda: {"lazy_mode": True}),
    "decoupled lazy mode": Case("AdamW", lambda: {"lazy_mode": True}),
    "multi tensor": Case("Adam", lambda: {"use_multi_tensor": True}, fast=True),
    "multi tensor, betas": Case(
        "Adam", lambda: {"use_multi_tensor": True, "beta1": 0.5, "epsilon": 1e-3}, fast=True
    ),
    "multi tensor, schedule": Case(
        "Adam", lambda: {"use_multi_tensor": True, **schedule()}, fast=True, static=False
    ),
    "multi tensor, frozen": Case(
        "Adam",
        lambda: {"use_multi_tensor": True},
        attributes=lambda: {"trainable": False},
        fast=True,
    ),
    "multi tensor, another rate": Case(
        "Adam",
        lambda: {"use_multi_tensor": True},
        change=lambda o, p: o.set_lr(0.5),
        fast=True,
        static=False,
    ),
    "multi tensor, clipped later": Case(
        "Adam",
        lambda: {"use_multi_tensor": True},
        change=lambda o, p: setattr(o, "_grad_clip", clip()["grad_clip"]),
        fast=True,
        static=False,
    ),
    "multi tensor amsgrad": Case("Adam", lambda: {"use_multi_tensor": True, "amsgrad": True}),
    "multi tensor, decay": Case("Adam", lambda: {"use_multi_tensor": True, "weight_decay": 0.3}),
    "multi tensor, clipped": Case("Adam", lambda: {"use_multi_tensor": True, **clip()}),
    "decoupled multi tensor": Case("AdamW", lambda: {"weight_decay": 0.3}, fast=True, merged=True),
    "decoupled multi tensor, schedule": Case(
        "AdamW", schedule, fast=True, static=False, merged=True
    ),
    "decoupled multi tensor, frozen": Case(
        "AdamW", attributes=lambda: {"trainable": False}, fast=True, merged=True
    ),
    "decoupled multi tensor, thawed later": Case(
        "AdamW",
        attributes=lambda: {"trainable": False},
        change=freeze(0, False),
        fast=True,
        static=False,
        merged=True,
    ),
    "decoupled multi tensor, clipped": Case("AdamW", clip, merged=True),
    "decoupled multi tensor, clipped later": Case(
        "AdamW",
        change=lambda o, p: setattr(o, "_grad_clip", clip()["grad_clip"]),
        static=False,
        fast=True,
        merged=True,
    ),
    "decoupled multi tensor, decay later": Case(
        "AdamW",
        change=lambda o, p: setattr(o, "_weight_decay", 0.5),
        static=False,
        fast=True,
        merged=True,
    ),
    "decoupled multi tensor, a weight's rate": Case(
        "AdamW", attributes=lambda: {"learning_rate": 0.1}, merged=True
    ),
    "decoupled multi tensor, decay of some": Case(
        "AdamW", lambda: {"apply_decay_param_fun": lambda name: "out" in name}, merged=True
    ),
    "decoupled multi tensor amsgrad": Case("AdamW", lambda: {"amsgrad": True}, merged=True),
    "decoupled multi tensor, groups": Case(
        "AdamW", lambda: {"groups": {"weight_decay": 0.5}}, static=False, merged=True
    ),
    "multi precision": Case("Adam", lambda: {"multi_precision": True}),
    "low precision": Case("AdamW", lambda: {"use_lowprecision_moment": True}, static=False),
    "decay of some": Case(
        "AdamW", lambda: {"weight_decay": 0.3, "apply_decay_param_fun": lambda name: "out" in name}
    ),
    "decay": Case("Adam", lambda: {"weight_decay": 0.3}),
    "L1 decay": Case("Adam", lambda: {"weight_decay": paddle.regularizer.L1Decay(0.3)}),
    "clipped": Case("Adam", clip),
    "decoupled clipped": Case("AdamW", clip),
    "clipped but one": Case("AdamW", clip, lambda: {"need_clip": False}),
    "clipped by value": Case(
        "Adam", lambda: {"grad_clip": paddle.nn.ClipGradByValue(0.01)}, static=False
    ),
    "a weight's rate": Case("Adam", attributes=lambda: {"learning_rate": 0.1}),
    "decoupled weight's rate": Case("AdamW", attributes=lambda: {"learning_rate": 0.1}),
    "a weight's regularizer": Case("Adam", attributes=lambda: {"regularizer": l2()}),
    "decoupled weight's regularizer": Case("AdamW", attributes=lambda: {"regularizer": l2()}),
    "a beta that is a Tensor": Case(
        "Adam",
        lambda: {"beta1": paddle.to_tensor([0.5]), "beta2": paddle.to_tensor([0.6])},
        static=False,
    ),
    "groups": Case("Adam", lambda: {"groups": {"learning_rate": 0.1}}, static=False),
    "decoupled groups": Case(
        "AdamW", lambda: {"groups": {"weight_decay": 0.5, "beta1": 0.2}}, static=False
    ),
    "a kind of its own": Case("Halved", static=False),
    "another optimizer": Case("Momentum"),
}


class Halved(paddle.optimizer.Adam):
    """An Adam whose update is not Adam's."""

    def step(self) -> None:
        rate = self.get_lr()
        self.set_lr(rate / 2)
        super().step()
        self.set_lr(rate)


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def batches() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(STEPS, 5, 3)).astype(np.float32)


def make_parameters(case: Case) -> list[Any]:
    """Parameters with the start's values."""
    made = []
    for name, value in start().items():
        attributes = case.attributes() if name == "hidden" else {}
        initializer = paddle.nn.initializer.Assign(value)
        attr = paddle.ParamAttr(unique_name.generate(name), initializer, **attributes)
        make = paddle.create_parameter if paddle.in_dynamic_mode() else static_parameter
        made.append(make(list(value.shape), "float32", attr=attr))
    return made


def static_parameter(shape: list[int], dtype: str, attr: Any) -> Any:
    return paddle.static.create_parameter(shape, dtype, attr=attr)


def make_optimizer(case: Case, parameters: list[Any] | None) -> Any:
    options = {"learning_rate": 0.1, **case.options()}
    groups = options.pop("groups", None)
    if groups is not None:
        parameters = [{"params": [p], **(groups if i else {})} for i, p in enumerate(parameters)]
    kind = Halved if case.kind == "Halved" else getattr(paddle.optimizer, case.kind)
    optimizer = kind(parameters=parameters, **options)
    if case.merged:
        optimizer.use_multi_tensor = True
    return optimizer


def loss_of(rows: Any, parameters: list[Any]) -> Any:
    hidden, out = parameters
    return paddle.mean(paddle.tanh(paddle.matmul(paddle.tanh(paddle.matmul(rows, hidden)), out)))


def eager(case: Case, fast: bool) -> tuple[list[np.ndarray], str]:
    """Weights after the steps, and which update the last one was."""
    parameters = make_parameters(case)
    optimizer = make_optimizer(case, parameters)
    update: Callable[[], None] | None = None
    for step, rows in enumerate(batches()):
        if step == 2:
            case.change(optimizer, parameters)
        loss_of(paddle.to_tensor(rows), parameters).backward()
        if update is None:
            (whole_step if fast else step_optimizer)(optimizer)
            update = direct_update(optimizer) if fast else None
        else:
            update()
        rate = case.options().get("learning_rate")
        if rate is not None:
            optimizer._learning_rate.step()
    return [parameter.numpy() for parameter in parameters], update.__name__ if update else ""


def in_static_program(case: Case) -> tuple[list[np.ndarray], list[str]]:
    """Weights after the steps, and names of the operators that updated them."""
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    guard = paddle.static.program_guard(main, startup)
    with guard, unique_name.guard(), paddle.static.scope_guard(scope):
        rows = paddle.static.data("rows", [None, 3], "float32")
        loss = loss_of(rows, make_parameters(case))
        optimizer = make_optimizer(case, None)
        optimizer.minimize(loss)
        merge_updates(main, optimizer)
        executor = paddle.static.Executor()
        executor.run(startup)
        for batch in batches():
            executor.run(main, feed={"rows": batch})
        weights = [np.array(scope.find_var(f"{name}_0").get_tensor()) for name in SHAPES]
    operators = main.global_block().ops
    names = [operator.name() for operator in operators] if HAS_FAST else []
    return weights, [name for name in names if "adam" in name]


@pytest.mark.parametrize("name", CASES)
def test_the_fast_update_ends_in_the_bits_of_paddles_own(name: str) -> None:
    case = CASES[name]
    if not HAS_FAST and {"amsgrad", "use_lowprecision_moment"} & case.options().keys():
        pytest.skip("this Paddle has no such setting")
    expected, _ = eager(case, fast=False)
    weights, update = eager(case, fast=True)
    assert update == ("direct" if case.fast and HAS_FAST else "whole")
    for ours, own, first in zip(weights, expected, start().values()):
        if case.merged:
            np.testing.assert_allclose(ours, own, rtol=1e-5, atol=1e-6)
        else:
            assert np.array_equal(ours, own)
        assert case.attributes() == {"trainable": False} or not np.array_equal(own, first)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.static])
def test_the_static_program_ends_in_the_same_numbers(name: str) -> None:
    case = CASES[name]
    if not HAS_FAST and {"amsgrad", "use_lowprecision_moment"} & case.options().keys():
        pytest.skip("this Paddle has no such setting")
    expected, _ = eager(case, fast=True)
    paddle.enable_static()
    try:
        weights, updates = in_static_program(case)
    finally:
        paddle.disable_static()
    asks = case.merged or case.options().get("use_multi_tensor")
    if HAS_FAST and asks and not {"amsgrad", "apply_decay_param_fun"} & case.options().keys():
        assert updates == ["pd_op.merged_adam_"]
    else:
        assert "pd_op.merged_adam_" not in updates
    for ours, own in zip(weights, expected):
        np.testing.assert_allclose(ours, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "multi tensor",
        "decoupled multi tensor",
        "decoupled multi tensor, clipped",
        "decoupled multi tensor, a weight's rate",
    ],
)
def test_one_operator_for_all_weights_ends_in_the_same_bits_in_both_graphs(name: str) -> None:
    case = CASES[name]
    expected, _ = eager(case, fast=True)
    paddle.enable_static()
    try:
        weights, _ = in_static_program(case)
    finally:
        paddle.disable_static()
    for ours, own in zip(weights, expected):
        assert np.array_equal(ours, own)


@pytest.mark.parametrize("name", ["decoupled", "multi tensor"])
def test_a_weight_that_a_batch_does_not_reach_moves_as_in_paddles_own_step(name: str) -> None:
    """Paddle keeps the zeros of a cleared gradient, and Adam goes on by its moments."""
    results = []
    for fast in (False, True):
        first, second = (paddle.create_parameter([2], "float32") for _ in range(2))
        for weight in (first, second):
            weight.set_value(np.ones(2, np.float32))
        optimizer = make_optimizer(CASES[name], [first, second])
        update = None
        for step in range(STEPS):
            (first.sum() if step % 2 else (first + second).sum()).backward()
            (update or partial(step_optimizer, optimizer))()
            update = update or (direct_update(optimizer) if fast else None)
        results.append([first.numpy(), second.numpy()])
    assert np.array_equal(*results)


@pytest.mark.skipif(not HAS_FAST, reason="Paddle 2.6 keeps its own step, which fails")
def test_a_weight_that_is_frozen_before_an_update_is_made_stays_as_it_is() -> None:
    """Paddle's own step fails then where one operator updates all weights."""
    results = []
    for name in ("plain", "multi tensor"):
        parameters = make_parameters(CASES[name])
        optimizer = make_optimizer(CASES[name], parameters)
        update = partial(step_optimizer, optimizer)
        for rows in batches():
            loss_of(paddle.to_tensor(rows), parameters).backward()
            update()
            parameters[0].stop_gradient = True
            update = direct_update(optimizer)
        results.append([parameter.numpy() for parameter in parameters])
    for ours, own in zip(*results):
        np.testing.assert_allclose(ours, own, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Adam", "SGD"])
def test_sparse_gradients_are_taken_as_paddle_takes_them(kind: str) -> None:
    results = []
    for fast in (False, True):
        table = paddle.nn.Embedding(5, 2, sparse=True)
        table.weight.set_value(np.arange(10, dtype=np.float32).reshape(5, 2))
        optimizer = getattr(paddle.optimizer, kind)(0.1, parameters=table.parameters())
        update = None
        for step in range(STEPS):
            table(paddle.to_tensor([step % 5, 1])).sum().backward()
            (update or partial(step_optimizer, optimizer))()
            update = update or (direct_update(optimizer) if fast else None)
        results.append(table.weight.numpy())
    assert np.array_equal(*results)


def test_a_ratio_of_rates_is_left_to_paddle() -> None:
    """Paddle refuses ``lr_ratio`` on a CPU; it is set here as on a GPU."""
    weight = paddle.create_parameter([2], "float32")
    optimizer = paddle.optimizer.AdamW(0.1, parameters=[weight])
    optimizer._lr_ratio = lambda parameter: 0.5
    weight.sum().backward()
    step_optimizer(optimizer)
    assert direct_update(optimizer).__name__ == "whole"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.merged])
def test_a_merged_decay_ends_in_the_same_bits_wherever_a_run_is_resumed(name: str) -> None:
    """What a run does at its first step, and after a resume, is what it does at every step."""
    case = CASES[name]
    if not HAS_FAST and case.options().keys() & {"amsgrad"}:
        pytest.skip("this Paddle has no such setting")
    expected, _ = eager(case, fast=True)
    parameters = make_parameters(case)
    optimizer = make_optimizer(case, parameters)
    for step, rows in enumerate(batches()):
        if step == 2:
            case.change(optimizer, parameters)
        loss_of(paddle.to_tensor(rows), parameters).backward()
        whole_step(optimizer)
        if "learning_rate" in case.options():
            optimizer._learning_rate.step()
    for ours, own in zip(expected, parameters):
        assert np.array_equal(ours, own.numpy())
