"""What the page in progress sends, with the line of the application that sent each statement.

It listens to every engine of the process: a page may use another one than its class's, which dbkit does not measure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, event

from dbkit.database.source_lines import source_line
from dbkit.load.stint import Page, Stint
from dbkit.measure.cost import current_cost


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
    is_written: bool = False
    """Whether it is an INSERT, UPDATE or DELETE of SQLAlchemy's."""


class StatementLog:
    """Notes the statements of the page that is read now. One for a process, from its beginning to its end."""

    def __init__(self) -> None:
        self.savepoints = 0
        """How many statements set, released or rolled back to a savepoint."""
        self._stint: Stint | None = None
        self._statements: dict[str, Statement] = {}
        self._running: dict[int, tuple[Statement, float]] = {}
        event.listen(Engine, "before_cursor_execute", self._begin)
        event.listen(Engine, "after_cursor_execute", self._end)

    def follow(self, stint: Stint) -> None:
        """Forget the last page, and note what those of this stint send."""
        self.savepoints = 0
        self._stint = stint
        self._statements, self._running = {}, {}

    @property
    def statements(self) -> list[Statement]:
        """Those of the page, in the order in which they were first sent; without savepoints."""
        return list(self._statements.values())

    @property
    def waiting_for(self) -> Statement | None:
        """The statement that the page waits for."""
        return next((statement for statement, _ in self._running.values()), None)

    def _begin(
        self, connection: Connection, cursor: object, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        page = self._stint.in_flight if self._stint is not None else None
        if not isinstance(page, Page) or current_cost.get() is not page.cost:
            return  # of no page, or of one that was broken off and is not over
        if " sa_savepoint_" in sql:
            self.savepoints += 1
            return
        statement = self._statements.setdefault(sql, Statement(sql))
        times = _times(parameters, executemany)
        statement.times += times
        statement.lines[source_line() or "(not in the application)"] += times
        statement.is_written |= bool(context and (context.isinsert or context.isupdate or context.isdelete))
        self._running[id(cursor)] = statement, perf_counter()

    def _end(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        found = self._running.pop(id(cursor), None)
        if found is None:
            return
        statement, began_at_s = found
        statement.db_s += perf_counter() - began_at_s
        statement.answered += _times(parameters, executemany)
        if context is not None and context._is_server_side:
            statement.rows = None
        elif cursor.description is not None and statement.rows is not None:
            statement.rows += max(cursor.rowcount, 0)


def _times(parameters: Any, executemany: bool) -> int:
    """How often a statement is sent; an INSERT of several rows that SQLAlchemy makes one statement of is sent once."""
    return len(parameters) if executemany and isinstance(parameters, list) else 1
