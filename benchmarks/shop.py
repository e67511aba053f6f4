"""What raw tables give on a made-up shop: ids, masked labels, formats; scikit-learn as the judge.

    python benchmarks/shop.py [--rows 50000] [--seeds 1] [--only masked,no_ids] [--json shop.json]

Every row of the table is two commands, as a person would type them: ``tools/schema.py`` on the
files, then a trainer, which scores the test rows at its end. AUCs are weighted, of the rows whose
label is known, and the same rows in every variant; scikit-learn works them out of predictions.csv.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Callable, NamedTuple

import common
from machine import machine, show_machine
from shop_rows import write_shop

Rows = list[dict[str, str]]
TASKS = ("click", "buy", "price_paid")
LABELS = [word for task in TASKS for word in ("--label", task)]
IDS = ("--id", "user_id")
TRAINERS = {"eager": "trainer", "static": "static_trainer"}


class Variant(NamedTuple):
    """A way to put the same shop in.

    Attributes:
        title: for people.
        write: writes a table's rows as a file, and gives its path.
        options: further ones of ``tools/schema.py``.
    """

    title: str
    write: Callable[[Path, Rows], Path]
    options: tuple[str, ...] = ()


def _csv(path: Path, rows: Rows) -> Path:
    file = path.with_suffix(".csv")
    with open(file, "w", newline="", encoding="utf-8") as stream:
        _write(stream, rows, ",")
    return file


def _semicolons(path: Path, rows: Rows) -> Path:
    file = path.with_suffix(".csv.gz")
    with gzip.open(file, "wt", newline="", encoding="utf-8") as stream:
        _write(stream, rows, ";")
    return file


def _write(stream: Any, rows: Rows, delimiter: str) -> None:
    writer = csv.DictWriter(stream, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)


def _parquet(path: Path, rows: Rows) -> Path:
    """A file as a database writes it: numbers are numbers, and what is not known is null."""
    import pyarrow as pa
    import pyarrow.parquet

    whole, decimal = {"click": pa.int8(), "buy": pa.int8(), "age": pa.int16()}, pa.float64()
    types = {**whole, "price": decimal, "w": decimal, "price_paid": decimal}
    text = pa.table({name: [row[name] or None for row in rows] for name in rows[0]})
    columns = {name: text[name].cast(types.get(name, pa.string())) for name in text.column_names}
    file = path.with_suffix(".parquet")
    pa.parquet.write_table(pa.table(columns), file)
    return file


def _blank_is_no(path: Path, rows: Rows) -> Path:
    return _csv(path, [{**row, "buy": row["buy"] or "0"} for row in rows])


VARIANTS = {
    "masked": Variant("as it is: ids, blank labels masked", _csv, IDS),
    "blank_as_0": Variant("blank labels of `buy` written as 0", _blank_is_no, IDS),
    "no_ids": Variant("without the user's id", _csv),
    "parquet": Variant("from Parquet", _parquet, IDS),
    "semicolons": Variant("from gzip with `;`", _semicolons, IDS),
}


def main() -> None:
    """Run the variants, and print a table of them."""
    options = _options()
    found: dict[str, Any] = {"machine": machine(), "rows": options.rows, "runs": {}}
    with tempfile.TemporaryDirectory(prefix="shop-") as name:
        folder = Path(name)
        write_shop(folder, options.rows)
        tables = {part: _read(folder / f"{part}.csv") for part in ("train", "test")}
        for seed, graph, variant in product(
            range(1, options.seeds + 1), options.paths, options.only
        ):
            run = run_variant(variant, graph, seed, tables, folder / f"{variant}-{graph}-{seed}")
            found["runs"][f"{variant} {graph} {seed}"] = run
            common.say(f"{variant} {graph} {seed}: {run['scores']}, {run['seconds']:.0f} s")
            common.write_json(options.json, found)
    print(report(found), end="")


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    common.add_number(parser, "--rows", 50_000, "training rows; a fifth as many test rows")
    common.add_number(parser, "--seeds", 1, "seeds 1 to SEEDS")
    common.add_names(parser, "--paths", TRAINERS)
    common.add_names(parser, "--only", VARIANTS)
    return parser.parse_args()


def _read(file: Path) -> Rows:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run_variant(
    name: str, graph: str, seed: int, tables: Mapping[str, Rows], folder: Path
) -> dict[str, Any]:
    """The two commands on a variant of the shop.

    Args:
        name: of :data:`VARIANTS`.
        graph: ``eager`` or ``static``.
        seed: of the training run.
        tables: rows of the shop, ``train`` and ``test``.
        folder: to make, and work in.

    Returns:
        ``scores`` by scikit-learn, ``record`` as the trainer gave it, and ``seconds`` of both.

    Raises:
        BenchmarkError: a command failed.
    """
    variant = VARIANTS[name]
    model = folder / "model"
    copy_model_directory(model)
    train, test = (variant.write(folder / part, tables[part]) for part in ("train", "test"))
    config = model / "config_shop.yaml"
    command = [str(common.TOOLS / "schema.py"), str(train), "--test", str(test), *LABELS]
    command += ["--weight", "w", "--group", "user_id", *variant.options, "-o", str(config)]
    told = common.run_python(command, cwd=folder)
    asked = [f"runner.seed={seed}", "runner.save_predictions=true"]
    asked += ["runner.model_save_path=output"]
    trained = common.run_tool(TRAINERS[graph], config, asked, cwd=folder)
    records = common.read_records(folder / "output" / "metrics.jsonl")
    record = next(record for record in reversed(records) if record["phase"] == "infer")
    predictions = _read(folder / "output" / str(record["epoch"]) / "predictions.csv")
    return {
        "scores": scores_of(predictions, tables["test"]),
        "record": record,
        "seconds": told.seconds + trained.seconds,
    }


def copy_model_directory(folder: Path) -> None:
    """The repository's modules alone, so that nothing is written beside them."""
    folder.mkdir(parents=True)
    for module in common.ROOT.glob("*.py"):
        shutil.copy(module, folder)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(common.ROOT / "raw_tables", folder / "raw_tables", ignore=skip)


