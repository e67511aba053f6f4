"""The plain path: a model directory driven one batch at a time, PaddleRec's way.

What ``throughput.py`` compares with, built from the same public parts of Paddle that PaddleRec's
tools use and from this directory's own ``dygraph_model`` and ``static_model``: a reader that
parses each line with Python floats, ``paddle.io.DataLoader``, one optimizer step, one
``Executor.run`` and one update of every metric per batch. Nothing is prepared for speed: no
environment variable is set and nothing is kept from one epoch to the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.io import DataLoader, IterableDataset


class PlainDataset(IterableDataset):
    """Rows of text, one at a time.

    Args:
        files: text files of comma-separated numbers, without a header.
        label_columns: column of each task's label; the others are features.
        rows: how many rows to read at most.
    """

    def __init__(self, files: Sequence[Path], label_columns: Sequence[int], rows: int) -> None:
        super().__init__()
        self.files = files
        self.label_columns = list(label_columns)
        self.rows = rows

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return islice(self._all(), self.rows)

    def _all(self) -> Iterator[list[np.ndarray]]:
        for file in self.files:
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    values = [float(cell) for cell in line.split(",")]
                    labels = [np.array([values[c]], dtype="int64") for c in self.label_columns]
                    for column in sorted(self.label_columns, reverse=True):
                        del values[column]
                    yield [np.array(values, dtype="float32"), *labels]


class PlainEager:
    """The eager path.

    Args:
        config: flat config.
        model: a ``DygraphModel``.
    """

    def __init__(self, config: Mapping[str, Any], model: Any) -> None:
        self.config = config
        self.model = model
        self.net = model.create_model(config)
        self.optimizer = model.create_optimizer(self.net, config)
        self.metrics, self.names = model.create_metrics()

    def train(self, dataset: PlainDataset, batch_size: int, print_interval: int) -> float:
        """Seconds of one epoch."""
        start = time.perf_counter()
        self.net.train()
        for metric in self.metrics:
            metric.reset()
        for index, batch in enumerate(_loader(dataset, batch_size)):
            loss, self.metrics, values = self.model.train_forward(
                self.net, self.metrics, batch, self.config
            )
            loss.backward()
            self.optimizer.step()
            self.optimizer.clear_grad()
            if index % print_interval == 0:
                shown = {name: float(value) for name, value in values.items()}
                self._log(index, shown)
        self._log("done", {})
        return time.perf_counter() - start

    def score(self, dataset: PlainDataset, batch_size: int, print_interval: int) -> float:
        """Seconds of one pass over the test rows."""
        start = time.perf_counter()
        self.net.eval()
        for metric in self.metrics:
            metric.reset()
        with paddle.no_grad():
            for index, batch in enumerate(_loader(dataset, batch_size)):
                self.metrics, _ = self.model.infer_forward(
                    self.net, self.metrics, batch, self.config
                )
                if index % print_interval == 0:
                    self._log(index, {})
        self._log("done", {})
        return time.perf_counter() - start

    def _log(self, index: Any, values: Mapping[str, float]) -> None:
        metrics = {name: m.accumulate() for name, m in zip(self.names, self.metrics)}
        _print(index, {**metrics, **values})


class PlainStatic:
    """The static-graph path, with the AUC operators that the net holds.

    Args:
        config: flat config.
        model: a ``StaticModel``.
        training: build the network to train it; otherwise to score.
    """

    def __init__(self, config: Mapping[str, Any], model: Any, training: bool) -> None:
        paddle.enable_static()
        self.main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(self.main, startup), paddle.utils.unique_name.guard():
            feeds = model.create_feeds(is_infer=not training)
            fetches = model.net(feeds) if training else model.infer_net(feeds)
            if training:
                model.create_optimizer()
        self.names = list(fetches)
        self.fetches = list(fetches.values())
        self.feeds = [variable.name for variable in feeds]
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        self.scope = paddle.static.Scope()
        with paddle.static.scope_guard(self.scope):
            self.executor.run(startup)

    def run(self, dataset: PlainDataset, batch_size: int, print_interval: int) -> float:
        """Seconds of one pass."""
        start = time.perf_counter()
        with paddle.static.scope_guard(self.scope):
            for index, batch in enumerate(_loader(dataset, batch_size)):
                values = self.executor.run(
                    self.main, feed=dict(zip(self.feeds, batch)), fetch_list=self.fetches
                )
                if index % print_interval == 0:
                    first = [float(np.ravel(value)[0]) for value in values]
                    _print(index, dict(zip(self.names, first)))
        return time.perf_counter() - start

    train = run
    score = run


def _loader(dataset: PlainDataset, batch_size: int) -> DataLoader:
    return DataLoader(
        dataset, batch_size=batch_size, places=paddle.CPUPlace(), drop_last=True, num_workers=0
    )


def _print(index: Any, values: Mapping[str, float]) -> None:
    pairs = ", ".join(f"{name}: {value:.6f}" for name, value in values.items())
    print(f"epoch: 0, batch_id: {index}, {pairs}", flush=True)
