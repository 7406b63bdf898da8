"""Locust's own percentiles to three significant digits, in its tables, CSV files, HTML and web UI.

Locust rounds response times to whole milliseconds, and above 100 to two digits; fast pages then all look alike. It
lets the rounding be replaced, but floors what it writes to CSV and console, so that those two are replaced as well.
Its web UI still shows the shortest and longest time in whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from locust import stats

from dbkit.tally import three_digits


def keep_three_digits() -> None:
    """Replace Locust's rounding in this process; doing so again changes nothing."""
    stats.bucket_response_time = three_digits  # type: ignore[assignment]
    stats.StatsCSV._percentile_fields = _percentile_fields  # type: ignore[method-assign, assignment]
    stats.StatsEntry.percentile = _percentile_line  # type: ignore[method-assign, assignment]


def _percentile_fields(
    writer: stats.StatsCSV, entry: stats.StatsEntry, use_current: bool = False
) -> Sequence[str | float]:
    if not entry.num_requests:
        return writer.percentiles_na
    if use_current and entry.use_response_times_cache:
        return [entry.get_current_response_time_percentile(share) or 0 for share in writer.percentiles_to_report]
    return _percentiles(entry, writer.percentiles_to_report)


def _percentile_line(entry: stats.StatsEntry) -> str:
    times = _percentiles(entry, stats.PERCENTILES_TO_REPORT)
    names = f"{entry.method or '':<{stats.STATS_TYPE_WIDTH}} {entry.name:<{stats.STATS_NAME_WIDTH}}"
    # in the order of Locust's heading, which has the number of requests last, under a column of width 8
    return f"{names} {times[0]:>8g} {' '.join(f'{ms:>6g}' for ms in (*times[1:], entry.num_requests))}"


def _percentiles(entry: stats.StatsEntry, shares: Sequence[float]) -> list[float]:
    """What Locust's `get_response_time_percentile` gives for each of the shares, in one pass.

    Three digits make more buckets than Locust's two. Sorting them once for each of eleven percentiles, as Locust's CSV
    writer would every second, held all users up for some 80 ms.
    """
    total = entry.num_requests - entry.num_none_requests
    found: dict[float, float] = {}
    left = sorted(shares)
    counted = 0
    for ms in sorted(entry.response_times, reverse=True):
        counted += entry.response_times[ms]
        while left and total - counted <= int(total * left[-1]):
            found[left.pop()] = ms
        if not left:
            break
    return [found.get(share, 0) for share in shares]
