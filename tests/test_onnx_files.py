"""ONNX models of exports: written, converted by paddle2onnx, run by ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import ROOT
from onnx import helper, numpy_helper

from rec_runner.exported.manifest import ONNX, ONNX_DATA, Manifest, Task, Tensor
from rec_runner.exported.onnx_file import write_onnx
from rec_runner.exported.onnx_runtime import PIECE_ROWS, OnnxRuntime
from rec_runner.exported.onnx_weights import FIELDS, files_of_weights
from rec_runner.exported.paddle_to_onnx import paddle_to_onnx
from rec_runner.system.errors import UserError

FEATURES = 300
CONVERTER = """
import os, sys

def export(model, params, save_file, opset_version=7, enable_onnx_checker=True, {more}):
    print("paddle2onnx says much")
    with open(save_file, "w") as file:
        {body}

def abort(said):
    print(said)
    sys.stdout.flush()
    os.abort()
"""


def linear_model(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """``features @ weight + bias``, each column an output: ``one``, ``two``."""
    constants = {"weight": weight, "bias": bias}
    nodes = [helper.make_node("Gemm", ["features", "weight", "bias"], ["all"])]
    for place, name in enumerate(("one", "two")):
        constants[f"place.{place}"] = np.array(place)
        nodes.append(helper.make_node("Gather", ["all", f"place.{place}"], [name], axis=1))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("features", 1, ["N", len(weight)])],
        [helper.make_tensor_value_info(name, 1, ["N"]) for name in ("one", "two")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def manifest(
    files: tuple[str, ...] = (ONNX,), outputs: tuple[str, ...] = ("one", "two")
) -> Manifest:
    """What ``model.json`` says of such a model."""
    return Manifest(
        tuple(Task(name, "regression", name) for name in outputs),
        (Tensor("features", "float32", (None, FEATURES)),),
        tuple(Tensor(name, "float32", (None,)) for name in outputs),
        files={name: {} for name in files},
    )


class Made:
    """A model, its rows and what it says of them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.weight = rng.normal(size=(FEATURES, 2)).astype(np.float32)
        self.bias = np.array([1, -1], np.float32)
        self.model = linear_model(self.weight, self.bias)
        self.rows = rng.normal(size=(8 * PIECE_ROWS + 5, FEATURES)).astype(np.float32)
        self.expected = self.rows.astype(np.float64) @ self.weight + self.bias


@pytest.fixture
def made(rng: np.random.Generator) -> Made:
    return Made(rng)


def check(running: OnnxRuntime, made: Made, rows: int) -> None:
    """The runtime says of the first rows what NumPy does."""
    found = running.run({"features": made.rows[:rows]})
    assert [output.shape for output in found] == [(rows,)] * 2
    np.testing.assert_allclose(np.stack(found, 1), made.expected[:rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("most_inside", [10**9, 0])
def test_a_model_written_and_run(made: Made, tmp_path: Path, most_inside: int) -> None:
    write_onnx(made.model, tmp_path, most_inside)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ([ONNX] if most_inside else [ONNX, ONNX_DATA])
    if not most_inside:
        assert (tmp_path / ONNX).stat().st_size < made.weight.nbytes
        assert (tmp_path / ONNX_DATA).stat().st_size >= made.weight.nbytes
    running = OnnxRuntime(tmp_path, manifest(tuple(names)), 1)
    for name in names:
        (tmp_path / name).unlink()  # what it needs is in memory
    for rows in (0, 1, 7, PIECE_ROWS, PIECE_ROWS + 1, len(made.rows)):
        check(running, made, rows)
    running.close()


def test_many_threads_at_once(made: Made, tmp_path: Path) -> None:
    write_onnx(made.model, tmp_path)
    running = OnnxRuntime(tmp_path, manifest(), 2)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda rows: check(running, made, rows), [1, 1500, 3, 40, 2000] * 8))


def test_many_rows_are_run_in_pieces(made: Made, tmp_path: Path, monkeypatch) -> None:
    write_onnx(made.model, tmp_path)
    running, sizes = OnnxRuntime(tmp_path, manifest(), 1), []
    run = running._run
    monkeypatch.setattr(
        running, "_run", lambda feeds: sizes.append(len(*feeds.values())) or run(feeds)
    )
    check(running, made, len(made.rows))
    assert sizes == [PIECE_ROWS] * 8 + [5]
    check(running, made, 0)
    assert len(sizes) == 9  # older ones end the process at no rows


