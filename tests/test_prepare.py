"""Tests of ``datasets/census/prepare.py``: real processes, real files, a real HTTP server."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from census_rows import CENSUS, EXPECTED, columns_module, generate, raw_dir
from filelock import FileLock

OUTPUTS = ["test_all/test_all.txt", "train_all/train_all.txt", "valid_all/valid_all.txt"]
TRAIN, VALID, TEST = OUTPUTS[1], OUTPUTS[2], OUTPUTS[0]


def command(*args: object) -> list[str]:
    """The command line of ``prepare.py`` under this Python."""
    return [sys.executable, str(CENSUS / "prepare.py"), *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """This process's environment; a proxy would not find the local server."""
    return {**os.environ, "NO_PROXY": "*", "no_proxy": "*", **more}


def prepare(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs ``prepare.py`` to its end."""
    return subprocess.run(
        command(*args), capture_output=True, text=True, timeout=50, env=environment(), **options
    )


def file_size_limit(size: int) -> Callable[[], None]:
    """Stands in for a full disk: no file of the process may grow beyond `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def files(folder: Path) -> list[str]:
    """All files below a folder, relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def sentence(run: subprocess.CompletedProcess[str], status: int) -> str:
    """The one sentence on stderr of a run that failed with `status`; notices left out."""
    assert run.returncode == status, run.stderr
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if ": note: " not in line]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("prepare.py: ")
    return lines[0]


def text(lines: list[str]) -> bytes:
    """Lines as the content of a file."""
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.fixture(scope="module")
def train_lines() -> list[str]:
    """Made-up training rows."""
    return generate(300, seed=1)


@pytest.fixture(scope="module")
def test_lines() -> list[str]:
    """Made-up test rows; an odd number."""
    return generate(201, seed=2)


def write_raw(folder: Path, train: list[str], test: list[str]) -> Path:
    """Makes a folder with raw files, one plain, one gzip."""
    folder.mkdir()
    (folder / "census-income.data").write_bytes(text(train))
    (folder / "census-income.test.gz").write_bytes(gzip.compress(text(test)))
    return folder


@pytest.fixture
def raw(tmp_path: Path, train_lines: list[str], test_lines: list[str]) -> Path:
    """Folder with made-up raw files, for the test to change."""
    return write_raw(tmp_path / "raw", train_lines, test_lines)


@pytest.fixture(scope="module")
def encoded(
    tmp_path_factory: pytest.TempPathFactory, train_lines: list[str], test_lines: list[str]
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A finished run with default options and its output folder."""
    folder = tmp_path_factory.mktemp("encoded")
    raw = write_raw(folder / "raw", train_lines, test_lines)
    return prepare("--raw-dir", raw, "--out-dir", folder / "out"), folder / "out"


def encode_plainly(lines: list[str]) -> list[list[float]]:
    """Encodes rows by the rules of the data set's description, one cell at a time."""
    columns = columns_module()
    fixed = columns.read_columns()
    encoded = []
    for line in lines:
        row = {f: v.strip() for f, v in zip(columns.RAW_FIELDS, line.split(","))}
        labels = [row["marital_stat"] == "Never married", row["income_50k"] == "50000+."]
        numbers = [float(row[f]) for f in columns.RAW_FIELDS if f in fixed.numeric]
        hot = []
        for field in columns.RAW_FIELDS:
            if field not in fixed.onehot:
                continue
            key = int if field.endswith("_code") and field.startswith("det_") else None
            hot += [row[field] == category for category in sorted(fixed.categories[field], key=key)]
        encoded.append([float(x) for x in (*labels, *numbers, *hot)])
    return encoded


def numbers_of(path: Path) -> list[list[float]]:
    """An encoded file as numbers."""
    with path.open() as file:
        return [[float(value) for value in row] for row in csv.reader(file)]


# Encoding


@pytest.mark.skipif(not EXPECTED.exists(), reason="the real rows are not at hand")
def test_real_rows_equal_the_expected_ones(tmp_path: Path) -> None:
    run = prepare("--raw-dir", raw_dir(tmp_path), "--out-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    expected = numbers_of(EXPECTED)
    with (tmp_path / TRAIN).open() as file:
        head = [[float(v) for v in next(file).split(",")] for _ in expected]
    assert head == expected
    assert len((tmp_path / TRAIN).read_bytes().splitlines()) == 66_508


def test_rows_are_encoded_by_the_rules(encoded: tuple, train_lines: list[str]) -> None:
    run, out = encoded
    assert run.returncode == 0, run.stderr
    assert numbers_of(out / TRAIN) == encode_plainly(train_lines)
    assert files(out) == ["columns.txt", *OUTPUTS]
    assert "train_all.txt: 300 rows" in run.stdout


def test_raw_rows_are_split_alike_and_left_as_they_come(encoded: tuple, raw: Path) -> None:
    """Row by row what the encoded files hold; fields checked all the same."""
    _, out = encoded
    folder = raw.parent / "as_they_come"
    run = prepare("--raw-dir", raw, "--out-dir", folder, "--raw", "--header")
    assert run.returncode == 0, run.stderr
    assert files(folder) == [name.replace("all", "raw") for name in OUTPUTS]
    for name in OUTPUTS:
        header, *lines = (folder / name.replace("all", "raw")).read_text().splitlines()
        assert header.split(",") == list(columns_module().RAW_FIELDS)
        assert encode_plainly(lines) == numbers_of(out / name)
    data = raw / "census-income.data"
    data.write_bytes(data.read_bytes().replace(b"Never married", b"Never maried", 1))
    run = prepare("--raw-dir", raw, "--out-dir", folder, "--raw")
    assert "'Never maried' is not one of its 7 categories" in sentence(run, 2)


def test_other_row_counts_are_noticed(encoded: tuple) -> None:
    run, _ = encoded
    assert re.search(r"census-income\.data holds 300 rows.*199,523", run.stderr)
    assert re.search(r"census-income\.test\.gz holds 201 rows.*99,762", run.stderr)


def test_columns_file_names_each_column_once(encoded: tuple) -> None:
    _, out = encoded
    assert (out / "columns.txt").read_bytes() == (CENSUS / "columns.txt").read_bytes()
    names = (out / "columns.txt").read_text().splitlines()
    assert len(set(names)) == len(names) == 501
    assert names[:3] == ["marital_stat", "income_50k", "age"]
    assert names[13] == "class_worker=Federal government"
    assert "det_hh_fam_stat=Grandchild <18 ever marr not in subfamily" in names
    assert not any(set(name) & set(',"\t') or name != name.strip() for name in names)


def test_header_holds_the_names(tmp_path: Path, raw: Path, encoded: tuple) -> None:
    _, out = encoded
    prepare("--raw-dir", raw, "--out-dir", tmp_path, "--header")
    names = (CENSUS / "columns.txt").read_text().splitlines()
    for output in OUTPUTS:
        head, rest = (tmp_path / output).read_text().split("\n", 1)
        assert next(csv.reader([head])) == names
        assert rest == (out / output).read_text()


def test_white_space_line_ends_and_blank_lines_do_not_matter(
    tmp_path: Path, raw: Path, encoded: tuple, train_lines: list[str]
) -> None:
    _, out = encoded
    odd = "\r\n".join(line.replace(", ", " ,  ") for line in train_lines)
    (raw / "census-income.data").write_text("\r\n" + odd + "\r\n\r\n", newline="")
    run = prepare("--raw-dir", raw, "--out-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / TRAIN).read_bytes() == (out / TRAIN).read_bytes()


def test_files_of_many_blocks(
    tmp_path: Path, encoded: tuple, train_lines: list[str], test_lines: list[str]
) -> None:
    _, out = encoded
    raw = write_raw(tmp_path / "raw", train_lines * 40, test_lines * 60)
    run = prepare("--raw-dir", raw, "--out-dir", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / TRAIN).read_bytes() == (out / TRAIN).read_bytes() * 40
    halves = [(tmp_path / "out" / o).read_text().splitlines() for o in (VALID, TEST)]
    once = [line for o in (VALID, TEST) for line in (out / o).read_text().splitlines()]
    assert [len(half) for half in halves] == [6_030, 6_030]
    assert sorted(halves[0] + halves[1]) == sorted(once * 60)

    for value, said in (("Kindergarten", "'Kindergarten'"), (None, "fields in the row: 41")):
        lines = change(11_000, 5, value)(["", *train_lines * 40])
        (raw / "census-income.data").write_bytes(text(lines))
        message = sentence(prepare("--raw-dir", raw, "--out-dir", tmp_path / "out"), 2)
        assert "line 11000, field 5 (education): " in message and said in message


def test_split_is_even_disjoint_and_seeded(
    tmp_path: Path, raw: Path, encoded: tuple, test_lines: list[str]
) -> None:
    for name, seed in (("same", 12345), ("other", 7)):
        prepare("--raw-dir", raw, "--out-dir", tmp_path / name, "--seed", seed)
    default, same, other = (
        [numbers_of(out / output) for output in (VALID, TEST)]
        for out in (encoded[1], tmp_path / "same", tmp_path / "other")
    )
    valid, test = default
    assert (len(valid), len(test)) == (100, 101)
    # The made-up instance weights are all different, so rows can be told apart.
    assert sorted(valid + test) == sorted(encode_plainly(test_lines))
    assert same == default
    assert other != default


def test_run_sh_passes_its_arguments_on(tmp_path: Path, raw: Path) -> None:
    run = subprocess.run(
        ["sh", str(CENSUS / "run.sh"), "--raw-dir", "raw", "--out-dir", "my out"],
        cwd=tmp_path,
        env=environment(PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert files(tmp_path / "my out") == sorted(["columns.txt", *OUTPUTS])


# Faults in the input


def change(line: int, field: int, value: str | None) -> Callable[[list[str]], list[str]]:
    """A function that sets a field (counted from 1) of a line, or removes it."""

    def changed(lines: list[str]) -> list[str]:
        values = lines[line - 1].split(", ")
        values[field - 1 : field] = [] if value is None else [value]
        return [*lines[: line - 1], ", ".join(values), *lines[line:]]

    return changed


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change(120, 5, "Kindergarten"), r"line 120, field 5 \(education\): 'Kindergarten' .* 17"),
        (change(7, 8, "Engaged"), r"line 7, field 8 \(marital_stat\): 'Engaged'"),
        (change(7, 42, "- 50000"), r"line 7, field 42 \(income_50k\): '- 50000'"),
        (change(300, 1, "forty"), r"line 300, field 1 \(age\): 'forty' is not a number"),
        (change(3, 25, "nan"), r"line 3, field 25 \(instance_weight\): 'nan' is not a number"),
        (change(3, 6, ""), r"line 3, field 6 \(wage_per_hour\): '' is not a number"),
        (change(9, 42, None), r"line 9, field 42 \(income_50k\): missing.* 41, expected 42"),
        (change(1, 2, None), r"line 1, field 2 \(class_worker\): .* 41, expected 42"),
        (change(50, 42, "50000+., 1"), r"line 50, field 43: '1' .* 43, expected 42"),
        (lambda lines: [*lines[:20], "", *change(25, 13, "X")(lines)[20:]], r"line 26, field 13 "),
    ],
)
def test_a_fault_is_named_and_nothing_is_written(
    tmp_path: Path,
    raw: Path,
    train_lines: list[str],
    spoil: Callable[[list[str]], list[str]],
    said: str,
) -> None:
    (raw / "census-income.data").write_bytes(text(spoil(train_lines)))
    run = prepare("--raw-dir", raw, "--out-dir", tmp_path / "out")
    assert re.search(rf"census-income\.data, {said}", sentence(run, 2)), run.stderr
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_truncated_gzip_is_named_and_old_output_stays(
    tmp_path: Path, raw: Path, test_lines: list[str], kept: float
) -> None:
    out = tmp_path / "out"
    prepare("--raw-dir", raw, "--out-dir", out)
    before = {name: (out / name).read_bytes() for name in files(out)}

    path = raw / "census-income.test.gz"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    said = sentence(prepare("--raw-dir", raw, "--out-dir", out, "--seed", 1), 2)
    found = re.search(r"census-income\.test\.gz, line (\d+), field (\d+) \((\w+)\): the gzip", said)
    line, field = int(found[1]), int(found[2])
    assert 1 < line <= len(test_lines) + 1
    assert columns_module().RAW_FIELDS[field - 1] == found[3]
    assert {name: (out / name).read_bytes() for name in files(out)} == before


@pytest.mark.parametrize("packed", [True, False])
def test_a_line_without_end_is_named_and_takes_no_memory(
    tmp_path: Path, raw: Path, packed: bool
) -> None:
    file = raw / "census-income.data"
    start = file.read_bytes()
    file.unlink()
    piece = b"1," * (1 << 23)
    if packed:  # a megabyte that unpacks to a gigabyte
        file = file.with_name(f"{file.name}.gz")
        file.write_bytes(gzip.compress(start) + 64 * gzip.compress(piece))
    else:
        file.write_bytes(start + piece)
    out = tmp_path / "out"
    limit = 1 << 30
    run = prepare(
        "--raw-dir",
        raw,
        "--out-dir",
        out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    said = sentence(run, 2)
    line = start.count(b"\n") + 1
    assert f"{file.name}, line {line}: longer than 1 MB, expected 42 fields" in said
    assert files(out) == []


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "census-income.data: "), (b"\xff\x00\n", "line 1, field 1 (age)")]
)
def test_files_without_rows(tmp_path: Path, raw: Path, content: bytes, said: str) -> None:
    (raw / "census-income.data").write_bytes(content)
    assert said in sentence(prepare("--raw-dir", raw, "--out-dir", tmp_path / "out"), 2)
    assert files(tmp_path / "out") == []


def test_a_missing_file_is_named(tmp_path: Path, raw: Path) -> None:
    (raw / "census-income.test.gz").unlink()
    said = sentence(prepare("--raw-dir", raw, "--out-dir", tmp_path / "out"), 2)
    assert str(raw) in said and "census-income.test" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("args", [["--seed", "-1"], ["--seed", "x"], ["--url", "ftp://host/x"]])
def test_wrong_arguments(tmp_path: Path, args: list[str]) -> None:
    run = prepare("--out-dir", tmp_path / "out", *args)
    assert run.returncode == 2
    assert args[1] in run.stderr.splitlines()[-1]


def test_an_output_folder_that_is_a_file(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert "out" in sentence(prepare("--raw-dir", raw, "--out-dir", tmp_path / "out"), 2)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("name", ["train_all/train_data.csv", "valid_all/valid_all.txt.gz"])
def test_other_files_among_the_rows_are_refused(
    tmp_path: Path, site: Site, raw: Path, name: str
) -> None:
    other = tmp_path / "out" / name
    other.parent.mkdir(parents=True)
    (other.parent / ".hidden").write_text("of no account")
    other.write_text("mine")
    source = ["--raw-dir", raw] if name.endswith("csv") else ["--url", site.url("/a", refuse(404))]
    assert str(other) in sentence(prepare(*source, "--out-dir", tmp_path / "out"), 2)
    assert files(tmp_path / "out") == sorted([name, f"{other.parent.name}/.hidden"])
    assert site.requests == []
    assert other.read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path: Path, raw: Path) -> None:
    limit = file_size_limit(150_000)
    run = prepare("--raw-dir", raw, "--out-dir", tmp_path / "out", preexec_fn=limit)
    assert "File too large; nothing was written" in sentence(run, 1)
    assert files(tmp_path / "out") == []


# Runs that break off

BREAKING_OFF = """
import builtins, os, sys
sys.path.insert(0, sys.argv[1])
import prepare
replace = os.replace
def breaking_off(source, target):
    when, name, error = sys.argv[2].split()
    wanted = os.path.basename(target) == name
    if wanted and when == "before":
        raise getattr(builtins, error)(5, "broken", name)
    replace(source, target)
    if wanted:
        raise getattr(builtins, error)(5, "broken", name)
os.replace = breaking_off
sys.exit(prepare.main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("at", "status", "said", "changed", "gone"),
    [
        ("before train_all.txt OSError", 1, "run it again: ", [], [VALID, TEST]),
        ("before test_all.txt KeyboardInterrupt", 130, "run it again: ", [VALID], [TEST]),
        ("after test_all.txt KeyboardInterrupt", 130, "all files were", [VALID, TEST], []),
    ],
)
def test_a_run_that_breaks_off_leaves_no_overlapping_files(
    tmp_path: Path,
    raw: Path,
    encoded: tuple,
    at: str,
    status: int,
    said: str,
    changed: list[str],
    gone: list[str],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(encoded[1], out)
    run = subprocess.run(
        [sys.executable, "-c", BREAKING_OFF, str(CENSUS), at]
        + ["--raw-dir", str(raw), "--out-dir", str(out), "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    message = sentence(run, status)
    assert said in message
    assert [name for name in OUTPUTS if name in message] == sorted(gone)
    assert files(out) == sorted({"columns.txt", *OUTPUTS} - {*gone})
    left = {*OUTPUTS} - {*gone}
    old = {name for name in left if (out / name).read_bytes() == (encoded[1] / name).read_bytes()}
    assert left - old == {*changed}
    assert not list(out.glob(".prepare*"))


def test_what_a_killed_run_left_is_removed(tmp_path: Path, raw: Path) -> None:
    left = tmp_path / ".prepare-killed"
    left.mkdir()
    (left / "train_all").write_text("half")
    run = prepare("--raw-dir", raw, "--out-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.glob(".prepare*"))


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path, raw: Path) -> None:
    busy = tmp_path / ".prepare-busy"
    busy.mkdir()
    with FileLock(str(tmp_path / ".prepare.lock")):
        said = sentence(prepare("--raw-dir", raw, "--out-dir", tmp_path), 2)
    assert str(tmp_path) in said and "--out-dir" in said
    assert busy.exists()


# Download


class Site(ThreadingHTTPServer):
    """Stands in for UCI.

    Attributes:
        answers: path to the answers to its requests in turn; the last one stays.
        requests: path and ``Range`` header of each request.
    """

    def __init__(self) -> None:
        """Listens on a free port of this machine."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Callable[[Handler], None]]] = {}
        self.requests: list[tuple[str, str | None]] = []

    def url(self, path: str, *answers: Callable[[Handler], None]) -> str:
        """The address of a path that is given `answers`."""
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    """Gives the next answer for the path asked for."""

    def do_GET(self) -> None:
        """Answers one request."""
        self.server.requests.append((self.path, self.headers["Range"]))
        answers = self.server.answers[self.path]
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


def whole(
    body: bytes, upto: int | None = None, etag: str = '"1"', wait: threading.Event | None = None
) -> Callable[[Handler], None]:
    """Answers as a server that knows ranges; sends only the bytes before `upto`."""

    def answer(handler: Handler) -> None:
        start = 0
        if handler.headers["Range"] and handler.headers["If-Range"] == etag:
            start = int(handler.headers["Range"][len("bytes=") : -1])
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) - start))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        handler.wfile.write(body[start:upto])
        if wait:
            handler.wfile.flush()
            wait.wait(30)

    return answer


def unsized(body: bytes, length: str | None = None) -> Callable[[Handler], None]:
    """Answers without saying how long the body is, or with a length that says nothing."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refuse(status: int) -> Callable[[Handler], None]:
    """Answers with an error."""
    return lambda handler: handler.send_error(status)


@pytest.fixture
def site() -> Iterator[Site]:
    """A running server."""
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def zipped(**members: bytes) -> bytes:
    """A zip archive; a double underscore in a name stands for a slash."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def tarred(mode: str, members: dict[str, bytes]) -> bytes:
    """A tar archive; mode ``w:gz`` for a compressed one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def members(train_lines: list[str], test_lines: list[str]) -> dict[str, bytes]:
    """The raw files by name."""
    return {"census-income.data": text(train_lines), "census-income.test": text(test_lines)}


@pytest.fixture(scope="module")
def archive(members: dict[str, bytes]) -> bytes:
    """The raw files in a compressed tar."""
    return tarred("w:gz", {"./notes": b"about", **members})


def assert_done(run: subprocess.CompletedProcess[str], out: Path, lines: list[str]) -> None:
    """Asserts that the run encoded `lines`, and left only the output and the archive."""
    assert run.returncode == 0, run.stderr
    assert numbers_of(out / TRAIN) == encode_plainly(lines)
    assert [f for f in files(out) if not f.startswith("download/")] == ["columns.txt", *OUTPUTS]
    assert len(list((out / "download").iterdir())) == 1


def pack_plain_zip(members: dict[str, bytes]) -> bytes:
    """A zip with a folder in it."""
    return zipped(**{f"mld__{name}": content for name, content in members.items()})


def pack_zip_of_targz(members: dict[str, bytes]) -> bytes:
    """As UCI's first archive may be: the older one within a zip."""
    return zipped(**{"census.tar.gz": tarred("w:gz", members), "index.html": b"<html>"})


def pack_zip_of_gz(members: dict[str, bytes]) -> bytes:
    """A zip of compressed raw files."""
    return zipped(**{f"{name}.gz": gzip.compress(content) for name, content in members.items()})


def pack_tar_of_zip_and_gz(members: dict[str, bytes]) -> bytes:
    """Each raw file packed in its own way."""
    train, test = members
    inner = zipped(**{train: members[train]})
    return tarred("w", {"a/train.zip": inner, f"b/{test}.gz": gzip.compress(members[test])})


def pack_copies_and_folders(members: dict[str, bytes]) -> bytes:
    """The raw files in two forms, among folders of the same names."""
    folders = {f"{name}__": b"" for name in members}
    packed = {f"{name}.gz": gzip.compress(content) for name, content in members.items()}
    return zipped(**packed, **{"census.tar.gz": tarred("w:gz", members)}, **folders)


def pack_gz_of_zip(members: dict[str, bytes]) -> bytes:
    """A zip compressed once more."""
    return gzip.compress(zipped(**members))


@pytest.mark.parametrize(
    "pack",
    [
        pack_plain_zip,
        pack_zip_of_targz,
        pack_zip_of_gz,
        pack_tar_of_zip_and_gz,
        pack_copies_and_folders,
        pack_gz_of_zip,
    ],
)
def test_any_nesting_is_unpacked(
    tmp_path: Path,
    site: Site,
    members: dict[str, bytes],
    train_lines: list[str],
    pack: Callable[[dict[str, bytes]], bytes],
) -> None:
    url = site.url("/census.zip", whole(pack(members)))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)


def test_the_archive_is_downloaded_once(
    tmp_path: Path, site: Site, archive: bytes, train_lines: list[str]
) -> None:
    url = site.url("/a.tar.gz", unsized(archive))
    for _ in range(2):
        run = prepare("--url", url, "--out-dir", tmp_path)
        assert_done(run, tmp_path, train_lines)
        (kept,) = (tmp_path / "download").iterdir()
        assert f"taken as is; to download it again, remove {kept}" in run.stderr
    assert site.requests == [("/a.tar.gz", None)]


@pytest.mark.parametrize("length", ["abc", "-5"])
def test_a_length_that_is_no_number_counts_as_unknown(
    tmp_path: Path, site: Site, archive: bytes, train_lines: list[str], length: str
) -> None:
    url = site.url("/a", unsized(archive, length))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    assert len(site.requests) == 1


def test_a_cut_off_transfer_is_resumed(
    tmp_path: Path, site: Site, archive: bytes, train_lines: list[str]
) -> None:
    url = site.url("/a", whole(archive, 10_000), whole(archive, 15_000), whole(archive))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    assert [asked for _, asked in site.requests] == [None, "bytes=10000-", "bytes=15000-"]


def test_a_stopped_download_is_resumed_by_the_next_run(
    tmp_path: Path, site: Site, members: dict[str, bytes], train_lines: list[str]
) -> None:
    stop = threading.Event()
    archive = tarred("w", members)
    url = site.url("/a", whole(archive, 200_000, wait=stop), whole(archive))
    process = subprocess.Popen(command("--url", url, "--out-dir", tmp_path), env=environment())
    try:
        parts = []
        deadline = time.monotonic() + 30
        while not (parts and parts[0].stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
            parts = list(tmp_path.glob("download/*.part"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        stop.set()
    assert process.returncode == 143
    assert all(name.startswith("download/") and ".part" in name for name in files(tmp_path))

    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    assert re.fullmatch(r"bytes=[1-9]\d*-", site.requests[-1][1])


@pytest.mark.parametrize(
    ("first", "second"), [('"1"', '"2"'), ("", ""), ('W/"1"', 'W/"1"')], ids=["new", "no", "weak"]
)
def test_a_part_that_may_be_stale_is_discarded(
    tmp_path: Path, site: Site, archive: bytes, train_lines: list[str], first: str, second: str
) -> None:
    other = bytes(len(archive))
    url = site.url("/a", whole(other, 10_000, etag=first), whole(archive, etag=second))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    assert len(site.requests) == 2


def test_a_range_that_cannot_be_served_starts_over(
    tmp_path: Path, site: Site, archive: bytes, train_lines: list[str]
) -> None:
    url = site.url("/a", whole(archive, 10_000), refuse(416), whole(archive))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    assert [asked for _, asked in site.requests] == [None, "bytes=10000-", None]


def test_a_busy_server_is_asked_again(
    tmp_path: Path, site: Site, archive: bytes, train_lines: list[str]
) -> None:
    url = site.url("/a", refuse(503), whole(archive))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)


@pytest.mark.parametrize("bad", ["404", "page", "lacking", "cut", "fault", "twice"])
def test_the_second_address_is_tried(
    tmp_path: Path,
    site: Site,
    archive: bytes,
    members: dict[str, bytes],
    train_lines: list[str],
    bad: str,
) -> None:
    train = {"census-income.data": members["census-income.data"]}
    answers = {
        "404": refuse(404),
        "page": whole(b"<html>moved</html>"),
        "lacking": whole(zipped(**train)),
        "cut": unsized(archive[:-5_000]),
        "fault": whole(zipped(**spoilt(members, train_lines))),
        "twice": whole(zipped(**members, **{"b__census-income.test": b"other rows"})),
    }
    urls = site.url("/first.zip", answers[bad]), site.url("/second.tar.gz", whole(archive))
    run = prepare("--url", urls[0], "--url", urls[1], "--out-dir", tmp_path)
    assert_done(run, tmp_path, train_lines)
    assert [path for path, _ in site.requests] == ["/first.zip", "/second.tar.gz"]


def test_a_member_without_end_is_refused_before_it_fills_the_disk(
    tmp_path: Path, site: Site, members: dict[str, bytes]
) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("census-income.test", members["census-income.test"])
        with archive.open("census-income.data", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    url = site.url("/a.zip", whole(file.getvalue()))
    limited = file_size_limit(280 << 20)
    run = prepare("--url", url, "--out-dir", tmp_path, preexec_fn=limited)
    said = sentence(run, 1)
    assert f"{url}: census-income.data in what came is larger than 256 MB" in said
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("404", "404"),
        ("page", "no archive that holds census-income.data and census-income.test"),
        ("lacking", "no archive that holds census-income.test"),
        ("cut", "broken archive"),
        ("nothing", "no archive"),
        ("twice", "two files census-income.test that differ"),
    ],
)
def test_a_failed_download_leaves_nothing(
    tmp_path: Path, site: Site, members: dict[str, bytes], bad: str, said: str
) -> None:
    train = {"census-income.data": members["census-income.data"]}
    answers = {
        "404": refuse(404),
        "page": whole(b"<html>moved</html>"),
        "lacking": whole(zipped(**train)),
        "cut": unsized(zipped(**members)[:-5_000]),
        "nothing": whole(b""),
        "twice": whole(zipped(**members, **{"b__census-income.test": b"other rows"})),
    }
    url = site.url("/a.zip", answers[bad])
    message = sentence(prepare("--url", url, "--out-dir", tmp_path), 1)
    assert url in message and said in message
    assert files(tmp_path) == []


def spoilt(members: dict[str, bytes], train_lines: list[str]) -> dict[str, bytes]:
    """The raw files with a fault in line 9 of the first."""
    return {**members, "census-income.data": text(change(9, 11, "Blue")(train_lines))}


def test_a_fault_in_what_was_downloaded_is_named(
    tmp_path: Path, site: Site, members: dict[str, bytes], train_lines: list[str]
) -> None:
    url = site.url("/a.zip", whole(zipped(**spoilt(members, train_lines))))
    message = sentence(prepare("--url", url, "--out-dir", tmp_path), 2)
    assert f"{url}: census-income.data, line 9, field 11 (race): 'Blue'" in message
    assert f"(removed {tmp_path / 'download'}" in message
    assert files(tmp_path) == []


def test_a_kept_archive_that_is_of_no_use_is_downloaded_again(
    tmp_path: Path, site: Site, archive: bytes, members: dict[str, bytes], train_lines: list[str]
) -> None:
    url = site.url("/a.zip", whole(archive))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    (kept,) = (tmp_path / "download").iterdir()
    kept.write_bytes(zipped(**spoilt(members, train_lines)))
    assert_done(prepare("--url", url, "--out-dir", tmp_path), tmp_path, train_lines)
    assert len(site.requests) == 2
    assert kept.read_bytes() == archive


@pytest.mark.parametrize("size", [10_000, 60_000], ids=["download", "unpack"])
def test_a_full_disk_during_the_download(
    tmp_path: Path, site: Site, archive: bytes, size: int
) -> None:
    assert 10_000 < len(archive) < 60_000
    url = site.url("/a", whole(archive))
    run = prepare("--url", url, "--out-dir", tmp_path, preexec_fn=file_size_limit(size))
    assert "File too large" in sentence(run, 1)
    left = files(tmp_path)
    assert all((tmp_path / name).read_bytes() == archive for name in left)
    assert len(left) == (size > len(archive))


def test_without_internet_the_way_without_it_is_told(tmp_path: Path) -> None:
    """By run.sh too, which says what prepare.py says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/census.zip"
        run = subprocess.run(
            ["sh", str(CENSUS / "run.sh"), "--url", closed, "--out-dir", str(tmp_path)],
            env=environment(PYTHON=sys.executable),
            capture_output=True,
            text=True,
            timeout=50,
        )
    names = "census-income.data and census-income.test"
    assert sentence(run, 1).endswith(f"; without internet, give --raw-dir a folder with {names}")


def test_the_network_needs_requests_and_raw_files_do_not(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    missing = "raise ModuleNotFoundError(name='requests')"
    (tmp_path / "lib" / "requests.py").write_text(missing, encoding="utf-8")
    runs = [
        subprocess.run(
            command("--out-dir", tmp_path / name, *arguments),
            capture_output=True,
            text=True,
            timeout=50,
            env=environment(PYTHONPATH=str(tmp_path / "lib")),
        )
        for name, *arguments in (("net",), ("files", "--raw-dir", raw))
    ]
    assert "the download needs the package requests; or give --raw-dir" in sentence(runs[0], 1)
    assert runs[1].returncode == 0, runs[1].stderr
