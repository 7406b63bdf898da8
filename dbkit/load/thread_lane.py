"""Native threads: one for each user's stint, as a web application has one for each request that it serves at a time.

They run beside the hub in a process that gevent has patched. So psycopg waits there by its own C function, as it does
in a process that is not patched, and what the threads share is locked by locks of the system: the pool's queue, and
each connection. A new connection is opened on the hub, because psycopg's way of opening one was patched at its import.

A page function of one's own can log, and can sleep. It must not share a lock or a queue of `threading` or `queue` with
other threads: gevent has replaced them, and a native thread that waits for one can wait for ever.
"""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Generic, TypeVar, cast

import gevent
import psycopg
import psycopg.waiting
from gevent.hub import Waiter
from sqlalchemy import Engine, NullPool, Pool, QueuePool
from sqlalchemy.orm import configure_mappers
from sqlalchemy.util.queue import Empty, Full, QueueCommon

from dbkit.database.application import with_pool_of_its_own
from dbkit.database.meter import meter
from dbkit.errors import DbkitError
from dbkit.load.hub import HubInbox, destroy_hub
from dbkit.load.lag import SAMPLE_S, LagMeter
from dbkit.load.lanes import connections_to_open, open_all, read_pages, read_sync
from dbkit.load.native import RLock, SimpleQueue, allocate_lock, get_ident, sleep, start_new_thread
from dbkit.load.page_class import PageSource
from dbkit.load.stint import Stint
from dbkit.workload import Key

Result = TypeVar("Result")

CANCEL_TIMEOUT_S = 2
CLOSE_TIMEOUT_S = 10
"""How long threads may take to end once their users are gone."""
POLL_S = 0.01


class Abandoned(Exception):
    """Ends a page whose user is gone, at the next thing that it asks of the server."""


