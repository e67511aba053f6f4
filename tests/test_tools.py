"""The four tools as processes, on the sample and on a person's own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import pytest
from helpers import (
    CONFIG,
    FEATURE_SIZE,
    METRICS,
    ROOT,
    TASKS,
    batch_lines,
    epoch_lines,
    make_model_dir,
    numpy_forward,
    override,
    paddlerec_state,
    run_cases,
    run_ok,
    run_tool,
    sample,
    write_table,
)
from sklearn.metrics import log_loss, roc_auc_score

EPOCHS = 10
PATHS = ("dygraph", "static")
TRAINER = {"dygraph": "trainer", "static": "static_trainer"}
INFER = {"dygraph": "infer", "static": "static_infer"}


class Run(NamedTuple):
    """What training on one path left, and what both paths' infer said of it."""

    folder: Path
    train_log: str
    infer_log: dict[str, str]


def read_predictions(file: Path) -> dict[str, np.ndarray]:
    """Columns of a predictions file by name."""
    table = np.genfromtxt(file, delimiter=",", names=True, dtype=np.float64)
    return {name: table[name] for name in table.dtype.names}


def records(file: Path) -> list[dict]:
    """Objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """config.yaml on both paths: eager from a foreign folder, static from the repository root."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folder = elsewhere / "output_model_share_bottom"  # config.yaml's, relative to the folder
    # 360 rows: the last batch holds a single one.
    scoring = override(save_predictions="true", infer_batch_size=359)
    dygraph = Run(folder, run_ok("trainer", "-m", CONFIG, cwd=elsewhere, real=True), {})
    dygraph.infer_log["dygraph"] = run_ok("infer", "-m", CONFIG, *scoring, cwd=elsewhere, real=True)
    predictions = folder / str(EPOCHS - 1) / "predictions.csv"
    predictions.rename(predictions.with_name("dygraph.csv"))
    dygraph.infer_log["static"] = run_ok(
        "static_infer", "-m", CONFIG, *scoring, cwd=elsewhere, real=True
    )

    folder = tmp_path_factory.mktemp("static") / "output"
    save = override(model_save_path=folder)
    static = Run(
        folder, run_ok("static_trainer", "-m", CONFIG.name, *save, cwd=ROOT, real=True), {}
    )
    load = override(infer_load_path=folder)
    for path in PATHS:
        static.infer_log[path] = run_ok(INFER[path], "-m", CONFIG.name, *load, cwd=ROOT)
    return {"dygraph": dygraph, "static": static}


def test_each_path_learns_both_tasks(runs: dict[str, Run]) -> None:
    for path, run in runs.items():
        scores = epoch_lines(run.infer_log[path])[EPOCHS - 1]
        for task in TASKS:
            assert scores[f"auc_{task}"] >= 0.80, (path, task)


def test_the_two_paths_print_the_same_epochs(runs: dict[str, Run]) -> None:
    dygraph, static = (epoch_lines(runs[path].train_log) for path in PATHS)
    assert sorted(dygraph) == sorted(static) == list(range(EPOCHS))
    for epoch in range(EPOCHS):
        assert {"loss", "auc_income", "auc_marital"} <= dygraph[epoch].keys()
        assert dygraph[epoch].keys() == static[epoch].keys()
        for name, value in dygraph[epoch].items():
            assert value == pytest.approx(static[epoch][name], abs=1e-5), (epoch, name)
    assert dygraph[EPOCHS - 1]["loss"] < dygraph[0]["loss"] / 2


def test_a_checkpoint_of_either_path_scores_the_same_on_both(runs: dict[str, Run]) -> None:
    for run in runs.values():
        dygraph, static = (epoch_lines(run.infer_log[path]) for path in PATHS)
        assert sorted(dygraph) == [EPOCHS - 1]  # infer_start_epoch .. infer_end_epoch - 1
        for name, value in dygraph[EPOCHS - 1].items():
            assert value == pytest.approx(static[EPOCHS - 1][name], abs=1e-6), name


