"""Each setting on a resume: refused, pointed out, or of no matter to what the run computes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, Result, make_model_dir, override, run_cases, write_table

from model_hooks import ModelHooks
from rec_runner.checkpoint.resume import check_fingerprint
from rec_runner.checkpoint.weights import load_weights
from rec_runner.keys import BOTH, RUNNER_KEYS, TRAIN
from rec_runner.system.errors import UserError

RUNNER = {
    "train_data_dir": "train",
    "train_reader_path": "census_reader",
    "train_batch_size": 10,
    "infer_batch_size": 100,
    "valid_data_dir": "valid",
    "test_data_dir": "other",
    "print_interval": 4,
    "shuffle": True,
    "epochs": 2,
    "patience": 9,
    "user_key": 1,
}
OPTIMIZER = "hyper_parameters.optimizer."
HYPER = {
    "feature_size": 6,
    "task_names": ["a", "b"],
    "label_columns": [0, 1],
    "bottom_size": 5,
    "optimizer": {"schedule": "cosine", "decay_epochs": 4},
}
REFUSED, SAID, SILENT = "refused", "said", "silent"
TABLE = {
    # What the run computes is another thing then: other rows, another order, another network.
    "train_reader_path": (REFUSED, "reader_too"),
    "train_batch_size": (REFUSED, 20),
    "seed": (REFUSED, 3),
    "shuffle": (REFUSED, "false"),
    "shuffle_buffer": (REFUSED, 17),
    "valid_share": (REFUSED, 0.2),
    "test_share": (REFUSED, 0.2),
    "monitor": (REFUSED, "logloss"),
    "train_data_dir": (REFUSED, "other"),
    "valid_data_dir": (REFUSED, "other"),
    "model_init_path": (REFUSED, "start/0"),
    "reader_type": (REFUSED, "CustomizeDataLoader"),
    # Numbers may come out a little different; of a directory's own key nobody can tell.
    "infer_batch_size": (SAID, 7),
    "thread_num": (SAID, 2),
    "flush_denormals": (SAID, "false"),
    "num_workers": (SAID, 1),
    "user_key": (SAID, 2),
    # How long to train is what a resume is for.
    "epochs": (SILENT, 3),
    "patience": (SILENT, 2),
    # What is logged, written and kept beside it.
    "print_interval": (SILENT, 3),
    "save_steps": (SILENT, 3),
    "keep_checkpoints": (SILENT, 3),
    "test_at_end": (SILENT, "true"),
    "use_visual": (SILENT, "true"),
    "use_save_data": (SILENT, "true"),
    # Where rows lie once they are parsed; their order does not depend on it.
    "cache_mb": (SILENT, 0),
    "cache_dir": (SILENT, "cache"),
    # A run that these matter to ends with an error without them, and with them goes on.
    "skip_bad_batches": (SILENT, "true"),
    "bad_rows": (SILENT, "skip"),
    "bad_rows_cap": (SILENT, 7),
    # Validation reads by train_reader_path.
    "infer_reader_path": (SILENT, "reader_too"),
    # No matter by definition.
    "use_auc": (SILENT, "true"),
    "auc_num": (SILENT, 2),
}
# Keys with a test elsewhere, or that no machine of the tests can have.
ELSEWHERE = set(
    "model_save_path resume use_gpu use_xpu use_npu use_fleet use_inference "
    "save_inference_feed_varnames save_inference_fetch_varnames".split()
)
OF_OPTIMIZER = {
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "grad_clip_norm": 1,
    "schedule": "constant",
    "warmup_epochs": 0.5,
    "decay_epochs": 0,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with three folders of rows."""
    rng = np.random.default_rng(0)
    home = tmp_path_factory.mktemp("settings")
    for name in ("train", "valid", "other"):
        table = rng.normal(size=(45, 8))
        table[:, :2] = rng.integers(0, 2, (45, 2))
        write_table(home / "model" / name / "a.txt", table)
    make_model_dir(home / "model", RUNNER, HYPER)
    shutil.copy(ROOT / "census_reader.py", home / "model" / "reader_too.py")
    return home


def train(home: Path, *runs: tuple[str, Mapping[str, Any]], graph: str = "dygraph") -> list[Result]:
    """Trainings into folders of ``home``, one after another."""
    config = str(home / "model" / "config.yaml")
    cases = [
        ("train", graph, ["-m", config, *override(model_save_path=name, **settings)])
        for name, settings in runs
    ]
    return run_cases(cases, home)


def resume_sentences(result: Result) -> list[str]:
    return [sentence for sentence in result.sentences if "resume" in sentence]


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = load_weights(one), load_weights(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], name)


