"""Locust users that read pages: each page is one Locust request with its cost as the event's context.

A user class is one stack with one page function, in two lines:

    class AsyncpgJoined(AsyncPageUser):
        stack = "asyncpg"
        page_function = joined

Request type is the stack, name the page function's; the response time is `PageCost.response_ms`. Shared engines are
`dbkit.load.resources`'s, the order of slots `dbkit.load.schedule`'s, adding up `dbkit.load.recorder`'s.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from gevent import GreenletExit
from locust import User, task
from locust.env import Environment

from dbkit.cost import PageCost
from dbkit.database import Stack
from dbkit.load.failures import PageFailure
from dbkit.load.resources import page_bytes
from dbkit.load.state import load_of
from dbkit.paging import RenderedPage, read_page, read_page_async


class PageUser(User):
    """A user that reads one page after another. Subclass one of the two below."""

    abstract = True

    stack: ClassVar[Stack]
    """Driver and concurrency model."""
    page_function: ClassVar[Any]
    """How a page is read: any function `(session, page, page_size) -> rendered page`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if inspect.isfunction(function := vars(cls).get("page_function")):
            cls.page_function = staticmethod(function)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.load = load_of(environment)
        self.resources = self.load.resources
        self.options = self.load.test_options
        self.pages = self._page_numbers()

    def wait_time(self) -> float:
        return float(self.options.think_time)

    def read(self, page: int, cost: PageCost) -> RenderedPage:
        """Read and return one page, within `with cost:`. Any exception is the page's failure."""
        raise NotImplementedError

    def check(self, page: int, rendered: RenderedPage) -> int:
        """The bytes of the page. Raises PageFailure where it is not what the dataset must give."""
        expected = self.resources.expected_page(page)
        if rendered == expected.rendered:
            return expected.bytes
        raise PageFailure("wrong page: not what the dataset holds; see seed.py --check")

    @task
    def read_one_page(self) -> None:
        """Read the next page and tell Locust."""
        with self.load.gate as slot:
            page = next(self.pages)
            cost = PageCost()
            failure: PageFailure | None = None
            rendered: RenderedPage = []
            try:
                rendered = self.read(page, cost)
            except Exception as error:
                failure = PageFailure.of(error)
            except GreenletExit:
                self.load.recorder.add_unfinished(type(self).__name__, slot)
                raise
            share = self.load.gate.measured_share(slot, cost.asked_s, cost.finished_s)
            length = 0
            if failure is None:
                try:
                    length = self.check(page, rendered)
                except PageFailure as wrong:
                    failure, length = wrong, page_bytes(rendered)
            self.environment.events.request.fire(
                request_type=self.stack,
                name=self.page_function.__name__,
                response_time=cost.response_ms,
                response_length=length,
                exception=failure,
                context={
                    "user_class": type(self).__name__,
                    "page": page,
                    **slot.as_dict(),
                    "measured_share": share,
                    "think_ms": self.wait_time() * 1000,
                    **cost.as_dict(),
                },
            )

    def _page_numbers(self) -> Iterator[int]:
        """The pages that this user reads. The n-th user of every class of a process reads the same ones."""
        number = self.resources.users_made[type(self).__name__]
        self.resources.users_made[type(self).__name__] += 1
        pages = self.resources.pages
        if self.options.page_order == "sequential":
            return itertools.cycle(range(pages))
        runner: Any = self.environment.runner
        choose = random.Random(f"{self.options.seed}/{runner.worker_index}/{number}")
        return iter(lambda: choose.randrange(pages), -1)


class SyncPageUser(PageUser):
    """A user of the sync stack: psycopg, whose waits gevent makes cooperative."""

    abstract = True
    stack = "psycopg"

    def read(self, page: int, cost: PageCost) -> RenderedPage:
        resources = self.resources
        engine = resources.engine
        with cost:
            return read_page(engine, self.page_function, page, resources.page_size, resources.settings.end)


class AsyncPageUser(PageUser):
    """A user of an async stack: its pages are read in the loop thread."""

    abstract = True

    def read(self, page: int, cost: PageCost) -> RenderedPage:
        return self.resources.loop_thread.run(partial(self._read, page, cost))

    async def _read(self, page: int, cost: PageCost) -> RenderedPage:
        resources = self.resources
        engine = resources.async_engine(self.stack)
        with cost:
            return await read_page_async(
                engine, self.page_function, page, resources.page_size, resources.settings.end, resources.settings.close
            )
