"""PaddleRec's weights of this model, and the names they go by there."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from hyper_parameters import HyperParameters
from input_encoding import neutral_state


class WeightsError(ValueError):
    """PaddleRec's weights, but not of such a network."""

    user_error = True  # one sentence for the user, not a traceback


def convert_state_dict(
    state: Mapping[str, np.ndarray], settings: HyperParameters
) -> dict[str, np.ndarray]:
    """Make a state dict with PaddleRec's keys of this model ours; one with our keys passes through.

    PaddleRec holds one Linear per task (``tower_0.weight``, ``tower_out_0.weight``, …), the bottom
    twice (``bottom.weight`` and ``_param_bottom.…``), and feeds it raw columns: the encoding of
    ``settings`` becomes one that leaves them raw.

    Args:
        state: name to array.
        settings: of the network to load it into.

    Returns:
        name to array, keys of :meth:`net.ShareBottomLayer.state_dict`.

    Raises:
        WeightsError: an array is missing, the tasks' shapes differ, or the network takes rows of a
            table.
    """
    if not {"bottom.weight", "tower_0.weight"} <= state.keys():
        return dict(state)
    if settings.table is not None:
        raise WeightsError(
            "it has PaddleRec's weights, of rows of numbers, and this config's rows are of a "
            "table, by hyper_parameters.schema"
        )
    task_num = sum(re.fullmatch(r"tower_\d+\.weight", key) is not None for key in state)
    layers = [f"{kind}_{task}" for kind in ("tower", "tower_out") for task in range(task_num)]
    for layer in ("bottom", *layers):
        for key in (f"{layer}.weight", f"{layer}.bias"):
            if key not in state:
                raise WeightsError(f"it has PaddleRec's bottom.weight, but no {key}")
    kind, bins = settings.numeric_encoding, settings.piecewise_bins
    weight, shape = state["bottom.weight"], (settings.feature_size, settings.bottom_size[0])
    if weight.shape != shape:  # what is made of it is far larger with piecewise_linear
        raise WeightsError(
            f"bottom.weight has shape {list(weight.shape)}, this config's network has {list(shape)}"
        )
    converted = neutral_state(len(weight), kind, bins)
    if kind == "piecewise_linear":
        weight = np.concatenate([weight, np.zeros((bins, *weight.shape[1:]), weight.dtype)])
    converted.update({"bottom.0.weight": weight, "bottom.0.bias": state["bottom.bias"]})
    for theirs, ours in (("tower", "tower.0"), ("tower_out", "out")):
        converted[f"{ours}.weight"] = _stacked(state, theirs, "weight", task_num)
        converted[f"{ours}.bias"] = _stacked(state, theirs, "bias", task_num)[:, np.newaxis]
    return converted


def _stacked(state: Mapping[str, np.ndarray], layer: str, kind: str, task_num: int) -> np.ndarray:
    arrays = {f"{layer}_{task}.{kind}": state[f"{layer}_{task}.{kind}"] for task in range(task_num)}
    first, shape = f"{layer}_0.{kind}", np.shape(state[f"{layer}_0.{kind}"])
    for key, array in arrays.items():
        if array.shape != shape:
            raise WeightsError(
                f"{key} has shape {list(array.shape)}, and {first} has {list(shape)}: "
                "this network's tasks are alike"
            )
    return np.stack(list(arrays.values()))
