"""Single-task models of scikit-learn on the very rows of a config; a process of quality.py.

    python benchmarks/baselines.py trees -m config_bigdata.yaml -o runner.test_data_dir=...

Prints one JSON object: test AUC by task, and the seconds that training took.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from common import data_files
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from csv_blocks import Layout, read_blocks
from hyper_parameters import HyperParameters
from rec_runner.config import load_config


class Scaled:
    """Logistic regression; columns that hold more than 0 and 1 are standardised."""

    def __init__(self) -> None:
        self.model = LogisticRegression(max_iter=3000)

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Scaled:
        """Train on ``[n, F]`` and ``[n]``."""
        numeric = ((features != 0) & (features != 1)).any(axis=0)
        deviation = features.std(axis=0, dtype=np.float64)
        self.mean = np.where(numeric, features.mean(axis=0, dtype=np.float64), 0.0)
        self.scale = np.where(numeric & (deviation > 0), deviation, 1.0)
        self.model.fit(self._scaled(features), labels)
        return self

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Log-odds ``[n]``."""
        return self.model.decision_function(self._scaled(features))

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) / self.scale


MODELS = {
    "logistic": Scaled,
    "trees": lambda: HistGradientBoostingClassifier(
        max_iter=300, early_stopping=False, random_state=0
    ),
}


def main() -> None:
    """Train and score one model per task."""
    parser = argparse.ArgumentParser(description="Train a scikit-learn model per task and score.")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("-m", "--config", required=True)
    parser.add_argument("-o", "--override", nargs="+", default=[])
    options = parser.parse_args()
    config = load_config(options.config, options.override)
    settings = HyperParameters.from_config(config)
    train, test = _rows(config, settings, "train"), _rows(config, settings, "test")
    scores: dict[str, Any] = {}
    start = time.perf_counter()
    models = [MODELS[options.model]().fit(train[0], labels) for labels in train[1].T]
    seconds = time.perf_counter() - start
    for name, model, labels in zip(settings.task_names, models, test[1].T):
        scores[name] = float(roc_auc_score(labels, model.decision_function(test[0])))
    print(json.dumps({"test": scores, "seconds": seconds}))


def _rows(config: Any, settings: HyperParameters, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features ``[n, F]`` and labels ``[n, T]`` of a folder of the config."""
    folder = config.model_dir / config.required(f"{name}_data_dir")
    layout = Layout(settings.feature_size, settings.label_columns)
    blocks = list(read_blocks(data_files(folder), layout))
    return (
        np.concatenate([block.features for block in blocks]),
        np.concatenate([block.labels for block in blocks]),
    )


if __name__ == "__main__":
    main()
