"""The processes that read pages, as the conductor sees them: their users, what they are asked, and who has answered.

In a single process that is the conductor's own. What is asked is in `dbkit.load.messages`; for what a process then does
see `dbkit.load.worker`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent
from locust import User
from locust.runners import MasterRunner, WorkerNode

from dbkit.errors import DbkitError
from dbkit.load.messages import CLOSED, CONNECTED, ENOUGH, START_AGAIN
from dbkit.load.schedules import USERS_A_SECOND
from dbkit.load.side_workers import Sides, give_users_to

logger = logging.getLogger(__name__)

USERS_TIMEOUT_S = 60
"""How long all of a slot's users may take to be there, or to be gone."""
START_TIMEOUT_S = 600
"""How long workers of two revisions may take to start, and to verify pages. `dbkit diff` notices one that ends."""
PLACEHOLDER = "dbkit: processes that start again"
"""In the place of workers that are being started again, among those that Locust knows."""
POLL_S = 0.005


class Processes:
    """The processes that read pages in a test."""

    def __init__(self, runner: Any, sides: Sides, last_reports: set[str]) -> None:
        self._runner = runner
        self._slot: int | None = None
        self._sides = sides
        self._last_reports = last_reports
        self._at_first: Counter[str] = Counter()
        """How many each side had when the test began."""
        self._side: str | None = None
        """The side whose slot it is; None where all take part."""
        self.answers: dict[str, set[str]] = {CONNECTED: set(), ENOUGH: set(), CLOSED: set()}
        """The processes that have given each answer in the present slot, by their Locust ids."""
        for message, answered in self.answers.items():
            runner.register_message(message, partial(self._on_answer, answered))

    @property
    def are_there(self) -> bool:
        """Whether at least one is connected."""
        return bool(self._runner.worker_count)

    def wait_for_sides(self) -> None:
        """Wait until each that is connected has said to which of two revisions it belongs.

        Raises DbkitError where the code of a side is another one by now.
        """
        self._wait("the sides", lambda: self._sides.of.keys() >= self._there, START_TIMEOUT_S)
        self._at_first = self._counted()
        self._sides.check_unchanged()

    def start_again(self) -> None:
        """Have new processes in the place of all workers of two revisions.

        No users are there now, and all have reported. `dbkit diff` starts the processes. Where one does not come, the
        next slot says so: see `begin_slot`. Raises DbkitError where the code of a side is another one by now.
        """
        clients = self._runner.clients
        gone = [*clients]
        self._last_reports.update(gone)
        self._runner._users_dispatcher = None  # it knows those that are gone
        # Locust ends a run when its last worker quits, and takes it for stopped where there is none
        clients[PLACEHOLDER] = WorkerNode(PLACEHOLDER, heartbeat_liveness=2 * START_TIMEOUT_S)
        try:
            for client_id in gone:
                self._runner.send_message(START_AGAIN, None, client_id)
                del clients[client_id]
            self._wait("processes to start again", lambda: self._counted() >= self._at_first, START_TIMEOUT_S)
        finally:
            del clients[PLACEHOLDER]
        self._sides.check_unchanged()

    def _counted(self) -> Counter[str]:
        """How many workers of each side are ready."""
        return Counter(self._sides.of[client_id] for client_id in self._there & self._sides.of.keys())

    @property
    def reading(self) -> set[str]:
        """Those that read pages now; of one side, where two revisions are compared."""
        if isinstance(self._runner, MasterRunner):
            clients = self._runner.clients
            reading = {client.id for client in clients.spawning + clients.running}
            return reading if self._side is None else reading & self._of_side(self._side)
        return {self._runner.client_id}

    def begin_slot(self, number: int, side: str | None = None) -> None:
        """Forget the answers of the last slot; let those of a `side` alone take part in this one.

        Raises DbkitError where one of these has gone: fewer would read less.
        """
        self._slot, self._side = number, side
        for answered in self.answers.values():
            answered.clear()
        if side is not None:
            workers = self._of_side(side)
            if len(workers) < max(self._at_first[side], 1):
                raise DbkitError(f"a load process of {side} is there no more; the run ends here")
            give_users_to(self._runner, workers)

    def ask(self, message: str, about: Mapping[str, Any] | None = None) -> None:
        """Send a message to each of them."""
        if self._side is None:
            self._runner.send_message(message, about)
        else:
            for client_id in self._of_side(self._side):
                self._runner.send_message(message, about, client_id)

    def _of_side(self, side: str) -> set[str]:
        """The workers of a side that are there."""
        return {client_id for client_id in self._there if self._sides.of.get(client_id) == side}

    @property
    def _there(self) -> set[str]:
        """The workers that are connected to a master."""
        clients = self._runner.clients
        return {client.id for client in clients.ready + clients.spawning + clients.running}

    def have_users(self, count: int, user_class: type[User]) -> None:
        """Have so many users of a class in all, and wait until they are there."""
        self._runner.start(count, USERS_A_SECOND, user_classes=[user_class])
        self._wait(f"{count} users of a slot", lambda: self._runner.user_count == count, USERS_TIMEOUT_S)

    def have_answered(self, answer: str, among: set[str] | None = None) -> bool:
        """Whether all that read pages now, of those `among`, have given an answer in the present slot."""
        return self.answers[answer] >= (self.reading if among is None else self.reading & among)

    def wait_for(self, answer: str, what: str, timeout_s: float, among: set[str] | None = None) -> None:
        """Wait until `have_answered`, and no longer than the timeout; `what` names the answer in a warning."""
        self._wait(f"{what} of a slot", lambda: self.have_answered(answer, among), timeout_s)

    def _on_answer(self, answered: set[str], msg: Any, **_: Any) -> None:
        if msg.data["slot"] == self._slot:
            answered.add(msg.data["client_id"])

    def _wait(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        until_at_s = time.perf_counter() + timeout_s
        while not is_so():
            if time.perf_counter() > until_at_s:
                logger.warning("timed out after %.0f s waiting for %s; continuing", timeout_s, what)
                return
            gevent.sleep(POLL_S)
