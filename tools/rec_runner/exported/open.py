"""An export folder opened for predictions: by ONNX Runtime, or by Paddle Inference."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from rec_runner.exported.manifest import Manifest, read_manifest, verify_files
from rec_runner.system.errors import UserError

RUNTIMES = ("auto", "onnx", "paddle")


class Runtime(Protocol):
    """What runs the model of one format, called from any number of threads at once."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Feed arrays by name; the manifest's outputs come back in their order."""

    def close(self) -> None:
        """Give its memory back; :meth:`run` is not called again."""


class Exported:
    """A model ready to predict; what it needs is in memory, its folder may go or be replaced.

    Made by :func:`open_export`.

    Attributes:
        folder: where it came from.
        manifest: what it says of itself.
        runtime: ``onnx`` or ``paddle``.
    """

    def __init__(self, folder: Path, manifest: Manifest, runtime: str, running: Runtime) -> None:
        self.folder = folder
        self.manifest = manifest
        self.runtime = runtime
        self._running = running

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions of rows; any number of threads may ask at once.

        Args:
            features: float32 ``[n, F]``, encoded inside; n may be 0.

        Returns:
            float32 ``[n, T]``, in the manifest's order of tasks: a binary task's probability of
            class 1, a regression task's number; NaN in a row that the network can make none of.

        Raises:
            UserError: the export has no tasks: it is of a directory without our hooks.
        """
        tasks = self.manifest.tasks
        if not tasks:
            raise UserError(
                f"export {self.folder} is of a model directory without our hooks: rows for it need "
                "that directory's own reader, and its model is fed by names; see model.json"
            )
        rows = np.ascontiguousarray(features, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.manifest.feature_size:
            expected = f"[n, {self.manifest.feature_size}]"
            raise ValueError(f"features should have shape {expected}, got {list(rows.shape)}")
        if not len(rows):
            return np.empty((0, len(tasks)), np.float32)
        found = self.run({self.manifest.inputs[0].name: rows})
        return np.stack([output.reshape(-1) for output in found], axis=1)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Feed arrays by the names of the manifest's inputs; its outputs come back in order."""
        return self._running.run(feeds)

    def close(self) -> None:
        """Give its memory back; nothing else is called from then on."""
        self._running.close()


def open_export(folder: Path, runtime: str = "auto", threads: int | None = None) -> Exported:
    """Open an export folder, its checksums compared.

    Args:
        folder: what ``tools/export.py`` wrote.
        runtime: ``onnx``, which imports no Paddle, ``paddle``, or ``auto``: ONNX Runtime where it
            is installed and the export has ONNX, else Paddle Inference.
        threads: threads of a prediction; None takes 1.

    Raises:
        UserError: no export, a damaged one, one without this format; or the package is missing.
    """
    manifest = read_manifest(folder)
    chosen = _chosen(folder, manifest, runtime)
    verify_files(folder, manifest, (chosen,))
    running: Runtime
    if chosen == "onnx":
        from rec_runner.exported.onnx_runtime import OnnxRuntime

        running = OnnxRuntime(folder, manifest, threads or 1)
    else:
        from rec_runner.exported.paddle_runtime import PaddleRuntime

        running = PaddleRuntime(folder, manifest, threads or 1)
    return Exported(folder, manifest, chosen, running)


def _chosen(folder: Path, manifest: Manifest, runtime: str) -> str:
    """The format to run.

    Raises:
        UserError: the export lacks it, or this machine what runs it.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"runtime {runtime!r} is none, expected {' or '.join(RUNTIMES)}")
    packages = {"onnx": "onnxruntime", "paddle": "paddle"}
    installed = {name: find_spec(package) is not None for name, package in packages.items()}
    if runtime == "auto":
        found = [name for name in packages if name in manifest.formats and installed[name]]
        if found:
            return found[0]
        runtime = manifest.formats[0]
    if runtime not in manifest.formats:
        raise UserError(
            f"export {folder} has no {runtime} model: it was written with --format "
            f"{' '.join(manifest.formats)}"
        )
    if not installed[runtime]:
        package = {"onnx": "onnxruntime", "paddle": "paddlepaddle"}[runtime]
        raise UserError(
            f"the {runtime} model of export {folder} needs a package that is not installed: "
            f"python -m pip install {package}"
        )
    return runtime
