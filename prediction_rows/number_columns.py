"""The columns of training files of numbers, as a model keeps them to read rows to predict on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from column_names import known_head, training_head
from csv_layout import HINTS
from hyper_parameters import HyperParameters
from prediction_rows.number_layout import FeatureLayout

MOST_LETTERS = 10_000  # of a name


@dataclass(frozen=True)
class NumberColumns:
    """The columns of a training file of numbers.

    Attributes:
        column_num: how many there are.
        features: which of them are features, in the order in which the model takes them.
        labels: which are labels; they may be missing in rows to predict on, as may the next two.
        weight: which is a weight, if one is.
        ignored: which are nothing.
        names: what they are called, where the training files say so.
    """

    column_num: int
    features: tuple[int, ...]
    labels: tuple[int, ...] = ()
    weight: int | None = None
    ignored: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def called(self) -> tuple[str, ...]:
        """What each column is called here: its name, or its number as a config has it, from 0."""
        return self.names or tuple(map(str, range(self.column_num)))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What the features are called, in their order."""
        called = self.called
        return tuple(called[column] for column in self.features)

    def layout(self) -> FeatureLayout:
        """Where rows as those of the training files have their features."""
        others = {*range(self.column_num)}.difference(self.features)
        in_order = list(self.features) == sorted(self.features)
        return FeatureLayout(
            *(len(self.features), (), HINTS),
            features=() if in_order else self.features,
            ignored_columns=tuple(sorted(others)),
            names=self.names,
            called=self.called,
            alone=len(self.features),
        )

    def as_json(self) -> dict[str, Any]:
        """As ``model.json`` has it."""
        return {
            "kind": "numbers",
            "features": list(self.feature_names),
            "file": {
                "column_num": self.column_num,
                "feature_columns": list(self.features),
                "label_columns": list(self.labels),
                "weight_column": self.weight,
                "ignored_columns": list(self.ignored),
                "names": list(self.names),
            },
        }

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> NumberColumns:
        """What the config of a trained model, with ``columns`` of its checkpoint, says of them.

        Raises:
            ConfigError: it says what cannot be.
        """
        settings = HyperParameters.from_config(config)
        features, weight = settings.feature_places, settings.weight_column
        others = {*settings.label_columns, *settings.ignored_columns}
        others |= set() if weight is None else {weight}
        column_num = len(features) + len(others)
        head = known_head(config) or training_head(config)
        names = head.names if head is not None and len(head.names) == column_num else ()
        return cls(
            *(column_num, tuple(features), settings.label_columns, weight),
            *(settings.ignored_columns, names),
        )

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> NumberColumns:
        """What :meth:`as_json` told, perhaps from a file of strangers.

        Raises:
            ValueError: it is nothing of the kind; the message says what should be what.
        """
        file = value.get("file")
        if not isinstance(file, Mapping):
            raise ValueError("file should be an object")
        whole = "whole numbers"
        features = _listed(file, "feature_columns", int, whole)
        labels = _listed(file, "label_columns", int, whole)
        ignored = _listed(file, "ignored_columns", int, whole)
        names = _listed(file, "names", str, "names")
        weight = file.get("weight_column")
        if not (weight is None or type(weight) is int):
            raise ValueError("file.weight_column should be a whole number or null")
        named = [*features, *labels, *ignored, *([] if weight is None else [weight])]
        # Every column is there once, so that they are not more than a file can list.
        if file.get("column_num") != len(named) or sorted(named) != [*range(len(named))]:
            raise ValueError("file should say of each of its column_num columns once what it is")
        if not features:
            raise ValueError("file.feature_columns should name a column")
        if len(names) not in (0, len(named)):
            raise ValueError("file.names should have a name for each column, or none")
        if not all(map(_is_name, names)):
            raise ValueError(f"file.names should be text of at most {MOST_LETTERS} letters each")
        if len(set(names)) < len(names):
            raise ValueError("file.names should not have a name twice")
        columns = cls(len(named), features, labels, weight, ignored, names)
        if value.get("features") != list(columns.feature_names):
            raise ValueError("features should be the names of the columns in file.feature_columns")
        return columns


def _listed(file: Mapping[str, Any], key: str, kind: type, what: str) -> tuple[Any, ...]:
    value = file.get(key)
    if not isinstance(value, (list, tuple)) or any(type(item) is not kind for item in value):
        raise ValueError(f"file.{key} should be a list of {what}")
    return tuple(value)


def _is_name(name: str) -> bool:
    halves = not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)
    return len(name) <= MOST_LETTERS and not halves
