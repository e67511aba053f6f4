"""Subnormal numbers count as zero: Intel's processors are faster then, and no weight differs."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import make_model_dir, override, run_cases, write_table

from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.weights import load_weights

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "aarch64"),
    reason="only Linux on these processors lets a process choose",
)

ROWS = 1200
TINY = np.finfo(np.float32).tiny  # the smallest normal number
RUNNER = {
    "train_data_dir": "train",
    "train_reader_path": "telling_reader",
    "train_batch_size": 1,
    "epochs": 1,
    "print_interval": 500,
}
HYPER = {"feature_size": 4, "task_names": ["a"], "label_columns": [0], "bottom_size": 5}

# Notes in a file whether the process that reads flushes.
TELLING_READER = """
import os
from pathlib import Path

import numpy as np
from census_reader import RecDataset as Rows

class RecDataset(Rows):
    def tell(self):
        flushes = not (np.full(9, 1e-38, np.float32) * np.float32(1e-3)).any()
        with Path(__file__).with_name("told").open("a") as file:
            file.write(f"{os.getpid()} {flushes}\\n")

    def blocks(self):
        self.tell()
        yield from super().blocks()

    def __iter__(self):
        self.tell()
        yield from super().__iter__()
"""
# The same without blocks(), so that rows come from workers.
ROW_READER = """
from paddle.io import IterableDataset
from telling_reader import RecDataset as Telling

class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        self.rows = Telling(file_list, config)

    def __iter__(self):
        yield from self.rows
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory; one input is seen in the first row only, so its moments decay."""
    folder = tmp_path_factory.mktemp("denormals")
    rng = np.random.default_rng(5)
    table = np.hstack([rng.integers(0, 2, (ROWS, 1)), rng.normal(size=(ROWS, 4))])
    table[:, 4] = np.arange(ROWS) == 0
    write_table(folder / "train" / "a.txt", table)
    make_model_dir(folder, RUNNER, HYPER)
    (folder / "telling_reader.py").write_text(TELLING_READER)
    (folder / "row_reader.py").write_text(ROW_READER)
    return folder


def subnormal(state: dict[str, np.ndarray]) -> int:
    """How many numbers of a state are."""
    floats = [a for a in state.values() if isinstance(a, np.ndarray) and a.dtype == np.float32]
    bits = np.concatenate([array.ravel() for array in floats]).view(np.uint32) & 0x7FFFFFFF
    return int(((bits > 0) & (bits < np.float32(TINY).view(np.uint32))).sum())


@pytest.mark.parametrize("graph", ["dygraph", "static"])
def test_no_weight_differs_where_moments_would_be_subnormal(home: Path, graph: str) -> None:
    runs = {"flushed": {}, "kept": {"flush_denormals": "false"}}
    lines = [
        ("train", graph, ["-m", "config.yaml", *override(model_save_path=f"{graph}_{name}", **o)])
        for name, o in runs.items()
    ]
    for result in run_cases(lines, home):
        assert result.status == 0, result.stderr
        assert "subnormal" not in result.stderr
    flushed, kept = (home / f"{graph}_{name}" / "0" for name in runs)
    assert subnormal(load_arrays(flushed / "rec.pdopt")) == 0
    assert subnormal(load_arrays(kept / "rec.pdopt")) > 0  # else this test would say nothing
    weights = load_weights(flushed)
    assert {k: v.tobytes() for k, v in load_weights(kept).items()} == {
        name: array.tobytes() for name, array in weights.items()
    }


def test_a_run_and_its_workers_flush_unless_told_not_to(home: Path) -> None:
    options = [
        ({}, "True"),
        ({"flush_denormals": "false"}, "False"),
        ({"train_reader_path": "row_reader", "num_workers": 2, "train_batch_size": 400}, "True"),
    ]
    processes = set()
    for given, flushes in options:
        (home / "told").unlink(missing_ok=True)
        arguments = ["-m", "config.yaml", *override(model_save_path="told_out", **given)]
        (result,) = run_cases([("train", "dygraph", arguments)], home)
        assert result.status == 0, result.stderr
        told = [line.split() for line in (home / "told").read_text().splitlines()]
        assert told and {said for _, said in told} == {flushes}, given
        processes = {process for process, _ in told}
    assert len(processes) >= 2  # the last time, from workers
