"""The hooks: methods that a model directory may have beyond PaddleRec's contract.

``doc/model_directory.md`` explains each with an example. This module alone knows which there are
and whether a directory has one; ``guard.py`` knows how its code is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.contract.guard import call, check_returned


class Hook(NamedTuple):
    """A method that a model directory may have.

    Attributes:
        meaning: what it gives or does.
        expected: what it should return, for a sentence; empty where anything will do.
        fits: whether something returned is that.
    """

    meaning: str
    expected: str = ""
    fits: Callable[[Any], bool] = lambda value: True


def _are_names(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and _are_names(list(value[1]))


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_arrays(value: Any) -> bool:
    return _is_dict(value) and all(isinstance(array, np.ndarray) for array in value.values())


def _are_types(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(kind in TASK_TYPES for kind in value)


def _are_indices(value: Any) -> bool:
    kinds = (int, np.integer, slice)
    return _is_dict(value) and all(isinstance(index, kinds) for index in value.values())


def _is_json(value: Any) -> bool:
    try:
        return _is_dict(value) and bool(json.dumps(value))
    except (TypeError, ValueError):
        return False


def _are_columns(value: Any) -> bool:
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        return False
    columns, values = value
    arrays = isinstance(columns, np.ndarray) and isinstance(values, np.ndarray)
    whole = arrays and columns.ndim == 1 and columns.dtype.kind in "iu"
    return whole and values.ndim == 2 and values.shape[1] == len(columns)


TASK_TYPES = ("binary", "regression")
HOOKS = {
    # of RecDataset
    "blocks": Hook(
        "yields rows as large named arrays", "blocks", lambda value: isinstance(value, Iterable)
    ),
    "skipped_rows": Hook("rows that the last pass left out", "a number and a list", _is_count),
    "cache_key": Hook("what decides the rows that come out of the same files"),
    "columns": Hook("what the columns of the rows are", "a dict that JSON can hold", _is_json),
    # of DygraphModel and StaticModel
    "task_names": Hook("names of the tasks, in order", "a list of names", _are_names),
    "task_types": Hook(
        "what each task is, all binary without it", "a list of binary or regression", _are_types
    ),
    "weighs_rows": Hook(
        "whether loss_and_log_odds takes weights of rows",
        "True or False",
        lambda value: isinstance(value, bool),
    ),
    "encode": Hook("what no training step changes, done once for many batches"),
    "encode_columns": Hook(
        "the columns that encode changes or adds, computed without Paddle",
        "indices of columns and an array of them, [k] and [n, k]",
        _are_columns,
    ),
    "loss_and_log_odds": Hook("scalar loss and log-odds [T, N, 1] of a batch"),
    "scoring_weights": Hook(
        "what score_rows needs of a state dict", "a dict of arrays", _are_arrays
    ),
    "score_rows": Hook("log-odds [N, T] of a batch of raw rows"),
    "onnx_model": Hook(
        "the network as an ONNX model, made of what scoring_weights gives",
        "an onnx.ModelProto",
        lambda value: hasattr(value, "SerializeToString") and hasattr(value, "graph"),
    ),
    "adapt": Hook("weights that are learnt from the training features", "a dict", _is_dict),
    "adapt_blocks": Hook(
        "the same from all arrays of the training rows, in place of adapt", "a dict", _is_dict
    ),
    "weights_of_task": Hook(
        "the weights, or slices of them along the first axis, that are of one task alone",
        "a dict of an index or a slice for each weight",
        _are_indices,
    ),
    "convert_state_dict": Hook("a state dict with this network's keys", "a dict", _is_dict),
    "resolved_settings": Hook("what hyper-parameters mean, defaults too", "a dict", _is_dict),
    # of StaticModel
    "build_layer": Hook("puts the network's parameters into the current program"),
    "make_optimizer": Hook(
        "the optimizer, not yet applied", "an optimizer", lambda value: hasattr(value, "minimize")
    ),
    "create_data_loader": Hook("its own loader, for reader_type: CustomizeDataLoader"),
}
READING_BLOCKS = ("task_names", "encode", "loss_and_log_odds")
SCORING_ROWS = ("scoring_weights", "score_rows")


def has(owner: Any, *hooks: str) -> bool:
    """Whether a model or reader, or its class, has all of some hooks."""
    assert HOOKS.keys() >= set(hooks)
    return all(callable(getattr(owner, hook, None)) for hook in hooks)


def call_hook(owner: Any, hook: str, *arguments: Any, default: Any = None) -> Any:
    """Call a hook where it is there.

    Args:
        owner: the model or reader.
        hook: one of :data:`HOOKS`.
        arguments: its arguments.
        default: given back where the directory does not have it.

    Raises:
        UserError: it failed, or returned what does not fit; names file, class and method.
    """
    if not has(owner, hook):
        return default
    value = call(owner, hook, *arguments)
    check_returned(owner, hook, value, HOOKS[hook].fits(value), HOOKS[hook].expected)
    return value


def reads_blocks(model: Any, reader: Any) -> bool:
    """Whether a model and a reader class have the hooks with which rows go through in blocks."""
    return has(model, *READING_BLOCKS) and has(reader, "blocks")
