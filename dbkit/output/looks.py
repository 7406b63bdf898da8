"""How strategies and stacks look, the same in every chart and table: of the report, and live in the web UI.

A strategy has a colour and a marker, a stack the dash of its lines, so that conditions of a workload can be
distinguished with and without colour. Drawing is left to `view/charts.js`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import TypedDict

from dbkit.analysis.records import PageFigures
from dbkit.analysis.slot import UserClass
from dbkit.analysis.varied import line


class Look(TypedDict):
    """How one condition is drawn."""

    label: str
    """What it is called."""
    line: str
    """What its line is called, which it shares with other loads."""
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
_COLORS = {
    "lazy": "#D55E00",
    "selectin": "#1F7BC8",
    "joined": "#12A37A",
    "subquery": "#C77BB0",
    "core": "#8C6D3F",
}
_OTHER_COLORS = ("#6B6B6B", "#2A93CC", "#B8860B")
"""For other strategies. With them there are 8 colours, which have no divisor in common with the number of markers, so
that pairs come again after the 136th only."""
_MARKERS = (
    *(("circle", "●"), ("square", "■"), ("triangle-up", "▲"), ("diamond", "◆"), ("cross", "✚")),
    *(("triangle-down", "▼"), ("star", "★"), ("x", "✕"), ("triangle-left", "◄"), ("triangle-right", "►")),
    *(("hexagram", "✶"), ("star-diamond", "✦"), ("pentagon", "⬟")),
    *(("triangle-ne", "◥"), ("triangle-se", "◢"), ("triangle-sw", "◣"), ("triangle-nw", "◤")),
)
"""For strategies, in the order of their colours: enough for twelve besides dbkit's own."""
_DASHES = {"psycopg": "solid", "psycopg-threads": "longdashdot", "psycopg-async": "dash", "asyncpg": "dot"}
_OTHER_DASHES = ("longdash", "dashdot", "9px 3px 2px 3px 2px 3px", "1px 7px")
"""For other stacks, and for further conditions of one stack and strategy."""


def looks(rows: Sequence[PageFigures], expected: Iterable[UserClass] = ()) -> dict[str, Look]:
    """The look of each condition in `rows`, by its key.

    dbkit's own strategies and stacks look the same in every run. Others need no entry here: they get what is left, in
    order of their names, colours that no strategy of the run has first. Where nothing is left colours and markers come
    again in other pairs. Where several classes or settings of a workload have the same strategy and stack the second,
    by its name, has another line. Conditions that differ in their load alone look the same.

    While a test runs, classes that are `expected` keep their looks until they have rows.
    """
    colors, dashes = (*_COLORS.values(), *_OTHER_COLORS), (*_DASHES.values(), *_OTHER_DASHES)
    names: list[PageFigures | UserClass] = [*rows, *expected]
    strategy_places = _strategy_places({each.strategy for each in names})
    stack_places = _places({each.stack for each in names}, _DASHES)
    twins: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        twins[row.workload, row.strategy, row.stack].add(line(row))
    found: dict[str, Look] = {}
    for row in rows:
        twin = sorted(twins[row.workload, row.strategy, row.stack]).index(line(row))
        dash = stack_places[row.stack] + twin * len(stack_places)
        place = strategy_places[row.strategy]
        symbol, glyph = _MARKERS[place % len(_MARKERS)]
        found[row.condition] = {
            "label": row.label,
            "line": line(row),
            "strategy": row.strategy,
            "stack": row.stack,
            "color": colors[place % len(colors)],
            "symbol": symbol,
            "glyph": glyph,
            "dash": dashes[dash % len(dashes)],
        }
    return found


def _strategy_places(names: Collection[str]) -> dict[str, int]:
    """Where each strategy stands in `_COLORS` and the other colours, and in `_MARKERS`."""
    places = _places(names, _COLORS)
    taken = {places[name] for name in {*names} & {*_COLORS}}
    colors = len(_COLORS) + len(_OTHER_COLORS)
    # as long as there are markers that nobody has; sorting is stable
    others = sorted(range(len(_COLORS), len(_MARKERS)), key=lambda place: place % colors in taken)
    return {
        name: others[place - len(_COLORS)] if len(_COLORS) <= place < len(_MARKERS) else place
        for name, place in places.items()
    }


def _places(names: Collection[str], fixed: Collection[str]) -> dict[str, int]:
    """Those that are fixed first, whether or not they are among the names."""
    others = sorted({*names} - {*fixed})
    return dict(zip((*fixed, *others), count(), strict=False))
