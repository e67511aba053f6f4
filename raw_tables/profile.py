"""One pass over a person's files: how they are written, and what each column holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from csv_text import count_lines
from raw_tables.cells import Cells, as_text, date_text, is_date, is_supported
from raw_tables.delimited import (
    MOST_COLUMNS,
    SLOW_BYTES,
    Layout,
    part_rows,
    problem_of,
    read_table,
)
from raw_tables.guess import guess_delimiter, guess_header, split_lines
from raw_tables.parquet import is_parquet, open_parquet, read_batches, told
from raw_tables.schema import Column, Schema
from raw_tables.tally import Tally
from raw_tables.text import Piece, read_pieces, read_row, whole_rows
from raw_tables.words import quoted

MOST_BAD = 100  # rows that cannot be read; a run skips as many by default
BATCH_BYTES = 8 << 20
SAMPLE = 8192  # rows, and up to twice as many
ROOM = 1 << 20  # values that all columns keep together
MOST_KEPT, LEAST_KEPT = 1 << 15, 1 << 11  # values that one column keeps


class TableError(ValueError):
    """Files of which no schema can be made; the message is one sentence."""

    user_error = True  # one sentence for the user, not a traceback


@dataclass
class Form:
    """How a file is written.

    Attributes:
        names: of its columns, in file order.
        delimiter: what parts the cells of a text file; empty: it is a Parquet file.
        header: the first line of a text file has the names.
    """

    names: tuple[str, ...]
    delimiter: str = ""
    header: bool = True


@dataclass
class Profile:
    """What some files hold.

    Attributes:
        files: their paths.
        form: how the first is written.
        tallies: of each column, by name.
        types: of columns of Parquet files that no text can be made of, by name.
        sample: some of the rows, evenly from all of them, as text.
        bad: what is wrong with the first row that cannot be read.
        bad_rows: how many such rows there are.
    """

    files: Sequence[str]
    form: Form
    tallies: dict[str, Tally]
    types: dict[str, pa.DataType]
    sample: pa.Table
    bad: str = ""
    bad_rows: int = 0

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return next(iter(self.tallies.values())).rows


def profile(
    files: Sequence[str],
    named: Collection[str] = (),
    delimiter: str | None = None,
    header: bool | None = None,
) -> Profile:
    """Read some files once, in bounded memory.

    Args:
        files: text with a delimiter, plain or gzip, or Parquet.
        named: the columns that a person named; they tell a header.
        delimiter: what parts the cells, by default told from the first file.
        header: whether the first line has the names, by default told from it.

    Raises:
        TableError: a file is empty, has two columns of one name, other columns than the first, or
            is not such a file.
        OSError: it cannot be read.
    """
    form = look_at(files[0], named, delimiter, header)
    room = min(max(ROOM // len(form.names), LEAST_KEPT), MOST_KEPT)
    found = Profile(files, form, {n: Tally(room) for n in form.names if n}, {}, pa.table({}))
    sampler = _Sampler()
    for file in files:
        own = look_at(file, named, form.delimiter or delimiter, form.header)
        _check_alike(own, form, file, files[0])
        for tally in found.tallies.values():
            tally.begin_file()
        for batch in _joined(_batches(file, own, found)):
            for name, tally in found.tallies.items():
                tally.add(batch.column(name))
            sampler.add(batch)
    if not found.rows:
        raise TableError(f"{files[0]} holds no rows, only the names of columns")
    found.sample = sampler.table()
    return found


def look_at(file: str, named: Collection[str], delimiter: str | None, header: bool | None) -> Form:
    """How a file is written.

    Raises:
        TableError: it is empty, or two columns have one name.
        RowError: it is damaged, or is neither text nor Parquet.
    """
    if is_parquet(file):
        with told(file), open_parquet(file) as opened:
            form = Form(tuple(opened.schema_arrow.names))
    else:
        form = _look_at_text(file, named, delimiter, header)
    for name, count in Counter(form.names).items():
        if count > 1 and name:
            raise TableError(f"{file} has two columns of the name {quoted(name)}")
    return form


def _look_at_text(
    file: str, named: Collection[str], delimiter: str | None, header: bool | None
) -> Form:
    # In lines, and not yet in rows: what would part these is not known.
    start = next((piece.data for piece in read_pieces(file, delimiter or "\n")), b"")
    text = start.decode("utf-8", "backslashreplace")
    delimiter = delimiter or guess_delimiter(text)
    lines = split_lines(text, delimiter)
    if not lines:
        raise TableError(f"{file} is empty")
    header = guess_header(lines, named) if header is None else header
    row = read_row(start, 0, delimiter.encode(), MOST_COLUMNS)
    names = [cell.strip(b" \t").decode("utf-8", "backslashreplace") for cell in row.cells]
    if not header:
        names = [f"c{place}" for place in range(1, len(names) + 1)]
    return Form(tuple(names), delimiter, header)


def _check_alike(form: Form, first: Form, file: str, first_file: str) -> None:
    lacking = [name for name in first.names if name not in form.names]
    if len(form.names) != len(first.names) and not form.header:
        counts = f"{len(form.names)} columns, {first_file} has {len(first.names)}"
        raise TableError(f"{file} has {counts}")
    if lacking:
        raise TableError(f"{file} has no column {quoted(lacking[0])}, which {first_file} has")


def _joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Larger batches: of each, every column costs some time whatever its size."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.nbytes for one in held) >= BATCH_BYTES:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _batches(file: str, form: Form, found: Profile) -> Iterator[pa.RecordBatch]:
    """The columns of the first file, as text."""
    names = list(found.tallies)
    if form.delimiter:
        yield from _text_batches(file, form, names, found)
        return
    with told(file), open_parquet(file) as opened:
        types = {name: opened.schema_arrow.field(name).type for name in names}
    found.types.update({n: t for n, t in types.items() if not is_supported(t)})
    usable = [name for name in names if name not in found.types]
    dates = [name for name, kind in types.items() if is_date(kind)]
    for batch in read_batches(file, [*usable, *dates], usable):
        columns = [pa.nulls(len(batch), pa.string())] * len(names)
        for place, name in enumerate(names):
            if name in usable:
                columns[place] = as_text(batch.column(name))
            elif name in dates:  # to be shown, not to be read
                columns[place] = date_text(batch.column(name))
        yield pa.RecordBatch.from_arrays(columns, names)


def _text_batches(
    file: str, form: Form, names: list[str], found: Profile
) -> Iterator[pa.RecordBatch]:
    columns = tuple(Column(name, "number") for name in names)  # read as plain text
    cells = Cells.of(Schema(columns, delimiter=form.delimiter, header=form.header))
    layout = Layout(file, cells, form.names, tuple(form.names.index(name) for name in names))
    for number, piece in enumerate(read_pieces(file, form.delimiter)):
        if number == 0 and form.header:
            end = read_row(piece.data, 0, layout.delimiter, 0).end
            line = piece.line + count_lines(piece.data[:end])
            piece = piece._replace(data=piece.data[end:], line=line)
        for arrays in _arrays(piece, layout, found):
            yield pa.RecordBatch.from_arrays(arrays, names)


def _arrays(piece: Piece, layout: Layout, found: Profile) -> Iterator[list[pa.Array]]:
    """The columns of a piece; where some rows cannot be read, in parts, without these."""
    if piece.problem:
        _note_bad(found, f"{layout.file}:{piece.line}: {problem_of(piece, layout).said}")
        return
    table = read_table(piece, layout, direct=False)
    cut = whole_rows(piece.data[: len(piece.data) // 2], layout.delimiter)
    if table is not None:
        for batch in table.combine_chunks().to_batches():
            yield [batch.column(str(place)) for place in layout.places]
    elif len(piece.data) <= SLOW_BYTES or piece.wild or not cut:
        _, columns, bad = part_rows(piece, layout, MOST_BAD)
        for line, said in bad:
            _note_bad(found, f"{layout.file}:{line}: {said}")
        yield [pa.array(column, pa.string()) for column in columns]
    else:
        line = piece.line + count_lines(piece.data[:cut])
        yield from _arrays(piece._replace(data=piece.data[:cut]), layout, found)
        yield from _arrays(piece._replace(data=piece.data[cut:], line=line), layout, found)


def _note_bad(found: Profile, message: str) -> None:
    found.bad_rows += 1
    found.bad = found.bad or message
    if found.bad_rows > MOST_BAD:
        raise TableError(f"more than {MOST_BAD} rows cannot be read, the first is {found.bad}")


class _Sampler:
    """Rows from everywhere in a table: those with the smallest of random draws."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._share = 1.0
        self._kept: list[pa.RecordBatch] = []
        self._draws: list[np.ndarray] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Take some of the rows of a batch."""
        self._keep(batch, self._rng.random(batch.num_rows))
        while sum(map(len, self._draws)) > 2 * SAMPLE:
            self._share /= 2
            batches, all_draws = self._kept, self._draws
            self._kept, self._draws = [], []
            for one, draws in zip(batches, all_draws):
                self._keep(one, draws)

    def _keep(self, batch: pa.RecordBatch, draws: np.ndarray) -> None:
        places = np.flatnonzero(draws < self._share)
        self._kept.append(batch.take(pa.array(places)))
        self._draws.append(draws[places])

    def table(self) -> pa.Table:
        """The rows that were taken."""
        return pa.Table.from_batches(self._kept)
