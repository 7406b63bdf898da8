"""What the page users of one process share during one test: lanes.

Lanes are made at first use, so that a process opens no pool that it does not need, and never before a fork. They are
closed when the test stops, or before a slot with other settings. Whose turn it is to read is left to `dbkit.load.gate`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.application import application_engine, with_pool_of_its_own
from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.meter import meter
from dbkit.database.relay import Relays
from dbkit.database.settings import Settings
from dbkit.database.stacks import Stack, find_stack
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load.lanes import GreenletLane, Lane, LoopLane
from dbkit.load.loop_thread import LoopThread
from dbkit.load.native_logs import lock_logs_natively
from dbkit.load.native_pool import for_native_threads
from dbkit.load.page_class import PageClass
from dbkit.load.thread_lane import ThreadLane

logger = logging.getLogger(__name__)

_imported_in = os.getpid()


class Resources:
    """Lanes on `database`, made as they are asked for: one, with one pool, for each stack and each engine."""

    def __init__(self, database: DatabaseUrl, settings: Settings, relays: Relays, page_timeout_s: float) -> None:
        self.users_made: Counter[str] = Counter()
        """How many users of each condition this process has made during the test, by its key; without a schedule, of
        each class."""
        self._database = database
        self._settings = settings
        self._relays = relays
        self.page_timeout_s = page_timeout_s
        """How long a page may take."""
        # here, as making a lane must not let another user of it run meanwhile
        self._of_pages = relays.to(database, settings.round_trip_s)
        """The database by the URL that pages use."""
        self._lanes: dict[Hashable, GreenletLane | LoopLane | ThreadLane] = {}
        self._engines_in_use: set[int] = set()
        self._loop_thread: LoopThread | None = None

    def lane(self, page_class: PageClass) -> Lane:
        """Where the pages of a class are read. Raises DbkitError where its engine does not fit its stack."""
        key = self.key_of(page_class)
        if key not in self._lanes:
            self._lanes[key] = self._make_lane(page_class)
        return self._lanes[key]

    @staticmethod
    def key_of(page_class: PageClass) -> Hashable:
        """What classes that share a lane have in common."""
        writes = page_class.engine is None and page_class.writes
        return page_class.stack, id(page_class.engine), page_class.end == "autocommit", writes

    def use(self, database: DatabaseUrl, settings: Settings) -> None:
        """Make lanes of these from now on, and close those of others: their pools would hold connections for nothing.

        No user may be reading any more.
        """
        if (database, settings) == (self._database, self._settings):
            return
        self._of_pages = self._relays.to(database, settings.round_trip_s)
        self._database, self._settings = database, settings
        lanes, self._lanes = self._lanes, {}
        self._engines_in_use.clear()
        for lane in lanes.values():
            if not isinstance(lane, LoopLane):
                lane.close()
        in_loop = [lane for lane in lanes.values() if isinstance(lane, LoopLane)]
        if in_loop and self._loop_thread is not None:
            self._loop_thread.run(partial(_dispose, in_loop))

    def close(self) -> None:
        """Cancel what still runs and close all connections. No user may be reading any more."""
        if self._loop_thread is not None:
            self._loop_thread.stop(self._close_loop_lanes)
        for lane in self._lanes.values():
            if not isinstance(lane, LoopLane):
                lane.close()

    def _make_lane(self, page_class: PageClass) -> GreenletLane | LoopLane | ThreadLane:
        stack = find_stack(page_class.stack)
        if stack.concurrency != "greenlets":
            lock_logs_natively()
        engine = self._make_engine(page_class, stack)
        match stack.concurrency:
            case "greenlets":
                return GreenletLane(engine)
            case "threads":
                return ThreadLane(engine, self.page_timeout_s)
            case "tasks":
                if self._loop_thread is None:
                    self._loop_thread = LoopThread()
                return LoopLane(engine, self._loop_thread, self._settings.close)

    def _make_engine(self, page_class: PageClass, stack: Stack) -> Any:
        settings = replace(self._settings, end=page_class.end, read_only=not page_class.writes)
        if page_class.engine is None:
            if stack.is_async:
                return make_async_engine(self._of_pages, settings, stack.name)
            own = make_engine(self._of_pages, settings, stack.name)
            return for_native_threads(own) if stack.concurrency == "threads" else own
        if settings.round_trip_s and isinstance(page_class.engine, Engine | AsyncEngine):
            raise DbkitError(
                f"{page_class.name}: its engine has a URL of its own, so that --round-trip cannot lead it through a"
                " relay; give the class a function of a URL that makes the engine"
            )
        engine = application_engine(page_class.engine, stack, self._of_pages, page_class.name)
        if engine is page_class.engine:
            if id(engine) in self._engines_in_use:
                engine = with_pool_of_its_own(engine)
                meter(engine)
            elif stack.is_async or os.getpid() != _imported_in:
                # connections that were opened before belong to another loop, or to the parent
                _sync(engine).dispose(close=False)
            self._engines_in_use.add(id(page_class.engine))
        if stack.concurrency == "threads":
            engine = for_native_threads(engine)
        if page_class.end == "autocommit":
            engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        return engine

    async def _close_loop_lanes(self) -> None:
        await _dispose([lane for lane in self._lanes.values() if isinstance(lane, LoopLane)])


async def _dispose(lanes: Sequence[LoopLane]) -> None:
    """Close the connections of lanes, in their loop."""
    for lane in lanes:
        await lane.dispose()


def _sync(engine: Engine | AsyncEngine) -> Engine:
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine
