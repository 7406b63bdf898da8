"""The gate before every page: who may read now, and in which slot the page will count.

A user waits here for the gate to open, reads page after page in its lane while it is open, and begins none once it has
closed. So a slot begins for all its users at once, no page is cut at its end, and none is in two slots. Without a
schedule the gate stays open, and pages are in no slot. When to open and close it is left to `dbkit.load.conductor`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import gevent
from gevent.event import Event

from dbkit.load.page import Page
from dbkit.load.places import Places, Taker
from dbkit.load.window import Window

POLL_S = 0.005


class Passing(Taker, Protocol):
    """What the gate knows of a stint."""

    in_flight: object | None
    """The page that has been asked for and has not come back."""
    break_off: Callable[[Page], object]
    """Ends that page, as it takes too long."""

    @property
    def reader(self) -> object:
        """Its user."""

    @property
    def page_in_flight(self) -> Page | None:
        """The same where it has begun to be a page, and is not bare."""


class Gate:
    """One for a process; all its users pass it. It starts open, in no slot.

    Users' lanes read `window` and `closed` from other threads; all else belongs to the hub.
    """

    def __init__(self) -> None:
        self.window = Window(None)
        self.closed = False
        self.is_drained = False
        """Whether pages of the window have been waited for since it closed."""
        self.places: Places | None = None
        """Those that pages take, where there is a limit; set for each test."""
        self.stints: set[Passing] = set()
        """Those that are being read, each with one page in flight at most."""
        self._open = Event()
        self._open.set()

    def wait(self) -> None:
        """Wait until the gate is open."""
        self._open.wait()

    @contextmanager
    def passing(self, stint: Passing) -> Iterator[None]:
        """Have a `stint` known while it is read."""
        self.stints.add(stint)
        try:
            yield
        finally:
            self.stints.discard(stint)

    def in_progress(self) -> Iterator[tuple[Passing, Page]]:
        """The stints whose page is being read now, each with that page; bare pages are left out."""
        for stint in tuple(self.stints):
            page = stint.page_in_flight
            if page is not None and page.cost.in_progress:
                yield stint, page

    def in_line(self) -> Iterator[tuple[Passing, float]]:
        """The stints that wait for a place for their page, each with when that began."""
        for stint in tuple(self.stints):
            if self.places is not None and (since_s := self.places.waits_since_s(stint)) is not None:
                yield stint, since_s

    def open(self, window: Window) -> None:
        """Let pages be read, counting in `window`."""
        self.window = window
        self.closed = self.is_drained = False
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
        """Wait until no page is in flight or waits to be begun, for `timeout_s` seconds at the most.

        Pages that are there then have had their time: `is_drained`.
        """
        until_at_s = time.perf_counter() + timeout_s
        while self._is_busy() and time.perf_counter() < until_at_s:
            gevent.sleep(POLL_S)
        self.is_drained = True

    def _is_busy(self) -> bool:
        # in this order: a stint is in flight before it takes a page that waits
        waits = self.window.arrivals is not None and self.window.arrivals.waiting() > 0
        return waits or any(stint.in_flight is not None for stint in self.stints)
