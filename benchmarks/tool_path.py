"""Our tools' jobs, as they are: the sides eager and static."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import read_records

from rec_runner.config import Config, load_config
from rec_runner.system.environment import prepare_environment


class Side:
    """The jobs in this process.

    Args:
        name: ``eager`` or ``static``.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
    """

    def __init__(self, name: str, config: Path, overrides: Sequence[str]) -> None:
        self.graph = "static" if name == "static" else "dygraph"
        self.config = str(config)
        self.overrides = overrides
        settings = self._load()
        prepare_environment(settings.runner("thread_num"), settings.runner("train_batch_size"))

    def train(self, plain_rows: int = 0) -> dict[str, float]:
        """Rows per second: ``first`` counts all that the job does but its later epochs."""
        from rec_runner.train import train

        start = time.perf_counter()
        train(self.graph, self._load("runner.model_save_path=model"))
        return _rates("train", Path("model/metrics.jsonl"), time.perf_counter() - start)

    def infer(self, plain_rows: int = 0) -> dict[str, float]:
        """Rows per second of scoring a training's checkpoints, by where the rows lie."""
        from rec_runner.infer import infer

        if not Path("model").exists():
            self.train()
        found = []
        for cache in ("null", "rows"):  # the first turn, to warm up, fills the folder
            asked = ["runner.infer_load_path=model", "runner.infer_start_epoch=0"]
            infer(self.graph, self._load(*asked, f"runner.cache_dir={cache}"))
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
        from rec_runner.loop.finite import FiniteTraining
        from rec_runner.loop.loop import Training
        from rec_runner.system.signals import StopSignal
        from rec_runner.train import TrainJob

        config = self._load("runner.model_save_path=model")
        job = TrainJob(self.graph, config)
        with (
            _clock(Training, "run") as loop,
            _clock(Training, "_save") as saves,
            _clock(FiniteTraining, "train") as checked,
            _clock(job.engine, "train") as unchecked,
        ):
            job.run({}, StopSignal())
        inside = sum(saves) + sum(checked) - sum(unchecked)
        save_ms = [1e3 * seconds for seconds in saves]
        return {"loop_seconds": sum(loop), "inside_seconds": inside, "save_ms": save_ms}

    def _load(self, *more: str) -> Config:
        return load_config(self.config, [*self.overrides, *more])


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
def _clock(owner: Any, name: str) -> Iterator[list[float]]:
    """Seconds of every call of a function, which stays what it is."""
    seconds: list[float] = []
    function = getattr(owner, name)

    def clocked(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - start)

    with patch.object(owner, name, clocked):
        yield seconds
