"""Read pickled arrays without ever running what a file says.

``paddle.load`` unpickles, and a crafted pickle can call any function. This reader follows only the
opcodes (https://docs.python.org/3/library/pickletools.html) that ``pickle`` and ``paddle.save``
write for arrays, numbers, strings and plain containers in protocols 2 to 4. The few names that a
file may ask for stand for functions of this module, which check what they are given; NumPy's own,
which trust it, are never called.

A file takes memory and time in proportion to its size: every opcode takes as long as its own bytes
are long, what makes containers is counted, and so is what the result would hold if nothing in it
were shared, for whoever takes it over may copy it.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, BinaryIO, Callable

import numpy as np

from rec_runner.system.errors import UserError
from rec_runner.system.files import open_file

_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_ALLOWED_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE "
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "GLOBAL STACK_GLOBAL"
)
# A byte of these takes up to a hundred of memory.
_MAKERS = (
    "MARK BINPUT LONG_BINPUT MEMOIZE EMPTY_LIST EMPTY_DICT TUPLE TUPLE1 TUPLE2 TUPLE3 REDUCE BUILD"
)
_FREE_MAKERS, _BYTES_A_MAKER = 1_000_000, 16  # an array of any size needs about 20
_FREE_BYTES, _TIMES = 1 << 22, 4  # that tied weights are named twice is fine
_DEEPEST = 50
_LONGEST_KEY = 500
# What would disturb a sentence; other spaces than ASCII's are part of names in some languages.
_UNFIT = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
_SMALL = 1 << 16
_MOST_DIMENSIONS = 32  # of NumPy 1
_LONGEST_EMPTY = 1 << 20
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_NUMBERS = {type(None), bool, int, float}
_LEAVES = (*_NUMBERS, str, bytes, np.generic)


class _Refused(Exception):
    """The file is well-formed and holds, or does, something else than is read here."""


class _Dtype:
    """Stands for ``numpy.dtype``: booleans, integers and floats, nothing that holds objects."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"it holds an array of type {str(code)[:40]!r}")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Take NumPy's ``(version, byte order, what only compound types have ...)``."""
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("the state of a type has no byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array, whose shape, type and bytes come after it in the file."""

    __slots__ = ("value",)

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Take NumPy's ``(version, shape, type, by columns, bytes)``."""
        _, shape, kind, by_columns, data = state
        _check_shape(shape)
        if not isinstance(kind, _Dtype) or not isinstance(data, bytes):
            raise ValueError("the state of an array has no type or no bytes")
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise ValueError(f"{len(data)} bytes do not fill an array of shape {list(shape)}")
        flat = np.frombuffer(data, kind.dtype) if data else np.empty(0, kind.dtype)
        self.value = flat.reshape(shape, order="F" if by_columns else "C")


def _check_shape(shape: Any) -> None:
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"an array's shape is no tuple of at most {_MOST_DIMENSIONS} numbers")
    # Neither True nor an integer of hundreds of digits; type() as NumPy's have a subclass of int.
    if not all(type(length) is int and 0 <= length < 1 << 48 for length in shape):
        raise ValueError("an array's shape holds something else than small non-negative integers")
    # Nothing in the file stands for the other dimensions of an empty array.
    if 0 in shape and math.prod(length or 1 for length in shape) > _LONGEST_EMPTY:
        raise ValueError(f"an empty array is said to be of shape {list(shape)}")


def _scalar(kind: _Dtype, data: bytes) -> np.generic:
    if not isinstance(kind, _Dtype) or not isinstance(data, bytes):
        raise ValueError("a number has no type or no bytes")
    return np.frombuffer(data, kind.dtype, count=1)[0]


def _named_tensor(pair: Any) -> tuple[Any, Any]:
    """Paddle pickles a tensor as ``tuple((name, array))``."""
    name, array = pair if isinstance(pair, tuple) else (None, None)
    if not isinstance(name, str):
        raise _Refused("it makes a tuple of something else than a name and an array")
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


