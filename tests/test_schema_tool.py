"""From a person's own file to a schema and a config: ``tools/schema.py``."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import ROOT, Result

from hyper_parameters import HyperParameters
from raw_tables.guess import guess_delimiter
from raw_tables.schema import Schema, load_schema
from raw_tables.suspects import auc
from raw_tables.tally import Tally
from rec_runner import describe
from rec_runner.config import load_config
from rec_runner.keys import BY_NAME
from table_reader import RecDataset

Tool = Callable[..., Result]
ROWS = 2400
SHOP_LABELS = ("--label", "click", "--label", "buy", "--label", "price_paid:regression")


def shop() -> dict[str, list[Any]]:
    """Columns of a small shop's table; None is blank."""
    rng = np.random.default_rng(7)
    click = (rng.random(ROWS) < 0.4).tolist()
    buy = [bool(rng.random() < 0.5) if c else None for c in click]
    city = rng.choice(["Berlin", "Lagos", "München", "Nowhere, at all", "北京"], ROWS).tolist()
    city[:3] = ["once", "twice", "thrice"]
    return {
        "row": list(range(ROWS)),
        "user_id": [f"u{n % 400}" for n in rng.integers(0, 400, ROWS)],
        "city": [c if rng.random() < 0.9 else None for c in city],
        "age": [int(a) if a > 17 else None for a in rng.integers(10, 90, ROWS)],
        "score": [round(float(s), 3) for s in rng.normal(size=ROWS)],
        "plan": rng.integers(1, 4, ROWS).tolist(),
        "zip_code": [f"0{z}" for z in rng.integers(1000, 1005, ROWS)],
        "country": ["DE"] * ROWS,
        "signup": [f"2024-{m:02d}-11" for m in rng.integers(1, 13, ROWS)],
        "mail": [f"{i}@example.org" for i in rng.permutation(ROWS)],
        "phone": [None] * ROWS,
        "w": rng.choice([0.5, 1.0, 2.0], ROWS).tolist(),
        "click": [int(c) for c in click],
        "buy": [None if b is None else int(b) for b in buy],
        "price_paid": [round(float(rng.gamma(2, 10)), 2) if b else None for b in buy],
    }


def text_of(table: dict[str, list[Any]], delimiter: str = ",", header: bool = True) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    lines = ([list(table)] if header else []) + [list(row) for row in zip(*table.values())]
    writer.writerows([["" if cell is None else cell for cell in line] for line in lines])
    return out.getvalue()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty model directory, and the working folder."""
    shutil.copy(ROOT / "table_reader.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    own = sys.modules.get("table_reader")
    # The tool sets numbers of threads, which later tests' processes would inherit.
    with mock.patch.dict(os.environ):
        yield tmp_path
    sys.modules.pop("table_reader", None)
    if own:
        sys.modules["table_reader"] = own


@pytest.fixture
def tool(home: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Runs the tool in ``home``; writes ``config_mine.yaml`` there unless told otherwise."""

    def run(*arguments: object) -> Result:
        words = [str(a) for a in arguments]
        out = [] if "-o" in words else ["-o", "config_mine.yaml"]
        try:
            status = describe.main([*words, *out])
        except SystemExit as stop:
            status = int(str(stop.code))
        return Result(status, *capsys.readouterr())

    return run


def ok(result: Result) -> Schema:
    assert result.status == 0, result.stderr
    return load_schema("schema.yaml")


def rows(*columns: Sequence[object], names: str = "") -> str:
    """A small text: its header, then its rows."""
    lines = [names.split()] if names else []
    return "\n".join(",".join(map(str, line)) for line in [*lines, *zip(*columns)]) + "\n"


