"""What a person wants to know of each column to fill in a row: typical values, from sample rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST = 10  # values of a category


def column_facts(
    columns: Sequence[Mapping[str, Any]], features: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Of each column a typical value, as a client sends it, and which values there are.

    Args:
        columns: of the features, as ``PredictionRows.describe`` tells them: ``name``, ``kind``
            and, of a category, ``values``.
        features: sample rows, float32 ``[n, F]``: numbers, NaN where one is missing; of a
            category the place of its value in ``values``, or a larger number.

    Returns:
        by name: of a number ``typical``, the median, ``low`` and ``high``, between which 98 in 100
        rows lie, ``whole``, whether all are whole numbers; of a category ``typical``, the most
        frequent, and ``most``, the most frequent ones; of an id, which tells nobody anything,
        ``typical`` None. None where no row has one.
    """
    facts: dict[str, dict[str, Any]] = {}
    for place, column in enumerate(columns):
        values = features[:, place]
        if column["kind"] == "number":
            facts[column["name"]] = _of_numbers(values[np.isfinite(values)])
        elif column["kind"] == "category":
            facts[column["name"]] = _of_category(values, column["values"])
        else:
            facts[column["name"]] = {"typical": None}
    return facts


def example_row(
    columns: Sequence[Mapping[str, Any]],
    features: np.ndarray,
    facts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """A row that could be real, as a client sends it: the typical value of each column.

    Columns of zeros and ones are the exception. Where they stand for a category's values, all are
    0 in most rows, and a row of zeros has no category at all: they are taken together from the
    sample row that is nearest to the typical one. Anything else of a sample row would tell what is
    known of a person.

    Args:
        columns: of the features, see :func:`column_facts`.
        features: sample rows.
        facts: what :func:`column_facts` told of them.
    """
    example = {column["name"]: facts[column["name"]]["typical"] for column in columns}
    places = [p for p, column in enumerate(columns) if facts[column["name"]].get("low") is not None]
    names = [columns[place]["name"] for place in places]
    if not names:
        return example
    values = features[:, places]
    typical, low, high = (
        np.array([facts[name][word] for name in names], np.float32)
        for word in ("typical", "low", "high")
    )
    with np.errstate(over="ignore", invalid="ignore"):
        far = np.abs(values - typical) / np.where(high > low, high - low, np.float32(1))
    nearest = values[np.where(far < 1, far, 1).sum(axis=1).argmin()]  # 1 of a missing one, too
    flags = ((values == 0) | (values == 1) | ~np.isfinite(values)).all(axis=0)
    flags &= np.isfinite(nearest)
    return {**example, **{names[at]: int(nearest[at]) for at in np.flatnonzero(flags)}}


def _of_numbers(values: np.ndarray) -> dict[str, Any]:
    if not len(values):
        return {"typical": None, "low": None, "high": None, "whole": False}
    values = np.sort(values)
    found = {"typical": 0.5, "low": 0.01, "high": 0.99}
    told = {name: _plain(values[int(share * (len(values) - 1))]) for name, share in found.items()}
    return {**told, "whole": bool((values == np.rint(values)).all())}


def _plain(value: np.float32) -> float | int:
    """A float32 as the shortest number that is it, a whole one without a point."""
    number = float(str(value))
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _of_category(values: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(values.astype(np.int64), minlength=len(texts))[: len(texts)]
    most = [texts[place] for place in np.argsort(-counts, kind="stable")[:MOST] if counts[place]]
    return {"typical": most[0] if most else None, "most": most}
