"""Files that a run goes on from, changed at random: a sample of ``fuzz/fuzz_files.py``.

``FUZZ_FILES=1000000 pytest tests/test_fuzz_files.py`` runs longer than the suite should.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from helpers import ROOT, run

RUNS = int(os.environ.get("FUZZ_FILES", "600"))

# What a case may not do, each tried under the watch.
HARM = """
import os, subprocess, sys, time
import watch
watch.SECONDS = 0.2
watch.limit()
deeds = {
    "system": lambda: os.system("true"),
    "process": lambda: subprocess.run(["true"]),
    "import": lambda: __import__("this"),
    "compile": lambda: eval("1 + 1"),
    "open": lambda: open("/etc/hostname"),
    "memory": lambda: bytearray(3 << 30),
    "time": lambda: [None for _ in iter(int, 1)],
    "nothing": lambda: open(os.path.join(sys.argv[1], "file"), "w").close(),
}
for name, deed in deeds.items():
    try:
        with watch.watched(sys.argv[1]):
            deed()
    except (MemoryError, watch.Broken) as error:
        print(name, type(error).__name__)
"""


def test_changed_files_end_in_a_sentence_or_in_a_sound_state(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "fuzz" / "fuzz_files.py"), "--runs", str(RUNS)]
    script += ["--subjects", "ours-static", "sequence-dygraph", "--keep", str(tmp_path / "keep")]
    result = run(script, cwd=tmp_path)
    assert result.status == 0, result.stdout + result.stderr
    assert re.search(rf"{RUNS:,} cases, seed 1, 0 failed", result.stdout)
    for kind in ("rec.json values sound", "rec.pdopt values sentence", "rec.pdstate bytes"):
        assert kind in result.stdout
    assert not (tmp_path / "keep").exists()


def test_a_reader_that_runs_out_of_memory_and_says_so_has_failed(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom fuzz_cases import Target\n"
        "target = Target('regression-dygraph', Path(sys.argv[1], 'x'), 1)\n"
        "from rec_runner.checkpoint import safe_pickle\n"
        "def load(self): raise MemoryError\n"
        "safe_pickle._ArrayUnpickler.load = load\n"
        "print([target.run(n)[2] for n in range(99) if 'FAILED' in target.run(n)[2]][:1])\n"
    )
    result = run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT / "fuzz")
    assert result.status == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "['FAILED']"


def test_the_watch_sees_what_no_case_may_do(tmp_path: Path) -> None:
    result = run([sys.executable, "-c", HARM, str(tmp_path)], cwd=ROOT / "fuzz")
    assert result.status == 0, result.stderr
    seen = dict(line.split() for line in result.stdout.splitlines())
    assert seen == {
        **dict.fromkeys(("system", "process", "import", "compile", "open", "time"), "Broken"),
        "memory": "MemoryError",
    }
