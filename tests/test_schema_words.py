"""The words of a schema: each of them, and each of them wrong, in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raw_tables.schema import (
    Column,
    Schema,
    SchemaError,
    configured_schema,
    difference,
    load_schema,
)

SHOP = """
columns:                       # a shop
  - {name: age, kind: number, missing: true}
  - {name: city, kind: category, values: [Berlin, 'New York', 1, 2.50, no, null, "?"], other: true}
  - {name: user_id, kind: id, buckets: 1000, embedding: 8, group: true}
  - {name: signup, kind: ignore}
  - {name: spent, kind: number}
  - {name: click, kind: label}
  - {name: buy, kind: label, task: bought, positive: [y, yes], negative: [n], missing: true}
  - {name: paid, kind: label, type: regression}
  - {name: w, kind: weight}
missing: ["", "-"]
delimiter: tab
header: false
"""


def load(folder: Path, text: str) -> Schema:
    """The schema of a text."""
    file = folder / "schema.yaml"
    file.write_text(text, encoding="utf-8")
    return load_schema(file)


def refused(folder: Path, text: str) -> str:
    """What is said of a text, after the file's name."""
    with pytest.raises(SchemaError) as caught:
        load(folder, text)
    said = str(caught.value)
    start = f"schema {folder / 'schema.yaml'}"
    assert said.startswith(start)
    assert said.isprintable()
    assert caught.value.user_error
    return said[len(start) :].removeprefix(":").strip()


def test_every_word_is_read(tmp_path: Path) -> None:
    schema = load(tmp_path, SHOP)
    assert schema == Schema(
        (
            Column("age", "number", missing=True),
            # As written: text is compared with text.
            Column(
                "city",
                "category",
                values=("Berlin", "New York", "1", "2.50", "no", "null", "?"),
                other=True,
            ),
            Column("user_id", "id", buckets=1000, embedding=8, group=True),
            Column("signup", "ignore"),
            Column("spent", "number"),
            Column("click", "label", task="click"),
            Column(
                *("buy", "label"),
                task="bought",
                positive=("y", "yes"),
                negative=("n",),
                missing=True,
            ),
            Column("paid", "label", task="paid", type="regression"),
            Column("w", "weight"),
        ),
        missing=("", "-"),
        delimiter="\t",
        header=False,
    )
    assert schema.feature_names == ("age", "spent", "city", "user_id")
    assert schema.feature_size == 4
    assert schema.task_names == ("click", "bought", "paid")
    assert schema.task_types == ("binary", "binary", "regression")
    assert schema.blank_labels
    assert schema.weight == Column("w", "weight")
    assert schema.group is not None and schema.group.name == "user_id"


def test_what_is_not_written_has_a_default(tmp_path: Path) -> None:
    schema = load(
        tmp_path,
        "columns: [{name: a, kind: number}, {name: c, kind: category, values: [x]},"
        " {name: i, kind: id}, {name: l, kind: label}]",
    )
    assert schema.as_dict() == {
        "columns": [
            {"name": "a", "kind": "number", "missing": False},
            {
                **{"name": "c", "kind": "category", "values": ["x"]},
                **{"other": False, "missing": False, "group": False},
            },
            {"name": "i", "kind": "id", "buckets": 100_000, "embedding": 16, "group": False},
            {
                **{"name": "l", "kind": "label", "task": "l", "type": "binary"},
                **{"positive": [], "negative": [], "missing": False},
            },
        ],
        "missing": ["", "?", "NA", "null"],
        "delimiter": ",",
        "header": True,
        "tasks": ["l"],
    }
    assert not schema.blank_labels
    assert schema.weight is schema.group is None


def test_the_checksum_is_of_what_is_meant(tmp_path: Path) -> None:
    first = load(tmp_path, SHOP).checksum
    assert first == load(tmp_path, SHOP.replace(" # a shop", "").replace("tab", '"\\t"')).checksum
    assert first != load(tmp_path, SHOP.replace("1000", "1001")).checksum
    assert len(first) == 64


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_delimiters(delimiter: str, tmp_path: Path) -> None:
    assert load(tmp_path, SHOP.replace("tab", f'"{delimiter}"')).delimiter == delimiter


