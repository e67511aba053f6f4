"""What the benchmarks share: rows to run on, tools as processes, spread, tables, JSON, machine."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
HERE = Path(__file__).resolve().parent
UCI_TRAIN_ROWS = 199_523
PACKAGES = ("paddlepaddle", "numpy", "pyarrow", "scikit-learn", "torch")


class BenchmarkError(Exception):
    """What stopped a benchmark, in one sentence."""


class Data(NamedTuple):
    """Folders of encoded rows.

    Attributes:
        train: training rows.
        valid: validation rows, or None: a tenth of the training rows then.
        test: test rows.
        label: what the rows are, without a path of this machine.
    """

    train: Path
    valid: Path | None
    test: Path
    label: str

    def overrides(self) -> list[str]:
        """``key=value`` of the tools' ``-o`` for these folders."""
        pairs = [f"runner.train_data_dir={self.train}", f"runner.test_data_dir={self.test}"]
        if self.valid is not None:
            return [*pairs, f"runner.valid_data_dir={self.valid}"]
        return [*pairs, "runner.valid_data_dir=null", "runner.valid_share=0.1"]


def find_data(root: Path | None, scratch: Path) -> Data:
    """The rows to run on.

    Args:
        root: folder with ``train_all``, ``test_all`` and perhaps ``valid_all``; None looks into
            ``datasets/census``, then encodes the raw rows of ``../shared/census``, and otherwise
            takes the sample in ``data``.
        scratch: folder for rows that have to be encoded first.

    Raises:
        BenchmarkError: ``root`` lacks a folder, or the rows could not be encoded.
    """
    prepared, shared = ROOT / "datasets" / "census", ROOT.parent / "shared" / "census"
    label = "a part of UCI's rows" if root is None else f"rows of {root.resolve().name}"
    if root is None and (prepared / "train_all").is_dir():
        root = prepared
    elif root is None and (shared / "census-income.data.gz").exists():
        script = prepared / "prepare.py"
        run([sys.executable, script, "--raw-dir", shared, "--out-dir", scratch])
        root, label = scratch, "a part of UCI's rows (shared/census)"
    if root is None:
        sample = ROOT / "data"
        train, valid, test = sample / "train", None, sample / "test"
        label = "the synthetic sample in data"
    else:
        root = root.resolve()
        train, test = root / "train_all", root / "test_all"
        valid = root / "valid_all" if (root / "valid_all").is_dir() else None
    for folder in (train, test):
        if not folder.is_dir():
            raise BenchmarkError(f"{folder} is not a folder of encoded rows")
    rows = count_rows(train)
    label = "all of UCI's rows" if rows == UCI_TRAIN_ROWS else label
    counts = [f"{rows:,} to train on"]
    counts += [f"{count_rows(valid):,} to validate on"] if valid else []
    counts += [f"{count_rows(test):,} to test on"]
    return Data(train, valid, test, f"{label}: {', '.join(counts)}")


def data_files(folder: Path) -> list[Path]:
    """Files of a folder that the tools would read, in their order."""
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def count_rows(folder: Path) -> int:
    """Lines of all files of a folder."""
    rows = 0
    for file in data_files(folder):
        with open(file, "rb") as stream:
            while piece := stream.read(1 << 22):
                rows += piece.count(b"\n")
    return rows


class Ended(NamedTuple):
    """How a process ended: wall seconds with its start-up, and its peak memory."""

    seconds: float
    peak_mb: float
    stdout: str


def child_environment() -> dict[str, str]:
    """This process's environment, the repository's modules importable."""
    paths = [str(TOOLS), str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run(command: Sequence[Any], cwd: Path | None = None) -> Ended:
    """Run a command to its end.

    Its peak memory is its own: Linux counts from the parent's peak, which is why the benchmarks'
    main processes import nothing large.

    Raises:
        BenchmarkError: it failed; gives the last line that it wrote to stderr.
    """
    command = [str(part) for part in command]
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            stdout, stderr, usage = _communicate(process)
        except BaseException:
            process.kill()
            raise
    seconds = time.perf_counter() - start
    if process.returncode:
        lines = stderr.strip().splitlines() or ["nothing on stderr"]
        name = " ".join(Path(part).name for part in command[1:4])
        raise BenchmarkError(f"{name} ended with {process.returncode}: {lines[-1]}")
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return Ended(seconds, usage.ru_maxrss * kilobyte / 2**20, stdout)


def _communicate(process: subprocess.Popen[str]) -> tuple[str, str, Any]:
    """Output of a process and, by ``wait4``, what it used."""
    texts: dict[str, str] = {}
    streams = {"out": process.stdout, "err": process.stderr}
    threads = [
        threading.Thread(target=lambda n=name, s=stream: texts.update({n: s.read()}), daemon=True)
        for name, stream in streams.items()
    ]
    for thread in threads:
        thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    for thread in threads:
        thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return texts["out"], texts["err"], usage


def run_tool(tool: str, config: Path, overrides: Sequence[str], cwd: Path) -> Ended:
    """Run ``tools/<tool>.py`` in a working directory of its own."""
    pairs = ["-o", *overrides] if overrides else []
    return run([sys.executable, "-u", TOOLS / f"{tool}.py", "-m", config, *pairs], cwd=cwd)


def read_records(file: Path) -> list[dict[str, Any]]:
    """Records of a ``metrics.jsonl`` file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median, least and greatest of repeated measurements, and the measurements."""
    values = list(values)
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def show_spread(found: Mapping[str, Any] | None, digits: int | None = None) -> str:
    """``median (min–max)``; by default with about three digits. A single value stands alone."""
    if found is None:
        return "–"
    if digits is None:
        size = abs(found["median"])
        digits = 0 if size >= 100 else 1 if size >= 10 else 2
    texts = [f"{found[name]:,.{digits}f}" for name in ("median", "min", "max")]
    if len(found["values"]) == 1:
        return texts[0]
    return f"{texts[0]} ({texts[1]}–{texts[2]})"


def mean_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample; the latter is NaN for a single value."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return statistics.fmean(values), deviation


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    rows = [columns, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(_aligned(cell, w, i) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    rule = "| " + " | ".join("-" * (w - (i > 0)) + ":" * (i > 0) for i, w in enumerate(widths))
    return "\n".join(f"{line} |" for line in [lines[0], rule, *lines[1:]]) + "\n"


def _aligned(cell: str, width: int, index: int) -> str:
    return cell.rjust(width) if index else cell.ljust(width)


def machine() -> dict[str, Any]:
    """Processor, cores and the versions that decide the figures."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"processor": model, "cores": os.cpu_count(), "versions": versions}


def show_machine(facts: Mapping[str, Any]) -> str:
    """:func:`machine` as a line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{facts['processor']}, {facts['cores']} cores; {versions}"


def write_aside(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, file)


def write_json(file: Path, content: Any) -> None:
    """Write JSON for people and programs."""
    write_aside(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def say(message: str) -> None:
    """A line of progress on stderr."""
    print(message, file=sys.stderr, flush=True)


def list_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Type of an argparse option that takes some of these names, with commas between them."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return found

    return names


def finish(main: Callable[[], None]) -> int:
    """Run a benchmark's main function; its exit status, errors as one sentence."""
    # Temporary folders and workers go on SIGTERM too.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        main()
    except KeyboardInterrupt:
        return 130
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
