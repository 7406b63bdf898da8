"""How native threads reach the gevent hub: functions that they put here run on the hub, in order.

An `async_` watcher is the only thing that wakes a hub from another thread. What the functions do is left to the
callers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import gevent
from gevent._hub_local import get_hub_if_exists

from dbkit.load.native import allocate_lock


class HubInboxClosed(RuntimeError):
    """A function was put where nobody looks any more."""


def destroy_hub() -> None:
    """Destroy the hub of this native thread, which is about to end, where it has one.

    A function of somebody's own may have used what gevent has patched, and so have made a hub here.
    """
    if (hub := get_hub_if_exists()) is not None:
        hub.destroy(destroy_loop=True)


class HubInbox:
    """Functions for the hub of the thread that made it. Each must return at once: it may spawn a greenlet, not wait."""

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self._functions: deque[Callable[[], object]] = deque()
        self._lock = allocate_lock()
        self._is_closed = False
        self._watcher = self.hub.loop.async_()
        self._watcher.start(self._run)

    def put(self, function: Callable[[], object]) -> None:
        """Have the hub call `function`; from any thread. Raises HubInboxClosed after `close`."""
        with self._lock:  # else it could be closed in between, and who waits for the function would wait for ever
            if self._is_closed:
                raise HubInboxClosed("the hub takes no more calls of this thread: its users are gone")
            self._functions.append(function)
            self._watcher.send()

    def close(self) -> None:
        """Take no more. Functions that have been put are still called."""
        with self._lock:
            self._is_closed = True
        self._watcher.close()
        self.hub.loop.run_callback(self._run)

    def _run(self) -> None:
        while self._functions:
            self._functions.popleft()()
