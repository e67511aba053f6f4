"""Predictions of rows from anywhere: those of the infer tool, a line for each row, in order."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exports import Trained, export_of, trained
from helpers import CONFIG, ROOT, TOOLS, Result, override, run, run_cases

from rec_runner.build import open_checkpoint
from rec_runner.config import load_config
from rec_runner.data.inputs import Input
from rec_runner.rows_out.flow import AHEAD, Flow, Model
from rec_runner.rows_out.table import Encoder
from rec_runner.rows_out.target import make_encoder
from rec_runner.system.errors import RunError, UserError

SAMPLE = ROOT / "data" / "test" / "test_data.txt"
RAW = ROOT / "data" / "raw" / "test"
GRAPHS = ("dygraph", "static")
TOLERANCE = 1e-5
Table = dict[str, list[Any]]


def predict(*lines: Sequence[object], cwd: Path) -> list[Result]:
    """Run the tool for each of some command lines, in one process."""
    return run_cases([("predict", "", line) for line in lines], cwd)


def predict_ok(*lines: Sequence[object], cwd: Path) -> list[Table]:
    """The same, and the CSV that each prints, column by column."""
    results = predict(*lines, cwd=cwd)
    for result in results:
        assert result.status == 0, result.stderr
    return [table_of(result.stdout) for result in results]


def table_of(text: str) -> Table:
    header, *lines = csv.reader(io.StringIO(text))
    return {name: list(cells) for name, *cells in zip(header, *lines)}


def close(found: Sequence[Any], expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(found, float), expected, rtol=TOLERANCE, atol=TOLERANCE)


@cache
def of_infer(kind: str, graph: str) -> dict[str, np.ndarray]:
    """What the infer tool of a graph predicts of the bundled test rows, by task."""
    made = trained(kind, graph)
    line = ["-m", made.config, *made.options, *override(save_predictions=True)]
    (result,) = run_cases([("infer", graph, line)], made.folder)
    assert result.status == 0, result.stderr
    found = table_of((made.folder / "0" / "predictions.csv").read_text("utf-8"))
    tasks = [name for name in found if not name.startswith("label_")]
    return {name.split("_", 1)[1]: np.array(found[name], float) for name in tasks}


def model_of(made: Trained) -> list[object]:
    return ["-m", made.config, *made.options]


def sample_lines() -> list[str]:
    return SAMPLE.read_text("utf-8").splitlines()


def raw_lines() -> list[str]:
    (file,) = RAW.iterdir()
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def other_forms(kind: str, folder: Path) -> list[Path]:
    """The test rows in files of every form, but for that of the training files."""
    lines = sample_lines() if kind == "numeric" else raw_lines()
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    if kind == "numeric":
        names = [str(column) for column in range(len(cells[0]))]
        columns = {n: np.array(c, np.float32) for n, c in zip(names, zip(*cells)) if n not in "01"}
        plain = [line.split(",", 2)[2] for line in lines]  # without labels
    else:
        tree = load_schema_names()
        columns = {name: list(c) for name, c in zip(tree, zip(*cells)) if name != "income_50k"}
        order = sorted(columns)
        plain = [",".join(order), *(",".join(row) for row in zip(*(columns[n] for n in order)))]
    (folder / "plain.csv").write_text("\n".join(plain) + "\n", encoding="utf-8")
    with gzip.open(folder / "rows.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write("\r\n".join(lines))
    pq.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=97)
    rows = zip(*(c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()))
    objects = (json.dumps(dict(zip(columns, row))) for row in rows)
    (folder / "rows.jsonl").write_text("\n".join(objects), encoding="utf-8")
    return [folder / name for name in ("plain.csv", "rows.txt.gz", "rows.parquet", "rows.jsonl")]


def load_schema_names() -> list[str]:
    from raw_tables.schema import load_schema

    return [c.name for c in load_schema(ROOT / "datasets" / "census" / "schema.yaml").columns]


@pytest.mark.parametrize(("kind", "graph"), [("numeric", "static"), ("raw", "dygraph")])
def test_all_roads_and_forms_give_what_infer_does(kind: str, graph: str, tmp_path: Path) -> None:
    made, expected = trained(kind, graph), of_infer(kind, graph)
    files: list[Path] = [SAMPLE if kind == "numeric" else RAW, *other_forms(kind, tmp_path)]
    export = ["--model", export_of(kind, graph)]
    lines = [[*model_of(made), file] for file in files]
    lines += [[*model_of(made), "--graph", "static", "--batch", 7, files[0]]]
    lines += [[*export, "--runtime", runtime, files[0]] for runtime in ("onnx", "paddle")]
    lines += [[*export, *files]]
    *single, together = predict_ok(*lines, cwd=tmp_path)
    for found in single:
        assert list(found) == list(expected)
        for task, values in expected.items():
            close(found[task], values)
    for task, values in expected.items():
        close(together[task], np.tile(values, len(files)))


def test_a_shop_with_ids_and_a_regression(tmp_path: Path) -> None:
    config = shop(tmp_path)
    model = ["-m", config, *override(model_save_path="m", infer_load_path="m")]
    train = [*model, *override(save_predictions=True)]
    results = run_cases([("train", "dygraph", train), ("infer", "dygraph", train)], tmp_path)
    assert [result.status for result in results] == [0, 0], results[0].stderr
    infer = table_of(Path(tmp_path, "m", "1", "predictions.csv").read_text("utf-8"))
    model[-1] = f"runner.infer_load_path={tmp_path / 'm'}"
    (export,) = run_cases([("export", "", [*model, "--out", tmp_path / "export"])], tmp_path)
    assert export.status == 0, export.stderr
    rows = tmp_path / "test" / "rows.csv"
    bad = tmp_path / "bad.csv"
    lines = rows.read_text("utf-8").splitlines()
    lines[7] = lines[7].replace(lines[7].split(",")[1], "old", 1)
    bad.write_text("\n".join(lines), encoding="utf-8")
    keep = ["--keep", 'user,"city, or none"', "--prefix", "p_", "--keep", "click"]
    parts = [*override(train_data_dir="no/where", test_data_dir="no/where"), *keep]
    first, second, third = predict_ok(
        [*model, *parts, rows],
        ["--model", tmp_path / "export", *keep, rows],
        [*model, *parts, "--bad-rows", "keep", bad],
        cwd=tmp_path,
    )
    given = table_of(rows.read_text("utf-8"))
    assert list(first) == ["user", "city, or none", "click", "p_click", "p_paid"]
    for name in ("user", "city, or none", "click"):
        assert first[name] == second[name] == given[name]
    for found in (first, second):
        close(found["p_click"], np.array(infer["probability_click"], float))
        paid = np.array(infer["prediction_paid"], float)
        close(np.array(found["p_paid"], float) / paid.std(), paid / paid.std())
    for name, cells in first.items():
        as_bad = "" if name.startswith("p_") else given[name][6]
        assert third[name] == [*cells[:6], as_bad, *cells[7:]]


def shop(folder: Path) -> Path:
    """A config, in the repository, of a small table with ids, blanks and a price to predict."""
    rng = np.random.default_rng(5)
    (folder / "schema.yaml").write_text(
        """
