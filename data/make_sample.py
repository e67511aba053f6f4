"""Writes the bundled sample: synthetic Census-Income rows, one-hot encoded, and raw as UCI's are.

    python data/make_sample.py [--seed N] [--out-dir DIR]     # write the sample's files
    python data/make_sample.py --measure RAW_DIR              # rewrite frequencies.json

Every row is drawn from `frequencies.json`, none is copied. The labels are drawn first, jointly;
then each field of `PARENTS` in turn, given up to three values: the labels, the stage of
life, whether the person worked, or a field drawn before (the state of previous residence depends
on its region). Family and tax status, and many other fields, tell of the labels only through the
stage of life and work: with forty fields telling of them independently, both tasks would be
trivial.

One figure is not the measured one: `INCOME_RATE` of the rows have an income over 50,000 where
Census has 6.2 %, so that 360 test rows hold enough of them for a stable AUC.

The frequencies are measured on rows of UCI's Census-Income (KDD) data set (CC BY 4.0).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import re
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "datasets" / "census"))
from columns import LABELS, UCI_ROWS, read_columns
from columns import RAW_FIELDS as FIELDS

HERE = Path(__file__).resolve().parent
COLUMNS = read_columns()
FREQUENCIES = HERE / "frequencies.json"

NUMERIC = COLUMNS.numeric
"""Fields that are one column each; four of them have so few values that they are drawn as codes."""

CATEGORICAL = COLUMNS.onehot
"""Fields that are one column per category."""

CONTINUOUS = (
    "age wage_per_hour capital_gains capital_losses stock_dividends instance_weight weeks_worked"
).split()
"""Fields drawn from quantiles."""

PARENTS: dict[str, tuple[str, ...]] = {
    "labels": (),
    "stage": ("labels",),
    "works": ("stage", "labels"),
    "age": ("stage", "labels"),
    "year": (),
    "instance_weight": ("stage",),
    "sex": ("labels", "stage"),
    "education": ("stage", "labels"),
    "hs_college": ("stage", "labels"),
    "num_emp": ("works", "stage"),
    "weeks_worked": ("works", "stage", "labels"),
    "own_or_self": ("works",),
    "major_occ_code": ("works", "labels"),
    "det_occ_code": ("major_occ_code",),
    "major_ind_code": ("major_occ_code",),
    "det_ind_code": ("major_ind_code",),
    "class_worker": ("major_ind_code",),
    "wage_per_hour": ("works", "labels"),
    "union_member": ("works", "stage"),
    "full_or_part_emp": ("works", "stage"),
    "unemp_reason": ("full_or_part_emp",),
    "capital_gains": ("labels",),
    "capital_losses": ("labels",),
    "stock_dividends": ("labels",),
    "tax_filer_stat": ("stage", "works"),
    "det_hh_fam_stat": ("stage",),
    "det_hh_summ": ("det_hh_fam_stat",),
    "fam_under_18": ("stage",),
    "vet_benefits": ("stage",),
    "vet_question": ("vet_benefits",),
    "mig_move_reg": ("year", "stage"),
    "mig_chg_reg": ("mig_move_reg",),
    "mig_chg_msa": ("mig_chg_reg",),
    "mig_same": ("mig_move_reg",),
    "mig_prev_sunbelt": ("mig_move_reg",),
    "region_prev_res": ("mig_move_reg",),
    "state_prev_res": ("region_prev_res",),
    "country_self": ("labels",),
    "citizenship": ("country_self",),
    "country_father": ("country_self",),
    "country_mother": ("country_father",),
    "hisp_origin": ("country_father",),
    "race": ("hisp_origin",),
}
"""What each drawn value depends on, the weightiest first, in the order of drawing."""

STAGES = (15, 18, 25, 35, 45, 55, 65)
"""First ages, in years, of the stages of life after childhood."""

SAMPLE = {"train": 1000, "test": 360}
"""Rows in each file."""

RAW_NAMES = dict(zip(SAMPLE, UCI_ROWS))
"""Names of the raw files, without the `.gz`."""

INCOME_RATE = 0.15
"""Share of sample rows with an income over 50,000."""

SMOOTHING = 2.0
"""Pseudo-rows added to each frequency table."""

MIN_ROWS = 50
"""Fewest rows that a table is measured on."""

QUANTILES = np.linspace(0.01, 0.99, 15)
"""Levels of the quantiles of a continuous field; the extremes, single people's, stay out."""

