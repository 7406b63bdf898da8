"""What SQL a page function sends, and how the server ran it: EXPLAIN (ANALYZE, BUFFERS) of each of its statements.

Asked once, after a load test. Each page is read in a transaction of its own, its statements are explained in that same
transaction, and all of it is rolled back. What pages cost under load is `dbkit.measure.cost`'s; showing plans is the
outputs'.
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
from typing import Any, cast

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.server import check_server
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.paging import AsyncPageFunction, PageFunction

STATEMENT_TIMEOUT_S = 5
"""How long the server lets a statement run here, where the settings allow more."""
BUDGET_S = 15
"""How long all of it may take: it is done when a load test is over, and somebody waits."""

_Sent = list[tuple[str, Any]]
"""SQL and parameters of each execution, in order."""


_now_s = time.monotonic


def _asyncio_run(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(function())


def explain_pages(
    database: DatabaseUrl,
    settings: Settings,
    functions: Mapping[str, PageFunction | AsyncPageFunction],
    pages: int,
    page_size: int,
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None] = _asyncio_run,
) -> list[dict[str, Any]]:
    """Explain the middle ("typical") and the last of `pages` pages by each function; where they are one, only that one.

    `functions` are by strategy. Plain ones are read by psycopg; those that are `async def` by its async side, in the
    loop that `run` runs coroutines in: asyncio's own by default, which a process that gevent has patched cannot use.

    The answer has an entry for each page, ready for JSON: `strategy`, `which`, `page`, `statements`, and `note`: None,
    or why the page could not be read, and then it has no statements. A statement is distinct SQL in order of first
    appearance, savepoints left out: `sql`, `parameters` (its first execution's, as JSON), `times` (how often the page
    executed it), `plan`, `execution_ms` (by the plan), and `note`: None, or why there is no plan, where the server does
    not explain such a statement (SET) or not a second time (an INSERT whose key is there by now). A statement may take
    `STATEMENT_TIMEOUT_S`, all of them together `BUDGET_S`; what takes longer is noted.

    Nothing stays of what a page writes, even if its function commits, but sequences do advance; a COMMIT that is sent
    as text is beyond reach. Raises DbkitError where the database cannot be connected to.
    """
    check_server(database)
    if settings.end == "autocommit":
        settings = replace(settings, end="rollback")
    numbers = {"typical": pages // 2} | ({"last": pages - 1} if pages > 2 else {})
    deadline_s = _now_s() + BUDGET_S
    entries: list[dict[str, Any]] = []
    for strategy, function in functions.items():
        for which, page in numbers.items():
            entry = {"strategy": strategy, "which": which, "page": page, "statements": [], "note": None}
            entries.append(entry)
            if inspect.iscoroutinefunction(function):
                awaited = cast(AsyncPageFunction, function)
                run(partial(_explain_async_page, entry, database, settings, awaited, page_size, deadline_s))
            else:
                _explain_page(entry, database, settings, cast(PageFunction, function), page_size, deadline_s)
    return entries


def _explain_page(
    entry: dict[str, Any],
    database: DatabaseUrl,
    settings: Settings,
    function: PageFunction,
    page_size: int,
    deadline_s: float,
) -> None:
    engine = make_engine(database, settings)
    try:
        with _noting(entry), engine.connect() as connection:
            sent = _begin(connection, settings, deadline_s)
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
    function: AsyncPageFunction,
    page_size: int,
    deadline_s: float,
) -> None:
    engine = make_async_engine(database, "psycopg-async", settings)
    try:
        with _noting(entry):
            async with engine.connect() as connection:
                sent = await connection.run_sync(_begin, settings, deadline_s)
                async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
                    await function(session, entry["page"], page_size)
                    if settings.end == "commit":
                        await session.commit()
                    entry["statements"] = await connection.run_sync(_explain, sent)
    finally:
        await engine.dispose()


@contextmanager
def _noting(entry: dict[str, Any]) -> Iterator[None]:
    """Note why a page has no statements, so that the others are still explained. Kills are no `Exception`."""
    try:
        yield
    except Exception as error:
        entry.update(statements=[], note=_reason(error))


def _begin(connection: Connection, settings: Settings, deadline_s: float) -> _Sent:
    """Begin the transaction that the session joins by a savepoint, and so can neither commit nor end.

    Closing the connection rolls it back. What is executed from here on is added to the list returned.
    """
    connection.begin()
    timeout_s = min(settings.statement_timeout_s or STATEMENT_TIMEOUT_S, STATEMENT_TIMEOUT_S)
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{timeout_s * 1000:.0f}ms'")
    sent: _Sent = []

    @event.listens_for(connection, "before_cursor_execute")
    def add(_: Connection, cursor: object, sql: str, parameters: Any, context: object, executemany: bool) -> None:
        if _now_s() > deadline_s:
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
        return {"plan": None, "execution_ms": None, "note": f"no plan: {_reason(error)}"}
    execution = re.fullmatch(r"Execution Time: (\S+) ms", lines[-1])
    return {"plan": "\n".join(lines), "execution_ms": float(execution[1]) if execution else None, "note": None}


def _reason(error: Exception) -> str:
    """One line: the driver's error rather than SQLAlchemy's, which shows the SQL; of the server's words the first."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    lines = str(cause).strip().splitlines()
    return ": ".join([type(cause).__name__, *lines[:1]])
