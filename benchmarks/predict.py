"""What predicting rows from standard input takes, beside scoring them with the infer tool.

    python benchmarks/predict.py [--rows 1000000] [--repeats 3] [--json results.json]

The rows are those of the bundled sample over and over, as numbers and as raw text; the models are
trained on it for an epoch, which is enough to time them. Each figure is that of a whole process,
its start-up included; in every turn all of them run, one after another.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import common

KINDS = {"numbers": ("config.yaml", "data"), "raw": ("config_raw.yaml", "data/raw")}
SIDES = ("infer", "static_infer", "checkpoint", "static checkpoint", "onnx", "paddle")


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__, repeats=3)
    common.add_number(parser, "--rows", 1_000_000, "rows to predict")
    common.add_names(parser, "--kinds", KINDS)
    common.add_names(parser, "--sides", SIDES)
    parser.add_argument(
        "--redirect",
        action="store_true",
        help="standard input is the file itself: no other process fills a pipe on the same cores",
    )
    options = parser.parse_args()
    if options.quick:
        options.rows, options.repeats = 20_000, 1
    found: dict[str, dict[str, list[common.Ended]]] = {}
    with tempfile.TemporaryDirectory(prefix="predict-") as scratch:
        for kind in options.kinds:
            folder = Path(scratch, kind)
            (folder / "rows").mkdir(parents=True)
            write_rows(kind, folder / "rows" / "rows.txt", options.rows)
            prepare(kind, folder, options.sides)
        for turn in range(options.repeats):
            for kind in options.kinds:
                for side in common.to_and_fro(options.sides, turn):
                    ended = run_side(kind, side, Path(scratch, kind), options.redirect)
                    found.setdefault(kind, {}).setdefault(side, []).append(ended)
                    rate = options.rows / ended.seconds
                    shown = (
                        f"{rate:,.0f} rows/s, {ended.cpu_seconds:.1f} s CPU, {ended.peak_mb:.0f} MB"
                    )
                    common.say(f"turn {turn + 1}, {kind}, {side}: {shown}")
    results = {
        "rows": options.rows,
        "stdin": "a file" if options.redirect else "a pipe",
        "kinds": {
            kind: {
                side: {
                    "seconds": common.spread(e.seconds for e in ends),
                    "cpu_seconds": common.spread(e.cpu_seconds for e in ends),
                    "peak_mb": common.spread(e.peak_mb for e in ends),
                }
                for side, ends in sides.items()
            }
            for kind, sides in found.items()
        },
    }
    common.publish(options, results, report)


def write_rows(kind: str, file: Path, rows: int) -> None:
    """Write so many rows of the sample, over and over."""
    import gzip

    (_, folder), lines = KINDS[kind], []
    for name in ("train", "test"):
        for source in common.data_files(common.ROOT / folder / name):
            data = source.read_bytes()
            data = gzip.decompress(data) if source.suffix == ".gz" else data
            lines += [line + b"\n" for line in data.splitlines()]
    with open(file, "wb") as stream:
        stream.writelines(itertools.islice(itertools.cycle(lines), rows))


def prepare(kind: str, folder: Path, sides: list[str]) -> None:
    """Train a model for an epoch, and export it where an export is to be timed."""
    config = common.ROOT / KINDS[kind][0]
    common.run_tool("trainer", config, [*_overrides(folder), "runner.epochs=1"], folder)
    if {"onnx", "paddle"} & set(sides):
        tool = str(common.TOOLS / "export.py")
        given = ["--out", str(folder / "export"), "-o", *_overrides(folder)]
        common.run_python([tool, "-m", str(config), *given], folder)


def _overrides(folder: Path) -> list[str]:
    names = ("model_save_path", "infer_load_path")
    return [
        *(f"runner.{name}={folder / 'model'}" for name in names),
        *(f"runner.infer_{name}_epoch=null" for name in ("start", "end")),
        "runner.infer_batch_size=4096",
    ]


def run_side(kind: str, side: str, folder: Path, redirect: bool) -> common.Ended:
    """Predict all rows in a process of its own."""
    config, rows = str(common.ROOT / KINDS[kind][0]), folder / "rows"
    if side.endswith("infer"):
        given = [*_overrides(folder), f"runner.test_data_dir={rows}"]
        return common.run_tool(side, Path(config), given, folder)
    if side.endswith("checkpoint"):
        graph = "static" if side.startswith("static") else "dygraph"
        model = ["-m", config, "--graph", graph, "-o", *_overrides(folder)]
    else:
        model = ["--model", str(folder / "export"), "--runtime", side]
    with (redirected if redirect else piped)(rows / "rows.txt") as stdin:
        return common.run_python([str(common.TOOLS / "predict.py"), *model], folder, stdin)


@contextmanager
def piped(file: Path) -> Iterator[int]:
    """Descriptor of a pipe that a file comes out of."""
    with Popen(["cat", str(file)], stdout=PIPE) as process:
        assert process.stdout
        yield process.stdout.fileno()


@contextmanager
def redirected(file: Path) -> Iterator[int]:
    """Descriptor of a file."""
    with open(file, "rb") as stream:
        yield stream.fileno()


def report(results: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    rows = []
    for kind, sides in results["kinds"].items():
        for side, figures in sides.items():
            name = f"{side}.py" if side.endswith("infer") else f"predict.py, {side}"
            rate = f"{results['rows'] / figures['seconds']['median']:,.0f}"
            shown = [common.show_spread(figures[each], 1) for each in ("seconds", "cpu_seconds")]
            rows.append(
                [f"{kind}: {name}", rate, *shown, common.show_spread(figures["peak_mb"], 0)]
            )
    head = f"{results['rows']:,} rows of the sample; predict.py reads {results['stdin']}.\n\n"
    return head + common.markdown_table(["", "rows/s", "seconds", "of processors", "peak MB"], rows)


if __name__ == "__main__":
    sys.exit(common.finish(main))
