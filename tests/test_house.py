"""Where things may stand in this repository, read from the sources; nothing of ours is imported."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MODULES_IN_A_FOLDER = 12
LINES_OF_A_MODULE = 350
LINES_OF_A_FUNCTION = 60
PUBLIC_METHODS = 15
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Modules of Paddle that its documentation does not have, and that its releases move about; of all
# its modules, what starts with an underscore.
PRIVATE = re.compile(
    r"paddle\.(_(?!_)|base\b|core\b|decomposition\b|fluid\b|framework\b|io\.dataloader\b|pir"
    r"|optimizer\.(?!lr\b)[a-z]|static\.(io|pir_io|nn\.metric)\b|.*\._(?!_))"
)
# Names with an underscore that are none of Paddle's.
EXCUSED = {
    "os._exit": "documented",
    "pickle._Unpickler": "the unpickler written in Python: only its opcodes can be replaced",
    "lock._context": "filelock tells only there whether a lock holds a file",
    "self._lock._context": "the same",
    "settings._check": "an object of the class whose method asks",
}
BY_NAME = ("getattr", "setattr", "hasattr", "delattr")
ONESELF = ("self", "cls", "super()")
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make"}  # of named tuples

ALL = sorted(
    file
    for folder in (
        *(
            "",
            "benchmarks/",
            "data/",
            "datasets/**/",
            "doc/**/",
            "fuzz/",
            "prediction_rows/",
            "raw_tables/",
            "tools/**/",
        ),
    )
    for file in ROOT.glob(f"{folder}*.py")
)
# The model directory and what drives it; the rest are scripts.
MODEL_DIRECTORY = (ROOT, ROOT / "prediction_rows", ROOT / "raw_tables")
CORE = [f for f in ALL if f.parent in MODEL_DIRECTORY or (ROOT / "tools") in f.parents]
TREES = {file: ast.parse(file.read_text("utf-8"), str(file)) for file in ALL}


def name_of(file: Path) -> str:
    """A file or folder as it is written in a message."""
    return file.relative_to(ROOT).as_posix()


def hold(found: set[str]) -> None:
    """No violation."""
    assert not found, "\n".join(sorted(found))


def script(path: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(f"_{Path(path).stem}", ROOT / path)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    """What draws the architecture."""
    return script("doc/draw_architecture.py")


def test_each_folder_says_in_a_sentence_what_lives_there_and_is_small() -> None:
    found = set()
    for folder in sorted({file.parent for file in ALL if (ROOT / "tools") in file.parent.parents}):
        name, init = name_of(folder), TREES.get(folder / "__init__.py")
        sentence = (init and ast.get_docstring(init)) or ""
        if not re.fullmatch(r"[A-Z](?:(?![.!?] )[^\n])*\.", sentence):
            found.add(f"{name}: the docstring of __init__.py is one sentence on one line")
        if len(list(folder.glob("[!_]*.py"))) > MODULES_IN_A_FOLDER:
            found.add(f"{name}: more than {MODULES_IN_A_FOLDER} modules")
    hold(found)


def test_imports_between_rooms_run_one_way(drawing: ModuleType) -> None:
    _, _, imports = drawing.read_rooms()
    order = drawing.ORDER
    assert [room for room in imports if room not in order] == [], "ORDER names every room"
    found = {
        f"{room} imports {other}"
        for room, others in imports.items()
        for other in others
        if order.index(other) >= order.index(room) and other != drawing.MODEL
    }
    hold(found)


def test_tools_and_model_directory_import_nothing_of_each_other() -> None:
    model = {
        f.stem if f.parent == ROOT else f.parent.name for f in CORE if f.parent in MODEL_DIRECTORY
    }
    tops = {True: {"rec_runner", "rec_plots"}, False: model}
    found = {
        f"{name_of(file)} imports {module}"
        for file in CORE
        for module in imported(TREES[file])
        if module.split(".")[0] in tops[file.parent in MODEL_DIRECTORY] - {"__init__"}
    }
    hold(found)


def test_imports_are_absolute_and_none_goes_to_a_sibling_inside_a_room() -> None:
    tools, found = ROOT / "tools", set()
    for file in CORE:
        if tools not in file.parents:
            continue
        for node in ast.walk(TREES[file]):
            if isinstance(node, ast.ImportFrom) and node.level:
                found.add(f"{name_of(file)}:{node.lineno}: a relative import")
        for module in imported(TREES[file]):  # engine/dygraph does not know engine/static
            parts = module.split(".")[:3]
            folder = tools.joinpath(*parts)
            beside = folder.parent == file.parent.parent and folder != file.parent
            if len(parts) == 3 and folder.is_dir() and beside:
                found.add(f"{name_of(file)} imports {module}")
    hold(found)


def test_nothing_private_of_paddle_is_used_outside_its_room() -> None:
    known = heirs(TREES.values())
    hold(
        {
            f"{name_of(file)}:{use}"
            for file, tree in TREES.items()
            if file.parent.name != "paddle_api"
            for use in private_uses(tree, known)
        }
    )


def test_private_uses_are_found() -> None:
    source = """
