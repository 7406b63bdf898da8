"""Which files of a side are watched, and what counts as a change of one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from dbkit.sides.files import changed_file, note_imports
from dbkit.sides.redirect import Route


@pytest.fixture
def route(tmp_path: Path) -> Route:
    checkout = tmp_path / "checkout"
    (checkout / "shop").mkdir(parents=True)
    (checkout / "shop" / "pages.py").write_text("def titles(session):\n    return []\n")
    return Route(str(checkout), [], [str(checkout / ".venv")], [], record=str(tmp_path / "imported.json"))


def imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages(route: Route) -> Path:
    return Path(route.checkout) / "shop" / "pages.py"


def become_a_package(file: Path) -> None:
    content = file.read_text()
    file.unlink()
    file.with_suffix("").mkdir()
    (file.with_suffix("") / "__init__.py").write_text(content)


@pytest.mark.parametrize(
    "change",
    [lambda file: file.write_text("titles = None\n"), Path.unlink, become_a_package],
    ids=["written", "removed", "a package"],
)
def test_a_module_that_was_imported_is_watched(route: Route, change: Callable[[Path], None]) -> None:
    note_imports(route, sys.modules | {"pages": imported(pages(route))})
    assert changed_file(route) == ""
    change(pages(route))
    assert changed_file(route) == "shop/pages.py"


def test_the_same_content_is_no_change(route: Route) -> None:
    note_imports(route, {"pages": imported(pages(route))})
    pages(route).write_bytes(pages(route).read_bytes())
    pages(route).touch()
    assert changed_file(route) == ""


def test_what_is_noted_later_adds_files_and_leaves_the_others(route: Route) -> None:
    note_imports(route, {"pages": imported(pages(route))})
    pages(route).write_text("titles = None\n")
    later = pages(route).with_name("later.py")
    later.write_text("")
    note_imports(route, {"pages": imported(pages(route)), "later": imported(later)})
    assert changed_file(route) == "shop/pages.py"
    pages(route).write_text("def titles(session):\n    return []\n")
    assert changed_file(route) == ""
    later.unlink()
    assert changed_file(route) == "shop/later.py"


def test_what_is_not_imported_from_there_is_not_watched(route: Route, tmp_path: Path) -> None:
    kept, elsewhere = Path(route.kept[0]) / "package.py", tmp_path / "elsewhere.py"
    kept.parent.mkdir()
    for file in (kept, elsewhere):
        file.write_text("")
    note_imports(route, {file.stem: imported(file) for file in (kept, elsewhere)})
    for file in (kept, elsewhere, pages(route)):
        file.write_text("changed = True\n")
    assert changed_file(route) == ""


def test_a_checkout_that_nobody_changes_is_not_watched(route: Route) -> None:
    unwatched = Route(route.checkout, [], [], [])
    note_imports(unwatched, {"pages": imported(pages(route))})
    pages(route).unlink()
    assert changed_file(unwatched) == changed_file(None) == ""
