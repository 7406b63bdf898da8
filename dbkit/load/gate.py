"""The gate before every page: who may read now, and in which slot the page will count.

A user takes `with gate:` around each page, waits there while the gate is closed, and learns which slot it is in. So a
slot begins for all its users at once, no page is cut at its end, and none is in two slots. Without a schedule the
gate stays open, and pages are in no slot. When to open and close it is left to `dbkit.load.schedule`.
"""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import NamedTuple

import gevent
from gevent.event import Event


class PageSlot(NamedTuple):
    """Where a page counts."""

    number: int | None
    """Of the slot in its schedule, from 0; None without a schedule."""
    measured: bool
    """False in a slot's warm-up."""

    def as_dict(self) -> dict[str, int | bool | None]:
        """By the names that a page's context has for it."""
        return {"slot": self.number, "measured": self.measured}


NO_SLOT = PageSlot(None, True)


class Gate:
    """One for a process; all its users pass it. It starts open, in no slot."""

    def __init__(self) -> None:
        self.slot = NO_SLOT
        self._measured_from_s, self._measured_until_s = 0.0, math.inf
        self.reading = 0
        """Pages in flight: asked for and not yet returned."""
        self._open = Event()
        self._open.set()
        self._idle = Event()
        self._idle.set()

    def __enter__(self) -> PageSlot:
        """Wait until the gate is open; the slot that the page counts in."""
        self._open.wait()
        self.reading += 1
        self._idle.clear()
        return self.slot

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reading -= 1
        if not self.reading:
            self._idle.set()

    def open(self, slot: PageSlot) -> None:
        """Let pages be read, counting in `slot`; while it is open, count the next ones in another."""
        if slot.measured:
            self._measured_from_s, self._measured_until_s = time.perf_counter(), math.inf
        self.slot = slot
        self._open.set()

    def close(self) -> None:
        """Let no further page begin. Those in flight go on."""
        self._measured_until_s = time.perf_counter()
        self._open.clear()

    def measured_share(self, slot: PageSlot, began_s: float, ended_s: float) -> float:
        """The share, 0 to 1, of a page's time that lies in the measured part of its slot; 1 without a schedule.

        Pages a second are the sum of these by the measured time. Whole pages would do for fast ones; slow ones begin
        together when the gate opens, and as many whole pages would fit in each slot whatever their speed.
        """
        if slot.number is None:
            return 1.0
        if slot.number != self.slot.number or not self.slot.measured:
            return 0.0  # it ended in the warm-up
        began_in_s, ended_in_s = max(began_s, self._measured_from_s), min(ended_s, self._measured_until_s)
        return max(ended_in_s - began_in_s, 0.0) / (ended_s - began_s)

    def drain(self, timeout_s: float) -> int:
        """Wait until no page is in flight; the number of those that still are after `timeout_s` seconds."""
        with gevent.Timeout(timeout_s, False):
            self._idle.wait()
        return self.reading
