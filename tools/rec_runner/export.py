"""The job of ``tools/export.py``: a checkpoint made a folder that predicts by itself."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

from rec_runner.build import build_engine, load_weights_into
from rec_runner.checkpoint.choice import choose_epoch
from rec_runner.checkpoint.format import read_manifest as read_checkpoint
from rec_runner.checkpoint.resume import versions
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights
from rec_runner.config import Config
from rec_runner.contract.hooks import READING_BLOCKS, SCORING_ROWS, has
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.columns import known_columns
from rec_runner.data.loader_source import CustomSource
from rec_runner.engine.scoring import BlockScoring
from rec_runner.engine.static.contract import StaticEngine
from rec_runner.exported.check import TOLERANCE, settle_sample
from rec_runner.exported.foreign import ForeignModel
from rec_runner.exported.manifest import FORMATS, Manifest, read_manifest
from rec_runner.exported.open import open_export
from rec_runner.exported.own import OwnModel
from rec_runner.exported.write import check_target, new_export, noted_files, write_manifest
from rec_runner.score import open_test_rows
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import plain_json
from rec_runner.system.log import warn
from rec_runner.system.schema import is_shown

_CLASSES = {"dygraph": ("dygraph_model", "DygraphModel"), "static": ("static_model", "StaticModel")}
_OF_RUN = ("phase", "graph", "epoch", "rows", "seconds", "rows_per_second")
CONVERTER = "paddle2onnx"


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
    epoch = choose_epoch(config, checkpoints, options.epoch)
    check_target(target, options.force)
    folder, fingerprint = checkpoints.folder / str(epoch), checkpoints.fingerprint(epoch)
    config.update(known_columns(fingerprint))
    about = _about(config, folder, epoch, fingerprint)
    graph, has_hooks = _graph_of(config, fingerprint.get("graph"))
    formats = _formats(options.format, has_hooks)
    if graph != "static" or config.runner("reader_type") != "CustomizeDataLoader":
        settle_sample(config)
    engine, reader = build_engine(graph, config, "infer", scores=True)
    load_weights_into(engine, load_weights(folder), str(folder))
    if reader is None:
        source: Any = CustomSource(engine.data_loader, engine.model, drop_last=False)
    else:
        source = open_test_rows(config, reader, engine)
    model: OwnModel | ForeignModel
    if isinstance(engine, BlockScoring):
        model = OwnModel(engine, source, config)
    else:
        assert isinstance(engine, StaticEngine)
        model = ForeignModel(engine, source, config)
    with new_export(target) as part:
        for kind in formats:
            model.write(part, kind)
        files = noted_files(part)
        manifest = Manifest(**model.said, **about, formats=tuple(formats), files=files)
        manifest = _checked(part, manifest, model)
    _tell(target, manifest)


def _graph_of(config: Config, trained_on: str | None) -> tuple[str, bool]:
    """The graph to score with, and whether the directory's model has our hooks there.

    Without them it is the static one, whose program knows what is fed and what is fetched.

    Raises:
        UserError: there is nothing that can be exported.
    """
    model_dir = ModelDir(config.model_dir)
    there = [
        graph
        for graph, (module, _) in _CLASSES.items()
        if (model_dir.path / f"{module}.py").is_file()
    ]
    graph = trained_on if trained_on in there else next(iter(there), "static")
    kind = model_dir.load(*_CLASSES[graph], scores=True)
    if has(kind, *READING_BLOCKS, *SCORING_ROWS):
        return graph, True
    if has(kind, *READING_BLOCKS):
        raise UserError(
            f"{model_dir.path}: an export is made of the hooks scoring_weights and score_rows, "
            f"which {kind.__name__} has not"
        )
    if "static" not in there:
        raise UserError(
            f"{model_dir.path} has no static_model.py: without our hooks an export is made of what "
            "its infer_net feeds and fetches"
        )
    return "static", False


def _formats(asked: str | None, has_hooks: bool) -> Sequence[str]:
    """The formats to write; of a directory without our hooks ONNX only where it can be."""
    if asked not in (None, "both"):
        return (str(asked),)
    if asked is None and not has_hooks and find_spec(CONVERTER) is None:
        warn(
            f"no ONNX model is written: without our hooks it is made with {CONVERTER}, which is "
            "not installed"
        )
        return ("paddle",)
    return FORMATS


def _checked(folder: Path, manifest: Manifest, model: OwnModel | ForeignModel) -> Manifest:
    """Compare the models that were written with the checkpoint, and note it.

    Raises:
        RunError: one differs from it.
    """
    checked = {"rows": model.rows, "tolerance": TOLERANCE}
    write_manifest(folder, replace(manifest, checked=checked))
    for kind in manifest.formats:
        with closing(open_export(folder, kind)) as opened:
            far, place = model.largest_difference(opened)
        if not far <= TOLERANCE:
            raise RunError(
                f"nothing is exported: the {kind} model differs from the checkpoint by {far:.3g} "
                f"in {place}, at most {TOLERANCE:g} was expected"
            )
        checked[kind] = far
    write_manifest(folder, replace(manifest, checked=checked))
    return read_manifest(folder)


def _about(
    config: Config, folder: Path, epoch: int, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """What a manifest says of where a model comes from."""
    hyper = {k: v for k, v in plain_json(config).items() if k.startswith("hyper_parameters.")}
    return {
        "epoch": epoch,
        "graph": fingerprint.get("graph"),
        "metrics": _metrics(folder, epoch),
        "config": {key: value for key, value in hyper.items() if is_shown(value)},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {**versions(), **_versions_of("onnx", "onnxruntime")},
    }


def _metrics(folder: Path, epoch: int) -> dict[str, Any]:
    """Metrics of a checkpoint's epoch: of the validation rows, or of those trained on."""
    with suppress(UserError):  # PaddleRec's checkpoints tell nothing of their run
        records = read_checkpoint(folder)["progress"]["records"]
        of_epoch = {r["phase"]: r for r in records if r["epoch"] == epoch}
        record = of_epoch.get("valid") or of_epoch.get("train") or {}
        kept = {key: value for key, value in record.items() if key not in _OF_RUN}
        # A NaN is none of JSON's numbers.
        finite = {k: v for k, v in kept.items() if not isinstance(v, float) or isfinite(v)}
        return {"phase": record["phase"], **finite} if record else {}
    return {}


def _versions_of(*packages: str) -> dict[str, str]:
    """Versions of packages, as far as they are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _tell(target: Path, manifest: Manifest) -> None:
    checked = manifest.checked
    found = ", ".join(f"{kind} {checked[kind]:.1e}" for kind in manifest.formats)
    print(
        f"{target}: epoch {manifest.epoch} as {' and '.join(manifest.formats)}, model "
        f"{manifest.model[:12]}; largest difference from the checkpoint in {checked['rows']} rows: "
        f"{found}"
    )
