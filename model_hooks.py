"""The hooks that do not depend on the graph, and what stands in where no tool calls them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from paddle import Tensor

from adaptation import Blocks, learn, learns, training_blocks
from hyper_parameters import HyperParameters
from input_encoding import encode_columns
from loss import multi_task_loss
from net import ShareBottomLayer, score_rows, scoring_weights
from onnx_network import onnx_model
from paddlerec_weights import convert_state_dict
from table_encoding import encode_rows

if TYPE_CHECKING:
    from onnx import ModelProto

Config = Mapping[str, Any]


class ModelHooks:
    """Mixin of ``DygraphModel`` and ``StaticModel``.

    Attributes:
        settings: what the config says of the network; a wrapper sets it.
    """

    settings = HyperParameters()

    @staticmethod
    def resolved_settings(config: Config) -> dict[str, Any]:
        """Hook: what a config's hyper-parameters mean, defaults too; a resume compares these.

        ``decay_epochs`` is the length of the schedule, ``runner.epochs`` where it is 0.
        """
        settings = HyperParameters.from_config(config)
        length = settings.decay_epochs or config.get("runner.epochs") or 0.0
        meant = {**settings.meaning(), "hyper_parameters.optimizer.decay_epochs": length}
        if settings.schedule == "constant" or not length:  # no effect, or it is not known
            del meant["hyper_parameters.optimizer.decay_epochs"]
        return meant

    def task_names(self, config: Config) -> tuple[str, ...]:
        """Hook: names of the tasks, in the order of labels and log-odds."""
        return HyperParameters.from_config(config).task_names

    def task_types(self, config: Config) -> tuple[str, ...]:
        """Hook: ``binary`` or ``regression`` of each task."""
        return HyperParameters.from_config(config).resolved_types

    def weighs_rows(self, config: Config) -> bool:
        """Hook: whether ``loss_and_log_odds`` takes the weights of rows."""
        return HyperParameters.from_config(config).weighs_rows

    def weights_of_task(self, task: int) -> dict[str, int]:
        """Hook: the slice along the first axis, of the weights that have one, of a task alone."""
        layers = [*(f"tower.{i}" for i in range(len(self.settings.tower_size))), "out"]
        return {f"{layer}.{kind}": task for layer in layers for kind in ("weight", "bias")}

    def adapt(self, blocks: Iterable[np.ndarray], config: Config) -> dict[str, np.ndarray]:
        """Hook: entries of the state dict learnt from the training features ``[n, F]`` alone."""
        return learn(({"features": features} for features in blocks), config)

    def adapt_blocks(self, blocks: Blocks, config: Config) -> dict[str, np.ndarray]:
        """Hook: entries of the state dict learnt from all arrays of the training rows."""
        return learn(blocks, config)

    def encode_columns(
        self, features: np.ndarray, state: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hook: the columns that ``encode`` changes or adds, and what it makes of them."""
        table = self.settings.table
        if table is None:
            return encode_columns(features, self.settings.numeric_encoding, state)
        encoded = encode_rows(features, len(table.ids), state)
        return np.arange(encoded.shape[1]), encoded

    def convert_state_dict(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Hook: keys of a foreign checkpoint made ours."""
        return convert_state_dict(state, self.settings)

    @staticmethod
    def scoring_weights(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Hook: what :meth:`score_rows` needs, made of a state dict once for many batches."""
        return scoring_weights(state)

    @staticmethod
    def score_rows(features: Any, weights: Mapping[str, Any]) -> Any:
        """Hook: log-odds of class 1 ``[N, T]`` of raw rows ``[N, F]``, on either graph."""
        return score_rows(features, weights)

    def onnx_model(self, weights: Mapping[str, np.ndarray]) -> ModelProto:
        """Hook: an ONNX model of :meth:`scoring_weights`; rows in, an output for each task."""
        settings = self.settings
        return onnx_model(weights, settings.feature_size, settings.task_names, settings.regression)

    def _loss_of(
        self, net: ShareBottomLayer, log_odds: Tensor, labels: Tensor, weights: Tensor | None
    ) -> Tensor:
        """Scalar loss, on either graph: all ``[T, N, 1]``, but weights ``[N, 1]``."""
        settings = self.settings
        return multi_task_loss(
            log_odds,
            labels,
            settings.loss_weights,
            masked=settings.blank_labels,
            rows=weights,
            positive_weight=settings.positive_weight,
            target=net.target,
        )

    def _labels_may_be_other(self) -> bool:
        """Whether labels may be other numbers than 0 and 1: not known, or of a regression task."""
        return self.settings.blank_labels or any(self.settings.regression)

    def _adapted(self, config: Config) -> dict[str, np.ndarray]:
        """What :meth:`adapt_blocks` learns from the config's training rows; says so.

        For tools that train by PaddleRec's contract alone. Rows that cannot be read are theirs to
        report: the network then sees raw columns.
        """
        if not learns(self.settings) or config.get("runner.model_init_path"):
            return {}
        sizes = []

        def blocks() -> Iterator[dict[str, np.ndarray]]:
            for block in training_blocks(config):
                sizes.append(block["features"].shape[1])
                yield block

        try:
            state = self.adapt_blocks(blocks(), config)
            found, size = max(sizes, default=0), self.settings.feature_size
            if found != size:
                raise ValueError(f"expected rows of {size} features, found {found or 'none'}")
            outcome = f"learnt from {config['runner.train_data_dir']}"
        except Exception as error:
            state = {}
            outcome = f"left out, because {type(error).__name__}: {' '.join(str(error).split())}"
        warnings.warn(
            f"this trainer does not call the hook adapt: input statistics are {outcome}",
            stacklevel=1,
        )
        return state
