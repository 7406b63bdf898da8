"""Charges what an engine does to the page in progress: see `dbkit.measure.cost`.

The connections of the engine's pool, and their cursors, get classes of their own whose methods are timed and counted,
at one or two microseconds a statement. Engine events would cost several times that, do not show when the wait for a
connection began, and count a BEGIN and a ROLLBACK that are never sent. What a driver sends at which call is in
`dbkit.database.drivers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import suppress
from functools import cache, wraps
from time import perf_counter
from traceback import clear_frames
from typing import Any
from weakref import WeakSet

from sqlalchemy import Dialect, Engine, Pool, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from dbkit.database.discarded_rows import count_discarded_rows
from dbkit.database.drivers import MeteredDriver, Operation
from dbkit.database.stacks import STACKS
from dbkit.errors import DbkitError
from dbkit.measure.cost import PageCost, current_cost

_metered: WeakSet[Dialect | Pool] = WeakSet()
_NO_STATEMENTS = ("do_ping", "do_savepoint", "do_release_savepoint", "do_rollback_to_savepoint")
"""Methods of a dialect that execute what the page did not ask for."""


def meter(engine: Engine | AsyncEngine) -> None:
    """Charge what `engine` does from now on to the page in progress; with no page in progress it works as before.

    It can be any engine on a driver of `dbkit.database.stacks`, with any pool. Metering it again changes nothing.
    Raises DbkitError for another driver. A connection that is not the driver's own, but an object around it, raises
    DbkitError when it is used.

    Counted is all that goes through SQLAlchemy or through a DBAPI connection of its pool: statements of events too, and
    rows of a server-side cursor as they are fetched. The following is not: COPY, psycopg's pipeline mode, two-phase
    commits, and what is sent by the driver's own connection under an async engine (`driver_connection`); rows that
    `executemany` throws away; and rows that asyncpg reads for itself, when it looks up a type. What a listener of
    "connect" sends belongs to opening the connection, if it was added before the engine was metered.
    """
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    driver = _find_driver(sync_engine.dialect)
    count_discarded_rows()
    if sync_engine.dialect not in _metered:
        _meter_dialect(sync_engine.dialect)
    if sync_engine.pool not in _metered:
        _meter_pool(sync_engine.pool, driver)
        event.listen(sync_engine.pool, "connect", _finish_connecting)


def cut_connection_of(engine: Engine | AsyncEngine, cost: PageCost) -> None:
    """Cut the connection that a page of a metered engine got last, where it has one: see `MeteredDriver.cut`."""
    entry = cost.pool_entry
    if entry is not None and entry.dbapi_connection is not None:
        cut_connection(engine, entry.dbapi_connection)


def cut_connection(engine: Engine | AsyncEngine, dbapi_connection: Any) -> None:
    """Cut a connection of a metered engine: see `MeteredDriver.cut`."""
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    _find_driver(sync_engine.dialect).cut(dbapi_connection)


def _find_driver(dialect: Dialect) -> MeteredDriver:
    for stack in STACKS.values():
        if isinstance(dialect, stack.dialect_class) and dialect.is_async == stack.is_async:
            return stack.driver
    usable = ", ".join(dict.fromkeys(stack.dialect for stack in STACKS.values()))
    raise DbkitError(f"cannot measure pages on {dialect.name}+{dialect.driver}: make the engine with one of {usable}")


def _meter_dialect(dialect: Dialect) -> None:
    for name in _NO_STATEMENTS:
        setattr(dialect, name, _without_statements(getattr(dialect, name)))
    _metered.add(dialect)


def _without_statements(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with its round trips charged, and its statements not, as with BEGIN and COMMIT."""

    @wraps(run)
    def metered(*args: Any) -> Any:
        cost = current_cost.get()
        if cost is None:
            return run(*args)
        statements = cost.statements
        try:
            return run(*args)
        finally:
            cost.statements = statements

    return metered