def changes(outcome: str) -> dict[str, Any]:
    return {name: value for name, (how, value) in TABLE.items() if how == outcome}


@pytest.fixture(scope="module")
def resumed(home: Path) -> dict[str, Result]:
    """A run of two epochs that goes on to a third, with this or that changed, by what it is."""
    for result in train(home, ("base", {}), ("whole", {"epochs": 3}), ("start", {"epochs": 1})):
        assert result.status == 0, result.stderr
    optimizer = {f"hyper_parameters__optimizer.{k}": v for k, v in OF_OPTIMIZER.items()}
    runs: dict[str, dict[str, Any]] = {k: {k: v} for k, v in changes(REFUSED).items()}
    runs.update({SAID: changes(SAID), SILENT: changes(SILENT), "optimizer": optimizer})
    for name in (*runs, "graph"):
        shutil.copytree(home / "base", home / f"on-{name}")
    on = {"resume": "true", "epochs": 3}
    given = [(f"on-{name}", {**on, **more}) for name, more in runs.items()]
    results = dict(zip(runs, train(home, *given)))
    (results["graph"],) = train(home, ("on-graph", on), graph="static")
    return results


def test_the_table_has_every_key_that_training_reads() -> None:
    known = {key.name for key in RUNNER_KEYS if key.phase in (TRAIN, BOTH)}
    assert known | {"infer_reader_path", "user_key"} == {*TABLE, *ELSEWHERE}


@pytest.mark.parametrize("name", changes(REFUSED))
def test_what_would_make_it_another_run_is_refused(
    home: Path, resumed: dict[str, Result], name: str
) -> None:
    assert resumed[name].status == 2
    (said,) = resume_sentences(resumed[name])
    assert said.startswith("error: resume refused: ") and f"runner.{name}" in said
    assert "start afresh with -o runner.resume=false" in said
    assert not (home / f"on-{name}" / "2").exists()


def test_what_may_be_meant_is_pointed_out(resumed: dict[str, Result]) -> None:
    assert resumed[SAID].status == 0, resumed[SAID].stderr
    starts = [f"warning: resume: runner.{name} was " for name in sorted(changes(SAID))]
    said = resume_sentences(resumed[SAID])
    assert len(said) == len(starts)
    assert all(sentence.startswith(start) for sentence, start in zip(said, starts)), said


def test_what_is_of_no_matter_leaves_the_weights_of_an_unbroken_run(
    home: Path, resumed: dict[str, Result]
) -> None:
    assert resumed[SILENT].status == 0, resumed[SILENT].stderr
    assert resume_sentences(resumed[SILENT]) == []
    assert_same_weights(home / f"on-{SILENT}" / "2", home / "whole" / "2")


def test_every_setting_of_the_optimizer_is_pointed_out(resumed: dict[str, Result]) -> None:
    assert resumed["optimizer"].status == 0, resumed["optimizer"].stderr
    said = resume_sentences(resumed["optimizer"])
    assert len(said) == len(OF_OPTIMIZER)
    for sentence, name in zip(said, sorted(OF_OPTIMIZER)):
        assert sentence.startswith(f"warning: resume: {OPTIMIZER}{name} was "), said


def test_the_other_graph_is_pointed_out(resumed: dict[str, Result]) -> None:
    assert resumed["graph"].status == 0, resumed["graph"].stderr
    (said,) = resume_sentences(resumed["graph"])
    assert said.startswith("warning: resume: graph was 'dygraph' in the run in on-graph and is")


def test_a_schedule_that_follows_the_epochs_is_compared_by_its_length(home: Path) -> None:
    """Two epochs of cosine, resumed to four: another schedule, unless ``decay_epochs`` is named."""
    follows = {"hyper_parameters__optimizer.decay_epochs": 0}
    fixed = {"hyper_parameters__optimizer.decay_epochs": 2}
    constant = {"hyper_parameters__optimizer.schedule": "constant", **follows}
    first = train(
        home,
        ("cosine", follows),
        ("constant", constant),
        ("cosine-whole", {"epochs": 4, **fixed}),
        ("constant-whole", {"epochs": 4, **constant}),
    )
    for result in first:
        assert result.status == 0, result.stderr
    for name in ("same", "longer", "named"):
        shutil.copytree(home / "cosine", home / f"cosine-{name}")
    on = {"resume": "true", "epochs": 4}
    same, longer, named, plain = train(
        home,
        ("cosine-same", {"resume": "true", **follows}),
        ("cosine-longer", {**on, **follows}),
        ("cosine-named", {**on, **fixed}),
        ("constant", {**on, **constant}),
    )
    for result in (same, longer, named, plain):
        assert result.status == 0, result.stderr
    for result in (same, named, plain):
        assert resume_sentences(result) == []
    assert resume_sentences(longer) == [
        f"warning: resume: {OPTIMIZER}decay_epochs was 2 in the run in cosine-longer and is 4 now; "
        f"-o {OPTIMIZER}decay_epochs=2 goes on as before"
    ]
    assert_same_weights(home / "cosine-named" / "3", home / "cosine-whole" / "3")
    assert_same_weights(home / "constant" / "3", home / "constant-whole" / "3")


