"""Features that tell a label by themselves: most often, they were not known when it was not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raw_tables.kinds import Decision
from raw_tables.tally import BLANKS
from raw_tables.words import quoted

TELLS, FOLLOWS = 0.99, 0.999  # AUC and correlation from which on a feature is suspect
FEWEST = 50  # rows of each class


def leaks(sample: pa.Table, features: list[Decision], labels: list[Decision]) -> Iterator[str]:
    """A sentence for each feature that predicts a label alone, or is named like one.

    Args:
        sample: rows, as text.
        features: what columns are to be.
        labels: the labels.
    """
    for label in labels:
        name = label.words["name"]
        target = _target(sample.column(name), label)
        known = ~np.isnan(target)
        for feature in features:
            own = feature.words["name"]
            if feature.kind not in ("number", "category", "id"):
                continue
            what = f"column {quoted(own)}"
            how = _told_by(sample.column(own), feature, target, known, label)
            if how:
                yield f"{what} {how} label {quoted(name)}; is it known beforehand? else --ignore it"
            elif _alike(own, name):
                said = (
                    f"is named like label {quoted(name)}; if it is only known with it, --ignore it"
                )
                yield f"{what} {said}"


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half.

    Args:
        positive: bool ``[n]``, of both classes.
        scores: ``[n]``.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    ones = int(positive.sum())
    above = ranks[positive].sum() - ones * (ones + 1) / 2
    return float(above / (ones * (len(scores) - ones)))


def _told_by(
    cells: pa.ChunkedArray,
    feature: Decision,
    target: np.ndarray,
    known: np.ndarray,
    label: Decision,
) -> str:
    if label.words.get("type") == "regression":
        if feature.kind != "number":
            return ""
        values = _numbers(cells, feature)
        both = known & ~np.isnan(values)
        x, y = values[both], target[both]
        if len(x) < FEWEST or not (x.std() and y.std()):
            return ""
        same = "equals" if np.array_equal(x, y) else "follows"
        return same if abs(np.corrcoef(x, y)[0, 1]) > FOLLOWS else ""
    positive = target[known] == 1
    if min(positive.sum(), (~positive).sum()) < FEWEST:
        return ""
    if feature.kind == "number":
        values = _numbers(cells, feature)[known]
        scores = np.nan_to_num(values, nan=-np.inf)
        if np.array_equal(values, target[known]):
            return "equals"
        found = auc(positive, scores)
        return "alone predicts" if max(found, 1 - found) > TELLS else ""
    codes = _stripped(cells).combine_chunks().dictionary_encode().indices.to_numpy()[known]
    half = np.random.default_rng(0).random(len(positive)) < 0.5
    if not all(0 < positive[rows].sum() < rows.sum() for rows in (half, ~half)):
        return ""
    # The share of ones of each value, from half of the rows, scores the others.
    size, prior = int(codes.max()) + 1, positive[half].mean()
    rows = np.bincount(codes[half], minlength=size)
    ones = np.bincount(codes[half], positive[half], minlength=size)
    found = auc(positive[~half], ((ones + prior) / (rows + 1))[codes[~half]])
    return "alone predicts" if found > TELLS else ""


def _stripped(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim(cells.fill_null(""), BLANKS)


def _numbers(cells: pa.ChunkedArray, decision: Decision) -> np.ndarray:
    """Cells as numbers; NaN for what is missing."""
    texts = _stripped(cells)
    marks = pa.array(("", *decision.marks), pa.string())
    missing = pc.is_in(texts, value_set=marks)
    return pc.if_else(missing, "nan", texts).cast(pa.float64()).to_numpy()


def _target(cells: pa.ChunkedArray, label: Decision) -> np.ndarray:
    words = label.words
    if words.get("type") == "regression":
        return _numbers(cells, label)
    positive: tuple[str, ...] = tuple(words.get("positive", ()))
    texts = _stripped(cells)
    if not positive:
        texts = pc.utf8_lower(texts)
        positive = ("1", "1.0", "true")
        ones = pc.is_in(texts, value_set=pa.array(positive, pa.string()))
        ones = pc.or_(ones, pc.match_substring_regex(texts, r"^[+]?0*1(\.0*)?$"))
    else:
        ones = pc.is_in(texts, value_set=pa.array(positive, pa.string()))
    missing = pc.is_in(texts, value_set=pa.array(label.marks, pa.string()))
    found = ones.to_numpy().astype(np.float64)
    found[missing.to_numpy()] = np.nan
    return found


def _alike(feature: str, label: str) -> bool:
    """Whether a feature's name begins or ends with the words of a label's."""
    words, of_label = _words(feature), _words(label)
    if not of_label:
        return False
    return of_label in (words[: len(of_label)], words[-len(of_label) :])


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+|[^\W\d_a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def odd_shapes(rows: int, decisions: Mapping[str, Decision]) -> Iterator[str]:
    """What is odd about the table as a whole."""
    if rows < len(decisions):
        yield f"there are fewer rows ({rows}) than columns ({len(decisions)})"
