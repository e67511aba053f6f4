"""What runs left in their folders: records of epochs, and predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from os.path import lexists
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.csv

from rec_plots.text import short_names
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.keys import MOST
from rec_runner.system.errors import UserError
from rec_runner.system.files import read_file

LARGEST = 1e100  # no loss and no metric comes near it, and matplotlib's sums are finite

Record = dict[str, Any]
BINARY = ("auc", "logloss", "gauc")
REGRESSION = ("r2", "mae", "mse")


class Scores(NamedTuple):
    """Predictions of a task, of rows whose label is known and that weigh something.

    Attributes:
        labels: bool ``[n]``; of a regression, float64 ``[n]``.
        predictions: probabilities, or what a regression predicts, float64 ``[n]``.
        weights: float64 ``[n]``, or None where rows have none.
        regression: which of the two it is.
    """

    labels: np.ndarray
    predictions: np.ndarray
    weights: np.ndarray | None = None
    regression: bool = False


class Run(NamedTuple):
    """What a run left in its folder.

    Attributes:
        name: how legends call it.
        records: objects of ``metrics.jsonl`` and ``infer_metrics.jsonl``.
        epoch: epoch of the predictions, None where there are none.
        scores: of each task.
        rows: how many were scored.
    """

    name: str
    records: Sequence[Record]
    epoch: int | None = None
    scores: Mapping[str, Scores] = {}
    rows: int = 0

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the model's order, but regressions last."""
        names = [k[len("auc_") :] for r in self.records for k in r if k.startswith("auc_")]
        errors = [
            k[len("mse_") :]
            for r in self.records
            for k in r
            if k.startswith("mse_")
            and (r.keys() >= {f"{kind}_{k[len('mse_') :]}" for kind in REGRESSION})
        ]
        return list(dict.fromkeys([*names, *errors, *self.scores]))

    def only(self, regressions: bool) -> Run:
        """The run with the predictions of its regressions alone, or of its other tasks."""
        chosen = {k: s for k, s in self.scores.items() if s.regression == regressions}
        return self._replace(scores=chosen)


def read_runs(folders: Sequence[str], epoch: int | None = None) -> list[Run]:
    """Read what the tools wrote under checkpoint folders.

    Args:
        folders: ``runner.model_save_path`` of each run.
        epoch: whose predictions to read; by default the best epoch's, or without validation the
            last's, of those that have any.

    Raises:
        UserError: a folder that holds no run, a damaged file, or no predictions of ``epoch``.
    """
    names = short_names([Path(folder) for folder in folders])
    return [_read_run(Path(folder), name, epoch) for folder, name in zip(folders, names)]


def _read_run(folder: Path, name: str, epoch: int | None) -> Run:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one that a trainer wrote")
    files = (folder / "metrics.jsonl", folder / "infer_metrics.jsonl")
    # A link to nothing is there too, for whoever reads it to name.
    records = [record for file in files if lexists(file) for record in _read_records(file)]
    scored = [epoch / "predictions.csv" for epoch in folder.iterdir() if epoch.name.isdecimal()]
    found = {int(file.parent.name): file for file in scored if lexists(file)}
    if epoch is None and found:
        best = Checkpoints(str(folder)).best_epoch()
        epoch = best if best in found else max(found)
    if epoch is not None and epoch not in found:
        known = ", ".join(map(str, sorted(found))) or "none"
        raise UserError(f"{folder}: no predictions of epoch {epoch}; epochs with some: {known}")
    if not records and not found:
        raise UserError(f"{folder}: neither metrics.jsonl nor predictions.csv of a run in it")
    if epoch is None:
        return Run(name, records)
    return Run(name, records, epoch, *read_predictions(found[epoch]))


def _read_records(file: Path) -> list[Record]:
    try:
        lines = read_file(file).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        place = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:  # of a number without end too
            said = getattr(error, "msg", error)
            raise UserError(f"{place}: not JSON: {said}") from error
        except RecursionError as error:
            raise UserError(f"{place}: nested too deeply to be a record") from error
        records.append(_checked(record, place))
    return records