def test_a_shop_is_described_as_a_person_would(home: Path, tool: Tool) -> None:
    (home / "shop.csv").write_text(text_of(shop()), encoding="utf-8")
    result = tool(
        "shop.csv", *SHOP_LABELS, "--weight", "w", "--group", "user_id", "--id", "user_id"
    )
    schema = ok(result)
    kinds = {column.name: column.kind for column in schema.columns}
    ignored = {name for name, kind in kinds.items() if kind == "ignore"}
    assert list(kinds) == list(shop())
    assert ignored == {"row", "country", "signup", "mail", "phone"}
    by_name = {column.name: column for column in schema.columns}
    assert [c.name for c in schema.numbers] == ["age", "score", "plan"]
    assert [c.missing for c in schema.numbers] == [True, False, False]
    city = by_name["city"]
    assert city.values == ("Berlin", "Lagos", "München", "Nowhere, at all", "北京")
    assert (city.other, city.missing) == (True, True)  # the three that were there once; blanks
    assert by_name["zip_code"].values == tuple(f"0{z}" for z in range(1000, 1005))
    user = by_name["user_id"]
    assert (user.kind, user.buckets, user.embedding, user.group) == ("id", 1000, 4, True)
    assert [(c.task, c.type, c.missing) for c in schema.labels] == [
        ("click", "binary", False),
        ("buy", "binary", True),
        ("price_paid", "regression", True),
    ]
    assert schema.weight == by_name["w"]
    table = result.stdout.splitlines()
    assert table[0].split() == "column kind values missing what is done with it".split()
    assert table[4].startswith("age") and "13" in table[4] or "10." in table[4]
    assert "are these codes? --category plan" in result.stdout
    warned = [line.removeprefix("warning: ") for line in result.sentences]
    assert [line.split(",")[0] for line in warned] == [
        'column "row" numbers the rows',
        'column "mail" has another value in nearly every row; it is left out',
        'column "phone" is blank in every row; it is left out',
        *[f'label "{n}" is known in only {s}% of the rows' for n, s in known_shares()],
    ]


def known_shares() -> list[tuple[str, str]]:
    table = shop()
    known = {n: 100 * sum(v is not None for v in table[n]) / ROWS for n in ("buy", "price_paid")}
    return [(name, f"{share:.3g}") for name, share in known.items()]


