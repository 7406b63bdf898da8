"""The workers' records on their way to the master, in Locust's own reports, to the last page.

Locust itself drops a worker's last report when a test ends (the master does not wait for it) and on a signal to the
whole process group (a worker says that it quits before it reports). So the master asks for the last reports and waits
for them, and a worker that quits reports first. What is recorded is `dbkit.load.recorder`'s.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

import gevent
from locust import argument_parser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from dbkit.load.state import Load

logger = logging.getLogger(__name__)

ASK, TOLD = "dbkit_last_report", "dbkit_last_report_sent"
KEY = "dbkit"
"""Under which a record travels in Locust's report."""
TIMEOUT_MARGIN_S = 10
"""How much longer than Locust's own stop timeout the last reports may take."""
POLL_S = 0.01


def answer_the_master(load: Load) -> None:
    """Have a worker report when the master asks for it. To be called before any message can come."""
    runner = load.environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message(ASK, partial(_answer, runner))


def travel_with_locusts(load: Load) -> None:
    """Have records sent, merged, and gathered at the end, in a worker or a master."""
    runner = load.environment.runner
    if isinstance(runner, WorkerRunner):
        _send(load, runner)
    elif isinstance(runner, MasterRunner):
        _merge(load, runner)


def send_report(runner: Runner) -> None:
    """Send the master now what has been recorded since the last report; a single process has nothing to send."""
    if isinstance(runner, WorkerRunner):
        runner._send_stats()  # Locust's own report, with dbkit's part in it


def _send(load: Load, runner: WorkerRunner) -> None:
    def on_report(data: dict[str, Any], **_: Any) -> None:
        data[KEY] = load.recorder.take_message()

    def on_quitting(**_: Any) -> None:
        _report_the_last(runner)

    load.environment.events.report_to_master.add_listener(on_report)
    # after Locust's own listener, and `quitting` is fired in reverse: before the worker says that it quits
    load.environment.events.quitting.add_listener(on_quitting)
    _parse_options_once()


def _answer(runner: WorkerRunner, **_: Any) -> None:
    _report_the_last(runner)
    runner.send_message(TOLD, {"client_id": runner.client_id})


def _report_the_last(runner: WorkerRunner) -> None:
    runner.stop()
    runner._send_stats()


def _merge(load: Load, runner: MasterRunner) -> None:
    told: set[str] = set()

    def on_report(data: dict[str, Any], **_: Any) -> None:
        if KEY in data:
            load.recorder.merge_message(data.pop(KEY))

    def on_told(msg: Any, **_: Any) -> None:
        told.add(msg.data["client_id"])

    def on_test_stopping(environment: Environment, **_: Any) -> None:
        told.clear()
        runner.send_message(ASK)
        until_s = time.perf_counter() + (environment.stop_timeout or 0) + TIMEOUT_MARGIN_S
        while missing := {client.id for client in runner.clients.spawning + runner.clients.running} - told:
            if time.perf_counter() > until_s:
                logger.warning("%d workers did not send their last report: their last pages are missing", len(missing))
                break
            gevent.sleep(POLL_S)

    load.environment.events.worker_report.add_listener(on_report)
    load.environment.events.test_stopping.add_listener(on_test_stopping)
    runner.register_message(TOLD, on_told)


def _parse_options_once() -> None:
    """Have a worker parse Locust's default options once, not once an option at each spawn message (0.16 s of CPU)."""
    defaults = argument_parser.default_args_dict()
    argument_parser.default_args_dict = lambda: defaults
