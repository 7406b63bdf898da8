"""Work that may hold pages up, and so waits for a pause of the schedule, where no page is in flight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from gevent.event import AsyncResult

Answer = TypeVar("Answer")


class Pauses:
    """The pauses of one process's schedules. Where no schedule runs, there is always a pause."""

    def __init__(self) -> None:
        self._is_running = False
        self._waiting: list[tuple[Callable[[], Any], AsyncResult[Any]]] = []

    def begin(self) -> None:
        """A schedule begins."""
        self._is_running = True

    def end(self) -> None:
        """It has ended."""
        self._is_running = False
        self.pause()

    def pause(self) -> None:
        """No page is in flight: call what waits for that."""
        while self._waiting:
            function, result = self._waiting.pop(0)
            try:
                result.set(function())
            except Exception as error:
                result.set_exception(error)

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Call a function in the next pause; wait for what it returns. What it raises is raised here."""
        if not self._is_running:
            return function()
        result: AsyncResult[Answer] = AsyncResult()
        self._waiting.append((function, result))
        return cast(Answer, result.get())
