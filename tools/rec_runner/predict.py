"""The job of ``tools/predict.py``: rows in, a line of predictions out for each, in their order."""

from __future__ import annotations

import csv
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.cli import Parser, before_paddle, plain_warnings, show_any_text, tell
from rec_runner.config import Config, load_config
from rec_runner.contract.guard import told
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.inputs import find_inputs
from rec_runner.rows_out.flow import Flow, Model
from rec_runner.rows_out.target import (
    FORMATS,
    Write,
    check_target,
    format_of,
    make_encoder,
    opened,
    own_stdout,
)
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn
from rec_runner.system.signals import RaisedSignals

HOME = Path(__file__).resolve().parents[2]  # the folder that tools/ lies in
READER = "prediction_rows"  # the package of a model directory that reads rows without labels
BATCH = 4096  # rows, where the config says nothing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        arguments: command line; by default the process's own.

    Returns:
        exit status: 0 when all rows were written, or those that whoever reads them wanted; 2 for
        bad input, 1 for other failures, 130 or 143 after SIGINT or SIGTERM.
    """
    show_any_text()
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    on_screen = options.out is None and _is_terminal(sys.stdout)
    if on_screen and options.format == "parquet":
        parser.error("--format parquet: a terminal cannot show it, --out names a file")
    shown = not (options.quiet or on_screen) and _is_terminal(sys.stderr)
    try:
        with RaisedSignals() as signals, own_stdout() as write:
            return _main(options, signals, write, shown)
    except KeyboardInterrupt as stop:
        print(f"error: {str(stop) or 'interrupted'}", file=sys.stderr)
        return getattr(stop, "exit_status", 130)


def _main(options: Namespace, signals: RaisedSignals, write: Write, shown: bool) -> int:
    try:
        _predict(options, signals, write, shown)
    except BrokenPipeError:
        pass  # whoever reads the rows has had enough of them, head for instance: nothing failed
    except Exception as error:
        signals.check(error)
        if options.debug:
            raise
        return tell(error)
    return 0


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _parser() -> Parser:
    parser = Parser(
        description="Predict rows: a line for each comes out, in their order. Rows are text (CSV, "
        "plain or gzip), Parquet or JSON lines, with the columns that the model was trained on; "
        "labels may be there or not.",
    )
    add = parser.add_argument
    add(
        "files", nargs="*", metavar="FILES", help="rows: files, folders, patterns; - or none: stdin"
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("-m", "--config", metavar="CONFIG.yaml", help="the config of a checkpoint")
    model.add_argument("--model", metavar="DIR", help="what tools/export.py wrote")
    add("--epoch", metavar="N", help="with -m: whose checkpoint, or best, or last; as infer does")
    add("--graph", choices=("dygraph", "static"), help="with -m: what computes (dygraph)")
    add("--runtime", choices=("auto", "onnx", "paddle"), help="with --model: what computes (auto)")
    add(
        "--out",
        metavar="FILE",
        help="write to it: .csv, .jsonl, .ndjson, these perhaps .gz, .parquet",
    )
    add("--format", choices=FORMATS, help="what to write, where no name tells (csv)")
    add("--keep", action="append", default=[], metavar="A,B", help="columns to hand on")
    add("--prefix", default="", metavar="TEXT", help="put it before the tasks' names in the output")
    add(
        "--bad-rows",
        choices=("stop", "keep"),
        default="stop",
        help="end at a row that cannot be used, or leave its predictions empty (stop)",
    )
    add("--batch", type=int, metavar="N", help="rows that are computed at once")
    add("--quiet", action="store_true", help="no progress, and no last line on stderr")
    add(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with -m: set a config value; more of them may follow",
    )
    add("--debug", action="store_true", help="show the full traceback of any error")
    return parser


def _predict(options: Namespace, signals: RaisedSignals, write: Write, shown: bool) -> None:
    """Predict the rows that a command line names."""
    files = _check(options)
    kind, compressed = format_of(options.out, options.format)
    inputs = find_inputs(files)
    if options.out is not None:
        check_target(options.out, [one.path for one in inputs if one.path])
    if any(one.path is None for one in inputs) and _is_terminal(sys.stdin):
        warn("rows are read from the terminal; -h explains how to name files")
    keep = _kept(options.keep)
    config = load_config(options.config, options.override) if options.config else Config()
    with plain_warnings(config.model_dir if options.config else HOME):
        model = (_of_checkpoint if options.config else _of_export)(options, config, signals)
        tasks = [options.prefix + name for name in model.tasks]
        both = next((name for name in keep if name in tasks), None)
        if both is not None:
            raise UserError(
                f"--keep {both}: a task has this name too; --prefix predicted_ names the tasks' "
                "columns otherwise"
            )
        encoder = make_encoder(kind, compressed, keep, tasks)
        flow, start = Flow(model, keep, options.bad_rows == "keep"), time.perf_counter()
        with nullcontext(write) if options.out is None else opened(options.out) as to_target:
            flow.through(inputs, encoder, to_target, shown)
        seconds = time.perf_counter() - start
    flow.tell_bad()
    if not options.quiet:
        said = f"{flow.rows:,} rows in {seconds:.1f} s ({flow.rows / seconds:,.0f} rows/s)"
        print(f"predicted {said} with {model.name}", file=sys.stderr)


def _check(options: Namespace) -> list[str]:
    """The names of the files, apart from overrides that follow the first.

    Raises:
        UserError: options do not go together.
    """
    sections = ("runner", "hyper_parameters", "workspace")
    more = [f for f in options.files if "=" in f and f.split("=")[0].split(".")[0] in sections]
    if options.override:
        options.override += more
        options.files = [file for file in options.files if file not in more]
    road, other = ("-m", "--model") if options.config else ("--model", "-m")
    of_other = ("runtime",) if options.config else ("epoch", "graph", "override")
    for name in of_other:
        if getattr(options, name):
            option = "-o" if name == "override" else f"--{name}"
            raise UserError(f"{option} goes with {other}, not with {road}")
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch {options.batch}: at least 1 is expected")
    return options.files


def _kept(given: Sequence[str]) -> tuple[str, ...]:
    """Columns to hand on, each once: names with commas between them, quoted where they have some.

    Raises:
        UserError: one is empty, or has a line end without quotes around it.
    """
    try:
        lines = [*csv.reader(given, skipinitialspace=True)]
    except csv.Error as error:
        raise UserError(f"--keep {','.join(given)}: {error}") from error
    names = [name.strip() for line in lines for name in line]
    if "" in names:
        raise UserError(f"--keep {','.join(given)}: the name of a column is empty")
    return tuple(dict.fromkeys(names))


def _of_checkpoint(options: Namespace, config: Config, signals: RaisedSignals) -> Model:
    """The model of a checkpoint."""
    if not (config.model_dir / READER / "open.py").is_file():
        raise UserError(
            f"model directory {config.model_dir} has no {READER}/open.py, which reads rows without "
            "labels: these tools predict test rows of it with tools/infer.py, "
            "runner.save_predictions=true"
        )
    if config.runner("thread_num") is None:
        config["runner.thread_num"] = 1  # reading and writing, in their threads, want the others
    with before_paddle(config, "infer", signals):
        from rec_runner.build import open_checkpoint
    engine, folder = open_checkpoint(options.graph or "dygraph", config, options.epoch)
    columns_of = engine.model_dir.load_function(f"{READER}.open", "columns_of")
    with told(columns_of):
        columns = columns_of(config)
    size = options.batch or config.batch_size("infer") or BATCH
    reader, make_source = _reader(engine.model_dir, columns)
    names = engine.metrics.task_names
    return Model(str(folder), names, reader, make_source, lambda f: engine.predict(f, size))


def _of_export(options: Namespace, config: Config, signals: RaisedSignals) -> Model:
    """The model of an export."""
    with before_paddle(config, "infer", signals):
        from rec_runner.exported.open import open_export
    folder = Path(options.model)
    exported = open_export(folder, options.runtime or "auto")
    manifest = exported.manifest
    if manifest.columns is None:
        raise UserError(
            f"export {folder} does not say what its columns are: its model directory has no "
            f"{READER}/open.py, and rows for it need that directory's own reader"
        )
    reader, make_source = _reader(ModelDir(HOME), manifest.columns)
    if reader.feature_size != manifest.feature_size:
        raise UserError(
            f"export {folder}: its columns make {reader.feature_size} features of a row, its model "
            f"takes {manifest.feature_size}"
        )
    size = options.batch or BATCH

    def predict(features: np.ndarray) -> np.ndarray:
        starts = range(0, max(len(features), 1), size)
        return np.concatenate([exported.predict(features[i : i + size]) for i in starts])

    return Model(str(folder), manifest.task_names, reader, make_source, predict)


def _reader(model_dir: ModelDir, columns: Any) -> tuple[Any, Any]:
    """The reader of rows with these columns, and what it reads from."""
    open_rows = model_dir.load_function(f"{READER}.open", "open_rows")
    make_source = model_dir.load_function(f"{READER}.rows", "Source")
    with told(open_rows):
        return open_rows(columns), make_source
