"""Backpressure: how many pages one process may have in flight at a time, by `--max-in-flight`.

Who finds no place waits in a line, in its lane; that wait is the page's `queue`, which begins when the
page is asked for.
"""

from __future__ import annotations

from time import perf_counter
from typing import Protocol

from dbkit.load.native import allocate_lock


class Taker(Protocol):
    """Who takes places, one at a time."""

    def wake(self) -> object:
        """It has got the place that it waits for; from any thread."""


class Places:
    """So many places as `count` says. Called from any thread."""

    def __init__(self, count: int) -> None:
        self._lock = allocate_lock()
        self._free = count
        self._taken: set[Taker] = set()
        self._line: dict[Taker, float] = {}
        """Since when each has waited, by `time.perf_counter`; the first comes next."""

    def take(self, taker: Taker) -> bool:
        """Whether it has a place now; else it stands in the line, and is woken up when it has one."""
        with self._lock:
            if taker in self._taken:
                return True
            if not self._free:
                self._line.setdefault(taker, perf_counter())
                return False
            self._free -= 1
            self._taken.add(taker)
            return True

    def waits_since_s(self, taker: Taker) -> float | None:
        """When it came into the line, by `time.perf_counter`; None where it is not there."""
        return self._line.get(taker)

    def give_back(self, taker: Taker) -> None:
        """Leave the place, or the line; the place goes to the first in the line."""
        with self._lock:
            self._line.pop(taker, None)
            if taker not in self._taken:
                return
            self._taken.remove(taker)
            first = next(iter(self._line), None)
            if first is None:
                self._free += 1
            else:
                del self._line[first]
                self._taken.add(first)
        if first is not None:
            first.wake()
