"""Downloads UCI's Census-Income (KDD) and encodes it as this model reads it.

    python datasets/census/prepare.py                       # from UCI
    python datasets/census/prepare.py --raw-dir DIR         # from files that are there already
    sh datasets/census/run.sh [the same options]

Writes train_all/train_all.txt, valid_all/valid_all.txt and test_all/test_all.txt: rows of 501
comma-separated numbers, named in columns.txt: marital status (1 = never married), income (1 = more
than 50,000 dollars), 499 features. Training rows are UCI's census-income.data; its
census-income.test is split at random into two halves. The files are put in place only when all
three are whole.

Exit status: 0 done; 1 the download failed or the disk is full; 2 the input is not as expected.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from columns import COLUMNS_FILE, UCI_ROWS, Columns, InputError, PrepareError, read_columns
from encode import count_rows, encode_file
from filelock import FileLock, Timeout
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
SPLITS = ("train_all", "valid_all", "test_all")
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
        choices = [folder / name, folder / f"{name}.gz"]
        path = next((choice for choice in choices if choice.is_file()), None)
        if path is None:
            raise InputError(f"{folder}: no file {name} or {name}.gz there")
        found.append(path)
    return found


def prepare(
    raw_dir: Path | None, urls: Sequence[str] | None, out_dir: Path, seed: int, header: bool
) -> dict[str, int]:
    """Encodes the raw files and writes the three splits.

    Everything is written to a folder aside first and moved into place at the end.

    Args:
        raw_dir: folder with UCI's two raw files; None downloads UCI's archive.
        urls: addresses of the archive, tried in turn; UCI's own two by default.
        out_dir: folder that gets `SPLITS` and ``columns.txt``; its folder ``download`` keeps the
            archive.
        seed: seed of the split into validation and test.
        header: whether to write the column names as the first line of each file.

    Returns:
        Number of rows in each of `SPLITS`.

    Raises:
        PrepareError: the archive cannot be had, or the raw files are not as expected; names file,
            line, field and value.
        OSError: the disk is full, or the folder cannot be written to.
    """
    raw = find_raw(raw_dir) if raw_dir else None
    if raw is None:
        # Here, so that --raw-dir needs none of the packages of the download.
        from download import UCI_URLS, fetch
    with workspace(out_dir) as aside:
        if raw is not None:
            counts = encode(raw, aside, seed, header)
        else:
            counts = fetch(
                urls or UCI_URLS,
                out_dir / "download",
                aside,
                lambda folder, archive: encode(find_raw(folder), aside, seed, header, archive),
            )
        put_in_place(aside, out_dir)
    return counts


@contextlib.contextmanager
def workspace(out_dir: Path) -> Iterator[Path]:
    """Makes a folder for unfinished files, and removes it in the end.

    Those that killed runs left behind are removed too.

    Args:
        out_dir: folder to make it in; no other run can work there meanwhile.

    Yields:
        The folder.

    Raises:
        InputError: another run is at work in `out_dir`, or other data files are there.
        OSError: `out_dir` cannot be written to.
    """
    _refuse_other_files(out_dir)
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


def _refuse_other_files(out_dir: Path) -> None:
    """Raises `InputError` for a file that would be read along with a split's own."""
    for target in (_target(out_dir, split) for split in SPLITS):
        if not target.parent.exists():
            continue
        for path in sorted(target.parent.iterdir()):
            if path.is_file() and path != target and not path.name.startswith("."):
                message = f"{path}: the trainer would read these rows too; move the file elsewhere"
                raise InputError(f"{message}, or give another --out-dir")


