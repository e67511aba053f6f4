"""Fuzzing of rows to predict on, of tables and of numbers: as many rows out as came in.

    python fuzz/fuzz_prediction_rows.py --runs 20000 --seed 1 --jobs 2

Each case makes up columns and a text, JSON lines, Parquet or a request of them, most of them with
bytes changed, and reads it at whatever size of blocks. Whatever it is, there is one row out for
each that an oracle counts, zeros for a bad one, and all errors are sentences; of text of numbers
the oracle (``tests/prediction_oracle.py``) says each value too, and a request is the same row by
row. ``--only NUMBER`` with the same seed runs one case alone. A sample runs in
``tests/test_prediction_numbers.py``.
"""

from __future__ import annotations

import collections
import gzip
import io
import json
import random
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "fuzz")]

from numbered_cases import run  # noqa: E402
from prediction_cases import Case, changed  # noqa: E402
from prediction_oracle import wanted  # noqa: E402
from row_oracle import _NoPool as NoPool  # noqa: E402
from table_oracle import expected, parted  # noqa: E402

import csv_blocks  # noqa: E402
import csv_digits  # noqa: E402
import csv_text  # noqa: E402
from prediction_rows import number_text, rows, streams, table_text  # noqa: E402
from prediction_rows.rows import Rows, RowsError, Source, joined  # noqa: E402
from raw_tables import parquet, text  # noqa: E402
from raw_tables.schema import Schema  # noqa: E402


def hold(got: Rows, case: Case, keep: Sequence[str] = ()) -> None:
    """What is so of all rows."""
    count = len(got.features)
    assert got.features.dtype == np.float32
    assert got.features.shape == (count, case.rows.feature_size)
    assert not np.isinf(got.features).any()
    assert case.numbers is None or not np.isnan(got.features).any()
    assert set(got.faults) <= {*range(count)}
    assert list(got.faults) == sorted(got.faults)
    assert not got.features[list(got.faults)].any()
    for fault in got.faults.values():
        assert str(fault).isprintable(), fault
        assert len(str(fault)) < 2000
        fault.column.encode()
    if count:
        assert set(got.kept) == {*keep}
    for cells in got.kept.values():
        assert len(cells) == count
        "".join(cell or "" for cell in cells).encode()


def run_text(case: Case) -> str:
    """A file and a request of text."""
    data, keep = case.text(), [case.rng.choice(case.rows.names)] if case.rng.random() < 0.3 else []
    count: int | None = None
    numbers = None
    plain = data[:2] != b"\x1f\x8b"
    if case.numbers is not None:
        numbers = wanted(data, case.numbers)
        count = None if numbers is None else len(numbers[0]) + len(numbers[1])
    elif not (plain and expected(data, case.schema).refused):
        count = count_rows(data, case.schema)
    is_json = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    kind = "refused"
    for way in (lambda: read(case, data, keep), lambda: case.rows.text(data)):
        try:
            got = way()
        except RowsError as error:
            assert str(error).isprintable(), error
            continue
        kind = "bad rows" if got.faults else "good"
        hold(got, case, got.kept)
        if count is not None and plain and not is_json:
            assert len(got.features) == count, (len(got.features), count)
            if numbers is not None:
                good, bad = numbers
                lines = [int(f.place.split(":")[-1].split()[-1]) for f in got.faults.values()]
                assert lines == bad
                values = np.delete(got.features, list(got.faults), axis=0)
                np.testing.assert_array_equal(values, np.array(good).reshape(values.shape))
    return f"text, {kind}"


def count_rows(data: bytes, schema: Schema) -> int:
    """Rows of a table's text."""
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    found = parted(data.removeprefix(b"\xef\xbb\xbf").decode("latin-1"), schema.delimiter)
    return max(len(found) - schema.header, 0)


