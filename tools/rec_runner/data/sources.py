"""Which source gives the rows that the config names: its folders, sizes, seeds and caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np

from rec_runner.config import Config
from rec_runner.contract.guard import foreign
from rec_runner.contract.hooks import call_hook
from rec_runner.data.block_source import BlockSource
from rec_runner.data.files import list_files
from rec_runner.data.fingerprint import WatchedFiles
from rec_runner.data.loader_source import LoaderSource
from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import Source, are_binary


def open_source(
    config: Config,
    reader: Any,
    phase: str,
    by_blocks: bool,
    folder_key: str,
    share: tuple[float, float] | None = None,
) -> Source:
    """The source of a phase.

    Args:
        config: the run's config.
        reader: class ``RecDataset``.
        phase: ``train`` or ``infer``: which batch size, whether to shuffle and cache.
        by_blocks: use the reader's ``blocks()``.
        folder_key: which runner key names the files.
        share: keep the rows whose seeded draw from [0, 1) lies in this range.
    """
    files = list_files(config, folder_key)
    watched = WatchedFiles(files)
    name = str(config.model_dir / config.required(folder_key))
    batch_size = config.batch_size(phase)

    def make_dataset() -> Any:
        with foreign(reader):
            return reader(files, config)

    shuffle = phase == "train" and config.runner("shuffle")
    shuffle_seed = config.runner("seed") if shuffle else None
    if not by_blocks:
        workers = config.runner("num_workers")
        drop_last = folder_key == "train_data_dir"
        return LoaderSource(
            make_dataset, batch_size, name, drop_last, workers, shuffle_seed, watched.check
        )
    # Only a reader without blocks() may make the batches itself.
    batch_size = batch_size or config.required("train_batch_size")
    keep, part = None, "to train on" if phase == "train" else "to validate on"
    if share is not None:
        seed = config.runner("seed")

        def keep(first: int, rows: int) -> np.ndarray:
            draws = row_draws(seed, first, rows)
            return (share[0] <= draws) & (draws < share[1])

    return BlockSource(
        make_dataset,
        batch_size,
        name,
        shuffle_seed=shuffle_seed,
        chunk_rows=config.runner("shuffle_buffer"),
        cache_bytes=config.runner("cache_mb") << 20,
        keep=keep,
        kept=f"{part} with runner.valid_share {config.runner('valid_share')}",
        disk=_disk_cache(config, make_dataset, files, share),
        check_files=watched.check,
    )


def _disk_cache(
    config: Config, make_dataset: Callable[[], Any], files: list[str], share: Any
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
    draw = share and [share, config.runner("seed")]
    skips = config.runner("bad_rows") == "skip"
    # A cache written under another cap may hold more bad rows than this run allows.
    bad_rows = ["skip", config.runner("bad_rows_cap")] if skips else "error"
    return RowCache(Path(folder), files, [kind, key, bad_rows, draw], are_binary)


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
