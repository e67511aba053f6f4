"""A share-bottom in PyTorch, written for speed: what ``throughput.py`` compares with.

The rows are parsed and standardised beforehand and lie in memory as tensors, batches are slices
of them, the optimizer is fused Adam, and nothing but the epoch's mean loss is computed beside.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import torch
import torch.nn.functional as F
from common import read_rows, standardised
from torch import nn

from hyper_parameters import HyperParameters
from rec_runner.config import load_config


class Side:
    """499 → 117 → T × (8 → 2), or other sizes; the better of one thread and two.

    Args:
        name: ``torch``.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
    """

    def __init__(self, name: str, config: Path, overrides: Sequence[str]) -> None:
        self.config = load_config(str(config), overrides)
        settings = HyperParameters.from_config(self.config)
        features, labels = read_rows(self.config, "train_data_dir")
        self.features = torch.from_numpy(standardised(features, features)).float()
        self.labels = torch.from_numpy(labels).long().T.contiguous()
        torch.set_flush_denormal(True)  # as our tools do; threads started later inherit it
        torch.manual_seed(0)
        bottom, tower = settings.bottom_size[0], settings.tower_size[0]
        self.bottom = nn.Sequential(nn.Linear(settings.feature_size, bottom), nn.ReLU())
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(bottom, tower), nn.ReLU(), nn.Linear(tower, 2))
            for _ in settings.label_columns
        )
        weights = [*self.bottom.parameters(), *self.towers.parameters()]
        self.optimizer = torch.optim.Adam(weights, lr=1e-3, fused=True)

    def train(self, plain_rows: int = 0) -> dict[str, float]:
        """Rows per second of an epoch."""
        return {"steady": self._rate(self._train, self.config.required("train_batch_size"))}

    def infer(self, plain_rows: int = 0) -> dict[str, float]:
        """Rows per second of a pass that gives every row's probabilities."""
        return {"memory": self._rate(self._score, self.config.required("infer_batch_size"))}

    def _rate(self, run: Callable[[int], None], batch: int) -> float:
        seconds = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            start = time.perf_counter()
            run(batch)
            seconds.append(time.perf_counter() - start)
        return len(self.features) / min(seconds)

    def _logits(self, features: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.bottom(features)
        return [tower(hidden) for tower in self.towers]

    def _train(self, batch: int) -> None:
        total = torch.zeros(())
        for first in range(0, len(self.features), batch):
            logits = self._logits(self.features[first : first + batch])
            labels = self.labels[:, first : first + batch]
            loss = sum(F.cross_entropy(z, y) for z, y in zip(logits, labels))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        total.item()

    def _score(self, batch: int) -> None:
        with torch.no_grad():
            for first in range(0, len(self.features), batch):
                for logits in self._logits(self.features[first : first + batch]):
                    F.softmax(logits, dim=1)
