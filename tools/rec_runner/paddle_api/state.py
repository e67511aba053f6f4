"""Small facts about Paddle that both engines need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle

from rec_runner.config import Config
from rec_runner.system.errors import UserError


def step_seed(seed: int, step: int) -> int:
    """Seed of a training step's random operators.

    Seeding every step makes dropout a function of the position in the run alone: both graph paths
    draw the same masks, and a resumed run draws what the interrupted one would have drawn.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & 0x7FFFFFFF


def rename_slots(
    state: Mapping[str, Any], names: Mapping[str, str], old: str, new: str
) -> dict[str, Any]:
    """Rename optimizer slots ``<weight><old><slot>`` to ``<other weight name><new><slot>``.

    Paddle calls a slot after the weight's variable, whose name differs between runs and graph
    paths; a checkpoint calls it after the weight's place in the network.

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


def select_device(config: Config) -> str:
    """Make the device that the config asks for Paddle's current one.

    Returns:
        its name: ``cpu``, ``gpu``, ``xpu`` or ``npu``.

    Raises:
        UserError: two devices asked for, or one that this Paddle does not have.
    """
    wanted = [name for name in ("gpu", "xpu", "npu") if config.runner(f"use_{name}")]
    if len(wanted) > 1:
        raise UserError(f"runner: only one of use_{' and use_'.join(wanted)} can be true")
    device = wanted[0] if wanted else "cpu"
    built = {
        "cpu": lambda: True,
        "gpu": paddle.is_compiled_with_cuda,
        "xpu": paddle.is_compiled_with_xpu,
        "npu": lambda: "npu" in paddle.device.get_all_custom_device_type(),
    }
    if not built[device]():
        raise UserError(
            f"runner.use_{device} is true, but this paddlepaddle {paddle.__version__} was built "
            f"without {device.upper()} support; set -o runner.use_{device}=false"
        )
    paddle.set_device(device)
    return device


def place_of(device: str) -> Any:
    """Paddle's place object of a device name, for an Executor."""
    makers = {
        "cpu": paddle.CPUPlace,
        "gpu": lambda: paddle.CUDAPlace(0),
        "xpu": lambda: paddle.XPUPlace(0),
        "npu": lambda: paddle.CustomPlace("npu", 0),
    }
    return makers[device]()


def has_two_representations() -> bool:
    """Whether this Paddle can hold a static program in a new and in an old representation.

    Paddle 3 has both and starts with the new one; Paddle 2.6 has the old one only.
    """
    return hasattr(getattr(paddle, "pir_utils", None), "OldIrGuard")


def use_representation(old: bool) -> None:
    """Build programs in Paddle's old or new representation from now on; static mode has to be on.

    Programs, scopes and executors that were made before must not be used any more.
    """
    if has_two_representations() and paddle.framework.in_pir_mode() == old:
        # Paddle means these for a with block; an engine stays with its representation.
        guard = paddle.pir_utils.OldIrGuard() if old else paddle.pir_utils.IrGuard()
        guard.__enter__()
