"""The keys of a config's ``runner`` section: all that is known of each, in one table."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

TRAIN, INFER, BOTH = "train", "infer", "both"
MOST = (1 << 31) - 1  # for any whole number; static programs keep seeds as int32
_TYPES: dict[str, Any]
_TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": (list, str)}
_LOADERS = ("DataLoader", "CustomizeDataLoader")  # the reader's rows, or the static model's loader


@dataclass(frozen=True)
class Key:
    """One key of the ``runner`` section.

    Attributes:
        name: what stands after ``runner.``.
        type: ``str``, ``int``, ``float``, ``bool`` or ``list``.
        default: the value where the config has none, or an empty one.
        phase: which tools read it: ``train``, ``infer`` or ``both``.
        meaning: for people.
        least: the smallest number allowed; None allows any.
        below: beside ``least``, what numbers have to be less than; None sets no such bound.
        choices: the only values allowed; empty allows any.
    """

    name: str
    type: str
    default: Any
    phase: str
    meaning: str
    least: int | None = None
    below: int | None = None
    choices: tuple[str, ...] = ()

    def fault(self, value: Any) -> str | None:
        """What a value should be and is not, ``should be at least 1`` for instance; else None."""
        is_bool = isinstance(value, bool)
        if not isinstance(value, _TYPES[self.type]) or is_bool != (self.type == "bool"):
            return f"should be of type {self.type}"
        if self.type in ("str", "list") and "\0" in "".join(map(str, value)):
            return "should hold no NUL character"
        if self.choices and value not in self.choices:
            return f"should be {' or '.join(self.choices)}"
        if self.below is not None and not (self.least or 0) <= value < self.below:
            return f"should lie in [{self.least}, {self.below})"
        if self.least is not None and value < self.least:
            return f"should be at least {self.least}"
        return f"should be at most {MOST}" if self.type == "int" and value > MOST else None


RUNNER_KEYS: tuple[Key, ...] = (
    Key("train_data_dir", "str", None, TRAIN, "training files: a folder, one file or a pattern"),
    Key("test_data_dir", "str", None, INFER, "test files: a folder, one file or a pattern"),
    Key("train_reader_path", "str", "reader", BOTH, "module of the training RecDataset"),
    Key("infer_reader_path", "str", "reader", INFER, "module of the test RecDataset"),
    Key("reader_type", "str", "DataLoader", BOTH, "what makes the batches", choices=_LOADERS),
    Key("num_workers", "int", 0, BOTH, "DataLoader workers, for readers without blocks()", least=0),
    Key("train_batch_size", "int", None, BOTH, "rows in a batch; empty: reader's batches", least=1),
    Key("infer_batch_size", "int", None, BOTH, "rows in a test batch; empty: training's", least=1),
    Key("epochs", "int", None, TRAIN, "number of training epochs", least=1),
    Key("print_interval", "int", None, BOTH, "a log line every so many batches", least=1),
    Key("model_save_path", "str", "model_output", TRAIN, "folder that checkpoints are written to"),
    Key("infer_load_path", "str", "model_output", INFER, "checkpoints that infer reads"),
    Key("model_init_path", "str", None, TRAIN, "checkpoint whose weights training starts from"),
    Key("infer_start_epoch", "int", None, INFER, "first epoch that infer evaluates", least=0),
    Key("infer_end_epoch", "int", None, INFER, "one past the last epoch that infer evaluates"),
    Key("shuffle", "bool", False, TRAIN, "train on the rows in a new seeded order each epoch"),
    Key("shuffle_buffer", "int", 4096, TRAIN, "rows that are shuffled together", least=1),
    Key("cache_mb", "int", 1024, BOTH, "MB for parsed rows; more is parsed every epoch", least=0),
    Key("cache_dir", "str", None, BOTH, "folder for parsed rows between runs"),
    Key("valid_data_dir", "str", None, TRAIN, "files to validate on after each epoch, alike"),
    Key("valid_share", "float", 0.0, TRAIN, "share of the rows to validate on", least=0, below=1),
    Key("test_share", "float", 0.0, BOTH, "share of the rows to test on", least=0, below=1),
    Key("test_at_end", "bool", False, TRAIN, "score the test rows when training has ended"),
    Key("monitor", "str", "auc", TRAIN, "validation metric that decides which epoch is best"),
    Key("patience", "int", None, TRAIN, "epochs without a better one before stopping", least=1),
    Key("save_steps", "int", 0, TRAIN, "batches between checkpoints in an epoch; 0: none", least=0),
    Key("keep_checkpoints", "int", None, TRAIN, "epochs to keep, best and last included", least=1),
    Key("resume", "bool", False, TRAIN, "go on from the newest whole checkpoint, if there is one"),
    Key("skip_bad_batches", "bool", False, TRAIN, "leave out batches with a NaN or infinite loss"),
    Key("bad_rows", "str", "error", BOTH, "what to do with bad rows", choices=("error", "skip")),
    Key("bad_rows_cap", "int", 100, BOTH, "how many bad rows of a pass may be skipped", least=1),
    Key("save_predictions", "bool", False, INFER, "write predictions.csv beside the checkpoint"),
    Key("seed", "int", 12345, BOTH, "random seed", least=0),
    Key("use_gpu", "bool", False, BOTH, "run on the GPU"),
    Key("use_xpu", "bool", False, BOTH, "run on a Kunlun XPU"),
    Key("use_npu", "bool", False, BOTH, "run on an Ascend NPU"),
    Key("thread_num", "int", None, BOTH, "CPU threads; 1 by default for small batches", least=1),
    Key("flush_denormals", "bool", True, BOTH, "take numbers too small for float32 for zero"),
    Key("use_fleet", "bool", False, BOTH, "use several machines or devices: not supported yet"),
    Key("use_visual", "bool", False, TRAIN, "write scalars for VisualDL beside the checkpoints"),
    Key("use_save_data", "bool", False, BOTH, "save the last fetched batch beside the checkpoint"),
    Key("use_inference", "bool", False, TRAIN, "static trainer: an inference model every epoch"),
    Key("save_inference_feed_varnames", "list", None, TRAIN, "names of its inputs"),
    Key("save_inference_fetch_varnames", "list", None, TRAIN, "names of its outputs"),
    Key("use_auc", "bool", False, BOTH, "accepted: metrics here are always reset between epochs"),
    Key("auc_num", "int", 1, BOTH, "accepted: no count is needed, every AUC is reset"),
)
BY_NAME = {key.name: key for key in RUNNER_KEYS}

# What people may look for under a name that none of the keys resembles.
_INSTEAD = {
    "device": "runner.use_gpu, runner.use_xpu or runner.use_npu",
    "sync_mode": "runner.use_fleet",
}


def hint(name: str) -> str:
    """What an unknown key was perhaps meant to be, the closer the surer; empty if it is like none.

    A word in common counts much: ``keep`` is like ``keep_checkpoints``, not like ``seed``.
    """
    if name in _INSTEAD:
        return f"; see {_INSTEAD[name]}"

    def likeness(known: str) -> float:
        shared = set(name.split("_")) & set(known.split("_"))
        return difflib.SequenceMatcher(None, name, known).ratio() + 0.3 * len(shared)

    near = max(BY_NAME, key=likeness)
    if likeness(near) >= 0.6:
        return f"; did you mean runner.{near}?"
    return f"; the nearest is runner.{near}" if likeness(near) >= 0.4 else ""
