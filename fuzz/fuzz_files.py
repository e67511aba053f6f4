"""Fuzzing of the files that a run goes on from: whatever they hold, a sentence or a sound state.

    python fuzz/fuzz_files.py --runs 1000000 --seed 1 --jobs 2

Checkpoints of real runs, saved in mid-epoch on both graphs, by this model and by directories of the
contract alone, their ``best.json`` and ``run.json``, and caches of rows are changed: their bytes,
the opcodes of their pickles, what they hold (``mutations.py``). Most are signed anew, so that what
comes after the checksums is reached. Each case goes through the code that reads the files for infer
and for ``runner.resume=true``, into a real engine; some sound ones go on training to the end. With
``--whole`` each runs the tool itself, hundreds of times slower.

A case fails by any exception that is no sentence of ours, by what the reading of a file never leads
to (a process, an import, code compiled, a file opened elsewhere), by more than 1 GB of memory or
10 seconds, or by the end of the process. Its changed file is kept in ``fuzz-failures/``, and
``--only SUBJECT:NUMBER`` with the same seed runs it alone.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fuzz_cases import SUBJECTS, Target
from watch import limit

PART = 25_000  # cases of a subject that one process runs


def work(options: argparse.Namespace) -> None:
    """Run some cases of a subject; how they ended goes to stdout, a JSON object."""
    name, *numbers = options.only.split(":")
    first, end = map(int, numbers)
    keep, folder = options.keep, options.work
    target = Target(name, folder, options.seed)
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    limit()
    for number in range(first, end):
        (folder / "at").write_text(str(number))
        path, way, outcome, why = target.run(number, options.whole)
        kind = path.rpartition("/")[2]
        counts[f"{kind} {way} {outcome}"] += 1
        if why:
            failures.append([number, path, way, why])
            keep.mkdir(parents=True, exist_ok=True)
            for file, data in target.changed(number)[2].items():
                (keep / f"{name}-{number}-{file.replace('/', '-')}").write_bytes(data)
    print(json.dumps({"counts": counts, "failures": failures}))


def run_subject(name: str, options: argparse.Namespace, cases: range) -> dict[str, Any]:
    """Run cases of a subject in a process, and in another one where a case ended it."""
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    first = cases.start
    memory = Path("/dev/shm")
    while first < cases.stop:
        place = memory if os.access(memory, os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=place) as work_folder:
            folder = Path(work_folder, name)
            command = [sys.executable, __file__, "--seed", str(options.seed), "--work", str(folder)]
            command += ["--only", f"{name}:{first}:{cases.stop}", "--keep", str(options.keep)]
            command += ["--whole"] if options.whole else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                found = json.loads(done.stdout.splitlines()[-1])
                counts.update(found["counts"])
                failures += [[name, *failure] for failure in found["failures"]]
                break
            if not (folder / "at").exists():
                raise SystemExit(f"{name}: {done.stdout}{done.stderr}")
            at = int((folder / "at").read_text())
            why = f"the process ended with {done.returncode}: {done.stderr[-2000:]}"
            failures.append([name, at, "", "", why])
            counts["process ended FAILED"] += 1
            first = at + 1
    return {"counts": counts, "failures": failures}


def main() -> int:
    """Run the command line; 1 if a case failed."""
    parser = argparse.ArgumentParser(description="Change the files of real runs and read them.")
    parser.add_argument("--runs", type=int, default=10_000, help="cases in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="for what failed")
    parser.add_argument("--whole", action="store_true", help="run the tools, not their parts")
    parser.add_argument("--only", help="SUBJECT:NUMBER")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return 0
    start = time.perf_counter()
    share = -(-options.runs // len(options.subjects))
    parts = [range(first, min(share, first + PART)) for first in range(0, share, PART)]
    tasks = [(name, part) for part in parts for name in options.subjects]
    if options.only:
        name, number = options.only.split(":")
        tasks = [(name, range(int(number), int(number) + 1))]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda task: run_subject(task[0], options, task[1]), tasks))
    counts: collections.Counter[str] = collections.Counter()
    for result in done:
        counts.update(result["counts"])
    failures = [failure for result in done for failure in result["failures"]]
    for name, number, path, way, why in failures[:20]:
        print(f"{name}:{number} {path} ({way}):\n{why}")
    for kind, count in sorted(counts.items()):
        print(f"{count:9,}  {kind}")
    total, seconds = sum(counts.values()), time.perf_counter() - start
    print(
        f"{total:,} cases, seed {options.seed}, {len(failures)} failed; "
        f"{seconds:.0f} s, {total / seconds:,.0f} a second"
    )
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