def run_json(case: Case) -> str:
    """JSON lines."""
    lines = [json.dumps(value, ensure_ascii=case.rng.random() < 0.5) for value in case.values()]
    data = changed("\n".join([*lines, ""]).encode("utf-8", "surrogatepass"), case.rng)
    keep = [case.rng.choice(case.names)] if case.rng.random() < 0.3 else []
    try:
        got = read(case, data, keep, "rows.jsonl")
    except RowsError as error:
        assert str(error).isprintable(), error
        return "json lines, refused"
    hold(got, case, keep)
    body = data.removeprefix(b"\xef\xbb\xbf")
    assert len(got.features) == sum(bool(line.strip()) for line in body.split(b"\n"))
    return f"json lines, {'bad rows' if got.faults else 'good'}"


def run_request(case: Case) -> str:
    """A request of JSON, and the same row by row."""
    values = case.values()
    got = case.rows.objects(values)
    hold(got, case)
    assert len(got.features) == len(values)
    for place, value in enumerate(values):
        one = case.rows.objects([value])
        assert one.features.tobytes() == got.features[place].tobytes()
        if place in got.faults:
            fault = one.faults[0]._replace(place=f"row {place + 1}")
            assert fault == got.faults[place]
        else:
            assert not one.faults
    return f"request, {'bad rows' if got.faults else 'good'}"


def run_parquet(case: Case) -> str:
    """A Parquet file, perhaps a damaged one."""
    rng = case.rng
    cells = case.cells()
    table = {}
    for place, name in enumerate(case.names):
        kinds = [row[place] for row in cells]
        if rng.random() < 0.5:
            table[name] = pa.array([rng.choice((None, 1.5, 3.0, 1e300)) for _ in cells])
        else:
            table[name] = pa.array(kinds, pa.string())
    stream = io.BytesIO()
    pq.write_table(pa.table(table), stream, row_group_size=rng.choice((1, 3, 1000)))
    data = bytearray(stream.getvalue())
    whole = rng.random() < 0.6
    if not whole:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
    try:
        got = read(case, bytes(data), [])
    except RowsError as error:
        assert str(error).isprintable(), error
        assert not whole, error
        return "parquet, refused"
    hold(got, case)
    assert not whole or len(got.features) == len(cells)
    return f"parquet, {'bad rows' if got.faults else 'good'}"


def read(case: Case, data: bytes, keep: Sequence[str], path: str | None = None) -> Rows:
    """All rows of a source, as one."""
    parts = list(case.rows.read(Source("rows", io.BytesIO(data), path), keep))
    return joined(parts, case.rows.feature_size)


def run_case(seed: int) -> str:
    """One case: of what sort it was."""
    rng = random.Random(seed)
    case = Case(rng)
    size = rng.choice((1, 8, 64, 1 << 16))
    few = rng.choice((0, 3))
    with (
        warnings.catch_warnings(),
        patch.object(csv_text, "BLOCK_BYTES", size),
        patch.object(streams, "BLOCK_BYTES", size),
        patch.object(text, "BLOCK_BYTES", max(size, 8)),
        patch.object(parquet, "BATCH_BYTES", size),
        patch.multiple(csv_blocks, SLOW_BYTES=size, ThreadPoolExecutor=NoPool),
        patch.object(rows, "ThreadPoolExecutor", NoPool),
        patch.object(csv_digits, "LEAST_DIGITS", 1),
        patch.multiple(number_text, MOST_ROWS=rng.choice((1, 5, 1000)), FEW_ROWS=few),
        patch.multiple(table_text, SLOW_BYTES=max(size, 50), FEW_ROWS=few),
    ):
        warnings.simplefilter("ignore")
        way = rng.choice((run_text, run_text, run_json, run_request, run_parquet))
        kind = way(case)
    return f"{'table' if case.numbers is None else 'numbers'}, {kind}"


def run_cases(seeds: range) -> tuple[collections.Counter[str], list[tuple[int, str]]]:
    """Run cases; how many of each sort there were, and what failed."""
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    for seed in seeds:
        try:
            counts[run_case(seed)] += 1
        except Exception:
            failures.append((seed, traceback.format_exc()[-3000:]))
    return counts, failures


if __name__ == "__main__":
    sys.exit(run("Read made-up rows to predict on.", run_cases))
