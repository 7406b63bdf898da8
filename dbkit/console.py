"""A result on the terminal: what to beware of, how fast each class is and against which, then why.

Two tables that fit 100 columns; plain text when piped.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dbkit.result import Result, Row

PIPED_WIDTH = 100

LEGEND = (
    "Above: pages a second, response times in ms. Below, a page: statements, round trips, rows; ms waiting for",
    "the loop (queue) and for a connection (pool), opening one (conn.), in the database (db), in Python (client),",
    "and back to Locust (hop); ms of CPU of the load process (CPU) and of the server (srv).",
)

WHY_COLUMNS = {
    "stmts": "statements",
    "trips": "round_trips",
    "rows": "rows",
    "queue": "queue_ms",
    "pool": "pool_ms",
    "conn.": "connect_ms",
    "db": "db_ms",
    "client": "client_ms",
    "hop": "hop_ms",
    "CPU": "client_cpu_ms",
    "srv": "server_cpu_ms",
}


def print_result(result: Result, console: Console | None = None) -> None:
    """Print to standard output, or to the console given."""
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=PIPED_WIDTH)
    console.print()
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    console.print(_speeds(result))
    console.print()
    console.print(_reasons(result))
    console.print()
    for line in LEGEND:
        console.print(line, style="dim", soft_wrap=True)
    if best := _best(result):
        console.print(best["sentence"], style="bold", soft_wrap=True)


def _best(result: Result) -> Row | None:
    """The verdict on the class that serves the most pages."""
    first = result.strategies[0]["user_class"] if result.strategies else None
    return next((verdict for verdict in _on_pages(result).values() if verdict["user_class"] == first), None)


def _on_pages(result: Result) -> Mapping[str, Row]:
    """The verdicts on pages/s by the class that they are on."""
    return {verdict["user_class"]: verdict for verdict in result.verdicts if verdict["quantity"] == "pages_per_s"}


def _speeds(result: Result) -> Table:
    table = _table("pages/s", *([f"× {result.reference}"] if result.reference else []), "p50", "p95", "p99", "failed")
    table.add_column("bound by", no_wrap=True)
    verdicts = _on_pages(result)
    for row in result.strategies:
        table.add_row(
            row["user_class"],
            _number(row["pages_per_s"]),
            *([_ratio(verdicts.get(row["user_class"]))] if result.reference else []),
            *(_number(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms")),
            str(row["failures"]),
            row["bound_by"] or "",
        )
    return table


def _reasons(result: Result) -> Table:
    table = _table(*WHY_COLUMNS)
    for row in result.strategies:
        table.add_row(row["user_class"], *(_number(row[name]) for name in WHY_COLUMNS.values()))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("user class", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _ratio(verdict: Row | None) -> str:
    if verdict is None or verdict["ratio"] is None:
        return ""
    if verdict["low"] is None:
        return "too few rounds"
    interval = f"[{verdict['low']:.2f}, {verdict['high']:.2f}]"
    return f"{verdict['ratio']:.2f} {interval}" if verdict["shown"] else f"no difference {interval}"


def _number(value: float | None) -> str:
    """Three significant digits, and no more than three decimals."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.1 or value == 0 else f"{value:.3f}"
