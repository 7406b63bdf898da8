"""The running server of a data folder: whether it is there, where it listens, and how it is stopped."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil

ROLE = DATABASE = "dbkit"
POLL_S = 0.02
# How to stop the server, from the gentlest to the hardest way: signal and seconds to wait. SIGINT is PostgreSQL's fast
# shutdown.
_STOP = ((signal.SIGINT, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, 10))


def read_pid_file(data: Path) -> list[str]:
    """postmaster.pid: pid, data folder, start time, port, socket folder, TCP address, shared memory, status."""
    try:
        return (data / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def find_postmaster(data: Path) -> psutil.Process | None:
    """The server on this data folder. After a crash of the machine postmaster.pid may name any other process."""
    try:
        process = psutil.Process(int(read_pid_file(data)[0]))
        return process if process.cmdline()[1:3] == ["-D", str(data.resolve())] else None
    except (IndexError, ValueError, psutil.Error):
        return None


def read_url(data: Path) -> str | None:
    """The URL of the server on this data folder, or None while it takes no connections."""
    lines = read_pid_file(data)
    if len(lines) < 8 or lines[7].strip() != "ready" or find_postmaster(data) is None:
        return None
    port = "" if lines[3] == "5432" else f"&port={lines[3]}"
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(lines[4], errors='surrogateescape')}{port}"


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended. A zombie has: its parent, such as a container's first process, may never reap it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def stop(postmaster: psutil.Process) -> None:
    """Stop the server, and wait until it has ended."""
    for how, patience_s in _STOP:
        deadline = time.monotonic() + patience_s
        with suppress(psutil.NoSuchProcess):
            postmaster.send_signal(how)
        while not has_ended(postmaster) and time.monotonic() < deadline:
            time.sleep(POLL_S)
