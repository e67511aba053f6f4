"""Paddle's exported program as ONNX, by paddle2onnx: for directories without the hook.

It is called in a process of its own, which it ends where it does not know an operator (``addmm``
for one, which the network of this repository uses), and without its optimiser, which installs
packages while it runs.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from rec_runner.system.errors import UserError

OPSET = 13
_SECONDS = 1800
_CODE = """
import inspect, sys
import paddle2onnx
options = {"opset_version": int(sys.argv[4]), "enable_onnx_checker": True}
if "optimize_tool" in inspect.signature(paddle2onnx.export).parameters:
    options["optimize_tool"] = "None"
paddle2onnx.export(*sys.argv[1:4], **options)
"""


def paddle_to_onnx(program: Path, weights: Path, file: Path) -> None:
    """Convert an exported program. Inputs and outputs keep their names and order.

    Args:
        program: ``….json`` of Paddle 3, or ``….pdmodel`` of Paddle 2.
        weights: ``….pdiparams``.
        file: the ONNX model to be written.

    Raises:
        UserError: paddle2onnx is not installed, or cannot convert it.
    """
    if find_spec("paddle2onnx") is None:
        raise UserError(
            "ONNX of a model directory without the hook onnx_model is made with the package "
            "paddle2onnx, which is not installed: python -m pip install paddle2onnx, "
            "or --format paddle"
        )
    paths = [str(path.absolute()) for path in (program, weights, file)]
    command = [sys.executable, "-c", _CODE, *paths, str(OPSET)]
    try:
        # Where it runs, no file is taken for a module.
        done = subprocess.run(
            command,
            cwd=file.absolute().parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"paddle2onnx did not convert {program} in {_SECONDS} s") from error
    if done.returncode or not file.is_file() or not file.stat().st_size:
        file.unlink(missing_ok=True)
        raise UserError(f"paddle2onnx cannot convert {program}: {_reason(done.stdout)}")


def _reason(said: str) -> str:
    """The line that tells most, of what it said."""
    lines = [line.strip() for line in said.splitlines()]
    for word in ("not supported yet", "[ERROR]", "Error:", "fail"):
        found = [line for line in lines if word in line]
        if found:
            return found[-1].rpartition("] ")[2][:300]
    return "it says no reason"
