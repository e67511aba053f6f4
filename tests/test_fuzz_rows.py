"""The row parser against an oracle: whatever the bytes are, no crash and no wrong row.

``FUZZ_EXAMPLES=100000 pytest tests/test_fuzz_rows.py`` runs longer than the suite should.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from row_oracle import CHOSEN, NAMED, UNNAMED, cells, check, expected, number

from csv_layout import Layout

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "800"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 800,
    database=None,
    suppress_health_check=list(HealthCheck),
)

LABELS = [b"0", b"1", b"1.0", b" 1", b"-0", b"0e9", b"10e-1", b"+1", b"\t0 ", b"1e-60"]
NUMBERS = [
    *LABELS,
    *(b"-.5", b"5.", b"1E+3", b"1e-400", b"0" * 60 + b"7", b"3.1415926535897932384626433832795"),
    # Next to the largest float32, halfway to what comes after it, and between two smallest ones.
    *(b"3.4028235e38", b"3.4028235677973366e38", b"340282356779733661637539395458142568447"),
    *(b"340282356779733661637539395458142568448", b"1.4e-45", b"7.006492321624085e-46", b"7e-46"),
    # Rounds otherwise if it becomes a float64 first.
    *(
        b"1.000000059604644775390625",
        b"1.00000005960464477539062500000001",
        b"16777217",
        b"8388609.5",
    ),
    *(b"0e999999999999", b"1e-999999999999", b"0." + b"0" * 50 + b"1e51"),
]
BAD = [
    *(b"", b" ", b"nan", b"NaN", b"-inf", b"Infinity", b"1e39", b"-1e999999999999", b"0x1", b'"1"'),
    *(
        b"1 2",
        b"1_0",
        b"1\0",
        b"\0",
        b"\xd9\xa1",
        b"1e",
        b"e1",
        b".",
        b"-",
        b"+-1",
        b"1.2.3",
        b"1,1",
    ),
    *(
        b"\xef\xbb\xbf1",
        b"\xff",
        b"1\x0b",
        b"\x0c",
        b"1\xc2\xa0",
        b"1f",
        b"1e1.5",
        b"9" * 60,
        b"a" * 60,
    ),
]
label = st.sampled_from(LABELS)
value = st.one_of(
    st.sampled_from(NUMBERS),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: repr(x).encode()),
    st.floats(-1e39, 1e39).map(lambda x: b"%.20e" % x),
    st.integers(-(10**40), 10**40).map(lambda x: b"%d" % x),
)
good_row = st.tuples(label, value, label, value).map(b",".join)


def quoted(cell: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The cell, with quotes around it or not."""
    frames = st.sampled_from([b'"%s"', b'"%s"', b"%s", b' "%s"', b'"%s"\t', b'" %s"'])
    return st.tuples(frames, cell).map(lambda pair: pair[0] % pair[1])


