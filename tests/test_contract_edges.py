"""Corners of the contract: what directories without our hooks may leave out, break, or interrupt.

The directory here is as small as can be: its only weight starts at 1 and the learning rate is 0, so
that every prediction, loss and AUC is known beforehand.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from helpers import CONFIG, Result, make_model_dir, override, run_cases, run_tool, write_table
from sklearn.metrics import roc_auc_score

PATHS = ("dygraph", "static")
READER = """
import os, signal, time
import numpy as np
from pathlib import Path
from paddle.io import IterableDataset

class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def rows(self):
        for file in self.file_list:
            for number, (label, x) in enumerate(np.loadtxt(file, ndmin=2)):
                flag = Path(__file__).with_name("stop")
                if number == 10 and flag.exists():
                    flag.unlink()
                    time.sleep(1.0)
                    os.kill(os.getpid(), signal.SIGTERM)
                yield [np.array([label], "int64"), np.array([x], "float32")]

    def __iter__(self):
        yield from self.rows()
"""
WHOLE_BATCHES = """
    def __iter__(self):
        rows = list(self.rows())
        for start in range(0, len(rows), 4):
            yield [np.stack(column) for column in zip(*rows[start : start + 4])]
"""
NET = """
import paddle
from paddle import nn

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        one = nn.initializer.Constant(1.0)
        self.weight = self.create_parameter([1], default_initializer=one)

    def forward(self, x):
        p = paddle.nn.functional.sigmoid(x * self.weight)
        return p, paddle.concat([1 - p, p], axis=1)

def loss_of(p, label):
    label = label.astype("float32")
    return -(label * paddle.log(p) + (1 - label) * paddle.log(1 - p)).mean()
"""
EAGER = """
import paddle
from net import Net, loss_of

class DygraphModel:
    def create_model(self, config):
        return Net()

    def create_optimizer(self, dy_model, config):
        return paddle.optimizer.SGD(0.0, parameters=dy_model.parameters())

    def create_metrics(self):
        return [paddle.metric.Auc()], ["auc"]

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        label, x = batch_data
        p, both = dy_model(x)
        metrics_list[0].update(both.numpy(), label.numpy())
        loss = loss_of(p, label)
        return loss, metrics_list, {"prediction": p}

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        _, metrics_list, values = self.train_forward(dy_model, metrics_list, batch_data, config)
        return metrics_list, values
"""
STATIC = """
import paddle
from net import Net, loss_of

class StaticModel:
    def __init__(self, config):
        self.config = config

    def create_feeds(self, is_infer=False):
        label = paddle.static.data("label", [None, 1], "int64")
        return [label, paddle.static.data("x", [None, 1], "float32")]

    def net(self, inputs, is_infer=False):
        label, x = inputs
        p, both = Net()(x)
        self.cost = loss_of(p, label)
        return {"cost": self.cost, "auc": paddle.static.auc(both, label)[0], "prediction": p}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.SGD(0.0).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs, is_infer=True)
