"""The two jobs of the tools, from config to exit: train and infer."""

from __future__ import annotations

from pathlib import Path

from rec_runner import loop
from rec_runner.checkpoint import Checkpoints, load_weights, write_predictions
from rec_runner.config import Config
from rec_runner.data import BlockSource, open_source
from rec_runner.engine import Engine
from rec_runner.errors import UserError
from rec_runner.model_dir import ModelDir
from rec_runner.report import Report


def train(path: str, config: Config) -> None:
    """Train and save, see ``loop.train``.

    Args:
        path: ``dygraph`` or ``static``.
        config: the run's config.
    """
    config.required("epochs"), config.required("print_interval")
    model_dir = ModelDir(config.model_dir)
    engine = make_engine(path, model_dir, config)
    source = open_source(config, model_dir, "train", engine.task_names is not None)
    initial = config.runner("model_init_path")
    if initial:
        engine.load(load_weights(Path(initial)), initial)
    elif isinstance(source, BlockSource):
        engine.set_state_dict(engine.adapt(source.features()))
    checkpoints = Checkpoints(config.runner("model_save_path"))
    report = Report(checkpoints.folder / "metrics.jsonl")
    loop.train(engine, source, config, checkpoints, report)
    report.summary()


def infer(path: str, config: Config) -> None:
    """Score the test rows with the checkpoints that the config asks for.

    Args:
        path: ``dygraph`` or ``static``.
        config: the run's config.
    """
    checkpoints = Checkpoints(config.runner("infer_load_path"))
    epochs = _epochs_to_score(config, checkpoints)
    model_dir = ModelDir(config.model_dir)
    engine = make_engine(path, model_dir, config)
    source = open_source(config, model_dir, "infer", engine.task_names is not None)
    report = Report(checkpoints.folder / "infer_metrics.jsonl")
    for epoch in epochs:
        engine.load(checkpoints.load_weights(epoch), str(checkpoints.folder / str(epoch)))
        meter = loop.evaluate(engine, source, epoch, "infer", report)
        if config.runner("save_predictions") and meter.tasks is not None:
            write_predictions(checkpoints.folder / str(epoch) / "predictions.csv", meter.tasks)
    report.summary()


def _epochs_to_score(config: Config, checkpoints: Checkpoints) -> list[int]:
    """The epochs asked for, or all that there are.

    Raises:
        UserError: there is no checkpoint, or not the one asked for.
    """
    start, end = config.runner("infer_start_epoch"), config.runner("infer_end_epoch")
    there = checkpoints.epochs()
    if start is None and end is None:
        epochs = there
    else:
        epochs = list(range(start or 0, end if end is not None else max(there, default=0) + 1))
    missing = [epoch for epoch in epochs if epoch not in there]
    if missing or not epochs:
        wanted = f"epoch {missing[0]}" if missing else "any epoch"
        known = ", ".join(map(str, there)) or "none"
        raise UserError(
            f"runner.infer_load_path: no checkpoint of {wanted} in {checkpoints.folder.absolute()}; "
            f"epochs there: {known}"
        )
    return epochs


def make_engine(path: str, model_dir: ModelDir, config: Config) -> Engine:
    """The engine of a graph path."""
    if path == "static":
        from rec_runner.static_engine import StaticEngine

        return StaticEngine(model_dir, config)
    from rec_runner.dygraph_engine import DygraphEngine

    return DygraphEngine(model_dir, config)
