"""The reader of raw tables: what cells become, how files may be written, what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from census_rows import CENSUS, EXPECTED, SHARED, columns_module, generate
from helpers import ROOT, run

from csv_line import BadRows, RowError
from raw_tables import delimited, text
from raw_tables.read import read_blocks
from raw_tables.schema import Schema, load_schema
from table_reader import RecDataset

COLUMNS = """
columns:
  - {name: age, kind: number}
  - {name: city, kind: category, values: [Berlin, New York, "3", "NA"], other: true, missing: true}
  - {name: user, kind: id, buckets: 1000, group: true}
  - {name: note, kind: ignore}
  - {name: click, kind: label}
  - {name: buy, kind: label, positive: [y, maybe], negative: [n], missing: true}
  - {name: paid, kind: label, type: regression, missing: true}
  - {name: w, kind: weight}
"""
NAMES = ("age", "city", "user", "note", "click", "buy", "paid", "w")
ROWS = [
    ["31", "Berlin", "u1", "x", "1", "y", "9.5", "1"],
    ["", "Lagos", "u2", "a, b", "0", "n", "", "0.5"],
    ["-2.5e1", "NA", "", 'say "hi"\nthere', "0.0", "?", "NA", "2"],
    ["?", "", "u1", "", "true", "maybe", "-3", "1e-3"],
    ["7", "3", "ü 1", "", "FALSE", "n", "0", "3"],
]


def bucket(name: str, buckets: int = 1000) -> int:
    """Where an id goes."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") % buckets


NAN = np.nan
FEATURES = np.array(
    [
        [31, 0, bucket("u1")],
        [NAN, 4, bucket("u2")],  # other
        [-25, 3, 1000],  # "NA" is listed; no user
        [NAN, 5, bucket("u1")],
        [7, 2, bucket("ü 1")],
    ],
    np.float32,
)
LABELS = np.array([[1, 1, 9.5], [0, 0, NAN], [0, NAN, NAN], [1, 1, -3], [0, 0, 0]], np.float32)
WEIGHTS = np.array([1, 0.5, 2, 1e-3, 3], np.float32)


def schema(folder: Path, words: str = "", columns: str = COLUMNS) -> Schema:
    """A schema of the columns above."""
    (folder / "schema.yaml").write_text(columns + words, encoding="utf-8")
    return load_schema(folder / "schema.yaml")