columns:
  - {name: user, kind: id, buckets: 50, embedding: 3}
  - {name: age, kind: number, missing: true}
  - {name: "city, or none", kind: category, values: [Berlin, "New York, NY"], missing: true}
  - {name: click, kind: label}
  - {name: paid, kind: label, type: regression, missing: true}
""",
        encoding="utf-8",
    )
    for name, rows in (("train", 600), ("test", 90)):
        (folder / name).mkdir()
        age = rng.integers(20, 60, rows)
        user, city = rng.integers(0, 90, rows), rng.integers(0, 3, rows)
        click = (age + user / 3 + rng.normal(size=rows) * 9 > 55).astype(int)
        paid = [f"{10_000 + 50 * a:.2f}" if c else "" for a, c in zip(age, click)]
        with open(folder / name / "rows.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["user", "age", "city, or none", "click", "paid"])
            cities = ["Berlin", "New York, NY", ""]
            for row in range(rows):
                years = "" if row % 11 == 3 else age[row]
                cells = [f"u{user[row]}", years, cities[city[row]], click[row], paid[row]]
                writer.writerow(cells)
    config = (ROOT / "config_raw.yaml").read_text("utf-8")
    assert "datasets/census/schema.yaml" in config
    made = folder / "config.yaml"
    link_model(folder)
    for old, new in (
        ("datasets/census/schema.yaml", "schema.yaml"),
        ("data/raw/", ""),
        ("epochs: 100", "epochs: 2"),
        ("valid_share: 0.1", "valid_share: 0"),
    ):
        config = config.replace(old, new)
    made.write_text(config, encoding="utf-8")
    return made


def link_model(folder: Path) -> None:
    """Make a folder a model directory, whose modules are the repository's."""
    for path in (*ROOT.glob("*.py"), ROOT / "raw_tables", ROOT / "prediction_rows"):
        (folder / path.name).symlink_to(path)


