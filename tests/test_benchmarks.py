"""The benchmarks run to their end on a few rows and write what they promise; nothing is timed."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import CONFIG, ROOT, Result, override, run

from census_reader import RecDataset
from rec_runner.config import load_config

BENCHMARKS = ROOT / "benchmarks"
SPREAD = {"median", "min", "max", "values"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``train_all``, ``valid_all`` and ``test_all`` with rows of the sample."""
    root = tmp_path_factory.mktemp("rows")
    for folder, split in (("train_all", "train"), ("valid_all", "test"), ("test_all", "test")):
        shutil.copytree(ROOT / "data" / split, root / folder)
    return root


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of ``benchmarks`` by its plain name, as the scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def benchmark(script: str, *arguments: object, cwd: Path) -> Result:
    return run([sys.executable, str(BENCHMARKS / script), *map(str, arguments)], cwd=cwd)


def table_rows(text: str) -> list[list[str]]:
    """Cells of every line of a Markdown text that belongs to a table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def worktrees() -> str:
    """What git says of the worktrees of this repository; nothing where it is none."""
    command = ["git", "-C", str(ROOT), "worktree", "list", "--porcelain"]
    return run(command, cwd=ROOT).stdout if shutil.which("git") else ""


in_git = pytest.mark.skipif(not worktrees(), reason="this is no git repository")


def test_throughput_gives_rates_ratios_and_the_tools_costs(rows: Path, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "out.json", "--png", tmp_path / "out.png"]
    asked = ["--sides", "eager,plain_eager", "--plain-rows", 256, "--quick"]
    asked += ["--only", "training,scoring,tools,startup"]  # what is kept of rows takes long
    sides, ratios = {"eager", "plain_eager"}, {"eager/plain_eager"}
    costs, cost_ratios = {"seconds", "peak_mb"}, set()
    if worktrees():
        asked += ["--against", "HEAD"]
        sides, ratios = {*sides, "old_eager"}, {*ratios, "eager/old_eager"}
        costs |= {"old_seconds", "old_peak_mb"}
        cost_ratios = {"seconds/old_seconds", "peak_mb/old_peak_mb"}
    result = benchmark("throughput.py", "--data", rows / "train_all", *asked, *files, cwd=tmp_path)
    assert result.status == 0, result.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))

    assert found["rows"] == 1000 and found["plain_rows"] == 256
    assert len(found["measures"]) == 6
    for name, measure in found["measures"].items():
        rates = {side: spread["values"] for side, spread in measure["rows_per_second"].items()}
        assert set(rates) == sides, name
        assert set(measure["ratios"]) == ratios, name
        for pair, ratio in measure["ratios"].items():
            ours, other = pair.split("/")
            assert set(ratio) == SPREAD
            assert ratio["values"] == [a / b for a, b in zip(rates[ours], rates[other])]
    start_up = "infer.py -m config.yaml, the sample"
    tools = {"trainer.py", "infer.py", "trainer.py -m config_fast.yaml", start_up}
    assert set(found["tools"]) == tools
    for name, columns in found["tools"].items():
        assert set(columns) - {"import_seconds"} == costs, name
        assert min(spread["median"] for spread in columns.values()) > 0
        assert columns["peak_mb"]["median"] > 50
        assert cost_ratios <= set(found["tool_ratios"][name])
    assert found["tool_ratios"][start_up]["seconds/import_seconds"]["median"] > 0
    first = [cells[0] for cells in table_rows(result.stdout)]
    assert set(found["measures"]) | set(found["tools"]) <= set(first)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@in_git
@pytest.mark.parametrize("revision", ["no-such-commit", "--all", "HEAD^{tree}", ""])
def test_a_commit_that_there_is_not_is_a_sentence(revision: str, tmp_path: Path) -> None:
    result = benchmark("throughput.py", f"--against={revision}", cwd=tmp_path)
    assert (result.status, result.stdout) == (2, "")
    (sentence,) = result.stderr.splitlines()
    assert sentence == f"error: --against {revision}: git knows no such commit in {ROOT}"


@in_git
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_worktree_is_left_of_a_comparison(number: int, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"  # so that it is told from those of others
    temporary.mkdir()
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), "--against", "HEAD", "--quick"]
    # In a session of its own, as git would be ended by Ctrl-C too.
    process = subprocess.Popen(
        [*command, "--only", "startup", "--json", str(tmp_path / "out.json")],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while str(temporary) not in worktrees():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert str(temporary) not in worktrees()
    assert not list(temporary.iterdir())


@in_git
def test_a_commit_that_lacks_the_tools_is_a_sentence(
    tmp_path: Path, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    against = module("against")
    commit = against.find_commit("HEAD")
    monkeypatch.setattr(against, "NEEDED", ("tools/none.py",))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(against.BadRevision, match="^--against HEAD: .* has no tools/none.py"):
        with against.checked_out(commit):
            pass
    assert str(tmp_path) not in worktrees()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cpuinfo", "processor", "flags"),
    [
        (
            "model name\t: Xeon\nflags\t\t: fpu fma avx2 amx_tile\n\nmodel name\t: other\n",
            "Xeon, 2 cores (avx2 fma amx_tile)",
            ["avx2", "fma", "amx_tile"],
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd sve\n",
            "ARM, 2 cores (asimd sve)",
            ["asimd", "sve"],
        ),
        (None, "ARM, 2 cores", []),
    ],
)
def test_the_processor_is_named_with_its_vector_flags(
    cpuinfo: str | None,
    processor: str,
    flags: list[str],
    tmp_path: Path,
    module: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = module("machine")
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo, encoding="utf-8")
    monkeypatch.setattr(machine, "CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "ARM")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    facts = machine.machine()
    assert facts["vector_flags"] == flags
    assert machine.show_processor(facts) == processor


def test_the_static_plain_path_trains_and_scores(rows: Path, module: Any) -> None:
    data = override(
        train_data_dir=rows / "train_all", test_data_dir=rows / "test_all", train_batch_size=32
    )[1:]
    with module("worker").Worker("plain_static", CONFIG, data) as worker:
        assert worker.ask("train", plain_rows=128)["steady"] > 0
        rates = worker.ask("infer", plain_rows=128)
        assert set(rates) == {"memory", "disk", "text", "same"} and min(rates.values()) > 0


def test_the_pytorch_side_trains_and_scores(rows: Path, module: Any) -> None:
    pytest.importorskip("torch")
    data = override(train_data_dir=rows / "train_all")[1:]
    with module("worker").Worker("torch", CONFIG, data) as worker:
        assert worker.ask("train")["steady"] > 0
        assert worker.ask("infer")["memory"] > 0


def test_a_side_that_fails_says_why(tmp_path: Path, module: Any) -> None:
    common, worker = module("common"), module("worker")
    with worker.Worker("eager", tmp_path / "none.yaml", []) as side:
        with pytest.raises(common.BenchmarkError, match="the eager side failed: .*none.yaml"):
            side.ask("train")


def test_the_tools_of_the_table_take_what_they_are_given(
    module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for tool in (tool for tools in module("tool_runs").RUNS.values() for tool in tools):
        load_config(str(ROOT / tool.config), tool.overrides)
        for end in (tool.end, *tool.before):
            assert (ROOT / "tools" / f"static_{end}.py").is_file()
    assert capsys.readouterr().err == ""  # of a key that there is not


def test_another_trees_side_runs_its_tools(tmp_path: Path, module: Any) -> None:
    common, worker = module("common"), module("worker")
    tools = tmp_path / "tools" / "rec_runner"
    tools.mkdir(parents=True)
    (tools / "__init__.py").touch()
    code = """
