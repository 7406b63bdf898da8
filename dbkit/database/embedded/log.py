"""The supervisor's log, `server.log`, which is its standard error: its size, its bound, and the error in it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from dbkit.errors import DbkitError

_MAX_BYTES = 10_000_000


def log_bytes() -> int:
    """How long the log is."""
    return os.fstat(sys.stderr.fileno()).st_size


def bound_log() -> None:
    """Empty the log where it has grown too long."""
    if log_bytes() > _MAX_BYTES:
        os.ftruncate(sys.stderr.fileno(), 0)  # every writer appends, so the next line is the first


def failure(what: str, folder: Path, log_start: int) -> DbkitError:
    """An error with the first reason that was logged from the byte `log_start` on, or else with the last line."""
    text = os.pread(sys.stderr.fileno(), _MAX_BYTES, log_start).decode(errors="replace")
    errors = re.findall(r"\b(?:FATAL|PANIC|ERROR|error): +(.*)", text)
    reason = [*errors, *text.splitlines()[-1:], "there is no message"][0]
    return DbkitError(f"the embedded PostgreSQL {what}: {reason} (full log: {folder / 'server.log'})")
