"""Scoring of models with the hooks of whole blocks: of raw rows where there is a hook for it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from rec_runner.contract.hooks import call_hook
from rec_runner.data.rows import Window, check_encoded, take
from rec_runner.engine.base import Engine, Outcome
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.system.errors import RunError
from rec_runner.system.log import warn

COMPARED_ROWS = 32
# Of a log-odds. Another order of the same sums changes it by a thousandth of that.
_TOLERANCE = 1e-3


class BlockScoring(Engine):
    """What both engines of such models share.

    The hook ``score_rows`` says a second time what the network computes. With each set of weights
    the two are compared at the first rows that are scored; where they differ, the network is right,
    and scores all rows from then on.
    """

    metrics: TaskMetrics
    _follows_network = True  # the hook ``score_rows``, as far as has been seen
    _weights_taken = False  # as they are now
    _to_compare = 0  # rows, with these weights

    @abstractmethod
    def _take_weights(self) -> None:
        """Make what ``score_rows`` needs of the weights."""

    @abstractmethod
    def _score_rows(self, window: Window) -> np.ndarray:
        """Log-odds ``[n, T]`` of a window of raw rows, by the hook ``score_rows``."""

    @abstractmethod
    def _score_encoded(self, window: Window) -> np.ndarray:
        """Log-odds ``[n, T]`` of a window of encoded rows, by the network."""

    def score(self, window: Window) -> Outcome:
        """See :meth:`Engine.score`."""
        if not self.scores_rows:
            return self._count_scores(window, self._score_encoded(window))
        if self._follows_network and not self._weights_taken:
            self._take_weights()
            self._weights_taken, self._to_compare = True, COMPARED_ROWS
        if self._follows_network and self._to_compare:
            self._compare(window)
        if self._follows_network:
            return self._count_scores(window, self._score_rows(window))
        return self._count_scores(window, self._score_encoded(self._encoded(window)))

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """See :meth:`Engine.set_state_dict`."""
        super().set_state_dict(state)  # type: ignore[safe-super]
        self._weights_taken = False

    def _compare(self, window: Window) -> None:
        """Let a few rows be scored both ways."""
        rows = min(window.rows, self._to_compare)
        self._to_compare -= rows
        some = window._replace(arrays=take(window.arrays, slice(rows)), rows=rows)
        ours, own = self._score_rows(some), self._score_encoded(self._encoded(some))
        if ours.shape != own.shape:
            return  # the metrics tell it
        with np.errstate(over="ignore", invalid="ignore"):
            off = np.abs(ours - own) / (1 + np.abs(own))
        off[np.isnan(off)] = np.inf  # a number that only one of the two has
        off[(ours == own) | (np.isnan(ours) & np.isnan(own))] = 0
        self._follows_network = bool(off.max() <= _TOLERANCE)
        if not self._follows_network:
            row = int(off.max(axis=1).argmax())
            warn(
                f"the hook score_rows gives log-odds {_numbers(ours[row])} where the network's "
                f"are {_numbers(own[row])}, and is not used; a network that has changed has to "
                "change there too"
            )

    def _encoded(self, window: Window) -> Window:
        raw = window.arrays["features"]
        encoded = self.encode(raw)
        check_encoded(raw, encoded, window.files)
        return window._replace(arrays={**window.arrays, "features": encoded})

    def _scoring_weights(self) -> dict[str, np.ndarray]:
        """What the hook ``score_rows`` needs of the weights as they are."""
        return call_hook(self.model, "scoring_weights", self.state_dict())

    def _count_scores(self, window: Window, log_odds: np.ndarray) -> Outcome:
        """Let the metrics count the log-odds ``[n, T]`` of a window that was scored.

        Raises:
            RunError: one is not a number: no metric of them would mean anything.
        """
        if np.isnan(log_odds).any():
            if self.scores_rows:
                self._encoded(window)  # says so if a row is too large to be encoded
            row = int(np.argmax(np.isnan(log_odds).any(axis=1)))
            raise RunError(
                f"the network gives NaN for row {window.first_batch * window.batch_size + row} "
                f"(from 0) of the rows scored{window.place}; are its values very large?"
            )
        self.metrics.update(window.arrays["labels"], log_odds)
        return Outcome(np.empty(0), window.batch_rows, {})


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)
