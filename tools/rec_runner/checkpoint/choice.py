"""Which one of a run's checkpoints a tool takes that wants a single one."""

from __future__ import annotations

from rec_runner.checkpoint.store import Checkpoints
from rec_runner.config import Config
from rec_runner.system.errors import UserError


def choose_epoch(config: Config, checkpoints: Checkpoints, asked: str | None = None) -> int:
    """The epoch whose checkpoint is to be used.

    Args:
        config: the run's config.
        checkpoints: those of ``runner.infer_load_path``.
        asked: ``best``, ``last`` or a number; by default the last of the range that the config
            names for infer, else the best, or without validation the last.

    Raises:
        UserError: there is no such checkpoint, or ``asked`` is nothing of the kind.
    """
    there, stale = checkpoints.epochs(), set(checkpoints.stale_epochs())
    own = [epoch for epoch in there if epoch not in stale]
    wanted, epoch = f"epoch {asked}", None
    if asked is not None and asked.isdecimal() and len(asked) < 10:
        epoch = int(asked)
    elif asked == "last":
        wanted, epoch = "any epoch", max(own, default=None)
    elif asked == "best":
        epoch = checkpoints.best_epoch()
        if epoch is None and there:
            raise UserError(
                f"--epoch best: the run in {checkpoints.folder} marked none, it had no validation; "
                f"--epoch last takes epoch {max(own or there)}"
            )
    elif asked is not None:
        raise UserError(f"--epoch {asked}: best, last or the number of an epoch was expected")
    else:
        start, end = config.runner("infer_start_epoch"), config.runner("infer_end_epoch")
        if end is not None:
            epoch = end - 1
        elif start is not None:
            epoch = max([start, *own])
        else:
            best = checkpoints.best_epoch()
            epoch = max(own, default=None) if best is None else best
        wanted = "any epoch" if epoch is None else f"epoch {epoch}"
    if epoch is None or epoch not in there:
        known = ", ".join(f"{e}{' (an earlier run)' if e in stale else ''}" for e in there)
        raise UserError(
            f"runner.infer_load_path: no checkpoint of {wanted} in "
            f"{checkpoints.folder.absolute()}; epochs there: {known or 'none'}"
        )
    return epoch
