"""The data files that a key of the config or a command line names."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from rec_runner.config import Config
from rec_runner.system.errors import UserError


def list_files(config: Config, key: str) -> list[str]:
    """Files that ``runner.<key>`` names: all of a folder, one, or those that fit a pattern, sorted.

    Raises:
        UserError: see :func:`find_files`.
    """
    return find_files(config.model_dir, config.required(key), f"runner.{key}")


def find_files(folder: Path, name: str, what: str) -> list[str]:
    """Files by the name of their folder, of the only one, or by a pattern such as ``day_*.csv``.

    Args:
        folder: what the name is relative to.
        name: a name that is there is no pattern, whatever characters it has.
        what: what has that name, for sentences.

    Returns:
        paths, sorted; hidden files of a folder are left out.

    Raises:
        UserError: there is no such folder or file, no file in it, or a link that leads nowhere.
    """
    path = folder / name
    if path.is_dir():
        found, none = sorted(path.iterdir()), f"folder {path} holds no data files"
        found = [p for p in found if not p.name.startswith(".")]
    elif os.path.lexists(path):
        found, none = [path], f"{path} is neither a file nor a folder"
    elif glob.has_magic(name):
        pattern = os.path.join(glob.escape(str(folder)), name)
        found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
        none = f"no file has a name like {path}"
    else:
        raise UserError(f"{what}: {path} is not a folder, nor a file")
    for link in filter(os.path.islink, found):
        try:
            os.stat(link)
        except OSError as error:
            raise UserError(
                f"{what}: {link} is a link to what cannot be read: {error.strerror}"
            ) from error
    files = [str(p) for p in found if p.is_file()]
    if not files:
        raise UserError(f"{what}: {none}")
    return files


def short_names(files: Sequence[str]) -> list[str]:
    """Names of files that are found together, each another: as they stand in their folder."""
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    return [Path(os.path.relpath(file, folder)).as_posix() for file in files]
