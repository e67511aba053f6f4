"""What ``runner.use_visual`` writes, read back by VisualDL itself."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import CONFIG, ROOT, make_model_dir, override, run_ok, run_tool, sample, write_table
from model_dirs import make_data

visualdl = pytest.importorskip("visualdl")
TRAINERS = ("trainer", "static_trainer")
RATE = 0.1


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """``(step, value)`` pairs by tag."""
    (file,) = (folder / "visualDL_log").iterdir()
    reader = visualdl.LogReader(file_path=str(file))
    tags = reader.get_tags()["scalar"]
    return {tag: [(d.id, d.value) for d in reader.get_data("scalar", tag)] for tag in tags}


def weights(folder: Path) -> dict[str, np.ndarray]:
    """A checkpoint's weights, as Paddle loads them."""
    import paddle

    return paddle.load(str(folder / "rec.pdparams"), return_numpy=True)


@pytest.mark.parametrize("tool", TRAINERS)
def test_gradient_norms_are_those_of_the_step_and_do_not_change_it(
    tool: str, tmp_path: Path
) -> None:
    features, labels = sample("train")
    rows = np.column_stack([labels[:32, ::-1], features[:32]])
    write_table(tmp_path / "data" / "rows.txt", rows)
    sgd = {"class": "sgd", "learning_rate": RATE}
    hyper = {"feature_size": 499, "task_num": 2, "label_columns": [1, 0], "optimizer": sgd}
    runner = {"train_data_dir": "data", "train_batch_size": 32, "epochs": 3, "print_interval": 1}
    config = make_model_dir(
        tmp_path, {**runner, "train_reader_path": "census_reader", "use_auc": True}, hyper
    )
    for out, use in (("with", "true"), ("without", "false")):
        options = override(model_save_path=out, use_visual=use)
        run_ok(tool, "-m", config, *options, cwd=tmp_path)

    # One step an epoch and plain SGD: a step is the gradient times the rate.
    seen = scalars(tmp_path / "with")
    before, after = (weights(tmp_path / "with" / str(epoch)) for epoch in (0, 1))
    moved = {
        name: np.linalg.norm((before[name] - after[name]).astype(np.float64)) / RATE
        for name in before
        if f"gradient_norm/{name}" in seen
    }
    assert len(moved) == 6
    for name, norm in moved.items():
        step, value = seen[f"gradient_norm/{name}"][1]
        assert step == 2 and value == pytest.approx(norm, rel=1e-3), name
    together = math.sqrt(sum(norm**2 for norm in moved.values()))
    assert seen["gradient_norm/all"][1][1] == pytest.approx(together, rel=1e-3)

    plain = weights(tmp_path / "without" / "2")
    for name, value in weights(tmp_path / "with" / "2").items():
        np.testing.assert_array_equal(value, plain[name])


@pytest.mark.parametrize("tool", TRAINERS)
def test_a_directory_without_our_hooks_writes_the_same_kinds(tool: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "model_dirs" / "mmoe", tmp_path / "model")
    make_data.write("mmoe", tmp_path / "model")
    options = override(use_visual="true", model_save_path=tmp_path / "out")
    run_ok(tool, "-m", tmp_path / "model" / "config.yaml", *options, cwd=tmp_path)
    seen = scalars(tmp_path / "out")
    assert [step for step, _ in seen["train/loss" if tool == "trainer" else "train/cost"]]
    steps = [step for step, _ in seen["gradient_norm/all"]]
    assert steps == [1, 6, 8, 13]
    assert {value for _, value in seen["train/learning_rate"]} == {np.float32(0.02)}
    norms = [tag for tag in seen if tag.startswith("gradient_norm/") and not tag.endswith("/all")]
    assert len(norms) == len(weights(tmp_path / "out" / "1"))
    for tag in norms:
        assert all(value > 0 for _, value in seen[tag]), tag
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[-1])
    for name in ("auc_click", "auc_buy"):
        assert seen[f"train_epoch/{name}"][-1] == (1, np.float32(record[name]))
        assert f"train/{name}" in seen


def test_the_old_representation_gives_gradient_norms_too(tmp_path: Path) -> None:
    name = "old_representation"
    shutil.copytree(ROOT / "tests" / "model_dirs" / name, tmp_path / "model")
    make_data.write(name, tmp_path / "model")
    options = override(use_visual="true", model_save_path=tmp_path / "out")
    run_ok("static_trainer", "-m", tmp_path / "model" / "config.yaml", *options, cwd=tmp_path)
    seen = scalars(tmp_path / "out")
    norms = {tag for tag in seen if tag.startswith("gradient_norm/")}
    assert len(norms) == 1 + len(weights(tmp_path / "out" / "0"))
    assert all(value > 0 for tag in norms for _, value in seen[tag])


def test_names_that_visualdl_refuses_are_written_in_its_way(tmp_path: Path) -> None:
    names = ["50% off", "%", "$x_{/b"]
    options = override(use_visual="true", model_save_path="out", epochs=1)
    columns = ["hyper_parameters.label_columns=[1, 0, 20]", "hyper_parameters.feature_size=498"]
    options += [f"hyper_parameters.task_names={json.dumps(names)}", *columns]
    options += ["hyper_parameters.task_num=3"]
    run_ok("trainer", "-m", CONFIG, *options, cwd=tmp_path)
    seen = scalars(tmp_path / "out")
    (line,) = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for name, shown in zip(names, ["50\uff05 off", "\uff05", "$x_{/b"]):
        score = json.loads(line)[f"logloss_{name}"]
        assert seen[f"train_epoch/logloss_{shown}"] == [(0, np.float32(score))]


def test_without_visualdl_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    module = tmp_path / "path" / "visualdl.py"
    module.parent.mkdir()
    module.write_text("raise ImportError('No module named visualdl')")
    options = override(use_visual="true", model_save_path=tmp_path / "out")
    result = run_tool(
        "trainer", "-m", CONFIG, *options, cwd=tmp_path, PYTHONPATH=str(module.parent)
    )
    assert result.status == 2
    assert len(result.sentences) == 1 and "python -m pip install visualdl" in result.sentences[0]
