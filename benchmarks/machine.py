"""The machine that a benchmark runs on, for its figures are true of no other."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")  # Linux's
PACKAGES = ("paddlepaddle", "numpy", "pyarrow", "scikit-learn", "torch")
# Those vector instructions that Paddle, its BLAS or NumPy choose their code by.
VECTOR_FLAGS = (
    *("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "sve", "sve2", "sme"),  # ARM
)


def machine() -> dict[str, Any]:
    """Processor, cores, vector flags (none where the system does not say) and versions."""
    facts = _cpuinfo()
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    known = facts.get("flags", facts.get("Features", "")).split()
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "vector_flags": [flag for flag in VECTOR_FLAGS if flag in known],
        "versions": versions,
    }


def _cpuinfo() -> dict[str, str]:
    """What the system says of the first processor, if anything."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    return facts


def show_processor(facts: Mapping[str, Any]) -> str:
    """Of :func:`machine`, the processor."""
    flags = " ".join(facts.get("vector_flags", ()))  # files of earlier runs have none
    return f"{facts['processor']}, {facts['cores']} cores" + (f" ({flags})" if flags else "")


def show_machine(facts: Mapping[str, Any]) -> str:
    """:func:`machine` as a line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{show_processor(facts)}; {versions}"
