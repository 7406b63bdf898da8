"""Locust's own requests and failures a second, in rounds by the time in which a class could read.

Locust divides each line of its `_stats.csv`, HTML and web UI by the time of the test (`StatsEntry.total_rps`). In
rounds that is the time of all classes together, and a class that had more slots than another one, as where a run was
cut short, would seem faster. Percentiles and counts stay Locust's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from locust.stats import RequestStats, StatsEntry

_open_times: WeakKeyDictionary[RequestStats, OpenTimes] = WeakKeyDictionary()


class OpenTimes:
    """How long the gate was open for each line of `stats`. A line for which it never was keeps Locust's rates."""

    def __init__(self, stats: RequestStats) -> None:
        self._seconds: Counter[tuple[str, str] | None] = Counter()
        """By request type and name; None for all together."""
        self._open: dict[tuple[str, str] | None, float] = {}
        """Since when the gate is open for which lines, by `time.perf_counter`."""
        _open_times[stats] = self

    @contextmanager
    def counted(self, request_type: str, name: str) -> Iterator[None]:
        """Count the block's time, warm-up and last pages included, for that line and for all together."""
        began_at_s = time.perf_counter()
        self._open = {(request_type, name): began_at_s, None: began_at_s}
        try:
            yield
        finally:
            for line in self._open:
                self._seconds[line] = self.seconds(line)  # type: ignore[assignment]
            self._open = {}

    def forget(self) -> None:
        """Count from now on, as Locust does when its statistics are reset."""
        self._seconds.clear()
        self._open = dict.fromkeys(self._open, time.perf_counter())

    def seconds(self, line: tuple[str, str] | None) -> float:
        """So far; 0 where the gate was never open for it."""
        since_at_s = self._open.get(line)
        return self._seconds[line] + (0.0 if since_at_s is None else time.perf_counter() - since_at_s)


def divide_by_open_time() -> None:
    """Replace Locust's rates in this process, wherever there are `OpenTimes`."""
    for rate, count in {"total_rps": "num_requests", "total_fail_per_sec": "num_failures"}.items():
        setattr(StatsEntry, rate, _by_open_time(getattr(StatsEntry, rate), count))


def _by_open_time(locusts: property, count: str) -> property:
    def rate(entry: StatsEntry) -> float:
        times = _open_times.get(entry.stats)
        line = None if entry is entry.stats.total else (entry.method, entry.name)
        seconds = times.seconds(line) if times else 0.0
        return float(getattr(entry, count) / seconds if seconds else locusts.__get__(entry))

    return property(rate)
