"""Reader of comma-separated rows: label columns and features, as the config names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from paddle.io import IterableDataset, get_worker_info

from csv_blocks import BadRows, Block, Layout, read_blocks
from hyper_parameters import HyperParameters

# The files that UCI gives out have 42 columns, the encoded ones 501.
_RAW_CENSUS = "; this looks like the raw Census file, which datasets/census/prepare.py encodes"
_HINTS = {(42, 501): _RAW_CENSUS}


class RecDataset(IterableDataset):
    """Rows of Census, or of a person's own files of the same kind.

    Iterating gives one row at a time, as PaddleRec's tools want it:
    ``[features float32 [feature_size], label int64 [1] of each task]``. :meth:`blocks` gives the
    same rows as large arrays, many times faster.

    Args:
        file_list: paths of text files (plain or gzip); read in sorted order.
        config: flat config; ``hyper_parameters.feature_size``, ``.task_names`` and
            ``.label_columns`` say what the columns are.
    """

    def __init__(self, file_list: Sequence[str], config: Mapping[str, Any]) -> None:
        super().__init__()
        settings = HyperParameters.from_config(config)
        self.file_list = sorted(file_list)
        self.layout = Layout(settings.feature_size, settings.label_columns, _HINTS)
        skip = config.get("runner.bad_rows") == "skip"
        self.bad_rows_cap = config.get("runner.bad_rows_cap", 100) if skip else 0
        self._bad_rows = BadRows()

    def blocks(self) -> Iterator[Block]:
        """Hook: stream the files once.

        Yields:
            ``(features float32 [n, feature_size], labels float32 [n, task_num], file)``.

        Raises:
            RowError: a row that cannot be used, with file, line, column and value.
        """
        self._bad_rows = BadRows(self.bad_rows_cap)
        return read_blocks(self.file_list, self.layout, self._bad_rows)

    def skipped_rows(self) -> tuple[int, list[str]]:
        """Hook: how many rows the last pass left out, and what was wrong with the first ten."""
        return self._bad_rows.count, list(self._bad_rows.first)

    def cache_key(self) -> list[Any]:
        """Hook: what decides the rows that come out of the same files."""
        return [self.layout.feature_size, list(self.layout.label_columns)]

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        first = 0
        for features, labels, _ in self.blocks():
            labels = labels.astype(np.int64)
            # Each DataLoader worker takes every num_workers-th row of the whole stream.
            for row in range((start - first) % step, len(labels), step):
                yield [features[row], *labels[row, :, np.newaxis]]
            first += len(labels)