"""
RUNNER: dict[str, Any] = {
    "train_data_dir": "data/train",
    "test_data_dir": "data/test",
    "train_reader_path": "reader",
    "infer_reader_path": "reader",
    "train_batch_size": 4,
    "infer_batch_size": 5,
    "epochs": 1,
    "print_interval": 100,
    "infer_start_epoch": 0,
    "infer_end_epoch": 1,
}
BAD_BATCH = 3
TRAIN_ROWS, TEST_ROWS = 24, 11
# What a broken directory says in its place, and what the sentence must hold.
BROKEN = {
    "a loss that is a number": (
        "return loss, metrics_list, {",
        "return float(loss), metrics_list, {",
        "train",
        "DygraphModel.train_forward should return a Tensor as the loss, and returned a float",
    ),
    "values in a tuple": (
        '{"prediction": p}',
        "(p,)",
        "train",
        "DygraphModel.train_forward should return a dict or None as print_dict, and returned a "
        "tuple of 1",
    ),
    "an OSError of its own": (
        "loss = loss_of(p, label)",
        "raise OSError('the table is damaged')",
        "train",
        "DygraphModel.train_forward failed: OSError: the table is damaged",
    ),
    "fewer names than metrics": (
        '["auc"]',
        "[]",
        "train",
        "DygraphModel.create_metrics should return a list of metrics and a list of as many names, "
        "and returned a tuple of 2",
    ),
    "infer_forward gives a Tensor": (
        "return metrics_list, values",
        'return values["prediction"]',
        "infer",
        "DygraphModel.infer_forward should return a tuple of 2: metrics_list, print_dict or None, "
        "and returned a Tensor",
    ),
    "infer_forward gives three": (
        "return metrics_list, values",
        "return 0, metrics_list, values",
        "infer",
        "DygraphModel.infer_forward should return a tuple of 2: metrics_list, print_dict or None, "
        "and returned a tuple of 3",
    ),
}
HOOKS = {
    "blocks": ("reader", "        yield ([0], [0, 1])\n"),
    "skipped_rows": ("reader", "        return len(None)\n"),
    "cache_key": ("reader", "        return len(None)\n"),
    "convert_state_dict": ("model", "        return state['nothing']\n"),
}
# A hook, what it returns, and what the sentence says of it.
RETURNED = {
    "blocks": ("reader", "None", "should return blocks, and returned a NoneType"),
    "skipped_rows": ("reader", "3", "should return a number and a list, and returned a int"),
    "task_names": ("model", "'ab'", "should return a list of names, and returned a str"),
    "encode_columns": (
        "model",
        "[0], 1",
        "should return indices of columns and an array of them, [k] and [n, k], and returned a "
        "tuple of 2",
    ),
    "adapt_blocks": ("model", "{'meen': 1}", "should return weights of the network by name"),
    "convert_state_dict": ("model", "None", "should return a dict, and returned a NoneType"),
}


def rows_of(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of a file of rows."""
    label, x = np.loadtxt(folder / "data" / split / "rows.txt", unpack=True)
    return label, 1 / (1 + np.exp(-x))


