"""Rows of numbers to predict on: every road gives the same rows, and what is wrong with which."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ROOT, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prediction_oracle import wanted
from row_oracle import _NoPool as NoPool
from test_fuzz_rows import texts

import csv_blocks
import csv_digits
import csv_text
from csv_layout import Layout, RowError
from csv_line import parse_row
from prediction_rows import number_text
from prediction_rows.number_columns import NumberColumns
from prediction_rows.open import ColumnsError, columns_of, open_rows
from prediction_rows.rows import Fault, PredictionRows, Rows, RowsError, Source, joined
from raw_tables.parquet import told

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 150,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# Seven columns: a label, a weight, one that is nothing, and features in an order of their own.
NAMES = ("y", "a", "note", "z", "b", "w", "c")
NAMED = NumberColumns(7, (4, 1, 6, 3), (0,), 5, (2,), NAMES)
UNNAMED = NumberColumns(7, (1, 3, 4, 6), (0,), 5, (2,))
TRAINED = {
    "named": Layout(
        4, (0,), features=(4, 1, 6, 3), weight_column=5, ignored_columns=(2,), names=NAMES
    ),
    "unnamed": Layout(4, (0,), weight_column=5, ignored_columns=(2,)),
}
COLUMNS = {"named": NAMED, "unnamed": UNNAMED}


def rows_for(columns: NumberColumns) -> PredictionRows:
    """The reader, by what a file keeps of the columns."""
    return open_rows(json.loads(json.dumps(columns.as_json())))


def read(
    rows: PredictionRows, data: bytes, keep: Sequence[str] = (), path: str | None = None
) -> Rows:
    """All rows of a stream that cannot be sought in."""
    receive, send = os.pipe()

    def write() -> None:
        with open(send, "wb") as stream:
            stream.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with open(receive, "rb") as stream:
        try:
            found = list(rows.read(Source("in", stream, path), keep))
        finally:
            stream.read()
            writer.join()
    assert all(len(part.features) for part in found)
    return joined(found, rows.feature_size)


def trained_on(tmp_path: Path, data: bytes, layout: Layout) -> np.ndarray:
    """The features that the reader of training gives."""
    file = tmp_path / "rows.txt"
    file.write_bytes(data)
    blocks = list(csv_blocks.read_blocks([file], layout))
    return np.concatenate([block.features for block in blocks])


def table(count: int, rng: np.random.Generator) -> list[list[str]]:
    """Rows as text of the seven columns."""
    odd = ("-0", "1e-45", "3.4028235e38", "16777217", ".5", "1999.14", "+7", "1.0000000596046448")
    rows = []
    for place in range(count):
        cells = [repr(float(x)) for x in rng.normal(size=7).astype(np.float32)]
        cells[1 + place % 6] = odd[place % len(odd)]
        rows.append([str(place % 2), cells[1], f"n{place}", cells[3], cells[4], "1", cells[6]])
    return rows


def text(rows: Sequence[Sequence[str]], end: str = "\n") -> bytes:
    return "".join(",".join(row) + end for row in rows).encode()


@pytest.mark.parametrize("kind", ["named", "unnamed"])
def test_every_kind_of_input_gives_what_training_read(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    rows, cells = rows_for(COLUMNS[kind]), table(60, rng)
    want = trained_on(tmp_path, text(cells), TRAINED[kind])
    features = COLUMNS[kind].features
    alone = [[row[column] for column in features] for row in cells]
    calling = dict(zip(rows.names, features))
    assert rows.names == (("b", "a", "c", "z") if kind == "named" else ("1", "3", "4", "6"))
    objects = [{name: row[at] for name, at in calling.items()} for row in cells]
    order = ["extra", "c", "z", "a", "b"]
    turned = [
        [str(n), *(row[NAMES.index(name)] for name in order[1:])] for n, row in enumerate(cells)
    ]
    stream = io.BytesIO()
    typed = {name: [float(row[name]) for row in objects] for name in rows.names}
    pq.write_table(pa.table({"y": ["?"] * 60, **typed}), stream, row_group_size=7)
    lines = "\n".join(map(json.dumps, objects)).encode()
    inputs = {
        "all columns": text(cells),
        "features": text(alone),
        "crlf, gzip and a byte-order mark": gzip.compress(csv_text.BOM + text(cells, "\r\n")),
        "quoted": text([[f'"{cell}"' for cell in row] for row in alone]),
        "header": text([NAMES, *cells]),
        "header of features": text(
            [rows.names if kind == "named" else ("p", "q", "r", "s"), *alone]
        ),
        "json lines": lines,
        "json arrays": "\n".join(map(json.dumps, alone)).encode(),
        "parquet": stream.getvalue(),
    }
    if kind == "named":
        inputs["another header"] = text([order, *turned])
    for name, data in inputs.items():
        got = read(rows, data)
        assert not got.faults, name
        want_here = np.array(list(typed.values()), np.float32).T if name == "parquet" else want
        assert got.features.tobytes() == want_here.tobytes(), name
        if "," in name or "json" in name or "parquet" in name:
            continue
        assert rows.text(data).features.tobytes() == want.tobytes(), name
    for got in (rows.objects(objects), rows.arrays(alone)):
        assert not got.faults
        assert got.features.tobytes() == want.tobytes()
    numbers = [{name: float(value) for name, value in row.items()} for row in objects]
    assert (
        rows.objects(numbers).features.tobytes()
        == np.array([list(row.values()) for row in numbers], np.float64)
        .astype(np.float32)
        .tobytes()
    )


def test_rows_of_the_sample_are_read_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One-hot rows, as they are and without their labels; labels may be anything."""
    file = min((ROOT / "data").glob("*test*/*.txt"))
    data = file.read_bytes()
    want = np.concatenate([b.features for b in csv_blocks.read_blocks([file], Layout(499, (1, 0)))])
    monkeypatch.setattr(csv_blocks, "_parse_fast", None)  # fails where it is called
    rows = rows_for(NumberColumns(501, tuple(range(2, 501)), (1, 0)))
    alone = b"".join(line.split(b",", 2)[2] for line in data.splitlines(keepends=True))
    for given_text in (data, alone, data.replace(b"\n", b"\r\n")):
        assert read(rows, given_text, ["0"]).features.tobytes() == want.tobytes()


