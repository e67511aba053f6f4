"""The golden record: what a set of runs computes, as SHA-256 of its bits.

    python tests/golden/golden.py record FILE [--tree FOLDER]   run everything, write the record
    python tests/golden/golden.py compare FILE FILE             name every figure that differs

A change that should change no number is checked by two records, of the commit before (``--tree``
names a checkout of it) and of the working tree, taken on one machine: products of matrices differ
in their last bits between processors and between releases of Paddle, which the record names.

Runs, each on both graphs: the sample; wide generated rows with every optimizer, with schedules,
shuffling, dropout, validation; a run that is stopped in mid-epoch and resumed; three foreign model
directories; one epoch of the real rows, where ``../shared/census`` is there. Each is scored too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
GRAPHS = ("dygraph", "static")
FOREIGN = ("mmoe", "sequence", "regression")
CLOCK = {"seconds", "rows_per_second", "path", "graph"}  # not numbers of the model
FEATURES, ROWS = 1200, 700
OPTIMIZERS = {
    "adam_constant": {"class": "adam", "learning_rate": 0.003},
    "adam_decay_clip": {"class": "adam", "weight_decay": 0.01, "grad_clip_norm": 0.5},
    "adamw_cosine": {"class": "adamw", "weight_decay": 0.1, "schedule": "cosine"},
    "adamw_warmup": {"class": "adamw", "warmup_epochs": 1, "decay_epochs": 2, "schedule": "cosine"},
    "sgd_step": {"class": "sgd", "schedule": "step", "decay_epochs": 1, "learning_rate": 0.1},
    "momentum_warmup": {"class": "momentum", "warmup_epochs": 0.5, "learning_rate": 0.01},
    "adagrad_constant": {"class": "adagrad", "learning_rate": 0.01},
}


class _Stdout(io.StringIO):
    """Standard output that asks the run to stop when it comes upon a text."""

    def __init__(self, stop_at: str | None) -> None:
        super().__init__()
        self.stop_at = stop_at

    def write(self, text: str) -> int:
        if self.stop_at is not None and self.stop_at in text:
            self.stop_at = None
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def tool(command: str, graph: str, config: Path, stop_at: str | None = None, **runner: Any) -> None:
    """Run a tool in this process; a run that is stopped ends with 143, any other with 0."""
    from rec_runner.cli import main

    overrides = [f"{k if '.' in k else f'runner.{k}'}={v}" for k, v in runner.items()]
    out, err = _Stdout(stop_at), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command, graph, ["-m", str(config), "-o", *overrides])
    if status != (0 if stop_at is None else 143):
        raise SystemExit(f"{command} {graph} {config} ended with {status}: {err.getvalue()}")


def digest(*pieces: bytes) -> str:
    """SHA-256 of some bytes."""
    return hashlib.sha256(b"\0".join(pieces)).hexdigest()


def arrays_digest(state: dict[str, Any]) -> str:
    """SHA-256 of named arrays: names, types, shapes, bits."""
    pieces = []
    for name in sorted(state):
        array = np.asarray(state[name])
        pieces += [name.encode(), str((array.dtype, array.shape)).encode(), array.tobytes()]
    return digest(*pieces)


def outcome(folder: Path) -> dict[str, str]:
    """Digests of all that a run left in its folder that is a number of the model."""
    found = {}
    for file in sorted(folder.rglob("rec.pdparams")):
        state = pickle.loads(file.read_bytes())  # of our own making, a moment ago
        found[f"weights {file.parent.name}"] = arrays_digest(state)
    for file in sorted(folder.rglob("predictions.csv")):
        found[f"predictions {file.parent.name}"] = digest(file.read_bytes())
    for file in sorted(folder.rglob("last_infer_batch.npz")):
        found[f"last infer batch {file.parent.name}"] = arrays_digest(dict(np.load(file)))
    for file in (folder / "metrics.jsonl", folder / "infer_metrics.jsonl"):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            place = f"{file.stem} {record['epoch']} {record['phase']}"
            for name in sorted(set(record) - CLOCK):
                found[f"{place} {name}"] = digest(json.dumps(record[name]).encode())
    return found


def runs(tree: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """Make every run; name and folder of each."""
    for name, config, options in _cases(tree, work):
        stop_at = options.pop("stop_at", None)
        for graph in GRAPHS:
            out = work / "out" / name / graph
            tool("train", graph, config, stop_at, model_save_path=out, **options)
            if stop_at is not None:
                tool("train", graph, config, model_save_path=out, resume="true", **options)
            saves = {"save_predictions": "true", "use_save_data": "true"}
            tool("infer", graph, config, infer_load_path=out, **saves)
            yield f"{name} {graph}", out


def _cases(tree: Path, work: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    sample = _model_dir(tree, work / "sample")
    for split in ("train", "test"):
        shutil.copytree(tree / "data" / split, sample / "data" / split)
    ends = {"infer_start_epoch": 1, "infer_end_epoch": 2}
    yield "sample", _config(sample, "sample", **ends), {"epochs": 2}
    resumed = {"epochs": 2, "save_steps": 7, "stop_at": "epoch: 1, batch_id: 20", **ends}
    yield "sample resumed", _config(sample, "resumed", **ends), resumed

    wide = _model_dir(tree, work / "wide")
    _write_wide(wide)
    for name, optimizer in OPTIMIZERS.items():
        keys = {f"hyper_parameters.optimizer.{key}": value for key, value in optimizer.items()}
        keys["hyper_parameters.bottom_dropout"] = 0.2
        options = {"epochs": 3, "shuffle": "true", "valid_share": 0.2, "shuffle_buffer": 256}
        yield f"wide {name}", _config(wide, name, features=FEATURES, **keys), options
    keys["hyper_parameters.numeric_encoding"] = "piecewise_linear"
    config = _config(wide, "resumed", features=FEATURES, **keys)
    options.update(save_steps=5, stop_at="epoch: 1, batch_id: 10")
    yield "wide resumed", config, options

    for name in FOREIGN:
        shutil.copytree(tree / "tests" / "model_dirs" / name, work / name)
        make_data = [sys.executable, "-c", "import sys, make_data as m, pathlib as p"]
        make_data[-1] += "; m.write(sys.argv[1], p.Path(sys.argv[2]))"
        subprocess.run(
            [*make_data, name, str(work / name)], cwd=tree / "tests" / "model_dirs", check=True
        )
        yield name, work / name / "config.yaml", {"epochs": 2}

    census = ROOT.parent / "shared" / "census"
    if census.is_dir():
        real = _model_dir(tree, work / "real")
        prepare = [sys.executable, tree / "datasets" / "census" / "prepare.py"]
        subprocess.run(
            [*prepare, "--raw-dir", census, "--out-dir", real], check=True, capture_output=True
        )
        config = _config(real, "real", train="train_all", test="test_all", batch=512)
        keys = {"epochs": 2, "shuffle": "true", "valid_data_dir": "valid_all"}
        yield "real", config, keys


def _model_dir(tree: Path, folder: Path) -> Path:
    """The tree's own model in a folder of its own."""
    folder.mkdir(parents=True)
    for file in tree.glob("*.py"):
        shutil.copy(file, folder)
    if (tree / "raw_tables").is_dir():  # an older tree has none
        shutil.copytree(tree / "raw_tables", folder / "raw_tables")
    return folder


