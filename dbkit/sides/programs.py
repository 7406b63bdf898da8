"""Runs git and installers so that none of their processes is left when a signal ends what waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


def run_program(
    command: Sequence[str], environment: Mapping[str, str], *, errors_apart: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without input; what it prints is kept. Any exception kills it with all it has started.

    Ctrl-C at a terminal does not reach it, or it would be reported as having failed. Where `errors_apart` is false,
    its errors stand among its output. Raises FileNotFoundError where there is no such program.
    """
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if errors_apart else subprocess.STDOUT,
        encoding="utf-8",
        errors="surrogateescape" if errors_apart else "replace",
        start_new_session=True,
    ) as program:
        try:
            output, errors = program.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, program.returncode, output, errors or "")
