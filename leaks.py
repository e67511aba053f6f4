"""Features that look like labels: a network that is given them learns nothing else.

A label left among the features, or what is only known after it, makes scores too good to be true;
where the network is used, it is not there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

AUC_LIMIT = 0.99
CORRELATION_LIMIT = 0.999
LEAST_ROWS = 30  # of each class; fewer may be parted by chance
SAMPLE = 56  # rows of each class that show which columns are worth a closer look
MOST_NAMED = 5
_HOW = "hyper_parameters.ignored_columns leaves it out, or kind: ignore in a schema"


def warn_of_leaks(
    features: np.ndarray, names: Sequence[str], labels: np.ndarray, task_names: Sequence[str]
) -> None:
    """Warn of features that predict a task alone or are called like one.

    A binary task is predicted where the column alone has an AUC above 0.99 or below 0.01, any other
    where the two rise and fall together (a correlation above 0.999 or below -0.999).

    Args:
        features: float32 ``[n, F]``, some rows.
        names: of the features.
        labels: float32 ``[n, T]`` of these rows, NaN where a label is not known.
        task_names: of the tasks.
    """
    for task, task_name in enumerate(task_names):
        known = np.flatnonzero(np.isfinite(labels[:, task]))
        target = labels[known, task]
        if ((target == 0) | (target == 1)).all():
            measure, found = "AUC", _predicting(features, known[target == 1], known[target == 0])
        else:
            measure, found = "correlation", _following(features, known, target)
        if found:
            shown = found[:MOST_NAMED]
            called = ", ".join(repr(names[column]) for column, _ in shown)
            values = ", ".join(f"{value:.4f}" for _, value in shown)
            more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            many = len(found) > 1
            warnings.warn(
                f"feature{'s' * many} {called}{more} alone predict{'s' * (not many)} task "
                f"{task_name} ({measure} {values}): a label, or what is only known after it, "
                f"should be no feature; {_HOW}",
                stacklevel=1,
            )
    tasks = {_bare(name): name for name in task_names}
    for name in names:
        if _bare(name) in tasks:
            warnings.warn(
                f"feature {name!r} is called like task {tasks[_bare(name)]}: a label should be no "
                f"feature; {_HOW}",
                stacklevel=1,
            )


def _bare(name: str) -> str:
    """A name without case, and without the word label before or after it."""
    return name.casefold().removeprefix("label_").removesuffix("_label")


def _spread(rows: np.ndarray) -> np.ndarray:
    """At most ``SAMPLE`` of some rows, from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)]


def _predicting(
    features: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> list[tuple[int, float]]:
    """Columns that part two classes of rows, and their AUC, the clearest first."""
    if min(len(positive), len(negative)) < LEAST_ROWS:
        return []
    # An AUC of some rows tells which columns can reach the limit with all; to sort each takes long.
    above = features[_spread(positive)][:, np.newaxis]
    below = features[_spread(negative)][np.newaxis]
    rough = ((above > below).mean((0, 1)) + (above >= below).mean((0, 1))) / 2
    found = []
    for column in np.flatnonzero(np.abs(rough - 0.5) > 0.45).tolist():
        auc = _auc(features[positive, column], features[negative, column])
        if abs(auc - 0.5) > AUC_LIMIT - 0.5:
            found.append((column, auc))
    return sorted(found, key=lambda pair: -abs(pair[1] - 0.5))


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / 2 / len(ordered))


def _following(
    features: np.ndarray, known: np.ndarray, target: np.ndarray
) -> list[tuple[int, float]]:
    """Columns that rise and fall with a target, and the correlation, the clearest first."""
    if len(known) < LEAST_ROWS:
        return []
    some = np.linspace(0, len(known) - 1, min(4 * SAMPLE, len(known))).astype(int)
    rough = np.abs(_correlation(features[known[some]], target[some]))
    close = np.flatnonzero(rough > 0.9)
    exact = _correlation(features[known][:, close], target) if len(close) else np.empty(0)
    found = [(c, r) for c, r in zip(close.tolist(), exact.tolist()) if abs(r) > CORRELATION_LIMIT]
    return sorted(found, key=lambda pair: -abs(pair[1]))


def _correlation(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column with a target; 0 for a column that does not vary."""
    columns, target = columns.astype(np.float64), target.astype(np.float64)
    columns, target = columns - columns.mean(axis=0), target - target.mean()
    size = np.sqrt((columns**2).sum(axis=0) * (target**2).sum())
    return (target @ columns) / np.where(size > 0, size, 1)
