"""A reader whose rows are made up, for ``scaling.py``: it costs next to nothing to read.

A data file holds one number, how many rows to give. The same block of random rows is given again
and again: a tenth of the columns is normal, the others are 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle.io import IterableDataset

from csv_blocks import Block
from hyper_parameters import HyperParameters

BLOCK_BYTES = 4 << 20


class RecDataset(IterableDataset):
    """Made-up rows by the hook of whole blocks.

    Args:
        file_list: the data files.
        config: flat config.
    """

    def __init__(self, file_list: Sequence[str], config: Mapping[str, Any]) -> None:
        super().__init__()
        self.files = file_list
        self.settings = HyperParameters.from_config(config)

    def blocks(self) -> Iterator[Block]:
        """As ``census_reader.RecDataset.blocks``."""
        features, labels = self._block()
        for file in self.files:
            rows = int(Path(file).read_text(encoding="utf-8"))
            for first in range(0, rows, len(features)):
                few = min(rows - first, len(features))
                yield Block(features[:few], labels[:few], file)

    def _block(self) -> tuple[np.ndarray, np.ndarray]:
        size, tasks = self.settings.feature_size, self.settings.task_num
        rng = np.random.default_rng(0)
        rows = max(1, BLOCK_BYTES // (4 * size))
        features = (rng.random((rows, size), dtype=np.float32) < 0.1).astype(np.float32)
        numeric = max(1, size // 10)
        features[:, :numeric] = rng.standard_normal((rows, numeric), dtype=np.float32)
        weights = rng.standard_normal((size, tasks), dtype=np.float32)
        return features, (features @ weights > 0).astype(np.float32)
