"""Fetches UCI's archive and unpacks the two raw files, however they are nested in it."""

from __future__ import annotations

import errno
import filecmp
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import requests
from columns import UCI_ROWS, InputError, PrepareError
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3 import Retry
from urllib3.exceptions import HTTPError, ProtocolError

UCI_URLS = (
    "https://archive.ics.uci.edu/static/public/117/census+income+kdd.zip",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/census-income-mld/census.tar.gz",
)
PAUSES = (0, 0.2, 1, 3, 6)  # seconds before each attempt
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
CHUNK_BYTES = 1 << 16
NESTING = 4

# What the archive modules raise at bytes that are not what they should be.
BROKEN = (
    EOFError,
    RuntimeError,
    ValueError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

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
    part = _Part(target)
    cut_off = None
    with requests.Session() as session:
        retries = Retry(
            total=3,
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        session.mount("http://", HTTPAdapter(max_retries=retries))
        session.mount("https://", HTTPAdapter(max_retries=retries))
        for pause in PAUSES:
            time.sleep(pause)
            try:
                _transfer(session, url, part)
            except requests.RequestException as error:
                raise DownloadError(f"request failed ({_cause(error)})") from None
            except HTTPError as error:
                cut_off = error
            except OSError:
                part.discard()
                raise
            else:
                part.finish(target)
                return
    raise DownloadError(f"cut off {len(PAUSES)} times, the last time by {cut_off}")


class _Part:
    """The part of a file that has come, and the mark by which the server knows its version."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.mark = target.with_name(f"{target.name}.part.mark")

    def range(self) -> dict[str, str]:
        """Headers that ask for the rest only; none if there is nothing to carry on with."""
        if not self.size() or not self.mark.exists():
            return {}
        return {"Range": f"bytes={self.size()}-", "If-Range": self.mark.read_text()}

    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def restart(self, headers: requests.structures.CaseInsensitiveDict[str]) -> None:
        """Empties the part and notes the version that the response's headers give."""
        self.discard()
        etag = headers.get("ETag", "W/")
        # A weak tag does not promise equal bytes, which is what carrying on needs.
        mark = headers.get("Last-Modified") if etag.startswith("W/") else etag
        if mark:
            self.mark.write_text(mark)

    def discard(self) -> None:
        """Removes the part."""
        self.path.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Gives the whole file its name."""
        os.replace(self.path, target)
        self.mark.unlink(missing_ok=True)


def _transfer(session: requests.Session, url: str, part: _Part) -> None:
    """Sends one request and adds what comes to the part; raises `HTTPError` if cut off."""
    # Length and ranges count the bytes sent, so these must be the file's own.
    headers = {"Accept-Encoding": "identity", **part.range()}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status = response.status_code
        start = part.size() if "Range" in headers else 0
        rest = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if status == 200:
            part.restart(response.headers)
            start = 0
        elif start and not (status == 206 and rest):
            part.discard()
            raise ProtocolError(f"HTTP status {status} for the rest of the file")
        elif not start:
            raise DownloadError(f"HTTP status {status} {response.reason}")
        length = response.headers.get("Content-Length", "")
        # Any other value says nothing; a cut-off file then shows when it is unpacked.
        total = start + int(length) if length.isdecimal() else None
        bar = tqdm(
            desc="download", total=total, initial=start, unit="B", unit_scale=True, disable=None
        )
        with bar, part.path.open("ab") as file:
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))
    # urllib3 before version 2 takes a cut-off body for a whole one.
    if total is not None and part.size() != total:
        raise ProtocolError(f"{part.size()} of {total} bytes")


def _cause(error: BaseException) -> BaseException:
    """The error at the bottom of those that requests and urllib3 wrap around each other."""
    inner = getattr(error, "reason", None) or next(iter(error.args), None)
    return _cause(inner) if isinstance(inner, BaseException) else error


def unpack(archive: Path, into: Path) -> None:
    """Unpacks the two raw files from any nesting of zip, tar and gzip.

    Args:
        archive: the archive.
        into: existing, empty folder that gets ``census-income.data`` and ``census-income.test``.

    Raises:
        DownloadError: it is broken, no archive, lacks one of the files, or has two of them that
            differ.
        OSError: a file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            _unpack(archive, archive.name, into, Path(scratch), NESTING)
    except (*BROKEN, OSError) as error:
        # A wrong offset in a zip makes for an invalid seek; other such errors are the disk's.
        if not isinstance(error, BROKEN) and error.errno != errno.EINVAL:
            raise
        raise DownloadError(f"what came is a broken archive ({error})") from None
    missing = [name for name in UCI_ROWS if not (into / name).exists()]
    if missing:
        raise DownloadError(f"what came is no archive that holds {' and '.join(missing)}")


def _unpack(archive: Path, name: str, into: Path, scratch: Path, nesting: int) -> None:
    """Looks for the raw files in an archive, and in the archives in it."""
    for member, stream in _members(archive, name):
        base = PurePosixPath(member).name
        path = scratch / str(nesting)
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        if base in UCI_ROWS:
            _take(path, into / base)
        elif nesting:
            _unpack(path, base, into, scratch, nesting - 1)


def _take(path: Path, target: Path) -> None:
    """Gives an unpacked file its name; refuses another file of that name, but not a copy."""
    if not target.exists():
        os.replace(path, target)
    elif not filecmp.cmp(path, target, shallow=False):
        raise DownloadError(f"what came holds two files {target.name} that differ")


def _members(archive: Path, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yields name and content of each file in an archive; nothing if it is none."""
    with archive.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(b"PK"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    with zipped.open(info) as stream:
                        yield info.filename, stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for entry in tar:
                if entry.isfile():
                    yield entry.name, tar.extractfile(entry)
    elif magic.startswith(b"\x1f\x8b"):
        with gzip.open(archive) as stream:
            yield name[: -len(".gz")] if name.endswith(".gz") else name, stream
