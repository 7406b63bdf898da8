"""Runs the turns of any planner, slot by slot, in a single process or in the master.

In each slot: spawn its users before a closed gate, open it, leave the warm-up out of the figures, close it, wait until
nothing is in flight and every process has reported, and take the users away. What is run, and what is run again, is
decided by the planner (`dbkit.analysis.plan`); for the other side of a slot see `dbkit.load.worker`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple
from typing import Any, cast

import gevent
from locust.event import EventHook

from dbkit.analysis.condition import Arrivals
from dbkit.analysis.exit_codes import BAD_INPUT
from dbkit.analysis.plan import Planner, Schedule, Turn, Turns
from dbkit.analysis.slot import Slot
from dbkit.analysis.surviving import note_mistake
from dbkit.database.server import ServerCpuProbe
from dbkit.errors import DbkitError
from dbkit.load.context import LoadContext
from dbkit.load.locust_patches.rates import OpenTimes
from dbkit.load.messages import CLOSE, CLOSED, CONNECT, CONNECTED, ENOUGH, MEASURE, OPEN, PARK
from dbkit.load.options import TestOptions
from dbkit.load.page_class import PageClass
from dbkit.load.pauses import Pauses
from dbkit.load.processes import Processes
from dbkit.load.progress import ScheduleProgress, ShowSlot, slot_progress
from dbkit.load.reset import reset_pages
from dbkit.load.schedules import slot_seconds
from dbkit.load.sides import database_of, side_of_variant
from dbkit.measure.probes import Probe, start_all, stop_all

logger = logging.getLogger(__name__)

CLOSED_MARGIN_S = 10
"""How much longer than the drain timeout a process may take to report."""
CONNECT_TIMEOUT_S = 60
"""How long a slot's connections may take."""
POLL_S = 0.005


class NothingButFailures(Exception):
    """No page of a class comes back well: to measure more of it is a waste of time."""


