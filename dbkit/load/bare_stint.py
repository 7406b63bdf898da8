"""A user's pages whose functions are called bare, to see what the harness takes: see `--calibrate`.

For pages that are measured see `dbkit.load.stint`.
"""

from __future__ import annotations

from contextlib import nullcontext
from time import perf_counter
from typing import Any

from dbkit.load.page_class import PageSource
from dbkit.load.stint import Stint
from dbkit.load.window import BarePages
from dbkit.workload import Key

TURNS = 100
"""After so many bare pages others of the lane have their turn, whatever the pages do."""


class BarePage:
    """A page whose function is called and nothing else: no cost, no check, no Locust request."""

    __slots__ = ("count", "error", "key", "rendered", "source")

    cost = nullcontext()
    could_not_connect = False
    broken_off_at_s = None

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
        self._page = BarePage(self._source)
        self._pages = BarePages()
        self._gate.window.bare_pages.append(self._pages)

    def further_pause_s(self) -> float | None:
        return None

    def ask(self) -> BarePage | None:  # type: ignore[override]
        self.in_flight = page = self._page
        if self._gate.closed or self._stopping:
            self.in_flight = None
            return None
        page.key = next(self.reader.keys) if self.next_key is None else self.next_key
        page.error = None
        page.count += 1
        return page

    def put(self, page: BarePage) -> None:  # type: ignore[override]
        finished_at_s, window = perf_counter(), self._gate.window
        self._choose_next(page)
        if page.error is None:
            self._pages.count += window.share(self._asked_at_s, finished_at_s)
        self.reader.pages_asked += window.measures(self._asked_at_s)
        self._asked_at_s = finished_at_s
        self.in_flight = None
