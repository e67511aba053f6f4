"""Import the modules of a model directory by their plain names, one directory at a time."""

from __future__ import annotations

import importlib
import os
import re
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rec_runner.contract.guard import describe
from rec_runner.system.errors import UserError

CONTRACT: dict[str, tuple[str, ...]] = {
    "DygraphModel": ("create_model", "create_optimizer", "create_metrics", "train_forward"),
    "StaticModel": ("create_feeds", "net", "create_optimizer"),
    "RecDataset": (),
}
# What scores rows; a directory that is only trained, without validation, needs none.
SCORING = {"DygraphModel": "infer_forward", "StaticModel": "infer_net"}


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
            folder = Path(old)
            for name in [n for n, module in sys.modules.items() if _lies_in(module, folder)]:
                del sys.modules[name]
        own = _listed(path)
        for name in [name for name in sys.modules if self._hides(name, own)]:
            del sys.modules[name]
        sys.path.insert(0, _ModelPath(path))
        importlib.invalidate_caches()

    def _hides(self, name: str, listed: frozenset[str]) -> bool:
        """Whether the folder has a module of the same name as one that came from elsewhere.

        Args:
            name: of the module that came.
            listed: what the folder holds; a look at the disk for each module takes 40 ms.
        """
        top = name.split(".")[0]
        if top not in listed and f"{top}.py" not in listed:
            return False
        own = (self.path / f"{top}.py").is_file() or (self.path / top / "__init__.py").is_file()
        if not own and getattr(sys.modules.get(top), "__file__", None) is None:
            own = (self.path / top).is_dir()  # such a folder hides none but its like
        module = sys.modules[name]
        return own and not _lies_in(module, self.path) and not _is_installed(module)

    def mentions(self, key: str) -> bool:
        """Whether the code that has been loaded from the folder names a key of the config."""
        word = re.compile(rf"{re.escape(key)}\b")
        own = [m for m in list(sys.modules.values()) if _lies_in(m, self.path)]
        files = [Path(getattr(module, "__file__", None) or "") for module in own]
        sources = [file for file in files if file.suffix == ".py"]
        return any(word.search(f.read_text(encoding="utf-8", errors="replace")) for f in sources)

    def load(self, module: str, class_name: str, scores: bool = False) -> Any:
        """A class of one of the folder's modules.

        Args:
            module: the module's plain name.
            class_name: a key of :data:`CONTRACT`.
            scores: it is to score rows, with one of :data:`SCORING`.

        Raises:
            UserError: no such module, class or method, or the module cannot be imported.
        """
        file, loaded = self._import(module)
        found = getattr(loaded, class_name, None)
        if found is None:
            raise UserError(f"{file} has no class {class_name}")
        for method in (*CONTRACT[class_name], *([SCORING[class_name]] if scores else [])):
            if not callable(getattr(found, method, None)):
                raise UserError(f"{file}: class {class_name} has no method {method}")
        if class_name == "RecDataset" and not (
            hasattr(found, "__iter__") or hasattr(found, "__getitem__")
        ):
            raise UserError(f"{file}: class RecDataset has neither __iter__ nor __getitem__")
        return found

    def load_function(self, module: str, name: str) -> Any:
        """A function of one of the folder's modules.

        Raises:
            UserError: no such module or function, or the module cannot be imported.
        """
        file, loaded = self._import(module)
        found = getattr(loaded, name, None)
        if not callable(found):
            raise UserError(f"{file} has no function {name}")
        return found

    def _import(self, module: str) -> tuple[Path, ModuleType]:
        file = self.path / (module.replace(".", "/") + ".py")
        try:
            return file, importlib.import_module(module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                raise UserError(f"model directory {self.path} has no {module}.py") from error
            if getattr(error, "user_error", False):
                raise
            raise UserError(f"{file} cannot be imported: {describe(error, self.path)}") from error


def _listed(folder: Path) -> frozenset[str]:
    """Names in a folder; of one that cannot be listed Python imports nothing either."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


class _ModelPath(str):
    """An entry of ``sys.path`` that this module put there."""


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether a plain module or a package lies directly in ``folder``."""
    return any(_lies_directly_in(place, folder) for place in _places(module))


@cache
def _lies_directly_in(place: str, folder: Path) -> bool:
    # Every module of Paddle asks, and they lie in few folders.
    return Path(place).parent == folder


def _is_installed(module: ModuleType) -> bool:
    """Whether a module is Python's own, an installed package's, or one of these tools'."""
    homes = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    homes.add(str(Path(__file__).parents[1]))
    places = _places(module)
    return not places or any(Path(place).is_relative_to(home) for home in homes for place in places)


def _places(module: ModuleType) -> list[str]:
    """File or folders of a module's top-level package; none for one that has neither.

    A folder without ``__init__.py`` is a package too, and may be made of several.
    """
    name = getattr(module, "__name__", None)
    top = sys.modules.get(name.split(".")[0]) if name else None
    spec = getattr(top, "__spec__", None)
    folders = getattr(spec, "submodule_search_locations", None)
    if folders is not None:
        return list(folders)
    origin = getattr(top, "__file__", None)
    return [origin] if origin else []