def test_rows_of_standard_input_and_nothing_else_on_standard_output(tmp_path: Path) -> None:
    made, expected = trained(), of_infer("numeric", "dygraph")
    tool = [sys.executable, TOOLS / "predict.py", *model_of(made), "--format", "jsonl"]
    noisy = tmp_path / "sitecustomize.py"
    noisy.write_text(
        """
import atexit, os, sys

class Noise:
    def find_spec(self, name, *_):
        if name == "rec_runner.engine.dygraph.blocks":
            print("noise of Python"); os.write(1, b"noise of C\\n")

sys.meta_path.insert(0, Noise())
atexit.register(os.write, 1, b"noise at the end\\n")
""",
        encoding="utf-8",
    )
    text = SAMPLE.read_text("utf-8")
    result = run([*map(str, tool), "-"], tmp_path, stdin=text, PYTHONPATH=str(tmp_path))
    assert result.status == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    for task, values in expected.items():
        close([row[task] for row in rows], values)
    assert result.stderr.count("noise of") == 2
    assert "noise at the end" in result.stderr
    assert f"predicted {len(rows)} rows in " in result.stderr


def test_an_export_predicts_without_paddle(tmp_path: Path) -> None:
    code = "import sys; sys.modules['paddle'] = None; from rec_runner.predict import main; main()"
    line = ["-c", code, "--model", export_of("raw", "dygraph"), "--keep", "age", RAW]
    result = run([sys.executable, *map(str, line)], tmp_path, PYTHONPATH=str(TOOLS))
    found = table_of(result.stdout)
    assert found.pop("age") == [line.split(",")[0] for line in raw_lines()]
    for task, values in of_infer("raw", "dygraph").items():
        close(found[task], values)


def test_a_bad_row_stops_or_is_kept_empty(tmp_path: Path) -> None:
    made, lines = trained(), sample_lines()[:30]
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("\n".join(lines), encoding="utf-8")
    lines[4] = lines[4].replace(",", ",x", 3)
    lines[9] = "1,2"
    bad.write_text("\n".join(lines), encoding="utf-8")
    model = [*model_of(made), "--quiet"]
    expected, kept = predict_ok([*model, good], [*model, bad, "--bad-rows", "keep"], cwd=tmp_path)
    whole, stopped = predict(
        [*model, bad, "--bad-rows", "keep", "--out", "kept.csv"],
        [*model, bad, "--out", "stopped.csv"],
        cwd=tmp_path,
    )
    places = [f"{bad}:5: ", f"{bad}:10: "]
    assert len(whole.sentences) == 3
    assert whole.sentences[0].endswith("2 of 30 rows have no predictions, the first of them:")
    for sentence, place in zip(whole.sentences[1:], places):
        assert sentence.startswith(f"warning: {place}")
    for task, cells in expected.items():
        assert kept[task] == ["" if row in (4, 9) else cell for row, cell in enumerate(cells)]
    assert table_of((tmp_path / "kept.csv").read_text("utf-8")) == kept
    assert stopped.status == 2
    assert stopped.stderr.startswith(f"error: {places[0]}")
    assert "--bad-rows keep goes on" in stopped.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv", "good.csv", "kept.csv"]


