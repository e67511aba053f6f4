"""share_bottom.ipynb, run as a person runs it: in a copy of the project, in an awkward folder."""

from __future__ import annotations

import base64
import csv
import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers import ROOT, TASKS, epoch_lines, run
from nbclient import NotebookClient

NOTEBOOK = ROOT / "share_bottom.ipynb"
PICTURES = (
    "training",
    "roc",
    "pr",
    "calibration",
    "scores",
    "effects-figure",
    "age-figure",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in a folder with spaces and Chinese characters in its name."""
    copy = tmp_path_factory.mktemp("note book") / "多任务 学习 (copy)"
    keep_out = (".git", ".venv*", "output_*", ".*_cache", ".hypothesis", "__pycache__", "*_all")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*keep_out))
    return copy


@pytest.fixture(scope="module")
def cells(project: Path) -> dict[str, nbformat.NotebookNode]:
    """The notebook's code cells by id, executed."""
    notebook = nbformat.read(project / NOTEBOOK.name, as_version=4)
    place = {"metadata": {"path": str(project)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    return {cell["id"]: cell for cell in notebook.cells if cell.cell_type == "code"}


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, stdout and stderr."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def shown(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    """What a cell displayed of a MIME type."""
    outputs = [o.data for o in cell.outputs if o.output_type == "display_data"]
    return [data[kind] for data in outputs if kind in data]


def test_committed_notebook_is_valid_and_has_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell["id"]


def test_both_paths_learn_both_tasks_and_agree(cells: dict) -> None:
    eager, static = (epoch_lines(printed(cells[f"infer-{path}"])) for path in ("eager", "static"))
    for task in TASKS:
        assert eager[9][f"auc_{task}"] >= 0.8
        assert eager[9][f"auc_{task}"] == pytest.approx(static[9][f"auc_{task}"], abs=1e-5)
    best = list(epoch_lines(printed(cells["infer-valid"])).values())
    assert len(best) == 1 and all(best[0][f"auc_{task}"] >= 0.8 for task in TASKS)
    (table,) = shown(cells["compare"], "text/markdown")
    assert all(f"{eager[9][f'auc_{task}']:.6f}" in table for task in TASKS)


def test_pictures_are_shown(cells: dict) -> None:
    for name in PICTURES:
        (image,) = shown(cells[name], "image/png")
        assert base64.b64decode(image)[:8] == b"\x89PNG\r\n\x1a\n", name
        assert len(image) > 10_000, name
    (drawing,) = shown(cells["figure"], "image/svg+xml")
    assert "Linear" in drawing


def test_a_table_of_ones_own_goes_to_test_scores(cells: dict) -> None:
    assert re.search(r"^user_id +id ", printed(cells["table-schema"]), re.M)
    text = printed(cells["table-train"])
    head, *_, last = (line.split() for line in text[text.index("epoch  phase") :].splitlines())
    assert last[1] == "infer"
    assert float(last[head.index("auc_click")]) >= 0.6


def test_the_table_s_model_is_exported_and_predicts(cells: dict, project: Path) -> None:
    assert re.search(r"^output_export: .*largest difference", printed(cells["table-export"]), re.M)
    with (project / "output_shop_rows" / "test.csv").open(encoding="utf-8") as rows:
        given = list(csv.DictReader(rows))
    with (project / "output_scores.csv").open(encoding="utf-8") as rows:
        predicted = list(csv.DictReader(rows))
    assert [row["user_id"] for row in predicted] == [row["user_id"] for row in given]
    clicked, not_clicked = (
        [float(p["click"]) for p, row in zip(predicted, given) if row["click"] == label]
        for label in "10"
    )
    assert np.mean(clicked) > np.mean(not_clicked) + 0.02
    (table,) = shown(cells["table-predict"], "text/markdown")
    assert f"| {predicted[4]['click']} |" in table
    *_, head, line = printed(cells["one-row"]).splitlines()
    assert head == "click,buy,price_paid" and all(map(float, line.split(",")))


def test_nothing_is_said_on_stderr(cells: dict) -> None:
    for name, cell in cells.items():
        errors = [o.text for o in cell.outputs if o.get("name") == "stderr"]
        assert not errors, name
        assert "error:" not in printed(cell), name


def test_an_edited_row_is_predicted_anew(cells: dict) -> None:
    (table,) = shown(cells["row-predict"], "text/markdown")
    before, after = ([float(p) for p in re.findall(r"([\d.]+)%", r)] for r in table.split("\n")[2:])
    assert len(before) == len(after) == len(TASKS)
    # Older, richer and in management: more income, less likely never to have married.
    assert after[0] > before[0] and after[1] < before[1]


def test_outputs_go_where_git_ignores_them(cells: dict, project: Path) -> None:
    names = {path.name for path in project.iterdir()} - {path.name for path in ROOT.iterdir()}
    others = {name for name in names if not name.startswith("output_")}
    assert others <= {"__pycache__", "config_mine.yaml", "schema.yaml"}
    ignored = run(["git", "check-ignore", *sorted(others)], cwd=ROOT).stdout.split()
    assert {*ignored, "__pycache__"} == {*others, "__pycache__"}
    assert {"output_model_valid", "output_model_static"} <= {p.name for p in project.iterdir()}


def setup_source() -> str:
    """The code of the first cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return next(cell.source for cell in notebook.cells if cell["id"] == "setup")


def test_missing_packages_are_called_what_pip_calls_them() -> None:
    hidden = "import sys\nsys.modules.update(dict.fromkeys(['paddle', 'yaml', 'tqdm']))\n"
    source = hidden + setup_source()
    result = run([sys.executable, "-c", source], cwd=ROOT, PYTHONIOENCODING="utf-8")
    assert "%pip install paddlepaddle pyyaml tqdm" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("below", ["..", "tools"])
def test_project_is_found_from_other_folders(project: Path, below: str) -> None:
    place = (project / below).resolve()
    result = run([sys.executable, "-c", setup_source()], cwd=place, PYTHONIOENCODING="utf-8")
    assert result.stdout.strip() == str(project), result.stderr
