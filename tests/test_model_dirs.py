"""Directories that keep the contract and have none of our hooks, through all tools that apply."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import (
    ROOT,
    TOOLS,
    Result,
    batch_lines,
    override,
    run,
    run_cases,
    run_fork,
    run_tool,
)
from model_dirs import make_data
from sklearn.metrics import roc_auc_score

DIRS = ROOT / "tests" / "model_dirs"
PATHS = ("dygraph", "static")
NAMES = sorted(folder.name for folder in DIRS.iterdir() if (folder / "config.yaml").is_file())
RUNS = [
    (name, path) for name in NAMES for path in PATHS if (DIRS / name / f"{path}_model.py").is_file()
]
TASKS = {"mmoe": ("_click", "_buy"), "ple": ("_click", "_buy"), "two_tower": (), "regression": ()}
EPOCHS = 2
ALL_ROWS = 1000


class Trained(NamedTuple):
    """What training and two passes of inference left: in small batches, then in one."""

    folder: Path
    results: list[Result]

    def records(self, file: str) -> list[dict[str, Any]]:
        """Objects of a file of JSON lines, without what the clock decides."""
        lines = (self.folder / file).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            del record["seconds"], record["rows_per_second"]
        return records

    def last_batch(self) -> Mapping[str, np.ndarray]:
        """All test rows: the only batch of the second pass."""
        return np.load(self.folder / str(EPOCHS - 1) / "last_infer_batch.npz")


def copy(name: str, folder: Path) -> Path:
    """A directory with its rows; the config's path."""
    shutil.copytree(DIRS / name, folder)
    make_data.write(name, folder)
    return folder / "config.yaml"


def small_batch(name: str) -> int:
    """Rows of an inference batch: not all rows, unless the network could not take the rest."""
    return make_data.TEST_ROWS if name == "static_only" else 7


def train_all(
    folder: Path, names_and_paths: list[tuple[str, str]], fresh: bool = False
) -> dict[Any, Trained]:
    """Train and infer each, all in one process, where modules of many have the same names."""
    cases, trained = [], {}
    for name, path in names_and_paths:
        if not (folder / name).exists():
            copy(name, folder / name)
        config = str(folder / name / "config.yaml")
        out = folder / name / f"out_{path}"
        save, load = override(model_save_path=out), override(infer_load_path=out)
        small, whole = small_batch(name), ALL_ROWS if name != "static_only" else small_batch(name)
        size = "train_batch_size" if name == "custom_loader" else "infer_batch_size"
        cases += [
            ("train", path, ["-m", config, *save, "runner.use_save_data=true"]),
            (
                "infer",
                path,
                ["-m", config, *load, *override(**{size: whole}), "runner.use_save_data=true"],
            ),
            ("infer", path, ["-m", config, *load, *override(**{size: small})]),
        ]
        trained[name, path] = Trained(out, [])
    results = iter(run_cases(cases, cwd=folder, fresh=fresh))
    for run_ in trained.values():
        run_.results.extend(next(results) for _ in range(3))
    return trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Trained]:
    """Every directory on each path that it has."""
    return train_all(tmp_path_factory.mktemp("first"), RUNS)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Trained]:
    """The same in the opposite order and under another hash seed."""
    return train_all(tmp_path_factory.mktemp("second"), RUNS[::-1], fresh=True)