def _config(
    folder: Path,
    name: str,
    features: int = 499,
    train: str = "data/train",
    test: str = "data/test",
    batch: int = 32,
    **keys: Any,
) -> Path:
    runner = {
        "train_data_dir": train,
        "test_data_dir": test,
        "train_reader_path": "census_reader",
        "infer_reader_path": "census_reader",
        "train_batch_size": batch,
        "infer_batch_size": 100,
        "print_interval": 10,
    }
    hyper: dict[str, Any] = {"feature_size": features, "task_names": ["income", "marital"]}
    hyper["label_columns"] = [1, 0]
    for key, value in keys.items():
        section, _, inner = key.rpartition(".")
        target = hyper if section else runner
        if section.endswith("optimizer"):
            target = hyper.setdefault("optimizer", {})
        target[inner] = value
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps({"runner": runner, "hyper_parameters": hyper}))  # JSON is YAML
    return file


def _write_wide(folder: Path) -> None:
    rng = np.random.default_rng(3)
    features = (rng.random((ROWS, FEATURES)) < 0.05).astype(np.float64)
    features[:, :9] = rng.normal(size=(ROWS, 9)).round(3) * 10
    odds = features[:, :2] / 10 + features[:, 20:22]
    labels = odds + rng.normal(size=odds.shape) > 0.3
    table = np.column_stack([labels, features])
    for split, rows in (("train", table[: ROWS - 150]), ("test", table[ROWS - 150 :])):
        (folder / "data" / split).mkdir(parents=True)
        np.savetxt(folder / "data" / split / "rows.txt", rows, delimiter=",", fmt="%.7g")


def processor() -> str:
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def record(tree: Path, file: Path) -> None:
    """Run everything with a tree's tools and models; write the record."""
    sys.path.insert(0, str(tree / "tools"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as work:
        found = {name: outcome(folder) for name, folder in runs(tree, Path(work))}
    import paddle

    taken_on = {"processor": processor(), "paddlepaddle": paddle.__version__}
    file.write_text(json.dumps({**taken_on, "runs": found}, indent=1, sort_keys=True) + "\n")
    print(f"{file}: {len(found)} runs, {sum(map(len, found.values()))} figures")


def compare(first: Path, second: Path) -> int:
    """Name what differs between two records; 1 if a figure does, else 0.

    A run that one record has alone says nothing of a change: where there is no ``../shared``, none
    is of the real rows. A figure that one record of a run lacks is a difference.
    """
    one, two = (json.loads(file.read_text()) for file in (first, second))
    for key in ("processor", "paddlepaddle"):
        if one[key] != two[key]:
            print(f"taken on another {key}: {one[key]}, {two[key]}; last bits may differ")
    differing = figures = 0
    for run in sorted({*one["runs"], *two["runs"]}):
        was, now = one["runs"].get(run), two["runs"].get(run)
        if was is None or now is None:
            print(f"{run}: only in {second if was is None else first}, not compared")
            continue
        figures += len({*was, *now})
        for name in sorted({*was, *now}):
            if was.get(name) != now.get(name):
                differing += 1
                kind = "differs" if name in was and name in now else "is in one only"
                print(f"{run}: {name} {kind}")
    if not figures:
        print("the records have no run in common")
        return 1
    print(f"{differing} of {figures} figures differ")
    return int(differing > 0)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Record and compare what a set of runs computes.")
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="run everything, write the record")
    recorder.add_argument("file", type=Path)
    recorder.add_argument("--tree", type=Path, default=ROOT, help="checkout whose code runs")
    comparer = commands.add_parser("compare", help="name every figure that differs")
    comparer.add_argument("files", type=Path, nargs=2)
    options = parser.parse_args()
    if options.command == "compare":
        return compare(*options.files)
    record(options.tree.resolve(), options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
