"""The service under load: no answer is wrong or missing; benchmarks/service.py runs it longer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, override, run, run_cases

if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))
import service_scenarios as scenarios
import service_slow
from service import faults
from service_answers import Answer, Request, Truth, compare
from service_rows import OBJECT, Pool
from service_scenarios import Setting


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Two exports of one training, and little of everything."""
    folder = tmp_path_factory.mktemp("load")
    config, model = ROOT / "config_raw.yaml", folder / "model"
    options = override(epochs=2, model_save_path=model, infer_load_path=model)
    cases: list[tuple[str, str, list[object]]] = [("train", "dygraph", ["-m", config, *options])]
    exports = [folder / "export_0", folder / "export_1"]
    for epoch, export in enumerate(exports):
        line = ["-m", config, "--epoch", epoch, "--format", "onnx", "--out", export, *options]
        cases.append(("export", "", line))
    for result in run_cases(cases, cwd=folder):
        assert result.status == 0, result.stderr
    pool = Pool(exports, 200)
    one, two = pool.truth.scores.values()
    assert sum(abs(a[0] - b[0]) > 1e-3 for a, b in zip(one, two)) > 100  # which is it? can be told
    drain = ("--drain-seconds", 0.3)
    return Setting(exports, pool, folder, 1, 16, 1.0, 0.2, 300, 4, least=300, arguments=drain)


def check(found: Mapping[str, Any], answers: int) -> None:
    """Hold that a scenario found no fault, in at least so many answers."""
    assert not faults(found)
    assert found["answers"] >= answers


def test_each_answer_of_many_clients_is_right_and_malformed_requests_get_their_status(
    setting: Setting,
) -> None:
    found = scenarios.load(setting)
    check(found, 300)
    assert found["left"]  # clients that go away in the middle of a body
    good, bad = setting.mix().kinds
    assert set(found["kinds"]) >= set(good)
    assert len(set(found["kinds"]) & set(bad)) >= len(bad) // 2
    assert {"200", "400", "401", "404", "405", "413", "415", "422"} >= set(found["statuses"])


@pytest.mark.parametrize("workers", [1, 2])
def test_all_requests_that_were_sent_are_answered_after_the_signal_to_stop(
    setting: Setting, workers: int
) -> None:
    found = scenarios.stop(setting._replace(workers=workers))
    check(found, 50)
    assert found["refused_connections"] >= setting.clients  # nobody listens any more


def test_while_new_models_take_their_place_each_answer_is_of_one_whole_model(
    setting: Setting,
) -> None:
    found = scenarios.reload(setting._replace(workers=2))
    check(found, 50)
    assert found["reloads"] == setting.reloads
    assert set(found["answers_by_model"]) == set(setting.pool.truth.scores)
    assert min(found["answers_by_model"].values()) > 0


def test_clients_that_behave_are_served_beside_those_that_do_not(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_slow, "SLOW", 20)
    monkeypatch.setattr(service_slow, "LARGE", 1 << 20)
    found = service_slow.slow(setting._replace(seconds=0.3))
    assert not faults(found)
    assert all(stage["answers"] > 0 for stage in found["stages"].values())
    assert found["stages"]["connections open"]["open"] == setting.connections
    slow = {"408": 20}
    assert found["others"] == {
        **{kind: slow for kind in ("a byte a second", "half a head", "half a body")},
        "1 MB of rows": {"200": service_slow.LARGE_AT_ONCE},
        "2 MB of blanks": {"413": service_slow.LARGE_AT_ONCE},
    }


def test_the_benchmark_tells_what_it_measured(setting: Setting, tmp_path: Path) -> None:
    line = [f"--model={setting.exports[0]}", "--seconds=0.3", "--clients=8", "--workers=1"]
    line += ["--scenarios=capacity", f"--json={tmp_path / 'out.json'}"]
    program = str(ROOT / "benchmarks" / "service.py")
    result = run([sys.executable, program, *line], cwd=tmp_path)
    assert result.status == 0, result.stderr
    told = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert told["machine"]["processor"] and told["columns"] == 40
    for name, figures in told["runs"]["capacity, 1 worker"].items():
        assert list(figures["statuses"]) == ["200"] and figures["answers"] > 0
        assert figures["median_ms"] <= figures["p99_ms"] <= figures["most_ms"]
        assert f"| capacity, 1 worker; {name} " in result.stdout


RIGHT = {"model": "m", "predictions": [{"a": 0.25, "b": 7.0}]}


@pytest.mark.parametrize(
    "status, body, headers",
    [
        (200, {**RIGHT, "predictions": [{"a": 0.250002, "b": 7.0}]}, {}),
        (200, {**RIGHT, "predictions": [{"a": None, "b": 7.0}]}, {}),
        (200, {**RIGHT, "predictions": [{"a": float("nan"), "b": 7.0}]}, {}),
        (200, {**RIGHT, "predictions": [None]}, {}),
        (200, {**RIGHT, "predictions": RIGHT["predictions"] * 2}, {}),  # type: ignore
        (200, {**RIGHT, "model": "n"}, {}),
        (200, RIGHT, {"x-model": "n"}),
        (200, RIGHT, {"x-model": "another"}),
        (200, {"error": {"message": "no"}}, {}),
        (500, {"error": {"message": "no"}}, {}),
        (503, {"error": {"message": "no"}}, {}),
        (422, {"error": {"message": "no"}}, {}),
    ],
)
def test_wrong_answers_are_found(status: int, body: object, headers: dict[str, str]) -> None:
    truth = Truth(("a", "b"), {"m": [[0.25, 7.0]], "n": [[0.5, 7.0]]})
    request = Request(OBJECT, b"", rows=(0,))
    given = Answer(status, {"x-model": "m", **headers}, json.dumps(body).encode())
    assert compare(request, given, truth) is not None
    right = Answer(200, {"x-model": "m"}, json.dumps(RIGHT).encode())
    assert compare(request, right, truth) is None
    assert compare(request, Answer(503, {"retry-after": "1"}, b"{}"), truth) is None