BAD = ("x", "", " ", "nan", "-Inf", "1e39", "0x1", "1_0", "1 2", "é", "１", "\0", '"1"2')


@fuzzed
@given(st.data())
def test_bad_rows_are_named_in_their_place_as_training_does(data: st.DataObject) -> None:
    """The message is that of the parser of one line; rows beside them are as if alone."""
    kind = data.draw(st.sampled_from(["named", "unnamed"]))
    cells = table(
        data.draw(st.integers(1, 12)), np.random.default_rng(data.draw(st.integers(0, 9)))
    )
    alone = data.draw(st.booleans())
    columns = COLUMNS[kind]
    if alone:
        cells = [[row[column] for column in columns.features] for row in cells]
    for _ in range(data.draw(st.integers(0, 4))):
        row = data.draw(st.sampled_from(cells))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.sampled_from(BAD))
    if len(cells) > 1 and data.draw(st.booleans()):
        cells[-1] = cells[-1][: data.draw(st.integers(2, 3))]
    named = kind == "named" and data.draw(st.booleans())
    names = [*columns.called] if not alone else [*columns.feature_names]
    body = text([names, *cells] if named else cells)
    features = range(len(columns.features)) if alone else columns.features
    layout = Layout(
        *(4, (), {}, tuple(features)),
        ignored_columns=tuple(c for c in range(len(names)) if c not in features),
        names=tuple(names) if kind == "named" else (),
    )
    want, faults = [], {}
    for place, row in enumerate(cells):
        try:
            values = parse_row(",".join(row).encode(), layout)
            want.append([values[column] for column in features])
        except RowError as error:
            faults[place] = str(error)
            want.append([0.0] * 4)
    size = data.draw(st.sampled_from([5, 40, 1 << 20]))
    with (
        patch.object(csv_text, "BLOCK_BYTES", size),
        patch.multiple(csv_blocks, SLOW_BYTES=size, ThreadPoolExecutor=NoPool),
        patch.object(number_text, "MOST_ROWS", data.draw(st.sampled_from([1, 3, 100]))),
    ):
        rows = rows_for(columns)
        for got, place in ((read(rows, body), "in:"), (rows.text(body), "line ")):
            assert got.features.tobytes() == np.array(want, np.float32).tobytes()
            assert list(got.faults) == list(faults)
            for (row, fault), said in zip(got.faults.items(), faults.values()):
                assert fault.place == f"{place}{row + 1 + named}"
                ours, theirs = fault.message, said
                if said.startswith("row has"):
                    ours, theirs = ours.split(", expected")[0], theirs.split(", expected")[0]
                assert ours.split("; a header")[0] == theirs
                assert (fault.column == "") == said.startswith("row has")


