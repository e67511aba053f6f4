"""Fuzzing of the table reader: random schemas and files against an oracle.

    python fuzz/fuzz_tables.py --runs 20000 --seed 1 --jobs 2

Each case makes up a schema and a file: delimited text, quoted this way and that, with or without a
header, plain or gzip, perhaps with bytes changed; or Parquet. It is read in the mode that stops at
a bad row and in the one that skips it, at whatever size of blocks, and compared with the oracle of
the tests, ``tests/table_oracle.py``: value for value, and file, line and column of each bad row.
``--only NUMBER`` with the same seed runs one case alone. A sample runs in
``tests/test_table_reader.py``.
"""

from __future__ import annotations

import collections
import gzip
import io
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "fuzz")]

from numbered_cases import run  # noqa: E402
from row_oracle import _NoPool as NoPool  # noqa: E402
from table_oracle import Expected, compare, expected, expected_of_rows  # noqa: E402

from csv_line import BadRows, RowError  # noqa: E402
from raw_tables import delimited, parquet, read, text  # noqa: E402
from raw_tables.schema import Column, Schema  # noqa: E402
from raw_tables.words import quoted  # noqa: E402

TEXTS = (
    *("7", "7.0", "-7.0", "7.00"),
    *("a", "b", "A", "Berlin", "New York", "a,b", "x;y|z", 'say "hi"', '12" pizza', '"', '""'),
    *("NA", "?", "", "null", "none", "-1", "0", "1", "3", "3.0", "yes", "no", "true", "ü", "日本"),
    *("line\nend", "tab\there", "cr\rhere", "nul\0here", "\u00a0", "\ufeff", "x" * 300, "'a'", "#"),
)
NUMBERS = (
    *("0", "1", "-1", "2.5", "-2.5e3", "+.5", "7.", "1e-60", "3.4028235e38", "-0", "16777217"),
    *("340282356779733661637539395458142568447", "0.1", "1999.14", "1e5", "00012", "9" * 30),
)
ODD = (
    *("0x1F", "1_0", "inf", "-Infinity", "nan", "NaN", "1e39", "-1e400", "１", "٣", "1,5", "--1"),
    *("1e", "e5", ".", "+", "1 2", "\0", "1\0", "1f", "1d", "TRUE", "False", "2", "1.0", "0.0"),
)
MARKS = (("", "?", "NA", "null"), ("",), (), ("-1", "?"), ("", "3", "inf"), ("NA", "none"))
CHANGES = (b'"', b'"', b'""', b",", b";", b"\t", b"|", b"\n", b"\r", b" ", b"\xff", b"\0", b"x")


def make_schema(rng: random.Random) -> Schema:
    """A schema of a few columns."""
    kinds = rng.choices(("number", "category", "id", "label", "ignore"), (4, 3, 2, 2, 1), k=6)
    kinds = kinds[: rng.randint(0, 6)] + ["number", "label"]
    kinds += [kind for kind in ("weight", "group") if rng.random() < 0.4]
    rng.shuffle(kinds)
    names = rng.sample([*"abcdefgh", "a b", "ü", 'q"', "d,e", "Δ", "1", "x\ny"], len(kinds))
    return Schema(
        tuple(make_column(name, kind, rng) for name, kind in zip(names, kinds)),
        missing=rng.choice(MARKS),
        delimiter=rng.choice(",,,;\t|"),
        header=rng.random() < 0.7,
    )


def make_column(name: str, kind: str, rng: random.Random) -> Column:
    """A column of a kind."""
    listed = [value for value in TEXTS if value == value.strip(" \t")]
    words: dict[str, Any] = {}
    if kind == "category":
        words["values"] = tuple(rng.sample(listed, rng.randint(1, 8)))
    elif kind == "id":
        words["buckets"] = rng.choice((1, 7, 1000, (1 << 24) - 2))
    elif kind == "label":
        words = {"missing": rng.random() < 0.5, "task": name}
        if rng.random() < 0.3:
            words["type"] = "regression"
        elif rng.random() < 0.4:
            values = rng.sample(listed, rng.randint(2, 10))
            words["positive"] = tuple(values[:1])
            words["negative"] = tuple(values[1:]) if rng.random() < 0.6 else ()
    return Column(name, kind, **words)


