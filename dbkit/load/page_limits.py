"""Pages that take too long: after `--page-timeout` a page is broken off, and at a stop after `--drain-timeout`.

Nothing is set up for a page: twice a second the hub looks at all that are in flight. How a page is broken off is the
business of its lane (`dbkit.load.lanes`); what it is then counted as, of `dbkit.load.page` and `dbkit.load.users`.
"""

from __future__ import annotations

from time import perf_counter

import gevent

from dbkit.load.gate import Gate
from dbkit.load.page import Page

LOOK_S = 0.5
"""How often pages in flight are looked at, at least; `LOOKS` times in a timeout, where that is more often."""
LOOKS = 20
CUT_AFTER_S = 3.0
"""How long a driver may take to break a page off, before its connection is cut under it. psycopg's async side waits for
an answer to its cancelling without an end, which never comes where the network is gone."""


def is_to_be_cut(page: Page, now_s: float) -> bool:
    """Whether a page that was broken off goes on all the same, so that only cutting its connection is left."""
    return page.broken_off_at_s is not None and page.cost.in_progress and now_s - page.broken_off_at_s > CUT_AFTER_S


class PageLimit:
    """Has the pages of one process that take longer than `timeout_s` broken off, from `start` to `stop`."""

    def __init__(self, gate: Gate, timeout_s: float) -> None:
        self._gate = gate
        self._timeout_s = timeout_s
        interval_s = min(LOOK_S, timeout_s / LOOKS)
        self._timer = gevent.get_hub().loop.timer(interval_s, interval_s, ref=False)

    def start(self) -> None:
        """Begin to look at pages."""
        # on the hub itself, where no greenlet can run between looking at a page and breaking it off
        self._timer.start(self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._timer.close()

    def _look(self) -> None:
        now_s = perf_counter()
        for stint, page in self._gate.in_progress():
            is_late = now_s - page.cost.started_at_s >= self._timeout_s
            if is_late and (page.broken_off_at_s is None or is_to_be_cut(page, now_s)):
                stint.break_off(page)
