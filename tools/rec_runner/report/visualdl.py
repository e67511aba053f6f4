"""Scalars for VisualDL, where ``runner.use_visual`` asks for them."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rec_runner.system.errors import UserError

FOLDER = "visualDL_log"
FULL_WIDTH_PERCENT = "\uff05"  # VisualDL refuses "%"


class Visual:
    """Writes named numbers over steps; show them with ``visualdl --logdir``.

    Args:
        folder: below this one logs go to ``visualDL_log``; None writes nothing.

    Raises:
        UserError: VisualDL is not installed, or its folder is a link.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from visualdl import LogWriter
        except ImportError as error:
            raise UserError(
                "runner.use_visual needs VisualDL, which cannot be imported "
                f"({' '.join(str(error).split())}): python -m pip install visualdl"
            ) from error
        logs = folder / FOLDER
        if logs.is_symlink():
            raise UserError(
                f"runner.use_visual: {logs} is a link, a folder or none was expected; remove it"
            )
        # VisualDL would open a name that can be foreseen, the second's, through a link if one is
        # there, and two runs' at once.
        name = f"vdlrecords.{int(time.time()):010d}.{secrets.token_hex(8)}.log"
        self._writer = LogWriter(logdir=str(logs), file_name=name)

    def add(self, group: str, step: int, values: Mapping[str, Any]) -> None:
        """Write the finite numbers among ``values``.

        Args:
            group: stands before each name, ``train`` for instance.
            step: batches trained on, or the epoch.
            values: name to number; anything else is passed over.
        """
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                tag = f"{group}/{name}".replace("%", FULL_WIDTH_PERCENT)
                self._writer.add_scalar(tag=tag, value=value, step=step)

    def close(self) -> None:
        """Flush what has been written."""
        if self._writer is not None:
            self._writer.close()
