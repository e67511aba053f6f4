"""How the cost of training grows with tasks, features and rows.

    python benchmarks/scaling.py --json scaling.json --png scaling.png

Rows are made up in memory (``synthetic_reader.py``), so the figures are those of training, not of
parsing. Each point is a run of the tool's own training job in a process of its own: *first* is
all of it but the later epochs (network, one pass for the statistics, training, checkpoint),
*steady* the later epochs. The points take turns, so that noise of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import (
    HERE,
    ROOT,
    BenchmarkError,
    finish,
    list_of,
    machine,
    markdown_table,
    say,
    show_machine,
    show_spread,
    spread,
    write_json,
)
from worker import Worker

PATHS = ("eager", "static")
STEADY_ROWS = 200_000  # rows of a run's later epochs, at least
MOST_EPOCHS = 12


class Point(NamedTuple):
    """What is trained."""

    tasks: int
    features: int
    rows: int


SWEEPS = {
    "tasks": [Point(tasks, 499, 50_000) for tasks in (1, 2, 4, 8, 16)],
    "features": [Point(2, size, 20_000) for size in (50, 150, 500, 1500, 5000)],
    "rows": [Point(2, 50, rows) for rows in (10**4, 10**5, 10**6, 10**7)],
}
QUICK = {
    "tasks": [Point(tasks, 50, 2_000) for tasks in (1, 2)],
    "features": [Point(2, size, 2_000) for size in (20, 50)],
    "rows": [Point(2, 20, rows) for rows in (1_000, 10_000)],
}

CONFIG = """\
runner:
  train_data_dir: "rows"
  train_reader_path: "synthetic_reader"
  train_batch_size: {batch}
  epochs: 1
  print_interval: 1000
  keep_checkpoints: 1
hyper_parameters:
  feature_size: {features}
  task_num: {tasks}
  numeric_encoding: "standard"
  optimizer: {{class: "adam", learning_rate: 0.001}}
"""


def main() -> None:
    """Measure, print, write."""
    options = _options()
    sweeps = {n: p for n, p in (QUICK if options.quick else SWEEPS).items() if n in options.only}
    keys = [(path, name, p) for name, ps in sweeps.items() for p in ps for path in options.paths]
    turns: dict[Any, dict[str, list[float]]] = {key: {"first": [], "steady": []} for key in keys}
    with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
        for turn in range(options.repeats):
            for key in keys:
                path, name, point = key
                folder = Path(scratch) / "-".join(map(str, (path, name, *point)))
                rates = _measure(path, point, options.batch_size, folder)
                for what, rate in rates.items():
                    turns[key][what].append(rate)
                shown = ", ".join(f"{what} {rate:,.0f} rows/s" for what, rate in rates.items())
                say(f"turn {turn + 1}, {path}, {name} {point[_axis(name)]:,}: {shown}")
    results = {
        "machine": machine(),
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "points": [
            {"path": path, "sweep": name, **point._asdict(), **_summary(point, turns[key])}
            for key in keys
            for path, name, point in [key]
        ],
    }
    print(report(results), end="")
    if options.json:
        write_json(options.json, results)
    if options.png:
        draw(results, options.png)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="turns of every point (3)")
    parser.add_argument("--batch-size", type=int, default=256, help="training batch (256)")
    parser.add_argument("--paths", type=list_of(PATHS), default=PATHS, help="eager,static")
    parser.add_argument(
        "--only", type=list_of(SWEEPS), default=list(SWEEPS), help="tasks,features,rows"
    )
    parser.add_argument("--quick", action="store_true", help="one turn, tiny sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="a chart (needs matplotlib)")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 1
    if options.repeats < 1 or options.batch_size < 1:
        parser.error("--repeats and --batch-size should be at least 1")
    return options


def _measure(path: str, point: Point, batch: int, folder: Path) -> dict[str, float]:
    """Rows per second of one run, in a model directory made for it."""
    folder.mkdir(exist_ok=True)
    for file in [*ROOT.glob("*.py"), HERE / "synthetic_reader.py"]:
        shutil.copy(file, folder)
    (folder / "rows").mkdir(exist_ok=True)
    (folder / "rows" / "count.txt").write_text(str(point.rows), encoding="utf-8")
    config = folder / "config.yaml"
    text = CONFIG.format(batch=batch, features=point.features, tasks=point.tasks)
    config.write_text(text, encoding="utf-8")
    later = min(-(-STEADY_ROWS // point.rows), MOST_EPOCHS - 1)
    alone = point.rows >= 10 * STEADY_ROWS  # one epoch is long enough to be steady
    with Worker(path, config, []) as worker:
        found = worker.ask(do="train", epochs=1 if alone else 1 + later)
    steady = found["epochs"] if alone else found["steady"]
    return {"first": found["first"], "steady": spread(steady)["median"]}


def _summary(point: Point, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Spread of the rates, and of the steady cost in microseconds."""
    cost = spread(1e6 / rate for rate in rates["steady"])
    per_task = spread(1e6 / rate / point.tasks for rate in rates["steady"])
    return {
        "first_rows_per_second": spread(rates["first"]),
        "rows_per_second": spread(rates["steady"]),
        "us_per_row": cost,
        "us_per_row_and_task": per_task,
    }


