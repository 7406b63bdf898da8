"""What each driver sends, and what comes back: the facts that the meter counts by.

Private attributes of the drivers and of SQLAlchemy's adapters are read here, as there are no public ones; tests hold
the counts against the wire, with SQLAlchemy 2.0 and 2.1. When to count is left to `dbkit.database.meter`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
import psycopg
from asyncpg.protocol import Protocol as AsyncpgProtocol
from psycopg.pq import TransactionStatus
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, AsyncAdapt_asyncpg_ss_cursor
from sqlalchemy.dialects.postgresql.psycopg import AsyncAdapt_psycopg_connection, AsyncAdapt_psycopg_ss_cursor

from dbkit.errors import DbkitError
from dbkit.measure.cost import PageCost

Mark = Any
"""What a driver had sent before a call: its own affair. None says that the call will send nothing."""
_FETCHES = ("fetchone", "fetchmany", "fetchall")
_OPEN = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
_FOUND_WHILE_PREPARING = ("42", "3F", "25P02")
"""Beginnings of SQLSTATE: a syntax error or a name that is not there; no such schema; the transaction has failed."""
_FOUND_WHILE_EXECUTING = "42501"
"""The one SQLSTATE of the first class that is not found while preparing: no right to do it."""


@dataclass(frozen=True)
class Operation:
    """A method that sends something: what to read before it is called, and what to charge to a page after it.

    Both get the object that the method is called on. `charge` also gets the error where the method raised one.
    """

    mark: Callable[[Any], Mark]
    charge: Callable[[PageCost, Any, Mark, BaseException | None], None]


class MeteredDriver(Protocol):
    """A driver as the meter sees it: connections and cursors as SQLAlchemy uses them, and what their methods send."""

    makes_cursors_itself: bool
    """Whether a connection makes its cursors by `cursor_factory` and `server_cursor_factory`, as psycopg does."""
    connection: Mapping[str, Operation]
    """The methods of a connection that send something, but for those that make a cursor."""
    cursor: Mapping[str, Operation]
    """The methods of a cursor that send something."""
    server_side_cursor: Mapping[str, Operation]
    """Those of a cursor whose rows stay with the server until they are fetched."""

    def __hash__(self) -> int:
        """By what it is: classes are made once for each driver."""

    def is_server_side(self, cursor_class: type) -> bool:
        """Whether cursors of that class leave their rows with the server."""

    def prepare(self, dbapi_connection: Any) -> None:
        """Make a connection ready to be metered. Raises DbkitError where it is not the driver's own."""

    def cut(self, dbapi_connection: Any) -> None:
        """End a connection without a word to the server, so that who waits for an answer on it gets an error.

        In the thread that uses it, unless that one waits for the driver.
        """


