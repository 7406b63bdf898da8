"""What one page cost: statements, round trips, rows, and where its time went.

A caller makes a `PageCost` when it asks for the page and enters it (`with cost:`) where the page is read. The cost of
the page in progress lives in a `ContextVar`, right under threads, gevent, asyncio and `run_sync` alike; an engine that
`dbkit.database.meter.meter` has been at fills it in. Adding pages up, and judging them, is left to others.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from time import perf_counter
from types import TracebackType

current_cost: ContextVar[PageCost | None] = ContextVar("dbkit_page_cost", default=None)
PARTS = ("queue_ms", "pool_ms", "connect_ms", "db_ms", "client_ms")
"""The parts of a page's response time, in the order in which they begin; they add up to it."""
COUNTS = ("statements", "round_trips", "rows", "connections")
"""What is counted of a page."""


class PageCost:
    """The cost of one page. Asked for at `asked_s`, which is now where none is given; started when entered, finished
    when left.

    Times are in seconds of `time.perf_counter`, which all threads of a process share. `statements` are those that the
    page executed; `round_trips` also counts BEGIN, COMMIT, ROLLBACK and prepares that were really sent; `rows` are
    those that the server returned; `connections` those opened for this page, whose own round trips count as
    `connect_s`.
    """

    __slots__ = (
        "_connecting_since_s",
        "_in_pool",
        "_token",
        "asked_s",
        "connect_s",
        "connections",
        "db_s",
        "finished_s",
        "pool_s",
        "round_trips",
        "rows",
        "started_s",
        "statements",
    )

    def __init__(self, asked_s: float | None = None) -> None:
        self.asked_s = perf_counter() if asked_s is None else asked_s
        self.started_s = self.finished_s = self.asked_s
        self.pool_s = self.connect_s = self.db_s = 0.0
        self.statements = self.round_trips = self.rows = self.connections = 0
        self._connecting_since_s: float | None = None
        self._in_pool = False
        self._token: Token[PageCost | None] | None = None

    def __enter__(self) -> PageCost:
        self._token = current_cost.set(self)
        self.started_s = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finished_s = perf_counter()
        assert self._token is not None
        current_cost.reset(self._token)

    @property
    def response_ms(self) -> float:
        """From asking for the page to having it rendered and the connection handed back."""
        return (self.finished_s - self.asked_s) * 1000

    def as_dict(self) -> dict[str, float]:
        """All of it by name: `COUNTS`, and `PARTS` in milliseconds."""
        return {
            "statements": self.statements,
            "round_trips": self.round_trips,
            "rows": self.rows,
            "connections": self.connections,
            "queue_ms": (self.started_s - self.asked_s) * 1000,
            "pool_ms": self.pool_s * 1000,
            "connect_ms": self.connect_s * 1000,
            "db_ms": self.db_s * 1000,
            "client_ms": (self.finished_s - self.started_s - self.pool_s - self.connect_s - self.db_s) * 1000,
        }
