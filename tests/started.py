"""Processes of Locust and dbkit that find the libraries imported, see `tests.starter`, or start as a shell has them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

LOCUST = str(Path(sys.executable).with_name("locust"))
TRY_PAGES = ("-m", "dbkit.load.try_pages", "python -m dbkit try")
"""What `dbkit try` starts, once it has parsed the command line."""
OF_LOCUST = {LOCUST, "dbkit.load.try_pages", "tests.example_pages"}
"""What in a command says that the process is patched by gevent."""
_lock = threading.Lock()


class StartedProcess:
    """What `subprocess.Popen` is for a child: this one is a child's child's child."""

    def __init__(
        self, command: Sequence[str], cwd: Path, variables: dict[str, str], stdout: Path, stderr: Path
    ) -> None:
        pipe = stdout.with_name("pipe")
        os.mkfifo(pipe)
        self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._said = b""
        self.returncode: int | None = None
        request = {"command": list(command), "cwd": str(cwd), "variables": variables}
        request |= {"stdout": str(stdout), "stderr": str(stderr), "pipe": str(pipe)}
        with _lock:
            starter = _starter("locust" if set(command) & OF_LOCUST else "dbkit")
            assert starter.stdin is not None
            starter.stdin.write(json.dumps(request).encode() + b"\n")
            starter.stdin.flush()
        while b"\n" not in self._said:
            self._read(None)
        pipe.unlink()
        self.pid = int(self._said.split()[0])

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            self._read(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended."""
        if self.returncode is None:
            self._read(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("locust", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Give it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """End it as `kill` does."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout_s: float | None) -> None:
        """Read what is written of it, when something is."""
        ready, _, _ = select.select([self._pipe], [], [], timeout_s)
        if not ready:
            return
        part = os.read(self._pipe, 100)
        assert part, "nobody watches the process any more"
        self._said += part
        if self._said.count(b"\n") == 2:
            self.returncode = int(self._said.split()[1])
            os.close(self._pipe)


def start_fresh(
    command: Sequence[str], cwd: Path, variables: dict[str, str], stdout: Path, stderr: Path
) -> subprocess.Popen[bytes]:
    """Start a program as a shell does, in a session of its own."""
    with stdout.open("wb") as said, stderr.open("wb") as complained:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            start_new_session=True,
        )


def finished(
    command: Sequence[str], cwd: Path, variables: dict[str, str], timeout_s: float, *, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """What has come of a program, as `subprocess.run` would give it; of any other than dbkit's where it is `fresh`."""
    start = start_fresh if fresh else StartedProcess
    with tempfile.TemporaryDirectory(prefix="dbkit-started-") as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = start(command, cwd, variables, stdout, stderr)
        try:
            exit_code = process.wait(timeout_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(command), exit_code, stdout.read_text(), stderr.read_text())


@cache
def _starter(libraries: str) -> subprocess.Popen[bytes]:
    """It ends with this process, when nobody can write to it any more."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.starter", libraries],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
