"""The meter on rows that stay with the server until they are fetched, held against the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from dbkit.database.meter import meter
from dbkit.database.settings import PageEnd
from dbkit.measure.cost import PageCost, current_cost
from dbkit.paging import PageFunction
from dbkit.todo.models import Todo
from tests.users_engines import DRIVERS, Left, assert_costs_what_passes, assert_parts_add_up, read, users_engine
from tests.wire import WireProxy

ASYNC_DRIVERS = ("psycopg_async", "asyncpg")
WARM_PAGES = 8
"""So many that psycopg would have prepared a statement, if it prepared those."""
ROW_COUNTS = (0, 1, 7, 50, 51, 1100)
"""None, one, some, as many as asyncpg's adapter fetches first, one more, and more than it fetches at once."""
PARTIAL = 9
"""Rows after which a page has seen enough."""
SLEEPS, SLEEP_S = 12, 0.01

NUMBERS = text("SELECT n FROM generate_series(1, :rows) AS n")


def todos(rows: int) -> Any:
    return select(Todo).order_by(Todo.id).limit(rows)


# Ways to read in parts, and to stop: each is a page function of a number of rows


def all_by_yield_per(session: Session, rows: int) -> list[str]:
    return [todo.title for todo in session.scalars(todos(rows).execution_options(yield_per=10))]


def all_by_stream_results(session: Session, rows: int) -> list[int]:
    return list(session.scalars(NUMBERS, {"rows": rows}, execution_options={"stream_results": True}))


def all_at_once(session: Session, rows: int) -> list[str]:
    return list(session.scalars(todos(rows), execution_options={"stream_results": True}).all())


def all_in_partitions(session: Session, rows: int) -> list[list[str]]:
    result = session.scalars(todos(rows), execution_options={"stream_results": True, "max_row_buffer": 20})
    return [[todo.title for todo in part] for part in result.partitions(7)]


def all_by_fetchmany(session: Session, rows: int) -> list[Any]:
    result = session.connection().execution_options(stream_results=True).execute(NUMBERS, {"rows": rows})
    read: list[Any] = []
    while part := result.fetchmany(4):
        read += part
    return read


def two_at_the_same_time(session: Session, rows: int) -> list[Any]:
    options = {"yield_per": 5}
    one, other = (session.scalars(NUMBERS, {"rows": rows}, execution_options=options) for _ in "12")
    return list(zip(one, other, strict=True))


def some_then_closed(session: Session, rows: int) -> None:
    with session.scalars(todos(rows), execution_options={"yield_per": 4}) as result:
        for number, _ in enumerate(result):
            if number == PARTIAL:
                break


def first_row_alone(session: Session, rows: int) -> Any:
    return session.execute(NUMBERS, {"rows": rows}, execution_options={"stream_results": True}).first()


def some_then_left_open(session: Session, rows: int) -> None:
    result = session.scalars(todos(rows), execution_options={"yield_per": 4})
    for number, _ in enumerate(result):
        if number == PARTIAL:
            break


def none_then_closed(session: Session, rows: int) -> None:
    session.execute(NUMBERS, {"rows": rows}, execution_options={"yield_per": 4}).close()


def some_then_raised(session: Session, rows: int) -> None:
    for number, _ in enumerate(session.scalars(todos(rows), execution_options={"yield_per": 4})):
        if number == PARTIAL:
            raise Left


def some_then_raised_within(session: Session, rows: int) -> None:
    with session.execute(NUMBERS, {"rows": rows}, execution_options={"yield_per": 4}) as result:
        result.fetchmany(PARTIAL)
        raise Left


def some_then_ended(session: Session, rows: int) -> None:
    session.scalars(NUMBERS, {"rows": rows}, execution_options={"yield_per": 4}).fetchmany(PARTIAL)
    session.rollback()
    session.scalar(text("SELECT 1"))


async def awaited_scalars(session: AsyncSession, rows: int) -> list[str]:
    return [todo.title async for todo in await session.stream_scalars(todos(rows))]


async def awaited_yield_per(session: AsyncSession, rows: int) -> list[Any]:
    result = await session.stream(NUMBERS, {"rows": rows}, execution_options={"yield_per": 6})
    return [number async for (number,) in result]


async def awaited_partitions(session: AsyncSession, rows: int) -> list[Any]:
    result = await session.stream_scalars(todos(rows))
    return [[todo.title for todo in part] async for part in result.partitions(7)]


async def awaited_all(session: AsyncSession, rows: int) -> list[Any]:
    return list(await (await session.stream(NUMBERS, {"rows": rows})).all())


async def awaited_some_then_closed(session: AsyncSession, rows: int) -> None:
    result = await session.stream_scalars(todos(rows).execution_options(yield_per=4))
    await result.fetchmany(PARTIAL)
    await result.close()


async def awaited_some_then_left_open(session: AsyncSession, rows: int) -> None:
    await (await session.stream_scalars(todos(rows))).fetchmany(PARTIAL)


async def awaited_some_then_raised(session: AsyncSession, rows: int) -> None:
    number = 0
    async for _ in await session.stream_scalars(todos(rows).execution_options(yield_per=4)):
        number += 1
        if number > PARTIAL:
            raise Left


PLAIN: tuple[PageFunction, ...] = (
    *(all_by_yield_per, all_by_stream_results, all_at_once, all_in_partitions, all_by_fetchmany, two_at_the_same_time),
    *(some_then_closed, first_row_alone, none_then_closed, some_then_left_open),
    *(some_then_raised, some_then_raised_within, some_then_ended),
)
AWAITED: tuple[PageFunction, ...] = (
    *(awaited_scalars, awaited_yield_per, awaited_partitions, awaited_all),
    *(awaited_some_then_closed, awaited_some_then_left_open, awaited_some_then_raised),
)


