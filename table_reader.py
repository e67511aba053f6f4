"""Reader of raw tables: text, numbers, blanks and ids, as a schema names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from paddle.io import IterableDataset, get_worker_info

from csv_line import BadRows
from raw_tables.description import describe as describe
from raw_tables.read import read_blocks
from raw_tables.schema import Schema, SchemaError, configured_schema, difference

# To be raised with any change of what is read from the same file by the same schema.
VERSION = 1


class RecDataset(IterableDataset):
    """Rows of a person's own table.

    Iterating gives one row at a time, as PaddleRec's tools want it:
    ``[features float32 [feature_size], label [1] of each task]``, labels int64 where all are 0 or
    1, float32 where one is a number or may be missing (NaN); and last, where the schema has it,
    ``weight float32 [1]``. :meth:`blocks` gives the same rows as large arrays, many times faster.

    Args:
        file_list: paths of files, delimited text (plain or gzip) or Parquet; read in sorted order.
        config: flat config; ``hyper_parameters.schema`` names the schema, and ``columns``, where
            it is there, is what :meth:`columns` was when the model was trained.

    Raises:
        SchemaError: no schema, one that cannot be used, or another than the model's.
    """

    def __init__(self, file_list: Sequence[str], config: Mapping[str, Any]) -> None:
        super().__init__()
        schema = configured_schema(config)
        if schema is None:
            raise SchemaError("hyper_parameters.schema is missing: table_reader reads by a schema")
        self.file_list = sorted(file_list)
        self.schema = schema
        self._columns = _matched(config, schema)
        skip = config.get("runner.bad_rows") == "skip"
        self.bad_rows_cap = config.get("runner.bad_rows_cap", 100) if skip else 0
        self._bad_rows = BadRows()

    def blocks(self) -> Iterator[dict[str, Any]]:
        """Hook: stream the files once.

        Yields:
            ``features`` float32 ``[n, feature_size]``, ``labels`` float32 ``[n, task_num]`` (NaN:
            not known), ``file``, and where the schema has them ``weights`` float32 ``[n]`` and
            ``groups`` int64 ``[n]``.

        Raises:
            RowError: a row that cannot be used, with file, line, column and value.
        """
        self._bad_rows = BadRows(self.bad_rows_cap)
        return read_blocks(self.file_list, self.schema, self._bad_rows)

    def skipped_rows(self) -> tuple[int, list[str]]:
        """Hook: how many rows the last pass left out, and what was wrong with the first ten."""
        return self._bad_rows.count, list(self._bad_rows.first)

    def cache_key(self) -> list[Any]:
        """Hook: what decides the rows that come out of the same files."""
        return ["table", VERSION, self.schema.checksum]

    def columns(self) -> dict[str, Any]:
        """Hook: what the columns of the rows are; as when the model was trained, where it was."""
        return self._columns

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        whole = not self.schema.blank_labels and "regression" not in self.schema.task_types
        first = 0
        for block in self.blocks():
            features = block["features"]
            labels = block["labels"].astype(np.int64 if whole else np.float32)
            columns = [*labels.T, block["weights"]] if "weights" in block else [*labels.T]
            # Each DataLoader worker takes every num_workers-th row of the whole stream.
            for row in range((start - first) % step, len(labels), step):
                yield [features[row], *(column[row : row + 1] for column in columns)]
            first += len(labels)


def _matched(config: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """What the columns are: what the model was trained with, where the schema's rows are such rows.

    Raises:
        SchemaError: they are not.
    """
    own: dict[str, Any] = {"schema": schema.as_dict(), "checksum": schema.checksum}
    trained = config.get("columns")
    if trained is None:
        return own
    name = f"schema {config['hyper_parameters.schema']}"
    was = trained.get("schema") if isinstance(trained, Mapping) else None
    if not isinstance(was, Mapping):
        raise SchemaError(f"{name}: the model was trained on rows that no schema was given for")
    found = difference(was, own["schema"])
    if found:
        raise SchemaError(f"{name} is not the one that the model was trained with: {found}")
    return dict(trained)
