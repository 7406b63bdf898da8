"""An open loop in one process: pages are asked for at their times, and whichever user is free reads them.

Of the users that are free one waits for the next page to be due, and passes the watch on when it is; the others wait
for that. So a user is late only where all are busy, and a page that is due waits for the first who is free again. When
pages are due is left to `dbkit.measure.arrivals`; how a user reads them, to `dbkit.load.stint`.
"""

from __future__ import annotations

from collections import deque
from math import inf
from time import perf_counter
from typing import Protocol

from dbkit.analysis.condition import Arrivals
from dbkit.load.native import allocate_lock
from dbkit.measure.arrivals import ArrivalTimes, is_sustained

PARKED_S = inf
"""How long a user sleeps that has nothing to wait for: until it is woken up."""


HOPELESS_SHARE = 0.5
"""Where more pages wait than this share of those asked for, and more than by chance, users are far from keeping up."""


class Watcher(Protocol):
    """A user that is free."""

    def wake(self) -> object:
        """End its sleep, or the next one if it does not sleep."""


class ArrivalStream:
    """The pages that one class is asked for in one process. Called from any thread.

    The rate is that of the load for each of its users that are here: so it is shared by processes, and grows in a ramp.
    """

    def __init__(self, load: Arrivals, seed: str, users: int = 0) -> None:
        """Begins now, with so many `users` here."""
        self._lock = allocate_lock()
        self._per_user_per_s = load.rate_per_s / load.users
        self._users = 0
        self._times = ArrivalTimes(is_even=load.spacing == "even", seed=seed)
        self._waiting: deque[float] = deque()
        """Those that are due, and that nobody reads yet."""
        self._skipped: list[float] = []
        self._watching: Watcher | None = None
        self._parked: dict[Watcher, None] = {}
        self._until_at_s = inf
        self._asked = 0
        self.add_users(users)

    def add_users(self, count: int) -> None:
        """Have so many users more, or fewer: the rate changes with them."""
        with self._lock:
            now_at_s = self._settle()
            self._users += count
            self._times.set_rate(self._per_user_per_s * self._users, now_at_s)
            watching = self._watching
        if watching is not None:
            watching.wake()  # the next page is due at another time

    def take(self, watcher: Watcher) -> float | None:
        """The time of the page that waits longest, for a user that is free to read it; None where none waits."""
        with self._lock:
            self._settle()
            self._parked.pop(watcher, None)
            if not self._waiting:
                return None
            asked_at_s = self._waiting.popleft()
            next_one = self._next_to_watch(watcher)
        if next_one is not None:
            next_one.wake()
        return asked_at_s

    def sleep_s(self, watcher: Watcher) -> float:
        """How long a user sleeps that found no page to read, unless it is woken up."""
        with self._lock:
            if self._waiting:
                return 0.0
            if self._watching not in (None, watcher):
                self._parked[watcher] = None
                return PARKED_S
            self._watching = watcher
            return max(self._times.next_at_s - perf_counter(), 0.0)

    def leave(self, watcher: Watcher, asked_at_s: float | None) -> None:
        """A user is no longer there; it gives back a page that it took and did not begin."""
        with self._lock:
            self._parked.pop(watcher, None)
            if asked_at_s is not None:
                self._waiting.appendleft(asked_at_s)
            # also where it did not watch: somebody has to read what it gives back
            next_one = self._next_to_watch(watcher) or (self._watching if asked_at_s is not None else None)
        if next_one is not None:
            next_one.wake()

    def waiting(self) -> int:
        """How many pages are due, and nobody reads them yet."""
        with self._lock:
            self._settle()
            return len(self._waiting)

    def close(self, until_at_s: float) -> None:
        """Ask for no page after that time."""
        with self._lock:
            self._settle()
            self._until_at_s = until_at_s
            while self._waiting and self._waiting[-1] > until_at_s:
                self._waiting.pop()

    def skip(self, since_at_s: float) -> None:
        """Have those that were asked for since that time, and wait, not be tried: nobody could connect meanwhile."""
        with self._lock:
            self._settle()
            while self._waiting and self._waiting[-1] >= since_at_s:
                self._skipped.append(self._waiting.pop())

    def drop_where_hopeless(self) -> list[float]:
        """As `drop`, where users are hopelessly late with the pages asked for since the last call; else the skipped."""
        with self._lock:
            self._settle()
            asked, self._asked = self._asked, 0
            waiting = len(self._waiting)
            # of a few pages most may wait by chance
            is_hopeless = waiting > HOPELESS_SHARE * asked and not is_sustained(max(asked, 1), waiting)
            return self._drop() if is_hopeless else self._drop_skipped()

    def drop(self) -> list[float]:
        """Give up those that wait: the times at which they, and those that were skipped, were asked for."""
        with self._lock:
            self._settle()
            return self._drop()

    def _drop(self) -> list[float]:
        dropped = [*self._drop_skipped(), *self._waiting]
        self._waiting.clear()
        return dropped

    def _drop_skipped(self) -> list[float]:
        skipped, self._skipped = self._skipped, []
        return skipped

    def _settle(self) -> float:
        """Find what has become due; the time."""
        now_at_s = perf_counter()
        before = len(self._waiting)
        self._waiting.extend(self._times.due(min(now_at_s, self._until_at_s)))
        self._asked += len(self._waiting) - before
        return now_at_s

    def _next_to_watch(self, leaving: Watcher) -> Watcher | None:
        """Who watches in the place of one that leaves, and is to be woken up; None where that does not change."""
        if self._watching not in (None, leaving):
            return None
        self._watching = next(iter(self._parked), None)
        if self._watching is not None:
            del self._parked[self._watching]
        return self._watching
