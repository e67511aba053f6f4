"""Downloads UCI's Census-Income (KDD) and encodes it as this model reads it.

    python datasets/census/prepare.py                       # from UCI
    python datasets/census/prepare.py --raw-dir DIR         # from files that are there already
    python datasets/census/prepare.py --raw                 # rows as they come, only checked
    sh datasets/census/run.sh [the same options]

Writes train_all/train_all.txt, valid_all/valid_all.txt and test_all/test_all.txt: rows of 501
comma-separated numbers, named in columns.txt: marital status (1 = never married), income (1 = more
than 50,000 dollars), 499 features. Training rows are UCI's census-income.data; its
census-income.test is split at random into two halves. The files are put in place only when all
three are whole. With --raw the same rows go to train_raw/, valid_raw/ and test_raw/ with UCI's own
fields, for table_reader.py and schema.yaml.

Exit status: 0 done; 1 the download failed or the disk is full; 2 the input is not as expected.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from columns import COLUMNS_FILE, RAW_FIELDS, UCI_ROWS, InputError, PrepareError, read_columns
from encode import encode_file, read_rows
from filelock import FileLock, Timeout
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
SPLITS = ("train_all", "valid_all", "test_all")
RAW_SPLITS = ("train_raw", "valid_raw", "test_raw")
ASIDE = ".prepare-"  # how the name of a folder for unfinished files begins


def find_raw(folder: Path) -> list[Path]:
    """Finds UCI's training and test file in a folder, plain or gzip.

    Args:
        folder: where the files are.

    Returns:
        The paths of ``census-income.data`` and ``census-income.test``, each perhaps with ``.gz``.

    Raises:
        InputError: one of them is not there.
    """
    found = []
    for name in UCI_ROWS:
        there = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not there:
            raise InputError(f"{folder}: no file {name} or {name}.gz there")
        found.append(there[0])
    return found


def prepare(args: argparse.Namespace) -> dict[str, int]:
    """Encodes the raw files and writes the three splits.

    Everything is written to a folder aside first and moved into place at the end.

    Args:
        args: as `parse_args` returns them; ``download`` in the output folder keeps the archive.

    Returns:
        Number of rows in each split, `SPLITS` or `RAW_SPLITS`.

    Raises:
        PrepareError: the archive cannot be had, or the raw files are not as expected; names file,
            line, field and value.
        OSError: the disk is full, or the folder cannot be written to.
    """
    if args.raw_dir:
        find_raw(args.raw_dir)  # before the output folder is made
    splits = splits_of(args)
    with workspace(args.out_dir, splits) as aside:
        encode_aside = partial(
            encode, into=aside, splits=splits, seed=int(args.seed), header=args.header
        )
        if args.raw_dir:
            counts = encode_aside(args.raw_dir)
        else:
            from download import UCI_URLS, fetch  # needs packages that --raw-dir can do without

            counts = fetch(args.url or UCI_URLS, args.out_dir / "download", aside, encode_aside)
        put_in_place(aside, args.out_dir, splits)
    return counts


def splits_of(args: argparse.Namespace) -> tuple[str, ...]:
    """Names of the three output files."""
    return RAW_SPLITS if args.raw else SPLITS


@contextlib.contextmanager
def workspace(out_dir: Path, splits: Sequence[str]) -> Iterator[Path]:
    """Makes a folder for unfinished files, and removes it in the end.

    Those that killed runs left behind are removed too.

    Args:
        out_dir: folder to make it in; no other run can work there meanwhile.
        splits: names of the files that are to come.

    Yields:
        The folder.

    Raises:
        InputError: another run is at work in `out_dir`, or other data files are there.
        OSError: `out_dir` cannot be written to.
    """
    for split in splits:
        for path in sorted((out_dir / split).glob("[!.]*")):
            if path.is_file() and path != targets(out_dir, splits)[split]:
                message = f"{path}: the trainer would read these rows too; move the file elsewhere"
                raise InputError(f"{message}, or give another --out-dir")
    out_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(out_dir / ".prepare.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = f"another prepare.py is writing to {out_dir}; wait for it or give another"
        raise InputError(f"{message} --out-dir") from None
    try:
        for left in out_dir.glob(f"{ASIDE}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=ASIDE, dir=out_dir) as name:
            yield Path(name)
    finally:
        # Before the release, when no other run can hold it; Windows removes it by itself.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def encode(
    raw_dir: Path,
    archive: Path | None = None,
    *,
    into: Path,
    splits: Sequence[str],
    seed: int,
    header: bool,
) -> dict[str, int]:
    """Encodes the raw files to one file for each split; `RAW_SPLITS` get rows as they come.

    Args:
        raw_dir: folder with UCI's two raw files.
        archive: the archive that the raw files are from.
        into: existing folder that gets the files, named as the splits.
        splits: `SPLITS` or `RAW_SPLITS`.
        seed: seed of the split into validation and test.
        header: whether to write the column names as the first line of each file.

    Returns:
        Number of rows in each split.

    Raises:
        InputError: see `prepare`.
        OSError: the output cannot be written.
    """
    columns = read_columns()
    raw = find_raw(raw_dir)
    train_rows, test_rows = (sum(1 for _ in read_rows(path)) for path in raw)
    places = np.repeat([0, 2], [train_rows, test_rows])  # of each row, among the splits
    valid = np.random.default_rng(seed).permutation(test_rows)[: test_rows // 2]
    places[train_rows + valid] = 1

    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((into / split).open("wb")) for split in splits]
        as_they_come = splits == RAW_SPLITS
        if header:
            names = RAW_FIELDS if as_they_come else columns.names
            for file in files:
                file.write(",".join(names).encode() + b"\n")
        rows = chain.from_iterable(encode_file(path, columns, as_they_come) for path in raw)
        shown = tqdm(rows, desc="encode", total=len(places), unit=" rows", disable=None)
        for row, place in zip(shown, places.tolist()):
            files[place].write(row)
    again = f"; to download it again, remove {archive}" if archive else ""
    for path, rows, expected in zip(raw, (train_rows, test_rows), UCI_ROWS.values()):
        if rows < 2:
            raise InputError(f"{path.name}: holds {rows} rows, expected {expected:,}")
        if rows != expected:
            said = f"{path.name} holds {rows:,} rows, UCI's {expected:,}; taken as is{again}"
            print(f"prepare.py: note: {said}", file=sys.stderr)
    return dict(zip(splits, np.bincount(places).tolist()))


def put_in_place(aside: Path, out_dir: Path, splits: Sequence[str]) -> None:
    """Moves the finished files to where they are read; ``columns.txt`` goes beside encoded ones.

    Args:
        aside: folder with one file for each split, on the disk of `out_dir`.
        out_dir: folder that gets them.
        splits: names of the files.

    Raises:
        OSError: a file cannot be moved.
    """
    places = targets(out_dir, splits)
    if COLUMNS_FILE.name in places:
        shutil.copyfile(COLUMNS_FILE, aside / COLUMNS_FILE.name)
    for target in places.values():
        target.parent.mkdir(exist_ok=True)
    # A new file beside an old one may share rows with it, and nobody would notice; a file that an
    # interrupted run leaves missing is noticed by whoever reads it.
    for split in splits[1:]:
        places[split].unlink(missing_ok=True)
    for name, target in places.items():
        os.replace(aside / name, target)


def targets(out_dir: Path, splits: Sequence[str]) -> dict[str, Path]:
    """Where each finished file belongs, in the order they are moved in."""
    columns = {COLUMNS_FILE.name: out_dir / COLUMNS_FILE.name} if splits == SPLITS else {}
    return {**columns, **{split: out_dir / split / f"{split}.txt" for split in splits}}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--raw-dir",
        type=Path,
        metavar="DIR",
        help="folder with census-income.data and census-income.test, plain or .gz; no download",
    )
    source.add_argument(
        "--url",
        type=_matching("https?://[^/].*", "an http or https address"),
        action="append",
        help="address of the archive instead of UCI's own; several are tried in turn",
    )
    parser.add_argument(
        "--out-dir", type=Path, metavar="DIR", default=HERE, help="default: beside this script"
    )
    parser.add_argument(
        "--seed",
        type=_matching("[0-9]+", "a whole number from 0 on"),
        default="12345",
        help="of the split into validation and test (default: %(default)s)",
    )
    parser.add_argument(
        "--raw", action="store_true", help="rows as they come, checked but not encoded"
    )
    parser.add_argument("--header", action="store_true", help="first line holds the column names")
    return parser.parse_args(argv)


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    """The type of an option whose text has to match a pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return text

    return check


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parse_args(argv)
    splits = splits_of(args)
    before = _versions(args.out_dir, splits)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` clears up
    try:
        counts = prepare(args)
    except PrepareError as error:
        return _fail(error, error.status)
    except ModuleNotFoundError as error:
        return _fail(f"the download needs the package {error.name}; or give --raw-dir", 1)
    except OSError as error:
        unfit = isinstance(error, (FileExistsError, NotADirectoryError, PermissionError))
        what = f"{error.filename or args.out_dir}: {error.strerror or error}"
        need = "; expected a folder to write to" if unfit else ""
        return _fail(f"{what}{need}; {_done(args.out_dir, splits, before)}", 2 if unfit else 1)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {_done(args.out_dir, splits, before)}", 130)
    for split, rows in counts.items():
        print(f"{targets(args.out_dir, splits)[split]}: {rows:,} rows")
    return 0


def _versions(out_dir: Path, splits: Sequence[str]) -> dict[Path, float | None]:
    """When each output file was written; None for one that is not there."""
    files = targets(out_dir, splits).values()
    return {file: os.path.getmtime(file) if os.path.exists(file) else None for file in files}


def _done(out_dir: Path, splits: Sequence[str], before: dict[Path, float | None]) -> str:
    """What a run that broke off did to the output files, for its message."""
    now = _versions(out_dir, splits)
    if now == before:
        return "nothing was written"
    missing = [str(file) for file, written in now.items() if written is None]
    if missing:
        return f"the output is not complete, run it again: {' and '.join(missing)} missing"
    return "all files were written"


def _fail(message: object, status: int) -> int:
    print(f"prepare.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
