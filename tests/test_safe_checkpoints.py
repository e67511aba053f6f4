"""Checkpoints from strangers: nothing in them is run, and PaddleRec's are read."""

from __future__ import annotations

import codecs
import collections
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from helpers import CONFIG, TOOLS, override, run_cases

from rec_runner.checkpoint.format import own_checksum
from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.snapshot import Progress
from rec_runner.checkpoint.weights import load_weights, match
from rec_runner.system.errors import UserError

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


class Calls:
    """Pickled, it asks for a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


class Persistent(pickle.Pickler):
    """Writes ids of objects that lie elsewhere."""

    def persistent_id(self, obj: Any) -> str | None:
        return "somewhere" if obj is Persistent else None


def persistent() -> bytes:
    stream = io.BytesIO()
    Persistent(stream, protocol=2).dump({"a": Persistent})
    return stream.getvalue()


def object_array() -> np.ndarray:
    return np.array([Calls(os.system, "touch made")], dtype=object)


def forged_dtype(code: bytes, state: bytes) -> bytes:
    """An array whose type claims to be plain and whose bytes would be taken for pointers."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85C\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\nX"
        + struct.pack("<I", len(code))
        + code
        + b"\x89\x88\x87R"
        + state
        + b"b\x89C\x08AAAAAAAAtbs."
    )


def forged_shape(shape: bytes) -> bytes:
    """An array said to be larger than its bytes."""
    plain = pickle.dumps({"a": np.zeros(3, np.uint8)}, protocol=2)
    assert plain.count(b"K\x03\x85") == 1
    return plain.replace(b"K\x03\x85", shape)


def nested(depth: int) -> bytes:
    """A dict with a tuple in a tuple in a tuple ... as a key."""
    return b"\x80\x02})" + b"\x85" * depth + b"K\x01s."


