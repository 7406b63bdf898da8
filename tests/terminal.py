"""Commands on a terminal, as users see them."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Mapping
from contextlib import suppress

from tests.locust_runs import DEADLINE_S, REPOSITORY


def on_a_terminal(
    *command: str, width: int, variables: Mapping[str, str], typed: str | None = None, exit_code: int = 0
) -> str:
    """All that a command writes on a terminal of that width when it has ended; `typed` is what somebody types."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    child = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL if typed is None else theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables,
    )
    os.close(theirs)
    written = b""
    try:
        with os.fdopen(ours, "rb") as screen, suppress(OSError):  # how Linux says that the other side has been closed
            if typed is not None:
                os.write(ours, typed.encode())
            while block := screen.read1():
                written += block
        assert child.wait(DEADLINE_S) == exit_code, written
    finally:
        child.kill()
    return written.decode()
