"""What the page users of one process share during one test: lanes, and what pages must hold.

Lanes are made at first use, so that a process opens no pool that it does not need, and never before a fork; all are
closed when the test stops. Whose turn it is to read is left to `dbkit.load.gate`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections import Counter
from dataclasses import dataclass

from dbkit.database.settings import Settings
from dbkit.database.stacks import find_stack
from dbkit.database.url import DatabaseUrl
from dbkit.load.lanes import GreenletLane, Lane, LoopLane, Reading
from dbkit.load.loop_thread import LoopThread
from dbkit.load.thread_lane import ThreadLane
from dbkit.paging import RenderedPage
from dbkit.todo.dataset import Shape

logger = logging.getLogger(__name__)

EXPECTED_PAGES_KEPT = 2048
CLOSE_TIMEOUT_S = 10


@dataclass(frozen=True)
class ExpectedPage:
    """What a right page holds, and its size in bytes as compact JSON."""

    rendered: RenderedPage
    bytes: int


class Resources:
    """Lanes on `database`, made as they are asked for; one pool for each stack."""

    def __init__(self, database: DatabaseUrl, settings: Settings, shape: Shape, page_size: int) -> None:
        self.settings = settings
        self.page_size = page_size
        self.pages = shape.pages(page_size)
        self.expected_page = functools.lru_cache(EXPECTED_PAGES_KEPT)(self._expected_page)
        self.users_made: Counter[str] = Counter()
        """How many users of each class this process has made during the test."""
        self._reading = Reading(database, settings, page_size)
        self._shape = shape
        self._lanes: dict[str, GreenletLane | LoopLane | ThreadLane] = {}
        self._loop_thread: LoopThread | None = None

    def lane(self, stack: str) -> Lane:
        """Where the pages of a stack are read."""
        if stack not in self._lanes:
            self._lanes[stack] = self._make_lane(stack)
        return self._lanes[stack]

    def close(self) -> None:
        """Cancel what still runs and close all connections. No user may be reading any more."""
        if self._loop_thread is not None:
            self._loop_thread.stop(self._close_loop_lanes)
        for lane in self._lanes.values():
            if not isinstance(lane, LoopLane):
                lane.close()

    def _make_lane(self, stack: str) -> GreenletLane | LoopLane | ThreadLane:
        match find_stack(stack).concurrency:
            case "greenlets":
                return GreenletLane(self._reading, stack)
            case "threads":
                return ThreadLane(self._reading, stack)
            case "tasks":
                if self._loop_thread is None:
                    self._loop_thread = LoopThread()
                return LoopLane(self._reading, stack, self._loop_thread)

    async def _close_loop_lanes(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                for lane in self._lanes.values():
                    if isinstance(lane, LoopLane):
                        await lane.dispose()
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