@pytest.mark.parametrize("run_", RUNS, ids="-".join)
def test_it_trains_and_infers(run_: tuple[str, str], trained: dict[Any, Trained]) -> None:
    name, path = run_
    for result in trained[run_].results:
        assert result.status == 0, result.stderr
        unexpected = [s for s in result.sentences if "in Paddle's old program" not in s]
        assert unexpected == []
    records = trained[run_].records("metrics.jsonl")
    rows = 60 if name == "custom_loader" else make_data.TRAIN_ROWS
    assert [(r["epoch"], r["graph"], r["rows"]) for r in records] == [
        (epoch, path, rows // 16 * 16) for epoch in range(EPOCHS)
    ]
    assert records[-1]["loss"] < records[0]["loss"]
    # Every row is scored, the last incomplete batch included.
    scored = trained[run_].records("infer_metrics.jsonl")
    rows = 60 if name == "custom_loader" else make_data.TEST_ROWS
    assert [(r["epoch"], r["rows"]) for r in scored] == [(e, rows) for e in range(EPOCHS)]
    assert (trained[run_].folder / "0" / "last_train_batch.npz").is_file()


@pytest.mark.parametrize("run_", RUNS, ids="-".join)
def test_twice_gives_equal_numbers(
    run_: tuple[str, str], trained: dict[Any, Trained], again: dict[Any, Trained]
) -> None:
    for file in ("metrics.jsonl", "infer_metrics.jsonl"):
        assert trained[run_].records(file) == again[run_].records(file)


@pytest.mark.parametrize("run_", RUNS, ids="-".join)
def test_aucs_are_those_of_scikit_learn(run_: tuple[str, str], trained: dict[Any, Trained]) -> None:
    tasks = TASKS.get(run_[0], ("",))
    record = trained[run_].records("infer_metrics.jsonl")[-1]
    assert {key for key in record if key.startswith("auc")} == {f"auc{task}" for task in tasks}
    for task in tasks:
        batch = trained[run_].last_batch()
        scores, labels = batch[f"prediction{task}"][:, -1], batch[f"label{task}"].reshape(-1)
        assert len(scores) == record["rows"]
        expected = roc_auc_score(labels, scores)
        assert record[f"auc{task}"] == pytest.approx(expected, abs=1e-6)
        assert 0 < expected < 1


@pytest.mark.parametrize(
    "name", [n for n in NAMES if (n, "static") in RUNS and (n, "dygraph") in RUNS]
)
def test_both_paths_learn_and_score_alike(name: str, trained: dict[Any, Trained]) -> None:
    """In training dropout draws the same masks on both; in inference neither drops anything."""
    for file in ("metrics.jsonl", "infer_metrics.jsonl"):
        eager, static = (trained[name, path].records(file) for path in PATHS)
        for ours, theirs in zip(eager, static):
            for key in ours.keys() & theirs.keys() - {"graph"}:
                assert ours[key] == pytest.approx(theirs[key], abs=1e-4), key


def test_an_auc_is_exact_where_bins_are_too_coarse(rng: np.random.Generator) -> None:
    """Rare events: all predictions within one of the 4096 bins that Paddle counts in."""
    import paddle

    from rec_runner.metrics.auc_rows import with_exact_aucs

    labels = rng.random(2000) < 0.3
    scores = (1e-4 * rng.random(2000) + 1e-5 * labels).astype(np.float32)
    mine, other = with_exact_aucs([paddle.metric.Auc(), paddle.metric.Accuracy()])
    for rows in (slice(0, 700), slice(700, 2000)):
        both = np.stack([1 - scores[rows], scores[rows]], axis=1)
        mine.update(preds=paddle.to_tensor(both), labels=labels[rows, np.newaxis])
        expected = roc_auc_score(labels[: rows.stop], scores[: rows.stop])
        assert mine.accumulate() == pytest.approx(expected, abs=1e-9)  # for log lines
    assert mine.rows.exact() == pytest.approx(expected, abs=1e-9)
    assert type(other) is paddle.metric.Accuracy
    mine.reset()
    assert mine.rows.exact() is None


def test_metrics_of_a_directorys_own(trained: dict[Any, Trained]) -> None:
    """A number and a list, from eager metrics; checked with the static path's predictions."""
    record = trained["regression", "dygraph"].records("infer_metrics.jsonl")[-1]
    folder = trained["regression", "static"].folder.parent
    target = np.loadtxt(folder / "data" / "test" / "part-0.txt")[:, 4]
    errors = trained["regression", "static"].last_batch()["prediction"] - target
    assert record["mse"] == pytest.approx(np.square(errors).mean(), rel=1e-3)
    expected = [np.abs(errors).mean(), np.abs(errors).max()]
    assert record["mae_and_max"] == pytest.approx(expected, rel=1e-3)


def test_the_loss_of_a_pass_is_that_of_all_its_rows(trained: dict[Any, Trained]) -> None:
    """Rows count alike, also those of a small last batch; the last batch's loss is not shown."""
    run_ = trained["regression", "static"]
    record = run_.records("infer_metrics.jsonl")[-1]
    assert record["loss"] == pytest.approx(float(run_.last_batch()["cost"]), rel=1e-5)
    for each in (record, *run_.records("metrics.jsonl")):
        assert "cost" not in each and "loss" in each
    assert all(
        {"cost", "loss"} <= values.keys() for *_, values in batch_lines(run_.results[0].stdout)
    )


def test_a_metric_may_be_a_small_array(tmp_path: Path) -> None:
    config = copy("regression", tmp_path / "model")
    net = config.parent / "net.py"
    text = net.read_text().replace("return [self.total", "return np.array([self.total")
    net.write_text(text.replace("self.worst]", "self.worst])"))
    out = override(model_save_path=tmp_path / "out", epochs=1)
    (result,) = run_cases([("train", "dygraph", ["-m", str(config), *out])], cwd=tmp_path)
    assert result.status == 0, result.stderr
    (record,) = Trained(tmp_path / "out", []).records("metrics.jsonl")
    assert len(record["mae_and_max"]) == 2
    assert result.stdout.count(f"mae_and_max: {record['mae_and_max']}") == 1  # the epoch line


def test_print_dict_is_printed(trained: dict[Any, Trained]) -> None:
    train, infer, _ = trained["two_tower", "dygraph"].results
    lines = batch_lines(train.stdout)
    assert [(epoch, batch) for epoch, batch, _ in lines] == [(0, 0), (0, 5), (1, 0), (1, 5)]
    assert all({"loss", "ranking"} <= values.keys() for _, _, values in lines)
    assert "mean_similarity: " in infer.stdout


def test_the_old_representation_is_said_once(trained: dict[Any, Trained]) -> None:
    import paddle

    for result in trained["old_representation", "static"].results:
        said = [s for s in result.sentences if "in Paddle's old program" in s]
        assert len(said) == (paddle.__version__ >= "3")
        assert all("static_model.py" in s and "new one (" in s for s in said)


def test_a_value_made_from_an_auc_counts_all_rows(trained: dict[Any, Trained]) -> None:
    """The new representation fails at the first batch; the old one counts rows in bins."""
    for file in ("metrics.jsonl", "infer_metrics.jsonl"):
        for record in trained["old_representation", "static"].records(file):
            assert record["percent"] / 100 == pytest.approx(record["auc"], abs=5e-3)


def test_a_net_that_unpacks_the_states_of_an_auc_counts_all_rows_in_them(
    trained: dict[Any, Trained],
) -> None:
    """A batch's AUC and rows counted by operators from the states stand beside the exact AUC."""
    for file in ("metrics.jsonl", "infer_metrics.jsonl"):
        for record in trained["auc_states", "static"].records(file):
            assert record["rows_counted"] == record["rows"]
            assert 0 <= record["latest"] <= 1 and "counts" not in record


def test_a_network_for_whole_batches_leaves_the_rest_out(
    trained: dict[Any, Trained], tmp_path: Path
) -> None:
    config = trained["static_only", "static"].folder.parent / "config.yaml"
    load = override(infer_load_path=trained["static_only", "static"].folder, infer_batch_size=7)
    result = run_fork("static_infer", "-m", config, *load, cwd=tmp_path)
    assert result.status == 0
    assert len(result.sentences) == 1  # not one for each epoch
    for word in ("last 3 rows are left out", "batches of 7 rows", "runner.infer_batch_size"):
        assert word in result.sentences[0]
    records = trained["static_only", "static"].records("infer_metrics.jsonl")
    assert [record["rows"] for record in records] == [49, 49]


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("left_behind", [True, False])
def test_packages_of_the_same_name_are_each_directorys_own(
    init: bool, left_behind: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another model directory, or another folder of the path, has loaded is forgotten."""
    from rec_runner.contract.model_dir import ModelDir

    monkeypatch.setattr(sys, "path", list(sys.path))
    package = f"readers_{init}_{left_behind}"
    for name in ("one", "two"):
        folder = tmp_path / name / package
        folder.mkdir(parents=True)
        text = f"class RecDataset:\n    name = {name!r}\n    def __iter__(self): pass\n"
        (folder / "mine.py").write_text(text)
        if init:
            (folder / "__init__.py").touch()
    if left_behind:
        first = ModelDir(tmp_path / "one").load(f"{package}.mine", "RecDataset")
    else:
        monkeypatch.syspath_prepend(tmp_path / "one")
        first = import_module(f"{package}.mine").RecDataset
    second = ModelDir(tmp_path / "two").load(f"{package}.mine", "RecDataset")
    assert (first.name, second.name) == ("one", "two")


def test_a_last_batch_is_left_out_only_where_a_whole_one_would_do(tmp_path: Path) -> None:
    """A network of fixed size; the same rows without the rest; and an id that is out of range."""
    cases = []
    for name in ("fixed", "cut", "wrong"):
        config = copy("slots", tmp_path / name)
        test = config.parent / "data" / "test" / "part-0.txt"
        lines = test.read_text().splitlines()
        if name == "fixed":
            net = config.parent / "net.py"
            net.write_text(net.read_text().replace("[-1, 4]", "[7, 4]"))
        elif name == "cut":
            lines = lines[:49]
        else:
            lines[50] = lines[50][:2] + "99" + lines[50][lines[50].index(" ", 2) :]
        test.write_text("\n".join(lines))
        for path in PATHS:
            out = tmp_path / name / path
            sizes = {"train_batch_size": 7, "infer_batch_size": 7, "epochs": 1}
            for tool, folder in (("train", "model_save_path"), ("infer", "infer_load_path")):
                options = override(**sizes, infer_end_epoch=1, **{folder: out})
                cases.append((tool, path, ["-m", str(config), *options]))
    results = run_cases(cases, cwd=tmp_path)
    assert [result.status for result in results] == [0] * 9 + [2, 0, 2]
    for place, path in enumerate(PATHS):
        (left_out,) = results[2 * place + 1].sentences
        assert "the last 3 rows are left out" in left_out
        (refused,) = results[2 * place + 9].sentences
        assert f"{path}_model.py" in refused and "left out" not in refused
        ours, theirs = (
            Trained(tmp_path / name / path, []).records("infer_metrics.jsonl")
            for name in ("fixed", "cut")
        )
        assert ours == theirs and ours[0]["rows"] == 49


def test_workers_of_a_reader_that_shares_nothing_do_not_double_rows(
    trained: dict[Any, Trained], tmp_path: Path
) -> None:
    config = copy("slots", tmp_path / "model")
    options = override(num_workers=3, model_save_path=tmp_path / "out", epochs=1)
    result = run_fork("trainer", "-m", config, *options, cwd=tmp_path)
    assert result.status == 0
    assert "runner.num_workers 3: 1 is used" in result.sentences[0]
    ours = Trained(tmp_path / "out", []).records("metrics.jsonl")
    assert ours == trained["slots", "dygraph"].records("metrics.jsonl")[:1]


def test_rows_tagged_zero_are_left_out_of_an_auc(tmp_path: Path) -> None:
    import paddle

    config = copy("map_style", tmp_path / "model")
    model = config.parent / "static_model.py"
    text = model.read_text().replace("(prediction, label)[0]", "(prediction, label, **tagged)[0]")
    tagged = "tagged = {'ins_tag_weight': paddle.cast(inputs[0][:, :1] > 0, 'float32')}"
    model.write_text(text.replace("auc = ", f"{tagged}\n        auc = "))
    options = ["-m", str(config), *override(epochs=1, infer_end_epoch=1, num_workers=0)]
    whole = [*options, "runner.infer_batch_size=1000", "runner.use_save_data=true"]
    cases = [("train", "static", options), ("infer", "static", whole), ("infer", "static", options)]
    for result in run_cases(cases, cwd=tmp_path):
        assert (result.status, result.sentences) == (0, []), result.stderr
    batch = np.load(tmp_path / "saved" / "0" / "last_infer_batch.npz")
    counts = np.loadtxt(config.parent / "data" / "test" / "part-0.txt")[:, 0] > 0
    if paddle.__version__ < "3":
        counts[:] = True  # its static.auc drops the tags
    expected = roc_auc_score(batch["label"][counts, 0], batch["prediction"][counts, 1])
    (record,) = Trained(tmp_path / "saved", []).records("infer_metrics.jsonl")
    assert record["auc"] == pytest.approx(expected, abs=1e-6)


STOPPING = """
                    if os.environ.get("STOP_AT_ROW") == str(row):
                        os.kill(os.getpid(), signal.SIGTERM)
                    row += 1
"""


@pytest.mark.parametrize("path", PATHS)
def test_a_run_stopped_in_mid_epoch_goes_on(
    path: str, trained: dict[Any, Trained], tmp_path: Path
) -> None:
    config = copy("mmoe", tmp_path / "model")
    reader = config.parent / "reader.py"
    text = reader.read_text().replace('"""Rows of text."""', "import os\nimport signal")
    text = text.replace("        for file in self", "        row = 0\n        for file in self")
    start = text.index("                    fields = ")
    reader.write_text(text[:start] + STOPPING.lstrip("\n") + text[start:])
    tool = {"dygraph": "trainer", "static": "static_trainer"}[path]
    arguments = ["-m", config, *override(model_save_path=tmp_path / "out", resume="true")]
    stopped = run_tool(tool, *arguments, cwd=tmp_path, STOP_AT_ROW="70")
    assert stopped.status == 143, stopped.stderr
    assert "stopped by a signal after epoch 0, batch" in stopped.sentences[-1]
    resumed = run_tool(tool, *arguments, cwd=tmp_path)
    assert resumed.status == 0, resumed.stderr
    ours = Trained(tmp_path / "out", []).records("metrics.jsonl")
    theirs = trained["mmoe", path].records("metrics.jsonl")
    for own, other in zip(ours, theirs):
        assert own.keys() == other.keys()
        for key, value in own.items():
            assert value == pytest.approx(other[key], abs=1e-6), key


SAVE_STATIC = """
import sys
import paddle
from rec_runner.config import load_config
sys.path.insert(0, sys.argv[1])
paddle.enable_static()
from static_model import StaticModel
paddle.seed(7)
model = StaticModel(load_config(sys.argv[1] + "/config.yaml"))
model.net(model.create_feeds())
model.create_optimizer()
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
paddle.static.save(paddle.static.default_main_program(), sys.argv[2] + "/rec_static")
"""


def test_static_training_starts_from_what_paddle_saved(tmp_path: Path) -> None:
    config = copy("mmoe", tmp_path / "model")
    script = [sys.executable, "-c", SAVE_STATIC, str(config.parent), str(tmp_path)]
    saved = run(script, cwd=tmp_path, PYTHONPATH=str(TOOLS))
    assert saved.status == 0, saved.stderr
    options = override(model_init_path=tmp_path, model_save_path=tmp_path / "out", epochs=1) + [
        "hyper_parameters.learning_rate=1e-12"
    ]
    result = run_fork("static_trainer", "-m", config, *options, cwd=tmp_path)
    assert result.status == 0, result.stderr
    ours, theirs = (
        np.load(file, allow_pickle=True)
        for file in (tmp_path / "out" / "0" / "rec.pdparams", tmp_path / "rec_static.pdparams")
    )
    assert ours.keys() <= theirs.keys() and len(ours) == 14
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-6)


LOAD_INFERENCE = """
import sys
import numpy as np
import paddle
paddle.enable_static()
executor = paddle.static.Executor(paddle.CPUPlace())
program, names, fetches = paddle.static.load_inference_model(sys.argv[1], executor)
rows = np.loadtxt(sys.argv[2], np.float32)
ids = {f"C{i}": rows[:, [i + 1]].astype(np.int64) for i in range(4)}
feed = {name: value for name, value in {**ids, "dense": rows[:, 5:]}.items() if name in names}
values = executor.run(program, feed=feed, fetch_list=fetches)
np.savez(sys.argv[3], *values)
"""


def test_an_inference_model_every_epoch(trained: dict[Any, Trained], tmp_path: Path) -> None:
    config = copy("slots", tmp_path / "model")
    options = override(
        use_inference="true",
        save_inference_feed_varnames="[C0, C1, C2, C3, dense]",
        save_inference_fetch_varnames="[prediction, sigmoid_0.tmp_0]",
        model_save_path=tmp_path / "out",
    )
    result = run_fork("static_trainer", "-m", config, *options, cwd=tmp_path)
    assert result.status == 0, result.stderr
    assert (tmp_path / "out" / "0" / "rec_inference.pdiparams").is_file()
    prefix = tmp_path / "out" / "1" / "rec_inference"
    rows = tmp_path / "model" / "data" / "test" / "part-0.txt"
    script = [sys.executable, "-c", LOAD_INFERENCE, str(prefix), str(rows), str(tmp_path / "v.npz")]
    loaded = run(script, cwd=tmp_path)
    assert loaded.status == 0, loaded.stderr
    expected = trained["slots", "static"].last_batch()["prediction"]
    values = np.load(tmp_path / "v.npz")
    for name in ("arr_0", "arr_1"):
        np.testing.assert_allclose(values[name], expected, atol=1e-6)


# What is changed in a file of ``slots``, the path it is run on, and words of the sentence.
BROKEN = {
    "no class": ("dygraph_model.py", "class DygraphModel", "class Other", "dygraph",
                 ["dygraph_model.py has no class DygraphModel"]),
    "no method": ("dygraph_model.py", "def train_forward", "def fit", "dygraph",
                  ["dygraph_model.py", "DygraphModel has no method train_forward"]),
    "no static method": ("static_model.py", "def create_feeds", "def feeds", "static",
                         ["static_model.py", "StaticModel has no method create_feeds"]),
    "no RecDataset": ("reader.py", "class RecDataset", "class Rows", "dygraph",
                      ["reader.py has no class RecDataset"]),
    "nothing to iterate": ("reader.py", "def __iter__", "def rows", "dygraph",
                           ["reader.py", "RecDataset"]),
    "wrong shape": ("net.py", "slots * 4 + 3", "slots * 4 + 5", "dygraph",
                    ["dygraph_model.py: DygraphModel.train_forward failed", "net.py, line ",
                     "in forward"]),
    "wrong static shape": ("net.py", "slots * 4 + 3", "slots * 4 + 5", "static",
                           ["static_model.py: StaticModel.net failed", "net.py, line ",
                            "in forward"]),
    "two values": ("dygraph_model.py", 'metrics_list, {"cost": cost}', "metrics_list", "dygraph",
                   ["DygraphModel.train_forward should return a tuple of 3", "a tuple of 2"]),
    "no layer": ("dygraph_model.py", "return Net(", "return str(", "dygraph",
                 ["DygraphModel.create_model failed"]),
    "no dict": ("static_model.py", 'return {"cost": self.cost, "auc": auc, "batch_auc": batch_auc}',
                "return [auc]", "static",
                ["StaticModel.net should return a dict of variables", "returned a list"]),
    "syntax": ("net.py", "def forward", "def def", "dygraph",
               ["dygraph_model.py cannot be imported: SyntaxError", "net.py, line "]),
    "name": ("dygraph_model.py", "import paddle\n", "import paddel\n", "dygraph",
             ["dygraph_model.py cannot be imported", "No module named 'paddel'"]),
    "constructor": ("static_model.py", "self.config = config", "self.config = config.nothing",
                    "static", ["static_model.py: StaticModel failed: AttributeError", "line "]),
    "bad row": ("reader.py", "int(fields[0])", "int(fields[99])", "dygraph",
                ["reader.py: RecDataset.__iter__ failed: IndexError", "reader.py, line "]),
    "optimizer": ("dygraph_model.py", "return paddle.optimizer.Adam", "return dict", "dygraph",
                  ["DygraphModel.create_optimizer failed"]),
    "fleet": ("config.yaml", "use_gpu: false", "use_fleet: true", "dygraph",
              ["runner.use_fleet is not supported yet"]),
    "reader type": ("config.yaml", "use_gpu: false", "reader_type: Dataloader", "dygraph",
                    ["runner.reader_type should be DataLoader or CustomizeDataLoader"]),
    "no loader": ("config.yaml", "use_gpu: false", "reader_type: CustomizeDataLoader", "static",
                  ["static_model.py", "StaticModel has no method create_data_loader"]),
    "shuffled stream": ("config.yaml", "use_gpu: false", "shuffle: true", "dygraph",
                        ["runner.shuffle", "reader.py is an IterableDataset"]),
    "inference without names": ("config.yaml", "use_gpu: false", "use_inference: true", "static",
                                ["runner.save_inference_feed_varnames"]),
    "unknown output": ("config.yaml", "use_gpu: false",
                       "use_inference: true\n  save_inference_feed_varnames: [dense]\n"
                       "  save_inference_fetch_varnames: [nothing]", "static",
                       ["save_inference_fetch_varnames: the network has no nothing; it has auc, "]),
}  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Each broken directory, trained."""
    folder = tmp_path_factory.mktemp("broken")
    cases = []
    for name, (file, old, new, path, _) in BROKEN.items():
        config = copy("slots", folder / name)
        text = (config.parent / file).read_text()
        assert old in text
        (config.parent / file).write_text(text.replace(old, new))
        options = override(model_save_path=folder / name / "out")
        cases.append(("train", path, ["-m", str(config), *options]))
    return dict(zip(BROKEN, run_cases(cases, cwd=folder)))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_directory_gets_a_sentence(name: str, broken: dict[str, Result]) -> None:
    result = broken[name]
    assert result.status == 2, result.stderr
    assert len(result.sentences) == 1, result.stderr
    for word in BROKEN[name][-1]:
        assert word in result.sentences[0]


@pytest.mark.parametrize("name", ["inference without names", "unknown output"])
def test_a_wrong_output_does_not_wait_for_the_end_of_an_epoch(
    name: str, broken: dict[str, Result]
) -> None:
    assert broken[name].stdout == ""


# Directory, command and path, what is set, and the keys that are named as having no effect.
UNUSED = [
    ("slots", "train", "dygraph", {"use_inference": "true", "save_predictions": "true"},
     ["use_inference"]),
    ("slots", "infer", "dygraph", {"use_inference": "true", "save_predictions": "true"},
     ["save_predictions"]),
    ("slots", "train", "static", {"save_inference_feed_varnames": "[C0]",
     "save_inference_fetch_varnames": "[auc]", "num_workers": 0},
     ["save_inference_feed_varnames", "save_inference_fetch_varnames"]),
    ("slots", "train", "dygraph", {"cache_dir": "c", "cache_mb": 1, "shuffle_buffer": 5,
     "bad_rows": "skip", "bad_rows_cap": 5},
     ["cache_dir", "cache_mb", "shuffle_buffer", "bad_rows", "bad_rows_cap"]),
    ("slots", "infer", "dygraph", {"shuffle_buffer": 5, "cache_mb": 1024, "cache_dir": "c"},
     ["cache_dir"]),
    ("slots", "train", "dygraph", {"reader_type": "CustomizeDataLoader"}, ["reader_type"]),
    ("slots", "infer", "dygraph", {"use_visual": "true", "resume": "true", "save_steps": 5,
     "shuffle": "true", "patience": 2, "save_inference_feed_varnames": "[C0]"}, []),
    ("custom_loader", "train", "static", {"num_workers": 2, "shuffle": "true",
     "test_data_dir": "data/test"}, ["num_workers", "shuffle"]),
    ("custom_loader", "infer", "static", {"shuffle": "true", "test_data_dir": "data/test"},
     ["test_data_dir"]),
    ("ours", "train", "dygraph", {"num_workers": 2, "cache_mb": 1, "shuffle_buffer": 5}, 
     ["num_workers"]),
    ("ours", "infer", "static", {"num_workers": 2, "bad_rows": "skip"}, ["num_workers"]),
    ("reads it", "train", "dygraph", {"bad_rows": "skip", "bad_rows_cap": 5}, ["bad_rows_cap"]),
]  # fmt: skip


def test_keys_that_have_no_effect_are_named(tmp_path: Path) -> None:
    """Each once; none that the other phase, or the directory's own code, has a use for."""
    cases = []
    for name, command, path, given, _ in UNUSED:
        folder = tmp_path / name
        config = ROOT / "config.yaml" if name == "ours" else folder / "config.yaml"
        if name != "ours" and not folder.exists():
            copy({"reads it": "slots"}.get(name, name), folder)
        if name == "reads it":
            reader = folder / "reader.py"
            text = reader.read_text().replace("file_list\n", "file_list\n        READ\n", 1)
            reader.write_text(text.replace("READ", 'config.get("runner.bad_rows")'))
        out = tmp_path / f"out_{name}"
        save = {"epochs": 1, "model_save_path": out, "infer_load_path": out}
        ends = {"infer_start_epoch": 0, "infer_end_epoch": 1}
        options = override(**save, **ends, **given)
        cases.append((command, path, ["-m", str(config), *map(str, options)]))
    for case, result in zip(UNUSED, run_cases(cases, cwd=tmp_path)):
        assert result.status == 0, result.stderr
        named = [re.search(r"runner\.(\w+) has no effect here: it ", s) for s in result.sentences]
        assert [match and match[1] for match in named] == case[-1], result.sentences


def test_rows_of_a_batch_are_counted_however_its_fields_are_nested() -> None:
    from rec_runner.data.loader_source import _rows

    ids, label = np.zeros((5, 3)), np.zeros((5, 1))
    for batch in ([ids, label], [[ids, ids], label], [{"ids": (ids,)}, label], {"x": [ids]}):
        assert _rows(batch) == 5


def test_the_best_epoch_is_that_of_the_least_error(tmp_path: Path) -> None:
    config = copy("regression", tmp_path / "model")
    valid = {"valid_data_dir": config.parent / "data" / "test", "epochs": 4}
    runs = {
        "mse": {"monitor": "mse"},
        "max": {"monitor": "max:mse"},
        "default": {},
        "list": {"monitor": "mae_and_max"},
        "absent": {"monitor": "accuracy"},
    }
    cases = []
    for name, given in runs.items():
        options = override(**valid, **given, model_save_path=tmp_path / name)
        cases.append(("train", "dygraph", ["-m", str(config), *map(str, options)]))
    results = dict(zip(runs, run_cases(cases, cwd=tmp_path)))

    lines = (tmp_path / "mse" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    errors = [r["mse"] for r in map(json.loads, lines) if r["phase"] == "valid"]
    assert len(set(errors)) == 4
    for name, choose in (("mse", np.argmin), ("max", np.argmax)):
        assert results[name].status == 0, results[name].stderr
        best = json.loads((tmp_path / name / "best.json").read_text(encoding="utf-8"))
        assert best["epoch"] == int(choose(errors))
    assert results["default"].status == 0
    (warning,) = results["default"].sentences
    assert warning.startswith("warning: auc of the validation rows is undefined")
    assert not (tmp_path / "default" / "best.json").exists()
    for name, said in (("list", "is not one number"), ("absent", "gives no accuracy; it gives")):
        assert results[name].status == 2
        (sentence,) = results[name].sentences
        assert said in sentence
    assert "mse" in results["absent"].stderr


# What ``paddle.inference``, the library that serves models, says of one, and what it gives.
PREDICT = """
import json, sys
from pathlib import Path
import numpy as np
from paddle import inference
predictions = {}
for folder, rows in json.loads(sys.argv[1]):
    model = next(Path(folder).glob("rec_inference.json"), Path(folder, "rec_inference.pdmodel"))
    config = inference.Config(str(model), str(Path(folder, "rec_inference.pdiparams")))
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    table = np.loadtxt(rows, np.float32)
    ids = {f"C{i}": table[:, [i + 1]].astype(np.int64) for i in range(4)}
    feeds = {**ids, "dense": table[:, 5:], "features": table[:, :4]}
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(feeds[name]))
    predictor.run()
    names = predictor.get_output_names()
    values = [predictor.get_output_handle(name).copy_to_cpu() for name in names]
    predictions[folder] = [names, [value.tolist() for value in values]]
print("predictions", json.dumps(predictions))
"""


def test_exported_outputs_carry_the_names_asked_for(
    trained: dict[Any, Trained], tmp_path: Path
) -> None:
    """In the new representation, with the states of an AUC in it, and in the old one."""
    slots = [f"C{i}" for i in range(4)]
    asked = {
        "slots": ([*slots, "dense"], ["prediction", "sigmoid_0.tmp_0"]),
        "auc_states": (["features"], ["prediction"]),
        "old_representation": (["features"], ["prediction"]),
    }
    cases, models = [], []
    for name, (feeds, fetches) in asked.items():
        config, out = copy(name, tmp_path / name), tmp_path / name / "out"
        options = override(
            use_inference="true",
            save_inference_feed_varnames=f"[{', '.join(feeds)}]",
            save_inference_fetch_varnames=f"[{', '.join(fetches)}]",
            model_save_path=out,
        )
        cases.append(("train", "static", ["-m", str(config), *options]))
        rows = tmp_path / name / "data" / "test" / "part-0.txt"
        models.append((str(out / str(EPOCHS - 1)), str(rows)))
    for result in run_cases(cases, cwd=tmp_path):
        assert result.status == 0, result.stderr
    loaded = run([sys.executable, "-c", PREDICT, json.dumps(models)], cwd=tmp_path)
    assert loaded.status == 0, loaded.stderr
    predictions = json.loads(loaded.stdout.split("predictions ")[1])
    for (name, (_, fetches)), (folder, _) in zip(asked.items(), models):
        names, values = predictions[folder]
        assert names == fetches
        expected = trained[name, "static"].last_batch()["prediction"]
        for value in values:
            np.testing.assert_allclose(value, expected, atol=1e-6)


def test_a_network_built_anew_at_its_first_batch_is_resumed_in_mid_epoch(tmp_path: Path) -> None:
    """What its operators have counted goes into variables that are not there before that batch."""
    config = copy("old_representation", tmp_path / "model")
    reader = config.parent / "reader.py"
    stop = (
        "self.rows = getattr(self, 'rows', 0) + 1\n{0}flag = Path(__file__).with_name('stop')\n"
        "{0}if self.rows == 70 and flag.exists():\n{0}    flag.unlink()\n"
        "{0}    os.kill(os.getpid(), signal.SIGTERM)\n{0}yield"
    )
    text = reader.read_text(encoding="utf-8")
    indent = re.search(r"^( *)yield", text, re.M)[1]
    text = text.replace("yield", stop.format(indent))
    reader.write_text(
        text.replace(
            "import numpy", "import os, signal\nfrom pathlib import Path\nimport numpy", 1
        ),
        encoding="utf-8",
    )
    (config.parent / "stop").touch()
    runs = [("stopped", {}), ("stopped", {"resume": "true"}), ("whole", {})]
    cases = []
    for name, given in runs:
        options = override(model_save_path=tmp_path / name, **given)
        cases.append(("train", "static", ["-m", str(config), *map(str, options)]))
    results = run_cases(cases, cwd=tmp_path)
    assert [result.status for result in results] == [143, 0, 0], results[1].stderr
    stopped, whole = (Trained(tmp_path / name, []) for name in ("stopped", "whole"))
    assert stopped.records("metrics.jsonl") == whole.records("metrics.jsonl")
    assert "percent" in whole.records("metrics.jsonl")[0]
