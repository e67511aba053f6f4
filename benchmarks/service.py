"""The HTTP service under load: many clients, malformed requests, slow ones, its stop, new models.

    python benchmarks/service.py [--seconds 60] [--clients 64] [--bad-share 0.1]
        [--scenarios load,capacity,slow,stop,reload] [--workers 1,2] [--connections 10000]
        [--model DIR] [--json results.json]

The service is a process of its own, as tools/serve.py starts it; all clients are in this one. Rows
are made up by what the export says of its columns, and every answer is compared with what the
exported model gives of the same row. Without --model, two exports of the bundled raw rows are made.
The exit status is 1 where an answer was wrong, a request was lost or the service failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import common
from service_process import make_exports
from service_rows import Pool
from service_scenarios import Setting, capacity, load, reload, stop
from service_slow import slow

_ROWS = 2000
SCENARIOS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "load": load,
    "capacity": capacity,
    "slow": slow,
    "stop": stop,
    "reload": reload,
}


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    add = parser.add_argument
    add("--model", type=Path, action="append", metavar="DIR", help="an export, or two for reload")
    add("--seconds", type=float, default=60.0, help="of each scenario (60)")
    common.add_number(parser, "--clients", 64, "clients at once")
    add("--bad-share", type=_share, default=0.1, help="of requests that are malformed (0.1)")
    common.add_number(parser, "--connections", 10_000, "connections that are held open")
    common.add_number(parser, "--reloads", 20, "new models put in place")
    common.add_names(parser, "--scenarios", SCENARIOS)
    add("--workers", type=_numbers, default=[1, 2], help="processes that serve, in turn (1,2)")
    options = parser.parse_args()
    room = raise_open_files()
    options.connections = min(options.connections, room - 1000)
    results: dict[str, Any] = {
        name: getattr(options, name) for name in ("seconds", "clients", "bad_share", "connections")
    }
    results["runs"] = {}
    with tempfile.TemporaryDirectory(prefix="service-") as scratch:
        exports = [path.resolve() for path in options.model or make_exports(Path(scratch))]
        pool = Pool(exports, _ROWS)
        results["columns"], results["models"] = len(pool.names), list(pool.truth.scores)
        for workers in options.workers:
            setting = Setting(
                exports,
                pool,
                Path(scratch),
                workers,
                options.clients,
                options.seconds,
                options.bad_share,
                options.connections,
                options.reloads,
            )
            for name in options.scenarios:
                found = SCENARIOS[name](setting)
                results["runs"][f"{name}, {workers} worker{'s' * (workers > 1)}"] = found
                common.say(f"{name}, {workers}: {'as it should' if not faults(found) else 'BAD'}")
    common.publish(options, results, report)
    bad = {name: faults(found) for name, found in results["runs"].items() if faults(found)}
    if bad:
        name, said = next(iter(bad.items()))
        raise common.BenchmarkError(f"{name}: {said[0]}")


def raise_open_files() -> int:
    """Allow this process as many open files as the system lets it; how many."""
    try:
        import resource
    except ImportError:  # Windows
        return 2000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"should be from 0 to below 1, got {text}")
    return value


def _numbers(text: str) -> list[int]:
    return [common.positive(each) for each in text.split(",")]


def parts_of(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The runs of a scenario by name: its own, or those of its steps."""
    if "stages" in found:
        return dict(found["stages"])
    return {"": found} if "wrong" in found else dict(found)


def faults(found: Mapping[str, Any]) -> list[str]:
    """What should not be in what a scenario found."""
    said = [f"the service's log: {line}" for line in found.get("failures", ())]
    if found.get("exit", 0):
        said.append(f"the service's exit status was {found['exit']}")
    for part in parts_of(found).values():
        bad = [s for s in part["statuses"] if s.startswith("5") and s != "503"]
        if bad or part["wrong"] or part["lost"]:
            counts = f"{part['wrong']} wrong, {part['lost']} lost, statuses {part['statuses']}"
            said.append(f"{counts}; {'; '.join(part['said'][:3])}")
    return said


def report(results: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    rows, kinds = [], []
    for name, found in results["runs"].items():
        for part, figures in parts_of(found).items():
            rows.append(_row(f"{name}; {part}" if part else name, figures))
        for kind, figures in found.get("kinds", {}).items():
            kinds.append([f"{name}: {kind}", f"{figures['answers']:,}", *_times(figures)])
    head = (
        f"{results['clients']} clients, {results['bad_share']:.0%} of the requests malformed, "
        f"{results['columns']} columns, {results['seconds']:g} s each.\n\n"
    )
    names = ["requests/s", "answers", "median ms", "p99 ms", "wrong", "lost"]
    names += ["µs of service", "µs of client", "MB", "peak MB"]
    text = head + common.markdown_table(["", *names], rows) + "\n"
    if kinds:
        text += common.markdown_table(["kind", "answers", "median ms", "p99 ms"], kinds) + "\n"
    return text + "".join(f"{line}\n" for line in _notes(results))


def _times(figures: Mapping[str, Any]) -> list[str]:
    return [f"{figures['median_ms']:.2f}", f"{figures['p99_ms']:.2f}"]


def _row(name: str, figures: Mapping[str, Any]) -> list[str]:
    counts = [f"{figures[each]:,}" for each in ("wrong", "lost")]
    costs = [  # of a service that is no more they are not known
        f"{figures[each]:,.0f}" if figures[each] > 0 else "–"
        for each in ("service_cpu_us", "client_cpu_us", "memory_mb", "peak_mb")
    ]
    rate, answers = f"{figures['requests_per_second']:,.0f}", f"{figures['answers']:,}"
    return [name, rate, answers, *_times(figures), *counts, *costs]


def _notes(results: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, found in results["runs"].items():
        for part, figures in parts_of(found).items():
            counts = ", ".join(f"{s}: {n:,}" for s, n in figures["statuses"].items())
            line = f"- {name}{f'; {part}' if part else ''}: {counts}"
            if "open" in figures:
                line += f"; {figures['open']:,} other connections open at its end"
            if "reloads" in figures:
                line += (
                    f"; {figures['reloads']} reloads, the slowest {figures['reload_seconds']:.1f} s"
                )
            lines.append(line)
        for kind, each in found.get("others", {}).items():
            lines.append(
                f"- {name}: {kind}: {', '.join(f'{n} × {how}' for how, n in each.items())}"
            )
    return lines


if __name__ == "__main__":
    sys.exit(common.finish(main))
