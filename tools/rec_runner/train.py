"""The job of the two trainers: set up, then the training loop."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np

from rec_runner.build import build_engine, load_weights_into, read_first_block, warn_unused
from rec_runner.checkpoint.lock import FolderLock
from rec_runner.checkpoint.resume import (
    RunFiles,
    check_fingerprint,
    files_in,
    initial_weights,
    kept_initial_weights,
    run_settings,
    versions,
)
from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import fingerprint_of, load_weights
from rec_runner.config import Config
from rec_runner.contract.guard import check_returned
from rec_runner.contract.hooks import call_hook, has
from rec_runner.data.block_source import BlockSource
from rec_runner.data.columns import known_columns, settle_columns
from rec_runner.data.loader_source import CustomSource
from rec_runner.data.rows import Source
from rec_runner.data.sources import open_source, share_of
from rec_runner.loop.loop import Plan, Training
from rec_runner.loop.monitor import Monitor
from rec_runner.report.report import Report
from rec_runner.report.visualdl import Visual
from rec_runner.score import ScoredFolder, open_rows_after_training, score_checkpoint
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.log import warn
from rec_runner.system.signals import Interrupted, StopSignal


def train(graph: str, config: Config) -> None:
    """Train and save, see ``loop.Training``.

    Args:
        graph: ``dygraph`` or ``static``.
        config: the run's config.
    """
    for key in ("epochs", "print_interval"):
        config.required(key)
    folder = Path(config.runner("model_save_path"))
    notes = {"config": dict(config), "versions": versions()}
    checkpoints = Checkpoints(str(folder), config.runner("keep_checkpoints"), notes)
    with FolderLock(folder), _begun(checkpoints, config.runner("resume")) as (name, start):
        with closing(TrainJob(graph, config, checkpoints, name, start)) as job:
            # It reads every data file; what is cheap to check has been checked before.
            with closing(RunFiles(config, job.check_files)) as files:
                if start is not None:
                    files.result()
                with StopSignal() as stop:
                    job.run(files, stop)


@contextmanager
def _begun(checkpoints: Checkpoints, resume: bool) -> Iterator[tuple[str, Snapshot | None]]:
    """Context in which the output folder notes a new run, or the one that is gone on with.

    A new run is noted before it reads anything, so that a kill or a signal at any time leaves
    nothing by which an earlier run would be gone on with in its place. Any other error before
    its first checkpoint, a mistyped path for instance, leaves the earlier run to be resumed.

    Yields:
        the run's name, and where it stood if it is gone on with.
    """
    start = checkpoints.newest() if resume else None
    name = start.progress.run if start is not None else uuid.uuid4().hex
    try:
        checkpoints.begin(name)
        yield name, start
    except Interrupted:
        raise
    except Exception:
        with suppress(OSError, RunError):
            checkpoints.call_off()
        raise


class TrainJob:
    """The parts of a training run, made one after another, the cheapest checks first.

    Args:
        graph: ``dygraph`` or ``static``.
        config: the run's config.
        checkpoints: those of the output folder, which notes this run.
        name: the run's.
        start: the checkpoint to go on from, or None.

    Raises:
        UserError: a part cannot be made as the config asks for it, or the run to resume had other
            settings; its data files are compared later.
    """

    def __init__(
        self,
        graph: str,
        config: Config,
        checkpoints: Checkpoints,
        name: str,
        start: Snapshot | None,
    ) -> None:
        self.config = config
        self.checkpoints = checkpoints
        self.folder = checkpoints.folder
        self.name = name
        self.start = start
        self.initial: Mapping[str, np.ndarray] | None = None
        self.settings = run_settings(config, graph)
        self._begun: Source | None = None
        try:
            self._set_up(graph)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End what runs in the background."""
        if self._begun is not None:
            self._begun.close()

    def check_files(self) -> None:
        """Compare the data files with what they were before the first row was read.

        Raises:
            RunError: one was changed.
        """
        for source in filter(None, (self.source, self.valid_source)):
            source.check_files()

    def _set_up(self, graph: str) -> None:
        config = self.config
        self._set_up_model(graph)
        self._set_up_data()
        warn_unused(graph, "train", config, self.engine, self.reader)
        self._set_up_monitor()
        visual = Visual(self.folder if config.runner("use_visual") else None)
        self.report = Report(self.folder / "metrics.jsonl", visual=visual)
        self._set_up_weights()

    def _set_up_model(self, graph: str) -> None:
        config = self.config
        runner = config.runner
        initial = runner("model_init_path")
        if self.start is not None:
            config.update(known_columns(self.start.fingerprint))
        elif initial:  # its weights are for columns in this order
            config.update(known_columns(fingerprint_of(Path(initial))))
        validates = runner("valid_data_dir") is not None or runner("valid_share") > 0
        scores = validates or runner("test_at_end")
        built = build_engine(graph, config, "train", scores, self._begin_reading)
        self.engine, self.reader = built
        self.settings.update(known_columns(config))

    def _begin_reading(self, reader: Any) -> None:
        """Have the reader read the rows while the network is being built."""
        config = self.config
        if config.runner("cache_dir") is not None:  # which is filled, and noted, in its turn
            read_first_block(config, "train", reader)
            return
        source = self._open_training_rows(reader, True, ())
        assert isinstance(source, BlockSource)
        self._begun = source
        source.begin()

    def _open_training_rows(self, reader: Any, blocks: bool, types: Sequence[str]) -> Source:
        config = self.config
        share = share_of(config, "train")
        return open_source(config, reader, "train", blocks, "train_data_dir", share, types)

    def _set_up_data(self) -> None:
        config, reader = self.config, self.reader
        blocks, types = self.engine.reads_blocks, self.engine.task_types
        share, validates = config.runner("valid_share"), config.runner("valid_data_dir") is not None
        tests = config.runner("test_at_end")
        self.valid_source: Source | None = None
        self.test_source: Source | None = None
        if reader is None:
            if share or validates or tests:
                kind = "validation" if share or validates else "test"
                raise UserError(f"runner.reader_type CustomizeDataLoader gives no {kind} rows")
            loader = self.engine.data_loader
            self.source: Source = CustomSource(loader, self.engine.model, drop_last=True)
            return
        if validates:
            settle_columns(config, reader, "valid_data_dir")
            self.valid_source = open_source(
                config, reader, "infer", blocks, "valid_data_dir", None, types
            )
        elif share:
            drawn = share_of(config, "valid")
            self.valid_source = open_source(
                config, reader, "infer", blocks, "train_data_dir", drawn, types
            )
        self.source = self._begun or self._open_training_rows(reader, blocks, types)
        if tests:
            self.test_source = open_rows_after_training(config, self.engine)

    def _set_up_monitor(self) -> None:
        config, engine = self.config, self.engine
        if self.valid_source is None:
            for name in ("patience", "monitor"):
                if config.get(f"runner.{name}") is not None:
                    warn(
                        f"{config['yaml_path']}: runner.{name} has no effect without validation "
                        "rows; set runner.valid_data_dir or runner.valid_share"
                    )
        elif engine.reads_blocks:  # a wrong name should not wait until an epoch is trained
            Monitor(config.get("runner.monitor"), engine.metrics).check()

    def _set_up_weights(self) -> None:
        """Compare settings with those of the run to go on with, or read the initial weights."""
        initial = self.config.runner("model_init_path")
        if self.start is not None:
            then = self.start.fingerprint
            self.settings.update(kept_initial_weights(self.config, then, self.folder))
            self._check_same(self.settings, files=False)
            return
        if initial:
            self.initial = load_weights(Path(initial))
        self.settings.update(initial_weights(self.initial))

    def _check_same(self, now: Mapping[str, Any], files: bool) -> None:
        """Compare settings, or files, with those of the run to resume."""
        assert self.start is not None
        then = files_in(self.start.fingerprint, files)
        engine, hook = self.engine, "resolved_settings"
        resolve = partial(call_hook, engine.model, hook, default={})
        by_itself = not has(engine.model, hook) and engine.model_dir.mentions("runner.epochs")
        check_fingerprint(then, files_in(now, files), self.folder, resolve, by_itself)

    def run(self, files: RunFiles, stop: StopSignal) -> None:
        """Start or resume, then train.

        Args:
            files: what the data files hold, see ``checkpoint.resume``.
            stop: says when a person wants the run to end.
        """
        runner = self.config.runner
        start = self._set_up_start(files, stop)
        plan = Plan(
            epochs=runner("epochs"),
            print_interval=runner("print_interval"),
            save_steps=runner("save_steps"),
            monitor=self.config.get("runner.monitor"),
            patience=runner("patience"),
            skip_bad_batches=runner("skip_bad_batches"),
            save_last_batch=runner("use_save_data"),
            fingerprint=lambda: {**self.settings, **files.result()},
        )
        training = Training(
            engine=self.engine,
            source=self.source,
            valid_source=self.valid_source,
            plan=plan,
            checkpoints=self.checkpoints,
            report=self.report,
            stop=stop,
            add_files=self.engine.finish_epoch,
        )
        progress = training.run(start)
        if self.test_source is not None:
            self._test(self.test_source, progress, stop)
        self.report.summary()

    def _test(self, source: Source, progress: Progress, stop: StopSignal) -> None:
        """Score the test rows with the weights of the best epoch, or without validation the last.

        Where a signal ends that, a resume does it: there is nothing left to train.
        """
        best = progress.best_epoch
        epoch = progress.epoch - 1 if best is None else best
        scored = ScoredFolder(self.folder / str(epoch))
        load_weights_into(self.engine, load_weights(scored.folder), str(scored.folder))
        which = "last" if best is None else "best"
        self.report.log(f"test rows, scored with the weights of epoch {epoch}, the {which}:")
        score_checkpoint(self.engine, source, scored, epoch, self.config, self.report, stop)

    def _set_up_start(self, files: RunFiles, stop: StopSignal) -> Snapshot:
        """Weights and optimizer to start from; where the run stands."""

        def check() -> None:
            stop.check("stopped by a signal before the first step; nothing new was saved")

        engine, start = self.engine, self.start
        if start is not None:
            self._check_same({**self.settings, **files.result()}, files=True)
            at = start.progress
            load_weights_into(engine, start.weights, str(self.folder))
            engine.start_training(self.source.count(check))
            engine.resume_optimizer(start.optimizer, at.step, at.skipped_batches)
            self._finish_last_save(start.progress)
        else:
            self._initialise(check)
            steps = self.source.count(check)
            files.begin()  # the rows are read, and until the first step a core is idle
            engine.start_training(steps)
            start = Snapshot(Progress(run=self.name), {}, {}, {}, {})
        self.source.encode_with(engine.encode, keep=True)
        if self.valid_source is not None:
            self.valid_source.count(check)  # a bad row should not wait until an epoch is trained
            if not engine.scores_rows:
                self.valid_source.encode_with(engine.encode, keep=True)
        if self.config.runner("resume"):
            place = f"epoch {start.progress.epoch}, batch {start.progress.batch}"
            self.report.log(f"resume: starts at {place}")
        return start

    def _initialise(self, check: Callable[[], None]) -> None:
        """Weights to start from: a checkpoint's, or fresh ones with the inputs' statistics."""
        engine = self.engine
        if self.initial is not None:
            load_weights_into(engine, self.initial, self.config.runner("model_init_path"))
        elif engine.reads_blocks:

            def checked(pieces: Iterator[Any]) -> Iterator[Any]:
                for piece in pieces:
                    check()
                    yield piece

            hook = "adapt_blocks" if has(engine.model, "adapt_blocks") else "adapt"
            read = self.source.features if hook == "adapt" else self.source.raw_arrays
            learnt = call_hook(engine.model, hook, checked(read()), self.config, default={})
            own = engine.state_dict()
            fits = all(k in own and np.shape(v) == own[k].shape for k, v in learnt.items())
            check_returned(engine.model, hook, learnt, fits, "weights of the network by name")
            engine.set_state_dict(learnt)

    def _finish_last_save(self, progress: Progress) -> None:
        """Do what a kill, or an error in an export, kept the last save from."""
        self.checkpoints.finalize(progress)
        if progress.batch == 0:
            self.engine.finish_epoch(self.folder / str(progress.epoch - 1))
