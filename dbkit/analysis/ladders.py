"""Lines of charts along what varies and is a number: users at a time, or else a setting such as the size of the pool.

They name rows by their conditions. How they are drawn is left to the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from dbkit.analysis.records import ClassRow
from dbkit.analysis.varied import LOADS, value, varied


@dataclass(frozen=True)
class Line:
    """Rows that are alike in all but the thing along which the line goes."""

    name: str
    """The class, and the settings that vary besides."""
    at: list[float]
    """Where each row stands, ascending."""
    conditions: list[str]


@dataclass(frozen=True)
class Ladder:
    """Lines along one thing."""

    along: str
    """`users`, `arrivals/s` or the name of a setting."""
    lines: list[Line]


def ladder(rows: Sequence[ClassRow]) -> Ladder | None:
    """The lines of a workload's rows, in the order of these; None where nothing that varies is a number."""
    headings = varied(rows)
    numbers = [heading for heading in headings if all(_is_number(value(row, heading)) for row in rows)]
    if not numbers:
        return None
    along = (
        numbers[0] if numbers[0] in LOADS else max(numbers, key=lambda each: len({value(row, each) for row in rows}))
    )
    others = [heading for heading in headings if heading not in (along, *LOADS)]

    def name(row: ClassRow) -> str:
        return ", ".join([row.user_class, *(f"{each}={value(row, each)}" for each in others)])

    places = {each: place for place, each in enumerate(dict.fromkeys(map(name, rows)))}
    in_order = sorted(rows, key=lambda row: (places[name(row)], float(value(row, along))))
    lines = []
    for line, members in groupby(in_order, key=name):
        found = list(members)
        lines.append(Line(line, [float(value(row, along)) for row in found], [row.condition for row in found]))
    return Ladder(along, lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