def write_dir(folder: Path, **runner: Any) -> Path:
    """The directory with its rows; the config's path."""
    rng = np.random.default_rng(5)
    for split, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        table = np.column_stack([rng.integers(0, 2, rows), rng.normal(size=rows)])
        (folder / "data" / split).mkdir(parents=True)
        np.savetxt(folder / "data" / split / "rows.txt", table, fmt="%.7g")
    parts = {"reader": READER, "net": NET, "dygraph_model": EAGER, "static_model": STATIC}
    for name, text in parts.items():
        (folder / f"{name}.py").write_text(text)
    given = {key: value for key, value in {**RUNNER, **runner}.items() if value != "absent"}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"runner": given}))
    return config


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class Runs:
    """Command lines that are all run in one process, and what came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[Any, tuple[str, str, Sequence[str]]] = {}
        self.results: dict[Any, Result] = {}

    def add(self, key: Any, command: str, path: str, config: Path, **runner: Any) -> None:
        out = self.out(
            key[:-1] if isinstance(key, tuple) and key[-1] in ("again", "infer") else key
        )
        where = "model_save_path" if command == "train" else "infer_load_path"
        options = override(**{where: out}, **runner)
        self.cases[key] = (command, path, ["-m", str(config), *map(str, options)])

    def out(self, key: Any) -> Path:
        return self.folder / "out" / "-".join(key if isinstance(key, tuple) else [key])

    def run(self) -> None:
        results = run_cases(self.cases.values(), cwd=self.folder)
        self.results = dict(zip(self.cases, results))

    def record(self, key: Any, file: str = "metrics", phase: str = "train") -> dict[str, Any]:
        """The only record of a phase."""
        lines = (self.out(key) / f"{file}.jsonl").read_text().splitlines()
        (record,) = [r for r in map(json.loads, lines) if r["phase"] == phase]
        return record

    def ok(self, key: Any) -> Result:
        result = self.results[key]
        assert result.status == 0, result.stderr
        return result


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("edges")
    runs = Runs(folder)
    good = write_dir(folder / "good")
    poisoned = write_dir(folder / "poisoned")
    file = poisoned.parent / "data" / "train" / "rows.txt"
    lines = file.read_text().splitlines()
    lines[BAD_BATCH * 4 + 1] = "0 1e30"
    file.write_text("\n".join(lines))
    whole = write_dir(folder / "whole", train_batch_size="absent", infer_batch_size="absent")
    edit(whole.parent / "reader.py", READER[READER.index("\n    def __iter__") :], WHOLE_BATCHES)
    empty = shutil.copytree(whole.parent, folder / "empty") / "config.yaml"
    empty.write_text(whole.read_text() + "  train_batch_size:\n")
    for path in PATHS:
        runs.add(("poisoned", path), "train", path, poisoned, skip_bad_batches="true")
        saves = {"valid_data_dir": "data/test", "use_save_data": "true", "monitor": "max:auc"}
        runs.add(("validated", path), "train", path, good, **saves)
        stopped = write_dir(folder / f"stopped_{path}")
        (stopped.parent / "stop").touch()
        runs.add(("stopped", path), "train", path, stopped)
        runs.add(("stopped", path, "again"), "train", path, stopped, resume="true")
        for name, config in (("whole", whole), ("empty", empty)):
            runs.add((name, path), "train", path, config)
            runs.add((name, path, "infer"), "infer", path, config)
    runs.add(("workers", "dygraph"), "train", "dygraph", whole, num_workers=1)
    unscored = write_dir(folder / "unscored")
    edit(unscored.parent / "dygraph_model.py", "def infer_forward", "def predict")
    runs.add("unscored", "train", "dygraph", unscored)
    runs.add(("unscored", "infer"), "infer", "dygraph", unscored)
    runs.add("unvalidated", "train", "dygraph", unscored, valid_data_dir="data/test")
    for name, (old, new, _, _) in BROKEN.items():
        config = write_dir(folder / name)
        edit(config.parent / "dygraph_model.py", old, new)
        runs.add(name, "train", "dygraph", config)
        runs.add((name, "infer"), "infer", "dygraph", config)
    runs.run()
    return runs


@pytest.mark.parametrize("path", PATHS)
def test_metrics_of_a_models_own_forget_a_batch_that_is_skipped(runs: Runs, path: str) -> None:
    result = runs.ok(("poisoned", path))
    assert f"skipped, not being finite: batch_id {BAD_BATCH}" in result.stdout
    label, p = rows_of(runs.folder / "poisoned", "train")
    kept = np.repeat(np.arange(TRAIN_ROWS // 4) != BAD_BATCH, 4)
    record = runs.record(("poisoned", path))
    assert record["rows"] == TRAIN_ROWS - 4
    assert record["auc"] == pytest.approx(roc_auc_score(label[kept], p[kept]), abs=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_the_last_training_batch_is_saved_not_the_last_one_validated(runs: Runs, path: str) -> None:
    runs.ok(("validated", path))
    batch = np.load(runs.out(("validated", path)) / "0" / "last_train_batch.npz")
    _, p = rows_of(runs.folder / "good", "train")
    np.testing.assert_allclose(batch["prediction"].ravel(), p[-4:], rtol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_rows_and_seconds_of_a_resumed_epoch_are_of_the_same_batches(runs: Runs, path: str) -> None:
    assert runs.results["stopped", path].status == 143
    runs.ok(("stopped", path, "again"))
    record = runs.record(("stopped", path))
    assert record["rows"] == TRAIN_ROWS
    assert record["seconds"] > 1.0  # the reader slept for one before the run was stopped
    assert record["rows_per_second"] == pytest.approx(record["rows"] / record["seconds"], rel=0.01)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["whole", "empty"])
def test_without_a_batch_size_the_reader_makes_whole_batches(
    runs: Runs, name: str, path: str
) -> None:
    runs.ok((name, path))
    runs.ok((name, path, "infer"))
    label, p = rows_of(runs.folder / "whole", "train")
    record = runs.record((name, path))
    assert record["rows"] == TRAIN_ROWS
    assert record["auc"] == pytest.approx(roc_auc_score(label, p), abs=1e-9)
    loss = -np.log(np.where(label > 0, p, 1 - p)).mean()
    assert record["loss"] == pytest.approx(loss, rel=1e-5)
    label, p = rows_of(runs.folder / "whole", "test")
    record = runs.record((name, path), "infer_metrics", "infer")
    assert record["rows"] == TEST_ROWS
    assert record["auc"] == pytest.approx(roc_auc_score(label, p), abs=1e-9)


def test_whole_batches_come_from_a_worker_process_too(runs: Runs) -> None:
    runs.ok(("workers", "dygraph"))
    record, expected = runs.record(("workers", "dygraph")), runs.record(("whole", "dygraph"))
    assert {k: record[k] for k in ("rows", "auc", "loss")} == {
        k: expected[k] for k in ("rows", "auc", "loss")
    }


def test_a_directory_that_cannot_score_can_be_trained(runs: Runs) -> None:
    runs.ok("unscored")
    for name in (("unscored", "infer"), "unvalidated"):
        assert runs.results[name].status == 2
        (sentence,) = runs.results[name].sentences
        assert "class DygraphModel has no method infer_forward" in sentence


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_forward_returns_is_checked(runs: Runs, name: str) -> None:
    *_, command, said = BROKEN[name]
    if command == "infer":
        runs.ok(name)
    result = runs.results[(name, "infer") if command == "infer" else name]
    assert result.status == 2
    (sentence,) = result.sentences
    assert f"{runs.folder / name / 'dygraph_model.py'}: {said}" in sentence


@pytest.fixture(scope="module")
def block_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs of the repository's own model on few rows."""
    folder = tmp_path_factory.mktemp("blocks")
    runs = Runs(folder)
    rng = np.random.default_rng(8)
    table = rng.normal(size=(75, 8))
    table[:, :2] = (table[:, 2:4] + rng.normal(size=(75, 2)) > 0).astype(float)
    runner = {**RUNNER, "train_reader_path": "census_reader", "infer_reader_path": "census_reader"}
    runner.update(train_batch_size=32, infer_batch_size=100)
    hyper = {"feature_size": 6, "task_names": ["apply", "referral"], "label_columns": [0, 1]}

    def model_dir(name: str, **changes: Any) -> Path:
        for split in ("train", "test"):
            write_table(folder / name / "data" / split / "rows.txt", table)
        return make_model_dir(folder / name, {**runner, **changes}, hyper)

    config = model_dir("good")
    for monitor in ("auc_apply", "logloss_referral"):
        options = {"monitor": monitor, "valid_share": 0.4, "epochs": 5, "shuffle": "true"}
        rate = {"hyper_parameters__optimizer__learning_rate": 0.05}
        runs.add(monitor, "train", "dygraph", config, **options, **rate)
    still = {"hyper_parameters__optimizer__learning_rate": 1e-30}
    for path in PATHS:
        runs.add(("still", path), "train", path, config, **still)
    hooks = {hook: (hook, *given) for hook, given in HOOKS.items()}
    for hook, (where, value, _) in RETURNED.items():
        hooks[f"returned {hook}"] = (hook, where, f"        return {value}\n")
    for name, (hook, where, body) in hooks.items():
        config = model_dir(name)
        file = "reader.py" if where == "reader" else "dygraph_model.py"
        state = "state" if hook == "convert_state_dict" else "*given"
        text = f"\n    def {hook}(self, {state}):\n{body}"
        if where == "reader":
            base = "from census_reader import RecDataset as Rows\n\nclass RecDataset(Rows):"
            (config.parent / file).write_text(base + text)
        else:
            base = "from eager import DygraphModel as Model\n\nclass DygraphModel(Model):"
            (config.parent / file).rename(config.parent / "eager.py")
            (config.parent / file).write_text(base + text)
        reader = {"train_reader_path": "reader"} if where == "reader" else {}
        out = {"cache_dir": folder / "cache"} if hook == "cache_key" else {}
        if hook == "convert_state_dict":
            out = {"model_init_path": runs.out("auc_apply") / "0"}
        runs.add(name, "train", "dygraph", config, **reader, **out)
    count = model_dir("counted")
    (count.parent / "reader.py").write_text(
        "from census_reader import RecDataset as Rows\n\nclass RecDataset(Rows):\n"
        "    def __init__(self, file_list, config):\n        super().__init__(file_list, config)\n"
        "        print('a reader is made')\n"
    )
    runs.add("counted", "train", "dygraph", count, train_reader_path="reader", epochs=2)
    # A file that gives an error when it is read, not before: the process's memory at address 0.
    for name in ("unreadable", "locked"):
        config = model_dir(name)
        (config.parent / "data" / "train" / "memory.txt").symlink_to("/proc/self/mem")
        edit(config.parent / "dygraph_model.py", "ShareBottomLayer.from_settings(", "broken(")
        runs.add(name, "train", "dygraph", config)
    (config.parent / "dygraph_model.py").write_text(
        CONFIG.with_name("dygraph_model.py").read_text()
    )
    runs.out("locked").mkdir(parents=True)
    with FileLock(runs.out("locked") / ".lock"):
        runs.run()
    return runs


