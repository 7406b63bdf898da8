"""Writes files: under another name first, then renamed, so that a reader never finds half a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from dbkit.errors import DbkitError


def write_text(name: str, content: str, *, option: str) -> None:
    """Write a file, and make its folders. Raises DbkitError, which names the `option`, where that cannot be done."""
    try:
        if _takes_text(Path(name)):
            Path(name).write_text(content, encoding="utf-8")
            return
        path, beside = _places(name)
        try:
            beside.write_text(content, encoding="utf-8")
            if path.exists():
                shutil.copymode(path, beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise DbkitError(unwritable(name, error.strerror, option)) from None


def unwritable(name: str, reason: str | None, option: str) -> str:
    """The line on a file that cannot be written; `option` is what named it."""
    return f"cannot write {name}: {reason}; choose another place with {option}"


def check_writable(name: str, *, option: str) -> None:
    """Make the folders of a file that will be written. Raises DbkitError where `write_text` would."""
    try:
        if Path(name).is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if not _takes_text(Path(name)):
            _, beside = _places(name)
            beside.touch()
            beside.unlink()
    except OSError as error:
        raise DbkitError(unwritable(name, error.strerror, option)) from None


def _takes_text(path: Path) -> bool:
    """Whether it is a device or a pipe, such as /dev/stdout, which is written to and not replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _places(name: str) -> tuple[Path, Path]:
    """Where a file will be, in a folder that is made here, and where it is written first. A link's target is meant."""
    path = Path(os.path.realpath(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, path.with_name(f".{path.name}.{os.getpid()}")


def check_distinct(paths: Mapping[str, str]) -> None:
    """Raise DbkitError where two of the paths are one file; each is keyed by what names it, such as `--report`.

    Symbolic links are followed, and what is not there yet is compared by where it would be.
    """
    for (one, path), (other, other_path) in combinations(paths.items(), 2):
        if os.path.realpath(path) == os.path.realpath(other_path):
            raise DbkitError(f"{one} and {other} are the same file, {path}; choose another place for one of them")
