"""In what the conditions of a result differ besides their classes, from their rows alone: loads, and settings.

What tables show of it, and along what charts have their lines: see `dbkit.analysis.ladders`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbkit.analysis.condition import Users
from dbkit.analysis.records import PageFigures

USERS = "users"


def varied(rows: Iterable[PageFigures]) -> list[str]:
    """The headings of what varies: `USERS`, and the names of settings, in order."""
    rows = list(rows)
    names = sorted({name for row in rows for name in row.settings})
    return [name for name in (USERS, *names) if len({value(row, name) for row in rows}) > 1]


def value(row: PageFigures, heading: str) -> str:
    """What a row has there, as text; nothing where it has none."""
    if heading == USERS:
        return "" if row.users is None else str(row.users)
    return row.settings.get(heading, "")


def load(row: PageFigures) -> str:
    """A row's load in words, such as `10 users`; nothing where it is unknown."""
    return "" if row.users is None else str(Users(row.users))


def line(row: PageFigures) -> str:
    """A row's class and settings: conditions that differ in their load alone have it in common."""
    return ", ".join([row.user_class, *settings(row)])


def settings(row: PageFigures) -> list[str]:
    """A row's settings, each as `pool-size=5`."""
    return [f"{name}={value}" for name, value in row.settings.items()]


def leading_load(rows: Sequence[PageFigures]) -> str | None:
    """The load at which the most pages were served; None where loads do not vary, or no page was served."""
    if len({load(row) for row in rows}) < 2:
        return None
    best = max(rows, key=lambda row: row.pages_per_s or 0)
    return load(best) if best.pages_per_s else None
