"""Sends the workers' records to the master in Locust's own reports, up to the last page.

Locust itself loses a worker's last report when a test ends, as the master does not wait for it, and on a signal to all
processes of a group, as a worker says that it quits before it reports. So the master asks for the last reports and
waits for them, and a worker that quits reports first. One that is gone without that was lost, and so were its pages
since the report before. For what is recorded see `dbkit.load.recorder`.
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
from dbkit.load.sides import process_name

logger = logging.getLogger(__name__)

KEY = "dbkit"
"""Under which a record travels in Locust's report."""
TIMEOUT_MARGIN_S = 30
"""How much longer the last reports may take than users who are stopped, by `--stop-timeout` or `--drain-timeout`."""
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
        _Reports(context, runner)


def send_report(runner: Runner) -> None:
    """Send the master now what has been recorded since the last report; a single process has nothing to send."""
    if isinstance(runner, WorkerRunner):
        runner._send_stats()  # Locust's own report, with dbkit's part in it


def _send(context: LoadContext, runner: WorkerRunner) -> None:
    def on_report(data: dict[str, Any], **_: Any) -> None:
        data[KEY] = context.recorder.take_message() | {"process": process_name(runner)}

    def on_quitting(**_: Any) -> None:
        _answer(runner)

    context.environment.events.report_to_master.add_listener(on_report)
    # after Locust's own listener, and `quitting` is fired in reverse: before the worker says that it quits
    context.environment.events.quitting.add_listener(on_quitting)
    _parse_options_once()


def _answer(runner: WorkerRunner, **_: Any) -> None:
    runner.stop()
    runner._send_stats()
    runner.send_message(LAST_REPORT_SENT, {"client_id": runner.client_id})


class _Reports:
    """The workers' reports, in the master."""

    def __init__(self, context: LoadContext, runner: MasterRunner) -> None:
        self._recorder = context.recorder
        self._options = context.options
        self._runner = runner
        self._seen: set[str] = set()
        """The workers that were there in this test, by their Locust ids."""
        self._complete = context.last_reports
        events = context.environment.events
        events.test_start.add_listener(self._on_test_start)
        events.heartbeat_sent.add_listener(self._on_heartbeat)
        events.worker_report.add_listener(self._on_report)
        events.test_stopping.add_listener(self._on_test_stopping)
        runner.register_message(LAST_REPORT_SENT, self._on_sent)

    def _on_test_start(self, **_: Any) -> None:
        self._complete.clear()
        self._seen = self._idle()

    def _on_heartbeat(self, client_id: str, **_: Any) -> None:
        self._seen.add(client_id)

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        if KEY in data:
            self._recorder.merge_message(data.pop(KEY))

    def _on_sent(self, msg: Any, **_: Any) -> None:
        self._complete.add(msg.data["client_id"])

    def _on_test_stopping(self, environment: Environment, **_: Any) -> None:
        self._runner.send_message(SEND_LAST_REPORT)
        to_come_back_s = environment.stop_timeout or self._options.drain_timeout
        until_at_s = time.perf_counter() + to_come_back_s + TIMEOUT_MARGIN_S
        while missing := self._reading() - self._complete:
            if time.perf_counter() > until_at_s:
                logger.warning("%d workers did not send their last report: their last pages are missing", len(missing))
                break
            gevent.sleep(POLL_S)
        self._recorder.lost_processes = len(self._seen - self._complete - self._idle())

    def _reading(self) -> set[str]:
        return {client.id for client in self._runner.clients.spawning + self._runner.clients.running}

    def _idle(self) -> set[str]:
        """Those that wait for users, and so have nothing to report."""
        return {client.id for client in self._runner.clients.ready}


def _parse_options_once() -> None:
    """Have a worker parse Locust's default options once, not once an option at each spawn message (0.16 s of CPU)."""
    defaults = argument_parser.default_args_dict()
    argument_parser.default_args_dict = lambda: defaults
