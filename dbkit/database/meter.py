"""Charges what an engine does to the page in progress: see `dbkit.measure.cost`.

Methods of the engine's own dialect and pool are wrapped, at about a microsecond a statement. Engine events would cost
several times that, do not show when the wait for a connection began, and count a BEGIN and a ROLLBACK that are never
sent. What a driver sends besides a statement is in `dbkit.database.drivers`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any
from weakref import WeakSet

from sqlalchemy import Dialect, Engine, Pool, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from dbkit.database.drivers import MeteredDriver
from dbkit.database.stacks import STACKS
from dbkit.errors import DbkitError
from dbkit.measure.cost import PageCost, current_cost

_metered: WeakSet[Dialect | Pool] = WeakSet()


def meter(engine: Engine | AsyncEngine) -> None:
    """Charge what `engine` does from now on to the page in progress; with no page in progress it works as before.

    It can be any engine on a driver of `dbkit.database.stacks`, with any pool. Metering it again changes nothing.
    Raises DbkitError for another driver.

    Not counted are rows that a server-side cursor fetches later, and what is sent past SQLAlchemy by the driver's own
    connection.
    """
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    driver = _find_driver(sync_engine.dialect)
    if sync_engine.dialect not in _metered:
        _meter_dialect(sync_engine.dialect, driver)
    if sync_engine.pool not in _metered:
        _meter_pool(sync_engine.pool)
        event.listen(sync_engine.pool, "connect", _finish_connecting)


def _find_driver(dialect: Dialect) -> MeteredDriver:
    for stack in STACKS.values():
        if isinstance(dialect, stack.dialect_class) and dialect.is_async == stack.is_async:
            return stack.driver
    usable = ", ".join(dict.fromkeys(stack.dialect for stack in STACKS.values()))
    raise DbkitError(f"cannot measure pages on {dialect.name}+{dialect.driver}: make the engine with one of {usable}")


def _meter_pool(pool: Pool) -> None:
    """Charge the wait for a connection, and the opening of one; also in pools that are made in place of this one."""
    get, create, recreate = pool._do_get, pool._invoke_creator, pool.recreate

    def metered_get() -> ConnectionPoolEntry:
        cost = current_cost.get()
        if cost is None or cost.in_pool:  # a queue pool calls it again where another page took the connection
            return get()
        cost.in_pool = True
        connect_s, began_at_s = cost.connect_s, perf_counter()
        try:
            return get()
        finally:
            cost.in_pool = False
            # what went into opening a connection is charged already, and is not waiting
            cost.pool_s += perf_counter() - began_at_s - (cost.connect_s - connect_s)

    def metered_create(record: ConnectionPoolEntry) -> Any:
        cost = current_cost.get()
        if cost is None:
            return create(record)
        cost.connect_began_at_s = perf_counter()
        try:
            return create(record)
        except BaseException:
            _charge_connecting(cost)
            raise

    def metered_recreate() -> Pool:
        made = recreate()
        _meter_pool(made)  # it takes over the listeners of this one
        return made

    for name, method in {
        "_do_get": metered_get,
        "_invoke_creator": metered_create,
        "recreate": metered_recreate,
    }.items():
        setattr(pool, name, method)
    _metered.add(pool)


def _finish_connecting(dbapi_connection: Any, record: Any) -> None:
    # a listener of "connect": those before it set the new connection up, and belong to opening it
    cost = current_cost.get()
    if cost is not None and cost.connect_began_at_s is not None:
        cost.connections += 1
        _charge_connecting(cost)


def _charge_connecting(cost: PageCost) -> None:
    assert cost.connect_began_at_s is not None
    cost.connect_s += perf_counter() - cost.connect_began_at_s
    cost.connect_began_at_s = None


def _meter_dialect(dialect: Dialect, driver: MeteredDriver) -> None:
    """Charge statements, the ends of transactions, and SQLAlchemy's pre-pings."""
    for name, method in {
        "do_execute": _metered_statement(driver, dialect.do_execute),
        "do_execute_no_params": _metered_statement(driver, dialect.do_execute_no_params),
        "do_executemany": _metered_statement(driver, dialect.do_executemany),
        "do_commit": _metered_end(driver, dialect.do_commit, lambda connection: 1),
        "do_rollback": _metered_end(driver, dialect.do_rollback, driver.rollback_trips),
        "do_ping": _metered_ping(driver, dialect.do_ping),
    }.items():
        setattr(dialect, name, method)
    _metered.add(dialect)


def _metered_statement(driver: MeteredDriver, run: Callable[..., None]) -> Callable[..., None]:
    def metered(cursor: Any, statement: str, *rest: Any) -> None:
        cost = current_cost.get()
        if cost is None or cost.connect_began_at_s is not None:
            return run(cursor, statement, *rest)
        connection = driver.connection_of(cursor)
        trips = 1 if driver.in_transaction(connection) else 1 + driver.begins(connection)
        mark = driver.mark(connection, statement)
        began_at_s = perf_counter()
        try:
            run(cursor, statement, *rest)
        finally:
            cost.db_s += perf_counter() - began_at_s
            cost.statements += 1
            cost.round_trips += trips + driver.prepares(connection, mark)
        cost.rows += driver.rows(cursor)

    return metered


def _metered_end(
    driver: MeteredDriver, run: Callable[[PoolProxiedConnection], None], trips: Callable[[Any], int]
) -> Callable[[PoolProxiedConnection], None]:
    def metered(pooled: PoolProxiedConnection) -> None:
        cost = current_cost.get()
        if cost is None or cost.connect_began_at_s is not None:
            return run(pooled)
        connection = driver.unwrap(pooled.dbapi_connection)
        if not driver.in_transaction(connection):
            return run(pooled)  # sends nothing
        cost.round_trips += trips(connection)
        began_at_s = perf_counter()
        try:
            run(pooled)
        finally:
            cost.db_s += perf_counter() - began_at_s

    return metered


def _metered_ping(driver: MeteredDriver, ping: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def metered(dbapi_connection: Any) -> bool:
        cost = current_cost.get()
        if cost is None or cost.connect_began_at_s is not None:
            return ping(dbapi_connection)
        connection = driver.unwrap(dbapi_connection)
        trips, mark = driver.ping_trips(connection), driver.mark_ping(connection)
        began_at_s = perf_counter()
        try:
            return ping(dbapi_connection)
        finally:
            cost.db_s += perf_counter() - began_at_s
            cost.round_trips += trips + driver.prepares(connection, mark)

    return metered
