"""The gate before every page: who may read now, and in which slot the page will count.

A user waits here for the gate to open, reads page after page in its lane while it is open, and begins none once it has
closed. So a slot begins for all its users at once, no page is cut at its end, and none is in two slots. Without a
schedule the gate stays open, and pages are in no slot. When to open and close it is left to `dbkit.load.conductor`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from dbkit.load.arrivals import ArrivalStream

if TYPE_CHECKING:
    from dbkit.load.stint import BareStint, Stint

POLL_S = 0.005


class Window:
    """A slot as one process sees it, by `time.perf_counter`: when its warm-up ended, and when its gate closed.

    A page belongs to the window in which it was asked for, and knows it from then on.
    """

    __slots__ = ("arrivals", "bare", "bare_stints", "condition", "measured_from_at_s", "measured_until_at_s", "slot")

    def __init__(
        self,
        slot: int | None,
        condition: str | None = None,
        *,
        bare: bool = False,
        arrivals: ArrivalStream | None = None,
    ) -> None:
        self.slot = slot
        """The slot's number in its schedule, from 0; None without a schedule."""
        self.condition = condition
        """The key of the condition that is run; None without a schedule."""
        self.bare = bare
        """Whether page functions are called bare: see `dbkit.load.stint.BareStint`."""
        self.bare_stints: list[BareStint] = []
        self.arrivals = arrivals
        """The pages that are asked for in an open loop; None in a closed one, and without a schedule."""
        self.measured_from_at_s = -math.inf if slot is None else math.inf
        self.measured_until_at_s = math.inf

    def measures(self, asked_at_s: float) -> bool:
        """Whether a page that was asked for at that time counts, or belongs to the warm-up."""
        return asked_at_s >= self.measured_from_at_s

    def share(self, began_at_s: float, ended_at_s: float) -> float:
        """The share, 0 to 1, of this time of a page that lies in the measured part of its slot; 1 without a schedule.

        Pages a second are the sum of these divided by the measured time. Whole pages would do for fast ones; slow ones
        begin together when the gate opens, and as many complete pages would fit in each slot whatever their speed.
        """
        if self.slot is None:
            return 1.0
        inside_s = min(ended_at_s, self.measured_until_at_s) - max(began_at_s, self.measured_from_at_s)
        return max(inside_s, 0.0) / max(ended_at_s - began_at_s, 1e-9)


NO_SLOT = Window(None)


class Gate:
    """One for a process; all its users pass it. It starts open, in no slot.

    Users' lanes read `window` and `closed` from other threads; all else belongs to the hub.
    """

    def __init__(self) -> None:
        self.window = NO_SLOT
        self.closed = False
        self.stints: set[Stint] = set()
        """Those that are being read, each with one page in flight at most."""
        self._open = Event()
        self._open.set()

    def wait(self) -> None:
        """Wait until the gate is open."""
        self._open.wait()

    @contextmanager
    def passing(self, stint: Stint) -> Iterator[None]:
        """Have a `stint` known while it is read."""
        self.stints.add(stint)
        try:
            yield
        finally:
            self.stints.discard(stint)

    def open(self, window: Window) -> None:
        """Let pages be read, counting in `window`."""
        self.window = window
        self.closed = False
        self._open.set()

    def measure(self) -> None:
        """End the warm-up: pages that are asked for from now on count."""
        self.window.measured_from_at_s = time.perf_counter()

    def close(self) -> None:
        """Let no further page be asked for. Those in flight go on, and those that wait to be begun in an open loop."""
        if self.closed:
            return
        self.window.measured_until_at_s = time.perf_counter()
        if self.window.arrivals is not None:
            self.window.arrivals.close(self.window.measured_until_at_s)
        self.closed = True
        self._open.clear()

    def drain(self, timeout_s: float) -> None:
        """Wait until no page is in flight or waits to be begun, for `timeout_s` seconds at the most."""
        until_at_s = time.perf_counter() + timeout_s
        while self._is_busy() and time.perf_counter() < until_at_s:
            gevent.sleep(POLL_S)

    def _is_busy(self) -> bool:
        # in this order: a stint is in flight before it takes a page that waits
        waits = self.window.arrivals is not None and self.window.arrivals.waiting() > 0
        return waits or any(stint.in_flight is not None for stint in self.stints)