def encode(
    raw: Sequence[Path], into: Path, seed: int, header: bool, archive: Path | None = None
) -> dict[str, int]:
    """Encodes the raw files to one file for each of `SPLITS`.

    Args:
        raw: UCI's training and test file.
        into: existing folder that gets the files, named as the splits.
        seed: see `prepare`.
        header: see `prepare`.
        archive: the archive that the raw files are from.

    Returns:
        Number of rows in each of `SPLITS`.

    Raises:
        InputError: see `prepare`.
        OSError: the output cannot be written.
    """
    columns = read_columns()
    train, test = raw
    train_rows, test_rows = (_count(path, columns, archive) for path in raw)
    in_valid = np.zeros(test_rows, dtype=bool)
    in_valid[np.random.default_rng(seed).permutation(test_rows)[: test_rows // 2]] = True

    with contextlib.ExitStack() as stack:
        bar = tqdm(total=train_rows + test_rows, desc="encode", unit=" rows", disable=None)
        stack.enter_context(bar)
        files = [stack.enter_context((into / split).open("wb")) for split in SPLITS]
        if header:
            for file in files:
                file.write(",".join(columns.names).encode() + b"\n")
        to_train, to_valid, to_test = files
        for rows in encode_file(train, columns):
            to_train.write(_text(rows))
            bar.update(len(rows))
        start = 0
        for rows in encode_file(test, columns):
            mask = pa.array(in_valid[start : start + len(rows)])
            to_valid.write(_text(rows.filter(mask)))
            to_test.write(_text(rows.filter(pc.invert(mask))))
            start += len(rows)
            bar.update(len(rows))
    valid_rows = int(in_valid.sum())
    return dict(zip(SPLITS, (train_rows, valid_rows, test_rows - valid_rows)))


def put_in_place(aside: Path, out_dir: Path) -> None:
    """Moves the finished files to where they are read, and ``columns.txt`` beside them.

    Args:
        aside: folder with one file for each of `SPLITS`, on the disk of `out_dir`.
        out_dir: see `prepare`.

    Raises:
        OSError: a file cannot be moved.
    """
    shutil.copyfile(COLUMNS_FILE, aside / COLUMNS_FILE.name)
    targets = [_target(out_dir, split) for split in SPLITS]
    for target in targets:
        target.parent.mkdir(exist_ok=True)
    # A new file beside an old one may share rows with it, and nobody would notice; a file that an
    # interrupted run leaves missing is noticed by whoever reads it.
    for target in targets[1:]:
        target.unlink(missing_ok=True)
    if out_dir.resolve() != HERE:
        os.replace(aside / COLUMNS_FILE.name, out_dir / COLUMNS_FILE.name)
    for split, target in zip(SPLITS, targets):
        os.replace(aside / split, target)


def _target(out_dir: Path, split: str) -> Path:
    """Where the file of a split belongs."""
    return out_dir / split / f"{split}.txt"


def _count(path: Path, columns: Columns, archive: Path | None) -> int:
    """Number of rows in a raw file; says so if it is not UCI's number."""
    rows = count_rows(path, columns)
    expected = UCI_ROWS[path.name.replace(".gz", "")]
    if rows < 2:
        raise InputError(f"{path.name}: holds {rows} rows, expected {expected:,}")
    if rows != expected:
        note = f"prepare.py: note: {path.name} holds {rows:,} rows, UCI's {expected:,}; taken as is"
        again = f"; to download it again, remove {archive}" if archive else ""
        print(f"{note}{again}", file=sys.stderr)
    return rows


def _text(rows: pa.BinaryArray) -> pa.Buffer:
    """The rows' texts one after the other."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
    return pc.binary_join(whole, b"")[0].as_buffer()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description="Downloads UCI's Census-Income (KDD) and encodes it as this model reads it."
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--raw-dir",
        type=Path,
        metavar="DIR",
        help="folder with census-income.data and census-income.test, plain or .gz; no download",
    )
    source.add_argument(
        "--url",
        type=_url,
        action="append",
        help="address of the archive instead of UCI's own; several are tried in turn",
    )
    parser.add_argument(
        "--out-dir", type=Path, metavar="DIR", default=HERE, help="default: beside this script"
    )
    parser.add_argument(
        "--seed", type=_seed, default=12345, help="of the split into validation and test (12345)"
    )
    parser.add_argument("--header", action="store_true", help="first line holds the column names")
    return parser.parse_args(argv)


def _url(text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https address")
    return text


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parse_args(argv)
    before = _versions(args.out_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` clears up
    try:
        counts = prepare(args.raw_dir, args.url, args.out_dir, args.seed, args.header)
    except PrepareError as error:
        return _fail(error, error.status)
    except ModuleNotFoundError as error:
        return _fail(f"the download needs the package {error.name}; or give --raw-dir", 1)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        done = _done(args.out_dir, before)
        what = f"{error.filename}: {error.strerror}; expected a folder to write to"
        return _fail(f"{what}; {done}", 2)
    except OSError as error:
        where, done = error.filename or args.out_dir, _done(args.out_dir, before)
        return _fail(f"{where}: {error.strerror or error}; {done}", 1)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {_done(args.out_dir, before)}", 130)
    for split, rows in counts.items():
        print(f"{_target(args.out_dir, split)}: {rows:,} rows")
    return 0


def _versions(out_dir: Path) -> dict[Path, tuple[int, int] | None]:
    """What tells each present output file from any other; None where there is none."""
    found: dict[Path, tuple[int, int] | None] = {}
    for target in (*(_target(out_dir, s) for s in SPLITS), out_dir / COLUMNS_FILE.name):
        found[target] = None
        with contextlib.suppress(OSError):
            state = target.stat()
            found[target] = (state.st_ino, state.st_mtime_ns)
    return found


def _done(out_dir: Path, before: dict[Path, tuple[int, int] | None]) -> str:
    """What a run that broke off did to the output files, for its message."""
    now = _versions(out_dir)
    if now == before:
        return "nothing was written"
    missing = [str(target) for target, version in now.items() if version is None]
    if missing:
        return f"the output is not complete, run it again: {' and '.join(missing)} missing"
    return "all files were written"


def _fail(message: object, status: int) -> int:
    print(f"prepare.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
