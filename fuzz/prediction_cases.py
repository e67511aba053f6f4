"""Made-up rows to predict on, of tables and of numbers; :mod:`fuzz_prediction_rows` reads them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

from fuzz_tables import CHANGES, NUMBERS, ODD, TEXTS, make_cell, make_schema, make_text

from prediction_rows.number_columns import NumberColumns
from prediction_rows.open import open_rows
from prediction_rows.rows import PredictionRows
from prediction_rows.table import TableRows

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -7, 3.0, 0.1, 1e39, -1e-50, 1 << 70, 10**400, 16777217),
    *(
        "",
        "x",
        "7",
        " 2.5\t",
        "NaN",
        "1e39",
        "\ud800",
        "日本",
        "a" * 500,
        [],
        {},
        [[1]],
        {"a": None},
    ),
)


class Case:
    """One case: columns, and rows by them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.numbers: NumberColumns | None = None
        if rng.random() < 0.5:
            made = make_schema(rng)
            # Where the training files had none, a first row of names is taken for a header.
            columns = tuple(replace(c, name=f"col {c.name}") for c in made.columns)
            self.schema = replace(made, columns=columns)
            self.rows: PredictionRows = TableRows(self.schema)
            self.names = [column.name for column in self.schema.columns]
        else:
            self.numbers = make_numbers(rng)
            self.rows = open_rows(json.loads(json.dumps(self.numbers.as_json())))
            self.names = [*self.numbers.called]

    def cells(self) -> list[list[str]]:
        """Rows of text."""
        rng, odd = self.rng, self.rng.choice((0, 0, 0.02, 0.1))
        count = rng.choice((0, 1, 3, 10, 40))
        if self.numbers is None:
            return [[make_cell(c, odd, rng) for c in self.schema.columns] for _ in range(count)]
        made = []
        for _ in range(count):
            digits = rng.random() < 0.5
            row = [str(rng.randint(0, 9)) if digits else rng.choice(NUMBERS) for _ in self.names]
            made.append([rng.choice((*ODD, *TEXTS)) if rng.random() < odd else c for c in row])
        return made

    def text(self) -> bytes:
        """Text of them, perhaps with bytes changed."""
        rng, made = self.rng, self.cells()
        if self.numbers is None:
            return make_text(self.schema, made, rng)
        names = self.names if self.numbers.names else [f"n{name}" for name in self.names]
        order = list(range(len(names)))
        if rng.random() < 0.4:
            order = list(self.numbers.features)
        if rng.random() < 0.5:
            made = [names, *made]
            if self.numbers.names:
                rng.shuffle(order)
        end = rng.choice(("\n", "\n", "\r\n", "\r"))
        lines = [",".join(row[at] for at in order) for row in made]
        return changed(end.join([*lines, ""]).encode("utf-8", "replace"), rng)

    def values(self) -> list[Any]:
        """Rows of JSON."""
        rng, odd = self.rng, self.rng.choice((0, 0, 0.02, 0.2))
        made: list[Any] = []
        for cells in self.cells():
            row = {n: float(c) if c in NUMBERS[:6] else c for n, c in zip(self.names, cells)}
            if rng.random() < 0.5:
                row = {name: row[name] for name in self.rows.names}
            for name in [*row, "more"]:
                if rng.random() < odd:
                    row[name] = rng.choice(VALUES)
            if rng.random() < odd:
                row.pop(rng.choice([*row]), None)
            array = [row.get(name) for name in self.rows.names]
            made.append(array if rng.random() < 0.3 else row)
            if rng.random() < odd:
                made[-1] = rng.choice((*VALUES, array[1:]))
        return made


def make_numbers(rng: random.Random) -> NumberColumns:
    """Columns of a file of numbers."""
    count = rng.choice((1, 2, 5, 9))
    order = rng.sample(range(count), count)
    features = order[: rng.randint(1, count)]
    rest = order[len(features) :]
    names = rng.sample(("a", "b", "c", "ü", "d,e", 'q"', "f g", "Δ", "w"), count)
    return NumberColumns(
        *(count, tuple(features), tuple(rest[:1]), next(iter(rest[1:2]), None), tuple(rest[2:])),
        names=tuple(names) if rng.random() < 0.6 else (),
    )


def changed(data: bytes, rng: random.Random) -> bytes:
    """A text with a few bytes of another sort."""
    made = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        place = rng.randint(0, len(made))
        made[place : place + rng.randint(0, 2)] = rng.choice(CHANGES)
    return bytes(made)