def name_of(function: Callable[..., Any]) -> str:
    return function.__name__


# A cursor that a page leaves open: psycopg says so where it is dropped
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.mark.parametrize("function", PLAIN, ids=name_of)
@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_read_in_parts_cost_what_passes_on_the_wire(
    proxy: WireProxy, url: str, driver: str, function: PageFunction
) -> None:
    ends: tuple[PageEnd, ...] = ("rollback", "commit")
    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, function, 1)
        for rows in ROW_COUNTS:
            assert_costs_what_passes(proxy, reader, function, rows)
        for end in ends * (WARM_PAGES // 2):
            assert_costs_what_passes(proxy, reader, function, 51, end=end)


@pytest.mark.parametrize("function", AWAITED, ids=name_of)
@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_rows_streamed_to_an_async_page_cost_what_passes_on_the_wire(
    proxy: WireProxy, url: str, driver: str, function: PageFunction
) -> None:
    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, function, 1)
        for rows in (*ROW_COUNTS, *[51] * WARM_PAGES):
            assert_costs_what_passes(proxy, reader, function, rows)


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_engine_whose_every_query_streams(proxy: WireProxy, url: str, driver: str) -> None:
    def page(session: Session, rows: int) -> Any:
        first = list(session.scalars(todos(rows)))
        return first, session.scalar(text("SELECT count(*) FROM dbkit.todo"))

    with users_engine(driver, url, execution_options={"stream_results": True}) as reader:
        meter(reader.engine)
        read(reader, page, 1)
        for rows in ROW_COUNTS:
            assert assert_costs_what_passes(proxy, reader, page, rows).statements == 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_fails_while_rows_are_fetched(proxy: WireProxy, url: str, driver: str) -> None:
    # in the first row of a fetch, as rows before it in the same one are on the wire and are lost
    fails_at = {"psycopg": 10, "psycopg_async": 10, "asyncpg": 51}[driver]
    statement = text(f"SELECT 1 / (n - {fails_at}) FROM generate_series(1, :rows) AS n")

    def page(session: Session, rows: int) -> None:
        result = session.scalars(statement, {"rows": rows}, execution_options={"yield_per": 9})
        for _ in result:
            pass

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, page, 1)
        for _ in range(WARM_PAGES):
            assert assert_costs_what_passes(proxy, reader, page, 100).rows > 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_statement_that_fails_before_any_row_is_fetched(proxy: WireProxy, url: str, driver: str) -> None:
    def no_such_table(session: Session, rows: int) -> None:
        session.execute(text("SELECT * FROM no_such_table"), execution_options={"stream_results": True})

    def no_such_value(session: Session, rows: int) -> None:
        session.execute(text("SELECT (:n)::int"), {"n": object()}, execution_options={"stream_results": True})

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, all_at_once, 1)
        for _ in range(3):
            assert_costs_what_passes(proxy, reader, no_such_table, 1, not_on_wire=1)
            # psycopg then asks the server whether there is such a cursor, before it closes it
            assert_costs_what_passes(proxy, reader, no_such_value, 1, not_on_wire=1 if driver == "asyncpg" else 0)


@pytest.mark.parametrize("driver", DRIVERS)
def test_waiting_for_rows_is_time_in_the_database(url: str, driver: str) -> None:
    def page(session: Session, rows: int) -> None:
        slowly = text("SELECT pg_sleep(:seconds) FROM generate_series(1, :rows)")
        values = {"seconds": SLEEP_S, "rows": rows}
        for _ in session.scalars(slowly, values, execution_options={"yield_per": 3}):
            pass

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, page, 0)
        cost = read(reader, page, SLEEPS)
        assert cost.db_s >= SLEEPS * SLEEP_S
        assert cost.rows == SLEEPS
        assert_parts_add_up(cost)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_are_charged_to_the_page_that_fetches_them(url: str, driver: str) -> None:
    others: list[PageCost] = []

    def page(session: Session, rows: int) -> None:
        result = session.scalars(NUMBERS, {"rows": rows}, execution_options={"yield_per": 100})
        with PageCost() as cost:
            result.fetchmany(300)
        others.append(cost)
        assert len(list(result)) == rows - 300

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, page, 1000)
        cost = read(reader, page, 1000)
    other = others[-1]
    assert (cost.statements, other.statements) == (1, 0)
    assert other.rows >= 200 and cost.rows + other.rows == 1000
    assert other.round_trips > 0 and other.db_s > 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_fetched_without_a_page_are_nobody_s(url: str, driver: str) -> None:
    def page(session: Session, rows: int) -> None:
        result = session.scalars(NUMBERS, {"rows": rows}, execution_options={"yield_per": 100})
        token = current_cost.set(None)
        result.fetchmany(300)
        result.close()
        current_cost.reset(token)

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        assert read(reader, page, 1000).rows <= 100


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_cursor_of_a_connection_is_metered_as_the_session_s_are(proxy: WireProxy, url: str, driver: str) -> None:
    def page(session: Session, rows: int) -> int:
        connection: Any = session.connection().connection
        cursor = connection.cursor(server_side=True) if driver == "asyncpg" else connection.cursor("named")
        parameter = "$1::int" if driver == "asyncpg" else "%s"
        cursor.execute(f"SELECT generate_series(1, {parameter})", (rows,))
        first = [cursor.fetchone(), *cursor.fetchmany(3)]
        rest = list(cursor) if driver != "asyncpg" else cursor.fetchall()  # SQLAlchemy's adapter cannot iterate it
        cursor.close()
        assert [number for (number,) in [*first, *rest]] == list(range(1, rows + 1))
        return rows

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, page, 5)
        for rows in (4, 50, 104, 105, 1100):
            assert_costs_what_passes(proxy, reader, page, rows)
