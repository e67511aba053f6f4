"""Import the modules of a model directory by their plain names, one directory at a time."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from rec_runner.errors import UserError

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


class ModelDir:
    """A folder with ``dygraph_model.py``, ``static_model.py`` and reader modules.

    The folder goes to the front of ``sys.path``; modules that another model directory left
    behind under the same names are forgotten first, so that each directory gets its own.

    Args:
        path: the folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for old in [entry for entry in sys.path if isinstance(entry, _ModelPath)]:
            sys.path.remove(old)
            for name in [n for n, module in sys.modules.items() if _lies_in(module, Path(old))]:
                del sys.modules[name]
        sys.path.insert(0, _ModelPath(path))
        importlib.invalidate_caches()

    def load(self, module: str, class_name: str) -> Any:
        """A class of one of the folder's modules.

        Raises:
            UserError: no such module, class or method.
        """
        file = self.path / (module.replace(".", "/") + ".py")
        try:
            loaded: ModuleType = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise UserError(f"model directory {self.path} has no {module}.py") from error
        found = getattr(loaded, class_name, None)
        if found is None:
            raise UserError(f"{file} has no class {class_name}")
        for method in CONTRACT[class_name]:
            if not callable(getattr(found, method, None)):
                raise UserError(f"{file}: class {class_name} has no method {method}")
        return found


class _ModelPath(str):
    """An entry of ``sys.path`` that this module put there."""


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether a plain module or a package lies directly in ``folder``."""
    origin = getattr(sys.modules.get(module.__name__.split(".")[0]), "__file__", None)
    if not origin:
        return False
    file = Path(origin)
    return folder == (file.parent.parent if file.name == "__init__.py" else file.parent)
