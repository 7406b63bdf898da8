"""What a column of a record is: its unit, what tables call it, and what it means.

The columns themselves are annotations of the fields in `dbkit.analysis.records`. Where an output shows them is left to
`dbkit.output`.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import get_type_hints

from msgspec import Struct
from msgspec.structs import replace


class Group(Enum):
    """What belongs together, in the order in which files have it. The value is the heading over it in tables."""

    SLOT = "slot"
    CLASS = "class"
    SETTING = "setting"
    PAGES = "pages"
    ARRIVALS = "arrivals"
    RESPONSE = "response time"
    COUNTS = "a page takes"
    PARTS = "ms of its response time"
    CPU = "ms of CPU"
    END = "end"
    LIMIT = "limit"
    HARNESS = "of bare pages/s"
    MACHINE = "machine"
    STATE = "state"
    VERDICT = "verdict"
    MEASURED = "measured"
    LAW = "law"


class Column(Struct, frozen=True):
    """One column of a record, in every output."""

    group: Group
    meaning: str
    """One line of Markdown."""
    unit: str = ""
    """`share` is a number from 0 to 1; empty for text, yes or no, and plain counts."""
    heading: str = ""
    """What tables call it; empty where only files have it."""
    terminal: str = ""
    """The shorter heading on the terminal; empty where it is not shown there."""
    in_summary: bool = False
    """Whether the summary in Markdown has it."""
    name: str = ""
    """The name of the field, as files have it: `columns` fills it in."""

    @property
    def heading_with_unit(self) -> str:
        """`p95 ms`, for tables that do not say the unit elsewhere; `pages/s` and counts need no more."""
        return f"{self.heading} ms" if self.unit == "ms" else self.heading


@cache
def columns(record: type[Struct]) -> tuple[Column, ...]:
    """The columns of a record by group, and within a group in the order of its fields."""
    hints = get_type_hints(record, include_extras=True)
    found = [
        replace(about, name=name)
        for name in record.__struct_fields__
        for about in getattr(hints[name], "__metadata__", ())
        if isinstance(about, Column)
    ]
    order = list(Group)
    return tuple(sorted(found, key=lambda column: order.index(column.group)))
