"""Checkpoints made to take memory or time, and links, pipes and devices in the place of files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CONFIG, TOOLS, override, paddlerec_state, run_cases

from hyper_parameters import HyperParameters
from paddlerec_weights import WeightsError, convert_state_dict
from rec_runner.checkpoint.format import is_checkpoint, own_checksum
from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.snapshot import Progress
from rec_runner.checkpoint.weights import load_weights
from rec_runner.system.errors import UserError

BIG = 1 << 22
KEY = b"X\x01\x00\x00\x00a"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NEW = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"
FLOAT = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"


def text(characters: bytes) -> bytes:
    return b"X" + len(characters).to_bytes(4, "little") + characters


def raw(data: bytes) -> bytes:
    return b"B" + len(data).to_bytes(4, "little") + data


def shaped(shape: bytes, data: bytes = b"", kind: bytes = FLOAT, before: bytes = b"") -> bytes:
    """A dict with one array, whose shape is what these opcodes leave on the stack."""
    state = b"(K\x01" + shape + kind + b"\x89" + raw(data) + b"t"
    return b"\x80\x02" + before + b"}" + KEY + NEW + state + b"bs."


def named_often(count: int, value: bytes) -> bytes:
    """A dict with the same thing under many names."""
    items = b"".join(text(b"%d" % number) + b"h\x01" for number in range(count))
    return b"\x80\x02" + value + b"q\x010}(" + items + b"u."


def array(data: bytes) -> bytes:
    """An array of float32."""
    shape = b"J" + (len(data) // 4).to_bytes(4, "little") + b"\x85"
    return NEW + b"(K\x01" + shape + FLOAT + b"\x89" + raw(data) + b"tb"


def called_often(arguments: bytes) -> bytes:
    """The function that makes arrays, called with the same long arguments."""
    return b"\x80\x02" + arguments + b"q\x000" + RECONSTRUCT + b"q\x010" + b"h\x01h\x00R0" * 30_000


def one_buffer_in_many_arrays(count: int, size: int) -> bytes:
    """Arrays of their own, all of the same bytes."""
    each = b"h\x02h\x03K\x00\x85C\x01b\x87R(K\x01h\x04h\x05\x89h\x01tb"
    head = raw(bytes(size)) + b"q\x010" + RECONSTRUCT + b"q\x020cnumpy\nndarray\nq\x030"
    head += b"J" + (size // 4).to_bytes(4, "little") + b"\x85q\x040" + FLOAT + b"q\x050"
    items = b"".join(text(b"%d" % number) + each for number in range(count))
    return b"\x80\x02" + head + b"}(" + items + b"u."


HUGE_INTEGER = b"\x8b" + (40_000).to_bytes(4, "little") + b"\x7f" * 40_000
FEW = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"  # 2 ** 63 - 1

# Each took seconds, gigabytes, or was read as what it is not.
CRAFTED: dict[str, tuple[bytes, str]] = {
    # 3.9 billion times b"A", which is what math.prod() makes of it.
    "shape_of_bytes": (
        shaped(b"\x8a\x05" + (3_900_000_000).to_bytes(5, "little") + b"C\x01A\x86"),
        "shape",
    ),
    "shape_of_text": (shaped(b"X\x02\x00\x00\x00ab\x85"), "shape"),
    "shape_is_bytes": (shaped(b"C\x04\x00\x01\x02\x03"), "shape"),
    "shape_of_bool": (shaped(b"\x88\x85", b"1234"), "shape"),
    "shape_of_floats": (shaped(b"G?\xf0\x00\x00\x00\x00\x00\x00\x85", b"1234"), "shape"),
    "shape_is_a_list": (shaped(b"]K\x01a", b"1234"), "shape"),
    "shape_is_a_number": (shaped(b"K\x01", b"1234"), "shape"),
    "shape_of_scalars": (
        shaped(b"cnumpy.core.multiarray\nscalar\n" + FLOAT + b"C\x040000\x86R\x85", b"1234"),
        "shape",
    ),
    "negative_shape": (shaped(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"1234"), "shape"),
    "shape_of_70_dimensions": (shaped(b"(" + b"K\x01" * 70 + b"t", b"1234"), "shape"),
    "shape_of_a_million_dimensions": (shaped(b"(" + FEW * 300_000 + b"t"), "shape"),
    "empty_of_huge_length": (shaped(b"K\x00J\x00\xca\x9a\x3b\x86"), "shape"),
    "references_to_a_huge_integer": (
        shaped(b"(" + b"h\x01" * 20_000 + b"t", before=HUGE_INTEGER + b"q\x010"),
        "LONG4",
    ),
    "one_array_under_700_names": (named_often(700, array(bytes(BIG))), "over and over"),
    "one_pair_under_700_names": (
        named_often(700, b"cbuiltins\ntuple\n" + text(b"w") + array(bytes(BIG)) + b"\x86\x85R"),
        "over and over",
    ),
    "one_dict_under_700_names": (
        named_often(700, b"}" + KEY + array(bytes(BIG)) + b"s"),
        "over and over",
    ),
    "one_buffer_in_700_arrays": (one_buffer_in_many_arrays(700, BIG), "over and over"),
    "one_text_under_700_names": (named_often(700, text(b"x" * BIG)), "over and over"),
    "doubled": (
        b"\x80\x02Nq\x000" + b"h\x00h\x00\x86q\x000" * 40 + b"}" + KEY + b"h\x00s.",
        "over and over",
    ),
    "endless": (b"\x80\x02}" + KEY + b"]q\x00h\x00as.", "holds itself"),
    "endless_in_a_tuple": (b"\x80\x02}" + KEY + b"]q\x00h\x00\x85as.", "holds itself"),
    "tower_of_tuples": (b"\x80\x02}" + KEY + b"N" + b"\x85" * 1_000_000 + b"s.", "deep"),
    "tower_of_lists": (b"\x80\x02}" + KEY + b"]" * 300 + b"a" * 299 + b"s.", "deep"),
    "containers": (b"\x80\x02" + b"}" * 2_000_000 + b".", "containers"),
    "marks": (b"\x80\x02" + b"(" * 2_000_000 + b".", "containers"),
    "memo": (b"\x80\x04N" + b"\x94" * 2_000_000 + b".", "containers"),
    "call_with_a_long_list": (called_often(b"](" + b"N" * 100_000 + b"e"), "call"),
    "call_with_long_bytes": (called_often(raw(bytes(100_000))), "call"),
    # Each comparison of two equal keys of 4 MB takes 0.2 ms.
    "long_keys": (
        b"\x80\x02"
        + text(b"k" * BIG)
        + b"q\x000"
        + text(b"k" * BIG)
        + b"q\x010}h\x00Ns("
        + b"h\x01N" * 300_000
        + b"u.",
        "key",
    ),
    "key_with_a_line_end": (b"\x80\x02}" + text(b"a\n\x1b[31mb") + b"K\x01s.", "key"),
    "long_name": (b"\x80\x02c" + b"a" * BIG + b"\nb\n.", ""),
    "long_name_in_a_frame": (
        b"\x80\x04\x95" + (BIG + 9).to_bytes(8, "little") + b"c" + b"a" * BIG + b"\nb\n.",
        "asks for aaa",
    ),
    "name_of_control_characters": (b"\x80\x02c\x1b[31m\x07a\r\nb\n.", "asks for"),
    "long_type": (
        shaped(b"K\x01\x85", b"1234", b"cnumpy\ndtype\n" + text(b"f" * BIG) + b"\x85R"),
        "array of type",
    ),
    "type_of_swapped_bytes": (
        shaped(b"K\x01\x85", b"1234", FLOAT + b"(K\x03X\x01\x00\x00\x00SNNNNNNtb"),
        "",
    ),
}


@pytest.fixture(scope="module")
def read_in_a_child(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How each crafted file was read, in a process with 700 MB of address space to itself."""
    folder = tmp_path_factory.mktemp("crafted")
    script = """
import json, resource, sys, time
from pathlib import Path
from rec_runner.checkpoint.safe_pickle import load_arrays
pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (700 << 20),) * 2)
for name in sys.argv[1:]:
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        said = f"read: {len(load_arrays(Path(name)))}"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([name, said, time.process_time() - start, memory // 1024]), flush=True)
"""
    results = {}
    for name, (data, _) in CRAFTED.items():
        (folder / name).write_bytes(data)
    left = list(CRAFTED)
    while left:  # one that hangs shall not hide the others
        try:
            output = subprocess.run(
                [sys.executable, "-c", script, *left],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(TOOLS)},
                stdout=subprocess.PIPE,
                timeout=60,
                check=False,
            ).stdout
        except subprocess.TimeoutExpired as error:
            output = error.output or b""
        for line in output.splitlines():
            name, said, seconds, megabytes = json.loads(line)
            results[name] = {"said": said, "seconds": seconds, "megabytes": megabytes}
            left.remove(name)
        if left:
            results[left.pop(0)] = {"said": "it hung or was killed"}
    return results


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_takes_neither_memory_nor_time(
    read_in_a_child: dict[str, dict[str, Any]], name: str
) -> None:
    data, expected = CRAFTED[name]
    result = read_in_a_child[name]
    said = result["said"]
    assert said.startswith("UserError: "), said[:300]
    assert re.search(r"is (refused|damaged)", said), said[:300]
    assert expected in said, said[:300]
    assert len(said) < 500
    assert said.isprintable()
    assert result["seconds"] < 5
    assert result["megabytes"] < 250 + len(data) / (1 << 20)


