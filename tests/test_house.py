"""The house: its arrows point one way, and its pure rooms stay pure. For the drawing see README.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dbkit

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "dbkit"

MAY_IMPORT = {
    "errors": set(),
    "measure": set(),
    "analysis": {"measure", "errors"},
    "output": {"analysis", "measure", "errors"},
    "database": {"measure", "errors"},
    "workload": {"database", "errors"},
    "todo": {"workload", "database", "errors"},
    "paging": {"todo", "database"},
    "rollback": {"paging", "database"},
    "plans": {"rollback", "paging", "database"},
    "sides": {"database", "errors"},
    "cli": {"sides", "output", "analysis", "plans", "paging", "workload", "todo", "database", "measure", "errors"},
    "pytest_plugin": {"rollback", "paging", "workload", "database", "measure", "errors"},
    "__main__": {"cli"},
    "load": {
        *(
            "cli",
            "sides",
            "output",
            "analysis",
            "plans",
            "rollback",
            "paging",
            "workload",
            "todo",
            "database",
            "measure",
        ),
        "errors",
    },
}
"""Each room with those that it may import from."""

DRIVERS = {"psycopg", "psycopg_pool", "asyncpg", "sqlalchemy"}
LOAD = {"locust", "gevent", "flask"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, with the names taken from dbkit itself."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    room = room_of(path)
    inside = {module.split(".")[1] for module in imported_modules(path) if module.startswith("dbkit.")}
    assert inside <= MAY_IMPORT[room] | {room}


def test_no_files_import_each_other() -> None:
    modules = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in FILES}
    needs = {
        module: {other for name in imported_modules(path) for other in (name, name.rpartition(".")[0])} & modules.keys()
        for module, path in modules.items()
    }
    TopologicalSorter(needs).prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_locust_and_gevent_are_imported_in_load_alone(path: Path) -> None:
    outside = {module.split(".")[0] for module in imported_modules(path)}
    if room_of(path) != "load":
        assert not outside & LOAD
    if room_of(path) != "pytest_plugin":
        assert "pytest" not in outside


def test_code_is_loaded_from_locustfiles_alone() -> None:
    builtins = {"eval", "exec", "compile", "__import__"}
    methods = {"import_module", "exec_module", "run_path", "run_module"}
    found = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) in builtins | methods or getattr(node.func, "attr", None) in methods)
    }
    assert found == {"sides/redirect.py"}  # the next sitecustomize of Python's own path
    assert not {"pickle", "marshal", "shelve", "dill"} & set().union(*map(imported_modules, FILES))


@pytest.mark.parametrize("room", ["measure", "analysis", "output"])
def test_a_pure_room_loads_no_driver(room: str) -> None:
    program = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module('dbkit.{room}')\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & (DRIVERS | LOAD)
    assert not {name for name in loaded if name.startswith("dbkit.database")}


def test_importing_dbkit_is_cheap() -> None:
    program = "import sys, dbkit; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & (DRIVERS | LOAD | {"numpy", "scipy", "plotly", "rich"})


def test_public_names_are_imported_when_they_are_used() -> None:
    program = "from dbkit import *; import dbkit; print(*[name for name in dbkit.__all__ if name in globals()])"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert tuple(run.stdout.split()) == dbkit.__all__
    assert set(dbkit.__all__) <= set(dir(dbkit))
    assert not hasattr(dbkit, "nothing")