def written(rows: Sequence[Sequence[str]], **dialect: Any) -> bytes:
    """Rows as Python's csv module writes them."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n", **dialect).writerows(rows)
    return stream.getvalue().encode()


def read(
    file: Path, by: Schema, cap: int = 0, bad_rows: BadRows | None = None
) -> dict[str, np.ndarray]:
    """All rows of a file."""
    blocks = list(read_blocks([file], by, bad_rows or BadRows(cap)))
    assert all(block["file"] == str(file) for block in blocks)
    assert all(len(block["labels"]) for block in blocks)
    names = [name for name in blocks[0] if name != "file"]
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def check(got: Mapping[str, np.ndarray]) -> None:
    """That these are the rows above."""
    np.testing.assert_array_equal(got["features"], FEATURES, strict=True)
    np.testing.assert_array_equal(got["labels"], LABELS, strict=True)
    np.testing.assert_array_equal(got["weights"], WEIGHTS, strict=True)
    groups = got["groups"]
    assert groups.dtype == np.int64
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 4
    assert groups[0] % np.uint64(1 << 63) % 1000 >= 0


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "comma": ("", {}),
    "semicolon": ('delimiter: ";"', {"delimiter": ";"}),
    "tab": ("delimiter: tab", {"delimiter": "\t"}),
    "pipe": ('delimiter: "|"', {"delimiter": "|"}),
    "quoted": ("", {"quoting": csv.QUOTE_ALL}),
}


@pytest.mark.parametrize("way", WAYS)
def test_cells_become_numbers_codes_and_labels(way: str, tmp_path: Path) -> None:
    words, dialect = WAYS[way]
    file = tmp_path / "rows.csv"
    file.write_bytes(written([NAMES, *ROWS], **dialect))
    check(read(file, schema(tmp_path, words)))


@pytest.mark.parametrize(
    "write",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"there", b"th\r\nere").replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data[:-1],
        lambda data: b"".join(line + b"\n \n\n" for line in data.split(b"\n")).replace(
            b'"say ""hi""\n \n\n', b'"say ""hi""\n'
        ),
        lambda data: data.replace(b",", b" ,\t  ").replace(b"a ,\t  b", b"a, b"),
        gzip.compress,
        lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    ],
    ids=["bom", "crlf", "cr", "no_line_end", "blank_lines", "blanks", "gzip", "gzip_twice"],
)
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_files_may_be_written_otherwise(
    write: Any, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    file = tmp_path / "rows.txt"
    file.write_bytes(write(written([NAMES, *ROWS])))
    check(read(file, schema(tmp_path)))


def test_columns_go_by_name_whatever_their_order(tmp_path: Path) -> None:
    order = [7, 2, 5, 0, 6, 1, 4]  # without the column that is ignored, with another
    rows = [[*(row[place] for place in order), "more"] for row in [NAMES, *ROWS]]
    rows[0][-1] = " extra "
    (tmp_path / "rows.csv").write_bytes(written(rows))
    check(read(tmp_path / "rows.csv", schema(tmp_path)))


def test_a_file_without_a_header_goes_by_position(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(written(ROWS))
    by = schema(tmp_path, "header: false")
    check(read(tmp_path / "rows.csv", by))
    (tmp_path / "rows.csv").write_bytes(written([row[:-1] for row in ROWS]))
    with pytest.raises(RowError, match=r"rows.csv:1: row has 7 columns, expected 8$"):
        read(tmp_path / "rows.csv", by)


def test_a_file_with_nothing_but_a_header_has_no_rows(tmp_path: Path) -> None:
    for data in (b"", written([NAMES]), written([NAMES])[:-1]):
        (tmp_path / "rows.csv").write_bytes(data)
        assert list(read_blocks([tmp_path / "rows.csv"], schema(tmp_path))) == []


BAD = {
    # the row, its column, what stands there, what is said
    "not_a_number": (
        1,
        "age",
        "abc",
        "column \"age\": 'abc' is not a number, expected a number or",
    ),
    "hexadecimal": (0, "age", "0x1F", "'0x1F' is not a number"),
    "underscore": (4, "age", "1_000", "'1_000' is not a number"),
    "other_digits": (4, "age", "１", "'１' is not a number"),
    "inf": (0, "age", "-Inf", "'-Inf' is not a finite number"),
    "nan": (0, "age", "nan", "'nan' is not a finite number"),
    "large": (0, "age", "1e39", "'1e39' is too large, expected a number within float32"),
    "click": (0, "click", "2", "column \"click\": '2' is not a label, expected 0 or 1"),
    "click_text": (3, "click", "yes", "'yes' is not a label, expected 0 or 1"),
    "click_blank": (
        *(
            3,
            "click",
            "",
            "column \"click\": '' is missing, expected 0 or 1; with missing: true in",
        ),
        " the schema it is not known, and masked",
    ),
    "buy": (0, "buy", "1", "column \"buy\": '1' is not a label, expected one of positive or neg"),
    "paid": (0, "paid", "free", "column \"paid\": 'free' is not a number, expected a number"),
    "paid_inf": (0, "paid", "inf", "'inf' is not a finite number"),
    "weight": (1, "w", "-0.5", "column \"w\": '-0.5' is negative, expected a weight of 0 or more"),
    "weight_blank": (1, "w", "?", "column \"w\": '?' is missing, expected a weight of 0 or more"),
    "weight_text": (1, "w", "a", "column \"w\": 'a' is not a number, expected a weight of 0 or"),
    "a_line_end": (1, "w", "a\nb", "column \"w\": 'a\\nb' is not a number"),
    "long": (1, "w", "9" * 10_000, f"column \"w\": '{'9' * 37}...' is too large"),
}
LINES = (2, 3, 4, 6, 7)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_cell_is_named_and_can_be_skipped(case: str, tmp_path: Path) -> None:
    place, name, value, *said = BAD[case]
    rows = [list(row) for row in ROWS]
    rows[place][NAMES.index(name)] = value
    by, file = schema(tmp_path), tmp_path / "rows.csv"
    file.write_bytes(written([NAMES, *rows]))
    parquet = tmp_path / "rows.parquet"
    table = {n: [row[i] or None for row in rows] for i, n in enumerate(NAMES)}
    table[name][place] = value
    pq.write_table(pa.table(table), parquet)
    for path, where in (
        (file, f"{file}:{LINES[place]}: "),
        (parquet, f"{parquet}: row {place + 1}: "),
    ):
        with pytest.raises(RowError) as caught:
            read(path, by)
        assert str(caught.value).startswith(where)
        assert "".join(said) in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < len(str(path)) + 200
        tally = BadRows(1)
        kept = [i for i in range(len(rows)) if i != place]
        got = read(path, by, bad_rows=tally)
        np.testing.assert_array_equal(got["features"], FEATURES[kept], strict=True)
        np.testing.assert_array_equal(got["labels"], LABELS[kept], strict=True)
        assert tally.count == 1
        assert tally.first == [str(caught.value)]


def test_more_bad_rows_than_the_cap_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(written([NAMES, *ROWS, ["a", "b"], ROWS[0], ["a"] * 8]))
    by = schema(tmp_path)
    assert len(read(file, by, cap=2)["labels"]) == 6
    with pytest.raises(RowError, match=r":10: column \"age\".* \(and 1 bad rows were skipped"):
        read(file, by, cap=1)


QUOTES = {
    "unclosed": (b'1,"Berlin,u1,,1,y,1,1\n', 'column "city": has '),
    "text_behind": (b'1,"New" York,u,,1,y,1,1\n', 'column "city": has text behind the quote that'),
    "unclosed_first": (b'"1,Berlin,u1,,1,y,1,1\n', 'column "age": has '),
    "too_many": (b'1,a,u,,1,y,1,1,"a"b\n', "row has a column too many, which has text behind the"),
    "over_lines": (b'1,"a\nb"c,u,,1,y,1,1\n', 'column "city": has text behind the quote that'),
}


@pytest.mark.parametrize("block_bytes", [5, 1 << 20])
@pytest.mark.parametrize("case", QUOTES)
def test_a_wrong_quote_costs_one_line(
    case: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    line, said = QUOTES[case]
    file, by = tmp_path / "rows.csv", schema(tmp_path)
    for tail in (ROWS, ROWS[3:]):
        file.write_bytes(written([NAMES, *ROWS]) + line + written(tail))
        tally = BadRows(2)
        got = read(file, by, bad_rows=tally)
        np.testing.assert_array_equal(got["features"][:5], FEATURES, strict=True)
        assert len(got["features"]) == 5 + len(tail)
        assert tally.first[0].startswith(f"{file}:8: {said}")
        assert tally.count == line.count(b"\n")
        if case.startswith("unclosed"):  # until the next quote, if there is one
            unclosed = "has a quote without its other half"
            behind = "has text behind the quote that closes it"
            assert tally.first[0].endswith(behind if tail is ROWS else unclosed)


def test_a_code_with_a_point_and_a_zero_is_that_code(tmp_path: Path) -> None:
    """As pandas writes whole numbers of a column of which some are missing."""
    columns = (
        "columns: [{name: zip, kind: category, values: [10115, 7.0, 20.0, 20], other: true},"
        " {name: u, kind: id, buckets: 1000}, {name: l, kind: label}]"
    )
    by = schema(tmp_path, columns=columns)
    cells = ["10115", "10115.0", "7", "7.0", "20", "20.0", "10115.00", "1.0e1", "", "-3", "-3.0"]
    rows = [["zip", "u", "l"], *([cell, cell, "1"] for cell in cells)]
    (tmp_path / "rows").write_bytes(written(rows))
    codes, users = read(tmp_path / "rows", by)["features"].T
    assert codes.tolist() == [0, 0, 1, 1, 3, 2, 4, 4, 5, 4, 4]
    hashed = ["10115", "10115", "7", "7", "20", "20", "10115.00", "1.0e1", None, "-3", "-3"]
    assert users.tolist() == [1000 if user is None else bucket(user) for user in hashed]


def test_a_quote_inside_a_cell_is_a_character(tmp_path: Path) -> None:
    columns = COLUMNS.replace("New York", "'12\" pizza', 'say \"hi\"'")
    file, by = tmp_path / "rows.csv", schema(tmp_path, columns=columns)
    rows = b'1,12" pizza,u,,1,y,1,1\n1,say "hi",u,a" b",1,y,1,1\n1, "12"" pizza" ,u,,1,y,1,1\n'
    file.write_bytes(written([NAMES]) + rows * 50)
    assert read(file, by)["features"][:, 1].tolist() == [1, 2, 1] * 50


@pytest.mark.parametrize(
    "names, said",
    [
        (NAMES[1:], 'there is no column "age", only "city", "user", "note", "click"'),
        ((*NAMES, "age"), 'two columns have the name "age"'),
        (("Age", *NAMES[1:]), 'there is no column "age", only "Age", '),
        (("1", "2", "3"), 'there is no column "age", only "1", "2", "3"'),
        (('"', "\n"), 'there is no column "age", only "\\"", "\\n"'),
    ],
)
def test_a_header_that_lacks_a_column_is_refused(
    names: Sequence[str], said: str, tmp_path: Path
) -> None:
    by, file, parquet = schema(tmp_path), tmp_path / "rows.csv", tmp_path / "rows.parquet"
    file.write_bytes(written([names, *ROWS]))
    pq.write_table(pa.table([pa.array(["1"])] * len(names), names=list(names)), parquet)
    for path, where in ((file, f"{file}:1: header: "), (parquet, f"{parquet}: ")):
        with pytest.raises(RowError) as caught:
            read(path, by, cap=100)
        assert str(caught.value).startswith(f"{where}{said}")
        assert str(caught.value).isprintable()


def test_two_columns_of_a_name_that_is_not_used_do_no_harm(tmp_path: Path) -> None:
    rows = [[*row, "", ""] for row in [NAMES, *ROWS]]
    (tmp_path / "rows.csv").write_bytes(written(rows))
    check(read(tmp_path / "rows.csv", schema(tmp_path)))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    by, file = schema(tmp_path), tmp_path / "rows.csv"
    good = written([NAMES, *ROWS])
    noise = bytes(np.random.default_rng(1).integers(32, 99, 5000).astype(np.uint8))
    for data, said in (
        (b"PK\3\4", "an Excel workbook .*, expected delimited text or Parquet, plain or gzip$"),
        (gzip.compress(good + noise)[:-700], "damaged gzip "),
        (b"PAR1\x15\x04", "damaged Parquet: "),
        (good + b'1,\xff"x,u,,1,y,1,1\n', ':8: column "city": \'\ufffd"x\' is not UTF-8 text, exp'),
        (b"x" * 200 + b"\n", 'there is no column "age", only "xx'),
        (b"a," * 200_000 + b"\n", ":1: the header has 200001 columns, at most 100000 can be read"),
        (b'age,"city\n', ":1: the header has a quote without its other half"),
    ):
        file.write_bytes(data)
        with pytest.raises(RowError, match=said) as caught:
            read(file, by)
        assert str(caught.value).startswith(str(file))
        assert str(caught.value).isprintable()
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.csv", by)


def test_marks_that_are_numbers_are_known_with_blanks_around(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(written([NAMES]) + b"-1, Berlin ,u,, 1,?, -1 , 2\n -1,-1,-1,,1,y,1,1\n")
    got = read(file, schema(tmp_path, 'missing: ["-1", "?"]'))
    np.testing.assert_array_equal(got["features"][:, :2], np.float32([[NAN, 0], [NAN, 5]]))
    assert got["features"][1, 2] == 1000
    np.testing.assert_array_equal(got["labels"], np.float32([[1, NAN, NAN], [1, 1, 1]]))
    table = pa.table({**dict.fromkeys(NAMES, ["1"]), "age": [-1], "w": [1.0], "buy": ["y"]})
    pq.write_table(table, tmp_path / "rows.parquet")
    got = read(tmp_path / "rows.parquet", schema(tmp_path, 'missing: ["-1", "?"]'))
    assert np.isnan(got["features"][0, 0])


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_parquet_gives_what_text_gives(compression: str, tmp_path: Path) -> None:
    columns = [[row[place] or None for row in ROWS] for place in range(len(NAMES))]
    table = pa.table(columns, names=NAMES)
    file, by = tmp_path / "rows.csv", schema(tmp_path)
    pq.write_table(table, file, compression=compression)
    check(read(file, by))
    ages = pa.array([31, None, -25, None, 7], pa.int64())
    click = pa.array([True, False, False, True, False])
    paid = pa.array([9.5, NAN, None, -3, 0], pa.float64())
    weights = pa.array(["1.000", "0.500", "2.000", "0.001", "3.000"]).cast(pa.decimal128(9, 3))
    for city in (pa.dictionary(pa.int8(), pa.string()), pa.large_string()):
        typed = pa.table(
            {
                **{"w": weights, "extra": pa.array([[1], [], None, [2], [3]])},
                **{"paid": paid, "buy": table["buy"], "click": click, "age": ages},
                **{"user": table["user"], "city": table["city"].cast(city)},
            }
        )
        pq.write_table(typed, file, row_group_size=2, compression=compression)
        check(read(file, by))


def test_numbers_and_truths_of_parquet_are_texts_too(tmp_path: Path) -> None:
    columns = """
