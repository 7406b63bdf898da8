"""Explains what a page function sends: EXPLAIN (ANALYZE, BUFFERS) of each of its statements.

It is done once, after a load test. Each page is read in a transaction of its own, its statements are explained in the
same transaction, and then it is rolled back. For what pages cost under load see `dbkit.measure.cost`; showing plans is
left to the outputs.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Pool, event
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker
from sqlalchemy.orm import sessionmaker
from sqlalchemy.util import greenlet_spawn

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.server import check_server
from dbkit.database.settings import PageEnd, Settings
from dbkit.database.source_lines import source_line
from dbkit.database.url import DatabaseUrl
from dbkit.paging import PageFunction, is_async, own_session
from dbkit.rollback import in_savepoint

STATEMENT_TIMEOUT_S = 5
"""How long the server lets a statement run here, where the settings allow more."""
BUDGET_S = 15
"""How long all of them may take together: the user waits for it after a load test."""

_now = time.monotonic


@dataclass(frozen=True)
class PageToExplain:
    """A page function, and the pages of it that are to be explained."""

    workload: str
    strategy: str
    function: PageFunction
    keys: Mapping[str, tuple[Any, ...]]
    """The key of each page, as a tuple of arguments, by what the page is: `{"typical": (50, 20), "last": (99, 20)}`."""
    engine: Engine | AsyncEngine | Callable[[], Engine | AsyncEngine] | None = None
    """The application's engine, or what makes it; None for one of dbkit's own. A function that is `async def` needs an
    `AsyncEngine`; others are read on both kinds."""
    end: PageEnd = "rollback"
    """How the page ends: with "commit" what the session sends at its commit is explained too."""
    writes: bool = False
    """Whether it may write, on an engine of dbkit's own."""


@dataclass(frozen=True)
class _Execution:
    """A statement as the page executed it."""

    sql: str
    parameters: Any
    source: str | None
    """Where in the application; looked up for the first execution of a statement alone."""


@dataclass(frozen=True)
class _Limits:
    statement_timeout_s: float
    until_s: float
    """When all must be done, by `_now`."""


def _asyncio_run(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(function())


def explain_pages(
    database: DatabaseUrl,
    settings: Settings,
    pages: Iterable[PageToExplain],
    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None] = _asyncio_run,
) -> list[dict[str, Any]]:
    """Explain what each page function sends for each of its keys.

    Without an engine of the application plain functions are read by psycopg, and those that are awaited by its async
    side. What is read on an async engine runs in the loop that `run` runs coroutines in: asyncio's own by default,
    which a process that gevent has patched cannot use. Connections are made as the application's engine makes them, but
    in a pool of their own: those in its own pool may belong to a loop that has ended.

    The answer has an entry for each page, ready for JSON: `workload`, `strategy`, `which`, `key` (as text),
    `statements`, and `note`: None, or why the page could not be read, and then it has no statements. A statement is
    distinct SQL in order of first appearance, savepoints left out: `sql`, `parameters` (its first execution's, as
    JSON), `source` (where in the application its first execution is, or None: see `dbkit.database.source_lines`),
    `times` (how often the page executed it), `plan`, `execution_ms` (by the plan), and `note`: None, or why there is no
    plan, where the server does not explain such a statement (SET) or not a second time (an INSERT whose key is there by
    now). A statement may take `STATEMENT_TIMEOUT_S`, all of them together `BUDGET_S`; what takes longer is noted.

    What a page writes is rolled back, even if its function commits, and also on an engine in autocommit. But sequences
    do advance, and a COMMIT that is sent as text cannot be undone. Raises DbkitError where the database cannot be
    connected to.
    """
    check_server(database)
    timeout_s = min(settings.statement_timeout_s or STATEMENT_TIMEOUT_S, STATEMENT_TIMEOUT_S)
    limits = _Limits(timeout_s, _now() + BUDGET_S)
    entries: list[dict[str, Any]] = []
    for page in pages:
        for which, key in page.keys.items():
            entry: dict[str, Any] = {"workload": page.workload, "strategy": page.strategy, "which": which}
            entry |= {"key": _as_text(key), "statements": [], "note": None}
            entries.append(entry)
            with _noting(entry):
                engine = _engine_of(page, database, settings)
                if isinstance(engine, Engine):
                    entry["statements"] = _explain_page(engine, page, key, limits)
                else:
                    run(partial(_explain_in_loop, entry, engine, page, key, limits))
    return entries


def _engine_of(page: PageToExplain, database: DatabaseUrl, settings: Settings) -> Engine | AsyncEngine:
    if isinstance(page.engine, Engine | AsyncEngine):
        return page.engine
    if page.engine is not None:
        return page.engine()
    settings = replace(settings, end="rollback", read_only=not page.writes)  # not in autocommit
    return (
        make_async_engine(database, settings, "psycopg-async")
        if is_async(page.function)
        else make_engine(database, settings)
    )


