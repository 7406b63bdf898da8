"""A run without rounds over time: what each class served in each window of a few seconds.

Windows are counted on the clock of the day, so that those of several processes fall together. They are added up here
and read as columns; when a run began and which processes there are is the callers' to know.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dbkit.measure.cost import PARTS
from dbkit.measure.tally import Distribution, db_parts

WINDOW_S = 2.0
"""How long a window is at first."""
MAX_WINDOWS = 150
"""With more than these, neighbours are joined, so that a long run takes no more room than a short one."""
SHORTEST_S = 0.5
"""A window at a run's beginning or end that is shorter is left out, as a rate of it would be a guess."""
RECENT_S = 10.0


@dataclass
class Window:
    """What one class did in one window; a page is in the one in which it came back."""

    pages: int = 0
    """Pages that did not fail."""
    response: Distribution = field(default_factory=Distribution)
    """Their response times."""
    sums_ms: Counter[str] = field(default_factory=Counter)
    """The parts of those, added up."""
    _p95: tuple[int, float | None] = (0, None)

    def add(self, cost: Mapping[str, float], response_ms: float) -> None:
        self.pages += 1
        self.response.add(response_ms)
        for name in PARTS:
            self.sums_ms[name] += cost[name]  # type: ignore[assignment]

    def merge(self, other: Window) -> None:
        self.pages += other.pages
        self.response.merge(other.response)
        self.sums_ms.update(other.sums_ms)

    @property
    def p95_ms(self) -> float | None:
        if self._p95[0] != self.pages:  # to read that of every window of a long run again would hold the users up
            self._p95 = (self.pages, self.response.percentile(0.95))
        return self._p95[1]


class Timeline:
    """The windows of one process, and on a master those of all."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.window_s = WINDOW_S
        self._clock = clock
        self._windows: defaultdict[int, defaultdict[str, Window]] = defaultdict(_new_window)
        self._users: dict[int, int] = {}

    def add(self, user_class: str, cost: Mapping[str, float], response_ms: float, failed: bool) -> None:
        """Add a page that has just come back; `cost` is `PageCost.as_dict()`."""
        window = self._windows[self._now()][user_class]  # one without pages tells of failed ones alone
        if not failed:
            window.add(cost, response_ms)

    def note_users(self, users: int) -> None:
        """So many users are there now; to be called more often than every window, also to keep long runs small."""
        while len(self._windows) > MAX_WINDOWS:
            self._join_neighbours()
        self._users[self._now()] = users

    def take_message(self) -> list[Any]:
        """All windows in plain values for sending; they are forgotten here."""
        message = [
            [
                number * self.window_s,
                user_class,
                window.pages,
                dict(window.response.counts),
                window.response.sum_ms,
                window.response.max_ms,
                dict(window.sums_ms),
            ]
            for number, classes in self._windows.items()
            for user_class, window in classes.items()
        ]
        self._windows.clear()
        return message

    def merge_message(self, message: list[Any]) -> None:
        """Add what another process took."""
        for began_at, user_class, pages, counts, sum_ms, max_ms, sums_ms in message:
            window = Window(pages, Distribution(Counter(counts), sum_ms, max_ms), Counter(sums_ms))
            self._windows[int(began_at // self.window_s)][user_class].merge(window)

    def columns(self, began_at: float, ended_at: float) -> dict[str, Any]:
        """The windows of a run between two times of the day, as lists of equal length, None where nothing was served.

        `began_s` is each window's beginning in the run, `users` how many there were; `classes` has `pages_per_s` and
        `p95_ms` of each class. Windows that lie in the run by less than half a second are left out.
        """
        began_s, users, spans = [], [], []
        names: dict[str, None] = {}
        for number in sorted(self._windows):
            begin = max(number * self.window_s, began_at)
            span_s = min((number + 1) * self.window_s, ended_at) - begin
            if span_s >= SHORTEST_S:
                began_s.append(round(begin - began_at, 3))
                users.append(self._users.get(number))
                spans.append((self._windows[number], span_s))
                names |= dict.fromkeys(self._windows[number])
        classes: dict[str, dict[str, list[float | None]]] = {
            name: {"pages_per_s": [], "p95_ms": []} for name in sorted(names)
        }
        for windows, span_s in spans:
            for name, columns in classes.items():
                window = windows.get(name)
                columns["pages_per_s"].append(float(f"{window.pages / span_s:.4g}") if window else None)
                columns["p95_ms"].append(window.p95_ms if window else None)
        return {"window_s": self.window_s, "began_s": began_s, "users": users, "classes": classes}

    def recent_parts_ms(self) -> dict[str, dict[str, float | None]]:
        """The mean parts of a page's time in the last ten seconds, or the last window if that is longer, by class.

        How long answers waited for Python is not known of them.
        """
        pages: Counter[str] = Counter()
        sums_ms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        last = max(round(RECENT_S / self.window_s), 1)
        for number in sorted(self._windows)[-last:]:
            for name, window in self._windows[number].items():
                pages[name] += window.pages
                sums_ms[name].update(window.sums_ms)
        recent_ms = {}
        for name, count in pages.items():
            if count:
                means_ms: dict[str, float | None] = {part: sums_ms[name][part] / count for part in PARTS}
                recent_ms[name] = means_ms | db_parts(means_ms["db_ms"], answer_wait_ms=None)
        return recent_ms

    def _now(self) -> int:
        return int(self._clock() // self.window_s)

    def _join_neighbours(self) -> None:
        before, self._windows = self._windows, defaultdict(_new_window)
        self.window_s *= 2
        for number, classes in before.items():
            for name, window in classes.items():
                self._windows[number // 2][name].merge(window)
        self._users = {number // 2: users for number, users in sorted(self._users.items())}


def _new_window() -> defaultdict[str, Window]:
    return defaultdict(Window)
