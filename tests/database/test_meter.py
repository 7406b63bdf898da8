"""The meter on engines that users made themselves, held against the wire: any driver, any pool, metered twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import Engine, NullPool, StaticPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from dbkit.database.engines import make_engine
from dbkit.database.meter import meter
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.measure.cost import PageCost
from dbkit.paging import STRATEGIES, RenderedPage, joined, read_page
from tests.users_engines import DRIVERS, assert_parts_add_up, read, users_engine
from tests.wire import WireProxy

PAGE, PAGE_SIZE = 3, 20
STATEMENTS = {"lazy": 1 + PAGE_SIZE, "selectin": 2, "joined": 1, "subquery": 2, "core": 1}
WARM_PAGES = 7
"""So many that psycopg has prepared a statement of a page, and the one of a ping."""
READERS = 5


def slow(session: Session, page: int, page_size: int) -> RenderedPage:
    session.execute(text("SELECT pg_sleep(0.03)"))
    return []


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


POOLS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "of one": {"pool_size": 1, "max_overflow": 0},
    "that pings": {"pool_pre_ping": True},
    "that pings, in autocommit": {"pool_pre_ping": True, "isolation_level": "AUTOCOMMIT"},
    "static": {"poolclass": StaticPool},
    "last in, first out": {"pool_use_lifo": True, "isolation_level": "SERIALIZABLE"},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pool", POOLS)
def test_warm_pages_cost_what_passes_on_the_wire(
    proxy: WireProxy, url: str, driver: str, pool: str, strategy: str
) -> None:
    with users_engine(driver, url, **POOLS[pool]) as reader:
        meter(reader.engine)
        read(reader, STRATEGIES[strategy], PAGE, PAGE_SIZE)
        for _ in range(WARM_PAGES):
            before = proxy.counts()
            cost = read(reader, STRATEGIES[strategy], PAGE, PAGE_SIZE)
            seen = proxy.counts() - before
            pings = 1 if "pings" in pool else 0  # an empty statement, which the page did not execute
            assert (cost.statements, cost.statements + pings) == (STATEMENTS[strategy], seen.statements)
            assert cost.round_trips == seen.round_trips
            assert cost.prepares == seen.prepares
            assert cost.rows == seen.rows
            assert cost.connections == seen.connections == 0
            assert cost.connect_s == 0
            assert_parts_add_up(cost)


@pytest.mark.parametrize("options", [{"poolclass": NullPool}, {"pool_size": 1, "pool_recycle": 0}, {"creator": True}])
def test_connections_opened_are_counted_and_are_not_waiting(
    proxy: WireProxy, url: str, driver: str, options: dict[str, Any]
) -> None:
    if "creator" in options:
        options = {"poolclass": NullPool} | own_creator(driver, url)
    with users_engine(driver, url, **options) as reader:
        meter(reader.engine)
        for _ in range(3):
            before = proxy.counts()
            cost = read(reader, joined, PAGE, PAGE_SIZE)
            assert cost.connections == (proxy.counts() - before).connections > 0
            assert cost.statements == STATEMENTS["joined"]
            assert cost.connect_s > 0
            assert_parts_add_up(cost)


def own_creator(driver: str, url: str) -> dict[str, Any]:
    if driver == "psycopg":
        return {"creator": lambda: psycopg.connect(url)}
    if driver == "psycopg_async":
        return {"async_creator": lambda: psycopg.AsyncConnection.connect(url)}
    return {"async_creator": lambda: asyncpg.connect(url)}


@pytest.mark.parametrize("again", ["as it was made", "disposed of", "disposed of twice"])
def test_the_wait_for_a_connection_is_the_pools(seeded_url: str, driver: str, again: str) -> None:
    with users_engine(driver, seeded_url, pool_size=1, max_overflow=0) as reader:
        meter(reader.engine)
        for _ in range({"as it was made": 0, "disposed of": 1, "disposed of twice": 2}[again]):
            read(reader, joined, PAGE, PAGE_SIZE)
            reader.dispose()
        costs = sorted(reader.read_at_once([slow] * READERS, PAGE, PAGE_SIZE), key=lambda cost: cost.pool_s)
        assert [cost.connections for cost in costs] == [1, 0, 0, 0, 0]
        for cost in costs:
            assert cost.statements == 1
            assert_parts_add_up(cost)
        # in theory 1 + 2 + 3 + 4 pages' time for the pool, and 5 in the database
        assert sum(cost.pool_s for cost in costs) > sum(cost.db_s for cost in costs)


def through_the_sync_engine(engine: Engine | AsyncEngine) -> Engine:
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


AGAIN: dict[str, Callable[[Engine | AsyncEngine], Engine | AsyncEngine]] = {
    "the engine": lambda engine: engine,
    "its sync engine": through_the_sync_engine,
    "a copy with other options": lambda engine: engine.execution_options(isolation_level="AUTOCOMMIT"),
}


@pytest.mark.parametrize("again", AGAIN)
def test_an_engine_metered_twice_counts_once(proxy: WireProxy, url: str, driver: str, again: str) -> None:
    with users_engine(driver, url) as reader:
        meter(reader.engine)
        meter(AGAIN[again](reader.engine))
        cold = read(reader, joined, PAGE, PAGE_SIZE)
        assert (cold.connections, cold.statements) == (1, 1)
        before = proxy.counts()
        cost = read(reader, joined, PAGE, PAGE_SIZE)
        seen = proxy.counts() - before
        assert (cost.statements, cost.round_trips, cost.rows) == (seen.statements, seen.round_trips, seen.rows)
        assert_parts_add_up(cost)


def test_an_engine_of_dbkit_may_be_metered_again(seeded_url: str) -> None:
    engine = make_engine(DatabaseUrl.parse(seeded_url), Settings())
    meter(engine)
    with PageCost() as cost:
        read_page(engine, joined, PAGE, PAGE_SIZE)
    assert (cost.connections, cost.statements, cost.round_trips) == (1, 1, 3)
    engine.dispose()


def test_engines_that_share_a_pool_are_both_metered(seeded_url: str) -> None:
    url = seeded_url.replace("postgresql://", "postgresql+psycopg://")
    first = create_engine(url)
    second = create_engine(url, pool=first.pool)
    for engine in (first, second):
        meter(engine)
    for engine, connections in ((first, 1), (second, 0)):
        with PageCost() as cost:
            read_page(engine, joined, PAGE, PAGE_SIZE)
        assert (cost.connections, cost.statements, cost.round_trips) == (connections, 1, 3)
        assert_parts_add_up(cost)
    first.dispose()


def test_without_a_page_a_metered_engine_works_and_counts_nothing(seeded_url: str) -> None:
    engine = create_engine(seeded_url.replace("postgresql://", "postgresql+psycopg://"), pool_pre_ping=True)
    meter(engine)
    cost = PageCost()
    for _ in range(2):
        assert len(read_page(engine, joined, PAGE, PAGE_SIZE)) == PAGE_SIZE
    assert set(cost.as_dict().values()) == {0}
    engine.dispose()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql+pg8000"])
def test_a_driver_that_cannot_be_measured_is_refused_in_one_line(dialect: str) -> None:
    options = {} if dialect == "sqlite" else {"module": psycopg}  # in place of the driver, which is not installed
    engine = create_engine(f"{dialect}://", **options)
    with pytest.raises(DbkitError) as refused:
        meter(engine)
    assert str(refused.value).isprintable()
    assert dialect in str(refused.value) and "postgresql+asyncpg" in str(refused.value)
