"""The programs of doc/deployment.md, run as the page says; its tables are those of the code."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from exports import export_of, trained
from helpers import ROOT, Result, run, run_cases
from serving import TOOL, Running, serving

from rec_runner.exported.manifest import FILES, MANIFEST, read_manifest
from rec_runner.serve import _parser as serve_parser
from rec_runner.service.records import Metrics

PAGE = ROOT / "doc" / "deployment.md"
TWIN = ROOT / "doc" / "deployment_EN.md"
EXPORT, HTTP, MONITORING = 1, 4, 6  # places of sections
MOST_LINES = 30
KEY = "key-of-a-test"

# Runs a program where neither Paddle nor anything of this repository can be imported.
_ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("paddle", "prediction_rows", "raw_tables", "rec_runner")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def blocks(page: Path, kind: str) -> list[str]:
    """Code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def program(name: str) -> str:
    """The Python code whose first line names it."""
    (code,) = (block for block in blocks(PAGE, "python") if block.startswith(f"# {name}"))
    return code


def run_alone(file: Path, *arguments: object) -> Result:
    """Run a program of the page in a process of its own, away from the repository."""
    words = [sys.executable, "-I", "-c", _ALONE, str(file), *map(str, arguments)]
    return run(words, cwd=file.parent)


def scores(text: str) -> tuple[list[str], np.ndarray]:
    """Header and numbers of a table of predictions."""
    head, *rows = csv.reader(text.splitlines())
    return head, np.array(rows, np.float64)


