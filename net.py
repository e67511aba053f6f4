"""The share-bottom network: one bottom for all tasks, one small tower per task.

    features [N, F] → encoding → bottom (Linear + ReLU) ─┬→ tower 0 → Linear → logits [N, 2]
                       (ids → embedding ↗)               ├→ tower 1 → Linear → logits [N, 2]
                                                         └→ …

Caruana 1997, *Multitask Learning*; the baseline of Ma et al. 2018, *Modeling Task Relationships
in Multi-task Learning with Multi-gate Mixture-of-Experts*. This file alone knows the network;
``dygraph_model.py`` and ``static_model.py`` wrap it as it is.

Products are written ``@``: under Paddle 3.3 ``paddle.matmul`` refuses the variables of the old
program representation, in which PaddleRec's static tools build it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from dropout import relu_dropout
from hyper_parameters import ConfigError, HyperParameters
from id_embedding import IdEmbedding
from input_encoding import InputEncoding, Statistics, encoded_product, split_product
from loss import RegressionTarget
from raw_tables.schema import Schema
from table_encoding import TableEncoding, encoded_size, is_table
from table_scoring import is_split_table, split_table, table_product

MOST_WEIGHTS = (1 << 31) - 1  # 8 GB, and to train them four times that


class Linear(nn.Linear):
    """``paddle.nn.Linear`` without its look at Paddle's flags, which costs as much as a product."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in]`` to ``[N, out]``."""
        return x @ self.weight + self.bias


