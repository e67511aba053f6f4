"""What checkpoints and checks cost, as a share of training without them; under 3 % is the aim.

    python benchmarks/checkpoint_overhead.py [--epochs 7] [--json results.json]

Trains on made-up rows, as many and as wide as the encoded Census rows, with the tool's own job:
with a checkpoint per epoch, and with one every 500 batches besides. The clock runs around the
whole loop, and within it around all that saves or checks, so the share hardly depends on what
else the machine does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import (
    PATHS,
    arguments,
    finish,
    markdown_table,
    positive,
    publish,
    say,
    show_spread,
    spread,
)
from scaling import Point, model_directory
from worker import Worker

CENSUS = Point(tasks=2, features=499, rows=66_508)
SAVE_STEPS = {"a checkpoint per epoch": 0, "and one every 500 batches": 500}


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=positive, default=32, help="rows in a batch (32)")
    parser.add_argument("--epochs", type=positive, default=7, help="epochs of each kind (7)")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        config = model_directory(Path(folder), CENSUS, options.batch, options.epochs)
        for path in PATHS:
            for kind, steps in SAVE_STEPS.items():
                with Worker(path, config, [f"runner.save_steps={steps}"]) as worker:
                    clocked = worker.ask("clock_saving")
                runs.append({"path": path, "kind": kind, **_summary(clocked, options.epochs)})
                say(f"{path}, {kind}: {runs[-1]['share']:.2%}")
    publish(options, {"batch": options.batch, **CENSUS._asdict(), "runs": runs}, report)


def _summary(clocked: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Seconds of an epoch without saving and checking, and what these add to it."""
    inside = sum(clocked["saves"]) + clocked["checks"]
    bare = clocked["loop"] - inside
    return {
        "epoch_seconds": bare / epochs,
        "share": inside / bare,
        "saves": len(clocked["saves"]),
        "save_ms": spread(1e3 * seconds for seconds in clocked["saves"]),
    }


def report(results: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    columns = ["checkpoints", "path", "epoch without, s", "ms per checkpoint", "number", "share"]
    rows = [
        [
            run["kind"],
            run["path"],
            f"{run['epoch_seconds']:.3f}",
            show_spread(run["save_ms"]),
            f"{run['saves']}",
            f"{run['share']:.2%}",
        ]
        for run in results["runs"]
    ]
    head = f"{results['rows']:,} made-up rows, batch {results['batch']}.\n\n"
    return head + markdown_table(columns, rows)


if __name__ == "__main__":
    sys.exit(finish(main))
