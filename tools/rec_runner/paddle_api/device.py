"""The device that a config asks for, and arrays on it.

Nothing private; kinds of device and the sharing of memory differ between versions of Paddle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.system.errors import UserError

# Paddle 2.6 takes only DLPack capsules, not objects that make them.
_SHARES_MEMORY = int(paddle.__version__.split(".")[0]) >= 3


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


def as_tensor(array: np.ndarray) -> paddle.Tensor:
    """A Tensor that shares the array's memory where device and Paddle allow it, else a copy."""
    shareable = array.flags.c_contiguous and array.flags.writeable
    if _SHARES_MEMORY and shareable and paddle.get_device() == "cpu":
        return paddle.utils.dlpack.from_dlpack(array)
    return paddle.to_tensor(array)
