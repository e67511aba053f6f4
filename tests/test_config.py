"""The config: flattened, overridden and checked at the border, hyper-parameters too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from helpers import COMMANDS, CONFIG, ROOT, Result, override, run_cases, run_ok

from hyper_parameters import ConfigError, HyperParameters
from optimizer import make_optimizer, schedule_factor
from rec_runner.config import Config, load_config
from rec_runner.keys import RUNNER_KEYS
from rec_runner.system.errors import UserError


def config_file(folder: Path, text: str) -> str:
    """A config file with `text`."""
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def hyper(**values: Any) -> HyperParameters:
    """Settings from ``hyper_parameters.<name>``; ``__`` stands for a dot."""
    return HyperParameters.from_config(
        {f"hyper_parameters.{name.replace('__', '.')}": value for name, value in values.items()}
    )


@pytest.mark.parametrize(
    "text",
    [
        "runner: &a {epochs: 1, more: *a}",
        "runner: {epochs: 1, more: &b [1, *b]}",
        "runner: {more: " + "[" * 2_000 + "]" * 2_000 + "}",
        "\n".join(
            ["a0: &a0 {x: 1}"]
            + [
                f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}"
                for i in range(1, 12)
            ]
            + ["runner: *a11"]
        ),
    ],
    ids=["itself", "list_of_itself", "deep", "bomb"],
)
def test_yaml_without_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError):
        load_config(config_file(tmp_path, text))


def alias_bomb(open_: str, close: str, levels: int, merge: bool = False) -> str:
    """Lists or mappings of ten aliases of the level below: 10 to the power of ``levels`` values."""
    lines = ["a0: &a0 [1]" if open_ == "[" else "a0: &a0 {x: 1}"]
    for level in range(1, levels + 1):
        items = [f"*a{level - 1}"] * 10
        if merge:
            items = [f"<<: [{', '.join(items)}]"]
        elif open_ == "{":
            items = [f"k{place}: {item}" for place, item in enumerate(items)]
        lines.append(f"a{level}: &a{level} {open_}{', '.join(items)}{close}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        alias_bomb("[", "]", 9) + "\nhyper_parameters: {sizes: *a9}",
        alias_bomb("[", "]", 9) + "\nother: *a9",
        alias_bomb("{", "}", 9, merge=True) + "\nrunner: *a9",
        "hyper_parameters: {deep: " + "[" * 100 + "]" * 100 + "}",
        "\n".join(
            ["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 3000)), "runner: *a2999"]
        ),
        "runner: &r {<<: *r, epochs: 1}",
        "runner: {seed: 0x" + "f" * 5000 + "}",
        "runner: {seed: " + "1" * 200_000 + "}",
        "runner: {seed: " + "1" * 200_000 + "x}",
        "hyper_parameters: {a: " + ":".join(["59"] * 50_000) + "}",
        "runner: {epochs: !!int ''}",
        "runner: {epochs: !!bool x}",
        "runner: {epochs: !!timestamp x}",
        "runner: {epochs: !!float ''}",
    ],
    ids=(
        "lists elsewhere merges deep chain merges_itself hex digits digits_and_a_letter sixties "
        "int bool timestamp float"
    ).split(),
)
def test_yaml_that_multiplies_or_breaks_the_parser_is_refused_at_once(
    tmp_path: Path, text: str
) -> None:
    file = config_file(tmp_path, text)
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert file in str(caught.value)
    assert len(str(caught.value)) < 500 and len(str(caught.value).splitlines()) == 1
    section, _, value = text.splitlines()[-1].partition(": ")
    if not value.startswith("*") and section in ("runner", "hyper_parameters"):
        with pytest.raises(UserError):
            load_config(str(CONFIG), [f"{section}={value}"])
    assert time.perf_counter() - start < 5


def test_yaml_that_repeats_a_little_is_read(tmp_path: Path) -> None:
    text = "base: &base {seed: 3, epochs: 2}\nrunner: {<<: *base, epochs: 5}\n"
    text += "hyper_parameters: {sizes: &sizes [8, 4], again: *sizes, rows: [*sizes, *sizes]}"
    config = load_config(config_file(tmp_path, text), ["hyper_parameters.x={a: &a [1], b: *a}"])
    assert (config["runner.seed"], config["runner.epochs"]) == (3, 5)
    assert config["hyper_parameters.rows"] == [[8, 4], [8, 4]]
    assert config["hyper_parameters.x.a"] == config["hyper_parameters.x.b"] == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "runner:\n  epochs: 1\n  seed: 2\n  epochs: 3",
            "runner.epochs is given twice, in lines 2 and 4",
        ),
        ("runner: {epochs: 1, 'epochs': 1}", "runner.epochs is given twice, in lines 1 and 1"),
        ("runner: {seed: 1}\nrunner: {epochs: 1}", "runner is given twice, in lines 1 and 2"),
        (
            "hyper_parameters:\n  optimizer:\n    class: sgd\n    class: adam",
            "hyper_parameters.optimizer.class is given twice, in lines 3 and 4",
        ),
        (
            "hyper_parameters:\n  optimizer.class: sgd\n  optimizer: {class: adam}",
            "hyper_parameters.optimizer.class is given twice, in lines 2 and 3",
        ),
        (
            "hyper_parameters:\n  rows:\n  - {a: 1}\n  - a: 1\n    a: 2",
            "hyper_parameters.rows[1].a is given twice, in lines 4 and 5",
        ),
        ("hyper_parameters: {1: a, '1': b}", "hyper_parameters.1 is given twice, in lines 1 and 1"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = config_file(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert str(caught.value) == f"config {file}: {said}"


def test_a_key_that_is_given_twice_in_an_override_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^-o .*: hyper_parameters.optimizer.class is given twice, in"
    ):
        load_config(str(CONFIG), ["hyper_parameters.optimizer={class: sgd, class: adam}"])


def test_what_other_sections_give_twice_is_nobodys_business(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, "runner: {seed: 4}\nphase: {a: 1, a: 2}\nphase: 3"))
    assert config.runner("seed") == 4


def test_the_quick_start_config_is_flat() -> None:
    config = load_config(str(CONFIG))
    assert isinstance(config, dict)
    assert config["runner.train_data_dir"] == "data/train"
    assert config["hyper_parameters.optimizer.class"] == "adam"
    assert config["hyper_parameters.label_columns"] == [1, 0]
    assert config["config_abs_dir"] == str(ROOT)
    assert config["yaml_path"] == str(CONFIG)
    assert config.get("runner.absent", 3) == 3
    assert not any(isinstance(value, dict) for value in config.values())


@pytest.mark.parametrize("name", ["config.yaml", "config_bigdata.yaml", "config_fast.yaml"])
def test_shipped_configs_name_the_keys_paddlerec_requires(name: str) -> None:
    config = load_config(str(ROOT / name))
    for key in ("train_data_dir", "test_data_dir", "train_batch_size", "infer_batch_size"):
        assert f"runner.{key}" in config
    for key in ("epochs", "print_interval", "use_gpu"):  # use_gpu: PaddleRec's default is true
        assert f"runner.{key}" in config
    assert config["runner.train_reader_path"] == config["runner.infer_reader_path"]
    assert config["runner.train_reader_path"] == "census_reader"
    HyperParameters.from_config(config)


def test_only_the_three_sections_belong_to_the_config(tmp_path: Path) -> None:
    text = "runner: {epochs: 1}\nworkspace: here\nother: {a: 1}\nhyper_parameters: {x: {y: [1, 2]}}"
    config = load_config(config_file(tmp_path, text))
    assert config.keys() == {
        "runner.epochs",
        "workspace",
        "hyper_parameters.x.y",
        "config_abs_dir",
        "yaml_path",
    }
    assert config["hyper_parameters.x.y"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("-2E5", -2e5),
        ("true", True),
        ("abc", "abc"),
        ("'3'", "3"),
        ("[1, 0]", [1, 0]),
        ("[a, b]", ["a", "b"]),
        ("", None),
        ("a=b", "a=b"),
        ("e3", "e3"),
        ("./1e", "./1e"),
    ],
)
def test_overrides_are_typed_as_yaml_types_them(text: str, value: Any) -> None:
    config = load_config(str(CONFIG), [f"hyper_parameters.fresh.key={text}"])
    assert config["hyper_parameters.fresh.key"] == value
    assert type(config["hyper_parameters.fresh.key"]) is type(value)


def test_overrides_come_in_order_and_may_replace_a_whole_mapping() -> None:
    config = load_config(
        str(CONFIG),
        ["runner.epochs=2", "hyper_parameters.optimizer={class: sgd}", "runner.epochs=3"],
    )
    assert config["runner.epochs"] == 3
    assert config["hyper_parameters.optimizer.class"] == "sgd"
    assert "hyper_parameters.optimizer.learning_rate" not in config


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, "runner: {}"))
    assert config.runner("train_reader_path") == "reader"
    assert config.runner("infer_reader_path") == "reader"
    assert config.runner("model_save_path") == "model_output"
    assert config.runner("infer_load_path") == "model_output"
    assert config.runner("seed") == 12345
    assert config.runner("num_workers") == 0
    assert config.runner("reader_type") == "DataLoader"
    assert config.runner("thread_num") is None  # chosen by batch size, see environment.py
    with pytest.raises(UserError, match=r"runner\.epochs is missing"):
        config.required("epochs")


def test_every_runner_key_is_explained() -> None:
    names = [key.name for key in RUNNER_KEYS]
    assert len(set(names)) == len(names)
    assert all(key.meaning for key in RUNNER_KEYS)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("runner.epochs=many", "runner.epochs should be of type int, got 'many'"),
        ("runner.epochs=1.5", "runner.epochs should be of type int, got 1.5"),
        ("runner.epochs=true", "runner.epochs should be of type int, got True"),
        ("runner.use_gpu=1", "runner.use_gpu should be of type bool, got 1"),
        ("runner.train_data_dir=3", "runner.train_data_dir should be of type str, got 3"),
        ("runner.train_data_dir=[a]", "runner.train_data_dir should be of type str, got ['a']"),
        ("runner.train_batch_size=0", "runner.train_batch_size should be at least 1, got 0"),
        ("runner.print_interval=-1", "runner.print_interval should be at least 1, got -1"),
        ("runner.epochs", "-o runner.epochs: expected key=value"),
        ("=3", "-o =3: expected key=value"),
        ("epochs=3", "key epochs should start with one of runner"),
        ("runner.epochs=[1", "value is not YAML"),
        ("runner.epochs=2024-13-45", "value is not YAML"),
        ("runner.epochs=0", "runner.epochs should be at least 1, got 0"),
        ("runner.seed=-1", "runner.seed should be at least 0, got -1"),
        (f"runner.seed={10**23}", "runner.seed should be at most 2147483647, got 1000"),
        (f"runner.shuffle_buffer={10**14}", "runner.shuffle_buffer should be at most 2147483647"),
        ("runner=5", "-o runner=5: runner is a section, set one of its keys"),
        ("runner.=5", "-o runner.=5: expected key=value"),
        ("runner.epochs.x=3", "-o runner.epochs.x=3: runner.epochs is a value (10), not a section"),
        ("runner.epochs={a: 1}", "runner.epochs is a value (10), not a section"),
        ("runner.patience.x=3", "runner.patience should be of type int, got {'x': 3}"),
        ("runner.patience={}", "runner.patience should be of type int, got {}"),
        ("hyper_parameters=5", "hyper_parameters is a section, set one of its keys"),
        ("hyper_parameters=[a]", "hyper_parameters is a section"),
        ("hyper_parameters=", "hyper_parameters is a section"),
        (
            "hyper_parameters.optimizer=adam",
            "hyper_parameters.optimizer is a section, set one of its keys, "
            "for example -o hyper_parameters.optimizer.class=...",
        ),
        ("hyper_parameters.optimizer=", "hyper_parameters.optimizer is a section"),
        (
            "hyper_parameters.tower_size.x=3",
            "hyper_parameters.tower_size is a value (8), not a section",
        ),
        ("hyper_parameters.tower_size={x: 3}", "hyper_parameters.tower_size is a value (8)"),
    ],
)
def test_a_bad_override_is_said(pair: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(str(CONFIG), [pair])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["- 1\n- 2", "3", "", "runner: [\n", "a: b: c", "\tx: 1"])
def test_a_file_that_is_no_config_is_said(tmp_path: Path, text: str) -> None:
    file = config_file(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert file in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_empty_section_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("runner:\nhyper_parameters:\n", "runner: {}\nhyper_parameters: {optimizer: }\n"):
        config = load_config(config_file(tmp_path, text))
        assert config.runner("seed") == 12345
        assert HyperParameters.from_config(config) == HyperParameters()
    assert capsys.readouterr().err == ""


def test_an_override_may_fill_an_empty_section(tmp_path: Path) -> None:
    file = config_file(tmp_path, "hyper_parameters: {optimizer: }")
    config = load_config(file, ["hyper_parameters.optimizer.class=sgd"])
    assert HyperParameters.from_config(config).optimizer == "sgd"
    assert "hyper_parameters.optimizer" not in config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runner: 3", "runner should be a mapping, got 3"),
        ("runner: [{name: train}]", "runner should be a mapping, got [{'name': 'train'}]"),
        ("hyper_parameters: adam", "hyper_parameters should be a mapping, got 'adam'"),
        ("runner: {epochs: {x: 3}}", "runner.epochs should be of type int, got {'x': 3}"),
        ("runner: {seed: {}}", "runner.seed should be of type int, got {}"),
    ],
)
def test_a_value_for_a_section_is_said_and_the_other_way_round(
    tmp_path: Path, text: str, said: str
) -> None:
    file = config_file(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert str(caught.value).endswith(f"{file}: {said}")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("hyper_parameter", "hyper_parameters"),
        ("hyperparameters", "hyper_parameters"),
        ("hyper_params", "hyper_parameters"),
        ("Runner", "runner"),
        ("runner.epochs", "runner"),
    ],
)
def test_a_misspelt_section_is_warned_of(
    tmp_path: Path, name: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config_file(tmp_path, f"runner: {{epochs: 1}}\n{name}: {{bottom_size: 3}}\n")
    assert load_config(file).required("epochs") == 1
    told = f"warning: {file}: section {name} is not read; did you mean {near}?\n"
    assert capsys.readouterr().err == told


def test_other_sections_are_nobodys_business(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = "dataset: []\nmode: train\nphase:\n- {name: a}\ntrain: {epochs: 3}\n1: 2\nnull: 3\n"
    load_config(config_file(tmp_path, f"runner: {{epochs: 1}}\n{others}"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("epoch", "; did you mean runner.epochs?"),
        ("random_seed", "; did you mean runner.seed?"),
        ("keep", "; did you mean runner.keep_checkpoints?"),
        ("gpu", "; did you mean runner.use_gpu?"),
        ("device", "; see runner.use_gpu, runner.use_xpu or runner.use_npu"),
        ("sync_mode", "; see runner.use_fleet"),
        ("split_file_list", "; the nearest is runner.use_fleet"),
        ("qqq", ""),
    ],
)
def test_an_unknown_runner_key_is_warned_of(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load_config(str(CONFIG), [f"runner.{name}=3"])
    told = f"warning: {CONFIG}: runner.{name} is not a key of these tools{hint}\n"
    assert capsys.readouterr().err == told


def test_a_known_key_is_not_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    load_config(str(CONFIG))
    assert capsys.readouterr().err == ""


def test_only_unquoted_text_is_a_number_and_only_where_one_may_be(tmp_path: Path) -> None:
    text = (
        "runner: {model_save_path: 1e5, infer_load_path: '1e6', valid_share: 1e-1}\n"
        "hyper_parameters: {rate: 1e-3, name: '1e-3', rates: [1e-3, 2]}\n"
    )
    config = load_config(config_file(tmp_path, text), ["runner.cache_dir=2e7"])
    assert config["runner.model_save_path"] == "1e5"
    assert config["runner.infer_load_path"] == "1e6"
    assert config["runner.cache_dir"] == "2e7"
    assert config["runner.valid_share"] == 0.1
    assert config["hyper_parameters.rate"] == 0.001
    assert config["hyper_parameters.name"] == "1e-3"
    assert config["hyper_parameters.rates"] == [0.001, 2]
    assert {type(value) for value in config.values()} == {str, float, list}


def test_settings_default_to_census() -> None:
    settings = hyper()
    assert settings.feature_size == 499
    assert settings.task_names == ("income", "marital")
    assert settings.label_columns == (1, 0)
    assert settings.bottom_size == (117,)
    assert settings.tower_size == (8,)
    assert settings.task_num == 2
    assert settings == HyperParameters()


def test_tasks_come_from_names_columns_or_a_number() -> None:
    assert hyper(task_names=["a", "b", "c"]).label_columns == (0, 1, 2)
    assert hyper(label_columns=[4, 2]).task_names == ("task_0", "task_1")
    by_number = hyper(task_num=3)
    assert (by_number.label_columns, by_number.task_num) == ((0, 1, 2), 3)
    assert len(set(by_number.task_names)) == 3
    assert hyper(task_num=2) == hyper()  # as PaddleRec's config of this model has it
    assert hyper(task_names="only", label_columns=0).task_num == 1


def test_numbers_stand_for_lists_and_whole_numbers_for_floats() -> None:
    settings = hyper(bottom_size=64, tower_size=[16, 8], optimizer__learning_rate=1)
    assert settings.bottom_size == (64,)
    assert settings.tower_size == (16, 8)
    assert settings.learning_rate == 1.0


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("feature_size", "many", "int"),
        ("feature_size", 0, "at least 1"),
        ("feature_size", 4.5, "int"),
        ("feature_size", True, "int"),
        ("task_names", [1, 2], "list of str"),
        ("task_names", ["a", "a"], "not repeat"),
        ("task_names", [], "at least one task"),
        ("task_num", "two", "whole number"),
        ("task_num", 0, "at least one task"),
        ("label_columns", [0], "one column per task"),
        ("label_columns", [1, 1], "not repeat"),
        ("label_columns", [0, 501], "0..500"),
        ("label_columns", [-1, 0], "0..500"),
        ("loss_weights", [1], "one weight per task"),
        ("loss_weights", [1, -1], "negative"),
        ("loss_weights", [0, 0.0], "have one above 0"),
        ("bottom_size", [], "at least one layer"),
        ("bottom_size", [5, 0], "at least 1"),
        ("tower_size", "8", "list of int"),
        ("bottom_dropout", 1.0, "[0, 1)"),
        ("initializer", "zeros", "one of xavier"),
        ("numeric_encoding", "log", "one of none, standard, piecewise_linear"),
        ("optimizer.class", "adamax", "one of adam"),
        ("optimizer.learning_rate", 0, "positive"),
        ("optimizer.learning_rate", "fast", "float"),
        ("optimizer.learning_rate", float("nan"), "finite"),
        ("optimizer.schedule", "linear", "one of constant"),
        ("optimizer", "sgd", "should be a section with class, learning_rate, "),
        ("optimizer", ["adam"], "got ['adam']"),
        ("optimizer", "", "should be a section"),
        ("bottom_size.x", 3, "hyper_parameters.bottom_size should be a value, not a section"),
        ("task_num.x", 3, "hyper_parameters.task_num should be a value, not a section"),
    ],
)
def test_a_bad_setting_is_said(key: str, value: Any, said: str) -> None:
    config = {f"hyper_parameters.{key}": value}
    if key == "label_columns":
        config["hyper_parameters.task_names"] = ["a", "b"]
    with pytest.raises(ConfigError) as caught:
        HyperParameters.from_config(config)
    message = str(caught.value)
    assert f"hyper_parameters.{key}" in message or "hyper_parameters.task_names" in message
    assert said in message
    assert caught.value.user_error


@pytest.mark.parametrize("number", [float("inf"), -float("inf"), float("nan"), 10**400])
@pytest.mark.parametrize("key", ["grad_clip_norm", "learning_rate", "warmup_epochs"])
def test_a_number_that_is_not_finite_is_said(key: str, number: float) -> None:
    """Gradients clipped to an infinite norm, for instance, would be NaN."""
    with pytest.raises(ConfigError, match=f"optimizer.{key} should be a finite number"):
        hyper(**{f"optimizer__{key}": number})


@pytest.mark.parametrize("value", [True, "5", [1, 2], -1])
def test_a_norm_to_clip_to_is_a_number_from_0(value: Any) -> None:
    with pytest.raises(ConfigError, match="grad_clip_norm should (be of type float|not be negat)"):
        hyper(optimizer__grad_clip_norm=value)


def test_gradients_are_not_clipped_to_what_paddle_holds_for_infinite() -> None:
    """As with 0; they would be NaN."""
    weight = paddle.create_parameter([3], "float32")
    before = weight.numpy()
    for norm in (0, 1e39):
        config = {"hyper_parameters.optimizer.grad_clip_norm": norm}
        optimizer = make_optimizer(config, [weight])
        (weight * 2).sum().backward()
        optimizer.step()
    assert np.isfinite(weight.numpy()).all() and (weight.numpy() < before).all()


def test_a_number_of_tasks_at_odds_with_their_names_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        hyper(task_num=3, task_names=["a", "b"])
    assert "hyper_parameters.task_num is 3" in str(caught.value)
    assert "['a', 'b']" in str(caught.value)


def test_an_unknown_setting_is_warned_of() -> None:
    for key, hint in (
        ("bottom_sise", "; did you mean hyper_parameters.bottom_size?"),
        ("learning_rate", "; did you mean hyper_parameters.optimizer.learning_rate?"),
        ("optimizer.decay", "; did you mean hyper_parameters.optimizer.decay_rate?"),
        ("sparse_inputs_slots", ""),
    ):
        with pytest.warns(UserWarning) as told:
            HyperParameters.from_config({f"hyper_parameters.{key}": 3})
        (warning,) = told
        assert str(warning.message) == f"hyper_parameters.{key} is not a key of this model{hint}"


def test_a_plain_dict_will_do() -> None:
    config = Config({"hyper_parameters.feature_size": 3, "runner.epochs": 2})
    assert HyperParameters.from_config(dict(config)).feature_size == 3


def test_schedules() -> None:
    constant = hyper()
    assert {schedule_factor(constant, epoch, 4) for epoch in (0, 1.5, 4)} == {1.0}
    warm = hyper(optimizer__warmup_epochs=2)
    assert schedule_factor(warm, 0.5, 4) == 0.25
    cosine = hyper(optimizer__schedule="cosine")
    assert [round(schedule_factor(cosine, epoch, 4), 9) for epoch in (0, 2, 4, 5)] == [1, 0.5, 0, 0]
    step = hyper(optimizer__schedule="step", optimizer__decay_epochs=2, optimizer__decay_rate=0.1)
    factors = [schedule_factor(step, epoch, 9) for epoch in (0, 1.9, 2, 3.9, 4)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("bad_rows=drop", "should be error or skip, got 'drop'"),
        ("reader_type=Loader", "should be DataLoader or CustomizeDataLoader, got 'Loader'"),
        ("valid_share=1", "should lie in [0, 1), got 1"),
        ("valid_share=-0.1", "should lie in [0, 1), got -0.1"),
        ("valid_share=.nan", "should lie in [0, 1), got nan"),
        ("use_fleet=true", "is not supported yet; set -o runner.use_fleet=false"),
        ("auc_num=2147483648", "should be at most 2147483647, got 2147483648"),
    ],
)
def test_choices_and_ranges_are_those_of_the_table(pair: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(str(CONFIG), [f"runner.{pair}"])
    assert str(caught.value) == f"{CONFIG}: runner.{pair.split('=')[0]} {said}"


def test_every_default_is_allowed_and_every_key_has_a_phase() -> None:
    for key in RUNNER_KEYS:
        assert key.default is None or key.fault(key.default) is None, key
        assert key.phase in ("train", "infer", "both"), key


NO_NAMES = ["hyper_parameters.task_names=", "hyper_parameters.label_columns="]
TOO_LARGE = {
    "features": (["feature_size=10000000"], "row has 501 columns, expected 10000002 (2 labels"),
    "columns": (["feature_size=500000"], "row has 501 columns, expected 500002 (2 labels"),
    "tasks": ([*NO_NAMES, "task_num=100000000"], "task_num should be at most 10000, got 100000000"),
    "few_tasks": ([*NO_NAMES, "task_num=9000"], "row has 501 columns, expected 9499 (9000 labels"),
    "bottom": (["bottom_size=1000000000"], "a network of 515,000,000,032 weights"),
    "tower": (["tower_size=[100000000,100000000]"], "a network of 20,0"),
    "int64": (["bottom_size=10000000000000000000000"], "bottom_size should be at most 2147483647"),
    "bins": (
        ["numeric_encoding=piecewise_linear", "piecewise_bins=2000000000"],
        "a network of 234,",
    ),
}
# What concerns more than the first block or the settings is tried with every tool.
SAID_BY = [
    (name, tool)
    for name in TOO_LARGE
    for tool in COMMANDS
    if tool == "trainer" or name in ("features", "tasks", "bottom")
]


@pytest.fixture(scope="module")
def too_large(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Result]:
    """What the tools say of each of ``TOO_LARGE``, in a process that has 4 GB more at most."""
    folder = tmp_path_factory.mktemp("too_large")
    run_ok("trainer", "-m", CONFIG, *override(epochs=1, model_save_path="out"), cwd=folder)
    usual = override(epochs=1, model_save_path="new", infer_load_path="out", infer_start_epoch=0)
    usual += override(infer_end_epoch=1)[1:]
    cases = [
        (*COMMANDS[tool], ["-m", str(CONFIG), *usual, *pairs])
        for name, tool in SAID_BY
        for pairs in [[p if "." in p else f"hyper_parameters.{p}" for p in TOO_LARGE[name][0]]]
    ]
    return dict(zip(SAID_BY, run_cases(cases, folder, memory=4 << 30)))


@pytest.mark.parametrize(("name", "tool"), SAID_BY)
def test_a_size_that_fits_no_row_or_no_memory_is_told_before_it_is_built(
    too_large: dict[tuple[str, str], Result], name: str, tool: str
) -> None:
    result = too_large[name, tool]
    assert result.status == 2
    (sentence,) = result.sentences
    assert sentence.startswith("error: ") and TOO_LARGE[name][1] in sentence


def test_a_network_for_which_memory_does_not_suffice_is_told_in_one_sentence(
    tmp_path: Path,
) -> None:
    large = ["-m", CONFIG, *override(model_save_path="out", hyper_parameters__bottom_size=1500000)]
    cases = [(*COMMANDS[tool], large) for tool in ("trainer", "static_trainer")]
    for result in run_cases(cases, tmp_path, memory=1 << 30):
        (sentence,) = result.sentences
        assert result.status in (1, 2)
        assert sentence.startswith("error: ") and "memory of 2994000000" in sentence
