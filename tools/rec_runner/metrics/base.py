"""What the loop asks of the metrics of a pass, whoever counts them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from rec_runner.system.schema import is_shown

MAX_SHOWN = 4
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Words of a metric's name that tell its kind, and ends of words: RMSELoss, totalloss.
_ERRORS = set("cost bce nll entropy perplexity ppl err deviation rmsle wape".split())
_ERROR_ENDS = ("loss", "losses", "error", "errors", "mse", "mae", "mape")
_SCORES = {"auc", "gauc", "acc", "accuracy"}


class Metrics(ABC):
    """Metrics of one pass over the rows; an engine counts each window it trains on or scores.

    Attributes:
        default_monitor: the metric that decides which epoch is best where the config names none.
    """

    default_monitor = "auc"

    @abstractmethod
    def reset(self) -> None:
        """Forget all rows."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """Values over all rows so far, by name; None where one is undefined."""

    def running(self) -> dict[str, Any]:
        """The same for a log line in mid-pass, perhaps with fewer of them."""
        return self.result()

    def possible_names(self) -> list[str] | None:
        """All names that :meth:`result` may give, None where rows have to come first to tell."""
        return None

    def lower_is_better(self, name: str) -> bool:
        """Direction of a value of :meth:`result`."""
        return sounds_like_error(name)

    @abstractmethod
    def last_batch(self, rows: int) -> dict[str, np.ndarray]:
        """What the last batch gave, by name.

        Args:
            rows: how many rows it had.
        """

    def predictions(self) -> dict[str, np.ndarray]:
        """Columns of ``predictions.csv``, a row for each one scored; none where it is not known."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What has been counted, for a checkpoint in mid-epoch."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any], rows: int) -> None:
        """Count on from what :meth:`state_dict` gave.

        Args:
            state: it, perhaps by a stranger's hand: whatever it may hold is checked.
            rows: how many rows it is of.

        Raises:
            ValueError: it is not what these metrics give.
        """

    @abstractmethod
    def mark(self) -> Any:
        """Where the count stands, for :meth:`rewind`; taken before each window."""

    @abstractmethod
    def rewind(self, mark: Any) -> None:
        """Forget the rows that came after :meth:`mark`."""


def sounds_like_error(name: str) -> bool:
    """Whether less of a metric is better, by the last word of its name that tells its kind.

    Whole words count, so that a task called ``apply`` does not make an error of ``auc_apply``.
    A name that tells nothing is taken for a score, of which more is better.
    """
    words = re.findall("[a-z]+", _WORD_START.sub("_", name).lower())
    errors = [word in _ERRORS or word.endswith(_ERROR_ENDS) for word in words]
    kinds = [error for word, error in zip(words, errors) if error or word in _SCORES]
    return bool(kinds) and kinds[-1]


def array_of(value: Any) -> np.ndarray:
    """A Tensor, array, number or list as an array."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def plain(values: Mapping[str, Any], arrays: bool = False) -> dict[str, Any]:
    """Tensors, arrays and lists as numbers, text and lists that records and checkpoints hold.

    Args:
        values: by name.
        arrays: show larger arrays too, abbreviated to a line of text, rather than leave them out.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        array = array_of(value)
        if array.size == 1:
            number = array.item()
            undefined = isinstance(number, float) and np.isnan(number)
            found[name] = None if undefined else number if is_shown(number) else str(number)
        elif isinstance(value, (list, tuple)):
            items = array.tolist()
            found[name] = items if is_shown(items) else str(items)
        elif arrays:
            text = np.array2string(array, threshold=MAX_SHOWN, edgeitems=1, precision=6)
            found[name] = " ".join(text.split())
    return found
