"""The export of a model directory without our hooks: feeds and fetches of its ``infer_net``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from paddle import static

from rec_runner.config import Config
from rec_runner.data.rows import Source, Window
from rec_runner.engine.static.contract import StaticEngine
from rec_runner.engine.static.export import chosen
from rec_runner.engine.static.program import Program
from rec_runner.exported.check import ROWS
from rec_runner.exported.manifest import ONNX, PADDLE, PADDLE_PROGRAMS, PADDLE_WEIGHTS, Tensor
from rec_runner.exported.open import Exported
from rec_runner.exported.paddle_to_onnx import paddle_to_onnx
from rec_runner.paddle_api.inference_model import origin_of, save_inference_model
from rec_runner.paddle_api.representation import type_name
from rec_runner.system.errors import RunError, UserError

Batch = tuple[Mapping[str, np.ndarray], list[np.ndarray]]  # feeds, outputs


class ForeignModel:
    """The part of a static model that predicts, with some batches of what it predicts.

    Its outputs are the fetches of ``infer_net`` that have a value for each row and are computed
    with weights, its inputs the feeds that these need; or what the config names by
    ``runner.save_inference_feed_varnames`` and ``runner.save_inference_fetch_varnames``.

    Args:
        engine: with the checkpoint's weights.
        source: rows.
        config: the run's config.

    Attributes:
        said: ``tasks``, ``inputs`` and ``outputs`` of a manifest.
        rows: how many :meth:`largest_difference` compares.

    Raises:
        UserError: nothing can be exported, or no row can be scored.
    """

    def __init__(self, engine: StaticEngine, source: Source, config: Config) -> None:
        self._engine = engine
        windows = list(_some(source))
        engine.score(windows[0])  # a network that needs another representation gets it here
        self._program: Program = engine.exported_program()
        self._inputs, self._outputs = _chosen(self._program, config)
        self._batches = list(self._scored(windows))
        if not self._batches:
            raise UserError(f"{source.name}: no batch of these rows can be scored")
        self.rows = sum(len(next(iter(feed.values()))) for feed, _ in self._batches)
        self.said = {
            "tasks": (),
            "inputs": tuple(_tensor(variable.name, variable) for variable in self._inputs),
            "outputs": tuple(_tensor(name, value) for name, value in self._outputs.items()),
        }

    def _scored(self, windows: list[Window]) -> Iterator[Batch]:
        for window in windows:
            try:
                feed = self._engine.feed_of(self._program, window)
            except UserError:  # an incomplete last batch, of a network that takes whole ones
                continue
            values = self._engine.fetch(self._program, feed, list(self._outputs.values()))
            yield {variable.name: feed[variable.name] for variable in self._inputs}, values

    def write(self, folder: Path, kind: str) -> None:
        """Write it in a format.

        Raises:
            UserError: the package that makes ONNX of it is not installed, or cannot.
            OSError: a file cannot be written.
        """
        if kind == "paddle":
            self._write_paddle(folder)
            return
        with tempfile.TemporaryDirectory() as name:
            aside = Path(name)
            self._write_paddle(aside)
            program = next(aside / file for file in PADDLE_PROGRAMS if (aside / file).is_file())
            paddle_to_onnx(program, aside / PADDLE_WEIGHTS, folder / ONNX)

    def _write_paddle(self, folder: Path) -> None:
        engine = self._engine
        with static.scope_guard(engine.scope):
            save_inference_model(
                folder / PADDLE, self._inputs, self._outputs, engine.executor, self._program.main
            )

    def largest_difference(self, model: Exported) -> tuple[float, str]:
        """How far an exported model is off at most, of 1 and of a number's size; and where."""
        worst = 0.0, ""
        for feed, own in self._batches:
            for tensor, mine, found in zip(model.manifest.outputs, own, model.run(feed)):
                if mine.shape != found.shape:
                    return np.inf, f"output {tensor.name}: shape {found.shape}, not {mine.shape}"
                ours, theirs = mine.astype(np.float64), found.astype(np.float64)
                with np.errstate(invalid="ignore"):
                    far = np.abs(ours - theirs) / (1 + np.abs(ours))
                far[np.isnan(far)] = np.inf
                far[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0
                if far.max(initial=0) > worst[0]:
                    worst = float(far.max()), f"output {tensor.name}"
        return worst


def _some(source: Source) -> Iterator[Window]:
    """Windows of a source until there are rows enough."""
    rows = 0
    with closing(source):
        for window in source.windows():
            yield window
            rows += window.rows
            if rows >= ROWS:
                return
    if not rows:
        raise RunError(f"{source.name} holds no rows")


def _chosen(program: Program, config: Config) -> tuple[list[Any], dict[str, Any]]:
    """Inputs and outputs of the exported program.

    Raises:
        UserError: a name is none of the program's, or no fetch has a value for each row.
    """
    if config.runner("save_inference_fetch_varnames"):
        return chosen(program, config)
    rows = {list(variable.shape)[0] for variable in program.feeds if list(variable.shape)}
    outputs, needed = {}, set()
    for name, value in program.named.items():
        if name not in program.aucs and list(value.shape) and list(value.shape)[0] in rows:
            origin = origin_of(program.main, value)
            if origin.learned and origin.feeds:
                outputs[name] = value
                needed |= origin.feeds
    if not outputs:
        raise UserError(
            f"{config['yaml_path']}: of what infer_net fetches ({', '.join(program.named)}) "
            "nothing is predicted for each row; name inputs and outputs by "
            "runner.save_inference_feed_varnames and runner.save_inference_fetch_varnames"
        )
    return [variable for variable in program.feeds if variable.name in needed], outputs


def _tensor(name: str, variable: Any) -> Tensor:
    shape = tuple(None if size < 0 else int(size) for size in variable.shape)
    return Tensor(name, type_name(variable), shape)
