"""A process's side of a slot: open the gate when told, measure, close it, report, and say so.

The conductor (`dbkit.load.schedule`, in a single process or in the master) sends each step as a Locust message. What is
measured here is what only this process can know of itself: its CPU time, and how late its hub and loop wake sleepers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

import gevent

from dbkit.load.gate import PageSlot
from dbkit.load.loop_thread import LoopThread, LoopThreadError
from dbkit.load.reports import send_report
from dbkit.load.state import Load
from dbkit.machine import CORES, read_core_wait_s, read_machine
from dbkit.slot import ProcessSlot

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
        self._measuring: _Measuring | None = None
        environment = load.environment
        runner = environment.runner
        assert runner is not None
        runner.register_message(PARK, self._park)
        runner.register_message(OPEN, self._open)
        runner.register_message(MEASURE, self._measure)
        runner.register_message(CLOSE, self._close)
        environment.events.test_stop.add_listener(self._stop_measuring)

    def _park(self, **_: Any) -> None:
        self._load.gate.close()

    def _open(self, msg: Any, **_: Any) -> None:
        self._load.gate.open(PageSlot(msg.data["slot"], measured=False))

    def _measure(self, msg: Any, **_: Any) -> None:
        loop_thread = self._load.resources.started_loop_thread if msg.data["in_loop"] else None
        self._measuring = _Measuring(loop_thread)
        self._load.gate.open(PageSlot(msg.data["slot"], measured=True))

    def _close(self, msg: Any, **_: Any) -> None:
        self._load.gate.close()
        slot = msg.data["slot"]
        process_slot = self._stop_measuring()
        runner: Any = self._load.environment.runner
        if process_slot is not None:  # else this process joined amid the slot
            self._load.recorder.process_slots[slot][runner.client_id] = process_slot
        # the rest takes as long as the slowest page, and in a single process the conductor is the caller
        gevent.spawn(self._finish, runner, slot)

    def _finish(self, runner: Any, slot: int) -> None:
        self._load.gate.drain(self._load.test_options.drain_timeout)
        send_report(runner)
        runner.send_message(CLOSED, {"slot": slot, "client_id": runner.client_id})

    def _stop_measuring(self, **_: Any) -> ProcessSlot | None:
        measuring, self._measuring = self._measuring, None
        return None if measuring is None else measuring.stop()


class _Measuring:
    """What a process measures of itself and its machine between two instants."""

    def __init__(self, loop_thread: LoopThread | None) -> None:
        self._hub_lag, self._loop_lag = LagMeter(), LagMeter()
        self._samplers = [gevent.spawn(self._hub_lag.hub_samples)]
        self._in_loop = loop_thread is not None
        if loop_thread is not None:
            self._samplers.append(gevent.spawn(_run_until_cancelled, loop_thread, self._loop_lag))
        self._machine = read_machine()
        self._core_wait_s = read_core_wait_s()
        self._cpu_s = time.process_time()

    def stop(self) -> ProcessSlot:
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
            lane_lag_ms=(self._loop_lag if self._in_loop else self._hub_lag).mean_ms,
            hub_stall_ms=0.0,
            machine=socket.gethostname(),
            cores=CORES,
            busy_share=busy_share,
            steal_share=steal_share,
            pressure_share=pressure_share,
        )


def _run_until_cancelled(loop_thread: LoopThread, lag: LagMeter) -> None:
    with suppress(asyncio.CancelledError, LoopThreadError):  # the test was stopped amid a slot
        loop_thread.run(lag.loop_samples)
