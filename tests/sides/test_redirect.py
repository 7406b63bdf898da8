"""Which files the processes of a side import: its own checkout's, however the application is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.locust_runs import REPOSITORY
from tests.sides.repositories import IDENTITY, Shop, make_shop

# Says, for each side, what its processes import. `sys.argv`: revisions, or two folders; what a process runs.
ASK = """
import os, subprocess, sys
from pathlib import Path
from dbkit.sides.checkouts import checkouts
first, second, program = sys.argv[1:]
folders = (None, Path(first), Path(second)) if second else (first,)
with checkouts(*folders, say=lambda line: None) as sides:
    for side in sides:
        command = [side.python, "-P", "-c", program]
        subprocess.run(command, cwd=side.directory, env=os.environ | side.variables(), check=True)
"""
# As a process with a locustfile goes about it: Locust puts the working directory first.
IMPORT = """
import json, os, sys
sys.path.insert(0, os.getcwd())
import shop.pages, prices, dbkit.errors
from dbkit.sides.redirect import foreign_modules
commits = [shop.COMMIT, shop.pages.COMMIT, prices.COMMIT]
print(json.dumps({"commits": commits, "dbkit": os.path.realpath(dbkit.errors.__file__),
                  "folders": [shop.__file__, prices.__file__], "foreign": foreign_modules(sys.modules),
                  "embedded": os.environ["DBKIT_EMBEDDED_FOLDER"]}))
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A repository whose working directory has a `dbkit` of its own, which nothing may import."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    made = make_shop(tmp_path / "a shop")
    made.write("service/dbkit/__init__.py", "raise RuntimeError('the wrong dbkit')\n")
    made.commit("A dbkit of its own")
    made.git("branch", "--force", "main", "HEAD~1")
    made.git("checkout", "--quiet", "main")
    made.write("service/dbkit/__init__.py", "raise RuntimeError('the wrong dbkit')\n")
    for name in ("shop/__init__.py", "shop/pages.py", "lib/prices.py"):
        made.write(name, "COMMIT = 'before'\n")
    made.commit("Pages before")
    made.git("checkout", "--quiet", "change")
    monkeypatch.chdir(made.root / "service")
    return made


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment in which dbkit's dependencies can be imported. Its Python."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages(folder).joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def packages(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"))


def install(python: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *arguments]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)


def asked(python: Path, first: str, second: str = "", program: str = IMPORT) -> list[dict[str, Any]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    command = [str(python), "-P", "-c", ASK, first, second, program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return [json.loads(line) for line in run.stdout.splitlines()]


def commits(sides: list[dict[str, Any]]) -> list[set[str]]:
    return [set(side["commits"]) for side in sides]


def test_an_editable_package_is_imported_from_each_sides_checkout(shop: Shop, environment: Path) -> None:
    install(environment, "--editable", str(shop.root))
    packages(environment.parents[1]).joinpath("shop-lib.pth").write_text(f"{shop.root}/lib\n")
    for revisions in ("main..change", "main"):
        sides = asked(environment, revisions)
        assert commits(sides) == [{"before"}, {"after"}]
        for side in sides:
            assert side["foreign"] == []
            assert side["dbkit"] == str(REPOSITORY / "dbkit" / "errors.py")
            assert side["embedded"] == str(shop.root / "service" / ".dbkit")
        assert not any(each.startswith(str(shop.root)) for each in sides[0]["folders"])
    # also where the sides are folders, of which one is what was installed
    clone = shop.root.parent / "clone"
    shop.git("clone", "--quiet", "--branch", "main", str(shop.root), str(clone))
    sides = asked(environment, str(clone / "service"), ".")
    assert commits(sides) == [{"before"}, {"after"}]
    assert [side["foreign"] for side in sides] == [[], []]


def test_pythonpath_leads_to_each_sides_checkout_and_what_git_ignores_stays(
    shop: Shop, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(".packages/vendored.py", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["..", str(shop.root / "lib"), str(shop.root / ".packages")]))
    sides = asked(environment, "main..change", program=f"import vendored\n{IMPORT}")
    assert commits(sides) == [{"before"}, {"after"}]
    assert [side["foreign"] for side in sides] == [[], []]


def test_what_a_locustfile_adds_to_the_path_leads_to_each_sides_checkout_too(shop: Shop, environment: Path) -> None:
    added = [str(shop.root), str(shop.root / "lib"), str(shop.root / "of the working tree")]
    shop.write("of the working tree/unknown.py", "")
    program = f"import sys\nsys.path[:0] = {added}\n{IMPORT}"
    sides = asked(environment, "main..change", program=program)
    assert commits(sides) == [{"before"}, {"after"}]
    assert [side["foreign"] for side in sides] == [[], []]
    absent = "try:\n    import unknown\nexcept ModuleNotFoundError: pass\nelse: raise AssertionError"
    sides = asked(environment, "main..change", program=f"import sys\nsys.path[:0] = {added}\n{absent}\n{IMPORT}")
    assert commits(sides) == [{"before"}, {"after"}]


def test_an_environment_in_the_repository_is_used_as_it_is(shop: Shop, environment: Path) -> None:
    inside = shop.root / ".venv"
    environment.parents[1].rename(inside)
    packages(inside).joinpath("shop.pth").write_text(f"{shop.root}\n{shop.root}/lib\n")
    packages(inside).joinpath("sitecustomize.py").write_text("import os\nos.environ['THEIR_HOOK'] = 'has run'\n")
    packages(inside).joinpath("installed.py").write_text("")
    program = f"import installed, os\nassert os.environ['THEIR_HOOK'] == 'has run'\n{IMPORT}"
    sides = asked(inside / "bin" / "python", "main..change", program=program)
    assert commits(sides) == [{"before"}, {"after"}]
    assert [side["foreign"] for side in sides] == [[], []]


def test_what_comes_from_the_working_tree_all_the_same_is_named(shop: Shop, environment: Path) -> None:
    packages(environment.parents[1]).joinpath("shop").symlink_to(shop.root / "shop")
    packages(environment.parents[1]).joinpath("lib.pth").write_text(f"{shop.root}/lib\n")
    before, after = asked(environment, "main..change")
    linked = packages(environment.parents[1]) / "shop" / "__init__.py"
    assert before["foreign"] == after["foreign"] == [f"shop from {linked}"]
    _, after = asked(environment, "main")
    assert after["foreign"] == []


def test_a_copy_of_the_code_that_is_installed_is_named(shop: Shop, environment: Path) -> None:
    install(environment, str(shop.root))
    packages(environment.parents[1]).joinpath("lib.pth").write_text(f"{shop.root}/lib\n")
    for side in asked(environment, "main"):
        assert [each.split(" from ")[0] for each in side["foreign"]] == ["shop"]
        assert side["foreign"][0].endswith(f"a copy of {shop.root} (pip install --editable {shop.root} makes none)")
