"""The meter on engines set up as applications set them up, and on pages that write, held against the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from sqlalchemy import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    StaticPool,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dbkit.database.meter import meter
from dbkit.database.settings import PageEnd
from dbkit.errors import DbkitError
from dbkit.measure.cost import PageCost
from dbkit.paging import PageFunction
from tests.users_engines import DRIVERS, Left, Reader, assert_costs_what_passes, read, users_engine
from tests.wire import WireProxy, upstream_of, wire_proxy

TIMES: tuple[tuple[PageEnd, int], ...] = (("rollback", 1), ("commit", 7), ("rollback", 1))
ENDS = [end for end, times in TIMES for _ in range(times)]
"""psycopg prepares what it has executed five times, and forgets both at a ROLLBACK: pages before, at and after each."""
FAILING_PAGES = 4


class Base(DeclarativeBase):
    """The application's tables."""


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    price: Mapped[int]


@pytest.fixture(scope="module")
def proxy(server_url: str) -> Iterator[WireProxy]:
    with wire_proxy(upstream_of(server_url)) as running:
        yield running


@pytest.fixture(scope="module")
def url(proxy: WireProxy, server_url: str) -> str:
    """A database of the application, with some items in it, through the proxy. No test leaves more of them."""
    name = "of_an_application"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    through_proxy = urlsplit(proxy.url(server_url))._replace(path=f"/{name}").geturl()
    with psycopg.connect(through_proxy) as connection:
        connection.execute("CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, price int NOT NULL)")
        connection.execute("INSERT INTO item (name, price) SELECT 'item ' || n, n FROM generate_series(1, 100) n")
    return through_proxy


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def items(session: Session) -> list[str]:
    """A page that reads: two statements."""
    found = session.scalars(select(Item).where(Item.price < 10).order_by(Item.id)).all()
    session.scalar(select(func.count()).select_from(Item))
    return [item.name for item in found]


def assert_warm_pages(
    proxy: WireProxy, reader: Reader, function: PageFunction = items, *, not_on_wire: int = 0
) -> list[PageCost]:
    """Meter the engine, and read pages that end in both ways; the first opens the connection."""
    meter(reader.engine)
    read(reader, function)
    return [assert_costs_what_passes(proxy, reader, function, end=end, not_on_wire=not_on_wire) for end in ENDS]


def sync_engine_of(reader: Reader) -> Any:
    return reader.engine.sync_engine if isinstance(reader.engine, AsyncEngine) else reader.engine


# Pools


class PoolOfAnApplication(AsyncAdaptedQueuePool):
    """As an application may have one."""


POOLS: dict[str, dict[str, Any]] = {
    "queue": {},
    "queue, last in first out": {"pool_use_lifo": True, "pool_size": 2},
    "static": {"poolclass": StaticPool},
    "assertion": {"poolclass": AssertionPool},
    "pre-ping": {"pool_pre_ping": True},
    "left as it is": {"pool_reset_on_return": None},
    "committed": {"pool_reset_on_return": "commit"},
}


@pytest.mark.parametrize("pool", POOLS)
def test_pools(proxy: WireProxy, url: str, driver: str, pool: str) -> None:
    def page(session: Session) -> list[str]:
        names = items(session)
        if pool == "left as it is":
            session.rollback()
        return names

    with users_engine(driver, url, **POOLS[pool]) as reader:
        assert_warm_pages(proxy, reader, page, not_on_wire=-1 if pool == "pre-ping" else 0)


def test_a_pool_class_of_the_application(proxy: WireProxy, url: str, driver: str) -> None:
    pool_class = QueuePool if driver == "psycopg" else PoolOfAnApplication
    with users_engine(driver, url, poolclass=pool_class) as reader:
        assert_warm_pages(proxy, reader)


@pytest.mark.parametrize("own", [False, True], ids=["the driver's connect", "its own"])
@pytest.mark.parametrize("pool_class", [NullPool, None, StaticPool])
def test_connections_are_counted_whoever_opens_them(
    proxy: WireProxy, url: str, driver: str, pool_class: Any, own: bool
) -> None:
    options = own_creator(driver, url) if own else {}
    with users_engine(driver, url, poolclass=pool_class, **options) as reader:
        meter(reader.engine)
        for number in range(4):
            before = proxy.counts()
            cost = read(reader, items)
            assert cost.connections == (proxy.counts() - before).connections
            assert cost.connections == (1 if number == 0 or pool_class is NullPool else 0)
            assert cost.statements == 2


