"""Whether an exported model predicts what its checkpoint does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Callable

import numpy as np

from rec_runner.config import Config
from rec_runner.data.files import list_files
from rec_runner.data.rows import Arrays, Source, Window, concatenate, take
from rec_runner.data.sources import test_folder
from rec_runner.engine.scoring import BlockScoring
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn

ROWS = 1_000
MOST_READ = 20_000_000  # numbers, which a reader of text gives in a second or two
TOLERANCE = 1e-5
# Rows in a batch, and how many rows go through in such batches; a client may send any number.
BATCHES = ((1, 50), (7, 350), (ROWS, ROWS))
# A float32 holds no more of a number than some 1e-7 of it, and half a dozen are added up.
_OF_SIZE = 0.1


def settle_sample(config: Config) -> str:
    """Have the config test on rows that are there: its test rows, else validation, else training.

    Returns:
        which runner key names their folder.

    Raises:
        UserError: there are none at all.
    """
    named, wrong = test_folder(config)[0], ""  # of the first that has none
    for key in dict.fromkeys((named, "valid_data_dir", "train_data_dir")):
        if config.runner(key) is None:
            continue
        try:
            list_files(config, key)
        except UserError as error:
            wrong = wrong or str(error)
            continue
        if wrong:
            warn(f"{wrong}; the export is checked with the rows of runner.{key}")
        if key != named:
            config["runner.test_data_dir"] = config.runner(key)
            config["runner.infer_reader_path"] = config.runner("train_reader_path")
        return key
    why = wrong and f" ({wrong})"
    raise UserError(
        f"{config['yaml_path']}: there are no rows to check an export with{why}; give some by "
        "-o runner.test_data_dir=…"
    )


def sample_rows(source: Source, most_read: int = MOST_READ) -> Arrays:
    """At most :data:`ROWS` rows of a source, as the reader gives them, evenly spread over them all.

    Files may be sorted, and the first rows of such are like no others.

    Args:
        source: of blocks.
        most_read: numbers that are read; of a larger source the rows come from its first part.
    """
    kept: Arrays = {}
    step, seen, numbers = 1, 0, 0  # every step-th row is kept, of those that were seen
    with closing(source):
        for arrays in source.raw_arrays():
            rows = len(arrays["labels"])
            chosen = take(arrays, np.arange(-seen % step, rows, step))
            kept = concatenate([kept, chosen]) if kept else chosen
            seen, numbers = seen + rows, numbers + arrays["features"].size
            while len(kept["labels"]) > 2 * ROWS:
                kept, step = take(kept, np.arange(0, len(kept["labels"]), 2)), 2 * step
            if seen >= ROWS and numbers >= most_read:
                break
    rows = len(kept["labels"])
    return take(kept, np.linspace(0, rows - 1, min(rows, ROWS)).astype(np.int64))


def checkpoint_scores(
    engine: BlockScoring, arrays: Arrays, batch_size: int, types: Sequence[str]
) -> np.ndarray:
    """What the network of a checkpoint predicts, float64 ``[n, T]``.

    Args:
        engine: with the checkpoint's weights.
        arrays: rows.
        batch_size: how many the network takes at once.
        types: of the tasks.
    """
    rows = len(arrays["labels"])
    odds = engine.network_log_odds(Window(0, min(batch_size, rows), arrays, rows))
    with np.errstate(over="ignore"):
        probabilities = 1 / (1 + np.exp(-odds.astype(np.float64)))
    return np.where([kind == "regression" for kind in types], odds, probabilities)


def off(found: np.ndarray, own: np.ndarray, types: Sequence[str]) -> np.ndarray:
    """How far predictions ``[n, T]`` are off, in units that :data:`TOLERANCE` is for.

    Of a probability it is the difference. A number of a regression may go into the millions, or be
    a thousandth throughout: it is held against the spread of the predictions, standard deviation,
    and a tenth of its own size.

    Args:
        found: an exported model's.
        own: the checkpoint's.
        types: of the tasks.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(
            [kind == "regression" for kind in types],
            own.std(axis=0, keepdims=True) + _OF_SIZE * np.abs(own),
            1.0,
        )
        difference = np.abs(found.astype(np.float64) - own) / scale
    difference[np.isnan(difference)] = np.inf  # a number that only one of the two has
    difference[(found == own) | (np.isnan(found) & np.isnan(own))] = 0
    return difference


def largest_difference(
    predict: Callable[[np.ndarray], np.ndarray],
    features: np.ndarray,
    own: np.ndarray,
    types: Sequence[str],
) -> tuple[float, int, int]:
    """How far an exported model is off its checkpoint at most, in batches of several sizes.

    Args:
        predict: the exported model.
        features: rows ``[n, F]``.
        own: what the checkpoint predicts of them.
        types: of the tasks.

    Returns:
        how far, of which row and of which task.
    """
    worst = (0.0, 0, 0)
    for size, rows in BATCHES:
        some = features[:rows]
        starts = range(0, len(some), size)
        found = np.concatenate([predict(some[start : start + size]) for start in starts])
        differences = off(found, own[:rows], types)
        row, task = np.unravel_index(int(differences.argmax()), differences.shape)
        if differences[row, task] > worst[0]:
            worst = float(differences[row, task]), int(row), int(task)
    return worst
