"""Charges what an engine does to the page in progress: see `dbkit.measure.cost`.

The methods of the engine's own dialect instance are wrapped, at about a microsecond a statement; engine events would
cost several times that, do not show the start of the wait for a connection, and count a BEGIN and a ROLLBACK never
sent. With no page in progress a metered engine does what it always did.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from sqlalchemy import AsyncAdaptedQueuePool, Engine, QueuePool, event
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from dbkit.measure.cost import PageCost, current_cost


class _MeteredGet(QueuePool):
    """A queue pool that charges the wait for a connection to the page in progress."""

    def _do_get(self) -> ConnectionPoolEntry:
        cost = current_cost.get()
        if cost is None or cost._in_pool:  # it calls itself where others took the connection that it had seen
            return super()._do_get()
        cost._in_pool = True
        started_s, connect_s = perf_counter(), cost.connect_s
        try:
            return super()._do_get()
        finally:
            cost._in_pool = False
            # what went into opening a connection is charged already, and is not waiting
            cost.pool_s += perf_counter() - started_s - (cost.connect_s - connect_s)


class MeteredQueuePool(_MeteredGet):
    """`QueuePool`, metered: for sync engines."""


class MeteredAsyncQueuePool(_MeteredGet, AsyncAdaptedQueuePool):
    """`AsyncAdaptedQueuePool`, metered: for async engines."""


def meter(engine: Engine) -> None:
    """Charge what `engine` does to the page in progress. An async engine is metered by its `sync_engine`.

    The wait for a connection is charged by the pool's class, one of those above.
    """
    dialect = engine.dialect
    driver = _Asyncpg() if dialect.driver == "asyncpg" else _PsycopgAsync() if dialect.is_async else _Psycopg()
    connect = dialect.connect

    def metered_connect(*args: Any, **kwargs: Any) -> Any:
        cost = current_cost.get()
        if cost is None:
            return connect(*args, **kwargs)
        cost._connecting_since_s = perf_counter()
        try:
            return connect(*args, **kwargs)
        except BaseException:
            _finish_connecting(cost)
            raise

    def connected(dbapi_connection: Any, record: Any) -> None:
        # the last of the "connect" listeners: those before it set the new connection up, and belong to opening it
        cost = current_cost.get()
        if cost is not None and cost._connecting_since_s is not None:
            cost.connections += 1
            _finish_connecting(cost)

    def metered_statement(run: Callable[..., None]) -> Callable[..., None]:
        def metered(cursor: Any, statement: str, *rest: Any) -> None:
            cost = current_cost.get()
            if cost is None or cost._connecting_since_s is not None:
                return run(cursor, statement, *rest)
            connection = driver.connection_of(cursor)
            trips = 1 if driver.in_transaction(connection) else 1 + driver.begins(connection)
            mark = driver.mark(connection, statement)
            started_s = perf_counter()
            try:
                run(cursor, statement, *rest)
            finally:
                cost.db_s += perf_counter() - started_s
                cost.statements += 1
                cost.round_trips += trips + driver.prepares(connection, mark)
            cost.rows += driver.rows(cursor)

        return metered

    def metered_end(run: Callable[[PoolProxiedConnection], None], trips: Callable[[Any], int]) -> Callable[..., None]:
        def metered(dbapi_connection: PoolProxiedConnection) -> None:
            cost = current_cost.get()
            if cost is None or cost._connecting_since_s is not None:
                return run(dbapi_connection)
            connection = driver.plain(dbapi_connection)
            if not driver.in_transaction(connection):
                return run(dbapi_connection)  # sends nothing
            cost.round_trips += trips(connection)
            started_s = perf_counter()
            try:
                run(dbapi_connection)
            finally:
                cost.db_s += perf_counter() - started_s

        return metered

    for name, method in {
        "connect": metered_connect,
        "do_execute": metered_statement(dialect.do_execute),
        "do_execute_no_params": metered_statement(dialect.do_execute_no_params),
        "do_executemany": metered_statement(dialect.do_executemany),
        "do_commit": metered_end(dialect.do_commit, lambda connection: 1),
        "do_rollback": metered_end(dialect.do_rollback, driver.rollback_trips),
    }.items():
        setattr(dialect, name, method)
    event.listen(engine, "connect", connected)


def _finish_connecting(cost: PageCost) -> None:
    assert cost._connecting_since_s is not None
    cost.connect_s += perf_counter() - cost._connecting_since_s
    cost._connecting_since_s = None


class _Psycopg:
    """What psycopg will send besides the statement itself, and what came back.

    Private attributes of psycopg are read, as there are no public ones; a test holds the counts against the wire.
    """

    def connection_of(self, cursor: Any) -> Any:
        return cursor._conn

    def rows(self, cursor: Any) -> int:
        # psycopg makes another `description` each time it is asked for, which costs more than the rest of the meter
        return 0 if (result := cursor.pgresult) is None else int(result.ntuples)

    def plain(self, dbapi_connection: Any) -> Any:
        return dbapi_connection.driver_connection

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.pgconn.transaction_status != 0)  # IDLE

    def begins(self, connection: Any) -> int:
        return 0 if connection.autocommit else 1

    def mark(self, connection: Any, statement: str) -> int:
        return int(connection._prepared._prepared_idx)

    def prepares(self, connection: Any, mark: int) -> int:
        return int(connection._prepared._prepared_idx) - mark

    def rollback_trips(self, connection: Any) -> int:
        # psycopg forgets its prepared statements at a ROLLBACK and has the server forget them too
        return 2 if connection._prepared._names else 1


class _PsycopgAsync(_Psycopg):
    """The same for psycopg's async side behind SQLAlchemy's adapter."""

    def connection_of(self, cursor: Any) -> Any:
        return cursor._adapt_connection._connection

    def rows(self, cursor: Any) -> int:
        return super().rows(cursor._cursor)


class _Asyncpg:
    """The same for asyncpg behind SQLAlchemy's adapter, whose connection is asked rather than asyncpg's."""

    def connection_of(self, cursor: Any) -> Any:
        return cursor._adapt_connection

    def rows(self, cursor: Any) -> int:
        return 0 if cursor._description is None else max(cursor._rowcount, 0)

    def plain(self, dbapi_connection: Any) -> Any:
        return dbapi_connection.dbapi_connection

    def in_transaction(self, connection: Any) -> bool:
        return connection._transaction is not None

    def begins(self, connection: Any) -> int:
        return 0 if connection.autocommit else 1

    def mark(self, connection: Any, statement: str) -> int:
        cache = connection._prepared_statement_cache
        return 1 if cache is None or statement not in cache else 0

    def prepares(self, connection: Any, mark: int) -> int:
        return mark

    def rollback_trips(self, connection: Any) -> int:
        return 1
