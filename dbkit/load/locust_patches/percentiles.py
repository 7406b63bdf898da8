"""Locust's own percentiles to three significant digits, in its tables, CSV files, HTML and web UI.

Locust rounds response times to milliseconds, and above 100 to two digits; fast pages then all look alike. It
lets the rounding be replaced, but floors what it writes to CSV and console, so that those two are replaced as well.
Three digits make more buckets than two, which Locust sorts again for each percentile of each line: every second for its
CSV files, every other one for its web UI. That held all users up for some 80 ms; here each line is sorted once.

Its web UI still shows the shortest and longest time in milliseconds without digits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from locust import stats

from dbkit.measure.tally import round_significant


def use_significant_digits() -> None:
    """Replace Locust's rounding in this process; doing so again changes nothing."""
    stats.bucket_response_time = round_significant  # type: ignore[assignment]
    stats.calculate_response_time_percentile = _Sorted().percentile  # type: ignore[assignment]
    stats.StatsCSV._percentile_fields = _percentile_fields  # type: ignore[method-assign, assignment]
    stats.StatsEntry.percentile = _percentile_line  # type: ignore[method-assign, assignment]


class _Sorted:
    """The response times asked about last, sorted, as several percentiles of the same are asked for in turn."""

    def __init__(self) -> None:
        self._of: Mapping[float, int] = {}
        self._requests = 0
        self._times: list[float] = []
        self._shorter: list[int] = []
        """How many requests were shorter than each of those times."""

    def percentile(self, response_times: Mapping[float, int], num_requests: int, percent: float) -> float:
        """What `locust.stats.calculate_response_time_percentile` gives."""
        if response_times is not self._of or num_requests != self._requests:
            self._of, self._requests = response_times, num_requests
            self._times = sorted(response_times)
            counts = map(response_times.__getitem__, self._times)
            self._shorter = list(accumulate(counts, initial=0))
        counted = self._shorter[-1]
        place = bisect_right(self._shorter, int(num_requests * percent) - num_requests + counted, hi=len(self._times))
        return self._times[place - 1] if place else 0


def _percentile_fields(
    writer: stats.StatsCSV, entry: stats.StatsEntry, use_current: bool = False
) -> Sequence[str | float]:
    if not entry.num_requests:
        return writer.percentiles_na
    if use_current and entry.use_response_times_cache:
        return [entry.get_current_response_time_percentile(share) or 0 for share in writer.percentiles_to_report]
    return [entry.get_response_time_percentile(share) for share in writer.percentiles_to_report]


def _percentile_line(entry: stats.StatsEntry) -> str:
    times = [entry.get_response_time_percentile(share) for share in stats.PERCENTILES_TO_REPORT]
    names = f"{entry.method or '':<{stats.STATS_TYPE_WIDTH}} {entry.name:<{stats.STATS_NAME_WIDTH}}"
    # in the order of Locust's heading, which has the number of requests last, under a column of width 8
    return f"{names} {times[0]:>8g} {' '.join(f'{ms:>6g}' for ms in (*times[1:], entry.num_requests))}"
