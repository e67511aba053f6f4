"""Downloads UCI's Census-Income (KDD) and encodes it as this model reads it.

    python datasets/census/prepare.py                       # from UCI
    python datasets/census/prepare.py --raw-dir DIR         # from files that are there already
    sh datasets/census/run.sh [the same options]

Writes train_all/train_all.txt, valid_all/valid_all.txt and test_all/test_all.txt: rows of 501
comma-separated numbers, named in columns.txt: marital status (1 = never married), income (1 = more
than 50,000 dollars), 499 features. Training rows are UCI's census-income.data; its
census-income.test is split at random into two halves. Nothing is written unless all of it is.

Exit status: 0 done; 1 the download failed or the disk is full; 2 the input is not as expected.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from columns import COLUMNS_FILE, UCI_ROWS, Columns, InputError, PrepareError, read_columns
from encode import count_rows, encode_file
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
SPLITS = ("train_all", "valid_all", "test_all")


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


def prepare(raw_dir: Path, out_dir: Path, seed: int, header: bool) -> dict[str, int]:
    """Encodes the raw files and writes the three splits.

    Everything is written to a folder aside first and moved into place at the end.

    Args:
        raw_dir: folder with UCI's two raw files.
        out_dir: folder that gets `SPLITS` and ``columns.txt``.
        seed: seed of the split into validation and test.
        header: whether to write the column names as the first line of each file.

    Returns:
        Number of rows in each of `SPLITS`.

    Raises:
        InputError: the raw files are not as expected; names file, line, field and value.
        OSError: the output cannot be written.
    """
    columns = read_columns()
    train, test = find_raw(raw_dir)
    train_rows, test_rows = _count(train, columns), _count(test, columns)
    in_valid = np.zeros(test_rows, dtype=bool)
    in_valid[np.random.default_rng(seed).permutation(test_rows)[: test_rows // 2]] = True

    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=out_dir) as name:
        aside = Path(name)
        with ExitStack() as stack:
            bar = tqdm(total=train_rows + test_rows, desc="encode", unit=" rows", disable=None)
            stack.enter_context(bar)
            files = [stack.enter_context((aside / split).open("wb")) for split in SPLITS]
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
        shutil.copyfile(COLUMNS_FILE, aside / COLUMNS_FILE.name)
        for split in SPLITS:
            (out_dir / split).mkdir(exist_ok=True)
        for split in SPLITS:
            os.replace(aside / split, out_dir / split / f"{split}.txt")
        if out_dir.resolve() != HERE:
            os.replace(aside / COLUMNS_FILE.name, out_dir / COLUMNS_FILE.name)
    valid_rows = int(in_valid.sum())
    return dict(zip(SPLITS, (train_rows, valid_rows, test_rows - valid_rows)))


def download_and_prepare(
    urls: Sequence[str] | None, out_dir: Path, seed: int, header: bool
) -> dict[str, int]:
    """Downloads UCI's archive and encodes the raw files in it.

    Args:
        urls: addresses of the archive, tried in turn; UCI's own two by default.
        out_dir: see `prepare`; its folder ``download`` keeps the archive.
        seed: see `prepare`.
        header: see `prepare`.

    Returns:
        Number of rows in each of `SPLITS`.

    Raises:
        PrepareError: the archive cannot be had, or its rows are not as expected.
        OSError: the disk is full, or the folder cannot be written to.
    """
    # Here, so that --raw-dir needs none of the packages of the download.
    from download import UCI_URLS, fetch

    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=out_dir) as raw_dir:
        fetch(urls or UCI_URLS, out_dir / "download", Path(raw_dir))
        return prepare(Path(raw_dir), out_dir, seed, header)


def _count(path: Path, columns: Columns) -> int:
    """Number of rows in a raw file; says so if it is not UCI's number."""
    rows = count_rows(path, columns)
    expected = UCI_ROWS[path.name.replace(".gz", "")]
    if rows < 2:
        raise InputError(f"{path.name}: holds {rows} rows, expected {expected:,}")
    if rows != expected:
        note = f"prepare.py: note: {path.name} holds {rows:,} rows, UCI's {expected:,}; taken as is"
        print(note, file=sys.stderr)
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` clears up
    try:
        if args.raw_dir:
            counts = prepare(args.raw_dir, args.out_dir, args.seed, args.header)
        else:
            counts = download_and_prepare(args.url, args.out_dir, args.seed, args.header)
    except PrepareError as error:
        return _fail(error, error.status)
    except ModuleNotFoundError as error:
        return _fail(f"the download needs the package {error.name}; or give --raw-dir", 1)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        return _fail(f"{error.filename}: {error.strerror}; expected a folder to write to", 2)
    except OSError as error:
        where = error.filename or args.out_dir
        return _fail(f"{where}: {error.strerror or error}; nothing was written", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was written", 130)
    for split, rows in counts.items():
        print(f"{args.out_dir / split / split}.txt: {rows:,} rows")
    return 0


def _fail(message: object, status: int) -> int:
    print(f"prepare.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