def test_the_printed_auc_is_that_of_the_dumped_predictions(runs: dict[str, Run]) -> None:
    folder = runs["dygraph"].folder / str(EPOCHS - 1)
    _, labels = sample("test")
    for path, name in (("dygraph", "dygraph.csv"), ("static", "predictions.csv")):
        columns = read_predictions(folder / name)
        printed = epoch_lines(runs["dygraph"].infer_log[path])[EPOCHS - 1]
        record = records(runs["dygraph"].folder / "infer_metrics.jsonl")[-1]
        for index, task in enumerate(TASKS):
            label, probability = columns[f"label_{task}"], columns[f"probability_{task}"]
            np.testing.assert_array_equal(label, labels[:, index])  # every row, in file order
            expected = roc_auc_score(label, probability)
            assert printed[f"auc_{task}"] == pytest.approx(expected, abs=1e-6)
            assert record[f"auc_{task}"] == pytest.approx(expected, abs=1e-6)
            expected = log_loss(label, probability)
            assert record[f"logloss_{task}"] == pytest.approx(expected, rel=1e-5)


def test_records_beside_the_checkpoints_are_what_was_printed(runs: dict[str, Run]) -> None:
    for path, run in runs.items():
        lines = records(run.folder / "metrics.jsonl")
        assert [line["epoch"] for line in lines] == list(range(EPOCHS))
        printed = epoch_lines(run.train_log)
        for line in lines:
            assert line["phase"] == "train"
            assert line["graph"] == path
            assert line["rows"] == 1000  # no last batch is dropped
            assert line["rows_per_second"] > 0
            for name in (*METRICS, "loss"):
                assert line[name] == pytest.approx(printed[line["epoch"]][name], abs=6e-7)


def test_every_epoch_has_a_checkpoint_in_one_format(runs: dict[str, Run]) -> None:
    states = []
    for run in runs.values():
        for epoch in range(EPOCHS):
            assert (run.folder / str(epoch) / "rec.pdparams").is_file()
            assert (run.folder / str(epoch) / "rec.pdopt").is_file()
        states.append(paddle.load(str(run.folder / "0" / "rec.pdparams"), return_numpy=True))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert value.shape == states[1][name].shape, name
        np.testing.assert_allclose(value, states[1][name], atol=1e-5)


def test_log_lines_are_those_of_the_contract(runs: dict[str, Run]) -> None:
    for run in runs.values():
        lines = batch_lines(run.train_log)
        places = [(epoch, batch) for epoch, batch, _ in lines]
        # 32 batches of 32 rows; a line whenever print_interval divides the batch's index.
        assert places == [(e, b) for e in range(EPOCHS) for b in (0, 10, 20, 30)]
        for _, _, values in lines:
            assert {"auc_income", "auc_marital", "loss"} <= values.keys()
            assert {"avg_reader_cost", "avg_batch_cost", "avg_samples", "ips"} <= values.keys()
        for text in run.train_log.splitlines():
            if "batch_id" in text:
                assert " sec, avg_batch_cost: " in text
                assert text.endswith(" ins/s")


def test_infer_writes_a_line_every_so_many_batches_too(runs: dict[str, Run]) -> None:
    lines = batch_lines(runs["dygraph"].infer_log["dygraph"])
    assert [(epoch, batch) for epoch, batch, _ in lines] == [(EPOCHS - 1, 0)]
    for _, _, values in lines:
        assert {"auc_income", "auc_marital", "avg_batch_cost", "ips"} <= values.keys()


def test_a_summary_table_ends_the_log(runs: dict[str, Run]) -> None:
    run = runs["dygraph"]
    for log, rows in ((run.train_log, EPOCHS), (run.infer_log["static"], 1)):
        table = [line.split() for line in log.splitlines()[-rows - 1 :]]
        assert table[0][:2] == ["epoch", "phase"]
        assert {"auc_income", "auc_marital", "logloss_income", "rows/s"} <= set(table[0])
        assert [row[0] for row in table[1:]] == [str(e) for e in range(EPOCHS)][-rows:]
        final = epoch_lines(log)[EPOCHS - 1]
        for name, cell in zip(table[0], table[-1]):
            if name in final:
                assert float(cell) == final[name]


