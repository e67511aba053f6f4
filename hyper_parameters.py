"""What the ``hyper_parameters`` section of a config may say, with types, defaults and meaning."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from column_names import SECTION, ConfigError, settle_columns
from column_names import bad_setting as _bad

TYPES: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
INITIALIZERS = ("xavier", "kaiming", "constant")
ENCODINGS = ("none", "standard", "piecewise_linear")
OPTIMIZERS = ("adam", "adamw", "sgd", "momentum", "adagrad")
SCHEDULES = ("constant", "cosine", "step")
MOST = (1 << 31) - 1  # for any whole number
MOST_TASKS = 10_000
# What a number, or each number of a list, may have to do.
NEEDS = {
    "": lambda number: True,
    "be at least 1": lambda number: number >= 1,
    "not be negative": lambda number: number >= 0,
    "be positive": lambda number: number > 0,
    "lie in [0, 1)": lambda number: 0 <= number < 1,
}


def _key(
    name: str, default: Any, need: str = "", choices: tuple[str, ...] = (), names: bool = False
) -> Any:
    """A setting; with ``names``, columns may be named in place of their numbers."""
    metadata = {"key": name, "need": need, "choices": choices, "names": names}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class HyperParameters:
    """The model's settings, checked. Build it with :meth:`from_config`.

    Attributes:
        feature_size: number of feature columns.
        task_names: name of each task, used in log lines.
        label_columns: column of each task's label, counted from 0.
        weight_column: column of the rows' weights; None: rows have none.
        ignored_columns: columns that are not looked at.
        feature_columns: columns of the features, in this order; empty: all that are nothing else.
        blank_labels: a label may be left blank: it is not known.
        loss_weights: weight of each task's loss; empty weighs all tasks 1.
        bottom_size: units of each layer of the shared bottom.
        tower_size: units of each layer of a task's tower.
        bottom_dropout: share of bottom units dropped in training.
        tower_dropout: share of tower units dropped in training.
        initializer: initial weights of the bottom.
        tower_initializer: initial weights of the towers (PaddleRec: constant, 0.1).
        numeric_encoding: what is done inside the network to columns that hold more than 0 and 1.
        piecewise_bins: bins of piecewise_linear, shared out among the numeric columns.
        optimizer: optimizer.
        learning_rate: highest learning rate.
        weight_decay: decoupled weight decay of adamw, L2 penalty of the others.
        grad_clip_norm: gradients are scaled down to this global norm; 0: never.
        schedule: how the learning rate changes over the run.
        warmup_epochs: epochs over which the learning rate rises from 0.
        decay_epochs: cosine: epochs until the rate is 0 (0: the whole run); step: epochs between
            two decays.
        decay_rate: factor of a decay of schedule step.
    """

    feature_size: int = _key("feature_size", 499, "be at least 1")
    task_names: tuple[str, ...] = _key("task_names", ("income", "marital"))
    label_columns: tuple[int, ...] = _key("label_columns", (1, 0), names=True)
    weight_column: int | None = _key("weight_column", None, names=True)
    ignored_columns: tuple[int, ...] = _key("ignored_columns", (), names=True)
    feature_columns: tuple[int, ...] = _key("feature_columns", (), names=True)
    blank_labels: bool = _key("blank_labels", False)
    loss_weights: tuple[float, ...] = _key("loss_weights", (), "not be negative")
    bottom_size: tuple[int, ...] = _key("bottom_size", (117,), "be at least 1")
    tower_size: tuple[int, ...] = _key("tower_size", (8,), "be at least 1")
    bottom_dropout: float = _key("bottom_dropout", 0.0, "lie in [0, 1)")
    tower_dropout: float = _key("tower_dropout", 0.0, "lie in [0, 1)")
    initializer: str = _key("initializer", "xavier", choices=INITIALIZERS)
    tower_initializer: str = _key("tower_initializer", "xavier", choices=INITIALIZERS)
    numeric_encoding: str = _key("numeric_encoding", "standard", choices=ENCODINGS)
    piecewise_bins: int = _key("piecewise_bins", 128, "be at least 1")
    optimizer: str = _key("optimizer.class", "adam", choices=OPTIMIZERS)
    learning_rate: float = _key("optimizer.learning_rate", 0.001, "be positive")
    weight_decay: float = _key("optimizer.weight_decay", 0.0, "not be negative")
    grad_clip_norm: float = _key("optimizer.grad_clip_norm", 0.0, "not be negative")
    schedule: str = _key("optimizer.schedule", "constant", choices=SCHEDULES)
    warmup_epochs: float = _key("optimizer.warmup_epochs", 0.0, "not be negative")
    decay_epochs: float = _key("optimizer.decay_epochs", 0.0, "not be negative")
    decay_rate: float = _key("optimizer.decay_rate", 0.5, "be positive")

    @property
    def task_num(self) -> int:
        """Number of tasks."""
        return len(self.task_names)

    @property
    def column_num(self) -> int:
        """Columns of a row of text."""
        weights = self.weight_column is not None
        return self.feature_size + self.task_num + weights + len(self.ignored_columns)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HyperParameters:
        """Read the flat keys ``hyper_parameters.*`` of a config.

        Where neither tasks nor columns are named, ``hyper_parameters.task_num`` alone is enough:
        2, as nothing at all, means Census's ``income`` and ``marital`` in columns 1 and 0, and any
        other number ``task_0``, ``task_1`` and so on in the first columns. Columns by name, and a
        ``feature_size`` that is not given, follow from the training files, see ``column_names``.

        Raises:
            ConfigError: a value of the wrong type, out of range or at odds with another; a column
                that is none or is named twice.
        """
        given = {k[len(SECTION) :]: v for k, v in config.items() if k.startswith(SECTION)}
        task_num = given.pop("task_num", None)
        values: dict[str, Any] = {}
        for item in fields(cls):
            value = given.pop(item.metadata["key"], None)
            if value is not None:
                values[item.name] = _convert(item, value)
        for key, value in given.items():
            _check_unknown(key, value)
        _complete_tasks(values, task_num)
        values.setdefault("label_columns", cls.label_columns)
        settle_columns(values, config, cls.feature_size)
        settings = cls(**values)
        settings._check()
        return settings

    def as_config(self) -> dict[str, Any]:
        """All settings under their flat keys, ``hyper_parameters.task_num`` too."""
        settings = {f"{SECTION}{f.metadata['key']}": getattr(self, f.name) for f in fields(self)}
        return {**settings, f"{SECTION}task_num": self.task_num}

    def _check(self) -> None:
        """What one setting asks of another, and of a list as a whole."""
        tasks, columns, weights = self.task_num, self.label_columns, self.loss_weights
        spaced = self.schedule != "step" or self.decay_epochs > 0
        for key, met, need in (
            ("task_names", tasks >= 1, "name at least one task"),
            ("task_names", len(set(self.task_names)) == tasks, "not repeat a name"),
            ("label_columns", len(columns) == tasks, f"have one column per task ({tasks})"),
            ("loss_weights", len(weights) in (0, tasks), f"have one weight per task ({tasks})"),
            ("loss_weights", not weights or any(weights), "have one above 0"),
            ("bottom_size", self.bottom_size, "name at least one layer"),
            ("tower_size", self.tower_size, "name at least one layer"),
            ("optimizer.decay_epochs", spaced, "be positive with schedule step"),
        ):
            if not met:
                raise _bad(key, need, self.as_config()[f"{SECTION}{key}"])


def _convert(item: Any, value: Any) -> Any:
    """A YAML value as the type of its field; one number stands for a list of one."""
    key, need, choices = (item.metadata[name] for name in ("key", "need", "choices"))
    is_list = item.type.startswith("tuple[")
    kind = item.type[len("tuple[") :].split(",")[0] if is_list else item.type.split(" ")[0]
    values = value if is_list and isinstance(value, (list, tuple)) else [value]
    named = item.metadata["names"]
    numbers = [v for v in values if not (named and isinstance(v, str))]
    if any(
        isinstance(v, bool) != (kind == "bool") or not isinstance(v, TYPES[kind]) for v in numbers
    ):
        what = f"{kind} or of names of columns" if named else kind
        raise _bad(key, f"be {'a list of' if is_list else 'of type'} {what}", value)
    if kind == "float" and not all(abs(number) <= sys.float_info.max for number in values):
        raise _bad(key, "be a finite number", value)
    if not all(map(NEEDS[need], values)):
        raise _bad(key, need, value)
    if kind == "int" and max(numbers, default=0) > MOST:
        raise _bad(key, f"be at most {MOST}", value)
    if choices:
        values = [text.lower() for text in values]
        if values[0] not in choices:
            raise _bad(key, f"be one of {', '.join(choices)}", value)
    if kind == "float":
        values = [float(number) for number in values]
    return tuple(values) if is_list else values[0]


def _check_unknown(key: str, value: Any) -> None:
    """Warn of a key that is none; refuse one that takes a value for a section or the reverse."""
    known = ["task_num", *(item.metadata["key"] for item in fields(HyperParameters))]
    for name in known:
        if key.startswith(f"{name}."):
            raise _bad(name, f"be a value, not a section with {SECTION}{key}", value)
    inside = [name[len(key) + 1 :] for name in known if name.startswith(f"{key}.")]
    if inside and value is not None:
        raise _bad(key, f"be a section with {', '.join(inside)}", value)
    if not inside:
        last = {name.rpartition(".")[2]: name for name in known}
        near = difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.5)
        hint = f"; did you mean {SECTION}{last[near[0]]}?" if near else ""
        warnings.warn(f"{SECTION}{key} is not a key of this model{hint}", stacklevel=1)


def _complete_tasks(values: dict[str, Any], task_num: Any) -> None:
    """Fill in names or columns where the config gives only the other, or only a number."""
    if task_num is not None and type(task_num) is not int:
        raise _bad("task_num", "be a whole number", task_num)
    if task_num is not None and task_num > MOST_TASKS:  # each is to get a name
        raise _bad("task_num", f"be at most {MOST_TASKS}", task_num)
    given = values.get("task_names") or values.get("label_columns")
    if task_num is not None and task_num != len(given or HyperParameters.task_names):
        if given:
            tasks = f"but the tasks given are {list(given)}"
            raise ConfigError(f"{SECTION}task_num is {task_num}, {tasks}")
        values["label_columns"] = tuple(range(task_num))
    if "task_names" in values:
        values.setdefault("label_columns", tuple(range(len(values["task_names"]))))
    elif "label_columns" in values:
        columns = values["label_columns"]
        named = all(isinstance(column, str) for column in columns)
        values["task_names"] = columns if named else tuple(f"task_{i}" for i in range(len(columns)))
