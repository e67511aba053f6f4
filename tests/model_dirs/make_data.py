"""Rows for the model directories beside this file: drawn, seeded, small.

Each function gives a table whose last row may be an incomplete batch; ``write`` puts its rows
into two files for training and one for tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

TRAIN_ROWS = 120
TEST_ROWS = 52


def write(name: str, folder: Path) -> None:
    """Write ``data/train`` and ``data/test`` of the directory ``name`` into ``folder``."""
    rng = np.random.default_rng(len(name))
    lines = [" ".join(row) for row in _TABLES.get(name, _logistic)(rng, TRAIN_ROWS + TEST_ROWS)]
    half = TRAIN_ROWS // 2
    parts = {
        "train/part-0.txt": lines[:half],
        "train/part-1.txt": lines[half:TRAIN_ROWS],
        "test/part-0.txt": lines[TRAIN_ROWS:],
    }
    for file, rows in parts.items():
        (folder / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / file).write_text("".join(f"{row}\n" for row in rows))


def _text(table: np.ndarray) -> list[list[str]]:
    return [[f"{value:.6g}" for value in row] for row in table]


def _logistic(rng: np.random.Generator, rows: int) -> list[list[str]]:
    features = rng.normal(size=(rows, 4))
    labels = features @ [2, -1, 0.5, 0] + rng.normal(size=rows) > 0
    return _text(np.column_stack([features, labels]))


def _slots(rng: np.random.Generator, rows: int) -> list[list[str]]:
    ids, dense = rng.integers(0, 30, size=(rows, 4)), rng.normal(size=(rows, 3))
    labels = (ids[:, 0] < 15) + dense[:, 0] + rng.normal(size=rows) > 0.5
    return _text(np.column_stack([labels, ids, dense]))


def _sequence(rng: np.random.Generator, rows: int) -> list[list[str]]:
    table = []
    for _ in range(rows):
        history = rng.integers(1, 20, size=rng.integers(1, 7))
        target = rng.choice(history) if rng.random() < 0.5 else rng.integers(1, 20)
        table.append([str(int(target in history)), str(target), *map(str, history)])
    return table


def _two_tower(rng: np.random.Generator, rows: int) -> list[list[str]]:
    user = rng.normal(size=(rows, 5))
    liked = user + rng.normal(size=(rows, 5)) / 2
    return _text(np.column_stack([user, liked, rng.normal(size=(rows, 5))]))


def _two_tasks(rng: np.random.Generator, rows: int) -> list[list[str]]:
    features = rng.normal(size=(rows, 6))
    scores = features[:, :2] + features[:, 2:3] + rng.normal(size=(rows, 2))
    return _text(np.column_stack([scores > 0, features]))


def _regression(rng: np.random.Generator, rows: int) -> list[list[str]]:
    features = rng.normal(size=(rows, 4))
    target = features @ [1, 2, -1, 0.5] + 3 + rng.normal(size=rows) / 10
    return _text(np.column_stack([features, target]))


_TABLES = {
    "slots": _slots,
    "sequence": _sequence,
    "two_tower": _two_tower,
    "mmoe": _two_tasks,
    "ple": _two_tasks,
    "regression": _regression,
}
