"""The service as a process of its own, what it takes of the machine, and exports for it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import common

KEY = "a-key-of-the-benchmark"
CONFIG = common.ROOT / "config_raw.yaml"
_START = 60.0  # seconds, of a loaded machine


class Service:
    """A service that runs.

    Args:
        process: of the tool.
        log: where its output goes.
    """

    def __init__(self, process: Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        end = time.monotonic() + _START
        while not (found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", self.text())):
            if process.poll() is not None or time.monotonic() > end:
                lines = self.text().strip().splitlines() or ["nothing"]
                raise common.BenchmarkError(f"serve.py did not start: {lines[-1]}")
            time.sleep(0.02)
        self.port = int(found[1])

    def text(self) -> str:
        """All that it has written."""
        return self.log.read_text("utf-8", "replace")

    def stop(self) -> int:
        """End it as a supervisor does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def pids(self) -> list[int]:
        """Its process and those of its workers; Linux only."""
        own = self.process.pid
        with suppress(OSError):
            text = Path(f"/proc/{own}/task/{own}/children").read_text()
            return [own, *map(int, text.split())]
        return [own]

    def memory(self, peak: bool = False) -> float:
        """Megabytes in memory of all its processes, or the most that each has had."""
        name, total = "VmHWM:" if peak else "VmRSS:", 0.0
        for pid in self.pids():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(name):
                        total += int(line.split()[1]) / 1024
        return total

    def cpu(self) -> float:
        """Seconds of processors that it has taken."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(values[11]) + int(values[12])
        return ticks / float(os.sysconf("SC_CLK_TCK"))


@contextmanager
def serving(model: Path, scratch: Path, *arguments: object) -> Iterator[Service]:
    """A service of an export on a free port of this machine, killed at the end if it still runs.

    Args:
        model: the export.
        scratch: where its log goes.
        arguments: more of its command line.

    Raises:
        BenchmarkError: it does not start.
    """
    log = scratch / f"serve-{time.monotonic_ns()}.log"
    command = [sys.executable, str(common.TOOLS / "serve.py"), "--model", str(model)]
    command += ["--port", "0", *map(str, arguments)]
    environment = {**os.environ, "SERVE_API_KEY": KEY}
    with log.open("wb") as stream:
        process = Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        yield Service(process, log)
    finally:
        process.terminate()
        with suppress(Exception):
            process.wait(20)
        process.kill()
        process.wait()


def make_exports(scratch: Path) -> list[Path]:
    """Two exports of the bundled raw rows: of a model after one epoch and after two.

    Raises:
        BenchmarkError: a tool failed.
    """
    model = scratch / "checkpoint"
    paths = [f"runner.model_save_path={model}", f"runner.infer_load_path={model}"]
    common.run_tool("trainer", CONFIG, [*paths, "runner.epochs=2"], scratch)
    made = []
    for epoch in ("0", "1"):
        made.append(scratch / f"export_{epoch}")
        line = ["-m", str(CONFIG), "--epoch", epoch, "--out", str(made[-1]), "-o", *paths]
        common.run_python([str(common.TOOLS / "export.py"), *line], scratch)
    return made


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values is; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def milliseconds(values: Sequence[float]) -> dict[str, Any]:
    """How many seconds there are, and in milliseconds their median, 99th percentile and most."""
    return {
        "answers": len(values),
        "median_ms": quantile(values, 0.5) * 1000,
        "p99_ms": quantile(values, 0.99) * 1000,
        "most_ms": max(values, default=float("nan")) * 1000,
    }
