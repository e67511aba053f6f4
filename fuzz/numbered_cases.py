"""The command line of fuzzers whose cases are made of their numbers."""

from __future__ import annotations

import argparse
import collections
import time
import typing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

PART = 500
Counts = typing.Counter[str]
RunCases = Callable[[range], "tuple[Counts, list[tuple[int, str]]]"]


def run(description: str, run_cases: RunCases) -> int:
    """Run the cases that the command line asks for, and show what there was and what failed.

    Args:
        description: of the fuzzer.
        run_cases: from some cases' numbers to counts by name, and number and traceback of each
            case that failed; called in processes of their own.

    Returns:
        exit status: 1 if a case failed.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=10_000, help="cases in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", type=int, help="the number of one case")
    options = parser.parse_args()
    start = time.perf_counter()
    first = options.seed << 32
    numbers = range(first, first + options.runs)
    if options.only is not None:
        numbers = range(first + options.only, first + options.only + 1)
    parts = [numbers[at : at + PART] for at in range(0, len(numbers), PART)]
    counts: Counts = collections.Counter()
    failures: list[tuple[int, str]] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for counted, failed in pool.map(run_cases, parts):
            counts.update(counted)
            failures += failed
    for number, why in failures[:5]:
        print(f"case {number - first}:\n{why}")
    for kind, count in sorted(counts.items()):
        print(f"{count:9,}  {kind}")
    seconds = time.perf_counter() - start
    print(f"{len(numbers):,} cases, seed {options.seed}, {len(failures)} failed; {seconds:.0f} s")
    return int(bool(failures))