def scores_of(predictions: Rows, rows: Rows) -> dict[str, float]:
    """AUC of the binary tasks and R2 of the price, by scikit-learn, of rows whose label is known.

    Args:
        predictions: of predictions.csv.
        rows: the table that was scored, with its labels and weights.
    """
    from sklearn.metrics import r2_score, roc_auc_score

    scores = {}
    for task in TASKS:
        pairs = [pair for pair in zip(predictions, rows) if pair[1][task]]
        labels = [float(row[task]) for _, row in pairs]
        weights = [float(row["w"]) for _, row in pairs]
        kind = "prediction" if task == "price_paid" else "probability"
        given = [float(prediction[f"{kind}_{task}"]) for prediction, _ in pairs]
        judge, metric = (r2_score, "r2") if kind == "prediction" else (roc_auc_score, "auc")
        scores[f"{metric}_{task}"] = float(judge(labels, given, sample_weight=weights))
    return scores


def report(found: Mapping[str, Any]) -> str:
    """The runs as a Markdown table."""
    rows = []
    for name, graph in product(VARIANTS, TRAINERS):
        runs = [run for key, run in found["runs"].items() if key.startswith(f"{name} {graph} ")]
        if runs:
            rows.append([VARIANTS[name].title, graph, *_cells(runs), str(len(runs))])
    columns = ["the shop", "path", "click AUC", "buy AUC", "price R2", "seconds", "seeds"]
    head = (
        f"Weighted, over the rows whose label is known; {found['rows']:,} training rows.\n"
        f"Machine: {show_machine(found['machine'])}.\n\n"
    )
    return head + common.markdown_table(columns, rows)


def _cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    means = [statistics.fmean(run["scores"][name] for run in runs) for name in runs[0]["scores"]]
    seconds = statistics.median(run["seconds"] for run in runs)
    return [*(f"{mean:.4f}" for mean in means), f"{seconds:.0f}"]


if __name__ == "__main__":
    sys.exit(common.finish(main))
