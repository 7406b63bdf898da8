"""What measuring a page costs: the CPU time of all that dbkit does besides reading it, a page and a statement.

    python -m benchmarks.metering

The same is done with and without, in turns, and the CPU times are subtracted:

- a page in Locust: a page user's task whose page is ready at once (gate, cost, a session that opens no connection,
  outbox, check, request event, tally), less a bare request event;
- a page in the engine: a session's connection from the pool and back, less the same on an engine that is not metered;
- a statement, less one that is not metered;
- a result's `unique()`, which the ORM calls for joined and lazy loading, less SQLAlchemy's own.

The database takes no part in these: the statement's cursor is a driver's own, with an answer in it, but what would
send and receive does nothing. Real pages, metered and not, are there to check: they scatter more, and cost more, as
after each wait for the server the processor's caches hold other things.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import locust
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.event import EventHook

from dbkit.load import SyncPageUser  # after Locust, which patches the process, and before what else is of dbkit

# isort: split

from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine.result import ChunkedIteratorResult, Result, SimpleResultMetaData
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.orm import Session

from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.values import integer
from dbkit.database.engines import find_database
from dbkit.database.meter import meter
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS, stacks_of
from dbkit.database.url import DatabaseUrl
from dbkit.load.context import context_of
from dbkit.load.loop_thread import LoopThread
from dbkit.measure.cost import PageCost
from dbkit.paging import DEFAULT_PAGE_SIZE, PageFunction, RenderedPage, joined, lazy, read_page
from dbkit.todo.dataset import read_shape

PROG = "python -m benchmarks.metering"
PAGE_AIM_US = 40
STATEMENT_AIM_US = 3
UNIQUE_AIM_US = 1
STATEMENT = "SELECT id, user_id, title, done FROM dbkit.todo ORDER BY id LIMIT 20"

Call = Callable[[], object]
Differences = list[float]


def measure(with_it: Call, without: Call, calls: int, rounds: int, title: str) -> Differences:
    """For each round the CPU time, in microseconds a call, that `with_it` takes more than `without`."""

    def cpu_us(call: Call) -> float:
        began_ns = time.thread_time_ns()
        for _ in range(calls):
            call()
        return (time.thread_time_ns() - began_ns) / 1000 / calls

    cpu_us(with_it)
    cpu_us(without)
    differences = []
    for number in track(range(rounds), title, console=Console(stderr=True), transient=True):
        if number % 2:
            differences.append(cpu_us(with_it) - cpu_us(without))
        else:
            differences.append(-cpu_us(without) + cpu_us(with_it))
    return differences


def page_in_locust(rounds: int) -> Differences:
    with page_user() as (user, bare_request):
        return measure(user.read_page, bare_request, 1000, rounds, "a page in Locust")


@contextmanager
def page_user() -> Iterator[tuple[SyncPageUser, Call]]:
    """A user as Locust makes it, whose pages are ready, and a call that fires a request event as any user would."""

    pages: dict[int, RenderedPage] = {}

    class Ready(SyncPageUser):
        @staticmethod
        def page_function(session: Session, page: int, page_size: int) -> RenderedPage:
            return pages.setdefault(page, shape.expected_page(page, page_size))

    environment = Environment(
        user_classes=[Ready], events=locust.events, parsed_options=get_parser().parse_args(["--headless"])
    )
    runner = environment.create_local_runner()
    environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
    environment.events.test_start.fire(environment=environment)
    load = context_of(environment)
    shape = read_shape(load.database)
    bare = EventHook()
    for listener in environment.events.request._handlers:
        if listener != load.recorder.on_request:
            bare.add_listener(listener)

    def bare_request() -> None:
        began_at_s = time.perf_counter()
        response_ms = (time.perf_counter() - began_at_s) * 1000
        bare.fire(
            request_type="bare", name="bare", response_time=response_ms, response_length=1, exception=None, context={}
        )

    try:
        yield Ready(environment), bare_request
    finally:
        load.end_test()


def page_in_engine(database: DatabaseUrl, rounds: int) -> Differences:
    def session_on(engine: Engine) -> Call:
        def use_a_connection() -> None:
            with Session(engine) as session:
                session.connection()

        return use_a_connection

    with engine_on(database, metered=False) as bare, engine_on(database, metered=False) as metered:
        for engine in (bare, metered):
            # opens a transaction, which then stays open, as the ROLLBACKs of a page would find it
            with engine.connect() as connection:
                connection.exec_driver_sql(STATEMENT)
                replace_methods(dbapi_connection_of(connection), rollback=do_nothing)
        meter(metered)
        with PageCost():
            return measure(session_on(metered), session_on(bare), 500, rounds, "a page in the engine")


def statement(database: DatabaseUrl, stack: str, rounds: int) -> Differences:
    def differences(bare: Any, metered: Any) -> Differences:
        def execute_on(dbapi_connection: Any) -> Call:
            return lambda: dbapi_connection.cursor().execute(STATEMENT, ())

        with PageCost():
            return measure(execute_on(metered), execute_on(bare), 5000, rounds, f"a statement, {stack}")

    async def differences_in_loop() -> Differences:
        arguments = STACKS[stack].connect_args(database, Settings())
        bare, metered = (
            create_async_engine(f"{STACKS[stack].dialect}://", connect_args=arguments, pool_size=1) for _ in "12"
        )
        try:
            for engine in (bare, metered):
                async with engine.connect() as connection:
                    await connection.run_sync(answer_at_once)
            meter(metered)
            async with bare.connect() as one, metered.connect() as other:
                return await one.run_sync(lambda one: differences(dbapi_connection_of(one), dbapi_connection_of(other)))
        finally:
            await bare.dispose()
            await metered.dispose()

    if STACKS[stack].is_async:
        thread = LoopThread()
        try:
            return thread.run(differences_in_loop)
        finally:
            thread.stop()
    with engine_on(database, metered=False) as bare, engine_on(database, metered=False) as metered:
        for engine in (bare, metered):
            with engine.connect() as connection:
                answer_at_once(connection)
        meter(metered)
        with bare.connect() as one, metered.connect() as other:
            return differences(dbapi_connection_of(one), dbapi_connection_of(other))


def answer_at_once(connection: Connection) -> None:
    """Give the connection one cursor for all statements, which has an answer in it and executes nothing."""
    dbapi_connection = dbapi_connection_of(connection)
    cursor = dbapi_connection.cursor()
    cursor.execute(STATEMENT, ())
    replace_methods(cursor, execute=do_nothing)
    if not connection.dialect.is_async:
        # psycopg's connection makes cursors by it, of the metered class
        dbapi_connection.cursor_factory = type(cursor)

        def the_cursor(own_connection: Any) -> Any:
            cursor.__class__ = own_connection.cursor_factory
            return cursor
    else:

        def the_cursor(own_connection: Any) -> Any:
            return cursor

    replace_methods(dbapi_connection, cursor=the_cursor)


def dbapi_connection_of(connection: Connection | AsyncConnection) -> Any:
    """The connection as SQLAlchemy's pool keeps it."""
    sync_connection: Any = connection.sync_connection if isinstance(connection, AsyncConnection) else connection
    return sync_connection.connection.dbapi_connection


