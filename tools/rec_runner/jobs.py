"""The two jobs of the tools, from config to exit: train and infer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rec_runner.checkpoint.lock import FolderLock
from rec_runner.checkpoint.resume import check_fingerprint, run_fingerprint, versions
from rec_runner.checkpoint.snapshot import Progress, Snapshot
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights
from rec_runner.config import Config
from rec_runner.contract.model_dir import ModelDir, foreign
from rec_runner.data.block_source import BlockSource
from rec_runner.data.loader_source import CustomSource
from rec_runner.data.sources import open_source
from rec_runner.engine.base import Engine, has_block_hooks
from rec_runner.loop import loop
from rec_runner.loop.meter import Meter
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.report.predictions import write_predictions
from rec_runner.report.report import Report
from rec_runner.report.visualdl import Visual
from rec_runner.system.errors import UserError
from rec_runner.system.files import write_arrays
from rec_runner.system.log import warn
from rec_runner.system.signals import StopSignal

CONTRACT_EPOCHS = 10


def train(path: str, config: Config) -> None:
    """Train and save, see ``loop.train``.

    Args:
        path: ``dygraph`` or ``static``.
        config: the run's config.
    """
    folder = Path(config.runner("model_save_path"))
    plan = loop.Plan(
        epochs=config.required("epochs"),
        print_interval=config.required("print_interval"),
        save_steps=config.runner("save_steps"),
        monitor=config.runner("monitor"),
        patience=config.runner("patience"),
        skip_bad_batches=config.runner("skip_bad_batches"),
        fingerprint=run_fingerprint(config),
    )
    model_dir = ModelDir(config.model_dir)
    engine, reader = make_engine(path, model_dir, config, "train")
    source, valid_source = _training_sources(config, reader, engine)
    warn_unused(path, "train", config, engine, reader)
    if valid_source is None:
        _warn_of_no_validation(config)
    elif engine.task_names is not None:
        loop.monitored(TaskMetrics(engine.task_names).result(), plan.monitor)  # is there such a one
    visual = Visual(folder if config.runner("use_visual") else None)
    notes = {"config": dict(config), "versions": versions()}
    checkpoints = Checkpoints(str(folder), config.runner("keep_checkpoints"), notes)
    with FolderLock(folder), StopSignal() as stop:
        start = checkpoints.newest() if config.runner("resume") else None
        if start is not None:
            resolve = getattr(engine.model, "resolved_settings", None)
            check_fingerprint(start.fingerprint, plan.fingerprint, folder, resolve)
            engine.load(start.weights, str(folder))
            engine.start_training(_steps(source, stop))
            engine.resume_optimizer(start.optimizer, start.progress.step)
            _finish_last_save(engine, checkpoints, start.progress)
        else:
            _initialise(engine, source, config, stop)
            engine.start_training(_steps(source, stop))
            start = Snapshot(Progress(run=uuid.uuid4().hex), {}, {}, {}, plan.fingerprint)
        if isinstance(valid_source, BlockSource):
            _read_once(valid_source, stop)  # a bad row should not wait until an epoch is trained
        for rows in filter(None, (source, valid_source)):
            rows.encode, rows.keep_encoded = engine.encode, True
        report = Report(folder / "metrics.jsonl", visual=visual)
        if config.runner("resume"):
            report.log(
                f"resume: starts at epoch {start.progress.epoch}, batch {start.progress.batch}"
            )

        def after_epoch(meter: Meter) -> None:
            engine.finish_epoch(folder / str(meter.epoch))
            if config.runner("use_save_data"):
                write_arrays(folder / str(meter.epoch) / "last_train_batch.npz", meter.last_batch())

        checkpoints.begin(start.progress.run)
        loop.train(
            engine, source, valid_source, plan, checkpoints, report, stop, start, after_epoch
        )
    report.summary()


def _warn_of_no_validation(config: Config) -> None:
    for name in ("patience", "monitor"):
        if config.get(f"runner.{name}") is not None:
            warn(
                f"{config['yaml_path']}: runner.{name} has no effect without validation rows; "
                "set runner.valid_data_dir or runner.valid_share"
            )


def _finish_last_save(engine: Engine, checkpoints: Checkpoints, progress: Progress) -> None:
    """Do what a kill may have kept the last save from, once its checkpoint stood."""
    checkpoints.finalize(progress)
    last = checkpoints.folder / str(progress.epoch - 1)
    if progress.batch == 0 and engine.lacks(last):
        engine.finish_epoch(last)


def _training_sources(config: Config, reader: Any, engine: Engine) -> tuple[Any, Any]:
    """Training rows, and validation rows or None."""
    by_blocks = engine.task_names is not None
    share = config.runner("valid_share")
    if reader is None:
        if share or config.runner("valid_data_dir") is not None:
            raise UserError("runner.reader_type CustomizeDataLoader gives no validation rows")
        return CustomSource(engine.data_loader, engine.model, drop_last=True), None
    if config.runner("valid_data_dir") is not None:
        valid = open_source(config, reader, "infer", by_blocks, "valid_data_dir")
        return open_source(config, reader, "train", by_blocks, "train_data_dir"), valid
    if not share:
        return open_source(config, reader, "train", by_blocks, "train_data_dir"), None
    if not by_blocks:
        raise UserError("runner.valid_share needs a reader with blocks(); use valid_data_dir")
    return (
        open_source(config, reader, "train", by_blocks, "train_data_dir", (share, 1.0)),
        open_source(config, reader, "infer", by_blocks, "train_data_dir", (0.0, share)),
    )


def _initialise(engine: Engine, source: Any, config: Config, stop: StopSignal) -> None:
    """Weights to start from: a checkpoint's, or fresh ones with the inputs' statistics."""
    initial = config.runner("model_init_path")
    if initial:
        engine.load(load_weights(Path(initial)), initial)
    elif engine.task_names is not None:
        engine.set_state_dict(engine.adapt(_features(source, stop)))


def _features(source: Any, stop: StopSignal) -> Iterator[Any]:
    for piece in source.features():
        stop.check("stopped by a signal before the first step; nothing new was saved")
        yield piece


def _steps(source: Any, stop: StopSignal) -> int | None:
    """Batches in an epoch, where the source can know; a signal ends the count."""
    if isinstance(source, BlockSource):
        _read_once(source, stop)
    return source.steps


def _read_once(source: BlockSource, stop: StopSignal) -> None:
    """Read all rows, unless they have been read."""
    if source.known_rows is None:
        for _ in _features(source, stop):
            pass


def infer(path: str, config: Config) -> None:
    """Score the test rows with the checkpoints that the config asks for.

    Args:
        path: ``dygraph`` or ``static``.
        config: the run's config.
    """
    checkpoints = Checkpoints(config.runner("infer_load_path"))
    epochs = _epochs_to_score(config, checkpoints)
    model_dir = ModelDir(config.model_dir)
    engine, reader = make_engine(path, model_dir, config, "infer")
    warn_unused(path, "infer", config, engine, reader)
    epochs = _within_range(epochs, config, engine)
    by_blocks = engine.task_names is not None
    if reader is None:
        source = CustomSource(engine.data_loader, engine.model, drop_last=False)
    else:
        source = open_source(config, reader, "infer", by_blocks, "test_data_dir")
    source.encode = engine.encode
    if isinstance(source, BlockSource) and len(epochs) == 1:
        source.cache_bytes = 0  # read once, the rows need not be kept
    writable = os.access(checkpoints.folder, os.W_OK)
    report = Report(checkpoints.folder / "infer_metrics.jsonl" if writable else None)
    for epoch in epochs:
        folder = checkpoints.folder / str(epoch)
        engine.load(load_weights(folder), str(folder))
        _warn_of_other_tasks(checkpoints.fingerprint(epoch), config, folder)
        interval = config.runner("print_interval")
        meter, _ = loop.evaluate(engine, source, epoch, "infer", report, interval)
        if config.runner("save_predictions") and meter.tasks is not None:
            write_predictions(folder / "predictions.csv", meter.tasks)
        if config.runner("use_save_data"):
            write_arrays(folder / "last_infer_batch.npz", meter.last_batch())
    report.summary()


def _epochs_to_score(config: Config, checkpoints: Checkpoints) -> list[int]:
    """The epochs asked for; if none is, the best, or without validation all that there are.

    Raises:
        UserError: there is no checkpoint, or not the one asked for.
    """
    start, end = config.runner("infer_start_epoch"), config.runner("infer_end_epoch")
    there, stale = checkpoints.epochs(), checkpoints.stale_epochs()
    if start is None and end is None:
        best = checkpoints.best_epoch()
        epochs = [e for e in there if e not in stale] if best is None else [best]
    else:
        start = start or 0
        if end is not None and end <= start:
            raise UserError(
                f"runner.infer_start_epoch {start} and runner.infer_end_epoch {end} name no epoch: "
                f"the end is one past the last, so {start + 1} or more was expected"
            )
        # Without an end, at least the first has to be there.
        epochs = range(start, max([start, *there]) + 1 if end is None else end)
    missing = next((epoch for epoch in epochs if epoch not in there), None)
    if missing is not None or not epochs:
        wanted = "any epoch" if missing is None else f"epoch {missing}"
        left = " (an earlier run's)"
        known = ", ".join(f"{e}{left if e in stale else ''}" for e in there) or "none"
        raise UserError(
            f"runner.infer_load_path: no checkpoint of {wanted} in "
            f"{checkpoints.folder.absolute()}; epochs there: {known}"
        )
    for epoch in stale:
        fate = "is scored" if epoch in epochs else "is left out"
        warn(f"checkpoint {checkpoints.folder / str(epoch)} is an earlier run's and {fate}")
    return list(epochs)


def _warn_of_other_tasks(fingerprint: Mapping[str, Any], config: Config, folder: Path) -> None:
    """Tasks under other names, or of other columns, load and score all the same."""
    for key in ("hyper_parameters.task_names", "hyper_parameters.label_columns"):
        was, now = fingerprint.get(key), config.get(key)
        if None not in (was, now) and was != now:
            warn(f"{key} was {was} when checkpoint {folder} was trained and is {now} now")


def _within_range(epochs: list[int], config: Config, engine: Engine) -> list[int]:
    """The contract's range of epochs, 0 to 9, where neither config nor hooks say more."""
    asked = config.runner("infer_start_epoch"), config.runner("infer_end_epoch")
    if engine.task_names is not None or asked != (None, None):
        return epochs
    within = [epoch for epoch in epochs if epoch < CONTRACT_EPOCHS]
    if within and within != epochs:
        warn(
            f"epochs {within[0]} to {within[-1]} are scored, as without runner.infer_start_epoch "
            f"and runner.infer_end_epoch; there are checkpoints up to {epochs[-1]}"
        )
    return within or epochs


