"""Files of a table as blocks of rows, in constant memory, parsed ahead in a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from csv_line import BadRows
from raw_tables.cells import Cells
from raw_tables.delimited import read_text
from raw_tables.parquet import is_parquet, read_parquet
from raw_tables.rows import Parsed
from raw_tables.schema import Schema


def read_blocks(
    files: Sequence[str | Path], schema: Schema, bad_rows: BadRows | None = None, threads: int = 2
) -> Iterator[dict[str, Any]]:
    """Read files one after another, in the order given.

    Args:
        files: delimited text, plain or gzip, or Parquet, told by what they hold.
        schema: what their columns are.
        bad_rows: a tally to skip bad rows into; None raises at the first.
        threads: parser threads.

    Yields:
        blocks of at least one row: ``features`` float32 ``[n, feature_size]``, ``labels`` float32
        ``[n, tasks]``, ``file``, and where the schema has them ``weights`` float32 ``[n]`` and
        ``groups`` int64 ``[n]``.

    Raises:
        RowError: a row that cannot be used, with file, line (in Parquet: row), column and value; a
            file that lacks a column or cannot be parsed.
        OSError: a file cannot be read.
    """
    bad_rows = bad_rows or BadRows()
    cells = Cells.of(schema)
    jobs = (
        job
        for file in map(str, files)
        for job in (read_parquet if is_parquet(file) else read_text)(file, cells)
    )
    ahead: deque[Future[Parsed]] = deque()
    direct = True
    with ThreadPoolExecutor(threads, thread_name_prefix="table") as pool:
        while True:
            for job in islice(jobs, threads + 1 - len(ahead)):
                ahead.append(pool.submit(job, bad_rows.cap, direct))
            if not ahead:
                return
            parsed = ahead.popleft().result()
            for message in parsed.bad:
                bad_rows.add(message)
            direct = direct and not parsed.indirect
            yield from parsed.blocks
