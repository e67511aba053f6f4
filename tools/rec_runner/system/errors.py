"""The two ways a run ends badly without it being a bug of ours."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: printed as one sentence on stderr, exit status 2, no traceback.

    A model directory need not import this class: any exception whose class has a true
    ``user_error`` attribute is treated alike.
    """

    user_error = True
    exit_status = 2


class RunError(UserError):
    """The machine failed a run (disk full, file vanished): one sentence, exit status 1."""

    exit_status = 1