@pytest.mark.parametrize("form", [";gz", "\t", "|", "parquet", "reordered"])
def test_the_same_table_gives_the_same_schema_however_it_is_written(
    form: str, home: Path, tool: Tool
) -> None:
    table = shop()
    options = [*SHOP_LABELS, "--weight", "w"]
    (home / "shop.csv").write_text(text_of(table), encoding="utf-8")
    expected = ok(tool("shop.csv", *options))
    lines = text_of(table, ";" if form == ";gz" else form if len(form) == 1 else ",")
    if form == "parquet":
        columns = {n: pa.array(v, pa.string() if n == "phone" else None) for n, v in table.items()}
        pq.write_table(pa.table(columns), "same")
    elif form == ";gz":
        (home / "same").write_bytes(gzip.compress(lines.encode()))
    elif form == "reordered":  # the second half, with its columns in another order
        half = {name: table[name][: ROWS // 2] for name in table}
        rest = {name: table[name][ROWS // 2 :] for name in reversed(list(table))}
        (home / "same").mkdir()
        for name, part in (("a.csv", half), ("b.csv", rest)):
            (home / "same" / name).write_text(text_of(part), encoding="utf-8")
    else:
        (home / "same").write_text("\ufeff" + lines, encoding="utf-8")
    found = ok(tool("same", *options, "--force"))
    assert found.columns == expected.columns
    assert found.missing == expected.missing
    assert found.delimiter == ({";gz": ";"}.get(form, form) if form in (";gz", "\t", "|") else ",")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_reader_takes_every_row_that_was_described(form: str, home: Path, tool: Tool) -> None:
    table = shop()
    table["age"][:2] = ["unknown", "n.a."]
    columns = {n: pa.array(None if v is None else str(v) for v in c) for n, c in table.items()}
    pq.write_table(pa.table(columns), "shop.parquet")
    (home / "shop.csv").write_text(text_of(table), encoding="utf-8")
    options = [*SHOP_LABELS, "--weight", "w", "--group", "user_id", "--id", "user_id"]
    schema = ok(tool(f"shop.{form}", *options))
    config = {"hyper_parameters.schema": "schema.yaml", "config_abs_dir": str(home)}
    blocks = list(RecDataset([f"shop.{form}"], config).blocks())
    features, labels, weights = (
        np.concatenate([block[name] for block in blocks])
        for name in ("features", "labels", "weights")
    )
    assert len(features) == ROWS
    np.testing.assert_array_equal(weights, table["w"])
    wanted = [
        [np.nan if v is None else v for v in table[n]] for n in ("click", "buy", "price_paid")
    ]
    np.testing.assert_array_equal(labels, np.array(wanted, np.float32).T)
    blank = {n: sum(v is None for v in table[n]) for n in ("age", "city")}
    place = {name: features[:, i] for i, name in enumerate(schema.feature_names)}
    assert np.isnan(place["age"]).sum() == blank["age"] + 2  # those written in words
    city = next(c for c in schema.categories if c.name == "city")
    assert (place["city"] == len(city.values)).sum() == 3
    assert (place["city"] == len(city.values) + 1).sum() == blank["city"]


def test_rows_without_a_header_go_by_number(home: Path, tool: Tool) -> None:
    rng = np.random.default_rng(3)
    words = rng.choice(["Not in universe", "No", "?"], 300)
    codes, income = rng.integers(0, 9, 300), rng.choice(["- 50000.", "50000+."], 300, p=[0.9, 0.1])
    text = "\n".join(f"{w}, {c}, {w}, {i}" for w, c, i in zip(words, codes, income))
    (home / "census").write_text(text)
    result = tool("census", "--label", "4", "--category", 2)
    schema = ok(result)
    assert not schema.header
    first, second, _, label = schema.columns
    assert (first.name, first.values, first.missing) == ("c1", ("No", "Not in universe"), True)
    assert second.values == tuple("012345678")
    assert (label.positive, label.negative) == (("50000+.",), ("- 50000.",))
    assert "(told by itself)" in result.stdout
    assert schema.missing == ("", "?")
    refused = tool("census", "--label", "income", "--force")
    assert refused.sentences == [
        "error: --label income: there is no such column: columns are numbered from 1 to 4, as no "
        "first line names them (--header: it does)"
    ]


WARNED = {
    "leak": (
        rows([i % 2 for i in range(400)], [1 + i % 2 for i in range(400)], names="buy twin"),
        ["--label", "buy"],
        'column "twin" alone predicts label "buy"; is it known beforehand? else --ignore it',
    ),
    "equal": (
        rows([i % 2 for i in range(400)], [i % 2 for i in range(400)], names="buy twin"),
        ["--label", "buy"],
        'column "twin" equals label "buy"; is it known beforehand? else --ignore it',
    ),
    "leak of words": (
        rows([i % 2 for i in range(400)], ["abcd"[i % 4] for i in range(400)], names="buy twin"),
        ["--label", "buy"],
        'column "twin" alone predicts label "buy"; is it known beforehand? else --ignore it',
    ),
    "leak of a number": (
        rows(
            [i * 7 % 101 / 4 for i in range(400)],
            [i * 7 % 101 for i in range(400)],
            [i * i % 7 for i in range(400)],
            names="paid cents x",
        ),
        ["--label", "paid"],
        'column "cents" follows label "paid"; is it known beforehand? else --ignore it',
    ),
    "leak by being there": (
        rows(
            [i % 2 for i in range(400)],
            [i * 7 % 31 if i % 2 else "" for i in range(400)],
            names="buy refund",
        ),
        ["--label", "buy"],
        'column "refund" alone predicts label "buy"; is it known beforehand? else --ignore it',
    ),
    "named like it": (
        rows([i // 2 % 2 for i in range(40)], [i % 3 for i in range(40)], names="buy buy_count"),
        ["--label", "buy"],
        'column "buy_count" is named like label "buy"; if it is only known with it, --ignore it',
    ),
    "one class": (
        rows([0] * 40, [i % 3 for i in range(40)], names="buy x"),
        ["--label", "buy"],
        'label "buy" is 0 in every row; nothing can be learned',
    ),
    "row number": (
        rows(range(7, 47), [i % 2 for i in range(40)], [i % 3 for i in range(40)], names="n buy x"),
        ["--label", "buy"],
        'column "n" numbers the rows, which says nothing of other rows; it is left out',
    ),
    "few rows": (
        rows([0, 1, 1], [1, 3, 2], [1, 3, 1], [1, 3, 1], names="a b c d"),
        ["--label", "a"],
        "there are fewer rows (3) than columns (4)",
    ),
    "mostly blank": (
        rows([1, 0, 1, *[""] * 7], range(2, 22, 2), names="buy x"),
        ["--label", "buy"],
        'label "buy" is known in only 30% of the rows',
    ),
    "all missing": (
        rows([1, 0] * 10, ["NA"] * 20, [i % 3 for i in range(20)], names="buy x y"),
        ["--label", "buy"],
        'column "x" is blank in every row; it is left out',
    ),
    "odd texts": (
        rows([1, 0] * 100, ["unknown", *range(100, 299)], names="buy x"),
        ["--label", "buy"],
        'column "x" is numbers but for "unknown" (1 row), which is taken for missing',
    ),
    "decimal comma": (
        "buy;x\n" + "".join(f"{i % 2};{i % 9},5\n" for i in range(100)),
        ["--label", "buy"],
        'column "x" writes numbers with a decimal comma, which are read as words; write them with '
        "a point",
    ),
    "decimal comma in many values": (
        "buy;x;y\n" + "".join(f"{i % 2};{i % 600},5;{i % 3}\n" for i in range(1200)),
        ["--label", "buy"],
        'column "x" writes numbers with a decimal comma, which are read as words; write them with '
        "a point",
    ),
    "decimal comma in values of one row each": (
        "buy;x;y\n" + "".join(f"{i % 2};{i},5;{i % 3}\n" for i in range(100)),
        ["--label", "buy"],
        'column "x" writes numbers with a decimal comma, which are read as words; write them with '
        "a point",
    ),
    "more categories than can be listed": (
        rows([i % 2 for i in range(33_000)], [f"w{i}" for i in range(33_000)], names="buy x"),
        ["--label", "buy", "--category", "x"],
        'column "x" has too many values to be listed, about 3',
    ),
    "no name": (
        rows(range(5, 45), [1, 0] * 20, [i % 3 for i in range(40)], names="# buy x").replace(
            "#", ""
        ),
        ["--label", "buy"],
        "a column without a name is left out",
    ),
    "same number": (
        rows([3.5] * 40, [i % 3 for i in range(40)], names="paid x"),
        ["--label", "paid:regression"],
        'label "paid" is 3.5 in every row; nothing can be learned',
    ),
    "short row": (
        rows([1, 0] * 20, [i % 3 for i in range(40)], names="buy x") + "1\n",
        ["--label", "buy"],
        "1 row cannot be read and will be skipped: rows.csv:42: row has 1 columns, expected 2",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_people_trip_over_is_said(name: str, home: Path, tool: Tool) -> None:
    text, options, said = WARNED[name]
    (home / "rows.csv").write_text(text)
    result = tool("rows.csv", *options)
    schema = ok(result)
    assert [line for line in result.sentences if line.startswith(f"warning: {said}")]
    config = {"hyper_parameters.schema": "schema.yaml", "config_abs_dir": str(home)}
    bad = {"runner.bad_rows": "skip"} if name == "short row" else {}
    blocks = RecDataset(["rows.csv"], {**config, **bad}).blocks()
    assert {block["features"].shape[1] for block in blocks} == {schema.feature_size}
    assert all(line.startswith("warning: ") for line in result.sentences)


GOOD = rows([i // 3 % 2 for i in range(60)], [i % 3 for i in range(60)], names="click price")
REFUSED: dict[str, tuple[str | bytes, list[str], str]] = {
    "no such column": (
        GOOD,
        ["--label", "clik"],
        "--label clik: there is no such column; did you mean click?",
    ),
    "no such weight": (
        GOOD,
        ["--label", "click", "--weight", "w"],
        "--weight w: there is no such column; click, price",
    ),
    "no label": (GOOD, [], "--label is missing: which columns are to be predicted?"),
    "two names": ("a,b,a\n1,2,3\n", ["--label", "a"], 'rows.csv has two columns of the name "a"'),
    "named twice": (
        GOOD,
        ["--label", "click", "--weight", "click"],
        'column "click" is named twice; it can be one thing only',
    ),
    "empty": ("", ["--label", "a"], "rows.csv is empty"),
    "only a header": (
        "click,price\n",
        ["--label", "click"],
        "rows.csv holds no rows, only the names of columns",
    ),
    "many values": (
        rows(["red", "blue", "green"] * 20, range(0, 120, 2), names="colour x"),
        ["--label", "colour"],
        'label "colour" has 3 values ("red", "blue", "green"); say which mean 1, such as --label '
        '"colour=green"',
    ),
    "no such value": (
        rows(["red", "blue"] * 20, range(0, 80, 2), names="colour x"),
        ["--label", "colour=rot"],
        'label "colour" has no value "rot", but "red", "blue"',
    ),
    "one text": (
        rows(["yes"] * 20, range(0, 40, 2), names="buy x"),
        ["--label", "buy"],
        'label "buy" has one value only, "yes"; two are expected',
    ),
    "no value": (
        rows([""] * 20, range(0, 40, 2), names="buy x"),
        ["--label", "buy"],
        'label "buy" is blank in every row',
    ),
    "no number": (
        rows(["a", "b"] * 20, range(0, 80, 2), names="buy x"),
        ["--label", "buy:regression"],
        'label "buy" should be numbers for a regression, and has "a", "b"',
    ),
    "odd type": (
        GOOD,
        ["--label", "click:rank"],
        "--label click:rank: expected regression or binary after the colon",
    ),
    "negative weight": (
        rows([1, 0] * 20, range(-1, 79, 2), [i % 3 for i in range(40)], names="buy w x"),
        ["--label", "buy", "--weight", "w"],
        'weight "w" should not be negative, and goes down to -1',
    ),
    "blank weight": (
        rows([1, 0] * 20, ["", *range(39)], [i % 3 for i in range(40)], names="buy w x"),
        ["--label", "buy", "--weight", "w"],
        'weight "w" is blank in 1 of 40 rows; each needs a weight',
    ),
    "no feature": (
        rows([1, 0] * 20, [3] * 40, names="buy x"),
        ["--label", "buy"],
        "rows.csv has no column left to predict from",
    ),
    "not UTF-8": (
        ("click,ort\n" + "1,M\xfcnchen\n" * 101).encode("latin-1"),
        ["--label", "click"],
        'more than 100 rows cannot be read, the first is rows.csv:2: column "ort": '
        "'M\ufffdnchen' is not UTF-8 text, expected the file to be saved as UTF-8",
    ),
    "UTF-16": (
        GOOD.encode("utf-16"),
        ["--label", "click"],
        "rows.csv: is text in UTF-16 (save it as UTF-8)",
    ),
    "a workbook": (
        b"PK\x03\x04" + bytes(40),
        ["--label", "click"],
        "rows.csv: is a zip archive or an Excel workbook (.xlsx)",
    ),
    "damaged gzip": (
        gzip.compress(GOOD.encode())[:-20],
        ["--label", "click"],
        "rows.csv: damaged gzip",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_in_a_sentence(name: str, home: Path, tool: Tool) -> None:
    text, options, said = REFUSED[name]
    (home / "rows.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = tool("rows.csv", *options)
    assert (result.status, len(result.sentences)) == (2, 1), result.stderr
    assert result.sentences[0].startswith(f"error: {said}")
    assert not (home / "schema.yaml").exists() and not (home / "config_mine.yaml").exists()


def test_test_rows_need_not_have_what_is_left_out(home: Path, tool: Tool) -> None:
    days = [f"2024-01-{i % 28 + 1:02d}" for i in range(60)]
    x, y = [i // 3 % 2 for i in range(60)], [i % 3 for i in range(60)]
    (home / "a.csv").write_text(rows(x, y, days, y, names="click price day note"))
    (home / "b.csv").write_text(GOOD)
    assert ok(tool("a.csv", "--test", "b.csv", "--label", "click", "--ignore", "note")).features


def test_dates_of_parquet_are_shown_as_dates(home: Path, tool: Tool) -> None:
    table = pa.table(
        {
            "click": [i // 3 % 2 for i in range(60)],
            "x": [i % 3 for i in range(60)],
            "bytes": pa.array([b"a", b"b"] * 30),
            "day": pa.array([None if i < 6 else i for i in range(60)], pa.date32()),
        }
    )
    pq.write_table(table, "rows.parquet")
    result = tool("rows.parquet", "--label", "click")
    assert ok(result).of_kind("ignore")
    unread, line = (re.split("  +", line) for line in result.stdout.splitlines()[3:5])
    assert unread == ["bytes", "ignore", "binary", "left out: binary"]
    days = "54: 1970-01-07, 1970-01-08, 1970-01-09, …"
    assert line == ["day", "ignore", days, "10.0%", "left out: dates or times"]


def test_files_that_do_not_go_together_are_refused(home: Path, tool: Tool) -> None:
    (home / "a.csv").write_text(GOOD)
    (home / "b.csv").write_text(GOOD.replace("price", "cost"))
    nested = pa.table({"click": [0, 1], "price": pa.array([[1], [2]])})
    pq.write_table(nested, "nested.parquet")
    for files, said in (
        (["a.csv", "b.csv"], 'b.csv has no column "price", which a.csv has'),
        (["a.csv", "--test", "b.csv"], '--test b.csv lacks column "price", which a.csv has'),
        (["a.csv", "--test", "b.csv", "--weight", "price"], '--test b.csv lacks column "price"'),
        (["a.csv", "--test", "./a.csv"], "--test a.csv: it is among the rows to train on"),
        (["nested.parquet"], 'nested.parquet: column "price" is of type list<'),
        (["c.csv"], "FILES: c.csv is not a folder, nor a file"),
        (["c*.parquet"], "FILES: no file has a name like c*.parquet"),
    ):
        result = tool(*files, "--label", "click")
        assert (result.status, len(result.sentences)) == (2, 1), result.stderr
        assert result.sentences[0].startswith(f"error: {said}")


def test_nothing_is_written_over_and_both_files_or_none(
    home: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "rows.csv").write_text(GOOD)
    (home / "other").mkdir()
    label = ("--label", "click")
    ok(tool("rows.csv", *label))
    before = [(home / name).read_bytes() for name in ("schema.yaml", "config_mine.yaml")]
    other = "another name, --force writes over it"
    for options, said in (
        ([], f"-o config_mine.yaml: it is there already; -o gives {other}"),
        (["-o", "new.yaml"], f"--schema schema.yaml: it is there already; --schema gives {other}"),
        (["-o", "rows.csv", "--force"], "-o rows.csv: these are the rows; give another name"),
        (["-o", "other"], "-o other: it is a folder, the name of a file is expected"),
        (["-o", "no/x.yaml"], "-o no/x.yaml: there is no folder no"),
        (["-o", "x.yaml", "--schema", "x.yaml"], "--schema x.yaml: it is the config's name too"),
        (["-o", "other/x.yaml"], "-o other/x.yaml: a config's folder is its model directory, and "),
    ):
        result = tool("rows.csv", *label, *options)
        assert (result.status, len(result.sentences)) == (2, 1), result.stderr
        assert result.sentences[0].startswith(f"error: {said}")
    calls = iter([None, OSError(28, "No space left on device")])

    def sync(stream: object) -> None:
        if error := next(calls):
            raise error

    monkeypatch.setattr(describe, "sync_file", sync)
    result = tool("rows.csv", *label, "--force", "--category", "price")
    assert (result.status, len(result.sentences)) == (1, 1)
    assert "cannot be written: No space left on device" in result.stderr
    assert [(home / n).read_bytes() for n in ("schema.yaml", "config_mine.yaml")] == before
    assert sorted(p.name for p in home.iterdir() if "part" in p.name) == []


def test_a_directory_whose_describe_is_wrong_is_named(home: Path, tool: Tool) -> None:
    (home / "rows.csv").write_text(GOOD)
    place = f"{home / 'table_reader.py'}"
    for code, said in (
        ("", f"{place} has no function describe"),
        ("describe = 1", f"{place} has no function describe"),
        ("import no_such_module", f"{place} cannot be imported: ModuleNotFoundError: "),
        ("def describe(files, options): return {}", f"{place}: describe should return schema, "),
        ("def describe(files, options): 1 / 0", f"{place}: describe failed: ZeroDivisionError: "),
    ):
        (home / "table_reader.py").write_text(code)
        sys.modules.pop("table_reader", None)
        result = tool("rows.csv", "--label", "click")
        assert (result.status, len(result.sentences)) == (2, 1), result.stderr
        assert result.sentences[0].startswith(f"error: {said}")


def test_names_may_have_signs_in_them(home: Path, tool: Tool) -> None:
    lines = zip(["a", "b", "c", "c"] * 20, [0, 1] * 40, [x * x % 7 for x in range(80)])
    text = "paid:by=whom,x=1,x,y\n" + "".join(f"{w},{i},{i * n},{n}\n" for w, i, n in lines)
    (home / "rows.csv").write_text(text)
    schema = ok(tool("rows.csv", "--label", "paid:by=whom=a,b", "--label", "x=1"))
    assert [(c.name, c.positive) for c in schema.labels] == [
        ("paid:by=whom", ("a", "b")),
        ("x=1", ()),
    ]


def test_the_config_is_one_that_the_trainer_takes(home: Path, tool: Tool) -> None:
    for day in range(3):
        (home / "rows").mkdir(exist_ok=True)
        (home / "rows" / f"day{day}.csv").write_text(GOOD)
    result = tool("rows/day0.csv", "rows/day1.csv", "--label", "click", "--test", "rows/day2.csv")
    assert result.status == 2  # the pattern would take the test rows too
    assert "put them into a folder of their own" in result.stderr
    (home / "rows" / "day2.csv").rename(home / "rows" / "test.csv")
    result = tool("rows/day0.csv", "rows/day1.csv", "--label", "click", "--test", "rows/test.csv")
    assert ok(result).labels
    tree = yaml.safe_load((home / "config_mine.yaml").read_text(encoding="utf-8"))
    assert tree["runner"]["train_data_dir"] == "rows/day*.csv"
    assert tree["runner"]["test_data_dir"] == "rows/test.csv"
    assert "test_share" not in tree["runner"]
    config = load_config("config_mine.yaml")
    assert config["hyper_parameters.schema"] == "schema.yaml"
    assert "trainer.py -m config_mine.yaml" in result.stdout
    unknown = {key.split(".")[1] for key in config if key.startswith("runner.")} - BY_NAME.keys()
    assert unknown <= {"test_share", "test_at_end"}, "keys that the engine's branch adds"
    assert HyperParameters.from_config(config).bottom_size == (32,)


@pytest.mark.parametrize(
    "name, values, kind, said",
    [
        ("day", ["2024-01-05", "2023-12-31"], "ignore", "dates or times"),
        ("day", ["5.1.2024 12:30", "31.12.2023 08:00"], "ignore", "dates or times"),
        ("day", ["Jan 5, 2024", "Dec 31, 2023"], "ignore", "dates or times"),
        ("day", ["2024年1月5日", "2023年12月31日"], "ignore", "dates or times"),
        ("day", ["20240105", "20231231"], "ignore", "dates or times"),
        ("created_at", ["1700000000", "1700000301"], "ignore", "dates or times"),
        ("clock", ["12:30", "08:15:59"], "ignore", "dates or times"),
        ("ware", ["shoes 2024", "books 1999"], "category", "2 inputs"),
        ("user_id", ["7", "9", "11"], "category", "3 inputs"),
        ("userId", [str(7 * n) for n in range(300)], "id", "hashed to 1,000 buckets"),
        ("paid", [str(7 * n) for n in range(300)], "number", "a number"),
        ("plz", ["01067", "10115"], "category", "2 inputs"),
        ("zip", ["10115", "20095"], "category", "2 inputs"),
        ("age", ["17", "NA", "-", "19"], "number", "and whether it is there"),
        ("land", ["NA", "DE", "none"], "category", "3 inputs"),
        ("land", ["?", "DE", "FR"], "category", "2 inputs of 0 or 1, one for missing"),
        ("plan", ["0", "1", "2"], "number", "are these codes? --category plan"),
        ("text", [f"word {n}" for n in range(300)], "id", "a learned vector of 4"),
        ("flag", ["true", "false"], "category", "2 inputs"),
        ("size", ["1e400", *map(str, range(100))], "number", "and whether it is there"),
        ("account", ["9000000000000001", "9000000000000002"], "category", "2 inputs of 0 or 1"),
        ("size", ["16777216", "16777218"], "number", "a number"),
    ],
)
def test_kinds_are_told_from_values_and_names(
    name: str, values: list[str], kind: str, said: str, home: Path, tool: Tool
) -> None:
    rng = np.random.default_rng(0)
    cells = [values[i % len(values)] for i in rng.permutation(1200)]
    x, y = rng.integers(0, 2, 1200), rng.normal(size=1200).round(3)
    table = {name: cells, "y": y.tolist(), "buy": x.tolist()}
    (home / "rows.csv").write_text(text_of(table), encoding="utf-8")
    result = tool("rows.csv", "--label", "buy")
    column = ok(result).columns[0]
    assert (column.name, column.kind) == (name, kind)
    assert said in result.stdout.splitlines()[1]
    config = {"hyper_parameters.schema": "schema.yaml", "config_abs_dir": str(home)}
    assert sum(len(b["labels"]) for b in RecDataset(["rows.csv"], config).blocks()) == 1200


@pytest.mark.parametrize(
    "values, positive",
    [
        (["no", "yes"], ("yes",)),
        (["2", "1"], ("2",)),
        (["-1", "1"], ("1",)),
        (["left", "left", "stayed"], ("stayed",)),
        (["1.0", "0.0"], ()),
        (["TRUE", "False"], ()),
    ],
)
def test_the_value_that_means_yes_is_told(
    values: list[str], positive: tuple[str, ...], home: Path, tool: Tool
) -> None:
    (home / "rows.csv").write_text(rows(values * 20, range(0, 40 * len(values), 2), names="a x"))
    schema = ok(tool("rows.csv", "--label", "a"))
    assert schema.labels[0].positive == positive
    assert schema.labels[0].negative == tuple({*values} - {*positive} if positive else ())


def test_many_values_are_counted_in_little_memory() -> None:
    tally = Tally(1000)
    numbers = np.random.default_rng(1).integers(0, 100_000, 300_000)
    for part in np.array_split(numbers, 30):
        tally.add(pa.array(part).cast(pa.string()))
    assert len(tally.counts) <= 1000
    assert tally.distinct == pytest.approx(len(np.unique(numbers)), rel=0.1)
    assert (tally.low, tally.high, tally.is_number) == (numbers.min(), numbers.max(), True)


def test_delimiters_are_told_from_the_lines() -> None:
    for text, expected in (
        ("a;b\n1,5;2\n2,5;3\n", ";"),
        ("1,5;2,5\n2,5;3,5\n", ";"),
        ("a,b\nx;y,1\nz,2\n", ","),
        ("id,title,genres\n1,Heat,Action|Crime\n2,Up,Drama\n", ","),
        ('a,b\n"x;1",2\n"y;2",3\n', ","),
        ("a\tb c\n1\t2\n", "\t"),
        ("alone\n1\n2\n", ","),
    ):
        assert guess_delimiter(text) == expected, text


def test_auc_of_ties_is_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(5)
    positive, scores = rng.random(500) < 0.3, rng.integers(0, 9, 500).astype(float)
    assert auc(positive, scores) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
