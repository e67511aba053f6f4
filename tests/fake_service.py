"""tools/serve.py with a model made of arithmetic, whose id is in the file ``id`` of its folder.

Columns ``a`` and ``b``, numbers. Task ``sum`` is a + b, task ``product`` a · b. Where ``a`` is -13,
scoring fails; where it is -14, it takes as many seconds as ``b`` says.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from rec_runner.serve import main
from rec_runner.service.models import Model
from rec_runner.system.errors import UserError


class Fault(NamedTuple):
    """What is wrong with a row."""

    place: str
    column: str
    message: str


class Rows(NamedTuple):
    """Rows and their faults."""

    features: np.ndarray
    faults: dict[int, Fault]


class Reader:
    """Two numbers a row."""

    names = ("a", "b")
    feature_size = 2

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        return self.arrays([[row.get(name) for name in self.names] for row in rows])

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        features, faults = np.zeros((len(rows), 2), np.float32), {}
        for place, row in enumerate(rows):
            for column, (name, cell) in enumerate(zip(self.names, row)):
                if type(cell) not in (int, float):
                    said = f'column "{name}": {cell!r} is not a number'
                    faults[place] = Fault(f"row {place + 1}", name, said)
                    features[place] = 0
                    break
                features[place, column] = cell
        return Rows(features, faults)

    def text(self, data: bytes) -> Rows:
        lines = data.decode().splitlines()
        cells = [line.split(",") for line in lines]
        return self.arrays([[float(c) if c[-1:].isdigit() else c for c in row] for row in cells])


class Scorer:
    """Sum and product."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        if (features[:, 0] == -13).any():
            raise ZeroDivisionError("a secret cell")
        for row in features[features[:, 0] == -14]:
            time.sleep(float(row[1]))
        return np.stack([features.sum(axis=1), features.prod(axis=1)], axis=1)


def opener(options: Namespace) -> Callable[[], Model]:
    """What opens the model of a folder."""

    def open_model() -> Model:
        name = Path(options.model, "id").read_text("ascii").strip()
        if name == "damaged":
            raise UserError("model.json is damaged: its checksum is not the one noted")
        about = {"model": name, "tasks": [{"name": "sum"}, {"name": "product"}]}
        return Model(name, ("sum", "product"), Reader(), Scorer(), about)

    return open_model


if __name__ == "__main__":
    sys.exit(main(opener=opener))
