"""The training recipe: validation, early stopping, the best epoch, schedules, statistics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    CONFIG,
    TASKS,
    epoch_lines,
    override,
    run_cases,
    run_fork,
    run_ok,
    sample,
    write_table,
)
from sklearn.metrics import roc_auc_score

from hyper_parameters import ConfigError, HyperParameters
from optimizer import make_optimizer, schedule_factor

RECIPE = {
    "hyper_parameters__numeric_encoding": "piecewise_linear",
    "hyper_parameters__bottom_dropout": 0.3,
    "hyper_parameters__tower_dropout": 0.1,
    "hyper_parameters__bottom_size": "[64,32]",
    "hyper_parameters__tower_size": "[16,8]",
    "hyper_parameters__loss_weights": "[1.0,0.5]",
    "hyper_parameters__optimizer__class": "adamw",
    "hyper_parameters__optimizer__weight_decay": 0.1,
    "hyper_parameters__optimizer__learning_rate": 0.004,
    "hyper_parameters__optimizer__schedule": "cosine",
    "hyper_parameters__optimizer__warmup_epochs": 0.5,
    "hyper_parameters__optimizer__grad_clip_norm": 5.0,
    "shuffle": "true",
    "valid_share": 0.2,
    "epochs": 12,
    "patience": 2,
    "monitor": "auc",
    "infer_start_epoch": "null",
    "infer_end_epoch": "null",
    "save_predictions": "true",
}


def records(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The whole recipe, trained and inferred on both paths; the folder of each."""
    folder = tmp_path_factory.mktemp("recipe")
    for path, trainer, infer in (
        ("dygraph", "trainer", "static_infer"),
        ("static", "static_trainer", "infer"),
    ):
        out = {"model_save_path": path, "infer_load_path": path}
        options = override(**RECIPE, **out)
        run_ok(trainer, "-m", CONFIG, *options, cwd=folder)
        # A fresh process, the other path, raw rows: the statistics have travelled.
        run_ok(infer, "-m", CONFIG, *options, cwd=folder)
    return {path: folder / path for path in ("dygraph", "static")}


def test_both_paths_train_alike_with_every_part_of_the_recipe(runs: dict[str, Path]) -> None:
    eager, static = (records(runs[path] / "metrics.jsonl") for path in ("dygraph", "static"))
    assert len(eager) == len(static)
    for one, other in zip(eager, static):
        for name, value in one.items():
            if name.startswith(("auc", "logloss", "loss")):
                assert value == pytest.approx(other[name], abs=1e-5), name


def test_training_stops_early_and_marks_the_best(runs: dict[str, Path]) -> None:
    valid = [r for r in records(runs["dygraph"] / "metrics.jsonl") if r["phase"] == "valid"]
    means = [np.mean([r[f"auc_{task}"] for task in TASKS]) for r in valid]
    best = json.loads((runs["dygraph"] / "best.json").read_text())
    assert best["epoch"] == int(np.argmax(means))
    assert best["value"] == pytest.approx(max(means))
    assert len(valid) == min(best["epoch"] + 2, 11) + 1


def test_infer_takes_the_best_epoch_when_none_is_asked_for(runs: dict[str, Path]) -> None:
    for path, folder in runs.items():
        best = json.loads((folder / "best.json").read_text())["epoch"]
        scored = records(folder / "infer_metrics.jsonl")
        assert [r["epoch"] for r in scored] == [best], path
        assert min(scored[0][f"auc_{task}"] for task in TASKS) > 0.8
        table = np.genfromtxt(folder / str(best) / "predictions.csv", delimiter=",", names=True)
        for task in TASKS:
            label = table[f"label_{task}"]
            expected = roc_auc_score(label, table[f"probability_{task}"])
            assert scored[0][f"auc_{task}"] == pytest.approx(expected, abs=1e-6)


def test_validation_rows_are_a_seeded_share_and_not_trained_on(runs: dict[str, Path]) -> None:
    first = records(runs["dygraph"] / "metrics.jsonl")[:2]
    assert [r["phase"] for r in first] == ["train", "valid"]
    assert first[0]["rows"] + first[1]["rows"] == 1000
    assert 150 < first[1]["rows"] < 250


