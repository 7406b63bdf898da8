"""A `DatabaseUrl` and `Settings` in, an engine out: the same database in the same way for every driver.

For what is read through an engine see `dbkit.paging`; for what reading cost, `dbkit.measure.cost`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, ExceptionContext, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dbkit.database.embedded import serve
from dbkit.database.meter import MeteredAsyncQueuePool, MeteredQueuePool, meter
from dbkit.database.settings import Settings
from dbkit.database.stacks import Stack
from dbkit.database.url import URL_VARIABLE, DatabaseUrl

EMBEDDED_FOLDER = Path(".dbkit")


def find_database() -> DatabaseUrl:
    """The database of those who name none: that of `DBKIT_DATABASE_URL`, else the embedded server under `.dbkit/`.

    Nothing else is looked at: a `DATABASE_URL` that happens to be set is somebody's production.
    Raises DbkitError where the URL is no good or the embedded server does not start.
    """
    return DatabaseUrl.parse(os.environ.get(URL_VARIABLE) or serve(EMBEDDED_FOLDER))


@functools.cache
def default_engine() -> Engine:
    """The engine of a script that says nothing: `find_database()` with the default `Settings`, made once a process."""
    return make_engine(find_database(), Settings())


def make_engine(
    database: DatabaseUrl,
    settings: Settings,
    *,
    connect: Callable[..., psycopg.Connection[Any]] | None = None,
    pool_class: type[MeteredQueuePool] = MeteredQueuePool,
) -> Engine:
    """A sync engine on psycopg, metered (see `dbkit.measure.cost`). It opens no connection yet.

    `connect` takes the place of `psycopg.connect`, and `pool_class` that of the pool.
    """
    engine = create_engine(
        "postgresql+psycopg://", poolclass=pool_class, **_engine_arguments(database, "psycopg", settings)
    )
    if connect is not None:
        engine.dialect.connect = connect  # type: ignore[method-assign, assignment]
    event.listen(engine, "handle_error", _cancel_abandoned_query)
    meter(engine)
    return engine


def make_async_engine(database: DatabaseUrl, stack: Stack, settings: Settings) -> AsyncEngine:
    """An engine of one of the async stacks, metered (see `dbkit.measure.cost`). It opens no connection yet."""
    dialect = "asyncpg" if stack == "asyncpg" else "psycopg_async"
    engine = create_async_engine(
        f"postgresql+{dialect}://",
        poolclass=MeteredAsyncQueuePool,
        **_engine_arguments(database, stack, settings),
    )
    if stack == "asyncpg":
        event.listen(engine.sync_engine, "connect", _learn_arrays)
    meter(engine.sync_engine)
    return engine


def _engine_arguments(database: DatabaseUrl, stack: Stack, settings: Settings) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "connect_args": database.connect_args(stack, settings),
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout_s,
    }
    if settings.end == "autocommit":
        arguments["isolation_level"] = "AUTOCOMMIT"
    return arguments


def _learn_arrays(dbapi_connection: Any, record: object) -> None:
    """Have asyncpg ask for the type of an array of strings now: each connection asks once, amid its first such page."""
    dbapi_connection.run_async(lambda connection: connection.fetchval("SELECT ARRAY[]::varchar[]"))


def _cancel_abandoned_query(context: ExceptionContext) -> None:
    """End on the server what the caller no longer waits for.

    A killed greenlet or Ctrl-C leaves a psycopg query by an exception that is no `Exception`; SQLAlchemy then drops the
    connection, and the query would go on running.
    """
    if isinstance(context.original_exception, Exception) or context.connection is None:
        return
    driver_connection = context.connection.connection.driver_connection
    if isinstance(driver_connection, psycopg.Connection):
        driver_connection.cancel_safe(timeout=2)
