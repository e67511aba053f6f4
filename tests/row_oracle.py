"""What the row parser should make of any bytes, written again from its documentation.

Plain Python, a byte and a digit at a time: no regular expression, no Arrow, no floating point. Used
by test_fuzz_rows.py and by fuzz/fuzz_rows.py.
"""

from __future__ import annotations

import dataclasses
import gzip
import unicodedata
import zlib
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, NamedTuple
from unittest.mock import patch

import numpy as np

import csv_blocks
import csv_digits
import csv_layout
import csv_line
import csv_text

LAYOUT = csv_layout.Layout(feature_size=2, label_columns=(2, 0))
# A label that may be blank, another that may be any number, a weight, a column that is for nothing.
NAMED = csv_layout.Layout(
    feature_size=2,
    label_columns=(3, 0),
    weight_column=5,
    ignored_columns=(2,),
    names=("y", "a", "note", "z", "b", "w"),
    blank_labels=True,
    regression=(True, False),
)
UNNAMED = dataclasses.replace(NAMED, names=())
CHOSEN = dataclasses.replace(NAMED, features=(4, 1), blank_labels=False, regression=())
LAYOUTS = (LAYOUT, NAMED, UNNAMED, CHOSEN)
INFINITY = float("inf")
_DIGITS = b"0123456789"
# Signatures of other formats; that of Parquet is letters, which a name may begin with.
_BINARY = (b"PK\3\4", b"PK\5\6", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xfd7zXZ\0", b"(\xb5/\xfd")
_BZIP2 = [b"BZh%d" % level for level in range(1, 10)]
_BINARY += tuple(b + end for b in _BZIP2 for end in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"))
_LETTERS = (b"PAR1",)


class Expected(NamedTuple):
    """What a file holds.

    Attributes:
        rows: of each usable row the features, the labels and, where rows have one, the weight;
            an unknown label is None.
        bad: numbers of the lines that cannot be used, counted from 1.
        damaged: it is compressed and cannot be decompressed, or it is no text, or its header
            cannot be matched.
    """

    rows: list[list[float | None]]
    bad: list[int]
    damaged: bool = False


class _NoPool:
    """A thread pool without threads: many times faster on inputs of a few bytes."""

    def __init__(self, threads: int, thread_name_prefix: str) -> None:
        pass

    def __enter__(self) -> _NoPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Parsed(NamedTuple):
    """What the parser made of it."""

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    count: int
    first: list[str]


def number(cell: bytes) -> float | None:
    """The float32 nearest to a decimal number, ties to even; None if it is not one."""
    text = cell.strip(b" \t")
    negative = text[:1] == b"-"
    text = text[1:] if text[:1] in (b"+", b"-") else text
    whole, text = _digits(text)
    part = b""
    if text[:1] == b".":
        part, text = _digits(text[1:])
    if not whole + part:
        return None
    exponent = 0
    if text[:1] in (b"e", b"E"):
        text = text[1:]
        sign = -1 if text[:1] == b"-" else 1
        text = text[1:] if text[:1] in (b"+", b"-") else text
        digits, text = _digits(text)
        if not digits:
            return None
        exponent = sign * _bounded(digits)
    if text:
        return None
    value = _nearest((whole + part).lstrip(b"0"), exponent - len(part))
    return -value if negative else value


def _digits(text: bytes) -> tuple[bytes, bytes]:
    end = 0
    while end < len(text) and text[end] in _DIGITS:
        end += 1
    return text[:end], text[end:]


def _bounded(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) < 9 else 10**9


def _nearest(digits: bytes, exponent: int) -> float:
    """The float32 nearest to ``digits * 10 ** exponent``."""
    if not digits:
        return 0.0
    magnitude = len(digits) + exponent
    if magnitude > 45 or magnitude < -60:
        return INFINITY if magnitude > 45 else 0.0
    exact = Fraction(0)
    for digit in digits:
        exact = exact * 10 + (digit - ord("0"))
    exact *= Fraction(10) ** exponent
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    power -= exact < Fraction(2) ** power
    unit = Fraction(2) ** (max(power, -126) - 23)
    rounded = round(exact / unit) * unit
    return float(rounded) if rounded < Fraction(2) ** 128 else INFINITY


def lines(data: bytes) -> list[bytes]:
    """Lines that end in LF, CRLF or CR, the last perhaps in nothing."""
    found, line, index = [], bytearray(), 0
    while index < len(data):
        byte = data[index : index + 1]
        if byte in (b"\n", b"\r"):
            index += data[index : index + 2] == b"\r\n"
            found.append(bytes(line))
            line.clear()
        else:
            line += byte
        index += 1
    return [*found, bytes(line)]


def cells(line: bytes) -> list[bytes]:
    """Cells of a line, by RFC 4180 where it keeps to that.

    A quote opens only where a cell begins, after blanks or after another quote, and closes at the
    next one.
    """
    found, cell, quoted, before = [], bytearray(), False, b","
    for index in range(len(line)):
        byte = line[index : index + 1]
        if byte == b"," and not quoted:
            found.append(_content(bytes(cell)))
            cell.clear()
        else:
            cell += byte
        if byte == b'"':
            quoted = not quoted and before in b', \t"' and b'"' in line[index + 1 :]
        before = byte
    return [*found, _content(bytes(cell))]


def _content(cell: bytes) -> bytes:
    """What is between the quotes of a cell; all of it if it has none, or anything beside them."""
    text = cell.strip(b" \t")
    if text[:1] != b'"':
        return cell
    inside, index = bytearray(), 1
    while index < len(text):
        byte = text[index : index + 1]
        if byte != b'"':
            inside += byte
        elif text[index + 1 : index + 2] == b'"':
            inside += byte
            index += 1
        else:
            return bytes(inside) if index == len(text) - 1 else cell
        index += 1
    return cell


def is_text(data: bytes) -> bool:
    """Whether these bytes begin like none of the formats that are refused."""
    if data.startswith(_LETTERS):
        name, comma, _ = data[:64].partition(b",")
        return bool(comma) and min(name) >= 32
    return not data.startswith(_BINARY)


def header(line: bytes, layout: csv_layout.Layout) -> list[str]:
    """The names of the columns: none is a number, and one begins with a letter; none otherwise."""
    names = [cell.strip() for cell in cells(line)]
    signed = [name[name[:1] in (b"+", b"-") :].lower() for name in names]
    named = (
        (layout.names or len(names) == layout.column_num)
        and all(name and number(name) is None for name in names)
        and not {b"nan", b"inf", b"infinity"} & set(signed)
        and any(_first_is_letter(name) for name in names)
    )
    return [*map(_text, names)] if named else []


def _text(name: bytes) -> str:
    try:
        return str(name, "utf-8")
    except UnicodeDecodeError:
        return "".join(map(chr, name))


def _values(line: bytes, layout: csv_layout.Layout, names: list[str]) -> list[float | None] | None:
    """What is used of a row, or None where it cannot be."""
    row = cells(line)
    if len(row) != (len(names) if layout.names and names else layout.column_num):
        return None
    if line.count(b'"') % 2:
        return None

    def cell(column: int) -> bytes:
        return row[names.index(layout.names[column]) if layout.names and names else column]

    values: list[float | None] = []
    chosen = layout.features or [
        column
        for column in range(layout.column_num)
        if column not in (*layout.label_columns, layout.weight_column, *layout.ignored_columns)
    ]
    for column in chosen:
        values.append(number(cell(column)))
        if values[-1] is None or abs(values[-1]) == INFINITY:
            return None
    for task, column in enumerate(layout.label_columns):
        if layout.blank_labels and not cell(column).strip(b" \t"):
            values.append(None)
            continue
        values.append(number(cell(column)))
        any_number = layout.regression and layout.regression[task]
        if values[-1] is None or abs(values[-1]) == INFINITY:
            return None
        if not any_number and values[-1] not in (0, 1):
            return None
    if layout.weight_column is not None:
        values.append(number(cell(layout.weight_column)))
        if values[-1] is None or not 0 <= values[-1] < INFINITY:
            return None
    return values


def _first_is_letter(name: bytes) -> bool:
    try:
        text = str(name, "utf-8")
    except UnicodeDecodeError:
        text = "".join(map(chr, name))
    for character in text:
        if unicodedata.category(character)[0] == "L":
            return True
        if unicodedata.category(character)[0] == "N" or unicodedata.numeric(character, None):
            return False
    return False


def expected(
    data: bytes, longest: int | None = None, layout: csv_layout.Layout = LAYOUT
) -> Expected:
    """What a file of these bytes holds; lines longer than ``longest`` bytes are bad."""
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error):
            return Expected([], [], damaged=True)
    if not is_text(data):
        return Expected([], [], damaged=True)
    data = data[3:] if data[:3] == b"\xef\xbb\xbf" else data
    rows: list[list[float | None]] = []
    bad: list[int] = []
    names: list[str] = []
    for line_number, line in enumerate(lines(data), start=1):
        if line_number == 1:
            names = header(line, layout)
            if names and layout.names:
                used = {*layout.names} - {layout.names[c] for c in layout.ignored_columns}
                twice = len(set(names)) != len(names)
                if tuple(names) != layout.names and (twice or used - {*names}):
                    return Expected([], [], damaged=True)
            if names:
                continue
        if longest is not None and len(line) > longest:
            bad.append(line_number)
        elif line.strip():
            values = _values(line, layout, names)
            if values is not None:
                rows.append(values)
            else:
                bad.append(line_number)
    return Expected(rows, bad)


def parse(file: Path, cap: int, layout: csv_layout.Layout = LAYOUT) -> Parsed:
    """Read a file with the parser.

    Raises:
        RowError: as the parser does.
    """
    bad_rows = csv_line.BadRows(cap)
    blocks = list(csv_blocks.read_blocks([file], layout, bad_rows))
    empty = [np.empty((0, 2), np.float32)]
    features = np.concatenate([*empty, *(block.features for block in blocks)])
    labels = np.concatenate([*empty, *(block.labels for block in blocks)])
    weighed = layout.weight_column is not None
    assert all(isinstance(block, csv_blocks.WeighedBlock) == weighed for block in blocks)
    weights = [block.weights for block in blocks if weighed]
    weights = np.concatenate([np.empty(0, np.float32), *weights])
    return Parsed(features, labels, weights, bad_rows.count, bad_rows.first)


def check(
    file: Path,
    data: bytes,
    block_bytes: int,
    longest: int | None = None,
    layout: csv_layout.Layout = LAYOUT,
) -> Expected:
    """Compare parser and oracle on these bytes, both stopping at and skipping bad rows.

    Rows that end in single digits, be they few, are read as such; and then again the usual way.

    Args:
        file: where to write them.
        data: the bytes.
        block_bytes: the parser's blocks are this long; errors are searched for as finely.
        longest: the parser's limit to a line.
        layout: the columns expected.

    Returns:
        what the oracle says.

    Raises:
        AssertionError: the two differ.
    """
    file.write_bytes(data)
    want = expected(data, longest, layout)
    limits = {"BLOCK_BYTES": block_bytes}
    if longest is not None:
        limits["MAX_LINE_BYTES"] = longest
    parser = {"ThreadPoolExecutor": _NoPool, "SLOW_BYTES": block_bytes}
    with (
        patch.multiple(csv_text, **limits),
        patch.multiple(csv_blocks, **parser),
        patch.object(csv_digits, "LEAST_DIGITS", 1),
    ):
        _check_error_mode(file, want, layout)
        _check_skip_mode(file, want, layout)
    return want


def _check_both_ways(got: Parsed, file: Path, cap: int, layout: csv_layout.Layout) -> None:
    """Without the way for single digits rows are the same, signs of zeros too."""
    with patch.object(csv_blocks, "MISSES", 0):
        usual = parse(file, cap, layout)
    assert got.features.tobytes() == usual.features.tobytes()
    assert got.weights.tobytes() == usual.weights.tobytes()
    assert got.labels.tobytes() == usual.labels.tobytes()
    assert (got.count, got.first) == (usual.count, usual.first)


def _check_error_mode(file: Path, want: Expected, layout: csv_layout.Layout) -> None:
    try:
        got = parse(file, 0, layout)
    except csv_layout.RowError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1000
        if want.damaged:
            assert message.startswith(f"{file}:") or "damaged gzip" in message
        else:
            assert want.bad, f"refused a file without bad rows: {message}"
            assert message.startswith(f"{file}:{want.bad[0]}: "), (message, want.bad)
    else:
        assert not want.damaged
        assert not want.bad, f"accepted line {want.bad[0]}"
        _check_rows(got, want, layout)


def _check_skip_mode(file: Path, want: Expected, layout: csv_layout.Layout) -> None:
    cap = max(1, len(want.bad))
    try:
        got = parse(file, cap, layout)
    except csv_layout.RowError as error:
        assert want.damaged, f"refused a file with few bad rows: {error}"
        return
    assert not want.damaged
    _check_rows(got, want, layout)
    _check_both_ways(got, file, cap, layout)
    assert got.count == len(want.bad)
    assert len(got.first) == min(10, len(want.bad))
    for message, line in zip(got.first, want.bad):
        assert message.startswith(f"{file}:{line}: "), (message, want.bad)
    if len(want.bad) > 1:
        try:
            parse(file, len(want.bad) - 1, layout)
        except csv_layout.RowError as error:
            assert str(error).startswith(f"{file}:{want.bad[-1]}: ")
        else:
            raise AssertionError("skipped more rows than the cap allows")


def _check_rows(got: Parsed, want: Expected, layout: csv_layout.Layout) -> None:
    size, tasks = layout.feature_size, len(layout.label_columns)
    columns = size + tasks + (layout.weight_column is not None)
    rows = [[np.nan if value is None else value for value in row] for row in want.rows]
    table = np.array(rows, np.float64).reshape(-1, columns).astype(np.float32)
    # To the last bit, but for the sign of a zero.
    np.testing.assert_array_equal(got.features, table[:, :size], strict=True)
    np.testing.assert_array_equal(got.labels, table[:, size : size + tasks], strict=True)
    np.testing.assert_array_equal(got.weights, table[:, size + tasks :].ravel(), strict=True)
