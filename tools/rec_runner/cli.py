"""Command line of the trainers and infer tools; what the other tools take of it."""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, NoReturn

from rec_runner.config import Config, load_config
from rec_runner.contract.guard import describe
from rec_runner.system.denormals import flush_denormals
from rec_runner.system.environment import prepare_environment
from rec_runner.system.log import warn
from rec_runner.system.signals import RaisedSignals

# What each job does; its name is a phase of keys.py too.
JOBS = {
    "train": "Train the model of a config's folder and save a checkpoint after each epoch.",
    "infer": "Score the test rows with saved checkpoints and print the metrics.",
    "export": "Write a checkpoint as a folder that predicts without this repository: a Paddle "
    "inference model, an ONNX model, and model.json, which says what they take and give.",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one sentence."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(2, f"error: {message}; -h explains\n")


def main(command: str, graph: str, arguments: Sequence[str] | None = None) -> int:
    """Run a tool.

    Args:
        command: one of :data:`JOBS`.
        graph: ``dygraph`` or ``static``; empty for a tool that takes either.
        arguments: command line; by default the process's own.

    Returns:
        exit status: 0 when the work was done, 2 for bad input, 1 for other failures, 130 or 143
        after SIGINT or SIGTERM.
    """
    show_any_text()
    try:
        with RaisedSignals() as signals:
            return _main(command, graph, arguments, signals)
    except KeyboardInterrupt as stop:
        sys.stdout.flush()
        print(f"error: {str(stop) or 'interrupted'}", file=sys.stderr)
        return getattr(stop, "exit_status", 130)


def show_any_text() -> None:
    """Have the process print characters that its terminal lacks as escapes, not end at them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _main(command: str, graph: str, arguments: Sequence[str] | None, signals: RaisedSignals) -> int:
    options = _parser(command, graph).parse_args(arguments)
    try:
        config = load_config(options.config, options.override)
        with plain_warnings(config.model_dir):
            _run(command, graph, config, options, signals)
    except Exception as error:
        signals.check(error)
        if options.debug:
            raise
        return tell(error)
    return 0


def tell(error: Exception) -> int:
    """Say on stderr, in one sentence, how a tool's work failed.

    Returns:
        exit status.
    """
    sys.stdout.flush()
    if getattr(error, "user_error", False):
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    if isinstance(error, OSError):
        print(f"error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    said = describe(error, Path(__file__).parent)
    if isinstance(error, MemoryError):
        print(f"error: there is not enough memory: {said}", file=sys.stderr)
        return 1
    print(f"internal error: {said}; --debug shows the traceback", file=sys.stderr)
    return 1


@contextmanager
def plain_warnings(folder: Path) -> Iterator[None]:
    """Show what a model directory's code warns of as one ``warning:`` line each, once.

    Args:
        folder: the model directory. Warnings from elsewhere are shown as ever.
    """
    told: set[str] = set()
    show = warnings.showwarning

    def shown(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any
    ) -> None:
        file = Path(filename)
        # The folder may hold a virtual environment too.
        own = file.is_relative_to(folder) and "site-packages" not in file.parts
        if not (own and issubclass(category, UserWarning)):
            show(message, category, filename, *rest, **named)
            return
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            warn(text)

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = show


def _parser(command: str, graph: str) -> argparse.ArgumentParser:
    names = {"dygraph": " Graph: eager (dygraph).", "static": " Graph: static.", "": ""}
    parser = Parser(description=JOBS[command] + names[graph])
    parser.add_argument(
        "-m",
        "--config",
        required=True,
        metavar="CONFIG.yaml",
        help="the config; its folder is the model directory",
    )
    parser.add_argument(
        "-o",
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="set a config value, for example -o runner.epochs=1 runner.use_gpu=true",
    )
    parser.add_argument("--debug", action="store_true", help="show the full traceback of any error")
    if command == "export":
        _add_export_options(parser)
    return parser


def _add_export_options(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "--epoch",
        metavar="N",
        help="which checkpoint of runner.infer_load_path: the number of an epoch, best or last (as "
        "infer takes it: the one that the config names, else the best, else the last)",
    )
    add("--format", choices=("paddle", "onnx", "both"), help="what to write (both)")
    add("--out", metavar="DIR", help="the folder to write (export in runner.infer_load_path)")
    add(
        "--force",
        action="store_true",
        help="replace an export though it is damaged, or other files lie in its folder",
    )


def _run(
    command: str, graph: str, config: Config, options: argparse.Namespace, signals: RaisedSignals
) -> None:
    phase = "train" if command == "train" else "infer"
    with before_paddle(config, phase, signals):
        # Imported only now, Paddle reads its environment when it is imported; and only the job
        # that runs.
        job: Callable[[], None]
        if command == "train":
            from rec_runner.train import train

            job = partial(train, graph, config)
        elif command == "infer":
            from rec_runner.infer import infer

            job = partial(infer, graph, config)
        else:
            from rec_runner.export import export

            job = partial(export, config, options)
    job()


@contextmanager
def before_paddle(config: Config, phase: str, signals: RaisedSignals) -> Iterator[None]:
    """Context to import Paddle in, and what calls it: all is set that it reads when it comes."""
    prepare_environment(config.runner("thread_num"), config.batch_size(phase))
    with signals.waiting(), _uncollected():
        # Paddle 2.6 brings a zlib of its own, which breaks Python's unless that comes first.
        import zlib  # noqa: F401

        # Before Paddle starts its threads. NumPy, which comes with it, starts some too: where
        # signals do not wait, one of these would take a signal that comes while Paddle is imported.
        flush_denormals(config.runner("flush_denormals"))
        yield


@contextmanager
def _uncollected() -> Iterator[None]:
    """Spare the garbage collector the objects that are made inside, for good.

    Paddle's modules are 200,000 objects that live until the end. Python would look through them
    for garbage again and again as they come, then in each full collection, and on its way out: a
    fifth of what ``import paddle`` costs. Where Paddle is there already nothing is done.
    """
    if "paddle" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
