"""Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rec_runner.rows_out.table import Encoder, Predicted

GROUP_ROWS = 1 << 16  # rows of a group, and so of what waits in memory


class ParquetEncoder(Encoder):
    """A Parquet file: kept columns as text, predictions as float32, null where there is none."""

    def __init__(self, kept: Sequence[str], tasks: Sequence[str]) -> None:
        super().__init__(kept, tasks)
        fields = [(name, pa.string()) for name in kept] + [(name, pa.float32()) for name in tasks]
        self._schema = pa.schema(fields)
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema)
        self._waiting: list[pa.RecordBatch] = []

    def rows(self, predicted: Predicted) -> bytes:
        """What the writer has made by now."""
        batch = pa.record_batch(predicted.columns(), schema=self._schema)
        self._waiting.append(batch)
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            self._write()
        return self._sink.take()

    def end(self) -> bytes:
        """The last rows, and what a file ends in."""
        self._write()
        self._writer.close()
        return self._sink.take()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()


class _Sink(io.RawIOBase):
    """Takes what is written, until it is asked for."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._place += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._place

    def take(self) -> bytes:
        """All that was written since the last time."""
        made = b"".join(self._pieces)
        self._pieces.clear()
        return made