def test_outputs_come_in_the_manifests_order(made: Made, tmp_path: Path) -> None:
    write_onnx(made.model, tmp_path)
    running = OnnxRuntime(tmp_path, manifest(outputs=("two", "one")), 1)
    found = running.run({"features": made.rows[:9]})
    np.testing.assert_allclose(found[0], made.expected[:9, 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda file: file.write_bytes(b"none"), "is no model that ONNX Runtime can run: "),
        (lambda file: file.write_bytes(b""), "is no model that ONNX Runtime can run: "),
        (lambda file: file.write_bytes(file.read_bytes()[:900]), "is no model that ONNX"),
        (lambda file: None, "has the outputs one, two, expected one, three as model.json says"),
    ],
)
def test_a_file_that_is_not_the_model(
    made: Made, tmp_path: Path, change: Callable[[Path], Any], sentence: str, capfd
) -> None:
    write_onnx(made.model, tmp_path)
    change(tmp_path / ONNX)
    with pytest.raises(UserError) as caught:
        OnnxRuntime(tmp_path, manifest(outputs=("one", "three")), 1)
    assert str(caught.value).startswith(str(tmp_path / ONNX)) and sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def external(file: str, key: str = "location") -> onnx.TensorProto:
    """A tensor whose numbers lie in a file."""
    tensor = onnx.TensorProto(name="bias", dims=[2], data_type=1)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for name, value in ((key, file), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=name, value=value)
    return tensor


def in_weights(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.initializer[1].CopyFrom(tensor)


def in_a_node(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    del model.graph.initializer[1]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["bias"], value=tensor))


def in_an_inner_graph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    out = helper.make_tensor_value_info("out", 1, [2])
    same = helper.make_node("Identity", ["bias"], ["out"])
    inner = helper.make_graph([same], "inner", [], [out], [tensor])
    node = helper.make_node("If", ["yes"], ["bias"], then_branch=inner, else_branch=inner)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.insert(0, node)


@pytest.mark.parametrize("place", [in_weights, in_a_node, in_an_inner_graph])
@pytest.mark.parametrize("files", [(ONNX,), (ONNX, ONNX_DATA)])
def test_weights_that_lie_in_a_file_of_the_machine_are_not_opened(
    made: Made, tmp_path: Path, place: Callable[..., None], files: tuple[str, ...], monkeypatch
) -> None:
    """Whichever ONNX Runtime it is: older ones open it, and tell what stands there."""
    folder = tmp_path / "export"
    folder.mkdir()
    for file in (tmp_path / "secret", folder / "paddle_model.pdiparams"):
        file.write_bytes(np.array([1, 2], np.float32).tobytes())
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    names = ["../secret", str(tmp_path / "secret"), "paddle_model.pdiparams", "", "./model.onnx"]
    for name in names + ([] if ONNX_DATA in files else [ONNX_DATA]):
        model = linear_model(made.weight, made.bias)
        place(model, external(name))
        (folder / ONNX).write_bytes(model.SerializeToString())
        with pytest.raises(UserError) as caught:
            OnnxRuntime(folder, manifest(files), 1)
        expected = f"{folder / ONNX} has weights in the file {name!r}, which is none of this"
        assert str(caught.value).startswith(expected)


def test_all_that_leads_to_a_models_weights_is_looked_through() -> None:
    """As the package onnx describes its messages."""
    found: dict[str, dict[int, str]] = {}
    wanted = {"TensorProto"}
    kinds = [kind for kind in vars(onnx.onnx_ml_pb2).values() if hasattr(kind, "DESCRIPTOR")]
    kinds = [kind.DESCRIPTOR for kind in kinds if hasattr(kind.DESCRIPTOR, "fields")]
    while True:
        for kind in kinds:
            leads = {f.number: f.message_type for f in kind.fields if f.message_type is not None}
            inner = {number: to.name for number, to in leads.items() if to.name in wanted}
            if inner:
                found[kind.name] = inner
        if wanted == {"TensorProto", *found}:
            break
        wanted |= set(found)
    field = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"]
    found["TensorProto"] = {field.number: field.message_type.name}
    assert found == FIELDS


