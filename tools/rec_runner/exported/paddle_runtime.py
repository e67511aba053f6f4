"""The Paddle model of an export, run by Paddle Inference."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.exported.manifest import PADDLE_PROGRAMS, PADDLE_WEIGHTS, Manifest, damaged
from rec_runner.system.environment import prepare_environment


class PaddleRuntime:
    """Runs the model on the processor; each thread that runs it at the same time has a copy.

    Copies share the weights.

    Args:
        folder: the export's, its files compared with their checksums.
        manifest: what it says of itself.
        threads: threads of a matrix product.

    Raises:
        UserError: Paddle cannot make anything of the files, or they are not of these inputs and
            outputs.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        prepare_environment(threads, None)
        # Paddle 2.6 brings a zlib of its own, which breaks Python's unless that comes first.
        import zlib  # noqa: F401

        from paddle import inference

        program = next(name for name in PADDLE_PROGRAMS if name in manifest.files)
        config = inference.Config(str(folder / program), str(folder / PADDLE_WEIGHTS))
        config.disable_gpu()
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(threads)
        # oneDNN, which Paddle 3 takes by default, is up to five times as slow with few rows; and in
        # 3.3 it computes some networks wrongly, such as one that adds a product of another shape.
        for switch in ("disable_onednn", "disable_mkldnn"):
            if hasattr(config, switch):
                getattr(config, switch)()
        self._types = {tensor.name: np.dtype(tensor.dtype) for tensor in manifest.inputs}
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self._lock = threading.Lock()
        try:
            self._first = inference.create_predictor(config)
            found = set(self._first.get_input_names()), set(self._first.get_output_names())
        except Exception as error:
            raise damaged(folder, program, str(error).split("(at /")[0]) from error
        if not (found[0] == set(self._types) and found[1] >= set(self._outputs)):
            names = f"{sorted(found[0])[:5]} and {sorted(found[1])[:5]}"
            raise damaged(folder, program, f"its inputs and outputs are {names}")
        self._idle: list[Any] = [self._first]

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Feed arrays by name; the manifest's outputs come back in their order."""
        predictor = self._take()
        try:
            for name, kind in self._types.items():
                array = np.ascontiguousarray(feeds[name], kind)
                handle = predictor.get_input_handle(name)
                handle.reshape(array.shape)
                handle.copy_from_cpu(array)
            predictor.run()
            return [predictor.get_output_handle(name).copy_to_cpu() for name in self._outputs]
        finally:
            with self._lock:
                self._idle.append(predictor)

    def _take(self) -> Any:
        """A predictor that no other thread runs now."""
        with self._lock:
            return self._idle.pop() if self._idle else self._first.clone()

    def close(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._idle.clear()
            self._first = None
