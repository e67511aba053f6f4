"""The device that a config asks for, and arrays on it.

Nothing private; kinds of device and the sharing of memory differ between versions of Paddle.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import paddle

from rec_runner.config import Config
from rec_runner.system.errors import UserError

# Paddle 2.6 takes only DLPack capsules, not objects that make them.
_SHARES_MEMORY = int(paddle.__version__.split(".")[0]) >= 3

# Whether a Paddle has a kind of device, and the place of the first of them.
_DEVICES = {
    "cpu": (lambda: True, lambda: paddle.CPUPlace()),
    "gpu": (lambda: paddle.is_compiled_with_cuda(), lambda: paddle.CUDAPlace(0)),
    "xpu": (lambda: paddle.is_compiled_with_xpu(), lambda: paddle.XPUPlace(0)),
    "npu": (
        lambda: "npu" in (paddle.device.get_all_custom_device_type() or ()),
        lambda: paddle.CustomPlace("npu", 0),
    ),
}


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
    if not _DEVICES[device][0]():
        raise UserError(
            f"runner.use_{device} is true, but this paddlepaddle {paddle.__version__} was built "
            f"without {device.upper()} support; set -o runner.use_{device}=false"
        )
    paddle.set_device(device)
    return device


def place_of(device: str) -> Any:
    """Paddle's place object of a device name, for an Executor."""
    return _DEVICES[device][1]()


def as_tensor(array: np.ndarray) -> paddle.Tensor:
    """A Tensor that shares the array's memory where device and Paddle allow it, else a copy."""
    shareable = array.flags.c_contiguous and array.flags.writeable
    if _SHARES_MEMORY and shareable and paddle.get_device() == "cpu":
        return paddle.utils.dlpack.from_dlpack(cast(Any, array))
    return paddle.to_tensor(array)
