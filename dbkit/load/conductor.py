"""Rounds: every user class alone for one slot, in random order, again and again, as a Locust shape.

A locustfile takes part by one class:

    class Rounds(RoundsShape):
        '''One class at a time.'''

The whole schedule runs inside one `tick()`: spawn a slot's users before a closed gate, open it, leave the warm-up out
of the figures, close it, wait until nothing is in flight and every process has reported, take the users away, next.
Ticks a second apart would cut pages and mix slots. The other side of a slot is `dbkit.load.worker`'s, figures
`dbkit.analysis.result`'s.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult
from locust import LoadTestShape, User
from locust.env import Environment
from locust.runners import MasterRunner

from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.slot import Slot
from dbkit.database.server import ServerProcesses
from dbkit.load.locust_patches.rates import OpenTimes
from dbkit.load.progress import Standing, slot_progress
from dbkit.load.state import Load
from dbkit.load.worker import CLOSE, CLOSED, CONNECT, CONNECTED, ENOUGH, MEASURE, OPEN, PARK

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

USERS_A_SECOND = 100
"""How fast users are spawned: as fast as Locust does without a warning."""
USERS_TIMEOUT_S = 60
"""How long all of a slot's users may take to be there, or to be gone."""
REPORT_MARGIN_S = 10
"""How much longer than the drain timeout a process may take to report."""
CONNECT_TIMEOUT_S = 60
"""How long a slot's connections may take."""
REPEATS_SHARE = 0.05
"""How many disturbed or incomplete slots may be run again: this share of all that are planned, rounded up."""
BETWEEN_SLOTS_S = 0.1
"""About how long one class's users take to go and the next one's to come."""
POLL_S = 0.005


_conductors: WeakKeyDictionary[Environment, Conductor] = WeakKeyDictionary()


class Turn(NamedTuple):
    """What one slot runs."""

    user_class: type[User]
    bare: bool = False
    """Whether its page function is called bare, to see what the harness takes: see `--calibrate`."""

    @property
    def name(self) -> str:
        return f"{self.user_class.__name__}{' (bare)' if self.bare else ''}"


