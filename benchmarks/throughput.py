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

from common import (
    ROOT,
    BenchmarkError,
    Data,
    count_rows,
    find_data,
    finish,
    list_of,
    machine,
    markdown_table,
    run_tool,
    say,
    show_machine,
    show_spread,
    spread,
    write_json,
)
from worker import SIDES, Worker

PRINT_INTERVAL = 100
INFER_BATCH = 4096
PLAIN_INFER_BATCH = 32  # PaddleRec's
TITLES = {
    "eager": "eager",
    "static": "static",
    "plain_eager": "plain eager",
    "plain_static": "plain static",
    "torch": "PyTorch",
}
RATIOS = (
    ("eager", "plain_eager"),
    ("static", "plain_static"),
    ("eager", "torch"),
    ("static", "torch"),
)
TOOL_RUNS = {
    "trainer.py": ("trainer", ()),
    "trainer.py, cache_mb=0": ("trainer", ("runner.cache_mb=0",)),
    "trainer.py, cache_dir, 2nd run": ("trainer", ("runner.cache_dir=rows",)),
    "infer.py": ("infer", ()),
    "static_trainer.py": ("static_trainer", ()),
    "static_trainer.py, cache_mb=0": ("static_trainer", ("runner.cache_mb=0",)),
    "static_trainer.py, cache_dir, 2nd run": ("static_trainer", ("runner.cache_dir=rows",)),
    "static_infer.py": ("static_infer", ()),
}

Turns = dict[str, dict[str, list[float]]]  # measure → side → a rate per turn


