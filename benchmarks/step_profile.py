"""Where a steady training step goes: microseconds by operator, the rest as overhead.

    python benchmarks/step_profile.py --batch 32 --json step.json

The tool trains ``config.yaml``'s network; of its later epochs the loop and the engine's part of it
are timed. Then the same process times Paddle's operators alone, on the same shapes. What a call
costs on tensors of one number each is taken off: that is no work of the operator. The engine's time
less the operators' work is overhead: calls, Python, feeding and fetching. All of it is the
processor's time, one thread's, so that other programs hardly count; the last row is by the clock.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import common
from tool_path import Side as ToolSide
from tool_path import clock
from worker import Worker

EPOCHS = 5  # the first is not counted
CALLS, LOOPS = 100, 7
ROWS = {
    "product": "bottom product",
    "gradient": "its weight gradient",
    "adam": "Adam",
    "others": "every other operator",
    "overhead": "overhead in the engine",
    "loop": "the loop around it: windows, metrics, log lines",
    "whole": "whole step",
    "clock": "whole step, by the clock",
}


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    common.add_data(parser)
    common.add_number(parser, "--batch", 32, "rows in a batch")
    common.add_names(parser, "--paths", common.PATHS)
    options = parser.parse_args()
    data = common.find_data(options.data)
    asked = [f"runner.train_data_dir={data.train}", f"runner.train_batch_size={options.batch}"]
    asked += [f"runner.epochs={EPOCHS}", "runner.print_interval=100", "runner.thread_num=1"]
    found = {}
    for path in options.paths:
        with Worker(f"profile_{path}", common.ROOT / "config.yaml", asked) as worker:
            found[path] = worker.ask("profile")
    results = {"data": data.label, "batch": options.batch, "microseconds": found}
    common.publish(options, results, report)


def report(results: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    found = results["microseconds"]
    rows = [[title, *(f"{found[p][key]:.1f}" for p in found)] for key, title in ROWS.items()]
    columns = [f"µs of a step of {results['batch']} rows, one thread", *found]
    return f"Rows: {results['data']}.\n\n{common.markdown_table(columns, rows)}"


class Side(ToolSide):
    """The tools' sides, whose step can be taken apart; see ``worker.py``."""

    def profile(self) -> dict[str, float]:
        """Microseconds of a step by the keys of :data:`ROWS`."""
        # Paddle has to be imported by a tool, for that sets its environment.
        self._run("train", "runner.model_save_path=warm", "runner.epochs=1")
        from rec_runner.loop.finite import FiniteTraining
        from rec_runner.loop.loop import Training

        with (
            clock(Training, "_train_epoch", time.process_time) as epochs,
            clock(FiniteTraining, "train", time.process_time) as windows,
        ):
            self._run("train", "runner.model_save_path=model")
        records = common.read_records(Path("model/metrics.jsonl"))
        config = self.load()
        batch = config.required("train_batch_size")
        steps = -(-records[0]["rows"] // batch)
        each = len(windows) // len(epochs)
        engine = [sum(windows[i : i + each]) for i in range(each, len(windows), each)]
        whole, inside = (1e6 * statistics.median(s) / steps for s in (epochs[1:], engine))
        clocked = [1e6 * r["rows"] / r["rows_per_second"] / steps for r in records[1:]]
        work = _operators(config, batch)
        return {
            **work,
            "overhead": inside - sum(work.values()),
            "loop": whole - inside,
            "whole": whole,
            "clock": statistics.median(clocked),
        }


def _operators(config: Any, batch: int) -> dict[str, float]:
    """Microseconds of work of a step's operators."""
    import paddle

    from hyper_parameters import HyperParameters
    from loss import multi_task_loss
    from net import ShareBottomLayer
    from optimizer import make_optimizer

    paddle.disable_static()
    settings = HyperParameters.from_config(config)

    def calls(rows: int, features: int, hidden: int, tower: int, tasks: int) -> dict[str, Any]:
        x, gradient = paddle.randn([rows, features]), paddle.randn([rows, hidden])
        weight = paddle.randn([features, hidden])
        # All else of the network: its bottom has one input.
        net = ShareBottomLayer(1, tasks, hidden, tower)
        one, labels = paddle.randn([rows, 1]), paddle.ones([tasks, rows, 1])
        trained = sum(w.size for w in net.parameters()) + (features - 1) * hidden
        flat = paddle.create_parameter([trained], "float32")
        flat.grad = paddle.randn([trained])
        adam = make_optimizer(config, [flat])

        def others() -> None:
            multi_task_loss(net.log_odds(one), labels).backward()
            net.clear_gradients()

        return {
            "product": lambda: x @ weight,
            "gradient": lambda: paddle.matmul(x, gradient, transpose_x=True),
            "adam": adam.step,
            "others": others,
        }

    sizes = (settings.feature_size, settings.bottom_size[0], settings.tower_size[0])
    full, least = calls(batch, *sizes, settings.task_num), calls(1, 1, 1, 1, 1)
    return {name: max(0.0, _microseconds(full[name]) - _microseconds(least[name])) for name in full}


def _microseconds(call: Callable[[], Any]) -> float:
    """Of one call, the median over loops; the first loop is to warm up."""
    found = []
    for _ in range(LOOPS + 1):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        found.append(1e6 * (time.process_time() - start) / CALLS)
    return statistics.median(found[1:])


if __name__ == "__main__":
    sys.exit(common.finish(main))
