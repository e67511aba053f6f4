"""What a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


@dataclass
class Progress:
    """Where a run stands, all that the loop needs to go on from there.

    Attributes:
        run: names the run, so that epochs which an earlier one left are not taken for its own.
        epoch: the epoch to train next, or the one in training.
        batch: batches of it already trained on.
        step: batches trained on since the start of the run.
        best_epoch: the best epoch so far by the monitored value, None without validation.
        best_value: its monitored value.
        skipped_batches: batches left out because their loss was not finite.
        records: the records of all epochs so far.
    """

    run: str = ""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int | None = None
    best_value: float | None = None
    skipped_batches: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)


class Snapshot(NamedTuple):
    """All that a checkpoint holds.

    Attributes:
        progress: where the run stood.
        weights: name to array.
        optimizer: slot to array.
        meter: what the epoch's meter had collected; empty at the end of an epoch.
        fingerprint: what must not change before a resume, see ``checkpoint.resume``.
        last_batch: name to array, what the epoch's last training batch gave, for people: written
            with the rest, and not read again; None writes none.
    """

    progress: Progress
    weights: Mapping[str, np.ndarray]
    optimizer: Mapping[str, Any]
    meter: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    last_batch: Mapping[str, np.ndarray] | None = None
