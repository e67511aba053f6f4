"""Real export folders for tests, made once for each process: trained for an epoch, exported."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from helpers import CONFIG, ROOT, override, run_cases

CONFIGS = {"numeric": CONFIG, "raw": ROOT / "config_raw.yaml"}


class Trained(NamedTuple):
    """A checkpoint of the bundled rows.

    Attributes:
        config: its config.
        folder: where the checkpoint of epoch 0 lies.
        options: of a command line, so that the tools find it.
    """

    config: Path
    folder: Path
    options: list[str]


@cache
def trained(kind: str = "numeric", graph: str = "dygraph") -> Trained:
    """A checkpoint of the bundled rows, trained for an epoch.

    Args:
        kind: ``numeric``, rows of 499 numbers, or ``raw``, rows of 41 mixed columns.
        graph: ``dygraph`` or ``static``.
    """
    folder = _folder() / f"{kind}_{graph}"
    config = CONFIGS[kind]
    ranges = ["runner.infer_start_epoch=null", "runner.infer_end_epoch=null"]
    options = [*override(infer_load_path=folder), *ranges]
    train = [*options, *override(model_save_path=folder, epochs=1)]
    _succeed("train", graph, "-m", config, *train)
    return Trained(config, folder, options)


@cache
def export_of(kind: str = "numeric", graph: str = "dygraph", formats: str = "both") -> Path:
    """An export folder, read-only for tests: copy it before you change it.

    Args:
        kind: see :func:`trained`.
        graph: see :func:`trained`.
        formats: ``paddle``, ``onnx`` or ``both``.
    """
    made = trained(kind, graph)
    folder = made.folder.with_name(f"{kind}_{graph}_{formats}_export")
    line = ["-m", made.config, "--format", formats, "--out", folder, *made.options]
    _succeed("export", "", *line)
    return folder


def _succeed(command: str, graph: str, *arguments: object) -> None:
    (result,) = run_cases([(command, graph, arguments)], cwd=_folder())
    assert result.status == 0, result.stderr


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="exports-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
