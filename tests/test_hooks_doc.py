"""The examples of doc/model_directory.md, put together as the page says and run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import ROOT, Result, epoch_lines, override, run_cases

from rec_runner.contract.hooks import HOOKS

PAGE = ROOT / "doc" / "model_directory.md"
TWIN = ROOT / "doc" / "model_directory_EN.md"
HOOKS_OF_BLOCKS = ("blocks", "task_log_odds", "task_names", "build_layer")
ROWS = {"train": 200, "test": 50}


class Example(NamedTuple):
    """A code block: the file it goes into, the class it is added to, if any, and its code."""

    file: str
    class_name: str
    code: str


def examples(page: Path = PAGE) -> list[Example]:
    """All code blocks of a page, in order."""
    added = "(?:，加进类 |, added to class )"
    blocks = re.findall(
        rf"^```\w+\n# ([\w.]+)(?:{added}(\w+))?\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
    )
    return [Example(*block) for block in blocks]


def picked(*names: str) -> list[Example]:
    """The files of the contract, and the additions that define one of these methods."""
    found = [e for e in examples() if not e.class_name]
    for name in names:
        matching = [e for e in examples() if e.class_name and f"def {name}(" in e.code]
        assert matching, name
        found += [example for example in matching if example not in found]
    return found


def build(folder: Path, chosen: list[Example]) -> Path:
    """Write the directory and its rows; the config's path."""
    folder.mkdir(parents=True)
    for example in chosen:
        file = folder / example.file
        if not example.class_name:
            file.write_text(example.code, encoding="utf-8")
            continue
        text = file.read_text(encoding="utf-8")
        before, head, body = text.partition(f"class {example.class_name}")
        assert head
        # The class ends where a line begins without a space.
        first = body.index("\n") + 1
        end = re.search(r"^(?=[^\s#])", body[first:], re.M)
        place = first + end.start() if end else len(body)
        body = f"{body[:place].rstrip()}\n\n{example.code}\n\n{body[place:]}"
        file.write_text(before + head + body, encoding="utf-8")
    rng = np.random.default_rng(1)
    for split, rows in ROWS.items():
        features = rng.normal(size=(rows, 4)) + [0, 1, 2, 3]
        labels = features[:, :2] - [0, 1] + rng.normal(size=(rows, 2)) / 2 > 0
        (folder / "data" / split).mkdir(parents=True)
        np.savetxt(folder / "data" / split / "part-0.txt", np.column_stack([labels, features]))
    return folder / "config.yaml"


def run_all(folder: Path, config: Path, *options: str) -> dict[str, list[Result]]:
    """Train and infer in both graphs."""
    cases = []
    for path in ("dygraph", "static"):
        out = folder / f"saved_{path}"
        save, load = override(model_save_path=out), override(infer_load_path=out)
        cases.append(("train", path, ["-m", str(config), *save, *options]))
        cases.append(("infer", path, ["-m", str(config), *load, *options]))
    results = run_cases(cases, cwd=folder)
    for result in results:
        assert result.status == 0, result.stderr
        assert result.sentences == []
    return {"dygraph": results[:2], "static": results[2:]}


@pytest.fixture(scope="module")
def by_contract(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Result]]:
    """The directory without any hook."""
    folder = tmp_path_factory.mktemp("contract")
    return run_all(folder, build(folder / "model", picked()))


