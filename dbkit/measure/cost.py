"""What one page cost: statements, round trips, rows, and where its time went.

A caller makes a `PageCost` when it asks for the page and enters it (`with cost:`) where the page is read. The cost of
the page in progress lives in a `ContextVar`, which is right for threads, gevent, asyncio and `run_sync`; engines that
are metered (`dbkit.database.meter`) fill it in. Adding pages up, and judging them, is left to others.
"""

from __future__ import annotations

from collections.abc import Sized
from contextvars import ContextVar, Token
from itertools import count
from time import perf_counter
from types import TracebackType
from typing import Any

current_cost: ContextVar[PageCost | None] = ContextVar("dbkit_page_cost", default=None)
PARTS = ("queue_ms", "pool_ms", "connect_ms", "db_ms", "client_ms")
"""The parts of a page's response time, in the order in which they begin; they add up to it."""
COUNTS = ("statements", "round_trips", "prepares", "rows", "discarded_rows", "connections")
"""The counts of a page."""


class PageCost:
    """The cost of one page. The page starts when the cost is entered, and is finished when the cost is left.

    `asked_at_s`, `started_at_s` and `finished_at_s` are readings of `time.perf_counter`, which all threads of a process
    share; a page is asked for now, unless `asked_at_s` is given. `pool_s`, `connect_s` and `db_s` are seconds.

    `statements` are those that the page executed: one for each set of parameters of an `executemany`, and one for a
    statement whose rows are fetched in parts. `round_trips` also counts each BEGIN, COMMIT, ROLLBACK, savepoint,
    prepare, fetch and pre-ping of the pool that was really sent. `prepares` are statements that the driver had the
    server prepare under a name. `rows` are those that the server returned. `discarded_rows` are those that a
    result's `unique()` threw away, as their like had come before: rows of a joined collection that repeat their parent.
    They are known when the page is finished. `connections` are those opened for this page; their own round trips and
    prepares are in `connect_s` alone.

    `connect_failed` says whether a connection could not be opened, the last time that the page tried to open one.
    `pool_entry` is the pool's record of the connection that the page got last, None where it has none.

    `connect_began_at_s` and `in_pool` are the meter's notes on what is in progress. `unique_filters` are others: for
    each filter the number of the next row that comes to it, from 1, and what it has given.
    """

    __slots__ = (
        "_token",
        "asked_at_s",
        "connect_began_at_s",
        "connect_failed",
        "connect_s",
        "connections",
        "db_s",
        "discarded_rows",
        "finished_at_s",
        "in_pool",
        "pool_entry",
        "pool_s",
        "prepares",
        "round_trips",
        "rows",
        "started_at_s",
        "statements",
        "unique_filters",
    )

    def __init__(self, asked_at_s: float | None = None) -> None:
        self.asked_at_s = perf_counter() if asked_at_s is None else asked_at_s
        self.started_at_s = self.finished_at_s = self.asked_at_s
        self.pool_s = self.connect_s = self.db_s = 0.0
        self.statements = self.round_trips = self.prepares = self.connections = 0
        self.rows = self.discarded_rows = 0
        self.unique_filters: list[tuple[count[int], Sized]] = []
        self.connect_began_at_s: float | None = None
        self.connect_failed = False
        self.in_pool = False
        self.pool_entry: Any = None
        self._token: Token[PageCost | None] | None = None

    def __enter__(self) -> PageCost:
        self._token = current_cost.set(self)
        self.started_at_s = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finished_at_s = perf_counter()
        if self.unique_filters:
            self._charge_discarded_rows()
        assert self._token is not None
        current_cost.reset(self._token)

    def _charge_discarded_rows(self) -> None:
        for number, given in self.unique_filters:
            if (came := next(number) - 1) > 1:  # first() and one() give a row without a note of it
                self.discarded_rows += came - (len(given) or 1)
        self.unique_filters.clear()

    @property
    def in_progress(self) -> bool:
        """Whether the page has started and is not finished."""
        return self.started_at_s > self.finished_at_s

    @property
    def response_ms(self) -> float:
        """From asking for the page to having it rendered and the connection handed back."""
        return (self.finished_at_s - self.asked_at_s) * 1000

    def as_dict(self) -> dict[str, float]:
        """All of it by name: `COUNTS`, and `PARTS` in milliseconds."""
        return {
            "statements": self.statements,
            "round_trips": self.round_trips,
            "prepares": self.prepares,
            "rows": self.rows,
            "discarded_rows": self.discarded_rows,
            "connections": self.connections,
            "queue_ms": (self.started_at_s - self.asked_at_s) * 1000,
            "pool_ms": self.pool_s * 1000,
            "connect_ms": self.connect_s * 1000,
            "db_ms": self.db_s * 1000,
            "client_ms": (self.finished_at_s - self.started_at_s - self.pool_s - self.connect_s - self.db_s) * 1000,
        }
