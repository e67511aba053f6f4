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
from common import data_files
from paddle.io import DataLoader, IterableDataset

from hyper_parameters import HyperParameters
from rec_runner.config import load_config
from rec_runner.contract.model_dir import ModelDir

INFER_BATCH = 32  # PaddleRec's


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
        model_dir: whose ``DygraphModel`` it is.
        training: train the network; otherwise score.
    """

    def __init__(self, config: Mapping[str, Any], model_dir: ModelDir, training: bool) -> None:
        self.config = config
        self.training = training
        self.model = model_dir.load("dygraph_model", "DygraphModel")()
        self.net = self.model.create_model(config)
        if not training:
            self.net.eval()
        self.optimizer = self.model.create_optimizer(self.net, config)
        self.metrics, self.names = self.model.create_metrics()
        self.shown: Mapping[str, paddle.Tensor] = {}

    def run(self, batch: list[paddle.Tensor]) -> None:
        """Train on a batch, or score it."""
        if not self.training:
            with paddle.no_grad():
                self.model.infer_forward(self.net, self.metrics, batch, self.config)
            return
        loss, _, self.shown = self.model.train_forward(self.net, self.metrics, batch, self.config)
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()

    def values(self) -> dict[str, float]:
        """What a log line shows."""
        metrics = {name: m.accumulate() for name, m in zip(self.names, self.metrics)}
        return {**metrics, **{name: float(value) for name, value in self.shown.items()}}


class PlainStatic:
    """The static-graph path, with the AUC operators that the net holds.

    Args:
        config: flat config.
        model_dir: whose ``StaticModel`` it is.
        training: build the network to train it; otherwise to score.
    """

    def __init__(self, config: Mapping[str, Any], model_dir: ModelDir, training: bool) -> None:
        paddle.enable_static()
        model = model_dir.load("static_model", "StaticModel")(config)
        self.main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(self.main, startup), paddle.utils.unique_name.guard():
            feeds = model.create_feeds(is_infer=not training)
            self.fetches = model.net(feeds) if training else model.infer_net(feeds)
            if training:
                model.create_optimizer()
        self.feeds = [variable.name for variable in feeds]
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        self.scope = paddle.static.Scope()
        self.executor.run(startup, scope=self.scope)

    def run(self, batch: list[Any]) -> None:
        """Train on a batch, or score it."""
        feed, fetches = dict(zip(self.feeds, batch)), list(self.fetches.values())
        self.fetched = self.executor.run(self.main, feed, fetches, scope=self.scope)

    def values(self) -> dict[str, float]:
        """What a log line shows."""
        return {name: float(np.ravel(v)[0]) for name, v in zip(self.fetches, self.fetched)}


class Side:
    """The sides plain_eager and plain_static; see ``worker.py``.

    It reads text in every epoch, so a pass over some of the rows says all.

    Args:
        name: ``plain_eager`` or ``plain_static``.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
    """

    def __init__(self, name: str, config: Path, overrides: Sequence[str]) -> None:
        # A network that starts from loaded weights does not read all rows for its statistics first.
        self.config = load_config(str(config), [*overrides, "runner.model_init_path=none"])
        kind = PlainEager if name == "plain_eager" else PlainStatic
        model_dir = ModelDir(self.config.model_dir)
        self.trained = kind(self.config, model_dir, training=True)
        self.scored = kind(self.config, model_dir, training=False)

    def train(self, plain_rows: int) -> dict[str, float]:
        """Rows per second over the first ``plain_rows`` rows."""
        batch = self.config.required("train_batch_size")
        rate = self._rate(self.trained, "train_data_dir", plain_rows, batch)
        return {"steady": rate, "first": rate}

    def infer(self, plain_rows: int) -> dict[str, float]:
        """As :meth:`train`, at PaddleRec's batch size, and at the ``same`` as the other sides."""
        small = self._rate(self.scored, "test_data_dir", plain_rows, INFER_BATCH)
        batch = min(self.config.required("infer_batch_size"), plain_rows)
        same = self._rate(self.scored, "test_data_dir", plain_rows, batch)
        return {"memory": small, "disk": small, "text": small, "same": same}

    def _rate(self, path: PlainEager | PlainStatic, folder: str, rows: int, size: int) -> float:
        files = data_files(self.config.model_dir / self.config.required(folder))
        dataset = PlainDataset(files, HyperParameters.from_config(self.config).label_columns, rows)
        start = time.perf_counter()
        loader = DataLoader(dataset, batch_size=size, places=paddle.CPUPlace(), drop_last=True)
        for index, batch in enumerate(loader):
            path.run(batch)
            if index % self.config.required("print_interval") == 0:
                pairs = ", ".join(f"{name}: {value:.6f}" for name, value in path.values().items())
                print(f"epoch: 0, batch_id: {index}, {pairs}", flush=True)
        return rows // size * size / (time.perf_counter() - start)
