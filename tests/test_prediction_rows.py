"""Rows of a table to predict on: files, streams and requests, good rows and bad ones in order."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from table_oracle import cells_of, expected, parted, row_of

sys.path.append(str(ROOT / "fuzz"))
from fuzz_tables import make_cell, make_parquet, make_schema, make_text

from prediction_rows import rows as rows_module
from prediction_rows import table_text
from prediction_rows.open import ColumnsError, columns_of, open_rows
from prediction_rows.rows import Rows, RowsError, Source
from prediction_rows.table import TableRows
from raw_tables import parquet, text
from raw_tables.cells import Cells, as_text
from raw_tables.read import read_blocks
from raw_tables.schema import Schema, load_schema, parse_schema

SHOP = """\
columns:
  - {name: user, kind: id, buckets: 1000, group: true}
  - {name: click, kind: label}
  - {name: city, kind: category, values: [Berlin, Lagos, "3", "NA"], other: true, missing: true}
  - {name: age, kind: number, missing: true}
  - {name: note, kind: ignore}
  - {name: price, kind: number}
  - {name: paid, kind: label, type: regression, missing: true}
  - {name: w, kind: weight}
missing: ["", "?", "none"]
"""
NAMES = ("user", "click", "city", "age", "note", "price", "paid", "w")
# In the order of the features: age, price, city, user.
FEATURES = ("age", "price", "city", "user")
ROWS = [
    ["u1", "1", "Berlin", "31", "x", "9.5", "3", "1"],
    ["u2", "0", "Lagos", "", "a, b", "-2.5e1", "", "0.5"],
    ["", "0", "NA", "?", 'say "hi"\nthere', "0", "none", "2"],
    ["ü 1", "1", "Paris", "7", "", "16777217", "-3", "1"],
    ["u1", "0", "3.0", "0.1", "", "none", "0", "3"],
]


def schema(words: str = "", columns: str = SHOP) -> Schema:
    """The shop's schema."""
    return parse_schema(columns + words, "the schema")


