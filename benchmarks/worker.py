"""A process that times one side of a comparison, and waits for its turn.

Eager and static cannot live in one process, and each side wants its own environment. So each is
a process that stays alive, imports its library once, and times what it is asked to over a pipe;
the others sleep meanwhile. That lets ``throughput.py`` alternate the sides, so that noise of the
machine hits all alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common import BenchmarkError, child_environment, data_files, read_records

SIDES = ("eager", "static", "plain_eager", "plain_static", "torch")


class Worker:
    """The asking end.

    Args:
        side: one of :data:`SIDES`.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
    """

    def __init__(self, side: str, config: Path, overrides: Sequence[str]) -> None:
        self.side = side
        self._folder = tempfile.TemporaryDirectory(prefix=f"{side}-")
        self._errors = open(Path(self._folder.name) / "stderr.txt", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, __file__, side, str(config.resolve()), *overrides],
            cwd=self._folder.name,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Have something timed.

        Raises:
            BenchmarkError: the worker failed; gives the last line that it wrote to stderr.
        """
        answer = ""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines() or ["nothing on stderr"]
            raise BenchmarkError(f"the {self.side} side failed: {lines[-1]}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()


class _Tool:
    """Our tools' jobs, as they are, in this process.

    ``first`` counts all that the job does but its later epochs: building the network, reading,
    statistics, training, metrics, checkpoints.
    """

    def __init__(self, path: str, config: Path, overrides: Sequence[str]) -> None:
        from rec_runner.config import load_config
        from rec_runner.system.environment import prepare_environment

        self.path = path
        self._load = lambda *more: load_config(str(config), [*overrides, *more])
        settings = self._load()
        prepare_environment(settings.runner("thread_num"), settings.runner("train_batch_size"))
        from rec_runner.infer import infer
        from rec_runner.train import train

        self._jobs = {"train": train, "infer": infer}

    def train(self, epochs: int) -> dict[str, Any]:
        """Rows per second of the first epoch and of each later one."""
        config = self._load(f"runner.epochs={epochs}", "runner.model_save_path=model")
        start = time.perf_counter()
        self._jobs["train"](self.path, config)
        seconds = time.perf_counter() - start
        return _rates(Path("model") / "metrics.jsonl", "train", seconds)

    def infer(self, cache_dir: str | None = None) -> dict[str, Any]:
        """Rows per second of the first checkpoint and of each later one, of the last training."""
        asked = ["runner.infer_load_path=model", "runner.infer_start_epoch=0"]
        config = self._load(*asked, f"runner.cache_dir={cache_dir or 'null'}")
        self._jobs["infer"](self.path, config)
        return _rates(Path("model") / "infer_metrics.jsonl", "infer", None)


def _rates(file: Path, phase: str, seconds: float | None) -> dict[str, Any]:
    records = [record for record in read_records(file) if record["phase"] == phase]
    first, *later = records
    lasted = [record["rows"] / record["rows_per_second"] for record in records]
    whole = lasted[0] if seconds is None else seconds - sum(lasted[1:])
    return {
        "first": first["rows"] / whole,
        "epochs": [record["rows_per_second"] for record in records],
        "steady": [record["rows_per_second"] for record in later],
    }


class _Plain:
    """The plain path; it reads text in every epoch, so one rate says all."""

    def __init__(self, path: str, config: Path, overrides: Sequence[str]) -> None:
        from plain_path import PlainDataset, PlainEager, PlainStatic

        from hyper_parameters import HyperParameters
        from rec_runner.config import load_config
        from rec_runner.contract.model_dir import ModelDir

        # A network that starts from loaded weights does not read all rows for its statistics first.
        self.config = load_config(str(config), [*overrides, "runner.model_init_path=none"])
        model_dir = ModelDir(self.config.model_dir)
        if path == "eager":
            model = model_dir.load("dygraph_model", "DygraphModel")()
            self.trained = self.scored = PlainEager(self.config, model)
        else:
            model = model_dir.load("static_model", "StaticModel")
            self.trained = PlainStatic(self.config, model(self.config), training=True)
            self.scored = PlainStatic(self.config, model(self.config), training=False)
        columns = HyperParameters.from_config(self.config).label_columns
        self._dataset = lambda folder, rows: PlainDataset(data_files(Path(folder)), columns, rows)

    def train(self, rows: int) -> dict[str, Any]:
        """Rows per second over the first ``rows`` rows."""
        batch, interval = self._sizes("train")
        dataset = self._dataset(self.config["runner.train_data_dir"], rows)
        return {"rate": rows // batch * batch / self.trained.train(dataset, batch, interval)}

    def infer(self, rows: int, batch: int) -> dict[str, Any]:
        """As :meth:`train`, for inference with a batch size of its own."""
        interval = self._sizes("infer")[1]
        dataset = self._dataset(self.config["runner.test_data_dir"], rows)
        return {"rate": rows // batch * batch / self.scored.score(dataset, batch, interval)}

    def _sizes(self, phase: str) -> tuple[int, int]:
        return self.config.required(f"{phase}_batch_size"), self.config.required("print_interval")


class _Torch:
    """PyTorch with preloaded rows; the better of one thread and two."""

    def __init__(self, _: str, config: Path, overrides: Sequence[str]) -> None:
        import numpy as np
        from torch_path import TorchLoop

        from csv_blocks import Layout, read_blocks
        from hyper_parameters import HyperParameters
        from rec_runner.config import load_config

        self.config = load_config(str(config), overrides)
        settings = HyperParameters.from_config(self.config)
        layout = Layout(settings.feature_size, settings.label_columns)
        files = data_files(Path(self.config["runner.train_data_dir"]))
        blocks = list(read_blocks(files, layout))
        self.loop = TorchLoop(
            np.concatenate([block.features for block in blocks]),
            np.concatenate([block.labels for block in blocks]),
            settings.bottom_size[0],
            settings.tower_size[0],
        )
        self.rows = sum(len(block.labels) for block in blocks)

    def train(self, rows: int) -> dict[str, Any]:
        """Rows per second over the first ``rows`` rows."""
        return self._better(self.loop.train, self.config.required("train_batch_size"), rows)

    def infer(self, rows: int) -> dict[str, Any]:
        """As :meth:`train`, for inference."""
        return self._better(self.loop.score, self.config.required("infer_batch_size"), rows)

    def _better(self, timed: Any, batch: int, rows: int) -> dict[str, Any]:
        rows = min(rows, self.rows)
        rates = {threads: rows / timed(batch, threads, rows) for threads in (1, 2)}
        threads = max(rates, key=rates.get)
        return {"rate": rates[threads], "threads": threads}


def serve(side: str, config: Path, overrides: Sequence[str]) -> None:
    """The answering end: a request a line on stdin, an answer a line on stdout."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # log lines cost what they cost, but are not kept
    kinds: Mapping[str, Any] = {"plain": _Plain, "torch": _Torch}
    kind = kinds.get(side.partition("_")[0], _Tool)
    timed = kind(side.rpartition("_")[2], config, overrides)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(timed, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