class TaskLinear(nn.Layer):
    """One Linear per task, computed as a single batched matrix product.

    Args:
        task_num: number of tasks T.
        in_size: units in.
        out_size: units out.
        initializer: of the weight, one of ``xavier``, ``kaiming``, ``constant``.
    """

    def __init__(self, task_num: int, in_size: int, out_size: int, initializer: str) -> None:
        super().__init__()
        self.weight = self.create_parameter(
            [task_num, in_size, out_size],
            default_initializer=make_initializer(initializer, in_size, out_size),
        )
        self.bias = self.create_parameter([task_num, 1, out_size], is_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in]`` (shared by the tasks) or ``[T, N, in]`` to ``[T, N, out]``."""
        return x @ self.weight + self.bias


class ShareBottomLayer(nn.Layer):
    """Share-bottom multi-task network for binary and regression tasks.

    Args:
        feature_size: number of feature columns F.
        task_num: number of tasks T, at least 1.
        bottom_size: units of the shared bottom, one number per layer.
        tower_size: units of each task's tower, one number per layer.
        bottom_dropout: share of the bottom's units dropped in training.
        tower_dropout: share of the towers' units dropped in training.
        initializer: ``xavier``, ``kaiming`` or ``constant`` (0.1), for the bottom.
        tower_initializer: the same for towers and outputs. A constant makes the units of a tower
            identical for ever; it is there to reproduce PaddleRec.
        numeric_encoding: ``none``, ``standard`` or ``piecewise_linear``, see
            :class:`input_encoding.InputEncoding`.
        piecewise_bins: bins of ``piecewise_linear``.
        statistics: of inputs and targets, as the hook ``adapt_blocks`` gives them; neutral if left
            out.
        table: schema of the rows, where they are more than numbers.
        id_dropout: share of ids that are not looked at in training.
        regression: whether each task is a regression task; none is if left out.

    Raises:
        ValueError: ``task_num`` is below 1.
    """

    def __init__(
        self,
        feature_size: int,
        task_num: int,
        bottom_size: int | Sequence[int],
        tower_size: int | Sequence[int],
        bottom_dropout: float = 0.0,
        tower_dropout: float = 0.0,
        initializer: str = "xavier",
        tower_initializer: str = "xavier",
        numeric_encoding: str = "none",
        piecewise_bins: int = 128,
        statistics: Statistics | None = None,
        table: Schema | None = None,
        id_dropout: float = 0.0,
        regression: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        if task_num < 1:
            raise ValueError(f"task_num should be at least 1, got {task_num}")
        learnt = _parted(statistics or {})
        how = numeric_encoding, piecewise_bins, learnt["encoding"]
        self.encoding: InputEncoding | TableEncoding = (
            InputEncoding(feature_size, *how) if table is None else TableEncoding(table, *how)
        )
        self.bottom_dropout = bottom_dropout
        self.tower_dropout = tower_dropout

        size = self.encoding.out_size
        self.embedding: IdEmbedding | None = None
        if table is not None and table.ids:
            self.embedding = IdEmbedding(table.ids, id_dropout)
            size += self.embedding.out_size
        self.bottom = nn.LayerList()
        for units in _sizes(bottom_size):
            weight = paddle.ParamAttr(initializer=make_initializer(initializer, size, units))
            self.bottom.append(Linear(size, units, weight_attr=weight))
            size = units
        self.tower = nn.LayerList()
        for units in _sizes(tower_size):
            self.tower.append(TaskLinear(task_num, size, units, tower_initializer))
            size = units
        self.out = TaskLinear(task_num, size, 2, tower_initializer)
        self.target = RegressionTarget(regression, learnt["target"]) if any(regression) else None
        self._difference = paddle.to_tensor([[-1.0], [1.0]])

    @classmethod
    def from_settings(
        cls, settings: HyperParameters, statistics: Statistics | None = None
    ) -> ShareBottomLayer:
        """The network that a config's ``hyper_parameters`` describe; they are called as its own.

        Raises:
            ConfigError: it would have more than ``MOST_WEIGHTS`` weights.
        """
        _refuse_too_large(settings)
        names = inspect.signature(cls).parameters.keys() - {"statistics"}
        return cls(**{name: getattr(settings, name) for name in names}, statistics=statistics)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Probabilities of both classes, per task; they mean nothing of a regression task.

        Args:
            features: float32 ``[N, F]``, raw rows.

        Returns:
            ``task_num`` tensors float32 ``[N, 2]``.
        """
        return paddle.unbind(F.softmax(self.logits(self.encoding(features))), axis=0)

    def logits(self, encoded: Tensor) -> Tensor:
        """Logits of both classes.

        Args:
            encoded: ``self.encoding(features)``, float32 ``[N, E]``.

        Returns:
            float32 ``[T, N, 2]``.
        """
        hidden = encoded if self.embedding is None else self.embedding(encoded)
        for layer in self.bottom:
            hidden = self._activate(layer(hidden), self.bottom_dropout)
        for layer in self.tower:
            hidden = self._activate(layer(hidden), self.tower_dropout)
        return self.out(hidden)

    def log_odds(self, encoded: Tensor) -> Tensor:
        """Logit of class 1 less that of class 0: the log of the odds, or a standardised number.

        Args:
            encoded: as for :meth:`logits`.

        Returns:
            float32 ``[T, N, 1]``.
        """
        return self.logits(encoded) @ self._difference

    def _activate(self, hidden: Tensor, dropout: float) -> Tensor:
        return relu_dropout(hidden, dropout) if dropout and self.training else F.relu(hidden)


