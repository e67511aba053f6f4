"""What a run must share with the one that it goes on from."""

from __future__ import annotations

import hashlib
import json
import platform
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pyarrow

from rec_runner.checkpoint.weights import load_weights
from rec_runner.config import Config
from rec_runner.data.columns import COLUMNS
from rec_runner.data.files import list_files, short_names
from rec_runner.data.fingerprint import WatchedFiles, content_fingerprint
from rec_runner.keys import BY_NAME
from rec_runner.system.errors import UserError
from rec_runner.system.files import plain_json
from rec_runner.system.log import warn

# What a resume makes of another value in the section runner: it is refused, or pointed out. What
# else is there says what is written, and when a run ends, and may change in silence.
_FIXED = "train_batch_size reader_type train_reader_path seed shuffle valid_share monitor".split()
_POINTED_OUT = "use_gpu use_xpu use_npu thread_num flush_denormals num_workers".split()
_EPOCHS = "runner.epochs"  # noted for what follows it, such as a schedule
_OPTIMIZER = "hyper_parameters.optimizer."
_GRAPH = "graph"
_WEIGHTS = "what runner.model_init_path holds"
_FILE = "file "


def run_settings(config: Config, graph: str) -> dict[str, Any]:
    """The settings that decide a run's course, and so are compared before it is resumed.

    Keys of the section ``runner`` that the tools do not know are the directory's own.
    """
    names = [*_FIXED, *_POINTED_OUT, "epochs", *(["shuffle_buffer"] * config.runner("shuffle"))]
    names += ["test_share"] * config.is_set("test_share")  # which older versions do not note
    settings = {_GRAPH: graph, **{f"runner.{name}": config.runner(name) for name in names}}
    if config.runner("valid_data_dir") is not None or config.runner("valid_share"):
        settings["runner.infer_batch_size"] = config.batch_size("infer")
    for key, value in config.items():
        section, _, name = key.partition(".")
        if section == "hyper_parameters" or (section == "runner" and name not in BY_NAME):
            settings[key] = value
    return plain_json(settings)  # as a checkpoint will give them back


def initial_weights(weights: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
    """What a new run notes of the weights that ``runner.model_init_path`` starts it from."""
    if weights is None:
        return {_WEIGHTS: None}
    digest = hashlib.sha256()
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return {_WEIGHTS: f"{len(weights)} arrays, sha256 {digest.hexdigest()[:16]}"}


def kept_initial_weights(config: Config, saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same of a run that is resumed, which does not need them any more.

    Where they cannot be compared, what the run in ``folder`` had noted stays, with a warning.
    """
    if _WEIGHTS not in saved:  # by an older version
        return {}
    was, path = saved[_WEIGHTS], config.runner("model_init_path")
    if not path:
        if was is not None:
            warn(f"resume: runner.model_init_path is not set, as it was for the run in {folder}")
        return {_WEIGHTS: was}
    try:
        now = initial_weights(load_weights(Path(path)))
    except UserError as error:
        warn(f"resume: runner.model_init_path: {error}; a run that is resumed goes on without")
        return {_WEIGHTS: was}
    inside = folder.resolve() in Path(path).resolve().parents
    if was is None or now[_WEIGHTS] == was or not inside:
        return now
    warn(f"resume: runner.model_init_path: {path} is the run's own by now, and not compared")
    return {_WEIGHTS: was}


class RunFiles:
    """What the data files of a run hold; like its settings, it must not change.

    To know it takes a look at every byte, in a thread, which a new run need not wait for before
    its first checkpoint.

    Args:
        config: the run's config.
        check: raises where a file is not as it was before rows were read from it, which may have
            been before this object was made.

    Raises:
        RunError: a data file cannot be found.
    """

    def __init__(self, config: Config, check: Callable[[], None] = lambda: None) -> None:
        required = "train_data_dir" if config.runner("reader_type") == "DataLoader" else None
        self._files = {
            f"{_FILE}{name} of runner.{key}": file
            for key in ("train_data_dir", "valid_data_dir")
            if key == required or config.runner(key) is not None
            for files in [list_files(config, key)]
            for name, file in zip(short_names(files), files)
        }
        self._check = check
        self._watched = WatchedFiles(list(self._files.values()))
        self._left = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._found: Future[dict[str, str]] | None = None

    def begin(self) -> None:
        """Start to read, unless that has been done."""
        self._found = self._found or self._pool.submit(self._read)

    def result(self) -> dict[str, str]:
        """Name of each file to what it holds.

        Raises:
            RunError: one cannot be read, or was changed since this object was made or rows were
                read from it.
        """
        self.begin()
        assert self._found is not None
        return self._found.result()

    def close(self) -> None:
        """End the reading, whole or not."""
        self._left.set()
        self._pool.shutdown()

    def _read(self) -> dict[str, str]:
        def check() -> None:
            if self._left.is_set():
                raise CancelledError

        found = {name: content_fingerprint(file, check) for name, file in self._files.items()}
        self._watched.check()
        self._check()
        return found


def files_in(fingerprint: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    """What a run's fingerprint, settings and files, tells of its files, or all but that."""
    return {key: value for key, value in fingerprint.items() if key.startswith(_FILE) == wanted}


def check_fingerprint(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path,
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda settings: {},
    reads_epochs: bool = False,
) -> None:
    """Refuse a resume under other conditions; what may be meant is only pointed out.

    Args:
        saved: what the run had that is to be resumed.
        now: what there is now.
        folder: where that run is.
        resolve: the model's hook ``resolved_settings``, from settings as they were given to what
            hyper-parameters mean; what it does not mention is taken as given.
        reads_epochs: the directory's code may follow ``runner.epochs`` in ways that no hook tells.

    Raises:
        UserError: names the first difference, or the hook that failed.
    """
    meant_now = resolve(now)
    meant_then: Mapping[str, Any] = {}
    with suppress(Exception):  # settings of an older version perhaps: they are compared as given
        meant_then = resolve(saved)
    pointed_out = []
    for key in sorted({*saved, *now, *(meant_then.keys() & meant_now.keys())}):
        was, is_now = saved.get(key), now.get(key)
        if key in meant_then and key in meant_now:
            meant = meant_then[key], meant_now[key]
            if meant[0] == meant[1]:
                continue
            if was == is_now or all(isinstance(value, (int, float)) for value in meant):
                was, is_now = meant
        if was == is_now or (key == _EPOCHS and not reads_epochs):
            continue
        if key == COLUMNS and was is None:  # by an older version
            continue
        words = ["missing" if value is None else repr(value) for value in (was, is_now)]
        message = f"{key} was {words[0]} in the run in {folder} and is {words[1]} now"
        if not _may_change(key):
            raise UserError(f"resume refused: {message}; start afresh with -o runner.resume=false")
        if key in saved or key.startswith(_OPTIMIZER) or _EPOCHS in saved:  # else: an older version
            again = was if isinstance(was, str) else json.dumps(was)
            how = f"; -o {key}={again} goes on as before"
            pointed_out.append(f"{message}{how if was is not None and key != _GRAPH else ''}")
    for message in pointed_out:
        warn(f"resume: {message}")


def _may_change(key: str) -> bool:
    """Whether another value is pointed out only, and not refused."""
    section, _, name = key.partition(".")
    if section == "runner":
        return name not in (*_FIXED, "shuffle_buffer", "test_share")
    return key == _GRAPH or (key.startswith(_OPTIMIZER) and key != f"{_OPTIMIZER}class")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {
        "python": platform.python_version(),
        "paddlepaddle": paddle.__version__,
        "numpy": np.__version__,
        "pyarrow": pyarrow.__version__,
    }
