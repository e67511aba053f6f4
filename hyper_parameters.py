"""What the ``hyper_parameters`` section of a config may say, with types, defaults and meaning."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

SECTION = "hyper_parameters."


class ConfigError(ValueError):
    """A hyper-parameter of the wrong type or value; the message names key, value and need."""

    user_error = True  # one sentence for the user, not a traceback


def _key(name: str, default: Any, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"key": name, "meaning": meaning, "choices": choices})


@dataclass(frozen=True)
class HyperParameters:
    """The model's settings, checked. Build it with :meth:`from_config`."""

    feature_size: int = _key("feature_size", 499, "number of feature columns")
    task_names: tuple[str, ...] = _key(
        "task_names", ("income", "marital"), "name of each task, used in log lines"
    )
    label_columns: tuple[int, ...] = _key(
        "label_columns", (1, 0), "column of each task's label, counted from 0"
    )
    loss_weights: tuple[float, ...] = _key(
        "loss_weights", (), "weight of each task's loss; empty weighs all tasks 1"
    )
    bottom_size: tuple[int, ...] = _key(
        "bottom_size", (117,), "units of each layer of the shared bottom"
    )
    tower_size: tuple[int, ...] = _key("tower_size", (8,), "units of each layer of a task's tower")
    bottom_dropout: float = _key("bottom_dropout", 0.0, "share of bottom units dropped in training")
    tower_dropout: float = _key("tower_dropout", 0.0, "share of tower units dropped in training")
    initializer: str = _key(
        "initializer", "xavier", "initial weights of the bottom", ("xavier", "kaiming", "constant")
    )
    tower_initializer: str = _key(
        "tower_initializer",
        "xavier",
        "initial weights of the towers (PaddleRec: constant, 0.1)",
        ("xavier", "kaiming", "constant"),
    )
    numeric_encoding: str = _key(
        "numeric_encoding",
        "standard",
        "what is done inside the network to columns that hold more than 0 and 1",
        ("none", "standard", "piecewise_linear"),
    )
    piecewise_bins: int = _key(
        "piecewise_bins", 128, "bins of piecewise_linear, shared out among the numeric columns"
    )
    optimizer: str = _key(
        "optimizer.class", "adam", "optimizer", ("adam", "adamw", "sgd", "momentum", "adagrad")
    )
    learning_rate: float = _key("optimizer.learning_rate", 0.001, "highest learning rate")
    weight_decay: float = _key(
        "optimizer.weight_decay", 0.0, "decoupled weight decay of adamw, L2 penalty of the others"
    )
    grad_clip_norm: float = _key(
        "optimizer.grad_clip_norm", 0.0, "gradients are scaled down to this global norm; 0: never"
    )
    schedule: str = _key(
        "optimizer.schedule",
        "constant",
        "how the learning rate changes over the run",
        ("constant", "cosine", "step"),
    )
    warmup_epochs: float = _key(
        "optimizer.warmup_epochs", 0.0, "epochs over which the learning rate rises from 0"
    )
    decay_epochs: float = _key(
        "optimizer.decay_epochs",
        0.0,
        "cosine: epochs until the rate is 0 (0: the whole run); step: epochs between two decays",
    )
    decay_rate: float = _key("optimizer.decay_rate", 0.5, "factor of a decay of schedule step")

    @property
    def task_num(self) -> int:
        """Number of tasks."""
        return len(self.task_names)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HyperParameters:
        """Read the flat keys ``hyper_parameters.*`` of a config.

        Where neither tasks nor columns are named, ``hyper_parameters.task_num`` alone is enough:
        2, as nothing at all, means Census's ``income`` and ``marital`` in columns 1 and 0, and any
        other number ``task_0``, ``task_1`` and so on in the first columns.

        Raises:
            ConfigError: a value of the wrong type, out of range or at odds with another.
        """
        given = {k[len(SECTION) :]: v for k, v in config.items() if k.startswith(SECTION)}
        task_num = given.pop("task_num", None)
        values: dict[str, Any] = {}
        for item in fields(cls):
            key = item.metadata["key"]
            value = given.pop(key, None)
            if value is not None:
                values[item.name] = _convert(key, value, item)
        for key, value in given.items():
            _check_unknown(key, value)
        _complete_tasks(values, task_num)
        settings = cls(**values)
        settings._check()
        return settings

    def as_config(self) -> dict[str, Any]:
        """All settings under their flat keys, ``hyper_parameters.task_num`` too."""
        settings = {f"{SECTION}{f.metadata['key']}": getattr(self, f.name) for f in fields(self)}
        return {**settings, f"{SECTION}task_num": self.task_num}

    def _check(self) -> None:
        tasks = self.task_num
        self._need("task_names", tasks >= 1, "name at least one task")
        self._need("task_names", len(set(self.task_names)) == tasks, "not repeat a name")
        spaced = self.schedule != "step" or self.decay_epochs > 0
        self._need("decay_epochs", spaced, "be positive with schedule step")
        columns = self.label_columns
        self._need("label_columns", len(columns) == tasks, f"have one column per task ({tasks})")
        self._need("label_columns", len(set(columns)) == len(columns), "not repeat a column")
        last = self.feature_size + tasks
        in_range = all(0 <= column < last for column in columns)
        self._need("label_columns", in_range, f"lie in 0..{last - 1}")
        weights = self.loss_weights
        self._need(
            "loss_weights", len(weights) in (0, tasks), f"have one weight per task ({tasks})"
        )
        self._need("loss_weights", all(w >= 0 for w in weights), "not be negative")
        self._need("loss_weights", not weights or any(weights), "have one above 0")
        for name in ("feature_size", "piecewise_bins"):
            self._need(name, getattr(self, name) >= 1, "be at least 1")
        for name in ("bottom_size", "tower_size"):
            self._need(name, bool(getattr(self, name)), "name at least one layer")
            self._need(name, all(size >= 1 for size in getattr(self, name)), "be at least 1")
        for name in ("bottom_dropout", "tower_dropout"):
            self._need(name, 0 <= getattr(self, name) < 1, "lie in [0, 1)")
        for name in ("weight_decay", "grad_clip_norm", "warmup_epochs", "decay_epochs"):
            self._need(name, getattr(self, name) >= 0, "not be negative")
        for name in ("learning_rate", "decay_rate"):
            self._need(name, getattr(self, name) > 0, "be positive")

    def _need(self, name: str, met: bool, need: str) -> None:
        if not met:
            key = next(f.metadata["key"] for f in fields(self) if f.name == name)
            raise ConfigError(f"{SECTION}{key} should {need}, got {_plain(getattr(self, name))}")