def _axis(sweep: str) -> int:
    return Point._fields.index(sweep)


def report(results: Mapping[str, Any]) -> str:
    """A Markdown table for each sweep."""
    parts = [
        f"Made-up rows, batch {results['batch_size']}; medians (least–greatest) of "
        f"{results['repeats']} turns; the cost is that of a steady epoch, over (×) that of the "
        f"sweep's first point.\nMachine: {show_machine(results['machine'])}.\n"
    ]
    for name in dict.fromkeys(point["sweep"] for point in results["points"]):
        points = [point for point in results["points"] if point["sweep"] == name]
        fixed = [f for f in Point._fields if f != name]
        title = f"{name} (" + ", ".join(f"{points[0][f]:,} {f}" for f in fixed) + ")"
        columns = [title, "path", "rows/s, first epoch", "rows/s, steady"]
        columns += ["µs per row", "×", "µs per row and task", "×"]
        parts.append(markdown_table(columns, [_row(point, name, points) for point in points]))
    return "\n".join(parts)


def _row(point: Mapping[str, Any], sweep: str, points: Sequence[Mapping[str, Any]]) -> list[str]:
    first = next(other for other in points if other["path"] == point["path"])
    cells = [f"{point[sweep]:,}", point["path"]]
    cells += [show_spread(point[k], 0) for k in ("first_rows_per_second", "rows_per_second")]
    for cost in ("us_per_row", "us_per_row_and_task"):
        growth = point[cost]["median"] / first[cost]["median"]
        cells += [show_spread(point[cost]), f"{growth:.2f}"]
    return cells


def draw(results: Mapping[str, Any], file: Path) -> None:
    """Microseconds per row over tasks, features and rows.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise BenchmarkError("--png needs matplotlib, which is not installed") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    sweeps = list(dict.fromkeys(point["sweep"] for point in results["points"]))
    figure, panels = pyplot.subplots(
        1, len(sweeps), figsize=(4.5 * len(sweeps), 4), layout="constrained", squeeze=False
    )
    for axes, name in zip(panels[0], sweeps):
        swept = [point for point in results["points"] if point["sweep"] == name]
        places = sorted({point[name] for point in swept})
        for path in PATHS:
            points = [point for point in swept if point["path"] == path]
            costs = {"us_per_row": "-o", "us_per_row_and_task": "--s"}
            for cost, style in list(costs.items())[: 2 if name == "tasks" else 1]:
                medians = [point[cost]["median"] for point in points]
                label = f"{path}, per row" + (" and task" if style == "--s" else "")
                if points:
                    axes.plot(places, medians, style, label=label)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name)
        axes.set_ylabel("µs")
        axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(finish(main))