import paddle.base
import paddle as p, paddle.nn.functional as F, importlib
from paddle import _C_ops
from paddle.base import framework
from paddle.optimizer.adamw import AdamW
from paddle.static.nn.metric import auc
from paddle import base as ground
paddle.framework.in_pir_mode()
p.base.core.eager
F._private
optimizer._learning_rate
optimizer._save
getattr(optimizer, "_accumulators", {})
setattr(optimizer, "_grad", 1)
getattr(p, "pir")
importlib.import_module("paddle.base.core")
kept = paddle.static; kept.io
_accumulators = optimizer._accumulators
class Z(paddle.optimizer.Adam): seen = lambda self: self._accumulators
class Y(Z): seen = lambda self: super()._accumulators
class X(Y): seen = lambda self: [_grads for _grads in self._grads]
"""
    tree = ast.parse(source)
    lines = {int(use.split(":")[0]) for use in private_uses(tree, heirs([tree]))}
    plain = {3}  # its names are private only where they are used
    assert lines == set(range(2, len(source.splitlines()) + 1)) - plain
    fine = """
import paddle, paddle.base_of_ours, paddle.optimizer.lr as lr
from paddle.optimizer import Adam
from paddle.static import auc
paddle.static.auc, paddle.nn.Layer.__init__, values._replace(a=1)
class Z:
    seen = lambda self: self._mine + self.optimizer.step()
class Y(paddle.nn.Layer):
    def _mine(self): self._kept = self._mine() + self._kept
"""
    tree = ast.parse(fine)
    assert list(private_uses(tree, heirs([tree]))) == []


def private_uses(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """``line: expression`` of each use; ``known`` are the names of classes made from Paddle's."""
    meant = meanings(tree)
    for node in ast.walk(tree):
        names = list(imported(node)) if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.Constant):  # as importlib takes it
            names = [str(node.value)] if re.fullmatch(r"[\w.]+", str(node.value)) else []
        for owner, attribute in touched(node):
            names.append(in_full(f"{owner}.{attribute}", meant))
            if owner not in ONESELF and is_hidden(owner, attribute):
                yield f"{node.lineno}: {owner}.{attribute}"
        yield from (
            f"{getattr(node, 'lineno', 0)}: {name}" for name in names if PRIVATE.match(name)
        )
        if isinstance(node, ast.ClassDef) and node.name in known:
            own = set(defined(node))
            for part in ast.walk(node):
                for owner, attribute in touched(part):
                    inherited = owner == "super()" or attribute not in own
                    if owner in ONESELF and inherited and is_hidden(owner, attribute):
                        yield f"{part.lineno}: {owner}.{attribute}"


def is_hidden(owner: str, attribute: str) -> bool:
    """Whether the attribute is private, and none that is known to be harmless."""
    hidden = re.match("_(?!_)", attribute) and attribute not in DOCUMENTED
    return bool(hidden) and f"{owner}.{attribute}" not in EXCUSED


