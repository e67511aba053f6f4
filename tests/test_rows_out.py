"""Predictions as CSV, JSON lines and Parquet: any reader gets back what was predicted."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rec_runner.rows_out import parquet
from rec_runner.rows_out.table import Predicted
from rec_runner.rows_out.target import check_target, format_of, make_encoder, opened
from rec_runner.system.errors import RunError, UserError

ODD = [
    "a,b",
    'say "so"',
    "two\nlines",
    "\r",
    "北京",
    "",
    " ",
    None,
    "\\",
    "\t\x01",
    "null",
    "half \ud800",
]
NAMES = ['city, "old"', "click"]


def values_of_all_sizes(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Float32 of any bits that are finite, with some that are written in their own way."""
    bits = rng.integers(0, 1 << 32, rows, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(1))
    values[:8] = [0.1, 1, 0, -0.0, 1e-5, 1e-8, 3.4028235e38, 123456.7]
    return values.reshape(-1, 1)


def blocks(rng: np.random.Generator) -> list[Predicted]:
    """Rows with odd texts, some without predictions; the first block has no cell that is odd."""
    found = []
    for cells in (["plain"] * 8, ODD, [None] * 9):
        missing = np.arange(len(cells)) % 3 == 1
        values = values_of_all_sizes(rng, len(cells))
        found.append(Predicted({NAMES[0]: cells}, values, missing))
    return found


def whole(text: str) -> str:
    """A text as UTF-8 can hold it."""
    return text.replace("\ud800", "?")


def encoded(kind: str, some: list[Predicted], names: list[str], compressed: bool = False) -> bytes:
    encoder = make_encoder(kind, compressed, names[:-1], names[-1:])
    return b"".join([encoder.start(), *map(encoder.rows, some), encoder.end()])


def expected(some: list[Predicted]) -> list[tuple[str | None, np.float32 | None]]:
    return [
        (cell, None if missing else value)
        for block in some
        for cell, value, missing in zip(*block.kept.values(), block.values[:, 0], block.missing)
    ]


def same(text: str, value: np.float32) -> bool:
    """Whether a text reads back as the same number, and no shorter one of its digits does."""
    digits = np.format_float_scientific(value, unique=True, trim="-").split("e")[0]
    own = text.lower().split("e")[0].lstrip("-").replace(".", "").strip("0")
    shortest = own == digits.lstrip("-").replace(".", "").strip("0")
    return np.float32(text).tobytes() == value.tobytes() and shortest


def test_csv_reads_back_as_it_was(rng: np.random.Generator) -> None:
    some = blocks(rng)
    text = encoded("csv", some, NAMES).decode()
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert header == NAMES
    assert len(lines) == len(expected(some))
    for (cell, number), (kept, value) in zip(lines, expected(some)):
        assert cell == whole(kept or "")
        assert number == "" if value is None else same(number, value)


def test_a_csv_of_one_column_has_a_line_that_is_not_empty_for_each_row() -> None:
    rows = Predicted({}, np.ones((3, 1), np.float32), np.array([False, True, False]))
    assert encoded("csv", [rows], ["click"]) == b'click\n1\n""\n1\n'


def test_json_lines_read_back_as_they_were(rng: np.random.Generator) -> None:
    some = blocks(rng)
    lines = encoded("jsonl", some, NAMES).decode().split("\n")
    assert lines.pop() == ""
    for line, (kept, value) in zip(map(json.loads, lines), expected(some)):
        assert list(line) == NAMES
        assert line[NAMES[0]] == (None if kept is None else whole(kept))
        number = line["click"]
        assert number is None if value is None else np.float32(number) == value
    assert len(lines) == len(expected(some))


@pytest.mark.parametrize("many", [1, 50])
def test_parquet_reads_back_as_it_was(
    rng: np.random.Generator, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 300)
    some = blocks(rng) * many
    made = encoded("parquet", some, NAMES)
    file = pq.ParquetFile(pa.BufferReader(made))
    table = file.read()
    assert [str(field.type) for field in table.schema] == ["string", "float"]
    kept, values = zip(*expected(some))
    kept = [None if cell is None else whole(cell) for cell in kept]
    assert table.to_pydict() == {NAMES[0]: kept, "click": list(values)}
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    largest = max(len(block.values) for block in some)
    # Whole blocks, until there are enough of them; the last group has what is left.
    assert all(300 <= rows < 300 + largest for rows in groups[:-1])
    assert groups[-1] < 300 + largest and sum(groups) == len(kept)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_gzip_holds_the_same_and_is_the_same_each_time(kind: str, rng: np.random.Generator) -> None:
    some = blocks(rng)
    made = [encoded(kind, some, NAMES, compressed=True) for _ in range(2)]
    assert made[0] == made[1]
    assert gzip.decompress(made[0]) == encoded(kind, some, NAMES)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_of_no_rows_there_is_a_whole_file(kind: str) -> None:
    made = encoded(kind, [], NAMES)
    if kind == "parquet":
        assert pq.read_table(pa.BufferReader(made)).to_pydict() == {name: [] for name in NAMES}
    else:
        assert made == {"csv": b'"city, ""old""",click\n', "jsonl": b""}[kind]


def test_the_name_tells_the_format() -> None:
    for name, format in (
        ("a.csv", ("csv", False)),
        ("a.b/C.CSV.GZ", ("csv", True)),
        ("a.jsonl", ("jsonl", False)),
        ("a.ndjson.gz", ("jsonl", True)),
        ("a.parquet", ("parquet", False)),
    ):
        assert format_of(name, None) == format
    assert format_of(None, None) == ("csv", False)
    assert format_of(None, "jsonl") == ("jsonl", False)
    assert format_of("a.txt", "csv") == ("csv", False)
    for name, wanted, message in (
        ("a.txt", None, "its name tells no format, expected one that ends in .csv, .jsonl"),
        ("a.parquet.gz", None, "Parquet is compressed by itself"),
        ("a.csv", "jsonl", "--format jsonl: --out a.csv is named as csv"),
    ):
        with pytest.raises(UserError, match=message):
            format_of(name, wanted)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("before", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), opened(str(file)) as write:
        write(b"half")
        raise ZeroDivisionError
    assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ["before"]
    with opened(str(file)) as write:
        write(b"whole")
        assert file.read_text("utf-8") == "before"
    assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ["whole"]
    with pytest.raises(RunError, match="cannot be written"), opened(str(tmp_path / "no" / "x.csv")):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with opened(str(pipe)) as write:
        write(b"rows")
    assert os.read(reading, 9) == b"rows"
    assert pipe.is_fifo()
    os.close(reading)
    full = Path("/dev/full")
    if full.exists():
        said = "/dev/full cannot be written: No space left on device"
        with pytest.raises(RunError, match=said), opened(str(full)) as write:
            write(b"rows")


def test_a_file_that_cannot_be_there_is_told_of_at_once(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("1", encoding="utf-8")
    for out, message in (
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "out.csv", "there is no folder"),
        (tmp_path / "." / "rows.csv", "its rows are read"),
    ):
        with pytest.raises(UserError, match=message):
            check_target(str(out), [str(rows)])
