"""A result on the terminal: what to beware of, how fast each class is and against which, then why, and the answer.

Two tables in 100 columns; in fewer they go on below, and no figure is cut. Plain text when piped. For what is said see
`dbkit.analysis.result`, for how figures read `dbkit.analysis.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dbkit.analysis.formats import harness_share, limit, number, ratio
from dbkit.analysis.result import Result
from dbkit.output.terminal import output_console

PIPED_WIDTH = 100

GAP = 2
"""Spaces between two columns."""

LEGEND = (
    "Above: pages a second, response times in ms (closed loop: users wait while the server stalls, so that a stall "
    "shows in few pages). Below, a page: statements, round trips, rows; ms waiting for its turn (queue) and a "
    "connection (pool), opening one (conn.), waiting for the database (db), an answer waiting for Python (answer, "
    "estimated), in Python (client); ms of CPU of the load process (CPU) and the server (srv)."
)

WHY_COLUMNS = {
    "stmts": "statements",
    "trips": "round_trips",
    "rows": "rows",
    "queue": "queue_ms",
    "pool": "pool_ms",
    "conn.": "connect_ms",
    "db": "server_wait_ms",
    "answer": "answer_wait_ms",
    "client": "client_ms",
    "CPU": "client_cpu_ms",
    "srv": "server_cpu_ms",
}


class Column(NamedTuple):
    """A column of a table: its heading, and a cell a class."""

    heading: str
    cells: list[str]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        """In the terminal's cells, of which some letters take two."""
        return max(map(cell_len, (self.heading, *self.cells)))


def print_result(result: Result, console: Console | None = None) -> None:
    """Print to standard output, or to the console given."""
    if console is None:
        console = output_console(PIPED_WIDTH)
    console.print()
    for warning in result.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    if result.strategies:
        for columns in (_speeds(result), _reasons(result)):
            # a run of several classes at once does not know what CPU each took, nor what bound it
            known = [column for column in columns if any(column.cells)]
            for table in _tables(known, console.width):
                console.print(table, crop=False)
                console.print()
        console.print(Text(LEGEND, style="dim"), width=PIPED_WIDTH)
    if shares := [f"{row['user_class']} {harness_share(row)}" for row in result.strategies if harness_share(row)]:
        words = (
            f"Of the pages a second that page functions serve when called bare, the harness takes: {', '.join(shares)}."
        )
        console.print(Text(words, style="dim"), width=PIPED_WIDTH)
    for sentence in result.headline:
        console.print(Text(sentence, style="bold"), soft_wrap=True)


def _speeds(result: Result) -> list[Column]:
    rows = result.strategies
    on_pages = {verdict["user_class"]: verdict for verdict in result.verdicts if verdict["quantity"] == "pages_per_s"}
    cut_off = any(row["unfinished"] for row in rows)
    ratios = Column(
        f"× {result.reference}",
        ["reference" if name == result.reference else ratio(on_pages.get(name)) for name in _names(result)],
    )
    return [
        _classes(result),
        Column("pages/s", [number(row["pages_per_s"]) for row in rows]),
        *([ratios] if result.reference else []),
        *(Column(name, [number(row[f"{name}_ms"]) for row in rows]) for name in ("p50", "p95", "p99")),
        Column("failed", [str(row["failures"]) for row in rows]),
        Column("cut off", [str(row["unfinished"]) if cut_off else "" for row in rows]),
        Column("bound by", [limit(row) for row in rows], "left"),
    ]


def _reasons(result: Result) -> list[Column]:
    rows = result.strategies
    why = [Column(heading, [number(row[name]) for row in rows]) for heading, name in WHY_COLUMNS.items()]
    return [_classes(result), *why]


def _classes(result: Result) -> Column:
    return Column("user class", _names(result), "left")


def _names(result: Result) -> list[str]:
    return [row["user_class"] for row in result.strategies]


def _tables(columns: Sequence[Column], width: int) -> Iterator[Table]:
    """All columns, in one table where the width allows, else going on in further ones; the first stands in each.

    Nothing is ever cut or wrapped: where the first and one other are wider together, the table is.
    """
    first, *others = columns
    while others:
        widths = list(accumulate((GAP + column.width for column in others), initial=first.width))
        fitting = max(sum(each <= width for each in widths[1:]), 1)
        yield _table([first, *others[:fitting]], widths[fitting])
        others = others[fitting:]


def _table(columns: Sequence[Column], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0), width=width)
    for column in columns:
        table.add_column(Text(column.heading), justify=column.justify, no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table