def scoring_weights(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What :func:`score_rows` needs of a network, made once for many batches.

    Args:
        state: its state dict.

    Returns:
        name to float32 array.
    """
    first, tower, out = "bottom.0.weight", "tower.0.weight", "out.weight"
    layers = ("bottom.", "tower.", "out.", "target.")
    weights = {name: value for name, value in state.items() if name.startswith(layers)}
    split = split_table if is_table(state) else split_product
    weights.update(split(state, weights.pop(first)))
    # One product for all tasks: [T, in, out] to [in, T * out].
    weights[tower] = np.concatenate(list(state[tower]), axis=1)
    weights["tower.0.bias"] = state["tower.0.bias"].reshape(-1)
    with np.errstate(all="ignore"):  # weights may be anything
        for name in (out, "out.bias"):
            weights[name] = np.ascontiguousarray(state[name][..., 1] - state[name][..., 0])
    weights["out.bias"] = weights["out.bias"].reshape(-1)
    weights["check"] = np.zeros((state[first].shape[1], 1), np.float32)
    return weights


def score_rows(features: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Log-odds of class 1: what :meth:`ShareBottomLayer.log_odds` gives of encoded rows.

    Of a regression task the number that is predicted, in its own unit. The same sums, added up in
    another order, so that a number may differ in its last digits.

    Args:
        features: float32 ``[N, F]``, raw rows.
        weights: what :func:`scoring_weights` gave.

    Returns:
        float32 ``[N, T]``; NaN in a row whose encoding is not finite.
    """
    bias = weights["bottom.0.bias"]
    product = table_product if is_split_table(weights) else encoded_product
    hidden = product(features, weights, bias)
    # A ReLU makes 0 of -inf, and of NaN; times zero, either is NaN.
    check = hidden @ weights["check"]
    hidden = F.relu(hidden)
    for layer in later_layers(weights, "bottom"):
        hidden = F.relu(paddle.addmm(weights[f"{layer}.bias"], hidden, weights[f"{layer}.weight"]))
    hidden = F.relu(paddle.addmm(weights["tower.0.bias"], hidden, weights["tower.0.weight"]))
    task_num = weights["out.weight"].shape[0]
    hidden = hidden.reshape([-1, task_num, hidden.shape[1] // task_num])
    for layer in later_layers(weights, "tower"):
        by_task = hidden.transpose([1, 0, 2]) @ weights[f"{layer}.weight"]
        hidden = F.relu(by_task + weights[f"{layer}.bias"]).transpose([1, 0, 2])
    # In this order: Paddle 2.6 may add in place, and overwrite a narrower array while it reads it.
    # Less 0 or NaN, not plus: oneDNN in Paddle Inference 3.3 takes a product [N, 1] that is added
    # for one as wide as what it is added to, and the scores are wrong.
    odds = (hidden * weights["out.weight"]).sum(-1) + weights["out.bias"] - check
    return (
        odds * weights["target.std"] + weights["target.mean"] if "target.std" in weights else odds
    )


def later_layers(weights: Mapping[str, Tensor], kind: str) -> list[str]:
    """Names of the layers of a kind, ``bottom`` or ``tower``, after the first."""
    names = (f"{kind}.{number}" for number in range(1, len(weights)))
    return [name for name in names if f"{name}.weight" in weights]


def _refuse_too_large(settings: HyperParameters) -> None:
    """Raise ConfigError for a network that no machine is asked to hold."""
    kind, bins, table = settings.numeric_encoding, settings.piecewise_bins, settings.table
    ids = () if table is None else table.ids
    if table is None:
        size = settings.feature_size + (bins if kind == "piecewise_linear" else 0)
    else:
        size = encoded_size(table, kind, bins) + sum(column.embedding for column in ids)
    bottom = [size, *settings.bottom_size]
    tower = [bottom[-1], *settings.tower_size, 2]
    shared, own = (sum(a * b for a, b in zip(s, s[1:])) for s in (bottom, tower))
    weights = shared + settings.task_num * own
    weights += sum((column.buckets + 1) * column.embedding for column in ids)
    if weights > MOST_WEIGHTS:
        raise ConfigError(
            f"hyper_parameters: {bottom[0]} columns, bottom_size {bottom[1:]} and tower_size "
            f"{tower[1:-1]} for {settings.task_num} tasks make a network of {weights:,} weights, "
            f"expected at most {MOST_WEIGHTS:,}"
        )


def _parted(statistics: Statistics) -> dict[str, dict[str, np.ndarray]]:
    """Statistics of the inputs, and those of the targets."""
    return {
        part: {name: value for name, value in statistics.items() if name.startswith(f"{part}.")}
        for part in ("encoding", "target")
    }


def make_initializer(name: str, in_size: int, out_size: int) -> nn.initializer.Initializer:
    """Initializer of a weight whose last two axes are ``[in_size, out_size]``."""
    if name == "constant":
        return nn.initializer.Constant(0.1)
    if name == "kaiming":
        return nn.initializer.KaimingUniform(fan_in=in_size)
    return nn.initializer.XavierUniform(fan_in=in_size, fan_out=out_size)


def _sizes(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
