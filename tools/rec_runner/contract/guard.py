"""Calls of a model directory's own code: its errors as one sentence that names its file."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from rec_runner.system.errors import UserError
from rec_runner.system.signals import noted

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_PADDLE_ERROR = re.compile(r"^\s*(\w+Error: .*)$", re.MULTILINE)


@contextmanager
def foreign(owner: Any, member: str = "") -> Iterator[None]:
    """Errors that a directory's own code raises inside, as one sentence; it may call Paddle.

    Args:
        owner: the class, or an object of it, whose code runs; or a function.
        member: its method; by default the class or function itself is called.

    Raises:
        UserError: names file, class, method, and the line that failed.
        Interrupted: a signal came meanwhile, whatever the code made of it.
    """
    with told(owner, member), noted():
        yield


@contextmanager
def told(owner: Any, member: str = "") -> Iterator[None]:
    """As :func:`foreign`, for code that does not call Paddle: a signal interrupts it."""
    kind = _code_of(owner)
    try:
        yield
    except Exception as error:
        # What the system says, of a file that vanished for instance, is not the code's fault.
        of_system = isinstance(error, OSError) and error.errno is not None
        if getattr(error, "user_error", False) or of_system:
            raise
        folder = Path(inspect.getfile(kind)).parent
        raise UserError(f"{_place(kind, member)} failed: {describe(error, folder)}") from error


def call(owner: Any, member: str, *arguments: Any, **named: Any) -> Any:
    """Call a method of a directory's own code; errors as :func:`foreign` tells them."""
    with foreign(owner, member):
        return getattr(owner, member)(*arguments, **named)


def iterate(
    owner: Any, member: str, items: Iterable[Any], guard: Callable[..., Any] = foreign
) -> Iterator[Any]:
    """Items of an iterable that a directory's own code makes; errors as :func:`foreign`'s.

    Args:
        owner: the object whose method made it.
        member: the method.
        items: the iterable.
        guard: :func:`foreign` or :func:`told`.
    """
    with guard(owner, member):
        iterator = iter(items)
    while True:
        with guard(owner, member):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def check_returned(owner: Any, member: str, value: Any, fits: bool, expected: str) -> None:
    """Check what a method of a directory's own code returned.

    Args:
        owner: the object whose method it was; or a function.
        member: the method; empty for a function.
        value: what it returned.
        fits: whether that is well.
        expected: what it should have returned, ``a dict`` for instance.

    Raises:
        UserError: it does not fit.
    """
    if not fits:
        place = _place(_code_of(owner), member)
        raise UserError(f"{place} should return {expected}, and returned {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _code_of(owner: Any) -> Any:
    """The class of an object; a class or a function itself."""
    return owner if inspect.isclass(owner) or inspect.isfunction(owner) else type(owner)


def _place(kind: Any, member: str) -> str:
    name = f"{kind.__name__}.{member}" if member else kind.__name__
    return f"{inspect.getfile(kind)}: {name}"


def describe(error: BaseException, folder: Path) -> str:
    """An exception in one line, with the last place below ``folder`` that it came through."""
    text = str(error)
    if isinstance(error, SyntaxError):
        name = Path(error.filename or folder).name
        return f"{type(error).__name__}: {error.msg} ({name}, line {error.lineno})"
    # Paddle's own messages quote the lines that built the failing operator.
    places = [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)]
    places += _FRAME.findall(text)
    own = [place for place in places if Path(place[0]).is_relative_to(folder)]
    where = ""
    if own:
        file, line, function = own[-1]
        where = f" ({Path(file).relative_to(folder)}, line {line}, in {function})"
    quoted = _PADDLE_ERROR.findall(text)
    message = quoted[-1] if quoted else f"{type(error).__name__}: {text}"
    message = " ".join(message.split("(at /")[0].split())
    return (message if len(message) <= 300 else f"{message[:300]}…") + where
