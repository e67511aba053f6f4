"""Environment variables that Paddle reads when it is imported; set here and nowhere else."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from rec_runner.system.log import warn

# From this batch size on a second thread saves more than waking it costs.
THREADED_BATCH = 256
MOST_THREADS = 8
OLD_PROGRAMS = "FLAGS_enable_pir_api"


def prepare_environment(threads: int | None, batch_size: int | None) -> None:
    """Set what has to be set before ``import paddle``; a person's own settings stand, but one.

    Args:
        threads: CPU threads of Paddle's operators; None chooses them by ``batch_size``.
        batch_size: rows in a batch.
    """
    if threads is None:
        cores = os.cpu_count() or 1
        threads = min(cores, MOST_THREADS) if (batch_size or 1) >= THREADED_BATCH else 1
    settings = {
        "MKL_NUM_THREADS": str(threads),
        # Paddle's start-up chatter; warnings of ours do not go through glog.
        "GLOG_minloglevel": "2",
        # The executor runs a small network's operators faster in order on one thread, and need
        # not free memory after each of them.
        "FLAGS_new_executor_serial_run": "1",
        "FLAGS_eager_delete_tensor_gb": "-1",
    }
    if threads == 1:
        # With more, left alone: Paddle sets it itself, and warns of any other value than 1.
        settings["OMP_NUM_THREADS"] = "1"
    else:
        # Milliseconds that a thread of Intel's OpenMP, which Paddle brings, waits at full speed for
        # more work. By default 200: on few cores the reader's threads want them. With none at all
        # the system wakes it again on the core of the thread that it should relieve.
        settings["KMP_BLOCKTIME"] = "1"
    if _is_amd():
        # The MKL in Paddle's wheel takes a slow path on AMD processors unless told otherwise.
        settings["MKL_DEBUG_CPU_TYPE"] = "5"
    # Paddle warns of a missing compiler cache that only its C++ extensions would use.
    warnings.filterwarnings("ignore", message="No ccache found")
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if os.environ.get(OLD_PROGRAMS, "").lower() in ("0", "false"):
        # The old programs of Paddle 3.3 have no matmul; engines choose between old and new.
        del os.environ[OLD_PROGRAMS]
        warn(
            f"{OLD_PROGRAMS}=0 is not followed: a static network that needs Paddle's old program "
            "representation is found out and gets it"
        )


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return False
