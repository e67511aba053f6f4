"""The training loop and the evaluation loop, once for both graphs and every model.

The training loop, in pseudo-code::

    for epoch in epochs:
        for window in source.windows(epoch):        # some batches at a time
            outcome = engine.train(window)          # losses; the engine's metrics count the rows
            meter.add(outcome)
            log, save in mid-epoch, stop            # where the plan says so
        evaluate(engine, valid_source)              # where there are rows to validate on
        checkpoints.save(...)                       # with what else belongs beside it

A loss or a weight that is not finite is ``finite.py``'s to deal with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

import numpy as np

from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.data.rows import Source
from rec_runner.engine.base import Engine
from rec_runner.loop.finite import FiniteTraining
from rec_runner.loop.meter import Meter
from rec_runner.loop.monitor import Monitor
from rec_runner.report.report import Cost, Record, Report
from rec_runner.system.errors import RunError
from rec_runner.system.seeds import seed_readers
from rec_runner.system.signals import Interrupted, StopSignal, noted


@dataclass(frozen=True)
class Plan:
    """How long and how carefully to train.

    Attributes:
        epochs: number of epochs.
        print_interval: batches between two log lines.
        save_steps: batches between two mid-epoch checkpoints; 0 saves at ends of epochs only.
        monitor: validation metric that decides which epoch is best, see :class:`Monitor`; None
            for the metrics' own default.
        patience: epochs without a better one after which training stops; None never stops early.
        skip_bad_batches: see :class:`FiniteTraining`.
        save_last_batch: keep what each epoch's last training batch gave beside its checkpoint.
        fingerprint: gives what is noted in every checkpoint, see :class:`Snapshot`.
    """

    epochs: int
    print_interval: int
    save_steps: int
    monitor: str | None
    patience: int | None
    skip_bad_batches: bool
    save_last_batch: bool
    fingerprint: Callable[[], Mapping[str, Any]]

    @property
    def stops(self) -> list[tuple[int, int]]:
        """Where a window must end, see :meth:`Source.windows`."""
        saves = [(self.save_steps, 0)] if self.save_steps else []
        return [(self.print_interval, 1), *saves]

    def done(self, progress: Progress) -> bool:
        """Whether there is nothing left to train."""
        if progress.batch == 0 and self.patience is not None and progress.best_epoch is not None:
            if progress.epoch - 1 - progress.best_epoch >= self.patience:
                return True
        return progress.epoch >= self.epochs


@dataclass
class Training:
    """A run of the training loop: :meth:`run` trains until the plan is done.

    Attributes:
        engine: the engine, ready to train, its state that of the snapshot to start from.
        source: training rows.
        valid_source: rows that each epoch is validated on, or None.
        plan: how long and how carefully.
        checkpoints: where to save.
        report: where progress goes.
        stop: says when a person wants the run to end.
        add_files: adds to the folder of an epoch's checkpoint, see :meth:`Checkpoints.save`.
    """

    engine: Engine
    source: Source
    valid_source: Source | None
    plan: Plan
    checkpoints: Checkpoints
    report: Report
    stop: StopSignal
    add_files: Callable[[Path], None]

    def run(self, start: Snapshot) -> Progress:
        """Train until the plan is done, saving every epoch.

        Args:
            start: where to go on from; only its progress and meter count here.

        Returns:
            where the run stands then.

        Raises:
            Interrupted: a signal came; the run is saved and can be resumed.
            RunError: a loss or a weight was not finite, or a checkpoint could not be written.
        """
        progress, meter_state = start.progress, start.meter
        self._finite = FiniteTraining(self.engine, self.plan.skip_bad_batches)
        self._monitor = Monitor(self.plan.monitor, self.engine.metrics)
        report_skipped(self.source, self.report)
        self.report.records.extend(progress.records)
        while not self.plan.done(progress):
            meter = Meter(self.engine, "train", progress.epoch)
            if meter_state:
                meter.load_state_dict(meter_state)
                meter_state = {}
            progress = self._train_epoch(progress, meter)
            self.report.epoch_line(meter.record())
            report_skipped(self.source, self.report)
            # Before validation resets the metrics.
            last_batch = meter.last_batch() if self.plan.save_last_batch else None
            if self.valid_source is not None:
                progress = self._validate(self.valid_source, progress, meter)
            progress = replace(progress, epoch=progress.epoch + 1, batch=0)
            progress = replace(progress, records=list(self.report.records))
            self._save(progress, last_batch=last_batch)
            self.stop.check(_stopped("after", f"epoch {meter.epoch}"))
        if progress.best_epoch is not None:
            best = f"best epoch: {progress.best_epoch}, {self._monitor.text}"
            self.report.log(f"{best}: {progress.best_value:.6f}")
        if progress.skipped_batches:
            skipped = progress.skipped_batches
            self.report.log(f"skipped batches with a loss that was not finite: {skipped}")
        return progress

    def _train_epoch(self, progress: Progress, meter: Meter) -> Progress:
        epoch, plan, report = progress.epoch, self.plan, self.report
        report.start_epoch(f"epoch {epoch}", self.source.known_rows, meter.rows)
        cost = Cost()
        seed_readers(self.engine.seed, epoch)
        for window in meter.timed(self.source.windows(epoch, progress.batch, plan.stops)):
            outcome, skipped = self._finite.train(window, epoch, progress.step)
            if outcome is not None:
                meter.add(outcome)
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
                rate = {"learning_rate": self.engine.learning_rate()}
                report.visual.add("train", progress.step, {**values, **rate})
                report.visual.add("gradient_norm", progress.step, self.engine.gradient_norms)
            due = plan.save_steps and progress.batch % plan.save_steps == 0
            if due or self.stop.received:
                self._save(progress, meter.state_dict())
                self.stop.check(_stopped("after", f"epoch {epoch}, batch {progress.batch - 1}"))
        if not meter.rows:
            raise RunError(
                f"no batch of epoch {epoch} gave finite numbers; nothing was learnt from it"
            )
        return progress

    def _validate(self, source: Source, progress: Progress, meter: Meter) -> Progress:
        """Score the validation rows; the progress with a better epoch noted."""
        trained = meter.state_dict()
        try:
            record = evaluate(
                self.engine, source, meter.epoch, "valid", self.report, stop=self.stop
            )[1]
            value = self._monitor.value(record)
        except (Exception, Interrupted):
            self._save(progress, trained)  # the epoch's work is not lost
            raise
        if value is None:
            self.report.warn_once(
                f"{self._monitor.text} of the validation rows is undefined, so no epoch is best "
                "and training does not stop early: the rows hold one class of a task only, or the "
                "model has no such metric; runner.monitor names another"
            )
        elif self._monitor.is_better(record, progress.best_value):
            return replace(progress, best_epoch=meter.epoch, best_value=value)
        return progress

    def _save(
        self,
        progress: Progress,
        meter_state: Mapping[str, Any] | None = None,
        last_batch: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Save a checkpoint, but none that training could not go on from.

        Raises:
            RunError: a weight is not finite, or the checkpoint cannot be written.
        """
        weights, optimizer = self.engine.snapshot()
        broken = self._finite.broken(weights)
        if broken:
            place = f"epoch {progress.epoch}, batch {progress.batch - 1}"
            if not progress.batch:
                place = f"epoch {progress.epoch - 1}"
            raise RunError(
                f"weights are not finite after {place}: {', '.join(broken)}; not saved, earlier "
                "checkpoints are intact; a lower learning rate may help"
            )
        fingerprint = self.plan.fingerprint()
        snapshot = Snapshot(
            progress, weights, optimizer, meter_state or {}, fingerprint, last_batch
        )
        self.checkpoints.save(snapshot, None if progress.batch else self.add_files)


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
        engine: the engine, weights loaded.
        source: test or validation rows.
        epoch: the epoch whose weights these are.
        phase: ``infer`` or ``valid``.
        report: where progress goes.
        print_interval: batches between two log lines; None writes none.
        stop: says when a person wants the run to end.

    Returns:
        the meter of the pass and its record; the engine's metrics hold every row scored.

    Raises:
        RunError: a row's log-odds are not a number.
        Interrupted: a signal came, and not all rows are scored.
    """
    meter = Meter(engine, phase, epoch)
    with noted():
        report.start_epoch(f"{phase} {epoch}", source.known_rows)
    cost = Cost()
    seed_readers(engine.seed, epoch, scoring=True)
    stops = [(print_interval, 1)] if print_interval else []
    for window in meter.timed(source.windows(stops=stops)):
        if stop is not None:
            work = "validation" if phase == "valid" else "test"
            stop.check(_stopped(f"in the {work} of", f"epoch {epoch}"))
        with noted():
            outcome = engine.score(window)
            if outcome is not None:
                meter.add(outcome)
        report.advance(window.rows)
        cost.add(meter.waited, window.batches, window.rows)
        if print_interval and (window.end_batch - 1) % print_interval == 0:
            report.batch_line(epoch, window.end_batch - 1, meter.running(), cost)
    with noted():
        record = meter.record()
        report.epoch_line(record)
        report_skipped(source, report)
    return meter, record


def report_skipped(source: Source, report: Report) -> None:
    """Tell of rows that the reader left out of the last pass over its files."""
    count, examples = source.take_skipped()
    if count:
        report.log(f"rows of {source.name} skipped: {count}; the first {len(examples)}:")
        for example in examples:
            report.log(f"  {example}")


def _stopped(when: str, place: str) -> str:
    return f"stopped by a signal {when} {place}; go on with -o runner.resume=true"
