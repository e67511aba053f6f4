"""The export tool: what it writes predicts what the checkpoint does."""

from __future__ import annotations

from exports import export_of


def test_x() -> None:
    for kind, graph in (("numeric", "dygraph"), ("raw", "static")):
        print(export_of(kind, graph, "paddle"))
        print(sorted(p.name for p in export_of(kind, graph, "paddle").iterdir()))
