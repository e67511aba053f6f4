"""Rows per second, seconds and memory of both graph paths, beside the plain path and PyTorch.

    python benchmarks/throughput.py --repeats 5 --json throughput.json --png throughput.png
    python benchmarks/throughput.py --sides eager,static --against HEAD~1

All sides run the same network (``config.yaml``: numeric_encoding standard, Adam, no dropout) on
the same rows in the same order, in turns within one run, each in a process of its own; a ratio is
the median of the ratios of the turns. What is compared is measured one after the other, in every
second turn the other way round. Sides:

- eager, static: this directory's tools, as they are.
- plain eager, plain static: PaddleRec's way, see ``plain_path.py``; over the first rows only.
- PyTorch: preloaded, standardised rows and fused Adam, see ``torch_path.py``; the better of one
  thread and two. Only where ``torch`` is installed.
- eager before, static before: with ``--against``, another commit's model directory and tools, in
  a git worktree that is removed at the end; also in the table of the tools.

Start-up is a table of the tools' too: ``infer.py -m config.yaml`` on the bundled sample, beside
``python -c "import paddle"``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

import common
from against import checked_out, find_commit
from machine import show_processor
from tool_runs import OLD, RUNS, measure_tools
from worker import Worker

INFER_BATCH = 4096
TITLES = {
    "eager": "eager",
    "old_eager": "eager before",
    "static": "static",
    "old_static": "static before",
    "plain_eager": "plain eager",
    "plain_static": "plain static",
    "torch": "PyTorch",
}
RATIOS = (
    *("eager/old_eager", "static/old_static", "eager/plain_eager", "static/plain_static"),
    *("eager/torch", "static/torch"),
)
COSTS = {
    "seconds": "seconds",
    "peak_mb": "peak MB",
    "import_seconds": "import paddle, seconds",
    "old_seconds": "seconds before",
    "old_peak_mb": "peak MB before",
}
COST_RATIOS = (
    *("seconds/import_seconds", "old_seconds/import_seconds"),
    *("seconds/old_seconds", "peak_mb/old_peak_mb"),
)
# What a side calls a rate, and what the tables do.
TRAINING = {"steady": "training, batch {}", "first": "training, batch {}, first epoch"}
INFERENCE = {
    "memory": f"inference, batch {INFER_BATCH}, rows in memory; plain 32",
    "disk": f"inference, batch {INFER_BATCH}, rows kept on disk; plain 32",
    "text": f"inference, batch {INFER_BATCH}, from text; plain 32",
    "same": f"inference, batch {INFER_BATCH}, from text; plain the same",
}
Titles = Mapping[str, str]
Turns = dict[str, dict[str, list[float]]]  # row of a table → column → a figure per turn


def main() -> None:
    """Measure, print, write."""
    options = _options()
    with ExitStack() as stack:
        options.trees = {"": common.ROOT}
        if options.against is not None:
            options.trees[OLD] = stack.enter_context(checked_out(options.against))
        results = _measure(options)
    common.publish(options, results, report, draw)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    turns: Turns = {}
    for batch in options.batches if "training" in options.only else ():
        titles = {key: title.format(batch) for key, title in TRAINING.items()}
        turns.update(_turns("train", titles, batch, options))
    if "scoring" in options.only:
        turns.update(_turns("infer", INFERENCE, 1024, options))
    tools = measure_tools(options)
    return {
        "data": options.data.label,
        "rows": options.rows,
        "plain_rows": options.plain_rows,
        "repeats": options.repeats,
        "against": options.against._asdict() if options.against else None,
        "measures": {
            name: {"rows_per_second": _spreads(sides), "ratios": _ratios(sides, RATIOS)}
            for name, sides in turns.items()
        },
        "tools": {name: _spreads(costs) for name, costs in tools.items()},
        "tool_ratios": {name: _ratios(costs, COST_RATIOS) for name, costs in tools.items()},
    }


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__, repeats=5)
    common.add_data(parser)
    sizes = {"type": common.positive, "nargs": "+", "default": [32, 256, 1024]}
    parser.add_argument("--batches", **sizes, help="training batches (32 256 1024)")
    common.add_number(parser, "--plain-rows", 8192, "rows of a turn of the plain path")
    common.add_number(parser, "--epochs", 3, "epochs of a turn of the tools")
    here = [side for side in TITLES if side != "torch" or find_spec("torch")]
    common.add_names(parser, "--sides", [side for side in here if not side.startswith(OLD)])
    common.add_names(parser, "--only", ("training", "scoring", *RUNS))
    parser.add_argument("--against", metavar="REV", help="a commit to compare the tools with")
    options = parser.parse_args()
    if options.against is not None:
        options.against = find_commit(options.against)
    if options.quick:
        options.repeats, options.batches, options.epochs = 1, [32], 2
        options.plain_rows = min(options.plain_rows, 1024)
    if options.epochs < 2:
        parser.error("--epochs should be at least 2")
    if options.png is not None and not {"training", "scoring"} & {*options.only}:
        parser.error("--png shows training and scoring, of which --only leaves none")
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
        workers: dict[str, Worker] = {}
        for side in options.sides:
            trees = options.trees if side in common.PATHS else {"": common.ROOT}
            for prefix, tree in trees.items():
                worker = Worker(f"{prefix}{side}", tree / "config.yaml", overrides, tree)
                workers[worker.side] = stack.enter_context(worker)
        for turn in range(options.repeats + 1):
            for side, worker in common.to_and_fro(workers.items(), turn):
                rates = worker.ask(method, plain_rows=options.plain_rows)
                if turn == 0:
                    continue
                for key, rate in rates.items():
                    turns[titles[key]].setdefault(side, []).append(rate)
                shown = "; ".join(f"{titles[key]}: {rate:,.0f}" for key, rate in rates.items())
                common.say(f"turn {turn}, {TITLES[side]}, rows/s: {shown}")
    return turns


def _spreads(columns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {name: common.spread(values) for name, values in columns.items()}


def _ratios(columns: Mapping[str, Sequence[float]], pairs: Sequence[str]) -> dict[str, Any]:
    ratios = {}
    for pair in pairs:
        ours, other = (columns.get(column, []) for column in pair.split("/"))
        if ours and other:
            ratios[pair] = common.spread(a / b for a, b in zip(ours, other))
    return ratios


def report(results: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    measures, against = results["measures"], results["against"]
    rates = {name: measure["rows_per_second"] for name, measure in measures.items()}
    ratios = {name: measure["ratios"] for name, measure in measures.items()}
    head = (
        f"Rows: {results['data']}; the plain path's turns take the first "
        f"{results['plain_rows']:,}.\n"
        f"Medians (least–greatest) of {results['repeats']} turns. First epoch: building the "
        "network, parsing, statistics, training and the checkpoints included. numeric_encoding "
        "standard on all sides. The tools run config_bigdata.yaml for one epoch, where no other "
        "config is named, start-up included.\n"
    )
    if against:
        head += f"Before: commit {against['hash'][:9]}, {against['subject']}.\n"
    tables = [
        _table("rows per second", TITLES, rates, 0),
        _table("times as fast", _quotients(TITLES, RATIOS), ratios, 2),
        _table("the tools", COSTS, results["tools"], 1),
        _table("times the cost", _quotients(COSTS, COST_RATIOS), results["tool_ratios"], 2),
    ]
    return "\n".join(filter(None, [head, *tables]))


def _quotients(titles: Titles, pairs: Sequence[str]) -> dict[str, str]:
    return {pair: " ÷ ".join(titles[name] for name in pair.split("/")) for pair in pairs}


def _table(corner: str, titles: Titles, rows: Mapping[str, Any], digits: int) -> str:
    """A table of spreads, with those columns that any row has, and the rows that have any."""
    rows = {name: row for name, row in rows.items() if row}
    if not rows:
        return ""
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
    axes.set_title(show_processor(results["machine"]), fontsize="small", wrap=True)
    axes.legend()


if __name__ == "__main__":
    sys.exit(common.finish(main))
