"""One case of ``fuzz_files.py``: real files, one of them changed, and what reads them."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
import uuid
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml
from mutations import change
from watch import Broken, watched

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "tests" / "model_dirs"
sys.path.insert(0, str(ROOT / "tools"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

TRAINED = 100  # of so many sound states one is trained on to the end
NO_MEMORY = "does not fit into memory"  # what a reader says of it
BATCHES, SAVED_AT = 8, 5
MIDDLE = f"out/1-{SAVED_AT}"
# Whose files: model directory, graph.
SUBJECTS = {
    "ours-dygraph": ("ours", "dygraph"),
    "ours-static": ("ours", "static"),
    "sequence-dygraph": ("sequence", "dygraph"),
    "regression-dygraph": ("regression", "dygraph"),
    "auc_states-static": ("auc_states", "static"),
}


# Real files ---------------------------------------------------------------------------------------


def make_files(name: str, folder: Path) -> Path:
    """A model directory, and what a run left there that a signal ended in mid-epoch.

    Returns:
        its config.
    """
    from rec_runner.cli import main
    from rec_runner.report.report import Report

    model, graph = SUBJECTS[name]
    folder.mkdir(parents=True)
    runner, tree = (_ours if model == "ours" else _theirs)(model, folder)
    runner.update(print_interval=1, epochs=2, train_batch_size=8, model_save_path=folder / "out")
    runner.update(infer_load_path=folder / "past", infer_start_epoch=None, infer_end_epoch=None)
    config = folder / "fuzz.yaml"
    config.write_text(json.dumps({**tree, "runner": runner}, default=str))  # JSON is YAML
    show = Report.batch_line

    def stop(self: Report, epoch: int, batch: int, *rest: Any) -> None:
        show(self, epoch, batch, *rest)
        if (epoch, batch) == (1, SAVED_AT - 1):
            signal.raise_signal(signal.SIGINT)

    log, clock = io.StringIO(), itertools.count(step=0.5)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Report, "batch_line", stop))
        # The same files each time, so that a number names a case.
        stack.enter_context(mock.patch("time.time", lambda: 1.75e9))
        stack.enter_context(mock.patch("time.perf_counter", lambda: next(clock)))
        stack.enter_context(mock.patch("uuid.uuid4", lambda: uuid.UUID(int=7)))
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(contextlib.redirect_stderr(log))
        status = main("train", graph, ["-m", str(config)])
    if status != 130 or not (folder / MIDDLE).is_dir():
        raise SystemExit(log.getvalue())
    # Infer reads the epoch's end, resume the middle: nobody reads what has not been changed.
    (folder / "past").mkdir()
    for file in (folder / "out").glob("*.json"):
        shutil.copy(file, folder / "past")
    (folder / "out" / "0").rename(folder / "past" / "0")
    return config


def _ours(model: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    for file in ROOT.glob("*.py"):
        shutil.copy(file, folder)
    shutil.copytree(ROOT / "raw_tables", folder / "raw_tables")
    rng = random.Random(5)
    for split, count in (("train", BATCHES * 8), ("valid", 30)):
        (folder / split).mkdir()
        rows = [[rng.randint(0, 1) for _ in range(6)] for _ in range(count)]
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        (folder / split / "rows.txt").write_text(text)
    runner = {"train_data_dir": "train", "valid_data_dir": "valid", "infer_batch_size": 8}
    runner.update(cache_dir=folder / "cache", shuffle=True, shuffle_buffer=50)
    runner.update(train_reader_path="census_reader", infer_reader_path="census_reader")
    hyper = {"feature_size": 4, "task_names": ["a", "b"], "label_columns": [0, 1]}
    hyper.update(bottom_size=4, tower_size=3)
    hyper["optimizer"] = {"class": "adam", "learning_rate": 0.01, "schedule": "cosine"}
    return runner, {"hyper_parameters": hyper}


def _theirs(model: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    shutil.copytree(MODELS / model, folder, dirs_exist_ok=True)
    make = "import sys, make_data as m, pathlib as p; m.write(sys.argv[1], p.Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", make, model, str(folder)], cwd=MODELS, check=True)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    return tree["runner"], tree


# One case -----------------------------------------------------------------------------------------


def _order(file: Path) -> tuple[str, int]:
    """Names of caches tell when their data was written."""
    return file.name, file.stat().st_size


class Target:
    """What the files are read into, made once.

    Args:
        name: one of :data:`SUBJECTS`.
        folder: where to make its files.
        seed: of all cases.
    """

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        from rec_runner.config import load_config
        from rec_runner.system.environment import prepare_environment

        prepare_environment(None, None)
        self.name, self.folder, self.seed = name, folder, seed
        config = load_config(str(make_files(name, folder)), ["runner.resume=true"])
        from rec_runner.checkpoint.store import Checkpoints
        from rec_runner.train import TrainJob

        checkpoints = Checkpoints(config.runner("model_save_path"))
        self.job = TrainJob(SUBJECTS[name][1], config, checkpoints, "fuzz", None)
        steps = self.job.source.count(lambda: None)
        self.job.engine.start_training(steps)
        self.job.engine.metrics.reset()
        self.fresh = self.job.engine.metrics.mark()
        self.files = {
            str(file.relative_to(folder)): file.read_bytes()
            for part in ("out", "past", "cache")
            for file in sorted((folder / part).rglob("*"), key=_order)
            if file.is_file() and file.suffix not in (".lock", ".jsonl") and file.name != ".lock"
        }
        self.fingerprint = json.loads(self.files[f"{MIDDLE}/rec.json"])["fingerprint"]
        self._read_once()

    def _read_once(self) -> None:
        """What is imported or opened at the first reading is not due to a changed file."""
        for path in self.files:
            for train in (True, False):
                self._read(path, train)
                self._put_back()

    def _put_back(self) -> None:
        for file in (self.folder / "out").rglob("*"):
            if file.is_file() and str(file.relative_to(self.folder)) not in self.files:
                file.unlink()
        for path, data in self.files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(data)
        for entry in (self.folder / "out").iterdir():
            if entry.is_dir() and not any(entry.iterdir()):
                entry.rmdir()

    def changed(self, number: int) -> tuple[str, str, dict[str, bytes], random.Random]:
        """A case: the file, the way, and the bytes of each file that is to be written."""
        rng = random.Random(f"{self.seed}:{self.name}:{number}")
        # Each file of the checkpoint in mid-epoch as often as all the rest together.
        middle = [path for path in self.files if path.startswith(MIDDLE)]
        path = rng.choice([*middle, rng.choice(list(self.files))])
        way, data = change(path, self.files[path], list(self.files.values()), rng)
        written = {path: data}
        if rng.random() < 0.8:
            written.update(self._signed(path, data))
        return path, way, written, rng

    def _signed(self, path: str, data: bytes) -> dict[str, bytes]:
        """The manifest beside a file, with checksums that fit; nothing where there can be none."""
        import hashlib
        import zlib

        from rec_runner.checkpoint.format import MANIFEST, own_checksum
        from rec_runner.data.row_cache import _own_checksum

        folder, _, name = path.rpartition("/")
        manifest = f"{folder}/{'manifest.json' if path.startswith('cache') else MANIFEST}"
        if manifest not in self.files:
            return {}
        try:
            tree = json.loads(data if path == manifest else self.files[manifest])
            if path.startswith("cache"):
                if path != manifest:
                    tree["arrays"][name.removesuffix(".bin")]["crc32"] = zlib.crc32(data)
                tree["own_crc32"] = _own_checksum(tree)
            else:
                if path != manifest:
                    tree["sha256"][name] = hashlib.sha256(data).hexdigest()
                tree["own_sha256"] = own_checksum(tree)
            return {manifest: json.dumps(tree).encode()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}  # it is not JSON any more, or no object

    def run(self, number: int, whole: bool = False) -> tuple[str, str, str, str]:
        """Run a case.

        Args:
            number: which.
            whole: by the tool itself from its command line on, not by its parts.

        Returns:
            the file, the way it was changed, how it ended, and, where it failed, why.
        """
        path, way, written, rng = self.changed(number)
        for name, data in written.items():
            (self.folder / name).write_bytes(data)
        # What an optimizer makes of slots shows at its first step only.
        trained = rng.random() < (5 if path.endswith("rec.pdopt") else 1) / TRAINED
        try:
            with watched(self.folder, code=not whole):
                outcome = self._run_tool(path) if whole else self._read(path, trained)
            why = ""
        except (Exception, Broken) as error:
            outcome, why = "sentence", ""
            # A sentence about too little memory is one that the limit brought about.
            if not getattr(error, "user_error", False) or NO_MEMORY in str(error):
                outcome, why = (
                    "FAILED",
                    "".join(traceback.format_exception(type(error), error, error.__traceback__)),
                )
        if trained or whole:
            self._put_back()
        for name in written:
            (self.folder / name).write_bytes(self.files[name])
        return path, way, outcome, why

    def _run_tool(self, path: str) -> str:
        """Run infer or a trainer as from its command line."""
        from rec_runner.cli import main

        command = "infer" if path.startswith("past") else "train"
        arguments = ["-m", str(self.folder / "fuzz.yaml"), "-o", "runner.resume=true"]
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            status = main(command, SUBJECTS[self.name][1], arguments)
        if status not in (0, 1, 2) or "internal error" in errors.getvalue():
            raise Broken(f"{command} ended with {status}: {errors.getvalue()}")
        return f"{command} ends with {status}"

    def _read(self, path: str, train: bool) -> str:
        """What the tools do with a file; ``sound`` or ``passed over``."""
        if path.startswith("cache"):
            return self._read_cache(path)
        job = self.job
        if path.startswith("past"):
            from rec_runner.build import load_weights_into
            from rec_runner.checkpoint.store import Checkpoints
            from rec_runner.checkpoint.weights import load_weights
            from rec_runner.infer import _epochs_to_score

            _epochs_to_score(job.config, Checkpoints(job.config.runner("infer_load_path")))
            folder = self.folder / "past" / "0"
            load_weights_into(job.engine, load_weights(folder), str(folder))
            return "scored"
        job.start = job.checkpoints.newest()
        if job.start is None:
            return "passed over"
        if train:
            self._train()
            return "trained"
        self._resume(job.start)
        return "sound"

    def _resume(self, start: Any) -> None:
        """What a resume does before and after it trains."""
        from rec_runner.build import load_weights_into
        from rec_runner.checkpoint.resume import check_fingerprint
        from rec_runner.loop.meter import Meter
        from rec_runner.report.report import Report, _json_line

        job, progress = self.job, start.progress
        check_fingerprint(start.fingerprint, self.fingerprint, job.folder)
        load_weights_into(job.engine, start.weights, str(job.folder))
        job.engine.resume_optimizer(start.optimizer, progress.step, progress.skipped_batches)
        job.engine.metrics.rewind(self.fresh)  # what a case left in them is not the next one's
        meter = Meter(job.engine, "train", progress.epoch)
        meter.load_state_dict(start.meter)
        meter.running()
        report = Report(None)
        report.records.extend(progress.records)
        report.epoch_line(meter.record())
        meter.last_batch()
        for record in report.records:
            _json_line(record)
        report.summary()

    def _train(self) -> None:
        from rec_runner.system.signals import StopSignal

        job = self.job
        job.name = job.start.progress.run
        job.engine.metrics.rewind(self.fresh)
        job.report.records.clear()
        with StopSignal() as stop:
            files = SimpleNamespace(begin=lambda: None, result=lambda: self.fingerprint)
            job.run(files, stop)

    def _read_cache(self, path: str) -> str:
        from rec_runner.data.block_source import BlockSource

        source = self.job.source
        if isinstance(self.job.valid_source, BlockSource) and not self._of(source, path):
            source = self.job.valid_source
        stored = source.disk.load()
        if stored is None:
            return "passed over"
        for start in range(0, stored.rows, 50):
            stored.block(start, start + 50)
        return "sound"

    def _of(self, source: Any, path: str) -> bool:
        return source.disk.path.name in path
