"""A database URL and settings in, an engine out, the same database in the same way for every driver.

Any of the usual PostgreSQL URLs is read once into a `DatabaseUrl` and handed to each driver in that driver's own words,
because psycopg and asyncpg name, accept and refuse different things. Passwords stay out of everything printable.
What is read through an engine is `dbkit.paging`'s; what reading cost is `dbkit.cost`'s.
"""

from __future__ import annotations

import functools
import getpass
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlencode

import psycopg
from sqlalchemy import Engine, ExceptionContext, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dbkit.cost import MeteredAsyncQueuePool, MeteredQueuePool, meter
from dbkit.embedded import serve
from dbkit.errors import DbkitError

URL_VARIABLE = "DBKIT_DATABASE_URL"
URL_EXAMPLE = "postgresql://user:password@host:5432/database"
EMBEDDED_FOLDER = Path(".dbkit")
DEFAULT_CONNECT_TIMEOUT_S = 10
SOCKET_FOLDERS = ("/var/run/postgresql", "/run/postgresql", "/tmp")

Stack = Literal["psycopg", "psycopg-threads", "psycopg-async", "asyncpg"]
"""Driver and concurrency model: psycopg under gevent, psycopg in native threads, and two drivers under asyncio."""
STACKS: tuple[Stack, ...] = get_args(Stack)
ASYNC_STACKS: tuple[Stack, ...] = ("psycopg-async", "asyncpg")
PageEnd = Literal["rollback", "commit", "autocommit"]
SessionClose = Literal["with", "finally"]
SESSION_CLOSES: tuple[SessionClose, ...] = get_args(SessionClose)
PAGE_ENDS: tuple[PageEnd, ...] = get_args(PageEnd)

_LIBPQ_ONLY = frozenset({"PGSERVICE", "PGTZ", "PGDATESTYLE", "PGGEQO"})
_TLS_KEYS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_OTHER_KEYS = ("host", "port", "user", "password", "dbname", "application_name", "connect_timeout", "options")


@dataclass(frozen=True)
class Settings:
    """How pages use the database; the same for every driver."""

    pool_size: int = 5
    """Connections that the pool keeps."""
    max_overflow: int = 10
    """Connections that it may open beyond them, closed on return."""
    pool_timeout_s: float = 30.0
    """How long a page waits for a connection before it fails."""
    statement_timeout_s: float = 0.0
    """How long the server lets a statement run; 0 is without limit."""
    end: PageEnd = "rollback"
    """How a page ends: its transaction rolled back (what closing a session does), committed, or none opened at all."""

    close: SessionClose = "with"
    """How an async session is closed: by `async with`, as people write it, which has a task of its own do it and waits
    for that; or awaited in a `finally`, which needs no task. Sync sessions are always closed by `with`."""

    @property
    def pool_capacity(self) -> int:
        """The most connections that one engine opens."""
        return self.pool_size + self.max_overflow


