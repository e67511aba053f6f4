"""Rows per second, seconds and memory of both graph paths, beside the plain path and PyTorch.

    python benchmarks/throughput.py --repeats 5 --json throughput.json --png throughput.png

All sides run the same network (``config.yaml``: numeric_encoding standard, Adam, no dropout) on
the same rows in the same order, in turns within one run, each in a process of its own; a ratio is
the median of the ratios of the turns. Sides:

- eager, static: this directory's tools, as they are.
- plain eager, plain static: PaddleRec's way, see ``plain_path.py``; over the first rows only.
- PyTorch: preloaded, standardised rows and fused Adam, see ``torch_path.py``; the better of one
  thread and two. Only where ``torch`` is installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
from worker import Worker

INFER_BATCH = 4096
TITLES = {
    "eager": "eager",
    "static": "static",
    "plain_eager": "plain eager",
    "plain_static": "plain static",
    "torch": "PyTorch",
}
RATIOS = ("eager/plain_eager", "static/plain_static", "eager/torch", "static/torch")
# What a side calls a rate, and what the tables do.
TRAINING = {"steady": "training, batch {}", "first": "training, batch {}, first epoch"}
INFERENCE = {
    "memory": f"inference, batch {INFER_BATCH}, rows in memory; plain 32",
    "disk": f"inference, batch {INFER_BATCH}, rows kept on disk; plain 32",
    "text": f"inference, batch {INFER_BATCH}, from text; plain 32",
    "same": f"inference, batch {INFER_BATCH}, from text; plain the same",
}
# Ends of the tools' names, what their runs are called, what is set.
TOOL_RUNS = (
    ("trainer", "", []),
    ("trainer", ", cache_mb=0", ["runner.cache_mb=0"]),
    ("trainer", ", cache_dir, 2nd run", ["runner.cache_dir=rows"]),
    ("infer", "", []),
)

Titles = Mapping[str, str]
Turns = dict[str, dict[str, list[float]]]  # row of a table → column → a figure per turn


def main() -> None:
    """Measure, print, write."""
    options = _options()
    turns: Turns = {}
    for batch in options.batches:
        titles = {key: title.format(batch) for key, title in TRAINING.items()}
        turns.update(_turns("train", titles, batch, options))
    turns.update(_turns("infer", INFERENCE, 1024, options))
    results = {
        "data": options.data.label,
        "rows": options.rows,
        "plain_rows": options.plain_rows,
        "repeats": options.repeats,
        "measures": {
            name: {"rows_per_second": _spreads(sides), "ratios": _ratios(sides)}
            for name, sides in turns.items()
        },
        "tools": {name: _spreads(costs) for name, costs in _tools(options).items()},
    }
    common.publish(options, results, report, draw)


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__, repeats=5)
    common.add_data(parser)
    sizes = {"type": common.positive, "nargs": "+", "default": [32, 256, 1024]}
    parser.add_argument("--batches", **sizes, help="training batches (32 256 1024)")
    common.add_number(parser, "--plain-rows", 8192, "rows of a turn of the plain path")
    common.add_number(parser, "--epochs", 3, "epochs of a turn of the tools")
    here = [side for side in TITLES if side != "torch" or find_spec("torch")]
    common.add_names(parser, "--sides", here)
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.batches, options.epochs = 1, [32], 2
        options.plain_rows = min(options.plain_rows, 1024)
    if options.epochs < 2:
        parser.error("--epochs should be at least 2")
    options.data = common.find_data(options.data)
    options.rows = common.count_rows(options.data.train)
    options.plain_rows = min(options.plain_rows, options.rows)
    return options


def _turns(method: str, titles: Titles, batch: int, options: argparse.Namespace) -> Turns:
    """Rates of all sides, asked in turns; the first turn is to warm up.

    Inference too runs over the training rows, for there are more.
    """
    overrides = [
        f"runner.train_data_dir={options.data.train}",
        f"runner.test_data_dir={options.data.train}",
        f"runner.train_batch_size={batch}",
        f"runner.infer_batch_size={INFER_BATCH}",
        "runner.print_interval=100",
        f"runner.epochs={options.epochs}",
        "runner.infer_end_epoch=null",
        "hyper_parameters.numeric_encoding=standard",
    ]
    turns: Turns = {title: {} for title in titles.values()}
    with ExitStack() as stack:
        workers = {
            side: stack.enter_context(Worker(side, common.ROOT / "config.yaml", overrides))
            for side in options.sides
        }
        for turn in range(options.repeats + 1):
            for side, worker in workers.items():
                rates = worker.ask(method, plain_rows=options.plain_rows)
                if turn == 0:
                    continue
                for key, rate in rates.items():
                    turns[titles[key]].setdefault(side, []).append(rate)
                shown = "; ".join(f"{titles[key]}: {rate:,.0f}" for key, rate in rates.items())
                common.say(f"turn {turn}, {TITLES[side]}, rows/s: {shown}")
    return turns


def _tools(options: argparse.Namespace) -> Turns:
    """Seconds and peak memory of the tools as a person runs them, one epoch."""
    config = common.ROOT / "config_bigdata.yaml"
    asked = [*options.data.overrides(), "runner.epochs=1"]
    asked += ["runner.model_save_path=model", "runner.infer_load_path=model"]
    turns: Turns = {}
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch:
        paths = [path for path in common.PATHS if path in options.sides]
        for turn in range(1, options.repeats + 1):
            for path, (end, note, more) in [(path, run) for path in paths for run in TOOL_RUNS]:
                tool = f"static_{end}" if path == "static" else end
                name = f"{tool}.py{note}"
                folder = Path(scratch) / path
                folder.mkdir(exist_ok=True)
                if "2nd run" in note and turn == 1:
                    common.run_tool(tool, config, [*asked, *more], cwd=folder)
                ended = common.run_tool(tool, config, [*asked, *more], cwd=folder)
                for what, value in ended._asdict().items():
                    turns.setdefault(name, {}).setdefault(what, []).append(value)
                common.say(f"turn {turn}, {name}: {ended.seconds:.1f} s, {ended.peak_mb:.0f} MB")
    return turns


def _spreads(columns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {name: common.spread(values) for name, values in columns.items()}


def _ratios(sides: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    ratios = {}
    for pair in RATIOS:
        ours, other = (sides.get(side, []) for side in pair.split("/"))
        if ours and other:
            ratios[pair] = common.spread(a / b for a, b in zip(ours, other))
    return ratios


def report(results: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    measures, tools = results["measures"], results["tools"]
    rates = {name: measure["rows_per_second"] for name, measure in measures.items()}
    ratios = {name: measure["ratios"] for name, measure in measures.items()}
    quotients = {pair: " ÷ ".join(TITLES[side] for side in pair.split("/")) for pair in RATIOS}
    costs = {"seconds": "seconds", "peak_mb": "peak MB"}
    return (
        f"Rows: {results['data']}; the plain path's turns take the first "
        f"{results['plain_rows']:,}.\n"
        f"Medians (least–greatest) of {results['repeats']} turns. First epoch: building the "
        "network, parsing, statistics, training and the checkpoints included. numeric_encoding "
        "standard on all sides.\n\n"
        f"{_table('rows per second', TITLES, rates, 0)}\n"
        f"{_table('times as fast', quotients, ratios, 1)}\n"
        f"{_table('config_bigdata.yaml, 1 epoch, start-up included', costs, tools, 1)}"
    )


def _table(corner: str, titles: Titles, rows: Mapping[str, Any], digits: int) -> str:
    """A table of spreads, with those columns that any row has."""
    columns = [column for column in titles if any(column in row for row in rows.values())]
    cells = [
        [name, *(common.show_spread(row.get(column), digits) for column in columns)]
        for name, row in rows.items()
    ]
    return common.markdown_table([corner, *(titles[column] for column in columns)], cells)


def draw(results: Mapping[str, Any], figure: Any) -> None:
    """Rows per second as a bar chart, with the spread."""
    measures = [found["rows_per_second"] for found in results["measures"].values()]
    sides = [side for side in TITLES if any(side in rates for rates in measures)]
    figure.set_size_inches(9, 0.9 * len(measures) + 1.5)
    axes = figure.subplots()
    height = 0.8 / len(sides)
    for index, side in enumerate(sides):
        rates = {row: rates[side] for row, rates in enumerate(measures) if side in rates}
        places = [row + index * height for row in rates]
        medians, least, most = zip(*((r["median"], r["min"], r["max"]) for r in rates.values()))
        axes.barh(places, medians, height, label=TITLES[side])
        axes.hlines(places, least, most, color="black", linewidth=1)
    middles = [row + 0.4 - height / 2 for row in range(len(measures))]
    axes.set_yticks(middles, list(results["measures"]))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("rows per second (median, least and greatest)")
    axes.set_title(f"{results['machine']['processor']}, {results['machine']['cores']} cores")
    axes.legend()


if __name__ == "__main__":
    sys.exit(common.finish(main))