def own_creator(driver: str, url: str) -> dict[str, Any]:
    if driver == "psycopg":
        return {"creator": lambda: psycopg.connect(url)}
    if driver == "psycopg_async":
        return {"async_creator": lambda: psycopg.AsyncConnection.connect(url)}
    return {"async_creator": lambda: asyncpg.connect(url)}


def test_connections_opened_before_the_engine_was_metered(proxy: WireProxy, url: str, driver: str) -> None:
    with users_engine(driver, url) as reader:
        read(reader, items)
        meter(reader.engine)
        assert_costs_what_passes(proxy, reader, items)
        assert_warm_pages(proxy, reader)


class Around:
    """Something that stands around a connection, as tools that trace an application make it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_an_object_around_a_connection_is_refused_and_not_counted_as_nothing(url: str, driver: str) -> None:
    with users_engine(driver, url, **creator_of_something_around(driver, url)) as reader:
        meter(reader.engine)
        with pytest.raises(DbkitError) as refused:
            read(reader, items)
        assert "Around" in str(refused.value) and str(refused.value).isprintable()


def test_an_object_around_a_connection_of_asyncpg_hides_nothing(proxy: WireProxy, url: str) -> None:
    with users_engine("asyncpg", url, **creator_of_something_around("asyncpg", url)) as reader:
        assert_warm_pages(proxy, reader)


def creator_of_something_around(driver: str, url: str) -> dict[str, Any]:
    [(name, create)] = own_creator(driver, url).items()

    async def create_async() -> Around:
        return Around(await create())

    def create_sync() -> Around:
        return Around(create())

    return {name: create_async if name == "async_creator" else create_sync}


# Prepared statements

PSYCOPG_PREPARES: dict[str, dict[str, Any]] = {
    "never": {"prepare_threshold": None},
    "at once": {"prepare_threshold": 0},
    "the second time": {"prepare_threshold": 1},
}


@pytest.mark.parametrize("prepares", PSYCOPG_PREPARES)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_psycopg_prepares_at_another_time(proxy: WireProxy, url: str, driver: str, prepares: str) -> None:
    with users_engine(driver, url, connect_args=PSYCOPG_PREPARES[prepares]) as reader:
        assert_warm_pages(proxy, reader)
        assert_warm_pages(proxy, reader, writes_each_way)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_psycopg_has_the_server_forget_what_is_too_much(proxy: WireProxy, url: str, driver: str) -> None:
    texts = iter(range(10_000))

    def page(session: Session) -> None:
        for _ in range(7):
            session.scalar(text(f"SELECT {next(texts)}"))

    with users_engine(driver, url, connect_args={"prepare_threshold": 0}) as reader:

        @event.listens_for(sync_engine_of(reader), "connect")
        def keep_few(dbapi_connection: Any, record: Any) -> None:
            getattr(dbapi_connection, "driver_connection", dbapi_connection).prepared_max = 5

        assert_warm_pages(proxy, reader, page)


NUMBERS = count()
ASYNCPG_CACHES: dict[str, dict[str, Any]] = {
    "none of SQLAlchemy's": {"prepared_statement_cache_size": 0},
    "none of asyncpg's": {"statement_cache_size": 0},
    "none": {"prepared_statement_cache_size": 0, "statement_cache_size": 0},
    "small": {"prepared_statement_cache_size": 2, "statement_cache_size": 2},
    "none, with names": {
        "prepared_statement_cache_size": 0,
        "statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"of_ours_{next(NUMBERS)}",
    },
}


@pytest.mark.parametrize("caches", ASYNCPG_CACHES)
def test_asyncpg_keeps_prepared_statements_otherwise(proxy: WireProxy, url: str, caches: str) -> None:
    with users_engine("asyncpg", url, connect_args=ASYNCPG_CACHES[caches]) as reader:
        assert_warm_pages(proxy, reader)
        assert_warm_pages(proxy, reader, writes_each_way)


def test_asyncpg_cache_size_in_the_url(proxy: WireProxy, url: str) -> None:
    joint = "&" if "?" in url else "?"
    with users_engine("asyncpg", f"{url}{joint}prepared_statement_cache_size=0") as reader:
        assert_warm_pages(proxy, reader)


def test_a_driver_that_keeps_no_statement_prepares_none(proxy: WireProxy, url: str, driver: str) -> None:
    # as it is set up behind a pooler; asyncpg still has each statement parsed in a round trip of its own
    never: dict[str, Any] = {"prepare_threshold": None}
    if driver == "asyncpg":
        never = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    with users_engine(driver, url, connect_args=never) as reader:
        assert {cost.prepares for cost in assert_warm_pages(proxy, reader)} == {0}


def test_asyncpg_looks_up_a_type_in_round_trips_of_its_own(proxy: WireProxy, url: str) -> None:
    def page(session: Session) -> None:
        session.scalar(text("SELECT ARRAY[(1, 'a')]"))

    with users_engine("asyncpg", url) as reader:
        meter(reader.engine)
        read(reader, items)
        before = proxy.counts()
        cost = read(reader, page)
        seen = proxy.counts() - before
        assert cost.round_trips == seen.round_trips > 4
        assert cost.prepares == seen.prepares > 1
        assert (cost.statements, cost.rows) == (1, 1)
        assert_costs_what_passes(proxy, reader, page)


# Isolation levels


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", "READ COMMITTED"])
def test_an_isolation_level_of_some_connections(proxy: WireProxy, url: str, driver: str, level: str) -> None:
    def page(session: Session) -> None:
        items(session)
        session.commit()
        session.connection(execution_options={"isolation_level": level})
        items(session)

    with users_engine(driver, url) as reader:
        assert_warm_pages(proxy, reader, page)


def test_an_engine_with_another_isolation_level_on_the_same_pool(proxy: WireProxy, url: str, driver: str) -> None:
    with users_engine(driver, url) as reader:
        autocommit = reader.engine.execution_options(isolation_level="AUTOCOMMIT")
        sync_autocommit = autocommit.sync_engine if isinstance(autocommit, AsyncEngine) else autocommit

        def page(session: Session) -> None:
            items(session)
            session.rollback()
            with Session(sync_autocommit) as other:
                items(other)

        costs = assert_warm_pages(proxy, reader, page)
        assert costs[-1].statements == 4


# Events of the application


def test_sql_of_events_is_the_page_s(proxy: WireProxy, url: str, driver: str) -> None:
    with users_engine(driver, url) as reader:
        engine = sync_engine_of(reader)

        @event.listens_for(engine, "connect")
        def set_up(dbapi_connection: Any, record: Any) -> None:
            execute(dbapi_connection, "SELECT set_config('app.tenant', 'none', false)")
            dbapi_connection.commit()

        @event.listens_for(engine, "checkout")
        def set_tenant(dbapi_connection: Any, record: Any, proxied: Any) -> None:
            execute(dbapi_connection, "SELECT set_config('app.tenant', 'ours', false)")

        @event.listens_for(engine, "begin")
        def set_timeout(connection: Any) -> None:
            connection.exec_driver_sql("SELECT set_config('lock_timeout', '5s', true)")

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def comment(connection: Any, cursor: Any, statement: str, *rest: Any) -> tuple[str, Any]:
            return f"/* of a page */ {statement}", rest[0]

        @event.listens_for(engine, "reset")
        def reset(dbapi_connection: Any, record: Any, state: Any) -> None:
            dbapi_connection.rollback()
            execute(dbapi_connection, "SELECT set_config('app.tenant', 'none', false)")
            dbapi_connection.commit()

        costs = assert_warm_pages(proxy, reader)
        assert costs[0].statements == 2 + 3


def execute(dbapi_connection: Any, statement: str) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute(statement)
    cursor.close()


def test_an_event_that_executes_in_place_of_sqlalchemy(proxy: WireProxy, url: str, driver: str) -> None:
    with users_engine(driver, url) as reader:

        @event.listens_for(sync_engine_of(reader), "do_execute")
        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
            cursor.execute(statement, parameters)
            return True

        assert assert_warm_pages(proxy, reader)[0].statements == 2


def test_what_a_new_connection_is_set_up_with_is_no_cost_of_a_statement(
    proxy: WireProxy, url: str, driver: str
) -> None:
    with users_engine(driver, url, poolclass=NullPool) as reader:

        @event.listens_for(sync_engine_of(reader), "connect")
        def set_up(dbapi_connection: Any, record: Any) -> None:
            for _ in range(3):
                execute(dbapi_connection, "SELECT 1")
            dbapi_connection.commit()

        meter(reader.engine)
        for _ in range(3):
            cost = read(reader, items)
            assert (cost.connections, cost.statements) == (1, 2)


# Pages that write


def insert_many(session: Session) -> None:
    rows = [{"name": f"new {n}", "price": n} for n in range(25)]
    session.execute(insert(Item), rows)
    remove_new(session)


def insert_many_by_core(session: Session) -> None:
    rows = [{"name": f"new {n}", "price": n} for n in range(25)]
    session.connection().execute(insert(Item.__table__), rows)  # type: ignore[arg-type]
    remove_new(session)


def insert_many_returning(session: Session) -> None:
    rows = [{"name": f"new {n}", "price": n} for n in range(25)]
    names = session.scalars(insert(Item).returning(Item.name, sort_by_parameter_order=True), rows).all()
    assert names == [row["name"] for row in rows]
    remove_new(session)


def flush_many(session: Session) -> None:
    session.add_all([Item(name=f"new {n}", price=n) for n in range(25)])
    session.flush()
    remove_new(session)


def flush_and_read_back(session: Session) -> None:
    item = Item(name="new", price=func.abs(-5))
    session.add(item)
    session.flush()
    assert item.id > 0 and item.price == 5
    remove_new(session)


def update_many(session: Session) -> None:
    session.execute(update(Item), [{"id": n, "price": n} for n in range(1, 31)])


def update_by_flush(session: Session) -> None:
    for item in session.scalars(select(Item).where(Item.id <= 20).order_by(Item.id)):
        item.price += 1
    session.flush()


def execute_text_many(session: Session) -> None:
    statement = text("UPDATE item SET price = :price WHERE id = :id")
    session.execute(statement, [{"id": n, "price": n} for n in range(1, 6)])


def execute_text_once_of_many(session: Session) -> None:
    session.execute(text("UPDATE item SET price = :price WHERE id = :id"), [{"id": 1, "price": 1}])


def update_returning(session: Session) -> None:
    changed = session.scalars(update(Item).where(Item.id <= 7).values(price=3).returning(Item.id)).all()
    assert len(changed) == 7


def writes_each_way(session: Session) -> None:
    for page in (insert_many_returning, flush_many, update_by_flush, execute_text_once_of_many):
        page(session)


def remove_new(session: Session) -> None:
    """So that the next page can write the same, however this one ends."""
    session.execute(text("DELETE FROM item WHERE name LIKE 'new%'"))


WRITES: tuple[PageFunction, ...] = (
    *(insert_many, insert_many_by_core, insert_many_returning, flush_many, flush_and_read_back, update_many),
    *(update_by_flush, execute_text_many, execute_text_once_of_many, update_returning),
)


def name_of(function: Callable[..., Any]) -> str:
    return function.__name__


@pytest.mark.parametrize("function", WRITES, ids=name_of)
def test_pages_that_write(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    with users_engine(driver, url) as reader:
        assert_warm_pages(proxy, reader, function)


@pytest.mark.parametrize("function", [insert_many_returning, flush_many], ids=name_of)
def test_rows_inserted_a_few_at_a_time(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    with users_engine(driver, url, insertmanyvalues_page_size=10) as reader:
        costs = assert_warm_pages(proxy, reader, function)
        assert costs[-1].statements == 3 + 1
        assert costs[-1].rows == 25


@pytest.mark.parametrize("function", [update_many, execute_text_many], ids=name_of)
def test_many_sets_of_parameters_in_autocommit(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    with users_engine(driver, url, isolation_level="AUTOCOMMIT") as reader:
        assert_warm_pages(proxy, reader, function)


# Savepoints


def kept(session: Session) -> None:
    with session.begin_nested():
        update_returning(session)


def undone(session: Session) -> None:
    savepoint = session.begin_nested()
    update_returning(session)
    savepoint.rollback()
    items(session)


def left_by_an_error(session: Session) -> None:
    with session.begin_nested():
        update_returning(session)
        raise Left


def one_within_the_other(session: Session) -> None:
    with session.begin_nested():
        items(session)
        try:
            with session.begin_nested():
                session.execute(text("SELECT 1 / 0"))
        except Exception:
            items(session)
    items(session)


@pytest.mark.parametrize(
    ("function", "failing"),
    [(kept, 0), (undone, 0), (left_by_an_error, 0), (one_within_the_other, 1)],
    ids=["kept", "undone", "left by an error", "one within the other"],
)
@pytest.mark.parametrize("prepare", ["as usual", "at once", "never"])
def test_savepoints(
    proxy: WireProxy, url: str, driver: str, prepare: str, function: PageFunction, failing: int
) -> None:
    options: dict[str, Any] = {}
    if prepare != "as usual" and driver != "asyncpg":
        options = {"connect_args": {"prepare_threshold": 0 if prepare == "at once" else None}}
    elif prepare != "as usual":
        options = {"connect_args": {"prepared_statement_cache_size": 3 if prepare == "at once" else 0}}
    with users_engine(driver, url, **options) as reader:
        assert_warm_pages(proxy, reader, function, not_on_wire=failing)


# Statements that fail, and others that are not everyday


def unique_violation(session: Session) -> None:
    session.execute(insert(Item).values(name="item 1", price=1))


def unique_violation_among_many(session: Session) -> None:
    session.connection().execute(
        insert(Item.__table__),  # type: ignore[arg-type]
        [{"name": name, "price": 1} for name in ("item 1", "new 1", "new 2")],
    )


def no_such_table(session: Session) -> None:
    items(session)
    session.execute(text("SELECT * FROM no_such_table"))


def division_by_zero(session: Session) -> None:
    session.execute(text("SELECT 1 / (:n)::int"), {"n": 0})


def division_by_zero_once_prepared(session: Session) -> None:
    for n in (1, 1, 1, 1, 1, 0):
        session.execute(text("SELECT 1 / (:n)::int"), {"n": n})


def parameter_that_cannot_be_sent(session: Session) -> None:
    session.execute(text("SELECT :value"), {"value": object()})


def after_a_failure(session: Session) -> None:
    try:
        unique_violation(session)
    except Exception:
        session.rollback()
    items(session)


def while_the_transaction_is_broken(session: Session) -> None:
    connection = session.connection()
    for _ in range(3):
        try:
            connection.exec_driver_sql("SELECT 1 / 0")
        except Exception:
            continue


FAILING = {
    unique_violation: 1,
    no_such_table: 1,
    division_by_zero: 1,
    division_by_zero_once_prepared: 1,
    parameter_that_cannot_be_sent: 1,
    after_a_failure: 1,
    while_the_transaction_is_broken: 3,
}


@pytest.mark.parametrize("function", FAILING, ids=name_of)
@pytest.mark.parametrize("prepare", ["as usual", "at once", "never"])
def test_pages_that_fail(proxy: WireProxy, url: str, driver: str, prepare: str, function: PageFunction) -> None:
    options: dict[str, Any] = {}
    if prepare != "as usual" and driver != "asyncpg":
        options = {"connect_args": {"prepare_threshold": 0 if prepare == "at once" else None}}
    elif prepare != "as usual":
        options = {"connect_args": {"prepared_statement_cache_size": 3 if prepare == "at once" else 0}}
    with users_engine(driver, url, **options) as reader:
        meter(reader.engine)
        read(reader, items)
        for _ in range(FAILING_PAGES):
            assert_costs_what_passes(proxy, reader, function, not_on_wire=FAILING[function])


def shows(session: Session) -> None:
    session.execute(text("SHOW work_mem")).all()
    session.execute(text("EXPLAIN SELECT * FROM item")).all()
    session.execute(text("VALUES (1), (2)")).all()


def changes_a_table(session: Session) -> None:
    session.execute(text("CREATE TEMP TABLE temporary (n int) ON COMMIT DROP"))
    items(session)
    session.execute(text("ALTER TABLE temporary ADD m int"))
    items(session)
    session.execute(text("DROP TABLE temporary"))
    items(session)


def by_the_driver_s_cursor(session: Session) -> None:
    cursor = session.connection().connection.cursor()
    parameter = "$1::int" if session.get_bind().dialect.driver == "asyncpg" else "%s"
    for _ in range(2):
        cursor.execute(f"SELECT generate_series(1, {parameter})", (3,))
        assert len(cursor.fetchall()) == 3
    cursor.executemany(f"UPDATE item SET price = {parameter}", [(1,), (2,)])
    cursor.close()


@pytest.mark.parametrize("function", [shows, changes_a_table, by_the_driver_s_cursor], ids=name_of)
def test_other_statements(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    with users_engine(driver, url) as reader:
        assert_warm_pages(proxy, reader, function)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_several_statements_in_one_text(proxy: WireProxy, url: str, driver: str) -> None:
    def page(session: Session) -> None:
        session.execute(text("SELECT 1; SELECT generate_series(1, 3)"))

    with users_engine(driver, url) as reader:
        assert {(cost.statements, cost.rows) for cost in assert_warm_pages(proxy, reader, page)} == {(2, 4)}


def make_cursor(connection: Any, **options: Any) -> Any:
    return psycopg.Cursor(connection, **options)


@pytest.mark.parametrize("factory", [psycopg.ClientCursor, make_cursor], ids=name_of)
def test_cursors_of_the_application(proxy: WireProxy, url: str, factory: Any) -> None:
    with users_engine("psycopg", url, connect_args={"cursor_factory": factory}) as reader:
        assert_warm_pages(proxy, reader)
        assert_warm_pages(proxy, reader, writes_each_way)
