"""What the table reader should make of a file, written again from its documentation.

Plain Python, a character at a time; numbers as ``row_oracle`` has them, without floating point.
Used by ``fuzz/fuzz_tables.py``, and through it by ``test_table_reader.py``.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from row_oracle import number

from raw_tables.schema import Column, Schema

NAN = float("nan")
INFINITY = float("inf")


class Bad(NamedTuple):
    """A row that cannot be used: its line (in Parquet its number), and the column if it is one."""

    line: int
    column: str | None


class Expected(NamedTuple):
    """What a file holds.

    Attributes:
        features: of each good row.
        labels: the same.
        weights: the same.
        groups: the texts; None is missing.
        bad: the others.
        refused: the line for which the whole file is; 0 where it is not.
    """

    features: list[list[float]]
    labels: list[list[float]]
    weights: list[float]
    groups: list[str | None]
    bad: list[Bad]
    refused: int = 0


def parted(data: str, delimiter: str) -> list[tuple[int, list[str] | None, int]]:
    """Rows of a text, a byte a character: line, cells (None: quotes are wrong, and in which)."""
    rows: list[tuple[int, list[str] | None, int]] = []
    place, line = 0, 1
    while place < len(data):
        cells, end = one_row(data, place, delimiter)
        good = end is not None
        if end is None:  # it costs its first line
            end = place
            while end < len(data) and data[end] not in "\r\n":
                end += 1
            end += 2 if data[end : end + 2] == "\r\n" else 1
        text = data[place:end]
        blanks = " \t\r\n".replace(delimiter, "")
        if any(character not in blanks for character in text):
            if good:
                agree_with_csv(text, cells, delimiter)
            rows.append((line, cells if good else None, len(cells)))
        line += text.count("\n") + text.replace("\r\n", "").count("\r")
        place = end
    return rows


def one_row(data: str, place: int, delimiter: str) -> tuple[list[str], int | None]:
    """Cells of the row that begins here, and where the next begins; None if quotes are wrong."""
    blanks = " \t".replace(delimiter, "")
    cells: list[str] = []
    cell, state = "", "begin"
    while True:
        character = data[place] if place < len(data) else "end"
        place += 1
        if state == "inside":
            if character == "end":
                return cells, None
            if character == '"' and data[place : place + 1] == '"':
                cell += '"'
                place += 1
            elif character == '"':
                state = "behind"
            else:
                cell += character
        elif character in (delimiter, "\r", "\n", "end"):
            cells.append(cell.strip(" \t"))
            cell, state = "", "begin"
            if character != delimiter:
                place += character == "\r" and data[place : place + 1] == "\n"
                return cells, place
        elif state == "behind":
            if character not in blanks:
                return cells, None
        elif state == "begin" and character == '"':
            cell, state = "", "inside"
        else:
            cell += character
            state = "begin" if state == "begin" and character in blanks else "plain"


def agree_with_csv(text: str, cells: list[str], delimiter: str) -> None:
    """Python's csv module has the same cells; it knows no tabs before a quote."""
    if not re.search(r'\t *"', text) and "\0" not in text:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True
        )
        assert [cell.strip(" \t") for cell in next(reader)] == cells, (text, cells)


def row_of(cells: dict[str, str | None], schema: Schema) -> dict[str, Any] | str:
    """Values of a row by column name, or the first column with a bad cell."""
    values: dict[str, Any] = {}
    for column in schema.columns:
        if column.kind == "ignore":
            continue
        value = value_of(column, cells[column.name], schema)
        if value is None and column.kind != "group":
            return column.name
        values[column.name] = value
    return values


def value_of(column: Column, text: str | None, schema: Schema) -> float | str | None:
    """A cell as a number; None if it cannot be used. Of a group, the text."""
    missing = text is None or text in schema.missing
    if column.kind == "group":
        if missing or text is None:
            return None
        return text.split(".")[0] if is_whole(text) else text
    if column.kind == "category":
        if text is not None and text in column.values:
            return column.values.index(text)
        if text is not None and not missing:
            for place, value in enumerate(column.values):
                if is_whole(text) and is_whole(value) and text.split(".")[0] == value.split(".")[0]:
                    return place
        return len(column.values) + (1 if missing else 0)
    if column.kind == "id":
        return column.buckets if missing else digest(text) % column.buckets
    if column.kind == "label" and column.type == "binary":
        if text in column.positive:
            return 1
        if text in column.negative:
            return 0
    if missing:
        masked = column.kind == "number" or (column.kind == "label" and column.missing)
        return NAN if masked else None
    assert text is not None
    if column.kind == "label" and column.type == "binary":
        if column.positive:
            return None if column.negative else 0
        if text.lower() in ("true", "false"):
            return float(text.lower() == "true")
    value = number(text.encode("utf-8", "surrogatepass")) if text.isascii() else None
    if value is None or abs(value) == INFINITY:
        return None
    if column.kind == "label" and column.type == "binary" and value not in (0, 1):
        return None
    if column.kind == "weight" and value < 0:
        return None
    return value


