"""A share-bottom in PyTorch, written for speed: what ``throughput.py`` compares with.

The rows are parsed and standardised beforehand and lie in memory as tensors, batches are slices
of them, the optimizer is fused Adam, and nothing but the epoch's mean loss is computed beside.
"""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class ShareBottom(nn.Module):
    """499 → 117 → T × (8 → 2), or other sizes."""

    def __init__(self, features: int, tasks: int, bottom: int, tower: int) -> None:
        super().__init__()
        self.bottom = nn.Linear(features, bottom)
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(bottom, tower), nn.ReLU(), nn.Linear(tower, 2))
            for _ in range(tasks)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits ``[N, 2]`` of each task."""
        hidden = F.relu(self.bottom(x))
        return [tower(hidden) for tower in self.towers]


class TorchLoop:
    """Training and scoring of preloaded rows.

    Args:
        features: float32 ``[n, F]``, raw; columns that hold more than 0 and 1 are standardised.
        labels: float32 ``[n, T]``.
        bottom: units of the bottom.
        tower: units of a tower.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, bottom: int, tower: int) -> None:
        numeric = ((features != 0) & (features != 1)).any(axis=0)
        deviation = features.std(axis=0, dtype=np.float64)
        mean = np.where(numeric, features.mean(axis=0, dtype=np.float64), 0.0)
        scaled = (features - mean) / np.where(numeric & (deviation > 0), deviation, 1.0)
        self.features = torch.from_numpy(scaled.astype(np.float32))
        self.labels = list(torch.from_numpy(np.ascontiguousarray(labels.T.astype(np.int64))))
        torch.manual_seed(0)
        self.net = ShareBottom(features.shape[1], labels.shape[1], bottom, tower)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=True)

    def train(self, batch_size: int, threads: int, rows: int) -> float:
        """Seconds of an epoch over the first ``rows`` rows."""
        torch.set_num_threads(threads)
        start = time.perf_counter()
        self.net.train()
        total = torch.zeros(())
        for first in range(0, rows, batch_size):
            end = min(first + batch_size, rows)
            logits = self.net(self.features[first:end])
            loss = sum(F.cross_entropy(z, y[first:end]) for z, y in zip(logits, self.labels))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        total.item()
        return time.perf_counter() - start

    def score(self, batch_size: int, threads: int, rows: int) -> float:
        """Seconds of a pass that gives every row's probabilities."""
        torch.set_num_threads(threads)
        start = time.perf_counter()
        self.net.eval()
        with torch.no_grad():
            for first in range(0, rows, batch_size):
                for logits in self.net(self.features[first : min(first + batch_size, rows)]):
                    F.softmax(logits, dim=1)
        return time.perf_counter() - start