class _Stream:
    """A file that never gives more than it has, nor reserves memory for more."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, count: int) -> bytes:
        if count > _SMALL:
            count = min(count, max(0, self._size - self._stream.tell()))
        return self._stream.read(count)

    def readline(self) -> bytes:
        """A line with the name of a module or of what is in it."""
        return self._stream.readline(_LONGEST_KEY)


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """An opcode that a file may use only so often."""

    def counted(unpickler: Any) -> None:
        unpickler.left_to_make -= 1
        if unpickler.left_to_make < 0:
            raise _Refused("it makes more containers than a file of its size should")
        load(unpickler)

    return counted


class _ArrayUnpickler(pickle._Unpickler):
    """The standard library's unpickler written in Python.

    Unlike the one in C it can be told to refuse opcodes, and no false length or index makes it
    reserve memory.

    Args:
        stream: what to read.
        size: its length in bytes.
    """

    stack: list[Any]
    memo: dict[int, Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__(_Stream(stream, size))
        self._left_to_encode = self._left_to_fill = size
        self.left_to_make = _FREE_MAKERS + size // _BYTES_A_MAKER

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
        target = self.stack[-1]
        if not isinstance(target, (_Dtype, _Array)):
            raise _Refused(f"it sets the state of a {_kind(target)}")
        target.set_state(state)
        if isinstance(target, _Array) and target.value is not None:
            self._left_to_fill -= target.value.nbytes
            if self._left_to_fill < 0:
                raise _Refused("it fills arrays with the same bytes over and over")

    def _load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(arguments, tuple) or len(arguments) > 3 or not callable(function):
            raise _Refused(f"it calls a {_kind(function)} with a {_kind(arguments)}")
        self.stack[-1] = function(*arguments)

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key], [value])

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        self._set_items(items[::2], items[1::2])

    def _set_items(self, keys: list[Any], values: list[Any]) -> None:
        # Hashing anything but a string could be made to take forever, or all of the stack;
        # comparing long ones takes long, and sentences will have keys in them.
        for key in keys:
            if not isinstance(key, str) or len(key) > _LONGEST_KEY or _UNFIT.search(key):
                raise _Refused("it has a key that is not a string, or not a short and plain one")
        self.stack[-1].update(zip(keys, values))

    dispatch = _Opcodes(
        {_CODES[n]: pickle._Unpickler.dispatch[_CODES[n]] for n in _ALLOWED_OPCODES.split()}
    )
    dispatch[_CODES["BUILD"]] = _load_build
    dispatch[_CODES["REDUCE"]] = _load_reduce
    dispatch[_CODES["SETITEM"]] = _load_setitem
    dispatch[_CODES["SETITEMS"]] = _load_setitems
    for _name in _MAKERS.split():
        dispatch[_CODES[_name]] = _counted(dispatch[_CODES[_name]])


def load_arrays(file: Path) -> dict[str, Any]:
    """Unpickle a dict of arrays, numbers, strings and plain containers.

    Arrays of the result are read-only.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for anything else.
    """
    try:
        with open_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            unpickler = _ArrayUnpickler(stream, size)
            value = unpickler.load()
        unpickler.memo.clear()  # of methods of its own: it would outlive the reading
        state = _Plain(_FREE_BYTES + _TIMES * size).plain(value)[0]
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise UserError(f"{file} is refused: it does not fit into memory") from error
    except _Refused as error:
        raise UserError(f"{file} is refused: {_short(error)}; only arrays are read here") from error
    except Exception as error:  # damaged pickles raise almost anything
        text = f"{type(error).__name__}: {_short(error)}"
        raise UserError(f"{file} is damaged: {text}") from error
    if not isinstance(state, dict):
        raise UserError(f"{file} holds a {_kind(state)}, expected a dict of arrays")
    return state


def _short(error: Exception) -> str:
    """What an error says, which may have been taken from the file, as part of a sentence."""
    text = " ".join(str(error)[:1000].split())[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class _Plain:
    """Puts arrays in the place of what stood for them.

    Containers can be shared, even endlessly; each is looked at once, and counted as often as it is
    named: what would come of it, were it copied.

    Args:
        limit: how many bytes all may hold, so counted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[int, tuple[Any, int, int] | None] = {}  # None: it is being looked at

    def plain(self, value: Any, depth: int = 0) -> tuple[Any, int, int]:
        """A value of plain containers and arrays, its size in bytes, about, and its height.

        Args:
            value: what was unpickled; it has to outlive this object.
            depth: in how many containers it is.
        """
        if isinstance(value, _LEAVES):
            return value, 1 + len(value) if isinstance(value, (str, bytes)) else 1, 0
        if isinstance(value, _Array) and value.value is not None:
            return value.value, value.value.nbytes, 0
        if not isinstance(value, (dict, list, tuple)):
            raise _Refused(f"it holds a {_kind(value)}")
        if id(value) not in self._seen:
            self._seen[id(value)] = None
            self._seen[id(value)] = self._plain_items(value, depth)
        known = self._seen[id(value)]
        if known is None:
            raise _Refused("it holds a container that holds itself")
        if depth + known[2] > _DEEPEST:
            raise _Refused(f"it is more than {_DEEPEST} containers deep")
        return known

    def _plain_items(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if depth > _DEEPEST:
            return value, 0, 1  # which is refused
        made, size, height = [], 8, 0
        for item in value.values() if isinstance(value, dict) else value:
            if type(item) in _NUMBERS:
                size += 1
            else:
                item, its_size, its_height = self.plain(item, depth + 1)
                size, height = size + its_size, max(height, its_height)
            made.append(item)
        if isinstance(value, dict):
            size += sum(map(len, value))
        if size > self._limit:
            raise _Refused(f"it holds the same things over and over, {size} bytes in all")
        if isinstance(value, dict):
            return dict(zip(value, made)), size, height + 1
        return tuple(made) if isinstance(value, tuple) else made, size, height + 1


def _kind(value: Any) -> str:
    return type(value).__name__.lstrip("_")
