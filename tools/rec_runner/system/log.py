"""Lines on stderr."""

from __future__ import annotations

import sys


def warn(message: str) -> None:
    """One warning line on stderr."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
