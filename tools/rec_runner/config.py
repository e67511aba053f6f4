"""The YAML config, flattened to dotted keys, checked once and trusted from then on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rec_runner.system.errors import UserError
from rec_runner.system.log import warn

SECTIONS = ("runner", "hyper_parameters", "workspace")
MAPPINGS = SECTIONS[:2]  # workspace is a value


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
    "epochs": 1,
    "infer_start_epoch": 0,
    "seed": 0,
    "save_steps": 0,
    "cache_mb": 0,
    "num_workers": 0,
    "thread_num": 1,
    "bad_rows_cap": 1,
}
MOST_KEYS = 10_000
LONGEST_KEY = 1_000
MOST = (1 << 31) - 1  # for any whole number; static programs keep seeds as int32

# What people may look for under a name that none of the keys resembles.
_INSTEAD = {
    "device": "runner.use_gpu, runner.use_xpu or runner.use_npu",
    "sync_mode": "runner.use_fleet",
}


class Config(dict):
    """Flat mapping of dotted keys to values; models and readers index it or call ``get``.

    ``config["config_abs_dir"]`` is the model directory and ``config["yaml_path"]`` the file.
    """

    def runner(self, name: str) -> Any:
        """The value of ``runner.<name>``, or the default of :data:`RUNNER_KEYS`."""
        value = self.get(f"runner.{name}")
        return _BY_NAME[name].default if value is None else value

    def is_set(self, name: str) -> bool:
        """Whether ``runner.<name>`` is given, and not as its default."""
        return self.get(f"runner.{name}") not in (None, _BY_NAME[name].default)

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

    def batch_size(self, phase: str) -> int | None:
        """Rows in a batch of ``train`` or ``infer``; None where the reader makes whole batches.

        Directories that are only trained may know one size.
        """
        size = self.runner(f"{phase}_batch_size")
        return self.runner("train_batch_size") if size is None else size

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
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"config {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"config {path} is not UTF-8 text: {error.reason}") from error
    tree = _parse(text, f"config {path} is")
    if not isinstance(tree, dict):
        raise UserError(f"config {path} should be a mapping with a runner section")
    config = Config(config_abs_dir=str(file.resolve().parent), yaml_path=path)
    for name, value in tree.items():
        if name not in SECTIONS:
            _warn_of_misspelt_section(path, str(name))
        elif name not in MAPPINGS or isinstance(value, dict):
            _flatten(name, value, config)
        elif value is not None:
            raise UserError(f"config {path}: {name} should be a mapping, got {value!r}")
    for override in overrides:
        _apply_override(override, config)
    _check_runner(config)
    return config


class _Exponent(str):
    """A number such as ``1e-3``, which YAML 1.1 reads as text; people mean the number."""

    pattern = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which marks unquoted text that is an :class:`_Exponent`."""

    def construct_exponent(self, node: yaml.Node) -> str:
        """A plain text that matched the pattern; a person may write the tag before any other."""
        text = self.construct_scalar(node)
        return _Exponent(text) if _Exponent.pattern.fullmatch(text) else text


_Loader.add_implicit_resolver(
    "!exponent", re.compile(f"(?:{_Exponent.pattern.pattern})$"), list("-+.0123456789")
)
_Loader.add_constructor("!exponent", _Loader.construct_exponent)


def _parse(text: str, what: str) -> Any:
    """The YAML value of a text.

    Raises:
        UserError: it is not YAML; the sentence begins with ``what``.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2024-13-45 is no date
        raise UserError(f"{what} not YAML: {_one_line(error)}") from error
    except RecursionError as error:
        raise UserError(f"{what} nested too deeply to be a config") from error


def _warn_of_misspelt_section(path: str, name: str) -> None:
    """Other sections are none of ours, unless one is almost called like ours."""
    near = difflib.get_close_matches(name.split(".")[0].lower(), MAPPINGS, n=1, cutoff=0.75)
    if near:
        warn(f"{path}: section {name} is not read; did you mean {near[0]}?")


def _apply_override(text: str, config: Config) -> None:
    """Set what ``key=value`` says; a mapping replaces a whole section.

    Raises:
        UserError: it is no such text, or it takes a value for a section or the other way round.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise UserError(f"-o {text}: expected key=value, for example -o runner.epochs=1")
    if parts[0] not in SECTIONS:
        raise UserError(f"-o {text}: key {key} should start with one of {', '.join(SECTIONS)}")
    value = _parse(value, f"-o {text}: value is")
    inner = [name for name in config if name.startswith(f"{key}.")]
    if (inner or key in MAPPINGS) and not isinstance(value, dict):
        example = f", for example -o {inner[0]}=..." if inner else ""
        raise UserError(f"-o {text}: {key} is a section, set one of its keys{example}")
    outer = [".".join(parts[:end]) for end in range(1, len(parts))]
    for name in [*outer, key] if isinstance(value, dict) else outer:
        if config.get(name) is not None:
            raise UserError(f"-o {text}: {name} is a value ({config[name]!r}), not a section")
        config.pop(name, None)
    for name in inner:
        del config[name]
    _flatten(key, value, config)