@dataclass(frozen=True)
class DatabaseUrl:
    """A PostgreSQL database, read from a URL. `str()` of it shows no password and none of the URL's options."""

    host: str
    """Host name, address, or the folder of a Unix socket."""
    port: int
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    application_name: str = "dbkit"
    options: str = ""
    """Command-line options for the server, such as `-c work_mem=64MB`."""
    connect_timeout_s: int = DEFAULT_CONNECT_TIMEOUT_S
    """0 is without limit."""
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)
    """libpq's `ssl…` parameters, by their names."""

    @classmethod
    def parse(cls, text: str) -> DatabaseUrl:
        """Read any of the usual forms; a driver's name and `async` are accepted and dropped.

        What a URL leaves out is filled in by libpq's rules, so that every driver gets the same: the user is the
        operating system's, the database has the user's name, the host is a local socket where one is, else localhost.

        Raises DbkitError where the URL is malformed, of another database, or says what the drivers would not
        understand alike.
        """
        text = text.strip()
        if not text.isprintable() or "\0" in unquote(text):
            raise DbkitError("the database URL holds a character that cannot be printed; write it percent-encoded")
        before_query, _, query_text = text.partition("?")
        if before_query.count("@") > 1 or "@" in query_text:
            # read as it stands, a part of the password would be taken for a host, a database or an option
            raise DbkitError("the database URL has an @ too many; write an @ in a password as %40, and a ? as %3F")
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            # the text is not shown: a malformed URL may show its password
            raise DbkitError(f"the database URL is malformed; write it like {URL_EXAMPLE}") from None
        backend = url.drivername.split("+")[0]
        if backend not in ("postgresql", "postgres"):
            raise DbkitError(
                f"the database URL is of {backend!r}, but dbkit reads PostgreSQL; write it like {URL_EXAMPLE}"
            )

        query = _read_query(url.query)
        host = query.get("host") or unquote(url.host or "")
        port = _read_number("port", query.get("port"), 5432 if url.port is None else url.port)
        if not 1 <= port <= 65535:
            raise DbkitError(f"the database URL's port is {port}; write one from 1 to 65535")
        user = query.get("user") or url.username or getpass.getuser()
        name = query.get("dbname") or url.database or user
        if not f"{host}{user}{name}".isprintable():
            raise DbkitError("the database URL's host, user or database holds a character that cannot be printed")
        if "," in host:
            raise DbkitError("the database URL names several hosts; name the one to be measured")
        return cls(
            host=host or _local_host(port),
            port=port,
            user=user,
            password=query.get("password", url.password),
            database=name,
            application_name=query.get("application_name", cls.application_name),
            options=query.get("options", cls.options),
            connect_timeout_s=_read_number("connect_timeout", query.get("connect_timeout"), cls.connect_timeout_s),
            tls={key: query[key] for key in _TLS_KEYS if key in query},
        )

    def __str__(self) -> str:
        if self.is_socket:
            return f"postgresql://{self.user}@/{self.database}?host={self.host}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{self.user}@{host}:{self.port}/{self.database}"

    @property
    def is_socket(self) -> bool:
        """Whether the host is the folder of a Unix socket."""
        return self.host.startswith(("/", "@"))

    def connect_args(self, stack: Stack, settings: Settings) -> dict[str, Any]:
        """The keyword arguments of the stack's `connect`, password included: not for printing."""
        for name in _LIBPQ_ONLY & os.environ.keys():
            raise DbkitError(f"{name} is set, which psycopg obeys and asyncpg does not; unset it")
        options = self.options
        if settings.statement_timeout_s:
            options = f"{options} -c statement_timeout={round(settings.statement_timeout_s * 1000)}".strip()
        arguments: dict[str, Any] = {"host": self.host, "port": self.port, "user": self.user, "password": self.password}
        if stack != "asyncpg":
            # said even when empty: libpq would take them from PGOPTIONS and the like, which asyncpg does not read
            return arguments | {
                "dbname": self.database,
                "application_name": self.application_name,
                "options": options,
                "connect_timeout": self.connect_timeout_s,
                "client_encoding": "utf8",
                "hostaddr": "",
                "target_session_attrs": "any",
                **self.tls,
            }
        return arguments | {
            "database": self.database,
            "timeout": self.connect_timeout_s or None,
            "target_session_attrs": "any",
            "server_settings": {"application_name": self.application_name} | ({"options": options} if options else {}),
            # of all the ways to say libpq's ssl parameters to asyncpg, a DSN is the one that takes them by name
            "dsn": f"postgresql://?{urlencode(self.tls)}",
        }


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
    """A sync engine on psycopg, metered (see `dbkit.cost`). It opens no connection yet.

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
    """An engine of one of the async stacks, metered (see `dbkit.cost`). It opens no connection yet."""
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


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself."""

    version: str
    connections_allowed: int
    """Connections that an ordinary user may hold altogether: `max_connections` less those reserved."""


def check_server(database: DatabaseUrl) -> ServerInfo:
    """Connect once. Raises DbkitError, saying what to put right, where that fails."""
    try:
        with psycopg.connect(**database.connect_args("psycopg", Settings())) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), current_setting('max_connections')::int"
                " - current_setting('superuser_reserved_connections')::int"
                " - coalesce(current_setting('reserved_connections', true)::int, 0)"
            ).fetchone()
    except (psycopg.Error, UnicodeError) as error:  # UnicodeError: a host name that no name could be
        raise DbkitError(f"cannot use {database}: {_reason(error)}") from None
    assert row is not None
    return ServerInfo(version=row[0], connections_allowed=row[1])


def _reason(error: Exception) -> str:
    """The server's or libpq's own words on one line, and what to do about the common ones."""
    message = " ".join(str(error).split())
    # the last attempt of several addresses is told last; the words before "failed:" only repeat the URL
    message = message.rsplit("failed: ", 1)[-1].partition(" Is the server running")[0]
    hints = {
        r"password|authentication|no pg_hba": "check user and password",
        r"database .* does not exist": "create it with createdb, or name another",
        r"role .* does not exist": "check the user",
        r"refused|timeout|resolve|No such file|unreachable|not known": "is the server running there?",
    }
    hint = next((hint for pattern, hint in hints.items() if re.search(pattern, message)), "check the URL")
    return f"{message}; {hint} (--database-url or {URL_VARIABLE})"


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


def _read_query(query: Mapping[str, str | tuple[str, ...]]) -> dict[str, str]:
    """The URL's query by libpq's names. Raises DbkitError for what only one of the drivers would understand."""
    read: dict[str, str] = {}
    for key, value in query.items():
        name = {"ssl": "sslmode", "database": "dbname"}.get(key, key)
        if not isinstance(value, str) or name in read:
            raise DbkitError(f"the database URL says {key!r} more than once; say it once")
        if name in _TLS_KEYS or name in _OTHER_KEYS:
            read[name] = value
        elif name != "async":
            known = ", ".join((*_OTHER_KEYS, *_TLS_KEYS))
            raise DbkitError(
                f"the database URL's {key!r} does not mean the same on every driver; remove it (usable: {known})"
            )
    return read


def _read_number(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,9}", text):
        raise DbkitError(f"the database URL's {name} is {text!r:.20}; write a whole number")
    return int(text)


def _local_host(port: int) -> str:
    for folder in SOCKET_FOLDERS:
        if Path(folder, f".s.PGSQL.{port}").exists():
            return folder
    return "localhost"
