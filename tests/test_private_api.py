"""Nothing private of Paddle outside ``tools/rec_runner/paddle_api``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

HOME = ROOT / "tools" / "rec_runner" / "paddle_api"
FILES = [
    file
    for pattern in ("*.py", "tools/**/*.py", "benchmarks/*.py", "datasets/**/*.py")
    for file in sorted(ROOT.glob(pattern))
    if HOME not in file.parents
]
# Modules of Paddle that its documentation does not name, and parts that start with "_".
PRIVATE = re.compile(
    r"paddle\.(_(?!_)|base\b|framework\b|core\b|pir|fluid\b|io\.dataloader\b|static\.(pir_io|io|nn\.metric)\b"
    r"|optimizer\.(adamw?|optimizer)\b|.*\._(?!_))"
)
# Private attributes of other libraries' objects and of our own.
OURS = {"_replace", "_asdict", "_fields", "_check", "_exit", "_save", "_context", "_Unpickler"}


def private_parts(file: Path) -> Iterator[str]:
    """``line: expression`` of each use."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
            of_own = ast.unparse(node.value) in ("self", "cls", "super()")
            hidden = node.attr.startswith("_") and not node.attr.startswith("__")
            if hidden and not of_own and node.attr not in OURS:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            word = node.args[1]
            value = str(word.value) if isinstance(word, ast.Constant) else ""
            if re.match("_(?!_)", value) and value not in OURS:
                yield f"{node.lineno}: {ast.unparse(node)}"
        yield from (f"{node.lineno}: {name}" for name in names if PRIVATE.match(name))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_paddle_api_knows_what_is_private_in_paddle(file: Path) -> None:
    assert list(private_parts(file)) == []


def test_uses_are_found(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(
        "import paddle.base\n"
        "from paddle import _C_ops\n"
        "from paddle.base import framework\n"
        "a = paddle.framework.in_pir_mode()\n"
        "b = optimizer._learning_rate\n"
        "c = getattr(optimizer, '_accumulators', {})\n"
        "d = self._mine, paddle.static.auc, values._replace(a=1), self.optimizer.step()\n"
    )
    lines = [part.split(":")[0] for part in private_parts(tmp_path / "some.py")]
    assert sorted(set(lines)) == ["1", "2", "3", "4", "5", "6"]