def plan(
    user_classes: Sequence[type[User]], rounds: int, seed: int, *, calibrate: bool = False
) -> Iterator[list[Turn]]:
    """The turns of each round: every class once, and once bare to `calibrate`, in an order shuffled from `seed`."""
    shuffled = random.Random(f"rounds/{seed}")
    # Locust passes class names through a set: sorted first, the same seed gives the same order
    in_order = sorted(user_classes, key=lambda user_class: user_class.__name__)
    turns = [Turn(user_class, bare) for bare in ((False, True) if calibrate else (False,)) for user_class in in_order]
    for _ in range(rounds):
        yield shuffled.sample(turns, len(turns))


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
        self._answers: dict[str, set[str]] = {CONNECTED: set(), ENOUGH: set(), CLOSED: set()}
        """The processes that have given each answer on the present slot."""
        self._slot: int | None = None
        self._open_times = OpenTimes(load.environment.stats)
        _conductors[load.environment] = self
        load.environment.events.reset_stats.add_listener(lambda **_: self._open_times.forget())
        for message, processes in self._answers.items():
            self._runner.register_message(message, partial(self._on_answer, processes))

    def on_test_stopping(self, **_: Any) -> None:
        """Begin no further slot: Locust would end the schedule only after it has stopped its users."""
        schedule = self._runner.shape_greenlet
        if schedule is not None and schedule is not gevent.getcurrent():
            schedule.kill()

    def _on_answer(self, processes: set[str], msg: Any, **_: Any) -> None:
        if msg.data["slot"] == self._slot:
            processes.add(msg.data["client_id"])

    def conduct(self) -> None:
        """Run every slot of the schedule that the options ask for."""
        options = self._options = argparse.Namespace(**vars(self._load.options))
        user_classes = self._load.environment.user_classes
        server = ServerProcesses.find(self._load.database) if self._load.needs_database else None
        self.slots.clear()
        self._open_times.forget()
        if not self._runner.worker_count:
            logger.error("no worker is connected: start some with --worker, and then the rounds again")
            return
        self.planned = options.rounds * len(user_classes)
        slots_planned = self.planned * (2 if options.calibrate else 1)
        slots_allowed = slots_planned + math.ceil(slots_planned * REPEATS_SHARE)
        began_s = time.perf_counter()
        slot_s = options.warm_up + options.slot_time + BETWEEN_SLOTS_S
        self.standing = standing = Standing(options.rounds, slots_planned, slot_s)
        try:
            with slot_progress() as show:

                def run(number: int, turn: Turn) -> Slot:
                    standing.begin_slot(number, turn.name)
                    show(standing)
                    return self._run_slot(standing, turn, server, began_s)

                rounds = plan(user_classes, options.rounds, options.seed, calibrate=options.calibrate)
                for number, turns in enumerate(rounds, start=1):
                    again = []
                    for turn in turns:
                        slot = run(number, turn)
                        if (slot.is_disturbed or slot.incomplete) and standing.slots < slots_allowed:
                            standing.slots += 1
                            again.append((slot, turn))
                        self._between_slots(standing, began_s)
                    for slot, turn in again:  # once: where others disturb all the time, that is what is measured
                        run(number, turn)
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
        self, standing: Standing, turn: Turn, server: ServerProcesses | None, schedule_began_s: float
    ) -> Slot:
        options, send, user_class = self._options, self._runner.send_message, turn.user_class
        condition = Condition(user_class.__name__, Users(options.num_users))
        slot = Slot(len(self.slots), standing.round, condition, 0.0, bare=turn.bare)
        about: dict[str, Any] = {"slot": slot.number, "bare": turn.bare, "stack": cast(Any, user_class).stack}
        self._slot = slot.number
        for processes in self._answers.values():
            processes.clear()
        send(PARK)
        self._have_users(options.num_users, user_class)
        send(CONNECT, about)
        # as long as a driver tries to connect; each connects as often as it must, all at once
        self._wait_for_answers(CONNECTED, "connections", CONNECT_TIMEOUT_S)
        # takes some 10 ms in which nothing else runs here, so where nothing is in flight: before and after the pages
        server_before_s = server.cpu_s() if server else None
        opened_s = time.perf_counter()
        slot.began_s = opened_s - schedule_began_s
        with self._counting_open_time(turn):
            send(OPEN, about)
            standing.phase = "warm-up"
            gevent.sleep(options.warm_up)
            send(MEASURE, about)
            standing.phase = "measuring"
            reading = self._reading()
            self._measure(reading)
            send(CLOSE, about)
            standing.phase = "last pages"
            self._wait_for_answers(CLOSED, "reports", options.drain_timeout + REPORT_MARGIN_S, reading)
        slot.incomplete = self._answers[CLOSED] != reading
        if server and (server_cpu_s := server.cpu_s_since(server_before_s)) is not None:
            slot.server_cpu_s = server_cpu_s
            slot.server_seconds = time.perf_counter() - opened_s
            slot.server_machine = socket.gethostname()
        self._load.recorder.fill(slot)
        self.slots.append(slot)
        self._have_users(0, user_class)
        return slot

    def _measure(self, reading: set[str]) -> None:
        """Let pages be read for the slot's time, and until each user has read several, but no longer than allowed."""
        options, began_s = self._options, time.perf_counter()
        gevent.sleep(options.slot_time)
        while time.perf_counter() - began_s < options.max_slot_time:
            if self._answers[ENOUGH] >= self._reading() & reading:
                return
            gevent.sleep(POLL_S)

    def _counting_open_time(self, turn: Turn) -> AbstractContextManager[None]:
        if turn.bare:  # Locust hears of no page
            return nullcontext()
        user_class = cast(Any, turn.user_class)
        return self._open_times.counted(user_class.stack, user_class.page_function.__name__)

    def _wait_for_answers(self, answer: str, what: str, timeout_s: float, among: set[str] | None = None) -> None:
        """Wait until all processes that read pages, of those `among`, have given an answer on the present slot."""

        def all_answered() -> bool:
            reading = self._reading()
            return self._answers[answer] >= (reading if among is None else reading & among)

        self._wait(what, all_answered, timeout_s)

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
                logger.warning("timed out after %.0f s waiting for %s of a slot; continuing", timeout_s, what)
                return
            gevent.sleep(POLL_S)
