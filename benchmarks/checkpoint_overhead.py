"""What checkpoints and checks cost, as a share of the rest of training; under 3 % is the aim.

    python benchmarks/checkpoint_overhead.py [--epochs 7] [--json results.json]

Trains on made-up rows, as many and as wide as the encoded Census rows, with the tool's own job:
with a checkpoint per epoch, and with one every 500 batches besides. The clock runs around the
whole loop, and within it around all that saves or checks, so the share hardly depends on what
else the machine does. No run without checkpoints is made: what saving costs outside these clocks,
by what it leaves in the processor's caches for instance, is not in the share.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import common
from scaling import Point, model_directory
from worker import Worker

CENSUS = Point(tasks=2, features=499, rows=66_508)
SAVE_STEPS = {"a checkpoint per epoch": 0, "and one every 500 batches": 500}


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.add_number(parser, "--batch", 32, "rows in a batch")
    common.add_number(parser, "--epochs", 7, "epochs of each kind")
    common.add_names(parser, "--paths", common.PATHS)
    parser.add_argument("--quick", action="store_true", help="one epoch, few rows")
    options = parser.parse_args()
    census = CENSUS
    if options.quick:
        options.epochs, census = 1, CENSUS._replace(rows=32_000)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        config = model_directory(Path(folder), census, options.batch, options.epochs)
        for path in options.paths:
            for kind, steps in SAVE_STEPS.items():
                with Worker(path, config, [f"runner.save_steps={steps}"]) as worker:
                    runs.append({"path": path, "kind": kind, **worker.ask("clock_saving")})
    results = {"batch": options.batch, "epochs": options.epochs, **census._asdict(), "runs": runs}
    common.publish(options, results, report)


def report(results: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    columns = ["checkpoints", "path", "rest of an epoch, s", "ms per checkpoint", "number", "share"]
    rows = []
    for run in results["runs"]:
        bare = run["loop_seconds"] - run["inside_seconds"]
        cost, saves = common.show_spread(common.spread(run["save_ms"])), len(run["save_ms"])
        share = f"{run['inside_seconds'] / bare:.2%}"
        epoch = f"{bare / results['epochs']:.3f}"
        rows.append([run["kind"], run["path"], epoch, cost, str(saves), share])
    head = f"{results['rows']:,} made-up rows, batch {results['batch']}.\n\n"
    return head + common.markdown_table(columns, rows)


if __name__ == "__main__":
    sys.exit(common.finish(main))
