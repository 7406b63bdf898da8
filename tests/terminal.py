"""Commands on a terminal, as users see them."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Mapping
from contextlib import suppress

from tests.locust_runs import DEADLINE_S, REPOSITORY


def on_a_terminal(*command: str, width: int, variables: Mapping[str, str]) -> str:
    """All that a command writes on a terminal of that width, when it has ended well."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    child = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=variables
    )
    os.close(theirs)
    written = b""
    try:
        with os.fdopen(ours, "rb") as screen, suppress(OSError):  # how Linux says that the other side has been closed
            while block := screen.read1():
                written += block
        assert child.wait(DEADLINE_S) == 0, written
    finally:
        child.kill()
    return written.decode()
