"""A config for a table: sizes that suit its rows and columns, to begin with."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

# Learning rate and decay of config_bigdata.yaml and config_fast.yaml, at their batches and steps.
RATE, RATE_BATCH = 0.001, 32
DECAY = 7.5  # learning rate times decay times steps


def ready_config(
    rows: int,
    inputs: int,
    kinds: Collection[str],
    types: Collection[str],
    given: Mapping[str, Any],
    skips: bool = False,
) -> str:
    """The text of a config.

    Args:
        rows: of all training files.
        inputs: of the network.
        kinds: the kinds of column that there are.
        types: the types of the tasks.
        given: ``train_data_dir``, perhaps ``test_data_dir``, ``model_save_path`` and ``schema``, as
            they are to stand in it.
        skips: some rows cannot be read, and are to be left out.
    """
    batch = batch_size(rows)
    steps = max(1, round(0.8 * rows / batch))
    epochs = next(
        n for most, n in ((5_000, 40), (50_000, 20), (2_000_000, 10), (rows, 5)) if rows <= most
    )
    rate = float(f"{RATE * math.sqrt(batch / RATE_BATCH):.1g}")
    decay = float(f"{min(0.5, DECAY / (rate * steps * epochs)):.1g}")
    small = rows < 5_000
    bottom = 32 if small else 64 if inputs < 64 else 128
    name = given["model_save_path"]
    lines = [
        f"# {rows:,} rows, {inputs} inputs; written by tools/schema.py, yours to change.",
        "runner:",
        f"  train_data_dir: {_quoted(given['train_data_dir'])}",
        '  train_reader_path: "table_reader"',
        '  infer_reader_path: "table_reader"',
        f"  train_batch_size: {batch}",
        f"  infer_batch_size: {max(batch, 1024)}",
        "  shuffle: true",
        f"  epochs: {epochs}",
        f"  patience: {max(3, epochs // 8)}",
        f"  print_interval: {max(1, steps // 4)}",
        "  valid_share: 0.1",
        f"  monitor: {_quoted('auc' if 'binary' in types else 'mse')}",
    ]
    if "test_data_dir" in given:
        lines += [f"  test_data_dir: {_quoted(given['test_data_dir'])}"]
    else:
        lines += ["  test_share: 0.1  # of the rows, trained on by no one; or name other files:"]
        lines += ['  # test_data_dir: "..."']
    lines += ["  test_at_end: true"]
    if skips:
        lines += ["  bad_rows: skip"]
    lines += [
        f"  model_save_path: {_quoted(name)}",
        f"  infer_load_path: {_quoted(name)}",
        "  keep_checkpoints: 3",
        "  seed: 12345",
        "",
        "hyper_parameters:",
        f"  schema: {_quoted(given['schema'])}",
        f"  bottom_size: {bottom}",
        f"  tower_size: {8 if small else 16}",
        f"  bottom_dropout: {0.1 if rows > 2_000_000 else 0.3}",
    ]
    if "number" in kinds:
        encoding = "piecewise_linear" if rows >= 1_000 else "standard"
        lines += [f"  numeric_encoding: {_quoted(encoding)}"]
    lines += [
        "  optimizer:",
        '    class: "adamw"',
        f"    learning_rate: {rate}",
        f"    weight_decay: {decay}",
        '    schedule: "cosine"',
    ]
    return "\n".join(lines) + "\n"


def batch_size(rows: int) -> int:
    """About a hundredth of the rows, as a power of two: 32 of few rows, 512 of 50,000."""
    most = 512 if rows < 1_000_000 else 1024 if rows < 10_000_000 else 2048
    return min(max(32, 2 ** round(math.log2(max(rows, 1) / 100))), most)


def _quoted(text: str) -> str:
    """A text as YAML has it between double quotes."""
    return json.dumps(text, ensure_ascii=False)
