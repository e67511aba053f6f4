"""``model.json``, what an export folder says of itself.

    {
     "format": "share-bottom export", "version": 1,
     "model": "<SHA-256 over all the rest>",
     "tasks": [{"name": "income", "type": "binary", "output": "income"}],
     "inputs": [{"name": "features", "dtype": "float32", "shape": [null, 41]}],
     "outputs": [{"name": "income", "dtype": "float32", "shape": [null]}],
     "columns": {…} or null,
     "column_facts": {"age": {"typical": 36.0, "low": 2.0, "high": 80.0}},
     "example": {"age": 36.0},
     "hashing": "" or how ids are hashed, in a sentence,
     "metrics": {"auc_income": 0.95}, "epoch": 2 or null, "graph": "dygraph", "static" or null,
     "config": {"hyper_parameters.bottom_size": 117},
     "created": "2026-11-26T22:30:00+00:00", "versions": {"python": "3.11.7"},
     "checked": {"rows": 360, "tolerance": 1e-05, "onnx": 3.1e-07, "paddle": 2.4e-07},
     "files": {"model.onnx": {"sha256": "…", "bytes": 240123}},
     "formats": ["onnx", "paddle"]
    }

An export of a directory without our hooks has no tasks and no columns: its outputs are what the
static model fetches. The folder's files have the names below and no other ones, so that nothing
that the file says leads to a path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rec_runner.system.errors import UserError
from rec_runner.system.files import open_file, plain_json
from rec_runner.system.schema import (
    COUNT,
    NUMBER,
    OBJECT,
    SHOWN,
    TEXT,
    Rule,
    check,
    check_each,
    optional,
    read_json,
    shown,
)

MANIFEST = "model.json"
ONNX = "model.onnx"
ONNX_DATA = "model.onnx.data"  # weights, where one file would be too large
PADDLE = "paddle_model"
PADDLE_PROGRAMS = (f"{PADDLE}.json", f"{PADDLE}.pdmodel")  # of Paddle 3, and of Paddle 2
PADDLE_WEIGHTS = f"{PADDLE}.pdiparams"
FORMAT, VERSION = "share-bottom export", 1
FORMATS = ("onnx", "paddle")
MOST_NAMES = 10_000  # tasks, inputs, outputs
LONGEST_NAME = 1_000
_PIECE = 1 << 20
_OF_FORMAT = {"onnx": (ONNX, ONNX_DATA), "paddle": (*PADDLE_PROGRAMS, PADDLE_WEIGHTS)}
FILES = (MANIFEST, *_OF_FORMAT["onnx"], *_OF_FORMAT["paddle"])

_SHA256 = Rule(
    "64 hexadecimal digits",
    lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
)
_NAME = Rule("a name", lambda value: isinstance(value, str) and 0 < len(value) <= LONGEST_NAME)
_SHAPE = Rule(
    "a list of whole numbers from 0 and nulls",
    lambda value: (
        isinstance(value, list)
        and len(value) <= 10
        and all(size is None or COUNT.fits(size) for size in value)
    ),
)


def _one_of(*choices: Any) -> Rule:
    return Rule(" or ".join(map(repr, choices)), lambda value: value in choices)


_TENSOR = {"name": _NAME, "dtype": _NAME, "shape": _SHAPE}
_RULES = {
    "tasks": [{"name": _NAME, "type": _one_of("binary", "regression"), "output": _NAME}],
    "inputs": [_TENSOR],
    "outputs": [_TENSOR],
    "columns": optional(OBJECT),
    "column_facts": OBJECT,
    "example": OBJECT,
    "hashing": TEXT,
    "metrics": OBJECT,
    "epoch": optional(COUNT),
    "graph": optional(TEXT),
    "config": OBJECT,
    "created": TEXT,
    "versions": OBJECT,
    "checked": OBJECT,
    "files": OBJECT,
    "formats": [_one_of(*FORMATS)],
}


@dataclass(frozen=True)
class Task:
    """A task of an exported model.

    Attributes:
        name: its name.
        type: ``binary``, whose output is the probability of class 1, or ``regression``, a number.
        output: what the exported model calls its output.
    """

    name: str
    type: str
    output: str


@dataclass(frozen=True)
class Tensor:
    """An input or output of an exported model.

    Attributes:
        name: its name.
        dtype: as NumPy calls it.
        shape: its sizes; None where any will do.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Manifest:
    """What ``model.json`` says, see the module.

    Attributes:
        tasks: of the model, in the order of its predictions; none where it has not our hooks.
        inputs: of the exported model; ``features`` float32 ``[None, F]`` where it has our hooks.
        outputs: of the exported model; one float32 ``[None]`` for each task, likewise.
        columns: what the columns of rows are, as ``prediction_rows.open`` takes it; or None.
        column_facts: of each column that is a feature a typical value, as a client sends it, and
            its range.
        example: a row of typical values by the columns' names, see ``facts.example_row``.
        hashing: how ids are hashed, in a sentence; empty where there are none.
        metrics: of the checkpoint, by name.
        epoch: the checkpoint's.
        graph: what it was trained on, ``dygraph`` or ``static``; None where that is not known.
        config: the ``hyper_parameters`` that it was exported with, by flat key.
        created: when, by ISO 8601.
        versions: of Python and libraries.
        checked: rows that were compared with the checkpoint, the difference that was allowed, and
            the largest that was found in each format.
        files: size and checksum of each file.
        formats: which of :data:`FORMATS` there are.
        model: SHA-256 over all the rest: what names this model.
    """

    tasks: tuple[Task, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    columns: Mapping[str, Any] | None = None
    column_facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    hashing: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    epoch: int | None = None
    graph: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    checked: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    model: str = ""

    @property
    def task_names(self) -> tuple[str, ...]:
        """Name of each task."""
        return tuple(task.name for task in self.tasks)

    @property
    def task_types(self) -> tuple[str, ...]:
        """``binary`` or ``regression`` of each task."""
        return tuple(task.type for task in self.tasks)

    @property
    def feature_size(self) -> int:
        """Features of a row, where the model has our hooks."""
        return self.inputs[0].shape[1] or 0

    def as_json(self) -> dict[str, Any]:
        """All of it as ``model.json`` has it, its checksum made anew."""
        rest = {key: value for key, value in asdict(self).items() if key != "model"}
        rest = {"format": FORMAT, "version": VERSION, **plain_json(rest)}
        return {**rest, "model": _checksum(rest)}


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "model"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_export(folder: Path) -> bool:
    """Whether a folder's ``model.json`` is one of ours, damaged elsewhere or not."""
    try:
        return read_json(folder / MANIFEST)["format"] == FORMAT
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def read_manifest(folder: Path) -> Manifest:
    """What an export folder says of itself, each word of it checked.

    Its files are checked by :func:`verify_files`.

    Raises:
        UserError: there is no export in the folder, or its ``model.json`` is damaged or another's.
    """
    file = folder / MANIFEST
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder, the folder of an export was expected")
    try:
        content = read_json(file)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{file} is not that of an export, its format is not {FORMAT!r}")
        if content.get("version") != VERSION:
            raise UserError(
                f"{file} is of version {shown(content.get('version'))} of exports, these tools "
                f"read version {VERSION}"
            )
        if content.get("model") != _checksum(content):
            raise ValueError("its checksum is not the one noted")
        return _checked(content)
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no export: it has no {MANIFEST}") from error
    except OSError as error:
        raise UserError(f"export {folder}: {MANIFEST}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise damaged(folder, MANIFEST, error) from error


def _checked(content: dict[str, Any]) -> Manifest:
    """Content whose checksum is right, its words checked: anyone can make a checksum.

    Raises:
        ValueError: names the word that does not fit.
    """
    check(content, _RULES)
    for name in ("tasks", "inputs", "outputs"):
        names = [item["name"] for item in content[name]]
        if len(names) > MOST_NAMES or len(set(names)) < len(names):
            raise ValueError(f"{name} should be at most {MOST_NAMES}, each of another name")
    check_each(content["column_facts"], OBJECT, "column_facts")
    for name in ("metrics", "config", "example"):
        check_each(content[name], SHOWN, name)
    check_each(content["versions"], TEXT, "versions")
    check(content["checked"], {"rows": COUNT, "tolerance": NUMBER}, "checked")
    check_each(content["checked"], NUMBER, "checked")
    check_each(content["files"], {"sha256": _SHA256, "bytes": COUNT}, "files")
    _check_formats(content)
    tensor = {
        name: tuple(Tensor(t["name"], t["dtype"], tuple(t["shape"])) for t in content[name])
        for name in ("inputs", "outputs")
    }
    tasks = tuple(Task(task["name"], task["type"], task["output"]) for task in content["tasks"])
    plain = {f.name: content[f.name] for f in fields(Manifest)}
    return Manifest(**{**plain, **tensor, "tasks": tasks, "formats": tuple(content["formats"])})


def _check_formats(content: Mapping[str, Any]) -> None:
    """Compare tasks, outputs, formats and files with each other.

    Raises:
        ValueError: they do not go together.
    """
    outputs = [item["name"] for item in content["outputs"]]
    if content["tasks"]:
        if [task["output"] for task in content["tasks"]] != outputs:
            raise ValueError(f"outputs should be those of the tasks, got {shown(outputs)}")
        (shape,) = [tensor["shape"] for tensor in content["inputs"]] or [[]]
        if len(shape) != 2 or not shape[1]:
            raise ValueError("inputs should be the features alone, [null, F]")
    formats, files = content["formats"], set(content["files"])
    if not formats or len(set(formats)) < len(formats):
        raise ValueError("formats should name each format once, and at least one")
    if not files <= {name for each in formats for name in _OF_FORMAT[each]}:
        raise ValueError("files names files that are not an export's")
    paddle = {PADDLE_WEIGHTS} <= files and len(files.intersection(PADDLE_PROGRAMS)) == 1
    for name, there in (("onnx", ONNX in files), ("paddle", paddle)):
        if name in formats and not there:
            raise ValueError(f"files lacks one of the {name} model's")


def verify_files(folder: Path, manifest: Manifest, formats: tuple[str, ...]) -> None:
    """Compare an export's files with the sizes and checksums that were noted.

    Args:
        folder: the export's.
        manifest: what it says of itself.
        formats: of which formats.

    Raises:
        UserError: names the file that is missing or differs.
    """
    for name, noted in manifest.files.items():
        if any(name in _OF_FORMAT[each] for each in formats):
            try:
                found = describe_file(folder / name)
            except OSError as error:
                raise damaged(folder, name, error.strerror) from error
            if found != noted:
                raise damaged(folder, name, "its checksum is not the one noted")


def describe_file(file: Path) -> dict[str, Any]:
    """Checksum and size of a file.

    Raises:
        OSError: it cannot be read, or is no plain file.
    """
    found, size = hashlib.sha256(), 0
    with open_file(file) as stream:
        while piece := stream.read(_PIECE):
            found.update(piece)
            size += len(piece)
    return {"sha256": found.hexdigest(), "bytes": size}


def damaged(folder: Path, name: str, why: object) -> UserError:
    """What to raise of a file of an export."""
    text = " ".join(str(why).split())[:300]
    return UserError(f"export {folder} is damaged: {name}: {text}; export the model again")
