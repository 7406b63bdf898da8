"""One user's pages from the opening of the gate to its closing: which comes next, when, and what became of each.

A lane (`dbkit.load.lanes`) asks a stint for a page, reads it, puts it down, thinks, and asks for the next. That may be
in any native thread; a finished page goes to the outbox, from where the hub takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from time import perf_counter
from typing import Any, Protocol

from dbkit.load.arrivals import ArrivalStream
from dbkit.load.gate import Gate, Window
from dbkit.load.native import allocate_lock
from dbkit.load.page_class import PageSource
from dbkit.measure.cost import PageCost
from dbkit.workload import Key

CROWDED_S = 0.02
"""How long a user waits after a page that did not wait itself, where the hub cannot keep up."""
TURNS = 100
"""After so many bare pages others of the lane have their turn, whatever the pages do."""


class Reader(Protocol):
    """What a stint asks of its user."""

    keys: Iterator[Key]
    """The keys of the pages to read."""
    pages_asked: int
    """How many pages it has asked for in the measured time of its slot, and got."""

    def key_after(self, page: Page) -> Key | None:
        """The key of the page to read after that one; None for the next of `keys`. It is called in the lane."""

    def wait_time(self) -> float:
        """Seconds between two pages."""

    def first_wait_share(self) -> float:
        """The share, 0 to 1, of such a time that passes before the first page: users do not begin together."""


class Page:
    """One page on its way: asked for, read, put down."""

    __slots__ = ("cost", "error", "key", "late", "reader", "rendered", "source", "think_ms", "window")

    def __init__(
        self, reader: Any, source: PageSource, key: Key, window: Window, cost: PageCost, think_ms: float
    ) -> None:
        self.reader = reader
        self.source = source
        self.key = key
        self.window = window
        self.cost = cost
        self.think_ms = think_ms
        """How long the user thought before it asked."""
        self.late: bool | None = None
        """In an open loop, whether no user was free when it was due; None in a closed one."""
        self.rendered: Any = None
        self.error: BaseException | None = None
        """Why it failed."""

    @property
    def measured(self) -> bool:
        """Whether it counts, or belongs to a warm-up."""
        return self.window.measures(self.cost.asked_at_s)

    @property
    def measured_share(self) -> float:
        """See `Window.share`. Waits for a turn or a connection are none of the work that was done in that time, and may
        last as long as the slot does. They are taken to come first."""
        cost = self.cost
        return self.window.share(min(cost.started_at_s + cost.pool_s, cost.finished_at_s), cost.finished_at_s)

    @property
    def did_not_wait(self) -> bool:
        """Whether it may have let nobody else of its lane run: it failed, or asked the server nothing."""
        return self.error is not None or not self.cost.round_trips


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
        self.last: Page | None = None
        """The page that came back last, where there is a limit: others have no use for it."""
        self._reader = reader
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
            return None
        think_s = self._reader.wait_time()
        return self._think(think_s * self._reader.first_wait_share() if think_s > 0 else 0.0) or None

    def further_pause_s(self) -> float | None:
        """As `pause_s`, after a pause."""
        return None

    def ask(self) -> Page | None:
        """The next page, to be read now; None where the stint is over."""
        if self._think_s and (early_s := self._asked_at_s - perf_counter()) > 0:  # timers may be a little early
            self._asked_at_s -= early_s
            self._think_s -= early_s
        self.in_flight = self
        with self._lock:  # between two looks of `abandon` a page is either not asked for or known
            if self._is_over():
                self.in_flight = None
                return None
            self._begin()
            reader, cost = self._reader, PageCost(self._asked_at_s)
            key = next(reader.keys) if self.next_key is None else self.next_key
            page = Page(reader, self._source, key, self._gate.window, cost, self._think_s * 1000)
            self.in_flight = page
        return page

    def _is_over(self) -> bool:
        return self._gate.closed or self._stopping or not self.left

    def _begin(self) -> None:
        self.left -= 1

    def put(self, page: Page) -> None:
        """A page has come back, or has failed. One that the user did not wait for is dropped."""
        self._choose_next(page)
        with self._lock:
            if self._abandoned:
                return
            if self.left >= 0:
                self.last = page
            # in this order: who sees no page in flight relies on it to be in the outbox
            self._has_room = self._put(page)
            self.in_flight = None
        self._reader.pages_asked += page.measured
        self._asked_at_s = page.cost.finished_at_s

    def _choose_next(self, page: Any) -> None:
        try:
            self.next_key = self._reader.key_after(page)
        except Exception as error:  # of a workload whose pages follow one another
            page.error, self.next_key = error, None

    def pause_s(self, page: Page) -> float | None:
        """Seconds until the next page is to be asked for. None where that is now; 0 where others have a turn before.

        A page that did not wait for the server may come back faster than the hub can take such pages. Then the next
        one is late.
        """
        if self.left and (think_s := self._think(self._reader.wait_time())):
            return think_s
        if page.did_not_wait:
            return 0.0 if self._has_room else CROWDED_S
        return None

    def _think(self, seconds: float) -> float:
        self._think_s = max(seconds, 0.0)
        if not self._think_s or self._stopping:
            return 0.0
        self._asked_at_s += self._think_s
        return max(self._asked_at_s - perf_counter(), 0.0)

    # On the hub

    def stop(self) -> None:
        """Ask for no further page."""
        self._stopping = True
        self.wake()

    def leave(self) -> None:
        """The stint is over."""

    def abandon(self) -> object | None:
        """The user is gone: the page in flight, which counts as cut off alone; None if there is none.

        Whether a page that comes back at the same moment is put down or cut off is decided here, once.
        """
        with self._lock:
            self._abandoned = self._stopping = True
            page, self.in_flight = self.in_flight, None
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

    def first_pause_s(self) -> float | None:
        return self.further_pause_s()

    def further_pause_s(self) -> float | None:
        with self._lock:  # who is abandoned neither takes a page any more nor watches for the next one
            if self._stopping or self._has_arrival:
                return None
            self.in_flight = self  # before it has the page: see `in_flight`
            asked_at_s = self._arrivals.take(self)
            if asked_at_s is None:
                self.in_flight = None
                return self._arrivals.sleep_s(self)
            self._asked_at_s, self._has_arrival = asked_at_s, True
            return None

    def ask(self) -> Page | None:
        page = super().ask()
        if page is not None:
            page.late = self._asked_at_s < self._free_since_at_s
        return page

    def pause_s(self, page: Page) -> float | None:
        self._free_since_at_s = page.cost.finished_at_s
        pause_s = self.further_pause_s()
        if pause_s is None and page.did_not_wait:
            return 0.0 if self._has_room else CROWDED_S
        return pause_s

    def leave(self) -> None:
        with self._lock:
            not_begun_at_s = self._asked_at_s if self._has_arrival else None
            self._has_arrival = False
        self._arrivals.leave(self, not_begun_at_s)

    def _is_over(self) -> bool:
        return self._stopping or not self._has_arrival

    def _begin(self) -> None:
        self._has_arrival = False


class BarePage:
    """A page whose function is called and nothing else: no cost, no check, no Locust request."""

    __slots__ = ("count", "error", "key", "rendered", "source")

    cost = nullcontext()

    def __init__(self, source: PageSource) -> None:
        self.source = source
        self.count = 0
        self.key: Key = ()
        self.rendered: Any = None
        self.error: BaseException | None = None

    @property
    def did_not_wait(self) -> bool:
        """See `Page.did_not_wait`; now and then it is said of any, as nobody counts what is asked of the server."""
        return self.error is not None or not self.count % TURNS


class BareStint(Stint):
    """A stint of bare pages: all that is kept of them is how many there were, each by its measured share."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pages = 0.0
        self._page = BarePage(self._source)
        self._gate.window.bare_stints.append(self)

    def ask(self) -> BarePage | None:  # type: ignore[override]
        self.in_flight = page = self._page
        if self._gate.closed or self._stopping:
            self.in_flight = None
            return None
        page.key = next(self._reader.keys) if self.next_key is None else self.next_key
        page.error = None
        page.count += 1
        return page

    def put(self, page: BarePage) -> None:  # type: ignore[override]
        finished_at_s, window = perf_counter(), self._gate.window
        self._choose_next(page)
        if page.error is None:
            self.pages += window.share(self._asked_at_s, finished_at_s)
        self._reader.pages_asked += window.measures(self._asked_at_s)
        self._asked_at_s = finished_at_s
        self.in_flight = None
