"""Import the modules of a model directory by their plain names, one directory at a time."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rec_runner.system.errors import UserError

CONTRACT = {
    "DygraphModel": (
        "create_model",
        "create_optimizer",
        "create_metrics",
        "train_forward",
        "infer_forward",
    ),
    "StaticModel": ("create_feeds", "net", "create_optimizer", "infer_net"),
    "RecDataset": (),
}
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_PADDLE_ERROR = re.compile(r"^\s*(\w+Error: .*)$", re.MULTILINE)


class ModelDir:
    """A folder with ``dygraph_model.py``, ``static_model.py`` and reader modules.

    The folder goes to the front of ``sys.path``; modules of the same names from elsewhere, such as
    those that another model directory left behind, are forgotten first, so that each directory
    gets its own.

    Args:
        path: the folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for old in [entry for entry in sys.path if isinstance(entry, _ModelPath)]:
            sys.path.remove(old)
            for name in [n for n, module in sys.modules.items() if _lies_in(module, Path(old))]:
                del sys.modules[name]
        for name in [name for name in sys.modules if self._hides(name)]:
            del sys.modules[name]
        sys.path.insert(0, _ModelPath(path))
        importlib.invalidate_caches()

    def _hides(self, name: str) -> bool:
        """Whether the folder has a module of the same name as one that came from elsewhere."""
        top = name.split(".")[0]
        own = (self.path / f"{top}.py").is_file() or (self.path / top / "__init__.py").is_file()
        if not own and getattr(sys.modules.get(top), "__file__", None) is None:
            own = (self.path / top).is_dir()  # such a folder hides none but its like
        module = sys.modules[name]
        return own and not _lies_in(module, self.path) and not _is_installed(module)

    def mentions(self, key: str) -> bool:
        """Whether the code that has been loaded from the folder names a key of the config."""
        word = re.compile(rf"{re.escape(key)}\b")
        own = [m for m in list(sys.modules.values()) if _lies_in(m, self.path)]
        files = [Path(m.__file__) for m in own if getattr(m, "__file__", None)]
        return any(
            word.search(file.read_text(encoding="utf-8", errors="replace"))
            for file in files
            if file.suffix == ".py"
        )

    def load(self, module: str, class_name: str) -> Any:
        """A class of one of the folder's modules.

        Raises:
            UserError: no such module, class or method, or the module cannot be imported.
        """
        file = self.path / (module.replace(".", "/") + ".py")
        try:
            loaded: ModuleType = importlib.import_module(module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                raise UserError(f"model directory {self.path} has no {module}.py") from error
            if getattr(error, "user_error", False):
                raise
            raise UserError(f"{file} cannot be imported: {describe(error, self.path)}") from error
        found = getattr(loaded, class_name, None)
        if found is None:
            raise UserError(f"{file} has no class {class_name}")
        for method in CONTRACT[class_name]:
            if not callable(getattr(found, method, None)):
                raise UserError(f"{file}: class {class_name} has no method {method}")
        if class_name == "RecDataset" and not (
            hasattr(found, "__iter__") or hasattr(found, "__getitem__")
        ):
            raise UserError(f"{file}: class RecDataset has neither __iter__ nor __getitem__")
        return found


@contextmanager
def foreign(owner: Any, member: str = "") -> Iterator[None]:
    """Errors that a directory's own code raises inside, as one sentence.

    Args:
        owner: the class, or an object of it, whose code runs.
        member: its method; by default the class itself is called.

    Raises:
        UserError: names file, class, method, and the line that failed.
    """
    kind = owner if inspect.isclass(owner) else type(owner)
    try:
        yield
    except Exception as error:
        if getattr(error, "user_error", False) or isinstance(error, OSError):
            raise
        folder = Path(inspect.getfile(kind)).parent
        raise UserError(f"{_place(kind, member)} failed: {describe(error, folder)}") from error


def check_returned(owner: Any, member: str, value: Any, fits: bool, expected: str) -> None:
    """Check what a method of a directory's own code returned.

    Args:
        owner: the object whose method it was.
        member: the method.
        value: what it returned.
        fits: whether that is well.
        expected: what it should have returned, ``a dict`` for instance.

    Raises:
        UserError: it does not fit.
    """
    if not fits:
        place = _place(type(owner), member)
        raise UserError(f"{place} should return {expected}, and returned a {type(value).__name__}")


def _place(kind: type, member: str) -> str:
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


class _ModelPath(str):
    """An entry of ``sys.path`` that this module put there."""


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether a plain module or a package lies directly in ``folder``."""
    return folder in {place.parent for place in _places(module)}


def _is_installed(module: ModuleType) -> bool:
    """Whether a module is Python's own, an installed package's, or one of these tools'."""
    homes = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    homes.add(str(Path(__file__).parents[1]))
    places = _places(module)
    return not places or any(place.is_relative_to(home) for home in homes for place in places)


def _places(module: ModuleType) -> list[Path]:
    """File or folders of a module's top-level package; none for one that has neither.

    A folder without ``__init__.py`` is a package too, and may be made of several.
    """
    name = getattr(module, "__name__", None)
    top = sys.modules.get(name.split(".")[0]) if name else None
    spec = getattr(top, "__spec__", None)
    folders = getattr(spec, "submodule_search_locations", None)
    if folders is not None:
        return [Path(folder) for folder in folders]
    origin = getattr(top, "__file__", None)
    return [Path(origin)] if origin else []
