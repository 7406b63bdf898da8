"""Lanes: where the pages of a stack are read, one after the other, without leaving it for the next one.

A stack of greenlets has its lane on the hub, an async one in the loop thread, and `dbkit.load.thread_lane` has native
threads. A user's own greenlet only enters the lane and waits until its stint is over: a page never waits for Locust.
For what a stint reads, and when, see `dbkit.load.stint`; for how Locust gets finished pages, `dbkit.load.outbox`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Protocol

import gevent
from gevent import GreenletExit
from gevent.event import Event
from gevent.socket import wait_read
from sqlalchemy import Connection, Engine, Pool, QueuePool, event
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.application import pool_keeps
from dbkit.database.meter import cut_connection, cut_connection_of
from dbkit.database.settings import SessionClose
from dbkit.load.alarms import Alarm, Alarms
from dbkit.load.lag import SAMPLE_S, Echo, LagMeter
from dbkit.load.loop_thread import LoopThread, LoopThreadError
from dbkit.load.page import Page, PageTimeout
from dbkit.load.page_class import PageSource
from dbkit.load.page_limits import CUT_AFTER_S, is_to_be_cut
from dbkit.load.signals import EndedBySignal
from dbkit.load.stint import Stint
from dbkit.paging import read_page, read_page_async
from dbkit.workload import Key

HAND_BACK_TIMEOUT_S = 10
"""How long users who are gone may take to hand their connections back."""
CLOSE_TIMEOUT_S = 2
"""How long closing the connections of an async engine may take, before they are cut."""
POLL_S = 0.005


class Lane(Protocol):
    """Where the pages of one stack are read. Called by greenlets of the hub; each call waits for its end."""

    def read_pages(self, stint: Stint) -> None:
        """Read the pages of a stint until it is over. A greenlet that is killed meanwhile breaks its page off."""

    @property
    def pool(self) -> Pool:
        """Where its connections come from."""

    def read_one(self, source: PageSource, key: Key) -> Any:
        """Read one page that nobody asked for, such as before a run. Raises what its function raises."""

    def open_connections(self, count: int) -> None:
        """Have at least so many connections in the pool, or as many as it keeps. Raises what the driver raises."""

    def measure_lag(self, meter: LagMeter) -> None:
        """Sample how long an answer waits in the lane for its reader, until the calling greenlet is killed."""


def is_of_page(error: BaseException) -> bool:
    """Whether it is a page that has failed; else its user was stopped, or a signal ends the process."""
    if isinstance(error, KeyboardInterrupt):  # or Ctrl-C, where that is Python's own: in `dbkit try`
        return signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return not isinstance(error, gevent.GreenletExit | gevent.Timeout | EndedBySignal)


def read_sync(engine: Engine, source: PageSource, key: Key) -> Any:
    """Read a page with a sync engine. Raises what its function raises."""
    return read_page(engine, source.function, *key, end=source.end)


def read_pages(stint: Stint, read: Callable[[PageSource, Key], Any], sleep: Callable[[float], object]) -> None:
    """Read a stint's pages by `read`; `LoopLane._read_pages` is the same for coroutines."""
    pause_s = stint.first_pause_s()
    while True:
        while pause_s is not None:
            sleep(pause_s)
            pause_s = stint.further_pause_s()
        if (page := stint.ask()) is None:
            return
        try:
            with page.cost:
                page.rendered = read(page.source, page.key)
        except BaseException as error:
            if not is_of_page(error):
                raise
            page.error = error
        if stint.killed:  # and the page has kept it to itself: see `PageUser.end_by`
            raise GreenletExit
        stint.put(page)
        pause_s = stint.pause_s(page)
        del page  # thousands of users may sleep now


def connections_to_open(pool: Pool, users: int) -> int:
    """How many connections to check out at once, so that `users` need open none, as far as the pool keeps them.

    The pool gives first what came back first, also where that was lost with a user who was killed, and opens it then.
    So all that it has are checked out, once users who are gone have handed theirs back.
    """
    if not isinstance(pool, QueuePool):
        return 0  # it keeps none
    until_at_s = perf_counter() + HAND_BACK_TIMEOUT_S
    while pool.checkedout() and perf_counter() < until_at_s:
        gevent.sleep(POLL_S)
    return max(min(users, pool_keeps(pool)), pool.checkedin())