def _explain_page(engine: Engine, page: PageToExplain, key: tuple[Any, ...], limits: _Limits) -> list[dict[str, Any]]:
    pool = engine.pool.recreate()
    try:
        with _connect(engine, pool) as connection:
            executions = _begin(connection, limits)
            make_session = sessionmaker(connection, **in_savepoint(page.function))
            if isinstance(page.function, own_session):
                page.function(make_session, *key)
                return _explain(connection, executions)
            with make_session() as session:
                page.function(session, *key)
                if page.end == "commit":
                    session.commit()
                return _explain(connection, executions)
    finally:
        pool.dispose()


async def _explain_in_loop(
    entry: dict[str, Any], engine: AsyncEngine, page: PageToExplain, key: tuple[Any, ...], limits: _Limits
) -> None:
    if is_async(page.function):
        entry["statements"] = await _explain_async_page(engine, page, key, limits)
    else:
        entry["statements"] = await greenlet_spawn(_explain_page, engine.sync_engine, page, key, limits)


async def _explain_async_page(
    engine: AsyncEngine, page: PageToExplain, key: tuple[Any, ...], limits: _Limits
) -> list[dict[str, Any]]:
    pool = engine.sync_engine.pool.recreate()
    try:
        sync_connection = await greenlet_spawn(_connect, engine.sync_engine, pool)
        async with aclosing(AsyncConnection(engine, sync_connection)) as connection:
            executions = await connection.run_sync(_begin, limits)
            make_session = async_sessionmaker(connection, **in_savepoint(page.function))
            if isinstance(page.function, own_session):
                await page.function(make_session, *key)
                return await connection.run_sync(_explain, executions)
            async with make_session() as session:
                await page.function(session, *key)
                if page.end == "commit":
                    await session.commit()
                return await connection.run_sync(_explain, executions)
    finally:
        await greenlet_spawn(pool.dispose)


def _connect(engine: Engine, pool: Pool) -> Connection:
    """A connection as `engine` makes them, but from another pool than the engine's."""
    options = engine.get_execution_options()
    # SQLAlchemy 2.0 cannot listen to a connection of what `Engine.execution_options` returns
    while (within := getattr(engine, "_proxied", None)) is not None:
        engine = within
    return Connection(engine, pool.connect()).execution_options(**options)


@contextmanager
def _noting(entry: dict[str, Any]) -> Iterator[None]:
    """Note why a page has no statements, so that the others are still explained. A kill is no `Exception`."""
    try:
        yield
    except (Exception, asyncio.CancelledError, SystemExit) as error:  # a page may raise the others, too
        entry.update(statements=[], note=_one_line(error))


def _begin(connection: Connection, limits: _Limits) -> list[_Execution]:
    """Begin the transaction that a session joins by a savepoint, so that no session can commit or end it.

    Closing the connection rolls it back. Each statement executed from now on is added to the list that is returned.
    """
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        connection.execution_options(isolation_level=connection.default_isolation_level or "READ COMMITTED")
    connection.begin()
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{limits.statement_timeout_s * 1000:.0f}ms'")
    executions: list[_Execution] = []
    seen: set[str] = set()

    @event.listens_for(connection, "before_cursor_execute")
    def add(_: Connection, cursor: object, sql: str, parameters: Any, context: object, executemany: bool) -> None:
        if " sa_savepoint_" in sql:  # the session's own, and those of `begin_nested`
            return
        if _now() > limits.until_s:
            raise TimeoutError(f"the strategies' statements together took longer than {BUDGET_S} s")
        first_parameters = parameters[0] if isinstance(parameters, list) else parameters
        executions.append(_Execution(sql, first_parameters, None if sql in seen else source_line()))
        seen.add(sql)

    return executions


def _explain(connection: Connection, executions: list[_Execution]) -> list[dict[str, Any]]:
    times = Counter(execution.sql for execution in executions)
    first = {execution.sql: execution for execution in reversed(executions)}
    return [
        {
            "sql": sql,
            "parameters": json.dumps(first[sql].parameters, default=str, ensure_ascii=False),
            "source": first[sql].source,
            "times": times[sql],
            **_plan(connection, sql, first[sql].parameters),
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


def _one_line(error: BaseException) -> str:
    """The class and the first line of an error; the driver's rather than SQLAlchemy's, which shows the SQL."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    lines = str(cause).strip().splitlines()
    return ": ".join([type(cause).__name__, *lines[:1]])


def _as_text(key: tuple[Any, ...]) -> str:
    return ", ".join(text if (text := str(value)).isprintable() else repr(value) for value in key)
