"""Which epochs' checkpoints a config asks for, and what they know of the columns of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rec_runner.checkpoint.store import Checkpoints
from rec_runner.config import Config
from rec_runner.data.columns import COLUMNS, difference, known_columns
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn


def asked_range(config: Config) -> tuple[int | None, int | None]:
    """The range of epochs that the config names."""
    return config.runner("infer_start_epoch"), config.runner("infer_end_epoch")


def epochs_to_score(config: Config, checkpoints: Checkpoints) -> list[int]:
    """The epochs asked for; if none is, the best, or without validation all that there are.

    Raises:
        UserError: there is no checkpoint, or not the one asked for.
    """
    start, end = asked_range(config)
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


def columns_of_epochs(epochs: Sequence[int], checkpoints: Checkpoints) -> dict[str, Any]:
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


def chosen_epoch(config: Config, checkpoints: Checkpoints, wanted: str | None = None) -> int:
    """The one epoch whose checkpoint is to be used.

    Args:
        config: the run's config.
        checkpoints: of ``runner.infer_load_path``.
        wanted: its number, ``best`` or ``last``; None for the one that the config's range of
            epochs names, else the best, and without validation the last.

    Raises:
        UserError: there is no such checkpoint, or no such word.
    """
    if wanted is None:
        return epochs_to_score(config, checkpoints)[-1]
    there = checkpoints.epochs()
    if wanted == "best":
        epoch = checkpoints.best_epoch()
        if epoch is None:
            raise UserError(
                f"--epoch best: no epoch in {checkpoints.folder.absolute()} is marked as best, as "
                "a training run with validation marks it; --epoch last takes the last one"
            )
    elif wanted == "last":
        stale = checkpoints.stale_epochs()
        epoch = max((e for e in there if e not in stale), default=0)
    elif wanted.isdecimal():
        epoch = int(wanted[:20])
    else:
        raise UserError(f"--epoch {wanted}: expected best, last or the number of an epoch")
    if epoch not in there:
        known = ", ".join(map(str, there)) or "none"
        raise UserError(
            f"--epoch {wanted}: no checkpoint of epoch {epoch} in "
            f"{checkpoints.folder.absolute()}; epochs there: {known}"
        )
    return epoch