SCALE = 10_000
"""Frequencies are whole numbers per this many rows."""


def raw_rows(raw_dir: str) -> Iterator[dict[str, str]]:
    """Yields the raw rows under a folder, with the three helper values `PARENTS` speaks of.

    Args:
        raw_dir: Folder with UCI's `census-income.data.gz` and `census-income.test.gz`.

    Yields:
        One mapping per row, field name to value, and `labels` (two digits: never married, income
        over 50,000), `stage` (number of the stage of life) and `works` (whether any week of the
        year was worked).

    Raises:
        ValueError: If the folder has no such file, a row does not have 42 fields, or a
            continuous field is not a number.
    """
    paths = sorted(Path(raw_dir).glob("census-income.*.gz"))
    if not paths:
        raise ValueError(f"{raw_dir}: expected census-income.data.gz or census-income.test.gz here")
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for line, values in enumerate(csv.reader(file), start=1):
                where = f"{path}, line {line}"
                if len(values) != len(FIELDS):
                    raise ValueError(f"{where}: {len(values)} fields, expected {len(FIELDS)}")
                row = {name: value.strip() for name, value in zip(FIELDS, values)}
                for name in CONTINUOUS:
                    if not row[name].replace(".", "", 1).isdecimal():
                        raise ValueError(f"{where}: {name} is {row[name]!r}, expected a number")
                never_married = row["marital_stat"] == "Never married"
                rich = row["income_50k"] == "50000+."
                row["labels"] = f"{never_married:d}{rich:d}"
                row["stage"] = str(bisect_right(STAGES, int(row["age"])))
                row["works"] = f"{float(row['weeks_worked']) > 0:d}"
                yield row


def measure(raw_dir: str) -> dict[str, Any]:
    """Measures what `draw` needs on raw rows.

    Each field gets one table per combination of its parents' values, and one for every shorter
    prefix of them, which `draw` falls back on where a combination has under `MIN_ROWS` rows.
    Frequencies are per `SCALE` rows, smoothed by `SMOOTHING` pseudo-rows that follow the table of
    the prefix. A continuous field has the frequency of values above zero, then their quantiles.

    Args:
        raw_dir: As for `raw_rows`.

    Returns:
        Field name to `{"categories": [...], "given": {parents' values: numbers}}`, without
        categories for a continuous field.
    """
    rows = list(raw_rows(raw_dir))
    fields: dict[str, Any] = {}
    for name, parents in PARENTS.items():
        categories: list[str] = []
        if name not in CONTINUOUS:
            categories += COLUMNS.categories.get(name) or sorted({row[name] for row in rows})
        given: dict[str, list[float]] = {}
        shares: dict[str, np.ndarray] = {}
        for depth in range(len(parents) + 1):
            groups: dict[str, list[str]] = defaultdict(list)
            for row in rows:
                groups["|".join(row[p] for p in parents[:depth])].append(row[name])
            for key, values in sorted(groups.items()):
                if len(values) < MIN_ROWS:
                    continue
                if not categories:
                    numbers = np.array(values, dtype=float)
                    above = numbers[numbers > 0]
                    share = round(SCALE * len(above) / len(numbers))
                    quantiles = np.quantile(above, QUANTILES) if len(above) else []
                    given[key] = [share, *(round(float(q)) for q in quantiles)]
                    continue
                counts = Counter(values)
                found = np.array([counts[c] for c in categories], dtype=float)
                if depth:
                    found += SMOOTHING * shares[key.rpartition("|")[0]]
                shares[key] = found / found.sum()
                given[key] = [round(SCALE * s) for s in shares[key].tolist()]
        fields[name] = {"categories": categories, "given": given}
    return fields


def _table(name: str, row: dict[str, str], fields: dict[str, Any]) -> list[float]:
    """Finds a field's table for the values drawn so far: the longest prefix that was measured."""
    given = fields[name]["given"]
    values = [row[parent] for parent in PARENTS[name]]
    while "|".join(values) not in given:
        values.pop()
    return given["|".join(values)]