def test_tied_weights_and_layers_of_any_number_are_read(tmp_path: Path) -> None:
    tied = np.arange(1 << 20, dtype=np.float32)
    state: dict[str, Any] = {f"tied_{number}": tied for number in range(3)}
    state.update({f"layer_{number}": np.full(3, number, ">f8") for number in range(3_000)})
    state["flags"], state["numbers"] = [True, False] * 600_000, [0.5, 300] * 100_000
    for protocol in (2, 4):
        (tmp_path / "file").write_bytes(pickle.dumps(state, protocol))
        read = load_arrays(tmp_path / "file")
        assert read.keys() == state.keys()
        np.testing.assert_array_equal(read["tied_2"], tied)
        assert read["tied_2"] is read["tied_0"]
        np.testing.assert_array_equal(read["layer_2999"], [2999] * 3)
        assert (read["flags"], read["numbers"]) == (state["flags"], state["numbers"])


# What is no plain file --------------------------------------------------------------------------

KINDS = {
    "pipe": "not a plain file",
    "folder": "not a plain file",
    "link": "it is a link, a plain file is expected",
    "link_to_nothing": "it is a link, a plain file is expected",
    "link_to_zeros": "it is a link, a plain file is expected",
}


def put(kind: str, file: Path) -> None:
    """Put something else in the place of a file, whose bytes a link still leads to."""
    aside = file.with_name("aside")
    if file.exists():
        file.rename(aside)
    else:
        aside.write_bytes(pickle.dumps({"w": np.zeros(3)}))
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to({"link": aside, "link_to_zeros": "/dev/zero"}.get(kind, Path("nothing")))


