"""Weights to load: a folder of ours or of PaddleRec's, and how they fit a network."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from os.path import lexists
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.checkpoint import format
from rec_runner.system.errors import UserError
from rec_runner.system.schema import alike


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Weights of a checkpoint folder, ours or PaddleRec's, by name.

    Args:
        folder: the folder, or the file of weights in it.

    Raises:
        UserError: no such checkpoint, a damaged one, or a file that is not one; or there is a link,
            a named pipe or a device where a file belongs.
    """
    names: tuple[str, ...] = (format.WEIGHTS, format.STATIC_WEIGHTS)
    if lexists(folder) and not folder.is_dir():
        if folder.name not in names:
            raise UserError(
                f"checkpoint {folder} is not a folder; that of a {format.WEIGHTS} is expected"
            )
        names, folder = (folder.name,), folder.parent
    if lexists(folder / format.MANIFEST):
        format.verify(folder, format.read_manifest(folder))
    for name in names:
        if lexists(folder / name):
            return format.read_weights(folder / name)
    raise UserError(f"checkpoint {folder / format.WEIGHTS} not found")


def fingerprint_of(folder: Path) -> dict[str, Any]:
    """What the checkpoint of such weights notes of its run; nothing where it is not one of ours.

    Args:
        folder: as for :func:`load_weights`, which tells what is wrong with it.
    """
    with suppress(UserError):
        return format.read_manifest(folder if folder.is_dir() else folder.parent)["fingerprint"]
    return {}


def match(
    state: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], name: str, whole: bool
) -> dict[str, np.ndarray]:
    """The weights of a checkpoint that a network has, in the network's order and types.

    Args:
        state: name to array, from the checkpoint.
        own: the network's own.
        name: what an error calls the checkpoint.
        whole: refuse a checkpoint that holds more than the network.

    Raises:
        UserError: the checkpoint is of another network, names what differs; or a weight is not a
            number.
    """
    matched = {}
    for key, value in own.items():
        if key not in state:
            raise UserError(f"checkpoint {name} has no {key}, which this config's network has")
        matched[key] = _cast(state[key], value, f"checkpoint {name}: {key}")
    extra = next((key for key in state if key not in own), None)
    if whole and extra is not None:
        raise UserError(f"checkpoint {name} has {extra}, which this config's network has not")
    return matched


def _cast(saved: np.ndarray, own: np.ndarray, place: str) -> np.ndarray:
    """A saved weight in the type of the network's own; both floating, or the very same.

    Raises:
        UserError: it does not fit, or holds a NaN.
    """
    if saved.shape != own.shape:
        raise UserError(
            f"{place} has shape {list(saved.shape)}, this config's network has {list(own.shape)}"
        )
    if not alike(saved.dtype, own.dtype):
        raise UserError(f"{place} holds {saved.dtype}, this config's network has {own.dtype}")
    # A mask may hold NaN from the start on.
    if np.issubdtype(own.dtype, np.floating) and (np.isnan(saved) & ~np.isnan(own)).any():
        raise UserError(f"{place} holds numbers that are not numbers (NaN)")
    return saved.astype(own.dtype, copy=False)
