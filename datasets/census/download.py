"""Fetches UCI's archive and unpacks the two raw files, however they are nested in it."""

from __future__ import annotations

import errno
import filecmp
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import requests
from columns import UCI_ROWS, InputError, PrepareError
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ProtocolError

UCI_URLS = (
    "https://archive.ics.uci.edu/static/public/117/census+income+kdd.zip",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/census-income-mld/census.tar.gz",
)
PAUSES = (0, 0.5, 1, 2)  # seconds before each attempt
BUSY = (429, 500, 502, 503, 504)  # HTTP statuses that may be another at the next attempt
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
NESTING = 4
BLOCK_BYTES = 1 << 20
MOST_BYTES = 256 << 20  # UCI's have 104 MB and 52 MB

Result = TypeVar("Result")


class DownloadError(PrepareError):
    """The raw files cannot be had from the network."""


def fetch(
    urls: Sequence[str], keep_dir: Path, scratch: Path, use: Callable[[Path, Path], Result]
) -> Result:
    """Downloads archives in turn until the raw files in one are of use.

    An archive that is of no use is removed, so that no later run takes it for the right one.

    Args:
        urls: addresses to try in turn.
        keep_dir: folder where a whole archive stays for the next time, and the part of one.
        scratch: existing folder to unpack in.
        use: is given the folder of the raw files and the archive they are from; raises
            `InputError` if they are not as expected.

    Returns:
        What `use` returned.

    Raises:
        DownloadError: no address gave the raw files; says why for each.
        InputError: so, and one gave raw files that are not as expected.
        OSError: a file cannot be written.
    """
    keep_dir.mkdir(parents=True, exist_ok=True)
    failures, kind = [], DownloadError
    # An archive of an earlier run may be of no use; then its address is asked for another.
    tries = [url for url in urls for _ in range(1 + _archive(keep_dir, url).exists())]
    for url in tries:
        archive = _archive(keep_dir, url)
        try:
            if not archive.exists():
                download(url, archive)
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                unpack(archive, Path(folder))
                return use(Path(folder), archive)
        except (DownloadError, InputError) as error:
            removed = f" (removed {archive})" if archive.exists() else ""
            archive.unlink(missing_ok=True)
            failures.append(f"{url}: {error}{removed}")
            kind = InputError if isinstance(error, InputError) else kind
    if kind is DownloadError:
        failures.append(f"without internet, give --raw-dir a folder with {' and '.join(UCI_ROWS)}")
    raise kind("; ".join(failures))


def _archive(keep_dir: Path, url: str) -> Path:
    """Where the archive of an address is kept."""
    name = PurePosixPath(urlsplit(url).path).name or "archive"
    return keep_dir / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"


