"""What the ``hyper_parameters`` section of a config may say, with types, defaults and meaning."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from column_names import SECTION, ConfigError, settle_columns
from column_names import bad_setting as _bad
from raw_tables.schema import Schema
from table_settings import by_name, decided_by, meaning_of, table_of

TYPES: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
INITIALIZERS = ("xavier", "kaiming", "constant")
ENCODINGS = ("none", "standard", "piecewise_linear")
OPTIMIZERS = ("adam", "adamw", "sgd", "momentum", "adagrad")
SCHEDULES = ("constant", "cosine", "step")
TASK_TYPES = ("binary", "regression")
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
    """A setting; with ``names``, a column may be named in place of its number."""
    metadata = {"key": name, "need": need, "choices": choices, "names": names}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class HyperParameters:
    """The model's settings, checked. Build it with :meth:`from_config`.

    Attributes:
        schema: file that says what the columns of a table are, beside the config; empty: rows are
            numbers.
        feature_size: number of feature columns.
        task_names: name of each task, used in log lines.
        task_types: binary or regression, for each task; empty: all are binary.
        label_columns: column of each task's label, counted from 0; of a table, its name.
        blank_labels: a blank label is not known, and masked.
        weight_column: column of each row's weight, or None.
        ignored_columns: columns that are not looked at.
        feature_columns: columns of the features, in this order; empty: all that are nothing else.
        loss_weights: weight of each task's loss; empty weighs all tasks 1.
        positive_weight: factor of the loss of positive rows, for each task; empty: 1 for all.
        bottom_size: units of each layer of the shared bottom.
        tower_size: units of each layer of a task's tower.
        bottom_dropout: share of bottom units dropped in training.
        tower_dropout: share of tower units dropped in training.
        id_dropout: share of ids that are not looked at in training.
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
        table: what the schema says, None where rows are numbers.
    """

    feature_size: int = _key("feature_size", 499, "be at least 1")
    task_names: tuple[str, ...] = _key("task_names", ("income", "marital"))
    label_columns: tuple[int, ...] = _key("label_columns", (1, 0), names=True)
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
    schema: str = _key("schema", "")
    task_types: tuple[str, ...] = _key("task_types", (), choices=TASK_TYPES)
    blank_labels: bool = _key("blank_labels", False)
    weight_column: int | None = _key("weight_column", None, names=True)
    ignored_columns: tuple[int, ...] = _key("ignored_columns", (), names=True)
    feature_columns: tuple[int, ...] = _key("feature_columns", (), names=True)
    positive_weight: tuple[float, ...] = _key("positive_weight", (), "be positive")
    id_dropout: float = _key("id_dropout", 0.0, "lie in [0, 1)")
    table: Schema | None = None

    @property
    def task_num(self) -> int:
        """Number of tasks."""
        return len(self.task_names)

    @property
    def resolved_types(self) -> tuple[str, ...]:
        """``binary`` or ``regression`` of each task."""
        return self.task_types or ("binary",) * self.task_num

    @property
    def regression(self) -> tuple[bool, ...]:
        """Whether each task is a regression task."""
        return tuple(kind == "regression" for kind in self.resolved_types)

    @property
    def weighs_rows(self) -> bool:
        """Whether rows have weights."""
        return self.weight_column is not None

    @property
    def feature_places(self) -> list[int]:
        """Column of each feature of a row of numbers."""
        others = {*self.label_columns, self.weight_column, *self.ignored_columns}
        places = range(self.feature_size + len(others - {None}))
        return list(self.feature_columns) or [place for place in places if place not in others]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HyperParameters:
        """Read the flat keys ``hyper_parameters.*`` of a config, and the schema that they name.

        Where neither tasks nor columns are named, ``hyper_parameters.task_num`` alone is enough:
        2, as nothing at all, means Census's ``income`` and ``marital`` in columns 1 and 0, and any
        other number ``task_0``, ``task_1`` and so on in the first columns. Tasks whose columns are
        given by name are called by these. Which columns have the names that are given, and a
        ``feature_size`` that is not, the training files say, see ``column_names``.

        Raises:
            ConfigError: a value of the wrong type, out of range or at odds with another; a column
                that is none or is named twice.
            SchemaError: the schema is none.
        """
        given = {k[len(SECTION) :]: v for k, v in config.items() if k.startswith(SECTION)}
        task_num = given.pop("task_num", None)
        values: dict[str, Any] = {}
        for item in _keys():
            value = given.pop(item.metadata["key"], None)
            if value is not None:
                values[item.name] = _convert(item, value)
        for key, value in given.items():
            _check_unknown(key, value)
        if values.get("schema"):
            _take_table(values, task_num, table_of(config))
        else:
            _complete_tasks(values, task_num)
            default_tasks = () if "label_columns" in values else cls.task_names
            values.setdefault("label_columns", cls.label_columns)
            settle_columns(values, config, cls.feature_size, default_tasks)
        settings = cls(**values)
        settings._check()
        return settings

    def as_config(self) -> dict[str, Any]:
        """All settings under their flat keys, ``hyper_parameters.task_num`` too."""
        settings = {f"{SECTION}{f.metadata['key']}": getattr(self, f.name) for f in _keys()}
        return {**settings, f"{SECTION}task_num": self.task_num}

    def meaning(self) -> dict[str, Any]:
        """What they come to, under flat keys, whichever way they were given: a resume compares it.

        Of a schema what it says, not where it lies.
        """
        settings = self.as_config()
        settings[f"{SECTION}task_types"] = self.resolved_types
        settings[f"{SECTION}schema"] = self.table is not None
        return {**settings, **(meaning_of(self.table) if self.table else {})}

    def _check(self) -> None:
        """What one setting asks of another, and of a list as a whole."""
        tasks, columns, weights = self.task_num, self.label_columns, self.loss_weights
        types, positives = self.task_types, self.positive_weight
        binary = all(w == 1 or not r for w, r in zip(positives, self.regression))
        spaced = self.schedule != "step" or self.decay_epochs > 0
        for key, met, need in (
            ("task_names", tasks >= 1, "name at least one task"),
            ("task_names", len(set(self.task_names)) == tasks, "not repeat a name"),
            ("label_columns", len(columns) == tasks, f"have one column per task ({tasks})"),
            ("task_types", len(types) in (0, tasks), f"have one type per task ({tasks})"),
            ("loss_weights", len(weights) in (0, tasks), f"have one weight per task ({tasks})"),
            ("loss_weights", not weights or any(weights), "have one above 0"),
            ("positive_weight", len(positives) in (0, tasks), f"have one per task ({tasks})"),
            ("positive_weight", binary, "be 1 for a regression task"),
            ("bottom_size", self.bottom_size, "name at least one layer"),
            ("tower_size", self.tower_size, "name at least one layer"),
            ("optimizer.decay_epochs", spaced, "be positive with schedule step"),
        ):
            if not met:
                raise _bad(key, need, self.as_config()[f"{SECTION}{key}"])


def _keys() -> list[Field[Any]]:
    """The fields that are keys of a config."""
    return [item for item in fields(HyperParameters) if "key" in item.metadata]


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
    if not all(map(NEEDS[need], numbers)):
        raise _bad(key, need, value)
    if kind == "int" and max(numbers, default=0) > MOST:
        raise _bad(key, f"be at most {MOST}", value)
    if choices:
        values = [text.lower() for text in values]
        if not set(values) <= set(choices):
            each = "list only" if is_list else "be one of"
            raise _bad(key, f"{each} {', '.join(choices)}", value)
    if kind == "float":
        values = [float(number) for number in values]
    return tuple(values) if is_list else values[0]


def _check_unknown(key: str, value: Any) -> None:
    """Warn of a key that is none; refuse one that takes a value for a section or the reverse."""
    known = ["task_num", *(item.metadata["key"] for item in _keys())]
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
        values["task_names"] = tuple(
            column if isinstance(column, str) else f"task_{place}"
            for place, column in enumerate(columns)
        )


def _take_table(values: dict[str, Any], task_num: Any, table: Schema) -> None:
    """Take from a schema what it decides.

    Raises:
        ConfigError: the config gives another value.
    """
    given = values if task_num is None else {**values, "task_num": task_num}
    decided = decided_by(table)
    for key, value in decided.items():
        if key not in given:
            continue
        is_column = key.endswith(("_column", "_columns"))
        if (by_name(table, given[key]) if is_column else given[key]) != value:
            raise _bad(key, f"be left out, or be {_shown(value)} as in the schema", given[key])
    del decided["task_num"]
    values.update(decided, table=table)


def _shown(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
