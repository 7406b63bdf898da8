"""How strategies and stacks look, the same in every chart and table: of the report, and live in the web UI.

A strategy has a colour and a marker, a stack the dash of its lines, so that user classes can be distinguished with and
without colour. Drawing is left to `view/charts.js`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import Any, TypedDict

from dbkit.analysis.slot import Row


class Look(TypedDict):
    """How one user class is drawn."""

    strategy: str
    stack: str
    color: str
    symbol: str
    """Plotly's name of the marker."""
    glyph: str
    """The same marker as a character, for tables."""
    dash: str
    """Plotly's name of the line, or the lengths of its dashes and gaps."""


# After Okabe and Ito (2008), moved until each has a contrast of 3 on white and on #1e1e1e, and any two of the first
# five stay apart (by 16 in CIELAB) for those who lack one kind of cone (Machado, Oliveira and Fernandes, 2009).
_COLORS = ("#D55E00", "#1F7BC8", "#12A37A", "#C77BB0", "#8C6D3F", "#6B6B6B", "#2A93CC", "#B8860B")
_MARKERS = (
    *(("circle", "●"), ("square", "■"), ("triangle-up", "▲"), ("diamond", "◆"), ("cross", "✚")),
    *(("triangle-down", "▼"), ("star", "★"), ("x", "✕"), ("triangle-left", "◄"), ("triangle-right", "►")),
    ("hexagram", "✶"),
)
"""Their number and that of the colours have no divisor in common, so that pairs come again after the 88th only."""
_STRATEGIES = ("lazy", "selectin", "joined", "subquery", "core")
_STACKS = ("psycopg", "psycopg-threads", "psycopg-async", "asyncpg")
_DASHES = (
    *("solid", "longdashdot", "dash", "dot"),  # the stacks', in their order
    *("longdash", "dashdot", "9px 3px 2px 3px 2px 3px", "1px 7px"),  # and those of second classes
)


def looks(strategies: Sequence[Row]) -> dict[str, Look]:
    """The look of each class in `strategies` (rows with `user_class`, `stack` and `strategy`), by its name.

    dbkit's own strategies and stacks look the same in every run; others get what is left, in order of their names, and
    where nothing is left colours and markers come again in other pairs. Of classes with the same strategy and stack the
    second, by name, has another line.
    """
    strategy_places = _places((row["strategy"] for row in strategies), _STRATEGIES)
    stack_places = _places((row["stack"] for row in strategies), _STACKS)
    twins: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for row in strategies:
        twins[row["strategy"], row["stack"]].add(row["user_class"])
    found: dict[str, Look] = {}
    for row in strategies:
        twin = sorted(twins[row["strategy"], row["stack"]]).index(row["user_class"])
        line = stack_places[row["stack"]] + twin * len(_STACKS)
        place = strategy_places[row["strategy"]]
        symbol, glyph = _MARKERS[place % len(_MARKERS)]
        found[row["user_class"]] = {
            "strategy": row["strategy"],
            "stack": row["stack"],
            "color": _COLORS[place % len(_COLORS)],
            "symbol": symbol,
            "glyph": glyph,
            "dash": _DASHES[line % len(_DASHES)],
        }
    return found


def _places(names: Iterable[Any], fixed: Collection[str]) -> dict[str, int]:
    """Those that are fixed first, whether or not they are among the names."""
    others = sorted({*names} - {*fixed})
    return dict(zip((*fixed, *others), count(), strict=False))