def written(rows: Sequence[Sequence[str]], **dialect: Any) -> bytes:
    """Rows as Python's csv module writes them."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n", **dialect).writerows(rows)
    return stream.getvalue().encode()


def only(names: Sequence[str], rows: Sequence[Sequence[str]] = ROWS) -> list[list[str]]:
    """Some columns of the rows."""
    return [[row[NAMES.index(name)] for name in names] for row in rows]


def trained(folder: Path, by: Schema, data: bytes) -> np.ndarray:
    """Features as training reads them."""
    (folder / "training").write_bytes(data)
    return np.concatenate([block["features"] for block in read_blocks([folder / "training"], by)])


def source(data: bytes, name: str = "rows", path: str | None = None) -> Source:
    """Bytes that cannot be sought in."""
    return Source(name, Unseekable(data), path)  # type: ignore[arg-type]


class Unseekable(io.RawIOBase):
    """As a pipe: a few bytes at a time, and no way back."""

    def __init__(self, data: bytes, most: int = 50_000) -> None:
        self._data, self._most = io.BytesIO(data), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._data.read(min(len(buffer), self._most))
        buffer[: len(block)] = block
        return len(block)


def read(by: Schema, what: Source, keep: Sequence[str] = ()) -> Rows:
    """All rows of a source, as one."""
    table = TableRows(by)
    return rows_module.joined(list(table.read(what, keep)), table.feature_size)


def objects(rows: Sequence[Sequence[str]] = ROWS) -> list[dict[str, Any]]:
    """Rows as a client sends them: numbers as numbers, what is missing as null or not at all."""
    found = []
    for row in rows:
        cells: dict[str, Any] = dict(zip(NAMES, row))
        for name in ("age", "price"):
            cells[name] = None if cells[name] in ("", "?", "none") else float(cells[name])
        cells["user"] = cells["user"] or None
        if cells["city"] == "3.0":
            cells["city"] = 3
        found.append({n: v for n, v in cells.items() if n in FEATURES and (v is not None)})
    return found


def test_every_form_of_a_row_gives_what_training_reads(tmp_path: Path) -> None:
    by = schema()
    want = trained(tmp_path, by, written([NAMES, *ROWS]))
    assert want[:2, :3].tolist() == [[31, 9.5, 0], [pytest.approx(np.nan, nan_ok=True), -25, 1]]
    shuffled = (*FEATURES[::-1], "more")
    bare = ("user", "city", "age", "price")  # as in the file
    rows = written(only(NAMES))
    extra = [[*row, "z"] for row in only(FEATURES[::-1])]
    tables = {n: [row[NAMES.index(n)] for row in ROWS] for n in FEATURES}
    parquet_file = io.BytesIO()
    pq.write_table(pa.table({"other": [[1]] * 5, **tables}), parquet_file)
    lines = "".join(json.dumps(row) + "\n" for row in objects()).encode()
    arrays = [[row.get(name) for name in FEATURES] for row in objects()]
    forms = {
        "all": written([NAMES, *ROWS]),
        "no labels, another order, a column more": written([shuffled, *extra]),
        "no header": rows,
        "no header, features only": written(only(bare)),
        "quoted, CRLF, gzip": gzip.compress(
            b"\xef\xbb\xbf" + written([NAMES, *ROWS], quoting=csv.QUOTE_ALL).replace(b"\n", b"\r\n")
        ),
        "Parquet": parquet_file.getvalue(),
        "JSON lines": b"\n  \n" + lines.replace(b"\n", b"\r\n\r\n"),
        "JSON lines of arrays, gzip": gzip.compress(
            "\n".join(map(json.dumps, arrays)).encode(), mtime=0
        ),
    }
    (tmp_path / "rows.parquet").write_bytes(forms["Parquet"])
    with open(tmp_path / "rows.parquet", "rb") as stream:
        in_place = Source("p", stream, str(tmp_path / "rows.parquet"))
        np.testing.assert_array_equal(read(by, in_place).features, want)
    for few in (table_text.FEW_ROWS, 0):
        with patch.object(table_text, "FEW_ROWS", few), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "rows: there is no header")  # of two of the forms
            for form, data in forms.items():
                got = read(by, source(data))
                assert not got.faults, (form, got.faults)
                np.testing.assert_array_equal(got.features, want, err_msg=form, strict=True)
    table = TableRows(by)
    assert table.names == FEATURES
    for request in (
        table.objects(objects()),
        table.arrays(arrays),
        table.text(rows),
        table.text(written([NAMES, *ROWS])),
    ):
        assert not request.faults
        np.testing.assert_array_equal(request.features, want, strict=True)


def test_a_first_line_that_is_too_long_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_ROW_BYTES", 1000)
    found = read(schema("header: false\n"), source(b"\0" * 3_000_000 + b"\n" + written(ROWS)))
    assert len(found.features) == 6
    assert [str(fault) for fault in found.faults.values()] == ["rows:1: row is longer than 0 MB"]
    with pytest.raises(RowsError, match="rows:1: the header row is longer than"):
        read(schema(), source(b"\0" * 3_000_000))


@pytest.mark.filterwarnings("ignore:rows.* there is no header")
@pytest.mark.parametrize("words", ["", "header: false\n"])
def test_a_line_that_just_numbers_the_columns_is_no_row(words: str) -> None:
    """As pandas writes one where columns have no names."""
    by = schema(words)
    expected = read(by, source(written(ROWS)))
    for start in (0, 1):
        data = written([[str(place) for place in range(start, start + 8)], *ROWS])
        found = read(by, source(data), ["note"])
        np.testing.assert_array_equal(found.features, expected.features)
        assert found.kept["note"] == [row[4] for row in ROWS]
    bad = read(by, source(b"0,1,2,3,4,5,6,7\n,,,old,,,,\n"))
    assert [fault.place for fault in bad.faults.values()] == ["rows:2"]


def test_names_are_no_row_in_capitals_either(tmp_path: Path) -> None:
    cells = written([[name.upper() for name in NAMES], *ROWS])
    said = 'rows:1: header: there is no column "user", only "USER"'
    for words in ("", "header: false\n"):
        with pytest.raises(RowsError, match=said):
            read(schema(words), source(cells))


def test_a_file_without_the_header_of_training_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="rows: there is no header: its columns are taken to be"):
        assert not read(schema(), source(written(ROWS))).faults
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(schema("header: false\n"), source(written(ROWS)))
        assert not TableRows(schema()).text(written(ROWS)).faults
    told = read(schema(), source(b"u1;1;Berlin;31;x;9.5;3;1\n")).faults[0].message
    assert told.endswith('or the 4 features alone, with "," between them')


def test_rows_without_a_header_of_files_that_had_none(tmp_path: Path) -> None:
    by = schema("header: false\n")
    want = trained(tmp_path, by, written(ROWS))
    bare = ("user", "city", "age", "price")
    forms = (
        ROWS,
        only(bare),
        [NAMES, *ROWS],
        [FEATURES, *only(FEATURES)],
        [("city", "age", "price", "user", "w"), *only(("city", "age", "price", "user", "w"))],
    )
    for rows in forms:
        np.testing.assert_array_equal(read(by, source(written(rows))).features, want)
    # A cell that is called like a column makes no header of a row.
    odd = [["user", "1", "age", "31", "x", "9.5", "3", "1"][:], *ROWS]
    odd[0][2] = "Berlin"
    assert len(read(by, source(written(odd))).features) == len(ROWS) + 1


@pytest.mark.parametrize("few", [0, table_text.FEW_ROWS])
def test_bad_rows_stay_in_their_place_with_line_and_column(few: int) -> None:
    by = schema()
    good = "u1,1,Berlin,31,x,9.5,3,1"
    lines = [
        ",".join(NAMES),
        good,
        "",
        good.replace("31", "old"),
        good.replace("9.5", "1e39") + "\n",
        good.replace(",x,", ',"x\ny",'),
        good + ",more",
        good.replace("Berlin", '"Ber"lin'),
        good.replace("31", "1,5"),
        good.replace("9.5", "inf"),
        good,
    ]
    with patch.object(table_text, "FEW_ROWS", few):
        got = read(by, source("\n".join(lines).encode()), ["user", "note", "click"])
    assert {place: (f.place, f.column) for place, f in got.faults.items()} == {
        1: ("rows:4", "age"),
        2: ("rows:5", "price"),
        4: ("rows:9", ""),
        5: ("rows:10", "city"),
        6: ("rows:11", ""),
        7: ("rows:12", "price"),
    }
    messages = [fault.message for fault in got.faults.values()]
    expected_number = "expected a number or what means missing ('', '?', 'none')"
    assert messages[0] == f"column \"age\": 'old' is not a number, {expected_number}"
    assert "'1e39' is too large" in messages[1]
    assert messages[2] == "row has 9 columns, expected 8"
    assert str(got.faults[1]).startswith('rows:4: column "age": ')
    np.testing.assert_array_equal(np.flatnonzero((got.features == 0).all(axis=1)), [*got.faults])
    assert got.features[[0, 3, 8], 0].tolist() == [31] * 3
    assert list(got.kept) == ["user", "note", "click"]
    assert got.kept["user"] == ["u1", "u1", "u1", "u1", None, None, None, "u1", "u1"]
    assert got.kept["note"][3] == "x\ny"


def test_a_file_without_the_columns_is_refused_and_a_count_is_told_with_both(
    tmp_path: Path,
) -> None:
    by = schema()
    for words, data in {
        'rows:1: header: there is no column "price", only "age", "city", "user"': b"age,city,user",
        'rows:1: header: two columns have the name "age"': b"age,age,city,user,price\n",
        "rows: is compressed with xz, expected delimited text, Parquet or JSON": b"\xfd7zXZ\0",
        "rows: is Parquet inside gzip": gzip.compress(b"PAR1\x15\x04\x15"),
        "rows: damaged Parquet: ": b"PAR1\x15\x04\x15",
        "rows: is JSON over several lines": b'[\n  {"age": 3}\n]\n',
        "rows: is a JSON array of rows, expected JSON lines": b'[{"age": 3}, {"age": 4}]\n',
        "rows: is a JSON array of rows, expected": b"[[1, 2, 3, 4]]",
        "rows: damaged gzip before the first": gzip.compress(written([NAMES, *ROWS]))[:-20],
        "rows: damaged gzip after line 4": gzip.compress(b'{"age": 1, "user": 7}\n' * 60_000)[:-9],
        'rows: no row has any of the columns "age", "price", "city", "user"; there is "x"': (
            b'{"x": 1}\n'
        ),
    }.items():
        with pytest.raises(RowsError) as refused, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(by, source(data))
        assert str(refused.value).startswith(words)
        assert getattr(refused.value, "user_error", False)
    odd = io.BytesIO()
    texts = pa.array([b"\xff"], pa.binary()).view(pa.string())  # not looked at
    pq.write_table(pa.table({"age": [1], "price": [1], "city": texts, "user": [1]}), odd)
    with pytest.raises(RowsError, match="rows: damaged Parquet: 'utf-8' codec can't decode"):
        read(by, source(odd.getvalue()))
    (tmp_path / "odd").write_bytes(odd.getvalue())
    with pytest.raises(RowsError, match="damaged Parquet"):
        list(read_blocks([tmp_path / "odd"], without_labels(replace(by, tasks=()))))
    got = read(by, source(b"1,2,3\n1,2,3,4\n"))
    both = "expected 8 as in training, or the 4 features alone"
    said = [f"row has {count} columns, {both}" for count in (3, 4)]
    assert [fault.message for fault in got.faults.values()] == said
    for data in (b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b""), b"age,price,city,user\n"):
        assert read(by, source(data)).features.shape == (0, 4)
    for data, name in ((written([NAMES, *ROWS]), '"Age"'), (b'{"age": 1, "id": 2}\n', '"Age"')):
        with pytest.raises(RowsError, match=f"there is no column {name}"):
            read(by, source(data), ["Age"])


@pytest.mark.filterwarnings("ignore:rows.* there is no header")
def test_cells_of_any_column_are_kept_in_every_form(tmp_path: Path) -> None:
    by = schema()
    names = [*NAMES, "day"]
    rows = [[*row, f"2026-01-0{n + 1}"] for n, row in enumerate(ROWS)]
    keep = ["note", "age", "user", "day", "age"]
    want = {n: [row[names.index(n)].strip() for row in rows] for n in dict.fromkeys(keep)}
    for few in (0, 1 << 20):
        with patch.object(table_text, "FEW_ROWS", few):
            assert read(by, source(written([names, *rows])), keep).kept == want
            assert read(by, source(written(ROWS)), ["note"]).kept == {"note": want["note"]}
            odd = b"age,price,city,user,x\n1,2,Berlin,u,\xff a \n"
            assert read(by, source(odd), ["x"]).kept == {"x": ["\ufffd a"]}
    lines = [json.dumps({**dict(zip(names, row)), "more": {"a": [1]}}) for row in rows]
    got = read(by, source("\n".join(lines).encode()), ["note", "age", "more"])
    assert got.kept == {"note": want["note"], "age": want["age"], "more": ['{"a": [1]}'] * 5}
    days = pa.array([row[-1] for row in rows]).cast(pa.date32())
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    table = pa.table({**columns, "day": days, "n": pa.array([1, None, 3, 4, 5])})
    pq.write_table(table, tmp_path / "rows.parquet")
    with open(tmp_path / "rows.parquet", "rb") as stream:
        got = read(by, Source("p", stream, str(tmp_path / "rows.parquet")), [*keep, "n"])
    assert got.kept == {**want, "n": ["1", None, "3", "4", "5"]}


def test_bad_rows_of_parquet_and_json_lines() -> None:
    by = schema()
    table = pa.table(
        {
            "age": ["1", "x", None],
            "price": [1.0, 2.0, 1e39],
            "city": ["Berlin"] * 3,
            "user": [7] * 3,
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream)
    got = read(by, source(stream.getvalue()), ["age"])
    assert [(n, f.place, f.column) for n, f in got.faults.items()] == [
        (1, "rows: row 2", "age"),
        (2, "rows: row 3", "price"),
    ]
    assert got.kept == {"age": ["1", "x", None]}
    assert got.features[1:].tolist() == [[0] * 4] * 2
    deep = "[" * 100_000
    lines = [
        '{"age": 31, "price": 1, "id": 0}',
        '{"age": "x"}',
        '{"age": 3',
        "",
        deep,
        '{"age": NaN}',
        '[1, 2, "Berlin"]',
        '"text"',
        f'{{"age": {"9" * 30_000}}}',
        '{"age": [1]}',
        '{"age": "\\ud800", "user": "\\ud800"}',
        '{"user": "\\ud800"}',
        '{"note": "\\ud800", "age": 7, "more": 1}',
    ]
    data = "\n".join(lines).encode() + b'\n{"age": "\xff"}'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = read(by, source(data), ["note"])
    for fault in got.faults.values():
        fault.message.encode()
        assert fault.message.isprintable()
    assert [(n, f.place, f.column) for n, f in got.faults.items()] == [
        *((1, "rows:2", "age"), (2, "rows:3", ""), (3, "rows:5", ""), (4, "rows:6", "")),
        *((5, "rows:7", ""), (6, "rows:8", ""), (7, "rows:9", ""), (8, "rows:10", "age")),
        *((9, "rows:11", "user"), (10, "rows:12", "user"), (12, "rows:14", "")),
    ]
    messages = [fault.message for fault in got.faults.values()]
    for words, message in zip(
        (
            *("'x' is not a number", "not JSON: Expecting ',' delimiter", "nested too deeply"),
            *("NaN is no number", "row has 3 cells, expected 4: ", "is text, expected an object"),
            *("very many digits", "a list is no cell, expected a number"),
            *("half of a surrogate pair", "half of a surrogate pair", "not UTF-8 text"),
        ),
        messages,
    ):
        assert words in message
    assert got.features[11, 0] == 7
    assert got.kept["note"][11] == "\\ud800"


def test_a_key_that_no_row_has_is_told_once() -> None:
    data = b'{"agee": 3, "price": 1, "user": "u"}\n' * 3
    with pytest.warns(UserWarning) as told:
        got = read(schema(), source(data))
    what = 'the first rows have no "age" (there is "agee") and 1 more: taken as missing'
    assert [str(warning.message) for warning in told] == [f"rows: {what}"]
    assert np.isnan(got.features[:, 0]).all()


def test_lines_of_json_that_are_too_long_and_lines_across_blocks() -> None:
    by = schema()
    row = b'{"age": 31, "price": 1, "city": "Berlin", "user": "u1"}\n'
    long = b'{"note": "' + b"x" * 300 + b'"}\n'
    data = row + b"\n" + long + row + long[:-1]
    for block, most in itertools.product((7, 64, 500), (64, 200)):
        with (
            patch("prediction_rows.streams.BLOCK_BYTES", block),
            patch("prediction_rows.streams.MAX_LINE_BYTES", most),
            patch("prediction_rows.streams.MOST_LINES", 1),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            got = read(by, source(data))
        if block < 500:
            assert {n: f.place for n, f in got.faults.items()} == {1: "rows:3", 3: "rows:5"}
        assert got.features[[0, 2], 0].tolist() == [31, 31]
        assert len(got.features) == 4


def test_what_a_request_may_not_have_is_told_by_row_and_column() -> None:
    table = TableRows(schema())
    rows: list[Any] = [
        {},
        {"age": 1, "click": 1, "note": "x", "w": 2},
        {"agee": 1},
        {"age": "x", "price": True},
        {"city": {"a": 1}},
        {"price": 10**400},
        {"price": 3.5e38, "age": None},
        {"\ud800" * 100: 1},
        [1, 2, 3, 4],
        "text",
        {"user": 10**30, "age": " 7 ", "price": " ? "},
    ]
    got = table.objects(rows)
    assert {n: (f.place, f.column) for n, f in got.faults.items()} == {
        2: ("row 3", "agee"),
        3: ("row 4", "price"),  # before age in the table
        4: ("row 5", "city"),
        5: ("row 6", "price"),
        6: ("row 7", "price"),
        7: ("row 8", "\\ud800" * 100),
        9: ("row 10", ""),
    } or got.faults[3].column == "age"
    assert got.faults[2].message == 'there is no column "agee"; did you mean "age"?'
    assert got.features[0, 2] == 5
    assert got.features[0, 3] == 1000
    assert np.isnan(got.features[0, :2]).all()
    assert got.features[10, 0] == 7
    for fault in got.faults.values():
        str(fault).encode()
        assert len(str(fault)) < 1000
    got = table.arrays([[1, 2, "Berlin", "u", 5], [1, 2, "Berlin", "u"]])
    assert got.faults[0].message == ('row has 5 cells, expected 4: "age", "price", "city", "user"')
    assert table.objects([]).features.shape == (0, 4)
    with pytest.raises(RowsError, match="expected it plain"):
        table.text(gzip.compress(b"age"))
    got = table.text(b"age,city,user,price\n1,2,3,x\n")
    assert [str(fault) for fault in got.faults.values()][0].startswith('line 2: column "price": ')


def names_differ(by: Schema) -> Schema:
    """A schema whose columns have names that no cell has."""
    columns = tuple(replace(column, name=f"col {column.name}") for column in by.columns)
    return replace(by, columns=columns)


def without_labels(by: Schema) -> Schema:
    """A schema by which only features are looked at."""
    kinds = {kind: kind for kind in ("number", "category", "id")}
    columns = (replace(c, kind=kinds.get(c.kind, "ignore")) for c in by.columns)
    return replace(by, columns=tuple(columns))


def wanted(data: bytes, by: Schema) -> list[Any]:
    """Of each row of a text its features, or the line and the column of what is wrong with it."""
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    rows = parted(data.removeprefix(b"\xef\xbb\xbf").decode("latin-1"), by.delimiter)
    names = [column.name for column in by.columns]
    if by.header and rows:
        names = [
            n.encode("latin-1").decode(errors="backslashreplace") for n in rows.pop(0)[1] or ()
        ]
    elif rows and len(rows[0][1] or ()) != len(names):
        return []
    found: list[Any] = []
    for row in rows:
        line, cells, column = cells_of(row, names, by)
        values = row_of(cells, by) if cells is not None else column
        if isinstance(values, dict):
            found.append([values[column.name] for column in by.features])
        else:
            found.append((f"rows:{line}", values or ""))
    return found


def test_made_up_tables_give_what_an_oracle_says_row_for_row() -> None:
    counts = {"rows": 0, "bad": 0, "parquet": 0}
    for seed in range(80):
        rng = random.Random(seed)
        by = names_differ(make_schema(rng))
        looked_at = without_labels(by)
        odd, number = rng.choice((0, 0.02, 0.1)), rng.choice((3, 10, 40))
        cells = [[make_cell(c, odd, rng) for c in by.columns] for _ in range(number)]
        size = rng.choice((8, 64, 1 << 16))
        sizes = {"SLOW_BYTES": max(size, 50), "FEW_ROWS": rng.choice((0, 3, 1 << 16))}
        sizes["MOST_ROWS"] = rng.choice((2, 1 << 15))
        if rng.random() < 0.2:
            data, good = make_parquet(looked_at, cells, rng)
            with patch.object(parquet, "BATCH_BYTES", size):
                got = read(by, source(data))
            np.testing.assert_array_equal(
                np.delete(got.features, [*got.faults], axis=0),
                np.array(good.features, np.float64).reshape(-1, by.feature_size).astype("f4"),
            )
            places = [(fault.place, fault.column) for fault in got.faults.values()]
            assert places == [(f"rows: row {bad.line}", bad.column) for bad in good.bad], seed
            assert [*got.faults] == [bad.line - 1 for bad in good.bad]
            counts["parquet"] += 1
            continue
        data = make_text(by, cells, rng)
        refused = expected(data, looked_at).refused
        with patch.object(text, "BLOCK_BYTES", size), patch.multiple(table_text, **sizes):
            try:
                got = read(by, source(data))
            except RowsError:
                assert refused or data[:2] == b"\x1f\x8b", seed
                continue
        want = wanted(data, looked_at)
        if refused or not want:
            continue
        bad = {n: row for n, row in enumerate(want) if isinstance(row, tuple)}
        assert len(got.features) == len(want), seed
        assert {n: (f.place, f.column) for n, f in got.faults.items()} == bad, seed
        values = [[0.0] * by.feature_size if isinstance(row, tuple) else row for row in want]
        np.testing.assert_array_equal(got.features, np.array(values).astype(np.float32), f"{seed}")
        counts["rows"] += len(want)
        counts["bad"] += len(bad)
    assert counts["rows"] > 700
    assert counts["bad"] > 30
    assert counts["parquet"] > 5


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-20, 20),
    st.floats(allow_subnormal=True),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 3.0, 1e15, 1e16, 0.1, 2.0**-126, 2.0**-149, 3.4028235677973366e38]),
    st.text(max_size=5),
    st.from_regex(r"\A[ \t]?[+-]?[0-9]{1,12}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,2})?[ ]?\Z"),
    st.sampled_from(
        [
            *(
                "",
                "?",
                "none",
                "NA",
                "3",
                "3.0",
                "-7.0",
                "Berlin",
                " Lagos\t",
                "nan",
                "inf",
                "1e39",
            ),
            *("16777217", "16777217.0000000000000001", "1e-46", "1.1754943508222875e-38", "0x1"),
            *(
                "340282356779733661637539395458142568447",
                "1_0",
                "１",
                "1e400",
                "true",
                "-0",
                "1e39",
            ),
        ]
    ),
)


MARKS = {
    "": schema(),
    "numbers": schema('missing: ["-1", "3.5"]\n', SHOP[: SHOP.index("missing: [")]),
}
TABLES = {marks: TableRows(by) for marks, by in MARKS.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(CELLS, CELLS, CELLS, CELLS), st.sampled_from([*MARKS]))
@example((None, 3.4028235677973366e38, None, 1e10), "numbers")
@example((2.0**-149, 3.4028235677973366e38, 1e10, 1e10), "")
def test_a_cell_of_json_means_what_it_means_in_parquet(row: tuple[Any, ...], marks: str) -> None:
    table = TABLES[marks]
    cells = Cells.of(without_labels(replace(MARKS[marks], tasks=())))
    by_name = dict(zip(FEATURES, row))
    arrays = [pa.array([by_name[column.name]]) for column in cells.columns]
    want = cells.arrays(arrays)
    for got in (table.objects([by_name, {}]), table.arrays([row])):
        if want.bad:
            column, array = cells.columns[min(want.bad)], arrays[min(want.bad)]
            assert got.faults[0].column == column.name
            assert got.faults[0].message == cells.fault(column, as_text(array)[0].as_py())
        else:
            assert not got.faults
            np.testing.assert_array_equal(got.features[0], want.features[0], strict=True)


def test_rows_come_through_a_pipe_in_constant_memory() -> None:
    by = load_schema(ROOT / "datasets/census/schema.yaml")
    files = sorted((ROOT / "data/raw").rglob("*.gz"))
    sample = b"".join(gzip.decompress(file.read_bytes()) for file in files)
    times = (30 << 20) // len(sample)
    want = np.concatenate([block["features"] for block in read_blocks(files, by)])
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb") as stream:
            for _ in range(times):
                stream.write(sample)

    thread = threading.Thread(target=write)
    thread.start()
    count, largest, start = 0, 0, 0
    with open(reader, "rb") as stream:
        for rows in TableRows(by).read(Source("standard input", stream)):
            assert not rows.faults
            at = count % len(want)
            again = np.concatenate([want[at:], want, want])[: len(rows.features)]
            np.testing.assert_array_equal(rows.features[: len(again)], again)
            count += len(rows.features)
            largest = max(largest, resident())
            start = start or largest
    thread.join()
    assert count == times * len(want)
    assert largest - start < 30 << 20, (largest, start)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_reader_that_is_left_early_ends_its_threads_and_closes_nothing() -> None:
    stream = io.BytesIO(written([NAMES, *ROWS * 20_000]))
    rows = TableRows(schema()).read(Source("rows", stream))
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("rows")]
    assert not stream.closed


def test_columns_of_a_config_open_as_they_were_and_without_paddle(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(SHOP + 'delimiter: ";"\n', encoding="utf-8")
    config = {"config_abs_dir": str(tmp_path), "hyper_parameters.schema": "schema.yaml"}
    columns = columns_of(config)
    kept = {"columns": {"schema": columns["schema"]}}  # what a checkpoint has
    assert columns_of({**kept, "hyper_parameters.schema": "gone.yaml"}) == columns
    other = (SHOP + 'delimiter: ";"\n').replace("Berlin, ", "")
    (tmp_path / "schema.yaml").write_text(other, encoding="utf-8")
    with pytest.warns(UserWarning, match='no longer has "Berlin"; rows are read by the model\'s'):
        assert columns_of({**config, **kept}) == columns
    (tmp_path / "columns.json").write_text(json.dumps(columns), "utf-8")
    code = """
