"""Files and folders of the embedded server: how they are locked, kept private, and given to the user that it runs as.

The users' processes and the supervisor share this module.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dbkit.errors import DbkitError

# For root: the user that the server runs as, and the place of its files if that user cannot enter the folder.
SERVER_USER = "dbkit-postgres"
OUTSIDE = Path("/var/lib/dbkit")

# The complete environment of the programs: no PG* variable and no unusual locale of the user reaches them.
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


def is_root() -> bool:
    """Whether this process is root's."""
    return os.geteuid() == 0


def open_file(path: Path, flags: int = 0) -> int:
    """A descriptor of a private file, made if missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)


def try_lock(descriptor: int) -> bool:
    """Whether the file could be locked for this process alone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive_outside() -> Iterator[None]:
    """For root: make `OUTSIDE` if missing, and lock it against other processes for the length of the block."""
    with suppress(FileExistsError):
        OUTSIDE.mkdir(mode=0o700)
    descriptor = os.open(OUTSIDE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        give_to_server(OUTSIDE)
        yield
    finally:
        # not by closing it: a process that gevent has patched closes a folder later, and would wait for itself
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Make a folder that only the server's user, and root, can enter."""
    path.mkdir(mode=0o700)
    give_to_server(path)


def give_to_server(path: Path) -> None:
    """Make the server's user the owner."""
    if is_root():
        os.chown(path, *server_ids(), follow_symlinks=False)


def server_ids() -> tuple[int, int]:
    """The user and group that the server runs as. For root that user is made if missing, which stderr announces.

    Raises DbkitError where the user cannot be made.
    """
    if not is_root():
        return os.geteuid(), os.getegid()
    options = ["--system", "--no-create-home", "--home-dir", str(OUTSIDE), "--shell", "/usr/sbin/nologin"]
    command = ["useradd", *options, SERVER_USER]
    try:
        try:
            user = pwd.getpwnam(SERVER_USER)
        except KeyError:
            reason = f"PostgreSQL refuses to run as root; adding the system user {SERVER_USER} for it"
            print(f"dbkit: {reason}: {' '.join(command)}", file=sys.stderr, flush=True)
            subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            user = pwd.getpwnam(SERVER_USER)
    except (FileNotFoundError, KeyError):
        message = f"PostgreSQL refuses to run as root and needs a user of its own: {' '.join(command)}"
        raise DbkitError(message) from None
    return user.pw_uid, user.pw_gid


def as_server() -> dict[str, Any]:
    """Arguments of `subprocess` that run a program as the server's user, with its output in the supervisor's log."""
    how: dict[str, Any] = {"env": ENVIRONMENT, "stdout": sys.stderr}
    if is_root():
        user, group = server_ids()
        how |= {"user": user, "group": group, "extra_groups": []}
    return how


def reachable(path: Path) -> bool:
    """Whether the server's user can run this program or enter this folder. The system decides: ACLs, mounts, …"""
    return not is_root() or subprocess.run(["test", "-x", path], check=False, **as_server()).returncode == 0


def unusable(folder: Path, error: OSError) -> DbkitError:
    """The one line for a folder in which the system refuses something."""
    reason = f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror or error}"
    return DbkitError(f"no embedded PostgreSQL under {folder} ({reason}): put that right, or give --database-url")
