"""Scores of every row, for people and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rec_runner.system.files import atomic_write


def write_predictions(file: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write ``label_<task>,probability_<task>,…`` of every row, whole or not at all.

    What is NaN, a label that is not known, is an empty cell.
    The folder has to be there: that of a checkpoint, which a training run may prune meanwhile.
    """
    import pyarrow.csv  # 30 ms, and no other part of the tools has use for it

    with atomic_write(file, make_folder=False) as stream:
        # "From pandas" means that NaN is nothing.
        arrays = {k: pyarrow.array(values, from_pandas=True) for k, values in columns.items()}
        pyarrow.csv.write_csv(pyarrow.table(arrays), stream)
