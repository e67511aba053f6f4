"""An export's ONNX model in ONNX Runtime; imports no Paddle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.exported.manifest import ONNX, ONNX_DATA, Manifest
from rec_runner.exported.onnx_weights import files_of_weights
from rec_runner.system.errors import UserError
from rec_runner.system.files import read_file

# Rows that a thread gets at once: few enough for the processor's cache, so that a table's rows go
# through 1.4 times as fast as 1,024 at once, and for memory, however many are asked for.
PIECE_ROWS = 256
_SILENT = 4  # what goes wrong is raised; it would be written on standard error too


class OnnxRuntime:
    """A model in memory, which any number of threads may run at once.

    Args:
        folder: the export, whose files have been checked.
        manifest: what it says of itself.
        threads: threads of one run.

    Raises:
        UserError: the package is missing; or the file cannot be run, or is not the model that
            the manifest describes.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        self._file = folder / ONNX
        self._session: Any = _open(self._file, ONNX_DATA in manifest.files, threads)
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self._in_pieces = bool(manifest.tasks)  # one input, and a number in each row
        self._piece = PIECE_ROWS * threads
        for what, tensors, found in (
            ("inputs", manifest.inputs, self._session.get_inputs()),
            ("outputs", manifest.outputs, self._session.get_outputs()),
        ):
            expected, names = {tensor.name for tensor in tensors}, {own.name for own in found}
            if expected != names:
                raise UserError(
                    f"{self._file} has the {what} {', '.join(sorted(names))}, expected "
                    f"{', '.join(sorted(expected))} as model.json says"
                )

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Feed arrays by name; the manifest's outputs come back in their order.

        Raises:
            UserError: arrays of another type or shape, or that the model cannot take.
        """
        rows = max((len(array) for array in feeds.values()), default=0)
        if self._in_pieces and not rows:
            # ONNX Runtime up to 1.23 at least divides by the rows, which ends the process.
            return [np.empty(0, np.float32) for _ in self._outputs]
        if not self._in_pieces or rows <= self._piece:
            return self._run(dict(feeds))
        pieces = [
            self._run({name: array[start : start + self._piece] for name, array in feeds.items()})
            for start in range(0, rows, self._piece)
        ]
        return [np.concatenate(parts) for parts in zip(*pieces)]

    def close(self) -> None:
        """Give its memory back; :meth:`run` is not called again."""
        self._session = None

    def _run(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(self._outputs, feeds)
        except Exception as error:  # of many classes, of which only some have names
            raise UserError(f"{self._file} cannot be run: {_line(error)}") from error


def _open(file: Path, has_data: bool, threads: int) -> Any:
    """A session of ONNX Runtime.

    Args:
        file: the model.
        has_data: its weights lie beside it.
        threads: threads of one run.

    Raises:
        UserError: the package is missing, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"to run {file} needs the package onnxruntime, which cannot be imported ({error}): "
            "python -m pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that wait for the next run do not use up a processor.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its own other format, which is told by a file's first bytes, is not looked through here.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    data = read_file(file)
    _check_weights(file, data, has_data)
    try:
        # By its bytes, so that the file may be replaced meanwhile; on Windows too.
        model = str(file) if has_data else data
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:  # of many classes, of which only some have names
        raise UserError(f"{file} is no model that ONNX Runtime can run: {_line(error)}") from error


def _check_weights(file: Path, model: bytes, has_data: bool) -> None:
    """Refuse a model whose weights lie in another file than an export has for them.

    Raises:
        UserError: names the file; or it is no ONNX model.
    """
    try:
        elsewhere = files_of_weights(model) - ({ONNX_DATA} if has_data else set())
    except ValueError as error:
        raise UserError(f"{file} is no model that ONNX Runtime can run: {error}") from error
    if elsewhere:
        raise UserError(
            f"{file} has weights in the file {min(elsewhere)[:200]!r}, which is none of this "
            "export's; nothing of it is opened"
        )


def _line(error: Exception) -> str:
    """What ONNX Runtime says, without what it puts before."""
    text = " ".join(str(error).split())
    return text.rpartition("[ONNXRuntimeError] : ")[2][:300]
