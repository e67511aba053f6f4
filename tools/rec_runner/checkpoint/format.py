"""A checkpoint's files: their names, how they are written, checked and read.

<folder>/<epoch>/rec.pdparams    weights by name
                 rec.pdopt       optimizer slots by weight, learning-rate schedule
                 rec.pdstate     scores of the rows seen so far, where saved in mid-epoch
                 rec.json        the manifest: where the run stood, config, versions, checksums
<folder>/<epoch>-<batch>/        the same, saved in mid-epoch after that many batches
<folder>/best.json               the best epoch so far, where there is validation
<folder>/run.json                the run that wrote last
"""

from __future__ import annotations

import hashlib
import json
import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict
from os.path import lexists
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.system.errors import UserError
from rec_runner.system.files import open_file, plain_json, read_file, sync_file

WEIGHTS = "rec.pdparams"
OPTIMIZER = "rec.pdopt"
STATE = "rec.pdstate"
MANIFEST = "rec.json"
BEST = "best.json"
RUN = "run.json"
STATIC_WEIGHTS = "rec_static.pdparams"  # PaddleRec's static trainer's name of the weights
_PIECE = 1 << 20


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, ours or PaddleRec's, whole or not."""
    return any(lexists(folder / name) for name in (MANIFEST, WEIGHTS, STATIC_WEIGHTS))


def write(folder: Path, snapshot: Snapshot, notes: Mapping[str, Any]) -> None:
    """Write a checkpoint's files into a folder, the manifest last, and flush them to disk.

    Args:
        folder: an empty folder.
        snapshot: what the checkpoint shall hold.
        notes: what else the manifest shall tell people.

    Raises:
        OSError: a file cannot be written.
    """
    parts = {WEIGHTS: snapshot.weights, OPTIMIZER: snapshot.optimizer}
    if snapshot.meter:
        parts[STATE] = snapshot.meter
    checksums = {}
    for name, state in parts.items():
        data = pickle.dumps(dict(state), protocol=4)
        checksums[name] = hashlib.sha256(data).hexdigest()
        _write_synced(folder / name, data)
    manifest = plain_json(
        {
            "progress": asdict(snapshot.progress),
            "fingerprint": snapshot.fingerprint,
            "saved_at": time.time(),
            "sha256": checksums,
            **notes,
        }
    )
    manifest["own_sha256"] = own_checksum(manifest)
    _write_synced(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def _write_synced(file: Path, data: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(data)
        sync_file(stream)


def read(folder: Path, manifest: dict[str, Any]) -> Snapshot:
    """What a checkpoint of ours holds.

    Args:
        folder: its folder.
        manifest: what :func:`read_manifest` gave.

    Raises:
        UserError: a file is missing or damaged.
    """
    verify(folder, manifest)
    return Snapshot(
        Progress(**manifest["progress"]),
        read_weights(folder / WEIGHTS),
        load_arrays(folder / OPTIMIZER),
        load_arrays(folder / STATE) if STATE in manifest["sha256"] else {},
        manifest["fingerprint"],
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint of ours.

    Raises:
        UserError: it is missing, damaged, or not what :func:`write` writes.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(read_file(file).decode())
        if manifest["own_sha256"] != own_checksum(manifest):
            raise ValueError("its checksum is not the one noted")
        Progress(**manifest["progress"])
        for name, kind in (("fingerprint", dict), ("sha256", dict), ("saved_at", float)):
            if not isinstance(manifest[name], kind):
                raise TypeError(f"{name} is not a {kind.__name__}")
        if not manifest["sha256"].keys() <= {WEIGHTS, OPTIMIZER, STATE}:
            raise ValueError("it names files that are not a checkpoint's")
    except OSError as error:
        raise _damaged(file, error.strerror) from error
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise _damaged(file, text) from error
    return manifest


def verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the files of a checkpoint with the checksums that were noted.

    Raises:
        UserError: names the file that is missing or differs.
    """
    for name, expected in manifest["sha256"].items():
        try:
            with open_file(folder / name) as stream:
                found = hashlib.sha256()
                while piece := stream.read(_PIECE):
                    found.update(piece)
        except OSError as error:
            raise _damaged(folder / name, error.strerror) from error
        if found.hexdigest() != expected:
            raise _damaged(folder / name, "its checksum is not the one noted")


def _damaged(file: Path, why: object) -> UserError:
    return UserError(f"checkpoint {file.parent} is damaged: {file.name}: {why}")


def own_checksum(manifest: Mapping[str, Any]) -> str:
    """Checksum of all that a manifest tells but this checksum itself."""
    rest = {key: value for key, value in manifest.items() if key != "own_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_weights(file: Path) -> dict[str, np.ndarray]:
    """Arrays by name, from a file that this module or ``paddle.save`` wrote.

    Raises:
        UserError: it cannot be read, is damaged, or holds anything but arrays.
    """
    state = load_arrays(file)
    # paddle.save adds a table of variable names to a Layer's state dict.
    state.pop("StructuredToParameterName@@", None)
    for name, value in state.items():
        # It pickles a bare Tensor as (name, array).
        array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
        if not isinstance(array, (np.ndarray, np.generic)):
            raise UserError(f"{file}: {name} is a {type(array).__name__}, expected an array")
        state[name] = np.asarray(array)
    return state


def read_note(file: Path, key: str, kind: type) -> Any:
    """A value of ``best.json`` or ``run.json``.

    Returns:
        it; None where there is no such file, or the value is of another kind.

    Raises:
        UserError: the file is damaged.
    """
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    return value if isinstance(value, kind) else None
