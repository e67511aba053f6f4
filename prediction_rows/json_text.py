"""JSON of strangers: its value, and the text of a cell that is one."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import pyarrow as pa

from raw_tables.cells import as_text

_LONG = re.compile(rb"[0-9]{300}")  # an integer takes a time that grows with the square of this
MOST_QUICK = 20_000  # bytes that are not looked through for such
MOST_BITS = 1000  # of an integer that is shown or looked up


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none; the message goes on from "is".
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: {error.reason} at byte {error.start + 1}") from error
    try:
        return (_CAREFUL if len(data) > MOST_QUICK and _LONG.search(data) else _QUICK).decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply to be a row") from error
    except _Refused:
        raise
    except ValueError as error:  # of int
        raise ValueError("no row: it has a number of very many digits") from error


class _Refused(ValueError):
    """What Python takes for JSON, and we do not."""


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"not JSON: {name} is no number in it")


def _bounded(digits: str) -> int:
    if len(digits) > 300:
        raise _Refused("no row: it has a number of very many digits")
    return int(digits)


_QUICK = json.JSONDecoder(parse_constant=_refuse_constant)
_CAREFUL = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_bounded)


def cell_text(value: Any) -> str | None:
    """A cell as text, as it would be of a table that is kept as Parquet; None is missing.

    Blanks around it are left out.

    Raises:
        TypeError: it is none that a cell can have; the message says what it is.
    """
    kind = type(value)
    if kind is str:
        return value.strip(" \t")
    if value is None:
        return None
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        if value.bit_length() > MOST_BITS:
            raise TypeError("a number of very many digits")
        return str(value)
    if kind is float:
        if value.is_integer() and 0 < abs(value) < 1e9:  # Arrow writes 1e10 as 1e+10
            return str(int(value))
        return as_text(pa.array([value]))[0].as_py()
    raise TypeError("an object" if kind is dict else "a list" if kind is list else kind.__name__)


def shown_text(value: Any) -> str | None:
    """A cell of a column that is kept, whatever it is; text that any file can hold."""
    try:
        text = cell_text(value)
    except TypeError:
        text = json.dumps(value, ensure_ascii=False, default=repr)[:10_000]
    return text if text is None else printable(text)


def printable(text: str) -> str:
    """A text that can be written as UTF-8, as half of a surrogate pair, which JSON has, cannot."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