columns:
  - {name: a, kind: category, values: ["3", "true", "1.5", "1.50"]}
  - {name: l, kind: label}
"""
    by, file = schema(tmp_path, columns=columns), tmp_path / "rows.parquet"
    for values, codes in (
        (pa.array([3, 4, None], pa.int16()), [0, 4, 5]),
        (pa.array([3.0, 1.5, NAN]), [0, 2, 5]),
        (pa.array([3.0, 1.5, NAN], pa.float32()), [0, 2, 5]),
        (pa.array(np.array([3.0, 1.5, NAN], np.float16)), [0, 2, 5]),
        (pa.array([True, False, None]), [1, 4, 5]),
        (pa.array(["1.50", None, "3.00"]).cast(pa.decimal128(5, 2)), [3, 5, 4]),
        (pa.array([None, None, None]), [5, 5, 5]),
        (pa.array([" 3", "true\t", "?"]), [0, 1, 5]),
    ):
        pq.write_table(pa.table({"a": values, "l": pa.array([0, 1, 1])}), file)
        assert read(file, by)["features"][:, 0].tolist() == codes


@pytest.mark.parametrize(
    "values, kind",
    [
        ([[1], [2]], "list<"),
        ([{"a": 1}, None], "struct<"),
        ([b"a", b"b"], "binary"),
        (pa.array([1, 2], pa.date32()), "date32"),
    ],
)
def test_a_type_without_a_text_is_refused(values: Any, kind: str, tmp_path: Path) -> None:
    table = {**{name: ["1", "1"] for name in NAMES}, "city": pa.array(values)}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    with pytest.raises(RowError) as caught:
        read(tmp_path / "rows.parquet", schema(tmp_path))
    where = f'{tmp_path / "rows.parquet"}: column "city" is of type {kind}'
    assert str(caught.value).startswith(where)
    assert str(caught.value).endswith(", expected numbers, text or true and false")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    file, by = tmp_path / "rows.parquet", schema(tmp_path)
    columns = [[row[place] for row in ROWS] * 200 for place in range(len(NAMES))]
    pq.write_table(pa.table(columns, names=NAMES), file, compression="zstd")
    data = file.read_bytes()
    for start, end in ((len(data) - 60, len(data) - 8), (4, 400), (len(data) // 2, len(data))):
        file.write_bytes(data[:start] + b"\xff" * ((end - start) // 2) + data[end:])
        with pytest.raises(RowError, match=r"rows.parquet: damaged Parquet: "):
            read(file, by, cap=5000)


def test_pieces_that_arrow_cannot_read_are_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three ways give the same rows."""
    file, by = tmp_path / "rows.csv", schema(tmp_path)
    file.write_bytes(written([NAMES, *ROWS * 300]))
    want = read(file, by)
    fast = delimited.parse_fast
    for ways in ((False,), ()):
        monkeypatch.setattr(
            delimited,
            "parse_fast",
            lambda piece, layout, direct, ways=ways: (
                fast(piece, layout, direct) if direct in ways else None
            ),
        )
        got = read(file, by)
        for name, array in want.items():
            np.testing.assert_array_equal(array, got[name], strict=True)


