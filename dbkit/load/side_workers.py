"""The workers of two revisions, as their master knows them: to which side each belongs, and whether its code stays.

What a worker says of itself is in `dbkit.load.sides`; when new ones are started, in `dbkit.load.processes`.
"""

from __future__ import annotations

from typing import Any

from locust.runners import MasterRunner

from dbkit.errors import DbkitError
from dbkit.load.messages import SIDE


class Sides:
    """To which of two revisions each worker of a master belongs, and what it has imported."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        """The side of each, by its Locust id, also of those that have ended; empty but in a before and after."""
        self._digests: dict[tuple[str, str], str] = {}
        """Of what was imported first: by side and file."""
        self._changed = ""

    def listen(self, runner: Any) -> None:
        """Learn it from the workers' messages. To be called before any can come."""
        if isinstance(runner, MasterRunner):
            runner.register_message(SIDE, self._on_side)

    def _on_side(self, msg: Any, **_: Any) -> None:
        side = msg.data["side"]
        for path, digest in msg.data["files"].items():
            if self._digests.setdefault((side, path), digest) != digest:
                self._changed = path
        self.of[msg.data["client_id"]] = side

    def check_unchanged(self) -> None:
        """Raise DbkitError where a worker has imported another content of a file than those before it."""
        if self._changed:
            raise DbkitError(
                f"{self._changed} has changed since the run began: its result has the rounds before; compare two"
                " commits, such as main..HEAD, to go on with your files meanwhile"
            )


def give_users_to(runner: Any, workers: set[str]) -> None:
    """Have a master's next users spawned in some of its workers alone, by their ids. There are no users now."""
    nodes = [client for client in runner.clients.values() if client.id in workers]
    # Locust makes one of all workers where it has none (2.47, runners.py, `MasterRunner.start`)
    runner._users_dispatcher = runner.environment.dispatcher_class(worker_nodes=nodes, user_classes=runner.user_classes)