import sys

def main(*line):
    print("error: that", line, file=sys.stderr)
    return 2
"""
    (tools / "cli.py").write_text(code, encoding="utf-8")
    config = tmp_path / "config.yaml"
    with worker.Worker("old_static", config, ["runner.epochs=3"], tmp_path) as side:
        with pytest.raises(common.BenchmarkError) as failure:
            side.ask("train")
    line = ("train", "static", ["-m", str(config), "-o", "runner.epochs=3"])
    told = str(failure.value)
    assert told.startswith(f"the old_static side failed: that {line}"[:-2])


def test_the_plain_reader_reads_what_ours_reads(rows: Path, module: Any) -> None:
    file = rows / "test_all" / "test_data.txt"
    config = {"hyper_parameters.label_columns": [1, 0]}
    ours = RecDataset([str(file)], config)
    plain = module("plain_path").PlainDataset([file], [1, 0], rows=20)
    pairs = [*zip(iter(plain), iter(ours))]
    assert len(pairs) == 20
    for theirs, own in pairs:
        for a, b in zip(theirs, own):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_scaling_gives_every_point_of_its_sweeps(tmp_path: Path) -> None:
    files = ["--json", tmp_path / "out.json", "--png", tmp_path / "out.png"]
    only = ["--quick", "--only", "tasks", "--paths", "static"]
    result = benchmark("scaling.py", *only, *files, cwd=tmp_path)
    assert result.status == 0, result.stderr
    points = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["points"]
    assert [(p["path"], p["tasks"]) for p in points] == [("static", 1), ("static", 2)]
    for point in points:
        per_row, per_task = point["us_per_row"], point["us_per_row_and_task"]
        assert per_row["median"] == pytest.approx(per_task["median"] * point["tasks"])
        assert point["rows_per_second"]["median"] == pytest.approx(1e6 / per_row["median"])
    assert [cells[0] for cells in table_rows(result.stdout)[2:]] == ["1", "2"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_cost_of_checkpoints_is_of_every_one_of_them(tmp_path: Path) -> None:
    asked = ["--quick", "--batch", 64, "--paths", "static", "--json", tmp_path / "out.json"]
    result = benchmark("checkpoint_overhead.py", *asked, cwd=tmp_path)
    assert result.status == 0, result.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    steps = found["rows"] // found["batch"]
    assert steps == 500 and found["epochs"] == 1
    assert [len(kind["save_ms"]) for kind in found["runs"]] == [1, 2]
    for kind in found["runs"]:
        assert sum(kind["save_ms"]) / 1000 <= kind["inside_seconds"] < kind["loop_seconds"]
    assert len(table_rows(result.stdout)) == 4


def test_the_profile_of_a_step_adds_up(rows: Path, tmp_path: Path) -> None:
    asked = ["--data", rows, "--batch", 16, "--paths", "static", "--json", tmp_path / "out.json"]
    result = benchmark("step_profile.py", *asked, cwd=tmp_path)
    assert result.status == 0, result.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["microseconds"]
    (parts,) = found.values()
    whole, by_the_clock = parts.pop("whole"), parts.pop("clock")
    assert whole > 0 and by_the_clock > 0
    assert sum(parts.values()) == pytest.approx(whole)
    assert {"product", "gradient", "adam"} < set(parts)
    assert parts["loop"] > 0 and min(parts["product"], parts["adam"]) > 0


def test_quality_scores_every_row_and_adds_to_its_file(rows: Path, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "out.json", "--markdown", tmp_path / "out.md"]
    few = tmp_path / "few"  # trees on all rows take long
    shutil.copytree(rows, few)
    train = few / "train_all" / "train_data.txt"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:200]), encoding="utf-8")
    common = ["--data-root", few, "--seeds", 1, "--paths", "eager", *files]
    first = benchmark("quality.py", "--only", "fast", *common, cwd=tmp_path)
    assert first.status == 0, first.stderr
    second = benchmark("quality.py", "--only", "logistic,trees", *common, cwd=tmp_path)
    assert second.status == 0, second.stderr

    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert set(found["baselines"]) == {"logistic", "trees"}
    (network,) = found["networks"].values()
    assert network["best_epoch"] == network["valid"].index(max(network["valid"]))
    assert len(network["test"]) == len(network["valid"]) == 10
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert text == second.stdout
    cells = {row[0]: row for row in table_rows(text)}
    best, trees = network["test"][network["best_epoch"]], found["baselines"]["trees"]["test"]
    expected = ["eager", *(f"{score:.4f}" for score in best)]
    expected += [f"{score - tree:+.4f}" for score, tree in zip(best, trees)]
    assert cells["config_fast.yaml"][1:6] == expected
    assert cells["MMoE paper, Shared-Bottom, mean of 400 runs"][2:4] == ["0.9295", "0.9921"]
    assert "config_fast.yaml, eager: last of 10 epochs less the best one on test" in text


def test_quality_keeps_results_of_other_rows_apart(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text('{"data": "other rows"}', encoding="utf-8")
    arguments = ["--data-root", rows, "--only", "logistic", "--json", tmp_path / "out.json"]
    result = benchmark("quality.py", *arguments, cwd=tmp_path)
    assert result.status == 1
    assert result.sentences[-1].endswith("holds results of other rows: other rows")


def test_deviations_are_those_of_a_sample(module: Any) -> None:
    common = module("common")
    mean, deviation = common.mean_deviation([1.0, 2.0, 3.0])
    assert (mean, deviation) == (2.0, 1.0)
    assert common.mean_deviation([1.0])[1] != common.mean_deviation([1.0])[1]
    assert common.show_spread(common.spread([1.0, 3.0, 2.0]), 1) == "2.0 (1.0–3.0)"
