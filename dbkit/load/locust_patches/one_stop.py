"""A test is stopped once: who asks for it meanwhile waits until its results are written.

Locust (2.47, runners.py) lets a test be stopped by the schedule's end, by `-t`, by a signal and by the last worker that
leaves (`MasterRunner.handle_message`), each in a greenlet of its own. The second one stops it again, fires
`test_stopping` and `test_stop` again, and its `Runner.quit` kills the first one, which may be writing results.
"""

from __future__ import annotations

from typing import Any

from gevent.lock import RLock
from locust.env import Environment


def stop_once_at_a_time(environment: Environment) -> None:
    """Have a second call of the runner's `stop`, and so of its `quit`, wait for the first one."""
    runner: Any = environment.runner
    stop, stopping = runner.stop, RLock()

    def stop_alone(*arguments: Any, **options: Any) -> None:
        with stopping:
            stop(*arguments, **options)

    runner.stop = stop_alone
