"""Raw census rows to the text of encoded rows, a block of rows at a time."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from columns import LABELS, RAW_FIELDS, Columns, InputError
from pyarrow import csv

BLOCK_BYTES = 1 << 21
NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"


def read_batches(
    path: Path, columns: Columns, fields: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Streams a raw file.

    Args:
        path: raw file, plain or (``.gz``) gzip.
        columns: the encoded columns; tells numeric fields from categorical ones.
        fields: the fields to read; all by default.

    Yields:
        Batches of rows: numeric fields as strings, the others as dictionaries of bytes.

    Raises:
        InputError: a row has not 42 fields, or the file cannot be read to its end.
    """
    category = pa.dictionary(pa.int32(), pa.binary())
    types = {field: category for field in columns.categories}
    types.update({field: pa.string() for field in columns.numeric})
    compression = "gzip" if path.suffix == ".gz" else None
    good = 0
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            reader = csv.open_csv(
                stream,
                read_options=csv.ReadOptions(column_names=RAW_FIELDS, block_size=BLOCK_BYTES),
                parse_options=csv.ParseOptions(quote_char=False),
                convert_options=csv.ConvertOptions(
                    column_types=types,
                    include_columns=fields,
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
            for batch in reader:
                yield batch
                good += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(first_fault(path, columns, good) or f"{path.name}: {error}") from None


def count_rows(path: Path, columns: Columns) -> int:
    """Counts the rows of a raw file; raises `InputError` as `read_batches` does."""
    return sum(batch.num_rows for batch in read_batches(path, columns, fields=["age"]))


def encode_file(path: Path, columns: Columns) -> Iterator[pa.BinaryArray]:
    r"""Encodes a raw file.

    Args:
        path: raw file, plain or (``.gz``) gzip.
        columns: the encoded columns.

    Yields:
        Arrays of encoded rows in file order; each row is text that ends in ``\n``.

    Raises:
        InputError: naming file, line, field and value of the first row that is not as expected.
    """
    good = 0
    for batch in read_batches(path, columns):
        try:
            encoded = encode_batch(batch, columns)
        except ValueError as error:
            raise InputError(first_fault(path, columns, good) or f"{path.name}: {error}") from None
        yield encoded
        good += batch.num_rows


def encode_batch(batch: pa.RecordBatch, columns: Columns) -> pa.BinaryArray:
    r"""Encodes one batch of rows.

    The one-hot columns are single characters, so they form a block of fixed width: a template of
    zeros into which the ones are set. Labels and numbers are joined in front of it.

    Args:
        batch: rows as `read_batches` yields them.
        columns: the encoded columns.

    Returns:
        One text per row, ending in ``\n``.

    Raises:
        ValueError: a category is unknown, or a numeric field holds no number.
    """
    rows = np.arange(batch.num_rows)
    template = np.frombuffer(b"0," * (columns.onehot_width - 1) + b"0\n", dtype=np.uint8)
    block = np.tile(template, (len(rows), 1))
    for field, first in columns.onehot.items():
        block[rows, 2 * (first + _codes(batch[field], columns.categories[field]))] = ord("1")
    width = pa.binary(len(template))
    onehot = pa.FixedSizeBinaryArray.from_buffers(width, len(rows), [None, pa.py_buffer(block)])

    labels = [
        pa.array(np.where(_codes(batch[field], columns.categories[field]) == 0, b"1", b"0"))
        for field in LABELS
    ]
    numbers = [_numbers(batch[field]).cast(pa.binary()) for field in columns.numeric]
    return pc.binary_join_element_wise(*labels, *numbers, onehot.cast(pa.binary()), b",")


def _codes(column: pa.DictionaryArray, categories: tuple[str, ...]) -> np.ndarray:
    """Place of each row's value among the categories, shape [rows], int64."""
    place = {category.encode(): code for code, category in enumerate(categories)}
    seen = [place.get(value.strip(), -1) for value in column.dictionary.to_pylist()]
    if -1 in seen:
        raise ValueError("a category is unknown")
    return np.array(seen)[column.indices.to_numpy()]


def _numbers(column: pa.StringArray) -> pa.StringArray:
    """The column's texts without white space, each known to be a number."""
    texts = pc.ascii_trim_whitespace(column)
    if not pc.all(pc.match_substring_regex(texts, NUMBER)).as_py():
        raise ValueError("a numeric field holds no number")
    return texts


def first_fault(path: Path, columns: Columns, good: int) -> str | None:
    """Finds the first fault of a raw file, row by row: the slow way, for the error message.

    Args:
        path: raw file, plain or (``.gz``) gzip.
        columns: the encoded columns.
        good: number of rows at its start that need no look.

    Returns:
        One sentence with file, line, field and value; None if every row is as expected.
    """
    rows = 0
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        for number, (line, broken) in enumerate(_lines(stream), start=1):
            if broken:
                *before, value = line.split(b",")
                return (
                    f"{path.name}, line {number}, {_field(len(before))}: the gzip stream breaks "
                    f"off or is damaged at {_show(value)} ({broken}), expected a whole file"
                )
            rows += bool(line)  # the CSV reader passes over blank lines
            if line and rows > good and (fault := _fault(line, columns)):
                return f"{path.name}, line {number}, {fault}"
    return None


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """Yields lines; the one that a damaged gzip stream breaks off in, with what gzip says of it."""
    tail, broken = b"", ""
    try:
        while block := stream.read1(BLOCK_BYTES):
            *lines, tail = (tail + block).split(b"\n")
            for line in lines:
                yield line.rstrip(b"\r"), ""
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        broken = str(error)
    if tail or broken:
        yield tail if broken else tail.rstrip(b"\r"), broken


def _fault(line: bytes, columns: Columns) -> str | None:
    """What is wrong with a row: field, value and what was expected; None if nothing is."""
    values = line.split(b",")
    fault = next(
        (f for place, value in enumerate(values) if (f := _misfit(place, value, columns))), None
    )
    if len(values) == len(RAW_FIELDS):
        return fault
    count = f"fields in the row: {len(values)}, expected {len(RAW_FIELDS)}"
    return f"{fault}; {count}" if fault else f"{_field(len(values))}: missing; {count}"


def _misfit(place: int, value: bytes, columns: Columns) -> str | None:
    """What is wrong with the value of one field; None if nothing is."""
    if place >= len(RAW_FIELDS):
        return f"{_field(place)}: {_show(value)} belongs to no column"
    text = value.strip().decode("utf-8-sig", errors="replace")
    name = RAW_FIELDS[place]
    if name in columns.numeric:
        good, expected = re.match(NUMBER, text), "a number"
    else:
        categories = columns.categories[name]
        good, expected = text in categories, f"one of its {len(categories)} categories"
    return None if good else f"{_field(place)}: {_show(value)} is not {expected}"


def _field(place: int) -> str:
    """A field as an error message names it, counted from 1."""
    name = f" ({RAW_FIELDS[place]})" if place < len(RAW_FIELDS) else ""
    return f"field {place + 1}{name}"


def _show(value: bytes) -> str:
    """A value as an error message shows it."""
    text = value.strip().decode(errors="replace")
    return repr(text if len(text) <= 60 else text[:60] + "...")
