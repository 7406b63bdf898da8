"""The processes that read pages, as the conductor sees them: their users, what they are asked, and who has answered.

In a single process that is the conductor's own. What is asked is in `dbkit.load.messages`; for what a process then does
see `dbkit.load.worker`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent
from locust import User
from locust.runners import MasterRunner

from dbkit.load.messages import CLOSED, CONNECTED, ENOUGH
from dbkit.load.schedules import USERS_A_SECOND

logger = logging.getLogger(__name__)

USERS_TIMEOUT_S = 60
"""How long all of a slot's users may take to be there, or to be gone."""
POLL_S = 0.005


class Processes:
    """The processes that read pages in a test."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._slot: int | None = None
        self.answers: dict[str, set[str]] = {CONNECTED: set(), ENOUGH: set(), CLOSED: set()}
        """The processes that have given each answer in the present slot, by their Locust ids."""
        for message, answered in self.answers.items():
            runner.register_message(message, partial(self._on_answer, answered))

    @property
    def are_there(self) -> bool:
        """Whether at least one is connected."""
        return bool(self._runner.worker_count)

    @property
    def reading(self) -> set[str]:
        """Those that read pages now."""
        if isinstance(self._runner, MasterRunner):
            clients = self._runner.clients
            return {client.id for client in clients.spawning + clients.running}
        return {self._runner.client_id}

    def begin_slot(self, number: int) -> None:
        """Forget the answers of the last slot."""
        self._slot = number
        for answered in self.answers.values():
            answered.clear()

    def ask(self, message: str, about: Mapping[str, Any] | None = None) -> None:
        """Send a message to each of them."""
        self._runner.send_message(message, about)

    def have_users(self, count: int, user_class: type[User]) -> None:
        """Have so many users of a class in all, and wait until they are there."""
        self._runner.start(count, USERS_A_SECOND, user_classes=[user_class])
        self._wait(f"{count} users", lambda: self._runner.user_count == count, USERS_TIMEOUT_S)

    def have_answered(self, answer: str, among: set[str] | None = None) -> bool:
        """Whether all that read pages now, of those `among`, have given an answer in the present slot."""
        return self.answers[answer] >= (self.reading if among is None else self.reading & among)

    def wait_for(self, answer: str, what: str, timeout_s: float, among: set[str] | None = None) -> None:
        """Wait until `have_answered`, and no longer than the timeout; `what` names the answer in a warning."""
        self._wait(what, lambda: self.have_answered(answer, among), timeout_s)

    def _on_answer(self, answered: set[str], msg: Any, **_: Any) -> None:
        if msg.data["slot"] == self._slot:
            answered.add(msg.data["client_id"])

    def _wait(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        until_at_s = time.perf_counter() + timeout_s
        while not is_so():
            if time.perf_counter() > until_at_s:
                logger.warning("timed out after %.0f s waiting for %s of a slot; continuing", timeout_s, what)
                return
            gevent.sleep(POLL_S)
