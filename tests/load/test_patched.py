"""The tests of `tests.load.patched`, which run in a process that gevent has patched."""

import subprocess
import sys

from tests.locust_runs import REPOSITORY


def test_words_of_failures_and_streams_of_arrivals() -> None:
    command = [sys.executable, "-m", "tests.load.patched"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