def make_cell(column: Column, odd: float, rng: random.Random) -> str:
    """A cell; with a chance of ``odd`` it may be anything."""
    if rng.random() < odd:
        return rng.choice((*ODD, *TEXTS, *NUMBERS))
    if column.kind == "weight":
        return rng.choice(("1", "0.5", "2", "0"))
    if column.kind == "label" and column.type == "binary":
        if column.positive:
            return rng.choice((*column.positive, *(column.negative or TEXTS)))
        return rng.choice(
            ("0", "1", "0", "1", "true", "False", "1.0", "" if column.missing else "0")
        )
    if column.kind == "number" or column.type == "regression":
        return rng.choice((*NUMBERS, "" if column.kind == "number" else "1"))
    return rng.choice((*TEXTS, *column.values))


def write_cell(cell: str, delimiter: str, policy: float, rng: random.Random) -> str:
    """A cell as a file has it: in quotes where it must be, and now and then where it need not."""
    must = cell.lstrip(" \t")[:1] == '"' or any(c in cell for c in (delimiter, "\n", "\r"))
    if must or rng.random() < policy:
        cell = '"' + cell.replace('"', '""') + '"'
    if rng.random() < 0.1:
        blanks = (" ", "  ", " \t") if delimiter != "\t" else (" ", "  ")
        cell = rng.choice(("", *blanks)) + cell + rng.choice(("", *blanks))
    return cell


def make_text(schema: Schema, rows: Sequence[Sequence[str]], rng: random.Random) -> bytes:
    """A text file of these rows."""
    order = list(range(len(schema.columns)))
    if schema.header:
        rows = [[column.name for column in schema.columns], *rows]
        if rng.random() < 0.3:
            rng.shuffle(order)
    policy = rng.choice((0, 0, 0.2, 1))
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    lines = []
    for row in rows:
        cells = [write_cell(row[place], schema.delimiter, policy, rng) for place in order]
        if rng.random() < 0.03:
            cells = cells[:-1] if rng.random() < 0.5 else [*cells, "more"]
        lines.append(schema.delimiter.join(cells) + end)
        if rng.random() < 0.05:
            lines.append(rng.choice((end, " " + end, "\n", "\r")))
    data = bytearray("".join(lines).encode())
    if rng.random() < 0.3 and data.endswith(end.encode()):
        del data[-len(end) :]
    for _ in range(rng.choice((0, 0, 0, 1, 2, 5))):
        place = rng.randint(0, len(data))
        data[place : place + rng.randint(0, 2)] = rng.choice(CHANGES)
    if rng.random() < 0.1:
        data[:0] = b"\xef\xbb\xbf"
    return gzip.compress(bytes(data), mtime=0) if rng.random() < 0.15 else bytes(data)


def make_parquet(
    schema: Schema, rows: Sequence[Sequence[str]], rng: random.Random
) -> tuple[bytes, Expected]:
    """A Parquet file of these rows, some columns of them with types, and what it should give."""
    table, texts = {}, []
    for place, column in enumerate(schema.columns):
        array, text_of = typed([row[place] for row in rows], rng)
        table[column.name] = array
        texts.append(text_of)
    names = rng.sample(list(table), len(table))
    stream = io.BytesIO()
    arrow = pa.table({name: table[name] for name in names})
    pq.write_table(arrow, stream, row_group_size=rng.choice((1, 3, 1000)))
    cells = [dict(zip(table, row)) for row in zip(*texts)]
    numbered = [(line, row, None) for line, row in enumerate(cells, start=1)]
    return stream.getvalue(), expected_of_rows(numbered, schema)


def typed(cells: Sequence[str], rng: random.Random) -> tuple[pa.Array, list[str | None]]:
    """Cells as a column of some type, and as the texts that stand for its values."""
    kind = rng.choice(("text", "text", "dictionary", "int", "float", "bool"))
    if kind == "int":
        whole = [rng.choice((None, 0, 1, 1, 3, -1, 2**40 + 1, 16777217)) for _ in cells]
        return pa.array(whole, pa.int64()), [None if v is None else str(v) for v in whole]
    if kind == "float":
        floats = [rng.choice((None, 0.0, 1.0, 1.5, 3.0, float("nan"), 2.25, 1e39)) for _ in cells]
        shown = {1e39: "1e+39", 1.5: "1.5", 2.25: "2.25", 0.0: "0", 1.0: "1", 3.0: "3"}
        return pa.array(floats, pa.float64()), [shown.get(value) for value in floats]
    if kind == "bool":
        truths = [rng.choice((None, True, False)) for _ in cells]
        return pa.array(truths), [{True: "true", False: "false"}.get(value) for value in truths]
    texts = [None if rng.random() < 0.1 else cell for cell in cells]
    array = pa.array(texts, pa.string())
    stripped = [None if cell is None else cell.strip(" \t") for cell in texts]
    return array.dictionary_encode() if kind == "dictionary" else array, stripped


def read_all(file: Path, schema: Schema, cap: int) -> tuple[list[dict[str, Any]], BadRows]:
    """What the reader makes of a file."""
    tally = BadRows(cap)
    return list(read.read_blocks([file], schema, tally)), tally


def check(file: Path, schema: Schema, want: Expected, row: str) -> None:
    """Compare the reader with what is expected of a file, stopping at bad rows and skipping them.

    Raises:
        AssertionError: the two differ.
    """
    if want.refused:
        for cap in (0, 1000):
            message = refusal(file, schema, cap)
            assert message.startswith(f"{file}:{want.refused}: "), message
        return
    starts = [f"{file}{row}{bad.line}: " for bad in want.bad]
    columns = [
        f"column {quoted(bad.column)}: " if bad.column is not None else "row has "
        for bad in want.bad
    ]
    if want.bad:
        message = refusal(file, schema, 0)
        assert message.startswith(starts[0] + columns[0]), (message, want.bad[0])
        assert message.isprintable()
        assert len(message) < len(str(file)) + 600
    if len(want.bad) > 1:
        message = refusal(file, schema, len(want.bad) - 1)
        assert message.startswith(starts[-1] + columns[-1]), (message, want.bad[-1])
    got, tally = read_all(file, schema, len(want.bad))
    assert tally.count == len(want.bad), (tally, want.bad)
    for message, start, column in zip(tally.first, starts, columns):
        assert message.startswith(start + column), (message, start + column)
    compare(got, want, schema)


def refusal(file: Path, schema: Schema, cap: int) -> str:
    """What is said of a file that is refused."""
    try:
        read_all(file, schema, cap)
    except RowError as error:
        return str(error)
    raise AssertionError("not refused")


def run_case(seed: int, file: Path) -> tuple[int, int, str]:
    """One case: rows and cells that it had, and of what sort it was."""
    rng = random.Random(seed)
    schema = make_schema(rng)
    odd, number = rng.choice((0, 0, 0.01, 0.1)), rng.choice((0, 3, 10, 40, 150))
    rows = [[make_cell(c, odd, rng) for c in schema.columns] for _ in range(number)]
    # Small pieces of many rows would take long.
    size = rng.choice((1, 3, 8, 20, 64) if number <= 10 else (64, 500, 1 << 16, 1 << 16))
    ways = rng.choice(((True, False), (True, False), (False,), ()))
    fast: Callable[..., Any] = delimited.parse_fast
    if rng.random() < 0.25:
        data, want = make_parquet(schema, rows, rng)
        kind, row = "parquet", ": row "
    else:
        data = make_text(schema, rows, rng)
        want, row = expected(data, schema), ":"
        kind = "gzip" if data[:2] == b"\x1f\x8b" else "text"
    file.write_bytes(data)

    def parse_fast(piece: Any, layout: Any, direct: bool) -> Any:
        return fast(piece, layout, direct) if direct in ways else None

    with (
        patch.object(text, "BLOCK_BYTES", size),
        patch.object(parquet, "BATCH_BYTES", size),
        patch.object(read, "ThreadPoolExecutor", NoPool),
        patch.multiple(delimited, SLOW_BYTES=max(size, 50), parse_fast=parse_fast),
    ):
        check(file, schema, want, row)
    kind += ", refused" if want.refused else ", bad rows" if want.bad else ", good"
    return len(rows), len(rows) * len(schema.columns), kind


def run_cases(seeds: range) -> tuple[collections.Counter[str], list[tuple[int, str]]]:
    """Run cases; how many rows, cells and cases of each sort there were, and what failed."""
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for seed in seeds:
            try:
                rows, cells, kind = run_case(seed, Path(folder) / "table")
                counts.update({"rows": rows, "cells": cells, kind: 1})
            except Exception:
                failures.append((seed, traceback.format_exc()[-3000:]))
    return counts, failures


if __name__ == "__main__":
    sys.exit(run("Read made-up tables, and compare with an oracle.", run_cases))