@pytest.fixture(scope="module")
def hooks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the directory with the hooks of blocks lies."""
    return tmp_path_factory.mktemp("hooks")


@pytest.fixture(scope="module")
def by_blocks(hooks_folder: Path) -> dict[str, list[Result]]:
    """The directory with the hooks of blocks."""
    return run_all(hooks_folder, build(hooks_folder / "model", picked(*HOOKS_OF_BLOCKS)))


def test_every_example_names_its_file_and_is_short() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(examples()) == text.count("\n```python") + text.count("\n```yaml")
    for example in examples():
        if example.class_name:
            assert len(example.code.splitlines()) <= 20, example.code


def test_the_english_page_has_the_same_code_under_the_same_headings() -> None:
    def without_comments(page: Path) -> list[Example]:
        return [e._replace(code=re.sub(" +# .*", "", e.code)) for e in examples(page)]

    def skeleton(page: Path) -> list[tuple[str, ...]]:
        lines = re.findall(r"^(#{1,3}|\||```\w*)( .*|\w*)$", page.read_text("utf-8"), re.M)
        return [(mark, *re.findall("`[^`]+`", rest.split(" | ")[0])) for mark, rest in lines]

    assert without_comments(TWIN) == without_comments(PAGE)
    assert skeleton(TWIN) == skeleton(PAGE)


def test_each_section_names_the_same_things_in_both_languages() -> None:
    in_english = {"默认值": "default", "键": "key", "值": "value", "特征": "features"}
    in_english["标签"] = "labels"

    def named(page: Path) -> list[tuple[str, set[str]]]:
        text = re.sub("^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        for chinese, english in in_english.items():
            text = text.replace(chinese, english)
        sections = re.split("^#+ ", text, flags=re.M)
        return [(s.split("\n")[0], set(re.findall("`([^`]+)`", s))) for s in sections]

    for (_, expected), (heading, found) in zip(named(PAGE), named(TWIN)):
        assert found == expected, heading


def test_the_contract_alone_is_enough(by_contract: dict[str, list[Result]]) -> None:
    for train, infer in by_contract.values():
        epochs = epoch_lines(train.stdout)
        assert epochs[1]["loss"] < epochs[0]["loss"]
        assert {"auc_click", "auc_buy"} <= epoch_lines(infer.stdout)[1].keys()
        assert "logloss_click" not in epoch_lines(infer.stdout)[1]
    assert "mean_log_odds" in epoch_lines(by_contract["dygraph"][0].stdout)[0]


def test_hooks_of_blocks(
    by_blocks: dict[str, list[Result]], by_contract: dict[str, list[Result]]
) -> None:
    scores = {p: epoch_lines(infer.stdout)[1] for p, (_, infer) in by_blocks.items()}
    assert scores["dygraph"] == pytest.approx(scores["static"], abs=1e-5)
    for path, (_, infer) in by_contract.items():
        slow = epoch_lines(infer.stdout)[1]
        for task in ("click", "buy"):
            assert f"logloss_{task}" in scores[path]
            # By the contract the last incomplete batch is not trained on.
            assert scores[path][f"auc_{task}"] == pytest.approx(slow[f"auc_{task}"], abs=0.05)


def test_score_rows(by_blocks: dict[str, list[Result]], hooks_folder: Path, tmp_path: Path) -> None:
    config = build(tmp_path / "model", picked(*HOOKS_OF_BLOCKS, "score_rows"))
    file = config.parent / "dygraph_model.py"
    load = override(infer_load_path=hooks_folder / "saved_dygraph")
    case = ("infer", "dygraph", ["-m", str(config), *load])
    (result,) = run_cases([case], cwd=tmp_path)
    assert result.status == 0, result.stderr
    scores = epoch_lines(by_blocks["dygraph"][1].stdout)[1]
    assert epoch_lines(result.stdout)[1] == pytest.approx(scores, abs=2e-6)
    code = file.read_text(encoding="utf-8")
    assert code.count('+ weights["bias"]') == 1
    file.write_text(code.replace('+ weights["bias"]', "+ 1"), encoding="utf-8")
    (other,) = run_cases([case], cwd=tmp_path)
    (warning,) = other.sentences  # where the network does something else, it scores itself
    assert "the hook score_rows gives log-odds" in warning
    assert epoch_lines(other.stdout)[1] == pytest.approx(scores, abs=2e-6)


def test_onnx_model() -> None:
    import onnx
    import onnxruntime

    (scoring,) = (example for example in examples() if "def scoring_weights(" in example.code)
    (writing,) = (example for example in examples() if "def onnx_model(" in example.code)
    code = f"import numpy as np\nclass Model:\n{scoring.code}\n{writing.code}"
    scope: dict[str, Any] = {}
    exec(code, scope)
    model, rng = scope["Model"](), np.random.default_rng(3)
    sizes = {"out.weight": (4, 2), "out.bias": 2, "mean": 4}
    state = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    made = model.onnx_model(model.scoring_weights(state))
    assert HOOKS["onnx_model"].fits(made) and not HOOKS["onnx_model"].fits([made])
    onnx.checker.check_model(made, full_check=True)
    rows = rng.normal(size=(7, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    found = session.run(["click", "buy"], {"features": rows})
    odds = (rows - state["mean"]).astype(np.float64) @ state["out.weight"] + state["out.bias"]
    np.testing.assert_allclose(np.stack(found, axis=1), 1 / (1 + np.exp(-odds)), atol=1e-6)


def test_adapt(tmp_path: Path) -> None:
    config = build(tmp_path / "model", picked(*HOOKS_OF_BLOCKS, "adapt"))
    save = override(model_save_path=tmp_path / "saved")
    (result,) = run_cases([("train", "dygraph", ["-m", str(config), *save])], cwd=tmp_path)
    assert result.status == 0, result.stderr
    state = np.load(tmp_path / "saved" / "1" / "rec.pdparams", allow_pickle=True)
    features = np.loadtxt(tmp_path / "model" / "data" / "train" / "part-0.txt")[:, 2:]
    np.testing.assert_allclose(state["mean"], features.mean(axis=0), rtol=1e-5)


def test_labels_as_they_are_in_life(tmp_path: Path) -> None:
    config = build(tmp_path / "model", picked(*HOOKS_OF_BLOCKS, "weighs_rows", "known_loss"))
    adapts = build(tmp_path / "adapts", picked(*HOOKS_OF_BLOCKS, "adapt", "adapt_blocks"))
    for folder in (config.parent, adapts.parent):
        reader = folder / "reader.py"
        text = reader.read_text(encoding="utf-8")
        plain = "yield table[:, 2:], table[:, :2]"
        assert plain in text
        named = '{"features": table[:, 2:], "labels": table[:, :2], "weights": table[:, 5] ** 2}'
        reader.write_text(text.replace(plain, f"yield {named}"), encoding="utf-8")
    rows = config.parent / "data" / "train" / "part-0.txt"
    table = np.loadtxt(rows)
    table[::3, 1] = np.nan
    np.savetxt(rows, table)
    cases = [
        ("train", "dygraph", ["-m", str(file), *override(model_save_path=tmp_path / name)])
        for file, name in ((config, "labels"), (adapts, "adapted"))
    ]
    labels, adapted = run_cases(cases, cwd=tmp_path)
    assert labels.status == adapted.status == 0, labels.stderr + adapted.stderr
    assert labels.sentences == []
    epochs = epoch_lines(labels.stdout)
    assert epochs[1]["loss"] < epochs[0]["loss"]
    records = (tmp_path / "labels" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(records[0])["rows_buy"] == np.isfinite(table[:, 1]).sum()
    assert len(adapted.sentences) == 1 and "has no use for" in adapted.sentences[0]
    state = np.load(tmp_path / "adapted" / "1" / "rec.pdparams", allow_pickle=True)
    features = np.loadtxt(adapts.parent / "data" / "train" / "part-0.txt")[:, 2:]
    mean = np.average(features, axis=0, weights=features[:, 3] ** 2)
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5)


def test_encode_columns(tmp_path: Path) -> None:
    state = []
    for hooks in ((), ("encode_columns",)):
        folder = tmp_path / f"with {len(hooks)}"
        config = build(folder / "model", picked(*HOOKS_OF_BLOCKS, "adapt", *hooks))
        if hooks:  # and not by the network, whose code then fails
            module = config.with_name("dygraph_model.py")
            text = module.read_text(encoding="utf-8")
            module.write_text(text.replace("return features - dy_model.mean", "return None"))
        save = override(model_save_path=folder / "saved")
        (result,) = run_cases([("train", "dygraph", ["-m", str(config), *save])], cwd=folder)
        assert result.status == 0, result.stderr
        state.append(np.load(folder / "saved" / "1" / "rec.pdparams", allow_pickle=True))
    assert state[0]["mean"].any()
    for name, value in state[0].items():
        assert np.array_equal(value, state[1][name]) or name == "StructuredToParameterName@@", name


def test_convert_state_dict(
    by_blocks: dict[str, list[Result]], hooks_folder: Path, tmp_path: Path
) -> None:
    import paddle

    config = build(tmp_path / "model", picked(*HOOKS_OF_BLOCKS, "convert_state_dict"))
    new = np.load(hooks_folder / "saved_dygraph" / "1" / "rec.pdparams", allow_pickle=True)
    old = {name.replace("out.", "linear."): paddle.to_tensor(v) for name, v in new.items()}
    paddle.save(old, str(tmp_path / "saved" / "1" / "rec.pdparams"))
    load = override(infer_load_path=tmp_path / "saved")
    (result,) = run_cases([("infer", "dygraph", ["-m", str(config), *load])], cwd=tmp_path)
    assert result.status == 0, result.stderr
    assert epoch_lines(result.stdout)[1] == epoch_lines(by_blocks["dygraph"][1].stdout)[1]


def test_resolved_settings(tmp_path: Path) -> None:
    config = build(tmp_path / "model", picked("resolved_settings"))
    save = override(model_save_path=tmp_path / "saved")
    more = [*save, "runner.resume=true", "runner.epochs=3"]
    spelt, other = ([*more, f"hyper_parameters.dropout={share}"] for share in (0.0, 0.5))
    cases = [("train", "dygraph", ["-m", str(config), *given]) for given in (save, spelt, other)]
    first, same, refused = run_cases(cases, cwd=tmp_path)
    assert [first.status, same.status, refused.status] == [0, 0, 2]
    assert same.sentences == []
    assert "hyper_parameters.dropout was 0.0" in refused.sentences[0]


def test_small_hooks_of_readers(tmp_path: Path) -> None:
    config = build(tmp_path / "model", picked(*HOOKS_OF_BLOCKS, "skipped_rows", "columns"))
    options = override(model_save_path=tmp_path / "saved", cache_dir=tmp_path / "cache")
    (result,) = run_cases([("train", "dygraph", ["-m", str(config), *options])], cwd=tmp_path)
    assert result.status == 0, result.stderr
    assert "skipped: 1; the first 1:" in result.stdout
    assert "data/train/part-0.txt, line 1: a header" in result.stdout


def test_user_error(tmp_path: Path) -> None:
    config = build(tmp_path / "model", picked("create_model"))
    options = ["-o", "hyper_parameters.learning_rate=2"]
    (result,) = run_cases([("train", "dygraph", ["-m", str(config), *options])], cwd=tmp_path)
    assert result.status == 2
    assert result.sentences == ["error: hyper_parameters.learning_rate should be at most 1"]


def test_records_are_json(by_blocks: dict[str, list[Result]], hooks_folder: Path) -> None:
    for path in by_blocks:
        lines = (hooks_folder / f"saved_{path}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["rows"] for line in lines] == [ROWS["train"]] * 2
