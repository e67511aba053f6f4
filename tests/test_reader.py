"""The reader: every shape of text gives the rows it holds, every bad value is named."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paddle.io import DataLoader

import csv_blocks
import csv_text
from census_reader import RecDataset

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
    with pytest.raises(csv_blocks.RowError) as caught:
        read(dataset(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:4: column {column} ")
    assert repr(cell) in message
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
    with pytest.raises(csv_blocks.RowError) as caught:
        read(dataset(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: ")
    assert f"{len(row.split(','))} columns" in message
    assert "expected 5" in message


@pytest.mark.parametrize(
    "line", ["hello world", "a,b,c", "nan,inf,a,b,c", "a,b,,c,d", "m,i,a,b,c,d", "m;i;a;b;c"]
)
def test_a_first_line_that_does_not_name_every_column_is_no_header(
    tmp_path: Path, line: str, block_bytes: None
) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("\n".join([line, *ROWS]))
    with pytest.raises(csv_blocks.RowError, match=re.escape(f"{file}:1: ")):
        read(dataset(file))


def test_line_numbers_count_blank_lines_after_a_header(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    for end in ("\n", "\r\n", "\r"):
        file.write_bytes(end.join(["m,i,a,b,c", "", "", ROWS[0], "0,1,x,1,1"]).encode())
        with pytest.raises(csv_blocks.RowError, match=re.escape(f"{file}:5: column 2 ")):
            read(dataset(file))


def test_the_first_bad_row_of_many_blocks_is_the_one_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 50)
    rows = [ROWS[0]] * 200
    rows[120] = rows[150] = "0,1,bad,0,0"
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(rows))
    with pytest.raises(csv_blocks.RowError, match=re.escape(f"{file}:121: column 2 ")):
        read(dataset(file))


def test_rows_before_a_bad_one_in_another_file_name_the_right_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.txt", tmp_path / "b.txt"
    good.write_text("\n".join(ROWS))
    bad.write_text(ROWS[0] + "\n0,1,x,0,0\n")
    with pytest.raises(csv_blocks.RowError, match=re.escape(f"{bad}:2: column 2 ")):
        read(dataset(good, bad))


@pytest.mark.parametrize("kept", [0.5, 0.999, 12], ids=["half", "no_trailer", "header_only"])
def test_a_truncated_gzip_file_is_named(tmp_path: Path, kept: float, rng) -> None:
    text = "".join(f"0,1,{value:.6f},0,0\n" for value in rng.normal(size=5000))
    data = gzip.compress(text.encode())
    file = tmp_path / "rows.txt.gz"
    file.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(csv_blocks.RowError) as caught:
        read(dataset(file))
    assert str(file) in str(caught.value)
    assert "gzip" in str(caught.value)


def test_a_line_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    width = 3 * csv_text.BLOCK_BYTES // 2  # two bytes a cell
    file = tmp_path / "rows.txt"
    file.write_text(ROWS[0] + "\n" + "1," * width + "1\n")
    with pytest.raises(csv_blocks.RowError) as caught:
        read(dataset(file))
    assert str(caught.value).startswith(f"{file}:2: row has {width + 1} columns, expected 5")


def test_a_very_long_value_is_shown_short(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(ROWS[0] + "\n0,1,0,0," + "x" * 100_000)
    with pytest.raises(csv_blocks.RowError, match="column 4") as caught:
        read(dataset(file))
    assert len(str(caught.value)) < 400


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(csv_text, "MAX_LINE_BYTES", 1 << 20)
    file = tmp_path / "rows.txt"
    file.write_text(ROWS[0] + "\n" + "1" * (3 << 20) + "\n" + ROWS[1])
    with pytest.raises(csv_blocks.RowError, match=re.escape(f"{file}:2: line is longer than 1 MB")):
        read(dataset(file))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent.txt"):
        read(dataset(tmp_path / "absent.txt"))
