"""YAML text as values: the safe loader, with bounds on what a few lines can make of themselves."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain
from typing import Any

import yaml

from rec_runner.system.errors import UserError

MOST_VALUES = 100_000
DEEPEST = 50
LONGEST_NUMBER = 100  # characters; longer ones are slow to convert, or are no float


class Exponent(str):
    """A number such as ``1e-3``, which YAML 1.1 reads as text; people mean the number."""

    # No two parts of it can match the same digits: it would try all ways to share them out.
    pattern = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which marks unquoted text that is an :class:`Exponent`."""

    def construct_exponent(self, node: yaml.Node) -> str:
        """A plain text that matched the pattern; a person may write the tag before any other."""
        text = self.construct_scalar(node)
        return Exponent(text) if Exponent.pattern.fullmatch(text) else text


_Loader.add_implicit_resolver(
    "!exponent", re.compile(f"(?:{Exponent.pattern.pattern})$"), list("-+.0123456789")
)
_Loader.add_constructor("!exponent", _Loader.construct_exponent)


class _Unfit(Exception):
    """What is wrong with a text, as the end of a sentence."""


def parse_yaml(text: str, what: str, section: str = "", among: Collection[str] = ()) -> Any:
    """The value of a YAML text; all that it holds is counted before any of it is made.

    Args:
        text: one YAML document.
        what: what it is, for sentences.
        section: dotted name of its value, for sentences.
        among: the top-level keys that are looked into for keys given twice; empty: all.

    Raises:
        UserError: it is not YAML; a key is given twice; or aliases and merges make more of it, it
            is deeper or has a longer number than any config.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        _check_given_once(node, section, among, {})
        return loader.construct_document(node)
    except _Unfit as error:
        raise UserError(f"{what}{error}") from error
    except RecursionError as error:
        raise UserError(f"{what} is nested too deeply to be a config") from error
    except Exception as error:  # of a tag such as !!bool before what is none: nearly any
        said = isinstance(error, (yaml.YAMLError, ValueError))  # ValueError: 2024-13-45 is no date
        fault = " ".join(str(error).split()) if said else "a tag does not fit its value"
        raise UserError(f"{what} is not YAML: {fault}") from error


def _measure(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """Values in a node, those that aliases and merges repeat counted each time, and its depth."""
    if node in known:
        values, depth = known[node]
        if not values:
            raise _Unfit(f": what line {_line(node)} names holds itself")
        return values, depth
    known[node] = 0, 0
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > LONGEST_NUMBER and node.tag != "tag:yaml.org,2002:str":
            length = f"{len(node.value)} characters, at most {LONGEST_NUMBER} are"
            raise _Unfit(f": line {_line(node)} has a number of {length} expected")
        known[node] = 1, 1
        return 1, 1
    pairs = isinstance(node, yaml.MappingNode)
    inner = [_measure(n, known) for n in (chain.from_iterable(node.value) if pairs else node.value)]
    values = 1 + sum(values for values, _ in inner)
    depth = 1 + max((depth for _, depth in inner), default=0)
    if values > MOST_VALUES:
        most = f"more than {MOST_VALUES} values, counting what aliases repeat"
        raise _Unfit(f": line {_line(node)} holds {most}")
    if depth > DEEPEST:
        raise _Unfit(" is nested too deeply to be a config")
    known[node] = values, depth
    return values, depth


def _check_given_once(
    node: yaml.Node, section: str, among: Collection[str], lines: dict[str, int]
) -> None:
    """Refuse a dotted name that is given twice, of which YAML would take the last.

    What ``<<`` merges is there to be given again, and not looked at.
    """
    for place, item in enumerate(node.value if isinstance(node, yaml.SequenceNode) else ()):
        _check_given_once(item, f"{section}[{place}]", (), {})
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if among and key.value not in among:
            continue
        name = f"{section}.{key.value}" if section else key.value
        if name in lines:
            raise _Unfit(f": {name} is given twice, in lines {lines[name]} and {_line(key)}")
        lines[name] = _line(key)
        _check_given_once(value, name, (), lines)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
