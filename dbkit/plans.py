"""Explains what a page function sends: EXPLAIN (ANALYZE, BUFFERS) of each of its statements.

It is done once, after a load test. Each page is read in a transaction of its own, its statements are explained in the
same transaction, and then it is rolled back. For what pages cost under load see `dbkit.measure.cost`; showing plans is
left to the outputs.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.server import check_server
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.paging import PageFunction

STATEMENT_TIMEOUT_S = 5
"""How long the server lets a statement run here, where the settings allow more."""
BUDGET_S = 15
"""How long all of them may take together: the user waits for it after a load test."""

_Sent = list[tuple[str, Any]]
"""SQL and parameters of each execution, in order."""


_now = time.monotonic


def _asyncio_run(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(function())


def explain_pages(
    database: DatabaseUrl,
    settings: Settings,
    functions: Mapping[str, PageFunction],
    pages: int,
    page_size: int,
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None] = _asyncio_run,
) -> list[dict[str, Any]]:
    """Explain the middle ("typical") and the last of `pages` pages by each function; once where they are the same page.

    `functions` are by strategy. Plain ones are read by psycopg; those that are `async def` by its async side, in the
    loop that `run` runs coroutines in: asyncio's own by default, which a process that gevent has patched cannot use.

    The answer has an entry for each page, ready for JSON: `strategy`, `which`, `page`, `statements`, and `note`: None,
    or why the page could not be read, and then it has no statements. A statement is distinct SQL in order of first
    appearance, savepoints left out: `sql`, `parameters` (its first execution's, as JSON), `times` (how often the page
    executed it), `plan`, `execution_ms` (by the plan), and `note`: None, or why there is no plan, where the server does
    not explain such a statement (SET) or not a second time (an INSERT whose key is there by now). A statement may take
    `STATEMENT_TIMEOUT_S`, all of them together `BUDGET_S`; what takes longer is noted.

    What a page writes is rolled back, even if its function commits, but sequences do advance, and a COMMIT that is sent
    as text cannot be undone. Raises DbkitError where the database cannot be connected to.
    """
    check_server(database)
    if settings.end == "autocommit":
        settings = replace(settings, end="rollback")
    numbers = {"typical": pages // 2} | ({"last": pages - 1} if pages > 2 else {})
    deadline = _now() + BUDGET_S
    entries: list[dict[str, Any]] = []
    for strategy, function in functions.items():
        for which, page in numbers.items():
            entry = {"strategy": strategy, "which": which, "page": page, "statements": [], "note": None}
            entries.append(entry)
            if inspect.iscoroutinefunction(function):
                awaited = function
                run(partial(_explain_async_page, entry, database, settings, awaited, page_size, deadline))
            else:
                _explain_page(entry, database, settings, function, page_size, deadline)
    return entries


def _explain_page(
    entry: dict[str, Any],
    database: DatabaseUrl,
    settings: Settings,
    function: PageFunction,
    page_size: int,
    deadline: float,
) -> None:
    engine = make_engine(database, settings)
    try:
        with _noting(entry), engine.connect() as connection:
            sent = _begin(connection, settings, deadline)
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                function(session, entry["page"], page_size)
                if settings.end == "commit":
                    session.commit()
                entry["statements"] = _explain(connection, sent)
    finally:
        engine.dispose()


async def _explain_async_page(
    entry: dict[str, Any],
    database: DatabaseUrl,
    settings: Settings,
    function: PageFunction,
    page_size: int,
    deadline: float,
) -> None:
    engine = make_async_engine(database, settings, "psycopg-async")
    try:
        with _noting(entry):
            async with engine.connect() as connection:
                sent = await connection.run_sync(_begin, settings, deadline)
                async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
                    await function(session, entry["page"], page_size)
                    if settings.end == "commit":
                        await session.commit()
                    entry["statements"] = await connection.run_sync(_explain, sent)
    finally:
        await engine.dispose()


@contextmanager
def _noting(entry: dict[str, Any]) -> Iterator[None]:
    """Note why a page has no statements, so that the others are still explained. A kill is no `Exception`."""
    try:
        yield
    except Exception as error:
        entry.update(statements=[], note=_one_line(error))


def _begin(connection: Connection, settings: Settings, deadline: float) -> _Sent:
    """Begin the transaction that the session joins by a savepoint, so that the session cannot commit or end it.

    Closing the connection rolls it back. Each statement executed from now on is added to the list that is returned.
    """
    connection.begin()
    timeout_s = min(settings.statement_timeout_s or STATEMENT_TIMEOUT_S, STATEMENT_TIMEOUT_S)
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{timeout_s * 1000:.0f}ms'")
    sent: _Sent = []

    @event.listens_for(connection, "before_cursor_execute")
    def add(_: Connection, cursor: object, sql: str, parameters: Any, context: object, executemany: bool) -> None:
        if _now() > deadline:
            raise TimeoutError(f"the strategies' statements together took longer than {BUDGET_S} s")
        if " sa_savepoint_" not in sql:  # the session's own, and those of `begin_nested`
            sent.append((sql, parameters[0] if isinstance(parameters, list) else parameters))

    return sent


def _explain(connection: Connection, sent: _Sent) -> list[dict[str, Any]]:
    times = Counter(sql for sql, _ in sent)
    first_parameters = dict(reversed(sent))
    return [
        {
            "sql": sql,
            "parameters": json.dumps(first_parameters[sql], default=str, ensure_ascii=False),
            "times": times[sql],
            **_plan(connection, sql, first_parameters[sql]),
        }
        for sql in times
    ]


def _plan(connection: Connection, sql: str, parameters: Any) -> dict[str, Any]:
    try:
        # an error ends no more than the savepoint, and what the statement writes goes with it
        with connection.begin_nested() as savepoint:
            lines = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", parameters).scalars().all()
            savepoint.rollback()
    except (SQLAlchemyError, TimeoutError) as error:
        return {"plan": None, "execution_ms": None, "note": f"no plan: {_one_line(error)}"}
    execution = re.fullmatch(r"Execution Time: (\S+) ms", lines[-1])
    return {"plan": "\n".join(lines), "execution_ms": float(execution[1]) if execution else None, "note": None}


def _one_line(error: Exception) -> str:
    """The class and the first line of an error; the driver's rather than SQLAlchemy's, which shows the SQL."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    lines = str(cause).strip().splitlines()
    return ": ".join([type(cause).__name__, *lines[:1]])
