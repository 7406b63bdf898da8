"""A result on the terminal: one table, the verdicts in words, the warnings. Plain text when piped.

At 100 columns and up the table shows why as well; narrower, the columns that matter most.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from dbkit.result import Result, Row

PLAIN_WIDTH = 200
"""Where there is no terminal nothing needs to be folded."""


def print_result(result: Result, console: Console | None = None) -> None:
    """Print to standard output, or to the console given."""
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=PLAIN_WIDTH)
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    console.print(_table(result))
    verdicts = [verdict for verdict in result.verdicts if verdict["quantity"] == "pages_per_s"]
    for verdict in verdicts:
        console.print(verdict["sentence"], soft_wrap=True)


def _table(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("user class", no_wrap=True)
    for heading in ("pages/s", "p50", "p95", "stmts", "trips", "rows", "pool", "db", "client", "hop", "CPU", "srv CPU"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    for row in result.strategies:
        table.add_row(*_cells(row))
    table.caption = (
        "times in ms a page: p50 and p95 of the response; means of waiting for a connection (pool), for the database"
        " (db), in Python (client), and of the way back to Locust (hop); CPU of the load process and of the server"
    )
    table.caption_justify = "left"
    return table


def _cells(row: Row) -> list[str]:
    return [
        row["user_class"],
        *(_number(row[name]) for name in ("pages_per_s", "p50_ms", "p95_ms", "statements", "round_trips", "rows")),
        *(_number(row[name]) for name in ("pool_ms", "db_ms", "client_ms", "hop_ms", "client_cpu_ms", "server_cpu_ms")),
        row["bound_by"] or "",
        str(row["failures"]),
    ]


def _number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.01 or value == 0 else f"{value:.3f}"
