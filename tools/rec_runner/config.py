"""The YAML config, flattened to dotted keys, checked once and trusted from then on."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rec_runner.errors import UserError

SECTIONS = ("runner", "hyper_parameters", "workspace")


@dataclass(frozen=True)
class Key:
    """One key of the ``runner`` section: what it is called, its type, default and meaning."""

    name: str
    type: str
    default: Any
    meaning: str


RUNNER_KEYS: tuple[Key, ...] = (
    Key("train_data_dir", "str", None, "folder of training files, relative to the config's folder"),
    Key("test_data_dir", "str", None, "folder of test files, relative to the config's folder"),
    Key("train_reader_path", "str", "reader", "module of the training RecDataset"),
    Key("infer_reader_path", "str", "reader", "module of the test RecDataset"),
    Key("reader_type", "str", "DataLoader", "DataLoader, or CustomizeDataLoader (static model's)"),
    Key("num_workers", "int", 0, "DataLoader worker processes, for readers without blocks()"),
    Key("train_batch_size", "int", None, "rows in a training batch"),
    Key("infer_batch_size", "int", None, "rows in a test batch"),
    Key("epochs", "int", None, "number of training epochs"),
    Key("print_interval", "int", None, "a log line every so many batches"),
    Key("model_save_path", "str", "model_output", "checkpoint folder, relative to the working one"),
    Key("infer_load_path", "str", "model_output", "checkpoints that infer reads"),
    Key("model_init_path", "str", None, "checkpoint folder whose weights training starts from"),
    Key("infer_start_epoch", "int", None, "first epoch that infer evaluates"),
    Key("infer_end_epoch", "int", None, "one past the last epoch that infer evaluates"),
    Key("shuffle", "bool", False, "train on the rows in a new seeded order each epoch"),
    Key("shuffle_buffer", "int", 4096, "rows that are shuffled together"),
    Key("cache_mb", "int", 1024, "memory for parsed rows; bigger data is parsed every epoch"),
    Key("cache_dir", "str", None, "folder to keep parsed rows in between runs, memory-mapped"),
    Key("valid_data_dir", "str", None, "folder of files to validate on after each epoch"),
    Key("valid_share", "float", 0.0, "share of the training rows to validate on instead"),
    Key("monitor", "str", "auc", "validation metric that decides which epoch is best"),
    Key("patience", "int", None, "epochs without a better one after which training stops"),
    Key("save_steps", "int", 0, "batches between checkpoints within an epoch; 0: none"),
    Key("keep_checkpoints", "int", None, "epochs to keep, the best and the last among them"),
    Key("resume", "bool", False, "go on from the newest whole checkpoint, if there is one"),
    Key("skip_bad_batches", "bool", False, "leave out batches with a NaN or infinite loss"),
    Key("bad_rows", "str", "error", "error, or skip: rows that cannot be used"),
    Key("bad_rows_cap", "int", 100, "how many bad rows of a pass may be skipped"),
    Key("save_predictions", "bool", False, "infer writes predictions.csv beside the checkpoint"),
    Key("seed", "int", 12345, "random seed"),
    Key("use_gpu", "bool", False, "run on the GPU"),
    Key("use_xpu", "bool", False, "run on a Kunlun XPU"),
    Key("use_npu", "bool", False, "run on an Ascend NPU"),
    Key("thread_num", "int", None, "CPU threads; by default 1 for batches below 256 rows"),
    Key("use_fleet", "bool", False, "train on several machines or devices: not supported yet"),
    Key("use_visual", "bool", False, "write scalars for VisualDL beside the checkpoints"),
    Key("use_save_data", "bool", False, "save the last fetched batch in the checkpoint folder"),
    Key("use_inference", "bool", False, "static trainer: save an inference model every epoch"),
    Key("save_inference_feed_varnames", "list", None, "names of its inputs, see use_inference"),
    Key("save_inference_fetch_varnames", "list", None, "names of its outputs, see use_inference"),
    Key("use_auc", "bool", False, "accepted: metrics here are always reset between epochs"),
    Key("auc_num", "int", 1, "accepted: no count is needed, every AUC is reset"),
)

_TYPES = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list, str),
}


_LEAST = {
    "train_batch_size": 1,
    "infer_batch_size": 1,
    "print_interval": 1,
    "shuffle_buffer": 1,
    "patience": 1,
    "keep_checkpoints": 1,
    "epochs": 0,
    "save_steps": 0,
    "cache_mb": 0,
    "num_workers": 0,
    "thread_num": 1,
    "bad_rows_cap": 1,
}


class Config(dict):
    """Flat mapping of dotted keys to values; models and readers index it or call ``get``.

    ``config["config_abs_dir"]`` is the model directory and ``config["yaml_path"]`` the file.
    """

    def runner(self, name: str) -> Any:
        """The value of ``runner.<name>``, or the default of :data:`RUNNER_KEYS`."""
        value = self.get(f"runner.{name}")
        return _BY_NAME[name].default if value is None else value

    def required(self, name: str) -> Any:
        """As :meth:`runner`, for a key without which the tool cannot work.

        Raises:
            UserError: the config does not have the key.
        """
        value = self.runner(name)
        if value is None:
            raise UserError(
                f"{self['yaml_path']}: runner.{name} is missing: {_BY_NAME[name].meaning}"
            )
        return value

    @property
    def model_dir(self) -> Path:
        """Folder of the config file, absolute."""
        return Path(self["config_abs_dir"])


_BY_NAME = {key.name: key for key in RUNNER_KEYS}


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read, flatten and check a config file.

    Args:
        path: the YAML file; its folder is the model directory.
        overrides: ``key=value`` strings of ``-o``, values typed as YAML types them.

    Raises:
        UserError: no such file, not YAML, a value of the wrong type, an override without ``=``.
    """
    file = Path(path)
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"config {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"config {path} is not UTF-8 text: {error.reason}") from error
    except yaml.YAMLError as error:
        raise UserError(f"config {path} is not YAML: {_one_line(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"config {path} should be a mapping with a runner section")
    config = Config()
    for section in SECTIONS:
        if section in tree:
            if section != "workspace" and not isinstance(tree[section], (dict, type(None))):
                raise UserError(
                    f"config {path}: {section} should be a mapping, got {tree[section]!r}"
                )
            _flatten(section, tree[section], config)
    for override in overrides:
        key, value = _parse_override(override)
        for old in [k for k in config if k.startswith(f"{key}.")]:
            del config[old]
        _flatten(key, value, config)
    config["config_abs_dir"] = str(file.resolve().parent)
    config["yaml_path"] = path
    _check_runner(config)
    return config


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"-o {text}: expected key=value, for example -o runner.epochs=1")
    if key.split(".")[0] not in SECTIONS:
        raise UserError(f"-o {text}: key {key} should start with one of {', '.join(SECTIONS)}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"-o {text}: value is not YAML: {_one_line(error)}") from error


def _flatten(prefix: str, value: Any, into: Config) -> None:
    if isinstance(value, dict):
        for name, child in value.items():
            _flatten(f"{prefix}.{name}", child, into)
    else:
        into[prefix] = _yaml_float(value)


def _yaml_float(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean the number."""
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check_runner(config: Config) -> None:
    for key, value in config.items():
        section, _, name = key.partition(".")
        if section != "runner":
            continue
        if name not in _BY_NAME:
            near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.5)
            hint = f"; did you mean runner.{near[0]}?" if near else ""
            warn(f"{config['yaml_path']}: runner.{name} is not a key of these tools{hint}")
        elif value is not None and not _is_a(value, _BY_NAME[name].type):
            raise UserError(
                f"{config['yaml_path']}: runner.{name} should be of type "
                f"{_BY_NAME[name].type}, got {value!r}"
            )
    for name, least in _LEAST.items():
        value = config.get(f"runner.{name}")
        if value is not None and value < least:
            raise UserError(
                f"{config['yaml_path']}: runner.{name} should be at least {least}, got {value}"
            )
    if config.runner("use_fleet"):
        raise UserError(
            f"{config['yaml_path']}: runner.use_fleet is not supported yet; "
            "set -o runner.use_fleet=false"
        )
    if config.runner("reader_type") not in ("DataLoader", "CustomizeDataLoader"):
        raise UserError(
            f"{config['yaml_path']}: runner.reader_type should be DataLoader or "
            f"CustomizeDataLoader, got {config.runner('reader_type')!r}"
        )
    if not 0 <= config.runner("valid_share") < 1:
        raise UserError(f"{config['yaml_path']}: runner.valid_share should lie in [0, 1)")
    if config.runner("bad_rows") not in ("error", "skip"):
        raise UserError(f"{config['yaml_path']}: runner.bad_rows should be error or skip")


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, _TYPES[kind])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def warn(message: str) -> None:
    """One warning line on stderr."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
