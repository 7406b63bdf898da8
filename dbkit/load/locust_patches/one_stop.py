"""A test is stopped once, and not before it has begun: who asks for it meanwhile waits until its results are written.
From then on no user is spawned in it.

Locust (2.47, runners.py) lets a test be stopped by the schedule's end, by `-t`, by a signal and by the last worker that
leaves (`MasterRunner.handle_message`), each in a greenlet of its own. The second one stops it again, fires
`test_stopping` and `test_stop` again, and its `Runner.quit` kills the first one, which may be writing results. While
listeners of `test_start` run, the state of the runner is that of no test (`MasterRunner.start`): a stop does nothing
then, and the process ends without a result. A worker that is stopped takes what its master had sent before for more
users of the test that was.
"""

from __future__ import annotations

from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import RLock
from locust.env import Environment
from locust.runners import WorkerRunner

TEST_START_TIMEOUT_S = 30
"""How long the listeners of `test_start` may take before their test is stopped all the same."""


def stop_once_at_a_time(environment: Environment) -> None:
    """Have the runner's `stop`, and so its `quit`, wait for a test that begins, and for an earlier call."""
    runner: Any = environment.runner
    test_start: Any = environment.events.test_start
    stop, fire, stopping, has_begun = runner.stop, test_start.fire, RLock(), Event()
    has_begun.set()
    beginning: gevent.Greenlet | None = None
    is_over = False

    def fire_test_start(**arguments: Any) -> None:
        nonlocal beginning, is_over
        beginning, is_over = gevent.getcurrent(), False
        has_begun.clear()
        try:
            fire(**arguments)
        finally:
            has_begun.set()

    def stop_alone(*arguments: Any, **options: Any) -> None:
        nonlocal is_over
        if gevent.getcurrent() is not beginning:  # which would wait for itself
            has_begun.wait(TEST_START_TIMEOUT_S)
        with stopping:
            is_over = True
            stop(*arguments, **options)

    test_start.fire, runner.stop = fire_test_start, stop_alone
    if isinstance(runner, WorkerRunner):
        start_worker = runner.start_worker

        def start_worker_in_test(*arguments: Any, **options: Any) -> None:
            if not is_over:
                start_worker(*arguments, **options)

        runner.start_worker = start_worker_in_test  # type: ignore[method-assign]
