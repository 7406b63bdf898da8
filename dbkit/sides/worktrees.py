"""Private folders with a commit checked out in them, which are gone afterwards, whatever happens in between.

A folder's name has the machine, the process and its start. What a killed process has left is removed at the next start.
No branch is made. The user's working tree and index are not touched.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from dbkit.errors import DbkitError
from dbkit.sides.git import Commit, Repository

_PREFIX = f"dbkit-diff-{socket.gethostname()}-"
_NAME = re.compile(re.escape(_PREFIX) + r"(?P<pid>\d+)-(?P<start_at_s>\d+)-\w+")
_CLOCK_S = 5
"""By how much the start of a process may seem to move when the clock is set."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for this process in the system's folder for temporary files (`TMPDIR`), removed at the end.

    Raises DbkitError where it cannot be made.
    """
    start_at_s = int(psutil.Process().create_time())
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-{start_at_s}-")).resolve()
    except OSError as error:
        raise DbkitError(f"no folder for the two sides ({error.strerror}): TMPDIR names another place") from error
    try:
        yield folder
    finally:
        with _undisturbed():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def worktree(repository: Repository, commit: Commit, folder: Path) -> Iterator[None]:
    """Have a commit checked out in `folder`, which must not exist, and is removed at the end.

    Raises DbkitError where git cannot check it out.
    """
    try:
        repository.ask("worktree", "add", "--quiet", "--detach", str(folder), commit.hash)
        yield
    finally:
        with _undisturbed():
            _remove(repository, folder)


def remove_stale(repository: Repository | None) -> None:
    """Remove what killed processes have left, in the folder for temporary files and in the repository."""
    if repository is not None:
        listed = repository.run("worktree", "list", "--porcelain").stdout.splitlines()
        for line in listed:
            folder = Path(line.removeprefix("worktree "))
            if line.startswith("worktree ") and _is_stale(folder.parent):
                _remove(repository, folder)
    for folder in Path(tempfile.gettempdir()).glob("dbkit-diff-*"):
        if _is_stale(folder) and not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)


def _remove(repository: Repository, folder: Path) -> None:
    # git goes last: it also forgets a working tree that is not there, but refuses to remove some that are
    shutil.rmtree(folder, ignore_errors=True)
    repository.run("worktree", "remove", "--force", "--force", str(folder))


def _is_stale(folder: Path) -> bool:
    """Whether it was made on this machine by a process that is gone."""
    if (name := _NAME.fullmatch(folder.name)) is None:
        return False
    try:
        return abs(psutil.Process(int(name["pid"])).create_time() - int(name["start_at_s"])) > _CLOCK_S
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold signals back, from the programs that are started meanwhile as well."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
