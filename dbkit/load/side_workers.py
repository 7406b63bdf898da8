"""The workers of two revisions, as their master knows them: to which side each belongs, and whether its code stays.

What a worker says of itself is in `dbkit.load.sides`; when new ones are started, in `dbkit.load.processes`.
"""

from __future__ import annotations

from typing import Any

from locust.runners import MasterRunner

from dbkit.load.messages import SIDE
from dbkit.sides.files import error_of_change


class Sides:
    """To which of two revisions each worker of a master belongs, and whether its code has changed."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        """The side of each, by its Locust id, also of those that have ended; empty but in a before and after."""
        self._changed = ""

    def listen(self, runner: Any) -> None:
        """Learn it from the workers' messages. To be called before any can come."""
        if isinstance(runner, MasterRunner):
            runner.register_message(SIDE, self._on_side)

    def _on_side(self, msg: Any, **_: Any) -> None:
        self._changed = self._changed or msg.data["changed"]
        self.of[msg.data["client_id"]] = msg.data["side"]

    def check_unchanged(self) -> None:
        """Raise DbkitError where the code of a side has changed before a worker of it was ready."""
        if self._changed:
            raise error_of_change(self._changed)


def give_users_to(runner: Any, workers: set[str]) -> None:
    """Have a master's next users spawned in some of its workers alone, by their ids. There are no users now."""
    nodes = [client for client in runner.clients.values() if client.id in workers]
    # Locust makes one of all workers where it has none (2.47, runners.py, `MasterRunner.start`)
    runner._users_dispatcher = runner.environment.dispatcher_class(worker_nodes=nodes, user_classes=runner.user_classes)