def test_validation_rows_of_one_class_are_warned_of_once(tmp_path: Path) -> None:
    features, labels = sample("test")
    married = labels[:, 1] == 0
    rows = np.column_stack([labels[married][:, ::-1], features[married]])
    write_table(tmp_path / "valid" / "rows.txt", rows)
    valid = {"valid_data_dir": tmp_path / "valid", "patience": 1, "epochs": 3}
    options = override(**valid, model_save_path="out")
    result = run_fork("trainer", "-m", CONFIG, *options, cwd=tmp_path)
    assert result.status == 0, result.stderr
    (sentence,) = result.sentences
    assert sentence.startswith("warning: auc of the validation rows is undefined")
    valid = [r for r in records(tmp_path / "out" / "metrics.jsonl") if r["phase"] == "valid"]
    assert [r["auc_marital"] for r in valid] == [None] * 3


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum", "adagrad"])
def test_each_optimizer_learns_and_both_paths_agree(optimizer: str, tmp_path: Path) -> None:
    rate = 0.1 if optimizer in ("sgd", "momentum", "adagrad") else 0.003
    options = ["-m", str(CONFIG)]
    options += override(
        epochs=3,
        hyper_parameters__optimizer__class=optimizer,
        hyper_parameters__optimizer__learning_rate=rate,
        hyper_parameters__optimizer__schedule="step",
        hyper_parameters__optimizer__decay_epochs=1,
    )
    runs = [
        run_cases([("train", path, [*options, f"runner.model_save_path={path}"])], tmp_path)[0]
        for path in ("dygraph", "static")
    ]
    assert [r.status for r in runs] == [0, 0], runs[0].stderr + runs[1].stderr
    lines = [epoch_lines(r.stdout) for r in runs]
    assert lines[0][2]["loss"] < lines[0][0]["loss"]
    for epoch, values in lines[0].items():
        assert lines[1][epoch] == pytest.approx(values, abs=1e-5)


def test_the_recipe_of_paddlerec_can_be_brought_back(tmp_path: Path) -> None:
    options = override(
        epochs=1,
        model_save_path="out",
        hyper_parameters__numeric_encoding="none",
        hyper_parameters__tower_initializer="constant",
    )
    run_ok("trainer", "-m", CONFIG, *options, cwd=tmp_path)
    from rec_runner.checkpoint.weights import load_weights

    state = load_weights(tmp_path / "out" / "0")
    assert not [name for name in state if name.startswith("encoding")]
    # Units of a tower that start alike stay alike: the tower is one unit wide.
    np.testing.assert_allclose(np.ptp(state["tower.0.weight"], axis=2), 0, atol=1e-5)


def settings(**values: object) -> HyperParameters:
    config = {f"hyper_parameters.optimizer.{name}": value for name, value in values.items()}
    return HyperParameters.from_config(config)


def test_schedules_have_the_shapes_they_are_named_for() -> None:
    cosine = settings(schedule="cosine", warmup_epochs=2)
    assert schedule_factor(cosine, 1, 12) == pytest.approx(0.5)
    assert schedule_factor(cosine, 2, 12) == pytest.approx(1)
    assert schedule_factor(cosine, 7, 12) == pytest.approx(0.5)
    assert schedule_factor(cosine, 12, 12) == pytest.approx(0)
    short = settings(schedule="cosine", decay_epochs=4)
    assert schedule_factor(short, 2, 100) == pytest.approx(0.5)
    assert schedule_factor(short, 50, 100) == 0
    step = settings(schedule="step", decay_epochs=3, decay_rate=0.1)
    assert [schedule_factor(step, e, 9) for e in (0, 2.9, 3, 8)] == pytest.approx([1, 1, 0.1, 0.01])
    assert schedule_factor(settings(), 5, 10) == 1


def test_the_rate_follows_the_schedule_step_by_step() -> None:
    import paddle

    config = {
        "hyper_parameters.optimizer.schedule": "cosine",
        "hyper_parameters.optimizer.learning_rate": 0.01,
        "runner.epochs": 2,
        "steps_per_epoch": 5,
    }
    weight = paddle.create_parameter([2], "float32")
    optimizer = make_optimizer(config, [weight])
    rates = []
    for _ in range(10):
        rates.append(optimizer.get_lr())
        optimizer._learning_rate.step()
    expected = [0.01 * 0.5 * (1 + np.cos(np.pi * (i + 0.5) / 10)) for i in range(10)]
    assert rates == pytest.approx(expected)
    # PaddleRec's tools do not say how many steps an epoch has: the rate stays.
    del config["steps_per_epoch"]
    assert make_optimizer(config, [weight]).get_lr() == 0.01


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bottom_dropout", 1.0),
        ("numeric_encoding", "log"),
        ("optimizer.class", "adan"),
        ("loss_weights", [1.0]),
        ("tower_size", []),
        ("optimizer.learning_rate", -1.0),
        ("feature_size", "many"),
    ],
)
def test_a_wrong_hyper_parameter_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"hyper_parameters.{key} should"):
        HyperParameters.from_config({f"hyper_parameters.{key}": value})