def config(folder: Path, **more: Any) -> dict[str, Any]:
    """A flat config that names the schema."""
    return {"config_abs_dir": str(folder), "hyper_parameters.schema": "schema.yaml", **more}


def test_the_data_set_reads_its_files_in_order(tmp_path: Path) -> None:
    schema(tmp_path)
    for name, rows in (("b", ROWS[2:]), ("a", ROWS[:2])):
        (tmp_path / name).write_bytes(written([NAMES, *rows]))
    data = RecDataset([str(tmp_path / "b"), str(tmp_path / "a")], config(tmp_path))
    blocks = list(data.blocks())
    assert [Path(block["file"]).name for block in blocks] == ["a", "b"]
    check({name: np.concatenate([b[name] for b in blocks]) for name in blocks[0] if name != "file"})
    rows = [*iter(data)]
    assert [len(row) for row in rows] == [5] * 5
    np.testing.assert_array_equal([row[0] for row in rows], FEATURES)
    np.testing.assert_array_equal([np.concatenate(row[1:4]) for row in rows], LABELS)
    np.testing.assert_array_equal(np.concatenate([row[4] for row in rows]), WEIGHTS)
    assert rows[0][1].dtype == np.float32
    assert data.skipped_rows() == (0, [])


def test_labels_are_whole_numbers_where_all_are_known(tmp_path: Path) -> None:
    columns = "columns: [{name: a, kind: number}, {name: l, kind: label}, {name: m, kind: label}]"
    schema(tmp_path, columns=columns)
    (tmp_path / "rows").write_bytes(b"a,l,m\n1,0,1\n?,1,0\n")
    first, second = RecDataset([str(tmp_path / "rows")], config(tmp_path))
    assert [value.dtype for value in first] == [np.float32, np.int64, np.int64]
    assert [value.tolist() for value in first] == [[1], [0], [1]]
    assert np.isnan(second[0]).all()


