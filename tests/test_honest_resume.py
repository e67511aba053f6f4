"""What a directory's own code may print, count and schedule is in mid-epoch gone on from."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

import pytest
import yaml
from helpers import run_cases

MODEL = """
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.head = paddle.nn.Linear(3, 2)
        self.rare = paddle.nn.Linear(3, 1)
        self.register_buffer("mask", paddle.to_tensor([float("nan"), float("-inf"), 0.0]))


class Base:
    def create_model(self, config):
        return Net()

    def create_optimizer(self, dy_model, config):
        return paddle.optimizer.Adam(self.rate(), parameters=dy_model.parameters())

    def rate(self):
        self.schedule = None
        return 0.01

    def create_metrics(self):
        return [paddle.metric.Accuracy()], ["accuracy"]

    def printed(self, loss):
        return None

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        features, label = batch_data
        logits = dy_model.head(features)
        metrics_list[0].update(metrics_list[0].compute(logits, label))
        loss = F.cross_entropy(logits, label)
        if float(features[0, 0]) == 9:
            loss = loss + dy_model.rare(features).mean()
            if Path("stop").exists():
                Path("stop").unlink()
                raise ValueError("stopped")
        if self.schedule is not None:
            self.schedule.step(*self.measured(loss))
        return loss, metrics_list, self.printed(loss)

    def measured(self, loss):
        return ()


class DygraphModel(Base):
"""
READER = """
import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            for line in open(file):
                values = line.split()
                yield np.array(values[:3], np.float32), np.array(values[3:], np.int64)
"""
# What stands in the class DygraphModel.
DIRECTORIES = {
    "plain": "pass",
    "text": 'def printed(self, loss): return {"note": "hello", "words": ["a", "b"]}',
    "objects": 'def printed(self, loss): return {"part": {"a": 1}, "parts": [{"a": 1}], "j": 1j}',
    "large": 'def printed(self, loss): return {"hash": np.uint64(2**63 + 5), "huge": 2**70}',
    "bookkeeping": 'def printed(self, loss): return {"epoch": loss, "phase": loss, "rows": loss}',
    "names": 'def printed(self, loss): return {"the\\nloss": loss, 7: loss, "任务\\u3000一": loss}',
    "undefined": 'def printed(self, loss): return {"i": float("inf"), "n": np.nan, "none": None}',
    "schedule_of_numpy": """
        def rate(self):
            decay = lambda step: np.float64(0.9) ** step
            self.schedule = paddle.optimizer.lr.LambdaDecay(0.01, decay)
            return self.schedule
    """,
    "schedule_by_an_array": """
        def rate(self):
            self.schedule = paddle.optimizer.lr.ReduceOnPlateau(0.01, patience=1)
            return self.schedule

        def measured(self, loss):
            return (loss.numpy(),)
    """,
    "metric_with_text": """
        def create_metrics(self):
            metric = paddle.metric.Accuracy()
            metric.tags, metric.parts = np.array(["a", "b"]), np.array([None, 1])
            return [metric], ["accuracy"]
    """,
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directorys_own_checkpoint_in_mid_epoch_is_gone_on_from(
    tmp_path: Path, name: str
) -> None:
    body = textwrap.dedent(DIRECTORIES[name])
    (tmp_path / "dygraph_model.py").write_text(MODEL + textwrap.indent(body, "    "))
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "data").mkdir()
    rng = random.Random(3)
    # The sixth batch alone has a row that needs the rare part of the network.
    rows = [[9 if row == 20 else rng.random(), rng.random(), rng.random()] for row in range(40)]
    text = "".join(f"{a} {b} {c} {rng.randrange(2)}\n" for a, b, c in rows)
    (tmp_path / "data" / "rows.txt").write_text(text)
    runner = {"train_data_dir": "data", "train_reader_path": "reader", "use_save_data": True}
    runner.update(train_batch_size=4, epochs=1, save_steps=5, print_interval=2, use_gpu=False)
    tree = {"runner": runner, "hyper_parameters": {"any": 1}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "stop").touch()
    arguments = ["-m", "config.yaml", "-o", "runner.model_save_path=out"]
    whole = ["-m", "config.yaml", "-o", "runner.model_save_path=whole"]
    stopped, resumed, straight = run_cases(
        [
            ("train", "dygraph", arguments),
            ("train", "dygraph", [*arguments, "runner.resume=true"]),
            ("train", "dygraph", whole),
        ],
        tmp_path,
    )
    assert stopped.status == 2 and "stopped" in stopped.stderr
    assert (resumed.status, resumed.sentences) == (0, []), resumed.stderr
    assert "starts at epoch 0, batch 5" in resumed.stdout
    assert straight.status == 0, straight.stderr
    for file in ("rec.pdparams", "last_train_batch.npz"):
        assert (tmp_path / "out" / "0" / file).read_bytes() == (
            tmp_path / "whole" / "0" / file
        ).read_bytes()
