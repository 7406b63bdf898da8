"""A run without rounds over time: what each condition served in each window of a few seconds.

Windows are counted on the clock of the day, so that those of several processes begin together. They are added up here
and read as columns; callers know when a run began and which processes there are.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from dbkit.measure.cost import PARTS
from dbkit.measure.tally import Tally, db_parts

WINDOW_S = 2.0
"""How long a window is at first."""
MAX_WINDOWS = 150
"""With more than these, neighbours are joined, so that a long run takes no more room than a short one."""
SHORTEST_S = 0.5
"""A window at a run's beginning or end that is shorter is left out, as a rate of it would be a guess."""
RECENT_S = 10.0
"""How far back `recent_parts_ms` looks."""


class Timeline:
    """The windows of one process, and on a master those of all. A page is in the window in which it came back."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.window_s = WINDOW_S
        self._clock = clock
        self._windows: defaultdict[int, defaultdict[str, Tally]] = defaultdict(_new_window)
        self._users: dict[int, int] = {}
        self._p95_ms: dict[tuple[int, str], tuple[int, float | None]] = {}

    def add(self, condition: str, cost: Mapping[str, float], response_ms: float, failed: bool) -> None:
        """Add a page that has just come back: see `dbkit.measure.tally.Tally.add`."""
        self._windows[self._now()][condition].add(cost, response_ms, failed)

    def note_users(self, users: int) -> None:
        """Note how many users there are now. Call it more often than once a window: it also keeps long runs small."""
        while len(self._windows) > MAX_WINDOWS:
            self._join_neighbours()
        self._users[self._now()] = users

    def take_message(self) -> list[dict[str, Any]]:
        """All windows in plain values for sending; they are forgotten here."""
        message = [
            {"began_at": number * self.window_s, "condition": condition, "tally": tally.as_message()}
            for number, window in self._windows.items()
            for condition, tally in window.items()
        ]
        self._windows.clear()
        return message

    def merge_message(self, message: list[dict[str, Any]]) -> None:
        """Add the windows that another process took."""
        for part in message:
            number = int(part["began_at"] // self.window_s)
            self._windows[number][part["condition"]].merge(Tally.from_message(part["tally"]))

    def columns(self, began_at: float, ended_at: float) -> dict[str, Any]:
        """The windows of a run between two times of the day, as lists of equal length, None where nothing was served.

        `began_s` is each window's beginning in the run, `users` how many there were; `classes` has `pages_per_s` and
        `p95_ms` of each condition. Windows of which less than half a second lies in the run are left out.
        """
        began_s, users, spans = [], [], []
        names: dict[str, None] = {}
        for number in sorted(self._windows):
            begin = max(number * self.window_s, began_at)
            span_s = min((number + 1) * self.window_s, ended_at) - begin
            if span_s >= SHORTEST_S:
                began_s.append(round(begin - began_at, 3))
                users.append(self._users.get(number))
                spans.append((number, span_s))
                names |= dict.fromkeys(self._windows[number])
        classes: dict[str, dict[str, list[float | None]]] = {
            name: {"pages_per_s": [], "p95_ms": []} for name in sorted(names)
        }
        for number, span_s in spans:
            for name, columns in classes.items():
                tally = self._windows[number].get(name)
                columns["pages_per_s"].append(None if tally is None else float(f"{tally.succeeded / span_s:.4g}"))
                columns["p95_ms"].append(None if tally is None else self._p95_of(number, name, tally))
        return {"window_s": self.window_s, "began_s": began_s, "users": users, "classes": classes}

    def recent_parts_ms(self) -> dict[str, dict[str, float | None]]:
        """The mean parts of a page's time by condition, in the last ten seconds, or in the last window if it is longer.

        How long answers waited for Python is not known in a run without rounds.
        """
        pages: Counter[str] = Counter()
        sums_ms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        last = max(round(RECENT_S / self.window_s), 1)
        for number in sorted(self._windows)[-last:]:
            for name, tally in self._windows[number].items():
                pages[name] += tally.succeeded
                sums_ms[name].update(tally.parts_ms)
        recent_ms = {}
        for name, count in pages.items():
            if count:
                means_ms: dict[str, float | None] = {part: sums_ms[name][part] / count for part in PARTS}
                recent_ms[name] = means_ms | db_parts(means_ms["db_ms"], answer_wait_ms=None)
        return recent_ms

    def _p95_of(self, number: int, name: str, tally: Tally) -> float | None:
        """The 95th percentile of one window, read once for as many pages as it has.

        To read that of every window of a long run each time would hold the users up.
        """
        pages, p95_ms = self._p95_ms.get((number, name), (0, None))
        if pages != tally.succeeded:
            p95_ms = tally.response.percentile(0.95)
            self._p95_ms[number, name] = (tally.succeeded, p95_ms)
        return p95_ms

    def _now(self) -> int:
        return int(self._clock() // self.window_s)

    def _join_neighbours(self) -> None:
        before, self._windows = self._windows, defaultdict(_new_window)
        self._p95_ms.clear()
        self.window_s *= 2
        for number, window in before.items():
            for name, tally in window.items():
                self._windows[number // 2][name].merge(tally)
        self._users = {number // 2: users for number, users in sorted(self._users.items())}


def _new_window() -> defaultdict[str, Tally]:
    return defaultdict(Tally)
