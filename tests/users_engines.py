"""Engines as an application makes them, without dbkit: sync and async ones behind the same few calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import asyncpg
import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dbkit.database.settings import PageEnd
from dbkit.measure.cost import PARTS, PageCost
from dbkit.paging import PageFunction, read_page, read_page_async
from tests.wire import WireProxy

DRIVERS = ("psycopg", "psycopg_async", "asyncpg")
"""As the URL of an engine names them."""
ROUNDING_MS = 1e-6


class Left(Exception):
    """Raised by a page function that ends in the middle."""


FAILURES = (Left, SQLAlchemyError, psycopg.Error, asyncpg.PostgresError)
"""What a page may fail by. What goes wrong while rows are fetched, SQLAlchemy raises as the driver does."""


class Reader(Protocol):
    """An engine of a user's own, of either kind."""

    @property
    def engine(self) -> Engine | AsyncEngine:
        """What the user made."""

    def read_at_once(self, functions: Sequence[PageFunction], *key: Any, end: PageEnd = "rollback") -> list[PageCost]:
        """A page by each function, all begun before any has ended. A page may fail, by `FAILURES`."""

    def dispose(self) -> None:
        """What a user calls to have the engine open new connections."""


class SyncReader:
    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.engine = create_engine(url, **options)

    def read_at_once(self, functions: Sequence[PageFunction], *key: Any, end: PageEnd = "rollback") -> list[PageCost]:
        all_are_there = threading.Barrier(len(functions))

        def read(function: PageFunction) -> PageCost:
            all_are_there.wait()
            with suppress(*FAILURES), PageCost() as cost:
                read_page(self.engine, function, *key, end=end)
            return cost

        with ThreadPoolExecutor(len(functions)) as threads:
            return list(threads.map(read, functions))

    def dispose(self) -> None:
        self.engine.dispose()


class AsyncReader:
    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.engine = create_async_engine(url, **options)
        self._runner = asyncio.Runner()

    def read_at_once(self, functions: Sequence[PageFunction], *key: Any, end: PageEnd = "rollback") -> list[PageCost]:
        async def read(function: PageFunction) -> PageCost:
            with suppress(*FAILURES), PageCost() as cost:
                await read_page_async(self.engine, function, *key, end=end)
            return cost

        async def read_all() -> list[PageCost]:
            return list(await asyncio.gather(*map(read, functions)))

        return self._runner.run(read_all())

    def dispose(self) -> None:
        self._runner.run(self.engine.dispose())

    def close(self) -> None:
        self._runner.close()


@contextmanager
def users_engine(driver: str, url: str, **options: Any) -> Iterator[Reader]:
    """An engine as it is made without dbkit; it is not metered yet."""
    url = url.replace("postgresql://", f"postgresql+{driver}://")
    if driver == "psycopg":
        reader = SyncReader(url, options)
        yield reader
        reader.dispose()
    else:
        async_reader = AsyncReader(url, options)
        yield async_reader
        async_reader.dispose()
        async_reader.close()


def read(reader: Reader, function: PageFunction, *key: Any, end: PageEnd = "rollback") -> PageCost:
    """What one page cost."""
    [cost] = reader.read_at_once([function], *key, end=end)
    return cost


def assert_costs_what_passes(
    proxy: WireProxy,
    reader: Reader,
    function: PageFunction,
    *key: Any,
    end: PageEnd = "rollback",
    not_on_wire: int = 0,
) -> PageCost:
    """Read a page, on a connection that is open: what the meter counts is what passes on the wire.

    `not_on_wire` are statements of the page that the server did not complete, or that the wire knows as something else.
    """
    before = proxy.counts()
    cost = read(reader, function, *key, end=end)
    seen = proxy.counts() - before
    counted = {
        "statements": cost.statements - not_on_wire,
        "round trips": cost.round_trips,
        "prepares": cost.prepares,
        "rows": cost.rows,
        "connections": cost.connections,
    }
    assert counted == {
        "statements": seen.statements,
        "round trips": seen.round_trips,
        "prepares": seen.prepares,
        "rows": seen.rows,
        "connections": 0,
    }
    assert_parts_add_up(cost)
    return cost


def assert_parts_add_up(cost: PageCost) -> None:
    """No time is lost, and none is counted twice, which would make the rest, the client's, negative."""
    parts = cost.as_dict()
    assert sum(parts[name] for name in PARTS) == pytest.approx(cost.response_ms)
    assert all(parts[name] >= -ROUNDING_MS for name in PARTS), parts
