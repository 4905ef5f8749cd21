"""Imports point one way, and the commands that answer stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

LAYERS = [  # rooms in the order in which data flows: a file imports from its own room and from rooms above it
    "errors arrays parallel interrupts heap",
    "settings",
    "config",
    "store",
    "reviews",
    "answers",
    "evaluation",
    "page",
    "service",
    "features",
    "renewal",
    # TensorFlow, imported inside the verbs only
    "model",
    "training",
    "exports",
    # no TensorFlow
    "planning",
    "tuning",
    "commands",
    "cli",
    "__main__",
]
TENSORFLOW = {"model", "training", "exports"}
# files of those rooms that import TensorFlow inside their functions
STARTS = {"cluster", "keras2", "session", "state", "often"}
HEAVY = {"tensorflow", "tf_keras", "tensorflow_recommenders", "tensorflow_datasets", "scann"}
LATE = {"ibis", "duckdb", "pandas", "matplotlib"}
MODULES = sorted((ROOT / "amzrec").rglob("*.py"))


def name_of(file: Path) -> str:
    """The line's name of a file: the room it is in, or the module where it is in none."""
    return file.relative_to(ROOT / "amzrec").parts[0].removesuffix(".py")


def level(name: str) -> int:
    """The line of LAYERS that names a module."""
    found = [number for number, line in enumerate(LAYERS) if name in line.split()]
    assert len(found) == 1, f"LAYERS must name {name} once"
    return found[0]


def imports(tree: ast.AST) -> set[str]:
    """Everything imported under this node, as dotted names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def at_module_level(tree: ast.Module) -> ast.Module:
    """The module without the bodies of its functions and without what only type checkers read."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else node

    outside: ast.Module = ast.fix_missing_locations(Outside().visit(tree))
    return outside


@pytest.mark.parametrize("file", [f for f in MODULES if f != ROOT / "amzrec" / "__init__.py"], ids=str)
def test_a_module_imports_only_from_the_layers_above_it(file: Path) -> None:
    mine = name_of(file)
    names = {name_of(path) for path in MODULES}
    for imported in imports(ast.parse(file.read_text())):
        package, _, rest = imported.partition(".")
        other = rest.partition(".")[0]
        if package != "amzrec" or other not in names or other == mine:
            continue
        assert level(other) < level(mine), f"{file.name} imports {imported}, which is not above it"


def test_every_layer_names_modules_that_exist() -> None:
    there = {name_of(file) for file in MODULES}
    assert {name for line in LAYERS for name in line.split()} <= there


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_heavy_packages_are_imported_late(file: Path) -> None:
    top = {name.partition(".")[0] for name in imports(at_module_level(ast.parse(file.read_text())))}
    assert not top & (LATE - {"ibis"} if name_of(file) == "reviews" else LATE)
    if name_of(file) in TENSORFLOW and file.stem not in STARTS:
        return
    assert not top & HEAVY
    ours = [name.split(".") for name in imports(at_module_level(ast.parse(file.read_text()))) if "amzrec." in name]
    assert not [name for name in ours if name[1] in TENSORFLOW and name[2] not in STARTS]


def test_only_the_command_line_prints_and_knows_typer() -> None:
    outer = {"cli"}
    for file in MODULES:
        if name_of(file) in outer:
            continue
        tree = ast.parse(file.read_text())
        assert "typer" not in imports(tree), file
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], file


def loaded_by(code: str, *packages: str) -> set[str]:
    """Which of the packages a new process has loaded after this code."""
    ending = f"import sys; print('LOADED', *[p for p in {packages!r} if p in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{ending}"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_importing_amzrec_loads_nothing_heavy() -> None:
    assert loaded_by("import amzrec", "numpy", "tensorflow", "pandas", "pyarrow", "typer") == set()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["recommend", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"from amzrec.cli.app import app\ntry: app({words!r})\nexcept SystemExit: pass"
    assert loaded_by(code, "numpy", "tensorflow", "pandas", "pyarrow", "matplotlib", "rich") == set()
