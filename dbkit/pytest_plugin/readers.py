"""Reads pages on an application's own engine, sync or async, with a pool of its own that no test shares.

So all reads of a page have the same connection, and nothing of an async engine belongs to a test's event loop: async
pages are read in a loop of their own, in a thread, also where the test runs in one itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.application import with_pool_of_its_own
from dbkit.database.meter import meter
from dbkit.database.settings import PageEnd
from dbkit.errors import DbkitError
from dbkit.paging import PageFunction, function_name, is_async, read_page, read_page_async


@dataclass(frozen=True)
class ConnectionFacts:
    """What is to be known of an engine's connections."""

    is_autocommit: bool
    reads_until_warm: int
    """How often a page is read before it sends what it sends from then on."""

    @classmethod
    def of(cls, connection: Connection) -> ConnectionFacts:
        """Those of a connection."""
        fairy = connection.connection
        # psycopg prepares a statement when it has been executed that often, asyncpg at once
        threshold = getattr(fairy.driver_connection, "prepare_threshold", None) or 0
        return cls(bool(getattr(fairy.dbapi_connection, "autocommit", False)), threshold + 1)


class SyncPages:
    """Pages of an Engine, read in the test's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = with_pool_of_its_own(engine)
        meter(self._engine)

    def connect(self) -> ConnectionFacts:
        """Open the connection that pages will have. Raises what the driver and SQLAlchemy raise."""
        with self._engine.connect() as connection:
            return ConnectionFacts.of(connection)

    def check(self, function: PageFunction) -> None:
        """Raise DbkitError for a function that only an AsyncEngine can read."""
        __tracebackhide__ = True
        if is_async(function):
            raise DbkitError(
                f"{function_name(function)} is async def, and the fixture dbkit_engine gives an Engine: override it to"
                " give an AsyncEngine"
            )

    def read(self, function: PageFunction, key: tuple[Any, ...], end: PageEnd) -> Any:
        """Read a page. Raises what it raises."""
        return read_page(self._engine, function, *key, end=end)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()


class AsyncPages:
    """Pages of an AsyncEngine: `async def` functions are awaited, plain ones run through `run_sync`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = with_pool_of_its_own(engine)
        meter(self._engine)
        self._loop = _LoopThread()

    def connect(self) -> ConnectionFacts:
        """See `SyncPages.connect`."""

        async def connect() -> ConnectionFacts:
            async with self._engine.connect() as connection:
                facts: ConnectionFacts = await connection.run_sync(ConnectionFacts.of)
                return facts

        facts: ConnectionFacts = self._loop.run(connect())
        return facts

    def check(self, function: PageFunction) -> None:
        """See `SyncPages.check`. An AsyncEngine can read all."""

    def read(self, function: PageFunction, key: tuple[Any, ...], end: PageEnd) -> Any:
        """Read a page. Raises what it raises."""
        return self._loop.run(read_page_async(self._engine, function, *key, end=end))

    def close(self) -> None:
        """Close the connection and the loop."""
        try:
            self._loop.run(self._engine.dispose())
        finally:
            self._loop.close()


def pages_of(engine: object) -> SyncPages | AsyncPages:
    """Reads pages of an engine. Raises DbkitError where it is none, or where its driver cannot be measured."""
    if isinstance(engine, AsyncEngine):
        return AsyncPages(engine)
    if isinstance(engine, Engine):
        return SyncPages(engine)
    raise DbkitError(f"the fixture dbkit_engine gives {type(engine).__name__}: expected an Engine or an AsyncEngine")


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._wait(started)), name="dbkit pages", daemon=True)
        self._thread.start()
        self._loop, self._stop = started.result()

    @staticmethod
    async def _wait(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it in the loop, in a copy of this thread's context, and wait for it; Ctrl-C cancels it."""

        async def finish() -> tuple[Any, BaseException | None]:
            try:
                return await work, None
            except BaseException as error:  # SystemExit would end the loop, and nobody would hear of it
                return None, error

        future = asyncio.run_coroutine_threadsafe(finish(), self._loop)
        try:
            result, error = future.result()
        except BaseException:
            future.cancel()
            raise
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Cancel what still runs in the loop, and end the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
