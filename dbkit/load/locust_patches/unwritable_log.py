"""A log file that cannot be written costs one line and the exit code, as other files do: see `unwritable_files`.

Python prints a traceback for each record that it cannot write. Where Locust (2.47, log.py) cannot open the file of
`--logfile`, it ends with one.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import Any

from dbkit.analysis.exit_codes import BAD_INPUT
from dbkit.load.locust_patches.unwritable_files import note_unwritten

OPTION = "--logfile"


def survive_unwritable_log() -> None:
    """Have Locust's command set its log up so, before it does; another program has a log of its own."""
    locusts: Any = sys.modules.get("locust.main")
    if locusts is None:
        return
    set_up = locusts.setup_logging

    def set_up_and_guard(level: str, file: str | None = None) -> None:
        try:
            set_up(level, file)
        except (OSError, ValueError) as error:
            reason = error if isinstance(error, OSError) else error.__cause__
            if file is None or not isinstance(reason, OSError):
                raise
            note_unwritten(file, reason.strerror, OPTION, say=_say)
            sys.exit(BAD_INPUT)
        for handler in logging.getLogger().handlers:
            if file is not None and isinstance(handler, logging.FileHandler):
                guarded: Any = handler
                guarded.handleError = partial(_on_error, file, os.getpid(), handler.handleError)

    locusts.setup_logging = set_up_and_guard


def _on_error(file: str, process: int, handle: Any, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):  # a mistake in what is logged
        handle(record)
    elif os.getpid() == process:  # workers that it has forked write to the same file
        note_unwritten(file, error.strerror, OPTION, say=_say)


def _say(line: str) -> None:
    print(f"dbkit: error: {line}", file=sys.stderr, flush=True)