def download(url: str, target: Path) -> None:
    """Downloads a file; `target` exists only once it is whole.

    What a cut-off transfer leaves stays in ``<target>.part``. It is carried on with, in this or
    a later run, if the server says that its file is still the same; if not, it is discarded.

    Args:
        url: http or https address.
        target: the file to write.

    Raises:
        DownloadError: no connection, an answer other than success, or cut off again and again.
        OSError: the file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    mark = target.with_name(f"{part.name}.mark")
    for pause in PAUSES:
        time.sleep(pause)
        try:
            _transfer(url, part, mark)
        except (requests.RequestException, HTTPError) as error:
            failure: BaseException = error
            while failure.__context__:  # what requests and urllib3 wrapped
                failure = failure.__context__
        except (DownloadError, OSError):
            part.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            raise
        else:
            os.replace(part, target)
            mark.unlink(missing_ok=True)
            return
    raise DownloadError(f"failed {len(PAUSES)} times, the last time with {failure}")


def _transfer(url: str, part: Path, mark: Path) -> None:
    """Sends one request and adds what comes to the part.

    Args:
        url: http or https address.
        part: what has come of the file.
        mark: file with the text by which the server knows this version of the file; empty or not
            there if the part cannot be carried on with.

    Raises:
        DownloadError: an answer that another request would not change.
        RequestException: of requests; the server cannot be reached.
        HTTPError: of urllib3; cut off, or the server asks for patience.
    """
    # Length and ranges count the bytes sent, so these must be the file's own.
    headers = {"Accept-Encoding": "identity"}
    version = mark.read_text() if mark.exists() else ""
    start = part.stat().st_size if version and part.exists() else 0
    if start:
        headers.update({"Range": f"bytes={start}-", "If-Range": version})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status, raw = response.status_code, response.raw
        if status in BUSY:
            raise ProtocolError(f"HTTP status {status} {response.reason}")
        rest = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if status == 200:
            start = 0
        elif start and not (status == 206 and rest):
            part.unlink()
            raise ProtocolError(f"HTTP status {status} for the rest of the file")
        elif not start:
            raise DownloadError(f"HTTP status {status} {response.reason}")
        with part.open("ab" if start else "wb") as file:
            if not start:
                etag = response.headers.get("ETag", "W/")
                # A weak tag does not promise equal bytes, which is what carrying on needs.
                weak = etag.startswith("W/")
                mark.write_text(response.headers.get("Last-Modified", "") if weak else etag)
            # None if the server does not say; a cut-off file then shows when it is unpacked.
            total = None if raw.length_remaining is None else start + raw.length_remaining
            bar = tqdm.wrapattr(file, "write", total, desc="download", initial=start, disable=None)
            with bar as sink:
                shutil.copyfileobj(raw, sink)
        if raw.length_remaining:  # urllib3 before version 2 takes a cut-off body for a whole one
            raise ProtocolError(f"{raw.length_remaining} bytes missing")


def unpack(archive: Path, into: Path) -> None:
    """Unpacks the two raw files from any nesting of zip, tar and gzip.

    Args:
        archive: the archive.
        into: existing, empty folder that gets ``census-income.data`` and ``census-income.test``.

    Raises:
        DownloadError: it is broken, no archive, lacks one of the files, has two of them that
            differ, or one that is much larger than UCI's.
        OSError: a file cannot be written.
    """
    differing = []
    try:
        with archive.open("rb") as stream:
            for name, member in _raw_files(stream, archive.name, NESTING):
                target = into / name
                path = into / "another" if target.exists() else target
                with path.open("wb") as file:
                    _copy(member, file, name)
                if path != target and not filecmp.cmp(path, target, shallow=False):
                    differing.append(name)
    # The archive modules raise nearly anything at bytes that are not what they should be. What has
    # an error number is the disk's, but for the invalid seek that a wrong offset in a zip makes.
    except DownloadError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):
            raise
        raise DownloadError(f"what came is a broken archive ({error})") from None
    if differing:
        raise DownloadError(f"what came holds two files {differing[0]} that differ")
    missing = [name for name in UCI_ROWS if not (into / name).exists()]
    if missing:
        raise DownloadError(f"what came is no archive that holds {' and '.join(missing)}")


def _copy(member: BinaryIO, file: BinaryIO, name: str) -> None:
    """Copies a file of an archive, of which a few bytes may make any number."""
    while block := member.read(BLOCK_BYTES):
        if file.write(block) and file.tell() > MOST_BYTES:
            raise DownloadError(f"{name} in what came is larger than {MOST_BYTES >> 20} MB")


def _raw_files(stream: BinaryIO, name: str, nesting: int) -> Iterator[tuple[str, BinaryIO]]:
    """Yields name and content of each raw file in a file, which is one itself or an archive."""
    base = PurePosixPath(name).name
    if base in UCI_ROWS:
        yield base, stream
        return
    if not nesting:
        return
    magic = stream.read(4)
    stream.seek(0)
    is_tar = tarfile.is_tarfile(stream)
    stream.seek(0)
    if magic.startswith(b"PK"):
        with zipfile.ZipFile(stream) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    with zipped.open(info) as member:
                        yield from _raw_files(member, info.filename, nesting - 1)
    elif is_tar:
        with tarfile.open(fileobj=stream) as tar:
            for entry in tar:
                if entry.isfile():
                    yield from _raw_files(tar.extractfile(entry), entry.name, nesting - 1)
    elif magic.startswith(b"\x1f\x8b"):
        with gzip.open(stream) as inner:
            yield from _raw_files(inner, base.removesuffix(".gz"), nesting - 1)
