"""A process's side of a slot: connect, open the gate when asked to, measure, close it, report, and say so.

The conductor (`dbkit.load.conductor`, in a single process or in the master) sends each step as a Locust message. What
is measured here is what only this process can know of itself: its CPU time, and how late its hub and lanes wake
sleepers.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import gevent

from dbkit.analysis.slot import ProcessSlot
from dbkit.load.failures import PageFailure
from dbkit.load.gate import Window
from dbkit.load.lag import LagMeter
from dbkit.load.lanes import Lane
from dbkit.load.messages import send_report
from dbkit.load.state import Load
from dbkit.measure.machine import CORES, read_core_wait_s, read_machine

logger = logging.getLogger(__name__)

PARK, CONNECT, OPEN = "dbkit_slot_park", "dbkit_slot_connect", "dbkit_slot_open"
"""From the conductor: wait before the gate; open connections; begin the warm-up."""
MEASURE, CLOSE = "dbkit_slot_measure", "dbkit_slot_close"
"""From the conductor: begin to measure; finish and report."""
CONNECTED, ENOUGH, CLOSED = "dbkit_slot_connected", "dbkit_slot_enough", "dbkit_slot_closed"
"""To the conductor: connections are open, or cannot be; each user has read `PAGES_A_USER` pages; nothing is in flight
any more, and the report is on its way before this."""
PAGES_A_USER = 3
"""How many pages each user is to read in the measured time, or the slot grows."""
POLL_S = 0.02


class SlotReader:
    """Follows the conductor's messages in a process that reads pages."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._runner: Any = load.environment.runner
        self._measuring: _Measuring | None = None
        self._waiting: gevent.Greenlet | None = None
        runner: Any = self._runner
        runner.register_message(PARK, self._park)
        runner.register_message(CONNECT, self._connect)
        runner.register_message(OPEN, self._open)
        runner.register_message(MEASURE, self._measure)
        runner.register_message(CLOSE, self._close)
        load.environment.events.test_stop.add_listener(self._stop_measuring)

    def _park(self, **_: Any) -> None:
        self._load.gate.close()

    def _connect(self, msg: Any, **_: Any) -> None:
        # in a greenlet, as Locust handles one message at a time
        gevent.spawn(self._open_connections, msg.data["stack"], msg.data["slot"])

    def _open_connections(self, stack: Any, slot: int) -> None:
        users = self._runner.user_count
        try:
            if users:
                self._load.resources.lane(stack).open_connections(users)
        except Exception as error:  # pages will fail by themselves, and be counted
            logger.warning("connections could not be opened before a slot: %s", PageFailure.of(error))
        self._answer(CONNECTED, slot)

    def _open(self, msg: Any, **_: Any) -> None:
        self._load.gate.open(Window(msg.data["slot"], bare=msg.data["bare"]))

    def _measure(self, msg: Any, **_: Any) -> None:
        self._measuring = _Measuring(self._load.resources.lane(msg.data["stack"]))
        self._load.gate.measure()
        self._waiting = gevent.spawn(self._wait_until_enough, msg.data["slot"])

    def _wait_until_enough(self, slot: int) -> None:
        while self._users_short():
            gevent.sleep(POLL_S)
        self._answer(ENOUGH, slot)

    def _close(self, msg: Any, **_: Any) -> None:
        gate, slot = self._load.gate, msg.data["slot"]
        gate.close()
        measured = self._stop_measuring()
        # the rest takes as long as the slowest page, and in a single process the conductor is the caller
        gevent.spawn(self._finish, slot, gate.window, measured)

    def _finish(self, slot: int, window: Window, measured: ProcessSlot | None) -> None:
        load = self._load
        load.gate.drain(load.test_options.drain_timeout)
        load.outbox.flush()
        if measured is not None:  # else this process joined during the slot
            if window.bare:
                measured.bare_pages = sum(stint.pages for stint in window.bare_stints)
            load.recorder.process_slots[slot][self._runner.client_id] = measured
        send_report(self._runner)
        self._answer(CLOSED, slot)

    def _answer(self, message: str, slot: int) -> None:
        self._runner.send_message(message, {"slot": slot, "client_id": self._runner.client_id})

    def _stop_measuring(self, **_: Any) -> ProcessSlot | None:
        measuring, self._measuring = self._measuring, None
        if self._waiting is not None:
            self._waiting.kill(block=False)
        return None if measuring is None else measuring.stop(self._users_short())

    def _users_short(self) -> int:
        """How many users have read fewer than `PAGES_A_USER` pages in the measured time of the slot so far."""
        # one that has just ended has lost its arguments
        users = [greenlet.args[0] for greenlet in self._runner.user_greenlets if greenlet.args]
        return sum(user.measured_pages < PAGES_A_USER for user in users)


class _Measuring:
    """What a process measures of itself and its machine between two instants."""

    def __init__(self, lane: Lane) -> None:
        self._hub_lag, self._lane_lag = LagMeter(), LagMeter()
        self._samplers = [
            gevent.spawn(self._hub_lag.sample_hub),
            gevent.spawn(lane.measure_lag, self._lane_lag),
        ]
        self._machine = read_machine()
        self._core_wait_s = read_core_wait_s()
        self._cpu_s = time.process_time()

    def stop(self, users_short: int) -> ProcessSlot:
        cpu_s = time.process_time() - self._cpu_s
        machine = read_machine()
        core_wait_s = read_core_wait_s() - self._core_wait_s
        gevent.killall(self._samplers, block=False)
        busy_share, steal_share, pressure_share = machine.shares_since(self._machine)
        return ProcessSlot(
            seconds=machine.at_s - self._machine.at_s,
            cpu_s=cpu_s,
            core_wait_s=max(core_wait_s, 0.0),
            hub_lag_ms=self._hub_lag.mean_ms,
            hub_stall_ms=self._hub_lag.stall_ms,
            lane_lag_ms=self._lane_lag.mean_ms,
            users_short=users_short,
            machine=socket.gethostname(),
            cores=CORES,
            busy_share=busy_share,
            steal_share=steal_share,
            pressure_share=pressure_share,
        )
