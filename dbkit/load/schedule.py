"""Rounds: every user class alone for one slot, in random order, again and again, as a Locust shape.

A locustfile takes part by one class:

    class Rounds(RoundsShape):
        '''One class at a time.'''

The whole schedule runs inside one `tick()`: spawn a slot's users before a closed gate, open it, leave the warm-up out
of the figures, close it, wait until nothing is in flight and every process has reported, take the users away, next.
Ticks a second apart would cut pages and mix slots. The other side of a slot is `dbkit.load.slots`'s, figures
`dbkit.result`'s.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult
from locust import LoadTestShape, User
from locust.env import Environment
from locust.runners import MasterRunner

from dbkit.load.progress import Standing, slot_progress
from dbkit.load.slots import CLOSE, CLOSED, MEASURE, OPEN, PARK
from dbkit.load.state import Load
from dbkit.load.users import AsyncPageUser
from dbkit.machine import ServerProcesses
from dbkit.slot import Slot

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

USERS_A_SECOND = 100
"""How fast users are spawned: as fast as Locust does without a warning."""
USERS_TIMEOUT_S = 60
"""How long all of a slot's users may take to be there, or to be gone."""
REPORT_MARGIN_S = 10
"""How much longer than the drain timeout a process may take to report."""
REPEATS_SHARE = 0.05
"""How many disturbed or incomplete slots may be run again: this share of all that are planned, rounded up."""
BETWEEN_SLOTS_S = 0.1
"""About how long one class's users take to go and the next one's to come."""
POLL_S = 0.005


_conductors: WeakKeyDictionary[Environment, Conductor] = WeakKeyDictionary()


def plan(user_classes: Sequence[type[User]], rounds: int, seed: int) -> Iterator[list[type[User]]]:
    """The classes of each round: every one once, in an order shuffled from `seed`."""
    shuffled = random.Random(f"rounds/{seed}")
    # Locust passes class names through a set: sorted first, the same seed gives the same order
    in_order = sorted(user_classes, key=lambda user_class: user_class.__name__)
    for _ in range(rounds):
        yield shuffled.sample(in_order, len(in_order))


class RoundsShape(LoadTestShape):
    """Isolated, interleaved slots: by `-u`, `--rounds`, `--slot-time`, `--warm-up` and the classes chosen."""

    abstract = True
    use_common_options = True

    def tick(self) -> None:
        """Run the whole schedule; Locust then ends the test."""
        assert self.runner is not None
        _conductors[self.runner.environment].conduct()