quoted_row = st.tuples(*map(quoted, (label, value, label, value))).map(b",".join)
quotes = st.text('"",, 10a', max_size=8).map(str.encode)
odd_cell = st.one_of(value, st.sampled_from(BAD), st.binary(max_size=6), quoted(value), quotes)
odd_row = st.lists(odd_cell, max_size=6).map(b",".join)
row = st.one_of(good_row, good_row, quoted_row, good_row, quoted_row, odd_row)
line_end = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\r\n", b"\n \t\n"])
head = st.sampled_from(
    [
        *(b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2, b"\xef\xbb", b"a,b,c,d\r\n"),
        *(b'"a","b, ""c""",c ,"d"\n', b'\xef\xbb\xbf"a" ,"b,c", ",",d\r', b'"a\nb",c,d,e\n'),
        *(b'a"b,"c,d,e\n', b'a "b,c",d,e\n', b'"1","a","b","c"\n', b'"","b",c,d\n', b'""""""\n'),
        *(
            b"0x0,0x1,0x0,0x2\n",
            b"'0','1','1','2'\n",
            b'"""0""",#,#,\xc2\xa01\n',
            b"#1,\xc3\xa9,?,?\n",
        ),
        *(b"0\xa0,\xe9,?,?\n", b"\xa00,#,%,2f\n", b"\xef\xbc\x91,?,?,?\n", b"1a,-b,2,?\n"),
        *(b"PAR1", b"PAR1,b,c,d\n", b"PK\3\4", b"BZh91", b"\xfd7zXZ\0", b'"\xef\xbb\xbf0",'),
    ]
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Rows, most of them good, with all sorts of line ends; some bytes may be changed."""
    rows = draw(st.lists(st.tuples(row, line_end), max_size=14))
    data = bytearray(draw(head) + b"".join(map(b"".join, rows)))
    if draw(st.booleans()):
        data += draw(good_row)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 5]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


digit = st.sampled_from([b"%d" % number for number in range(10)])
bit = st.sampled_from([b"0", b"1"])
digit_row = st.tuples(bit, st.one_of(digit, value), bit, digit).map(b",".join)
# Nearly single digits, and rows of a few cells more or less.
near_cell = st.sampled_from(
    [
        *(b"10", b"-1", b"+1", b" 1", b"1 ", b'"1"', b".5", b"1.", b"-0", b"1e", b"0x1", b"x"),
        *(
            b"",
            b" ",
            b"\r",
            b"1\r",
            b"\r1",
            b"\n",
            b"\xef\xbb\xbf1",
            b"\0",
            b"\xb1",
            b":",
            b"/",
            b"1;",
        ),
    ]
)
near_row = st.lists(st.one_of(digit, digit, near_cell), max_size=7).map(b",".join)


@st.composite
def digit_texts(draw: st.DrawFn) -> bytes:
    """Rows that end in single digits, and perhaps some that nearly do."""
    kind = st.one_of(digit_row, digit_row, near_row) if draw(st.booleans()) else digit_row
    rows = draw(st.lists(kind, min_size=1, max_size=14))
    end = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    data = bytearray(end.join(rows) + draw(st.sampled_from([end, end, b"", end * 2, b"\r", b" "])))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.one_of(near_cell, st.sampled_from([b",", b"\n", b",0", b"7"])))
        data[at : at + draw(st.integers(0, 2))] = new
    return bytes(data)


# Columns of files that are matched by name, and the cells of each.
weight = st.one_of(value, st.sampled_from([b"0", b"-0", b"1", b"-1", b"-1e-60", b"3e38", b"inf"]))
text = st.one_of(
    st.sampled_from(
        [b"", b"Oslo", b'"a, b"', b'"say ""hi"""', b'x"', b'"', b'"1"2', b"\0", b"\xff"]
    ),
    st.binary(max_size=5).map(lambda cell: cell.replace(b",", b";")),
    quotes,
)
blank = st.sampled_from([b"", b"", b" ", b"\t", b'""', b'" "', b"nan", b"0", b"1"])
COLUMNS = {
    b"y": st.one_of(label, blank),
    b"a": value,
    b"note": text,
    b"z": st.one_of(value, blank),
    b"b": st.one_of(value, bit),
    b"w": weight,
}
OTHER_NAMES = [b"y", b"A", b"extra", b'"say ""so"", or not"', b"\xe9", b" a", b"1", b""]


