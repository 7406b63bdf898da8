"""Locust users that read pages: each page is one Locust request with its cost as the event's context.

A user class is one stack with one page function, in two lines:

    class AsyncpgJoined(AsyncPageUser):
        stack = "asyncpg"
        page_function = joined

Request type is the stack, name that of the page function; the response time is `PageCost.response_ms`. Such a user
reads page after page in the lane of its stack (`dbkit.load.lanes`). One with tasks of its own runs those, which read a
page each by `read_page`. The order of slots is left to `dbkit.load.conductor`, adding up to `dbkit.load.recorder`.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Iterator
from typing import Any, ClassVar

from locust import User, task
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from dbkit.load.context import context_of
from dbkit.load.failures import PageFailure
from dbkit.load.stint import BareStint, Page, Stint
from dbkit.paging import AnyPageFunction, RenderedPage


class PageUser(User):
    """A user that reads one page after another. Subclass one of those below."""

    abstract = True

    stack: ClassVar[str]
    """The name of a stack: see `dbkit.database.stacks`."""
    page_function: ClassVar[Any]
    """How a page is read: any function `(session, page, page_size) -> rendered page`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if inspect.isfunction(function := vars(cls).get("page_function")):
            cls.page_function = staticmethod(function)
        if own_tasks := [each for each in cls.tasks if each is not PageUser.read_pages]:
            cls.tasks = own_tasks

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.load_context = context_of(environment)
        self.resources = self.load_context.resources
        self.options = self.load_context.test.options
        number = self.resources.users_made[type(self).__name__]
        self.resources.users_made[type(self).__name__] += 1
        runner: Any = environment.runner
        self._seed = f"{self.options.seed}/{runner.worker_index}/{number}"
        self._waits = random.Random(f"{self._seed}/waits")
        self.pages = self._page_numbers()
        """The numbers of the pages to read. The n-th user of every class of a process reads the same ones."""
        self.pages_asked = 0
        """See `dbkit.load.stint.Reader`."""
        self._stint: Stint | None = None
        self._ending: Exception | None = None

    def wait_time(self) -> float:
        """Seconds between two pages, drawn around `--think-time` within `--think-time-spread`.

        Override it as with any Locust user, such as by `wait_time = between(1, 3)`.
        """
        think_s, spread = self.options.think_time, self.options.think_time_spread
        return float(think_s * (1 + spread * self._waits.uniform(-1, 1)) if think_s and spread else think_s)

    def first_wait_share(self) -> float:
        """See `dbkit.load.stint.Reader`."""
        return self._waits.random()

    def check(self, page: int, rendered: RenderedPage) -> int:
        """The bytes of the page. Raises PageFailure where it is not what the dataset must give."""
        expected = self.resources.expected_page(page)
        if rendered == expected.rendered:
            return expected.bytes
        raise PageFailure("wrong page: not what the dataset holds; see seed.py --check")

    @task
    def read_pages(self) -> None:
        """Read page after page, whenever the gate is open, until the user is stopped."""
        gate = self.load_context.gate
        while True:
            self._wait_for_gate()
            kind = BareStint if gate.window.bare else Stint
            self._stint = kind(self, self.page_function, gate, self.load_context.outbox.put)
            try:
                self._read(self._stint)
            finally:
                self._stint = None
            if self._state == LOCUST_STATE_STOPPING:
                raise StopUser

    def read_page(self, function: AnyPageFunction | None = None) -> None:
        """For a task of one's own: read the user's next page, by its `page_function` or by another one.

        It waits for the gate as every page does, and is one Locust request, whether it fails or not.
        """
        stint = None
        while stint is None or stint.left:  # else the gate has closed before the page could begin
            self._wait_for_gate()
            stint = Stint(
                self, function or self.page_function, self.load_context.gate, self.load_context.outbox.put, limit=1
            )
            self._read(stint)

    def stop(self, force: bool = False) -> bool:
        """See `locust.User.stop`; a think time ends, too."""
        killed: bool = super().stop(force)
        if self._stint is not None:
            self._stint.stop()
        return killed

    def end_by(self, ending: Exception) -> None:
        """End, by an exception of Locust's, when the page in flight has come back."""
        self._ending = ending
        if self._stint is not None:
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
        try:
            with self.load_context.gate.passing(stint):
                self.resources.lane(self.stack).read_pages(stint)
        except BaseException:
            page = stint.abandon()
            if isinstance(page, Page):
                self.load_context.recorder.add_unfinished(type(self).__name__, page)
            raise
        if self._ending is not None:
            raise self._ending

    def _page_numbers(self) -> Iterator[int]:
        pages = self.resources.pages
        if self.options.page_order == "sequential":
            return itertools.cycle(range(pages))
        choose = random.Random(self._seed)
        return iter(lambda: choose.randrange(pages), -1)


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
