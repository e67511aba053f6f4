"""An ONNX model that a hook made, checked and written; large weights beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rec_runner.exported.manifest import ONNX, ONNX_DATA
from rec_runner.system.errors import UserError
from rec_runner.system.files import sync_file

MOST_INSIDE = 1_500_000_000  # bytes of weights; a file of protobuf has less than 2 GB


def write_onnx(model: Any, folder: Path, most_inside: int = MOST_INSIDE) -> None:
    """Write ``model.onnx``; with more weights than it may hold, ``model.onnx.data`` too.

    Args:
        model: what the hook ``onnx_model`` gave, an ``onnx.ModelProto``; of weights that go into
            ``model.onnx.data`` it then has none.
        folder: where neither file is yet.
        most_inside: bytes of weights that ``model.onnx`` may hold.

    Raises:
        UserError: it is no valid ONNX model, or the package ``onnx`` is missing.
        OSError: a file cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            "an ONNX model is written with the package onnx, which is not installed: "
            "python -m pip install onnx"
        ) from error
    file = folder / ONNX
    try:
        beside = sum(len(weight.raw_data) for weight in model.graph.initializer) > most_inside
        onnx.save_model(model, str(file), save_as_external_data=beside, location=ONNX_DATA)
        onnx.checker.check_model(str(file), full_check=True)
    except OSError:
        raise
    except Exception as error:  # protobuf's, and the checker's several kinds
        text = " ".join(str(error).split())[:300]
        raise UserError(f"the hook onnx_model gives no valid ONNX model: {text}") from error
    for written in (folder / ONNX_DATA, file) if beside else (file,):
        with open(written, "rb+") as stream:
            sync_file(stream)
