"""Bad input gets one sentence on stderr and status 2; nothing is left half-written."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import paddle
import pytest
from helpers import (
    CONFIG,
    ROOT,
    Result,
    files_below,
    make_model_dir,
    override,
    run_cases,
    run_fork,
    run_tool,
)

from rec_runner import cli

GOOD_ROWS = ["0,1,0.5,1,0", "1,0,2,0,1", "1,1,3.5,1,1", "0,0,-1,0,0"] * 5

# What line 7 of a data file may hold, and what is to be said of it. Column 1 is income, 0 marital.
BAD_ROWS = {
    "too_few_columns": ("0,1,0.5,1", ("4 columns", "expected 5")),
    "too_many_columns": ("0,1,0.5,1,0,9", ("6 columns", "expected 5")),
    "text": ("0,1,abc,1,0", ("column 2", "'abc'", "not a number")),
    "empty_value": ("0,1,0.5,,0", ("column 3", "''", "not a number")),
    "nan": ("0,1,0.5,1,nan", ("column 4", "'nan'", "not a finite number")),
    "infinity": ("0,1,-inf,1,0", ("column 2", "'-inf'", "not a finite number")),
    "too_large": ("0,1,1e39,1,0", ("column 2", "'1e39'", "too large")),
    "label_2": ("0,2,0.5,1,0", ("column 1", "'2'", "0 or 1")),
    "label_half": ("0.5,1,0.5,1,0", ("column 0", "'0.5'", "0 or 1")),
    "label_text": ("no,1,0.5,1,0", ("column 0", "'no'", "not a number")),
}


class Case(NamedTuple):
    """A command line that has to fail, ``{tmp}`` standing for the folder of the bad things.

    Attributes:
        command: ``train`` or ``infer``.
        arguments: the command line; the usual ones where it starts with ``-o``.
        said: what the sentence has to hold.
        paths: graph paths to try it on.
    """

    command: str
    arguments: list[str]
    said: tuple[str, ...]
    paths: tuple[str, ...] = ("dygraph", "static")


def option(*pairs: str) -> list[str]:
    """``-o`` and its pairs."""
    return ["-o", *pairs]


CASES = {
    "missing_config": Case("train", ["-m", "{tmp}/none.yaml"], ("{tmp}/none.yaml",)),
    "missing_config_infer": Case("infer", ["-m", "{tmp}/none.yaml"], ("{tmp}/none.yaml",)),
    "config_is_a_folder": Case("train", ["-m", "{tmp}"], ("{tmp}", "config")),
    "config_is_no_yaml": Case("train", ["-m", "{tmp}/broken.yaml"], ("broken.yaml", "YAML")),
    "config_lacks_a_key": Case("train", ["-m", "{tmp}/bare.yaml"], ("runner.epochs", "missing")),
    "no_model_directory": Case(
        "train",
        ["-m", "{tmp}/alone/config.yaml", "-o", "runner.train_data_dir={tmp}/rows"],
        ("{tmp}/alone", "_model.py"),
    ),
    "nul_in_the_config": Case("train", ["-m", "{tmp}/a\0b.yaml"], ("a\\x00b.yaml", "null byte")),
    **{
        f"nul_in_{key}": Case(
            command, option(f'runner.{key}="a\\0b"'), (f"runner.{key} ", "NUL", "a\\x00b")
        )
        for command, keys in (
            ("train", ("train_data_dir", "valid_data_dir", "train_reader_path", "model_save_path")),
            ("train", ("model_init_path", "cache_dir", "save_inference_feed_varnames")),
            ("infer", ("test_data_dir", "infer_reader_path", "infer_load_path")),
        )
        for key in keys
    },
    "dangling_link": Case(
        "train",
        option("runner.train_data_dir={tmp}/dangling"),
        ("runner.train_data_dir: {tmp}/dangling/b.txt ", "link", "No such file"),
    ),
    "link_to_itself": Case(
        "infer",
        option("runner.test_data_dir={tmp}/looping"),
        ("runner.test_data_dir: {tmp}/looping/b.txt ", "link", "symbolic links"),
    ),
    "unknown_monitor": Case(
        "train",
        option("runner.monitor=accuracy", "runner.valid_share=0.3"),
        ("runner.monitor", "accuracy", "auc_income"),
    ),
    "bad_validation_row": Case(
        "train",
        option("runner.valid_data_dir={tmp}/nan"),
        ("{tmp}/nan/rows.txt:7: column 4", "'nan'"),
    ),
    "missing_data_folder": Case(
        "train",
        option("runner.train_data_dir={tmp}/absent"),
        ("runner.train_data_dir", "{tmp}/absent"),
    ),
    "missing_test_folder": Case(
        "infer", option("runner.test_data_dir={tmp}/absent"), ("runner.test_data_dir", "absent")
    ),
    "empty_folder": Case(
        "train", option("runner.train_data_dir={tmp}/empty"), ("{tmp}/empty", "no data files")
    ),
    "empty_test_folder": Case(
        "infer", option("runner.test_data_dir={tmp}/empty"), ("{tmp}/empty", "no data files")
    ),
    "only_empty_files": Case(
        "train", option("runner.train_data_dir={tmp}/rowless"), ("{tmp}/rowless", "no rows")
    ),
    "only_empty_test_files": Case(
        "infer", option("runner.test_data_dir={tmp}/rowless"), ("{tmp}/rowless", "no rows")
    ),
    "truncated_gzip": Case(
        "train",
        option("runner.train_data_dir={tmp}/cut"),
        ("{tmp}/cut/rows.gz", "gzip before the first line"),
    ),
    "missing_reader": Case(
        "train", option("runner.train_reader_path=my_reader"), ("my_reader.py", str(ROOT))
    ),
    "reader_as_a_file": Case(
        "train",
        option("runner.train_reader_path=census_reader.py"),
        ("runner.train_reader_path", "without .py, such as census_reader", "'census_reader.py'"),
    ),
    "reader_of_a_folder": Case(
        "infer",
        option("runner.infer_reader_path=./census_reader"),
        ("runner.infer_reader_path", "such as census_reader", "'./census_reader'"),
    ),
    "share_leaves_nothing": Case(
        "train",
        option("runner.valid_share=0.9999"),
        ("none of the 20 rows of {tmp}/rows is left to train on", "runner.valid_share 0.9999"),
    ),
    "missing_checkpoint_folder": Case(
        "infer", option("runner.infer_load_path={tmp}/nowhere"), ("{tmp}/nowhere", "checkpoint")
    ),
    "missing_epoch": Case(
        "infer",
        option("runner.infer_start_epoch=3", "runner.infer_end_epoch=5"),
        ("epoch 3", "checkpoint", "{tmp}/good"),
    ),
    "no_epoch": Case(
        "infer",
        option("runner.infer_start_epoch=1", "runner.infer_end_epoch=1"),
        ("runner.infer_start_epoch 1", "runner.infer_end_epoch 1", "name no epoch", "2 or more"),
    ),
    "other_initial_file": Case(
        "train",
        option("runner.model_init_path={tmp}/good/0/rec.json"),
        ("{tmp}/good/0/rec.json is not a folder", "that of a rec.pdparams is expected"),
    ),
    "missing_initial_checkpoint": Case(
        "train", option("runner.model_init_path={tmp}/nowhere"), ("{tmp}/nowhere", "not found")
    ),
    "damaged_checkpoint": Case(
        "infer", option("runner.infer_load_path={tmp}/damaged"), ("{tmp}/damaged", "damaged")
    ),
    "malicious_checkpoint": Case(
        "infer", option("runner.infer_load_path={tmp}/malicious"), ("{tmp}/malicious", "refused")
    ),
    "checkpoint_of_another_network": Case(
        "infer",
        option("hyper_parameters.bottom_size=5"),
        ("{tmp}/good", "bottom.0.weight", "[3, 117]", "[3, 5]"),
    ),
    "unknown_device": Case("train", option("runner.use_gpu=true"), ("runner.use_gpu", "GPU")),
    "unknown_device_infer": Case("infer", option("runner.use_gpu=true"), ("runner.use_gpu", "GPU")),
    "unknown_xpu": Case("train", option("runner.use_xpu=true"), ("runner.use_xpu", "XPU")),
    "override_without_equals": Case(
        "train", option("runner.epochs"), ("-o runner.epochs", "key=value"), ("dygraph",)
    ),
    "override_of_no_section": Case("infer", option("epochs=3"), ("epochs", "runner"), ("dygraph",)),
    "wrong_type": Case(
        "train", option("runner.epochs=many"), ("runner.epochs", "int", "'many'"), ("dygraph",)
    ),
    "wrong_type_infer": Case(
        "infer",
        option("runner.infer_batch_size=1.5"),
        ("runner.infer_batch_size", "int", "1.5"),
        ("static",),
    ),
    "wrong_type_of_setting": Case(
        "train",
        option("hyper_parameters.bottom_size=wide"),
        ("hyper_parameters.bottom_size", "int", "'wide'"),
    ),
    "value_for_a_section": Case(
        "train",
        option("hyper_parameters.optimizer=adam"),
        ("hyper_parameters.optimizer=adam", "is a section", "hyper_parameters.optimizer.class="),
        ("dygraph",),
    ),
    "value_for_a_section_in_the_file": Case(
        "train",
        ["-m", "{tmp}/listed/config.yaml"],
        ("hyper_parameters.optimizer should be a section with class", "['adam']"),
    ),
    "unknown_optimizer": Case(
        "train",
        option("hyper_parameters.optimizer.class=adamax"),
        ("hyper_parameters.optimizer.class", "adamw", "'adamax'"),
    ),
    "label_column_out_of_range": Case(
        "train",
        option("hyper_parameters.label_columns=[0, 5]"),
        ("hyper_parameters.label_columns", "0..4", "[0, 5]"),
    ),
}
# Paths into training that do not read all rows for the inputs' statistics first.
for _name, _pair in {
    "without_statistics": "hyper_parameters.numeric_encoding=none",
    "after_a_checkpoint": "runner.model_init_path={tmp}/good/0",
}.items():
    CASES[f"row_{_name}"] = Case(
        "train",
        option("runner.train_data_dir={tmp}/nan", _pair),
        ("{tmp}/nan/rows.txt:7: column 4", "'nan'"),
    )
for _name, (_row, _said) in BAD_ROWS.items():
    _where = f"{{tmp}}/{_name}/rows.txt:7: "
    CASES[f"row_{_name}"] = Case(
        "train", option(f"runner.train_data_dir={{tmp}}/{_name}"), (_where, *_said)
    )
    CASES[f"test_row_{_name}"] = Case(
        "infer", option(f"runner.test_data_dir={{tmp}}/{_name}"), (_where, *_said)
    )


class _Malicious:
    """A pickle of this would make a folder on being read."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def usual(tmp: Path, output: Path) -> list[str]:
    """Arguments of a run on three features that would succeed."""
    return override(
        train_data_dir=tmp / "rows",
        test_data_dir=tmp / "rows",
        hyper_parameters__feature_size=3,
        epochs=1,
        train_batch_size=4,
        infer_start_epoch=0,
        infer_end_epoch=1,
        model_save_path=output,
        infer_load_path=tmp / "good",
        save_predictions="true",
    )