def main() -> None:
    """Measure, print, write."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch:
        data = _data(options.data, Path(scratch))
        rows = count_rows(data.train)
        plain_rows = min(options.plain_rows, rows)
        turns: Turns = {}
        for batch in options.batches:
            turns.update(_training(data, batch, plain_rows, rows, options))
        turns.update(_inference(data, plain_rows, rows, options))
        tools = _tools(data, Path(scratch), options)
    results = {
        "machine": machine(),
        "data": data.label,
        "rows": rows,
        "plain_rows": plain_rows,
        "repeats": options.repeats,
        "numeric_encoding": "standard",
        "print_interval": PRINT_INTERVAL,
        "measures": {name: _summary(sides) for name, sides in turns.items()},
        "tools": tools,
    }
    print(report(results), end="")
    if options.json:
        write_json(options.json, results)
    if options.png:
        draw(results, options.png)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder train_all, with test_all beside it"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of every side (5)")
    parser.add_argument(
        "--batches", type=_numbers, default=[32, 256, 1024], help="training batches (32,256,1024)"
    )
    parser.add_argument(
        "--plain-rows", type=int, default=8192, help="rows of a turn of the plain path (8192)"
    )
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a turn of the tools (3)")
    here = [side for side in SIDES if side != "torch" or find_spec("torch")]
    parser.add_argument("--sides", type=list_of(here), default=here, help=",".join(here))
    parser.add_argument("--quick", action="store_true", help="one turn, batch 32, few rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="a bar chart (needs matplotlib)")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.batches, options.epochs = 1, [32], 2
        options.plain_rows = min(options.plain_rows, 1024)
    if options.repeats < 1 or options.epochs < 2:
        parser.error("--repeats should be at least 1 and --epochs at least 2")
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _data(train: Path | None, scratch: Path) -> Data:
    if train is None:
        return find_data(None, scratch / "census")
    if train.name != "train_all":
        raise BenchmarkError(f"--data should be a folder train_all, got {train}")
    return find_data(train.resolve().parent, scratch)


def _overrides(data: Data, batch: int) -> list[str]:
    """Settings of the sides; inference too runs over the training rows, for there are more."""
    return [
        f"runner.train_data_dir={data.train}",
        f"runner.test_data_dir={data.train}",
        f"runner.train_batch_size={batch}",
        f"runner.infer_batch_size={INFER_BATCH}",
        f"runner.print_interval={PRINT_INTERVAL}",
        "runner.infer_end_epoch=null",
        "hyper_parameters.numeric_encoding=standard",
    ]


def _workers(stack: ExitStack, data: Data, batch: int, sides: Sequence[str]) -> dict[str, Worker]:
    config, overrides = ROOT / "config.yaml", _overrides(data, batch)
    return {side: stack.enter_context(Worker(side, config, overrides)) for side in sides}


def _training(
    data: Data, batch: int, plain_rows: int, rows: int, options: argparse.Namespace
) -> Turns:
    steady, first = f"training, batch {batch}", f"training, batch {batch}, first epoch"
    turns: Turns = {steady: {}, first: {}}
    with ExitStack() as stack:
        workers = _workers(stack, data, batch, options.sides)
        for turn in range(-1, options.repeats):  # the first is to warm up
            for side, worker in workers.items():
                if side in ("eager", "static"):
                    found = worker.ask(do="train", epochs=options.epochs if turn >= 0 else 2)
                    rates = {steady: spread(found["steady"])["median"], first: found["first"]}
                elif side == "torch":
                    rates = {steady: worker.ask(do="train", rows=rows)["rate"]}
                else:
                    some = plain_rows if turn >= 0 else min(plain_rows, 10 * batch)
                    rate = worker.ask(do="train", rows=some)["rate"]
                    rates = {steady: rate, first: rate}
                _note(turns, turn, side, rates)
    return turns


def _inference(data: Data, plain_rows: int, rows: int, options: argparse.Namespace) -> Turns:
    memory = f"inference, batch {INFER_BATCH}, rows in memory; plain {PLAIN_INFER_BATCH}"
    text = f"inference, batch {INFER_BATCH}, from text; plain {PLAIN_INFER_BATCH}"
    disk = f"inference, batch {INFER_BATCH}, rows kept on disk; plain {PLAIN_INFER_BATCH}"
    same = f"inference, batch {INFER_BATCH}, from text; plain the same"
    same_batch = min(INFER_BATCH, plain_rows)
    turns: Turns = {memory: {}, disk: {}, text: {}, same: {}}
    with ExitStack() as stack:
        workers = _workers(stack, data, 1024, options.sides)
        for turn in range(-1, options.repeats):
            for side, worker in workers.items():
                if side in ("eager", "static"):
                    if turn < 0:
                        worker.ask(do="train", epochs=3)
                    found = worker.ask(do="infer")
                    rates = {memory: spread(found["steady"])["median"]}
                    # The warm-up turn fills the folder.
                    rates[disk] = worker.ask(do="infer", cache_dir="rows")["first"]
                    rates[text] = rates[same] = found["first"]
                elif side == "torch":
                    rates = {memory: worker.ask(do="infer", rows=rows)["rate"]}
                else:
                    some = plain_rows if turn >= 0 else same_batch
                    small = worker.ask(do="infer", rows=some, batch=PLAIN_INFER_BATCH)["rate"]
                    rates = {memory: small, disk: small, text: small}
                    rates[same] = worker.ask(do="infer", rows=some, batch=same_batch)["rate"]
                _note(turns, turn, side, rates)
    return turns


def _note(turns: Turns, turn: int, side: str, rates: Mapping[str, float]) -> None:
    if turn < 0:
        return
    for measure, rate in rates.items():
        turns[measure].setdefault(side, []).append(rate)
    shown = "; ".join(f"{measure}: {rate:,.0f} rows/s" for measure, rate in rates.items())
    say(f"turn {turn + 1}, {TITLES[side]}: {shown}")


def _tools(data: Data, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of the tools as a person runs them, one epoch."""
    runs = {
        name: run
        for name, run in TOOL_RUNS.items()
        if ("static" if run[0].startswith("static") else "eager") in options.sides
    }
    measured: dict[str, dict[str, list[float]]] = {
        name: {"seconds": [], "peak_mb": []} for name in runs
    }
    common = [*data.overrides(), "runner.epochs=1", "runner.model_save_path=model"]
    for turn in range(options.repeats):
        for name, (tool, more) in runs.items():
            folder = scratch / "tools" / ("static" if tool.startswith("static") else "eager")
            folder.mkdir(parents=True, exist_ok=True)
            overrides = [*common, "runner.infer_load_path=model", *more]
            if "2nd run" in name and turn == 0:
                run_tool(tool, ROOT / "config_bigdata.yaml", overrides, cwd=folder)
            ended = run_tool(tool, ROOT / "config_bigdata.yaml", overrides, cwd=folder)
            measured[name]["seconds"].append(ended.seconds)
            measured[name]["peak_mb"].append(ended.peak_mb)
            say(f"turn {turn + 1}, {name}: {ended.seconds:.1f} s, {ended.peak_mb:.0f} MB")
    return {
        name: {what: spread(values) for what, values in found.items()}
        for name, found in measured.items()
    }