COLUMN = 'column "{}": '
WRONG = {
    # what is replaced in SHOP, by what, what is said
    "name_missing": ("name: age, kind", "kind", "column 1 (from 1): name is missing"),
    "name_blank": (
        "name: age",
        "name: ''",
        "column 1 (from 1): name should be a text, got nothing",
    ),
    "name_list": ("name: age", "name: [a]", "column 1 (from 1): name should be a text, got a list"),
    "name_stripped": (
        *("name: age", "name: ' age'"),
        "column 1 (from 1): name should not begin or end with blanks, got ' age'",
    ),
    "name_twice": ("name: spent", "name: age", 'two columns have the name "age"'),
    "no_mapping": (
        *("{name: signup, kind: ignore}", "signup"),
        "column 4 (from 1): should be a mapping with name and kind, got 'signup'",
    ),
    "kind_missing": (
        *("{name: signup, kind: ignore}", "{name: signup}"),
        'column "signup": kind is missing, expected one of number, category, id, label, weight, '
        "group, ignore",
    ),
    "kind_misspelt": (
        *("{name: signup, kind: ignore}", "{name: signup, knd: ignore}"),
        'column "signup": "knd" is no word; did you mean kind?',
    ),
    "kind": (
        *("kind: ignore", "kind: skip"),
        'column "signup": kind should be one of number, category, id, label, weight, group, ignore,'
        " got 'skip'",
    ),
    "kind_mapping": ("kind: ignore", "kind: {a: b}", 'column "signup": kind should be one of'),
    "word": (
        *("kind: ignore", "kind: ignore, note: x"),
        'column "signup": "note" is no word of kind ignore; expected name, kind',
    ),
    "word_misspelt": (
        *("buckets", "bucket"),
        'column "user_id": "bucket" is no word of kind id; did you mean buckets?',
    ),
    "word_of_another_kind": (
        *("name: spent,", "name: spent, buckets: 3,"),
        'column "spent": "buckets" is no word of kind number; expected name, kind, missing',
    ),
    "number_missing": (
        *("missing: true}\n  - {name: city", "missing: yes}\n  - {name: city"),
        "column \"age\": missing should be one of true, false, got 'yes'",
    ),
    "values_missing": (
        *("values: [Berlin, 'New York', 1, 2.50, no, null, \"?\"], ", ""),
        'column "city": values is missing, expected the list of its categories',
    ),
    "values_empty": (
        *("[Berlin, 'New York', 1, 2.50, no, null, \"?\"]", "[]"),
        'column "city": values should list at least one text',
    ),
    "values_text": (
        *("[Berlin, 'New York', 1, 2.50, no, null, \"?\"]", "Berlin"),
        "column \"city\": values should be a list of texts, got 'Berlin'",
    ),
    "values_nested": ("[Berlin,", "[[Berlin],", 'column "city": values should be a list of texts'),
    "values_twice": ("[Berlin,", "[no,", "column \"city\": values lists 'no' twice"),
    "values_blanks": (
        *("[Berlin,", "[' Berlin',"),
        "column \"city\": values: ' Berlin' should not begin or end with blanks, of which cells are"
        " stripped",
    ),
    "other": ("other: true", "other: 1", 'column "city": other should be one of true, false'),
    "group": ("group: true", "group: []", 'column "user_id": group should be one of true, false'),
    "buckets_0": (
        *("buckets: 1000", "buckets: 0"),
        "column \"user_id\": buckets should be a whole number from 1 to 16777214, got '0'",
    ),
    "buckets_many": ("buckets: 1000", "buckets: 16777215", "from 1 to 16777214, got '16777215'"),
    "buckets_fraction": ("buckets: 1000", "buckets: 1e3", "got '1e3'"),
    "buckets_negative": ("buckets: 1000", "buckets: -1", "got '-1'"),
    "buckets_long": ("buckets: 1000", "buckets: " + "9" * 5000, "buckets should be a whole number"),
    "buckets_list": ("buckets: 1000", "buckets: [1]", "got a list"),
    "embedding": (
        *("embedding: 8", "embedding: 4097"),
        "column \"user_id\": embedding should be a whole number from 1 to 4096, got '4097'",
    ),
    "task": ("task: bought", "task: ''", 'column "buy": task should be a text, got nothing'),
    "task_line": (
        *("task: bought", 'task: "a\\nb"'),
        "column \"buy\": task should be one line of text, got 'a\\nb'",
    ),
    "task_twice": ("task: bought", "task: click", 'two columns have the task "click"'),
    "type": (
        *("type: regression", "type: ranking"),
        "column \"paid\": type should be one of binary, regression, got 'ranking'",
    ),
    "positive_empty": ("[y, yes]", "[]", 'column "buy": positive should list at least one text'),
    "positive_text": ("[y, yes]", "y", 'column "buy": positive should be a list of texts'),
    "positive_regression": (
        *("type: regression", "type: regression, positive: [a]"),
        'column "paid": positive does not go with type regression',
    ),
    "negative_alone": (
        *("positive: [y, yes], ", ""),
        'column "buy": negative does not go without positive',
    ),
    "negative_is_positive": (
        *("negative: [n]", "negative: [n, yes]"),
        "column \"buy\": negative and positive both have 'yes'",
    ),
    "label_missing": ("[n], missing: true", "[n], missing: maybe", 'column "buy": missing should'),
    "weight_twice": (
        "kind: ignore",
        "kind: weight",
        'column "w": weight is column "signup" already',
    ),
    "group_twice": ("kind: ignore", "kind: group", 'column "signup": group is column "user_id"'),
    "missing": ('missing: ["", "-"]', "missing: none", "missing should be a list of texts, got"),
    "missing_twice": ('["", "-"]', "['', '']", "missing lists '' twice"),
    "missing_blanks": ('["", "-"]', "[' ']", "missing: ' ' should not begin or end with blanks"),
    "delimiter": (
        *("delimiter: tab", "delimiter: ':'"),
        'delimiter should be one of ",", ";", "\\t", tab, "|", got \':\'',
    ),
    "header": (
        "header: false",
        "header: maybe",
        "header should be one of true, false, got 'maybe'",
    ),
    "no_word": ("header: false", "headers: false", '"headers" is no word; did you mean header?'),
    "key_twice": ("header: false", "header: false\nheader: true", '"header" is given twice, in'),
    "key_twice_on_a_line": ("kind: ignore", "kind: ignore, kind: id", "a key of line 6 is given"),
    "merge": ("header: false", "<<: {header: false}", '"<<" is no word'),
    "list_as_key": ("header: false", "[a]: b", "is given twice, or is no text"),
    "a_tag": ("header: false", "header: !!python/name:os.system ''", "header should be one of"),
    "not_yaml": ("columns:", "columns: ]", "is not YAML: "),
    "two_documents": ("header: false", "header: false\n---\na: b", "is not YAML: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_word_is_one_sentence(case: str, tmp_path: Path) -> None:
    old, new, said = WRONG[case]
    assert SHOP.count(old) == 1
    assert said in refused(tmp_path, SHOP.replace(old, new))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "should be a mapping with columns"),
        ("[a]", "should be a mapping with columns"),
        ("header: true", "columns should be a list of columns, got nothing"),
        ("columns: {a: number}", "columns should be a list of columns, got a mapping"),
        ("columns: []", "columns should list at least one column"),
        ("columns: [{name: a, kind: number}]", "columns should have one of kind label"),
        (
            "columns: [{name: a, kind: label}]",
            "columns should have a feature, of kind number, category, id",
        ),
        pytest.param("[" * 1000, "is nested too deeply", id="deep"),
        ("a: &a [*a]", "is not YAML: found unconstructable recursive node"),
        ("columns: [[a]]", "column 1 (from 1): should be a mapping with name and kind, got a list"),
        ("a\0b", "is not YAML: "),
    ],
)
def test_what_is_no_schema_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, text)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"columns: \xe9")
    for name, said in (
        ("none", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("a\0b", "cannot be read: "),
        ("latin", "is not UTF-8 text: "),
    ):
        with pytest.raises(SchemaError, match=f"^schema .*{said}"):
            load_schema(f"{tmp_path}/{name}")


def test_a_config_names_its_schema(tmp_path: Path) -> None:
    schema = load(tmp_path, SHOP)
    config: dict[str, Any] = {"config_abs_dir": str(tmp_path)}
    assert configured_schema(config) is None
    config["hyper_parameters.schema"] = "schema.yaml"
    assert configured_schema(config) == schema
    for wrong in (3, "", ["schema.yaml"]):
        config["hyper_parameters.schema"] = wrong
        with pytest.raises(SchemaError, match="hyper_parameters.schema should be the name of a f"):
            configured_schema(config)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("", "", None),
        ("delimiter: tab", "", None),
        ("header: false", "header: true", None),
        ("  - {name: signup, kind: ignore}\n", "", None),
        ("name: signup, kind: ignore", "name: left, kind: ignore", None),
        (
            *("name: signup, kind: ignore", "name: signup, kind: number"),
            'column "signup" of kind number was not used before',
        ),
        (
            *("name: spent, kind: number", "name: spent, kind: ignore"),
            'column "spent" of kind number is not used now',
        ),
        (
            *("name: spent, kind: number", "name: spent, kind: id"),
            "column \"spent\": kind was 'number' and is 'id'",
        ),
        ("1000", "999", 'column "user_id": buckets was 1000 and is 999'),
        ("group: true", "group: false", 'column "user_id": group was True and is False'),
        ("Berlin, ", "", 'column "city": values no longer has "Berlin"'),
        ("Berlin, ", "Berlin, Lagos, ", 'column "city": values did not have "Lagos"'),
        (
            *("Berlin, 'New York'", "'New York', Berlin"),
            'column "city": values has the same texts in another order',
        ),
        ("task: bought", "task: buy", "column \"buy\": task was 'bought' and is 'buy'"),
        ('["", "-"]', '["-"]', 'missing no longer has ""'),
    ],
)
def test_a_difference_is_named(old: str, new: str, said: str | None, tmp_path: Path) -> None:
    was, now = (load(tmp_path, text).as_dict() for text in (SHOP, SHOP.replace(old, new)))
    assert difference(was, now) == said
    assert (difference(now, was) is None) == (said is None)


