"""The reader: every shape of text gives the rows it holds, every bad value is named."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from census_rows import generate
from helpers import ROOT, make_model_dir, run_cases, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paddle.io import DataLoader

import csv_blocks
import csv_line
import csv_text
from census_reader import RecDataset
from hyper_parameters import ConfigError

ROWS = ["0,1,0.5,-2,3e2", "1,0,7,0.25,1", "1,1,-0.125,1e-3,0"]
VALUES = np.array([[0, 1, 0.5, -2, 300], [1, 0, 7, 0.25, 1], [1, 1, -0.125, 0.001, 0]], np.float32)


def dataset(
    *files: Path, columns: tuple[int, ...] = (1, 0), features: int = 3, **more: object
) -> RecDataset:
    """The reader of files whose labels lie in `columns`."""
    config = {
        "hyper_parameters.feature_size": features,
        "hyper_parameters.task_names": [f"task_{i}" for i in range(len(columns))],
        "hyper_parameters.label_columns": list(columns),
        **more,
    }
    return RecDataset([str(file) for file in files], config)


def read(reader: RecDataset) -> tuple[np.ndarray, np.ndarray]:
    """All features and labels."""
    blocks = list(reader.blocks())
    if not blocks:
        return np.empty((0, 0)), np.empty((0, 0))
    features = np.concatenate([block.features for block in blocks])
    return features, np.concatenate([block.labels for block in blocks])


def table(values: np.ndarray, columns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A table of all columns as ``(features, labels)``."""
    rest = [c for c in range(values.shape[1]) if c not in columns]
    return values[:, rest], values[:, list(columns)]


def assert_same(got: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, ...]) -> None:
    for ours, theirs in zip(got, expected):
        np.testing.assert_array_equal(ours, theirs)


def naive(text: str) -> np.ndarray:
    """Rows of a text without a header, the slow way."""
    lines = re.split("\r\n|\n|\r", text)
    return np.array([[float(c) for c in line.split(",")] for line in lines if line.strip()])


