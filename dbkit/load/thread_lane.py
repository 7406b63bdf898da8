"""Native threads: one for each user's stint, as a web application has one for each request that it serves at a time.

They run beside the hub in a process that gevent has patched. So psycopg waits there by its own C function, as it does
in a process that is not patched, and what the threads share is locked by locks of the system: the pool's queue, and
each connection. A new connection is opened on the hub, because psycopg's way of opening one was patched at its import.

A page function of one's own can log, and can sleep. It must not share a lock or a queue of `threading` or `queue` with
other threads: gevent has replaced them, and a native thread that waits for one can wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Generic, TypeVar, cast

import gevent
from gevent.hub import Waiter
from sqlalchemy import Engine, Pool
from sqlalchemy.orm import configure_mappers

from dbkit.errors import DbkitError
from dbkit.load.hub import HubInbox, HubInboxClosed, destroy_hub
from dbkit.load.lag import SAMPLE_S, LagMeter
from dbkit.load.lanes import connections_to_open, open_all, read_pages, read_sync
from dbkit.load.native import allocate_lock, get_ident, sleep, start_new_thread
from dbkit.load.native_pool import NativeConnection, ThreadWait, current_wait
from dbkit.load.page import Page
from dbkit.load.page_class import PageSource
from dbkit.load.page_limits import LOOK_S
from dbkit.load.stint import Stint
from dbkit.measure.cost import current_cost
from dbkit.workload import Key

Result = TypeVar("Result")

CLOSE_TIMEOUT_S = 10
"""How long threads may take to end once their users are gone."""
POLL_S = 0.01


def _ignore(greenlet: gevent.Greenlet | None) -> None:
    pass


class ThreadLane:
    """A native thread for each stint, and psycopg; with an engine that `for_native_threads` has made."""

    def __init__(self, engine: Engine, page_timeout_s: float) -> None:
        self._page_timeout_s = page_timeout_s
        self._inbox = HubInbox()
        self._hub_ident = get_ident()
        self._threads = 0
        self._engine = engine
        self._engine.dialect.connect = self._connect  # type: ignore[method-assign, assignment]
        self._has_connected = False
        self._connecting: tuple[gevent.Greenlet, _Call[None]] | None = None

    @property
    def pool(self) -> Pool:
        return self._engine.pool

    def read_one(self, source: PageSource, key: Key) -> Any:
        return self._run_in(ThreadWait(self._page_timeout_s), partial(self._read, source, key))

    def read_pages(self, stint: Stint) -> None:
        wait = ThreadWait(self._page_timeout_s)
        woken = allocate_lock()
        woken.acquire()
        stint.wake = partial(_release, woken)

        def break_off(page: Page) -> None:
            if page.broken_off_at_s is None:
                page.broken_off_at_s = perf_counter()
            gevent.spawn(wait.cancel, lambda: stint.page_in_flight is page)

        stint.break_off = break_off

        def think(seconds: float) -> None:
            if seconds:
                woken.acquire(timeout=-1 if seconds == inf else seconds)
            else:
                sleep(0)

        def read_one(source: PageSource, key: Key) -> Any:
            wait.begin_page()
            return self._read(source, key)

        try:
            self._run_in(wait, partial(read_pages, stint, read_one, think))
        except BaseException:
            stint.stop()
            raise

    def open_connections(self, count: int) -> None:
        if not self._has_connected:
            self._connect_first()
        count = connections_to_open(self._engine.pool, count)
        open_all(lambda: self._run_in(ThreadWait(self._page_timeout_s), self._engine.connect), count)

    def measure_lag(self, meter: LagMeter) -> None:
        over = allocate_lock()
        over.acquire()

        def sample() -> None:
            # a thread that has slept waits for the interpreter as one does whose answer has come
            since_at_s = perf_counter() + SAMPLE_S
            while not over.acquire(timeout=SAMPLE_S):
                meter.add(since_at_s)
                since_at_s = perf_counter() + SAMPLE_S

        try:
            self._run(sample)
        finally:
            over.release()

    def close(self) -> None:
        if self._connecting is not None:  # for users who are gone
            self._connecting[0].kill(block=False)
        with gevent.Timeout(CLOSE_TIMEOUT_S, False):
            while self._threads:
                gevent.sleep(POLL_S)
        self._engine.dispose()
        self._inbox.close()

    def _read(self, source: PageSource, key: Key) -> Any:
        if not self._has_connected:
            try:
                self._on_hub(self._connect_first)
            except BaseException:
                if (cost := current_cost.get()) is not None:
                    cost.connect_failed = True
                raise
        return read_sync(self._engine, source, key)

    def _connect_first(self) -> None:
        """Open a connection while no thread reads: SQLAlchemy's locks for all that is done once are patched ones.

        Who comes while another one tries waits for the same outcome.
        """

        def connect() -> None:
            configure_mappers()
            with self._engine.connect() as connection:
                if not isinstance(connection.connection.driver_connection, NativeConnection):
                    raise DbkitError(
                        "psycopg-threads cannot use an engine that connects by a function of its own (creator):"
                        " make it with connect_args instead"
                    )
            self._has_connected = True

        if self._connecting is None or self._connecting[0].dead:
            call = _Call(connect)
            self._connecting = gevent.spawn(call.make), call
        greenlet, call = self._connecting
        greenlet.join()
        call.outcome()

    def _connect(self, *args: Any, **kwargs: Any) -> NativeConnection:
        connect = partial(NativeConnection.connect, *args, **kwargs)
        if get_ident() == self._hub_ident:
            return connect()
        if (wait := current_wait.get()) is None:
            return self._on_hub(connect)
        wait.check()
        return self._on_hub(connect, wait.connecting)

    def _run_in(self, wait: ThreadWait, function: Callable[[], Result]) -> Result:
        """As `_run`, with what the thread waits for cancelled where the calling greenlet is killed."""

        def run() -> Result:
            current_wait.set(wait)
            try:
                return function()
            finally:
                wait.is_over = True

        try:
            return self._run(run)
        except BaseException:
            # in a greenlet of its own: who is killed does not wait for the server
            gevent.spawn(_cancel_until_over, wait)
            raise

    def _run(self, function: Callable[[], Result]) -> Result:
        """Call `function` in a native thread, and wait for it in this greenlet alone."""
        call = _Call(function)
        waiter = Waiter()

        def ended() -> None:
            self._threads -= 1
            waiter.switch(None)

        def run() -> None:
            call.make()
            destroy_hub()
            with suppress(HubInboxClosed):  # the caller is gone long since
                self._inbox.put(ended)

        start_new_thread(run, ())
        self._threads += 1
        waiter.get()
        return call.outcome()

    def _on_hub(
        self,
        function: Callable[[], Result],
        runs_in: Callable[[gevent.Greenlet | None], object] = _ignore,
    ) -> Result:
        """Call `function` in a greenlet of the hub, and wait for it in this native thread.

        `runs_in` gets the greenlet before the call, and None after it. Raises HubInboxClosed where the lane is closed.
        """
        call = _Call(function)
        done = allocate_lock()
        done.acquire()

        def run() -> None:
            runs_in(gevent.getcurrent())
            call.make()
            runs_in(None)
            done.release()

        self._inbox.put(partial(gevent.spawn, run))
        done.acquire()
        return call.outcome()


def _cancel_until_over(wait: ThreadWait) -> None:
    """Cancel what a thread waits for whose user is gone, again and again: its page may keep that to itself."""
    while not wait.is_over:
        wait.cancel()
        gevent.sleep(LOOK_S)


class _Call(Generic[Result]):
    """A call that is made in one thread, and whose outcome is wanted in another."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Call the function."""
        try:
            self._result = self._function()
        except BaseException as error:  # whatever it is, it belongs to who waits for the outcome
            self._error = error

    def outcome(self) -> Result:
        """What it returned. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return cast(Result, self._result)


def _release(lock: Any) -> None:
    with suppress(RuntimeError):  # it was released already, perhaps by another thread at this moment
        lock.release()
