"""Lock files: which packages, in which versions, a side runs with. They are requirements files that pin each package.

Environments are made of them in `dbkit.sides.environments`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dbkit.errors import DbkitError, without_secrets

_WRITERS = "uv pip compile and pip freeze write such files"
_EXPORTS = {
    "uv.lock": "uv export --frozen --no-emit-project --output-file",
    "poetry.lock": "poetry export --output",
    "pdm.lock": "pdm export --output",
    "Pipfile.lock": "pipenv requirements >",
    "pylock.toml": "in an environment made from it, pip freeze >",
}
"""What to type for a requirements file of another kind of lock file, by its name."""
_PIN = re.compile(r"[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*(={2,3}\s*[^\s,;*]+(\s|;|$)|@\s*\S)")
_NAMED_FOLDER = re.compile(r"[\w.-]+\s*@\s*file://(?P<folder>[^\s;#]+)")
_OPTION = re.compile(r"(?P<name>-[a-z]|--[a-z-]+)(?:\s*=\s*|\s+|(?<=^-[a-z]))(?P<value>.+)|(?P<flag>--[a-z-]+)$")


@dataclass(frozen=True)
class Lock:
    """A lock file that was read, with those that it names."""

    name: str
    """As it was given."""
    lines: tuple[str, ...]
    """Pins, and options of pip, without comments."""
    left_out: tuple[str, ...]
    """Folders and editable packages: the project itself, whose code each side has in its checkout."""

    @property
    def options(self) -> list[str]:
        """Options that also say where other packages are found, such as `--index-url`."""
        return [line for line in self.lines if line.startswith("-") and line != "--require-hashes"]


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises DbkitError for a file that is no such thing, or that leaves a version open."""
    kinds = (kind for kind in _EXPORTS if path.name == kind or (kind == "pylock.toml" and _is_pylock(path.name)))
    if (kind := next(kinds, None)) is not None:
        raise DbkitError(f"{path} is no requirements file: type {_EXPORTS[kind]} requirements-lock.txt, and name that")
    lines: list[str] = []
    left_out: list[str] = []
    for line in _lines(path, []):
        (left_out if _is_project(line) else lines).append(line)
    if all(line.startswith("-") for line in lines):
        raise DbkitError(f"{path} pins no package: {_WRITERS}")
    return Lock(str(path), tuple(lines), tuple(left_out))


def _is_pylock(name: str) -> bool:
    return name.startswith("pylock.") and name.endswith(".toml")


def _lines(path: Path, readers: list[Path]) -> Iterator[str]:
    """What is said in a file and those that it names, which are named by `readers` in turn."""
    if path in readers:
        raise DbkitError(f"{path} names itself by -r")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DbkitError(f"cannot read the lock file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DbkitError(f"{path} is no requirements file: {_WRITERS}") from None
    for number, line in _logical_lines(text):
        option = _OPTION.fullmatch(line)
        name, value = (option["name"] or option["flag"], option["value"]) if option else ("", "")
        if name in ("-r", "--requirement") and value:
            yield from _lines(path.parent / value, [*readers, path])
        elif name in ("-e", "--editable"):
            yield f"--editable {value}"
        elif name in ("-f", "--find-links") and value and (path.parent / value).exists():
            yield f"--find-links {(path.parent / value).resolve()}"
        elif (name and name not in ("-c", "--constraint")) or _PIN.match(line) or _is_folder(path.parent, line):
            yield line
        else:
            raise DbkitError(
                f"{path}:{number}: {without_secrets(line)!r} is no pin such as SQLAlchemy==2.1.9; {_WRITERS}"
            )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of each, without comments; a line that ends in a backslash goes on in the next."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first or number
        joined += re.sub(r"(^|\s)#.*", "", line)
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        if joined.strip():
            yield first, joined.strip()
        joined, first = "", 0
    if joined.strip():
        yield first, joined.strip()


def _is_folder(place: Path, line: str) -> bool:
    """Whether pip takes a line for a folder. A name alone is a package, also beside a folder that is called so."""
    return (line.startswith(".") or "/" in line) and (place / line).is_dir()


def _is_project(line: str) -> bool:
    if line.startswith("-"):
        return line.startswith("--editable ")
    named = _NAMED_FOLDER.match(line)
    return Path(unquote(named["folder"])).is_dir() if named else not _PIN.match(line)
