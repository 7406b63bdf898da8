"""A result on the terminal: warnings, how fast each class is and against which, then why, and the answer.

Two tables in 100 columns; in fewer they continue below, and no figure is cut. Plain text when piped. Where there are
several workloads each has its own. For what is said
see `dbkit.analysis`, for headings `dbkit.analysis.records`, for how figures read `dbkit.analysis.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dbkit.analysis.change_words import change_lines
from dbkit.analysis.columns import Group
from dbkit.analysis.formats import harness_share, limit, number
from dbkit.analysis.parts import Part, parts
from dbkit.analysis.records import table_columns
from dbkit.analysis.regressions import advice
from dbkit.analysis.result import Result
from dbkit.analysis.varied import leading_quantity, value
from dbkit.output.columns import BY_NAME, COSTS
from dbkit.output.terminal import output_console

PIPED_WIDTH = 100

GAP = 2
"""Spaces between two columns."""

CHECK_STYLES = {"pass": "green", "fail": "bold red", "undecided": "yellow"}

WHY_COLUMNS = {column.terminal: column.name for column in table_columns(*COSTS) if column.terminal}
"""The headings of the second table, and the columns below them."""

LEGEND = (
    "Above: pages a second, response times in ms ({}). Below, a page: statements, round trips, rows; ms waiting for "
    "its turn (queue) and a connection (pool), opening one (conn.), waiting for the database (db), in Python (client)"
)
LEGEND_WHERE_KNOWN = {
    "answer_wait_ms": "ms an answer waits for Python (answer, estimated)",
    "client_cpu_ms": "ms of CPU of the load process (CPU)",
    "server_cpu_ms": "ms of CPU of the server (srv)",
}
"""What is said besides, of columns that some runs do not have."""


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
    counts_alone = result.revisions is not None and not result.strategies
    if result.revisions is not None and counts_alone:
        for line in change_lines(result.revisions):
            console.print(Text(line), soft_wrap=True)
        console.print()
    if result.strategies:
        workloads = [part for part in parts(result) if part.strategies]
        for part in workloads:
            if len(workloads) > 1:
                console.print(Text(f"workload {part.workload}", style="bold"), soft_wrap=True)
            _print_tables(part, console)
        console.print(Text(_legend(result), style="dim"), width=PIPED_WIDTH)
    if shares := [f"{row.label} {harness_share(row)}" for row in result.strategies if harness_share(row)]:
        words = (
            f"Of the pages a second that page functions serve when called bare, the harness takes: {', '.join(shares)}."
        )
        console.print(Text(words, style="dim"), width=PIPED_WIDTH)
    for outcome in result.checks:
        console.print(Text(outcome.line, style=CHECK_STYLES[outcome.state]), soft_wrap=True)
    # of counts alone, the lines above have said all of it
    sentences = [] if counts_alone else [*result.headline]
    if result.revisions is not None:
        sentences.append(advice(result))
    for sentence in sentences:
        console.print(Text(sentence, style="bold"), soft_wrap=True)


def _legend(result: Result) -> str:
    known = [
        words
        for column, words in LEGEND_WHERE_KNOWN.items()
        if any(getattr(row, column) is not None for row in result.strategies)
    ]
    return "; ".join([LEGEND.format(_kind_of_load(result)), *known]) + "."


def _kind_of_load(result: Result) -> str:
    if leading_quantity(result.strategies) == "pages_per_s":
        return "closed loop: users wait while the server stalls, so that a stall shows in few pages"
    return (
        "open loop: from when a page is due; late: no user was free then; backlog: due at the end and not begun; lag:"
        " the longest time until one was begun"
    )


def _print_tables(part: Part, console: Console) -> None:
    for columns in (_speeds(part), _reasons(part)):
        # a run of several classes at once does not know what CPU each took, nor what bound it
        known = [column for column in columns if any(column.cells)]
        for table in _tables(known, 1 + len(part.varied), console.width):
            console.print(table, crop=False)
            console.print()


def _speeds(part: Part) -> list[Column]:
    rows = part.strategies
    cut_off = any(row.unfinished for row in rows)
    ratios = [Column(each.heading, [each.cell(row) for row in rows]) for each in part.comparisons_shown]
    return [
        *_conditions(part),
        _figures(part, "pages_per_s"),
        *ratios,
        *(_figures(part, column.name) for column in table_columns(Group.RESPONSE) if column.terminal),
        Column(BY_NAME["failures"].terminal, [str(row.failures) for row in rows]),
        Column(BY_NAME["unfinished"].terminal, [str(row.unfinished) if cut_off else "" for row in rows]),
        Column(BY_NAME["bound_by"].terminal, [limit(row) for row in rows], "left"),
    ]


def _reasons(part: Part) -> list[Column]:
    return [*_conditions(part), *(_figures(part, name) for name in WHY_COLUMNS.values())]


def _figures(part: Part, name: str) -> Column:
    return Column(BY_NAME[name].terminal, [number(getattr(row, name)) for row in part.strategies])


def _conditions(part: Part) -> list[Column]:
    """What each row is of: its class, and what else varies."""
    rows = part.strategies
    return [
        Column(BY_NAME["user_class"].heading, [row.user_class for row in rows], "left"),
        *(Column(heading, [value(row, heading) for row in rows]) for heading in part.varied),
    ]


def _tables(columns: Sequence[Column], names: int, width: int) -> Iterator[Table]:
    """All columns, in one table where the width allows, else continued in further ones; the `names` first are in each.

    Nothing is ever cut or wrapped: where these and one other are wider together, the table is.
    """
    first, others = columns[:names], columns[names:]
    width_of_names = sum(column.width for column in first) + GAP * (names - 1)
    while others:
        widths = list(accumulate((GAP + column.width for column in others), initial=width_of_names))
        fitting = max(sum(each <= width for each in widths[1:]), 1)
        yield _table([*first, *others[:fitting]], widths[fitting])
        others = others[fitting:]


def _table(columns: Sequence[Column], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0), width=width)
    for column in columns:
        table.add_column(Text(column.heading), justify=column.justify, no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table