class _Query:
    """What a thread waits for, so that the hub can cancel it on the server, and can never cancel another page's."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._abandoned = False

    def begin(self, connection: psycopg.Connection[Any]) -> None:
        """In the thread: a wait begins. Raises Abandoned where the user is gone; once, as a ROLLBACK comes after it."""
        with self._lock:
            if self._abandoned:
                self._abandoned = False
                raise Abandoned
            self._connection = connection

    def end(self) -> None:
        """In the thread: the wait is over. Waits for a cancelling that is under way."""
        with self._lock:
            self._connection = None

    def cancel(self) -> None:
        """On the hub: cancel the wait that is under way, or else the next one."""
        # the thread cannot go on, and hand its connection to another, before this has ended
        with self._lock:
            if self._connection is None:
                self._abandoned = True
                return
            with suppress(psycopg.Error):  # the server is gone or too slow: the thread ends when its driver gives up
                self._connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)


_query: ContextVar[_Query | None] = ContextVar("dbkit_query", default=None)


class NativeConnection(psycopg.Connection[Any]):
    """A psycopg connection that waits as in a process that is not patched, in native threads alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = allocate_lock()

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See `psycopg.Connection.wait`."""
        query = _query.get()
        if query is None:
            return super().wait(gen, interval, timeout)
        query.begin(self)
        try:
            return psycopg.waiting.wait_c(gen, self.pgconn.socket, interval, timeout)
        finally:
            query.end()


class NativeQueue(QueueCommon[Any]):
    """The pool's queue for native threads."""

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        self.maxsize = maxsize
        self.use_lifo = use_lifo
        self._items: deque[Any] = deque()
        self._tokens = SimpleQueue()
        """One for each item: a thread waits for a token, and takes an item with it."""
        self._putting = allocate_lock()

    def qsize(self) -> int:
        return int(self._tokens.qsize())

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        return 0 < self.maxsize <= self.qsize()

    def put_nowait(self, item: Any) -> None:
        with self._putting:
            if self.full():
                raise Full
            self._items.append(item)
            self._tokens.put(None)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        # a pool never waits to hand a connection back
        self.put_nowait(item)

    def get_nowait(self) -> Any:
        return self.get(False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            self._tokens.get(block, timeout)
        except queue.Empty:
            raise Empty from None
        return self._items.pop() if self.use_lifo else self._items.popleft()


class NativeQueues(QueuePool):
    """SQLAlchemy's queue pool for native threads."""

    _queue_class = NativeQueue

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._overflow_lock = allocate_lock()


def for_native_threads(engine: Engine) -> Engine:
    """The same engine, metered, with a pool for native threads. Raises DbkitError where its pool has none like it."""
    pool_class: type[Pool] = type(engine.pool)
    if isinstance(engine.pool, QueuePool):
        pool_class = type(f"Native{pool_class.__name__}", (NativeQueues, pool_class), {})
    elif not isinstance(engine.pool, NullPool):
        raise DbkitError(
            f"psycopg-threads cannot use an engine with a {pool_class.__name__}: give it a QueuePool or a NullPool"
        )
    native: Engine = with_pool_of_its_own(engine, pool_class)
    meter(native)
    return native


class ThreadLane:
    """A native thread for each stint, and psycopg; with an engine that `for_native_threads` has made."""

    def __init__(self, engine: Engine) -> None:
        self._inbox = HubInbox()
        self._hub_ident = get_ident()
        self._threads = 0
        self._engine = engine
        self._engine.dialect.connect = self._connect  # type: ignore[method-assign, assignment]
        _lock_logs_natively()
        self._has_connected = False
        self._connecting: tuple[gevent.Greenlet, _Call[None]] | None = None

    @property
    def pool(self) -> Pool:
        return self._engine.pool

    def read_one(self, source: PageSource, key: Key) -> Any:
        return self._run(partial(self._read, source, key))

    def read_pages(self, stint: Stint) -> None:
        query = _Query()
        woken = allocate_lock()
        woken.acquire()
        stint.wake = partial(_release, woken)

        def think(seconds: float) -> None:
            if seconds:
                woken.acquire(timeout=-1 if seconds == inf else seconds)
            else:
                sleep(0)

        def read() -> None:
            _query.set(query)
            read_pages(stint, self._read, think)

        try:
            self._run(read)
        except BaseException:
            stint.stop()
            # in a greenlet of its own: who is killed does not wait for the server
            gevent.spawn(query.cancel)
            raise

    def open_connections(self, count: int) -> None:
        if not self._has_connected:
            self._connect_first()
        count = connections_to_open(self._engine.pool, count)
        open_all(partial(self._run, self._engine.connect), count)

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
        with gevent.Timeout(CLOSE_TIMEOUT_S, False):
            while self._threads:
                gevent.sleep(POLL_S)
        self._engine.dispose()
        self._inbox.close()

    def _read(self, source: PageSource, key: Key) -> Any:
        if not self._has_connected:
            self._on_hub(self._connect_first)
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
        return connect() if get_ident() == self._hub_ident else self._on_hub(connect)

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
            self._inbox.put(ended)

        start_new_thread(run, ())
        self._threads += 1
        waiter.get()
        return call.outcome()

    def _on_hub(self, function: Callable[[], Result]) -> Result:
        """Call `function` in a greenlet of the hub, and wait for it in this native thread."""
        call = _Call(function)
        done = allocate_lock()
        done.acquire()

        def run() -> None:
            call.make()
            done.release()

        self._inbox.put(partial(gevent.spawn, run))
        done.acquire()
        return call.outcome()


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


def _lock_logs_natively() -> None:
    """Have threads and hub share the locks of `logging` as in a process that is not patched."""
    logging._lock = RLock()  # type: ignore[attr-defined]
    for reference in logging._handlerList:  # type: ignore[attr-defined]
        if (handler := reference()) is not None and handler.lock is not None:
            handler.lock = RLock()


def _release(lock: Any) -> None:
    with suppress(RuntimeError):  # it was released already, perhaps by another thread at this moment
        lock.release()
