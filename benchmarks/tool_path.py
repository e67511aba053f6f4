"""Our tools' jobs, as they are: the sides eager and static."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, Callable
from unittest.mock import patch

from common import BenchmarkError, read_records, run_tool


class Side:
    """The jobs in this process, each by the command line of its tool.

    The first one that a process does chooses threads for the others, as the environment that
    Paddle reads is set then: a process should do but one kind of job.

    Args:
        name: ``eager`` or ``static``; ``old_eager`` or ``old_static`` of another commit's tools.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
    """

    def __init__(self, name: str, config: Path, overrides: Sequence[str]) -> None:
        self.graph = "static" if name.endswith("static") else "dygraph"
        self.config = config
        self.overrides = overrides

    def train(self, plain_rows: int = 0) -> dict[str, float]:
        """Rows per second: ``first`` counts all that the job does but its later epochs."""
        start = time.perf_counter()
        self._run("train", "runner.model_save_path=model")
        return _rates("train", Path("model/metrics.jsonl"), time.perf_counter() - start)

    def infer(self, plain_rows: int = 0) -> dict[str, float]:
        """Rows per second of scoring a training's checkpoints, by where the rows lie."""
        if not Path("model").exists():
            self._train_apart()
        found = []
        for cache in ("null", "rows"):  # the first turn, to warm up, fills the folder
            asked = ["runner.infer_load_path=model", "runner.infer_start_epoch=0"]
            self._run("infer", *asked, f"runner.cache_dir={cache}")
            found.append(_rates("infer", Path("model/infer_metrics.jsonl")))
        text, disk = found
        rates = {"memory": text["steady"], "disk": disk["first"]}
        return {**rates, "text": text["first"], "same": text["first"]}

    def clock_saving(self) -> dict[str, Any]:
        """Train, with a clock around the loop, around saving and around checking.

        Returns:
            ``loop_seconds``; ``inside_seconds``, those of it that saved or checked; ``save_ms``,
            of every checkpoint, the check of its weights included.
        """
        # Paddle has to be imported by a tool, for that sets its environment.
        self._run("train", "runner.model_save_path=warm", "runner.epochs=1")
        from rec_runner.engine.dygraph.blocks import BlockDygraphEngine
        from rec_runner.engine.static.blocks import BlockStaticEngine
        from rec_runner.loop.finite import FiniteTraining
        from rec_runner.loop.loop import Training

        engine = BlockStaticEngine if self.graph == "static" else BlockDygraphEngine
        with (
            clock(Training, "run") as loop,
            clock(Training, "_save") as saves,
            clock(FiniteTraining, "train") as checked,
            clock(engine, "train") as unchecked,
        ):
            self._run("train", "runner.model_save_path=model")
        inside = sum(saves) + sum(checked) - sum(unchecked)
        save_ms = [1e3 * seconds for seconds in saves]
        return {"loop_seconds": sum(loop), "inside_seconds": inside, "save_ms": save_ms}

    def load(self) -> Any:
        """The config."""
        from rec_runner.config import load_config

        return load_config(str(self.config), self.overrides)

    def _run(self, command: str, *more: str) -> None:
        """Run the command line of a tool in this process.

        Raises:
            BenchmarkError: it failed; gives what the tool said last.
        """
        from rec_runner.cli import main

        said = StringIO()
        with redirect_stderr(said):
            asked = ["-m", str(self.config), "-o", *self.overrides, *more]
            status = main(command, self.graph, asked)
        if status:
            lines = said.getvalue().strip().splitlines() or [f"{command} ended with {status}"]
            raise BenchmarkError(lines[-1].removeprefix("error: "))

    def _train_apart(self) -> None:
        """Train the model to score in another process, whose threads suit training."""
        import rec_runner

        tool = "static_trainer" if self.graph == "static" else "trainer"
        asked = [*self.overrides, "runner.model_save_path=model"]
        tools = Path(rec_runner.__file__).parents[1]
        run_tool(tool, self.config, asked, Path.cwd(), tools)


def _rates(phase: str, file: Path, seconds: float | None = None) -> dict[str, float]:
    """Of the first epoch, and the median of the later ones; of a single epoch its own.

    Args:
        phase: which records of the file count.
        file: what the job wrote.
        seconds: of the job, if what it does besides is counted as the first epoch's.
    """
    records = [record for record in read_records(file) if record["phase"] == phase]
    rates = [record["rows_per_second"] for record in records]
    lasted = [record["rows"] / rate for record, rate in zip(records, rates)]
    first = lasted[0] if seconds is None else seconds - sum(lasted[1:])
    return {"first": records[0]["rows"] / first, "steady": statistics.median(rates[1:] or rates)}


@contextmanager
def clock(
    owner: Any, name: str, now: Callable[[], float] = time.perf_counter
) -> Iterator[list[float]]:
    """Seconds of every call of a function, which stays what it is."""
    seconds: list[float] = []
    function = getattr(owner, name)

    def clocked(*arguments: Any, **named: Any) -> Any:
        start = now()
        try:
            return function(*arguments, **named)
        finally:
            seconds.append(now() - start)

    with patch.object(owner, name, clocked):
        yield seconds