def test_another_order_of_a_kind_is_a_difference(tmp_path: Path) -> None:
    was = load(tmp_path, SHOP).as_dict()
    tree = yaml.load(SHOP, yaml.BaseLoader)
    tree["columns"].reverse()
    now = load(tmp_path, yaml.dump(tree)).as_dict()
    assert difference(was, now) == 'columns "age" and "spent" of kind number changed places'


@pytest.mark.parametrize(
    "was", [{}, {"features": ["a"]}, {"columns": 1, "missing": []}, {"columns": [[]]}]
)
def test_what_is_no_schema_differs(was: dict[str, Any], tmp_path: Path) -> None:
    assert difference(was, load(tmp_path, SHOP).as_dict()) == "one of the two is no schema"


LABELS = "{name: x, kind: number}, {name: a, kind: label, task: one}, {name: b, kind: label}"


def test_tasks_are_in_the_order_that_is_written(tmp_path: Path) -> None:
    columns = f"columns: [{LABELS}]"
    assert load(tmp_path, columns).task_names == ("one", "b")
    turned = load(tmp_path, f"{columns}\ntasks: [b, one]")
    assert turned.task_names == ("b", "one")
    assert [label.name for label in turned.labels] == ["b", "a"]
    clause = difference(load(tmp_path, columns).as_dict(), turned.as_dict())
    assert clause == "tasks has the same texts in another order"


@pytest.mark.parametrize("tasks", ["[b]", "[a, b]", "[one, b, c]"])
def test_tasks_are_those_of_the_labels(tmp_path: Path, tasks: str) -> None:
    with pytest.raises(SchemaError, match='tasks should list the tasks .*, "one", "b", in any'):
        load(tmp_path, f"columns: [{LABELS}]\ntasks: {tasks}")
