"""Finished pages on their way to Locust: lanes put them down here, and a greenlet of the hub takes them in batches.

No page waits for this. Each page is checked and becomes one Locust request, with its cost as the request's context.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser

from dbkit.load.failures import PageFailure
from dbkit.load.resources import page_bytes
from dbkit.load.stint import Page

if TYPE_CHECKING:
    from dbkit.load.users import PageUser

BATCH_S = 0.02
"""How long a finished page may wait. Shorter, and the hub takes the interpreter from the lanes more often."""


class Outbox:
    """The finished pages of one process."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._pages: deque[Page] = deque()
        self._wanted, self._empty = Event(), Event()
        self._empty.set()
        self._greenlet: gevent.Greenlet | None = None

    def put(self, page: Page) -> None:
        """Put a finished page down; from any thread."""
        self._pages.append(page)

    def open(self) -> None:
        """Begin to take pages."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def flush(self) -> None:
        """Wait until Locust has been given all pages that have been put down so far."""
        if self._greenlet is None:
            return
        self._empty.clear()
        self._wanted.set()
        self._empty.wait()

    def close(self) -> None:
        """Take the last pages, and end."""
        self.flush()
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None:
            greenlet.kill()

    def _run(self) -> None:
        # pages are taken by this greenlet alone: who waits for them may be killed, and a page would be lost with it
        while True:
            self._wanted.wait(BATCH_S)
            self._wanted.clear()
            while self._pages:
                self._hand_over(self._pages.popleft())
            self._empty.set()

    def _hand_over(self, page: Page) -> None:
        user: PageUser = page.reader
        length = 0
        failure = None if page.error is None else PageFailure.of(page.error)
        if failure is None:
            try:
                length = user.check(page.number, page.rendered)
            except Exception as wrong:
                failure, length = PageFailure.of(wrong), page_bytes(page.rendered)
        try:
            self._tell(page, failure, length)
        except (StopUser, StopTest) as ending:
            user.end_by(ending)
        except (RescheduleTask, RescheduleTaskImmediately, InterruptTaskSet):
            pass  # a user that reads page after page has no other task to go to

    def _tell(self, page: Page, failure: PageFailure | None, length: int) -> None:
        user: PageUser = page.reader
        cost = page.cost
        self._environment.events.request.fire(
            request_type=user.stack,
            name=page.function.__name__,
            start_time=time.time() - (time.perf_counter() - cost.asked_s),
            response_time=cost.response_ms,
            response_length=length,
            exception=failure,
            context={
                "user_class": type(user).__name__,
                "page": page.number,
                "slot": page.window.slot,
                "measured": page.measured,
                "measured_share": page.measured_share,
                "think_ms": page.think_ms,
                **cost.as_dict(),
            },
        )
