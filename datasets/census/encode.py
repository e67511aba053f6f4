"""Raw census rows to the text of encoded rows."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from columns import LABELS, RAW_FIELDS, Columns, InputError

BLOCK_BYTES = 1 << 21
LONGEST_LINE = 1 << 20  # UCI's have a few hundred bytes
SHOWN = 60  # most characters of a value in an error message


class _Numbers(dict[str, str]):
    """Every number is encoded as it is written."""

    pattern = re.compile(r"-?[0-9]+(\.[0-9]+)?")

    def __missing__(self, text: str) -> str:
        if not self.pattern.fullmatch(text):
            raise KeyError(text)
        return self.setdefault(text, text)


def read_rows(path: Path) -> Iterator[tuple[int, str]]:
    """Streams a raw file.

    Args:
        path: raw file, plain or (``.gz``) gzip.

    Yields:
        Number and text of each line that is not blank.

    Raises:
        InputError: the gzip stream breaks off or is damaged; names the line and field it ends in.
            Or a line is so long that it would fill the memory.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    number, tail = 1, b""
    with opener(path, "rb") as stream:
        try:
            while block := stream.read1(BLOCK_BYTES):
                *lines, tail = (tail + block).split(b"\n")
                for line in lines:
                    if text := _text(line):
                        yield number, text
                    number += 1
                if len(tail) > LONGEST_LINE:
                    raise InputError(
                        f"{path.name}, line {number}: longer than {LONGEST_LINE >> 20} MB, "
                        f"expected {len(RAW_FIELDS)} fields"
                    )
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            *before, value = _text(tail).split(",")
            raise InputError(
                f"{path.name}, line {number}, {_field(len(before))}: the gzip stream breaks "
                f"off or is damaged at {_show(value)} ({error}), expected a whole file"
            ) from None
    if text := _text(tail):
        yield number, text


def _text(line: bytes) -> str:
    return line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r").decode(errors="replace")


def encode_file(path: Path, columns: Columns, as_they_come: bool = False) -> Iterator[bytes]:
    r"""Encodes a raw file.

    Args:
        path: raw file, plain or (``.gz``) gzip.
        columns: the encoded columns.
        as_they_come: give the rows as they are, checked only.

    Yields:
        Encoded rows in file order; each is text that ends in ``\n``.

    Raises:
        InputError: naming file, line, field and value of the first row that is not as expected.
    """
    codes = _codes(columns)
    fields = (*LABELS, *columns.numeric, *columns.onehot)
    pick = itemgetter(*(RAW_FIELDS.index(field) for field in fields))
    picked = [codes[field] for field in fields]
    for number, line in read_rows(path):
        values = [value.strip() for value in line.split(",")]
        try:
            if len(values) != len(RAW_FIELDS):
                raise KeyError
            row = ",".join([code[value] for code, value in zip(picked, pick(values))])
        except KeyError:
            raise InputError(f"{path.name}, line {number}, {_fault(values, codes)}") from None
        yield (line if as_they_come else row).encode() + b"\n"


def _codes(columns: Columns) -> dict[str, Mapping[str, str]]:
    """How each field is encoded: its value to the text of its columns."""
    codes: dict[str, Mapping[str, str]] = {field: _Numbers() for field in columns.numeric}
    for field, categories in columns.categories.items():
        own = categories[:1] if field in LABELS else categories
        codes[field] = {
            value: ",".join(str(int(value == category)) for category in own) for value in categories
        }
    return codes


def _fault(values: Sequence[str], codes: Mapping[str, Mapping[str, str]]) -> str:
    """What is wrong with a row: field, value and what was expected."""
    expected = len(RAW_FIELDS)
    wrong = len(values) != expected
    count = f"; fields in the row: {len(values)}, expected {expected}" if wrong else ""
    for place, (name, value) in enumerate(zip(RAW_FIELDS, values)):
        try:
            codes[name][value]
        except KeyError:
            number = isinstance(codes[name], _Numbers)
            good = "a number" if number else f"one of its {len(codes[name])} categories"
            return f"{_field(place)}: {_show(value)} is not {good}{count}"
    if len(values) < expected:
        return f"{_field(len(values))}: missing{count}"
    return f"{_field(expected)}: {_show(values[expected])} belongs to no column{count}"


def _field(place: int) -> str:
    """A field as an error message names it, counted from 1."""
    name = f" ({RAW_FIELDS[place]})" if place < len(RAW_FIELDS) else ""
    return f"field {place + 1}{name}"


def _show(value: str) -> str:
    """A value as an error message shows it."""
    text = value.strip()
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")