def replace_methods(target: Any, **methods: Callable[..., Any]) -> None:
    """Replace methods of one object."""
    target.__class__ = type("Idle", (type(target),), {"__slots__": (), **methods})


def unique(rounds: int) -> Differences:
    """What `unique()` costs on results of two rows, as many results as a page with a lazy relation has."""
    metadata = SimpleResultMetaData(["todo"])
    counted: Any = Result.unique
    results = 1 + DEFAULT_PAGE_SIZE

    def page_by(unique: Any) -> Call:
        def read_results() -> None:
            with PageCost():
                for _ in range(results):
                    result: Any = ChunkedIteratorResult(metadata, lambda size: iter([[1, 2]]), True)
                    unique(result).scalars().all()

        return read_results

    differences = measure(page_by(counted), page_by(counted.__wrapped__), 200, rounds, "a result's unique()")
    return [each / results for each in differences]


def real_page(database: DatabaseUrl, function: PageFunction, rounds: int) -> Differences:
    def read_from(engine: Engine) -> None:
        read_page(engine, function, 3, DEFAULT_PAGE_SIZE)

    def read_metered(engine: Engine) -> None:
        cost = PageCost()
        with cost:
            read_page(engine, function, 3, DEFAULT_PAGE_SIZE)
        cost.as_dict()

    with engine_on(database, metered=True) as metered, engine_on(database, metered=False) as bare:
        return measure(
            lambda: read_metered(metered), lambda: read_from(bare), 1, rounds, f"real pages, {function.__name__}"
        )


@contextmanager
def engine_on(database: DatabaseUrl, *, metered: bool) -> Iterator[Engine]:
    """An engine as `dbkit.database.engines.make_engine` makes it, metered or not."""
    stack = STACKS["psycopg"]
    engine = create_engine(f"{stack.dialect}://", connect_args=stack.connect_args(database, Settings()))
    if metered:
        meter(engine)
    try:
        yield engine
    finally:
        engine.dispose()


def do_nothing(*_: Any) -> None:
    pass


def main() -> None:
    options = _parse()
    rounds = options.rounds
    database = find_database()
    in_locust, in_engine = page_in_locust(rounds), page_in_engine(database, rounds)
    in_all = [one + other for one, other in zip(in_locust, in_engine, strict=True)]
    table = Table(box=None, pad_edge=False)
    table.add_column("CPU time that measuring takes")
    table.add_column("µs, 95 % interval", justify="right")
    table.add_column("aim", justify="right")
    table.add_row("a page in Locust", *in_words(in_locust))
    table.add_row("a page in the engine", *in_words(in_engine))
    table.add_row("a page", *in_words(in_all, PAGE_AIM_US))
    for stack in stacks_of("greenlets", "tasks"):  # threads are metered as greenlets
        table.add_row(f"a statement, {stack}", *in_words(statement(database, stack, rounds), STATEMENT_AIM_US))
    table.add_row("a result's unique()", *in_words(unique(rounds), UNIQUE_AIM_US))
    for function, statements in ((joined, 1), (lazy, 1 + DEFAULT_PAGE_SIZE)):
        title = f"to check: a real page, {statements} statements"
        table.add_row(title, *in_words(real_page(database, function, 25 * rounds)))
    Console().print(table)


def in_words(differences: Differences, aim_us: float | None = None) -> tuple[str, str]:
    """The median with its interval (a few rounds are far off), and whether it is as small as aimed at."""
    interval = stats.quantile_test(differences, p=0.5).confidence_interval()
    words = f"{median(differences):.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    if aim_us is None:
        return words, ""
    verdict = "yes" if interval.high < aim_us else "no" if interval.low > aim_us else "not shown"
    return words, f"under {aim_us}: {verdict}"


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(prog=PROG, description="The CPU time that dbkit's measuring takes, a page and a statement.")
    parser.add_argument("--rounds", type=integer(3), default=40, metavar="<number>", help="default 40")
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