def test_without_a_terminal_there_is_no_progress_bar(runs: dict[str, Run]) -> None:
    assert all("\r" not in run.train_log and "%|" not in run.train_log for run in runs.values())


@pytest.mark.parametrize("tool", [*TRAINER.values(), *INFER.values()])
def test_help_explains(tool: str, tmp_path: Path) -> None:
    result = run_tool(tool, "-h", cwd=tmp_path)
    assert result.status == 0
    assert result.stderr == ""
    for word in ("-m", "-o", "KEY=VALUE", "CONFIG.yaml", "model directory", "runner.epochs=1"):
        assert word in result.stdout
    assert ("Train" if "train" in tool else "Score") in result.stdout
    assert ("static" if "static" in tool else "eager") in result.stdout


TASK_NAMES = ("click", "like", "share")


@pytest.fixture(scope="module")
def own_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's model directory: a file with three labels among six features, and a header."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(3)
    features = rng.normal(size=(1200, 6))
    features[:, 2] = features[:, 2] * 40 + 300  # a numeric column far from 0
    features[:, 5] = features[:, 5] > 0
    scores = [features[:, 0], (features[:, 2] - 300) / 40, features[:, 5] * 2 - 1]
    noise = rng.normal(size=(1200, 3)) / 2
    labels = np.stack(scores, axis=1) + noise > 0
    # Labels of the tasks lie in columns 8, 0 and 4.
    f, y = features, labels
    table = np.column_stack(
        [y[:, 1], f[:, 0], f[:, 1], f[:, 2], y[:, 2], f[:, 3], f[:, 4], f[:, 5], y[:, 0]]
    )
    for split, rows in (("train", table[:800]), ("test", table[800:])):
        file = write_table(folder / "rows" / split / "part-0.csv", rows)
        file.write_text("like,a,b,c,share,d,e,f,click\n" + file.read_text())
    runner = {
        "train_data_dir": "rows/train",
        "test_data_dir": "rows/test",
        "train_reader_path": "census_reader",
        "infer_reader_path": "census_reader",
        "train_batch_size": 32,
        "infer_batch_size": 100,
        "epochs": 4,
        "print_interval": 100,
        "model_save_path": "saved",
        "infer_load_path": "saved",
        "infer_start_epoch": 3,
        "infer_end_epoch": 4,
    }
    hyper = {
        "feature_size": 6,
        "task_names": list(TASK_NAMES),
        "label_columns": [8, 0, 4],
        "bottom_size": [16, 12],
        "tower_size": 4,
        "optimizer": {"class": "adam", "learning_rate": 0.01},
    }
    return make_model_dir(folder / "model", {**runner, **_absolute(folder, runner)}, hyper)


def _absolute(folder: Path, runner: dict) -> dict[str, str]:
    return {name: str(folder / runner[name]) for name in ("train_data_dir", "test_data_dir")}


def test_three_labels_of_ones_own_need_no_code(own_config: Path, tmp_path: Path) -> None:
    epochs, scores = [], []
    for path in PATHS:
        cwd = tmp_path / path
        cwd.mkdir()
        log = run_ok(TRAINER[path], "-m", own_config, cwd=cwd)
        epochs.append(epoch_lines(log))
        scores.append(epoch_lines(run_ok(INFER[path], "-m", own_config, cwd=cwd)))
        assert (cwd / "saved" / "3" / "rec.pdparams").is_file()
    for name in TASK_NAMES:
        assert scores[0][3][f"auc_{name}"] >= 0.85, name
    for ours, theirs in ((epochs[0], epochs[1]), (scores[0], scores[1])):
        assert ours.keys() == theirs.keys()
        for epoch, values in ours.items():
            assert values == pytest.approx(theirs[epoch], abs=1e-5)