@pytest.fixture(params=[None, 1, 7, 16, 33], ids=lambda size: f"block-{size}")
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of the usual size, and tiny ones that end anywhere in a line."""
    if request.param:
        monkeypatch.setattr(csv_text, "BLOCK_BYTES", request.param)
    yield


TEXTS = {
    "lf": "\n".join(ROWS) + "\n",
    "crlf": "\r\n".join(ROWS) + "\r\n",
    "mixed": ROWS[0] + "\r\n" + ROWS[1] + "\n" + ROWS[2] + "\r",
    "lone_cr": "\r".join(ROWS) + "\r",
    "no_final_newline": "\n".join(ROWS),
    "no_final_newline_crlf": "\r\n".join(ROWS),
    "bom": "\ufeff" + "\n".join(ROWS) + "\n",
    "header": "marital,income,a,b,c\n" + "\n".join(ROWS) + "\n",
    "header_crlf": "marital,income,a,b,c\r\n" + "\r\n".join(ROWS) + "\r\n",
    "header_lone_cr": "marital,income,a,b,c\r" + "\r".join(ROWS),
    "bom_header": "\ufeffmarital,income,a,b,c\r\n" + "\n".join(ROWS),
    "quoted_header": '"marital","income","a","b","c"\n' + "\n".join(ROWS),
    "blank_lines": "\n" + ROWS[0] + "\n\n\r\n" + ROWS[1] + "\n  \n" + ROWS[2] + "\n\n\n",
    "spaces": "\n".join(row.replace(",", " , ") for row in ROWS),
    "plus_signs": "\n".join(ROWS).replace("0.5", "+.5").replace("7", "7."),
    "header_with_commas": '"marital","a, ""b""",c,"d,e,",""""\r\n' + "\r\n".join(ROWS),
    "quoted_numbers": "\n".join('"' + row.replace(",", '","') + '"' for row in ROWS),
    "all_quoted_crlf": "".join(
        '"' + row.replace(",", '","') + '"\r\n' for row in ("m,i,a,b,c", *ROWS)
    ),
    "quoted_and_blanks": "\n".join('"' + row.replace(",", '" ,\t"') + '"' for row in ROWS),
    "some_quoted": "\n".join(ROWS).replace("0.5", '"0.5"').replace("7,", '" 7 ",') + "\n",
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_form_of_text_gives_the_same_rows(
    tmp_path: Path, name: str, zipped: bool, block_bytes: None
) -> None:
    data = TEXTS[name].encode()
    file = tmp_path / "rows.txt"
    file.write_bytes(gzip.compress(data) if zipped else data)
    features, labels = read(dataset(file))
    assert features.dtype == np.float32
    assert_same((features, labels), table(VALUES, (1, 0)))


@pytest.mark.parametrize("text", ["", "\n", "\r\n\r\n", "a,b,c,d,e\n", "a,b,c,d,e", "\ufeff"])
def test_a_file_without_rows_gives_none(tmp_path: Path, text: str, block_bytes: None) -> None:
    empty, full = tmp_path / "a.txt", tmp_path / "b.txt"
    empty.write_bytes(text.encode())
    full.write_text(ROWS[0])
    assert_same(read(dataset(empty, full)), table(VALUES[:1], (1, 0)))


@pytest.mark.parametrize("columns", [(0,), (4,), (2, 0), (4, 1), (3, 0, 4), (1, 2, 3)])
def test_labels_lie_anywhere(tmp_path: Path, columns: tuple[int, ...], rng) -> None:
    values = np.round(rng.normal(size=(50, 5)), 3).astype(np.float32)
    values[:, list(columns)] = rng.integers(0, 2, size=(50, len(columns)))
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(",".join(map(str, row)) for row in values.tolist()))
    reader = dataset(file, columns=columns, features=5 - len(columns))
    assert_same(read(reader), table(values, columns))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["0", "1", "1.0"]),
            st.sampled_from(["0", "1", "-0"]),
            st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
            st.integers(-(10**9), 10**9).map(str),
            st.floats(-1e6, 1e6, width=32).map("{:.7e}".format),
        ).map(",".join),
        min_size=1,
        max_size=12,
    ),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\r"]), min_size=12, max_size=12),
    final=st.booleans(),
    size=st.integers(1, 90),
)
def test_rows_are_those_of_a_naive_parser(
    rows: list[str],
    ends: list[str],
    final: bool,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", size)
    text = "".join(row + end for row, end in zip(rows, ends))
    text = text if final else text.rstrip("\r\n")
    file = tmp_path / "rows.txt"
    file.write_bytes(text.encode())
    features, labels = table(naive(text), (1, 0))
    assert_same(read(dataset(file)), (features.astype(np.float32), labels))


def test_files_are_read_in_sorted_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("b.txt", "part-10.txt", "a.txt", "part-9.txt")]
    for number, file in enumerate(files):
        file.write_text(f"0,1,{number},0,0\n")
    features, _ = read(dataset(*files))
    assert features[:, 0].tolist() == [2, 0, 1, 3]
    assert [block.file for block in dataset(*files).blocks()] == sorted(map(str, files))


def test_each_pass_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(ROWS))
    reader = dataset(file)
    assert_same(read(reader), read(reader))
    assert len([*iter(reader)]) == len([*iter(reader)]) == len(ROWS)


def test_iteration_gives_the_rows_of_the_blocks() -> None:
    reader = RecDataset([str(ROOT / "data" / "test" / "test_data.txt")], {})
    features, labels = read(reader)
    rows = list(iter(reader))
    assert len(rows) == len(features)
    for row, x, y in zip(rows, features, labels):
        assert [value.dtype for value in row] == [np.float32, np.int64, np.int64]
        assert [value.shape for value in row] == [(499,), (1,), (1,)]
        np.testing.assert_array_equal(row[0], x)
        assert [row[1][0], row[2][0]] == y.tolist()
    assert_same((features, labels), sample("test"))


def test_workers_of_a_data_loader_share_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 64)
    file = tmp_path / "rows.txt"
    file.write_text("".join(f"{row % 2},0,{row},0,0\n" for row in range(101)))
    loader = DataLoader(dataset(file), batch_size=7, num_workers=2, return_list=True)
    seen: list[float] = []
    for features, _, marital in loader:
        assert (features.numpy()[:, 0] % 2).tolist() == marital.numpy()[:, 0].tolist()
        seen += features.numpy()[:, 0].tolist()
    assert sorted(seen) == list(range(101))


BAD_CELLS = {
    "text": ("abc", 3, "not a number"),
    "empty": ("", 2, "not a number"),
    "nan": ("nan", 4, "not a finite number"),
    "NaN": ("NaN", 2, "not a finite number"),
    "inf": ("inf", 3, "not a finite number"),
    "-Infinity": ("-Infinity", 3, "not a finite number"),
    "1e39": ("1e39", 2, "too large"),
    "1e999": ("-1e999", 2, "too large"),
    "hex": ("0x1", 2, "not a number"),
    "two_numbers": ("1 2", 4, "not a number"),
    "underscore": ("1_0", 4, "not a number"),
    "null_byte": ("1\0", 4, "not a number"),
    "arabic_digit": ("\u0661", 4, "not a number"),
    "quoted_text": ('"abc"', 4, "'abc' is not a number"),
    "quoted_nothing": ('""', 2, "'' is not a number"),
    "quoted_comma": ('"1,5"', 3, "'1,5' is not a number"),
    "quoted_quote": ('"1""2"', 2, "not a number"),
    "after_the_quotes": ('"1"2', 4, "not a number"),
    "quotes_in_midst": ('1"2"', 4, "not a number"),
    "quotes_twice": ('"1" "2"', 4, "not a number"),
    "open_quote": ('"12', 4, "line breaks inside quotes are not supported"),
    "lone_quote": ('1"', 0, "line breaks inside quotes are not supported"),
    "label_2": ("2", 1, "0 or 1"),
    "label_half": ("0.5", 0, "0 or 1"),
    "label_negative": ("-1", 1, "0 or 1"),
    "label_text": ("yes", 0, "not a number"),
    "label_nan": ("nan", 1, "not a finite number"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_a_bad_value_is_named(tmp_path: Path, name: str, end: str, block_bytes: None) -> None:
    cell, column, problem = BAD_CELLS[name]
    cells = ROWS[0].split(",")
    cells[column] = cell
    file = tmp_path / "rows.txt"
    file.write_bytes(end.join(["m,i,a,b,c", ROWS[1], "", ",".join(cells), ROWS[2]]).encode())
    with pytest.raises(csv_line.RowError) as caught:
        read(dataset(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:4: column {column} ")
    assert repr(cell) in message or cell[0] == '"'
    assert problem in message
    assert len(message.splitlines()) == 1
    assert caught.value.user_error


@pytest.mark.parametrize("row", ["0,1,0.5,-2", "0,1,0.5,-2,3,4", "0", "0,1,0.5,-2,3,"])
@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_wrong_number_of_columns_is_named(
    tmp_path: Path, row: str, line: int, block_bytes: None
) -> None:
    rows = [ROWS[0], ROWS[1]]
    rows.insert(line - 1, row)
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(rows))
    with pytest.raises(csv_line.RowError) as caught:
        read(dataset(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: ")
    assert f"{len(row.split(','))} columns" in message
    assert "expected 5" in message


@pytest.mark.parametrize(
    "line",
    [
        *("hello world", "a,b,c", "nan,inf,a,b,c", "a,b,,c,d", "m,i,a,b,c,d", "m;i;a;b;c"),
        # Numbers, in one notation or another.
        *(
            "0x0,0x1,0x10,0xfe,-0XA",
            "0b0,0b1,0b11,0o7,0b0",
            "0x0,0x1,0x1.8p3,1f,0L",
            "0f,1f,2f,2d,3d",
        ),
        *(
            "'0','1','2','3','4'",
            "\"'0'\",\"'1'\",2,3,4",
            '"""0""","""1""","""2""","""3""","""4"""',
        ),
        *("0\xa0,1\xa0,2\xa0,3\xa0,4\xa0", "\u200b0,\u200b1,2,3,4", "０,１,２,３,４"),
        *("$0,$1,$2,$3,$4", "5%,1%,2%,3%,4%", "1_000,1_000,1_000,1_000,1_000", "?,?,?,?,?"),
        *("2019-01-01,1:30,2/3,1h,#", "“0”,“1”,“2”,“3”,“4”"),
    ],
)
def test_a_first_line_that_does_not_name_every_column_is_no_header(
    tmp_path: Path, line: str, block_bytes: None
) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("\n".join([line, *ROWS]), encoding="utf-8")
    with pytest.raises(csv_line.RowError, match=re.escape(f"{file}:1: ")):
        read(dataset(file))


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "latin-1"])
@pytest.mark.parametrize(
    "line",
    [
        "x0,1st,50+,_a,9_to_5",
        "_a,0-9,10-19,#,7d",
        "婚姻,收入,年龄,工时,啊",
        "été,âge,1é,ß,x",
        "NaN_1,inf.,e1,1e,b0",
    ],
)
def test_names_are_told_by_one_that_begins_with_a_letter(
    tmp_path: Path, line: str, encoding: str
) -> None:
    if encoding == "latin-1" and max(line) > "\xff":
        pytest.skip("has no such letters")
    file = tmp_path / "rows.txt"
    file.write_bytes("\n".join([line, *ROWS]).encode(encoding))
    assert_same(read(dataset(file)), table(VALUES, (1, 0)))


@pytest.mark.parametrize("cell", ["1\xa0", "\u200b1", "1\x0b", "\ufeff1", "\u30001", "1\x00"])
def test_a_character_that_cannot_be_seen_is_shown(
    tmp_path: Path, cell: str, block_bytes: None
) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(f"{ROWS[0]}\n0,1, {cell}\t,0,0\n", encoding="utf-8")
    said = f"{file}:2: column 2 (from 0): value {cell!r} is not a number"
    with pytest.raises(csv_line.RowError, match=re.escape(said)):
        read(dataset(file))


def test_line_numbers_count_blank_lines_after_a_header(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    for end in ("\n", "\r\n", "\r"):
        file.write_bytes(end.join(["m,i,a,b,c", "", "", ROWS[0], "0,1,x,1,1"]).encode())
        with pytest.raises(csv_line.RowError, match=re.escape(f"{file}:5: column 2 ")):
            read(dataset(file))


def test_the_first_bad_row_of_many_blocks_is_the_one_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 50)
    rows = [ROWS[0]] * 200
    rows[120] = rows[150] = "0,1,bad,0,0"
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(rows))
    with pytest.raises(csv_line.RowError, match=re.escape(f"{file}:121: column 2 ")):
        read(dataset(file))


def test_rows_before_a_bad_one_in_another_file_name_the_right_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.txt", tmp_path / "b.txt"
    good.write_text("\n".join(ROWS))
    bad.write_text(ROWS[0] + "\n0,1,x,0,0\n")
    with pytest.raises(csv_line.RowError, match=re.escape(f"{bad}:2: column 2 ")):
        read(dataset(good, bad))


@pytest.mark.parametrize("kept", [0.5, 0.999, 12], ids=["half", "no_trailer", "header_only"])
def test_a_truncated_gzip_file_is_named(tmp_path: Path, kept: float, rng) -> None:
    text = "".join(f"0,1,{value:.6f},0,0\n" for value in rng.normal(size=5000))
    data = gzip.compress(text.encode())
    file = tmp_path / "rows.txt.gz"
    file.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(csv_line.RowError) as caught:
        read(dataset(file))
    assert str(file) in str(caught.value)
    assert "gzip" in str(caught.value)


def test_a_line_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    width = 3 * csv_text.BLOCK_BYTES // 2  # two bytes a cell
    file = tmp_path / "rows.txt"
    file.write_text(ROWS[0] + "\n" + "1," * width + "1\n")
    with pytest.raises(csv_line.RowError) as caught:
        read(dataset(file))
    assert str(caught.value).startswith(f"{file}:2: row has {width + 1} columns, expected 5")


def test_a_very_long_value_is_shown_short(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(ROWS[0] + "\n0,1,0,0," + "x" * 100_000)
    with pytest.raises(csv_line.RowError, match="column 4") as caught:
        read(dataset(file))
    assert len(str(caught.value)) < 400


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(csv_text, "MAX_LINE_BYTES", 1 << 20)
    file = tmp_path / "rows.txt"
    file.write_text(ROWS[0] + "\n" + "1" * (3 << 20) + "\n" + ROWS[1])
    with pytest.raises(csv_line.RowError, match=re.escape(f"{file}:2: line is longer than 1 MB")):
        read(dataset(file))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent.txt"):
        read(dataset(tmp_path / "absent.txt"))


# Quotes, other formats, hints, what is said where nothing is left ---------------------------------


def test_a_header_that_pandas_writes_is_passed_over(tmp_path: Path) -> None:
    """It quotes names with a comma or a quote in them, and nothing else."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["marital", "income", "age, in years", 'so called "wage"', "c"])
    writer.writerows(row.split(",") for row in ROWS)
    assert stream.getvalue().startswith('marital,income,"age, in years","so called ""wage""",c\n')
    file = tmp_path / "rows.txt"
    file.write_text(stream.getvalue())
    assert_same(read(dataset(file)), table(VALUES, (1, 0)))


