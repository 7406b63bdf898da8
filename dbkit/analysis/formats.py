"""Figures as people read them, the same in every output: on the terminal, in the report, the summary and the web tab.

What the figures are: see `dbkit.analysis.records`. Where they stand is up to the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbkit.analysis.records import ClassRow, Verdict


def number(value: float | None) -> str:
    """Three significant digits, and no more than three decimals; nothing for None."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.1 or value == 0 else f"{value:.3f}"


def limit(row: ClassRow) -> str:
    """What bound a class, in a table's cell: `client CPU`, or `users, mostly db` with the largest part; or nothing."""
    if row.sustained is False:
        return "; ".join(["not sustained", *([row.bound_by] if row.bound_by else [])])
    if row.bound_by == "users" and row.largest_part:
        return f"users, mostly {row.largest_part}"
    return row.bound_by or ""


def ratio(verdict: Verdict | None) -> str:
    """A verdict in a table's cell: `1.31 [1.22, 1.40]`, `not shown [0.97, 1.04]`, `too few rounds` or `no ratio`."""
    if verdict is None or verdict.ratio is None:
        return "no ratio"
    if verdict.low is None or verdict.high is None:
        return "too few rounds"
    value = ratio_alone(verdict) if verdict.shown else "not shown"
    return f"{value} {interval(verdict.low, verdict.high)}"


def ratio_alone(verdict: Verdict) -> str:
    """A verdict's ratio without its interval, with as many digits as that has; nothing without one."""
    if verdict.ratio is None or verdict.low is None or verdict.high is None:
        return ""
    return f"{verdict.ratio:.{decimals(verdict.low, verdict.high)}f}"


def interval(low: float, high: float) -> str:
    """The ends of an interval of ratios: `[1.22, 1.40]`."""
    return f"[{low:.{decimals(low, high)}f}, {high:.{decimals(low, high)}f}]"


def decimals(low: float, high: float) -> int:
    """Two, or as many as keep an interval's ends apart from each other and from 1: [1.002, 1.041], [0.031, 0.034]."""
    for number_of in range(2, 6):
        if len({f"{end:.{number_of}f}" for end in (low, 1.0, high)}) == 3:
            return number_of
    return 2


def harness_share(row: ClassRow) -> str:
    """What the harness takes of a class's pages a second: `9 % [6, 12]`, `9 %` without an interval, or nothing."""
    share, low, high = row.harness_share, row.harness_share_low, row.harness_share_high
    if share is None:
        return ""
    return f"{_percent(share)} %" + ("" if low is None or high is None else f" [{_percent(low)}, {_percent(high)}]")


def duration(seconds: float) -> str:
    """`45 s`, `3 min 05 s` or `1 h 15 min`."""
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest_s:02} s" if minutes else f"{rest_s} s"


def shortened(text: str, limit: int) -> str:
    """Text of no more than `limit` letters, the last of which is … where there were more."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listed(words: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`; names that have commas themselves are set apart by semicolons."""
    return " and ".join([*filter(None, [separated(words[:-1])]), *words[-1:]])


def separated(words: Sequence[str]) -> str:
    """`A, B, C`, or `A, 1 user; A, 2 users` where a name has a comma, as labels of loads and settings have."""
    return ("; " if any(", " in each for each in words) else ", ").join(words)


def _percent(share: float) -> str:
    return str(round(share * 100))
