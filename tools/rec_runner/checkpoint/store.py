"""The checkpoints of a run: saved whole or not at all, found again, pruned, the best marked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import numpy as np

from rec_runner.checkpoint import format
from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.weights import fingerprint_of
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import (
    atomic_write,
    clear,
    read_file,
    sync_file,
    sync_folder,
    write_json,
)
from rec_runner.system.log import warn

LAST_BATCH = "last_train_batch.npz"
_NAME = re.compile(r"(\d+)(?:-([1-9]\d*))?")
_LEFT_OVER = re.compile(r"\.(\d+(?:-\d+)?)\.(part|old|gone)")


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
        self._note_before: bytes | None = None
        self._may_call_off = False

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint, ascending."""
        return [epoch - 1 for epoch, batch in self._places() if not batch]

    def stale_epochs(self) -> list[int]:
        """Epochs that an earlier run left here, as far as the folder tells which was the last."""
        run, stale = self._run(), []
        for epoch in self.epochs() if run is not None else ():
            with suppress(UserError):  # PaddleRec's checkpoints tell nothing of their run
                if format.read_manifest(self.folder / str(epoch))["progress"]["run"] != run:
                    stale.append(epoch)
        return stale

    def fingerprint(self, epoch: int) -> dict[str, Any]:
        """What a checkpoint notes of its run, see ``checkpoint.resume``; perhaps nothing."""
        return fingerprint_of(self.folder / str(epoch))

    def best_epoch(self) -> int | None:
        """The epoch that a run with validation marked as best.

        Raises:
            UserError: the mark cannot be read.
        """
        note = format.read_note(self.folder, format.BEST)
        return None if note is None else note["epoch"]

    def _places(self) -> list[tuple[int, int]]:
        """Where checkpoints stand in their run, as ``Progress.epoch`` and ``batch``, ascending."""
        found = []
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _NAME.fullmatch(entry.name)
            if match and format.is_checkpoint(entry):
                epoch = int(match[1])
                found.append((epoch, int(match[2])) if match[2] else (epoch + 1, 0))
        return sorted(found)

    def _path(self, epoch: int, batch: int) -> Path:
        """Folder of a place."""
        return self.folder / (f"{epoch}-{batch}" if batch else str(epoch - 1))

    def save(self, snapshot: Snapshot, add: Callable[[Path], None] | None = None) -> Path:
        """Write a checkpoint beside its final name, flush it to disk, rename it, then finalize it.

        Args:
            snapshot: what it shall hold.
            add: adds more files to its folder, so that they take their names with it. Should that
                fail, the checkpoint stands without them, and the error is raised again.

        Returns:
            its folder.

        Raises:
            RunError: it cannot be written; all earlier ones still stand.
        """
        target = self._path(snapshot.progress.epoch, snapshot.progress.batch)
        aside = target.with_name(f".{target.name}.part")
        self._put_back()
        try:
            clear(aside)
            aside.mkdir(parents=True)
            format.write(aside, snapshot, self.notes)
            if snapshot.last_batch is not None:
                _write_arrays(aside / LAST_BATCH, snapshot.last_batch)
            failure = None if add is None else _failure(add, aside)
            _replace_folder(aside, target)
        except OSError as error:
            clear(aside)
            self._put_back()
            raise RunError(
                f"checkpoint {target} cannot be written: {error.strerror or error}; "
                "earlier checkpoints are intact"
            ) from error
        self._may_call_off = False
        self.finalize(snapshot.progress)
        if failure is not None:
            raise failure
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
            with suppress(OSError):
                self._note_before = read_file(self.folder / format.RUN)
            write_json(self.folder / format.RUN, {"run": run})
            try:
                sync_folder(self.folder)  # else a power cut might bring the old note back
            except OSError as error:
                raise RunError(f"{self.folder} cannot be written to: {error.strerror}") from error
            self._may_call_off = True

    def call_off(self) -> None:
        """Note the run before this one again, if this one has saved nothing; then that can go on.

        Raises:
            RunError: the note cannot be written.
        """
        if not self._may_call_off:
            return
        if self._note_before is None:
            (self.folder / format.RUN).unlink(missing_ok=True)
        else:
            with atomic_write(self.folder / format.RUN) as stream:
                stream.write(self._note_before)

    def _run(self) -> str | None:
        """The run that wrote here last, None where that is not known."""
        try:
            note = format.read_note(self.folder, format.RUN)
        except UserError as error:
            warn(f"{error}; the run that saved last is taken for the last one")
            return None
        return None if note is None else note["run"]

    def _put_back(self) -> None:
        """Give a checkpoint its name again that a kill caught while another was to take it."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _LEFT_OVER.fullmatch(entry.name)
            if match and match[2] == "old" and not (self.folder / match[1]).exists():
                with suppress(OSError):
                    os.replace(entry, self.folder / match[1])

    def _mark_best(self, progress: Progress) -> None:
        if progress.best_epoch is None:
            (self.folder / format.BEST).unlink(missing_ok=True)  # an earlier run's
            return
        best = {"epoch": progress.best_epoch, "value": progress.best_value}
        write_json(self.folder / format.BEST, best)

    def _prune(self, progress: Progress) -> None:
        """Remove mid-epoch checkpoints that a newer one replaces, and epochs beyond ``keep``.

        What a save that was cut short left behind goes too.
        """
        for entry in self.folder.iterdir():
            if _LEFT_OVER.fullmatch(entry.name):
                clear(entry)
        now = (progress.epoch, progress.batch)
        for epoch, batch in self._places():
            if batch and (epoch, batch) != now:
                _remove(self._path(epoch, batch))
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
        for place in self._places():
            folder = self._path(*place)
            try:
                manifests[folder] = format.read_manifest(folder)
            except UserError as error:
                manifests[folder] = error
        whole = [item for item in manifests.values() if isinstance(item, dict)]
        noted = run is not None
        if not noted and whole:
            run = max(whole, key=lambda m: m["saved_at"])["progress"]["run"]
        mine = [item for item in whole if item["progress"]["run"] == run]
        if noted and manifests and not mine and len(whole) == len(manifests):
            warn(
                f"the last run in {self.folder} ended before its first checkpoint: training "
                "starts afresh, and does not go on from an earlier run's"
            )
            return None
        found = None
        for folder, manifest in reversed(manifests.items()):
            try:
                if isinstance(manifest, UserError):
                    raise manifest
                if found is None and manifest["progress"]["run"] == run:
                    found = format.read(folder, manifest)
            except UserError as error:
                if found is None:
                    warn(f"{error}; going back to the one before it")
                elif not noted:  # it may be the newer run's
                    warn(f"{error}; it is passed over")
        if found is None and manifests:
            whose = " of the last run" if len(whole) > len(mine) else ""
            warn(f"no whole checkpoint{whose} is left in {self.folder}; training starts afresh")
        return found


def _write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with open(file, "wb") as stream:
        np.savez(stream, **arrays)
        sync_file(stream)


def _failure(add: Callable[[Path], None], folder: Path) -> Exception | None:
    """What was raised when files were added to a checkpoint that is whole without them."""
    try:
        add(folder)
    except Exception as error:
        return error
    return None


def _replace_folder(aside: Path, target: Path) -> None:
    """Rename a folder to a name that another may hold.

    A kill between the two renames leaves that other one as ``.<name>.old``, whole, and
    ``Checkpoints`` puts it back.
    """
    old = target.with_name(f".{target.name}.old")
    sync_folder(aside)
    if os.path.lexists(target):  # a link that leads nowhere too
        clear(old)
        os.replace(target, old)
    os.replace(aside, target)
    sync_folder(target.parent)
    clear(old)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; a kill meanwhile leaves nothing behind that has a checkpoint's name."""
    gone = folder.with_name(f".{folder.name}.gone")
    with suppress(OSError):
        os.replace(folder, gone)
    clear(gone)
