"""Waking users up at their time, to some hundredths of a millisecond: event loops know milliseconds alone.

The loops of gevent and of asyncio round to a millisecond, so that a user who thinks, or waits for a page to be due, is
woken up to a millisecond late: in the time of a page that takes three, and not on all stacks alike. A timer of the
system (`timerfd_create(2)`) wakes the loop as an answer of the server does. There is one for each lane, however many
users sleep in it. Where the system has none, as only Linux has, lanes use the timers of their loops.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime, perf_counter
from typing import Any

from dbkit.load.native import close

_NONBLOCK, _CLOSE_ON_EXEC, _ABSOLUTE = os.O_NONBLOCK, os.O_CLOEXEC, 1
_NANOSECONDS = 1_000_000_000

Watch = Callable[[int, Callable[[], object]], Callable[[], object]]
"""Has a function called in the loop whenever a descriptor can be read; returns what ends that."""


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Alarm:
    """One user's. It rings once, unless it is cancelled before."""

    __slots__ = ("_ring",)

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring: Callable[[], object] | None = ring

    def cancel(self) -> None:
        """Do not ring."""
        self._ring = None

    def ring(self) -> None:
        """Ring now, unless it was cancelled."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring()


class Alarms:
    """The alarms of one event loop, whose thread alone calls this."""

    def __init__(self, watch: Watch) -> None:
        """Raises OSError where the system gives no timer."""
        self._timer = _libc.timerfd_create(CLOCK_MONOTONIC, _NONBLOCK | _CLOSE_ON_EXEC)
        if self._timer < 0:
            _raise_last_error()
        self._stop_watching = watch(self._timer, self._ring)
        self._waiting: list[tuple[float, int, Alarm]] = []
        self._count = 0

    @classmethod
    def where_there_are_any(cls, watch: Watch) -> Alarms | None:
        """Alarms, or None where the system has no such timers."""
        return None if _libc is None else cls(watch)

    def after(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        """Have `ring` called when so many seconds have passed."""
        alarm = Alarm(ring)
        at_s = perf_counter() + seconds
        self._count += 1  # alarms cannot be compared
        heapq.heappush(self._waiting, (at_s, self._count, alarm))
        if self._waiting[0][2] is alarm:
            self._set(at_s)
        return alarm

    def close(self) -> None:
        """Ring no more."""
        self._stop_watching()
        self._waiting.clear()
        close(self._timer)

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it has been set to a later time
            os.read(self._timer, 8)
        while self._waiting and self._waiting[0][0] <= perf_counter():
            heapq.heappop(self._waiting)[2].ring()
        if self._waiting:
            self._set(self._waiting[0][0])

    def _set(self, at_s: float) -> None:
        at_ns = round((clock_gettime(CLOCK_MONOTONIC) + at_s - perf_counter()) * _NANOSECONDS)
        seconds, nanoseconds = divmod(max(at_ns, 1), _NANOSECONDS)  # 0 would disarm it
        timer = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(seconds, nanoseconds))
        if _libc.timerfd_settime(self._timer, _ABSOLUTE, ctypes.byref(timer), None) < 0:
            _raise_last_error()


def _raise_last_error() -> None:
    number = ctypes.get_errno()
    raise OSError(number, errno.errorcode.get(number, "timerfd"))
