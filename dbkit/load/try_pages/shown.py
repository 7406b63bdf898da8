"""What was tried, on the terminal: each class as it is read, then all of them in a table.

Readable in 80 columns, and plain text when piped. Tracebacks are as Python prints them, from the application's first
line on. What is known of a failure is in `dbkit.load.try_pages.advice`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.pretty import pretty_repr
from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

from dbkit.analysis.formats import listed, number
from dbkit.database.source_lines import application_traceback, raised_line
from dbkit.database.statement_log import Statement
from dbkit.errors import DbkitError
from dbkit.load.page_class import PageClass
from dbkit.load.try_pages.advice import Failure, advise, origin_of
from dbkit.load.try_pages.comparison import Comparison, are_alike
from dbkit.load.try_pages.limit import TookTooLong
from dbkit.load.try_pages.reading import TriedClass, TriedPage
from dbkit.load.try_pages.secrets import Secrets
from dbkit.measure.cost import PARTS
from dbkit.workload import Key, Workload, plain_key

PIPED_WIDTH = 80
PAGE_LINES = 14
PAGE_ITEMS = 3
PAGE_CHARACTERS = 48
"""So much of a page is shown: lines, items of each list, and characters of each text."""

_PART_NAMES = {"queue_ms": "queue", "pool_ms": "pool", "connect_ms": "connecting", "db_ms": "db", "client_ms": "client"}


class Screen:
    """Prints what was tried."""

    def __init__(self, console: Console, database: str, secrets: Secrets) -> None:
        self._console = console
        self._database = database
        self._secrets = secrets
        self._failures: dict[tuple[str, str, str | None], str] = {}
        """The class that failed first in each way."""
        self._pages: dict[tuple[Workload | None, str | None, Key], tuple[str, TriedPage]] = {}
        """The first page of each workload, and of each function that a task reads with, by its key."""

    def begin(self, tried: TriedClass) -> None:
        """Say what is to be read next."""
        self._console.print()
        line = Text(tried.name, style="bold")
        if tried.page_class is not None:
            line.append(f"  {_described(tried, tried.page_class)}", style="not bold")
        self._print(line, 0)
        if tried.rolled_back:
            each = ", page by page: later ones do not see it" if tried.has_tasks else ""
            self._print(f"What it writes is rolled back{each}. With --writes it commits.")

    def show(self, tried: TriedClass) -> None:
        """Show what became of a class."""
        for page in tried.pages:
            if page.task is not None:
                self._print(Text(f"task {page.task}: {page.name}{_of_key(page.key)}", style="bold"))
            self._show_page(tried, page)
        for what, error in tried.errors:
            self._show_failure(tried, error, None, "" if what == "the class" else f" in {what}")
        for task in tried.idle_tasks:
            self._print(f"task {task} read no page.")
        if tried.goes_on:
            self._print("Its page could not be ended. It goes on, beside the classes that follow.")

    def summarize(self, tried: Sequence[TriedClass], others: Sequence[str], comparisons: Sequence[Comparison]) -> None:
        """A line a class, how their pages compare, and what was not tried."""
        self._console.print()
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for heading in ("user class", "statements", "round trips", "rows", "ms"):
            table.add_column(heading, justify="left" if heading == "user class" else "right", overflow="fold")
        table.add_column("page", overflow="fold")
        for each in tried:
            for cells in _cells(each):
                table.add_row(*(Text(self._secrets.hide(cell)) for cell in cells))
        self._console.print(table)
        self._console.print()
        for comparison in comparisons:
            self._print(Text(comparison.words, style="" if comparison.is_fine else "bold red"), 0)
        if others:
            self._print(
                f"Not tried, as {'they read' if len(others) > 1 else 'it reads'} no pages: {listed(others)}.", 0
            )

    def _show_page(self, tried: TriedClass, page: TriedPage) -> None:
        if page.error is None:
            self._show_rendered(tried, page)
        if not isinstance(page.error, TookTooLong):
            self._print(_cost(page))
        if page.savepoints:
            why = ", which keep it uncommitted" if tried.rolled_back else ""
            self._print(f"Some of the round trips are for {_counted(page.savepoints, 'savepoint')}{why}.")
        for number_of, statement in enumerate(page.statements, 1):
            self._show_statement(number_of, statement)
        if page.next_key is not None:
            self._print(f"The next key is {page.next_key!r}.")
        for warning in [*page.warnings, *(_remarks(tried, page) if page.error is None else ())]:
            self._print(Text(f"warning: {warning}", style="yellow"))
        if page.error is not None:
            self._show_failure(tried, page.error, page.waiting_for, "")

    def _show_rendered(self, tried: TriedClass, page: TriedPage) -> None:
        workload = tried.page_class.workload if tried.page_class else None
        name, first = self._pages.setdefault((workload, page.name if page.task else None, page.key), (tried.name, page))
        if first is not page and are_alike(first, page):
            self._print(f"The page, {_counted(page.bytes, 'byte')}, is as {name} gave it.")
            return
        self._print(f"The page, {_counted(page.bytes, 'byte')}:")
        self._print(Text(_short_page(page.rendered, self._console.width - 4)), 4)

    def _show_statement(self, number_of: int, statement: Statement) -> None:
        failed = statement.times - statement.answered
        parts = [
            f"× {statement.times}",
            "rows in parts" if statement.rows is None else _counted(statement.rows, "row"),
            f"{number(statement.db_s * 1000)} ms",
            *([f"{failed} not answered"] if failed else []),
        ]
        self._print(Text(f"{number_of}.  {', '.join(parts)}", style="bold" if statement.times > 1 else ""))
        for line, times in statement.lines.items():
            self._print(Text(f"{line}{f'  × {times}' if len(statement.lines) > 1 else ''}", style="cyan"), 6)
        self._print(Text(statement.short_sql), 6)

    def _show_failure(self, tried: TriedClass, error: BaseException, waiting_for: Statement | None, what: str) -> None:
        failure = Failure(
            error, tried.page_class, self._database, next(iter(waiting_for.lines)) if waiting_for else None
        )
        advice = advise(failure)
        identity = type(origin_of(error)).__name__, advice or _first_line(error), raised_line(error)
        first = self._failures.setdefault(identity, tried.name)
        frames = application_traceback(error)
        is_plain = isinstance(error, DbkitError) or (frames is None and error.__cause__ is None)
        self._print(Text(f"failed{what}: {_summed_up(error).removeprefix(f'{tried.name}: ')}", style="bold red"))
        if first != tried.name:
            self._print(f"This is the failure of {first}, above.")
            return
        if not is_plain:
            lines = traceback.format_exception(type(error), error, frames)
            self._console.print(Text(self._secrets.hide("".join(lines).rstrip())), soft_wrap=True)
        if advice is not None:
            self._print(Text(f"What to do: {advice}", style="bold"))

    def _print(self, text: str | Text, indent: int = 2) -> None:
        styled = text if isinstance(text, Text) else Text(text)
        if (hidden := self._secrets.hide(styled.plain)) != styled.plain:
            styled = Text(hidden, style=styled.style)
        for line in styled.wrap(self._console, self._console.width - indent):
            line.rstrip()
            line.pad_left(indent)
            self._console.print(line, soft_wrap=True)


def _described(tried: TriedClass, page_class: PageClass) -> str:
    if tried.has_tasks or page_class.workload is None:
        return f"tasks of its own, on {page_class.stack}"
    key = _of_key(page_class.keys[0])
    return f"{page_class.workload.name} by {page_class.strategy}, on {page_class.stack}{key}"


def _of_key(key: tuple[object, ...]) -> str:
    return f", key {plain_key(key)!r}" if key else ""


def _cost(page: TriedPage) -> str:
    cost = page.cost
    spent = cost.as_dict()
    parts = [f"{_PART_NAMES[part]} {number(spent[part])}" for part in PARTS if spent[part] >= 0.0005]
    counts = [
        _counted(page.statements_sent, "statement"),
        _counted(cost.round_trips, "round trip"),
        _counted(cost.rows, "row"),
    ]
    return f"{', '.join(counts)}; {number(cost.response_ms)} ms: {', '.join(parts)}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short_page(rendered: object, width: int) -> str:
    plain = (
        [tuple(each) if isinstance(each, Row) else each for each in rendered] if type(rendered) is list else rendered
    )
    shown = pretty_repr(
        plain, max_width=width, max_length=PAGE_ITEMS, max_string=PAGE_CHARACTERS, max_depth=6
    ).splitlines()
    return "\n".join(shown if len(shown) <= PAGE_LINES else [*shown[: PAGE_LINES - 1], "…"])


def _remarks(tried: TriedClass, page: TriedPage) -> Iterator[str]:
    """What a page that was given may yet have wrong with it."""
    unmeasured = page.statements_seen - page.cost.statements
    if not page.statements_sent:
        yield "it sent no statement. Does it read with the session that it is given?"
    elif unmeasured > 0:
        yield (
            f"{_counted(unmeasured, 'statement')} went by another engine than the class's, which is not measured: give"
            " the class that engine, or read with the session that the page function is given."
        )
    elif unmeasured < 0:
        yield f"{_counted(-unmeasured, 'statement')} went by a cursor of the driver's, so that the SQL is not seen."
    if page_class := tried.page_class:
        writing = [statement for statement in page.statements if statement.is_written]
        if writing and not page_class.writes:
            yield "it writes, but the class does not say so: give it writes = True (page_users: writes=True)."


def _summed_up(error: BaseException) -> str:
    if isinstance(error, DbkitError):
        return str(error)
    line = raised_line(error)
    return f"{type(origin_of(error)).__name__}: {_first_line(error)}{f', at {line}' if line else ''}"


def _first_line(error: BaseException) -> str:
    words = str(origin_of(error)).partition("\n")[0].partition(" (Background on this error")[0]
    return " ".join(words.split())


def _cells(tried: TriedClass) -> Iterator[tuple[str, ...]]:
    """The rows of a class in the table: one a page."""
    for page in tried.pages:
        name = tried.name if page.task is None else f"{tried.name}, {page.task}"
        state = "given" if page.error is None else "failed"
        if isinstance(page.error, TookTooLong):
            yield name, "", "", "", "", state
            continue
        cost = page.cost
        yield name, str(page.statements_sent), str(cost.round_trips), f"{cost.rows:,}", number(cost.response_ms), state
    for what, _ in tried.errors:
        yield tried.name if what == "the class" else f"{tried.name}, {what}", "", "", "", "", "failed"
    if not tried.pages and not tried.errors:
        yield tried.name, "", "", "", "", "read no page"
