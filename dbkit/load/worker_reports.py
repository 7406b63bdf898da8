"""Sends the workers' records to the master in Locust's own reports, up to the last page.

Locust itself loses a worker's last report when a test ends, as the master does not wait for it, and on a signal to all
processes of a group, as a worker says that it quits before it reports. So the master asks for the last reports and
waits for them, and a worker that quits reports first. For what is recorded see `dbkit.load.recorder`.
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

from dbkit.load.context import LoadContext
from dbkit.load.messages import LAST_REPORT_SENT, SEND_LAST_REPORT

logger = logging.getLogger(__name__)

KEY = "dbkit"
"""Under which a record travels in Locust's report."""
TIMEOUT_MARGIN_S = 10
"""How much longer than Locust's own stop timeout the last reports may take."""
POLL_S = 0.01


def answer_the_master(context: LoadContext) -> None:
    """Have a worker report when the master asks for it. To be called before any message can come."""
    runner = context.environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message(SEND_LAST_REPORT, partial(_answer, runner))


def attach_reports(context: LoadContext) -> None:
    """Have records sent, merged, and gathered at the end, in a worker or a master."""
    runner = context.environment.runner
    if isinstance(runner, WorkerRunner):
        _send(context, runner)
    elif isinstance(runner, MasterRunner):
        _merge(context, runner)


def send_report(runner: Runner) -> None:
    """Send the master now what has been recorded since the last report; a single process has nothing to send."""
    if isinstance(runner, WorkerRunner):
        runner._send_stats()  # Locust's own report, with dbkit's part in it


def _send(context: LoadContext, runner: WorkerRunner) -> None:
    def on_report(data: dict[str, Any], **_: Any) -> None:
        data[KEY] = context.recorder.take_message()

    def on_quitting(**_: Any) -> None:
        _report_the_last(runner)

    context.environment.events.report_to_master.add_listener(on_report)
    # after Locust's own listener, and `quitting` is fired in reverse: before the worker says that it quits
    context.environment.events.quitting.add_listener(on_quitting)
    _parse_options_once()


def _answer(runner: WorkerRunner, **_: Any) -> None:
    _report_the_last(runner)
    runner.send_message(LAST_REPORT_SENT, {"client_id": runner.client_id})


def _report_the_last(runner: WorkerRunner) -> None:
    runner.stop()
    runner._send_stats()


def _merge(context: LoadContext, runner: MasterRunner) -> None:
    sent: set[str] = set()

    def on_report(data: dict[str, Any], **_: Any) -> None:
        if KEY in data:
            context.recorder.merge_message(data.pop(KEY))

    def on_sent(msg: Any, **_: Any) -> None:
        sent.add(msg.data["client_id"])

    def on_test_stopping(environment: Environment, **_: Any) -> None:
        sent.clear()
        runner.send_message(SEND_LAST_REPORT)
        until_at_s = time.perf_counter() + (environment.stop_timeout or 0) + TIMEOUT_MARGIN_S
        while missing := {client.id for client in runner.clients.spawning + runner.clients.running} - sent:
            if time.perf_counter() > until_at_s:
                logger.warning("%d workers did not send their last report: their last pages are missing", len(missing))
                break
            gevent.sleep(POLL_S)

    context.environment.events.worker_report.add_listener(on_report)
    context.environment.events.test_stopping.add_listener(on_test_stopping)
    runner.register_message(LAST_REPORT_SENT, on_sent)


def _parse_options_once() -> None:
    """Have a worker parse Locust's default options once, not once an option at each spawn message (0.16 s of CPU)."""
    defaults = argument_parser.default_args_dict()
    argument_parser.default_args_dict = lambda: defaults
