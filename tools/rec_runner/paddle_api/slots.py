"""What an optimizer holds beside the weights: its slots and its schedule.

Private: ``_accumulators``, ``_accumulators_holder``, ``_create_accumulators``, ``_learning_rate``,
``helper`` and the names that end in ``_acc_str`` of ``paddle.optimizer``, which Paddle 2.6 to 3.3
have alike, and ``paddle.base.layer_helper``; SGD, without slots, has all but the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle


def schedule_of(optimizer: Any) -> paddle.optimizer.lr.LRScheduler | None:
    """An optimizer's learning-rate schedule, None where its rate is constant."""
    rate = optimizer._learning_rate
    return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None


def slot_names(optimizer: Any) -> list[str]:
    """Names of the variables of an optimizer's slots; it makes them at its first steps."""
    kinds = getattr(optimizer, "_accumulators", {}).values()
    return [slot.name for slots in kinds for slot in slots.values()]


def slots_of(optimizer: Any, weight: str) -> list[Any]:
    """The variables of an optimizer's slots for a weight, by the name of its variable."""
    kinds = getattr(optimizer, "_accumulators", {}).values()
    return [slots[weight] for slots in kinds if weight in slots]


def make_slots(optimizer: Any, weights: Sequence[Any]) -> None:
    """Have an optimizer make its slots for some weights now, which its first step would make."""
    make = getattr(optimizer, "_create_accumulators", None)
    if make is not None:
        with paddle.utils.unique_name.guard():
            if optimizer.helper is None:  # which a step of 2.6 would make first
                optimizer.helper = paddle.base.layer_helper.LayerHelper(type(optimizer).__name__)
            make(paddle.static.default_main_program().global_block(), list(weights))


def has_slots(optimizer: Any) -> bool:
    """Whether an optimizer of Paddle's keeps slots, made already or not; its class names them."""
    return any(name.endswith("_acc_str") for name in dir(type(optimizer)))


def slots_to_come(optimizer: Any) -> dict[str, Any]:
    """The optimizer's own dict of values, by name, that its slots take when they are made."""
    return getattr(optimizer, "_accumulators_holder", {})


def step_optimizer(optimizer: Any) -> None:
    """``step`` and ``clear_grad``; slots that it makes are named alike in every optimizer.

    Paddle numbers them, so that those of an optimizer made anew would not be found again.
    """
    with paddle.utils.unique_name.guard():
        optimizer.step()
        optimizer.clear_grad()


def rename_slots(
    state: Mapping[str, Any], names: Mapping[str, str], old: str, new: str
) -> dict[str, Any]:
    """Rename optimizer slots ``<weight><old><slot>`` to ``<other weight name><new><slot>``.

    Paddle calls a slot after the weight's variable, whose name differs between runs and
    graphs; a checkpoint calls it after the weight's place in the network.

    Args:
        state: slot to array.
        names: weight's name in ``state`` to its new name.
        old: what stands between weight and slot in ``state``.
        new: what shall stand there.
    """
    renamed = {}
    for key, value in state.items():
        fits = [name for name in names if key.startswith(name + old)]
        weight = max(fits, key=len, default=None)
        if weight is None:
            renamed[key] = value
        else:
            renamed[names[weight] + new + key[len(weight) + len(old) :]] = value
    return renamed