@st.composite
def named_texts(draw: st.DrawFn) -> bytes:
    """Rows under a header of another order, perhaps with more columns, fewer, or one twice."""
    columns = list(COLUMNS)
    if draw(st.booleans()):
        columns = draw(st.permutations(columns))
    names = list(columns)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(names)))
        names.insert(at, draw(st.sampled_from(OTHER_NAMES)))
        columns.insert(at, b"note")
    if draw(st.sampled_from([False] * 5 + [True])):
        at = draw(st.integers(0, len(names) - 1))
        names[at] = draw(st.sampled_from(OTHER_NAMES))
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))
    some = st.tuples(*(COLUMNS[name] for name in columns)).map(b",".join)
    whole = st.tuples(*(st.sampled_from([b"0", b"1"]) for _ in columns)).map(b",".join)
    kind = st.one_of(some, some, whole, odd_row) if draw(st.booleans()) else st.one_of(some, whole)
    rows = draw(st.lists(kind, max_size=10))
    header = [b",".join(names)] * draw(st.sampled_from([1, 1, 1, 0]))
    data = bytearray(end.join([*header, *rows]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.one_of(st.just(b'"'), st.binary(max_size=2))
        )
    return bytes(data)


@st.composite
def zipped(draw: st.DrawFn) -> bytes:
    """A compressed text, perhaps cut short or with a byte changed."""
    data = bytearray(gzip.compress(draw(texts()), mtime=0))
    damage = draw(st.sampled_from(["none", "cut", "byte", "more"]))
    if damage == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif damage == "byte":
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    elif damage == "more":
        data += draw(st.binary(max_size=8))
    return bytes(data)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the fuzzed bytes are put."""
    folder = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path_factory.mktemp("fuzz")
    file = folder / f"fuzzed-{os.getpid()}.txt"
    yield file
    file.unlink(missing_ok=True)


@fuzzed
@given(
    data=st.one_of(
        *(texts(), texts(), texts(), digit_texts(), digit_texts(), zipped()),
        st.binary(max_size=60),
    ),
    block_bytes=st.sampled_from([1, 3, 8, 20, 50, 100, 1 << 16, 1 << 16]),
)
def test_the_parser_agrees_with_the_oracle(data: bytes, block_bytes: int, file: Path) -> None:
    want = check(file, data, block_bytes)
    event(
        "damaged" if want.damaged else f"{min(len(want.bad), 1)} bad, {min(len(want.rows), 1)} good"
    )


@settings(parent=fuzzed, max_examples=EXAMPLES // 2)
@given(
    data=st.one_of(named_texts(), named_texts(), named_texts(), digit_texts(), texts()),
    block_bytes=st.sampled_from([1, 8, 20, 50, 1 << 16, 1 << 16]),
    layout=st.sampled_from([NAMED, NAMED, UNNAMED, CHOSEN]),
)
def test_columns_by_name_agree_with_the_oracle(
    data: bytes, block_bytes: int, layout: Layout, file: Path
) -> None:
    want = check(file, data, block_bytes, layout=layout)
    event(
        "damaged" if want.damaged else f"{min(len(want.bad), 1)} bad, {min(len(want.rows), 1)} good"
    )


@settings(parent=fuzzed, max_examples=EXAMPLES // 10)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(good_row.filter(lambda r: len(r) < 90), st.just(b"x" * 200)),
            st.sampled_from([b"\n", b"\r\n", b"\r"]),
        ),
        max_size=12,
    ),
    final=st.sampled_from([b"", b"1,2,0,4", b"y" * 300]),
    block_bytes=st.sampled_from([1, 2, 7, 64, 99]),
)
def test_a_line_that_is_too_long_costs_no_other_line(
    rows: list[tuple[bytes, bytes]], final: bytes, block_bytes: int, file: Path
) -> None:
    data = b"0,1,1,0\n" + b"".join(map(b"".join, rows)) + final
    check(file, data, block_bytes, longest=100)


@pytest.mark.parametrize(
    "text, value",
    [
        (b" +.5e1\t", 5.0),
        (b"16777217", 16777216.0),
        (b"1.4e-45", 2.0**-149),
        (b"3.4028235e38", (2 - 2.0**-23) * 2.0**127),
        (b"340282356779733661637539395458142568447", (2 - 2.0**-23) * 2.0**127),
        (b"340282356779733661637539395458142568448", float("inf")),
        (b"1e999999999999", float("inf")),
        (b"1e-999999999999", 0.0),
        (b"-", None),
        (b"1e", None),
        (b"nan", None),
    ],
)
def test_the_oracle_reads_numbers(text: bytes, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "line, found",
    [
        (b'"a, b", "c""d" ,"","""",e', [b"a, b", b'c"d', b"", b'"', b"e"]),
        (b'"1"2,3"4,"5', [b'"1"2', b'3"4', b'"5']),
        (b'"1" "2",""', [b'"1" "2"', b""]),
        (b"", [b""]),
    ],
)
def test_the_oracle_reads_quotes(line: bytes, found: list[bytes]) -> None:
    assert cells(line) == found


