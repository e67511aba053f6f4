"""Which epoch is the best one: ``runner.monitor``."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from rec_runner.metrics.base import Metrics
from rec_runner.report.report import Record, scores
from rec_runner.system.errors import UserError

_DIRECTION = re.compile(r"(?:(min|max):)?(.*)", re.DOTALL)


class Monitor:
    """The value of a validation record that decides which epoch is best.

    Args:
        text: name of a metric, perhaps after ``min:`` or ``max:``; a kind of metric alone, such as
            ``auc``, is the mean over the tasks that have it. None for the metrics' own default.
        metrics: whose values they are; they know which way is better.
    """

    def __init__(self, text: str | None, metrics: Metrics) -> None:
        self.text = metrics.default_monitor if text is None else text
        match = _DIRECTION.fullmatch(self.text)
        assert match is not None
        self.direction, self.name = match.groups()
        self.metrics = metrics

    def check(self) -> None:
        """Refuse a name that no record will have, as far as that is known before the first one.

        Raises:
            UserError: there is no such metric.
        """
        names = self.metrics.possible_names()
        if names is not None and not self._names(dict.fromkeys(names)):
            raise self._absent(names)

    def value(self, record: Record) -> float | None:
        """The value, or None where it is undefined, or is ``auc``, the default, and there is none.

        Raises:
            UserError: there is no such metric, or it is not one number.
        """
        known = scores(record)
        values = [known[name] for name in self._names(record)]
        if not values and self.name != "auc":
            raise self._absent(known)
        if not values or None in values:
            return None
        if not all(isinstance(value, (int, float)) for value in values):
            raise UserError(f"runner.monitor: {self.name} is not one number but {values[0]!r}")
        return float(np.mean(values))

    def is_better(self, record: Record, best: float | None) -> bool:
        """Whether a record's value, which is defined, is better than the best so far."""
        value = self.value(record)
        if best is None or value is None:
            return value is not None
        lower = self.direction == "min"
        if self.direction is None:
            lower = self.metrics.lower_is_better(self._names(record)[0])
        return value < best if lower else value > best

    def _absent(self, known: Iterable[str]) -> UserError:
        why = ", for which rows need groups" if re.match("gauc(_|$)", self.name) else ""
        return UserError(
            f"runner.monitor: validation gives no {self.name}{why}; "
            f"it gives {', '.join(known) or 'nothing'}"
        )

    def _names(self, record: Record) -> list[str]:
        known = scores(record)
        if self.name in known:
            return [self.name]
        return [key for key in known if key.startswith(f"{self.name}_")]
