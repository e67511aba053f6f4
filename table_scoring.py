"""The product of encoded rows of a table and a weight, without the encoded rows.

A 0/1 column picks a row of the weight, and of a category at most one is 1: to look it up is several
times as fast as to make all the columns and multiply them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from id_embedding import embedded
from input_encoding import BIN_NAMES, Statistics, encoded_product, split_product
from table_encoding import MISSING

LOOKUP, VECTORS = "lookup.", "embedding."


def split_table(state: Statistics, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Part the product of encoded rows and a weight, for :func:`table_product`.

    Args:
        state: a network's state dict.
        weight: what its encoded rows, with the vectors of ids, are multiplied by, ``[E, units]``.

    Returns:
        name to float32 array: as of :func:`input_encoding.split_product` for the numbers; a row of
        the weight for each code of a category; the vectors of ids and their weight.
    """
    none = np.empty(0, np.float32)
    fill, code = state.get("encoding.fill", none), state.get("encoding.slot_code", none)
    column = state.get("encoding.slot_column", none).astype(np.int64)
    first_bin = len(fill) + len(code)
    end = first_bin + len(state.get(BIN_NAMES[0], none))
    parts: dict[str, np.ndarray] = {}
    if len(fill):
        numbers = np.concatenate([weight[: len(fill)], weight[first_bin:end]])
        parts.update(split_product(state, numbers), fill=fill)
    slots = weight[len(fill) : first_bin]
    flags = code == MISSING
    if flags.any():
        parts["flag_column"] = column[flags].astype(np.float32)
        parts["flag_weight"] = slots[flags]
    for place in np.unique(column[~flags]):
        own = np.flatnonzero((column == place) & ~flags)
        # At most two codes have no slot; all that are none share the last row.
        rows = np.zeros((len(own) + 3, weight.shape[1]), np.float32)
        for slot in own[code[own] < len(rows) - 1]:
            rows[int(code[slot])] = slots[slot]
        parts[f"{LOOKUP}{place}"] = rows
    vectors = {name: value for name, value in state.items() if name.startswith(VECTORS)}
    if vectors:
        parts.update(vectors, vector_weight=weight[end:])
    return parts


def is_split_table(parts: Mapping[str, object]) -> bool:
    """Whether :func:`split_table` made these parts, and not that of rows of numbers."""
    return "raw_weight" not in parts or "fill" in parts


def table_product(features: Tensor, parts: Mapping[str, Tensor], bias: Tensor) -> Tensor:
    """The product of encoded rows and a weight, plus a bias.

    Args:
        features: float32 ``[N, F]``, rows of a table.
        parts: what :func:`split_table` gave.
        bias: ``[units]``.

    Returns:
        float32 ``[N, units]``.
    """
    known = features == features  # not NaN
    product = bias
    if "fill" in parts:
        count = parts["fill"].shape[0]
        numbers = features[:, :count]
        numbers = paddle.where(
            known[:, :count], numbers, paddle.zeros_like(numbers) + parts["fill"]
        )
        product = encoded_product(numbers, parts, product)
    if "flag_column" in parts:
        column = parts["flag_column"].astype("int32")
        flags = 1.0 - paddle.index_select(known.astype("float32"), column, axis=1)
        product = paddle.addmm(product, flags, parts["flag_weight"])
    if "vector_weight" in parts:
        vectors = embedded(features, [parts[name] for name in parts if name.startswith(VECTORS)])
        product = paddle.addmm(product, paddle.concat(vectors, axis=1), parts["vector_weight"])
    for name in parts:
        if name.startswith(LOOKUP):
            place, rows = int(name[len(LOOKUP) :]), parts[name]
            codes = features[:, place].clip(0.0, rows.shape[0] - 1.0).astype("int64")
            product = F.embedding(codes, rows) + product
    return product
