"""How the cost of training grows with tasks, features and rows.

    python benchmarks/scaling.py --json scaling.json --png scaling.png

Rows are made up in memory (``synthetic_reader.py``), so the figures are those of training, not of
parsing. Each point is a run of the tool's own training job in a process of its own: *first* is
all of it but the later epochs (network, one pass for the statistics, training, checkpoint),
*steady* the later epochs. The points take turns, so that noise of the machine hits all alike.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import common
from machine import show_processor
from worker import Worker

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

CONFIG = """\
runner:
  train_data_dir: "rows"
  train_reader_path: "synthetic_reader"
  train_batch_size: {batch}
  epochs: {epochs}
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
    parser = common.arguments(__doc__, repeats=3)
    common.add_number(parser, "--batch-size", 256, "training batch")
    common.add_names(parser, "--paths", common.PATHS)
    common.add_names(parser, "--only", SWEEPS)
    options = parser.parse_args()
    sweeps = {sweep: SWEEPS[sweep] for sweep in options.only}
    if options.quick:
        options.repeats = 1
        for sweep, points in sweeps.items():
            sweeps[sweep] = [point._replace(rows=point.rows // 10) for point in points[:2]]
    runs: dict[tuple[str, str, Point], list[dict[str, float]]] = {
        (path, sweep, point): []
        for sweep, points in sweeps.items()
        for point in points
        for path in options.paths
    }
    with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
        for turn in range(options.repeats):
            for (path, sweep, point), found in runs.items():
                rates = _measure(path, point, options.batch_size, Path(scratch))
                found.append(rates)
                shown = ", ".join(f"{what} {rate:,.0f} rows/s" for what, rate in rates.items())
                common.say(f"turn {turn + 1}, {path}, {sweep} {getattr(point, sweep):,}: {shown}")
    results = {
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "points": [_summary(*key, found) for key, found in runs.items()],
    }
    common.publish(options, results, report, draw)


def _measure(path: str, point: Point, batch: int, folder: Path) -> dict[str, float]:
    """Rows per second of one run."""
    epochs = 1 + min(-(-STEADY_ROWS // point.rows), MOST_EPOCHS - 1)
    if point.rows >= 10 * STEADY_ROWS:
        epochs = 1  # long enough to be steady
    with Worker(path, model_directory(folder, point, batch, epochs)) as worker:
        return worker.ask("train")


def model_directory(folder: Path, point: Point, batch: int, epochs: int) -> Path:
    """Make a folder a model directory whose rows are made up; its config file."""
    for file in [*common.ROOT.glob("*.py"), Path(__file__).with_name("synthetic_reader.py")]:
        shutil.copy(file, folder)
    shutil.copytree(common.ROOT / "raw_tables", folder / "raw_tables", dirs_exist_ok=True)
    (folder / "rows").mkdir(exist_ok=True)
    (folder / "rows" / "count.txt").write_text(str(point.rows), encoding="utf-8")
    config = folder / "config.yaml"
    text = CONFIG.format(batch=batch, epochs=epochs, **point._asdict())
    config.write_text(text, encoding="utf-8")
    return config


def _summary(
    path: str, sweep: str, point: Point, runs: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Spread of the rates, and of the steady cost in microseconds."""
    costs = [1e6 / run["steady"] for run in runs]
    return {
        "path": path,
        "sweep": sweep,
        **point._asdict(),
        "first_rows_per_second": common.spread(run["first"] for run in runs),
        "rows_per_second": common.spread(run["steady"] for run in runs),
        "us_per_row": common.spread(costs),
        "us_per_row_and_task": common.spread(cost / point.tasks for cost in costs),
    }


def _by_sweep(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sweeps = groupby(results["points"], key=itemgetter("sweep"))
    return {sweep: list(points) for sweep, points in sweeps}


def report(results: Mapping[str, Any]) -> str:
    """A Markdown table for each sweep."""
    parts = [
        f"Made-up rows, batch {results['batch_size']}; medians (least–greatest) of "
        f"{results['repeats']} turns; the cost is that of a steady epoch, over (×) that of the "
        "sweep's first point.\n"
    ]
    for sweep, points in _by_sweep(results).items():
        fixed = ", ".join(f"{points[0][f]:,} {f}" for f in Point._fields if f != sweep)
        columns = [f"{sweep} ({fixed})", "path", "rows/s, first epoch", "rows/s, steady"]
        columns += ["µs per row", "×", "µs per row and task", "×"]
        parts.append(common.markdown_table(columns, [_row(point, points) for point in points]))
    return "\n".join(parts)


def _row(point: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[str]:
    first = next(other for other in points if other["path"] == point["path"])
    cells = [f"{point[point['sweep']]:,}", point["path"]]
    cells += [common.show_spread(point[k], 0) for k in ("first_rows_per_second", "rows_per_second")]
    for cost in ("us_per_row", "us_per_row_and_task"):
        growth = point[cost]["median"] / first[cost]["median"]
        cells += [common.show_spread(point[cost]), f"{growth:.2f}"]
    return cells


def draw(results: Mapping[str, Any], figure: Any) -> None:
    """Microseconds per row over tasks, features and rows."""
    sweeps = _by_sweep(results)
    figure.set_size_inches(4.5 * len(sweeps), 4)
    figure.suptitle(show_processor(results["machine"]), fontsize="small", wrap=True)
    panels = figure.subplots(1, len(sweeps), squeeze=False)[0]
    for axes, (sweep, points) in zip(panels, sweeps.items()):
        lines = [("us_per_row", "-o", "per row")]
        if sweep == "tasks":
            lines.append(("us_per_row_and_task", "--s", "per row and task"))
        for path in dict.fromkeys(point["path"] for point in points):
            drawn = [point for point in points if point["path"] == path]
            places = [point[sweep] for point in drawn]
            for cost, style, label in lines:
                medians = [point[cost]["median"] for point in drawn]
                axes.plot(places, medians, style, label=f"{path}, {label}")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(sweep)
        axes.set_ylabel("µs")
        axes.legend()


if __name__ == "__main__":
    sys.exit(common.finish(main))
