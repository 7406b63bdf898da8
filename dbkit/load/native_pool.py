"""psycopg's connections and their pool as native threads use them, in a process that gevent has patched.

A thread waits there by psycopg's own C function, as it does in a process that is not patched, and what threads share is
locked by locks of the system. The hub can end what a thread waits for. The threads are in `dbkit.load.thread_lane`.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from math import inf
from time import perf_counter
from typing import Any

import gevent
import psycopg
import psycopg.waiting
from sqlalchemy import Engine, NullPool, Pool, QueuePool
from sqlalchemy.util.queue import Empty, Full, QueueCommon

from dbkit.database.application import with_pool_of_its_own
from dbkit.database.drivers import shut_down
from dbkit.database.meter import meter
from dbkit.errors import DbkitError
from dbkit.load.native import SimpleQueue, allocate_lock, sleep
from dbkit.load.page import PageTimeout

CANCEL_TIMEOUT_S = 2
"""How long cancelling a query may take, and the server to end it."""
REFUSED_PAUSE_S = 0.05
"""How long a page waits that asks for something more after it was broken off: it may do so without an end."""


class Abandoned(BaseException):
    """Ends a page that was broken off, at the next thing that it asks of the server.

    It is no `Exception`, so that page functions rarely keep it to themselves.
    """


class ThreadWait:
    """What a thread waits for, so that the hub can cancel it on the server, and can never cancel another page's."""

    def __init__(self, page_timeout_s: float) -> None:
        self.page_until_at_s = inf
        """When its page has taken too long, by `time.perf_counter`."""
        self._page_timeout_s = page_timeout_s
        self._lock = allocate_lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._connecting: gevent.Greenlet | None = None
        self._waits = 0
        self._cancelled = 0
        """Which of the waits was cancelled last, by its number from 1."""
        self._abandoned = self._is_broken_off = self._is_gone = self._is_cancelling = False
        self.is_over = False
        """Whether its thread waits for nothing any more."""

    def begin_page(self) -> None:
        """In the thread: a page begins. What was cancelled of the last one is none of its business."""
        self.page_until_at_s = perf_counter() + self._page_timeout_s
        with self._lock:
            self._abandoned = self._is_broken_off = self._is_gone

    def check(self) -> None:
        """In the thread: a page asks for a connection, or begins a statement. Raises Abandoned if it was broken off."""
        if self._is_broken_off:
            sleep(REFUSED_PAUSE_S)
            raise Abandoned

    def begin(self, connection: psycopg.Connection[Any]) -> None:
        """In the thread: a wait begins. Raises Abandoned where the page is; once, as a ROLLBACK comes after it."""
        with self._lock:
            if self._abandoned:
                self._abandoned = False
                raise Abandoned
            self._connection = connection
            self._waits += 1

    def end(self) -> None:
        """In the thread: the wait is over. Waits for a cancelling that is under way."""
        with self._lock:
            self._connection = None

    def connecting(self, greenlet: gevent.Greenlet | None) -> None:
        """On the hub: the greenlet that opens a connection for the thread begins, or None where it has ended."""
        self._connecting = greenlet

    def cancel(self, is_in_flight: Callable[[], bool] | None = None) -> None:
        """On the hub, in a greenlet: cancel the wait that is under way, or else the next one of its page.

        Where the server does not end it soon, its connection is cut. The page gets no further connection, and begins no
        further statement. `is_in_flight` says whether the page that is meant is still there; without it the user is
        gone.
        """
        self._is_gone |= is_in_flight is None
        if self._is_cancelling:  # it would wait for the lock, and the hub with it
            return
        self._is_cancelling = True
        try:
            if self._connecting is not None and (is_in_flight is None or is_in_flight()):
                self._connecting.kill(Abandoned, block=False)
            # the thread cannot go on, and hand its connection to another, before this has ended
            with self._lock:
                if is_in_flight is not None and not is_in_flight():
                    return
                is_first, self._is_broken_off = not self._is_broken_off, True
                if (connection := self._connection) is None:
                    self._abandoned |= is_first
                    return
                if self._cancelled == self._waits:  # its connection is cut before long
                    return
                self._cancelled = wait = self._waits
                with suppress(psycopg.Error):  # the server is gone or too slow
                    connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)
        finally:
            self._is_cancelling = False
        gevent.sleep(CANCEL_TIMEOUT_S)
        if self._is_cancelling:  # a later wait
            return
        with self._lock:
            if self._connection is connection and self._waits == wait and not connection.closed:
                shut_down(connection.pgconn.socket)


current_wait: ContextVar[ThreadWait | None] = ContextVar("dbkit_thread_wait", default=None)


class NativeConnection(psycopg.Connection[Any]):
    """A psycopg connection that waits as in a process that is not patched, in native threads alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = allocate_lock()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """See `psycopg.Connection.cursor`. It comes before each statement, and not before a ROLLBACK."""
        if (waiting := current_wait.get()) is not None:
            waiting.check()
        return super().cursor(*args, **kwargs)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See `psycopg.Connection.wait`."""
        waiting = current_wait.get()
        if waiting is None:
            return super().wait(gen, interval, timeout)
        waiting.begin(self)
        try:
            return psycopg.waiting.wait_c(gen, self.pgconn.socket, interval, timeout)
        finally:
            waiting.end()


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
        if (waiting := current_wait.get()) is not None:
            waiting.check()
        left_s = inf if waiting is None or not block else max(waiting.page_until_at_s - perf_counter(), 0.0)
        is_short = left_s < (inf if timeout is None else timeout)
        try:
            self._tokens.get(block, left_s if is_short else timeout)
        except queue.Empty:
            raise (PageTimeout() if is_short else Empty()) from None
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
