"""Forecasts on the terminal: a table for each condition, with what was measured first.

What they are is in `dbkit.analysis.forecast`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dbkit.analysis.formats import number
from dbkit.analysis.model_records import Forecast
from dbkit.output.terminal import output_console

PIPED_WIDTH = 100

HEADINGS = ("user class", "users", "pool", "processes", "round trip", "pages/s", "ms", "bound by")

LEGEND = (
    "Pages a second and the mean response time in ms: first what was measured, then forecasts. Pool: connections of "
    "each process, overflow included. Round trip: what the network takes of each, in ms."
)


def print_forecasts(
    found: Sequence[tuple[Forecast, Sequence[Forecast]]], missing: Sequence[str], console: Console | None = None
) -> None:
    """Print forecasts, each group behind what was measured, and why others are `missing`."""
    console = console or output_console(PIPED_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        justify = "left" if heading in (HEADINGS[0], HEADINGS[-1]) else "right"
        table.add_column(Text(heading), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for measured, others in found:
        figures = measured.measured_round_trip_ms, measured.measured_pages_per_s, measured.measured_response_ms
        table.add_row(*_cells(measured, measured.label, figures), style="dim")
        for each in others:
            table.add_row(*_cells(each, "", (each.round_trip_ms, each.pages_per_s, each.response_ms)))
    console.print(table, crop=False)
    console.print()
    for words in missing:
        console.print(Text(words, style="yellow"), soft_wrap=True)
    console.print(Text(LEGEND, style="dim"), width=PIPED_WIDTH)


def _cells(forecast: Forecast, name: str, figures: Sequence[float]) -> list[Text]:
    counts = (forecast.users, forecast.pool_size, forecast.processes)
    return [Text(each) for each in (name, *map(str, counts), *map(number, figures), forecast.bound_by)]