def test_rows_are_divided_among_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import table_reader

    class Worker:
        id, num_workers = 1, 3

    schema(tmp_path)
    (tmp_path / "rows").write_bytes(written([NAMES, *ROWS]))
    monkeypatch.setattr(table_reader, "get_worker_info", Worker)
    rows = [*iter(RecDataset([str(tmp_path / "rows")] * 2, config(tmp_path)))]
    np.testing.assert_array_equal([row[0] for row in rows], np.tile(FEATURES, (2, 1))[1::3])


def test_bad_rows_are_skipped_as_the_config_says(tmp_path: Path) -> None:
    schema(tmp_path)
    (tmp_path / "rows").write_bytes(written([NAMES, *ROWS, ["bad"], ["worse"]]))
    skip = config(tmp_path, **{"runner.bad_rows": "skip"})
    data = RecDataset([str(tmp_path / "rows")], skip)
    assert sum(len(block["labels"]) for block in data.blocks()) == 5
    count, first = data.skipped_rows()
    assert count == 2
    assert first[0] == f"{tmp_path / 'rows'}:8: row has 1 columns, expected 8"
    with pytest.raises(RowError, match="and 1 bad rows were skipped"):
        list(RecDataset([str(tmp_path / "rows")], {**skip, "runner.bad_rows_cap": 1}).blocks())
    with pytest.raises(RowError, match=":8: row has 1 columns"):
        list(RecDataset([str(tmp_path / "rows")], config(tmp_path)).blocks())