@pytest.fixture(scope="module")
def bad_things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything the cases point at, the good checkpoint ``good/0`` included."""
    tmp = tmp_path_factory.mktemp("bad")
    (tmp / "empty").mkdir()
    contents = {
        name: "\n".join([*GOOD_ROWS[:6], row, *GOOD_ROWS]) for name, (row, _) in BAD_ROWS.items()
    }
    contents.update(rows="\n".join(GOOD_ROWS), rowless="")
    for name, text in contents.items():
        (tmp / name).mkdir()
        (tmp / name / "rows.txt").write_text(text, encoding="utf-8")
    (tmp / "empty" / ".hidden").write_text("0,1,2,3,4\n")
    for name, target in (("dangling", "gone.txt"), ("looping", "b.txt")):
        (tmp / name).mkdir()
        (tmp / name / "a.txt").symlink_to(tmp / "rows" / "rows.txt")  # a good one
        (tmp / name / "b.txt").symlink_to(target)
    (tmp / "cut").mkdir()
    (tmp / "cut" / "rows.gz").write_bytes(gzip.compress("\n".join(GOOD_ROWS).encode())[:-12])
    (tmp / "broken.yaml").write_text("runner: [1\n")
    (tmp / "bare.yaml").write_text("runner: {print_interval: 1}\n")
    (tmp / "alone").mkdir()
    shutil.copy(CONFIG, tmp / "alone")
    runner = {"epochs": 1, "print_interval": 1, "train_batch_size": 4}
    runner.update(train_data_dir="../rows", train_reader_path="census_reader")
    make_model_dir(tmp / "listed", runner, {"feature_size": 3, "optimizer": ["adam"]})
    result = run_fork("trainer", "-m", CONFIG, *usual(tmp, tmp / "good"), cwd=tmp)
    assert result.status == 0, result.stderr
    (tmp / "damaged" / "0").mkdir(parents=True)
    data = (tmp / "good" / "0" / "rec.pdparams").read_bytes()
    (tmp / "damaged" / "0" / "rec.pdparams").write_bytes(data[: len(data) // 2])
    (tmp / "malicious" / "0").mkdir(parents=True)
    bomb = pickle.dumps({"bottom.0.weight": _Malicious(tmp / "owned")})
    (tmp / "malicious" / "0" / "rec.pdparams").write_bytes(bomb)
    return tmp


@pytest.fixture(scope="module")
def before(bad_things: Path) -> list[str]:
    """Files that were there before any case ran."""
    return files_below(bad_things)


@pytest.fixture(scope="module")
def results(bad_things: Path, before: list[str]) -> dict[tuple[str, str], Result]:
    """How each case ended on each path; one process a path."""
    ended = {}
    for path in ("dygraph", "static"):
        names = [name for name, case in CASES.items() if path in case.paths]
        lines = []
        for name in names:
            case = CASES[name]
            arguments = [text.format(tmp=bad_things) for text in case.arguments]
            if arguments[0] != "-m":
                output = bad_things / "output" / f"{path}-{name}"
                arguments = ["-m", str(CONFIG), *usual(bad_things, output), *arguments]
            lines.append((case.command, path, arguments))
        for name, result in zip(names, run_cases(lines, cwd=bad_things)):
            ended[name, path] = result
    return ended


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, case in CASES.items() for path in case.paths]
)
def test_one_sentence_and_status_2(
    name: str, path: str, results: dict[tuple[str, str], Result], bad_things: Path
) -> None:
    result = results[name, path]
    assert "Traceback" not in result.stderr
    assert result.status == 2, result.stderr
    assert len(result.sentences) == 1, result.stderr
    sentence = result.sentences[0]
    assert sentence.startswith("error: ")
    for said in CASES[name].said:
        assert said.format(tmp=bad_things) in sentence
    assert "epoch:" not in result.stdout


def test_nothing_is_left_half_written(results: dict, before: list[str], bad_things: Path) -> None:
    assert files_below(bad_things) == before
    assert not [entry for entry in bad_things.glob("output/*") if entry.is_dir()]
    assert not (bad_things / "owned").exists()


@pytest.mark.parametrize("tool", ["trainer", "infer", "static_trainer", "static_infer"])
def test_a_tool_exits_with_status_2(tool: str, bad_things: Path, tmp_path: Path) -> None:
    options = usual(bad_things, tmp_path / "out")
    data = "train_data_dir" if "trainer" in tool else "test_data_dir"
    bad = override(**{data: bad_things / "nan"})
    result = run_tool(tool, "-m", CONFIG, *options, *bad, cwd=tmp_path)
    assert result.status == 2
    assert "Traceback" not in result.stderr
    assert len(result.sentences) == 1, result.stderr
    where = f"error: {bad_things / 'nan' / 'rows.txt'}:7: column 4 "
    assert result.sentences[0].startswith(where)
    assert "'nan'" in result.sentences[0]
    assert not [file for file in files_below(tmp_path) if not file.endswith(".lock")]


@pytest.mark.parametrize("arguments", [[], ["-m"], ["-m", "a.yaml", "--no-such-option"]])
def test_a_wrong_command_line_is_explained(arguments: list[str], tmp_path: Path) -> None:
    result = run_tool("trainer", *arguments, cwd=tmp_path)
    assert result.status == 2
    (sentence,) = result.stderr.splitlines()
    assert re.fullmatch(r"error: .*(-m/--config|--no-such-option).*; -h explains", sentence)


def test_an_unknown_runner_key_is_a_warning_with_the_nearest_name(bad_things: Path) -> None:
    options = usual(bad_things, bad_things / "warned")
    wrong = option("runner.print_intervall=5", "runner.qqq=1")
    result = run_fork("infer", "-m", CONFIG, *options, *wrong, cwd=bad_things)
    assert result.status == 0
    assert len(result.sentences) == 2
    assert "runner.print_intervall" in result.sentences[0]
    assert "did you mean runner.print_interval?" in result.sentences[0]
    assert "runner.qqq" in result.sentences[1]
    assert "did you mean" not in result.sentences[1]


def test_an_unknown_setting_is_warned_of_once_in_one_line(bad_things: Path, tmp_path: Path) -> None:
    options = usual(bad_things, tmp_path)
    arguments = ["-m", str(CONFIG), *options, *option("hyper_parameters.bottom_sise=5")]
    told = (
        "warning: hyper_parameters.bottom_sise is not a key of this model; "
        "did you mean hyper_parameters.bottom_size?"
    )
    cases = [(c, p, arguments) for c in ("train", "infer") for p in ("dygraph", "static")]
    for result in run_cases(cases, cwd=bad_things):
        assert result.status == 0, result.stderr
        assert [line for line in result.stderr.splitlines() if "bottom_sise" in line] == [told]


@pytest.mark.parametrize("place", ["elsewhere.py", "model/.venv/lib/site-packages/package.py"])
def test_warnings_of_others_are_shown_as_ever(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(file: Path) -> None:
        warnings.warn_explicit("two\nlines", UserWarning, str(file), 7)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown: list[str] = []
        warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
        with cli.plain_warnings(tmp_path / "model"):
            warn(tmp_path / place)
            for _ in range(2):
                warn(tmp_path / "model" / "net.py")
        warn(tmp_path / "model" / "net.py")
    assert shown == ["two\nlines", "two\nlines"]
    assert capsys.readouterr().err == "warning: two lines\n"


def test_an_internal_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("one\n  two\n" + "three " * 99)

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main("train", "dygraph", ["-m", str(CONFIG)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("internal error: RuntimeError: one two three ")
    assert "(cli.py, line " in line
    assert line.endswith("; --debug shows the traceback")
    assert len(line) < 500


def test_the_good_run_is_good(bad_things: Path) -> None:
    state = paddle.load(str(bad_things / "good" / "0" / "rec.pdparams"), return_numpy=True)
    assert state["bottom.0.weight"].shape == (3, 117)