def test_epochs_count_where_a_directory_reads_them_and_no_hook_tells_why(tmp_path: Path) -> None:
    source = ROOT / "tests" / "model_dirs" / "regression"
    shutil.copytree(source, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "model" / "rows").mkdir()
    rows = np.random.default_rng(0).normal(size=(40, 5))
    np.savetxt(tmp_path / "model" / "rows" / "a.txt", rows)
    given = {"train_data_dir": "rows", "epochs": 1}
    (result,) = train(tmp_path, ("one", given))
    assert result.status == 0, result.stderr
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    more = {**given, "resume": "true", "epochs": 2}
    (silent,) = train(tmp_path, ("one", more))
    with open(tmp_path / "model" / "dygraph_model.py", "a", encoding="utf-8") as code:
        code.write("\n\nLENGTH = 'runner.epochs'\n")
    (said,) = train(tmp_path, ("two", more))
    assert silent.status == said.status == 0, said.stderr
    assert resume_sentences(silent) == []
    (sentence,) = resume_sentences(said)
    assert "resume: runner.epochs was 1 in the run in two and is 2 now" in sentence


def test_weights_to_start_from_are_compared_by_what_they_hold(home: Path) -> None:
    one = {"epochs": 1}
    began = train(
        home,
        ("seed-1", one),
        ("seed-2", {**one, "seed": 2}),
        ("begun", {**one, "model_init_path": "seed-1/0"}),
        ("whole-begun", {"model_init_path": "seed-1/0"}),
        ("own", one),
        ("own", {**one, "model_init_path": "own/0"}),
    )
    for result in began:
        assert result.status == 0, result.stderr
    shutil.copytree(home / "seed-1" / "0", home / "moved")
    paths = {"same": "seed-1/0", "moved": "moved", "other": "seed-2/0", "gone": "no/0", "unset": ""}
    for name in paths:
        shutil.copytree(home / "begun", home / f"begun-{name}")
    on = {"resume": "true"}
    runs = [(f"begun-{name}", {**on, "model_init_path": path}) for name, path in paths.items()]
    *results, own = train(home, *runs, ("own", {**on, "model_init_path": "own/0"}))
    results = dict(zip(paths, results))
    for name, result in results.items():
        said = resume_sentences(result)
        if name == "other":
            assert result.status == 2
            assert "resume refused: what runner.model_init_path holds was " in said[0]
            continue
        assert result.status == 0, result.stderr
        assert len(said) == (name in ("gone", "unset"))
        assert all(
            sentence.startswith("warning: resume: runner.model_init_path") for sentence in said
        )
        assert_same_weights(home / f"begun-{name}" / "1", home / "whole-begun" / "1")
    assert own.status == 0, own.stderr
    (said,) = resume_sentences(own)
    assert "own/0 is the run's own by now" in said
    # What the run began with is remembered where it could not be compared.
    again = {**on, "epochs": 3}
    forgot, kept = train(
        home,
        ("begun-gone", {**again, "model_init_path": "seed-2/0"}),
        ("begun-unset", {**again, "model_init_path": "seed-1/0"}),
    )
    assert forgot.status == 2 and "resume refused" in forgot.stderr
    assert kept.status == 0 and resume_sentences(kept) == []


def test_a_checkpoint_of_an_older_version_is_compared_by_what_it_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"runner.seed": 1, f"{OPTIMIZER}schedule": "cosine"}
    new = {**old, "runner.epochs": 4, "runner.use_gpu": True, "graph": "static", "runner.mine": 1}
    check_fingerprint(old, new, tmp_path, ModelHooks.resolved_settings)
    assert capsys.readouterr().err == ""
    check_fingerprint(old, {**new, f"{OPTIMIZER}learning_rate": 0.1}, tmp_path)
    assert "learning_rate was missing" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"runner\.seed was 1 .* and is 2 now"):
        check_fingerprint(old, {**new, "runner.seed": 2}, tmp_path)
