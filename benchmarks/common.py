"""What the benchmarks share: rows to run on, tools as processes, spread, tables, results."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, Callable, NamedTuple, TypeVar

from machine import machine, show_machine

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
PATHS = ("eager", "static")
Item = TypeVar("Item")


class BenchmarkError(Exception):
    """What stopped a benchmark, in one sentence.

    Attributes:
        status: with which the benchmark's process ends.
    """

    status = 1


class Data(NamedTuple):
    """Folders of encoded rows.

    Attributes:
        train: training rows.
        valid: validation rows; if there is no such folder, a tenth of the training rows.
        test: test rows.
        label: what the rows are, without a path of this machine.
    """

    train: Path
    valid: Path
    test: Path
    label: str

    def overrides(self) -> list[str]:
        """``key=value`` of the tools' ``-o`` for these folders."""
        pairs = [f"runner.train_data_dir={self.train}", f"runner.test_data_dir={self.test}"]
        if self.valid.is_dir():
            return [*pairs, f"runner.valid_data_dir={self.valid}"]
        return [*pairs, "runner.valid_data_dir=null", "runner.valid_share=0.1"]


def find_data(root: Path | None) -> Data:
    """The rows to run on.

    Args:
        root: folder with ``train_all``, ``test_all`` and perhaps ``valid_all``, or its
            ``train_all``; by default ``datasets/census``, and where that is not prepared the
            sample in ``data``.

    Raises:
        BenchmarkError: the folder lacks one of them.
    """
    census, names = ROOT / "datasets" / "census", ("train_all", "valid_all", "test_all")
    if root is not None:
        root = root.resolve()
        root = root.parent if root.name == "train_all" else root
        label = f"rows of {root.name}"
    elif (census / "train_all").is_dir():
        root, label = census, "rows of UCI's Census-Income"
    else:
        root, names, label = ROOT / "data", ("train", "valid", "test"), "the synthetic sample"
    folders = [root / name for name in names]
    for folder in (folders[0], folders[2]):
        if not folder.is_dir():
            raise BenchmarkError(f"{folder} is not a folder of encoded rows")
    uses = zip(folders, ("train on", "validate on", "test on"))
    counts = [f"{count_rows(folder):,} to {use}" for folder, use in uses if folder.is_dir()]
    return Data(*folders, f"{label}: {', '.join(counts)}")


def data_files(folder: Path) -> list[Path]:
    """Files of a folder that the tools would read, in their order."""
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def count_rows(folder: Path) -> int:
    """Lines of all files of a folder."""
    rows = 0
    for file in data_files(folder):
        with open(file, "rb") as lines:
            rows += sum(1 for _ in lines)
    return rows


def read_rows(config: Any, key: str) -> tuple[Any, Any]:
    """All rows of a folder, for a side that wants them in memory.

    Args:
        config: a loaded config.
        key: its key of the folder.

    Returns:
        float32 features ``[n, F]`` and labels ``[n, T]``.
    """
    import numpy as np

    from csv_blocks import Layout, read_blocks
    from hyper_parameters import HyperParameters

    settings = HyperParameters.from_config(config)
    layout = Layout(settings.feature_size, settings.label_columns)
    blocks = read_blocks(data_files(config.model_dir / config.required(key)), layout)
    features, labels, _ = zip(*blocks)
    return np.concatenate(features), np.concatenate(labels)


def standardised(features: Any, train: Any) -> Any:
    """Features, float64, their columns standardised where the training rows' are not 0 and 1."""
    numeric = ((train != 0) & (train != 1)).any(axis=0)
    deviation = train.std(axis=0, dtype="float64")
    deviation[~numeric | (deviation == 0)] = 1.0
    return (features - numeric * train.mean(axis=0, dtype="float64")) / deviation


class Ended(NamedTuple):
    """How a process ended: wall seconds with its start-up, peak memory, seconds of processors."""

    seconds: float
    peak_mb: float
    cpu_seconds: float = 0.0


def run_tool(
    tool: str, config: Path, overrides: Sequence[str], cwd: Path, tools: Path = TOOLS
) -> Ended:
    """Run ``<tool>.py`` of a folder of tools in a working directory of its own.

    Raises:
        BenchmarkError: see :func:`run_python`.
    """
    return run_python([str(tools / f"{tool}.py"), "-m", str(config), "-o", *overrides], cwd)


