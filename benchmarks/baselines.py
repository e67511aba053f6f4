"""Single-task models of scikit-learn on the rows of a config, for ``quality.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import read_rows, standardised
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
        train, self.labels = read_rows(loaded, "train_data_dir")
        test, self.test_labels = read_rows(loaded, "test_data_dir")
        if name == "logistic":
            train, test = standardised(train, train), standardised(test, train)
        self.train, self.test = train, test

    def score(self) -> dict[str, Any]:
        """AUC of each task on the test rows, and the seconds that training took."""
        start = time.perf_counter()
        models = [self._model().fit(self.train, labels) for labels in self.labels.T]
        seconds = time.perf_counter() - start
        scores = [model.decision_function(self.test) for model in models]
        aucs = [float(roc_auc_score(y, z)) for y, z in zip(self.test_labels.T, scores)]
        return {"test": aucs, "seconds": seconds}

    def _model(self) -> Any:
        if self.name == "logistic":
            return LogisticRegression(max_iter=3000)
        return HistGradientBoostingClassifier(max_iter=300, early_stopping=False, random_state=0)
