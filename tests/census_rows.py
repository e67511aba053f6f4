"""Raw census rows for tests: the real ones where they are, otherwise made up."""

from __future__ import annotations

import gzip
import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
CENSUS = ROOT / "datasets" / "census"
SHARED = ROOT.parent / "shared" / "census"
EXPECTED = SHARED / "expected-first-100-train-rows.csv"


def columns_module() -> ModuleType:
    """``datasets/census/columns.py``, without its folder on ``sys.path``."""
    name = "census_columns"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, CENSUS / "columns.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def generate(rows: int, seed: int = 0) -> list[str]:
    """Makes up raw rows.

    Marital status and income depend on age and education, so that there is something to learn.

    Args:
        rows: number of rows; with 60 or more, every category occurs.
        seed: seed of the draw.

    Returns:
        Lines of 42 fields separated by a comma and a space, as UCI's, without line ends. The
        instance weight numbers the rows, so that no two are the same.
    """
    columns = columns_module()
    fixed = columns.read_columns()
    rng = random.Random(seed)
    lines = []
    for row in range(rows):
        age = rng.randint(0, 90)
        values = {name: str(rng.choice((0, 0, rng.randint(1, 9_999)))) for name in fixed.numeric}
        values.update(
            age=str(age),
            year=rng.choice(("94", "95")),
            weeks_worked=str(rng.randint(0, 52)),
            instance_weight=f"{row}.{rng.randint(1, 9)}",
        )
        for name, categories in fixed.categories.items():
            values[name] = categories[row] if row < len(categories) else rng.choice(categories)
        if row >= 60:
            single = rng.random() < (0.95 if age < 25 else 0.2)
            rich = rng.random() < (0.3 if "degree" in values["education"] and age > 30 else 0.03)
            values["marital_stat"] = columns.LABELS["marital_stat"][0 if single else 3]
            values["income_50k"] = columns.LABELS["income_50k"][0 if rich else 1]
        lines.append(", ".join(values[name] for name in columns.RAW_FIELDS))
    return lines


def raw_dir(folder: Path, train_rows: int = 6_000, test_rows: int = 3_000) -> Path:
    """Folder with ``census-income.data.gz`` and ``census-income.test.gz``.

    Args:
        folder: existing folder that gets made-up files if the real rows are not at hand.
        train_rows: number of made-up training rows.
        test_rows: number of made-up test rows.

    Returns:
        The shared folder with real rows if it is there, otherwise `folder`.
    """
    if (SHARED / "census-income.data.gz").exists():
        return SHARED
    for name, rows, seed in (("data", train_rows, 1), ("test", test_rows, 2)):
        text = "".join(f"{line}\n" for line in generate(rows, seed))
        (folder / f"census-income.{name}.gz").write_bytes(gzip.compress(text.encode()))
    return folder
