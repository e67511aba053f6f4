"""Test rows and the scoring of a checkpoint on them: the infer tools' job, and a training's end."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Callable

from rec_runner.build import load_reader, read_first_block
from rec_runner.config import Config
from rec_runner.contract.hooks import has
from rec_runner.data.block_source import BlockSource
from rec_runner.data.columns import COLUMNS, settle_columns
from rec_runner.data.rows import Source
from rec_runner.data.sources import open_source, share_of, test_folder
from rec_runner.engine.base import Engine
from rec_runner.loop.loop import evaluate
from rec_runner.report.predictions import write_predictions
from rec_runner.report.report import Report
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import write_arrays
from rec_runner.system.log import warn
from rec_runner.system.signals import StopSignal

GONE = "was removed or replaced meanwhile, as by a training run with runner.keep_checkpoints"


class ScoredFolder:
    """The folder of a checkpoint, which a training run may remove while it is scored.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._status = _status(folder)

    def is_there(self) -> bool:
        """Whether it is the very folder that it was."""
        then, now = self._status, _status(self.folder)
        return then is not None and now is not None and os.path.samestat(then, now)

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file into it; warn where it is gone, and make none.

        Raises:
            RunError: the file cannot be written, for another reason.
        """
        if self.folder.is_symlink():
            warn(f"checkpoint {self.folder} is a link, {name} is not written through it")
            return
        try:
            if self.is_there():
                write(self.folder / name)
                return
        except RunError:
            if self.is_there():
                raise
        warn(f"checkpoint {self.folder} {GONE}; {name} is not written")


def _status(folder: Path) -> os.stat_result | None:
    with suppress(OSError):
        return os.stat(folder)
    return None


def open_test_rows(config: Config, reader: Any, engine: Engine, passes: int = 1) -> Source:
    """The rows that the config tests on: ``test_data_dir``'s, or a share of the training rows.

    Args:
        config: the run's config.
        reader: class ``RecDataset`` for them.
        engine: what will score them.
        passes: how often.
    """
    folder, part = test_folder(config)
    share = share_of(config, "test") if part else None
    types = engine.task_types
    source = open_source(config, reader, "infer", engine.reads_blocks, folder, share, types)
    if not engine.scores_rows:
        source.encode_with(engine.encode, keep=False)
    if isinstance(source, BlockSource) and passes == 1:
        source.cache_bytes = 0  # read once, the rows need not be kept
    return source


def open_rows_after_training(config: Config, engine: Engine) -> Source:
    """The same for a trainer's ``test_at_end``: read by the reader that infer would read them by.

    Raises:
        UserError: it does not read blocks, as the training's reader does.
    """
    reader = load_reader(engine.model_dir, config, "infer")
    if COLUMNS in config:
        settle_columns(config, reader, test_folder(config)[0])
    if engine.reads_blocks:
        if not has(reader, "blocks"):
            raise UserError(
                f"runner.test_at_end: RecDataset of {reader.__module__}.py has no blocks(), as "
                "that of runner.train_reader_path has"
            )
        read_first_block(config, "infer", reader)  # a wrong file should not wait for the end
    return open_test_rows(config, reader, engine)


def score_checkpoint(
    engine: Engine,
    source: Source,
    scored: ScoredFolder,
    epoch: int,
    config: Config,
    report: Report,
    stop: StopSignal | None = None,
) -> None:
    """Score test rows, report it, and write beside the checkpoint what the config asks for.

    Args:
        engine: it, the checkpoint's weights loaded.
        source: the rows.
        scored: the checkpoint's folder.
        epoch: the checkpoint's.
        config: the run's config.
        report: where progress and the record go.
        stop: says when a person wants a training run to end.

    Raises:
        Interrupted: a signal came, and not all rows are scored.
    """
    interval = config.runner("print_interval")
    meter, _ = evaluate(engine, source, epoch, "infer", report, interval, stop)
    predictions = engine.metrics.predictions() if config.runner("save_predictions") else {}
    if predictions:
        scored.write("predictions.csv", partial(write_predictions, columns=predictions))
    if config.runner("use_save_data"):
        scored.write("last_infer_batch.npz", partial(write_arrays, arrays=meter.last_batch()))