def test_what_is_said_of_a_file_twice_counts_both_times() -> None:
    tensor = external("one", key="another").SerializeToString()
    assert files_of_weights(b"") == set()
    twice = external("one").external_data[0].SerializeToString()
    entry = twice + onnx.StringStringEntryProto(value="two").SerializeToString()
    for inner, files in ((tensor, set()), (field(13, entry), {"one", "two"})):
        assert files_of_weights(field(7, field(5, inner))) == files
    for torn in (b"\x3a", b"\x3a\x05abc", b"\x3b", b"\xff" * 12, b"\x39abc"):
        with pytest.raises(ValueError, match="it is no ONNX model"):
            files_of_weights(torn)


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf, of less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_rows_that_the_model_cannot_take(made: Made, tmp_path: Path, capfd) -> None:
    write_onnx(made.model, tmp_path)
    running = OnnxRuntime(tmp_path, manifest(), 1)
    for rows in (made.rows[:3, :5], made.rows[:3].astype(np.float64)):
        with pytest.raises(UserError, match="model.onnx cannot be run: "):
            running.run({"features": rows})
    assert capfd.readouterr() == ("", "")
    check(running, made, 3)


def test_a_run_that_fails_says_so_in_one_sentence(made: Made, tmp_path: Path, capfd) -> None:
    nodes = [
        helper.make_node("Cast", ["features"], ["place"], to=7),
        helper.make_node("Gather", ["weight", "place"], ["one"]),
    ]
    del made.model.graph.node[:], made.model.graph.output[1:]
    made.model.graph.node.extend(nodes)
    made.model.graph.input[0].type.tensor_type.shape.dim.pop()
    made.model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=2)
    write_onnx(made.model, tmp_path)
    running = OnnxRuntime(tmp_path, manifest(outputs=("one",)), 1)
    with pytest.raises(UserError, match="model.onnx cannot be run: .*out of data bounds"):
        running.run({"features": np.array([1, 1e6], np.float32)})
    assert capfd.readouterr() == ("", "")


def test_no_valid_model_is_written(made: Made, tmp_path: Path) -> None:
    made.model.graph.node[0].op_type = "Gemmm"
    with pytest.raises(UserError, match="the hook onnx_model gives no valid ONNX model: .*Gemmm"):
        write_onnx(made.model, tmp_path)


def test_missing_packages_are_named(made: Made, tmp_path: Path, monkeypatch) -> None:
    write_onnx(made.model, tmp_path)
    for package in ("onnx", "onnxruntime", "paddle2onnx"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match="python -m pip install onnx$"):
        write_onnx(made.model, tmp_path)
    with pytest.raises(UserError, match="python -m pip install onnxruntime$"):
        OnnxRuntime(tmp_path, manifest(), 1)
    with pytest.raises(UserError, match="python -m pip install paddle2onnx, or --format paddle$"):
        paddle_to_onnx(tmp_path / "a.json", tmp_path / "a.pdiparams", tmp_path / ONNX)


def test_the_runtime_imports_no_paddle() -> None:
    code = "import sys, rec_runner.exported.onnx_runtime; assert 'paddle' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tools", check=True, timeout=60)


@pytest.mark.parametrize(
    ("more", "body", "sentence"),
    [
        ("optimize_tool='polygraphy'", "file.write(f'{opset_version}{optimize_tool}')", "13None"),
        ("verbose=False", "file.write(f'{opset_version}')", "13"),
        ("verbose=False", "abort('[Paddle2ONNX] [ERROR] no operator x')", "no operator x"),
        ("verbose=False", "pass", "it says no reason"),
        ("verbose=False", "raise ValueError('not\\nat all')", "ValueError: not"),
    ],
)
def test_a_program_converted(
    tmp_path: Path, monkeypatch, more: str, body: str, sentence: str
) -> None:
    package = tmp_path / "packages"
    package.mkdir()
    (package / "paddle2onnx.py").write_text(CONVERTER.format(more=more, body=body))
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setenv("PYTHONPATH", str(package))
    program, weights = tmp_path / "a.json", tmp_path / "a.pdiparams"
    file = tmp_path / "out" / ONNX
    file.parent.mkdir()
    if sentence.startswith("13"):
        paddle_to_onnx(program, weights, file)
        assert file.read_text() == sentence
        return
    with pytest.raises(UserError) as caught:
        paddle_to_onnx(program, weights, file)
    assert str(caught.value) == f"paddle2onnx cannot convert {program}: {sentence}"
    assert not list(file.parent.iterdir())