def _summary(sides: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    ratios = {}
    for ours, other in RATIOS:
        if sides.get(ours) and sides.get(other):
            pairs = zip(sides[ours], sides[other])
            ratios[f"{ours}/{other}"] = spread(a / b for a, b in pairs)
    return {
        "rows_per_second": {side: spread(rates) for side, rates in sides.items()},
        "ratios": ratios,
    }


def report(results: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    measures, tools = results["measures"], results["tools"]
    sides = [s for s in SIDES if any(s in m["rows_per_second"] for m in measures.values())]
    rates = [
        [name, *(show_spread(found["rows_per_second"].get(side), 0) for side in sides)]
        for name, found in measures.items()
    ]
    pairs = [f"{a}/{b}" for a, b in RATIOS if {a, b} <= set(sides)]
    ratios = [
        [name, *(show_spread(found["ratios"].get(pair), 1) for pair in pairs)]
        for name, found in measures.items()
    ]
    costs = [
        [name, show_spread(found["seconds"], 1), show_spread(found["peak_mb"], 0)]
        for name, found in tools.items()
    ]
    titles = [TITLES[side] for side in sides]
    quotients = [" ÷ ".join(TITLES[side] for side in pair.split("/")) for pair in pairs]
    head = (
        f"Rows: {results['data']}; the plain path's turns take the first "
        f"{results['plain_rows']:,}.\n"
        f"Machine: {show_machine(results['machine'])}.\n"
        f"Medians (least–greatest) of {results['repeats']} turns. First epoch: building the "
        "network, parsing, statistics, training and the checkpoints included. numeric_encoding "
        "standard on all sides.\n"
    )
    return "\n".join(
        [
            head,
            markdown_table(["rows per second", *titles], rates),
            markdown_table(["times as fast", *quotients], ratios),
            markdown_table(
                ["config_bigdata.yaml, 1 epoch, start-up included", "seconds", "peak MB"], costs
            ),
        ]
    )


def draw(results: Mapping[str, Any], file: Path) -> None:
    """Rows per second as a bar chart, with the spread.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise BenchmarkError("--png needs matplotlib, which is not installed") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    measures = results["measures"]
    sides = [s for s in SIDES if any(s in m["rows_per_second"] for m in measures.values())]
    figure, axes = pyplot.subplots(figsize=(9, 0.9 * len(measures) + 1.5), layout="constrained")
    height = 0.8 / len(sides)
    for index, side in enumerate(sides):
        places, medians, errors = [], [], []
        for row, found in enumerate(measures.values()):
            rates = found["rows_per_second"].get(side)
            if rates:
                places.append(row + index * height)
                medians.append(rates["median"])
                errors.append([rates["median"] - rates["min"], rates["max"] - rates["median"]])
        transposed = [list(sides_) for sides_ in zip(*errors)]
        axes.barh(places, medians, height, xerr=transposed, label=TITLES[side])
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(measures))], list(measures))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("rows per second (median, least and greatest)")
    axes.set_title(f"{results['machine']['processor']}, {results['machine']['cores']} cores")
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(finish(main))