def test_command_lines_that_cannot_be_are_a_sentence(tmp_path: Path) -> None:
    made = trained()
    model = model_of(made)
    foreign = ROOT / "tests" / "model_dirs" / "mmoe" / "config.yaml"
    cases: list[tuple[list[object], str]] = [
        ([SAMPLE], "one of the arguments -m/--config --model is required"),
        ([*model, "--model", "x", SAMPLE], "--model: not allowed with"),
        ([*model, "--runtime", "onnx", SAMPLE], "--runtime goes with --model, not with -m"),
        (["--model", "x", "--epoch", "1"], "--epoch goes with -m, not with --model"),
        (["--model", "x", *override(seed=1)], "-o goes with -m, not with --model"),
        (["--model", tmp_path, SAMPLE], "it has no model.json"),
        ([*model, "nothing.csv"], "FILES: nothing.csv is not a folder, nor a file"),
        ([*model, "-", "-"], "standard input (-) can be read only once"),
        ([*model, "--batch", "0", SAMPLE], "--batch 0: at least 1 is expected"),
        ([*model, "--keep", "a,,b", SAMPLE], "--keep a,,b: the name of a column is empty"),
        ([*model, "--keep", "a\nb", SAMPLE], "--keep a b: new-line character seen in unquoted"),
        ([*model, "--keep", "income", SAMPLE], "--keep income: a task has this name too"),
        ([*model, "--keep", "nothing", SAMPLE], "nothing"),
        ([*model, "--out", "rows.txt", SAMPLE], "--out rows.txt: its name tells no format"),
        ([*model, "--out", "no/rows.csv", SAMPLE], "there is no folder no"),
        ([*model, "--epoch", "7", SAMPLE], "no checkpoint of epoch 7"),
        ([*model, "--epoch", "best", SAMPLE], "--epoch best"),
        (["-m", foreign, SAMPLE], "has no prediction_rows/open.py, which reads rows without"),
    ]
    renamed = [*model, "hyper_parameters.task_names=[rich,single]", "--quiet", SAMPLE]
    *results, last = predict(*(line for line, _ in cases), renamed, cwd=tmp_path)
    assert last.stdout.startswith("rich,single\n")
    assert "task_names was ['income', 'marital'] when checkpoint" in last.stderr
    for (line, message), result in zip(cases, results):
        assert result.status == 2, line
        assert message in result.stderr
        assert result.stderr.startswith("error: ")
        assert len(result.sentences) == 1
        assert result.stdout == ""
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="pipes and signals are POSIX's")
class TestEnds:
    """How the tool ends before all rows are written."""

    @pytest.fixture
    def rows(self, tmp_path: Path) -> Path:
        """More rows than a pipe holds the predictions of."""
        file = tmp_path / "rows.csv"
        file.write_bytes(SAMPLE.read_bytes() * 30)
        return file

    @staticmethod
    def start(*arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
        line = [sys.executable, TOOLS / "predict.py", *model_of(trained()), *arguments]
        return subprocess.Popen([*map(str, line)], stderr=subprocess.PIPE, **streams)

    def test_a_reader_that_has_enough_ends_it_quietly(self, rows: Path) -> None:
        with self.start(rows, stdout=subprocess.PIPE) as tool:
            assert tool.stdout and tool.stderr
            assert tool.stdout.readline() == b"income,marital\n"
            tool.stdout.close()
            assert tool.wait(600) == 0
            assert tool.stderr.read() == b""

    @pytest.mark.parametrize(
        ("waits_for", "signum"), [("rows", signal.SIGTERM), ("reader", signal.SIGINT)]
    )
    def test_a_signal_ends_it_wherever_it_waits(
        self, waits_for: str, signum: signal.Signals, rows: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.csv"
        if waits_for == "rows":
            tool = self.start("--out", out, stdin=subprocess.PIPE)
        else:
            tool = self.start(rows, stdout=subprocess.PIPE)
        with tool:
            wait_until(lambda: bool([*tmp_path.glob(".out.csv*")]) or is_readable(tool.stdout))
            time.sleep(0.2)
            tool.send_signal(signum)
            assert tool.wait(600) == 128 + signum
            assert tool.stderr and tool.stderr.read() == b"error: stopped by a signal\n"
        assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]

    def test_a_terminal_shows_how_far_it_is(self, rows: Path, tmp_path: Path) -> None:
        ours, its = os.openpty()
        line = [sys.executable, TOOLS / "predict.py", *model_of(trained()), rows]
        with open(tmp_path / "out.csv", "wb") as out:
            tool = subprocess.Popen([*map(str, line)], stdout=out, stderr=its)
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone with the process
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
        assert tool.wait(600) == 0
        assert b"% " in shown
        assert b"predicted 10,800 rows" in shown
        assert len((tmp_path / "out.csv").read_bytes().splitlines()) == 10_801

    def test_a_full_disk_is_a_sentence(self, rows: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full")
        with open("/dev/full", "wb") as full, self.start(rows, stdout=full) as tool:
            assert tool.wait(600) == 1
            assert tool.stderr and b"No space left on device" in tool.stderr.read()


def wait_until(holds: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_readable(stream: Any) -> bool:
    import select

    return stream is not None and bool(select.select([stream], [], [], 0)[0])


class Slow(Encoder):
    """Makes no bytes before it is told to."""

    def __init__(self) -> None:
        super().__init__((), ("a",))
        self.may = threading.Event()

    def rows(self, predicted: Any) -> bytes:
        assert self.may.wait(60)
        return b"x" * len(predicted.values)


class Reader:
    """Gives blocks of rows, and counts them."""

    feature_size, names = 1, ("f",)

    def __init__(self, number: int) -> None:
        self.number = number
        self.given = 0

    def read(self, source: Any, keep: Sequence[str]) -> Iterator[Any]:
        for _ in range(self.number):
            self.given += 1
            yield SimpleNamespace(features=np.ones((3, 1), np.float32), faults={}, kept={})


def model_from(reader: Any, predict: Any = lambda features: features / 2) -> Model:
    return Model("model", ("a",), reader, lambda *source: SimpleNamespace(), predict)


def test_no_more_rows_are_held_than_a_few_blocks_however_slow_the_output_is() -> None:
    reader, encoder, written = Reader(100), Slow(), []
    flow = Flow(model_from(reader), (), False)

    def go() -> None:
        flow.through([Input(os.devnull, os.devnull)], encoder, written.append, False)

    thread = threading.Thread(target=go)
    thread.start()
    wait_until(lambda: reader.given > AHEAD)
    time.sleep(0.2)
    assert AHEAD < reader.given <= AHEAD + 2
    encoder.may.set()
    thread.join(60)
    assert (reader.given, flow.rows, b"".join(written)) == (100, 300, b"x" * 300)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_row_of_which_the_network_makes_no_number_is_a_bad_one(
    number: float, capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(features: np.ndarray) -> np.ndarray:
        assert len(features) == 3
        return np.array([[1], [number], [0.25]], np.float32)

    inputs, written = [Input("a", os.devnull), Input("b", os.devnull)], []
    flow = Flow(model_from(Reader(2), predict), (), True)
    flow.through(inputs, make_encoder("csv", False, (), ("a",)), written.append, False)
    flow.tell_bad()
    assert b"".join(written) == b"a\n" + b'1\n""\n0.25\n' * 4
    first, *bad = capsys.readouterr().err.splitlines()
    assert first == "warning: 4 of 12 rows have no predictions, the first of them:"
    places = ["a: row 2", "a: row 5", "b: row 2", "b: row 5"]
    why = "the network makes no number of it; column 'f' is 1 there"
    assert bad == [f"warning: {place}: {why}" for place in places]
    flow = Flow(model_from(Reader(1), predict), (), False)
    with pytest.raises(UserError, match="a: row 2: the network makes no number of it"):
        flow.through(inputs, make_encoder("csv", False, (), ("a",)), written.append, False)


def test_what_a_reader_raises_is_told_with_its_file() -> None:
    class Failing(Reader):
        error: Exception

        def read(self, source: Any, keep: Sequence[str]) -> Iterator[Any]:
            yield from super().read(source, keep)
            raise self.error

    errors: list[tuple[Exception, type[Exception], str]] = [
        (OSError(5, "Input/output error"), RunError, "rows cannot be read: Input/output error"),
        (KeyError("x"), UserError, "test_predict.py: Failing.read failed: KeyError: 'x'"),
    ]
    for error, kind, message in errors:
        encoder = Slow()
        encoder.may.set()
        reader = Failing(2)
        reader.error = error
        flow = Flow(model_from(reader), (), False)
        with pytest.raises(kind, match=message):
            flow.through([Input("rows", os.devnull)], encoder, lambda data: None, False)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_network_that_its_hook_does_not_follow_predicts_by_itself(
    graph: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trained()
    settings = [pair for pair in made.options if "=" in pair]
    engine, folder = open_checkpoint(graph, load_config(str(CONFIG), settings), None)
    assert folder == made.folder / "0"
    rows = np.loadtxt(SAMPLE, delimiter=",", dtype=np.float32)[:60, 2:]
    expected = engine.predict(rows, 16)
    close(expected[:, 0], of_infer("numeric", "dygraph")["income"][:60])
    score_rows = engine.model.score_rows
    engine.model.score_rows = lambda features, weights: score_rows(features, weights) + 1
    engine.set_state_dict({})
    if graph == "static":
        engine._scoring = {}  # its program is built anew
    rows[2, 0] = 3e38
    found = engine.predict(rows, 16)
    assert "score_rows gives log-odds" in capsys.readouterr().err
    good = np.arange(60) != 2
    close(found[good], expected[good])
    assert engine.predict(rows[:0], 16).shape == (0, 2)