class Psycopg:
    """psycopg's sync side, which SQLAlchemy uses as it is."""

    makes_cursors_itself = True
    _iteration = "__next__"

    def __init__(self) -> None:
        fetch = Operation(self._mark_fetch, self._charge_fetch)
        self.connection: Mapping[str, Operation] = {
            "commit": Operation(self._mark_end, self._charge_end),
            "rollback": Operation(self._mark_end, self._charge_end),
        }
        self.cursor: Mapping[str, Operation] = {
            "execute": Operation(self._mark_cursor, self._charge_statement),
            "executemany": Operation(self._mark_cursor, self._charge_many),
        }
        self.server_side_cursor: Mapping[str, Operation] = {
            "execute": Operation(self._mark_cursor, self._charge_declare),
            "close": Operation(self._mark_close, self._charge_close),
            **dict.fromkeys((*_FETCHES, self._iteration), fetch),
        }

    def is_server_side(self, cursor_class: type) -> bool:
        return issubclass(cursor_class, psycopg.ServerCursor)

    def prepare(self, dbapi_connection: Any) -> None:
        _expect(dbapi_connection, psycopg.Connection)

    def cut(self, dbapi_connection: Any) -> None:
        pgconn = self._own_connection(dbapi_connection).pgconn
        with suppress(psycopg.OperationalError, OSError):  # it is closed already
            shut_down(pgconn.socket)

    def _own_connection(self, dbapi_connection: Any) -> Any:
        return dbapi_connection

    def _own_cursor(self, cursor: Any) -> Any:
        """psycopg's cursor; None where it is closed."""
        return cursor

    def _mark_cursor(self, cursor: Any) -> Mark:
        return _mark_psycopg(self._own_cursor(cursor)._conn)

    def _charge_statement(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        own = self._own_cursor(cursor)
        cost.statements += 1
        if error is not None:
            _charge_until(error, cost, own._conn, mark)
            return
        _charge_sent(cost, own._conn, mark)
        # `description` would be made again each time it is asked for, which costs more than the rest of the meter
        results = own._results
        if len(results) == 1:
            cost.rows += results[0].ntuples
        elif results:  # of several statements in one text, which are sent at once
            cost.statements += len(results) - 1
            cost.rows += sum(result.ntuples for result in results)

    def _charge_many(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        # all in one pipeline, in which only a BEGIN is waited for
        own = self._own_cursor(cursor)
        if error is not None:
            _charge_until(error, cost, own._conn, mark)
        else:
            cost.round_trips += mark[0] + 1
            cost.prepares += own._conn._prepared._prepared_idx - mark[1]
        cost.rows += sum(result.ntuples for result in own._results)

    def _charge_declare(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        # DECLARE, and then a question after the columns
        cost.statements += 1
        if error is None:
            cost.round_trips += mark[0] + 2
        else:
            _charge_until(error, cost, self._own_cursor(cursor)._conn, mark)

    def _mark_fetch(self, cursor: Any) -> Mark:
        own = self._own_cursor(cursor)
        return None if own is None else (own.pgresult,)

    def _charge_fetch(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        result = self._own_cursor(cursor).pgresult
        if result is not mark[0]:
            cost.round_trips += 1
            cost.rows += result.ntuples
        elif error is not None and _was_sent(error):
            cost.round_trips += 1

    def _mark_close(self, cursor: Any) -> Mark:
        own = self._own_cursor(cursor)
        is_sent = own is not None and not own.closed and _status(own._conn) == TransactionStatus.INTRANS
        return True if is_sent else None

    def _charge_close(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        cost.round_trips += 1

    def _mark_end(self, dbapi_connection: Any) -> Mark:
        own = self._own_connection(dbapi_connection)
        return _mark_psycopg(own) if _status(own) in _OPEN else None

    def _charge_end(self, cost: PageCost, dbapi_connection: Any, mark: Mark, error: BaseException | None) -> None:
        # psycopg forgets its prepared statements at a ROLLBACK and has the server forget them too
        if error is None:
            _charge_sent(cost, self._own_connection(dbapi_connection), mark)
        else:
            cost.round_trips += 1


class PsycopgAsync(Psycopg):
    """psycopg's async side behind SQLAlchemy's adapter."""

    makes_cursors_itself = False
    _iteration = "__iter__"

    def is_server_side(self, cursor_class: type) -> bool:
        return issubclass(cursor_class, AsyncAdapt_psycopg_ss_cursor)

    def prepare(self, dbapi_connection: Any) -> None:
        _expect(dbapi_connection, AsyncAdapt_psycopg_connection)
        _expect(dbapi_connection._connection, psycopg.AsyncConnection)

    def _own_connection(self, dbapi_connection: Any) -> Any:
        return dbapi_connection._connection

    def _own_cursor(self, cursor: Any) -> Any:
        return cursor._cursor


Sent = tuple[int, int, int]
"""BEGINs that psycopg will send before the next statement, statements prepared so far, and those still known."""


def _status(connection: Any) -> int:
    return int(connection.pgconn.transaction_status)


def _mark_psycopg(connection: Any) -> Sent:
    prepared = connection._prepared
    begins = 0 if connection._autocommit or connection.pgconn.transaction_status else 1  # 0 is IDLE
    return begins, prepared._prepared_idx, len(prepared._names)


def _charge_sent(cost: PageCost, connection: Any, mark: Sent) -> None:
    """Charge a statement with its BEGIN, with preparing it, and with what the server had to forget."""
    begins, prepared_before, known_before = mark
    manager = connection._prepared
    cost.round_trips += begins + 1
    if prepared := manager._prepared_idx - prepared_before:
        cost.prepares += prepared
        cost.round_trips += prepared
    if len(manager._names) - known_before < prepared:
        cost.round_trips += 1


def _charge_until(error: BaseException, cost: PageCost, connection: Any, mark: Sent) -> None:
    """Charge what was sent of a statement until `error` was raised."""
    begins, prepared_before, known_before = mark
    if not _was_sent(error):  # the BEGIN is sent before the parameters are looked at
        cost.round_trips += begins if _status(connection) in _OPEN else 0
        return
    manager = connection._prepared
    prepared = manager._prepared_idx - prepared_before
    cost.prepares += prepared
    cost.round_trips += begins + 1 + prepared
    if prepared and len(manager._names) == known_before and _could_not_be_prepared(error, manager.prepare_threshold):
        cost.round_trips -= 1


def _could_not_be_prepared(error: BaseException, prepare_threshold: int | None) -> bool:
    # a statement prepared at its first execution is forgotten after any error: what went wrong says where
    sqlstate = getattr(error, "sqlstate", None) or ""
    return bool(prepare_threshold) or (
        sqlstate.startswith(_FOUND_WHILE_PREPARING) and sqlstate != _FOUND_WHILE_EXECUTING
    )


def _was_sent(error: BaseException) -> bool:
    """Whether what raised `error` had been sent; else psycopg refused it: a parameter that it cannot send."""
    if isinstance(error, psycopg.Error):
        return error.sqlstate is not None or isinstance(error, psycopg.OperationalError)
    return not isinstance(error, Exception)  # who waited was killed


class _CountedProtocol(AsyncpgProtocol):  # type: ignore[misc]
    """An asyncpg connection's protocol that counts the requests which asyncpg's own `queries_count` leaves out.

    Each request is waited for. So what asyncpg sends of its own accord is counted too: it closes statements, and looks
    up types.
    """

    other_requests = 0
    prepares = 0
    """Statements prepared under a name."""
    rows_fetched = 0
    """Rows of cursors."""

    async def prepare(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.other_requests += 1
        if name:
            self.prepares += 1
        try:
            return await AsyncpgProtocol.prepare(self, name, *args, **kwargs)
        except asyncpg.PostgresError:
            self.other_requests += 1  # asyncpg then sends a Sync, and waits for its answer
            raise

    async def bind(self, *args: Any, **kwargs: Any) -> Any:
        self.other_requests += 1
        try:
            return await AsyncpgProtocol.bind(self, *args, **kwargs)
        except asyncpg.PostgresError as error:
            if error.severity is None:  # not the server's: asyncpg refused to send a parameter
                self.other_requests -= 1
            raise

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        answer = await AsyncpgProtocol.execute(self, *args, **kwargs)
        self.rows_fetched += len(answer[0])
        return answer

    def close_statement(self, *args: Any, **kwargs: Any) -> Any:
        self.other_requests += 1
        return AsyncpgProtocol.close_statement(self, *args, **kwargs)

    def close_portal(self, *args: Any, **kwargs: Any) -> Any:
        self.other_requests += 1
        return AsyncpgProtocol.close_portal(self, *args, **kwargs)


class Asyncpg:
    """asyncpg behind SQLAlchemy's adapter."""

    makes_cursors_itself = False

    def __init__(self) -> None:
        end = Operation(self._mark_end, self._charge_trips)
        fetch = Operation(self._mark, self._charge_fetch)
        ping = Operation(self._mark, self._charge_trips)
        self.connection: Mapping[str, Operation] = {"commit": end, "rollback": end, "ping": ping}
        self.cursor: Mapping[str, Operation] = {
            "execute": Operation(self._mark, self._charge_statement),
            "executemany": Operation(self._mark, self._charge_trips),
        }
        # closing one sends nothing: the server forgets it at the end of the transaction
        self.server_side_cursor: Mapping[str, Operation] = {
            "execute": self.cursor["execute"],
            **dict.fromkeys(_FETCHES, fetch),
        }

    def is_server_side(self, cursor_class: type) -> bool:
        return issubclass(cursor_class, AsyncAdapt_asyncpg_ss_cursor)

    def prepare(self, dbapi_connection: Any) -> None:
        _expect(dbapi_connection, AsyncAdapt_asyncpg_connection)
        protocol = dbapi_connection._connection._protocol
        if not isinstance(protocol, _CountedProtocol):
            _expect(protocol, AsyncpgProtocol)
            protocol.__class__ = _CountedProtocol

    def cut(self, dbapi_connection: Any) -> None:
        dbapi_connection._connection.terminate()

    def _mark(self, connection_or_cursor: Any) -> Mark:
        # of a connection that is closed there is none
        protocol = connection_or_cursor._connection._protocol
        if protocol is None:
            return None
        requests = protocol.queries_count + protocol.other_requests
        return protocol, requests, protocol.prepares, protocol.rows_fetched

    def _mark_end(self, dbapi_connection: Any) -> Mark:
        return None if dbapi_connection._transaction is None else self._mark(dbapi_connection)

    def _charge_trips(self, cost: PageCost, target: Any, mark: Mark, error: BaseException | None) -> None:
        _charge_requests(cost, mark)

    def _charge_statement(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        cost.statements += 1
        _charge_requests(cost, mark)
        if error is None:
            cost.rows += len(cursor._rows)  # all of them, but for a server-side cursor

    def _charge_fetch(self, cost: PageCost, cursor: Any, mark: Mark, error: BaseException | None) -> None:
        _charge_requests(cost, mark)
        cost.rows += mark[0].rows_fetched - mark[3]


def _charge_requests(cost: PageCost, mark: Mark) -> None:
    protocol, requests, prepares, _ = mark
    cost.round_trips += protocol.queries_count + protocol.other_requests - requests
    cost.prepares += protocol.prepares - prepares


def shut_down(descriptor: int) -> None:
    """End a socket both ways; whoever waits for it is woken up. It stays to be closed by its owner."""
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.shutdown(socket.SHUT_RDWR)


def _expect(connection: Any, expected: type) -> None:
    # by its type: something around a connection may claim to be one
    if not issubclass(type(connection), expected):
        found = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise DbkitError(f"cannot measure pages on a connection of {found}: expected {expected.__qualname__}")