def _checked(record: Any, place: str) -> Record:
    """Phase, epoch and numbers of a line; what else there may be cannot be drawn.

    Raises:
        UserError: it is no object with phase and epoch, or a number is not one to draw.
    """
    known = isinstance(record, dict) and isinstance(record.get("phase"), str)
    epoch = record.get("epoch") if known else None
    if type(epoch) is not int or not 0 <= epoch <= MOST:
        expected = f"an object with phase and epoch, which is a number from 0 to {MOST}"
        raise UserError(f"{place}: expected {expected}")
    numbers = {k: v for k, v in record.items() if type(v) in (int, float)}
    for name, number in numbers.items():
        if not -LARGEST <= number <= LARGEST:
            shown = f"{number!r:.40}"
            raise UserError(f"{place}: {name} is {shown}, expected a number up to {LARGEST:g}")
    return {**numbers, "phase": record["phase"]}


def read_predictions(file: Path) -> tuple[dict[str, Scores], int]:
    """Read ``label_<task>,probability_<task>,…`` as ``infer`` writes it.

    A regression has ``prediction_<task>``; a label that is not known is empty; ``weight`` says what
    each row weighs.

    Returns:
        the scores of each task, and the number of rows.

    Raises:
        UserError: not such a file, or a value that is no label, probability, prediction or weight.
    """
    # Text that Arrow takes for nothing, such as nan, is no label that is not known.
    empty = pyarrow.csv.ConvertOptions(null_values=[""])
    try:
        # Not from a Python file, for which Arrow's threads have to wait for Python's lock.
        stream = pyarrow.BufferReader(read_file(file))
        table = pyarrow.csv.read_csv(stream, convert_options=empty)
        columns = table.column_names
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    tasks = [name[len("label_") :] for name in columns if name.startswith("label_")]
    if not tasks:
        raise UserError(f"{file}: expected columns label_<task> and probability_<task>")
    weights = _column(file, table, "weight", _WEIGHT) if "weight" in columns else None
    scores = {}
    for task in tasks:
        regression = f"prediction_{task}" in columns
        kind, expected = ("prediction", _NUMBER) if regression else ("probability", _PROBABILITY)
        label = _NUMBER if regression else _LABEL
        labels = _column(file, table, f"label_{task}", label, blank=True)
        predictions = _column(file, table, f"{kind}_{task}", expected)
        scores[task] = _counted(labels, predictions, weights, regression)
    return scores, table.num_rows


def _counted(
    labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None, regression: bool
) -> Scores:
    counts = ~np.isnan(labels) if weights is None else ~np.isnan(labels) & (weights > 0)
    if not counts.all():
        labels, predictions = labels[counts], predictions[counts]
        weights = None if weights is None else weights[counts]
    return Scores(labels if regression else labels > 0.5, predictions, weights, regression)


# What a column holds: in words, and whether numbers are that.
_Expected = tuple[str, Callable[[np.ndarray], np.ndarray]]
_LABEL: _Expected = ("0 or 1", lambda n: (n == 0) | (n == 1))
_PROBABILITY: _Expected = ("0 to 1", lambda n: (n >= 0) & (n <= 1))
_NUMBER: _Expected = (f"a number up to {LARGEST:g}", lambda n: np.abs(n) <= LARGEST)
_WEIGHT: _Expected = (f"0 to {LARGEST:g}", lambda n: (n >= 0) & (n <= LARGEST))


def _column(
    file: Path, table: pyarrow.Table, name: str, expected: _Expected, blank: bool = False
) -> np.ndarray:
    """A column of numbers, NaN where a cell is blank, if it may be."""
    if name not in table.column_names:
        raise UserError(f"{file}: column {name} is missing")
    if table.column_names.count(name) > 1:
        raise UserError(f"{file}: column {name} is there twice")
    values = table[name].to_numpy()
    try:
        numbers = values.astype(np.float64)
    except (ValueError, TypeError) as error:  # TypeError: of times, for instance
        raise UserError(f"{file}: column {name} should be numbers: {error}") from error
    need, fits = expected
    fit = fits(numbers)
    if blank:
        fit |= table[name].is_null().to_numpy()
    for row in np.flatnonzero(~fit):
        raise UserError(f"{file}, line {row + 2}: {name} is {values[row]!s}, expected {need}")
    return numbers
