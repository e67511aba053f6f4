"""The data files of a key: a folder, one file, or those that a pattern fits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import make_model_dir, override, run_cases, write_table
from test_resume_again import HYPER, RUNNER

from rec_runner.config import Config
from rec_runner.data.files import list_files
from rec_runner.system.errors import UserError


def listed(folder: Path, name: str) -> list[str]:
    config = Config({"config_abs_dir": str(folder), "runner.test_data_dir": name})
    return [Path(f).relative_to(folder).as_posix() for f in list_files(config, "test_data_dir")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "rows/b.csv",
        "rows/a.csv",
        "rows/.a.csv.part",
        "more/a.csv",
        "[x]/1.csv",
        "1.csv",
    ):
        (tmp_path / "home [1]" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home [1]" / name).write_text("1,0\n")
    return tmp_path / "home [1]"


def test_a_key_names_a_folder_a_file_or_a_pattern(folder: Path) -> None:
    assert listed(folder, "rows") == ["rows/a.csv", "rows/b.csv"]
    assert listed(folder, "rows/b.csv") == ["rows/b.csv"]
    assert listed(folder, str(folder / "1.csv")) == ["1.csv"]
    assert listed(folder, "rows/*.csv") == ["rows/a.csv", "rows/b.csv"]
    assert listed(folder, "[rm]*/a.csv") == ["more/a.csv", "rows/a.csv"]
    assert listed(folder, "**/a.*") == ["more/a.csv", "rows/a.csv"]
    assert listed(folder, "[x]") == ["[x]/1.csv"]  # it is there, and no pattern


def test_what_is_not_there_is_told_in_a_sentence(folder: Path) -> None:
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "lost").symlink_to(folder / "nothing")
    for name, said in (
        ("nothing", "home [1]/nothing is not a folder, nor a file"),
        ("nothing/*.csv", "no file has a name like "),
        ("rows/*.txt", "no file has a name like "),
        ("empty", "holds no data files"),
        ("pipe", "pipe is neither a file nor a folder"),
        ("lost", "lost is a link to what cannot be read: No such file or directory"),
        ("l*t", "lost is a link to what cannot be read: No such file or directory"),
    ):
        with pytest.raises(UserError) as caught:
            listed(folder, name)
        assert str(caught.value).startswith("runner.test_data_dir: ")
        assert said in str(caught.value)


def test_a_run_on_a_pattern_is_resumed_only_on_the_same_files(tmp_path: Path) -> None:
    """Of two files of one name in two folders, both are compared."""
    rows = np.random.default_rng(1).integers(0, 2, (40, 8))
    config = make_model_dir(tmp_path / "home", RUNNER, HYPER)
    for day in ("day1", "day2"):
        write_table(config.parent / day / "rows.csv", rows)
    one = config.parent / "day1" / "rows.csv"

    def trained(**values: object) -> tuple[str, str, list[object]]:
        values = {"model_save_path": tmp_path / "out", "resume": True, **values}
        return "train", "dygraph", ["-m", config, *override(**values)]

    pattern = {"train_data_dir": "day*/rows.csv"}
    (first,) = run_cases([trained(epochs=1, **pattern)], tmp_path)
    assert first.status == 0, first.stderr
    whole = one.read_text()
    one.write_text(whole[:-2] + ("1" if whole[-2] == "0" else "0") + "\n")
    refused, single = run_cases(
        [trained(epochs=2, **pattern), trained(epochs=1, train_data_dir=one, resume=False)],
        tmp_path,
    )
    assert refused.status == 2
    assert "file day1/rows.csv of runner.train_data_dir" in refused.stderr
    assert single.status == 0, single.stderr
