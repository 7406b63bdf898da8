"""A private PostgreSQL for people who have none: `serve()` returns its URL, and it stops after its last user.

It runs the `initdb` and `postgres` of a wheel. Tables, rows and connections are left to others. Under the folder that
`serve()` is given, all of it readable by its owner alone:

    data/            the cluster; a link where it has to lie elsewhere (see `dbkit.database.embedded.cluster`)
    socket/          the server's socket, while it runs; elsewhere where the path is too long for a socket
    server.log       the output of initdb, the server and its supervisor; emptied when it grows over 10 MB
    users.lock       shared by every process that uses the server; the supervisor takes it alone to stop the server
    supervisor.lock  held by the supervisor as long as it runs
    .gitignore       has git see none of it, where this made the folder

The locks are `flock`s: the kernel releases them however a process ends, and forked children keep them.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

from dbkit.database.embedded.files import exclusive_outside, is_root, make_private, open_file, try_lock, unusable
from dbkit.database.embedded.postmaster import POLL_S, find_postmaster, read_url
from dbkit.errors import DbkitError

FOLDER_VARIABLE = "DBKIT_EMBEDDED_FOLDER"
_FOLDER = Path(".dbkit")
_SUPERVISOR = "dbkit.database.embedded.supervisor"

# The users' locks that this process holds until it ends, by the device and inode of the lock file.
_held: dict[tuple[int, int], int] = {}


def embedded_folder() -> Path:
    """Where the server is that is used when no database is named: `DBKIT_EMBEDDED_FOLDER`, else `.dbkit`."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _FOLDER)


def serve(folder: Path, settings: Mapping[str, str] = {}) -> str:
    """The URL of the PostgreSQL under `folder`, made and started if needed: superuser `dbkit`, database `dbkit`, UTF8.

    The server stays up until this process and all its forked children have ended, in whatever way; the last of all the
    processes that use it stops it. Calling again is cheap, and starts the server again if it has died. `settings` are
    PostgreSQL settings (name: value), used if this call starts the server.

    A supervisor killed by SIGKILL leaves the server running for its users; the next `serve()` starts another
    supervisor, which stops the server after the last user. SIGTERM to the supervisor stops the server at once; so does
    deleting the folder.

    PostgreSQL refuses to run as root. For root the server runs as the system user `dbkit-postgres`, which is made if
    missing. Only that user and root can reach the socket.

    Raises DbkitError: the wheel is missing, the folder cannot be written, the cluster cannot be made (its disk is full)
    or belongs to another user or PostgreSQL version, the server does not start.
    """
    folder = folder.resolve()
    try:
        if _make_folder(folder):
            _keep_out_of_git(folder)
        hold = _hold(folder / "users.lock")
        try:
            while True:
                lock = open_file(folder / "supervisor.lock")
                try:
                    if try_lock(lock):
                        _start_supervisor(folder, settings, lock)
                finally:
                    os.close(lock)
                url = read_url(folder / "data")
                if url is not None:
                    return url
                time.sleep(POLL_S)  # a supervisor is starting the server, or about to notice that it died
        except BaseException:
            if hold is not None:
                os.close(_held.pop(hold))
            raise
    except OSError as error:
        raise unusable(folder, error) from error


def is_serving(folder: Path) -> bool:
    """Whether the server under `folder` runs. A process that holds it may ask: nothing else tells it of its end."""
    return find_postmaster(folder.resolve() / "data") is not None


def _make_folder(folder: Path) -> bool:
    """Whether it was made here, and was not there before."""
    if not folder.parent.exists():
        _make_folder(folder.parent)
    # As root under a lock: another process that finds the folder must also find it given to the server's user.
    with exclusive_outside() if is_root() else nullcontext(), suppress(FileExistsError):
        make_private(folder)
        return True
    return False


def _keep_out_of_git(folder: Path) -> None:
    """Have git ignore the folder, which may lie in somebody's repository."""
    descriptor = open_file(folder / ".gitignore")
    os.write(descriptor, b"*\n")
    os.close(descriptor)


def _hold(users: Path) -> tuple[int, int] | None:
    """Make this process a user of the server: its key in `_held`, or None if it is one already.

    Waits while the server is being stopped.
    """
    descriptor = open_file(users)
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino)
    if key in _held:
        os.close(descriptor)
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _held[key] = descriptor
    return key


def _start_supervisor(folder: Path, settings: Mapping[str, str], lock: int) -> None:
    """Start a supervisor, pass `lock` to it, and wait until it reports that the server is ready."""
    path = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    log = open_file(folder / "server.log", os.O_APPEND)
    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", _SUPERVISOR, str(folder), json.dumps(dict(settings)), str(lock)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock],
        ) as supervisor:
            assert supervisor.stdout is not None
            report = supervisor.stdout.read().decode(errors="replace").strip()
    finally:
        os.close(log)
    if report != "ready":
        raise DbkitError(report or f"the supervisor of the embedded PostgreSQL failed: see {folder / 'server.log'}")