def _meter_pool(pool: Pool, driver: MeteredDriver) -> None:
    """Charge the wait for a connection, and the opening of one; also in pools that are made in place of this one."""
    get, put, create, recreate = pool._do_get, pool._do_return_conn, pool._invoke_creator, pool.recreate

    def metered_get() -> ConnectionPoolEntry:
        cost = current_cost.get()
        if cost is None or cost.in_pool:  # a queue pool calls it again where another page took the connection
            entry = get()
        else:
            cost.in_pool = True
            connect_s, began_at_s = cost.connect_s, perf_counter()
            try:
                entry = get()
            finally:
                cost.in_pool = False
                # what went into opening a connection is charged already, and is not waiting
                cost.pool_s += perf_counter() - began_at_s - (cost.connect_s - connect_s)
            cost.pool_entry = entry
        if entry.dbapi_connection is not None:  # it may have been opened before the engine was metered
            _meter_connection(entry.dbapi_connection, driver)
        return entry

    def metered_put(entry: ConnectionPoolEntry) -> None:
        cost = current_cost.get()
        if cost is not None and cost.pool_entry is entry:  # whose connection is another page's from here on
            cost.pool_entry = None
        put(entry)

    def metered_create(record: ConnectionPoolEntry) -> Any:
        cost = current_cost.get()
        if cost is not None:
            cost.connect_began_at_s = perf_counter()
            cost.connect_failed = True  # until it is known better
        try:
            made = create(record)
            _meter_connection(made, driver)
            return made
        except BaseException as error:
            if cost is not None:
                _charge_connecting(cost)
            # its frames hold the connection that was being opened, which else stays open until they are collected
            clear_frames(error.__traceback__)
            raise

    def metered_recreate() -> Pool:
        made = recreate()
        _meter_pool(made, driver)  # it takes over the listeners of this one
        return made

    for name, method in {
        "_do_get": metered_get,
        "_do_return_conn": metered_put,
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
        cost.connect_failed = False
        _charge_connecting(cost)


def _charge_connecting(cost: PageCost) -> None:
    assert cost.connect_began_at_s is not None
    cost.connect_s += perf_counter() - cost.connect_began_at_s
    cost.connect_began_at_s = None


class _Metered:
    """Marks the classes that are made here."""

    __slots__ = ()


def _meter_connection(dbapi_connection: Any, driver: MeteredDriver) -> None:
    connection_class: Any = type(dbapi_connection)
    if issubclass(connection_class, _Metered):
        return
    driver.prepare(dbapi_connection)
    dbapi_connection.__class__ = _connection_class(connection_class, driver)
    if driver.makes_cursors_itself:
        for name in ("cursor_factory", "server_cursor_factory"):
            factory = getattr(dbapi_connection, name)
            is_class = isinstance(factory, type)
            metered = _cursor_class(factory, driver) if is_class else _metered_factory(factory, driver)
            setattr(dbapi_connection, name, metered)


@cache
def _connection_class(connection_class: Any, driver: MeteredDriver) -> type:
    methods = {
        name: _metered_method(getattr(connection_class, name), operation)
        for name, operation in driver.connection.items()
    }
    if not driver.makes_cursors_itself:
        methods["cursor"] = _metered_factory(connection_class.cursor, driver)
    return _subclass(connection_class, methods)


@cache
def _cursor_class(cursor_class: type, driver: MeteredDriver) -> type:
    if issubclass(cursor_class, _Metered):
        return cursor_class
    operations = driver.server_side_cursor if driver.is_server_side(cursor_class) else driver.cursor
    methods = {
        name: (_metered_iteration if name == "__iter__" else _metered_method)(getattr(cursor_class, name), operation)
        for name, operation in operations.items()
    }
    if "executemany" in methods:
        methods["executemany"] = _counting_sets(methods["executemany"])
    return _subclass(cursor_class, methods)


def _subclass(base: type, methods: dict[str, Callable[..., Any]]) -> type:
    # with no attribute of its own, so that an object of `base` can become one of it
    return type(base.__name__, (base, _Metered), {"__slots__": (), "__module__": base.__module__, **methods})


def _metered_factory(make: Callable[..., Any], driver: MeteredDriver) -> Callable[..., Any]:
    @wraps(make)
    def metered(*args: Any, **kwargs: Any) -> Any:
        cursor = make(*args, **kwargs)
        made_as: Any = type(cursor)
        cursor.__class__ = _cursor_class(made_as, driver)
        return cursor

    return metered


def _metered_method(run: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    mark_sent, charge = operation.mark, operation.charge

    @wraps(run)
    def metered(target: Any, *args: Any, **kwargs: Any) -> Any:
        cost = current_cost.get()
        if cost is None or cost.connect_began_at_s is not None or (mark := mark_sent(target)) is None:
            return run(target, *args, **kwargs)
        began_at_s = perf_counter()
        try:
            result = run(target, *args, **kwargs)
        except BaseException as error:
            cost.db_s += perf_counter() - began_at_s
            charge(cost, target, mark, error)
            raise
        cost.db_s += perf_counter() - began_at_s
        charge(cost, target, mark, None)
        return result

    return metered


def _metered_iteration(run: Callable[..., Iterator[Any]], operation: Operation) -> Callable[..., Iterator[Any]]:
    @wraps(run)
    def metered(cursor: Any) -> Iterator[Any]:
        rows = run(cursor)
        fetch = _metered_method(lambda cursor: next(rows), operation)
        with suppress(StopIteration):
            while True:
                yield fetch(cursor)

    return metered


def _counting_sets(run: Callable[..., Any]) -> Callable[..., Any]:
    """An `executemany` whose every set of parameters is a statement, as the server executes one for each."""

    @wraps(run)
    def metered(cursor: Any, statement: Any, parameter_sets: Any, **kwargs: Any) -> Any:
        if not isinstance(parameter_sets, Sized):
            parameter_sets = list(parameter_sets)
        cost = current_cost.get()
        if cost is not None and cost.connect_began_at_s is None:
            cost.statements += len(parameter_sets)
        return run(cursor, statement, parameter_sets, **kwargs)

    return metered
