"""In what the conditions of a result differ besides their classes, from their rows alone: loads, and settings.

What tables show of it, and along what charts have their lines: see `dbkit.analysis.ladders`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbkit.analysis.condition import Arrivals, Users
from dbkit.analysis.records import PageFigures

USERS = "users"
ARRIVALS = "arrivals/s"
LOADS = (USERS, ARRIVALS)
"""Headings of loads; in one result only one of them varies."""


def varied(rows: Iterable[PageFigures]) -> list[str]:
    """The headings of what varies: one of the `LOADS`, and the names of settings, in order."""
    rows = list(rows)
    names = sorted({name for row in rows for name in row.settings})
    return [name for name in (*LOADS, *names) if len({value(row, name) for row in rows}) > 1]


def value(row: PageFigures, heading: str) -> str:
    """What a row has there, as text; nothing where it has none."""
    if heading == USERS:
        return "" if row.users is None else str(row.users)
    if heading == ARRIVALS:
        return "" if row.arrivals_per_s is None else f"{row.arrivals_per_s:g}"
    return row.settings.get(heading, "")


def load(row: PageFigures) -> str:
    """A row's load in words, such as `10 users` or `100 arrivals/s`; nothing where it is unknown."""
    if row.users is None:
        return ""
    return str(Users(row.users) if row.arrivals_per_s is None else Arrivals(row.arrivals_per_s, row.users))


def line(row: PageFigures) -> str:
    """A row's class and settings: conditions that differ in their load alone have it in common."""
    return ", ".join([row.user_class, *settings(row)])


def settings(row: PageFigures) -> list[str]:
    """A row's settings, each as `pool-size=5`."""
    return [f"{name}={value}" for name, value in row.settings.items()]


def leading_load(rows: Sequence[PageFigures]) -> str | None:
    """The load at which the most pages were served, of those that were sustained; None where loads do not vary."""
    if len({load(row) for row in rows}) < 2:
        return None
    best = max(rows, key=lambda row: (row.sustained is not False, row.pages_per_s or 0))
    return load(best) if best.pages_per_s else None


def leading_quantity(rows: Iterable[PageFigures]) -> str:
    """The column that rows are compared by first: in an open loop pages a second are as many as are asked for."""
    return "pages_per_s" if all(row.arrivals_per_s is None for row in rows) else "p95_ms"
