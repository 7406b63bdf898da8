"""A limit for the time that a page may take, also where it lets nothing else run."""

from __future__ import annotations

import signal
import sys
from types import TracebackType
from typing import ClassVar

import gevent

from dbkit.database.source_lines import innermost_line, raised_line
from dbkit.load.native import get_ident

BLOCKED_S = 1.0
"""How long after the limit a hub that has not answered is taken to be blocked by the page itself."""


class TookTooLong(Exception):
    """A page, or a task, was broken off at its limit."""

    def __init__(self, seconds: float, line: str | None) -> None:
        super().__init__(f"it took longer than {seconds:g} s")
        self.line = line
        """Where in the application it was, as far as that is known."""


class TimeLimit:
    """Breaks its `with` block off after so many seconds by TookTooLong. To be used in the main greenlet.

    A limit within another one suspends the outer one, which then begins again.
    """

    _current: ClassVar[TimeLimit | None] = None

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer = gevent.Timeout(seconds)
        self._main = gevent.getcurrent()
        self._left_behind: set[int] = set()
        """The threads that pages before go on in."""
        self._outer: TimeLimit | None = None

    def __enter__(self) -> None:
        self._outer = TimeLimit._current
        if self._outer is not None:
            self._outer._timer.cancel()
        self._left_behind = set(_lines_of_threads())
        self._start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
        TimeLimit._current = self._outer
        if self._outer is not None:
            self._outer._start()
        if error is not None and error is self._timer:
            lines = [line for ident, line in _lines_of_threads().items() if ident not in self._left_behind]
            raise TookTooLong(self._seconds, raised_line(error) or next(iter(lines), None)) from None

    def _start(self) -> None:
        TimeLimit._current = self
        self._timer.start()
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self._seconds + BLOCKED_S)

    def _on_alarm(self, *_: object) -> None:
        if gevent.getcurrent() is self._main:  # else the hub runs, and the timer ends the block
            raise self._timer


def _lines_of_threads() -> dict[int, str]:
    """Where in the application other threads are, such as native ones or the loop's, by their idents."""
    frames = {ident: frame for ident, frame in sys._current_frames().items() if ident != get_ident()}
    return {ident: line for ident, frame in frames.items() if (line := innermost_line(frame)) is not None}
