"""Engines of an application: made from a URL by its own function, or given as they are, and kept as they are.

Whatever the application has set stays: pool class, pre-ping, connect arguments, events, URL parameters. dbkit meters
such an engine (`dbkit.database.meter`), and gives it a pool of its own where two stacks use it. For dbkit's own engines
see `dbkit.database.engines`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakSet

from sqlalchemy import URL, AssertionPool, Engine, Pool, QueuePool, StaticPool
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.meter import meter
from dbkit.database.settings import Settings
from dbkit.database.stacks import Stack
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError, without_secrets

EngineSource = Engine | AsyncEngine | Callable[[URL], Engine | AsyncEngine]
"""An engine, or a function that makes one from a URL."""

_with_listeners: WeakSet[Any] = WeakSet()


def application_engine(source: EngineSource, stack: Stack, database: DatabaseUrl, owner: str) -> Any:
    """The metered engine of an application for one stack: an `Engine`, or an `AsyncEngine` for an async stack.

    `owner` is the name of the user class, for messages. Raises DbkitError where the engine does not fit the stack.
    """
    engine = source
    if not isinstance(engine, Engine | AsyncEngine):
        try:
            engine = engine(engine_url(database, stack))
        except DbkitError:
            raise
        except Exception as error:
            words = without_secrets(str(error).partition("\n")[0])
            raise DbkitError(f"{owner}: its engine function failed: {type(error).__name__}: {words}") from None
    check_engine(engine, stack, owner)
    meter(engine)
    if stack.concurrency == "greenlets" and engine not in _with_listeners:
        stack.add_listeners(cast(Engine, engine))  # a page that is cut off leaves no query behind
        _with_listeners.add(engine)
    return engine


def check_engine(engine: object, stack: Stack, owner: str) -> None:
    """Raise DbkitError unless `engine` is one that pages of the stack can be read with."""
    if not isinstance(engine, Engine | AsyncEngine):
        raise DbkitError(f"{owner}: its engine is {type(engine).__name__}; expected an Engine, an AsyncEngine, or a"
                         " function of a URL that makes one")  # fmt: skip
    expected, given = ("AsyncEngine", "Engine") if stack.is_async else ("Engine", "AsyncEngine")
    if isinstance(engine, AsyncEngine) is not stack.is_async:
        raise DbkitError(f"{owner}: stack {stack.name} needs an {expected}, but its engine is an {given}")
    dialect = engine.dialect
    if not isinstance(dialect, stack.dialect_class):
        raise DbkitError(
            f"{owner}: stack {stack.name} reads with {stack.dialect}, but its engine is one of"
            f" {dialect.name}+{dialect.driver}; give the class another stack or engine"
        )
    if isinstance(engine.pool, StaticPool | AssertionPool):
        raise DbkitError(
            f"{owner}: its engine has a {type(engine.pool).__name__}, whose one connection pages cannot share; give it"
            " a QueuePool or a NullPool"
        )


def engine_url(database: DatabaseUrl, stack: Stack) -> URL:
    """The URL of a database for SQLAlchemy's `create_engine`, password included: not for printing.

    It has the parameters that the driver knows by a URL. Raises DbkitError for others that bear on what is read.
    asyncpg gets no `application_name`, no `connect_timeout` and no parameters of TCP.
    """
    query: dict[str, str] = {"host": database.host, "port": str(database.port)} if database.is_socket else {}
    parameters = dict(database.tls)
    if database.options:
        parameters["options"] = database.options
    if stack.name == "asyncpg":
        if mode := parameters.pop("sslmode", None):
            query["ssl"] = mode
        if parameters:
            name = next(iter(parameters))
            raise DbkitError(f"asyncpg knows no {name} in a URL: set it in the application's own engine")
    else:
        query |= parameters
        query |= {name: str(value) for name, value in database.tcp.items()}
        timeout_s = Settings.connect_timeout_s if database.connect_timeout_s is None else database.connect_timeout_s
        query["connect_timeout"] = str(timeout_s)
        if database.application_name != DatabaseUrl.application_name:
            query["application_name"] = database.application_name
    return URL.create(
        stack.dialect,
        username=database.user,
        password=database.password,
        host=None if database.is_socket else database.host,
        port=None if database.is_socket else database.port,
        database=database.database,
        query=query,
    )


def database_of(engine: Engine | AsyncEngine) -> DatabaseUrl:
    """The database that an engine's URL names; parameters that only its driver knows are left out.

    Raises DbkitError where the URL names none, as with a `creator`.
    """
    url = engine.url
    if not (url.host or url.query or url.database):
        raise DbkitError("the engine's URL names no database: set --database-url to the one that it connects to")
    known = {"host", "port", "user", "password", "dbname", "options", "sslmode", "sslrootcert", "sslcert", "sslkey"}
    kept = url.set(drivername="postgresql", query={key: url.query[key] for key in url.query if key in known})
    return DatabaseUrl.parse(kept.render_as_string(hide_password=False))


def with_pool_of_its_own(engine: Any, pool_class: type[Pool] | None = None) -> Any:
    """The same engine with another pool that is set up alike, so that two stacks share no connection.

    `pool_class` takes the place of the pool's class; it must be a subclass.
    """
    if isinstance(engine, AsyncEngine):
        return AsyncEngine(with_pool_of_its_own(engine.sync_engine, pool_class))
    if isinstance(engine, OptionEngine):  # whose pool is that of the engine below it
        return with_pool_of_its_own(engine._proxied, pool_class).execution_options(**engine.get_execution_options())
    made = copy.copy(engine)
    pool = engine.pool
    shell = object.__new__(pool_class or type(pool))
    vars(shell).update(vars(pool))
    # by its class: a metered pool has a `recreate` of its own, which would make one of the old class
    made.pool = type(shell).recreate(shell)
    return made


def pool_capacity(pool: Pool) -> int | None:
    """The most connections that a pool opens; None where it has no limit."""
    if not isinstance(pool, QueuePool):
        return None
    overflow = int(pool._max_overflow)
    return None if overflow < 0 else pool.size() + overflow


def pool_keeps(pool: Pool) -> int:
    """How many connections a pool keeps open for later pages."""
    return pool.size() if isinstance(pool, QueuePool) else 0
