"""A process's side of a slot: open the gate when told, measure, close it, report, and say so.

The conductor (`dbkit.load.schedule`, in a single process or in the master) sends each step as a Locust message. What is
measured here is what only this process can know of itself: its CPU time, and how late its hub and loop wake sleepers.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import gevent
from locust.runners import Runner, WorkerRunner

from dbkit.load.gate import Slot
from dbkit.load.loop_thread import LoopThread
from dbkit.load.state import Load
from dbkit.machine import read_core_wait_s
from dbkit.result import ProcessSlot

PARK, OPEN, MEASURE, CLOSE = "dbkit_slot_park", "dbkit_slot_open", "dbkit_slot_measure", "dbkit_slot_close"
"""From the conductor: wait before the gate; begin the warm-up; begin to measure; finish and report."""
CLOSED = "dbkit_slot_closed"
"""To the conductor: nothing is in flight any more, and the report is on its way before this."""
LAG_INTERVAL_S = 0.02
"""How often hub and loop are asked how late they are."""


class LagMeter:
    """How late a greenlet, or a coroutine, is woken that asked to sleep for `LAG_INTERVAL_S`."""

    def __init__(self) -> None:
        self.sum_s = 0.0
        self.samples = 0

    @property
    def mean_ms(self) -> float:
        """Mean lateness so far; 0 where nothing was sampled."""
        return self.sum_s / self.samples * 1000 if self.samples else 0.0

    def hub_samples(self) -> None:
        """Sample the hub for ever."""
        while True:
            asked_s = time.perf_counter()
            gevent.sleep(LAG_INTERVAL_S)
            self._add(asked_s)

    async def loop_samples(self) -> None:
        """Sample the loop for ever."""
        while True:
            asked_s = time.perf_counter()
            await asyncio.sleep(LAG_INTERVAL_S)
            self._add(asked_s)

    def _add(self, asked_s: float) -> None:
        self.sum_s += max(time.perf_counter() - asked_s - LAG_INTERVAL_S, 0.0)
        self.samples += 1


class SlotReader:
    """Follows the conductor's messages in a process that reads pages."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._samplers: list[gevent.Greenlet] = []
        self._since_s = self._cpu_s = self._core_wait_s = 0.0
        self._hub_lag, self._loop_lag = LagMeter(), LagMeter()
        runner = load.environment.runner
        assert runner is not None
        runner.register_message(PARK, self._park)
        runner.register_message(OPEN, self._open)
        runner.register_message(MEASURE, self._measure)
        runner.register_message(CLOSE, self._close)

    def _park(self, **_: Any) -> None:
        self._load.gate.close()

    def _open(self, msg: Any, **_: Any) -> None:
        self._load.gate.open(Slot(msg.data["slot"], measured=False))

    def _measure(self, msg: Any, **_: Any) -> None:
        self._hub_lag, self._loop_lag = LagMeter(), LagMeter()
        self._samplers = [gevent.spawn(self._hub_lag.hub_samples)]
        if (loop_thread := self._load.resources.started_loop_thread) is not None:
            self._samplers.append(gevent.spawn(_run_until_cancelled, loop_thread, self._loop_lag))
        self._core_wait_s = read_core_wait_s()
        self._since_s, self._cpu_s = time.perf_counter(), time.process_time()
        self._load.gate.open(Slot(msg.data["slot"], measured=True))

    def _close(self, msg: Any, **_: Any) -> None:
        self._load.gate.close()
        seconds, cpu_s = time.perf_counter() - self._since_s, time.process_time() - self._cpu_s
        core_wait_s = read_core_wait_s() - self._core_wait_s
        # the rest takes as long as the slowest page, and the conductor has readings to take meanwhile
        gevent.spawn(self._finish, msg.data["slot"], seconds, cpu_s, core_wait_s)

    def _finish(self, slot: int, seconds: float, cpu_s: float, core_wait_s: float) -> None:
        gevent.killall(self._samplers)
        self._load.gate.drain(self._load.options.drain_timeout)
        runner: Any = self._load.environment.runner
        self._load.recorder.process_slots[slot][runner.client_id] = ProcessSlot(
            seconds, cpu_s, core_wait_s, self._hub_lag.mean_ms, self._loop_lag.mean_ms
        )
        send_report(runner)
        runner.send_message(CLOSED, {"slot": slot, "client_id": runner.client_id})


def _run_until_cancelled(loop_thread: LoopThread, lag: LagMeter) -> None:
    with suppress(asyncio.CancelledError):  # the test was stopped amid a slot
        loop_thread.run(lag.loop_samples)


def send_report(runner: Runner) -> None:
    """Send the master now what has been recorded since the last report; a single process has nothing to send."""
    if isinstance(runner, WorkerRunner):
        runner._send_stats()  # Locust's own report, with dbkit's part in it
