"""The bundled sample: reproducible, well formed, small, and no copy of real rows."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "data" / "make_sample.py"
PREPARE = ROOT / "datasets" / "census" / "prepare.py"
CENSUS = ROOT.parent / "shared" / "census"
SPLITS = ("train", "test")
NUMERIC = 11
# Categories per categorical field, in file order, counted in UCI's description of the data.
GROUP_SIZES = (
    *(9, 52, 47, 17, 3, 24, 15, 5, 10, 2, 3, 6, 8, 6, 6, 51, 38, 8, 10, 9, 10, 3, 4, 5),
    *(43, 43, 43, 5, 3),
)

spec = importlib.util.spec_from_file_location("make_sample", SCRIPT)
make_sample = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_sample)


def sample_path(split: str, folder: Path = ROOT / "data") -> Path:
    """Returns the path of a split's data file under `folder`."""
    return folder / split / f"{split}_data.txt"


def raw_path(split: str, folder: Path = ROOT / "data") -> Path:
    """Returns the path of a split's raw file under `folder`."""
    return folder / "raw" / split / f"{make_sample.RAW_NAMES[split]}.gz"


def raw_lines(split: str, folder: Path = ROOT / "data") -> list[str]:
    """The rows of a split's raw file under `folder`."""
    return gzip.decompress(raw_path(split, folder).read_bytes()).decode().splitlines()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the script in a process of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fields() -> dict:
    """The committed frequency tables."""
    return json.loads(Path(make_sample.FREQUENCIES).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def generated_raw_dir(fields: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn rows in UCI's raw format."""
    folder = tmp_path_factory.mktemp("raw")
    rng = random.Random(99)
    with gzip.open(folder / "census-income.data.gz", "wt", encoding="utf-8") as file:
        for _ in range(2000):
            row = make_sample.draw(rng, fields)
            row["marital_stat"] = " Never married" if row["labels"][0] == "1" else " Widowed"
            row["income_50k"] = " 50000+." if row["labels"][1] == "1" else " - 50000."
            file.write(",".join(row[name] for name in make_sample.FIELDS) + "\n")
    return folder


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    """Both splits as float64 `[rows, 501]`."""
    return {split: np.loadtxt(sample_path(split), delimiter=",", ndmin=2) for split in SPLITS}


def test_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    result = run("--out-dir", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for split in SPLITS:
        assert sample_path(split, tmp_path).read_bytes() == sample_path(split).read_bytes()
        # What zlib makes of the text differs from one version to another.
        assert raw_lines(split, tmp_path) == raw_lines(split)


def test_another_seed_writes_other_rows(tmp_path: Path) -> None:
    assert run("--seed", 5, "--out-dir", tmp_path).returncode == 0
    for split in SPLITS:
        ours = set(sample_path(split).read_text().splitlines())
        assert ours.isdisjoint(sample_path(split, tmp_path).read_text().splitlines())


def test_whole_sample_is_small() -> None:
    paths = [Path(make_sample.FREQUENCIES), *map(sample_path, SPLITS)]
    assert sum(path.stat().st_size for path in paths) <= 1_500_000
    assert sum(raw_path(split).stat().st_size for split in SPLITS) <= 400_000


def test_raw_sample_is_the_same_rows(tmp_path: Path) -> None:
    """As UCI's files come: prepare.py makes the encoded sample of them, the test rows shuffled."""
    for split in SPLITS:
        shutil.copy(raw_path(split), tmp_path)
    arguments = ["--raw-dir", tmp_path, "--out-dir", tmp_path / "out"]
    subprocess.run([sys.executable, PREPARE, *arguments], check=True, capture_output=True)
    train, *tests = (
        (tmp_path / "out" / name / f"{name}.txt").read_text().splitlines()
        for name in ("train_all", "valid_all", "test_all")
    )
    assert train == sample_path("train").read_text().splitlines()
    assert sorted([*tests[0], *tests[1]]) == sorted(sample_path("test").read_text().splitlines())


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_well_formed(samples: dict[str, np.ndarray], split: str) -> None:
    rows = samples[split]
    assert rows.shape[1] == 501
    features = rows[:, 2 + NUMERIC :]
    assert np.isin(features, (0, 1)).all()
    starts = np.cumsum((0, *GROUP_SIZES))
    assert starts[-1] == features.shape[1]
    for start, end in zip(starts, starts[1:]):
        assert (features[:, start:end].sum(axis=1) == 1).all()


@pytest.mark.parametrize("split", SPLITS)
def test_both_classes_of_both_labels_are_common(samples: dict[str, np.ndarray], split: str) -> None:
    labels = samples[split][:, :2]
    assert np.isin(labels, (0, 1)).all()
    assert (labels.mean(axis=0) > 0.1).all()
    assert (labels.mean(axis=0) < 0.9).all()


def test_numeric_columns_have_their_fields_values(samples: dict[str, np.ndarray]) -> None:
    rows = np.concatenate(list(samples.values()))
    columns = dict(zip(make_sample.NUMERIC, rows[:, 2 : 2 + NUMERIC].T))
    assert (rows[:, 2 : 2 + NUMERIC] >= 0).all()
    assert columns["age"].max() <= 90
    assert columns["weeks_worked"].max() <= 52
    assert set(columns["year"]) == {94, 95}
    assert set(columns["num_emp"]) == set(range(7))
    assert set(columns["own_or_self"]) == set(columns["vet_benefits"]) == {0, 1, 2}


def test_no_row_is_a_census_row(
    samples: dict[str, np.ndarray], fields: dict, generated_raw_dir: Path
) -> None:
    def values(row: dict[str, str]) -> tuple:
        numbers = (float(row[name]) for name in make_sample.NUMERIC)
        return (row["labels"], *numbers, *(row[name] for name in make_sample.CATEGORICAL))

    categories = [c for name in make_sample.CATEGORICAL for c in fields[name]["categories"]]
    ours = set()
    for row in np.concatenate(list(samples.values())):
        drawn = itertools.compress(categories, row[2 + NUMERIC :])
        ours.add((f"{row[0]:.0f}{row[1]:.0f}", *row[2 : 2 + NUMERIC].tolist(), *drawn))
    raw_dir = CENSUS if CENSUS.is_dir() else generated_raw_dir
    assert ours.isdisjoint(map(values, make_sample.raw_rows(str(raw_dir))))


def test_columns_are_in_the_real_order(
    fields: dict, generated_raw_dir: Path, tmp_path: Path
) -> None:
    """Raw rows encode to the columns that the data set's users expect, or prepare.py gives them."""
    raw_dir, expected_path = CENSUS, CENSUS / "expected-first-100-train-rows.csv"
    if not expected_path.is_file():
        raw_dir, expected_path = generated_raw_dir, tmp_path / "train_all" / "train_all.txt"
        shutil.copytree(raw_dir, tmp_path / "raw")
        shutil.copy(raw_dir / "census-income.data.gz", tmp_path / "raw" / "census-income.test.gz")
        arguments = ["--raw-dir", tmp_path / "raw", "--out-dir", tmp_path]
        subprocess.run([sys.executable, PREPARE, *arguments], check=True, capture_output=True)
    expected = np.loadtxt(expected_path, delimiter=",", max_rows=100)
    rows = itertools.islice(make_sample.raw_rows(str(raw_dir)), len(expected))
    encoded = [make_sample.encode(row, fields).split(",") for row in rows]
    np.testing.assert_array_equal(np.array(encoded, dtype=float), expected)


def test_measuring_drawn_rows_finds_the_frequencies(fields: dict, generated_raw_dir: Path) -> None:
    measured = make_sample.measure(str(generated_raw_dir))
    assert list(measured) == list(fields)
    for name in make_sample.CATEGORICAL:
        found = measured[name]["categories"]
        assert found == [c for c in fields[name]["categories"] if c in found], name
    labels = dict(zip(measured["labels"]["categories"], measured["labels"]["given"][""]))
    assert labels["01"] + labels["11"] == pytest.approx(10_000 * make_sample.INCOME_RATE, abs=300)
    women = [tables["sex"]["given"]["00|4"][0] for tables in (measured, fields)]
    assert women[0] == pytest.approx(women[1], abs=1500)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "expected census-income.data.gz or census-income.test.gz"),
        ("1,2,3\n", "line 1: 3 fields, expected 42"),
        (",".join(["x"] * 42) + "\n", "line 1: age is 'x', expected a number"),
    ],
)
def test_bad_raw_rows_are_refused(tmp_path: Path, rows: str | None, message: str) -> None:
    before = Path(make_sample.FREQUENCIES).read_bytes()
    if rows is not None:
        with gzip.open(tmp_path / "census-income.data.gz", "wt") as file:
            file.write(rows)
    result = run("--measure", tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert str(tmp_path) in result.stderr
    assert result.stderr.count("\n") == 1
    assert Path(make_sample.FREQUENCIES).read_bytes() == before