def meanings(tree: ast.Module) -> dict[str, str]:
    """What the names stand for that a module imports, or gives to what it imported."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.Name, ast.Attribute)):
            value = in_full(ast.unparse(node.value), found)
            if isinstance(node.targets[0], ast.Name) and value.startswith("paddle"):
                found[node.targets[0].id] = value
    return found


def in_full(dotted: str, meant: dict[str, str]) -> str:
    """A dotted name with what its first part stands for."""
    first, dot, rest = dotted.partition(".")
    return meant.get(first, first) + dot + rest


def heirs(trees: Iterable[ast.Module]) -> set[str]:
    """Names of the classes that are made from Paddle's, at any remove."""
    bases = [
        (node.name, [in_full(ast.unparse(base), meant) for base in node.bases])
        for tree in trees
        for meant in [meanings(tree)]
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    found: set[str] = set()
    for _ in bases:
        found |= {
            name
            for name, of in bases
            if any(base.startswith("paddle.") or base.split(".")[-1] in found for base in of)
        }
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a module imports, names of modules' members among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def defined(tree: ast.ClassDef) -> Iterator[str]:
    """Names of a class's methods, and of what they set of themselves."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                yield node.attr


def touched(node: ast.AST) -> Iterator[tuple[str, str]]:
    """``owner.attribute``, or the same by ``getattr``."""
    if isinstance(node, ast.Attribute):
        yield ast.unparse(node.value), node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
        for name in node.args[1:2]:
            if isinstance(name, ast.Constant):
                yield ast.unparse(node.args[0]), str(name.value)


def test_modules_classes_and_functions_are_short() -> None:
    found = set()
    for file, tree in TREES.items():
        lines = file.read_text("utf-8").splitlines()
        if len(lines) > LINES_OF_A_MODULE and not re.search("^# long: .", "\n".join(lines), re.M):
            found.add(name_of(file))
        for node in ast.walk(tree):
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                continue
            head = "\n".join(lines[max(node.lineno - 2, 0) : node.body[0].lineno])
            if isinstance(node, FUNCTIONS):
                long = (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION
            else:
                methods = [n for n in node.body if isinstance(n, FUNCTIONS)]
                long = sum(not m.name.startswith("_") for m in methods) > PUBLIC_METHODS
            if long and not re.search(r"# long: .", head):
                found.add(f"{name_of(file)}: {node.name}")
    hold(found)


def test_the_picture_is_of_the_sources(drawing: ModuleType) -> None:
    fresh = drawing.PICTURE.read_text("utf-8") == drawing.draw()
    assert fresh, "run: python doc/draw_architecture.py"


@pytest.mark.parametrize("page", ["doc/architecture.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    text = re.sub("```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.S)
    named = re.findall(r"`([\w./-]+(?:\.(?:py|md|toml|txt|yaml|yml|json)|/))`", text)
    named += re.findall(r"\]\((?!http)([^)#]+)", text)
    folders = [
        ROOT,
        ROOT / "doc",
        ROOT / "tools",
        ROOT / "tools/rec_runner",
        ROOT / "tools/rec_plots",
    ]
    missing = {name for name in named if not any((folder / name).exists() for folder in folders)}
    assert named
    hold(missing)


def test_hosted_checks_are_those_of_make() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    matrix = [
        (line["python"], line["setting"])
        for line in jobs["compat"]["strategy"]["matrix"]["include"]
    ]
    tested = [step["with"]["python-version"] for step in jobs["test"]["steps"][1:2]]
    assert [*zip(tested, ["py311-paddle33"]), *matrix] == [
        (setting.python, setting.name) for setting in script("tests/compat/run.py").SETTINGS
    ]  # the first is what ``make test`` runs on
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert [command.split()[:2] for command in commands] == [
        ["make", "test"],
        ["make", "test-compat"],
    ]
    assert {"test", "test-compat", "lint"} <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [hook["repo"] for hook in hooks] == ["local"]


def test_golden_records_are_compared_in_the_runs_that_both_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {"sample": {"auc": "1", "loss": "2"}, "real": {"auc": "3"}}
    for name, kept in (
        ("all", runs),
        ("no_real", {"sample": runs["sample"]}),
        ("differs", {"sample": {"auc": "1", "loss": "0"}}),
        ("lacks", {"sample": {"auc": "1"}}),
        ("none", {}),
    ):
        taken_on = {"processor": "some", "paddlepaddle": "3.3.1", "runs": kept}
        (tmp_path / name).write_text(json.dumps(taken_on), "utf-8")
    compare = script("tests/golden/golden.py").compare
    others = ("all", "no_real", "differs", "lacks", "none")
    assert [compare(tmp_path / "all", tmp_path / other) for other in others] == [0, 0, 1, 1, 1]
    assert [line for line in capsys.readouterr().out.splitlines() if "figures" in line] == [
        "0 of 3 figures differ",
        "0 of 2 figures differ",
        "1 of 2 figures differ",
        "1 of 2 figures differ",
    ]
