"""One pass over a person's files: how they are written, and what each column holds."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raw_tables.guess import guess_delimiter, guess_header, split_lines
from raw_tables.tally import Tally
from raw_tables.words import quoted

HEAD_BYTES = 1 << 18
BLOCK_BYTES = 4 << 20
BLOCK_ROWS = 1 << 15
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
        kinds: of each column, ``text``, or what Parquet files have instead: ``date``, ``bytes``.
        sample: some of the rows, evenly from all of them, as text.
        bad: the first lines that have another number of cells.
        bad_rows: how many there were.
    """

    files: Sequence[str]
    form: Form
    tallies: dict[str, Tally]
    kinds: dict[str, str]
    sample: pa.Table
    bad: list[str] = field(default_factory=list)
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
    found = Profile(files, form, {n: Tally(room) for n in form.names}, {}, pa.table({}))
    sampler = _Sampler()
    for file in files:
        own = look_at(file, named, form.delimiter or delimiter, form.header)
        _check_alike(own, form, file, files[0])
        for tally in found.tallies.values():
            tally.begin_file()
        for batch in _batches(file, own, found):
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
        TableError: see :func:`profile`.
    """
    start = _start(file)
    if start[:4] == b"PAR1":
        form = Form(tuple(pq.read_schema(file).names))
    else:
        text = _decoded(start, file)
        delimiter = delimiter or guess_delimiter(text)
        lines = split_lines(text, delimiter)
        if not lines:
            raise TableError(f"{file} is empty")
        if header is None:
            header = guess_header(lines, named)
        names = lines[0] if header else [f"c{i}" for i in range(1, len(lines[0]) + 1)]
        form = Form(tuple(names), delimiter, header)
    twice = [name for name, count in Counter(form.names).items() if count > 1]
    if twice:
        raise TableError(f"{file} has two columns of the name {quoted(twice[0])}")
    return form


def _start(file: str) -> bytes:
    """The first whole lines of a file, unpacked."""
    with open(file, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(file) if packed else open(file, "rb") as stream:
        try:
            start = stream.read(HEAD_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TableError(f"{file}: damaged gzip: {error}") from error
    cut = max(start.rfind(b"\n"), start.rfind(b"\r")) + 1
    return start[:cut] if cut and len(start) == HEAD_BYTES else start


def _decoded(start: bytes, file: str) -> str:
    try:
        return start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = start.count(b"\n", 0, error.start) + 1
        advice = "save the file as UTF-8"
        raise TableError(f"{file}, line {line}: not UTF-8 text; {advice}") from error


def _check_alike(form: Form, first: Form, file: str, first_file: str) -> None:
    lacking = [name for name in first.names if name not in form.names]
    if lacking and not form.header:
        counts = f"{len(form.names)} columns, {first_file} has {len(first.names)}"
        raise TableError(f"{file} has {counts}")
    if lacking:
        raise TableError(f"{file} has no column {quoted(lacking[0])}, which {first_file} has")


def _batches(file: str, form: Form, found: Profile) -> Iterator[pa.RecordBatch]:
    """The columns of the first file as text."""
    names = found.form.names
    if form.delimiter:
        yield from _text_batches(file, form, found)
        return
    parquet = pq.ParquetFile(file)
    for name in names:
        kind = _kind(parquet.schema_arrow.field(name).type, name, file)
        found.kinds.setdefault(name, kind)
    text = [name for name in names if found.kinds[name] != "bytes"]
    for batch in parquet.iter_batches(BLOCK_ROWS, columns=text):
        columns = [_as_text(batch.column(name)) if name in text else _none(batch) for name in names]
        yield pa.RecordBatch.from_arrays(columns, names=list(names))


def _kind(type_: pa.DataType, name: str, file: str) -> str:
    if pa.types.is_nested(type_):
        raise TableError(
            f"{file}: column {quoted(name)} is nested ({type_}), expected plain values"
        )
    if pa.types.is_temporal(type_):
        return "date"
    binary = pa.types.is_binary(type_) or pa.types.is_large_binary(type_)
    return "bytes" if binary or pa.types.is_fixed_size_binary(type_) else "text"


def _as_text(cells: pa.Array) -> pa.Array:
    return cells.cast(pa.string())


def _none(batch: pa.RecordBatch) -> pa.Array:
    return pa.nulls(batch.num_rows, pa.string())


def _text_batches(file: str, form: Form, found: Profile) -> Iterator[pa.RecordBatch]:
    def bad(row: pa.csv.InvalidRow) -> str:
        found.bad_rows += 1
        if len(found.bad) < 3:
            cells = f"{row.actual_columns} cells, expected {row.expected_columns}"
            found.bad.append(f"{file}: {row.text[:40]!r} has {cells}")
        return "skip"

    names = list(form.names)
    with open(file, "rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream = gzip.GzipFile(fileobj=plain) if packed else plain
        reader = pa.csv.open_csv(
            stream,
            pa.csv.ReadOptions(
                column_names=names, skip_rows=int(form.header), block_size=BLOCK_BYTES
            ),
            pa.csv.ParseOptions(delimiter=form.delimiter, invalid_row_handler=bad),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(found.form.names),
                strings_can_be_null=False,
            ),
        )
        yield from reader


class _Sampler:
    """Rows from everywhere in a table: those with the smallest of random draws."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._share = 1.0
        self._kept: list[pa.RecordBatch] = []
        self._draws: list[np.ndarray] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Take some of a batch's rows."""
        draws = self._rng.random(batch.num_rows)
        self._keep(batch, draws)
        while sum(map(len, self._draws)) > 2 * SAMPLE:
            self._share /= 2
            batches, all_draws = self._kept, self._draws
            self._kept, self._draws = [], []
            for one, its_draws in zip(batches, all_draws):
                self._keep(one, its_draws)

    def _keep(self, batch: pa.RecordBatch, draws: np.ndarray) -> None:
        places = np.flatnonzero(draws < self._share)
        self._kept.append(batch.take(pa.array(places)))
        self._draws.append(draws[places])

    def table(self) -> pa.Table:
        """The rows that were taken."""
        return pa.Table.from_batches(self._kept)