def test_a_schema_that_changed_is_refused_with_the_difference(tmp_path: Path) -> None:
    schema(tmp_path)
    data = RecDataset([], config(tmp_path))
    columns, key = data.columns(), data.cache_key()
    assert columns["checksum"] == data.schema.checksum
    assert RecDataset([], config(tmp_path, columns=columns)).cache_key() == key
    # Files that are written otherwise, or have other columns that are for nothing: rows are alike.
    schema(tmp_path, 'delimiter: ";"', columns=f"{COLUMNS}  - {{name: new, kind: ignore}}\n")
    other = RecDataset([], config(tmp_path, columns=columns))
    assert (other.columns(), other.schema.delimiter) == (columns, ";")
    assert other.cache_key() != key
    schema(tmp_path, columns=COLUMNS.replace("Berlin, ", ""))
    said = (
        r'^schema schema.yaml is not .* trained with: column "city": values no longer has "Berlin"$'
    )
    with pytest.raises(ValueError, match=said) as caught:
        RecDataset([], config(tmp_path, columns=columns))
    assert caught.value.user_error
    for other in ({"features": ["a"], "labels": ["b"]}, {}, 3):
        with pytest.raises(ValueError, match="trained on rows that no schema was given for$"):
            RecDataset([], config(tmp_path, columns=other))
    with pytest.raises(ValueError, match="hyper_parameters.schema is missing"):
        RecDataset([], {"config_abs_dir": str(tmp_path)})


