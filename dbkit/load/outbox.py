"""Finished pages on their way to Locust: lanes put them down here, and a greenlet of the hub takes them in batches.

No page waits for this. Each page is checked and becomes one Locust request, with its cost as the request's context.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Protocol

import gevent
from gevent.pool import Group
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser

from dbkit.load.failures import PageFailure
from dbkit.load.page import CutOff, Page
from dbkit.workload import page_bytes, plain_key

BATCH_S = 0.02
"""How long a finished page may wait. Shorter, and the hub takes the interpreter from the lanes more often."""
ROOM = 200
"""With more pages than this waiting, the hub does not keep up."""


class Asker(Protocol):
    """What a page's user is asked for when the page has come back."""

    stack: str

    def end_by(self, ending: BaseException) -> None:
        """A listener of `request` ends the user, or the test, as Locust lets it."""


class Outbox:
    """The finished pages of one process."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._pages: deque[Page] = deque()
        self._epoch_at_s = 0.0
        """The time of day at which `time.perf_counter` was 0; the same for all of a test, so that pages that follow one
        another do so for listeners, too."""
        self._takers = Group()
        self._ticker: gevent.Greenlet | None = None

    def put(self, page: Page) -> bool:
        """Put a finished page down; from any thread. Whether the hub keeps up."""
        self._pages.append(page)
        return len(self._pages) < ROOM

    def open(self) -> None:
        """Begin to take pages."""
        self._epoch_at_s = time.time() - time.perf_counter()
        if self._ticker is None:
            self._ticker = gevent.spawn(self._tick)

    def flush(self) -> None:
        """Wait until Locust has been given all pages that have been put down so far.

        A listener that calls this, such as one that ends the test, does not wait for its own page.
        """
        self._takers.spawn(self._take)
        caller = gevent.getcurrent()
        gevent.joinall([taker for taker in self._takers if taker is not caller])

    def close(self) -> None:
        """Take the last pages, and end."""
        self.flush()
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.kill()

    def _tick(self) -> None:
        while True:
            gevent.sleep(BATCH_S)
            if self._pages:
                # each batch in a greenlet of its own: a listener that waits, or ends its greenlet, holds up no later
                # batch, and no page is lost with a caller who is killed
                self._takers.spawn(self._take)

    def _take(self) -> None:
        # those that are there now: lanes may put down more, faster than they are taken
        for _ in range(len(self._pages)):
            if self._pages:
                self._hand_over(self._pages.popleft())

    def _hand_over(self, page: Page) -> None:
        user: Asker = page.reader
        length = 0
        failure = None if page.error is None else PageFailure.of(page.error)
        if failure is None:
            try:
                length = page.source.check.check(page.key, page.rendered)
            except Exception as wrong:
                failure = PageFailure.of(wrong)
                with suppress(Exception):  # it may be nothing that has a size
                    length = page_bytes(page.rendered)
        try:
            self._tell(page, failure, length)
        except (StopUser, StopTest) as ending:
            user.end_by(ending)
        except (RescheduleTask, RescheduleTaskImmediately, InterruptTaskSet):
            pass  # a user that reads page after page has no other task to go to

    def _tell(self, page: Page, failure: PageFailure | None, length: int) -> None:
        user: Asker = page.reader
        cost = page.cost
        self._environment.events.request.fire(
            request_type=user.stack,
            name=page.source.name,
            start_time=self._epoch_at_s + cost.asked_at_s,
            response_time=cost.response_ms,
            response_length=length,
            exception=failure,
            context={
                "user_class": type(user).__name__,
                "condition": page.window.condition or type(user).__name__,
                "key": plain_key(page.key),
                "slot": page.window.slot,
                "measured": page.measured,
                "measured_share": page.measured_share,
                "think_ms": page.think_ms,
                "backed_off_ms": page.backed_off_ms,
                **({} if page.late is None else {"late": page.late}),
                **({"cut_off": True} if isinstance(page.error, CutOff) else {}),
                **cost.as_dict(),
            },
        )
