"""Test AUC of the recipes, over seeds and both graph paths, beside single-task models.

    python benchmarks/quality.py --seeds 5 --json quality.json --markdown quality.md
    python benchmarks/quality.py --only standard,trees --json quality.json    # adds to the file

Every network is trained by ``tools/trainer.py`` or ``tools/static_trainer.py`` and scored by
``infer.py`` or ``static_infer.py``, as processes; the test AUC is that of the epoch which is best
on validation. The trees and the logistic regression are scored on the same test rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from common import (
    ROOT,
    BenchmarkError,
    Data,
    find_data,
    finish,
    list_of,
    machine,
    markdown_table,
    mean_deviation,
    read_records,
    run,
    run_tool,
    say,
    show_machine,
    spread,
    write_aside,
    write_json,
)

TASKS = ("income", "marital")
TOOLS = {"eager": ("trainer", "infer"), "static": ("static_trainer", "static_infer")}


class Recipe(NamedTuple):
    """How to train: a config of the repository and what is set differently."""

    title: str
    config: str
    overrides: tuple[str, ...] = ()
    to_the_end: bool = False  # no early stopping: its last epoch says something


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
    "and scored on other rows."
)


class Job(NamedTuple):
    """One network to train and score."""

    recipe: str
    path: str
    seed: int

    @property
    def name(self) -> str:
        """For progress lines and as a key of the results."""
        return f"{self.recipe} {self.path} {self.seed}"


def main() -> None:
    """Run what was asked for, merge it with what the JSON file holds, print the table."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="quality-") as scratch:
        data = find_data(options.data_root, Path(scratch) / "census")
        results = _opened(options.json, data)
        for model in (name for name in options.only if name in BASELINES):
            results["baselines"][model] = _baseline(model, data)
            _save(options.json, results)
        jobs = [
            Job(recipe, path, seed)
            for seed in range(1, options.seeds + 1)
            for recipe in options.only
            if recipe in RECIPES
            for path in options.paths
        ]
        extra = tuple(options.override)

        def train(job: Job) -> None:
            folder = Path(scratch) / job.name.replace(" ", "-")
            found = _network(job, data, folder, extra, alone=options.jobs == 1)
            results["networks"].pop(job.name, None)  # the newest come last
            results["networks"][job.name] = found
            _save(options.json, results)

        with ThreadPoolExecutor(options.jobs) as pool:
            futures = [pool.submit(train, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    text = report(results)
    print(text, end="")
    if options.markdown:
        write_aside(options.markdown, text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*RECIPES, *BASELINES]
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to SEEDS (5)")
    parser.add_argument("--paths", type=list_of(TOOLS), default=list(TOOLS), help="eager,static")
    parser.add_argument(
        "--only", type=list_of(names), default=names, help=f"rows to run: {','.join(names)}"
    )
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder with train_all, valid_all, test_all"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes at a time (1; more spoils the seconds)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="results; added to if it exists")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table")
    parser.add_argument(
        "-o",
        "--override",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="set in every recipe, to try a change",
    )
    options = parser.parse_args()
    if options.seeds < 1 or options.jobs < 1:
        parser.error("--seeds and --jobs should be at least 1")
    return options


def _opened(file: Path | None, data: Data) -> dict[str, Any]:
    """Results of an earlier run on the same rows, or empty ones."""
    results: dict[str, Any] = {
        "machine": machine(),
        "data": data.label,
        "networks": {},
        "baselines": {},
    }
    if file is None or not file.exists():
        return results
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchmarkError(f"{file} is not JSON: {error}") from error
    if earlier.get("data") != data.label:
        raise BenchmarkError(f"{file} holds results of other rows: {earlier.get('data')}")
    results["baselines"] = earlier["baselines"]
    results["networks"] = earlier["networks"]
    return results


def _save(file: Path | None, results: Mapping[str, Any]) -> None:
    if file is not None:
        write_json(file, results)


def _network(
    job: Job, data: Data, folder: Path, extra: Sequence[str], alone: bool
) -> dict[str, Any]:
    """Train and score one network."""
    recipe = RECIPES[job.recipe]
    folder.mkdir(parents=True)
    config = ROOT / recipe.config
    common = [*data.overrides(), *recipe.overrides, *extra, f"runner.seed={job.seed}"]
    trainer, infer = TOOLS[job.path]
    saved = ["runner.model_save_path=model", "runner.keep_checkpoints=null"]
    trained = run_tool(trainer, config, [*common, *saved], cwd=folder)
    scored = run_tool(
        infer,
        config,
        [*common, "runner.infer_load_path=model", "runner.infer_start_epoch=0"],
        cwd=folder,
    )
    valid = [r for r in read_records(folder / "model" / "metrics.jsonl") if r["phase"] == "valid"]
    test = read_records(folder / "model" / "infer_metrics.jsonl")
    means = [statistics.fmean(record[f"auc_{task}"] for task in TASKS) for record in valid]
    best = means.index(max(means))
    by_epoch = {r["epoch"]: [r[f"auc_{task}"] for task in TASKS] for r in test}
    found = {
        "recipe": job.recipe,
        "path": job.path,
        "seed": job.seed,
        "settings": _settings(recipe, extra),
        "best_epoch": best,
        "valid": means,
        "test": [by_epoch[epoch] for epoch in sorted(by_epoch)],
        "train_seconds": trained.seconds,
        "infer_seconds": scored.seconds,
        "alone": alone,
    }
    scores = ", ".join(f"{task} {auc:.4f}" for task, auc in zip(TASKS, found["test"][best]))
    say(
        f"{job.name}: epoch {best} of {len(means)}, {scores}; "
        f"trainer {trained.seconds:.1f} s, infer {scored.seconds:.1f} s"
    )
    return found


def _settings(recipe: Recipe, extra: Sequence[str]) -> str:
    """A digest of what decides a recipe, so that results of another are not averaged with it."""
    text = "\n".join([(ROOT / recipe.config).read_text(encoding="utf-8"), *recipe.overrides])
    return hashlib.sha256("\n".join([text, *extra]).encode()).hexdigest()[:12]


def _baseline(model: str, data: Data) -> dict[str, Any]:
    script = Path(__file__).with_name("baselines.py")
    config = ROOT / "config_bigdata.yaml"
    command = [sys.executable, script, model, "-m", config, "-o", *data.overrides()]
    found = json.loads(run(command).stdout)
    scores = [found["test"][task] for task in TASKS]
    say(f"{model}: {', '.join(f'{t} {s:.4f}' for t, s in zip(TASKS, scores))}")
    return {"test": scores, "seconds": found["seconds"]}


def report(results: Mapping[str, Any]) -> str:
    """The results as Markdown: the table, what to read from it, where it was run."""
    trees = results["baselines"].get("trees", {}).get("test")
    columns = ["trained on the same rows", "path", *(f"{task} AUC" for task in TASKS)]
    columns += [*(f"{task} − trees" for task in TASKS), "best epoch", "seconds", "seeds"]
    rows: list[list[str]] = []
    notes: list[str] = []
    for key, recipe in RECIPES.items():
        for path in TOOLS:
            found = _runs(results["networks"], key, path)
            if found:
                rows.append(_network_row(recipe.title, path, found, trees))
                if recipe.to_the_end:
                    notes.append(_end_note(recipe.title, path, found))
                if key == "fast":
                    notes.append(_seconds_note(path, found, results["baselines"]))
    for key, title in BASELINES.items():
        found = results["baselines"].get(key)
        if found:
            scores = [f"{score:.4f}" for score in found["test"]]
            gaps = _gaps(found["test"], trees)
            rows.append([title, "", *scores, *gaps, "", f"{found['seconds']:.0f}", "1"])
    for title, scores in PAPER.items():
        rows.append([title, "", *(f"{score:.4f}" for score in scores), "", "", "", "", ""])
    head = [
        "Mean ± standard deviation over seeds of the test AUC at the epoch chosen on validation;",
        "seconds: the median wall time of training, start-up included.",
        f"Rows: {results['data']}.",
        f"Machine: {show_machine(results['machine'])}.",
    ]
    parts = ["\n".join(head), markdown_table(columns, rows).rstrip()]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join([*parts, PAPER_NOTE]) + "\n"


def _runs(networks: Mapping[str, Any], recipe: str, path: str) -> list[dict[str, Any]]:
    """Runs of one row, of the settings that the newest has."""
    found = [r for r in networks.values() if r["recipe"] == recipe and r["path"] == path]
    return [r for r in found if r["settings"] == found[-1]["settings"]]


def _network_row(
    title: str, path: str, runs: Sequence[Mapping[str, Any]], trees: Sequence[float] | None
) -> list[str]:
    best = [r["test"][r["best_epoch"]] for r in runs]
    statistics_ = [mean_deviation([scores[i] for scores in best]) for i in range(len(TASKS))]
    cells = [_plus_minus(mean, deviation) for mean, deviation in statistics_]
    epochs = [r["best_epoch"] for r in runs]
    span = f"{min(epochs)}–{max(epochs)}" if min(epochs) < max(epochs) else str(epochs[0])
    seconds = [r["train_seconds"] for r in runs if r["alone"]]
    time = f"{statistics.median(seconds):.0f}" if seconds else "–"
    gaps = _gaps([mean for mean, _ in statistics_], trees)
    return [title, path, *cells, *gaps, span, time, str(len(runs))]


def _plus_minus(mean: float, deviation: float) -> str:
    return f"{mean:.4f}" if deviation != deviation else f"{mean:.4f} ± {deviation:.4f}"


def _gaps(scores: Sequence[float], trees: Sequence[float] | None) -> list[str]:
    if trees is None:
        return ["–"] * len(scores)
    return [f"{score - tree:+.4f}" for score, tree in zip(scores, trees)]


def _end_note(title: str, path: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """How far the last epoch falls behind the best one on test, task by task."""
    texts = []
    for index, task in enumerate(TASKS):
        gaps = [r["test"][-1][index] - max(s[index] for s in r["test"]) for r in runs]
        texts.append(f"{task} {statistics.fmean(gaps):+.4f} (worst seed {min(gaps):+.4f})")
    epochs = len(runs[0]["test"])
    return f"{title}, {path}: last of {epochs} epochs less the best one on test: {', '.join(texts)}"


def _seconds_note(path: str, runs: Sequence[Mapping[str, Any]], baselines: Mapping) -> str:
    alone = [r["train_seconds"] for r in runs if r["alone"]]
    if not alone:
        return f"config_fast.yaml, {path}: not timed, for it did not run alone"
    found = spread(alone)
    trees = baselines.get("trees")
    beside = f"; the trees take {trees['seconds']:.0f} s" if trees else ""
    return (
        f"config_fast.yaml, {path}: {found['median']:.1f} s ({found['min']:.1f}–"
        f"{found['max']:.1f}) of wall time from prepared text to the last epoch, validation and "
        f"start-up included{beside}"
    )


if __name__ == "__main__":
    sys.exit(finish(main))