def run_python(arguments: Sequence[str], cwd: Path, stdin: int | None = None) -> Ended:
    """Run Python in a working directory, with its standard input from a descriptor if one is given.

    Its peak memory is its own: Linux counts from the parent's peak, which is why the benchmarks'
    main processes import nothing large before.

    Raises:
        BenchmarkError: it failed; gives the last line that it wrote to stderr.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        command = [sys.executable, *arguments]
        with Popen(command, cwd=cwd, stdin=stdin, stdout=DEVNULL, stderr=errors) as process:
            try:
                _, status, usage = os.wait4(process.pid, 0)
            finally:
                process.kill()  # where waiting was broken off
        seconds = time.perf_counter() - start
        if status:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or ["nothing on stderr"]
            code = os.waitstatus_to_exitcode(status)
            raise BenchmarkError(f"{Path(arguments[0]).name} ended with {code}: {lines[-1]}")
    kilobyte = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * kilobyte / 2**20
    return Ended(seconds, peak, usage.ru_utime + usage.ru_stime)


def read_records(file: Path) -> list[dict[str, Any]]:
    """Records of a ``metrics.jsonl`` file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def to_and_fro(items: Iterable[Item], turn: int) -> list[Item]:
    """The items of a turn: in every second one the last comes first, so none gains by its place."""
    items = list(items)
    return items[::-1] if turn % 2 else items


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median, least and greatest of repeated measurements, and the measurements."""
    values = list(values)
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def show_spread(found: Mapping[str, Any] | None, digits: int = 2) -> str:
    """``median (min–max)``; a single value stands alone."""
    if found is None:
        return "–"
    median, least, most = (f"{found[name]:,.{digits}f}" for name in ("median", "min", "max"))
    return median if len(found["values"]) == 1 else f"{median} ({least}–{most})"


def mean_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample; the latter is NaN for a single value."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return statistics.fmean(values), deviation


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    text = ""
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        text += f"| {' | '.join(cells)} |\n"
    return text


def write_text(file: Path | None, text: str) -> None:
    """Write a file whole or not at all; None writes nothing."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, file)


def write_json(file: Path | None, content: Any) -> None:
    """Write JSON for people and programs; None writes nothing."""
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def publish(
    options: argparse.Namespace,
    results: Mapping[str, Any],
    report: Callable[[Any], str],
    draw: Callable[[Any, Any], None] | None = None,
) -> None:
    """Print the results of a benchmark and write what its options ask for.

    Args:
        options: of a parser of :func:`arguments`.
        results: what was measured; the machine is added.
        report: makes Markdown of the results.
        draw: draws them on a matplotlib figure.
    """
    results = {"machine": machine(), **results}
    print(f"{report(results)}\nMachine: {show_machine(results['machine'])}.")
    write_json(options.json, results)
    if draw is not None and options.png is not None:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        draw(results, figure)
        options.png.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(options.png, dpi=120)


def say(message: str) -> None:
    """A line of progress on stderr."""
    print(message, file=sys.stderr, flush=True)


def arguments(doc: str, repeats: int | None = None) -> argparse.ArgumentParser:
    """The parser of a benchmark, with the options that several have.

    Args:
        doc: the script's docstring.
        repeats: turns by default, for one that measures in turns and draws a chart.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures")
    if repeats:
        add_number(parser, "--repeats", repeats, "turns of everything")
        parser.add_argument("--quick", action="store_true", help="one turn, few rows")
        parser.add_argument("--png", type=_chart, metavar="FILE", help="a chart (needs matplotlib)")
    return parser


def _chart(text: str) -> Path:
    """Type of the option for a chart: better refused now than after hours of turns."""
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("a chart needs matplotlib, which is not installed")
    return Path(text)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which rows to run on."""
    text = "folder of train_all, valid_all and test_all (datasets/census, else the sample)"
    parser.add_argument("--data", "--data-root", type=Path, metavar="DIR", help=text)


def add_number(parser: argparse.ArgumentParser, option: str, default: int, meaning: str) -> None:
    """Add an option that takes a whole number of at least 1."""
    parser.add_argument(option, type=positive, default=default, help=f"{meaning} ({default})")


def positive(text: str) -> int:
    """Type of an argparse option that takes a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"should be a whole number of at least 1, got {text}")
    return int(text)


def add_names(parser: argparse.ArgumentParser, option: str, known: Collection[str]) -> None:
    """Add an option that takes some of these names, with commas between them; all by default."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return found

    parser.add_argument(option, type=names, default=list(known), help=f"some of {','.join(known)}")


def finish(main: Callable[[], None]) -> int:
    """Run a benchmark's main function; its exit status, errors as one sentence."""
    # Temporary folders, workers and worktrees go then too.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda signum, frame: sys.exit(128 + signum))
    try:
        main()
    except KeyboardInterrupt:
        return 130
    except (BenchmarkError, ModuleNotFoundError) as error:  # such as matplotlib
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "status", 1)
    return 0