def _check_unknown(key: str, value: Any) -> None:
    """Warn of a key that is none; refuse one that takes a value for a section or the reverse."""
    known = ["task_num", *(item.metadata["key"] for item in fields(HyperParameters))]
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        if value is not None:  # an empty section
            names = ", ".join(name[len(key) + 1 :] for name in inside)
            raise ConfigError(f"{SECTION}{key} should be a section with {names}, got {value!r}")
        return
    above = next((name for name in known if key.startswith(f"{name}.")), None)
    if above is not None:
        raise ConfigError(f"{SECTION}{above} should be a value, not a section with {SECTION}{key}")
    last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.5)
    hint = f"; did you mean {SECTION}{last[near[0]]}?" if near else ""
    warnings.warn(f"{SECTION}{key} is not a key of this model{hint}", stacklevel=1)


def _complete_tasks(values: dict[str, Any], task_num: Any) -> None:
    """Fill in names or columns where the config gives only the other, or only a number."""
    if task_num is not None and (isinstance(task_num, bool) or not isinstance(task_num, int)):
        raise ConfigError(f"{SECTION}task_num should be a whole number, got {task_num!r}")
    given = values.get("task_names") or values.get("label_columns")
    if task_num is not None and task_num != len(given or HyperParameters.task_names):
        if given:
            raise ConfigError(
                f"{SECTION}task_num is {task_num}, but the tasks given are {_plain(given)}"
            )
        values["label_columns"] = tuple(range(task_num))
    if "task_names" in values:
        values.setdefault("label_columns", tuple(range(len(values["task_names"]))))
    elif "label_columns" in values:
        values["task_names"] = tuple(f"task_{i}" for i in range(len(values["label_columns"])))


def _convert(key: str, value: Any, item: Any) -> Any:
    """A YAML value as the type of its field; one number stands for a list of one."""
    kind = item.type
    if kind.startswith("tuple"):
        element = kind[len("tuple[") :].split(",")[0]
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_scalar(key, v, element, f"a list of {element}") for v in values)
    result = _scalar(key, value, kind, f"of type {kind}")
    choices = item.metadata["choices"]
    if choices:
        result = result.lower()
        if result not in choices:
            raise ConfigError(
                f"{SECTION}{key} should be one of {', '.join(choices)}, got {value!r}"
            )
    return result


def _scalar(key: str, value: Any, kind: str, need: str) -> Any:
    types: Any = {"int": int, "float": (int, float), "str": str}[kind]
    if isinstance(value, bool) or not isinstance(value, types):
        raise ConfigError(f"{SECTION}{key} should be {need}, got {value!r}")
    return float(value) if kind == "float" else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
