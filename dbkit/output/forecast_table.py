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
MEASURED = "measured", "error, %"
WIDEST = 1000

LEGEND = (
    "Pages a second and the mean response time in ms: first what was measured, then forecasts. Pool: connections of "
    "each process, overflow included. Round trip: what the network takes of each, in ms."
)
LEGEND_OF_MEASURED = (
    " Measured: pages a second, where that very setting was measured too, and by how much the forecast of them was off."
)


def print_forecasts(
    found: Sequence[tuple[Forecast, Sequence[Forecast]]], missing: Sequence[str], console: Console | None = None
) -> None:
    """Print forecasts, each group behind what it rests on, and why others are `missing`."""
    console = console or output_console(PIPED_WIDTH)
    with_measured = any(each.measured_pages_per_s is not None for _, others in found for each in others)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in (*HEADINGS, *(MEASURED if with_measured else ())):
        is_text = heading in (HEADINGS[0], HEADINGS[-1])
        table.add_column(Text(heading), justify="left" if is_text else "right", no_wrap=True)
    for base, others in found:
        figures = base.rests_on_round_trip_ms, base.rests_on_pages_per_s, base.rests_on_response_ms
        table.add_row(*_cells(base, base.label, figures), style="dim")
        for each in others:
            cells = _cells(each, "", (each.round_trip_ms, each.pages_per_s, each.response_ms))
            error = each.pages_per_s_error
            beside = number(each.measured_pages_per_s), "" if error is None else f"{100 * error:+.0f}"
            table.add_row(*cells, *(map(Text, beside) if with_measured else ()))
    table.width = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum  # nothing is cut
    console.print(table, crop=False)
    console.print()
    for words in missing:
        console.print(Text(words, style="yellow"), soft_wrap=True)
    console.print(Text(LEGEND + (LEGEND_OF_MEASURED if with_measured else ""), style="dim"), width=PIPED_WIDTH)


def _cells(forecast: Forecast, name: str, figures: Sequence[float]) -> list[Text]:
    counts = (forecast.users, forecast.pool_size, forecast.processes)
    return [Text(each) for each in (name, *map(str, counts), *map(number, figures), forecast.bound_by)]
