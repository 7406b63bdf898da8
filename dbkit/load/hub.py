"""How native threads reach the gevent hub: functions that they put here run on the hub, in order.

An `async_` watcher is the only thing that wakes a hub from another thread. What the functions do is left to the
callers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import gevent


class HubInbox:
    """Functions for the hub of the thread that made it. Each must return at once: it may spawn a greenlet, not wait."""

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self._functions: deque[Callable[[], object]] = deque()
        self._watcher = self.hub.loop.async_()
        self._watcher.start(self._run)

    def put(self, function: Callable[[], object]) -> None:
        """Have the hub call `function`; from any thread."""
        self._functions.append(function)
        self._watcher.send()

    def close(self) -> None:
        """Take no more. Functions that have been put and not yet called are dropped."""
        self._watcher.close()

    def _run(self) -> None:
        while self._functions:
            self._functions.popleft()()
