"""Another commit of this repository, checked out for as long as it is measured."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from common import ROOT, BenchmarkError

# What git sets for its hooks, of a repository that need not be this one.
OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
NEEDED = ("tools/rec_runner/cli.py", "config.yaml", "config_fast.yaml", "config_bigdata.yaml")


class BadRevision(BenchmarkError):
    """There is no such commit, or it cannot be measured."""

    status = 2


class Commit(NamedTuple):
    """A commit: as it was asked for, its hash, and the first line of its message."""

    asked: str
    hash: str
    subject: str


def find_commit(revision: str) -> Commit:
    """The commit that a revision names.

    Raises:
        BadRevision: none is, or this is no git repository.
    """
    asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    found = _git(*asked)
    if found is None:
        raise BadRevision(f"--against {revision}: git knows no such commit in {ROOT}")
    return Commit(revision, found, _git("show", "--no-patch", "--format=%s", found) or "")


@contextmanager
def checked_out(commit: Commit) -> Iterator[Path]:
    """Context in which a commit lies in a git worktree of its own, as this directory would.

    Yields:
        its model directory, which has its tools.

    Raises:
        BadRevision: it cannot be checked out, or lacks what is measured.
    """
    with ExitStack() as stack:
        with _signals_wait():
            folder = tempfile.mkdtemp(prefix="against-")
            stack.callback(_remove, folder)
            # No hook of the repository's runs: it would be for a person's checkouts.
            quiet = ("-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--quiet")
            if _git(*quiet, "--detach", folder, commit.hash) is None:
                raise BadRevision(f"--against {commit.asked}: git cannot check it out in {folder}")
        tree = Path(folder, _git("rev-parse", "--show-prefix") or "").resolve()
        for file in NEEDED:
            if not (tree / file).is_file():
                raise BadRevision(f"--against {commit.asked}: that commit has no {file} to measure")
        yield tree


def _remove(folder: str) -> None:
    with _signals_wait():
        # The second --force takes one that git was kept from finishing.
        removed = _git("worktree", "remove", "--force", "--force", folder)
        shutil.rmtree(folder, ignore_errors=True)
        if removed is None:
            _git("worktree", "prune")


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Context which signals wait to be over; processes that it starts are not ended by them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails or there is none."""
    command = ["git", "-C", str(ROOT), *arguments]
    own = {name: value for name, value in os.environ.items() if name not in OF_HOOKS}
    try:
        ended = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    except (OSError, ValueError, subprocess.CalledProcessError):  # ValueError: a NUL character
        return None
    return ended.stdout.strip()