def test_the_first_row_of_quoted_numbers_is_no_header(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text('"0","1","0.5","-2","3e2"\n')
    assert_same(read(dataset(file)), table(VALUES[:1], (1, 0)))


def test_quoted_rows_are_read_by_the_fast_parser(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(csv_blocks, "_parse_lines", None)  # fails where it is called
    file = tmp_path / "rows.txt"
    file.write_text("".join('"' + row.replace(",", '","') + '"\n' for row in ROWS * 500))
    assert_same(read(dataset(file)), table(np.tile(VALUES, (500, 1)), (1, 0)))


@pytest.mark.parametrize("line", [1, 2])
def test_a_line_break_inside_quotes_is_named(tmp_path: Path, line: int, block_bytes: None) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(f"{ROWS[0]}\n" * (line - 1) + 'm,"i\nj",a,b,c\n' + ROWS[1])
    problem = "value '\"i' has a quote without its other half; line breaks inside quotes"
    with pytest.raises(csv_line.RowError) as caught:
        read(dataset(file))
    assert str(caught.value).startswith(f"{file}:{line}: column 1 (from 0): {problem}")


FORMATS = {
    "parquet": (b"PAR1\x15\x04\x15\x10", "a Parquet file"),
    "parquet_text": (b"PAR1 or so\n", "a Parquet file"),
    "zip": (b"PK\x03\x04\x14\0\0\0", "a zip archive or an Excel workbook"),
    "empty_zip": (b"PK\x05\x06" + bytes(18), "a zip archive"),
    "UTF-16": ("1,2,3\n".encode("utf-16"), "text in UTF-16 (save it as UTF-8)"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)"),
    "xz": (lzma.compress(b"0,1,1,1,1\n"), "compressed with xz"),
    "bzip2": (bz2.compress(b"0,1,1,1,1\n"), "compressed with bzip2"),
    "bzip2 with a comma early": (b"BZh91AY&SY\xfd,~A\0\0", "compressed with bzip2"),
    "zstd": (b"\x28\xb5\x2f\xfd\x24\0\x01\0\0", "compressed with zstd"),
}


def test_a_schema_is_for_another_reader() -> None:
    with pytest.raises(ConfigError, match="^hyper_parameters.schema goes with the reader"):
        dataset(**{"hyper_parameters.schema": "schema.yaml"})
    assert dataset(**{"hyper_parameters.schema": None}).file_list == []


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_another_format_is_named(
    tmp_path: Path, name: str, zipped: bool, block_bytes: None
) -> None:
    data, what = FORMATS[name]
    file = tmp_path / "rows.txt"
    file.write_bytes(gzip.compress(data) if zipped else data)
    reader = dataset(file, **{"runner.bad_rows": "skip"})
    with pytest.raises(csv_line.RowError) as caught:
        read(reader)
    assert str(caught.value).startswith(f"{file}: is {what}")
    assert str(caught.value).endswith("expected comma-separated text, plain or gzip")


def test_real_files_of_other_formats_are_named(tmp_path: Path) -> None:
    columns = pa.table({"a": [0.0, 1.0]})
    pyarrow.parquet.write_table(columns, tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("rows.txt", ROWS[0])
    with pa.CompressedOutputStream(str(tmp_path / "a.zst"), "zstd") as stream:
        stream.write(ROWS[0].encode())
    for name, what in (("parquet", "a Parquet"), ("zip", "a zip"), ("zst", "compressed with zstd")):
        with pytest.raises(csv_line.RowError, match=f"a.{name}: is {what}"):
            read(dataset(tmp_path / f"a.{name}"))


@pytest.mark.parametrize("header", ["PAR1,b,c,d,e", "PAR10 é,b,c,d,e", "BZh9,b,c,d,e"])
def test_a_name_may_begin_as_another_format_does(tmp_path: Path, header: str) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("\n".join([header, *ROWS]), encoding="utf-8")
    assert_same(read(dataset(file)), table(VALUES, (1, 0)))


def test_raw_census_rows_are_told_from_other_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(generate(3)))
    hint = "; this looks like the raw Census file, which datasets/census/prepare.py encodes"
    with pytest.raises(csv_line.RowError) as caught:
        read(RecDataset([str(file)], {}))
    assert str(caught.value).startswith(f"{file}:1: row has 42 columns, expected 501 (")
    assert str(caught.value).endswith(hint)
    with pytest.raises(csv_line.RowError, match="expected 5 .*features.$"):
        read(dataset(file))
    file.write_text("1,2,3")
    with pytest.raises(csv_line.RowError, match="expected 501 .*features.$"):
        read(RecDataset([str(file)], {}))


def test_where_every_row_was_skipped_the_first_reasons_are_told(tmp_path: Path) -> None:
    """By blocks, and row by row as a reader without them is read."""
    hyper = {"feature_size": 3, "task_names": ["a", "b"], "label_columns": [1, 0]}
    runner = {"train_data_dir": "rows", "test_data_dir": "rows", "bad_rows": "skip", "epochs": 1}
    runner |= {"train_batch_size": 2, "infer_batch_size": 2, "print_interval": 1}
    cases = []
    for reader in ("census_reader", "row_reader"):
        readers = {"train_reader_path": reader, "infer_reader_path": reader}
        config = make_model_dir(tmp_path / reader, {**runner, **readers}, hyper)
        file = config.parent / "rows" / "a.txt"
        file.parent.mkdir()
        file.write_text("0,1,x,1,1\n0,1,1\n\n0,1,1,1,y\n7,0,1,1,1\n")
        cases.append(("train", "dygraph", ["-m", str(config)]))
    (config.parent / "row_reader.py").write_text(
        "import census_reader, paddle.io\n"
        "class RecDataset(paddle.io.IterableDataset):\n"
        "    def __init__(self, file_list, config):\n"
        "        self.rows = census_reader.RecDataset(file_list, config)\n"
        "    def __iter__(self):\n"
        "        return iter(self.rows)\n"
        "    def skipped_rows(self):\n"
        "        return self.rows.skipped_rows()\n"
    )
    by_blocks, by_rows = run_cases(cases, tmp_path)
    for result, more in ((by_blocks, ""), (by_rows, " for a batch of 2")):
        assert result.status == 2, result.stderr
        (sentence,) = result.sentences
        assert f"rows holds no rows{more}; 4 bad rows were skipped, such as " in sentence
        for line, reason in ((1, "column 2 "), (2, "row has 3 columns"), (4, "column 4 ")):
            assert f"a.txt:{line}: {reason}" in sentence
        assert "a.txt:5" not in sentence
