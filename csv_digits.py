"""Rows that end in a long run of single digits, as one-hot columns do: ``...,95,0,1,0,0``.

A general parser looks at every cell of such a run to learn where it ends and what it is. Here every
digit is known to be two bytes from the next, so that the runs of all rows are a matrix of pairs of
bytes, a digit and a comma each, which numpy checks and converts at the speed of memory. What stands
before the runs is text again, with few cells a row, for the parser that reads any number.
"""

from __future__ import annotations

import numpy as np

LEAST_DIGITS = 64  # half as many take as long this way as any other
_ZERO = np.uint16(ord("0") | ord(",") << 8)


def split_digits(data: bytes, column_num: int) -> tuple[bytes, np.ndarray] | None:
    """Part rows into what precedes their last columns, and those columns, all of single digits.

    Args:
        data: whole lines that end in LF or CRLF, the last perhaps in nothing.
        column_num: columns expected of a row.

    Returns:
        the heads of all lines, as text without a carriage return or a quote, and the digits,
        uint16 ``[lines, columns]`` with at least ``LEAST_DIGITS`` columns and fewer than
        ``column_num``; how many columns a head has is not looked at. None where the lines do not
        all end in so many digits.
    """
    first = data.find(b"\n")
    ending = b"\r\n" if data[first - 1 : first] == b"\r" else b"\n"
    first -= len(ending) - 1
    # More digits than a row has columns are not looked at: a line may be megabytes long.
    width = _good(_last_cells(data, np.array([first]), min(first // 2, column_num)))
    if width < LEAST_DIGITS:
        return None
    if not data.endswith(ending):
        data += ending
    line_ends = _line_ends(data, 2 * width) - (len(ending) - 1)
    digits = _last_cells(data, line_ends, width)
    if digits is None or line_ends[-1] + len(ending) != len(data):
        return None
    if digits.max() > 9:
        # The first line may end in more digits than others do.
        width = _good(digits)
        if width < LEAST_DIGITS:
            return None
        digits = digits[:, -width:]
    commas = line_ends - 2 * width
    text = np.frombuffer(data, np.uint8)
    # Neither the comma before the digits nor they are a line end, so all of them are in one line.
    if (text[commas] != ord(",")).any() or (text[line_ends] != ending[0]).any():
        return None
    starts = [0, *(line_ends[:-1] + len(ending)).tolist()]
    heads = b"\n".join([data[start:end] for start, end in zip(starts, commas.tolist())])
    whole = heads.count(b"\n") == len(digits) - 1 and b"\r" not in heads and b'"' not in heads
    return (heads, digits) if whole else None


def _line_ends(data: bytes, least: int) -> np.ndarray:
    """Places of line feeds, but of none that comes less than ``least`` bytes after another.

    To search what cannot be the end of a long line takes longer than to skip it.
    """
    ends, end = [], data.find(b"\n")
    while end >= 0:
        ends.append(end)
        end = data.find(b"\n", end + 1 + least)
    return np.array(ends)


def _last_cells(data: bytes, line_ends: np.ndarray, width: int) -> np.ndarray | None:
    """The last ``width`` cells of each line: the digit, or a value above 9 for one that is none.

    None where the first line is shorter, or so many lines that the cells would take more memory
    than the text.
    """
    length = 2 * width
    if width < 1 or line_ends[0] < length or len(line_ends) * length > len(data):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), length)
    cells = np.ascontiguousarray(windows[line_ends + 1 - length])  # the index makes a copy
    cells[:, -1] = ord(",")  # a line end
    pairs = cells.view("<u2")
    pairs -= _ZERO  # below zero it wraps
    return pairs


def _good(digits: np.ndarray | None) -> int:
    """How many of the last columns hold nothing but digits, each after a comma."""
    if digits is None:
        return 0
    bad = np.flatnonzero((digits > 9).any(axis=0))
    # What looks like the first of them may be the end of a longer number.
    return digits.shape[1] - 1 - (int(bad[-1]) + 1 if len(bad) else 0)
