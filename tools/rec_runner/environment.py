"""Environment variables that Paddle reads when it is imported; set here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_environment(threads: int) -> None:
    """Set what has to be set before ``import paddle``; a person's own settings stand.

    Args:
        threads: CPU threads of Paddle's operators.
    """
    settings = {
        "OMP_NUM_THREADS": str(threads),
        # Paddle's start-up chatter; warnings of ours do not go through glog.
        "GLOG_minloglevel": "2",
        # The executor runs a small network's operators faster in order on one thread, and need
        # not free memory after each of them.
        "FLAGS_new_executor_serial_run": "1",
        "FLAGS_eager_delete_tensor_gb": "-1",
    }
    if _is_amd():
        # The MKL in Paddle's wheel takes a slow path on AMD processors unless told otherwise.
        settings["MKL_DEBUG_CPU_TYPE"] = "5"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return False