def _flatten(prefix: str, value: Any, into: Config) -> None:
    section, _, name = prefix.partition(".")
    key = _BY_NAME.get(name) if section == "runner" else None
    if len(into) >= MOST_KEYS or len(prefix) > LONGEST_KEY:
        # Anchors that refer to anchors make billions of keys of a few lines.
        raise UserError(f"{into['yaml_path']}: {section} holds too many keys, or too deep ones")
    if isinstance(value, dict):
        if key is not None:
            raise _wrong_type(into, key, value)
        for child, inner in value.items():
            _flatten(f"{prefix}.{child}", inner, into)
    else:
        is_text = key is not None and key.type in ("str", "list")
        into[prefix] = _exponents_as(str if is_text else float, value)


def _exponents_as(kind: type, value: Any) -> Any:
    """A value with each :class:`_Exponent` in it as text or as a number."""
    if isinstance(value, list):
        try:
            return [_exponents_as(kind, item) for item in value]
        except RecursionError as error:
            raise UserError("config: a list holds itself, or lists too deep") from error
    return kind(value) if isinstance(value, _Exponent) else value


def _check_runner(config: Config) -> None:
    for key, value in config.items():
        section, _, name = key.partition(".")
        if section != "runner":
            continue
        first, _, rest = name.partition(".")
        if rest and first in _BY_NAME:
            raise _wrong_type(config, _BY_NAME[first], {rest: value})
        if name not in _BY_NAME:
            warn(f"{config['yaml_path']}: {key} is not a key of these tools{_hint(name)}")
        elif value is not None and not _is_a(value, _BY_NAME[name].type):
            raise _wrong_type(config, _BY_NAME[name], value)
    for key in RUNNER_KEYS:
        value = config.get(f"runner.{key.name}")
        if key.type == "int" and value is not None:
            _check_range(config, key.name, value)
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
        raise UserError(
            f"{config['yaml_path']}: runner.valid_share should lie in [0, 1), "
            f"got {config.runner('valid_share')}"
        )
    if config.runner("bad_rows") not in ("error", "skip"):
        raise UserError(
            f"{config['yaml_path']}: runner.bad_rows should be error or skip, "
            f"got {config.runner('bad_rows')!r}"
        )


def _wrong_type(config: Config, key: Key, value: Any) -> UserError:
    return UserError(
        f"{config['yaml_path']}: runner.{key.name} should be of type {key.type}, got {value!r}"
    )


def _check_range(config: Config, name: str, value: int) -> None:
    least = _LEAST.get(name, value)
    if value < least or value > MOST:
        bound = f"at least {least}" if value < least else f"at most {MOST}"
        raise UserError(f"{config['yaml_path']}: runner.{name} should be {bound}, got {value}")


def _hint(name: str) -> str:
    """What an unknown key was perhaps meant to be, the closer the surer; empty if it is like none.

    A word in common counts much: ``keep`` is like ``keep_checkpoints``, not like ``seed``.
    """
    if name in _INSTEAD:
        return f"; see {_INSTEAD[name]}"

    def likeness(known: str) -> float:
        shared = set(name.split("_")) & set(known.split("_"))
        return difflib.SequenceMatcher(None, name, known).ratio() + 0.3 * len(shared)

    near = max(_BY_NAME, key=likeness)
    if likeness(near) >= 0.6:
        return f"; did you mean runner.{near}?"
    return f"; the nearest is runner.{near}" if likeness(near) >= 0.4 else ""


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, _TYPES[kind])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