@pytest.fixture(scope="module")
def paddlerec_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A folder with epoch 0 as PaddleRec's eager trainer saves it, and its arrays."""
    folder = tmp_path_factory.mktemp("paddlerec")
    state = paddlerec_state(np.random.default_rng(5), FEATURE_SIZE, 2, 117, 8)
    state["bottom.weight"][:12] /= 1000  # the raw numeric columns are large
    (folder / "0").mkdir()
    tensors = {name: paddle.to_tensor(value) for name, value in state.items()}
    paddle.save(tensors, str(folder / "0" / "rec.pdparams"))
    return folder, state


@pytest.mark.parametrize("path", PATHS)
def test_a_checkpoint_of_paddlerec_is_scored(
    path: str, paddlerec_checkpoint: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, state = paddlerec_checkpoint
    options = override(
        infer_load_path=folder,
        infer_start_epoch=0,
        infer_end_epoch=1,
        save_predictions="true",
    )
    run_ok(INFER[path], "-m", CONFIG, *options, cwd=tmp_path)
    columns = read_predictions(folder / "0" / "predictions.csv")
    expected = numpy_forward(state, sample("test")[0])[:, :, 1]
    for index, task in enumerate(TASKS):
        assert expected[index].std() > 0.01
        np.testing.assert_allclose(columns[f"probability_{task}"], expected[index], atol=1e-5)


def test_training_starts_from_a_checkpoint_of_paddlerec(
    paddlerec_checkpoint: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, state = paddlerec_checkpoint
    options = override(
        model_init_path=folder / "0",
        model_save_path="out",
        epochs=1,
        hyper_parameters__optimizer__learning_rate="1e-12",
    )
    run_ok("trainer", "-m", CONFIG, *options, cwd=tmp_path)
    saved = paddle.load(str(tmp_path / "out" / "0" / "rec.pdparams"), return_numpy=True)
    np.testing.assert_allclose(saved["bottom.0.weight"], state["bottom.weight"], atol=1e-6)
    for task in range(2):
        np.testing.assert_allclose(
            saved["out.weight"][task], state[f"tower_out_{task}.weight"], atol=1e-6
        )
        np.testing.assert_allclose(
            saved["tower.0.bias"][task, 0], state[f"tower_{task}.bias"], atol=1e-6
        )


DAMAGED = {
    "nan": ("bottom.weight", lambda w: np.full_like(w, np.nan), "bottom.0.weight", "NaN"),
    "integers": ("bottom.bias", lambda w: w.astype(np.int64), "bottom.0.bias", "int64"),
    "tall": ("bottom.weight", lambda w: w[:-1], "bottom.weight", "[498, 117]"),
}


def test_weights_that_do_not_fit_are_refused(
    paddlerec_checkpoint: tuple[Path, dict], tmp_path: Path
) -> None:
    _, state = paddlerec_checkpoint
    cases = []
    for case, (name, change, *_) in DAMAGED.items():
        folder = tmp_path / case / "0"
        folder.mkdir(parents=True)
        changed = {**state, name: change(state[name])}
        changed = {key: paddle.to_tensor(value) for key, value in changed.items()}
        paddle.save(changed, str(folder / "rec.pdparams"))
        options = override(
            infer_load_path=tmp_path / case,
            infer_start_epoch=0,
            infer_end_epoch=1,
            hyper_parameters__numeric_encoding="none",
        )
        cases.append(("infer", "dygraph", ["-m", str(CONFIG), *map(str, options)]))
    for result, (_, _, *words) in zip(run_cases(cases, cwd=tmp_path), DAMAGED.values()):
        assert result.status == 2
        (sentence,) = result.sentences
        assert all(word in sentence for word in words), sentence


def test_half_precision_weights_are_taken(
    paddlerec_checkpoint: tuple[Path, dict], tmp_path: Path
) -> None:
    _, state = paddlerec_checkpoint
    (tmp_path / "saved" / "0").mkdir(parents=True)
    half = {name: paddle.to_tensor(value.astype(np.float16)) for name, value in state.items()}
    paddle.save(half, str(tmp_path / "saved" / "0" / "rec.pdparams"))
    options = override(infer_load_path="saved", infer_start_epoch=0, infer_end_epoch=1)
    run_ok("infer", "-m", CONFIG, *options, cwd=tmp_path)


def test_an_error_in_the_network_names_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    config = make_model_dir(folder, {}, {})
    shutil.copy(CONFIG, config)
    shutil.copytree(ROOT / "data", folder / "data")
    net = (folder / "net.py").read_text(encoding="utf-8")
    assert net.count("return self.out(hidden)\n") == 1
    broken = net.replace("return self.out(hidden)\n", "return self.out(undefined_name)\n")
    (folder / "net.py").write_text(broken, encoding="utf-8")
    line = broken.splitlines().index("        return self.out(undefined_name)") + 1
    cases = [("train", path, ["-m", str(config)]) for path in PATHS]
    for result in run_cases(cases, cwd=tmp_path):
        assert result.status == 2
        (sentence,) = result.sentences
        assert "loss_and_log_odds failed: NameError" in sentence
        assert f"(net.py, line {line}, in logits)" in sentence


def test_ties_and_one_class_are_scored_as_scikit_learn_does(tmp_path: Path) -> None:
    """Few distinct rows give tied predictions; the second task has one class only."""
    rng = np.random.default_rng(1)
    features = rng.integers(0, 2, size=(101, 2))
    income = rng.random(101) < 0.2 + 0.6 * features[:, 0]
    table = np.column_stack([np.zeros(101), income, features])
    data = write_table(tmp_path / "rows" / "rows.csv", table).parent
    options = override(
        train_data_dir=data,
        test_data_dir=data,
        hyper_parameters__feature_size=2,
        epochs=1,
        infer_start_epoch=0,
        infer_end_epoch=1,
        infer_batch_size=50,
        save_predictions="true",
        model_save_path="out",
        infer_load_path="out",
    )
    run_ok("trainer", "-m", CONFIG, *options, cwd=tmp_path)
    log = run_ok("infer", "-m", CONFIG, *options, cwd=tmp_path)
    assert "auc_marital: undefined" in log
    record = records(tmp_path / "out" / "infer_metrics.jsonl")[-1]
    assert record["auc_marital"] is None
    assert record["rows"] == 101
    columns = read_predictions(tmp_path / "out" / "0" / "predictions.csv")
    probability = columns["probability_income"]
    # Equal rows may differ in the last bit: BLAS computes the rows at a batch's end otherwise.
    assert len(np.unique(probability.round(6))) <= 4
    assert len(np.unique(probability)) < 20
    expected = roc_auc_score(income, probability)
    assert record["auc_income"] == pytest.approx(expected, abs=1e-6)
    assert f"auc_income: {expected:.6f}" in log


def test_a_terminal_that_cannot_show_a_name_ends_no_run(tmp_path: Path) -> None:
    options = override(epochs=1, model_save_path="out", hyper_parameters__task_names="[收入, 婚姻]")
    result = run_tool("trainer", "-m", CONFIG, *options, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert result.status == 0, result.stderr
    assert r"auc_\u6536\u5165" in result.stdout


def test_a_flag_for_old_programs_is_said_to_have_no_effect(tmp_path: Path) -> None:
    options = override(epochs=1, model_save_path=tmp_path / "out")
    result = run_tool(
        "static_trainer", "-m", CONFIG, *options, cwd=tmp_path, FLAGS_enable_pir_api="0"
    )
    assert result.status == 0, result.stderr
    (sentence,) = result.sentences
    assert "FLAGS_enable_pir_api=0 is not followed" in sentence
