"""Labels as they are in life: not known of some rows, weighed, and not all of one type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.contract.guard import check_returned
from rec_runner.contract.hooks import call_hook
from rec_runner.data.rows import Arrays, Window
from rec_runner.system.errors import UserError

Index = Any  # of a weight's first axis: a number or a slice; an Ellipsis is the whole weight
Kept = list[tuple[Any, Index, np.ndarray]]


def row_weights(window: Window) -> np.ndarray:
    """The weights of a window's rows, float32 ``[n, 1]``.

    Raises:
        UserError: the reader gives none, or one that is no finite number of at least 0.
    """
    weights = window.arrays.get("weights")
    if weights is None:
        raise UserError(
            "the model's weighs_rows asks for weights of rows, and the reader's blocks have no "
            f"array weights{window.place}"
        )
    if weights.size != window.rows or weights.dtype.kind not in "fiu":
        raise UserError(
            f"the reader's array weights should hold a number for each of {window.rows} rows, and "
            f"is {weights.dtype} of shape {list(weights.shape)}{window.place}"
        )
    column = weights.astype(np.float32, copy=False).reshape(-1, 1)
    right = (column >= 0) & (column < np.inf)
    if not right.all():
        raise UserError(
            f"the reader gives a row the weight {column[~right][0]:g}, expected a finite number "
            f"of at least 0{window.place}"
        )
    return column


def counted_arrays(arrays: Arrays, weighs: bool) -> dict[str, np.ndarray]:
    """What metrics take beside labels and log-odds: ``weights``, ``groups`` that are numbers."""
    found = {"weights": arrays["weights"].reshape(-1)} if weighs else {}
    groups = arrays.get("groups")
    if groups is not None and groups.dtype.kind in "iu":
        found["groups"] = groups.astype(np.int64, copy=False).reshape(-1)
    return found


def unknown_tasks(window: Window, weights: np.ndarray | None) -> list[list[int]]:
    """The tasks of which a batch tells nothing: no row has a label, and a weight above 0.

    Args:
        window: the batches.
        weights: of its rows, ``[n, 1]``, or None.

    Returns:
        indices of tasks for each batch; empty where no batch has any.
    """
    labels = window.arrays["labels"]
    known = ~np.isnan(labels)
    if weights is not None:
        known &= weights > 0
    if known.all():
        return []
    told = np.logical_or.reduceat(known, range(0, window.rows, window.batch_size), axis=0)
    return [] if told.all() else [np.flatnonzero(~row).tolist() for row in told]


class TaskWeights:
    """The weights that are of one task alone, by the hook ``weights_of_task``.

    A step changes them even in a batch that tells nothing of the task, for momentum and decay go
    on without a gradient: an engine keeps them before such a step, and puts them back after it.

    Args:
        model: that has the hook.
        weights: all of the network's, by name.
    """

    def __init__(self, model: Any, weights: Arrays) -> None:
        self._model = model
        self._shapes = {name: weight.shape for name, weight in weights.items()}
        self._parts: dict[int, list[_Part]] = {}

    def keep(
        self,
        tasks: Iterable[int],
        holders: Callable[[str], Sequence[Any]],
        read: Callable[[Any], np.ndarray],
    ) -> Kept:
        """What is of some tasks alone, of weights and of the optimizer's slots.

        Args:
            tasks: their indices.
            holders: from the name of a weight to what holds it, and its slots.
            read: from a holder to a copy of its array.

        Returns:
            holders, which part of their arrays is meant, and what it was.
        """
        kept: Kept = []
        for part in (part for task in tasks for part in self._of(task)):
            for holder in holders(part.name):
                array = read(holder)
                if part.whole:
                    kept.append((holder, ..., array))
                elif array.shape == part.shape:  # a power of beta, say, is one number for all
                    kept.append((holder, part.index, array[part.index]))
        return kept

    def _of(self, task: int) -> list[_Part]:
        """The parts of weights that are a task's.

        Raises:
            UserError: the hook names what is no weight of the network, or no part of one.
        """
        if task not in self._parts:
            hook = "weights_of_task"
            found, parts = call_hook(self._model, hook, task), []
            for name, index in found.items():
                shape = self._shapes.get(name, ())
                rows = np.arange(shape[0] if shape else 0)
                fits = bool(shape) and (isinstance(index, slice) or index in rows)
                what = f"names of weights and indices of their first axes, not {name}: {index}"
                check_returned(self._model, hook, found, fits, what)
                parts.append(_Part(name, shape, index, rows[index].size == len(rows)))
            self._parts[task] = parts
        return self._parts[task]


class _Part(NamedTuple):
    """A weight's name and shape, which part of it is meant, and if that is all of it."""

    name: str
    shape: tuple[int, ...]
    index: Index
    whole: bool
