"""A process's side of a slot: open connections and the gate when asked to, measure, close the gate, and report.

The conductor (`dbkit.load.conductor`, in a single process or in the master) asks for each step by a message: see
`dbkit.load.messages`. What is measured here is what only this process can know, by probes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import gevent

from dbkit.analysis.condition import Arrivals
from dbkit.analysis.slot import ProcessSlot
from dbkit.database.relay import RelayCpuProbe
from dbkit.load.arrivals import ArrivalStream
from dbkit.load.context import LoadContext
from dbkit.load.failures import PageFailure
from dbkit.load.lag import LagProbe
from dbkit.load.lanes import Lane
from dbkit.load.messages import CLOSE, CLOSED, CONNECT, CONNECTED, ENOUGH, MEASURE, OPEN, PARK
from dbkit.load.sides import process_seed
from dbkit.load.window import Window
from dbkit.load.worker_reports import send_report
from dbkit.measure.probes import PROCESS_PROBES, Probe, start_all, stop_all

logger = logging.getLogger(__name__)

PAGES_A_USER = 3
"""How many pages each user is to read in the measured time, or the slot grows."""
PLENTY_A_USER = 10
"""With so many pages a user on average it does not grow: some may wait for ever for a connection of a small pool."""
POLL_S = 0.02


class SlotReader:
    """Follows the conductor's messages in a process that reads pages."""

    def __init__(self, context: LoadContext) -> None:
        self._context = context
        self._runner = cast(Any, context.environment.runner)
        self._probes: list[Probe] = []
        """Those that are reading; empty where nothing is measured."""
        self._waiting: gevent.Greenlet | None = None
        self._connecting: gevent.Greenlet | None = None
        self._due_before = 0
        """In an open loop, pages that were due and that nobody read when the warm-up ended."""
        self._slot: int | None = None
        """The number of the slot that this process takes part in; one that joins during a slot waits for the next."""
        self._runner.register_message(PARK, self._park)
        self._runner.register_message(CONNECT, self._connect)
        self._runner.register_message(OPEN, self._open)
        self._runner.register_message(MEASURE, self._measure)
        self._runner.register_message(CLOSE, self._close)
        context.environment.events.test_stop.add_listener(self._stop_measuring)
        context.environment.events.test_stopping.add_listener(self._stop_connecting)

    def _park(self, msg: Any, **_: Any) -> None:
        self._context.gate.close()
        self._slot = msg.data["slot"]
        variant = tuple((name, value) for name, value in msg.data["variant"])
        self._context.begin_slot(msg.data["condition"], variant)

    def _connect(self, msg: Any, **_: Any) -> None:
        # in a greenlet, as Locust handles one message at a time
        self._connecting = gevent.spawn(self._open_connections, msg.data["user_class"], msg.data["slot"])

    def _stop_connecting(self, **_: Any) -> None:
        if self._connecting is not None:
            self._connecting.kill(block=False)

    def _open_connections(self, user_class: str, slot: int) -> None:
        users = self._runner.user_count
        try:
            if slot == self._slot and self._context.reads_pages:
                # in a greenlet of its own: a stop that kills this one leaves no lane half closed
                gevent.spawn(self._context.use_settings).get()
                if users:
                    self._lane(user_class).open_connections(users)
        # asyncpg may be cancelled by its own timeout
        except (Exception, asyncio.CancelledError) as error:  # pages will fail by themselves, and be counted
            logger.warning("connections could not be opened before a slot: %s", PageFailure.of(error))
        self._answer(CONNECTED, slot)

    def _open(self, msg: Any, **_: Any) -> None:
        about = msg.data
        if about["slot"] != self._slot:
            return
        arrivals = None
        if about["arrivals"] is not None and self._context.reads_pages:
            which = f"{process_seed(self._runner)}/{about['round']}.{about['part']}"
            seed = f"{self._context.slot.options.seed}/{which}/arrivals"
            arrivals = ArrivalStream(Arrivals(*about["arrivals"]), seed, self._runner.user_count)
        self._context.gate.open(Window(about["slot"], about["condition"], bare=about["bare"], arrivals=arrivals))

    def _measure(self, msg: Any, **_: Any) -> None:
        if not self._context.reads_pages:
            return  # this process joins during the slot, and has no users yet
        if msg.data["slot"] != self._slot:  # nor will it read with those that have come in the meantime
            self._answer(ENOUGH, msg.data["slot"])
            return
        lane = self._lane(msg.data["user_class"])
        self._probes = [LagProbe(lane.measure_lag), *(make_probe() for make_probe in PROCESS_PROBES)]
        self._probes.append(RelayCpuProbe(self._context.relays))
        start_all(self._probes)
        if (arrivals := self._context.gate.window.arrivals) is not None:
            # else what is measured would be pages of the warm-up
            self._context.recorder.add_not_begun(self._context.gate.window, arrivals.drop_where_hopeless())
            self._due_before = arrivals.waiting()
        self._context.gate.measure()
        self._waiting = gevent.spawn(self._wait_until_enough, msg.data["slot"])

    def _lane(self, user_class: str) -> Lane:
        return self._context.resources.lane(self._context.slot.page_classes[user_class])

    def _wait_until_enough(self, slot: int) -> None:
        while self._users_short() and not self._pages_are_plenty():
            gevent.sleep(POLL_S)
        self._answer(ENOUGH, slot)

    def _close(self, msg: Any, **_: Any) -> None:
        gate = self._context.gate
        gate.close()
        measured = self._stop_measuring()
        if measured is not None and (arrivals := gate.window.arrivals) is not None:
            measured.waiting_before, measured.waiting = self._due_before, arrivals.waiting()
            self._context.recorder.add_not_begun(gate.window, arrivals.drop_where_hopeless())
        # the rest takes as long as the slowest page, and in a single process the conductor is the caller
        gevent.spawn(self._finish, msg.data["slot"], msg.data["drain_timeout_s"], gate.window, measured)

    def _finish(self, slot: int, drain_timeout_s: float, window: Window, measured: ProcessSlot | None) -> None:
        context = self._context
        context.gate.drain(drain_timeout_s)
        if window.arrivals is not None:
            context.recorder.add_not_begun(window, window.arrivals.drop())
        context.outbox.flush()
        if measured is not None:  # else this process joined during the slot
            if window.bare:
                measured.bare_pages = sum(pages.count for pages in window.bare_pages)
            context.recorder.process_slots[slot][self._runner.client_id] = measured
        send_report(self._runner)
        self._answer(CLOSED, slot)

    def _answer(self, message: str, slot: int) -> None:
        self._runner.send_message(message, {"slot": slot, "client_id": self._runner.client_id})

    def _stop_measuring(self, **_: Any) -> ProcessSlot | None:
        probes, self._probes = self._probes, []
        if self._waiting is not None:
            self._waiting.kill(block=False)
        return ProcessSlot(**stop_all(probes), users_short=self._users_short()) if probes else None

    def _users_short(self) -> int:
        """How many users have read fewer than `PAGES_A_USER` pages in the measured time of the slot so far.

        In an open loop none is short: it is not they who ask.
        """
        if self._context.gate.window.arrivals is not None:
            return 0
        return sum(pages < PAGES_A_USER for pages in self._pages_of_users())

    def _pages_are_plenty(self) -> bool:
        pages = self._pages_of_users()
        return sum(pages) >= PLENTY_A_USER * len(pages)

    def _pages_of_users(self) -> list[int]:
        """How many pages each user has read in the measured time of the slot so far."""
        # one that has just ended has lost its arguments
        return [greenlet.args[0].pages_asked for greenlet in self._runner.user_greenlets if greenlet.args]
