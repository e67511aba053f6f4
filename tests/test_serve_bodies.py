"""The body of a request: what is refused before rows are made of it, and what a thread makes."""

from __future__ import annotations

from typing import Any

import pytest

from rec_runner.service.answers import Refusal
from rec_runner.service.body import is_large, rows_of
from rec_runner.service.limits import Limits


class NoReader:
    """What nothing should be read with."""

    names = ("a", "b")
    feature_size = 2

    def text(self, data: bytes) -> Any:
        raise AssertionError("read")

    objects = arrays = text


@pytest.mark.parametrize(
    "line", [b"x\n", b'"\n', b"1,2\r\n", b"1,2\r", b"\n \r\n\t1,2\n", b'"a\nb"\n']
)
def test_text_of_too_many_lines_is_refused_before_it_is_read(line: bytes) -> None:
    """Four million lines of junk took minutes and gigabytes."""
    with pytest.raises(Refusal) as refused:
        rows_of("text/csv", line * 102, NoReader(), Limits(rows=100))
    assert refused.value.status == 413 and "100 rows" in refused.value.message


@pytest.mark.parametrize(
    "text", [b"a,b\n" + b"1,2\n" * 100, b"\n" * 500 + b"1,2\n", b" \r\n" * 500]
)
def test_a_header_and_blank_lines_are_no_rows(text: bytes) -> None:
    with pytest.raises(AssertionError, match="read"):
        rows_of("text/csv", text, NoReader(), Limits(rows=100))


@pytest.mark.parametrize("row", [b"[]", b"{}", b"[[]]", b'{"a":[]}'])
def test_json_of_too_many_lists_is_refused_before_it_is_parsed(row: bytes) -> None:
    """Three million empty lists kept the other requests waiting for seconds."""
    with pytest.raises(Refusal) as refused:  # what is parsed is found to be no JSON: it ends early
        rows_of("application/json", b"[" + (row + b",") * 2000, NoReader(), Limits(rows=100))
    assert refused.value.status == 413 and "100 rows" in refused.value.message


def test_brackets_in_texts_are_let_by() -> None:
    rows = b"[" + b",".join([b'{"a": "[x] [y]", "b": "{}"}'] * 100) + b"]"
    with pytest.raises(AssertionError, match="read"):
        rows_of("application/json", rows, NoReader(), Limits(rows=100))


def test_a_thread_makes_rows_of_what_is_large_or_many() -> None:
    assert not is_large(b"[[1, 2]]") and not is_large(b"a,b\n1,2\n")
    for body in (
        b" " * 40_000,
        b"1\n" * 1000,
        b"1\r" * 1000,
        b"[" + b"[]," * 999 + b"[]]",
        b"{}," * 999,
    ):
        assert is_large(body)
