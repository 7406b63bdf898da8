"""The process that starts the embedded server, waits until nobody uses it, and stops it.

It is started by `dbkit.database.embedded.serve`, as a program of its own. It reports once to standard output: "ready",
or why there is no server. What it and its programs say afterwards is on standard error, which is the log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from dbkit.database.embedded.cluster import TEMPORARY_SOCKET, start_server
from dbkit.database.embedded.files import open_file, try_lock, unusable
from dbkit.database.embedded.log import bound_log, failure, log_bytes
from dbkit.database.embedded.postmaster import POLL_S, find_postmaster, has_ended, read_pid_file, read_url, stop
from dbkit.errors import DbkitError

_WATCH_S = 0.2
"""How long the supervisor may take to see that the last user has ended."""


def supervise(folder: Path, settings: Mapping[str, str], lock: int) -> None:
    """Run the server in `folder` until its last user has ended. `lock` is the descriptor of the supervisor's lock."""
    if os.fork() != 0:  # so that the user's process has no child that it did not start itself
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    if sys.platform == "linux":  # `killall -9 python` is meant for the users, not for what cleans up after them
        Path("/proc/self/comm").write_text("dbkit-embedded")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    postmaster = socket = None
    try:
        postmaster = _adopt_or_start(folder, settings, lock)
        socket = Path(read_pid_file(folder / "data")[4])
        _report("ready")
        users = open_file(folder / "users.lock")
        # Until the folder is deleted, or the server ends by itself, or its last user has ended.
        while os.fstat(users).st_nlink > 0 and not has_ended(postmaster) and not try_lock(users):
            bound_log()
            time.sleep(_WATCH_S)
    except DbkitError as error:
        _report(str(error))
    except OSError as error:
        _report(str(unusable(folder, error)))
    finally:
        if running := postmaster or find_postmaster(folder / "data"):
            stop(running)
        if socket is not None and socket.name.startswith(TEMPORARY_SOCKET):
            shutil.rmtree(socket, ignore_errors=True)


def _report(outcome: str) -> None:
    """Send the outcome to the `serve()` that waits for it, and close standard output."""
    with suppress(BrokenPipeError):  # that process was killed; the server is for the others
        os.write(sys.stdout.fileno(), outcome.encode(errors="replace"))
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


def _adopt_or_start(folder: Path, settings: Mapping[str, str], lock: int) -> psutil.Process:
    data = folder / "data"
    server: subprocess.Popen[bytes] | None = None
    while (postmaster := find_postmaster(data)) is None or read_url(data) is None:
        if postmaster is None:  # else it is starting or, having lost its supervisor, stopping
            if server is None:
                bound_log()
                log_start = log_bytes()
                server = start_server(folder, settings, lock)
            elif server.poll() is not None:
                raise failure("does not start", folder, log_start)
        time.sleep(POLL_S)
    return postmaster


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