def rows_of(kind: str, folder: Path) -> Path:
    """Rows as a client has them: plain text, with what makes reading difficult."""
    test = trained(kind).test
    file = folder / f"{kind}.csv"
    if test.suffix == ".gz":
        with gzip.open(test) as packed:
            file.write_bytes(packed.read())
        return file
    with test.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))[:300]
    for row, (name, value) in zip(table, [("city", "Atlantis"), ("city", " Lima "), ("age", "")]):
        row[name] = value
    table[3].update(user_id="NA", city="", referrer="7.0", age=" 31.0 ", price="1e1")
    table[4].update(user_id="7", referrer="7", category='"shoes S"', city="北京")
    with file.open("w", encoding="utf-8", newline="") as stream:
        names = [name for name in reversed(table[0]) if name != "click"]  # by name, not by place
        writer = csv.DictWriter(stream, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return file


@pytest.mark.parametrize("kind", ["raw", "shop"])  # numbers and categories; ids, blanks, regression
def test_the_client_predicts_what_the_tool_does(kind: str, tmp_path: Path) -> None:
    code = program("client.py")
    assert len(code.splitlines()) <= MOST_LINES
    (tmp_path / "client.py").write_text(code, encoding="utf-8")
    rows, export = rows_of(kind, tmp_path), export_of(kind)
    found = run_alone(tmp_path / "client.py", export, rows)
    assert found.status == 0, found.stderr
    case = ("predict", "", ["--model", str(export), "--quiet", str(rows)])
    (expected,) = run_cases([case], cwd=tmp_path)
    assert expected.status == 0, expected.stderr
    (tasks, own), (names, told) = scores(found.stdout), scores(expected.stdout)
    assert tasks == names and own.shape == told.shape and len(own) >= 300
    assert np.ptp(own, axis=0).min() > 0.01
    np.testing.assert_allclose(own, told, rtol=1e-5, atol=1e-5)


def test_the_client_needs_nothing_else() -> None:
    allowed = {"csv", "json", "re", "sys", "hashlib", "numpy", "onnxruntime"}
    found = set()
    for node in ast.walk(ast.parse(program("client.py"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    assert found == allowed


def test_the_paddle_model_is_used_as_told(tmp_path: Path) -> None:
    code = program("paddle_client.py")
    export = export_of("raw")
    rows = np.random.default_rng(5).integers(0, 3, (2, 40)).astype(np.float32)
    code, found = re.subn(
        r"^rows = .*$", f"rows = np.array({rows.tolist()}, 'f4')", code, flags=re.M
    )
    assert found == 1
    (tmp_path / "paddle_client.py").write_text(code, encoding="utf-8")
    result = run([sys.executable, "paddle_client.py", str(export)], cwd=tmp_path)
    assert result.status == 0, result.stderr
    session = onnxruntime.InferenceSession(str(export / "model.onnx"))
    for task in read_manifest(export).tasks:
        (line,) = re.findall(rf"^{task.name} \[(.*)\]$", result.stdout, re.M)
        (expected,) = session.run([task.output], {"features": rows})
        np.testing.assert_allclose(np.array(line.split(), float), expected, atol=1e-5)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The tool, with a key."""
    folder = tmp_path_factory.mktemp("service")
    model = ("--model", export_of("raw"), "--runtime", "onnx")
    with serving(folder / "log", *model, program=TOOL, SERVE_API_KEY=KEY) as running:
        yield running


def test_the_client_over_http(service: Running, tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(program("ask.py"), encoding="utf-8")
    ask = [sys.executable, "ask.py", f"http://127.0.0.1:{service.port}"]
    found = run(ask, cwd=tmp_path, SERVE_API_KEY=KEY)
    assert found.status == 0, found.stderr
    lines = '{"age": 45, "weeks_worked": 52}\n{"age": 17, "weeks_worked": 0}\n'
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    case = ("predict", "", ["--model", str(export_of("raw")), "--quiet", "rows.jsonl"])
    (expected,) = run_cases([case], cwd=tmp_path)
    tasks, told = scores(expected.stdout)
    answers = ast.literal_eval(found.stdout)
    np.testing.assert_allclose([[row[t] for t in tasks] for row in answers], told, atol=1e-5)
    refused = run(ask, cwd=tmp_path, SERVE_API_KEY="another")
    assert "ValueError: {'message': 'a key is needed" in refused.stderr


def test_the_refusal_shown_is_that_given(service: Running) -> None:
    shown = json.loads(blocks(PAGE, "json")[0])
    answer = service.ask("/predict", {"age": "forty"}, {"X-API-Key": KEY})
    assert answer.status == 422
    shown["errors"][0]["message"] = shown["error"]["message"]
    assert answer.json == shown


def test_the_routes_told_are_there(service: Running) -> None:
    row = r"^\| `(?:GET|POST) (/\w*)`.*\| (yes|no) \|$"
    told = dict(re.findall(row, section(TWIN, HTTP), re.M))
    told.update(dict.fromkeys(("/docs", "/openapi.json"), "no"))
    assert len(told) == 9
    for path, locked in told.items():
        answer = service.ask(path, b"" if path in ("/predict", "/reload") else None)
        assert (answer.status == 401) == (locked == "yes") and answer.status != 404, path


# What the pages say


def section(page: Path, number: int) -> str:
    """A section of a page, by its place."""
    return page.read_text("utf-8").split("\n## ")[number]


def first_cells(text: str) -> set[str]:
    """What stands between backticks in the first cells of the tables of a text."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {word for cell in cells for word in re.findall("`([^`]+)`", cell)}


@pytest.mark.parametrize("page", [PAGE, TWIN])
def test_all_of_an_export_is_told(page: Path) -> None:
    files, _, keys = section(page, EXPORT).partition("JSON")
    assert first_cells(keys) == json.loads((export_of("shop") / MANIFEST).read_text("utf-8")).keys()
    assert set(FILES) == set(re.findall(r"`([\w.]+\.\w+)`", files.partition("\n\n| ")[2]))


@pytest.mark.parametrize("page", [PAGE, TWIN])
def test_all_options_of_the_service_are_told(page: Path) -> None:
    parser = serve_parser()
    options = {name for action in parser._actions for name in action.option_strings}
    told = first_cells(section(page, HTTP))
    assert {word for word in told if word.startswith("--")} == options - {"-h", "--help"}


@pytest.mark.parametrize("page", [PAGE, TWIN])
def test_all_metrics_are_told(page: Path) -> None:
    told = {word.partition("{")[0] for word in first_cells(section(page, MONITORING))}
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", Metrics().text().decode(), re.M)
    assert told == {name for name, kind in kinds if not name.endswith("_created")}


def test_the_commands_of_the_pages_can_be_given(tmp_path: Path) -> None:
    """The image copies all that the service needs; its options and the unit's are known."""
    (image,), (unit,) = blocks(PAGE, "dockerfile"), blocks(PAGE, "ini")
    command = ast.literal_eval(re.search(r"^CMD (\[.*\])$", image, re.M)[1])
    started = shlex.split(re.search("^ExecStart=(.*)$", unit, re.M)[1])
    for line in (command, started):
        assert line[1] == "tools/serve.py"
        serve_parser().parse_args(line[2:])
    for copied, to in re.findall(r"^COPY (\S+) (\S+)$", image, re.M):
        found = list(ROOT.glob(copied))
        assert found
        for file in found:
            if file.is_dir():
                shutil.copytree(file, tmp_path / to)
            else:
                shutil.copy(file, tmp_path / to)
    model = ("--model", export_of("raw"), "--runtime", "onnx")
    tool = tmp_path / "tools" / "serve.py"
    with serving(tmp_path / "log", *model, program=tool, PYTHONPATH="") as running:
        assert running.ask("/predict", {"age": 40}).status == 200


def test_both_languages_have_the_same_code() -> None:
    def plain(page: Path) -> list[str]:
        found = re.findall(r"^```(\w+\n.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        return [re.sub(r"(^|  )# .*", "", block, flags=re.M) for block in found]

    def headings(page: Path) -> list[int]:
        prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
        return [len(marks) for marks in re.findall(r"^(#+) ", prose, re.M)]

    assert plain(PAGE) == plain(TWIN)
    assert headings(PAGE) == headings(TWIN)


@pytest.mark.parametrize("page", [PAGE, TWIN])
def test_every_link_leads_somewhere(page: Path) -> None:
    def anchors(file: Path) -> set[str]:
        prose = re.sub(r"^```.*?^```$", "", file.read_text("utf-8"), flags=re.M | re.S)
        titles = re.findall("^#+ (.+)$", prose, re.M)
        return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}

    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file() and (not anchor or anchor in anchors(file)), target
