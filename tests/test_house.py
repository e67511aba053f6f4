"""Where things may stand in this repository, read from the sources; nothing of ours is imported."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MODULES_IN_A_FOLDER = 12
LINES_OF_A_MODULE = 350
LINES_OF_A_FUNCTION = 60
PUBLIC_METHODS = 15
# Modules of Paddle that its documentation does not have, and that its releases move about.
UNDOCUMENTED = (
    "paddle.base",
    "paddle.fluid",
    "paddle.framework.core",
    "paddle.framework.io",
    "paddle.io.dataloader",
    "paddle.pir",
    "paddle.pir_utils",
    "paddle.decomposition",
)
# Names with an underscore that are none of Paddle's.
EXCUSED = {
    "os._exit": "documented",
    "pickle._Unpickler": "the unpickler written in Python: only its opcodes can be replaced",
    "lock._context": "filelock tells only there whether a lock holds a file",
    "self._lock._context": "the same",
}
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make"}  # of named tuples

ALL = sorted(
    file
    for folder in ("", "benchmarks/", "data/", "datasets/**/", "doc/**/", "fuzz/", "tools/**/")
    for file in ROOT.glob(f"{folder}*.py")
)
# The model directory and what drives it; the rest are scripts.
CORE = [file for file in ALL if file.parent == ROOT or (ROOT / "tools") in file.parents]
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
    tops = {True: {"rec_runner", "rec_plots"}, False: {f.stem for f in CORE if f.parent == ROOT}}
    found = {
        f"{name_of(file)} imports {module}"
        for file in CORE
        for module in imported(TREES[file])
        if module.split(".")[0] in tops[file.parent == ROOT] - {"__init__"}
    }
    hold(found)


def test_nothing_private_of_paddle_is_used_outside_its_room() -> None:
    found = set()
    for file in CORE:
        if file.parent.name == "paddle_api":
            continue
        own = {*DOCUMENTED, *defined(TREES[file])}
        for module in imported(TREES[file]):
            if module.startswith(UNDOCUMENTED) or re.match(r"paddle\b.*\._", module):
                found.add(f"{name_of(file)}: {module}")
        for node in ast.walk(TREES[file]):
            dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"[\w.]+", dotted) and dotted in UNDOCUMENTED:
                found.add(f"{name_of(file)}: {dotted}")
            for owner, attribute in touched(node):
                private = re.match(r"_(?!_)", attribute) and attribute not in own
                if private and f"{owner}.{attribute}" not in EXCUSED:
                    found.add(f"{name_of(file)}: {owner}.{attribute}")
    hold(found)


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of what a module imports, names of modules' members among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def defined(tree: ast.Module) -> Iterator[str]:
    """Names of functions and classes of a module, and of all that is assigned in it."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                yield node.attr


def touched(node: ast.AST) -> Iterator[tuple[str, str]]:
    """``owner.attribute`` of an object other than oneself, or the same by ``getattr``."""
    if isinstance(node, ast.Attribute):
        if ast.unparse(node.value) not in ("self", "cls", "super()"):
            yield ast.unparse(node.value), node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
        if isinstance(node.args[1], ast.Constant):
            yield ast.unparse(node.args[0]), str(node.args[1].value)


def test_modules_classes_and_functions_are_short() -> None:
    found = set()
    for file, tree in TREES.items():
        lines = file.read_text("utf-8").splitlines()
        if len(lines) > LINES_OF_A_MODULE and not re.search("^# long: .", "\n".join(lines), re.M):
            found.add(name_of(file))
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            head = "\n".join(lines[max(node.lineno - 2, 0) : node.body[0].lineno])
            if isinstance(node, ast.FunctionDef):
                long = (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION
            else:
                methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
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
    matrix = [line["setting"] for line in jobs["compat"]["strategy"]["matrix"]["include"]]
    settings = [s.folder.name.replace(".venv-", "") for s in script("tests/compat/run.py").SETTINGS]
    assert settings == ["py311-paddle33", *matrix]  # the first is what ``make test`` runs on
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert [command.split()[:2] for command in commands] == [
        ["make", "test"],
        ["make", "test-compat"],
    ]
    assert {"test", "test-compat", "lint"} <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [hook["repo"] for hook in hooks] == ["local"]
