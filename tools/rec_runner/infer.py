"""The job of the two infer tools: score the test rows with the checkpoints of some epochs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rec_runner.build import (
    build_engine,
    load_weights_into,
    warn_of_other_tasks,
    warn_unused,
)
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights
from rec_runner.config import Config
from rec_runner.data.columns import COLUMNS, difference, known_columns
from rec_runner.data.loader_source import CustomSource
from rec_runner.data.rows import Source
from rec_runner.data.sources import test_folder
from rec_runner.engine.base import Engine
from rec_runner.keys import BY_NAME
from rec_runner.report.report import Report
from rec_runner.score import GONE, ScoredFolder, open_test_rows, score_checkpoint
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn
from rec_runner.system.parts import remove_left_overs

CONTRACT_EPOCHS = 10


def infer(graph: str, config: Config) -> None:
    """Score the test rows with the checkpoints that the config asks for.

    Args:
        graph: ``dygraph`` or ``static``.
        config: the run's config.
    """
    checkpoints = Checkpoints(config.runner("infer_load_path"))
    epochs = _epochs_to_score(config, checkpoints)
    config.update(_columns_of(epochs, checkpoints))
    engine, reader = build_engine(graph, config, "infer", scores=True)
    warn_unused(graph, "infer", config, engine, reader)
    epochs = _within_range(epochs, config, engine)
    source = _open_rows(config, reader, engine, passes=len(epochs))
    writable = os.access(checkpoints.folder, os.W_OK)
    if writable:
        remove_left_overs(checkpoints.folder, within=True)
    file = checkpoints.folder / "infer_metrics.jsonl" if writable else None
    report = Report(file, make_folder=False)
    for epoch in epochs:
        scored = ScoredFolder(checkpoints.folder / str(epoch))
        try:
            load_weights_into(engine, load_weights(scored.folder), str(scored.folder))
        except UserError as error:
            if scored.is_there():
                raise
            if _asked(config) != (None, None):
                raise UserError(
                    f"checkpoint {scored.folder}, which runner.infer_start_epoch and "
                    f"runner.infer_end_epoch name, {GONE}"
                ) from error
            warn(f"checkpoint {scored.folder} {GONE}, and is left out")
            continue
        fingerprint = checkpoints.fingerprint(epoch)
        warn_of_other_tasks(fingerprint, config, engine.model, scored.folder)
        _warn_of_another_share(fingerprint, config, scored.folder)
        score_checkpoint(engine, source, scored, epoch, config, report)
    if not report.records:
        raise UserError(f"{checkpoints.folder}: no checkpoint is left to score; start again")
    report.summary()


def _open_rows(config: Config, reader: Any, engine: Engine, passes: int) -> Source:
    if reader is None:
        return CustomSource(engine.data_loader, engine.model, drop_last=False)
    return open_test_rows(config, reader, engine, passes)


def _asked(config: Config) -> tuple[int | None, int | None]:
    """The range of epochs that the config names."""
    return config.runner("infer_start_epoch"), config.runner("infer_end_epoch")


def _epochs_to_score(config: Config, checkpoints: Checkpoints) -> list[int]:
    """The epochs asked for; if none is, the best, or without validation all that there are.

    Raises:
        UserError: there is no checkpoint, or not the one asked for.
    """
    start, end = _asked(config)
    there, stale = checkpoints.epochs(), checkpoints.stale_epochs()
    if start is None and end is None:
        best = checkpoints.best_epoch()
        epochs: Sequence[int]
        epochs = [e for e in there if e not in stale] if best is None else [best]
    else:
        start = start or 0
        if end is not None and end <= start:
            raise UserError(
                f"runner.infer_start_epoch {start} and runner.infer_end_epoch {end} name no epoch: "
                f"the end is one past the last, so {start + 1} or more was expected"
            )
        # Without an end, at least the first has to be there.
        epochs = range(start, max([start, *there]) + 1 if end is None else end)
    missing = next((epoch for epoch in epochs if epoch not in there), None)
    if missing is not None or not epochs:
        wanted = "any epoch" if missing is None else f"epoch {missing}"
        left = " (an earlier run's)"
        known = ", ".join(f"{e}{left if e in stale else ''}" for e in there) or "none"
        raise UserError(
            f"runner.infer_load_path: no checkpoint of {wanted} in "
            f"{checkpoints.folder.absolute()}; epochs there: {known}"
        )
    for epoch in stale:
        fate = "is scored" if epoch in epochs else "is left out"
        warn(f"checkpoint {checkpoints.folder / str(epoch)} is an earlier run's and {fate}")
    return list(epochs)


def _columns_of(epochs: Sequence[int], checkpoints: Checkpoints) -> dict[str, Any]:
    """What these checkpoints know of the columns of rows, for the config.

    Raises:
        UserError: they do not know the same.
    """
    found: dict[str, Any] = {}
    first = 0
    for epoch in epochs:
        known = known_columns(checkpoints.fingerprint(epoch))
        if known and not found:
            found, first = known, epoch
        differs = difference(found[COLUMNS], known[COLUMNS]) if known else ""
        if differs:
            raise UserError(
                f"checkpoints {first} and {epoch} in {checkpoints.folder} were trained on other "
                f"columns ({differs}); score them one at a time, with runner.infer_start_epoch "
                "and runner.infer_end_epoch"
            )
    return found


def _warn_of_another_share(fingerprint: Mapping[str, Any], config: Config, folder: Path) -> None:
    """Of rows that were drawn by another share or seed, some may have been trained on."""
    if not (fingerprint and test_folder(config)[1]):
        return
    for name in ("test_share", "seed"):
        key, now = f"runner.{name}", config.runner(name)
        was = fingerprint.get(key, BY_NAME[name].default)
        if was != now:
            warn(
                f"{key} was {was} when checkpoint {folder} was trained and is {now} now: rows that "
                "it was trained on may be among the test rows"
            )


def _within_range(epochs: list[int], config: Config, engine: Engine) -> list[int]:
    """The contract's range of epochs, 0 to 9, where neither config nor hooks say more."""
    if engine.reads_blocks or _asked(config) != (None, None):
        return epochs
    within = [epoch for epoch in epochs if epoch < CONTRACT_EPOCHS]
    if within and within != epochs:
        warn(
            f"epochs {within[0]} to {within[-1]} are scored, as without runner.infer_start_epoch "
            f"and runner.infer_end_epoch; there are checkpoints up to {epochs[-1]}"
        )
    return within or epochs
