"""GAUC: AUC within each group of rows, such as those of one user."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class GroupedAuc(NamedTuple):
    """What :func:`grouped_auc` gives.

    Attributes:
        value: mean of the groups' AUCs, None where no group has one.
        left_out: how many groups hold one class only, and have none.
    """

    value: float | None
    left_out: int


def grouped_auc(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None
) -> GroupedAuc:
    """AUC within each group, averaged by what the group's rows weigh; ties count one half.

    Args:
        labels: bool ``[n]``.
        scores: ``[n]``, any numbers; only their order within a group counts.
        groups: int64 ``[n]``, the same for rows of one group.
        weights: ``[n]``, more than 0, how often each row counts; None for once.
    """
    if not len(labels):
        return GroupedAuc(None, 0)
    order = np.lexsort((scores, groups))
    labels, scores, groups = labels[order], scores[order], groups[order]
    weight = np.ones(len(labels)) if weights is None else weights[order].astype(np.float64)
    begins = np.append(True, groups[1:] != groups[:-1])
    group_starts = np.flatnonzero(begins)
    tie_starts = np.flatnonzero(begins | np.append(True, scores[1:] != scores[:-1]))
    sums = [np.add.reduceat(weight * of_class, group_starts) for of_class in (~labels, labels)]
    both = (sums[0] > 0) & (sums[1] > 0)
    if not both.any():
        return GroupedAuc(None, len(both))
    # As shares of their class in their group: the sums over all groups below would otherwise
    # lose the digits of a group that weighs little beside others.
    sizes = np.diff(group_starts, append=len(labels))
    negatives, positives = (
        np.add.reduceat(np.repeat(both / np.where(both, whole, 1.0), sizes) * of_class, tie_starts)
        for whole, of_class in zip(sums, (weight * ~labels, weight * labels))
    )
    first_ties = np.searchsorted(tie_starts, group_starts)
    below = np.cumsum(negatives) - negatives
    below -= np.repeat(below[first_ties], np.diff(first_ties, append=len(tie_starts)))
    aucs = np.add.reduceat(positives * (below + negatives / 2), first_ties)
    value = np.average(aucs[both], weights=(sums[0] + sums[1])[both])
    return GroupedAuc(float(value), int((~both).sum()))