def test_the_oracle_reads_a_file() -> None:
    want = expected(b"\xef\xbb\xbfa,b,c,d\r\n0,1.5,1,-2\r\r\n0,1,2,3\n0,1,1\n \n1,0,0,9")
    assert want.rows == [[1.5, -2, 1, 0], [0, 9, 0, 1]]  # features, then labels
    assert want.bad == [4, 5]


SLOW = {
    "digits_then_a_letter": b"0,1,1," + b"1" * 2_000_000 + b"x",
    "digits": b"0,1,1," + b"1" * 2_000_000,
    "small_number": b"0,1,1,." + b"0" * 2_000_000 + b"1",
    "spaces": b"0,1,1," + b" " * 2_000_000 + b"x",
    "commas": b"," * 2_000_000,
    "carriage_returns": b"\r" * 2_000_000,
    "nothing_but_bad_rows": b"x\n" * 1_000_000,
    "zeros": b"\0" * 2_000_000,
    "quotes": b'"' * 12_000_000,
    "quoted_numbers": b'"1",' * 3_000_000,
    "open_quote": b'0,"' + b" " * 2_000_000,
}


def test_nothing_takes_long(tmp_path: Path) -> None:
    """Text on which a careless pattern takes minutes or gigabytes; in a process of its own."""
    script = "import sys; from pathlib import Path; from row_oracle import parse\n"
    script += "from resource import RUSAGE_SELF, getrusage\n"
    script += "before = getrusage(RUSAGE_SELF).ru_maxrss\n"
    script += "for name in sys.argv[1:]:\n  for cap in (0, 100):\n"
    script += "    try: parse(Path(name), cap)\n    except ValueError as error: print(error)\n"
    script += "print((getrusage(RUSAGE_SELF).ru_maxrss - before) // 1024)"
    files = []
    for name, data in SLOW.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(data)
    process = _python(script, *map(str, files), timeout=60)
    assert process.returncode == 0, process.stderr
    *told, megabytes = process.stdout.splitlines()
    assert int(megabytes) < 300
    refused = [Path(line.split(":")[0]).name for line in told]
    assert refused == [
        *("digits_then_a_letter", "digits", "spaces", "commas"),
        *("nothing_but_bad_rows", "nothing_but_bad_rows"),  # more than 100 of them
        *("zeros", "quotes", "quoted_numbers", "open_quote"),
    ]


def test_a_line_of_100_mb_takes_bounded_memory(tmp_path: Path) -> None:
    """Good rows around it are kept where bad ones are skipped; all of it stays under 300 MB."""
    good = b"0,1,1,0\n"
    for name, piece in (("digits", b"1" * (1 << 20)), ("commas", b"1," * (1 << 19))):
        with open(tmp_path / name, "wb") as stream:
            stream.write(good)
            for _ in range(100):
                stream.write(piece)
            stream.write(b"\n" + good * 2)
    script = """
import resource, sys
from pathlib import Path
from row_oracle import parse
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        parse(Path(name), 0)
    except ValueError as error:
        print(error)
    got = parse(Path(name), 1)
    print(len(got.labels), got.count, *got.first)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    files = [tmp_path / "digits", tmp_path / "commas"]
    process = _python(script, *map(str, files), timeout=120)
    assert process.returncode == 0, process.stderr
    *told, megabytes = process.stdout.splitlines()
    for file, error, skipped in zip(files, told[::2], told[1::2]):
        assert error == f"{file}:2: line is longer than 16 MB"
        assert skipped == f"3 1 {error}"
    assert int(megabytes) < 300


def _python(script: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
