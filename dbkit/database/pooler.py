"""What connections need where a pooler such as PgBouncer stands before the server, and hands out its own connections.

A pooler refuses the server's options in the startup message. In session mode a client keeps its server connection, so
they are set once. In transaction mode each transaction may run on another one, which others use too: so they are set in
each transaction, for it alone, by the message that begins it. That takes no round trip more. What drivers must not do
there, such as to prepare statements, is in `dbkit.database.stacks`; what is known of a pooler, in
`dbkit.database.server`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import asyncpg
import psycopg
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.sql import Literal
from sqlalchemy import Engine, event

from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError

_CHARACTERISTICS = {
    "default_transaction_isolation": ("transaction_isolation", "ISOLATION"),
    "default_transaction_read_only": ("transaction_read_only", "READ (ONLY|WRITE)"),
    "default_transaction_deferrable": ("transaction_deferrable", "DEFERRABLE"),
}
"""Defaults of what a transaction is begun with: the setting of the transaction itself, and how a BEGIN says it."""
_READ_ONLY = ("default_transaction_read_only", "on")


def startup_options(database: DatabaseUrl, settings: Settings) -> str:
    """The server's options for the startup message, as libpq's `options`; none where there is a pooler."""
    if database.pooler != "none":
        return ""
    return " ".join(filter(None, (database.options, *(f"-c {n}={v}" for n, v in settings.server_options.items()))))


def check_pooler(database: DatabaseUrl, settings: Settings) -> None:
    """Raise DbkitError where the server's options cannot be set through the pooler."""
    if database.pooler == "none":
        return
    wanted = _wanted(database, replace(settings, read_only=False))
    if wanted and has_no_transaction(database, settings):
        raise DbkitError(
            f"{', '.join(wanted)} cannot be set: with --pooler transaction that is done in each transaction, and pages"
            " that end by autocommit have none; set it for the user or the database on the server, or end pages by"
            " rollback or commit"
        )


def has_no_transaction(database: DatabaseUrl, settings: Settings) -> bool:
    """Whether there is none to set something in: then nothing keeps pages from writing either."""
    return database.pooler == "transaction" and settings.end == "autocommit"


def set_through_pooler(engine: Engine, database: DatabaseUrl, settings: Settings) -> None:
    """Have the connections of a new engine set the server's options. Raises DbkitError where they cannot."""
    check_pooler(database, settings)
    event.listen(
        engine,
        "connect",
        lambda connection, record: _set_options(connection, record.driver_connection, database, settings),
    )


def set_directly(connection: psycopg.Connection[Any], database: DatabaseUrl, settings: Settings) -> None:
    """The same for one connection of psycopg's."""
    _set_options(connection, connection, database, settings)


def asyncpg_arguments(database: DatabaseUrl, settings: Settings) -> dict[str, Any]:
    """What an asyncpg connection through a pooler in transaction mode needs, for SQLAlchemy's dialect.

    With the caches off, statements have no name, and asyncpg has them parsed again where they are executed.
    """
    return {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "connection_class": _asyncpg_class(tuple(_wanted(database, settings).items())),
    }


def _set_options(connection: Any, driver_connection: Any, database: DatabaseUrl, settings: Settings) -> None:
    wanted = _wanted(database, settings) if database.pooler != "none" else {}
    if not wanted:
        return
    if database.pooler == "session":
        cursor = connection.cursor()
        cursor.execute(_set_all(wanted, local=False))
        cursor.close()
        connection.commit()
    elif isinstance(driver_connection, psycopg.Connection | psycopg.AsyncConnection):
        connection_class: Any = type(driver_connection)
        driver_connection.__class__ = _psycopg_class(connection_class, tuple(wanted.items()))


def _wanted(database: DatabaseUrl, settings: Settings) -> dict[str, str]:
    """The server's options by name. Raises DbkitError where those of the URL are written in another way."""
    # split as the server does
    words = (re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", database.options))
    wanted = {}
    for word in words:
        text = next(words, "") if word == "-c" else word.removeprefix("-c") if word.startswith("-c") else word[2:]
        name, _, value = text.partition("=")
        if not (word.startswith(("-c", "--")) and re.fullmatch(r"[\w.-]+", name) and "=" in text):
            raise DbkitError("options of the database URL cannot be set through a pooler: write each as -c name=value")
        wanted[name.replace("-", "_")] = value
    return wanted | settings.server_options


def _set_all(values: Mapping[str, str], *, local: bool) -> str:
    # not by SET, which takes a list such as that of search_path for one name
    calls = (f"pg_catalog.set_config({_quoted(n)}, {_quoted(v)}, {str(local).lower()})" for n, v in values.items())
    return f"SELECT {', '.join(calls)}"


def _begin(begin: str, wanted: Mapping[str, str]) -> list[str]:
    """A BEGIN, and the statements after it that set the options for its transaction alone."""
    statements = [begin.rstrip("; ")]
    for name, (own_name, words) in _CHARACTERISTICS.items():  # these before the first query
        if name not in wanted or re.search(words, begin):
            continue
        if (name, wanted[name]) == _READ_ONLY:
            statements[0] += " READ ONLY"
        else:
            statements.append(f"SET LOCAL {own_name} = {_quoted(wanted[name])}")
    others = {name: value for name, value in wanted.items() if name not in _CHARACTERISTICS}
    return [*statements, *([_set_all(others, local=True)] if others else [])]


def _quoted(value: str) -> str:
    return Literal(value).as_string().strip()


@cache
def _psycopg_class(base: Any, wanted: tuple[tuple[str, str], ...]) -> type:
    """A class of connections that set the options with each BEGIN."""

    class WithOptions(base):  # type: ignore[misc]
        __slots__ = ()

        def _exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Any:
            if not (isinstance(command, bytes) and command.startswith(b"BEGIN")):
                return (yield from super()._exec_command(command, *args, **kwargs))
            statements = _begin(command.decode(), dict(wanted))
            if self._pipeline:  # which takes one statement at a time
                for each in statements:
                    yield from super()._exec_command(each)
                return None
            self._check_connection_ok()
            self.pgconn.send_query("; ".join(statements).encode())
            for result in (results := (yield from execute(self.pgconn))):
                if result.status == ExecStatus.FATAL_ERROR:
                    raise psycopg.errors.error_from_result(result, encoding=self.pgconn._encoding)
            return results[0]

    WithOptions.__name__, WithOptions.__qualname__ = base.__name__, base.__qualname__
    return WithOptions


@cache
def _asyncpg_class(wanted: tuple[tuple[str, str], ...]) -> type[asyncpg.Connection]:
    """A class of connections that set the options with each BEGIN, and leave nothing else to others."""

    class WithOptions(asyncpg.Connection):  # type: ignore[misc]
        __slots__ = ()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # else it sets jit for the session while it looks up a type, and back on whichever connection comes next
            self._server_caps = self._server_caps._replace(jit=False)  # type: ignore[misc, has-type]

        async def execute(self, query: str, *args: Any, **kwargs: Any) -> Any:
            if query.startswith("BEGIN") and wanted:
                query = "; ".join(_begin(query, dict(wanted)))
            return await super().execute(query, *args, **kwargs)

    return WithOptions
