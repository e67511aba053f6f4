"""Rows that end in single digits are read faster, and give the same to the last bit."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

import csv_blocks
import csv_digits
import csv_text
from csv_line import Layout, RowError

FUZZ = int(os.environ.get("FUZZ_EXAMPLES", "1000"))
LAYOUT = Layout(98, (1, 0))  # 100 columns, of which the last 90 are digits
HEAD = "1,0,25,-0,1e2,.5,-3.25,1999.14,+6,95"


def rows_of(rng: np.random.Generator, number: int) -> list[str]:
    """Rows as those of LAYOUT, whose heads differ in length."""
    heads = [f"{i % 2},{i // 2 % 2},{HEAD[4:-2]}{94 + i}" for i in range(number)]
    return [",".join([head, *map(str, rng.integers(0, 10, size=90))]) for head in heads]


def both_ways(
    data: bytes, layout: Layout = LAYOUT, digits: frozenset[int] = frozenset()
) -> csv_blocks.Parsed:
    """What a text gives, once it is seen that it gives the same without the fast way."""
    text = csv_text.Text("rows.txt", 5, data)
    usual = csv_blocks.parse_text(text, layout, 3, digits)
    got = csv_blocks.parse_text(text, layout, 3, digits, split=True)
    assert (got.bad, got.not_digits) == (usual.bad, usual.not_digits)
    assert len(got.blocks) == len(usual.blocks)
    for ours, theirs in zip(got.blocks, usual.blocks):
        for array, expected in ((ours.features, theirs.features), (ours.labels, theirs.labels)):
            assert array.dtype == np.float32
            assert array.flags.c_contiguous
            assert array.shape == expected.shape
            assert array.tobytes() == expected.tobytes()
    return got


@pytest.mark.parametrize("kind", ["as it is", "another program's"])
def test_the_sample_is_read_the_fast_way(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((ROOT / "data").glob("t*/*.txt"))
    layout = Layout(499, (1, 0))
    if kind != "as it is":
        rows = b"".join(file.read_bytes() for file in files).replace(b"\n", b"\r\n")
        names = ",".join(f"c{column}" for column in range(501)).encode()
        files = [tmp_path / "rows.txt.gz"]
        files[0].write_bytes(gzip.compress(csv_text.BOM + names + b"\r\n" + rows))
    ways = []
    for misses, absent in ((8, "_parse_fast"), (0, "_parse_split")):
        with monkeypatch.context() as patch:
            patch.setattr(csv_blocks, "MISSES", misses)
            patch.setattr(csv_blocks, absent, None)  # fails where it is called
            blocks = list(csv_blocks.read_blocks(files, layout))
        ways.append([np.concatenate(arrays).tobytes() for arrays in list(zip(*blocks))[:2]])
    assert ways[0] == ways[1]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("columns", [(1, 0), (0, 99), (50, 1), (60, 99, 20), (9,), (10,)])
def test_labels_lie_before_the_digits_or_among_them(
    columns: tuple[int, ...], end: str, rng: np.random.Generator
) -> None:
    layout = Layout(100 - len(columns), columns)
    cells = [row.split(",") for row in rows_of(rng, 40)]
    for row in cells:
        for column in columns:
            row[column] = str(rng.integers(0, 2))
    data = end.join(",".join(row) for row in cells)
    for digits in (frozenset(), frozenset([0, 1, 7, *range(20, 100)])):
        assert both_ways(data.encode(), layout, digits - {7}).split
        assert both_ways((data + end).encode(), layout, digits - {7}).split
        assert not digits or both_ways(data.encode(), layout, digits).not_digits
    for value in range(2, 10):
        cells[17][columns[0]] = str(value)
        parsed = both_ways(end.join(",".join(row) for row in cells).encode(), layout)
        assert parsed.bad == [
            f"rows.txt:22: column {columns[0]} (from 0): label '{value}' should be 0 or 1"
        ]


CELLS = [
    "10",
    "-1",
    "+1",
    " 1",
    "1 ",
    '"1"',
    ".5",
    "1.",
    "-0",
    "1e0",
    "x",
    ":",
    "/",
    "",
    "\r1",
    "1\r",
    "é",
]
LINES = {
    "short": lambda row: row[:-2],
    "shorter_head": lambda row: row[row.index(",") + 1 :],
    "long": lambda row: row + ",1",
    "longer_head": lambda row: "1," + row,
    "empty": lambda row: "",
    "blank": lambda row: " ",
    "empty_head": lambda row: row[-180:],
    "half_a_head": lambda row: row[-179:],
    "one_cell": lambda row: "1",
    "comma_at_the_end": lambda row: row + ",",
    "crlf": lambda row: row + "\r",
    "cr": lambda row: row.replace(",", "\r", 1),
    "two_lines": lambda row: row[:-60] + "\n" + row[-59:],
    "two_digits_and_lf": lambda row: row + "0\n" + row,
    "quote": lambda row: row.replace("25", '"25"'),
    "byte_order_mark": lambda row: "\ufeff" + row,
    "joined_to_the_digits": lambda row: row[:-180] + "9" + row[-179:],
    "sign_before_the_digits": lambda row: row[:-180] + ",-" + row[-179:],
    "hex": lambda row: row.replace("25", "0x1"),
    "infinite": lambda row: row.replace("25", "1e39"),
}


@pytest.mark.parametrize("line", [0, 7, 11])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_what_is_nearly_such_a_row_is_read_as_before(
    line: int, end: str, rng: np.random.Generator
) -> None:
    rows = rows_of(rng, 12)
    changed = []
    for column in (8, 9, 10, 11, 50, 98, 99):
        for cell in CELLS:
            cells = rows[line].split(",")
            cells[column] = cell
            changed.append(",".join(cells))
    changed += [change(rows[line]) for change in LINES.values()]
    for row in changed:
        data = end.join([*rows[:line], row, *rows[line + 1 :]]).encode()
        both_ways(data)
        both_ways(data + end.encode())


def test_one_longer_cell_leaves_the_digits_after_it(rng: np.random.Generator) -> None:
    rows = rows_of(rng, 12)
    cells = rows[7].split(",")
    cells[20] = "-1.5"
    rows[7] = ",".join(cells)
    data = "\n".join(rows).encode()
    _, digits = csv_digits.split_digits(data, 100)
    assert digits.shape == (12, 79)
    assert both_ways(data).split


def test_a_line_of_a_head_alone_does_not_stand_in_for_a_head_that_is_empty(
    rng: np.random.Generator,
) -> None:
    layout = Layout(90, (1,))
    tails = [",".join(["1", *map(str, rng.integers(0, 10, size=89))]) for _ in range(3)]
    rows = [f"55,{tails[0]}", "77", f",{tails[1]}", f"66,{tails[2]}"]
    assert len(both_ways("\n".join(rows).encode(), layout).bad) == 2


def test_it_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng) -> None:
    tried = []
    split = csv_blocks.split_digits
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(csv_blocks, "split_digits", lambda *a: (tried.append(1), split(*a))[1])
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(row + ".0" for row in rows_of(rng, 200)))
    assert len(list(csv_blocks.read_blocks([file], LAYOUT))) > 40
    assert csv_blocks.MISSES <= len(tried) <= csv_blocks.MISSES + 3


def test_many_short_lines_after_a_long_one_take_no_memory(rng: np.random.Generator) -> None:
    """A window into the text for each of them would be a hundred times the text."""
    data = (rows_of(rng, 1)[0] + "\n" * 200_000).encode()
    tracemalloc.start()
    assert csv_digits.split_digits(data, 100) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20
    assert len(both_ways(data).blocks[0].features) == 1


def test_changed_bytes_give_the_same_rows_both_ways(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``FUZZ_EXAMPLES=100000 pytest -k changed_bytes`` takes a few minutes."""
    monkeypatch.setattr(csv_digits, "LEAST_DIGITS", 1)
    monkeypatch.setattr(csv_blocks, "SLOW_BYTES", 64)
    pieces = [b"", b",", b"\n", b"\r", b"\r\n", b"0", b"1", b"7", b",0", b"0,", b" ", b'"', b"-"]
    pieces += [b".", b"x", b"\0", b"\xef\xbb\xbf", b"\xff", b"12", b"0,1,", b",,", b"\n\n", b"+"]
    fast = good = 0
    for number in range(FUZZ):
        columns = int(rng.integers(2, 9))
        at = rng.permutation(columns)[: rng.integers(1, min(columns, 4))]
        layout = Layout(columns - len(at), tuple(at.tolist()))
        table = rng.integers(0, rng.choice([2, 10]), size=(rng.integers(1, 7), columns))
        cells = [list(map(str, row)) for row in table.tolist()]
        for row in cells:
            row[: rng.integers(0, columns)] = []
            row[:0] = rng.choice(["0", "1", "95", "-0", "1.5"], size=columns - len(row)).tolist()
            for column in layout.label_columns:
                row[column] = str(rng.integers(0, 2 if rng.random() < 0.98 else 4))
        end = b"\r\n" if rng.random() < 0.2 else b"\n"
        data = bytearray(end.join(",".join(row).encode() for row in cells) + end)
        for _ in range(rng.integers(0, 3) if number % 2 else 0):
            where = rng.integers(0, len(data) + 1)
            data[where : where + rng.integers(0, 3)] = pieces[rng.integers(len(pieces))]
        digits = rng.permutation(columns)[: rng.integers(0, columns + 1)].tolist()
        if data:
            parsed = both_ways(
                bytes(data), layout, frozenset(digits) if number % 3 else frozenset()
            )
            fast += parsed.split
            good += not parsed.bad
    assert fast > 0.2 * FUZZ
    assert good > fast


def test_a_bad_row_among_fast_ones_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rows_of(rng, 5000)
    rows[4321] = rows[4321][:-1] + "x"
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(rows))
    with pytest.raises(RowError, match=r"rows.txt:4322: column 99 \(from 0\): value 'x' is not"):
        list(csv_blocks.read_blocks([file], LAYOUT))
