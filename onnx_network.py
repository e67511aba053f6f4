"""The network as an ONNX model: what ``net.score_rows`` computes, for any ONNX runtime.

Written node by node with ``onnx.helper``, the same file from any Paddle. paddle2onnx 2.1 and 1.3
end the process at the exported network's ``addmm``; without it they agree to 2e-7, but make 481 to
648 nodes of a table of 40 columns where these are 36, three times as slow at one row, end a run at
a NaN among codes, and by default have their optimiser install packages meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from net import later_layers
from table_scoring import LOOKUP, VECTORS, is_split_table

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "features"
# Of 2020 and 2021: ONNX Runtime reads them from 1.7 on.
OPSET, IR_VERSION = 13, 7
FLOAT, INT64 = 1, 7  # as TensorProto numbers them
MOST_LOOKED_UP = 4096  # numbers of a row that are looked up at once: they all lie in memory
Weights = Mapping[str, np.ndarray]


class MissingPackageError(Exception):
    """The package ``onnx`` is not there."""

    user_error = True  # one sentence for the user, not a traceback


def onnx_model(
    weights: Weights, feature_size: int, task_names: Sequence[str], regression: Sequence[bool]
) -> ModelProto:
    """The network as an ONNX model.

    Its input is ``features``, float32 ``[N, F]``, raw rows. It has one output float32 ``[N]`` for
    each task, in their order, called as :func:`output_names` says: the probability of class 1, or
    the number that is predicted. It is NaN in a row whose encoding is not finite, or that has an
    id's code for which there is no vector.

    Args:
        weights: what :func:`net.scoring_weights` gave.
        feature_size: features F of a row.
        task_names: name of each task.
        regression: whether each task is a regression task.

    Raises:
        MissingPackageError: the package ``onnx`` is not installed.
    """
    try:
        from onnx import helper
    except ImportError as error:
        raise MissingPackageError(
            "an ONNX model is made with the package onnx, which is not installed: "
            "python -m pip install onnx"
        ) from error
    outputs = output_names(task_names)
    graph = _Graph([INPUT, *outputs], feature_size)
    scores, check = _scores(graph, weights)
    predictions = _predictions(graph, scores, check, weights, regression)
    for place, output in enumerate(outputs):
        graph.column(predictions, place, output)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "share_bottom",
            [helper.make_tensor_value_info(INPUT, FLOAT, ["N", feature_size])],
            [helper.make_tensor_value_info(name, FLOAT, ["N"]) for name in outputs],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="share_bottom",
    )
    # In place: a finished tensor of 2 GB cannot be added, since protobuf would serialise it.
    for name, value in graph.constants.items():
        tensor = model.graph.initializer.add(name=name, dims=value.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.raw_data = value.tobytes()
    return model


def output_names(task_names: Sequence[str]) -> list[str]:
    """What the outputs are called: as the tasks, as far as ONNX can call them so.

    A name that is empty, the input's or another output's gets underscores at its end; a character
    that cannot be printed becomes one.
    """
    taken = {INPUT, ""}
    names = []
    for task in task_names:
        name = "".join(char if char.isprintable() else "_" for char in task)
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _scores(graph: _Graph, weights: Weights) -> tuple[str, str]:
    """Log-odds ``[N, T]``; and ``[N, 1]``, NaN where there are none, else 0."""
    bias = graph.constant("bottom.0.bias", weights["bottom.0.bias"])
    product = _table_product if is_split_table(weights) else _encoded_product
    hidden = product(graph, INPUT, weights, bias)
    # A ReLU may make 0 of -inf and of NaN; times zero, either is NaN.
    check = graph.add("MatMul", hidden, graph.constant("check", weights["check"]))
    hidden = graph.add("Relu", hidden)
    for layer in [*later_layers(weights, "bottom"), "tower.0"]:
        layer_bias = graph.constant(f"{layer}.bias", weights[f"{layer}.bias"])
        hidden = graph.affine(hidden, weights[f"{layer}.weight"], layer_bias, f"{layer}.weight")
        hidden = graph.add("Relu", hidden)
    return _task_scores(graph, weights, hidden), check


def _task_scores(graph: _Graph, weights: Weights, hidden: str) -> str:
    """Log-odds ``[N, T]`` of what the first layers of all towers gave, ``[N, T * units]``."""
    tasks = len(weights["out.weight"])
    units = len(weights["tower.0.bias"]) // tasks
    shape = graph.constant("shape", np.array([0, tasks, units]))
    hidden = graph.add("Reshape", hidden, shape)
    later = later_layers(weights, "tower")
    if later:
        hidden = graph.add("Transpose", hidden, perm=[1, 0, 2])
    for layer in later:
        weight, bias = (
            graph.constant(f"{layer}.{part}", weights[f"{layer}.{part}"])
            for part in ("weight", "bias")
        )
        hidden = graph.add("Relu", graph.add("Add", graph.add("MatMul", hidden, weight), bias))
    if later:
        hidden = graph.add("Transpose", hidden, perm=[1, 0, 2])
    products = graph.add("Mul", hidden, graph.constant("out.weight", weights["out.weight"]))
    sums = graph.sum(products, 2)
    return graph.add("Add", sums, graph.constant("out.bias", weights["out.bias"]))


def _predictions(
    graph: _Graph, scores: str, check: str, weights: Weights, regression: Sequence[bool]
) -> str:
    """Probabilities, or the numbers of regression tasks, ``[N, T]``."""
    if "target.std" in weights:
        std, mean = (graph.constant(n, weights[n]) for n in ("target.std", "target.mean"))
        scores = graph.add("Add", graph.add("Mul", scores, std), mean)
    if not all(regression):
        # ONNX Runtime's Sigmoid is wrong by 17 % at log-odds of -15, and 0 from -18 on.
        odds = graph.add("Exp", graph.add("Neg", scores))
        one = graph.constant("one", np.float32(1))
        probabilities = graph.add("Reciprocal", graph.add("Add", odds, one))
        if any(regression):
            chosen = graph.constant("regression", np.array(regression))
            probabilities = graph.add("Where", chosen, scores, probabilities)
        scores = probabilities
    return graph.add("Add", scores, check)


def _encoded_product(graph: _Graph, rows: str, weights: Weights, bias: str) -> str:
    """What ``input_encoding.encoded_product`` computes."""
    size = len(weights["raw_weight"])
    if "column" in weights:
        changed = graph.columns(rows, weights["column"].astype(np.int64), size)
        mean, scale = (graph.constant(name, weights[name]) for name in ("mean", "scale"))
        standard = graph.add("Mul", graph.add("Sub", changed, mean), scale)
        bias = graph.affine(standard, weights["weight"], bias, "weight")
        if "spread" in weights:
            start = graph.constant("minus_start", weights["minus_start"])
            distance = graph.affine(changed, weights["spread"], start, "spread")
            scale = graph.constant("bin_scale", weights["bin_scale"])
            position = graph.add("Mul", distance, scale)
            limits = (graph.constant("limit", np.float32(limit)) for limit in (0.0, 1.0))
            inside = graph.add("Clip", position, *limits)
            bias = graph.affine(inside, weights["bin_weight"], bias, "bin_weight")
    return graph.affine(rows, weights["raw_weight"], bias, "raw_weight")


def _table_product(graph: _Graph, rows: str, weights: Weights, bias: str) -> str:
    """What ``table_scoring.table_product`` computes."""
    if "fill" in weights:
        count = len(weights["fill"])
        numbers = graph.columns(rows, np.arange(count))
        unknown = graph.add("IsNaN", numbers)
        fill = graph.constant("fill", weights["fill"])
        numbers = graph.add("Where", unknown, fill, numbers)
        bias = _encoded_product(graph, numbers, weights, bias)
        if "flag_column" in weights:
            flags = graph.columns(unknown, weights["flag_column"].astype(np.int64), count)
            flags = graph.add("Cast", flags, to=FLOAT)
            bias = graph.affine(flags, weights["flag_weight"], bias, "flag_weight")
    tables = {int(n[len(LOOKUP) :]): rows for n, rows in weights.items() if n.startswith(LOOKUP)}
    if tables:
        bias = _add_looked_up(graph, rows, tables, bias)
    if any(name.startswith(VECTORS) for name in weights):
        vectors, unknown = _vectors(graph, rows, weights)
        bias = graph.add("Add", bias, unknown)
        bias = graph.affine(vectors, weights["vector_weight"], bias, "vector_weight")
    return bias


def _add_looked_up(graph: _Graph, rows: str, tables: Mapping[int, np.ndarray], product: str) -> str:
    """Add a row of each table: that of a column's code, the last for a code that is none."""
    places = np.array(sorted(tables))
    sizes = np.array([len(tables[place]) for place in places])
    codes = graph.columns(rows, places)
    known = graph.between(codes, sizes - 1)
    codes = graph.add("Where", known, codes, graph.constant("last", (sizes - 1).astype("f4")))
    first = graph.constant("first", np.cumsum(sizes) - sizes)
    codes = graph.add("Add", graph.add("Cast", codes, to=INT64), first)
    table = np.concatenate([tables[place] for place in places])
    looked_up = graph.constant("lookup", table)
    step = max(1, MOST_LOOKED_UP // table.shape[1])
    for start in range(0, len(places), step):
        chosen = np.arange(start, min(start + step, len(places)))
        found = graph.add("Gather", looked_up, graph.columns(codes, chosen, len(places)), axis=0)
        product = graph.add("Add", product, graph.sum(found, 1))
    return product


def _vectors(graph: _Graph, rows: str, weights: Weights) -> tuple[str, str]:
    """The vectors of ids, side by side; and NaN for each code that has none, else 0."""
    names = sorted(
        (n for n in weights if n.startswith(VECTORS)), key=lambda n: int(n.split(".")[1])
    )
    sizes = np.array([len(weights[name]) for name in names])
    size = graph.feature_size
    codes = graph.columns(rows, np.arange(size - len(names), size))
    known = graph.between(codes, sizes - 1)
    zero = graph.constant("zero", np.float32(0))
    codes = graph.add("Cast", graph.add("Where", known, codes, zero), to=INT64)
    vectors = [
        graph.add("Gather", graph.constant(name, weights[name]), graph.column(codes, place), axis=0)
        for place, name in enumerate(names)
    ]
    unknown = graph.add("Where", known, zero, graph.constant("nan", np.float32(np.nan)))
    return graph.add("Concat", *vectors, axis=1), graph.sum(unknown, 1, keep=True)


class _Graph:
    """Nodes and constants, each with a name of its own.

    Args:
        taken: names of inputs and outputs.
        feature_size: features F of a row.
    """

    def __init__(self, taken: Sequence[str], feature_size: int) -> None:
        self.feature_size = feature_size
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._taken = set(taken)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; the name of its only output."""
        from onnx import helper

        output = output or self._name(kind)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | np.float32) -> str:
        """Add an array; its name."""
        name = self._name(name)
        value = np.asarray(value)
        if value.dtype.kind == "i":  # NumPy's own kind has 32 bits on Windows
            value = value.astype(np.int64)
        self.constants[name] = value
        return name

    def affine(self, rows: str, weight: np.ndarray, bias: str, name: str) -> str:
        """A product of rows and a weight, plus what is there."""
        return self.add("Gemm", rows, self.constant(name, weight), bias)

    def sum(self, values: str, axis: int, keep: bool = False) -> str:
        """Sums along an axis, which goes unless it is kept."""
        axes = self.constant("axis", np.array([axis]))
        return self.add("ReduceSum", values, axes, keepdims=int(keep))

    def between(self, codes: str, last: np.ndarray) -> str:
        """Whether codes ``[N, k]`` lie between 0 and the last of their column."""
        zero, most = self.constant("zero", np.float32(0)), self.constant("most", last.astype("f4"))
        first, end = self.add("GreaterOrEqual", codes, zero), self.add("LessOrEqual", codes, most)
        return self.add("And", first, end)

    def column(self, rows: str, place: int, output: str = "") -> str:
        """A column as ``[N]``."""
        at = self.constant("place", np.array(place))
        return self.add("Gather", rows, at, output=output, axis=1)

    def columns(self, rows: str, places: np.ndarray, count: int = 0) -> str:
        """Some of the ``count`` (or F) columns of rows: all, a slice, or picked ones."""
        first, size = int(places[0]), len(places)
        if not np.array_equal(places, np.arange(first, first + size)):
            return self.add("Gather", rows, self.constant("columns", places), axis=1)
        if size == (count or self.feature_size):
            return rows
        limits = (self.constant("limit", np.array([at])) for at in (first, first + size, 1))
        return self.add("Slice", rows, *limits)

    def _name(self, wish: str) -> str:
        name = wish
        number = 0
        while name in self._taken:
            number += 1
            name = f"{wish}.{number}"
        self._taken.add(name)
        return name