class Conductor:
    """Runs one schedule at a time."""

    def __init__(self, context: LoadContext) -> None:
        self.slots: list[Slot] = []
        """What has been run; see `collect`."""
        self.planned = 0
        """How many slots the schedule has, without those that are bare or run again."""
        self.schedule: Schedule | None = None
        """What is run, or was run last."""
        self.progress: ScheduleProgress | None = None
        """None where no schedule runs."""
        self.slot_ended = EventHook()
        """Fired after every slot, where no page is in flight."""
        self.pauses = Pauses()
        self._context = context
        self._runner = cast(Any, context.environment.runner)
        self._page_classes: dict[str, PageClass] = {}
        self._probes: dict[str, list[Probe]] = {}
        """Those of each server, by the name of its database."""
        self._written: dict[tuple[str, str], PageClass] = {}
        """The classes that have written since they were reset, by the name of the database and their own."""
        self._processes = Processes(self._runner, context.sides, context.last_reports)
        self._open_times = OpenTimes(context.environment.stats)
        context.environment.events.reset_stats.add_listener(lambda **_: self._open_times.forget())

    def on_test_stopping(self, **_: Any) -> None:
        """Begin no further slot: Locust would end the schedule only after it has stopped its users."""
        greenlet = self._runner.shape_greenlet
        if greenlet is not None and greenlet is not gevent.getcurrent():
            greenlet.kill()

    def conduct(self, schedule: Schedule, options: TestOptions) -> None:
        """Run a schedule to its end, with the options of the test that it is."""
        self.slots.clear()
        self.schedule = schedule
        self._open_times.forget()
        if not self._processes.are_there:
            logger.error("no worker is connected: start some with --worker, and then the rounds again")
            return
        environment = self._context.environment
        # Locust's test begins with the first users
        self._page_classes = self._context.page_classes_without_keys(options, environment.user_classes)
        self.planned = schedule.slots - schedule.bare_slots
        slot_s = slot_seconds(options.most_users, options)
        self.pauses.begin()
        try:
            if options.sides:
                self._processes.wait_for_sides()
            self.progress = ScheduleProgress(
                schedule.rounds, schedule.slots, slot_s, began_at_s=time.perf_counter(), budget_s=schedule.budget_s
            )
            with slot_progress() as show:
                self._run(schedule.planner, options, self.progress, show)
        except NothingButFailures as reason:
            logger.error("%s; the run ends here", reason)
        except DbkitError as mistake:
            logger.error("%s", mistake)
            environment.process_exit_code = BAD_INPUT
        except Exception as error:  # what was measured so far is still to be written
            note_mistake("the rounds ended early", error)
            environment.process_exit_code = BAD_INPUT
        finally:
            self.progress = None
            self.pauses.end()

    def collect(self) -> list[Slot]:
        """All slots that have been run, with all that has been reported of them so far."""
        for slot in self.slots:
            self._context.recorder.fill(slot)
        return self.slots

    def _run(self, planner: Planner, options: TestOptions, progress: ScheduleProgress, show: ShowSlot) -> None:
        self._probes.clear()
        self._written.clear()
        latest: dict[tuple[int, Turn], Slot] = {}
        turns = next(planner, None)
        while turns is not None:
            if turns.again:
                progress.slots += len(turns.turns)
            if turns.fresh:
                self._processes.start_again()
            slots: list[Slot] = []
            for turn in turns.turns:
                progress.begin_slot(turns.round, _words(turn, options))
                show(progress)
                part = sum(slot.condition == turn.condition for slot in slots)
                slot = self._run_slot(turns.round, part, turn, options, progress)
                if turns.again:
                    latest[turns.round, turn].replaced = True
                latest[turns.round, turn] = slot
                slots.append(slot)
                self.slot_ended.fire()
                self._check_first_slot(slot, options)
                self.pauses.pause()
                progress.end_slot()
            turns = _send(planner, slots)
        # a planner that has ended has run all that it wanted, which may be less than was expected
        self.planned = sum(not (slot.bare or slot.replaced) for slot in self.slots)

    def _check_first_slot(self, slot: Slot, options: TestOptions) -> None:
        """Raise NothingButFailures where this was the first slot of a condition, and no page of it came back well.

        A search for a limit may go beyond what can be served: there it is the first slot of a class.
        """
        pages = slot.measured.pages + slot.warm_up.pages
        failures = slot.measured.failures + slot.warm_up.failures
        same = [each for each in self.slots if each.user_class == slot.user_class and not each.bare]
        is_first = (len(same) if options.limit else sum(each.condition == slot.condition for each in same)) == 1
        if slot.bare or not is_first or not pages or failures < pages:
            return
        page_class = self._page_classes[slot.user_class]
        line = page_class.stack, page_class.request_name
        errors = [each for each in self._runner.errors.values() if (each.method, each.name) == line]
        most = max(errors, key=lambda error: error.occurrences, default=None)
        raise NothingButFailures(
            f"every page of {page_class.name} failed in its first slot" + (f": {most.error}" if most else "")
        )

    def _probes_of(self, database: str) -> Sequence[Probe]:
        """Those of the server with the database of that name."""
        if database not in self._probes:
            needs_database = self._context.needs_database
            self._probes[database] = [ServerCpuProbe(self._context.database_named(database))] if needs_database else []
        return self._probes[database]

    def _run_slot(
        self, round_number: int, part: int, turn: Turn, options: TestOptions, progress: ScheduleProgress
    ) -> Slot:
        processes = self._processes
        page_class = self._page_classes[turn.condition.user_class]
        user_class = self._context.environment.user_classes_by_name[page_class.name]
        users = turn.condition.load.users if turn.condition.load else 0
        database = database_of(turn.condition.variant, options.sides)
        probes = self._probes_of(database)
        slot = Slot(len(self.slots), round_number, turn.condition, 0.0, bare=turn.bare)
        about = {
            **{"slot": slot.number, "round": round_number, "part": part, "condition": turn.condition.key},
            **{"variant": turn.condition.variant, "arrivals": _arrivals(turn), "user_class": page_class.name},
            **{"bare": turn.bare, "drain_timeout_s": options.drain_timeout},
        }
        processes.begin_slot(slot.number, side_of_variant(turn.condition.variant))
        processes.ask(PARK, about)
        self._reset_pages(database, page_class)
        processes.have_users(users, user_class)
        processes.ask(CONNECT, about)
        # as long as a driver tries to connect; each connects as often as it must, all at once
        processes.wait_for(CONNECTED, "connections", CONNECT_TIMEOUT_S)
        start_all(probes)  # where nothing is in flight, as reading may hold pages up
        slot.began_s = time.perf_counter() - progress.began_at_s
        with self._counting_open_time(turn, page_class):
            processes.ask(OPEN, about)
            progress.phase = "warm-up"
            gevent.sleep(options.warm_up)
            processes.ask(MEASURE, about)
            progress.phase = "measuring"
            reading = processes.reading
            self._measure(options.slot_time, options.max_slot_time, reading)
            processes.ask(CLOSE, about)
            progress.phase = "last pages"
            processes.wait_for(CLOSED, "reports", options.drain_timeout + CLOSED_MARGIN_S, reading)
        slot.incomplete = processes.answers[CLOSED] != reading
        for name, figure in stop_all(probes).items():
            setattr(slot, name, figure)
        self._context.recorder.fill(slot)
        self.slots.append(slot)
        processes.have_users(0, user_class)
        return slot

    def _reset_pages(self, database: str, page_class: PageClass) -> None:
        """Put back what slots of this database have written, as other classes may read it."""
        if page_class.reset is not None:
            self._written[database, page_class.name] = page_class
        for written, each in self._written.copy().items():
            if written[0] == database:
                reset_pages(self._context.database_named(database), each)
                if each is not page_class:
                    del self._written[written]

    def _measure(self, at_least_s: float, at_most_s: float, reading: set[str]) -> None:
        """Let pages be read, until each user has read several, but no longer than allowed."""
        began_at_s = time.perf_counter()
        gevent.sleep(at_least_s)
        while time.perf_counter() - began_at_s < at_most_s and not self._processes.have_answered(ENOUGH, reading):
            gevent.sleep(POLL_S)

    def _counting_open_time(self, turn: Turn, page_class: PageClass) -> AbstractContextManager[None]:
        if turn.bare:  # Locust gets no request
            return nullcontext()
        return self._open_times.counted(page_class.stack, page_class.request_name)


def _arrivals(turn: Turn) -> list[Any] | None:
    """The fields of the turn's `Arrivals`; None in a closed loop."""
    load = turn.condition.load
    return [*astuple(load)] if isinstance(load, Arrivals) else None


def _words(turn: Turn, options: TestOptions) -> str:
    """What a slot runs, as short as it can be in its test."""
    condition = turn.condition
    return f"{condition.key if options.are_many else condition.user_class}{' (bare)' if turn.bare else ''}"


def _send(planner: Planner, slots: list[Slot]) -> Turns | None:
    try:
        return planner.send(slots)
    except StopIteration:
        return None