def warn_unused(path: str, phase: str, config: Config, engine: Engine, reader: Any) -> None:
    """Say which keys of the config this tool or this directory has no use for.

    Keys of the other phase are passed over, since a config is shared; so are those that the
    directory's own code reads, and those that only say what holds anyway.

    Args:
        path: ``dygraph`` or ``static``.
        phase: ``train`` or ``infer``.
        config: the run's config.
        engine: what runs the model.
        reader: class ``RecDataset``, None where the model makes its batches.
    """
    by_contract, training = engine.task_names is None, phase == "train"
    exports = config.runner("use_inference")
    hooks = by_contract and "is for directories with our hooks of whole blocks"
    no_reader = reader is None and "is not for reader_type CustomizeDataLoader"
    no_export = training and not exports and "needs runner.use_inference"
    workers = not by_contract and "is for readers without blocks(), here the tool reads by itself"
    unused = {
        "save_predictions": not training and by_contract and "needs a model with our hooks",
        "use_inference": training and path != "static" and "is for the static trainer",
        "save_inference_feed_varnames": no_export,
        "save_inference_fetch_varnames": no_export,
        "cache_dir": hooks,
        "cache_mb": hooks,
        "shuffle_buffer": training and hooks,
        "bad_rows": hooks,
        "bad_rows_cap": hooks,
        "num_workers": no_reader or workers,
        "shuffle": training and no_reader,
        "test_data_dir": not training and no_reader,
        "reader_type": path != "static" and "is for the static tools, this one takes the reader",
    }
    for name, reason in unused.items():
        if reason and config.is_set(name) and not engine.model_dir.mentions(f"runner.{name}"):
            warn(f"{config['yaml_path']}: runner.{name} has no effect here: it {reason}")