SMALL = {
    "named": NumberColumns(4, (3, 1), (0,), None, (2,), ("a", "b", "c", "d")),
    "unnamed": NumberColumns(4, (1, 3), (2, 0)),
    "all": NumberColumns(4, (0, 1, 2, 3)),
}


@fuzzed
@given(st.sampled_from([*SMALL]), texts(), st.sampled_from([1, 8, 64, 1 << 16]))
def test_any_bytes_give_the_rows_of_the_oracle(kind: str, data: bytes, size: int) -> None:
    if data.lstrip()[:1] in (b"{", b"[") or data.startswith((b"\x1f\x8b", b"PAR1")):
        return
    columns = SMALL[kind]
    rows, want = rows_for(columns), wanted(data, columns)
    with (
        patch.object(csv_text, "BLOCK_BYTES", size),
        patch.multiple(csv_blocks, SLOW_BYTES=size, ThreadPoolExecutor=NoPool),
        patch.object(csv_digits, "LEAST_DIGITS", 1),
        patch.object(number_text, "MOST_ROWS", 2),
    ):
        ways = (lambda: read(rows, data, ["0", "1"]), lambda: rows.text(data))
        for way in ways:
            if want is None:
                with pytest.raises(RowsError):
                    way()
                continue
            got = way()
            good, bad = want
            assert len(got.features) == len(good) + len(bad)
            assert [int(f.place.split(":")[-1].split()[-1]) for f in got.faults.values()] == bad
            at = [place for place in range(len(got.features)) if place not in got.faults]
            np.testing.assert_array_equal(
                got.features[at], np.array(good).reshape(-1, len(rows.names))
            )
            assert not got.features[list(got.faults)].any()
            assert all(len(kept) == len(got.features) for kept in got.kept.values())


def test_the_first_row_with_a_count_that_fits_tells_the_columns() -> None:
    rows = rows_for(NAMED)
    got = read(rows, b"1,2\n\n1,2,3,4\n1,2,3,4,5,6,7\n1,2,x,4\n")
    assert got.features.tolist() == [[0] * 4, [1, 2, 3, 4], [0] * 4, [0] * 4]
    expected = "expected the 4 features alone, as other rows here have"
    assert [str(fault) for fault in got.faults.values()] == [
        f"in:1: row has 2 columns, {expected}",
        f"in:4: row has 7 columns, {expected}",
        "in:5: column 2 (from 0) 'c': value 'x' is not a number",
    ]
    assert [fault.column for fault in got.faults.values()] == ["", "", "c"]
    both = "row has 2 columns, expected 7 as the training files have, or the 4 features alone"
    assert str(read(rows, b"1,2\n").faults[0]) == f"in:1: {both}"
    assert str(rows.text(b"1,2\n").faults[0]) == f"line 1: {both}"
    got = read(rows_for(UNNAMED), b"0,1,?,3,4,?,6\n0,1,?,3,oh,?,6\n")
    assert got.faults[1] == Fault("in:2", "4", "column 4 (from 0): value 'oh' is not a number")
    assert rows.text(b"").features.shape == (0, 4)
    with_header = read(rows, b"b,a,c,z,more\n1,2,3,4,5\n1,2,3,4\n")
    assert str(with_header.faults[1]) == "in:3: row has 4 columns, expected 5 as the header has"


