"""Checkpoints: whole or absent, checked before they are believed, one format for both paths.

<folder>/<epoch>/rec.pdparams    weights by name
                 rec.pdopt       optimizer slots by weight, learning-rate schedule
                 rec.pdstate     scores of the rows seen so far, where saved in mid-epoch
                 rec.json        where the run stood, config, versions, checksums
<folder>/<epoch>-<batch>/        the same, saved in mid-epoch after that many batches
<folder>/best.json               the best epoch so far, where there is validation
<folder>/run.json                the run that wrote last
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.csv

from rec_runner.checkpoint.safe_pickle import load_arrays
from rec_runner.metrics.tasks import TaskMetrics, probability
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import atomic_write, plain_json, synced_folder
from rec_runner.system.log import warn

WEIGHTS = "rec.pdparams"
OPTIMIZER = "rec.pdopt"
STATE = "rec.pdstate"
MANIFEST = "rec.json"
BEST = "best.json"
RUN = "run.json"
STATIC_WEIGHTS = "rec_static.pdparams"  # PaddleRec's static trainer's name of the weights
_NAME = re.compile(r"(\d+)(?:-(\d+))?")
_LEFT_OVER = re.compile(r"\.(\d+(?:-\d+)?)\.(part|old|gone)")


@dataclass
class Progress:
    """Where a run stands, all that the loop needs to go on from there.

    Attributes:
        run: names the run, so that epochs which an earlier one left are not taken for its own.
        epoch: the epoch to train next, or the one in training.
        batch: batches of it already trained on.
        step: batches trained on since the start of the run.
        best_epoch: the best epoch so far by the monitored value, None without validation.
        best_value: its monitored value.
        skipped_batches: batches left out because their loss was not finite.
        records: the records of all epochs so far.
    """

    run: str = ""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int | None = None
    best_value: float | None = None
    skipped_batches: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)


class Snapshot(NamedTuple):
    """All that a checkpoint holds.

    Attributes:
        progress: where the run stood.
        weights: name to array.
        optimizer: slot to array.
        meter: what the epoch's meter had collected; empty at the end of an epoch.
        fingerprint: what must not change before a resume, see ``resume.run_fingerprint``.
    """

    progress: Progress
    weights: Mapping[str, np.ndarray]
    optimizer: Mapping[str, Any]
    meter: Mapping[str, Any]
    fingerprint: Mapping[str, Any]


class Checkpoints:
    """The checkpoints under one folder.

    Args:
        folder: ``runner.model_save_path`` or ``runner.infer_load_path``.
        keep: how many finished epochs to keep, the best and the last among them; None keeps all.
        notes: written into each checkpoint for people to read: config, versions of libraries.
    """

    def __init__(
        self, folder: str, keep: int | None = None, notes: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.keep = keep
        self.notes = notes or {}

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint, ascending."""
        return [epoch for epoch, batch in self._places() if batch is None]

    def stale_epochs(self) -> list[int]:
        """Epochs that an earlier run left here, as far as the folder tells which was the last."""
        run, stale = self._run(), []
        for epoch in self.epochs() if run is not None else ():
            with suppress(UserError):  # PaddleRec's checkpoints tell nothing of their run
                if _read_manifest(self.folder / str(epoch))["progress"]["run"] != run:
                    stale.append(epoch)
        return stale

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """What a checkpoint notes of its run, see ``resume.run_fingerprint``; perhaps nothing."""
        with suppress(UserError):
            return _read_manifest(self.folder / str(epoch))["facts"]
        return {}

    def best_epoch(self) -> int | None:
        """The epoch that a run with validation marked as best.

        Raises:
            UserError: the mark cannot be read.
        """
        file = self.folder / BEST
        if not file.is_file():
            return None
        try:
            epoch = json.loads(file.read_text(encoding="utf-8"))["epoch"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{file} is damaged: {error}") from error
        return epoch if isinstance(epoch, int) else None

    def _places(self) -> list[tuple[int, int | None]]:
        if not self.folder.is_dir():
            return []
        found = []
        for entry in self.folder.iterdir():
            match = _NAME.fullmatch(entry.name)
            if match and any((entry / n).is_file() for n in (MANIFEST, WEIGHTS, STATIC_WEIGHTS)):
                found.append((int(match[1]), int(match[2]) if match[2] else None))
        return sorted(found, key=_order)

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint beside its final name, flush it to disk, rename it, then finalize it.

        Returns:
            its folder.

        Raises:
            RunError: it cannot be written; all earlier ones still stand.
        """
        progress = snapshot.progress
        epoch, batch = progress.epoch, progress.batch
        name = f"{epoch}-{batch}" if batch else str(epoch - 1)
        target = self.folder / name
        aside = self.folder / f".{name}.part"
        self._put_back()
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            checksums = {}
            parts = {WEIGHTS: snapshot.weights, OPTIMIZER: snapshot.optimizer}
            if snapshot.meter:
                parts[STATE] = snapshot.meter
            for file, state in parts.items():
                data = pickle.dumps(dict(state), protocol=4)
                checksums[file] = hashlib.sha256(data).hexdigest()
                _write_synced(aside / file, data)
            manifest = plain_json(
                {
                    "progress": asdict(progress),
                    "facts": snapshot.fingerprint,
                    "saved_at": time.time(),
                    "sha256": checksums,
                    **self.notes,
                }
            )
            manifest["own_sha256"] = _own_checksum(manifest)
            _write_synced(aside / MANIFEST, json.dumps(manifest, indent=1).encode())
            _replace_folder(aside, target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            self._put_back()
            raise RunError(
                f"checkpoint {target} cannot be written: {error.strerror or error}; "
                "earlier checkpoints are intact"
            ) from error
        self.finalize(progress)
        return target

    def finalize(self, progress: Progress) -> None:
        """Renew the mark of the best and remove what is no longer needed, as a save does last.

        Args:
            progress: what the newest checkpoint holds.

        Raises:
            RunError: the mark cannot be written.
        """
        if progress.batch == 0:
            self._mark_best(progress)
        self._prune(progress)

    def begin(self, run: str) -> None:
        """Note which run writes here, so that no other's checkpoints are taken for its own.

        Raises:
            RunError: the note cannot be written.
        """
        if self._run() != run:
            with atomic_write(self.folder / RUN) as stream:
                stream.write(json.dumps({"run": run}).encode())

    def _run(self) -> str | None:
        """The run that wrote here last, None where that is not known."""
        file = self.folder / RUN
        if not file.is_file():
            return None
        try:
            run = json.loads(file.read_text(encoding="utf-8"))["run"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            warn(f"{file} is damaged: {error}; the run that saved last is taken for the last one")
            return None
        return run if isinstance(run, str) else None

    def _put_back(self) -> None:
        """Give a checkpoint its name again that a kill caught while another was to take it."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _LEFT_OVER.fullmatch(entry.name)
            if match and match[2] == "old" and not (self.folder / match[1]).exists():
                with suppress(OSError):
                    os.replace(entry, self.folder / match[1])

    def _mark_best(self, progress: Progress) -> None:
        if progress.best_epoch is None:
            (self.folder / BEST).unlink(missing_ok=True)  # an earlier run's
            return
        best = {"epoch": progress.best_epoch, "value": progress.best_value}
        with atomic_write(self.folder / BEST) as stream:
            stream.write(json.dumps(best).encode())

    def _prune(self, progress: Progress) -> None:
        """Remove mid-epoch checkpoints that a newer one replaces, and epochs beyond ``keep``.

        What a save that was cut short left behind goes too.
        """
        for entry in self.folder.iterdir():
            if _LEFT_OVER.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)
        now = (progress.epoch, progress.batch)
        for epoch, batch in self._places():
            if batch is not None and (epoch, batch) != now:
                _remove(self.folder / f"{epoch}-{batch}")
        if self.keep is None or progress.batch:
            return
        mine = [epoch for epoch in self.epochs() if epoch < progress.epoch]
        kept = {progress.epoch - 1, progress.best_epoch}
        for epoch in reversed(mine):
            if len(kept - {None}) < self.keep:
                kept.add(epoch)
        for epoch in set(mine) - kept:
            _remove(self.folder / str(epoch))

    def newest(self) -> Snapshot | None:
        """The newest whole checkpoint of the run that wrote last; damaged ones are named.

        Returns:
            it, or None where there is none.
        """
        self._put_back()
        run = self._run()
        manifests: dict[Path, dict[str, Any] | UserError] = {}
        for epoch, batch in self._places():
            folder = self.folder / (str(epoch) if batch is None else f"{epoch}-{batch}")
            try:
                manifests[folder] = _read_manifest(folder)
            except UserError as error:
                manifests[folder] = error
        whole = [item for item in manifests.values() if isinstance(item, dict)]
        noted = run is not None
        if not noted and whole:
            run = max(whole, key=lambda m: m["saved_at"])["progress"]["run"]
        found = None
        for folder, manifest in reversed(manifests.items()):
            try:
                if isinstance(manifest, UserError):
                    raise manifest
                if found is None and manifest["progress"]["run"] == run:
                    found = _read_snapshot(folder, manifest)
            except UserError as error:
                if found is None:
                    warn(f"{error}; going back to the one before it")
                elif not noted:  # it may be the newer run's
                    warn(f"{error}; it is passed over")
        if found is None and manifests:
            others = any(item["progress"]["run"] != run for item in whole)
            which = "whole checkpoint of the last run" if others else "whole checkpoint"
            warn(f"no {which} is left in {self.folder}; training starts afresh")
        return found


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Weights of a checkpoint folder, ours or PaddleRec's, by name.

    Args:
        folder: the folder, or the file of weights in it.

    Raises:
        UserError: no such checkpoint, a damaged one, or a file that is not one.
    """
    names = (WEIGHTS, STATIC_WEIGHTS)
    if folder.is_file():
        if folder.name not in names:
            raise UserError(f"checkpoint {folder} is a file; the folder of a {WEIGHTS} is expected")
        names, folder = (folder.name,), folder.parent
    if (folder / MANIFEST).is_file():
        _check_files(folder, _read_manifest(folder))
    for name in names:
        if (folder / name).is_file():
            return _weights(folder / name)
    raise UserError(f"checkpoint {folder / WEIGHTS} not found")


def _weights(file: Path) -> dict[str, np.ndarray]:
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


def _order(place: tuple[int, int | None]) -> tuple[int, int]:
    epoch, batch = place
    return (epoch + 1, 0) if batch is None else (epoch, batch)


def _own_checksum(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "own_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["own_sha256"] != _own_checksum(manifest):
            raise ValueError("its checksum is not the one noted")
        Progress(**manifest["progress"])
        for name, kind in (("facts", dict), ("sha256", dict), ("saved_at", float)):
            if not isinstance(manifest[name], kind):
                raise TypeError(f"{name} is not a {kind.__name__}")
        if not manifest["sha256"].keys() <= {WEIGHTS, OPTIMIZER, STATE}:
            raise ValueError("it names files that are not a checkpoint's")
    except OSError as error:
        raise UserError(f"checkpoint {folder} is damaged: {MANIFEST}: {error.strerror}") from error
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise UserError(f"checkpoint {folder} is damaged: {MANIFEST}: {text}") from error
    return manifest


def _read_snapshot(folder: Path, manifest: dict[str, Any]) -> Snapshot:
    _check_files(folder, manifest)
    return Snapshot(
        Progress(**manifest["progress"]),
        _weights(folder / WEIGHTS),
        load_arrays(folder / OPTIMIZER),
        load_arrays(folder / STATE) if STATE in manifest["sha256"] else {},
        manifest["facts"],
    )


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the files of a checkpoint with the checksums that were noted.

    Raises:
        UserError: names the file that is missing or differs.
    """
    for name, expected in manifest["sha256"].items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"checkpoint {folder} is damaged: {name}: {error.strerror}") from error
        if found != expected:
            raise UserError(
                f"checkpoint {folder} is damaged: {name}: its checksum is not the one noted"
            )


def _write_synced(file: Path, data: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _replace_folder(aside: Path, target: Path) -> None:
    """Rename a folder to a name that another may hold.

    A kill between the two renames leaves that other one as ``.<name>.old``, whole, and
    ``Checkpoints`` puts it back.
    """
    old = target.with_name(f".{target.name}.old")
    synced_folder(aside)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    os.replace(aside, target)
    synced_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; a kill meanwhile leaves nothing behind that has a checkpoint's name."""
    gone = folder.with_name(f".{folder.name}.gone")
    with suppress(OSError):
        os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def write_predictions(file: Path, tasks: TaskMetrics) -> None:
    """Write ``label_<task>,probability_<task>,…`` of every row, whole or not at all."""
    columns = {}
    for task, name in enumerate(tasks.task_names):
        columns[f"label_{name}"] = tasks.labels[:, task].astype(np.int8)
        columns[f"probability_{name}"] = probability(tasks.log_odds[:, task])
    with atomic_write(file) as stream:
        pyarrow.csv.write_csv(pyarrow.table(columns), stream)
