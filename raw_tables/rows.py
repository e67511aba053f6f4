"""Rows of a file as blocks of arrays, those that cannot be used left out and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from csv_line import RowError
from raw_tables.cells import Arrays, Cells, as_text
from raw_tables.schema import Column
from raw_tables.words import quoted


class Parsed(NamedTuple):
    """What a piece of a file gave.

    Attributes:
        blocks: its rows, see :func:`block`.
        bad: what is wrong with each row that cannot be used, in the order of the rows.
        indirect: numbers had to be read as text.
    """

    blocks: list[dict[str, Any]]
    bad: list[str]
    indirect: bool = False


def block(arrays: Arrays, file: str, keep: np.ndarray | None = None) -> dict[str, Any]:
    """Rows as a reader gives them: ``features``, ``labels``, ``file``, and what else there is."""
    rows = {n: a for n, a in arrays._asdict().items() if a is not None and n != "bad"}
    return {**{n: a if keep is None else a[keep] for n, a in rows.items()}, "file": file}


def parse_cells(
    cells: Cells, given: Sequence[pa.Array], file: str, cap: int
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Rows from the cells of each column, and what is wrong with those that cannot be used.

    Args:
        cells: what they mean.
        given: the cells of each of ``cells.columns``, at least one row of them.
        file: where they are from.
        cap: of more than ``cap + 1`` bad rows the last are not named.

    Returns:
        the good rows as at most one block; place of each bad row, counted from 0, and what is
        wrong with it.
    """
    arrays = cells.arrays(given)
    if not arrays.bad:
        return [block(arrays, file)], []
    wrong = np.any(list(arrays.bad.values()), axis=0)
    bad = [(row, said) for row, _, said in islice(faults(arrays, cells, given), cap + 1)]
    return [] if wrong.all() else [block(arrays, file, ~wrong)], bad


def faults(
    arrays: Arrays, cells: Cells, given: Sequence[pa.Array]
) -> Iterator[tuple[int, Column, str]]:
    """Each row that cannot be used: its place, its first bad column, and what is wrong there.

    Args:
        arrays: what ``cells`` made of the columns.
        cells: what they mean.
        given: the columns.
    """
    if arrays.bad:
        wrong = np.any(list(arrays.bad.values()), axis=0)
        for row in np.flatnonzero(wrong).tolist():
            place = min(place for place, mask in arrays.bad.items() if mask[row])
            text = as_text(given[place].slice(row, 1))[0].as_py()
            yield row, cells.columns[place], cells.fault(cells.columns[place], text)


def places_by_name(names: Sequence[str], cells: Cells, where: str) -> list[int]:
    """Where each column of a schema is among the names of a file.

    Raises:
        RowError: one is not there, or there twice.
    """
    places = {name: place for place, name in enumerate(names)}
    wanted = {column.name for column in cells.columns}
    if len(places) < len(names):
        for place, name in enumerate(names):
            if name in wanted and places[name] != place:
                raise RowError(f"{where}: two columns have the name {quoted(name)}")
    for column in cells.columns:
        if column.name not in places:
            raise _lacking(column.name, names, where)
    return [places[column.name] for column in cells.columns]


def place_of(name: str, names: Sequence[str], where: str) -> int:
    """Where one column is among the names of a file.

    Raises:
        RowError: it is not there, or there twice.
    """
    if name not in names:
        raise _lacking(name, names, where)
    if names.count(name) > 1:
        raise RowError(f"{where}: two columns have the name {quoted(name)}")
    return names.index(name)


def _lacking(name: str, names: Sequence[str], where: str) -> RowError:
    more = ", ..." if len(names) > 8 else ""
    there = ", ".join(map(quoted, names[:8])) + more
    return RowError(f"{where}: there is no column {quoted(name)}, only {there}")
