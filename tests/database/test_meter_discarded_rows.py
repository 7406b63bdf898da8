"""The rows that `unique()` throws away: those that came over the wire, without those that the page was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, joinedload

from dbkit.database.meter import meter
from dbkit.paging import STRATEGIES, PageFunction, joined, lazy
from dbkit.todo.models import Comment, Todo, User
from tests.users_engines import DRIVERS, Left, read, users_engine
from tests.wire import WireProxy

ASYNC_DRIVERS = ("psycopg_async", "asyncpg")
TODOS, COMMENTS = 7, 14
"""Each of them has two comments, so that half of the rows of a join only bring one more."""

TITLES = select(Todo.title).join(Todo.comments).where(Todo.id <= TODOS).order_by(Comment.id)
WITH_COMMENTS = select(Todo).options(joinedload(Todo.comments)).where(Todo.id <= TODOS).order_by(Todo.id)
OWNERS = select(User).join(User.todos).where(Todo.id <= TODOS).order_by(Todo.id)


def name_of(function: Callable[..., Any]) -> str:
    return function.__name__


# What each of these returns, or has in a list, are the rows and objects that it was given


def all_scalars(session: Session) -> Any:
    return session.scalars(WITH_COMMENTS).unique().all()


def all_rows(session: Session) -> Any:
    return session.execute(WITH_COMMENTS).unique().all()


def all_of_several_entities(session: Session) -> Any:
    several = select(Todo, User).join(Todo.user).options(joinedload(Todo.comments)).where(Todo.id <= TODOS)
    return session.execute(several).unique().all()


def iterated(session: Session) -> Any:
    return list(session.scalars(WITH_COMMENTS).unique())


def iterated_and_left(session: Session) -> Any:
    result = session.execute(WITH_COMMENTS).unique()
    given = [next(result), next(result)]
    given += result.fetchmany(3)
    return [*given, *result]


def in_partitions(session: Session) -> Any:
    return [todo for part in session.scalars(WITH_COMMENTS).unique().partitions(3) for todo in part]


def by_fetchmany(session: Session) -> Any:
    result = session.execute(WITH_COMMENTS).unique()
    given: list[Any] = []
    while part := result.fetchmany(2):
        given += part
    return given


def by_fetchone(session: Session) -> Any:
    result = session.execute(WITH_COMMENTS).unique()
    given = []
    while (row := result.fetchone()) is not None:
        given.append(row)
    return given


def the_only_one(session: Session) -> Any:
    return [session.scalars(WITH_COMMENTS.where(Todo.id == 3)).unique().one()]


def the_only_row(session: Session) -> Any:
    return [session.execute(WITH_COMMENTS.where(Todo.id == 3)).unique().one_or_none()]


def the_only_scalar(session: Session) -> Any:
    return [session.execute(WITH_COMMENTS.where(Todo.id == 3)).unique().scalar_one()]


def nothing(session: Session) -> Any:
    return session.scalars(WITH_COMMENTS.where(Todo.id < 0)).unique().all()


def a_query(session: Session) -> Any:
    return session.query(Todo).options(joinedload(Todo.comments)).filter(Todo.id <= TODOS).all()


def a_query_iterated(session: Session) -> Any:
    return list(session.query(User).join(User.todos).filter(Todo.id <= TODOS))


def a_query_s_only_one(session: Session) -> Any:
    return [session.query(Todo).options(joinedload(Todo.comments)).filter(Todo.id == 5).one()]


def filtered_by_the_application(session: Session) -> Any:
    return session.scalars(OWNERS).unique().all()


def of_the_core(session: Session) -> Any:
    return session.execute(TITLES).unique().all()


def of_the_core_iterated(session: Session) -> Any:
    return [row for row in session.connection().execute(TITLES).unique()]


def of_the_core_by_fetchmany(session: Session) -> Any:
    result = session.connection().execute(TITLES).scalars().unique()
    given: list[Any] = []
    while part := result.fetchmany(3):
        given += part
    return given


def of_the_core_by_fetchone(session: Session) -> Any:
    result = session.connection().execute(TITLES).unique()
    given = []
    while (row := result.fetchone()) is not None:
        given.append(row)
    return given


def mappings(session: Session) -> Any:
    return session.connection().execute(TITLES).mappings().unique().all()


def columns(session: Session) -> Any:
    rows = select(Comment.id, Comment.todo_id).where(Comment.todo_id <= TODOS)
    return session.connection().execute(rows).columns("todo_id").unique().all()


def by_a_strategy(session: Session) -> Any:
    return session.scalars(TITLES).unique(lambda title: len(title) % 2).all()


def of_a_server_side_cursor(session: Session) -> Any:
    result = session.execute(WITH_COMMENTS, execution_options={"stream_results": True}).unique()
    return [next(result), *result]


def of_a_server_side_cursor_in_parts(session: Session) -> Any:
    result = session.connection().execution_options(yield_per=4).execute(TITLES).unique()
    return [*result.fetchmany(2), *result.fetchmany(2), *result]


def frozen(session: Session) -> Any:
    return session.execute(TITLES).freeze()().unique().all()


def filtered_beside_another(session: Session) -> Any:
    result = session.connection().execute(TITLES)
    other = result.mappings().unique()
    given = result.scalars().unique().all()
    assert other.all() == []
    return given


def filtered_twice(session: Session) -> Any:
    return session.execute(WITH_COMMENTS).unique().scalars().unique().all()


def filtered_twice_in_parts(session: Session) -> Any:
    result = session.connection().execute(TITLES).unique()
    return [*result.fetchmany(2), *result.unique().all()]


async def awaited(session: AsyncSession) -> Any:
    return (await session.scalars(WITH_COMMENTS)).unique().all()


async def streamed(session: AsyncSession) -> Any:
    return await (await session.stream(WITH_COMMENTS)).unique().all()


async def streamed_scalars(session: AsyncSession) -> Any:
    return [todo async for todo in (await session.stream_scalars(WITH_COMMENTS)).unique()]


async def streamed_partitions(session: AsyncSession) -> Any:
    result = (await (await session.connection()).stream_scalars(TITLES)).unique()
    return [todo async for part in result.partitions(2) for todo in part]


async def streamed_mappings(session: AsyncSession) -> Any:
    return await (await (await session.connection()).stream(TITLES)).mappings().unique().all()


async def streamed_core(session: AsyncSession) -> Any:
    result = (await (await session.connection()).stream(TITLES)).unique()
    return [*await result.fetchmany(2), *await result.fetchmany(2), *await result.all()]


PLAIN: tuple[PageFunction, ...] = (
    *(all_scalars, all_rows, all_of_several_entities, iterated, iterated_and_left, in_partitions, by_fetchmany),
    *(by_fetchone, the_only_one, the_only_row, the_only_scalar, nothing, a_query, a_query_iterated, a_query_s_only_one),
    *(filtered_by_the_application, of_the_core, of_the_core_iterated, of_the_core_by_fetchmany),
    *(of_the_core_by_fetchone, mappings, columns, by_a_strategy, of_a_server_side_cursor),
    *(of_a_server_side_cursor_in_parts, frozen, filtered_beside_another, filtered_twice, filtered_twice_in_parts),
)
AWAITED: tuple[PageFunction, ...] = (
    *(awaited, streamed, streamed_scalars, streamed_partitions, streamed_mappings, streamed_core),
)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("function", PLAIN, ids=name_of)
def test_what_is_not_given_is_discarded(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    assert_discarded(proxy, url, driver, function)


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
@pytest.mark.parametrize("function", AWAITED, ids=name_of)
def test_what_is_not_given_to_an_async_page(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    assert_discarded(proxy, url, driver, function)


def assert_discarded(proxy: WireProxy, url: str, driver: str, function: PageFunction) -> None:
    given: list[Any] = []

    def page(session: Session) -> None:
        given[:] = function(session)

    async def async_page(session: AsyncSession) -> None:
        given[:] = await function(session)

    with users_engine(driver, url) as reader:
        meter(reader.engine)
        read(reader, joined, 0, TODOS)
        for _ in range(2):
            before = proxy.counts()
            cost = read(reader, async_page if function in AWAITED else page)
            came = (proxy.counts() - before).rows
            assert cost.discarded_rows == came - len(given)
            assert bool(cost.discarded_rows) is (function is not nothing)


DISCARDED = {"lazy": 0, "selectin": 0, "joined": COMMENTS - TODOS, "subquery": 0, "core": 0}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies(seeded_url: str, driver: str, strategy: str) -> None:
    with users_engine(driver, seeded_url) as reader:
        meter(reader.engine)
        meter(reader.engine)
        for _ in range(2):
            assert read(reader, STRATEGIES[strategy], 0, TODOS).discarded_rows == DISCARDED[strategy]


# Rows that no filter has thrown away


def the_first(session: Session) -> None:
    session.scalars(WITH_COMMENTS).unique().first()


def the_first_two(session: Session) -> None:
    result = iter(session.scalars(WITH_COMMENTS).unique())
    next(result), next(result)  # in three rows


def the_first_two_then_raised(session: Session) -> None:
    the_first_two(session)
    raise Left


def none_of_them(session: Session) -> None:
    session.scalars(WITH_COMMENTS).unique()


def one_each(session: Session) -> None:
    session.scalars(select(Todo).options(joinedload(Todo.user)).where(Todo.id <= TODOS)).unique().all()


def without_a_filter(session: Session) -> None:
    assert len(session.scalars(OWNERS).all()) > len(set(session.scalars(OWNERS)))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("function", "discarded"),
    [
        *((the_first, 0), (the_first_two, 1), (the_first_two_then_raised, 1)),
        *((none_of_them, 0), (one_each, 0), (without_a_filter, 0)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_rows_that_a_page_leaves_are_not_discarded(
    seeded_url: str, driver: str, function: PageFunction, discarded: int
) -> None:
    with users_engine(driver, seeded_url) as reader:
        meter(reader.engine)
        assert [read(reader, function).discarded_rows for _ in range(2)] == [discarded] * 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_pages_at_the_same_time_have_their_own(seeded_url: str, driver: str) -> None:
    with users_engine(driver, seeded_url) as reader:
        meter(reader.engine)
        costs = reader.read_at_once([joined, lazy, joined, the_first_two_of_a_list], 0, TODOS)
        assert [cost.discarded_rows for cost in costs] == [COMMENTS - TODOS, 0, COMMENTS - TODOS, 1]


def the_first_two_of_a_list(session: Session, page: int, page_size: int) -> None:
    the_first_two(session)


def test_without_a_page_results_are_as_before(seeded_url: str) -> None:
    engine = create_engine(seeded_url.replace("postgresql://", "postgresql+psycopg://"))
    meter(engine)
    with Session(engine) as session:
        for function in PLAIN:
            assert function(session) is not None
    engine.dispose()
