"""dbkit's engines as a plain script uses them, every stack behind the same few calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.measure.cost import PageCost
from dbkit.paging import PageFunction, RenderedPage, read_page, read_page_async

DEFAULT_SETTINGS = Settings()


class StackEngine(Protocol):
    """An engine of one stack. It closes with the `with` block of `open_stack`."""

    def read(self, function: PageFunction, page: int, page_size: int) -> tuple[RenderedPage, PageCost]:
        """Read a page in the way that the settings say; the page and what it cost."""

    def row(self, statement: str) -> tuple[Any, ...]:
        """The first row of the answer, on a connection of the pool."""

    def connect(self) -> None:
        """Check a connection out, opening it if the pool has none, and hand it back."""

    def holding_a_connection(self) -> AbstractContextManager[None]:
        """Keep one of the pool's connections for the length of the block."""

    def dispose(self) -> None:
        """Close the pool's connections."""


@contextmanager
def open_stack(stack: str, url: str | DatabaseUrl, settings: Settings = DEFAULT_SETTINGS) -> Iterator[StackEngine]:
    """An engine of `stack` on the database at `url`."""
    database = url if isinstance(url, DatabaseUrl) else DatabaseUrl.parse(url)
    if not STACKS[stack].is_async:
        sync_engine = _Sync(database, stack, settings)
        try:
            yield sync_engine
        finally:
            sync_engine.dispose()
        return
    with asyncio.Runner() as runner:
        async_engine = _Async(runner, database, stack, settings)
        try:
            yield async_engine
        finally:
            async_engine.dispose()


class _Sync:
    def __init__(self, database: DatabaseUrl, stack: str, settings: Settings) -> None:
        self._engine = make_engine(database, settings, stack)
        self._end = settings.end

    def read(self, function: PageFunction, page: int, page_size: int) -> tuple[RenderedPage, PageCost]:
        with PageCost() as cost:
            rendered = read_page(self._engine, function, page, page_size, end=self._end)
        return rendered, cost

    def row(self, statement: str) -> tuple[Any, ...]:
        with self._engine.connect() as connection:
            return tuple(connection.execute(text(statement)).one())

    def connect(self) -> None:
        self._engine.connect().close()

    @contextmanager
    def holding_a_connection(self) -> Iterator[None]:
        with self._engine.connect():
            yield

    def dispose(self) -> None:
        self._engine.dispose()


class _Async:
    def __init__(self, runner: asyncio.Runner, database: DatabaseUrl, stack: str, settings: Settings) -> None:
        self._runner = runner
        self._engine = make_async_engine(database, settings, stack)
        self._end = settings.end

    def read(self, function: PageFunction, page: int, page_size: int) -> tuple[RenderedPage, PageCost]:
        async def read() -> tuple[RenderedPage, PageCost]:
            with PageCost() as cost:
                rendered = await read_page_async(self._engine, function, page, page_size, end=self._end)
            return rendered, cost

        return self._runner.run(read())

    def row(self, statement: str) -> tuple[Any, ...]:
        async def row(connection: AsyncConnection) -> tuple[Any, ...]:
            async with connection:
                return tuple((await connection.execute(text(statement))).one())

        return self._runner.run(row(self._engine.connect()))

    def connect(self) -> None:
        async def connect() -> None:
            async with self._engine.connect():
                pass

        self._runner.run(connect())

    @contextmanager
    def holding_a_connection(self) -> Iterator[None]:
        connection = self._engine.connect()

        async def connect() -> None:
            await connection.start()

        self._runner.run(connect())
        try:
            yield
        finally:
            self._runner.run(connection.close())

    def dispose(self) -> None:
        self._runner.run(self._engine.dispose())