@pytest.mark.parametrize("named", [False, True])
def test_a_line_that_just_numbers_the_columns_is_no_row(named: bool) -> None:
    """As pandas writes one where columns have no names."""
    names = tuple(f"c{place}" for place in range(12)) if named else ()
    rows = rows_for(NumberColumns(12, tuple(range(2, 12)), (0, 1), names=names))
    cells = [[str(10 * row + place) for place in range(12)] for row in range(1, 4)]
    expected = np.array(cells, np.float32)[:, 2:]
    first = [[str(place) for place in range(start, start + 12)] for start in (0, 1)]
    whole = [text([line, *cells]) for line in first]
    whole.append(text([[f'"{place}"' for place in range(12)], *cells]))
    features = [row[2:] for row in cells]
    lines = [first[0][:10], first[1][:10], *([] if named else [first[0][2:]])]
    for data in [*whole, *(text([line, *features]) for line in lines)]:
        found = read(rows, data)
        np.testing.assert_array_equal(found.features, expected)
        assert not found.faults
    bad = read(rows, text([first[0], *cells[:2], ["x"] * 12]))
    assert [fault.place for fault in bad.faults.values()] == ["in:4"]
    # It may be a row where it could be by chance.
    few = read(rows_for(NumberColumns(4, (1, 2, 3), (0,))), b"0,1,2,3\n4,5,6,7\n")
    assert few.features.tolist() == [[1, 2, 3], [5, 6, 7]]


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("named", "b,a,c,zz", "its header lacks column 'z' (there is 'zz'), which the training"),
        ("named", "b,a,c,z,b", "columns 0 and 4 (from 0) are both called 'b'"),
        (
            "unnamed",
            "b,a,c",
            "its header names 3 columns, expected 7 as the training files have, or",
        ),
    ],
)
def test_a_header_that_does_not_fit_is_refused(kind: str, line: str, said: str) -> None:
    rows, data = rows_for(COLUMNS[kind]), f"{line}\n1,2,3,4\n".encode()
    with pytest.raises(RowsError) as caught:
        read(rows, data)
    assert str(caught.value).startswith(f"in:1: {said}")
    with pytest.raises(RowsError) as caught:
        rows.text(data)
    assert str(caught.value).startswith(f"the text:1: {said}")


def test_cells_to_keep_are_found_by_name_or_number() -> None:
    named, unnamed = rows_for(NAMED), rows_for(UNNAMED)
    data = b'y,a,note,z,b,w,c\n,1, "x, y" ,2,3,,4\n,1, 7 ,oh,3,,4\n,1,7\n\r\n,1,"a ""b""",2,3,,4\n'
    got = read(named, data, ["note", "a", "y"])
    want = {
        "note": ["x, y", "7", None, 'a "b"'],
        "a": ["1", "1", None, "1"],
        "y": ["", "", None, ""],
    }
    assert got.kept == want
    assert sorted(got.faults) == [1, 2]
    assert read(named, data.split(b"\n", 1)[1], ["note", "a", "y"]).kept == want
    assert read(named, data, ["2"]).kept == {"2": want["note"]}
    assert read(named, b"3,1,4,2\n", ["b", "1"]).kept == {"b": ["3"], "1": ["1"]}
    assert read(unnamed, b"?,1,id 5,3,4,?,6\n", ["2", "6"]).kept == {"2": ["id 5"], "6": ["6"]}
    assert read(unnamed, b"p,q,r,s\n1,2,3,4\n", ["s"]).kept == {"s": ["4"]}
    lines = b'{"a": 1, "b": 2, "c": 3, "z": 4, "note": "x"}\n{"a": 1}\n'
    got = read(named, lines, ["note", "a"])
    assert got.kept == {"note": ["x", None], "a": ["1", "1"]}
    assert str(got.faults[1]) == "in:2: column 'b' is missing, and 2 more"
    for columns, keep in ((named, "nota"), (unnamed, "7"), (unnamed, "x"), (named, "-1")):
        with pytest.raises(RowsError, match=f"in: there is no column '{keep}'"):
            read(columns, b"0,1,2,3,4,5,6\n", [keep])
    stream = io.BytesIO()
    table = pa.table({"id": ["p", None], "a": [1, 1], "b": [2, 2], "c": [3, 3], "z": [4.0, 4.5]})
    pq.write_table(table, stream)
    got = read(named, stream.getvalue(), ["id", "z"])
    assert got.kept == {"id": ["p", None], "z": ["4", "4.5"]}
    assert got.features.tolist() == [[2, 1, 3, 4], [2, 1, 3, 4.5]]


GOOD = {"a": 1, "b": "2.5", "c": -0.5, "z": 7}


