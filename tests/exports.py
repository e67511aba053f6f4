"""Real checkpoints and export folders for tests, each made once in a process when it is asked for.

numeric   the bundled rows of 499 numbers
raw       the bundled raw rows: numbers and categories, no header
shop      a table with ids, blanks, labels that are not always known, and a regression
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from helpers import CONFIG, ROOT, make_model_dir, override, run_cases

sys.path.append(str(ROOT / "benchmarks"))
from shop_rows import write_shop

Line = tuple[str, str, Sequence[object]]  # of ``run_cases``
KINDS = ("numeric", "raw", "shop")
SHOP = """
columns:
  - {name: user_id, kind: id, buckets: 300, embedding: 4, group: true}
  - {name: city, kind: category, values: [Berlin, Lima, 北京], other: true, missing: true}
  - {name: device, kind: category, values: [phone, tablet, desktop, tv]}
  - {name: category, kind: category, values: [shoes S, books L, tea M, lamps S], other: true}
  - {name: age, kind: number, missing: true}
  - {name: price, kind: number}
  - {name: referrer, kind: id, buckets: 50, embedding: 2}
  - {name: signup, kind: ignore}
  - {name: w, kind: weight}
  - {name: click, kind: label}
  - {name: buy, kind: label, missing: true}
  - {name: price_paid, kind: label, type: regression, missing: true}
"""


class Trained(NamedTuple):
    """A checkpoint.

    Attributes:
        config: its config.
        folder: ``runner.infer_load_path``.
        options: of a command line, ``-o`` and what the tools need to find the checkpoint.
        test: file of the rows to test on.
    """

    config: Path
    folder: Path
    options: list[str]
    test: Path


@cache
def trained(kind: str = "numeric", graph: str = "dygraph") -> Trained:
    """A checkpoint, trained for an epoch: of epoch 0.

    Args:
        kind: see the module.
        graph: ``dygraph`` or ``static``.
    """
    made = _place(kind, graph)
    if not made.folder.is_dir():
        _succeed(_training(made, graph))
    return made


@cache
def export_of(kind: str = "numeric", graph: str = "dygraph", formats: str = "both") -> Path:
    """An export folder, read-only for tests: copy it before you change it.

    Args:
        kind: see the module.
        graph: ``dygraph`` or ``static``.
        formats: ``paddle``, ``onnx`` or ``both``.
    """
    folder, line = _exporting(trained(kind, graph), formats)
    if not folder.is_dir():
        _succeed(line)
    return folder


def make_all(cases: Iterable[tuple[str, str]]) -> None:
    """Train and export some kinds on some graphs in one process; each new one takes a second."""
    lines = []
    for kind, graph in cases:
        made = _place(kind, graph)
        folder, line = _exporting(made, "both")
        lines += [] if made.folder.is_dir() else [_training(made, graph)]
        lines += [] if folder.is_dir() else [line]
    _succeed(*lines)


def _place(kind: str, graph: str) -> Trained:
    """Where a checkpoint is, or is going to be."""
    folder = _folder() / f"{kind}_{graph}"
    config, test = _config(kind)
    ranges = ["runner.infer_start_epoch=null", "runner.infer_end_epoch=null"]
    return Trained(config, folder, [*override(infer_load_path=folder), *ranges], test)


def _training(made: Trained, graph: str) -> Line:
    train = [*made.options, *override(model_save_path=made.folder, epochs=1)]
    return "train", graph, ["-m", made.config, *train]


def _exporting(made: Trained, formats: str) -> tuple[Path, Line]:
    folder = made.folder.with_name(f"{made.folder.name}_{formats}_export")
    line = ["-m", made.config, "--format", formats, "--out", folder, *made.options]
    return folder, ("export", "", line)


@cache
def _config(kind: str) -> tuple[Path, Path]:
    """Config and test rows of a kind."""
    if kind == "numeric":
        return CONFIG, ROOT / "data/test/test_data.txt"
    if kind == "raw":
        return ROOT / "config_raw.yaml", next((ROOT / "data/raw/test").iterdir())
    folder = _folder() / "shop"
    runner = {"train_data_dir": "train.csv", "test_data_dir": "test.csv", "print_interval": 100}
    runner.update(train_reader_path="table_reader", train_batch_size=64, infer_batch_size=100)
    hyper = {"schema": "schema.yaml", "bottom_size": [16, 8], "tower_size": [8, 4]}
    config = make_model_dir(folder, runner, {**hyper, "numeric_encoding": "piecewise_linear"})
    (folder / "schema.yaml").write_text(SHOP, encoding="utf-8")
    write_shop(folder, rows=2000)
    return config, folder / "test.csv"


def _succeed(*lines: Line) -> None:
    for result in run_cases(lines, cwd=_folder()):
        assert result.status == 0, result.stderr


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="exports-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
