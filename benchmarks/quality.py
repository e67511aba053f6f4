"""Test AUC of the recipes, over seeds and both graph paths, beside single-task models.

    python benchmarks/quality.py --seeds 5 --json quality.json --markdown quality.md
    python benchmarks/quality.py --only standard,trees --json quality.json    # adds to the file

Every network is trained by ``tools/trainer.py`` or ``tools/static_trainer.py`` and scored by
``infer.py`` or ``static_infer.py``, as processes; the test AUC is that of the epoch which is best
on validation. The trees and the logistic regression are scored on the same test rows. Recipes of
raw rows read ``train_raw``, ``valid_raw`` and ``test_raw`` in the same folder, the same rows in the
same order (``datasets/census/prepare.py --raw``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import common
from machine import machine, show_machine
from worker import Worker

TASKS = ("income", "marital")
TOOLS = {"eager": ("trainer", "infer"), "static": ("static_trainer", "static_infer")}


class Recipe(NamedTuple):
    """How to train: a config of the repository and what is set differently."""

    title: str
    config: str
    overrides: tuple[str, ...] = ()
    to_the_end: bool = False  # no early stopping: its last epoch says something
    raw: bool = False  # rows as they come


RECIPES = {
    "paddlerec": Recipe(
        "PaddleRec's recipe: raw inputs, constant towers, batch 32, 2 epochs",
        "config_bigdata.yaml",
        (
            "runner.train_batch_size=32",
            "runner.epochs=2",
            "runner.shuffle=false",
            "runner.patience=null",
            "hyper_parameters.numeric_encoding=none",
            "hyper_parameters.tower_initializer=constant",
            "hyper_parameters.bottom_dropout=0.0",
            "hyper_parameters.optimizer={class: adam, learning_rate: 0.001}",
        ),
    ),
    "standard": Recipe(
        "config_bigdata.yaml, numeric_encoding: standard",
        "config_bigdata.yaml",
        ("hyper_parameters.numeric_encoding=standard",),
    ),
    "bigdata": Recipe("config_bigdata.yaml", "config_bigdata.yaml"),
    "to_the_end": Recipe(
        "config_bigdata.yaml, no early stopping",
        "config_bigdata.yaml",
        ("runner.patience=null",),
        to_the_end=True,
    ),
    "fast": Recipe(
        "config_fast.yaml", "config_fast.yaml", ("runner.patience=null",), to_the_end=True
    ),
    "raw": Recipe("config_raw.yaml, rows as they come", "config_raw.yaml", raw=True),
    "raw_without_weight": Recipe(
        "config_raw.yaml, without instance_weight",
        "config_raw.yaml",
        ("hyper_parameters.schema=datasets/census/schema_without_weight.yaml",),
        raw=True,
    ),
    **{
        f"single_{task}": Recipe(
            f"config_bigdata.yaml, {task} alone",
            "config_bigdata.yaml",
            (
                "hyper_parameters.task_num=1",
                f"hyper_parameters.task_names=[{task}]",
                f"hyper_parameters.label_columns=[{column}]",
                f"hyper_parameters.ignored_columns=[{1 - column}]",
                "runner.auc_num=1",
            ),
        )
        for task, column in (("income", 1), ("marital", 0))
    },
}
BASELINES = {
    "logistic": "logistic regression, one per task",
    "trees": "gradient-boosted trees, one per task",
}
PAPER = {
    "MMoE paper, Shared-Bottom, mean of 400 runs": (0.9295, 0.9921),
    "MMoE paper, its best model (MMoE), best run": (0.9410, 0.9926),
}
PAPER_NOTE = (
    "MMoE paper: Ma et al. 2018, *Modeling Task Relationships in Multi-task Learning with "
    "Multi-gate Mixture-of-Experts*, table 1; quoted, trained there on the full training half "
    "and scored on other rows.\n"
)


def main() -> None:
    """Run what was asked for, merge it with what the JSON file holds, print the table."""
    options = _options()
    data = common.find_data(options.data)
    results = _opened(options.json, data)
    for model in (name for name in options.only if name in BASELINES):
        with Worker(model, common.ROOT / "config_bigdata.yaml", data.overrides()) as worker:
            results["baselines"][model] = worker.ask("score")
        common.say(f"{model}: {_scores(results['baselines'][model]['test'])}")
        common.write_json(options.json, results)
    recipes = [name for name in options.only if name in RECIPES]
    for seed, recipe, path in product(range(1, options.seeds + 1), recipes, options.paths):
        name = f"{recipe} {path} {seed}"
        found = _network(recipe, path, seed, data, options.override)
        common.say(f"{name}: {_scores(found['test'][found['best_epoch']])}")
        results["networks"].pop(name, None)  # the newest come last
        results["networks"][name] = found
        common.write_json(options.json, results)
    text = report(results)
    print(text, end="")
    common.write_text(options.markdown, text)


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    common.add_data(parser)
    common.add_number(parser, "--seeds", 5, "seeds 1 to SEEDS")
    common.add_names(parser, "--paths", TOOLS)
    common.add_names(parser, "--only", [*RECIPES, *BASELINES])
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table")
    parser.add_argument("-o", "--override", nargs="+", default=[], help="set in every recipe")
    return parser.parse_args()


def _opened(file: Path | None, data: common.Data) -> dict[str, Any]:
    """Results of an earlier run on the same rows, or empty ones."""
    results: dict[str, Any] = {"networks": {}, "baselines": {}}
    if file is not None and file.exists():
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise common.BenchmarkError(f"{file} is not JSON: {error}") from error
        rows = results.get("data")
        if rows != data.label:
            raise common.BenchmarkError(f"{file} holds results of other rows: {rows}")
    return {**results, "machine": machine(), "data": data.label}


def _network(
    name: str, path: str, seed: int, data: common.Data, extra: Sequence[str]
) -> dict[str, Any]:
    """Train and score one network."""
    recipe, (trainer, infer) = RECIPES[name], TOOLS[path]
    config = common.ROOT / recipe.config
    rows = _raw(data) if recipe.raw else data
    asked = [*rows.overrides(), *recipe.overrides, *extra, f"runner.seed={seed}"]
    asked += ["runner.model_save_path=model", "runner.keep_checkpoints=null"]
    asked += ["runner.infer_load_path=model", "runner.infer_start_epoch=0"]
    with tempfile.TemporaryDirectory(prefix="quality-") as folder:
        trained = common.run_tool(trainer, config, asked, cwd=Path(folder))
        common.run_tool(infer, config, asked, cwd=Path(folder))
        records = common.read_records(Path(folder) / "model" / "metrics.jsonl")
        scored = common.read_records(Path(folder) / "model" / "infer_metrics.jsonl")
    valid = [_mean(_aucs(r)) for r in records if r["phase"] == "valid"]
    # Results of a recipe that was another then are not averaged with these.
    settings = repr([config.read_text(encoding="utf-8"), recipe.overrides, extra])
    return {
        "recipe": name,
        "path": path,
        "seed": seed,
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:12],
        "best_epoch": valid.index(max(valid)),
        "valid": valid,
        "test": [_aucs(record) for record in scored],
        "train_seconds": trained.seconds,
    }


def _raw(data: common.Data) -> common.Data:
    """The folders of the same rows as they came, beside those of encoded ones.

    Raises:
        BenchmarkError: they are not there.
    """
    folders = [path.parent / f"{path.name.removesuffix('_all')}_raw" for path in data[:3]]
    for folder in folders:
        if not folder.is_dir():
            raise common.BenchmarkError(
                f"{folder} is not there; datasets/census/prepare.py --raw makes it"
            )
    return common.Data(*folders, data.label)


def _aucs(record: Mapping[str, float]) -> list[float | None]:
    """Of each task; None of one that this network does not have."""
    return [record.get(f"auc_{task}") for task in TASKS]


def _mean(aucs: Sequence[float | None]) -> float:
    return statistics.fmean(auc for auc in aucs if auc is not None)


def _scores(aucs: Sequence[float | None]) -> str:
    return ", ".join(f"{task} {auc:.4f}" for task, auc in zip(TASKS, aucs) if auc is not None)


def report(results: Mapping[str, Any]) -> str:
    """The results as Markdown: the table, what to read from it, where it was run."""
    baselines = results["baselines"]
    trees = baselines.get("trees", {}).get("test")
    columns = ["trained on the same rows", "path", *(f"{task} AUC" for task in TASKS)]
    columns += [*(f"{task} − trees" for task in TASKS), "best epoch", "seconds", "seeds"]
    rows: list[list[str]] = []
    notes: list[str] = []
    for key, recipe in RECIPES.items():
        for path in TOOLS:
            runs = _runs(results["networks"], key, path)
            if not runs:
                continue
            rows.append([recipe.title, path, *_network_cells(runs, trees)])
            if recipe.to_the_end:
                notes.append(f"{recipe.title}, {path}: {_end_note(runs)}")
            if key == "fast":
                notes.append(f"{recipe.title}, {path}: {_seconds_note(runs, baselines)}")
    for key, title in BASELINES.items():
        if key in baselines:
            scores, seconds = baselines[key]["test"], baselines[key]["seconds"]
            cells = [*(f"{score:.4f}" for score in scores), *_gaps(scores, trees)]
            rows.append([title, "", *cells, "", f"{seconds:.0f}", "1"])
    for title, scores in PAPER.items():
        rows.append([title, "", *(f"{score:.4f}" for score in scores), "", "", "", "", ""])
    head = (
        "Mean ± standard deviation over seeds of the test AUC at the epoch chosen on validation;\n"
        "seconds: the median wall time of training, start-up included.\n"
        f"Rows: {results['data']}.\n"
        f"Machine: {show_machine(results['machine'])}.\n"
    )
    listed = "".join(f"- {note}\n" for note in notes)
    return "\n".join(filter(None, [head, common.markdown_table(columns, rows), listed, PAPER_NOTE]))


def _runs(networks: Mapping[str, Any], recipe: str, path: str) -> list[dict[str, Any]]:
    """Runs of one row, of the settings that the newest has."""
    found = [r for r in networks.values() if r["recipe"] == recipe and r["path"] == path]
    return [r for r in found if r["settings"] == found[-1]["settings"]]


def _network_cells(runs: Sequence[Mapping[str, Any]], trees: Sequence[float] | None) -> list[str]:
    best = [run["test"][run["best_epoch"]] for run in runs]
    found = [None if None in s else common.mean_deviation(s) for s in zip(*best)]
    means = [pair and pair[0] for pair in found]
    shown = [f"{pair[0]:.4f} ± {pair[1]:.4f}" if pair else "–" for pair in found]
    cells = [text.replace(" ± nan", "") for text in shown]
    epochs = sorted({run["best_epoch"] for run in runs})
    span = "–".join(dict.fromkeys([str(epochs[0]), str(epochs[-1])]))
    seconds = statistics.median(run["train_seconds"] for run in runs)
    return [*cells, *_gaps(means, trees), span, f"{seconds:.0f}", str(len(runs))]


def _gaps(scores: Sequence[float | None], trees: Sequence[float] | None) -> list[str]:
    trees = trees or [math.nan] * len(scores)
    gaps = [math.nan if score is None else score - tree for score, tree in zip(scores, trees)]
    return ["–" if math.isnan(gap) else f"{gap:+.4f}" for gap in gaps]


def _end_note(runs: Sequence[Mapping[str, Any]]) -> str:
    """How far the last epoch falls behind the best one on test, task by task."""
    texts = []
    for index, task in enumerate(TASKS):
        gaps = [r["test"][-1][index] - max(s[index] for s in r["test"]) for r in runs]
        texts.append(f"{task} {statistics.fmean(gaps):+.4f} (worst seed {min(gaps):+.4f})")
    epochs = len(runs[0]["test"])
    return f"last of {epochs} epochs less the best one on test: {', '.join(texts)}"


def _seconds_note(runs: Sequence[Mapping[str, Any]], baselines: Mapping[str, Any]) -> str:
    seconds = common.show_spread(common.spread(run["train_seconds"] for run in runs), 1)
    trees = baselines.get("trees")
    beside = f"; the trees take {trees['seconds']:.0f} s" if trees else ""
    return (
        f"{seconds} s of wall time from prepared text to the last epoch, validation and start-up "
        f"included{beside}"
    )


if __name__ == "__main__":
    sys.exit(common.finish(main))
