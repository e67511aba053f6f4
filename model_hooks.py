"""The hooks that do not depend on the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hyper_parameters import HyperParameters
from input_encoding import adapt
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
        """Hook: what a config's hyper-parameters mean, defaults too; a resume compares these."""
        return HyperParameters.from_config(config).as_config()

    def task_names(self, config: Config) -> tuple[str, ...]:
        """Hook: names of the binary tasks, in the order of labels and log-odds."""
        return HyperParameters.from_config(config).task_names

    def adapt(self, blocks: Iterable[np.ndarray], config: Config) -> dict[str, np.ndarray]:
        """Hook: entries of the state dict learnt from the training features ``[n, F]``."""
        settings = HyperParameters.from_config(config)
        return adapt(blocks, settings.numeric_encoding, settings.piecewise_bins)

    def convert_state_dict(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Hook: keys of a foreign checkpoint made ours."""
        return convert_state_dict(state, self.settings)
