"""The gate before every page: who may read now, and in which slot the page will count.

A user takes `with gate:` around each page, waits there while the gate is closed, and learns which slot it is in. So a
slot begins for all its users at once, no page is cut at its end, and none is in two slots. Without a schedule the
gate stays open, and pages are in no slot. When to open and close it is left to `dbkit.load.schedule`.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple

import gevent
from gevent.event import Event


class Slot(NamedTuple):
    """Where a page counts."""

    number: int | None
    """Of the slot in its schedule, from 0; None without a schedule."""
    measured: bool
    """False in a slot's warm-up."""

    def as_dict(self) -> dict[str, int | bool | None]:
        """By the names that a page's context has for it."""
        return {"slot": self.number, "measured": self.measured}


NO_SLOT = Slot(None, True)


class Gate:
    """One for a process; all its users pass it. It starts open, in no slot."""

    def __init__(self) -> None:
        self.slot = NO_SLOT
        self.reading = 0
        """Pages in flight: asked for and not yet returned."""
        self._open = Event()
        self._open.set()
        self._idle = Event()
        self._idle.set()

    def __enter__(self) -> Slot:
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

    def open(self, slot: Slot) -> None:
        """Let pages be read, counting in `slot`; while it is open, count the next ones in another."""
        self.slot = slot
        self._open.set()

    def close(self) -> None:
        """Let no further page begin. Those in flight go on."""
        self._open.clear()

    def drain(self, timeout_s: float) -> int:
        """Wait until no page is in flight; the number of those that still are after `timeout_s` seconds."""
        with gevent.Timeout(timeout_s, False):
            self._idle.wait()
        return self.reading
