"""Changes of files: of any bytes, of a pickle's opcodes, of what a pickle or a JSON file holds."""

from __future__ import annotations

import copy
import functools
import json
import pickle
import pickletools
import random
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

_CODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
_CALLS = [(b"os", b"system"), (b"builtins", b"eval"), (b"numpy", b"load"), (b"posix", b"system")]
_SIZES = [0, 1, 255, 1 << 15, 1 << 24, 1 << 31, 1 << 40, 1 << 62, (1 << 64) - 1]


def deep(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


PLAIN: list[Any] = [
    *(None, True, False, 0, 1, 2, 5, 7, 8, -1, 1 << 31, 1 << 63, 1 << 64, 10**100, -(10**400)),
    *(0.0, 0.5, -1.5, 1e308, float("nan"), float("inf"), float("-inf"), "", "3", "auc", "run"),
    *("x" * 500, "../../x", "\0", "\ud800", "{}", [], {}, [1], [1.5, 2.5], ["a"], [[1], [1, 2]]),
    *({"a": 1}, {"shape": [1]}, [None], [[[[[[1]]]]]], deep(100), [{}], {"": []}),
]
ARRAYS: list[Any] = [
    *(np.zeros(0, np.float32), np.zeros((2, 3)), np.arange(5), np.ones(5, np.bool_), np.float32(1)),
    *(np.full(5, np.nan, np.float32), np.array(3), np.zeros((3, 0, 2)), np.full(7, -1, np.int64)),
    *(np.array([np.inf, 1], np.float32), np.zeros((40, 2), np.bool_), np.uint8(3), np.zeros(4096)),
    *((), (1,), ("a", np.zeros(2)), b"", b"bytes", (1, 2, 3), 1j, np.zeros((1,) * 20)),
]


def change_bytes(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Flip, insert, delete, repeat, cut short, or take a piece from another file."""
    out = bytearray(data)
    start = rng.randrange(len(out) + 1)
    end = min(len(out), start + rng.choice((1, 1, 2, 4, 8, 100)))
    kind = rng.randrange(8)
    if kind < 3 and start < len(out):
        out[start] ^= 1 << rng.randrange(8)
    elif kind == 3:
        out[start:start] = rng.randbytes(rng.choice((1, 4, 9)))
    elif kind == 4:
        del out[start:end]
    elif kind == 5:
        out[start:start] = out[start:end] * rng.choice((1, 2, 100))
    elif kind == 6:
        del out[start:]
    else:
        other = rng.choice(others)
        place = rng.randrange(len(other) + 1)
        out[start:end] = other[place : place + rng.choice((1, 8, 100))]
    return bytes(out)


@functools.lru_cache(maxsize=64)
def _pieces(data: bytes) -> tuple[bytes, ...]:
    """A pickle cut at its opcodes."""
    starts = [place for _, _, place in pickletools.genops(data)]
    return tuple(data[a:b] for a, b in zip(starts, [*starts[1:], len(data)]))


def change_opcodes(data: bytes, rng: random.Random) -> bytes:
    """Leave out, repeat, exchange or add opcodes of a sound pickle, or change what one is given."""
    pieces = list(_pieces(data))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(pieces))
        kind = rng.randrange(8)
        if kind == 0:
            del pieces[place : place + rng.choice((1, 1, 5))]
        elif kind == 1:
            pieces[place:place] = pieces[place : place + 2] * rng.choice((1, 9, 99))
        elif kind == 2:
            other = rng.randrange(len(pieces))
            pieces[place], pieces[other] = pieces[other], pieces[place]
        elif kind == 3:
            pieces.insert(place, pieces[rng.randrange(len(pieces))])
        elif kind == 4:
            pieces.insert(place, rng.choice(_CODES) + rng.randbytes(rng.choice((0, 1, 4, 8))))
        elif kind == 5:
            pieces[place] = rng.choice(_CODES) + pieces[place][1:]
        elif kind == 6:
            size = rng.choice(_SIZES)
            number = struct.pack("<Q", size)[: max(1, len(pieces[place]) - 1)]
            pieces[place] = pieces[place][:1] + number + pieces[place][1 + len(number) :]
        else:
            module, name = rng.choice(_CALLS)
            pieces.insert(place, b"c" + module + b"\n" + name + b"\n")
        pieces = pieces or [b"."]
    return b"".join(pieces)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Each place in a structure, as a container and a key of it."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            _places(value[key], found)
    return found


def change_values(value: Any, values: Sequence[Any], rng: random.Random) -> Any:
    """A structure, some of its values left out, renamed, exchanged, or others in their place."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = _places(value, []) if isinstance(value, (dict, list)) else []
        if not places or rng.random() < 0.01:
            return copy.deepcopy(rng.choice(values))
        owner, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, dict):
            name = rng.choice(places)[1]
            owner[name if isinstance(name, str) else "other"] = owner.pop(key)
        elif kind == 2:
            other, place = rng.choice(places)
            owner[key] = copy.deepcopy(other[place])
        elif kind == 3 and isinstance(owner, list):
            owner.extend(copy.deepcopy(owner) * rng.choice((1, 30)))
        elif kind == 4 and isinstance(owner[key], np.ndarray):
            owner[key] = _reshaped(owner[key], rng)
        elif kind == 5 and type(owner[key]) in (int, float):
            owner[key] = rng.choice((-1, 1, 10**6, 1 << 62)) * owner[key] + rng.choice((0, 1, -1))
        elif kind == 6 and isinstance(owner, dict):
            owner[rng.choice(("more", "schedule", "labels", "0"))] = copy.deepcopy(
                rng.choice(values)
            )
        else:
            owner[key] = copy.deepcopy(rng.choice(values))
    return value


def _reshaped(array: np.ndarray, rng: random.Random) -> Any:
    kinds = (np.float32, np.float64, np.float16, np.int64, np.int8, np.bool_, np.uint64)
    with np.errstate(all="ignore"):
        return rng.choice(
            (
                lambda: array.astype(rng.choice(kinds)),
                lambda: array.reshape(-1),
                lambda: array[: len(array) // 2] if array.ndim else array.reshape(1),
                lambda: np.concatenate([array.reshape(-1)] * 2),
                lambda: array[..., np.newaxis],
                lambda: array * array.dtype.type(0),
                lambda: array.tolist(),
            )
        )()


def change(
    name: str, data: bytes, others: Sequence[bytes], rng: random.Random
) -> tuple[str, bytes]:
    """A file changed in one of the ways that its kind knows.

    Args:
        name: its name.
        data: what it holds.
        others: what other files hold.
        rng: decides.

    Returns:
        the way, and what the file holds now.
    """
    way = rng.random()
    if name.endswith(".json") and way < 0.75:
        tree = change_values(json.loads(data), PLAIN, rng)
        text = json.dumps(tree, indent=rng.choice((None, 1)))
        return "values", text.encode("utf-8", "surrogatepass")
    if name.endswith((".pdparams", ".pdopt", ".pdstate")):
        if way < 0.45:
            state = change_values(pickle.loads(data), PLAIN + ARRAYS, rng)
            return "values", pickle.dumps(state, rng.choice((2, 4, 4)))
        if way < 0.75:
            return "opcodes", change_opcodes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = change_bytes(data, others, rng)
    return "bytes", data