def quieten_locust() -> None:
    """Leave the terminal to dbkit's table: Locust's would add warm-ups in, and tell of each slot's users."""
    for name in ("locust.stats_logger", "locust.runners"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Conductor:
    """Runs the slots of a schedule, in a single process or in the master."""

    def __init__(self, load: Load) -> None:
        self.slots: list[Slot] = []
        """What has been run; see `collect`."""
        self.planned = 0
        self.standing: Standing | None = None
        """None where no schedule runs."""
        self.on_slot_ended: Callable[[], None] = lambda: None
        """Called after every slot, where no page is in flight."""
        self._postponed: list[tuple[Callable[[], Any], AsyncResult[Any]]] = []
        self._load = load
        self._runner = cast(Any, load.environment.runner)
        self._options = load.options
        self._closing: int | None = None
        self._closed: set[str] = set()
        """The processes that have reported the slot that is being closed."""
        _conductors[load.environment] = self
        self._runner.register_message(CLOSED, self._on_closed)

    def on_test_stopping(self, **_: Any) -> None:
        """Begin no further slot: Locust would end the schedule only after it has stopped its users."""
        schedule = self._runner.shape_greenlet
        if schedule is not None and schedule is not gevent.getcurrent():
            schedule.kill()

    def _on_closed(self, msg: Any, **_: Any) -> None:
        if msg.data["slot"] == self._closing:
            self._closed.add(msg.data["client_id"])

    def conduct(self) -> None:
        """Run every slot of the schedule that the options ask for."""
        options = self._options = argparse.Namespace(**vars(self._load.options))
        user_classes = self._load.environment.user_classes
        server = ServerProcesses.find(self._load.database) if self._load.needs_database else None
        self.slots.clear()
        if not self._runner.worker_count:
            logger.error("no worker is connected: start some with --worker, and then the rounds again")
            return
        self.planned = options.rounds * len(user_classes)
        slots_allowed = self.planned + math.ceil(self.planned * REPEATS_SHARE)
        began_s = time.perf_counter()
        slot_s = options.warm_up + options.slot_time + BETWEEN_SLOTS_S
        self.standing = standing = Standing(options.rounds, self.planned, slot_s)
        try:
            with slot_progress() as show:

                def run(number: int, user_class: type[User]) -> Slot:
                    standing.begin_slot(number, user_class.__name__)
                    show(standing)
                    return self._run_slot(standing, user_class, server, began_s)

                for number, classes in enumerate(plan(user_classes, options.rounds, options.seed), start=1):
                    again = []
                    for user_class in classes:
                        slot = run(number, user_class)
                        if (slot.is_disturbed or slot.incomplete) and standing.slots < slots_allowed:
                            standing.slots += 1
                            again.append((slot, user_class))
                        self._between_slots(standing, began_s)
                    for slot, user_class in again:  # once: where others disturb all the time, that is what is measured
                        run(number, user_class)
                        slot.replaced = True
                        self._between_slots(standing, began_s)
        finally:
            self.standing = None
            self._do_postponed()

    def between_slots(self, function: Callable[[], Answer]) -> Answer:
        """Have `function` called where no page is in flight, so that it holds none up; wait for what it returns.

        Where no schedule runs that is now. What it raises is raised here.
        """
        if self.standing is None:
            return function()
        result: AsyncResult[Answer] = AsyncResult()
        self._postponed.append((function, result))
        return cast(Answer, result.get())

    def _between_slots(self, standing: Standing, began_s: float) -> None:
        try:
            self.on_slot_ended()
        except Exception:  # what is shown meanwhile is no reason to lose what is measured
            logger.exception("the result so far could not be shown")
        self._do_postponed()
        standing.slot_s = (time.perf_counter() - began_s) / standing.slot

    def _do_postponed(self) -> None:
        while self._postponed:
            function, result = self._postponed.pop(0)
            try:
                result.set(function())
            except Exception as error:
                result.set_exception(error)

    def collect(self) -> list[Slot]:
        """All slots that have been run, with all that has been reported of them so far."""
        for slot in self.slots:
            self._load.recorder.fill(slot)
        return self.slots

    def _run_slot(
        self, standing: Standing, user_class: type[User], server: ServerProcesses | None, schedule_began_s: float
    ) -> Slot:
        options, send = self._options, self._runner.send_message
        slot = Slot(len(self.slots), standing.round, user_class.__name__, options.num_users, began_s=0.0)
        number = {"slot": slot.number, "in_loop": issubclass(user_class, AsyncPageUser)}
        send(PARK)
        self._have_users(options.num_users, user_class)
        # takes some 10 ms in which nothing else runs here, so where nothing is in flight: before and after the pages
        server_before_s = server.cpu_s() if server else None
        opened_s = time.perf_counter()
        slot.began_s = opened_s - schedule_began_s
        send(OPEN, number)
        standing.phase = "warm-up"
        gevent.sleep(options.warm_up)
        send(MEASURE, number)
        standing.phase = "measuring"
        reading = self._reading()
        gevent.sleep(options.slot_time)
        self._closing, self._closed = slot.number, set()
        send(CLOSE, number)
        standing.phase = "last pages"
        timeout_s = options.drain_timeout + REPORT_MARGIN_S
        self._wait("reports", lambda: self._closed >= self._reading() & reading, timeout_s)
        slot.incomplete = self._closed != reading
        if server and server_before_s is not None and (server_after_s := server.cpu_s()) is not None:
            slot.server_cpu_s = server_after_s - server_before_s
            slot.server_seconds = time.perf_counter() - opened_s
            slot.server_machine = socket.gethostname()
        self._load.recorder.fill(slot)
        self.slots.append(slot)
        self._have_users(0, user_class)
        return slot

    def _have_users(self, count: int, user_class: type[User]) -> None:
        self._runner.start(count, USERS_A_SECOND, user_classes=[user_class])
        self._wait(f"{count} users", lambda: self._runner.user_count == count, USERS_TIMEOUT_S)

    def _reading(self) -> set[str]:
        """The processes that read pages now."""
        if isinstance(self._runner, MasterRunner):
            clients = self._runner.clients
            return {client.id for client in clients.spawning + clients.running}
        return {self._runner.client_id}

    def _wait(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        until_s = time.perf_counter() + timeout_s
        while not is_so():
            if time.perf_counter() > until_s:
                logger.warning("waited %.0f s in vain for %s of a slot; going on without", timeout_s, what)
                return
            gevent.sleep(POLL_S)