# What a file may hold that is more than arrays; the sentence has to say the second thing.
CRAFTED: dict[str, tuple[bytes, str]] = {
    "system": (pickle.dumps(Calls(os.system, "touch made"), 2), "posix.system"),
    "system_stack_global": (pickle.dumps(Calls(os.system, "touch made"), 4), "posix.system"),
    "system_text": (b"cos\nsystem\n(S'touch made'\ntR.", "os.system"),
    "inst": (b"(S'touch made'\nios\nsystem\n.", "STRING"),
    "obj": (b"\x80\x02(cos\nsystem\nX\x0a\x00\x00\x00touch madeo.", "os.system"),
    "newobj": (b"\x80\x02cos\nsystem\n)\x81.", "os.system"),
    "newobj_of_allowed": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85\x81.", "NEWOBJ"),
    "eval": (pickle.dumps({"a": Calls(eval, "open('made', 'w')")}, 2), "eval"),
    "exec": (pickle.dumps({"a": Calls(exec, "open('made', 'w')")}, 4), "builtins.exec"),
    "getattr": (pickle.dumps({"a": Calls(getattr, ARRAY, "tofile")}, 4), "builtins.getattr"),
    "open": (pickle.dumps({"a": Calls(open, "made", "w")}, 4), "open"),
    "popen": (pickle.dumps(Calls(subprocess.Popen, ["touch", "made"]), 4), "subprocess.Popen"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x07dtype.x\x93.", "numpy.dtype.x"),
    "allowed_module_other_name": (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
    "copyreg": (b"\x80\x02ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
    "copy_reg": (b"\x80\x02ccopy_reg\n_reconstructor\n.", "copy_reg._reconstructor"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "persistent": (persistent(), "BINPERSID"),
    "persistent_text": (b"Psomewhere\n.", "PERSID"),
    "object_array": (pickle.dumps({"a": object_array()}, 4), ""),
    "object_dtype": (forged_dtype(b"O8", b"N"), "array of type 'O8'"),
    "object_dtype_disguised": (
        forged_dtype(b"f8", b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?t"),
        "ok",  # as numbers, whatever its flags say
    ),
    "record_dtype": (forged_dtype(b"O8,O8", b"N"), "array of type"),
    "object_scalar": (
        b"\x80\x02}X\x01\x00\x00\x00acnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
        b"X\x02\x00\x00\x00O8\x89\x88\x87RC\x08AAAAAAAA\x86Rs.",
        "array of type 'O8'",
    ),
    "state_of_a_dict": (b"\x80\x02}X\x01\x00\x00\x00aK\x01sb.", ""),
    "set_state": (pickle.dumps(collections.Counter("a"), 2), "collections.Counter"),
    "codec": (pickle.dumps({"a": Calls(codecs.encode, "x", "rot13")}, 2), "encode"),
    "function_as_value": (b"\x80\x02}X\x01\x00\x00\x00acbuiltins\ntuple\ns.", "function"),
    "no_dict": (pickle.dumps([ARRAY], 4), "holds a list"),
    "bare_array": (pickle.dumps(ARRAY, 4), "expected a dict"),
    "half_an_array": (
        b"\x80\x02}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85C\x01b\x87Rs.",
        "Array",
    ),
    "deep_key": (nested(1_000_000), "key that is not a string"),
    "huge_shape": (forged_shape(b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85"), "do not fill"),
    "negative_shape": (forged_shape(b"J\xff\xff\xff\xffJ\xfd\xff\xff\xff\x86"), "damaged"),
    "huge_memo": (b"\x80\x02}r\xff\xff\xff\xff.", "ok"),
    "huge_bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.", "damaged"),
    "large_bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 36) + b"x.", "damaged"),
    "huge_text": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.", "damaged"),
    "huge_frame": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}", "damaged"),
    "huge_integer": (b"\x80\x02}X\x01\x00\x00\x00a\x8b\xff\xff\xff\x7f1s.", "LONG4"),
    "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x.", "BYTEARRAY8"),
    "copies_of_a_list": (
        b"\x80\x02]("
        + b"N" * 10_000
        + b"eq\x00"
        + b"cbuiltins\ntuple\nh\x00\x85R0" * 10_000
        + b".",
        "makes a tuple",
    ),
    "copies_of_a_text": (
        b"\x80\x02X\x10\x27\x00\x00"
        + b"x" * 10_000
        + b"q\x00X\x06\x00\x00\x00latin1q\x01"
        + b"c_codecs\nencode\nh\x00h\x01\x86R" * 10_000
        + b".",
        "encode",
    ),
    # Looked at naively, 2 ** 60 elements; and a list that holds itself.
    "doubled": (
        b"\x80\x02Nq\x000" + b"h\x00h\x00\x86q\x000" * 60 + b"}X\x01\x00\x00\x00ah\x00s.",
        "deep",
    ),
    "endless": (b"\x80\x02}X\x01\x00\x00\x00a]q\x00h\x00as.", "holds itself"),
    "deep": (b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 100_000 + b"a" * 99_999 + b"s.", "deep"),
    "unknown_opcode": (b"\x80\x02\xfe.", "opcode 254"),
    "other_protocol": (b"\x80\x63}.", "damaged"),
    "empty": (b"", "damaged"),
    "text": (b"hello, world", ""),
    "zeros": (b"\0" * 100, ""),
    "cut_short": (pickle.dumps({"a": ARRAY}, 4)[:-9], "damaged"),
}


@pytest.fixture(autouse=True)
def nothing_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The crafted files would make one called ``made`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "made").exists()


def test_the_crafted_files_do_harm_where_they_are_believed(tmp_path: Path) -> None:
    for name in ("system", "system_text", "eval", "popen", "object_array"):
        script = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        (tmp_path / "file").write_bytes(CRAFTED[name][0])
        process = subprocess.run([sys.executable, "-c", script, "file"], check=False)
        assert process.returncode == 0
        for _ in range(100):
            if (tmp_path / "made").exists():
                break
            time.sleep(0.05)
        (tmp_path / "made").unlink()


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    data, expected = CRAFTED[name]
    file = tmp_path / "rec.pdparams"
    file.write_bytes(data)
    try:
        state = load_arrays(file)
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{file} ")
        assert re_words(message) & {"refused", "damaged", "holds"}
        assert expected in message
        assert len(message.splitlines()) == 1
        assert len(message) < 400
        assert error.exit_status == 2
    else:
        assert expected == "ok", f"read as {state}"


def re_words(text: str) -> set[str]:
    return set(text.replace(":", " ").split())


def test_no_crafted_file_takes_memory_that_it_does_not_bring(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from rec_runner.checkpoint.safe_pickle import load_arrays
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        load_arrays(Path(name))
    except Exception as error:
        print(type(error).__name__)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    for name, (data, _) in CRAFTED.items():
        (tmp_path / name).write_bytes(data)
    process = subprocess.run(
        [sys.executable, "-c", script, *CRAFTED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    *errors, megabytes = process.stdout.split()
    assert set(errors) == {"UserError"}
    assert int(megabytes) < 200


def test_the_tools_refuse_a_file_that_would_run_code(tmp_path: Path) -> None:
    """In our checkpoint with checksums that fit, and in PaddleRec's, which has none."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    given = {"epochs": 1, "model_save_path": ours, "infer_start_epoch": 0, "infer_end_epoch": 1}
    (result,) = run_cases([("train", "dygraph", ["-m", str(CONFIG), *override(**given)])], tmp_path)
    assert result.status == 0, result.stderr
    (theirs / "0").mkdir(parents=True)
    cases, expected = [], []
    for name in ("system", "system_stack_global", "eval", "object_array", "deep_key"):
        for folder in (ours, theirs):
            target = tmp_path / f"{folder.name}-{name}"
            shutil.copytree(folder, target)
            (target / "0" / "rec.pdparams").write_bytes(CRAFTED[name][0])
            given.update(infer_load_path=target)
            cases.append(("infer", given.copy()))
            expected.append((2, "error: "))
            if folder is theirs:
                start = {"model_init_path": target / "0", "model_save_path": tmp_path / "new"}
                cases.append(("train", {**given, **start}))
                expected.append((2, "error: "))
            else:
                resign(target / "0")
                more = {"resume": "true", "model_save_path": target}
                cases.append(("train", {**given, **more}))
                expected.append((0, "warning: "))  # resume goes back to the beginning
    lines = [(tool, "dygraph", ["-m", str(CONFIG), *override(**more)]) for tool, more in cases]
    for line, result, (status, kind) in zip(lines, run_cases(lines, tmp_path), expected):
        assert result.status == status, (line, result.stderr)
        assert result.sentences[0].startswith(kind), result.stderr
        assert "rec.pdparams is refused: it " in result.sentences[0]
        assert len(result.sentences) == (1 if status else 2)


def resign(folder: Path) -> None:
    """Note the checksums of what is there now, as a stranger would."""
    manifest = json.loads((folder / "rec.json").read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["own_sha256"] = own_checksum(manifest)
    (folder / "rec.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{}",
        "null",
        '{"sha256": {"/dev/zero": "0"}}',
        '{"progress": 1, "own_sha256": 1}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
        "",
    ],
    ids=["deep", "empty", "null", "device", "types", "latin1", "nothing"],
)
def test_a_crafted_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "rec.pdparams").write_bytes(pickle.dumps({"a": ARRAY}))
    (tmp_path / "rec.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match="is damaged: rec.json") as caught:
        load_weights(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_signed_manifest_cannot_name_other_files(tmp_path: Path) -> None:
    manifest = {"progress": vars(Progress()), "fingerprint": {}, "saved_at": 1.0}
    manifest["sha256"] = {"/dev/zero": "0"}
    manifest["own_sha256"] = own_checksum(manifest)
    (tmp_path / "rec.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="names files that are not a checkpoint's"):
        load_weights(tmp_path)


# What is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_every_plain_type_are_read_to_the_bit(tmp_path: Path, protocol: int, rng) -> None:
    state: dict[str, Any] = {
        code: np.frombuffer(rng.bytes(48), np.uint8).view(code).reshape(-1, 2)
        for code in ("<f2", "<f4", "<f8", ">f4", "<i8", "<i4", "<i2", "i1", "u1", "<u2", ">u8")
    }
    state["flags"] = rng.random((3, 2)) < 0.5
    state["columns"] = np.asfortranarray(rng.normal(size=(3, 4)))
    state["large"] = rng.normal(size=(300, 300)).astype(np.float32)
    state["empty"] = np.empty((0, 4), np.float32)
    state["single"] = np.array(2.5)
    state["scalar"] = np.float32(2.5)
    state["same"] = state["large"]
    state["plain"] = {"a": [1, -(2**40), 2.5, True, None, "ß"], "b": (), "c": (1, (2, 3, 4, 5))}
    state["ordered"] = collections.OrderedDict(x=ARRAY)
    file = tmp_path / "arrays"
    file.write_bytes(pickle.dumps(state, protocol))
    read = load_arrays(file)
    assert read.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, (np.ndarray, np.generic)):
            assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape), name
            assert read[name].tobytes() == value.tobytes(), name
    assert read["plain"] == state["plain"]
    assert read["ordered"].keys() == {"x"}
    np.testing.assert_array_equal(read["ordered"]["x"], ARRAY)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_is_read(tmp_path: Path, protocol: int) -> None:
    net = paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.BatchNorm1D(4))
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.1, 10)
    adam = paddle.optimizer.Adam(schedule, parameters=net.parameters())
    net(paddle.rand([5, 3])).sum().backward()
    adam.step()
    (tmp_path / "0").mkdir()
    paddle.save(net.state_dict(), str(tmp_path / "0" / "rec.pdparams"), protocol=protocol)
    paddle.save(adam.state_dict(), str(tmp_path / "0" / "rec.pdopt"), protocol=protocol)
    weights = load_weights(tmp_path / "0")
    assert weights.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy())
    slots = load_arrays(tmp_path / "0" / "rec.pdopt")
    assert slots["LR_Scheduler"]["last_lr"] == schedule.last_lr
    for name, value in adam.state_dict().items():
        if name != "LR_Scheduler":
            np.testing.assert_array_equal(slots[name], value.numpy())
    # The static trainer's name, and tensors on their own.
    (tmp_path / "1").mkdir()
    tensors = {"w": net[0].weight, "x": paddle.to_tensor([1.0, 2.0])}
    paddle.save(tensors, str(tmp_path / "1" / "rec_static.pdparams"), protocol=protocol)
    weights = load_weights(tmp_path / "1")
    np.testing.assert_array_equal(weights["w"], net[0].weight.numpy())
    np.testing.assert_array_equal(weights["x"], [1, 2])


def test_a_checkpoint_may_be_named_by_its_file(tmp_path: Path) -> None:
    for number, name in enumerate(("rec.pdparams", "rec_static.pdparams")):
        array = np.full(3, number, np.float32)
        (tmp_path / name).write_bytes(pickle.dumps({"w": array}, 4))
        np.testing.assert_array_equal(load_weights(tmp_path / name)["w"], array)
    np.testing.assert_array_equal(load_weights(tmp_path)["w"], [0, 0, 0])
    (tmp_path / "rec.pdopt").write_bytes(b"")
    with pytest.raises(UserError, match=r"rec\.pdopt is not a folder; that of a rec\.pdparams"):
        load_weights(tmp_path / "rec.pdopt")


@pytest.mark.parametrize("value", ["text", 1, None, [1], {"b": 1}])
def test_weights_that_are_no_arrays_are_named(tmp_path: Path, value: Any) -> None:
    (tmp_path / "rec.pdparams").write_bytes(pickle.dumps({"bottom.weight": value}, 4))
    with pytest.raises(UserError, match="bottom.weight is a .*, expected an array"):
        load_weights(tmp_path)


def test_no_yaml_tag_is_obeyed(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    cases = []
    for number, tag in enumerate(("python/object/apply:os.system", "python/name:os.system")):
        text = f"runner:\n  epochs: !!{tag} ['touch made']\n"
        config.with_name(f"{number}.yaml").write_text(text)
        cases.append(("train", "dygraph", ["-m", str(config.with_name(f"{number}.yaml"))]))
        cases.append(
            ("train", "dygraph", ["-m", str(CONFIG), "-o", f"runner.seed=!!{tag} [touch made]"])
        )
    for result in run_cases(cases, tmp_path):
        assert result.status == 2
        (sentence,) = result.sentences
        assert "is not YAML" in sentence


# How weights fit a network ----------------------------------------------------------------------


def test_weights_are_matched_by_name_shape_and_type() -> None:
    own = {"w": np.zeros((2, 3), np.float32), "n": np.zeros(1, np.int64)}
    state = {"n": np.array([5]), "w": np.arange(6.0).reshape(2, 3), "more": ARRAY}
    matched = match(state, own, "out/0", whole=False)
    assert list(matched) == ["w", "n"]
    assert {name: value.dtype for name, value in matched.items()} == {"w": "float32", "n": "int64"}
    np.testing.assert_array_equal(matched["w"], state["w"])
    bad = {
        "out/0 has more, which this config's network has not": {},
        "out/0: w has shape [6], this config's network has [2, 3]": {"w": np.zeros(6)},
        "out/0: n holds int32, this config's network has int64": {"n": np.zeros(1, np.int32)},
        "out/0: w holds numbers that are not numbers (NaN)": {"w": np.full((2, 3), np.nan)},
    }
    for said, change in bad.items():
        with pytest.raises(UserError) as caught:
            match({**state, **change}, own, "out/0", whole=True)
        assert str(caught.value) == f"checkpoint {said}"
    with pytest.raises(UserError, match="has no w, which"):
        match({"n": state["n"]}, own, "out/0", whole=True)