def is_whole(text: str) -> bool:
    """Whether a text is a whole number, perhaps with ``.0`` behind it."""
    digits = text[:-2] if text.endswith(".0") else text
    digits = digits[1:] if digits.startswith("-") else digits
    return digits != "" and all(digit in "0123456789" for digit in digits)


def digest(text: str | None) -> int:
    """A 64-bit hash, the same of ``7`` and ``7.0``."""
    assert text is not None
    if is_whole(text):
        text = text.split(".")[0]
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def expected_of_rows(
    rows: Sequence[tuple[int, dict[str, str | None] | None, str | None]], schema: Schema
) -> Expected:
    """What rows give: line, cells by column name or None where they are bad, and in which."""
    want = Expected([], [], [], [], [])
    features = [*schema.numbers, *schema.categories, *schema.ids]
    for line, cells, column in rows:
        values = row_of(cells, schema) if cells is not None else column
        if not isinstance(values, dict):
            want.bad.append(Bad(line, values))
            continue
        want.features.append([values[column.name] for column in features])
        want.labels.append([values[column.name] for column in schema.labels])
        if schema.weight:
            want.weights.append(values[schema.weight.name])
        if schema.group and cells is not None:
            text = cells[schema.group.name]
            want.groups.append(None if text in schema.missing else text)
    return want


def expected(data: bytes, schema: Schema) -> Expected:
    """What a text file of these bytes gives."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    data = data[3:] if data[:3] == b"\xef\xbb\xbf" else data
    rows = parted(data.decode("latin-1"), schema.delimiter)
    names = [column.name for column in schema.columns]
    if schema.header and rows:
        line, header, _ = rows.pop(0)
        if header is None:
            return Expected([], [], [], [], [], refused=line)
        names = [name.encode("latin-1").decode(errors="backslashreplace") for name in header]
        used = [column.name for column in schema.columns if column.kind != "ignore"]
        if any(names.count(name) != 1 for name in used):
            return Expected([], [], [], [], [], refused=line)
    return expected_of_rows([cells_of(row, names, schema) for row in rows], schema)


def cells_of(
    row: tuple[int, list[str] | None, int], names: Sequence[str], schema: Schema
) -> tuple[int, dict[str, str | None] | None, str | None]:
    """Cells of a row by name, if it has as many as there are names and all are UTF-8."""
    line, cells, good = row
    if cells is None:
        return line, None, names[good] if good < len(names) else None
    if len(cells) != len(names):
        return line, None, None
    found: dict[str, str | None] = {}
    for column in schema.columns:
        if column.kind != "ignore":
            raw = cells[names.index(column.name)].encode("latin-1")
            try:
                found[column.name] = raw.decode()
            except UnicodeDecodeError:
                return line, None, column.name
    return line, found, None


def compare(got: list[dict[str, Any]], want: Expected, schema: Schema) -> None:
    """The reader's rows are those expected, to the last bit but for the sign of a zero."""

    def joined(name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        return np.concatenate([np.empty(shape, kind), *(block[name] for block in got)])

    def table(rows: Any, width: int) -> np.ndarray:
        return np.array(rows, np.float64).reshape(-1, width).astype(np.float32)

    sizes = {"features": schema.feature_size, "labels": len(schema.labels)}
    for name, width in sizes.items():
        wanted = table(getattr(want, name), width)
        np.testing.assert_array_equal(joined(name, (0, width), np.float32), wanted, strict=True)
    if schema.weight:
        wanted = table(want.weights, 1)[:, 0]
        np.testing.assert_array_equal(joined("weights", (0,), np.float32), wanted, strict=True)
    if schema.group:
        groups = joined("groups", (0,), np.int64).view(np.uint64).tolist()
        assert groups == [0 if text is None else digest(text) for text in want.groups]
    assert all(set(block) == names_of(schema) for block in got)


def names_of(schema: Schema) -> set[str]:
    """What a block has."""
    names = {"features", "labels", "file"}
    return (
        names | ({"weights"} if schema.weight else set()) | ({"groups"} if schema.group else set())
    )
