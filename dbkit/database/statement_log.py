"""What a page sends, with the line of the application that sent each statement.

The log listens to every engine of the process: a page may use another one than that which dbkit measures. It costs more
than the meter does: it is for a page that is looked at, not for pages under load.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, event

from dbkit.database.source_lines import source_line
from dbkit.measure.cost import PageCost, current_cost

_PLACEHOLDER = r"(?:%\(\w+\)s|\$\d+|%s)(?:::[A-Z][\w ]*?)?"
_MANY_VALUES = re.compile(rf"\(({_PLACEHOLDER})(?:, {_PLACEHOLDER}){{3,}}\)")


@dataclass
class Statement:
    """One statement of a page: equal SQL is one statement that was sent several times."""

    sql: str
    lines: Counter[str] = field(default_factory=Counter)
    """How often each line of the application sent it."""
    times: int = 0
    """How often it was sent: with `executemany` once for each set of parameters."""
    answered: int = 0
    """How often the server answered it. An execution that failed, or still runs, is not."""
    rows: int | None = 0
    """None where they are fetched in parts, by a server-side cursor."""
    db_s: float = 0.0
    """Seconds that the driver took for those that were answered."""
    is_measured: bool = True
    """Whether all of it went by engines that are metered (`dbkit.database.meter`)."""
    is_written: bool = False
    """Whether it is an INSERT, UPDATE or DELETE of SQLAlchemy's."""

    @property
    def short_sql(self) -> str:
        """The SQL with the values of a long list in the place of their placeholders counted."""
        return _MANY_VALUES.sub(lambda found: f"({found[1]}, … {found[0].count(', ') + 1} values)", self.sql)


class StatementLog:
    """Notes the statements of the page that it follows, until it is closed."""

    def __init__(self) -> None:
        self.savepoints = 0
        """How many statements set, released or rolled back to a savepoint."""
        self._cost_of_page: Callable[[], PageCost | None] = lambda: None
        self._statements: dict[str, Statement] = {}
        self._running: dict[int, tuple[Statement, float, PageCost, int]] = {}
        """By cursor: what is executed, since when, for which page, and how many statements that had been charged."""
        event.listen(Engine, "before_cursor_execute", self._begin)
        event.listen(Engine, "after_cursor_execute", self._end)

    def follow(self, cost_of_page: Callable[[], PageCost | None]) -> None:
        """Forget what was noted, and note what is charged to a page from now on.

        `cost_of_page` is asked at each statement for the page's cost; None while there is no page.
        """
        self.savepoints = 0
        self._cost_of_page = cost_of_page
        self._statements, self._running = {}, {}

    def close(self) -> None:
        """Listen to engines no longer. What was noted stays."""
        event.remove(Engine, "before_cursor_execute", self._begin)
        event.remove(Engine, "after_cursor_execute", self._end)

    @property
    def statements(self) -> list[Statement]:
        """Those of the page, in the order in which they were first sent; without savepoints."""
        return list(self._statements.values())

    @property
    def waiting_for(self) -> Statement | None:
        """The statement that the page waits for."""
        return next((statement for statement, *_ in self._running.values()), None)

    def _begin(
        self, connection: Connection, cursor: object, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        cost = self._cost_of_page()
        if cost is None or current_cost.get() is not cost:
            return  # of no page, or of one that was broken off and is not over
        if " sa_savepoint_" in sql:
            self.savepoints += 1
            return
        statement = self._statements.setdefault(sql, Statement(sql))
        times = _times(parameters, executemany)
        statement.times += times
        statement.lines[source_line() or "(not in the application)"] += times
        statement.is_written |= bool(context and (context.isinsert or context.isupdate or context.isdelete))
        self._running[id(cursor)] = statement, perf_counter(), cost, cost.statements

    def _end(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        found = self._running.pop(id(cursor), None)
        if found is None:
            return
        statement, began_at_s, cost, charged = found
        statement.db_s += perf_counter() - began_at_s
        statement.is_measured &= cost.statements > charged
        statement.answered += _times(parameters, executemany)
        if context is not None and context._is_server_side:
            statement.rows = None
        elif cursor.description is not None and statement.rows is not None:
            statement.rows += max(cursor.rowcount, 0)


def _times(parameters: Any, executemany: bool) -> int:
    """How often a statement is sent; an INSERT of several rows that SQLAlchemy makes one statement of is sent once."""
    return len(parameters) if executemany and isinstance(parameters, list) else 1