import json, sys
from prediction_rows.open import open_rows
rows = open_rows(json.load(open(sys.argv[1])))
got = rows.text(b"user;city;age;price\\nu1;Berlin;31;9.5\\n")
print(json.dumps([rows.names, rows.describe(), got.features.tolist(), "paddle" in sys.modules]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "columns.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names, described, features, paddle = json.loads(done.stdout)
    assert tuple(names) == FEATURES
    assert features[0][:3] == [31, 9.5, 0]
    assert not paddle
    assert described == [
        {"name": "age", "kind": "number", "values": [], "other": False, "missing": True},
        {"name": "price", "kind": "number", "values": [], "other": False, "missing": True},
        {
            "name": "city",
            "kind": "category",
            "values": ["Berlin", "Lagos", "3", "NA"],
            "other": True,
            "missing": True,
        },
        {"name": "user", "kind": "id", "values": [], "other": True, "missing": True},
    ]


def damaged() -> Iterator[tuple[str, Any]]:
    """What a model.json may have in place of columns."""
    good = columns_of({"columns": {"schema": schema().as_dict()}, "hyper_parameters.schema": "x"})

    def changed(**words: Any) -> Mapping[str, Any]:
        return {"kind": "table", "schema": {**good["schema"], **words}}

    column = good["schema"]["columns"][0]
    yield "kind should be table or numbers, got 'None'", None
    yield "kind should be table or numbers, got 'None'", []
    yield "kind should be table or numbers, got ", {"kind": "x" * 10**6}
    yield "should be an object with a list of columns", {"kind": "table"}
    yield "should be an object with a list of columns", changed(columns={"a": 1})
    yield "columns should list at least one column", changed(columns=[])
    yield "at most 100000 fit", changed(columns=[column] * 100_001)
    yield "two columns have the name", changed(columns=[column, *good["schema"]["columns"]])
    yield "kind should be one of", changed(columns=[{**column, "kind": "os.system"}])
    yield "kind is missing", changed(columns=[{"name": "a"}])
    yield "nested too deeply", changed(missing=[[[[["a"]]]]])
    yield "missing should be a list of texts", changed(missing=[["a"]])
    yield "number of more than 64 bits", changed(columns=[{**column, "buckets": 10**30}])
    yield "buckets should be a whole number from 1", changed(columns=[{**column, "buckets": -1}])
    yield "buckets should be a whole number from 1", changed(columns=[{**column, "buckets": 1e300}])
    yield "has a text of 1000000 letters", changed(columns=[{**column, "x" * 10**6: 1}])
    yield "surrogate", changed(columns=[{**column, "name": "\ud800"}])
    yield "is no word", changed(path="/etc/passwd")
    yield "delimiter should be one of", changed(delimiter="\n")
    yield "columns should have a feature", changed(columns=good["schema"]["columns"][1:2])


@pytest.mark.parametrize("said, columns", damaged(), ids=lambda value: str(value)[:40])
def test_columns_of_a_stranger_are_refused_in_a_sentence(said: str, columns: Any) -> None:
    with pytest.raises(ColumnsError) as refused:
        open_rows(columns)
    message = str(refused.value)
    assert said in message
    assert message.isprintable()
    assert len(message) < 400
    assert getattr(refused.value, "user_error", False)