@pytest.mark.parametrize(
    ("change", "column", "said"),
    [
        ({"a": None}, "a", "column 'a': value '' is not a number"),
        ({"a": True}, "a", "column 'a': value 'true' is not a number"),
        ({"z": "x"}, "z", "column 'z': value 'x' is not a number"),
        ({"z": "NaN"}, "z", "column 'z': value 'NaN' is not a finite number"),
        ({"z": float("inf")}, "z", "column 'z': value 'Infinity' is not a finite number"),
        ({"c": 1e39}, "c", "column 'c': value '1e+39' is too large for float32"),
        ({"c": "1e39"}, "c", "column 'c': value '1e39' is too large for float32"),
        ({"c": 10**400}, "c", "column 'c': value of very many digits is too large for float32"),
        ({"b": [1]}, "b", "column 'b': value '[1]' is not a number"),
        ({"b": "\ud800"}, "b", "column 'b': value '\\\\ud800' is not a number"),
        ({"zz": 1}, "zz", "there is no column 'zz'; did you mean 'z'?"),
    ],
)
def test_what_is_wrong_with_an_object_is_said(
    change: dict[str, Any], column: str, said: str
) -> None:
    rows = rows_for(NAMED)
    got = rows.objects([GOOD, {**GOOD, **change}, {**GOOD, "y": 1, "note": "?"}])
    assert got.faults == {1: Fault("row 2", column, said)}
    assert got.features.tolist() == [[2.5, 1, -0.5, 7], [0] * 4, [2.5, 1, -0.5, 7]]
    if "zz" not in change:
        got = rows.arrays([[{**GOOD, **change}[name] for name in rows.names]])
        place = rows.names.index(column)
        assert got.faults[0].message == said.replace("column", f"column {place} (from 0)")


def test_a_missing_key_or_cell_is_named() -> None:
    rows = rows_for(NAMED)
    short = {"aa": 1, "b": 2, "c": 3}
    assert rows.objects([short]).faults[0] == Fault(
        "row 1", "a", "column 'a' is missing (there is 'aa'), and 1 more"
    )
    got = rows.arrays([[1, 2, 3], "1234", None, [1, 2, 3, 4]])  # type: ignore[list-item]
    assert [fault.message for fault in got.faults.values()] == [
        "row has 3 columns, expected the 4 features",
        *["row is neither an object nor an array"] * 2,
    ]
    assert got.features[3].tolist() == [1, 2, 3, 4]
    stream = io.BytesIO()
    odd = pa.array([1.0, None, float("nan"), 1e300, 5.0])
    pq.write_table(
        pa.table({"a": odd, "b": ["1", "x", "2", "3", "4"], "c": [1] * 5, "z": [1] * 5}), stream
    )
    got = read(rows, stream.getvalue())
    assert [str(fault) for fault in got.faults.values()] == [
        "in: row 2: column 'b': value 'x' is not a number",
        "in: row 3: column 'a': value 'NaN' is not a finite number",
        "in: row 4: column 'a': value '1e+300' is too large for float32",
    ]
    assert got.features.tolist() == [[1, 1, 1, 1], *[[0] * 4] * 3, [4, 5, 1, 1]]
    with pytest.raises(RowsError, match="in: its header lacks column 'z'"):
        stream = io.BytesIO()
        pq.write_table(pa.table({"a": [1], "b": [1], "c": [1]}), stream)
        read(rows, stream.getvalue())


