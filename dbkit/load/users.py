"""Locust users that read pages: each page is one Locust request with its cost as the event's context.

A user class is one stack with one page function of one workload:

    class AsyncpgJoined(AsyncPageUser):
        stack = "asyncpg"
        workload = albums
        strategy = "joined"
        page_function = albums_joined

`dbkit.load.page_users` makes several such classes at once. Request type is the stack, name the strategy; the response
time is `PageCost.response_ms`. Such a user reads page after page in the lane of its stack (`dbkit.load.lanes`). One
with tasks of its own runs those, which read a page each by `read_page`. The order of slots is left to
`dbkit.load.conductor`, adding up to `dbkit.load.recorder`.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from traceback import format_tb
from types import ModuleType
from typing import Any, ClassVar

from gevent import Greenlet, GreenletExit
from gevent.pool import Group
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from dbkit.database.settings import PageEnd
from dbkit.errors import DbkitError
from dbkit.load.back_off import BackOff
from dbkit.load.bare_stint import BareStint
from dbkit.load.context import context_of
from dbkit.load.draws import Draws
from dbkit.load.failures import PageFailure
from dbkit.load.page import Page
from dbkit.load.sides import process_seed
from dbkit.load.signals import EndedBySignal
from dbkit.load.stint import ArrivalStint, Stint
from dbkit.paging import PageFunction
from dbkit.workload import Key, Workload, as_key

logger = logging.getLogger(__name__)

classes_made: Counter[tuple[ModuleType | None, str]] = Counter()
"""How many classes each module has defined under each name: a second one hides the first."""


class PageUser(User):
    """A user that reads one page after another. Subclass one of those below, or this one for any stack."""

    abstract = True

    stack: ClassVar[str]
    """The name of a stack: see `dbkit.database.stacks`."""
    workload: ClassVar[Workload | None] = None
    """What is read: see `dbkit.workload`. None is the todo list, or nothing where a class has only tasks of its own."""
    page_function: ClassVar[Any] = None
    """How a page is read: any callable `(session, *key) -> rendered page`; see `dbkit.paging`."""
    strategy: ClassVar[str] = ""
    """The name of its way of loading, which other stacks may share; without one it is the name of the class."""
    end: ClassVar[PageEnd | None] = None
    """How its pages end; None is as `--end` says. With "commit" they are taken to write."""
    engine: ClassVar[Any] = None
    """The application's `Engine` or `AsyncEngine`, or a function of a URL that makes one; None is dbkit's own."""
    writes: ClassVar[bool | None] = None
    """Whether its pages write. They are then not compared with earlier ones, and not explained unless asked."""
    reset: ClassVar[Any] = None
    """Puts the data back before each slot, or before a run without slots: SQL text, or a function of a session."""
    checks: ClassVar[Any] = ()
    """What its figures are to keep, such as `("statements <= 2", "p95_ms < 50")`: see `dbkit.analysis.checks`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("page_function", "engine", "reset"):
            if inspect.isfunction(function := vars(cls).get(name)):
                setattr(cls, name, staticmethod(function))
        if own_tasks := [each for each in cls.tasks if each is not PageUser.read_pages]:
            cls.tasks = own_tasks
        classes_made[sys.modules.get(cls.__module__), cls.__qualname__] += 1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.load_context = context_of(environment)
        slot = self.load_context.slot
        self.page_class = slot.page_classes[type(self).__name__]
        self.resources = self.load_context.resources
        self.options = slot.options
        condition = slot.condition or type(self).__name__
        number = self.resources.users_made[condition]
        self.resources.users_made[condition] += 1
        runner: Any = environment.runner
        self._seed = f"{self.options.seed}/{process_seed(runner)}/{number}"
        self._waits = Draws(f"{self._seed}/waits")
        self.keys = self._choose_keys()
        """The keys of the pages to read. The n-th users of all conditions of a workload read the same ones."""
        self.pages_asked = 0
        """See `dbkit.load.stint.Reader`."""
        self.back_off = BackOff()
        """See `dbkit.load.stint.Reader`."""
        self._next_key: Key | None = None
        """The next page that a task reads by `page_function`, where one page follows the other."""
        self._stint: Stint | None = None
        self._ending: BaseException | None = None

    def wait_time(self) -> float:
        """Seconds between two pages, drawn around `--think-time` within `--think-time-spread`.

        Override it as with any Locust user, such as by `wait_time = between(1, 3)`.
        """
        think_s, spread = self.options.think_time, self.options.think_time_spread
        return float(think_s * (1 + spread * (2 * self._waits.share() - 1)) if think_s and spread else think_s)

    def first_wait_share(self) -> float:
        """See `dbkit.load.stint.Reader`."""
        return self._waits.share()

    def key_after(self, page: Page) -> Key | None:
        """See `dbkit.load.stint.Reader`."""
        workload = self.page_class.workload
        if page.error is not None or workload is None or not workload.follows:
            return None
        if page.source.function is not self.page_class.function:  # a task's, which may give other pages
            return None
        following = workload.next_key(page.rendered, *page.key)
        return None if following is None else as_key(following)

    @task
    def read_pages(self) -> None:
        """Read page after page, whenever the gate is open, until the user is stopped."""
        gate = self.load_context.gate
        while True:
            self._wait_for_gate()
            about = self, self.page_class.source, gate, self.load_context.outbox.put
            if gate.window.bare:
                self._read(BareStint(*about))
            elif (arrivals := self.load_context.arrivals(self.page_class.name)) is not None:
                with self.load_context.counted_in(arrivals):
                    self._read(ArrivalStint(*about, arrivals))
            else:
                self._read(Stint(*about))
            if self._state == LOCUST_STATE_STOPPING:
                raise StopUser

    def read_page(self, function: PageFunction | None = None, *key: Any, name: str | None = None) -> Any:
        """For a task of one's own: read one page, and return it as rendered; None where it failed.

        It is the user's next page by its `page_function`, or that of any other function, by the given key or else the
        user's next one. It waits for the gate as every page does, and is one Locust request, whether it fails or not.
        `name` is that of the request; without it, it is the function's.
        """
        chosen = self.page_class.function if function is None else function
        if chosen is None:
            raise DbkitError(f"{type(self).__name__} has no page_function: call read_page with a function")
        source = self.page_class.source_of(chosen, name)
        next_key = key or (self._next_key if function is None else None)
        stint = None
        while stint is None or stint.left:  # else the gate has closed before the page could begin
            self._wait_for_gate()
            stint = Stint(self, source, self.load_context.gate, self.load_context.outbox.put, limit=1, key=next_key)
            self._read(stint)
        if function is None:
            self._next_key = stint.next_key
        page = stint.last
        return page.rendered if page is not None and page.error is None else None

    def start(self, group: Group) -> Greenlet:
        """See `locust.User.start`. Any kill ends the user, such as the one after `--stop-timeout`: see `end_by`."""
        greenlet: Greenlet = super().start(group)
        kill = greenlet.kill

        def end_and_kill(exception: Any = GreenletExit, block: bool = True, timeout: float | None = None) -> None:
            self.end_by(GreenletExit())  # before, as the kill may wait for the user's end
            kill(exception, block, timeout)

        greenlet.kill = end_and_kill
        return greenlet

    def stop(self, force: bool = False) -> bool:
        """See `locust.User.stop`. A page in flight may come back, within `--drain-timeout`; a think time ends at once.

        After the end of a slot it has had that time already.
        """
        in_flight = self._stint is not None and self._stint.in_flight is not None
        if force and in_flight and not self.load_context.gate.is_drained:
            self.end_by(StopUser())
            self.greenlet.join(self.options.drain_timeout)
            if self.greenlet.dead:
                return True
        killed: bool = super().stop(force)
        if self._stint is not None:
            self._stint.stop()
        return killed

    def run(self) -> None:  # type: ignore[misc]  # final in Locust, which has no other place for this
        """See `locust.User.run`. A user that ends by anything but a stop is an error of the run, and the last of it.

        gevent would end the process by SystemExit or KeyboardInterrupt of any greenlet.
        """
        try:
            super().run()  # type: ignore[no-untyped-call]
        except (GreenletExit, EndedBySignal):
            raise
        except BaseException as error:
            if not self._is_reported(error):
                logger.error("a user of %s has died: %s", type(self).__name__, PageFailure.of(error), exc_info=error)
                events = self.environment.events
                events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)

    def _is_reported(self, error: BaseException) -> bool:
        """Whether Locust has reported it, as it does with errors of `on_start`; it knows them by the traceback."""
        assert error.__traceback__ is not None
        runner: Any = self.environment.runner
        return hash("".join(format_tb(error.__traceback__.tb_next))) in runner.exceptions

    def end_by(self, ending: BaseException) -> None:
        """End, by an exception of Locust's, when the page in flight has come back, or by a kill.

        A kill is raised in the page as well. But a driver that cleans up may raise an error in its place, and a pool
        that tries its connection may even take it for a lost one, and go on.
        """
        self._ending = ending
        if self._stint is not None:
            self._stint.killed = isinstance(ending, GreenletExit)
            self._stint.stop()

    def _wait_for_gate(self) -> None:
        gate = self.load_context.gate
        if gate.closed:
            if self._state == LOCUST_STATE_STOPPING:
                raise StopUser
            # Locust ends a waiting user at once, and a running one after its task
            self._state = LOCUST_STATE_WAITING
            gate.wait()
            self._state = LOCUST_STATE_RUNNING

    def _read(self, stint: Stint) -> None:
        if self._ending is not None:
            raise self._ending
        self._stint = stint
        try:
            with self.load_context.gate.passing(stint):
                self.resources.lane(self.page_class).read_pages(stint)
        except BaseException:
            if (page := stint.abandon()) is not None:
                self.load_context.outbox.put(page.cut_off())
            raise
        finally:
            stint.leave()
            self._stint = None
        if self._ending is not None:
            raise self._ending

    def _choose_keys(self) -> Iterator[Key]:
        keys = self.page_class.keys
        if not keys:
            return iter(lambda: (), None)
        if self.options.page_order == "sequential":
            return itertools.cycle(keys)
        draws, count = Draws(self._seed), len(keys)
        return iter(lambda: keys[draws.below(count)], None)


class SyncPageUser(PageUser):
    """A user of the sync stack: psycopg, whose waits gevent makes cooperative."""

    abstract = True
    stack = "psycopg"


class ThreadPageUser(PageUser):
    """A user of psycopg in native threads: its pages are read in a thread of its own."""

    abstract = True
    stack = "psycopg-threads"


class AsyncPageUser(PageUser):
    """A user of an async stack: its pages are read in the loop thread."""

    abstract = True
