"""A config for a table: sizes that suit its rows and columns, to begin with."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

# Learning rate and decay of config_bigdata.yaml and config_fast.yaml, at their batches and steps.
RATE, RATE_BATCH = 0.001, 32
# Ids are learned by heart at a rate that grows with the batch, and where all are seen in training:
# the shop of benchmarks/shop.py gains 0.02 to 0.03 of AUC.
ID_DROPOUT = 0.3
DECAY, MOST_DECAY = 7.5, 0.5  # learning rate times decay times steps
SMALL, LARGE = 5_000, 2_000_000  # rows
EPOCHS = ((SMALL, 40), (50_000, 20), (LARGE, 10))


class Table(NamedTuple):
    """What a config depends on.

    Attributes:
        rows: of all training files.
        inputs: of the network.
        kinds: the kinds that its features are of.
        types: the types of its tasks.
        skips: some rows cannot be read, and are to be left out.
    """

    rows: int
    inputs: int
    kinds: Collection[str]
    types: Collection[str]
    skips: bool


def ready_config(table: Table, given: Mapping[str, str]) -> str:
    """The text of a config.

    Args:
        table: what the rows are.
        given: what is to stand in it: ``train_data_dir``, perhaps ``test_data_dir``,
            ``model_save_path`` and ``schema``.
    """
    batch = batch_size(table.rows)
    steps = max(1, round(0.8 * table.rows / batch))
    epochs = next((number for most, number in EPOCHS if table.rows <= most), 5)
    about = f"# {table.rows:,} rows, {table.inputs} inputs; written by tools/schema.py"
    lines = [f"{about}, yours to change.", "runner:", *_runner(table, given, batch, steps, epochs)]
    lines += ["", "hyper_parameters:", f"  schema: {_quoted(given['schema'])}"]
    return "\n".join([*lines, *_network(table, batch, steps * epochs)]) + "\n"


def _runner(
    table: Table, given: Mapping[str, str], batch: int, steps: int, epochs: int
) -> list[str]:
    lines = [
        f"train_data_dir: {_quoted(given['train_data_dir'])}",
        'train_reader_path: "table_reader"',
        f"train_batch_size: {batch}",
        "shuffle: true",
        f"epochs: {epochs}",
        f"print_interval: {max(1, steps // 4)}",
        f"model_save_path: {_quoted(given['model_save_path'])}",
        "keep_checkpoints: 3",
        "",
        "valid_share: 0.1  # of the rows, to choose the best epoch by",
        f"monitor: {_quoted('auc' if 'binary' in table.types else 'mse')}",
        f"patience: {max(3, epochs // 8)}",
        "",
    ]
    if "test_data_dir" in given:
        lines += [f"test_data_dir: {_quoted(given['test_data_dir'])}"]
    else:
        lines += ["test_share: 0.1  # of the rows; or, of other files, test_data_dir"]
    lines += [
        "test_at_end: true",
        'infer_reader_path: "table_reader"',
        f"infer_batch_size: {max(batch, 1024)}",
        f"infer_load_path: {_quoted(given['model_save_path'])}  # infer takes the best epoch",
        "",
        *(["bad_rows: skip"] if table.skips else []),
        "seed: 12345",
    ]
    return [f"  {line}".rstrip() for line in lines]


def _network(table: Table, batch: int, steps: int) -> list[str]:
    ids = "id" in table.kinds
    rate = RATE if ids else float(f"{RATE * math.sqrt(batch / RATE_BATCH):.1g}")
    small, large = table.rows < SMALL, table.rows > LARGE
    lines = [
        f"bottom_size: {32 if small else 64 if table.inputs < 64 else 128}",
        f"tower_size: {8 if small else 16}",
        f"bottom_dropout: {0.1 if large else 0.3}",
    ]
    if ids:
        lines += [f"id_dropout: {ID_DROPOUT}"]
    if "number" in table.kinds:
        bins = table.rows >= 1_000
        lines += [f"numeric_encoding: {_quoted('piecewise_linear' if bins else 'standard')}"]
    lines += [
        "optimizer:",
        '  class: "adamw"',
        f"  learning_rate: {rate}",
        f"  weight_decay: {float(f'{min(MOST_DECAY, DECAY / (rate * steps)):.1g}')}",
        '  schedule: "cosine"',
    ]
    return [f"  {line}" for line in lines]


def batch_size(rows: int) -> int:
    """About a hundredth of the rows, as a power of two: 32 of few rows, 512 of 50,000."""
    most = 512 if rows < 1_000_000 else 1024 if rows < 10_000_000 else 2048
    return min(max(32, 2 ** round(math.log2(max(rows, 1) / 100))), most)


def _quoted(text: str) -> str:
    """A text as YAML has it between double quotes."""
    return json.dumps(text, ensure_ascii=False)
