"""The stacks that pages are read on: a driver with its SQLAlchemy dialect, and a concurrency model.

All that is particular to a stack is in its one object here, but for two things: where the pages of a concurrency model
are read is in `dbkit.load.lanes`, and how a stack looks in a chart is in `dbkit.output.looks`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Dialect, Engine, ExceptionContext, event, make_url

from dbkit.database.drivers import Asyncpg, MeteredDriver, Psycopg, PsycopgAsync
from dbkit.database.pooler import asyncpg_arguments, startup_options
from dbkit.database.settings import Settings
from dbkit.database.tcp import asyncpg_connect, tcp_parameters
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError

Concurrency = Literal["greenlets", "threads", "tasks"]
"""Where pages are read at the same time: greenlets of gevent, native threads, or tasks of an asyncio loop."""

_LIBPQ_ONLY = ("PGDATESTYLE", "PGGEQO", "PGSERVICE", "PGTZ")


@dataclass(frozen=True)
class Stack:
    """A driver and a concurrency model, by a name that results and user classes use."""

    name: str
    concurrency: Concurrency
    dialect: str
    """SQLAlchemy's name of the database and the driver, as the URL of an engine begins."""
    driver: MeteredDriver
    """What the meter counts by."""
    driver_arguments: Callable[[DatabaseUrl, Settings], dict[str, Any]]
    """See `connect_args`."""
    add_listeners: Callable[[Engine], None] = lambda engine: None
    """Adds to a new engine the listeners that the driver needs."""

    @property
    def is_async(self) -> bool:
        """Whether its engines are async ones."""
        return self.concurrency == "tasks"

    @property
    def dialect_class(self) -> type[Dialect]:
        """SQLAlchemy's class of the dialect, which also decides the class of a pool."""
        return make_url(f"{self.dialect}://").get_dialect()

    def connect_args(self, database: DatabaseUrl, settings: Settings) -> dict[str, Any]:
        """The keyword arguments of the dialect's `connect`, password included: not for printing.

        Raises DbkitError for a variable in the environment that only one of the drivers obeys.
        """
        for name in _LIBPQ_ONLY:
            if name in os.environ:
                raise DbkitError(f"{name} is set, which psycopg obeys and asyncpg does not; unset it")
        return self.driver_arguments(database, settings)


def find_stack(name: str) -> Stack:
    """The stack of that name. Raises DbkitError where there is none."""
    try:
        return STACKS[name]
    except KeyError:
        raise DbkitError(f"invalid stack {name!r}: expected one of {', '.join(STACKS)}") from None


def stacks_of(*concurrency: Concurrency) -> tuple[str, ...]:
    """The names of the stacks of these concurrency models."""
    return tuple(stack.name for stack in STACKS.values() if stack.concurrency in concurrency)


def _psycopg_arguments(database: DatabaseUrl, settings: Settings) -> dict[str, Any]:
    # without one the driver's default holds
    prepares = {"prepare_threshold": None} if database.pooler == "transaction" else {}
    # said even when empty: libpq would take them from PGOPTIONS and the like, which asyncpg does not read
    return {
        "host": database.host,
        "port": database.port,
        "user": database.user,
        "password": database.password,
        "dbname": database.database,
        "application_name": database.application_name,
        "options": startup_options(database, settings),
        "connect_timeout": _connect_timeout_s(database, settings),
        "client_encoding": "utf8",
        "hostaddr": "",
        "target_session_attrs": "any",
        **database.tls,
        **tcp_parameters(database, settings),
        **prepares,
    }


def _asyncpg_arguments(database: DatabaseUrl, settings: Settings) -> dict[str, Any]:
    options = startup_options(database, settings)
    return {
        "host": database.host,
        "port": database.port,
        "user": database.user,
        "password": database.password,
        "database": database.database,
        "timeout": _connect_timeout_s(database, settings) or None,
        "target_session_attrs": "any",
        "server_settings": {"application_name": database.application_name} | ({"options": options} if options else {}),
        **({"async_creator_fn": asyncpg_connect(tcp)} if (tcp := tcp_parameters(database, settings)) else {}),
        # of all the ways to pass libpq's ssl parameters to asyncpg, a DSN is the one that takes them by name
        "dsn": f"postgresql://?{urlencode(database.tls)}",
        **(asyncpg_arguments(database, settings) if database.pooler == "transaction" else {}),
    }


def _connect_timeout_s(database: DatabaseUrl, settings: Settings) -> int:
    return settings.connect_timeout_s if database.connect_timeout_s is None else database.connect_timeout_s


def _cancel_abandoned_query(context: ExceptionContext) -> None:
    """Cancel on the server a query that nobody waits for any more.

    A killed greenlet or Ctrl-C leaves a psycopg query by an exception that is no `Exception`; SQLAlchemy then drops the
    connection, and the query would go on running.
    """
    if isinstance(context.original_exception, Exception) or context.connection is None:
        return
    driver_connection = context.connection.connection.driver_connection
    if not isinstance(driver_connection, psycopg.Connection):
        return
    if driver_connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
        with suppress(psycopg.Error):  # the server does not answer; what ends the page is still to reach its user
            driver_connection.cancel_safe(timeout=2)


def _learn_arrays(dbapi_connection: Any, record: object) -> None:
    """Have asyncpg ask for the type of an array of strings now, or it does so during a connection's first such page."""
    dbapi_connection.run_async(lambda connection: connection.fetchval("SELECT ARRAY[]::varchar[]"))


_PSYCOPG = Stack(
    name="psycopg",
    concurrency="greenlets",
    dialect="postgresql+psycopg",
    driver=Psycopg(),
    driver_arguments=_psycopg_arguments,
    add_listeners=lambda engine: event.listen(engine, "handle_error", _cancel_abandoned_query),
)
_PSYCOPG_THREADS = replace(_PSYCOPG, name="psycopg-threads", concurrency="threads")
_PSYCOPG_ASYNC = Stack(
    name="psycopg-async",
    concurrency="tasks",
    dialect="postgresql+psycopg_async",
    driver=PsycopgAsync(),
    driver_arguments=_psycopg_arguments,
)
_ASYNCPG = Stack(
    name="asyncpg",
    concurrency="tasks",
    dialect="postgresql+asyncpg",
    driver=Asyncpg(),
    driver_arguments=_asyncpg_arguments,
    add_listeners=lambda engine: event.listen(engine, "connect", _learn_arrays),
)

STACKS: Mapping[str, Stack] = {stack.name: stack for stack in (_PSYCOPG, _PSYCOPG_THREADS, _PSYCOPG_ASYNC, _ASYNCPG)}
"""Every stack by its name."""
