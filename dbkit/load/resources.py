"""What the page users of one process share during one test: engines, the loop thread, and what pages must hold.

Engines and thread are made at first use, so that a process opens no pool that it does not need, and never before a
fork; all are closed when the test stops. Whose turn it is to read is the gate's; reading is the users'.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database import DatabaseUrl, Settings, Stack, make_async_engine, make_engine
from dbkit.dataset import Shape
from dbkit.load.loop_thread import LoopThread
from dbkit.paging import RenderedPage

logger = logging.getLogger(__name__)

EXPECTED_PAGES_KEPT = 2048
CLOSE_TIMEOUT_S = 10


@dataclass(frozen=True)
class ExpectedPage:
    """What a right page holds, and its size in bytes as compact JSON."""

    rendered: RenderedPage
    bytes: int


class Resources:
    """Engines on `database`, made as they are asked for; one pool for each stack."""

    def __init__(self, database: DatabaseUrl, settings: Settings, shape: Shape, page_size: int) -> None:
        self.settings = settings
        self.page_size = page_size
        self.pages = shape.pages(page_size)
        self.expected_page = functools.lru_cache(EXPECTED_PAGES_KEPT)(self._expected_page)
        self.users_made: Counter[str] = Counter()
        """How many users of each class this process has made during the test."""
        self._database = database
        self._shape = shape
        self._engine: Engine | None = None
        self._async_engines: dict[Stack, AsyncEngine] = {}
        self._loop_thread: LoopThread | None = None

    @property
    def engine(self) -> Engine:
        """The sync engine."""
        if self._engine is None:
            self._engine = make_engine(self._database, self.settings)
        return self._engine

    def async_engine(self, stack: Stack) -> AsyncEngine:
        """The engine of an async stack; use it in the loop thread only."""
        if stack not in self._async_engines:
            self._async_engines[stack] = make_async_engine(self._database, stack, self.settings)
        return self._async_engines[stack]

    @property
    def loop_thread(self) -> LoopThread:
        """The thread in which async pages are read."""
        if self._loop_thread is None:
            self._loop_thread = LoopThread()
        return self._loop_thread

    @property
    def started_loop_thread(self) -> LoopThread | None:
        """The loop thread, or None where no async page has been read yet."""
        return self._loop_thread

    def close(self) -> None:
        """Cancel what still runs and close all connections. No user may be reading any more."""
        if self._loop_thread is not None:
            self._loop_thread.stop(self._dispose_async_engines)
        if self._engine is not None:
            self._engine.dispose()

    async def _dispose_async_engines(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                for engine in self._async_engines.values():
                    await engine.dispose()
        except TimeoutError:
            logger.warning(
                "the server did not let its connections be closed in %s s; they are left to it", CLOSE_TIMEOUT_S
            )

    def _expected_page(self, page: int) -> ExpectedPage:
        rendered = self._shape.expected_page(page, self.page_size)
        return ExpectedPage(rendered, page_bytes(rendered))


def page_bytes(rendered: RenderedPage) -> int:
    """The size of a rendered page as a web application would send it: compact JSON in UTF-8."""
    return len(json.dumps(rendered, ensure_ascii=False, separators=(",", ":"), default=str).encode())
