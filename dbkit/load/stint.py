"""One user's pages from the opening of the gate to its closing: which comes next, when, and what became of each.

A lane (`dbkit.load.lanes`) asks a stint for a page, reads it, puts it down, thinks, and asks for the next. That may be
in any native thread; a finished page goes to the outbox, from where the hub takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from time import perf_counter
from typing import Any, Protocol

from dbkit.load.arrivals import ArrivalStream
from dbkit.load.back_off import BackOff
from dbkit.load.gate import Gate
from dbkit.load.native import allocate_lock
from dbkit.load.page import Page, PageTimeout
from dbkit.load.page_class import PageSource
from dbkit.measure.cost import PageCost
from dbkit.workload import Key

CROWDED_S = 0.02
"""How long a user waits after a page that did not wait itself, where the hub cannot keep up."""


class Reader(Protocol):
    """What a stint asks of its user."""

    keys: Iterator[Key]
    """The keys of the pages to read."""
    pages_asked: int
    """How many pages it has asked for in the measured time of its slot, and got."""
    back_off: BackOff
    """How long it waits after connections that failed."""

    def key_after(self, page: Page) -> Key | None:
        """The key of the page to read after that one; None for the next of `keys`. It is called in the lane."""

    def wait_time(self) -> float:
        """Seconds between two pages."""

    def first_wait_share(self) -> float:
        """The share, 0 to 1, of such a time that passes before the first page: users do not begin together."""


class Stint:
    """The pages that one user reads one after the other; with a `limit`, so many at the most, with a `key` the first.

    The next page is asked for at the moment at which the last one has come back and the think time is over, whenever
    the lane comes to it: what passes in between is the page's wait in the queue, as it would be a request's.
    """

    def __init__(
        self,
        reader: Reader,
        source: PageSource,
        gate: Gate,
        put: Callable[[Page], bool],
        *,
        limit: int | None = None,
        key: Key | None = None,
    ) -> None:
        self.in_flight: object | None = None
        """The page that has been asked for and has not come back. Known before the gate is looked at, so that who has
        closed it and sees none can rely on it."""
        self.killed = False
        """Whether the user is being killed, so that its page is cut off, whatever comes of it."""
        self.wake: Callable[[], object] = lambda: None
        """Ends the think time; set by the lane."""
        self.break_off: Callable[[Page], object] = lambda page: None
        """Ends the page in flight, which takes too long, and cuts its connection when called again. Set by the lane; to
        be called on the hub itself."""
        self.last: Page | None = None
        """The page that came back last, where there is a limit: others have no use for it."""
        self.reader = reader
        """Its user."""
        self._source = source
        self._gate = gate
        self._put = put
        self.left = -1 if limit is None else limit
        """How many pages it may still ask for; below 0 without a limit."""
        self._asked_at_s = perf_counter()
        self._think_s = 0.0
        self._stopping = self._abandoned = False
        self._has_room = True
        self.next_key = key
        """That of the next page; None for the next one of the reader's keys."""
        self._lock = allocate_lock()

    # In the lane

    def first_pause_s(self) -> float | None:
        """As `pause_s`, before the first page."""
        if self.left > 0:
            return self.further_pause_s()
        think_s = self.reader.wait_time()
        first_s = self._think(think_s * self.reader.first_wait_share() if think_s > 0 else 0.0)
        return first_s or self.further_pause_s()

    def further_pause_s(self) -> float | None:
        """As `pause_s`, after a pause: without an end where it waits for a place (see `dbkit.load.places`)."""
        places = self._gate.places
        return None if places is None or self._is_over() or places.take(self) else inf

    def _give_place_back(self) -> None:
        if self._gate.places is not None:
            self._gate.places.give_back(self)

    def ask(self) -> Page | None:
        """The next page, to be read now; None where the stint is over."""
        waited = self._think_s or self.reader.back_off.waited_s
        if waited and (early_s := self._asked_at_s - perf_counter()) > 0:  # timers may be a little early
            self._asked_at_s -= early_s
            self._think_s = max(self._think_s - early_s, 0.0)
        self.in_flight = self
        with self._lock:  # between two looks of `abandon` a page is either not asked for or known
            if self._is_over():
                self.in_flight = None
                self._give_place_back()  # also where the user has left while it took one
                return None
            self._begin()
            reader, cost = self.reader, PageCost(self._asked_at_s)
            key = next(reader.keys) if self.next_key is None else self.next_key
            page = Page(reader, self._source, key, self._gate.window, cost, self._think_s * 1000)
            page.backed_off_ms, reader.back_off.waited_s = reader.back_off.waited_s * 1000, 0.0
            self.in_flight = page
        return page

    def _is_over(self) -> bool:
        return self._gate.closed or self._stopping or not self.left

    def _begin(self) -> None:
        self.left -= 1

    def put(self, page: Page) -> None:
        """A page has come back, or has failed. One that the user did not wait for is dropped."""
        if page.broken_off_at_s is not None:  # whatever its function or its driver made of that
            page.error = PageTimeout()
        self._choose_next(page)
        with self._lock:
            if self._abandoned:
                return
            if self.left >= 0:
                self.last = page
            # in this order: who sees no page in flight relies on it to be in the outbox
            self._has_room = self._put(page)
            self.in_flight = None
        self._give_place_back()
        self.reader.pages_asked += page.measured
        self._asked_at_s = page.cost.finished_at_s

    def _choose_next(self, page: Any) -> None:
        try:
            self.next_key = self.reader.key_after(page)
        except Exception as error:  # of a workload whose pages follow one another
            page.error, self.next_key = error, None

    def pause_s(self, page: Page) -> float | None:
        """Seconds until the next page is to be asked for. None where that is now; 0 where others have a turn before.

        Who could not connect waits before it tries again: see `dbkit.load.back_off`.

        A page that did not wait for the server may come back faster than the hub can take such pages. Then the next
        one is late.
        """
        back_off_s = self.reader.back_off.after(page.could_not_connect)
        if (self.left or back_off_s) and (
            pause_s := self._think(self.reader.wait_time() if self.left else 0.0, back_off_s)
        ):
            return pause_s
        if page.did_not_wait:
            return 0.0 if self._has_room else CROWDED_S
        return self.further_pause_s()

    def _think(self, seconds: float, back_off_s: float = 0.0) -> float:
        self._think_s = max(seconds, 0.0)
        pause_s = max(self._think_s, back_off_s)
        if not pause_s or self._stopping:
            return 0.0
        self.reader.back_off.waited_s = pause_s - self._think_s
        self._asked_at_s += pause_s
        return max(self._asked_at_s - perf_counter(), 0.0)

    # On the hub

    @property
    def page_in_flight(self) -> Page | None:
        """The page in flight, where it has begun to be one, and is not bare."""
        page = self.in_flight
        return page if isinstance(page, Page) else None

    def stop(self) -> None:
        """Ask for no further page."""
        self._stopping = True
        self.wake()

    def leave(self) -> None:
        """The stint is over."""
        self._give_place_back()

    def abandon(self) -> Page | None:
        """The user is gone: the page in flight, which is cut off; None if there is none, or none that counts.

        Whether a page that comes back at the same moment is put down or cut off is decided here, once.
        """
        with self._lock:
            self._abandoned = self._stopping = True
            page, self.in_flight = self.page_in_flight, None
        return page


