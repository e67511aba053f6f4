"""Single-task models of scikit-learn on the rows of a config, for ``quality.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import standard_rows
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from rec_runner.config import load_config


class Side:
    """One model per task.

    Args:
        name: ``logistic`` or ``trees``.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
    """

    def __init__(self, name: str, config: Path, overrides: Sequence[str]) -> None:
        self.name = name
        loaded = load_config(str(config), overrides)
        self.train, self.test = standard_rows(loaded, "train_data_dir", "test_data_dir")

    def score(self) -> dict[str, Any]:
        """AUC of each task on the test rows, and the seconds that training took."""
        features, labels = self.train
        start = time.perf_counter()
        models = [self._model().fit(features, column) for column in labels.T]
        seconds = time.perf_counter() - start
        scores = [model.decision_function(self.test[0]) for model in models]
        aucs = [float(roc_auc_score(y, z)) for y, z in zip(self.test[1].T, scores)]
        return {"test": aucs, "seconds": seconds}

    def _model(self) -> Any:
        if self.name == "logistic":
            return LogisticRegression(max_iter=3000)
        return HistGradientBoostingClassifier(max_iter=300, early_stopping=False, random_state=0)
