"""The training loop and the evaluation loop, once for both graph paths and every model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable

import numpy as np

from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.data.rows import Window
from rec_runner.data.sources import Source
from rec_runner.engine.base import Engine, Outcome
from rec_runner.loop.meter import Meter
from rec_runner.report.report import Cost, Record, Report, scores
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.signals import StopSignal

_DIRECTION = re.compile(r"(min|max):")
# Metrics of which less is better, unless ``min:`` or ``max:`` says otherwise.
_ERRORS = re.compile(r"loss|cost|mse|mae|mape|err|perplexity|ppl|deviation")


@dataclass(frozen=True)
class Plan:
    """How long and how carefully to train.

    Attributes:
        epochs: number of epochs.
        print_interval: batches between two log lines.
        save_steps: batches between two mid-epoch checkpoints; 0 saves at ends of epochs only.
        monitor: validation metric that decides which epoch is best, see :func:`monitored`.
        patience: epochs without a better one after which training stops; None never stops early.
        skip_bad_batches: leave a batch out if its loss, or a weight after it, is not finite,
            rather than stop.
        fingerprint: noted in every checkpoint, see :class:`Snapshot`.
        infinite: weights that may hold numbers that are not finite, a mask for instance.
    """

    epochs: int
    print_interval: int
    save_steps: int
    monitor: str
    patience: int | None
    skip_bad_batches: bool
    fingerprint: Mapping[str, Any]
    infinite: frozenset[str] = frozenset()

    def broken(self, weights: Mapping[str, np.ndarray]) -> list[str]:
        """Names of the weights that hold a NaN or an infinity and should not."""
        names = [name for name, weight in weights.items() if not np.isfinite(weight).all()]
        return [name for name in names if name not in self.infinite]

    @property
    def stops(self) -> list[tuple[int, int]]:
        """Where a window must end, see :meth:`BlockSource.windows`."""
        saves = [(self.save_steps, 0)] if self.save_steps else []
        return [(self.print_interval, 1), *saves]

    def done(self, progress: Progress) -> bool:
        """Whether there is nothing left to train."""
        if progress.batch == 0 and self.patience is not None and progress.best_epoch is not None:
            if progress.epoch - 1 - progress.best_epoch >= self.patience:
                return True
        return progress.epoch >= self.epochs


def train(
    engine: Engine,
    source: Source,
    valid_source: Source | None,
    plan: Plan,
    checkpoints: Checkpoints,
    report: Report,
    stop: StopSignal,
    start: Snapshot,
    after_epoch: Callable[[Meter], None] = lambda meter: None,
) -> None:
    """Train until the plan is done, saving every epoch.

    Args:
        engine: the graph path, ready to train, its state that of ``start``.
        source: training rows.
        valid_source: rows that each epoch is validated on, or None.
        plan: how long and how carefully.
        checkpoints: where to save.
        report: where progress goes.
        stop: says when a person wants the run to end.
        start: where to go on from; only its progress and meter count here.
        after_epoch: called with an epoch's meter once its checkpoint is there.

    Raises:
        Interrupted: a signal came; the run is saved and can be resumed.
        RunError: a loss or a weight was not finite, or a checkpoint could not be written.
    """
    progress, meter_state = start.progress, start.meter
    plan = replace(plan, infinite=frozenset(plan.broken(engine.state_dict())))
    _report_skipped(source, report)
    report.records.extend(progress.records)
    while not plan.done(progress):
        meter = Meter(engine, "train", progress.epoch)
        if meter_state:
            meter.load_state_dict(meter_state)
            meter_state = {}
        progress = _train_epoch(engine, source, plan, checkpoints, report, stop, progress, meter)
        report.epoch_line(meter.record())
        _report_skipped(source, report)
        if valid_source is not None:
            trained = meter.state_dict()  # validation resets the model's own metrics
            try:
                _, record = evaluate(engine, valid_source, meter.epoch, "valid", report, stop=stop)
                value = monitored(record, plan.monitor)
            except Exception:
                _save(engine, plan, checkpoints, progress, trained)  # the epoch's work is not lost
                raise
            if value is None:
                report.warn_once(
                    f"{plan.monitor} of the validation rows is undefined, so no epoch is best and "
                    "training does not stop early: the rows hold one class of a task only, or the "
                    "model has no such metric; runner.monitor names another"
                )
            elif _better(value, progress.best_value, plan.monitor):
                progress = replace(progress, best_epoch=meter.epoch, best_value=value)
        progress = replace(progress, epoch=progress.epoch + 1, batch=0)
        progress = replace(progress, records=list(report.records))
        _save(engine, plan, checkpoints, progress)
        after_epoch(meter)
        stop.check(_stopped("after", f"epoch {meter.epoch}"))
    if progress.best_epoch is not None:
        report.log(f"best epoch: {progress.best_epoch}, {plan.monitor}: {progress.best_value:.6f}")
    if progress.skipped_batches:
        report.log(f"skipped batches with a loss that was not finite: {progress.skipped_batches}")


def _train_epoch(
    engine: Engine,
    source: Source,
    plan: Plan,
    checkpoints: Checkpoints,
    report: Report,
    stop: StopSignal,
    progress: Progress,
    meter: Meter,
) -> Progress:
    epoch = progress.epoch
    report.start_epoch(f"epoch {epoch}", source.known_rows, meter.rows)
    cost = Cost()
    engine.seed_readers(epoch)
    for window in meter.timed(source.windows(epoch, progress.batch, plan.stops)):
        outcome, skipped = _train_window(engine, window, epoch, progress.step, plan)
        if outcome is not None:
            meter.add(window, outcome)
        if skipped:
            batches = ", ".join(map(str, skipped))
            report.log(f"epoch: {epoch}, skipped, not being finite: batch_id {batches}")
        progress = replace(
            progress,
            batch=window.end_batch,
            step=progress.step + window.batches,
            skipped_batches=progress.skipped_batches + len(skipped),
        )
        report.advance(window.rows)
        cost.add(meter.waited, window.batches, window.rows)
        if (progress.batch - 1) % plan.print_interval == 0:
            values = meter.running()
            report.batch_line(epoch, progress.batch - 1, values, cost)
            rate = {"learning_rate": engine.learning_rate()}
            report.visual.add("train", progress.step, {**values, **rate})
            report.visual.add("gradient_norm", progress.step, engine.gradient_norms)
        due = plan.save_steps and progress.batch % plan.save_steps == 0
        if due or stop.received:
            _save(engine, plan, checkpoints, progress, meter.state_dict())
            stop.check(_stopped("after", f"epoch {epoch}, batch {progress.batch - 1}"))
    if not meter.rows:
        raise RunError(f"no batch of epoch {epoch} gave finite numbers; nothing was learnt from it")
    return progress


def _train_window(
    engine: Engine, window: Window, epoch: int, step: int, plan: Plan
) -> tuple[Outcome | None, list[int]]:
    """Train on a window; what :func:`_train_around` gives."""
    if plan.skip_bad_batches:
        return _train_around(engine, window, step, plan)
    outcome = engine.train(window, step)
    finite = np.isfinite(outcome.losses)
    if finite.all():
        return outcome, []
    bad = int(np.argmin(finite))
    where = f" (files: {', '.join(window.files)})" if window.files else ""
    raise RunError(
        f"loss is {outcome.losses[bad]} at epoch {epoch}, batch {window.first_batch + bad}"
        f"{where}; earlier checkpoints are intact; a lower learning rate or "
        "-o runner.skip_bad_batches=true may help"
    )


def _train_around(
    engine: Engine, window: Window, step: int, plan: Plan
) -> tuple[Outcome | None, list[int]]:
    """Train on a window, but for batches that give a loss or a weight that is not finite.

    Returns:
        the outcome of the others, None if there are none, and which ones were left out.
    """
    before = engine.snapshot()
    outcome = engine.train(window, step)
    if np.isfinite(outcome.losses).all() and not plan.broken(engine.state_dict()):
        return outcome, []
    engine.restore(before)
    if window.batches == 1:
        return None, [window.first_batch]
    middle = window.batches // 2
    first, first_skipped = _train_around(engine, window.part(0, middle), step, plan)
    rest = window.part(middle, window.batches)
    second, second_skipped = _train_around(engine, rest, step + middle, plan)
    outcomes = [outcome for outcome in (first, second) if outcome is not None]
    return Outcome.joined(outcomes) if outcomes else None, first_skipped + second_skipped


def evaluate(
    engine: Engine,
    source: Source,
    epoch: int,
    phase: str,
    report: Report,
    print_interval: int | None = None,
    stop: StopSignal | None = None,
) -> tuple[Meter, Record]:
    """Score every row of a source and report the metrics.

    Args:
        engine: the graph path, weights loaded.
        source: test or validation rows.
        epoch: the epoch whose weights these are.
        phase: ``infer`` or ``valid``.
        report: where progress goes.
        print_interval: batches between two log lines; None writes none.
        stop: says when a person wants the run to end.

    Returns:
        the meter, which holds every label and log-odds, and its record.

    Raises:
        RunError: a row's log-odds are not a number.
        Interrupted: a signal came, and not all rows are scored.
    """
    meter = Meter(engine, phase, epoch)
    report.start_epoch(f"{phase} {epoch}", source.known_rows)
    stops = [(print_interval, 1)] if print_interval else []
    cost = Cost()
    engine.seed_readers(epoch, scoring=True)
    for window in meter.timed(source.windows(stops=stops)):
        if stop is not None:
            stop.check(_stopped("in the validation of", f"epoch {epoch}"))
        outcome = engine.score(window)
        if outcome is not None:
            _check_scores(outcome, window)
            meter.add(window, outcome)
        report.advance(window.rows)
        cost.add(meter.waited, window.batches, window.rows)
        if print_interval and (window.end_batch - 1) % print_interval == 0:
            report.batch_line(epoch, window.end_batch - 1, meter.running(), cost)
    record = meter.record()
    report.epoch_line(record)
    _report_skipped(source, report)
    return meter, record


def _check_scores(outcome: Outcome, window: Window) -> None:
    """Refuse log-odds that are not numbers: no metric of them would mean anything."""
    if outcome.log_odds is None or not np.isnan(outcome.log_odds).any():
        return
    row = int(np.argmax(np.isnan(outcome.log_odds).any(axis=1)))
    where = f" (files: {', '.join(window.files)})" if window.files else ""
    raise RunError(
        f"the network gives NaN for row {window.first_batch * window.batch_size + row} "
        f"(from 0) of the rows scored{where}; are its values very large?"
    )


def monitored(record: Record, monitor: str) -> float | None:
    """The value of a record that decides which epoch is best.

    Args:
        record: a validation record.
        monitor: name of a metric, perhaps after ``min:`` or ``max:``; ``auc`` and ``logloss`` are
            means over the tasks.

    Returns:
        the value, or None where it is undefined, or where it is ``auc``, the default, and there
        is none.

    Raises:
        UserError: there is no such metric, or it is not one number.
    """
    name = _DIRECTION.sub("", monitor)
    known = scores(record)
    values = [known[name]] if name in known else []
    values = values or [v for key, v in known.items() if key.startswith(f"{name}_")]
    if not values and name != "auc":
        raise UserError(
            f"runner.monitor: validation gives no {name}; it gives {', '.join(known) or 'nothing'}"
        )
    if not values or None in values:
        return None
    if not all(isinstance(value, (int, float)) for value in values):
        raise UserError(f"runner.monitor: {name} is not one number but {values[0]!r}")
    return float(np.mean(values))


def _better(value: float, best: float | None, monitor: str) -> bool:
    if best is None:
        return True
    direction = _DIRECTION.match(monitor)
    lower = direction[1] == "min" if direction else bool(_ERRORS.search(monitor.lower()))
    return value < best if lower else value > best


def _save(
    engine: Engine,
    plan: Plan,
    checkpoints: Checkpoints,
    progress: Progress,
    meter_state: Mapping[str, Any] | None = None,
) -> None:
    """Save a checkpoint, but none that training could not go on from.

    Raises:
        RunError: a weight is not finite, or the checkpoint cannot be written.
    """
    weights, optimizer = engine.snapshot()
    broken = plan.broken(weights)
    if broken:
        place = f"epoch {progress.epoch}, batch {progress.batch - 1}"
        if not progress.batch:
            place = f"epoch {progress.epoch - 1}"
        raise RunError(
            f"weights are not finite after {place}: {', '.join(broken)}; not saved, earlier "
            "checkpoints are intact; a lower learning rate may help"
        )
    checkpoints.save(Snapshot(progress, weights, optimizer, meter_state or {}, plan.fingerprint))


def _report_skipped(source: Source, report: Report) -> None:
    """Tell of rows that the reader left out of the last pass over its files."""
    count, examples = source.take_skipped()
    if count:
        report.log(f"rows of {source.name} skipped: {count}; the first {len(examples)}:")
        for example in examples:
            report.log(f"  {example}")


def _stopped(when: str, place: str) -> str:
    return f"stopped by a signal {when} {place}; go on with -o runner.resume=true"
