"""Coverage-guided fuzzing of the row parser with Atheris, a development tool.

    pip install atheris numpy pyarrow
    python fuzz/fuzz_rows.py corpus/ -max_total_time=600

Every input is parsed, in the mode that stops at a bad row and in the one that skips it, and
compared with the oracle of the tests, ``tests/row_oracle.py``. The options are libFuzzer's
(https://llvm.org/docs/LibFuzzer.html); inputs that reach new code are kept in ``corpus/``. What it
finds belongs into ``tests/test_fuzz_rows.py`` or ``tests/test_reader.py``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
PARSER = ["csv_arrow", "csv_blocks", "csv_digits", "csv_layout", "csv_line", "csv_text"]
with atheris.instrument_imports(include=PARSER):
    from row_oracle import LAYOUTS, check

SEEDS = (
    b"0,1,1,0\n1,2.5e-3,0,-7\r\n",
    b"0,1.5,1,7\n1,-2,0,3\n0,99,1,4\n",
    b"0,3,1,7\r\n1,2,0,3\r\n0,9,1,14\r\n",
    b"\xef\xbb\xbfa,b,c,d\r0,1,1,0\r\r1,1,1\n",
    b" 0 ,+.5,1., 3.4028235e38\n0,nan,1,1e39\n0,\0,1,0",
    b'"a","b, ""c""",c, "d"\n"0","1.5" ,1,0\n"1"2,"3,0,1\n',
    b'b,y,w,note,"z",a,extra\n1.5,,2,Oslo,1,-3,\n0,1,0.5,"a, b",,7,x\n',
    b"1,2,x,0.5,3,1\n,2,,,3,1\n",
)


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    folders = [name for name in sys.argv[1:] if not name.startswith("-")]
    if folders:
        Path(folders[0]).mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(SEEDS):
            start = bytes([number + 17 * max(0, number - 5)])
            (Path(folders[0]) / f"seed-{number}").write_bytes(start + seed)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        file = Path(folder) / "rows.txt"

        def test_one(data: bytes) -> None:
            # The first byte says how long the parser's blocks are, 1, 2, 4 ... 64 kB, and which
            # columns are expected.
            layout, size = divmod(data[0] if data else 0, 17)
            check(file, data[1:], 1 << size, layout=LAYOUTS[layout % len(LAYOUTS)])

        atheris.Setup(sys.argv, test_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