def make_engine(path: str, model_dir: ModelDir, config: Config, phase: str) -> tuple[Engine, Any]:
    """Engine and reader class: by blocks where both have the hooks, else by the contract.

    The class is None where the static model makes the batches itself.
    """
    if path == "static":
        from rec_runner.engine.static.blocks import BlockStaticEngine
        from rec_runner.engine.static.contract import StaticEngine

        kind = model_dir.load("static_model", "StaticModel")
        with foreign(kind):
            model = kind(config)
        by_blocks, by_contract = BlockStaticEngine, StaticEngine
    else:
        from rec_runner.engine.dygraph.blocks import BlockDygraphEngine
        from rec_runner.engine.dygraph.contract import DygraphEngine

        kind = model_dir.load("dygraph_model", "DygraphModel")
        with foreign(kind):
            model = kind()
        by_blocks, by_contract = BlockDygraphEngine, DygraphEngine
    training = phase == "train"
    if path == "static" and config.runner("reader_type") == "CustomizeDataLoader":
        return by_contract(model_dir, config, model, training), None
    reader = model_dir.load(_reader_module(model_dir, config, phase), "RecDataset")
    has_hooks = has_block_hooks(model) and hasattr(reader, "blocks")
    return (by_blocks if has_hooks else by_contract)(model_dir, config, model, training), reader


def _reader_module(model_dir: ModelDir, config: Config, phase: str) -> str:
    """The reader's module; a config that names only the one for training means both.

    Raises:
        UserError: the config names a file.
    """
    key = f"{phase}_reader_path"
    named = config.get("runner.infer_reader_path") is not None
    if phase == "infer" and not named:
        if not (model_dir.path / f"{config.runner(key)}.py").is_file():
            key = "train_reader_path"
    name = config.runner(key)
    if name.endswith(".py") or "/" in name:
        module = Path(name).name.removesuffix(".py")
        raise UserError(
            f"{config['yaml_path']}: runner.{key} should be the name of a module in the "
            f"config's folder, without .py, such as {module}, got {name!r}"
        )
    return name