def checkpoint(folder: Path, *names: str) -> Path:
    """A folder of ours with the files of these names."""
    folder.mkdir()
    names = ("rec.pdparams", "rec.pdopt", *(name for name in names if name == "rec.pdstate"))
    data = pickle.dumps({"w": np.zeros(3, np.float32)}, 4)
    for name in names:
        (folder / name).write_bytes(data)
    manifest: dict[str, Any] = {
        "progress": vars(Progress(batch=int("rec.pdstate" in names))),
        "fingerprint": {},
        "saved_at": 1.0,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name in names},
    }
    manifest["own_sha256"] = own_checksum(manifest)
    (folder / "rec.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends a test that waits for a pipe, or takes in what a device gives."""

    def end(*_: Any) -> None:
        pytest.fail("it waits")  # no exception that somebody catches

    handler = signal.signal(signal.SIGALRM, end)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), hard))
    signal.alarm(10)
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.signal(signal.SIGALRM, handler)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_named(tmp_path: Path, kind: str) -> None:
    """Without a manifest, and with one that has the checksum of what a link leads to."""
    ours = ("rec.pdparams", "rec.pdopt", "rec.pdstate")
    for number, name in enumerate((*ours, "rec.json")):
        if (kind, name) == ("link_to_zeros", "rec.json"):
            continue
        folder = checkpoint(tmp_path / str(number), *ours)
        put(kind, folder / name)
        assert is_checkpoint(folder)
        with pytest.raises(UserError) as caught:
            load_weights(folder)
        assert f"{folder} is damaged: {name}: " in str(caught.value)
        assert KINDS[kind] in str(caught.value)
    for name in ("rec.pdparams", "rec_static.pdparams"):
        folder = tmp_path / name
        folder.mkdir()
        put(kind, folder / name)
        assert is_checkpoint(folder)
        for path in (folder, folder / name) if kind != "folder" else (folder,):
            with pytest.raises(UserError) as caught:
                load_weights(path)
            assert f"{folder / name} cannot be read: " in str(caught.value)
            assert KINDS[kind] in str(caught.value)


