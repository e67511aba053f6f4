"""UCI's rows as they come: the schemas, and config_raw.yaml beside prepared rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from census_rows import CENSUS, columns_module
from helpers import COMMANDS, CONFIG, ROOT, override, run_cases

from raw_tables.schema import Schema, load_schema

SCHEMAS = {"schema.yaml": (), "schema_without_weight.yaml": ("instance_weight",)}
RECIPE = {"epochs": 3, "print_interval": 20, "shuffle": "true", "patience": 3, "valid_share": 0.1}
MODEL = ["bottom_dropout=0.3", "numeric_encoding=piecewise_linear"]
MODEL += ["optimizer={class: adamw, weight_decay: 0.1, schedule: cosine, learning_rate: 0.001}"]
OVERRIDES = [*override(**RECIPE), *(f"hyper_parameters.{setting}" for setting in MODEL)]


def encoded_names(schema: Schema) -> list[str]:
    """Names of the encoded columns, as ``columns.txt`` has them."""
    slots = [f"{column.name}={value}" for column in schema.categories for value in column.values]
    return [*(column.name for column in schema.numbers), *slots]


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_that_of_the_prepared_columns(name: str) -> None:
    module, schema = columns_module(), load_schema(CENSUS / name)
    assert [column.name for column in schema.columns] == list(module.RAW_FIELDS)
    assert (schema.header, schema.missing, schema.delimiter) == (False, (), ",")
    features = [c for c in module.read_columns().names[2:] if c not in SCHEMAS[name]]
    assert encoded_names(schema) == features
    assert not any(column.other or column.missing for column in schema.columns)
    assert schema.task_names == ("income", "marital")
    for label in schema.labels:
        assert (*label.positive, *label.negative) == module.LABELS[label.name]
        assert len(label.positive) == 1


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Metrics of every epoch and of the test rows: raw and prepared, on both graphs."""
    folder = tmp_path_factory.mktemp("raw")
    configs = {"raw": ROOT / "config_raw.yaml", "prepared": CONFIG}
    cases, files = [], {}
    for rows, config in configs.items():
        for trainer, infer in (("trainer", "infer"), ("static_trainer", "static_infer")):
            name = f"{rows} {trainer}"
            output = [f"runner.{key}={name}" for key in ("model_save_path", "infer_load_path")]
            best = ["runner.infer_start_epoch=null", "runner.infer_end_epoch=null"]
            for tool in (trainer, infer):
                cases.append((*COMMANDS[tool], ["-m", config, *OVERRIDES, *output, *best]))
            files[name] = [folder / name / f for f in ("metrics.jsonl", "infer_metrics.jsonl")]
    for result in run_cases(cases, folder):
        assert (result.status, result.sentences) == (0, []), result.stderr
    return {name: [json.loads(x) for f in pair for x in lines(f)] for name, pair in files.items()}


def lines(file: Path) -> list[str]:
    """Lines of a file."""
    return file.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("trainer", ["trainer", "static_trainer"])
def test_raw_rows_give_the_numbers_of_prepared_ones(
    records: dict[str, list[dict[str, Any]]], trainer: str
) -> None:
    raw, prepared = records[f"raw {trainer}"], records[f"prepared {trainer}"]
    assert [r["phase"] for r in raw] == ["train", "valid"] * 3 + ["infer"]
    for one, other in zip(raw, prepared):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if key.startswith(("auc", "logloss", "loss")):
                assert other[key] == pytest.approx(value, abs=1e-6), (one["phase"], key)
            elif key in ("rows", "epoch", "phase"):
                assert other[key] == value