def open_all(connect: Callable[[], Connection], count: int) -> None:
    """Have a pool open so many connections at once, as a distant server takes many round trips for each."""
    opened: list[Connection] = []
    errors: list[Exception] = []

    def open_one() -> None:
        try:
            opened.append(connect())
        except Exception as error:
            errors.append(error)

    opening = [gevent.spawn(open_one) for _ in range(count)]
    try:
        gevent.joinall(opening)
    except BaseException:  # the test is stopped
        gevent.killall(opening, block=False)
        raise
    for connection in opened:
        connection.close()
    if errors:
        raise errors[0]


class GreenletLane:
    """Greenlets of the hub itself, and psycopg, whose waits gevent makes cooperative."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alarms = Alarms.where_there_are_any(_watch_on_hub)

    @property
    def pool(self) -> Pool:
        return self._engine.pool

    def read_one(self, source: PageSource, key: Key) -> Any:
        return read_sync(self._engine, source, key)

    def read_pages(self, stint: Stint) -> None:
        woken = Event()
        reader: Any = gevent.getcurrent()

        def break_off(page: Page) -> None:
            if page.broken_off_at_s is None:
                page.broken_off_at_s = perf_counter()
                reader.throw(PageTimeout)
            else:  # its function has kept that to itself
                cut_connection_of(self._engine, page.cost)

        stint.wake, stint.break_off = woken.set, break_off

        def think(seconds: float) -> None:
            if not seconds:
                gevent.sleep(0)
                return
            alarm = self._alarms.after(seconds, woken.set) if self._alarms and seconds < inf else None
            try:
                woken.wait(None if alarm or seconds == inf else seconds)
                woken.clear()
            finally:
                if alarm is not None:
                    alarm.cancel()

        read_pages(stint, self.read_one, think)

    def open_connections(self, count: int) -> None:
        open_all(self._engine.connect, connections_to_open(self._engine.pool, count))

    def measure_lag(self, meter: LagMeter) -> None:
        with Echo.opened() as echo:
            while True:
                gevent.sleep(SAMPLE_S)
                sent_at_s = echo.send()
                wait_read(echo.reading_end)
                meter.add(sent_at_s)
                echo.receive()

    def close(self) -> None:
        if self._alarms is not None:
            self._alarms.close()
        self._engine.dispose()


def _watch_on_hub(descriptor: int, ready: Callable[[], object]) -> Callable[[], object]:
    watcher = gevent.get_hub().loop.io(descriptor, 1, ref=False)
    watcher.start(ready)

    def end() -> None:
        watcher.stop()
        watcher.close()

    return end


class LoopLane:
    """Tasks of the asyncio loop in the loop thread."""

    def __init__(self, engine: AsyncEngine, loop_thread: LoopThread, close: SessionClose) -> None:
        self._engine = engine
        self._loop_thread = loop_thread
        self._close = close
        self._alarms: Alarms | None = None

    @property
    def pool(self) -> Pool:
        return self._engine.pool

    def read_one(self, source: PageSource, key: Key) -> Any:
        return self._loop_thread.run(partial(self._read, source, key))

    def read_pages(self, stint: Stint) -> None:
        try:
            self._loop_thread.run(partial(self._read_pages, stint))
        except BaseException:
            if (page := stint.page_in_flight) is not None:  # which its task now breaks off
                self._loop_thread.call_later(CUT_AFTER_S, partial(self._cut, page))
            raise

    def open_connections(self, count: int) -> None:
        count = connections_to_open(self._engine.pool, count)
        self._loop_thread.run(partial(self._open_connections, count))

    def measure_lag(self, meter: LagMeter) -> None:
        with suppress(asyncio.CancelledError, LoopThreadError):  # the test was stopped during a slot
            self._loop_thread.run(partial(self._measure_lag, meter))

    async def dispose(self) -> None:
        """Close the connections, in the loop: with the thread, which all async stacks share."""
        if self._alarms is not None:
            self._alarms.close()
        pool, closing = self._engine.sync_engine.pool, []
        event.listen(pool, "close", lambda dbapi_connection, record: closing.append(dbapi_connection))
        disposing = asyncio.ensure_future(self._engine.dispose())
        await asyncio.wait([disposing], timeout=CLOSE_TIMEOUT_S)
        while not disposing.done() and closing:  # asyncpg waits for an answer to its good-bye
            cut_connection(self._engine, closing[-1])
            await asyncio.wait([disposing], timeout=POLL_S)
        await disposing

    async def _read_pages(self, stint: Stint) -> None:
        this_task: Any = asyncio.current_task()
        if self._alarms is None:
            self._alarms = Alarms.where_there_are_any(_watch_in_loop)
        thinking = _Thinking(self._loop_thread, self._alarms)
        stint.wake = thinking.wake_soon
        stint.break_off = lambda page: self._loop_thread.call_soon(partial(self._break_off, stint, page, this_task))
        pause_s = stint.first_pause_s()
        while True:
            while pause_s is not None:
                await thinking.sleep(pause_s)
                pause_s = stint.further_pause_s()
            if (page := stint.ask()) is None:
                return
            try:
                with page.cost:
                    page.rendered = await self._read(page.source, page.key)
            except BaseException as error:
                is_killed = this_task.cancelling() > (page.broken_off_at_s is not None)
                if isinstance(error, GeneratorExit) or is_killed or not is_of_page(error):
                    raise
                page.error = error
            if page.broken_off_at_s is not None:
                this_task.uncancel()
            stint.put(page)
            pause_s = stint.pause_s(page)
            del page  # thousands of users may sleep now

    def _break_off(self, stint: Stint, page: Page, task: asyncio.Task[Any]) -> None:
        if stint.in_flight is not page:
            return
        if page.broken_off_at_s is not None:
            if is_to_be_cut(page, perf_counter()):  # the loop may be behind with what it was asked for
                self._cut(page)
        elif not task.cancelling():  # a second cancellation would break off the driver's cancelling of its query
            page.broken_off_at_s = perf_counter()
            task.cancel()

    def _cut(self, page: Page) -> None:
        if page.cost.in_progress:
            cut_connection_of(self._engine, page.cost)

    async def _read(self, source: PageSource, key: Key) -> Any:
        return await read_page_async(
            self._engine, source.function, *key, end=source.end, close=self._close, awaited=source.is_async
        )

    async def _measure_lag(self, meter: LagMeter) -> None:
        loop, received = asyncio.get_running_loop(), asyncio.Event()
        with Echo.opened() as echo:
            loop.add_reader(echo.reading_end, received.set)
            try:
                while True:
                    await asyncio.sleep(SAMPLE_S)
                    sent_at_s = echo.send()
                    await received.wait()
                    meter.add(sent_at_s)
                    echo.receive()
                    received.clear()
            finally:
                loop.remove_reader(echo.reading_end)

    async def _open_connections(self, count: int) -> None:
        async with AsyncExitStack() as opened:
            # at once, as a distant server takes many round trips for each
            connections = await asyncio.gather(*(self._engine.connect() for _ in range(count)), return_exceptions=True)
            for each in connections:
                if not isinstance(each, BaseException):
                    opened.push_async_callback(each.close)
        for each in connections:
            if isinstance(each, BaseException):
                raise each


def _watch_in_loop(descriptor: int, ready: Callable[[], object]) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ready)
    return lambda: loop.remove_reader(descriptor)


class _Thinking:
    """A user's sleep in the loop, which others can end."""

    def __init__(self, loop_thread: LoopThread, alarms: Alarms | None) -> None:
        self._loop_thread = loop_thread
        self._alarms = alarms
        self._woken = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`, or until it is woken up; 0 lets others run once."""
        if not seconds:
            await asyncio.sleep(0)
            return
        timer: Alarm | asyncio.TimerHandle | None = None
        if seconds < inf and self._alarms is not None:
            timer = self._alarms.after(seconds, self._woken.set)
        elif seconds < inf:
            timer = asyncio.get_running_loop().call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
            self._woken.clear()
        finally:
            if timer is not None:
                timer.cancel()

    def wake_soon(self) -> None:
        """End the sleep, or the next one; from any thread."""
        self._loop_thread.call_soon(self._woken.set)
