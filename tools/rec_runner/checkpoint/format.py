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
import re
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
from rec_runner.system.files import open_file, plain_json, sync_file
from rec_runner.system.schema import (
    ARRAY,
    COUNT,
    FLOAT,
    NUMBER,
    OBJECT,
    SHOWN,
    TEXT,
    Rule,
    array,
    check,
    check_each,
    optional,
    read_json,
)

WEIGHTS = "rec.pdparams"
OPTIMIZER = "rec.pdopt"
STATE = "rec.pdstate"
MANIFEST = "rec.json"
BEST = "best.json"
RUN = "run.json"
STATIC_WEIGHTS = "rec_static.pdparams"  # PaddleRec's static trainer's name of the weights
_PIECE = 1 << 20

# What the files hold, see ``system/schema.py``.
_HEX = re.compile("[0-9a-f]{64}")
_SHA256 = Rule("64 hexadecimal digits", lambda v: isinstance(v, str) and bool(_HEX.fullmatch(v)))
_RECORD = {
    "phase": TEXT,
    "graph": TEXT,
    "epoch": COUNT,
    "rows": COUNT,
    "seconds": NUMBER,
    "rows_per_second": NUMBER,
}
_PROGRESS = {
    "run": TEXT,
    "epoch": COUNT,
    "batch": COUNT,
    "step": COUNT,
    "best_epoch": optional(COUNT),
    "best_value": optional(FLOAT),
    "skipped_batches": COUNT,
    "records": [_RECORD],
}
_MANIFEST = {"progress": _PROGRESS, "fingerprint": OBJECT, "saved_at": NUMBER, "sha256": OBJECT}
NOTES: dict[str, dict[str, Rule]] = {
    BEST: {"epoch": COUNT, "value": FLOAT},
    RUN: {"run": TEXT},
}
_METER = {
    "seconds": NUMBER,
    "losses": array(1, np.floating),
    "batch_rows": array(1, np.integer),
    "values": OBJECT,
    "metrics": OBJECT,
}


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
    progress = Progress(**manifest["progress"])
    optimizer = load_arrays(folder / OPTIMIZER)
    meter = load_arrays(folder / STATE) if progress.batch else {}
    name = OPTIMIZER
    try:
        check_each({key: value for key, value in optimizer.items() if key != "schedule"}, ARRAY)
        check(optimizer.get("schedule", {}), OBJECT, "schedule")
        name = STATE
        if progress.batch:
            _check_meter(meter, progress)
    except ValueError as error:
        raise _damaged(folder / name, error) from error
    weights = read_weights(folder / WEIGHTS)
    return Snapshot(progress, weights, optimizer, meter, manifest["fingerprint"])


def _check_meter(meter: Mapping[str, Any], progress: Progress) -> None:
    """Check what a meter had collected; what is in its metrics only they know.

    Raises:
        ValueError: it is not what ``Meter.state_dict`` gives.
    """
    check(meter, _METER)
    check_each(meter["values"], SHOWN, "values")
    rows, losses = meter["batch_rows"], meter["losses"]
    counted = progress.batch - progress.skipped_batches <= len(rows) <= progress.batch
    total = rows.sum(dtype=np.float64)
    if not (counted and (rows >= 0).all() and bool(len(rows)) <= total < 1 << 53):
        raise ValueError(f"batch_rows should be the rows of {progress.batch} batches")
    if len(losses) not in (0, len(rows)) or not np.isfinite(losses).all():
        raise ValueError(f"losses should be {len(rows)} finite numbers, or none")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint of ours.

    Raises:
        UserError: it is missing, damaged, or not what :func:`write` writes.
    """
    file = folder / MANIFEST
    try:
        manifest = read_json(file)
        if manifest["own_sha256"] != own_checksum(manifest):
            raise ValueError("its checksum is not the one noted")
        check(manifest, _MANIFEST)
        _check_progress(manifest["progress"])
        names = {WEIGHTS, OPTIMIZER, *([STATE] if manifest["progress"]["batch"] else [])}
        if not manifest["sha256"].keys() <= names:
            raise ValueError("it names files that are not a checkpoint's")
        check(manifest["sha256"], dict.fromkeys(sorted(names), _SHA256), "sha256")
    except OSError as error:
        raise _damaged(file, error.strerror) from error
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise _damaged(file, text) from error
    return manifest


def _check_progress(progress: Mapping[str, Any]) -> None:
    """Check what no single value of a progress tells.

    Raises:
        ValueError: names what does not fit.
    """
    unknown = progress.keys() - _PROGRESS.keys()
    if unknown:
        raise ValueError(f"progress should hold no {min(unknown)[:40]!r}")
    if (progress["best_epoch"] is None) != (progress["best_value"] is None):
        raise ValueError("progress.best_epoch and best_value should both be there, or neither")
    for number, record in enumerate(progress["records"]):
        check_each(record, SHOWN, f"progress.records[{number}]")


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


def read_note(folder: Path, name: str) -> dict[str, Any] | None:
    """What ``best.json`` or ``run.json`` holds; None where there is no such file.

    Args:
        folder: ``runner.model_save_path``.
        name: one of :data:`NOTES`.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / name
    if not file.exists() and not file.is_symlink():
        return None
    try:
        note = read_json(file)
        check(note, NOTES[name])
    except OSError as error:
        raise UserError(f"{file} is damaged: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    return note
