"""One page on its way, and how it fails where it takes too long. Who reads which page is left to `dbkit.load.stint`."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from dbkit.load.page_class import PageSource
from dbkit.load.window import Window
from dbkit.measure.cost import PageCost
from dbkit.workload import Key


class PageTimeout(BaseException):
    """Ends a page that takes too long. It is no `Exception`, so that page functions rarely keep it to themselves."""

    def __init__(self) -> None:
        super().__init__("the page took longer than --page-timeout")


class CutOff(Exception):
    """Why a page failed whose user was stopped before it came back."""

    def __init__(self) -> None:
        super().__init__("the page had not come back when its user was stopped, nor within --drain-timeout")


class Page:
    """One page on its way: asked for, read, put down."""

    __slots__ = (
        *("backed_off_ms", "broken_off_at_s", "cost", "error", "key", "late", "reader", "rendered", "source"),
        *("think_ms", "window"),
    )

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
        self.backed_off_ms = 0.0
        """How long it waited beyond that, as connections had failed before."""
        self.late: bool | None = None
        """In an open loop, whether no user was free when it was due; None in a closed one."""
        self.rendered: Any = None
        self.error: BaseException | None = None
        """Why it failed."""
        self.broken_off_at_s: float | None = None
        """When its lane was asked to break it off, as it took too long; None where it was not."""

    def cut_off(self) -> Page:
        """A page in its place that failed now, as nobody waits for it any more; the page itself may go on."""
        cost = PageCost(self.cost.asked_at_s)
        cost.started_at_s, cost.finished_at_s = self.cost.started_at_s, perf_counter()
        page = Page(self.reader, self.source, self.key, self.window, cost, self.think_ms)
        page.late, page.backed_off_ms, page.error = self.late, self.backed_off_ms, CutOff()
        return page

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
    def could_not_connect(self) -> bool:
        """Whether it failed, and could open no connection."""
        return self.error is not None and self.cost.connect_failed

    @property
    def did_not_wait(self) -> bool:
        """Whether it may have let nobody else of its lane run: it failed, or asked the server nothing."""
        return self.error is not None or not self.cost.round_trips
