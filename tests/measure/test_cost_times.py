"""Where a page's time goes, held against theory: delays on the wire, waits for the pool, connections opened."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Barrier
from time import perf_counter

import pytest
import sqlalchemy.exc
from sqlalchemy import text
from sqlalchemy.orm import Session

from dbkit.cli.bench import BENCH_STACKS
from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.settings import PAGE_ENDS, SESSION_CLOSES, PageEnd, SessionClose, Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.measure.cost import PARTS, PageCost
from dbkit.paging import STRATEGIES, PageFunction, RenderedPage, joined, lazy, read_page, read_page_async
from tests.stacks import open_stack
from tests.wire import WireProxy, upstream_of, wire_proxy

PAGE_SIZE = 20
SHORT_PAGE_SIZE = 5
READ_FOR_AT_MOST_S = 60
MIN_PAGES = 5
NEAR = 0.05
"""How near a delay comes to theory, as a share of it."""
READERS = 5
STATEMENTS = {"lazy": 1 + PAGE_SIZE, "selectin": 2, "joined": 1, "subquery": 2, "core": 1}
DELAYS_MS = (20, 40)
ROUNDING_MS = 1e-6


def slow(session: Session, page: int, page_size: int) -> RenderedPage:
    session.execute(text("SELECT pg_sleep(0.03)"))
    return []


def failing_statement(session: Session, page: int, page_size: int) -> RenderedPage:
    session.execute(text("SELECT 1"))
    session.execute(text("SELECT 1 / 0"))
    return []


def failing_code(session: Session, page: int, page_size: int) -> RenderedPage:
    session.execute(text("SELECT pg_sleep(0.01)"))
    raise LookupError("in the page function's own code")


@dataclass(frozen=True)
class Outcome:
    cost: PageCost
    error: Exception | None = None


def read_at_once(stack: str, url: str, settings: Settings, functions: Sequence[PageFunction]) -> list[Outcome]:
    """One reader for each page function, all of them asking before any is served, on one new engine."""
    database = DatabaseUrl.parse(url)
    if STACKS[stack].is_async:
        return asyncio.run(_read_in_tasks(stack, database, settings, functions))
    engine = make_engine(database, settings, stack)
    all_are_there = Barrier(len(functions))

    def read(function: PageFunction) -> Outcome:
        all_are_there.wait()
        cost = PageCost()
        try:
            with cost:
                read_page(engine, function, 3, PAGE_SIZE, end=settings.end)
        except Exception as error:
            return Outcome(cost, error)
        return Outcome(cost)

    try:
        with ThreadPoolExecutor(len(functions)) as threads:
            return list(threads.map(read, functions))
    finally:
        engine.dispose()


async def _read_in_tasks(
    stack: str, database: DatabaseUrl, settings: Settings, functions: Iterable[PageFunction]
) -> list[Outcome]:
    engine = make_async_engine(database, settings, stack)

    async def read(function: PageFunction, cost: PageCost) -> Outcome:
        try:
            with cost:
                await read_page_async(engine, function, 3, PAGE_SIZE, end=settings.end, close=settings.close)
        except Exception as error:
            return Outcome(cost, error)
        return Outcome(cost)

    try:
        return list(await asyncio.gather(*(read(function, PageCost()) for function in functions)))
    finally:
        await engine.dispose()


def assert_parts_add_up(cost: PageCost) -> None:
    parts = cost.as_dict()
    assert sum(parts[name] for name in PARTS) == pytest.approx(cost.response_ms)
    # the client's is what the others leave: time charged twice would make it negative
    assert all(parts[name] >= -ROUNDING_MS for name in PARTS), parts


# Delays on the wire


@pytest.fixture(scope="module")
def proxies(seeded_url: str) -> Iterator[list[WireProxy]]:
    with (
        wire_proxy(upstream_of(seeded_url), delay_ms=DELAYS_MS[0]) as near,
        wire_proxy(upstream_of(seeded_url), delay_ms=DELAYS_MS[1]) as far,
    ):
        yield [near, far]


def longer_s(near: list[PageCost], far: list[PageCost], times: Callable[[PageCost], float]) -> float:
    """How much longer the fastest page takes: whatever else this machine does can only make a page slower."""
    return min(map(times, far)) - min(map(times, near))


def in_theory_s(trips: int) -> float:
    return trips * (DELAYS_MS[1] - DELAYS_MS[0]) / 1000


TIMES: dict[str, Callable[[PageCost], float]] = {
    "db": lambda cost: cost.db_s,
    "response": lambda cost: cost.response_ms / 1000,
}


def is_near_theory(costs: list[list[PageCost]]) -> bool:
    near, far = (its_costs[1:] for its_costs in costs)  # the first opened a connection and prepared
    if len(near) < MIN_PAGES:
        return False
    expected_s = in_theory_s(near[0].round_trips)
    return all(abs(longer_s(near, far, times) / expected_s - 1) <= NEAR for times in TIMES.values())


@pytest.fixture(scope="module")
def delayed(seeded_url: str, proxies: list[WireProxy]) -> dict[tuple[str, str], list[list[PageCost]]]:
    """The costs of warm pages through each proxy, in turns, for each stack and function."""

    def read(stack: str, function: PageFunction) -> list[list[PageCost]]:
        costs: list[list[PageCost]] = [[] for _ in proxies]
        with ExitStack() as exits:
            engines = [exits.enter_context(open_stack(stack, proxy.url(seeded_url))) for proxy in proxies]
            until = perf_counter() + READ_FOR_AT_MOST_S
            while perf_counter() < until and not is_near_theory(costs):
                for engine, its_costs in zip(engines, costs, strict=True):
                    its_costs.append(engine.read(function, 3, SHORT_PAGE_SIZE)[1])
        return [its_costs[1:] for its_costs in costs]  # the first opened a connection and prepared

    # all at once, as almost all of it is waiting
    pages = list(itertools.product(BENCH_STACKS, (lazy, joined)))
    with ThreadPoolExecutor(len(pages)) as threads:
        reading = {(stack, function.__name__): threads.submit(read, stack, function) for stack, function in pages}
        return {page: costs.result() for page, costs in reading.items()}


@pytest.mark.parametrize("strategy", ["lazy", "joined"])
@pytest.mark.parametrize("stack", BENCH_STACKS)
def test_a_page_takes_longer_by_its_round_trips_times_the_delay(
    delayed: dict[tuple[str, str], list[list[PageCost]]], stack: str, strategy: str
) -> None:
    near, far = delayed[stack, strategy]
    [trips] = {cost.round_trips for cost in near + far}
    for times in TIMES.values():
        assert longer_s(near, far, times) == pytest.approx(in_theory_s(trips), rel=NEAR)


@pytest.mark.parametrize("stack", STACKS)
def test_the_delay_of_opening_a_connection_is_in_connect_and_not_in_db(
    seeded_url: str, proxies: list[WireProxy], stack: str
) -> None:
    near, far = (proxy.url(seeded_url) for proxy in proxies)
    with open_stack(stack, near) as near_engine, open_stack(stack, far) as far_engine:
        costs = [engine.read(joined, 3, PAGE_SIZE)[1].as_dict() for engine in (near_engine, far_engine)]
    assert [cost["connections"] for cost in costs] == [1, 1]
    assert costs[0]["round_trips"] == costs[1]["round_trips"]
    # a log-in is at least one round trip, and the page's own are in `db`
    assert costs[0]["connect_ms"] >= DELAYS_MS[0]
    assert costs[1]["connect_ms"] >= DELAYS_MS[1]
    assert DELAYS_MS[0] * costs[0]["round_trips"] <= costs[0]["db_ms"]
    assert costs[0]["db_ms"] < DELAYS_MS[1] * costs[1]["round_trips"] <= costs[1]["db_ms"]


# The parts of a page's time


@pytest.mark.parametrize("end", PAGE_ENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_pages_that_wait_for_the_one_connection_of_a_pool_say_so(seeded_url: str, stack: str, end: PageEnd) -> None:
    settings = Settings(pool_size=1, max_overflow=0, end=end)
    costs = [outcome.cost for outcome in read_at_once(stack, seeded_url, settings, [slow] * READERS)]
    for cost in costs:
        assert_parts_add_up(cost)
    assert [cost.statements for cost in costs] == [1] * READERS
    # the one that opened the connection did not wait; the fifth waited for four others
    in_turn = sorted(costs, key=lambda cost: cost.pool_s)
    assert [cost.connections for cost in in_turn] == [1, 0, 0, 0, 0]
    assert in_turn[0].connect_s > 0
    assert all(cost.connect_s == 0 and cost.pool_s > 0 for cost in in_turn[1:])
    # in theory 1 + 2 + 3 + 4 pages' time for the pool, and 5 in the database: a wait is not the database's
    assert sum(cost.pool_s for cost in costs) > sum(cost.db_s for cost in costs)


@pytest.mark.parametrize("close", SESSION_CLOSES)
@pytest.mark.parametrize("stack", STACKS)
def test_each_of_many_pages_at_once_has_its_own_cost(seeded_url: str, stack: str, close: SessionClose) -> None:
    settings = Settings(pool_size=2, max_overflow=1, close=close)
    names = [*STRATEGIES] * 3
    outcomes = read_at_once(stack, seeded_url, settings, [STRATEGIES[name] for name in names])
    for name, outcome in zip(names, outcomes, strict=True):
        assert outcome.error is None
        assert outcome.cost.statements == STATEMENTS[name]
        assert_parts_add_up(outcome.cost)
        assert (outcome.cost.connect_s > 0) is (outcome.cost.connections > 0)


@pytest.mark.parametrize("stack", STACKS)
def test_a_page_on_a_cold_connection_costs_what_a_warm_one_does_and_the_connection(seeded_url: str, stack: str) -> None:
    # the first connection of an engine also asks the server what it is
    with open_stack(stack, seeded_url) as engine:
        for name, function in STRATEGIES.items():
            engine.dispose()
            cold, warm = (engine.read(function, 3, PAGE_SIZE)[1] for _ in range(2))
            assert (cold.connections, warm.connections) == (1, 0)
            assert cold.connect_s > 0
            assert warm.connect_s == 0
            assert cold.statements == warm.statements == STATEMENTS[name]
            assert cold.rows == warm.rows
            assert_parts_add_up(cold)
            assert_parts_add_up(warm)


@pytest.mark.parametrize(("function", "statements"), [(failing_statement, 2), (failing_code, 1)])
@pytest.mark.parametrize("stack", STACKS)
def test_the_parts_of_a_failed_page_add_up_as_well(
    seeded_url: str, stack: str, function: PageFunction, statements: int
) -> None:
    for outcome in read_at_once(stack, seeded_url, Settings(pool_size=1, max_overflow=0), [function] * READERS):
        assert isinstance(outcome.error, LookupError | sqlalchemy.exc.DBAPIError)
        assert outcome.cost.statements == statements
        assert outcome.cost.db_s > 0
        assert_parts_add_up(outcome.cost)


@pytest.mark.parametrize("stack", STACKS)
def test_a_page_that_got_no_connection_waited_for_the_pool_and_nothing_else(seeded_url: str, stack: str) -> None:
    settings = Settings(pool_size=1, max_overflow=0, pool_timeout_s=0.01)
    outcomes = read_at_once(stack, seeded_url, settings, [slow, slow])
    [cost] = [outcome.cost for outcome in outcomes if isinstance(outcome.error, sqlalchemy.exc.TimeoutError)]
    assert cost.pool_s >= settings.pool_timeout_s
    assert (cost.connections, cost.statements, cost.connect_s, cost.db_s) == (0, 0, 0.0, 0.0)
    assert_parts_add_up(cost)


@pytest.mark.parametrize("stack", STACKS)
def test_a_page_whose_connection_is_refused_spent_its_time_on_connecting(stack: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        url = f"postgresql://nobody@127.0.0.1:{closed.getsockname()[1]}/nothing"
        [outcome] = read_at_once(stack, url, Settings(), [joined])
    assert isinstance(outcome.error, OSError | sqlalchemy.exc.DBAPIError)
    assert outcome.cost.connect_s > 0
    assert (outcome.cost.connections, outcome.cost.statements, outcome.cost.db_s) == (0, 0, 0.0)
    assert_parts_add_up(outcome.cost)
