"""What a run must share with the one that it goes on from."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import paddle
import pyarrow

from rec_runner.config import Config
from rec_runner.data.fingerprint import content_fingerprint
from rec_runner.data.sources import list_files
from rec_runner.system.errors import UserError
from rec_runner.system.files import plain_json
from rec_runner.system.log import warn

_FIXED = "train_batch_size reader_type train_reader_path seed shuffle valid_share monitor".split()
_OPTIMIZER = "hyper_parameters.optimizer."
_FILE = "file "


def run_settings(config: Config) -> dict[str, Any]:
    """The settings that decide a run's course, and so must not change before it is resumed."""
    settings = {f"runner.{name}": config.runner(name) for name in _FIXED}
    if config.runner("shuffle"):
        settings["runner.shuffle_buffer"] = config.runner("shuffle_buffer")
    settings.update({k: v for k, v in config.items() if k.startswith("hyper_parameters.")})
    return plain_json(settings)  # as a checkpoint will give them back


def run_files(config: Config) -> dict[str, str]:
    """What the data files of a run hold; like its settings, it must not change.

    Raises:
        RunError: a data file cannot be read.
    """
    fingerprint = {}
    required = "train_data_dir" if config.runner("reader_type") == "DataLoader" else None
    for key in ("train_data_dir", "valid_data_dir"):
        if key == required or config.runner(key) is not None:
            for file in map(Path, list_files(config, key)):
                fingerprint[f"{_FILE}{file.name} of runner.{key}"] = content_fingerprint(file)
    return fingerprint


def files_in(fingerprint: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    """What a run's fingerprint, settings and files, tells of its files, or all but that."""
    return {key: value for key, value in fingerprint.items() if key.startswith(_FILE) == wanted}


def check_fingerprint(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path,
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda settings: {},
) -> None:
    """Refuse a resume under other conditions; another optimizer setting is only pointed out.

    Args:
        saved: what the run had that is to be resumed.
        now: what there is now.
        folder: where that run is.
        resolve: the model's hook ``resolved_settings``, from hyper-parameters as they were given
            to what they mean; what it does not mention is taken as given.

    Raises:
        UserError: names the first difference, or the hook that failed.
    """
    meant_now = resolve(now)
    meant_then: Mapping[str, Any] = {}
    with suppress(Exception):  # settings of an older version perhaps: they are compared as given
        meant_then = resolve(saved)
    for key in sorted({*saved, *now}):
        was, is_now = saved.get(key), now.get(key)
        known = key in meant_then and key in meant_now
        if was == is_now or (known and meant_then[key] == meant_now[key]):
            continue
        was, is_now = ("missing" if v is None else repr(v) for v in (was, is_now))
        message = f"{key} was {was} in the run in {folder} and is {is_now} now"
        if not key.startswith(_OPTIMIZER) or key == f"{_OPTIMIZER}class":
            raise UserError(f"resume refused: {message}; start afresh with -o runner.resume=false")
        warn(f"resume: {message}")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {
        "python": platform.python_version(),
        "paddlepaddle": paddle.__version__,
        "numpy": numpy.__version__,
        "pyarrow": pyarrow.__version__,
    }
