"""What is done about losses, weights and scores that are not finite numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from rec_runner.data.rows import Window
from rec_runner.engine.base import Engine, Outcome
from rec_runner.system.errors import RunError


class FiniteTraining:
    """Trains on windows, and lets no loss or weight through that is not finite.

    Args:
        engine: the engine, its weights those that training starts from: a weight that holds an
            infinity then, such as a mask, may hold one later.
        skip_bad_batches: leave a batch out if its loss, or a weight after it, is not finite,
            rather than stop.
    """

    def __init__(self, engine: Engine, skip_bad_batches: bool) -> None:
        self.engine = engine
        self.skip_bad_batches = skip_bad_batches
        self._exempt: frozenset[str] = frozenset()
        self._exempt = frozenset(self.broken(engine.state_dict()))

    def broken(self, weights: Mapping[str, np.ndarray]) -> list[str]:
        """Names of the weights that hold a NaN or an infinity and should not."""
        names = [name for name, weight in weights.items() if not np.isfinite(weight).all()]
        return [name for name in names if name not in self._exempt]

    def train(self, window: Window, epoch: int, step: int) -> tuple[Outcome | None, list[int]]:
        """Train on a window.

        Returns:
            the outcome, None if every batch was left out, and which ones were.

        Raises:
            RunError: a loss is not finite, and bad batches are not to be skipped.
        """
        if self.skip_bad_batches:
            return self._train_around(window, step)
        outcome = self.engine.train(window, step)
        finite = np.isfinite(outcome.losses)
        if finite.all():
            return outcome, []
        bad = int(np.argmin(finite))
        raise RunError(
            f"loss is {outcome.losses[bad]} at epoch {epoch}, batch {window.first_batch + bad}"
            f"{window.place}; earlier checkpoints are intact; a lower learning rate or "
            "-o runner.skip_bad_batches=true may help"
        )

    def _train_around(self, window: Window, step: int) -> tuple[Outcome | None, list[int]]:
        """Train on a window but for its bad batches, found by halving it."""
        before, counted = self.engine.snapshot(), self.engine.metrics.mark()
        outcome = self.engine.train(window, step)
        if np.isfinite(outcome.losses).all() and not self.broken(self.engine.state_dict()):
            return outcome, []
        self.engine.restore(before)
        self.engine.metrics.rewind(counted)
        if window.batches == 1:
            return None, [window.first_batch]
        middle = window.batches // 2
        first, first_skipped = self._train_around(window.part(0, middle), step)
        rest = window.part(middle, window.batches)
        second, second_skipped = self._train_around(rest, step + middle)
        return _joined([first, second]), first_skipped + second_skipped


def _joined(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """Outcomes of consecutive windows as one; None of none."""
    known = [outcome for outcome in outcomes if outcome is not None]
    if not known:
        return None
    losses, rows, values = zip(*known)
    return Outcome(np.concatenate(losses), np.concatenate(rows), values[-1])