def test_folders_may_be_reached_by_links(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "real", "rec.pdparams")
    (tmp_path / "link").symlink_to(folder)
    assert load_weights(tmp_path / "link").keys() == {"w"}
    assert load_weights(tmp_path / "link" / "rec.pdparams").keys() == {"w"}


def test_the_tools_say_what_is_no_plain_file(tmp_path: Path) -> None:
    """A pipe made infer wait for ever, the device took all memory."""
    cases = []
    for number, (kind, name) in enumerate(
        (("pipe", "rec.pdparams"), ("pipe", "rec.pdopt"), ("link_to_zeros", "rec.pdparams"))
    ):
        (tmp_path / str(number)).mkdir()
        folder = checkpoint(tmp_path / str(number) / "0", "rec.pdparams", "rec.pdopt")
        put(kind, folder / name)
        given = {"infer_load_path": folder.parent, "infer_start_epoch": 0, "infer_end_epoch": 1}
        cases.append(("infer", name, given))
        given = {"epochs": 1, "model_init_path": folder, "model_save_path": tmp_path / "new"}
        cases.append(("train", name, given))
        if name == "rec.pdparams":
            cases.append(("train", name, {**given, "model_init_path": folder / name}))
    lines = [(tool, "dygraph", ["-m", CONFIG, *override(**given)]) for tool, _, given in cases]
    for (_, name, _), result in zip(cases, run_cases(lines, tmp_path)):
        assert result.status == 2, result.stderr
        (sentence,) = result.sentences
        assert name in sentence
        assert "plain file" in sentence


def test_a_huge_file_is_neither_hashed_nor_read_in_memory(tmp_path: Path) -> None:
    """A file with a hole: its length is 20 GB, and its bytes on disk are a few."""
    for name, head in {
        "zeros": b"",
        "bytes": b"\x80\x04\x8e" + (1 << 34).to_bytes(8, "little"),
    }.items():
        file = tmp_path / name / "rec.pdparams"
        file.parent.mkdir()
        file.write_bytes(head)
        os.truncate(file, 20 << 30)
    hashed = checkpoint(tmp_path / "hashed", "rec.pdparams")
    os.truncate(hashed / "rec.pdparams", 600 << 20)
    script = """
import resource, sys
from pathlib import Path
from rec_runner.checkpoint.weights import load_weights
pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (300 << 20),) * 2)
for name in ("zeros", "bytes", "hashed"):
    try:
        load_weights(Path(name))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.stdout.splitlines() == [
        "UserError: zeros/rec.pdparams is refused: it uses the opcode 0; only arrays are read here",
        "UserError: bytes/rec.pdparams is refused: it does not fit into memory",
        "UserError: checkpoint hashed is damaged: rec.pdparams: its checksum is not the one noted",
    ], process.stderr


# What is made of what was read ------------------------------------------------------------------


def test_a_paddlerec_checkpoint_of_another_size_is_refused_before_it_is_converted(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """4 MB of ``bottom.weight`` as one long row, and 128 bins for each column: 512 MB."""
    state = paddlerec_state(rng, 1, 2, 1 << 20, 1)
    settings = HyperParameters(numeric_encoding="piecewise_linear")
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=r"bottom\.weight has shape \[1, 1048576\]"):
            convert_state_dict(state, settings)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
