"""A process that times one side of a comparison, and waits for its turn.

Eager and static cannot live in one process, and each side wants its own environment. So each is
a process that stays alive, imports its library once, and times what it is asked to; the others
sleep meanwhile. That lets ``throughput.py`` alternate the sides, so that noise of the machine hits
all alike.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from common import ROOT, BenchmarkError

# Whose module has the class ``Side``, made of the side's name, a config file and ``key=value`` of
# the tools' ``-o``. Only the side's own process imports it.
SIDES = {
    "eager": "tool_path",
    "static": "tool_path",
    "old_eager": "tool_path",
    "old_static": "tool_path",
    "profile_eager": "step_profile",
    "profile_static": "step_profile",
    "plain_eager": "plain_path",
    "plain_static": "plain_path",
    "torch": "torch_path",
    "trees": "baselines",
    "logistic": "baselines",
}


class Worker:
    """The asking end.

    Args:
        side: one of :data:`SIDES`.
        config: config file.
        overrides: ``key=value`` of the tools' ``-o``.
        tree: the model directory whose code and ``tools`` the side imports.
    """

    def __init__(
        self, side: str, config: Path, overrides: Sequence[str] = (), tree: Path = ROOT
    ) -> None:
        self.side = side
        self._folder = tempfile.TemporaryDirectory(prefix=f"{side}-")
        context = get_context("spawn")
        self._answers, theirs = context.Pipe()
        given = (theirs, self._folder.name, side, config.resolve(), overrides, tree)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str, **request: Any) -> Any:
        """Call a method of the side.

        Raises:
            BenchmarkError: it failed, or its process ended.
        """
        try:
            self._answers.send((method, request))
            answer, error = self._answers.recv()
        except (EOFError, OSError):
            self._process.join()
            error = f"its process ended with {self._process.exitcode}"
        if error:
            raise BenchmarkError(f"the {self.side} side failed: {error}")
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._process.join(timeout=1)  # one that is idle ends by itself
        self._process.kill()
        self._process.join()
        self._folder.cleanup()


def _serve(
    requests: Connection,
    folder: str,
    name: str,
    config: Path,
    overrides: Sequence[str],
    tree: Path,
) -> None:
    """The answering end, until the asking one is closed."""
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # log lines cost what they cost, but are not kept
    os.dup2(silence, 2)
    sys.path[:0] = [str(tree / "tools"), str(tree)]
    try:
        side = import_module(SIDES[name]).Side(name, config, overrides)
        while True:
            method, request = requests.recv()
            requests.send((getattr(side, method)(**request), None))
    except EOFError:
        return
    except BenchmarkError as error:
        requests.send((None, str(error)))
    except Exception as error:
        requests.send((None, f"{type(error).__name__}: {error}"))