def draw(rng: random.Random, fields: dict[str, Any]) -> dict[str, str]:
    """Draws one synthetic row.

    Only `rng.random()` is used, whose numbers Python promises never to change.

    Args:
        rng: Source of randomness.
        fields: As `measure` returns them.

    Returns:
        Name in `PARENTS` to drawn value, as text.
    """
    row: dict[str, str] = {}
    for name in PARENTS:
        table = _table(name, row, fields)
        if name == "labels":
            table = _with_income_rate(table, fields[name]["categories"])
        if name not in CONTINUOUS:
            total = list(accumulate(table))
            row[name] = fields[name]["categories"][bisect_right(total, rng.random() * total[-1])]
        elif rng.random() * SCALE >= table[0]:
            row[name] = "0"
        else:
            quantiles = table[1:]
            place = rng.random() * (len(quantiles) - 1)
            value = np.interp(place, range(len(quantiles)), quantiles)
            row[name] = f"{value:.2f}" if name == "instance_weight" else f"{value:.0f}"
    return row


def _with_income_rate(table: list[float], labels: list[str]) -> list[float]:
    """Weighs the frequencies of the label pairs so that `INCOME_RATE` of them are rich."""
    rich = sum(share for share, pair in zip(table, labels) if pair[1] == "1")
    rate = {"0": (1 - INCOME_RATE) / (sum(table) - rich), "1": INCOME_RATE / rich}
    return [share * rate[pair[1]] for share, pair in zip(table, labels)]


def encode(row: dict[str, str], fields: dict[str, Any]) -> str:
    """Encodes a row as the 501 comma-separated columns of the data files.

    Args:
        row: A mapping as `draw` returns it.
        fields: As `measure` returns them.

    Returns:
        Never married, income over 50,000, the 11 numeric columns, then one column per category
        of each categorical field; without a line end.
    """
    columns = [*row["labels"], *(row[name] for name in NUMERIC)]
    for name in CATEGORICAL:
        columns += ["1" if row[name] == c else "0" for c in fields[name]["categories"]]
    return ",".join(columns)


def as_raw(row: dict[str, str], rng: random.Random) -> str:
    """Writes a row as the 42 fields of UCI's raw files.

    Args:
        row: A mapping as `draw` returns it.
        rng: Source of randomness, for the marital status of people who did marry.

    Returns:
        The fields, separated by a comma and a space; without a line end.
    """
    never_married, rich = (label == "1" for label in row["labels"])
    single, *others = LABELS["marital_stat"]
    married = others[int(rng.random() * len(others))]
    labels = {
        "marital_stat": single if never_married else married,
        "income_50k": LABELS["income_50k"][0 if rich else 1],
    }
    return ", ".join(labels.get(name) or row[name] for name in FIELDS)


def _write(path: Path, data: bytes) -> None:
    """Writes a file aside, then moves it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(data)
    os.replace(aside, path)


def _as_json(fields: dict[str, Any]) -> str:
    """Formats the tables as JSON, one table a line."""
    text = json.dumps(fields, indent=1)
    return re.sub(r"\[[^]]*\]", lambda array: re.sub(r"\n *", "", array[0]), text) + "\n"


def main() -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    parser.add_argument(
        "--out-dir",
        type=Path,
        default=HERE,
        help="folder for train/, test/ and raw/ (default: here)",
    )
    parser.add_argument(
        "--measure",
        metavar="RAW_DIR",
        help="rewrite frequencies.json from UCI's raw rows, and stop",
    )
    args = parser.parse_args()
    try:
        if args.measure:
            _write(FREQUENCIES, _as_json(measure(args.measure)).encode())
            return 0
        try:
            fields = json.loads(FREQUENCIES.read_bytes())
        except ValueError as error:
            raise ValueError(f"{FREQUENCIES}: not valid JSON: {error}") from error
        rng, raw_rng = random.Random(args.seed), random.Random(args.seed)
        for split, rows in SAMPLE.items():
            drawn = [draw(rng, fields) for _ in range(rows)]
            encoded = "".join(f"{encode(row, fields)}\n" for row in drawn).encode()
            _write(args.out_dir / split / f"{split}_data.txt", encoded)
            raw = "".join(f"{as_raw(row, raw_rng)}\n" for row in drawn).encode()
            file = args.out_dir / "raw" / split / f"{RAW_NAMES[split]}.gz"
            _write(file, gzip.compress(raw, mtime=0))
    except (OSError, ValueError, EOFError) as error:
        print(f"make_sample.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