def test_many_short_bad_lines_are_not_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of features is a thousand times as long as such a line."""
    monkeypatch.setattr(number_text, "MOST_VALUES", 499 * 400)
    rows = rows_for(NumberColumns(501, tuple(range(2, 501)), (1, 0)))
    parts = list(rows.read(Source("in", io.BytesIO(b"?\n\n" * 1000)), ["3"]))
    assert max(len(part.features) for part in parts) <= 400
    places = [fault.place for part in parts for fault in part.faults.values()]
    assert places == [f"in:{line}" for line in range(1, 2000, 2)]


def test_what_arrow_says_of_a_damaged_file_is_one_printable_line() -> None:
    """It shows bytes of the file."""
    with pytest.raises(RowsError) as caught, told("in"):
        raise OSError("what type:\n \x01\x7f")
    assert str(caught.value) == r"in: damaged Parquet: what type: \x01\x7f"


def test_text_of_parquet_that_is_none_is_a_damaged_file() -> None:
    stream = io.BytesIO()
    columns = [pa.array(["1", "@@@@", "3"]), *[pa.array(["1", "2", "3"])] * 3]
    pq.write_table(pa.table(columns, list("abcz")), stream, use_dictionary=False)
    data = stream.getvalue()
    assert data.count(b"@@@@")
    with pytest.raises(RowsError, match="in: damaged Parquet: 'utf-8' codec can't decode"):
        read(rows_for(NAMED), data.replace(b"@@@@", b"@\xff@@"))


def test_a_parquet_column_without_a_text_is_not_kept() -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table([[1]] * 4 + [[b"\xff"]], [*"abcz", "key"]), stream)
    with pytest.raises(RowsError, match="column 'key' is of type binary, which has no text to k"):
        read(rows_for(NAMED), stream.getvalue(), ["key"])


def test_made_up_rows_come_out_as_many_as_they_are() -> None:
    """A sample of ``fuzz/fuzz_prediction_rows.py``; ``FUZZ_ROWS=20000`` runs longer."""
    runs = os.environ.get("FUZZ_ROWS", "150")
    script = [sys.executable, str(ROOT / "fuzz" / "fuzz_prediction_rows.py"), "--runs", runs]
    result = run([*script, "--jobs", "1"], cwd=ROOT)
    assert result.status == 0, result.stdout + result.stderr
    assert re.search(rf"{int(runs):,} cases, .* 0 failed", result.stdout)
    for kind in ("table, text, bad", "numbers, text, bad", "numbers, json lines, g", "parquet, g"):
        assert re.search(rf"[1-9]\d*  .*{kind}", result.stdout)


def test_columns_are_kept_as_json_and_read_without_paddle(tmp_path: Path) -> None:
    names = ["m", "i", "age", "wage", "w"]
    config = {
        "hyper_parameters.label_columns": ["i", "m"],
        "hyper_parameters.weight_column": "w",
        "columns": {"column_num": 5, "names": names, "features": ["age", "wage"]},
    }
    columns = columns_of(config)
    assert columns["features"] == ["age", "wage"]
    assert columns["file"]["label_columns"] == [1, 0]
    old = {"hyper_parameters.feature_size": 3, "hyper_parameters.label_columns": [1]}
    assert columns_of({**old, "columns": {"column_num": 4}})["features"] == ["0", "2", "3"]
    kept = tmp_path / "columns.json"
    kept.write_text(json.dumps(columns))
    code = """
import io, json, sys
from prediction_rows.open import open_rows
from prediction_rows.rows import Source
rows = open_rows(json.load(open(sys.argv[1])))
(got,) = rows.read(Source("in", io.BytesIO(b"wage,age\\n2,1\\n")))
assert got.features.tolist() == rows.objects([{"age": 1, "wage": 2}]).features.tolist() == [[1, 2]]
assert not {"paddle", "rec_runner"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code, str(kept)], check=True, cwd=ROOT)


def damaged() -> dict[str, Any]:
    """What may be wrong with columns, by what is said of it."""
    whole = NAMED.as_json()
    file = whole["file"]

    def changed(**words: Any) -> dict[str, Any]:
        return {**whole, "file": {**file, **words}}

    once = "file should say of each of its column_num columns once"
    return {
        "kind should be": {**whole, "kind": "words"},
        "file should be an object": {**whole, "file": []},
        "features should be the names": {**whole, "features": ["b", "a", "c", "y"]},
        "file.feature_columns should be a list": changed(feature_columns=[1.0, 2, 3]),
        "file.label_columns should be a list": changed(label_columns=True),
        "file.weight_column should be a whole": changed(weight_column="5"),
        f"{once}": changed(feature_columns=[4, 1, 6, 1 << 80]),
        f"{once} ": changed(column_num=1 << 60),
        f"{once} what": changed(ignored_columns=[0]),
        "file.feature_columns should name": changed(
            column_num=1, feature_columns=[], ignored_columns=[], weight_column=None, names=[]
        ),
        "file.names should have a name for each": changed(names=["a"]),
        "file.names should not have a name twice": changed(names=[*NAMES[:-1], "a"]),
        "file.names should be text of at most": changed(names=[*NAMES[:-1], "c" * 20_000]),
        "file.names should be text of": changed(names=[*NAMES[:-1], "\ud800"]),
        "file.names should be a list of names": changed(names=[*NAMES[:-1], 7]),
    }


@pytest.mark.parametrize("said", [*damaged()])
def test_damaged_columns_are_refused_in_a_sentence(said: str) -> None:
    with pytest.raises(ColumnsError) as caught:
        open_rows(damaged()[said])
    assert said.strip() in str(caught.value)
    assert str(caught.value).isprintable()
