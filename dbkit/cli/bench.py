"""The plain benchmark, without Locust: how long a number of pages takes, read as a script or a web application would.

psycopg reads in threads, the async stacks in asyncio tasks behind a semaphore. Each strategy is timed once: that shows
what a strategy costs, but cannot rank two that are close, which takes rounds under Locust. The choice of stacks,
strategies and pages, and printing, are left to `dbkit.cli.bench_command`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import sqlalchemy.exc

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.server import check_server
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS, stacks_of
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.paging import STRATEGIES, PageFunction, read_page, read_page_async

BENCH_STACKS = stacks_of("threads", "tasks")
"""The stacks that need no gevent, and so no Locust."""

ReadPages = Callable[[PageFunction], int]
"""Reads all pages, so many at a time, and returns how many todos they show."""


@dataclass(frozen=True)
class Workload:
    """Which pages are read, and how."""

    pages: tuple[int, ...]
    """Their numbers, from 0, in the order in which they are begun."""
    page_size: int
    concurrency: int
    """How many pages are read at a time."""
    settings: Settings


@dataclass(frozen=True)
class Timing:
    """How long one strategy took for the pages of a workload."""

    strategy: str
    pages: int
    seconds: float
    rows: int
    """Todos rendered, on all pages together."""

    def __str__(self) -> str:
        return f"{self.strategy}: {self.pages} pages in {self.seconds * 1000:.1f} ms — {self.rows} rows rendered"


def check_connections(database: DatabaseUrl, workload: Workload) -> None:
    """Raise DbkitError where the workload could open more connections than the server allows.

    How many a pooler before it allows is not asked for.
    """
    server = check_server(database)
    allowed = server.connections_allowed
    capacity = workload.settings.pool_capacity
    needed = min(len(workload.pages), workload.concurrency, workload.concurrency if capacity is None else capacity)
    if needed > allowed and not server.is_pooled:
        raise DbkitError(
            f"{workload.concurrency} pages at a time could open {needed} connections, but the server allows {allowed};"
            " lower --concurrency or --pool-size, or raise max_connections"
        )


def bench(database: DatabaseUrl, stack: str, strategies: Iterable[str], workload: Workload) -> Iterator[Timing]:
    """Time each of the strategies, by their names in `dbkit.paging.STRATEGIES`, on one of `BENCH_STACKS`.

    A strategy reads all the pages twice, and the second time counts: by then connections are open, statements prepared
    and rows in the server's memory, so that the order of the strategies does not decide.

    Raises DbkitError where a page cannot be read.
    """
    reader = (_tasks if STACKS[stack].is_async else _threads)(database, stack, workload)
    with reader as read_pages:
        for strategy in strategies:
            function = STRATEGIES[strategy]
            try:
                read_pages(function)
                started_at_s = perf_counter()
                rows = read_pages(function)
                seconds = perf_counter() - started_at_s
            except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
                raise DbkitError(f"{strategy} on {stack}: {_failure_message(error)}") from None
            yield Timing(strategy, len(workload.pages), seconds, rows)


@contextmanager
def _threads(database: DatabaseUrl, stack: str, workload: Workload) -> Iterator[ReadPages]:
    settings = workload.settings
    engine = make_engine(database, settings, stack)
    executor = ThreadPoolExecutor(workload.concurrency)

    def read_pages(function: PageFunction) -> int:
        def read_one(page: int) -> int:
            return len(read_page(engine, function, page, workload.page_size, end=settings.end))

        return sum(executor.map(read_one, workload.pages))

    try:
        yield read_pages
    finally:
        executor.shutdown(cancel_futures=True)
        engine.dispose()


@contextmanager
def _tasks(database: DatabaseUrl, stack: str, workload: Workload) -> Iterator[ReadPages]:
    settings = workload.settings
    engine = make_async_engine(database, settings, stack)

    async def read_all(function: PageFunction) -> int:
        semaphore = asyncio.Semaphore(workload.concurrency)
        rows = 0

        async def read_one(page: int) -> None:
            nonlocal rows
            try:
                todos = await read_page_async(
                    engine, function, page, workload.page_size, end=settings.end, close=settings.close
                )
                rows += len(todos)  # after the await: others count meanwhile
            finally:
                semaphore.release()

        async with asyncio.TaskGroup() as tasks:
            for page in workload.pages:
                await semaphore.acquire()
                tasks.create_task(read_one(page))
        return rows

    def read_pages(function: PageFunction) -> int:
        try:
            return runner.run(read_all(function))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    with asyncio.Runner() as runner:  # one loop for all: a connection belongs to the loop that opened it
        try:
            yield read_pages
        finally:
            runner.run(engine.dispose())


def _failure_message(error: sqlalchemy.exc.SQLAlchemyError | OSError) -> str:
    """The message of the driver or the pool, on one line without SQL and parameters, and what to do about it."""
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return "no connection became free in time; raise --pool-timeout or --pool-size"
    origin = (error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else None) or error
    message = str(origin).partition("\n")[0]
    query_canceled = "57014"
    if getattr(origin, "sqlstate", None) == query_canceled:
        return f"{message}; raise --statement-timeout"
    return f"{message}; to learn more, run python seed.py --check"
