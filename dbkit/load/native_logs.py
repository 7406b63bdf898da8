"""Logging from native threads and the asyncio loop's, without locks of gevent's."""

from __future__ import annotations

import logging

from dbkit.load.native import RLock


def lock_logs_natively() -> None:
    """Have threads and hub share the locks of `logging` as in a process that is not patched.

    To be called before pages are read beside the hub, and after Locust has made its handlers.
    """
    of_system = type(RLock())
    if not isinstance(logging._lock, of_system):  # type: ignore[attr-defined]
        logging._lock = RLock()  # type: ignore[attr-defined]
    for reference in logging._handlerList:  # type: ignore[attr-defined]
        handler = reference()
        if handler is not None and handler.lock is not None and not isinstance(handler.lock, of_system):
            handler.lock = RLock()
