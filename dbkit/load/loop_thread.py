"""One asyncio loop in one native thread, callable from the greenlets of a gevent-patched process.

asyncio cannot run inside gevent's hub, and Locust's users are greenlets; so coroutines run in a thread of their own,
on uvloop (asyncio's own loop needs `selectors`, which gevent has patched), and a caller's greenlet sleeps until its
own is done while the others go on. Finished calls come back through a `HubInbox`. What runs in the loop is left to the
callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import gevent
import uvloop
from gevent.hub import Waiter

from dbkit.load.hub import HubInbox, destroy_hub
from dbkit.load.native import allocate_lock, get_ident, sleep, start_new_thread

Result = TypeVar("Result")

CANCEL_TIMEOUT_S = 10
"""How long `stop` waits for cancelled calls to end; their drivers give up after a few seconds themselves."""

LAST_TIMEOUT_S = 1
"""How long it then waits for other tasks, and for generators of pages to close."""


class LoopThreadError(RuntimeError):
    """The loop thread was called in a way that could never answer."""


class LoopThread:
    """A running loop thread. It belongs to the hub of the thread that made it; make one after any fork."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._loop.set_default_executor(_NativeThreads(self._loop))
        self._inbox = HubInbox()
        self._calls: set[_Call[Any]] = set()
        self._stopping = self._is_over = False
        self._ended = allocate_lock()
        self._ended.acquire()
        self._ident: int = start_new_thread(self._run_loop, ())

    def run(self, function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run `function()` in the loop and return its result, or raise its exception with its traceback.

        Only the calling greenlet waits. If it is killed meanwhile, the coroutine is cancelled, and the kill goes on at
        once. Raises LoopThreadError when called from the loop's own thread, from a thread with another hub, or after
        `stop`.
        """
        if get_ident() == self._ident:
            raise LoopThreadError("the loop thread cannot wait for itself; await the coroutine instead")
        if gevent.get_hub() is not self._inbox.hub:
            raise LoopThreadError("the loop thread is called from another thread than the one that made it")
        if self._stopping:
            raise LoopThreadError("the loop thread has been stopped; make a new one")
        return self._call(function)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have the loop call `function` soon, and do not wait for it; from any thread."""
        self._loop.call_soon_threadsafe(function)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Have the loop call `function` after so many seconds, if it still runs, and do not wait for it."""
        with suppress(RuntimeError):  # it has been closed
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, function)

    def stop(self, clean_up: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Cancel what still runs, wait for it, run `clean_up()` in the loop, and wait for the thread to end.

        Callers that were waiting get `asyncio.CancelledError`. Stopping again does nothing. Raises what `clean_up`
        raises, after the thread has ended.
        """
        if self._stopping:
            return
        self._stopping = True
        try:
            self._call(self._cancel_all)
            self._call(self._close_generators)  # before, as they may have connections to hand back
            if clean_up is not None:
                self._call(clean_up)
        finally:
            self._loop.call_soon_threadsafe(self._end_loop)
            # held from here for the moments in which the thread closes its loop
            self._ended.acquire()
            self._inbox.close()
            for call in self._calls:  # would not be cancelled; nothing else can wake their callers any more
                call.error = LoopThreadError("the loop thread has been stopped before the call ended")
                self._inbox.hub.loop.run_callback(call.waiter.switch, call)

    def _call(self, function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        call = _Call(function)
        self._loop.call_soon_threadsafe(self._begin, call)
        try:
            call.waiter.get()
        except BaseException:
            self._loop.call_soon_threadsafe(call.cancel)
            raise
        if call.error is not None:
            raise call.error
        return cast(Result, call.result)

    def _run_loop(self) -> None:
        try:
            asyncio.set_event_loop(self._loop)
            while not self._is_over:
                # asyncio lets these end the loop, too, where a task raises them; who awaits the task gets them as well
                with suppress(SystemExit, KeyboardInterrupt):
                    self._loop.run_forever()
            self._loop.close()
        finally:
            self._ended.release()

    def _end_loop(self) -> None:
        self._is_over = True
        self._loop.stop()

    def _begin(self, call: _Call[Any]) -> None:
        self._calls.add(call)
        call.task = self._loop.create_task(self._run_call(call))
        # a task that is cancelled before its first step runs nothing of its own
        call.task.add_done_callback(lambda task: self._finish(call))

    async def _run_call(self, call: _Call[Any]) -> None:
        try:
            call.result, call.error = await call.function(), None
        except BaseException as error:  # any error is raised in the caller
            call.error = error
        self._finish(call)

    def _finish(self, call: _Call[Any]) -> None:
        if call not in self._calls:
            return
        self._calls.discard(call)
        self._inbox.put(partial(call.waiter.switch, call))
        # give the interpreter lock away, or the caller waits for it for up to a switch interval of 5 ms; meanwhile its
        # connection lies idle in the pool, which closes those beyond its size
        sleep(0)

    async def _cancel_all(self) -> None:
        this = asyncio.current_task()
        for call in self._calls:
            if call.task is not this:
                call.cancel()
        # tasks that the calls have started, such as closing a session, are left to finish
        if others := asyncio.all_tasks() - {this}:
            _, left = await asyncio.wait(others, timeout=CANCEL_TIMEOUT_S)
            # tasks that pages have started, and that nobody waits for
            if forgotten := [task for task in left if not task.cancelling()]:
                for task in forgotten:
                    task.cancel()
                await asyncio.wait(forgotten, timeout=LAST_TIMEOUT_S)

    async def _close_generators(self) -> None:
        """Close the asynchronous generators that pages have left open, as far as they do so in time."""
        closing = asyncio.ensure_future(self._loop.shutdown_asyncgens())
        _, left = await asyncio.wait([closing], timeout=LAST_TIMEOUT_S)
        if left:
            closing.cancel()
            await asyncio.wait([closing], timeout=LAST_TIMEOUT_S)


class _NativeThreads(ThreadPoolExecutor):
    """Runs in native threads what a coroutine hands to the loop's executor, as `asyncio.to_thread` does.

    The usual executor's threads would be greenlets here, of a hub that never runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop  # and no more: the queue and the locks of the usual one are patched

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See `concurrent.futures.Executor.submit`. What it returns is a future of the loop."""
        future = self._loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = function(*args, **kwargs)
            except BaseException as raised:  # it belongs to who waits for the future
                error = raised
            destroy_hub()
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                self._loop.call_soon_threadsafe(finish, result, error)

        start_new_thread(run, ())
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Threads end by themselves."""


class _Call(Generic[Result]):
    """One call on its way through the loop and back; the loop's thread alone touches its task."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self.function = function
        self.waiter = Waiter()
        self.task: asyncio.Task[None] | None = None
        self.result: Any = None
        self.error: BaseException | None = asyncio.CancelledError()
        """What the call ended with; as it stands where it was cancelled before it began."""

    def cancel(self) -> None:
        # once: a second cancellation would break off the driver's cancelling of its query
        if self.task is not None and not self.task.cancelling():
            self.task.cancel()
