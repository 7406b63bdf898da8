"""How long a worker goes on without its master: see `--master-timeout`.

Locust's workers (2.47, runners.py, `heartbeat_timeout_checker`) look each second for when their master has answered
last, which it does each second. They end 60 seconds after that, and load the database until then. Where the master
ends before its first answer, they never end.
"""

from __future__ import annotations

import time

from locust import runners


def end_without_master_after(seconds: int, runner: runners.WorkerRunner) -> None:
    """Have the worker end when its master, which it has just reached, has said nothing for so long."""
    runners.MASTER_HEARTBEAT_TIMEOUT = seconds
    if runner.last_heartbeat_timestamp is None:
        runner.last_heartbeat_timestamp = time.time()
