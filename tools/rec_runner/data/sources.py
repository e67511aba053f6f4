"""Which source gives the rows that the config names: its folders, sizes, seeds and caches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.config import Config
from rec_runner.contract.guard import foreign
from rec_runner.contract.hooks import call_hook
from rec_runner.data.block_source import BlockSource
from rec_runner.data.fingerprint import WatchedFiles
from rec_runner.data.loader_source import LoaderSource
from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import Source, are_labels
from rec_runner.system.errors import UserError


def list_files(config: Config, key: str) -> list[str]:
    """Files of the folder that ``runner.<key>`` names, sorted; hidden ones are left out.

    Raises:
        UserError: no such folder, no file in it, or a link in it that leads nowhere.
    """
    folder = config.model_dir / config.required(key)
    if not folder.is_dir():
        raise UserError(f"runner.{key}: {folder} is not a folder")
    shown = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    for link in filter(os.path.islink, shown):
        try:
            os.stat(link)
        except OSError as error:
            raise UserError(
                f"runner.{key}: {link} is a link to what cannot be read: {error.strerror}"
            ) from error
    files = [p for p in shown if p.is_file()]
    if not files:
        raise UserError(f"runner.{key}: folder {folder} holds no data files")
    return [str(file) for file in files]


class Share(NamedTuple):
    """Some of the rows of a folder: those whose seeded draw from [0, 1) lies in a range.

    Attributes:
        start: the least draw.
        end: what draws are less than.
        why: what errors say of these rows.
        instead: the key that names a folder for them.
    """

    start: float
    end: float
    why: str
    instead: str

    def keep(self, seed: int, first: int, rows: int) -> np.ndarray:
        """A mask of the rows that belong to it, of some from index ``first`` on."""
        draws = row_draws(seed, first, rows)
        return (self.start <= draws) & (draws < self.end)


def test_folder(config: Config) -> tuple[str, bool]:
    """Which runner key names the test rows' folder, and whether they are only a share of it."""
    drawn = config.runner("test_data_dir") is None and config.runner("test_share") > 0
    return ("train_data_dir" if drawn else "test_data_dir"), drawn


def share_of(config: Config, part: str) -> Share | None:
    """The share of the training folder's rows that is for a part of the work.

    Test rows are those with the least draws, validation rows those with the next, so that the
    rows of either do not depend on what the other's are for.

    Args:
        config: the run's config.
        part: ``test``, ``valid`` or ``train``, which takes the rest.

    Returns:
        None where that is all rows.

    Raises:
        UserError: nothing is left to train on.
    """
    shares = {name: config.runner(f"{name}_share") for name in ("test", "valid")}
    if config.runner("valid_data_dir") is not None:
        shares["valid"] = 0.0
    test, held = shares["test"], shares["test"] + shares["valid"]
    names = [f"runner.{name}_share {share}" for name, share in shares.items() if share]
    if held >= 1:
        raise UserError(f"{' and '.join(names)} leave nothing to train on: less than 1 is expected")
    if part == "train":
        instead = "test_data_dir" if test else "valid_data_dir"
        why = f"to train on with {' and '.join(names)}"
        return Share(held, 1.0, why, instead) if held else None
    start, end, use = (0.0, test, "test") if part == "test" else (test, held, "validate")
    why = f"to {use} on with runner.{part}_share {shares[part]}"
    return Share(start, end, why, f"{part}_data_dir")


def open_source(
    config: Config,
    reader: Any,
    phase: str,
    by_blocks: bool,
    folder_key: str,
    share: Share | None = None,
    task_types: Sequence[str] = (),
) -> Source:
    """The source of a phase.

    Args:
        config: the run's config.
        reader: class ``RecDataset``.
        phase: ``train`` or ``infer``: which batch size, whether to shuffle and cache.
        by_blocks: use the reader's ``blocks()``.
        folder_key: which runner key names the folder.
        share: which of the rows to keep; by default all.
        task_types: what each task is, where not all are binary; a cache on disk is checked by it.
    """
    files = list_files(config, folder_key)
    watched = WatchedFiles(files)
    name = str(Path(files[0]).parent)
    batch_size = config.batch_size(phase)

    def make_dataset() -> Any:
        with foreign(reader):
            return reader(files, config)

    shuffle = phase == "train" and config.runner("shuffle")
    shuffle_seed = config.runner("seed") if shuffle else None
    if not by_blocks:
        if share is not None:
            raise UserError(
                f"runner.{share.instead.replace('data_dir', 'share')} needs a reader with "
                f"blocks(); use {share.instead}"
            )
        workers = config.runner("num_workers")
        drop_last = folder_key == "train_data_dir"
        return LoaderSource(
            make_dataset, batch_size, name, drop_last, workers, shuffle_seed, watched.check
        )
    # Only a reader without blocks() may make the batches itself.
    batch_size = batch_size or config.required("train_batch_size")
    return BlockSource(
        make_dataset,
        batch_size,
        name,
        shuffle_seed=shuffle_seed,
        chunk_rows=config.runner("shuffle_buffer"),
        cache_bytes=config.runner("cache_mb") << 20,
        keep=partial(share.keep, config.runner("seed")) if share else None,
        kept=share.why if share else "",
        disk=_disk_cache(config, make_dataset, files, share, task_types),
        check_files=watched.check,
    )


def _disk_cache(
    config: Config,
    make_dataset: Callable[[], Any],
    files: list[str],
    share: Share | None,
    task_types: Sequence[str],
) -> RowCache | None:
    """The disk cache of these files as this reader reads them.

    A reader's optional ``cache_key()`` says which of its settings decide what it yields; without
    it every hyper-parameter is taken to.
    """
    folder = config.runner("cache_dir")
    if folder is None:
        return None
    dataset = make_dataset()
    hyper = {k: v for k, v in config.items() if k.startswith("hyper_parameters.")}
    key = call_hook(dataset, "cache_key", default=hyper)
    kind = f"{type(dataset).__module__}.{type(dataset).__qualname__}"
    draw = share and [[share.start, share.end], config.runner("seed")]
    skips = config.runner("bad_rows") == "skip"
    # A cache written under another cap may hold more bad rows than this run allows.
    bad_rows = ["skip", config.runner("bad_rows_cap")] if skips else "error"
    fit = partial(are_labels, task_types=task_types)
    return RowCache(Path(folder), files, [kind, key, bad_rows, draw], fit)


def row_draws(seed: int, first: int, rows: int) -> np.ndarray:
    """A number from [0, 1) for each row, a function of seed and the row's index alone.

    The mixer is SplitMix64 (Steele, Lea, Flood 2014, *Fast Splittable Pseudorandom Number
    Generators*).
    """
    z = np.arange(first + 1, first + rows + 1, dtype=np.uint64)
    z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & 0xFFFFFFFF)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / np.float64(2**53)
