"""Environments of lock files: what is in them, and what is said where they cannot be made."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from dbkit.errors import DbkitError
from dbkit.sides.checkouts import Checkout, checkouts
from dbkit.sides.environments import environment, needs_of_dbkit
from dbkit.sides.locks import read_lock
from tests import waiting
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.sides.repositories import IDENTITY, make_shop
from tests.sides.wheels import make_wheel

HERE = importlib.metadata.version("iniconfig")
"""The version of a package that is in the environment of the tests, too."""
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(params=["pip", "uv"])
def installer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The program that makes environments: uv where it is on the path, else pip."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    name: str = request.param
    if name == "uv":
        if not UV.exists():
            pytest.skip("uv is not installed: requirements.txt has it")
        (programs / "uv").symlink_to(UV)
    elif shutil.which("uv"):
        pytest.skip("uv is on the path of the system")
    return name


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the lock files, beside the only packages that there are. dbkit needs some of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    needs = ["needed>=1", "iniconfig[extra]>=1"]
    monkeypatch.setattr("dbkit.sides.environments.needs_of_dbkit", lambda: needs)
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(folder, "tiny", version)
        make_wheel(folder, "needed", version)
    for version in (HERE, "99.0"):
        make_wheel(folder, "iniconfig", version)
    make_wheel(folder, "needed", "0.5")
    return tmp_path


until = partial(waiting.wait_until, deadline_s=DEADLINE_S)


def lock(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(["--no-index", "--find-links wheels  # beside this file", *lines]))
    return path


def versions(side: Checkout, *names: str) -> list[str]:
    program = f"import {', '.join(names)}; print({', '.join(f'{name}.VERSION' for name in names)})"
    command = [str(side.python), "-P", "-c", program]
    variables = os.environ | side.variables()
    return subprocess.check_output(command, cwd=side.directory, env=variables, text=True).split()


def test_each_side_has_the_packages_of_its_lock_file(installer: str, wheels: Path) -> None:
    hashed = make_wheel(wheels / "wheels", "tiny", "1.0")
    one = lock(wheels, "a.txt", hashed)
    other = lock(wheels, "b.txt", "tiny==2.0 ; python_version > '3'", "needed==1.0")
    same = lock(wheels, "c.txt", "# another comment", hashed)
    said: list[str] = []
    with checkouts(lock_before=one, lock_after=other, say=said.append) as (before, after):
        assert (before.name, before.lock, after.name) == (str(one), str(one), str(other))
        assert before.directory == after.directory == wheels
        assert versions(before, "tiny", "needed", "iniconfig") == ["1.0", "2.0", HERE]
        assert versions(after, "tiny", "needed", "iniconfig") == ["2.0", "1.0", HERE]
    assert said == [f"making an environment for {each} …" for each in (one, other)]
    with checkouts(lock_before=same, say=said.append) as (again, own):
        assert (again.python, own.python) == (before.python, Path(sys.executable))
        assert (again.name, own.name, own.lock) == (str(same), "working tree", "")
    assert len(said) == 2
    with checkouts(lock_before=one, lock_after=one, say=said.append) as sides:
        assert [side.name for side in sides] == [f"{one} (before)", f"{one} (after)"]


def test_an_environment_goes_with_a_revision_whose_own_package_is_left_out(
    installer: str, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    shop = make_shop(wheels / "shop")
    monkeypatch.chdir(shop.root)
    monkeypatch.syspath_prepend(str(shop.root / "lib"))  # as a `.pth` file has it in the environment of the tests
    monkeypatch.setenv("PYTHONPATH", str(wheels / "of another environment"))
    make_wheel(wheels, "tiny", "3.0")
    path = lock(wheels, "a.txt", "-e .", "tiny==1.0")
    said: list[str] = []
    with checkouts("main..HEAD", lock_before=path, lock_after=path, say=said.append) as (before, after):
        program = "import prices; print(prices.COMMIT)"
        for side, commit in ((before, "before"), (after, "after")):
            assert "another environment" not in side.variables()["PYTHONPATH"]
            command = [str(side.python), "-P", "-c", program]
            assert subprocess.check_output(command, env=os.environ | side.variables(), text=True).strip() == commit
    left_out = f"{path}: left out --editable .: each side has the project's code in its own checkout"
    assert said == [left_out, f"making an environment for {path} …", left_out]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tiny==3.0", "tiny==3.0"),
        ("tiny==1.0 --hash=sha256:" + 64 * "0", "hash"),
        ("needed==0.5", "has needed 0.5, which does not go with what dbkit needs"),
    ],
)
def test_what_cannot_be_installed_is_one_line_and_leaves_no_environment(
    installer: str, wheels: Path, line: str, said: str
) -> None:
    path = lock(wheels, "a.txt", line)
    with pytest.raises(DbkitError) as mistake:
        environment(read_lock(path), lambda line: None)
    assert str(mistake.value).startswith(str(path))
    assert said in str(mistake.value).replace("HASHES", "hash").replace("Hash", "hash")
    assert "\n" not in str(mistake.value)
    cache = wheels / "a cache" / "dbkit" / "environments"
    assert not [each for each in cache.iterdir() if each.is_dir()]


def test_an_interrupted_environment_is_made_again_and_by_one_process_at_a_time(installer: str, wheels: Path) -> None:
    said: list[str] = []
    path = read_lock(lock(wheels, "a.txt", "tiny==1.0"))
    python = environment(path, said.append)
    (python.parents[1] / "ready").unlink()
    (python.parents[1] / "half").touch()
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda _: environment(path, said.append), range(2)))
    assert made == [python, python] and not (python.parents[1] / "half").exists()
    assert len([line for line in said if line.startswith("making")]) == 2


def test_a_cache_that_cannot_be_written_is_said(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lock(wheels, "a.txt", "tiny==1.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    with pytest.raises(DbkitError, match="XDG_CACHE_HOME names another place"):
        environment(read_lock(path), lambda line: None)


def test_dbkit_needs_what_its_metadata_or_pyproject_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    found = [needs_of_dbkit()]
    monkeypatch.setattr("importlib.metadata.requires", not_installed)
    found.append(needs_of_dbkit())
    for needs in found:
        names = {re.split(r"\W", each)[0] for each in needs}
        assert {"numpy", "SQLAlchemy", "locust", "embedded"} <= names and not {"ruff", "pytest"} & names


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "SQLAlchemy==2.0.36\nflask>=3\n", "a.txt:2: 'flask>=3' is no pin such as SQLAlchemy==2.1.9"),
        ("a.txt", "SQLAlchemy==2.0.*\n", "'SQLAlchemy==2.0.*' is no pin"),
        ("a.txt", "SQLAlchemy==2.0,<3\n", "is no pin"),
        ("a.txt", "sqlalchemy\n", "is no pin"),
        ("a.txt", "-c others.txt\n", "'-c others.txt' is no pin"),
        ("a.txt", "git+https://user:secret@host/x.git\n", "'…' is no pin"),
        ("a.txt", "# nothing\n\n--no-index\n", "a.txt pins no package"),
        ("a.txt", "-e .\n", "a.txt pins no package"),
        ("a.txt", "-r b.txt\n", "cannot read the lock file b.txt: No such file or directory"),
        ("a.txt", "-r a.txt\n", "a.txt names itself by -r"),
        ("a.txt", "\udcff\x00", "a.txt is no requirements file"),
        ("uv.lock", "", "type uv export --frozen --no-emit-project --output-file requirements-lock.txt"),
        ("poetry.lock", "", "type poetry export --output requirements-lock.txt"),
        ("pylock.app.toml", "", "pip freeze > requirements-lock.txt"),
        ("pyproject.toml", "[project]\n", "pyproject.toml:1: '[project]' is no pin"),
    ],
)
def test_a_bad_lock_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DbkitError) as mistake, checkouts(lock_after=Path(name)):
        pass
    assert said in str(mistake.value) and "\n" not in str(mistake.value)


def test_what_a_lock_file_may_hold(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("uvloop===0.23.0  # a comment\n")
    (tmp_path / "libs" / "own").mkdir(parents=True)
    path = tmp_path / "a.txt"
    path.write_text(
        "--index-url https://index/simple\n-r more.txt\nSQLAlchemy[asyncio] == 2.0.36 \\\n    --hash=sha256:00\n"
        f"-e git+https://host/shop.git@1a2b#egg=shop\n./libs/own\nown @ file://{tmp_path}/libs/own\n"
        "x @ https://host/x-1.whl#sha256=00\n--pre\n"
    )
    read = read_lock(path)
    assert [" ".join(line.split()) for line in read.lines] == [
        *("--index-url https://index/simple", "uvloop===0.23.0", "SQLAlchemy[asyncio] == 2.0.36 --hash=sha256:00"),
        *("x @ https://host/x-1.whl#sha256=00", "--pre"),
    ]
    assert len(read.left_out) == 3
    assert read.options == ["--index-url https://index/simple", "--pre"]


# Makes the environment of a lock file. SIGTERM raises an exception, as in `dbkit diff`.
PROGRAM = """
import signal, sys
from pathlib import Path
from dbkit.sides.environments import environment
from dbkit.sides.locks import read_lock
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
environment(read_lock(Path("a.txt")), lambda line: print(line, flush=True))
"""
# The build of a package, which goes on until it is killed.
BUILD = """
import os, time
open(os.environ["BUILDS"], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_installer_and_leaves_no_environment(
    installer: str, wheels: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    (wheels / "slow").mkdir()
    (wheels / "slow" / "backend.py").write_text(BUILD)
    (wheels / "slow" / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow"\nversion = "1"\n'
    )
    with tarfile.open(wheels / "wheels" / "slow-1.tar.gz", "w:gz") as archive:
        archive.add(wheels / "slow", "slow-1")
    lock(wheels, "a.txt", "slow==1")
    builds = wheels / "builds"
    monkeypatch.setenv("BUILDS", str(builds))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=subprocess.DEVNULL) as process:
        until(lambda: builds.exists() and builds.read_text() != "")
        process.send_signal(number)
        process.wait(DEADLINE_S)
    until(lambda: not psutil.pid_exists(int(builds.read_text())))
    cache = wheels / "a cache" / "dbkit" / "environments"
    assert not [each for each in cache.iterdir() if each.is_dir()]
