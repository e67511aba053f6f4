"""Read pickled arrays without ever running what a file says.

``paddle.load`` unpickles, and a crafted pickle can call any function. This reader follows only the
opcodes (https://docs.python.org/3/library/pickletools.html) that ``pickle`` and ``paddle.save``
write for arrays, numbers, strings and plain containers in protocols 2 to 4. The few names that a
file may ask for stand for functions of this module, which check what they are given; NumPy's own,
which trust it, are never called. What is read is never much larger than the file.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from io import BytesIO
from pathlib import Path
from typing import Any, Callable

import numpy as np

from rec_runner.system.errors import UserError

_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_ALLOWED_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE "
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "GLOBAL STACK_GLOBAL REDUCE"
)
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_LEAVES = (type(None), bool, int, float, str, bytes, np.generic)


class _Refused(Exception):
    """The file is well-formed and holds, or does, something else than is read here."""


class _Dtype:
    """Stands for ``numpy.dtype``: booleans, integers and floats, nothing that holds objects."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"it holds an array of type {str(code)[:40]!r}")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Take NumPy's ``(version, byte order, what only compound types have ...)``."""
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array, whose shape, type and bytes come after it in the file."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Take NumPy's ``(version, shape, type, by columns, bytes)``."""
        _, shape, kind, by_columns, data = state
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise ValueError(f"{len(data)} bytes do not fill an array of shape {list(shape)}")
        flat = np.frombuffer(data, kind.dtype) if data else np.empty(0, kind.dtype)
        self.value = flat.reshape(shape, order="F" if by_columns else "C")


def _scalar(kind: _Dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, kind.dtype, count=1)[0]


def _named_tensor(pair: Any) -> tuple[Any, Any]:
    """Paddle pickles a tensor as ``tuple((name, array))``."""
    name, array = pair
    return name, array


_ALLOWED_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): lambda: {},
    ("builtins", "tuple"): _named_tensor,
    ("__builtin__", "tuple"): _named_tensor,
    ("__builtin__", "bytes"): lambda: b"",
    ("numpy", "ndarray"): None,  # only an argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
}
for _package in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED_NAMES[_package, "_reconstruct"] = _Array
    _ALLOWED_NAMES[_package, "scalar"] = _scalar


class _Opcodes(dict[int, Callable[..., None]]):
    """What to do at an opcode; one that is not here is refused."""

    def __missing__(self, code: int) -> Callable[..., None]:
        names = {code: name for name, code in _CODES.items()}
        raise _Refused(f"it uses the opcode {names.get(code, code)}")


class _ArrayUnpickler(pickle._Unpickler):
    """The standard library's unpickler written in Python.

    Unlike the one in C it can be told to refuse opcodes, and no false length or index makes it
    reserve memory.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, data: bytes) -> None:
        super().__init__(BytesIO(data))
        self._left_to_encode = len(data)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return _ALLOWED_NAMES[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None

    def _encode(self, text: str, encoding: str) -> bytes:
        """Protocol 2 writes bytes as Latin-1 text."""
        self._left_to_encode -= len(text)
        if encoding != "latin1" or self._left_to_encode < 0:
            raise _Refused("it asks for _codecs.encode of what is not its bytes")
        return text.encode("latin1")

    def _load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Dtype, _Array)):
            raise _Refused(f"it sets the state of a {_kind(self.stack[-1])}")
        self.stack[-1].set_state(state)

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key], [value])

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        self._set_items(items[::2], items[1::2])

    def _set_items(self, keys: list[Any], values: list[Any]) -> None:
        # Hashing anything but a string could be made to take forever, or all of the stack.
        if not all(isinstance(key, str) for key in keys):
            raise _Refused("it has a key that is not a string")
        self.stack[-1].update(zip(keys, values))

    dispatch = _Opcodes(
        {_CODES[n]: pickle._Unpickler.dispatch[_CODES[n]] for n in _ALLOWED_OPCODES.split()}
    )
    dispatch[_CODES["BUILD"]] = _load_build
    dispatch[_CODES["SETITEM"]] = _load_setitem
    dispatch[_CODES["SETITEMS"]] = _load_setitems


def load_arrays(file: Path) -> dict[str, Any]:
    """Unpickle a dict of arrays, numbers, strings and plain containers.

    Arrays of the result are read-only.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for anything else.
    """
    try:
        state = _plain(_ArrayUnpickler(file.read_bytes()).load(), {})
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except _Refused as error:
        raise UserError(f"{file} is refused: {error}, and only arrays are read here") from error
    except UserError:  # a signal
        raise
    except Exception as error:  # damaged pickles raise almost anything
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{file} is damaged: {type(error).__name__}: {text}") from error
    if not isinstance(state, dict):
        raise UserError(f"{file} holds a {_kind(state)}, expected a dict of arrays")
    return state


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """Containers with arrays in the place of what stood for them.

    Args:
        value: what was unpickled.
        seen: by ``id``, what has been looked at before: containers can be shared, even endlessly.
    """
    if isinstance(value, _LEAVES):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, dict):
        seen[id(value)] = value
        value.update({key: _plain(item, seen) for key, item in value.items()})
    elif isinstance(value, list):
        seen[id(value)] = value
        value[:] = [_plain(item, seen) for item in value]
    elif isinstance(value, tuple):
        plain = tuple(_plain(item, seen) for item in value)
        seen[id(value)] = plain
        return plain
    else:
        raise _Refused(f"it holds a {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return type(value).__name__.lstrip("_")
