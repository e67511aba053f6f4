"""The job of ``tools/schema.py``: from a person's own files to a schema and a ready config."""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import sys
import unicodedata
import zlib  # noqa: F401  # before Paddle 2.6, which brings one of its own
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rec_runner.cli import Parser, plain_warnings, show_any_text, tell
from rec_runner.contract.guard import check_returned, foreign
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.files import find_files
from rec_runner.system.environment import prepare_environment
from rec_runner.system.errors import UserError
from rec_runner.system.files import atomic_write, sync_file
from rec_runner.system.log import warn
from rec_runner.system.signals import Interrupted, RaisedSignals

TOOLS = Path(__file__).resolve().parents[1]
READER = "table_reader"
WIDEST = {0: 28, 2: 48}  # columns of the table on the screen
LEAST_LAST = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        arguments: command line; by default the process's own.

    Returns:
        exit status: 0 when schema and config were written, 2 for bad input, 1 for other failures.
    """
    show_any_text()
    options = _parser().parse_args(arguments)
    try:
        with RaisedSignals():
            describe(options)
    except Interrupted as stop:
        print(f"error: {stop}", file=sys.stderr)
        return stop.exit_status
    except Exception as error:
        if options.debug:
            raise
        return tell(error)
    return 0


def _parser() -> Parser:
    parser = Parser(
        description="Look through files of rows, show what each column is, and write a schema and "
        "a config that tools/trainer.py takes as they are. CSV with commas, semicolons, tabs or "
        "bars, with a header or without, plain or gzip, or Parquet. A column is named as the "
        "header does, or by its number, counted from 1.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILES", help="rows to train on: files, a folder or a pattern")
    add(
        "--label",
        action="append",
        default=[],
        metavar="COLUMN",
        help="what is to be predicted; again for each task. COLUMN=VALUE names the value that "
        "means yes, again for several; COLUMN:regression predicts a number",
    )
    add("--weight", metavar="COLUMN", help="how much each row counts")
    add("--group", metavar="COLUMN", help="whose rows are compared with each other, for GAUC")
    for option, what in (
        ("--ignore", "leave it out"),
        ("--category", "numbers that are codes: an input of its own for each value"),
        ("--id", "hash it and learn a vector for each value, however many there are"),
    ):
        add(option, action="append", default=[], metavar="COLUMN", help=what)
    add("--test", nargs="+", default=[], metavar="FILES", help="rows to test on (a tenth of FILES)")
    add("-o", "--out", metavar="CONFIG.yaml", help="the config to write (config_mine.yaml)")
    add("--schema", metavar="FILE", help="the schema to write (schema.yaml beside the config)")
    add("--force", action="store_true", help="write over files that are there")
    add("--delimiter", help="what parts the cells, where it cannot be told: ',' ';' '|' or tab")
    header = parser.add_mutually_exclusive_group()
    for option, value, what in (
        ("--header", True, "the first line names the columns, where that cannot be told"),
        ("--no-header", False, "the first line is a row"),
    ):
        header.add_argument(option, dest="header", action="store_const", const=value, help=what)
    add("--debug", action="store_true", help="show the full traceback of any error")
    return parser


def describe(options: Namespace) -> None:
    """Look through the files, show what was found, write schema and config.

    Raises:
        UserError: a file cannot be found or used, or would be written over.
    """
    config = Path(options.out or TOOLS.parent / "config_mine.yaml")
    schema = Path(options.schema or config.parent / "schema.yaml")
    folder = Path(os.path.abspath(config.parent))
    files, test_files = (_listed(names, what) for names, what in _named(options))
    _check_targets(config, schema, [*files, *test_files], options.force)
    known = {os.path.realpath(file) for file in files}
    for file in test_files:
        if os.path.realpath(file) in known:
            raise UserError(f"--test {file}: it is among the rows to train on")
    if not (folder / f"{READER}.py").is_file():
        raise UserError(
            f"-o {config}: a config's folder is its model directory, and {folder} has no "
            f"{READER}.py; {TOOLS.parent} has"
        )
    given = {
        "train_data_dir": _one_name(options.files, files, folder),
        "model_save_path": f"output_{config.stem.removeprefix('config_')}",
        "schema": _from(folder, schema),
    }
    if test_files:
        given["test_data_dir"] = _one_name(options.test, test_files, folder)
    prepare_environment(None, None)
    job = ModelDir(folder).load_function(READER, "describe")
    wanted = {name: getattr(options, name) for name in _OPTIONS}
    wanted["delimiter"] = {"tab": "\t", "\\t": "\t"}.get(options.delimiter, options.delimiter)
    with plain_warnings(folder), foreign(job):
        found = job(files, {**wanted, "test_files": test_files, "config": given})
    whole = all(hasattr(found, name) for name in ("schema", "config", "table", "warnings"))
    check_returned(job, "", found, whole, "schema, config, table and warnings")
    _show(found.table)
    sys.stdout.flush()
    for warning in found.warnings:
        warn(warning)
    _write({config: found.config, schema: found.schema})
    _tell_next(config, schema)


_OPTIONS = ("label", "weight", "group", "ignore", "category", "id", "header")


def _named(options: Namespace) -> list[tuple[list[str], str]]:
    return [(options.files, "FILES"), (options.test, "--test")]


def _listed(names: Sequence[str], what: str) -> list[str]:
    """The files of some names, each once."""
    return list(dict.fromkeys(f for name in names for f in find_files(Path(), name, what)))


def _check_targets(config: Path, schema: Path, files: Sequence[str], force: bool) -> None:
    """Whether the two files may be written."""
    for option, file in (("-o", config), ("--schema", schema)):
        if not file.parent.is_dir():
            raise UserError(f"{option} {file}: there is no folder {file.parent}")
        if file.is_dir():
            raise UserError(f"{option} {file}: it is a folder, the name of a file is expected")
        if any(os.path.realpath(file) == os.path.realpath(f) for f in files):
            raise UserError(f"{option} {file}: these are the rows; give another name")
        if os.path.lexists(file) and not force:
            other = f"{option} gives another name, --force writes over it"
            raise UserError(f"{option} {file}: it is there already; {other}")
    if os.path.realpath(config) == os.path.realpath(schema):
        raise UserError(f"--schema {schema}: it is the config's name too; give another")


def _one_name(names: Sequence[str], files: Sequence[str], folder: Path) -> str:
    """What stands in the config for some files: the name that was given, or a pattern.

    Raises:
        UserError: other files would fit the pattern too.
    """
    if len(names) == 1:
        return _from(folder, Path(names[0]))
    parents = {os.path.dirname(os.path.abspath(file)) for file in files}
    if len(parents) == 1:
        parent, own = glob.escape(parents.pop()), sorted(os.path.basename(file) for file in files)
        start = os.path.commonprefix(own)
        end = os.path.commonprefix([name[len(start) :][::-1] for name in own])[::-1]
        pattern = os.path.join(parent, f"{glob.escape(start)}*{glob.escape(end)}")
        if [os.path.basename(f) for f in find_files(Path(), pattern, "FILES")] == own:
            return _from(folder, Path(pattern))
    raise UserError(
        f"{', '.join(names[:3])}: a config names one folder or one pattern, and no pattern fits "
        "these files alone; put them into a folder of their own and give its name"
    )


def _from(folder: Path, file: Path) -> str:
    """A path as it stands in a config: relative to its folder if it lies below."""
    whole = Path(os.path.abspath(file))
    return (whole.relative_to(folder) if whole.is_relative_to(folder) else whole).as_posix()


def _write(texts: Mapping[Path, str]) -> None:
    """Write some files; all are on disk before the first takes its name."""
    with ExitStack() as stack:
        for file, text in texts.items():
            stream = stack.enter_context(atomic_write(file, make_folder=False))
            stream.write(text.encode())
            sync_file(stream)


def _tell_next(config: Path, schema: Path) -> None:
    here, shown = Path.cwd(), {}
    for name, file in (("config", config), ("tools", TOOLS), ("schema", schema)):
        whole = Path(os.path.abspath(file))
        shown[name] = whole.relative_to(here) if whole.is_relative_to(here) else whole
    print(f"\n{shown['schema']} and {shown['config']} are written; change what you know better.")
    for what, tool in (("train", "trainer"), ("score", "infer")):
        command = shlex.join(
            ["python", str(shown["tools"] / f"{tool}.py"), "-m", str(shown["config"])]
        )
        print(f"  {command}   # {what}")


def _show(table: Sequence[Sequence[str]]) -> None:
    """Print lines of cells below one another, within the terminal's width."""
    lines = [[_printable(str(cell)) for cell in line] for line in table]
    last = len(lines[0]) - 1
    widths = [
        min(max(map(_width, cells)), WIDEST.get(i, 99)) for i, cells in enumerate(zip(*lines))
    ]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths[:last]) - 2 * last
        widths[2] = max(widths[2] - max(0, LEAST_LAST - room), 12)
        room = shutil.get_terminal_size().columns - sum(widths[:last]) - 2 * last
        widths[last] = max(room, LEAST_LAST)
    for line in lines:
        print("  ".join(_fitted(cell, width) for cell, width in zip(line, widths)).rstrip())


def _fitted(text: str, width: int) -> str:
    """A text cut, or filled up with blanks, to a width on the screen."""
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """How wide a text is on a screen; Chinese letters take two places."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
