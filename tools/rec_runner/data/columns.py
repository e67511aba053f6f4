"""What the columns of rows are: the reader's hook ``columns``, noted with every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rec_runner.config import Config
from rec_runner.contract.guard import foreign
from rec_runner.contract.hooks import call_hook, has
from rec_runner.data.sources import list_files
from rec_runner.system.errors import UserError
from rec_runner.system.files import plain_json

COLUMNS = "columns"  # the key in a config and in a run's fingerprint


def known_columns(noted: Mapping[str, Any]) -> dict[str, Any]:
    """What a config or a run's fingerprint tells of columns: an entry, or none."""
    return {COLUMNS: noted[COLUMNS]} if isinstance(noted.get(COLUMNS), dict) else {}


def settle_columns(config: Config, reader: Any, key: str) -> None:
    """Have a reader say what the columns of its rows are, where it has the hook.

    What it says of the training files becomes ``config["columns"]``, which the model and all later
    readers see. Where that is there already, it is what a network knows, and the reader is to
    match its files to it.

    Args:
        config: the run's config.
        reader: class ``RecDataset``.
        key: which runner key names its files.

    Raises:
        UserError: what the reader says of the files, or that its columns are other ones.
    """
    if not has(reader, "columns"):
        return
    files = list_files(config, key)
    with suppress(OSError):  # told in its turn, when cheaper checks are behind us
        with foreign(reader):
            dataset = reader(files, config)
        found = plain_json(call_hook(dataset, "columns"))
        differs = difference(config.setdefault(COLUMNS, found), found)
        if differs:
            raise UserError(f"runner.{key}: the columns are not those of training: {differs}")


def difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs first between two answers of the hook; empty where nothing does."""
    for key in sorted(key for key in {*was, *now} if was.get(key) != now.get(key)):
        then, here = was.get(key), now.get(key)
        if not (isinstance(then, list) and isinstance(here, list)):
            return f"{key} was {str(then)[:100]} and is {str(here)[:100]}"
        for items, others, fate in ((then, here, "is missing"), (here, then, "is new")):
            for item in items:
                if item not in others:
                    return f"{item!r} of {key} {fate}"
        return f"{key} are in another order"
    return ""
