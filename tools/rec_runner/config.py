"""The YAML config, flattened to dotted keys, checked once and trusted from then on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rec_runner.keys import BY_NAME, Key, hint
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn
from rec_runner.system.safe_yaml import Exponent, parse_yaml

SECTIONS = ("runner", "hyper_parameters", "workspace")
MAPPINGS = SECTIONS[:2]  # workspace is a value


MOST_KEYS = 10_000
LONGEST_KEY = 1_000
LONGEST_SHOWN = 200


class Config(dict):
    """Flat mapping of dotted keys to values; models and readers index it or call ``get``.

    ``config["config_abs_dir"]`` is the model directory and ``config["yaml_path"]`` the file.
    """

    def runner(self, name: str) -> Any:
        """The value of ``runner.<name>``, or its default, see :data:`keys.RUNNER_KEYS`."""
        value = self.get(f"runner.{name}")
        return BY_NAME[name].default if value is None else value

    def is_set(self, name: str) -> bool:
        """Whether ``runner.<name>`` is given, and not as its default."""
        return self.get(f"runner.{name}") not in (None, BY_NAME[name].default)

    def required(self, name: str) -> Any:
        """As :meth:`runner`, for a key without which the tool cannot work.

        Raises:
            UserError: the config does not have the key.
        """
        value = self.runner(name)
        if value is None:
            raise UserError(
                f"{self['yaml_path']}: runner.{name} is missing: {BY_NAME[name].meaning}"
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
    except ValueError as error:  # a NUL character
        raise UserError(f"config {path!r} cannot be read: {error}") from error
    tree = parse_yaml(text, f"config {path}", among=SECTIONS)
    if not isinstance(tree, dict):
        raise UserError(f"config {path} should be a mapping with a runner section")
    config = Config(config_abs_dir=str(file.resolve().parent), yaml_path=path)
    for name, value in tree.items():
        if name not in SECTIONS:
            _warn_of_misspelt_section(path, str(name))
        elif name not in MAPPINGS or isinstance(value, dict):
            _flatten(name, value, config)
        elif value is not None:
            raise UserError(f"config {path}: {name} should be a mapping, got {_shown(value)}")
    for override in overrides:
        _apply_override(override, config)
    _check_runner(config)
    return config


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
    value = parse_yaml(value, f"-o {text}: value", section=key)
    inner = [name for name in config if name.startswith(f"{key}.")]
    if (inner or key in MAPPINGS) and not isinstance(value, dict):
        example = f", for example -o {inner[0]}=..." if inner else ""
        raise UserError(f"-o {text}: {key} is a section, set one of its keys{example}")
    outer = [".".join(parts[:end]) for end in range(1, len(parts))]
    for name in [*outer, key] if isinstance(value, dict) else outer:
        if config.get(name) is not None:
            raise UserError(f"-o {text}: {name} is a value ({_shown(config[name])}), not a section")
        config.pop(name, None)
    for name in inner:
        del config[name]
    _flatten(key, value, config)


def _flatten(prefix: str, value: Any, into: Config) -> None:
    section, _, name = prefix.partition(".")
    key = BY_NAME.get(name) if section == "runner" else None
    if len(into) >= MOST_KEYS or len(prefix) > LONGEST_KEY:
        # Anchors that refer to anchors make billions of keys of a few lines.
        raise UserError(f"{into['yaml_path']}: {section} holds too many keys, or too deep ones")
    if isinstance(value, dict):
        if key is not None:
            raise _bad_value(into, key, value)
        for child, inner in value.items():
            _flatten(f"{prefix}.{child}", inner, into)
    else:
        is_text = key is not None and key.type in ("str", "list")
        into[prefix] = _exponents_as(str if is_text else float, value)


def _exponents_as(kind: type, value: Any) -> Any:
    """A value with each :class:`Exponent` in it as text or as a number."""
    if isinstance(value, list):
        return [_exponents_as(kind, item) for item in value]
    return kind(value) if isinstance(value, Exponent) else value


def _check_runner(config: Config) -> None:
    for key, value in config.items():
        section, _, name = key.partition(".")
        if section != "runner":
            continue
        first, _, rest = name.partition(".")
        if rest and first in BY_NAME:
            raise _bad_value(config, BY_NAME[first], {rest: value})
        if name not in BY_NAME:
            warn(f"{config['yaml_path']}: {key} is not a key of these tools{hint(name)}")
        elif value is not None and BY_NAME[name].fault(value):
            raise _bad_value(config, BY_NAME[name], value)
    if config.runner("use_fleet"):
        raise UserError(
            f"{config['yaml_path']}: runner.use_fleet is not supported yet; "
            "set -o runner.use_fleet=false"
        )


def _bad_value(config: Config, key: Key, value: Any) -> UserError:
    what = f"runner.{key.name} {key.fault(value)}"
    return UserError(f"{config['yaml_path']}: {what}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """A value for a sentence, which has no room for a long one."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