def census_schema(folder: Path) -> Schema:
    """Census's raw fields, by the list of its encoded columns."""
    module = columns_module()
    fixed = module.read_columns()
    columns = []
    for name in module.RAW_FIELDS:
        column: dict[str, Any] = {"name": name, "kind": "number"}
        if name in module.LABELS:
            positive, *negative = module.LABELS[name]
            column.update(kind="label", positive=[positive], negative=negative)
        elif name in fixed.categories:
            column.update(kind="category", values=list(fixed.categories[name]))
        columns.append(column)
    (folder / "schema.yaml").write_text(yaml.dump({"columns": columns}) + "header: false", "utf-8")
    return load_schema(folder / "schema.yaml")


def slots(got: Mapping[str, np.ndarray], by: Schema) -> np.ndarray:
    """Labels, numbers and one column for each category, as prepared rows have them."""
    features, numbers = got["features"], len(by.numbers)
    assert by.task_names == ("marital_stat", "income_50k")
    onehot = [
        features[:, numbers + place, None] == np.arange(len(column.values))
        for place, column in enumerate(by.categories)
    ]
    assert all((columns.sum(axis=1) == 1).all() for columns in onehot)
    return np.concatenate([got["labels"], features[:, :numbers], *onehot], axis=1)


@pytest.mark.skipif(not EXPECTED.exists(), reason="the real rows are not here")
def test_raw_census_rows_give_the_prepared_ones(tmp_path: Path) -> None:
    by = census_schema(tmp_path)
    block = next(read_blocks([SHARED / "census-income.data.gz"], by))
    want = np.loadtxt(EXPECTED, np.float32, delimiter=",")
    np.testing.assert_array_equal(slots(block, by)[:100], want)


def test_raw_rows_give_what_prepare_gives(tmp_path: Path) -> None:
    by, module = census_schema(tmp_path), columns_module()
    (tmp_path / "rows").write_text("\n".join(generate(500)), encoding="utf-8")
    sys.modules.setdefault("columns", module)  # as encode.py imports it
    sys.path.append(str(CENSUS))
    from encode import encode_file

    sys.path.remove(str(CENSUS))
    encoded = b"".join(encode_file(tmp_path / "rows", module.read_columns()))
    want = np.loadtxt(io.BytesIO(encoded), np.float32, delimiter=",")
    np.testing.assert_array_equal(slots(read(tmp_path / "rows", by), by), want)


def test_made_up_files_agree_with_the_oracle() -> None:
    """A sample of ``fuzz/fuzz_tables.py``; ``FUZZ_TABLES=20000`` in the environment runs longer."""
    runs = os.environ.get("FUZZ_TABLES", "40")
    script = [sys.executable, str(ROOT / "fuzz" / "fuzz_tables.py"), "--runs", runs, "--jobs", "1"]
    result = run(script, cwd=ROOT)
    assert result.status == 0, result.stdout + result.stderr
    assert re.search(rf"{int(runs):,} cases, .* 0 failed", result.stdout)
    for kind in ("text, good", "text, bad rows", "parquet, bad rows"):
        assert re.search(rf"[1-9]\d*  {kind}", result.stdout)


def test_a_first_line_that_is_too_long_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    monkeypatch.setattr(text, "MAX_ROW_BYTES", 1000)
    file = tmp_path / "rows.csv"
    file.write_bytes(b"1," * 5000 + b"\n" + written([NAMES, *ROWS]))
    for words, said in (("", ":1: the header row is longer"), ("header: false\n", ":1: row is lo")):
        with pytest.raises(RowError, match=said):
            read(file, schema(tmp_path, words))


def test_a_quoted_cell_that_is_too_long_costs_no_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a line without an end; both are read in bounded memory."""
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    monkeypatch.setattr(text, "MAX_ROW_BYTES", 1000)
    file, by = tmp_path / "rows.csv", schema(tmp_path)
    good = written(ROWS)
    for long, said in (
        (b"1," * 5000 + b"\n", "row is longer than 0 MB"),
        (b'1,"Berlin' + b"x" * 5000 + b'",u,,1,y,1,1\n', "row is longer than 0 MB"),
        (b'1,"Berlin,u,,1,y,1,1\n', 'column "city": has a quote without its other half'),
    ):
        tail = ROWS[3:] * 100
        file.write_bytes(written([NAMES]) + good + long + written(tail))
        tally = BadRows(1)
        assert len(read(file, by, bad_rows=tally)["labels"]) == 5 + len(tail)
        assert tally.first == [f"{file}:8: {said}"]
