"""A headless run whose last worker is lost ends, with its results.

Locust (2.47, runners.py) stops the test, whether that worker said that it quits (`MasterRunner.handle_message`) or fell
silent (`heartbeat_worker`). But only in the first case it ends a headless run. In the other one the master waits to the
end of `-t`, and without that for ever, for a test that has been stopped and that nothing starts again.
"""

from __future__ import annotations

import logging
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import MasterRunner

logger = logging.getLogger(__name__)


def end_with_last_worker(environment: Environment) -> None:
    """Have a headless master quit once its test has been stopped and all workers that did not quit are silent."""
    runner, options = environment.runner, environment.parsed_options
    if not isinstance(runner, MasterRunner) or options is None or not options.headless:
        return

    def on_test_stop(**_: Any) -> None:
        missing = runner.clients.missing
        if missing and len(missing) == len(runner.clients):
            logger.warning("all load processes are lost: ending the run")
            gevent.spawn(runner.quit)  # which waits for this stop

    environment.events.test_stop.add_listener(on_test_stop)
