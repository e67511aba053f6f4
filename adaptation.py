"""What a network learns of its rows before training: statistics of inputs and of targets."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from column_statistics import ColumnStatistics, NumericColumn
from hyper_parameters import HyperParameters
from input_encoding import learnt_state
from leaks import warn_of_leaks
from loss import neutral_target
from table_encoding import encode_rows, encoded_names, learnt_table
from table_settings import feature_names

LEAK_ROWS = 4096  # a chunk of rows, as a rule, and of one none is copied

Blocks = Iterable[Mapping[str, np.ndarray]]


def learns(settings: HyperParameters) -> bool:
    """Whether such a network learns anything of its rows."""
    encodes = settings.numeric_encoding != "none" or settings.table is not None
    return encodes or any(settings.regression)


def learn(blocks: Blocks, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Learn the network's statistics in one pass over the training rows; warn of leaks in them.

    As in the loss, a row of weight 2 counts as one that is there twice, and one of weight 0 not
    at all.

    Args:
        blocks: named arrays: ``features`` float32 ``[n, F]`` and, where targets are to be learnt
            or leaks to be looked for, ``labels`` float32 ``[n, T]``; ``weights`` float32 ``[n]`` of
            rows that have some.
        config: flat config.

    Returns:
        name to array, entries of the network's state dict.
    """
    settings = HyperParameters.from_config(config)
    if not learns(settings):
        return {}
    table = settings.table
    inputs = ColumnStatistics(blanks=table is not None)
    targets = {task: NumericColumn() for task in np.flatnonzero(settings.regression)}
    first: list[tuple[np.ndarray, np.ndarray]] = []
    left = LEAK_ROWS
    for block in map(_that_count, blocks):
        features, labels, weights = (block.get(k) for k in ("features", "labels", "weights"))
        assert features is not None
        inputs.add(features if table is None else features[:, : len(table.numbers)], weights)
        if labels is None:
            continue
        for task, column in targets.items():
            known = ~np.isnan(labels[:, task])
            column.add(labels[known, task], None if weights is None else weights[known])
        if left > 0:
            first.append((features[:left], labels[:left]))
            left -= len(features)
    how = settings.numeric_encoding, settings.piecewise_bins
    state = learnt_state(inputs, *how) if table is None else learnt_table(inputs, table, *how)
    if first:
        features, labels = (a[0] if len(a) == 1 else np.concatenate(a) for a in zip(*first))
        _warn_of_leaks(features, labels, state, settings, config)
    if targets:
        state.update(_target_state(targets, settings.task_num))
    return state


def _that_count(block: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The rows of a block that weigh something."""
    weights = block.get("weights")
    if weights is None or weights.all():
        return block
    return {name: array[weights > 0] for name, array in block.items()}


def _target_state(targets: Mapping[int, NumericColumn], task_num: int) -> dict[str, np.ndarray]:
    state = neutral_target(task_num)
    for task, column in targets.items():
        state["target.mean"][task] = column.mean
        state["target.std"][task] = column.std if column.std > 0 else 1.0
    return state


def _warn_of_leaks(
    features: np.ndarray,
    labels: np.ndarray,
    state: Mapping[str, np.ndarray],
    settings: HyperParameters,
    config: Mapping[str, Any],
) -> None:
    """Look at the first rows for features that tell a label; of ids only the codes are known."""
    table = settings.table
    if table is None:
        places = settings.feature_places
        names = feature_names(config) or [f"column {place}" for place in places]
    else:
        names = encoded_names(table)
        features = encode_rows(features, len(table.ids), state)[:, : len(names)]
    warn_of_leaks(features, names, labels, settings.task_names)


def training_blocks(config: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    """The training rows as named arrays, read by PaddleRec's contract alone."""
    folder = Path(config["config_abs_dir"], config["runner.train_data_dir"])
    files = sorted(str(f) for f in folder.iterdir() if f.is_file() and f.name[0] != ".")
    module = importlib.import_module(config.get("runner.train_reader_path", "reader"))
    dataset = module.RecDataset(files, config)
    by_index = not hasattr(dataset, "__iter__")
    rows = map(dataset.__getitem__, range(len(dataset))) if by_index else iter(dataset)
    settings = HyperParameters.from_config(config)
    tasks = settings.task_num
    while some := list(islice(rows, 1024)):
        labels = [[np.ravel(label)[0] for label in row[1 : 1 + tasks]] for row in some]
        features = np.stack([row[0] for row in some])
        block = {"features": features, "labels": np.asarray(labels, np.float32)}
        if settings.weighs_rows:
            block["weights"] = np.array([np.ravel(row[-1])[0] for row in some], np.float32)
        yield block