@pytest.mark.parametrize(
    ("monitor", "choose"), [("auc_apply", np.argmax), ("logloss_referral", np.argmin)]
)
def test_a_tasks_name_does_not_turn_its_metric_round(
    block_runs: Runs, monitor: str, choose: Any
) -> None:
    block_runs.ok(monitor)
    lines = (block_runs.out(monitor) / "metrics.jsonl").read_text().splitlines()
    values = [r[monitor] for r in map(json.loads, lines) if r["phase"] == "valid"]
    assert len(set(values)) > 2
    best = json.loads((block_runs.out(monitor) / "best.json").read_text())
    assert best["epoch"] == int(choose(values))


@pytest.mark.parametrize("path", PATHS)
def test_the_training_loss_is_a_mean_over_rows(block_runs: Runs, path: str) -> None:
    """75 rows in batches of 32, the last of 11; the weights stand still."""
    block_runs.ok(("still", path))
    record = block_runs.record(("still", path))
    expected = record["logloss_apply"] + record["logloss_referral"]
    assert record["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_in_a_hook_is_its_files(block_runs: Runs, hook: str) -> None:
    result = block_runs.results[hook]
    assert result.status == 2
    (sentence,) = result.sentences
    file = "reader.py" if HOOKS[hook][0] == "reader" else "dygraph_model.py"
    assert str(block_runs.folder / hook / file) in sentence
    assert f"{hook} failed: " in sentence


@pytest.mark.parametrize("hook", RETURNED)
def test_what_a_hook_returns_is_checked(block_runs: Runs, hook: str) -> None:
    where, _, said = RETURNED[hook]
    result = block_runs.results[f"returned {hook}"]
    assert result.status == 2, result.stderr
    (sentence,) = result.sentences
    file = "reader.py" if where == "reader" else "dygraph_model.py"
    assert str(block_runs.folder / f"returned {hook}" / file) in sentence
    assert f".{hook} {said}" in sentence


def test_a_reader_is_made_for_a_pass_only(block_runs: Runs) -> None:
    """And to say what its columns are. Rows stay in memory: one pass over the files."""
    assert block_runs.ok("counted").stdout.count("a reader is made") == 2


def test_data_files_are_read_after_all_cheap_checks(block_runs: Runs) -> None:
    (sentence,) = block_runs.results["unreadable"].sentences
    assert "name 'broken' is not defined" in sentence
    (sentence,) = block_runs.results["locked"].sentences
    assert "another run is writing to" in sentence


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_infer_without_a_size_of_its_own_takes_threads_for_the_other(tmp_path: Path) -> None:
    config = write_dir(tmp_path / "model", train_batch_size=256, infer_batch_size="absent")
    edit(
        config.parent / "reader.py",
        "class RecDataset",
        "print(os.environ['MKL_NUM_THREADS'])\nclass RecDataset",
    )
    (tmp_path / "none" / "0").mkdir(parents=True)
    (tmp_path / "none" / "0" / "rec.pdparams").touch()
    result = run_tool("infer", "-m", config, *override(infer_load_path="none"), cwd=tmp_path)
    assert result.stdout.splitlines()[0] == str(min(os.cpu_count() or 1, 8))
