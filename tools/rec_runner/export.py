"""The job of ``tools/export.py``: a checkpoint made a folder that predicts by itself."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.build import build_engine, load_weights_into
from rec_runner.checkpoint.choice import choose_epoch
from rec_runner.checkpoint.format import read_manifest as read_checkpoint
from rec_runner.checkpoint.resume import versions
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights
from rec_runner.config import Config
from rec_runner.contract.guard import check_returned, foreign
from rec_runner.contract.hooks import SCORING_ROWS, call_hook, has
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.columns import known_columns
from rec_runner.engine.scoring import BlockScoring
from rec_runner.exported.check import (
    checked,
    checkpoint_scores,
    largest_difference,
    refuse_difference,
    sample_rows,
    settle_sample,
)
from rec_runner.exported.facts import column_facts
from rec_runner.exported.manifest import FORMATS, Manifest, read_manifest
from rec_runner.exported.open import open_export
from rec_runner.exported.write import (
    check_target,
    named_tasks,
    new_export,
    noted_files,
    tensors,
    write_manifest,
    write_onnx,
    write_paddle,
)
from rec_runner.score import open_test_rows
from rec_runner.system.errors import UserError
from rec_runner.system.files import plain_json
from rec_runner.system.schema import is_shown

ROWS_MODULE = "prediction_rows.open"  # of a model directory: how rows for it are read
_OF_RUN = ("phase", "graph", "epoch", "rows", "seconds", "rows_per_second")


def export(config: Config, options: Namespace) -> None:
    """Export a checkpoint, see :func:`cli.main`.

    Args:
        config: the run's config.
        options: ``epoch``, ``format``, ``out`` and ``force`` of the command line.

    Raises:
        UserError: no such checkpoint, no rows to check with, or something in the folder's place.
        RunError: an exported model differs from the checkpoint; nothing of it is left.
    """
    checkpoints = Checkpoints(config.runner("infer_load_path"))
    target = Path(options.out or checkpoints.folder / "export")
    formats = FORMATS if options.format == "both" else (options.format,)
    epoch = choose_epoch(config, checkpoints, options.epoch)
    check_target(target, options.force)
    folder, fingerprint = checkpoints.folder / str(epoch), checkpoints.fingerprint(epoch)
    config.update(known_columns(fingerprint))
    settle_sample(config)
    about = _about(config, folder, epoch, fingerprint)
    engine, reader = build_engine(about["graph"], config, "infer", scores=True)
    load_weights_into(engine, load_weights(folder), str(folder))
    if not (isinstance(engine, BlockScoring) and has(engine.model, *SCORING_ROWS)):
        raise UserError("only models with our hooks for now")
    _export_blocks(config, engine, reader, formats, target, about)


def _export_blocks(
    config: Config,
    engine: BlockScoring,
    reader: Any,
    formats: Sequence[str],
    target: Path,
    about: Mapping[str, Any],
) -> None:
    """Export a model with our hooks."""
    model = engine.model
    tasks = named_tasks(engine.metrics.task_names, engine.task_types)
    types = [task.type for task in tasks]
    rows = sample_rows(open_test_rows(config, reader, engine))
    features = rows["features"]
    size = config.batch_size("infer") or config.required("train_batch_size")
    own = checkpoint_scores(engine, rows, size, types)
    weights = call_hook(model, "scoring_weights", engine.state_dict())
    columns = _columns(config, features)
    with new_export(target) as folder:
        if "onnx" in formats:
            write_onnx(folder, model, weights, tasks)
        if "paddle" in formats:
            write_paddle(folder, model, weights, features.shape[1], tasks)
        manifest = Manifest(
            tasks=tasks,
            **tensors(features.shape[1], tasks),
            **columns,
            files=noted_files(folder),
            formats=tuple(formats),
            checked=checked({}, 0),
            **about,
        )
        manifest = _checked(folder, manifest, features, own)
    _tell(target, manifest)


def _checked(folder: Path, manifest: Manifest, features: np.ndarray, own: np.ndarray) -> Manifest:
    """Compare the models that were written with the checkpoint, and note it.

    Raises:
        RunError: one differs from it.
    """
    write_manifest(folder, manifest)
    differences = {}
    for kind in manifest.formats:
        with closing(open_export(folder, kind)) as model:
            worst, row, task = largest_difference(model.predict, features, own, manifest.task_types)
        place = f"row {row} (from 0), task {manifest.task_names[task]}"
        refuse_difference(kind, worst, place)
        differences[kind] = worst
    manifest = replace(manifest, checked=checked(differences, len(features)))
    write_manifest(folder, manifest)
    return read_manifest(folder)


def _columns(config: Config, features: np.ndarray) -> dict[str, Any]:
    """What a manifest says of columns, where the model directory has a reader of rows for it."""
    model_dir = ModelDir(config.model_dir)
    if not (config.model_dir / f"{ROWS_MODULE.replace('.', '/')}.py").is_file():
        return {}
    told, opened, hashed = (
        model_dir.load_function(module, name)
        for module, name in (
            (ROWS_MODULE, "columns_of"),
            (ROWS_MODULE, "open_rows"),
            ("prediction_rows.id_hashing", "hashing_of"),
        )
    )
    try:
        with foreign(told):
            columns = told(config)
    except UserError as error:
        if "NotImplementedError" in str(error):
            return {}
        raise
    with foreign(opened):
        described = opened(columns).describe()
    with foreign(hashed):
        hashing = hashed(columns)
    fits = len(described) == features.shape[1]
    check_returned(opened, "", described, fits, f"a reader of {features.shape[1]} columns")
    facts = column_facts(described, features)
    return {
        "columns": columns,
        "column_facts": facts,
        "example": {name: fact["typical"] for name, fact in facts.items()},
        "hashing": hashing,
    }


def _about(
    config: Config, folder: Path, epoch: int, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """What a manifest says of where a model comes from."""
    hyper = {k: v for k, v in plain_json(config).items() if k.startswith("hyper_parameters.")}
    return {
        "epoch": epoch,
        "graph": fingerprint.get("graph", "dygraph"),
        "metrics": _metrics(folder, epoch),
        "config": {key: value for key, value in hyper.items() if is_shown(value)},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {**versions(), **_versions_of("onnx", "onnxruntime")},
    }


def _metrics(folder: Path, epoch: int) -> dict[str, Any]:
    """Metrics of a checkpoint's epoch: of validation rows, or of those trained on."""
    with suppress(UserError):  # PaddleRec's checkpoints tell nothing of their run
        records = read_checkpoint(folder)["progress"]["records"]
        of_epoch = {r["phase"]: r for r in records if r["epoch"] == epoch}
        for phase in ("valid", "train"):
            if phase in of_epoch:
                record = of_epoch[phase]
                kept = {k: v for k, v in record.items() if k not in _OF_RUN}
                finite = {k: v for k, v in kept.items() if not isinstance(v, float) or isfinite(v)}
                return {"phase": phase, **finite}
    return {}


def _versions_of(*packages: str) -> dict[str, str]:
    """Versions of packages, as far as they are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _tell(target: Path, manifest: Manifest) -> None:
    about = manifest.checked
    found = ", ".join(f"{kind} {about[kind]:.1e}" for kind in manifest.formats)
    epoch = "" if manifest.epoch is None else f" of epoch {manifest.epoch}"
    print(
        f"{target}: the model{epoch} as {' and '.join(manifest.formats)}, {manifest.model[:12]}; "
        f"largest difference from the checkpoint in {about['rows']} rows: {found}"
    )
