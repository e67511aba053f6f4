"""From a person's files to a schema, a config, and what to say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import yaml

from raw_tables.kinds import (
    Decision,
    all_marks,
    decide_features,
    missing_share,
    text_marks,
    value_text,
)
from raw_tables.label_kinds import (
    decide_group,
    decide_label,
    decide_weight,
    find_column,
    find_columns,
    read_labels,
)
from raw_tables.profile import Profile, TableError, look_at, profile
from raw_tables.recipe import Table, ready_config
from raw_tables.schema import parse_schema
from raw_tables.suspects import leaks, odd_shapes
from raw_tables.words import quoted

TITLES = ("column", "kind", "values", "missing", "what is done with it")
FEATURE_OPTIONS = ("category", "id", "ignore")
HEAD = """\
# What each column is, told by tools/schema.py from {rows:,} rows; yours to change. A kind is one of
#   number    as it is, standardised in the network    category  one input for each of its values
#   id        hashed, with a learned vector             label     what is predicted: a task
#   weight    weighs the row in loss and metrics        group     for AUC within each group
#   ignore    left out
"""


@dataclass(frozen=True)
class Description:
    """What ``tools/schema.py`` shows and writes.

    Attributes:
        schema: text of the schema.
        config: text of a config.
        table: a line for each column, the first with titles.
        warnings: sentences.
    """

    schema: str
    config: str
    table: Sequence[Sequence[str]]
    warnings: Sequence[str]


def describe(files: Sequence[str], options: Mapping[str, Any]) -> Description:
    """Make a schema and a config of some files.

    Args:
        files: paths of text files, plain or gzip, or of Parquet files.
        options: ``label``, ``category``, ``id``, ``ignore`` (lists), ``weight``, ``group`` (a name
            or None) as a person gave them; ``delimiter``, ``header`` (None: to be told from the
            files); ``test_files`` (a list); ``config``, keys that are to stand in the config, as
            :func:`raw_tables.recipe.ready_config` takes them.

    Raises:
        TableError: of these files, or with these options, no schema can be made.
        OSError: a file cannot be read.
    """
    named = _named(options)
    form = look_at(files[0], named, options["delimiter"], options["header"])
    # Mistyped names are told before all rows are read.
    asked = read_labels(options["label"], form)
    if not asked:
        raise TableError("--label is missing: which columns are to be predicted?")
    single = {
        kind: find_column(options[kind], form, f"--{kind}")
        for kind in ("weight", "group")
        if options[kind] is not None
    }
    kinds = {kind: find_columns(options[kind], form, f"--{kind}") for kind in FEATURE_OPTIONS}
    feature_group = single.get("group") in (*kinds["category"], *kinds["id"])
    others = [name for kind, name in single.items() if not (kind == "group" and feature_group)]
    _check_once([a.name for a in asked], others, *kinds.values())
    found = profile(files, named, form.delimiter or None, form.header)
    _check_types(
        found, {a.name for a in asked}.union(others, kinds["category"], kinds["id"]), kinds
    )
    decisions = {a.name: decide_label(a, found.tallies[a.name]) for a in asked}
    for kind, decide in (("weight", decide_weight), ("group", decide_group)):
        if single.get(kind) in others:
            decisions[single[kind]] = decide(single[kind], found.tallies[single[kind]])
    wanted = {name: kind for kind, names in kinds.items() for name in names}
    decisions.update(decide_features(found, decisions, wanted))
    if feature_group:
        group = decisions[single["group"]]
        group.words["group"] = True
        group.fate += "; its rows are a group"
    used = [name for name, decision in decisions.items() if decision.kind != "ignore"]
    for file in options["test_files"]:
        _check_test_file(file, found, named, used)
    tasks = [decisions[a.name].words.get("task", a.name) for a in asked]
    return _described(found, {name: decisions[name] for name in found.tallies}, tasks, options)


def _named(options: Mapping[str, Any]) -> set[str]:
    """Names of columns that a person gave; they tell a header from a row."""
    parts = {options[kind] for kind in ("weight", "group") if options[kind]}
    for kind in FEATURE_OPTIONS:
        parts.update(chain(*([text, *text.split(",")] for text in options[kind])))
    for text in options["label"]:
        parts |= {text, text.split("=")[0], text.split(":")[0]}
        parts.update(text.split(",") if "=" not in text else ())
    return {part.strip() for part in parts if part.strip() and not part.strip().isdigit()}


def _check_once(*lists: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in chain(*lists):
        if name in seen:
            raise TableError(f"column {quoted(name)} is named twice; it can be one thing only")
        seen.add(name)


def _check_types(found: Profile, used: set[str], kinds: Mapping[str, Sequence[str]]) -> None:
    """Whether the columns of Parquet files are of types that rows can be made of."""
    for name, type_ in found.types.items():
        what = f"column {quoted(name)} is of type {type_}, expected numbers, text or true and false"
        if name in used:
            raise TableError(f"{found.files[0]}: {what}")
        if pa.types.is_nested(type_) and name not in kinds["ignore"]:
            raise TableError(f"{found.files[0]}: {what}; --ignore {name} leaves it out")


def _check_test_file(file: str, found: Profile, named: set[str], used: Sequence[str]) -> None:
    """Whether a file to test on has the columns that are used."""
    own = look_at(file, named, found.form.delimiter or None, found.form.header)
    lacking = [name for name in used if name not in own.names]
    if lacking:
        first = found.files[0]
        raise TableError(f"--test {file} lacks column {quoted(lacking[0])}, which {first} has")


def _described(
    found: Profile,
    decisions: Mapping[str, Decision],
    tasks: Sequence[str],
    options: Mapping[str, Any],
) -> Description:
    labels = [d for d in decisions.values() if d.kind == "label"]
    features = [d for d in decisions.values() if d.kind in ("number", "category", "id")]
    if not features:
        raise TableError(f"{found.files[0]} has no column left to predict from")
    nameless = found.form.names.count("")
    warnings = [
        *_bad_rows(found),
        *["a column without a name is left out"] * bool(nameless),
        *odd_shapes(found.rows, decisions),
        *(said for decision in decisions.values() for said in decision.warnings),
        *leaks(found.sample, features, labels),
    ]
    inputs = sum(map(_inputs, features))
    types = [label.words.get("type", "binary") for label in labels]
    kinds = {d.kind for d in features}
    given = options["config"]
    schema = _schema_text(found, decisions, tasks)
    parse_schema(schema, f"the schema of {found.files[0]}")
    return Description(
        schema,
        ready_config(Table(found.rows, inputs, kinds, types, bool(found.bad_rows)), given),
        [TITLES, *(_line(name, d, found) for name, d in decisions.items())],
        warnings,
    )


def _bad_rows(found: Profile) -> list[str]:
    count = found.bad_rows
    rows = "1 row" if count == 1 else f"{count} rows"
    return [f"{rows} cannot be read and will be skipped: {found.bad}"] if count else []


def _inputs(decision: Decision) -> int:
    words = decision.words
    extra = words.get("other", False) + words.get("missing", False)
    return {"number": 1, "category": len(words.get("values", ())), "id": words.get("embedding", 0)}[
        decision.kind
    ] + extra


def _line(name: str, decision: Decision, found: Profile) -> tuple[str, ...]:
    tally = found.tallies[name]
    marks = decision.marks or text_marks(tally)
    share = missing_share(tally, marks)
    if name in found.types and not tally.known:
        return name, decision.kind, str(found.types[name]), "", decision.fate
    missing = "" if not share else f"{100 * share:.1f}%" if share >= 0.001 else "<0.1%"
    return name, decision.kind, value_text(tally, decision.kind), missing, decision.fate


class _Dumper(yaml.SafeDumper):
    """Writes texts that look like numbers or dates without quotes: a schema is read as text."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in known
        if tag.rpartition(":")[2] not in ("int", "float", "timestamp")
    ]
    for first, known in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


def _schema_text(found: Profile, decisions: Mapping[str, Decision], tasks: Sequence[str]) -> str:
    lines = [HEAD.format(rows=found.rows) + "columns:"]
    for decision in decisions.values():
        comment = f"  # {decision.fate}" if decision.kind == "ignore" else ""
        lines.append(f"  - {_flow(decision.words)}{comment}")
    if len(tasks) > 1:
        lines.append(f"tasks: {_flow(list(tasks))}  # in this order")
    lines.append(f"missing: {_flow(list(all_marks(decisions)))}")
    if found.form.delimiter:
        delimiter = {"\t": "tab"}.get(found.form.delimiter, found.form.delimiter)
        lines.append(f'delimiter: "{delimiter}"')
        lines.append(f"header: {str(found.form.header).lower()}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text = yaml.dump(
        _as_text(value),
        Dumper=_Dumper,
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=1 << 30,
    )
    return text.rstrip("\n")


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value if isinstance(value, (str, bool)) else str(value)
