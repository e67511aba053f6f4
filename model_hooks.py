"""The hooks that do not depend on the graph, and what stands in where no tool calls ``adapt``."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hyper_parameters import HyperParameters
from input_encoding import adapt, encode_columns
from net import score_rows, scoring_weights
from paddlerec_weights import convert_state_dict

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
        meant = {**settings.as_config(), "hyper_parameters.optimizer.decay_epochs": length}
        if settings.schedule == "constant" or not length:  # no effect, or it is not known
            del meant["hyper_parameters.optimizer.decay_epochs"]
        return meant

    def task_names(self, config: Config) -> tuple[str, ...]:
        """Hook: names of the binary tasks, in the order of labels and log-odds."""
        return HyperParameters.from_config(config).task_names

    def adapt(self, blocks: Iterable[np.ndarray], config: Config) -> dict[str, np.ndarray]:
        """Hook: entries of the state dict learnt from the training features ``[n, F]``."""
        settings = HyperParameters.from_config(config)
        return adapt(blocks, settings.numeric_encoding, settings.piecewise_bins)

    def encode_columns(
        self, features: np.ndarray, state: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hook: the columns that ``encode`` changes or adds, and what it makes of them."""
        return encode_columns(features, self.settings.numeric_encoding, state)

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

    def _adapted(self, config: Config) -> dict[str, np.ndarray]:
        """What :meth:`adapt` learns from the config's training rows; says so.

        For tools that train by PaddleRec's contract alone. Rows that cannot be read are theirs to
        report: the network then sees raw columns.
        """
        if self.settings.numeric_encoding == "none" or config.get("runner.model_init_path"):
            return {}
        try:
            state = self.adapt(_training_features(config), config)
            found, size = len(state["encoding.mean"]), self.settings.feature_size
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


def _training_features(config: Config) -> Iterator[np.ndarray]:
    """The training rows' features ``[n, F]``, read by the contract alone."""
    folder = Path(config["config_abs_dir"], config["runner.train_data_dir"])
    files = sorted(str(f) for f in folder.iterdir() if f.is_file() and f.name[0] != ".")
    module = importlib.import_module(config.get("runner.train_reader_path", "reader"))
    dataset = module.RecDataset(files, config)
    by_index = not hasattr(dataset, "__iter__")
    rows = map(dataset.__getitem__, range(len(dataset))) if by_index else iter(dataset)
    while some := list(islice(rows, 1024)):
        yield np.stack([row[0] for row in some])
