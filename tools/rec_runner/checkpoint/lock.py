"""The lock that keeps two runs off one output folder."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rec_runner.checkpoint.format import RUN
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import open_file
from rec_runner.system.log import warn
from rec_runner.system.parts import remove_left_overs

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 10


class FolderLock:
    """Context that keeps other runs off an output folder; the lock dies with this process.

    What killed runs were writing there when they died is removed. On a file system without locks
    it only warns.

    Args:
        folder: ``runner.model_save_path``; made if need be.

    Raises:
        RunError: the folder cannot be made.
        UserError: another run has it, or what is called ``.lock`` in it is no lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        try:
            self._made = not self.folder.exists()
            self._lock = FileLock(str(self.folder / ".lock"))
            self._acquire()
            remove_left_overs(self.folder, within=True)
        except Timeout as error:
            raise UserError(
                f"another run is writing to {self.folder}; give this one its own folder with "
                "-o runner.model_save_path=..."
            ) from error
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written to: {error.strerror}") from error

    def _acquire(self) -> None:
        """Lock the file, anew if a run that ended has just removed it and the folder."""
        for _ in range(ATTEMPTS):
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_plain(self.folder / ".lock")
            try:
                self._lock.acquire(timeout=0)
            except (Timeout, NotImplementedError):
                if fcntl is None or not _is_refused(self.folder / ".lock"):
                    raise
                warn(
                    f"the file system of {self.folder} has no locks: see to it that no other run "
                    "writes there at the same time"
                )
                return
            # The open file, where this version of filelock tells.
            descriptor = getattr(getattr(self._lock, "_context", None), "lock_file_fd", None)
            with suppress(FileNotFoundError):
                named = os.stat(self.folder / ".lock")
                if descriptor is None or os.path.samestat(os.fstat(descriptor), named):
                    _held[self._lock] = descriptor
                    return
            self._lock.release()
        raise Timeout(self._lock.lock_file)

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._made and {".lock", RUN}.issuperset(os.listdir(self.folder)):
                # Nothing came of the run.
                (self.folder / RUN).unlink(missing_ok=True)
                (self.folder / ".lock").unlink()
                self.folder.rmdir()  # not if another run has come in the meantime
        _held.pop(self._lock, None)
        self._lock.release()


def _check_plain(file: Path) -> None:
    """Refuse what is no lock of ours, before filelock opens and empties it.

    Raises:
        UserError: the file is a link, a pipe, a folder; or another name of a file with content.
    """
    with suppress(FileNotFoundError):
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or (status.st_nlink > 1 and status.st_size):
            raise UserError(
                f"{file} is not a lock of a run but a link or another kind of file, an empty plain "
                "file or none was expected; remove it"
            )


def _is_refused(file: Path) -> bool:
    """Whether the file system locks nothing, which filelock takes for the lock of another run."""
    try:
        with open_file(file) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return True
    return False


def _let_go() -> None:
    """Close the files of locks in a child process: each keeps its lock while any has it open."""
    for lock, descriptor in _held.items():
        if descriptor is not None:
            os.close(descriptor)  # to release it would take the lock from the parent
            lock._context.lock_file_fd = None
    _held.clear()


_held: dict[FileLock, int | None] = {}
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_let_go)
