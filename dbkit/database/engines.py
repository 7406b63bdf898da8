"""Makes engines: the same database, used in the same way, on every stack.

For what is read through an engine see `dbkit.paging`; for what reading cost, `dbkit.measure.cost`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dbkit.database.embedded import embedded_folder, serve
from dbkit.database.meter import meter
from dbkit.database.pooler import set_through_pooler
from dbkit.database.settings import Settings
from dbkit.database.stacks import Stack, find_stack
from dbkit.database.url import URL_VARIABLE, DatabaseUrl
from dbkit.errors import DbkitError

DIRECT = "direct"
"""The name of the database that is used where none is named."""
DATABASE_NAME = re.compile("[a-z][a-z0-9_]*")
"""What another database may be called."""


def find_database() -> DatabaseUrl:
    """The database to use where none is named: that of `DBKIT_DATABASE_URL`, else the embedded server.

    For the folder of that see `dbkit.database.embedded.embedded_folder`.

    Nothing else is looked at: a `DATABASE_URL` that happens to be set may name somebody's production database.
    Raises DbkitError where the URL is not usable or the embedded server does not start.
    """
    return DatabaseUrl.parse(os.environ.get(URL_VARIABLE) or serve(embedded_folder()))


def named_database(name: str) -> DatabaseUrl:
    """Another database than the direct one, by its name: `pooled` is that of `DBKIT_DATABASE_URL_POOLED`.

    Raises DbkitError where that is not set, or is not usable.
    """
    variable = f"{URL_VARIABLE}_{name.upper()}"
    if not (url := os.environ.get(variable)):
        raise DbkitError(f"database={name} has no URL: set {variable}, in each process that reads pages")
    try:
        return DatabaseUrl.parse(url)
    except DbkitError as mistake:
        raise DbkitError(f"{variable}: {mistake}") from None


@functools.cache
def default_engine() -> Engine:
    """An engine on `find_database()` that only reads, for scripts that name no other; one a process."""
    return make_engine(find_database(), Settings(read_only=True))


def make_engine(
    database: DatabaseUrl,
    settings: Settings,
    stack: str = "psycopg",
    *,
    connect: Callable[..., psycopg.Connection[Any]] | None = None,
) -> Engine:
    """A metered engine of a sync stack (see `dbkit.database.meter`). It opens no connection yet.

    `connect` takes the place of the driver's `connect`. Raises DbkitError where there is no such stack.
    """
    chosen = find_stack(stack)
    engine = create_engine(f"{chosen.dialect}://", **_engine_arguments(database, settings, chosen))
    if connect is not None:
        engine.dialect.connect = connect  # type: ignore[method-assign, assignment]
    chosen.add_listeners(engine)
    set_through_pooler(engine, database, settings)
    meter(engine)
    return engine


def make_async_engine(database: DatabaseUrl, settings: Settings, stack: str) -> AsyncEngine:
    """A metered engine of an async stack (see `dbkit.database.meter`). It opens no connection yet.

    Raises DbkitError where there is no such stack.
    """
    chosen = find_stack(stack)
    engine = create_async_engine(f"{chosen.dialect}://", **_engine_arguments(database, settings, chosen))
    chosen.add_listeners(engine.sync_engine)
    set_through_pooler(engine.sync_engine, database, settings)
    meter(engine)
    return engine


def _engine_arguments(database: DatabaseUrl, settings: Settings, stack: Stack) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "connect_args": stack.connect_args(database, settings),
    }
    if settings.pool_class == "null":
        arguments["poolclass"] = NullPool
    else:
        arguments |= {
            "pool_size": settings.pool_size,
            "max_overflow": settings.max_overflow,
            "pool_timeout": settings.pool_timeout_s,
            "pool_use_lifo": settings.pool_class == "lifo",
            "pool_pre_ping": settings.pre_ping == "on",
        }
    if settings.end == "autocommit":
        arguments["isolation_level"] = "AUTOCOMMIT"
    return arguments
