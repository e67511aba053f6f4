"""Read pickled arrays without ever running what a file says.

``paddle.load`` unpickles, and a crafted pickle can call any function. This reader knows the
handful of names that arrays are made of and refuses every other.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.errors import UserError

_RECONSTRUCT = np.ndarray.__reduce__(np.empty(0))[0]
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # Paddle pickles a Tensor as tuple((name, array)).
    ("builtins", "tuple"): tuple,
}
for _package in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_package, "_reconstruct"] = _RECONSTRUCT
    _ALLOWED[_package, "scalar"] = _SCALAR


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load_arrays(file: Path) -> dict[str, Any]:
    """Unpickle a dict of arrays, numbers, strings and plain containers.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for anything else.
    """
    try:
        with open(file, "rb") as stream:
            state = _ArrayUnpickler(stream).load()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{file} is refused: {error}, and only arrays are read here") from error
    except Exception as error:  # damaged pickles raise almost anything
        raise UserError(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise UserError(f"{file} holds a {type(state).__name__}, expected a dict of arrays")
    return state