class ArrivalStint(Stint):
    """A stint in an open loop: each page is asked for at its time, which a stream of arrivals has, not the user.

    When the gate closes, pages that were asked for before are still read.
    """

    def __init__(
        self,
        reader: Reader,
        source: PageSource,
        gate: Gate,
        put: Callable[[Page], bool],
        arrivals: ArrivalStream,
    ) -> None:
        super().__init__(reader, source, gate, put)
        self._arrivals = arrivals
        self._free_since_at_s = self._asked_at_s
        self._has_arrival = False
        self._back_off_until_at_s: float | None = None

    def first_pause_s(self) -> float | None:
        return self.further_pause_s()

    def further_pause_s(self) -> float | None:
        with self._lock:  # who is abandoned neither takes a page any more nor watches for the next one
            if self._stopping or self._has_arrival:
                return super().further_pause_s()
            if (back_off_s := self._back_off_left_s()) > 0:
                return back_off_s
            self.in_flight = self  # before it has the page: see `in_flight`
            asked_at_s = self._arrivals.take(self)
            if asked_at_s is None:
                self.in_flight = None
                return self._arrivals.sleep_s(self)
            self._asked_at_s, self._has_arrival = asked_at_s, True
            return super().further_pause_s()

    def ask(self) -> Page | None:
        page = super().ask()
        if page is not None:
            page.late = self._asked_at_s < self._free_since_at_s
        return page

    def pause_s(self, page: Page) -> float | None:
        self._free_since_at_s = page.cost.finished_at_s
        if back_off_s := self.reader.back_off.after(page.could_not_connect):
            self.reader.back_off.waited_s = back_off_s
            self._back_off_until_at_s = self._free_since_at_s + back_off_s
        pause_s = self.further_pause_s()
        if pause_s is None and page.did_not_wait:
            return 0.0 if self._has_room else CROWDED_S
        return pause_s

    def _back_off_left_s(self) -> float:
        """Seconds that it still waits before it tries again to connect; what was due meanwhile is not tried."""
        if self._back_off_until_at_s is None:
            return 0.0
        left_s = self._back_off_until_at_s - perf_counter()
        if left_s <= 0:
            self._arrivals.skip(self._free_since_at_s)
            self._free_since_at_s, self._back_off_until_at_s = self._back_off_until_at_s, None
        return left_s

    def leave(self) -> None:
        super().leave()
        with self._lock:
            not_begun_at_s = self._asked_at_s if self._has_arrival else None
            self._has_arrival = False
        self._arrivals.leave(self, not_begun_at_s)

    def _is_over(self) -> bool:
        return self._stopping or not self._has_arrival

    def _begin(self) -> None:
        self._has_arrival = False
