"""Two revisions under one master: each worker belongs to one side, and reads pages in the slots of its side alone.

`dbkit diff` starts the workers, with the name of their side in the environment, and says on every command line which
two sides there are (`--sides`). For the turns of a side see `dbkit.load.conductor`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from dbkit.analysis import exit_codes
from dbkit.analysis.condition import Variant
from dbkit.analysis.revisions import REVISION, Revisions
from dbkit.cli.values import read_sides
from dbkit.database.url import URL_VARIABLE
from dbkit.errors import DbkitError
from dbkit.load.messages import SIDE, START_AGAIN
from dbkit.load.options import database_of_variant
from dbkit.sides.redirect import foreign_modules

SIDE_VARIABLE = "DBKIT_SIDE_NAME"
"""The name of the side that a worker belongs to."""
PROCESS_VARIABLE = "DBKIT_SIDE_PROCESS"
"""The number of a worker among those of its side, from 0."""
AGAIN_VARIABLE = "DBKIT_SIDE_AGAIN"
"""Is set for a worker that was started in the place of another one."""
BEFORE = "before"
"""The name of the database of the side before, where that has one of its own: see `named_database`."""
REVISIONS_VARIABLE = "DBKIT_REVISIONS_FILE"
"""The file with `dbkit.analysis.revisions.Revisions` as JSON, which a master puts into its result."""


def read_revisions() -> Revisions | None:
    """What is known of both sides besides times; None where no two are compared."""
    path = os.environ.get(REVISIONS_VARIABLE)
    return msgspec.json.decode(Path(path).read_bytes(), type=Revisions) if path else None


def side_of_variant(variant: Variant) -> str | None:
    """The side whose workers read the pages of a variant; None where all do."""
    return dict(variant).get(REVISION)


def database_of(variant: Variant, sides: str) -> str:
    """The name of the database that is read in a slot of that variant, as a master has it: each side may have one."""
    if (
        sides
        and side_of_variant(variant) == read_sides(sides)[0]
        and os.environ.get(f"{URL_VARIABLE}_{BEFORE.upper()}")
    ):
        return BEFORE
    return database_of_variant(variant)


def check_imports() -> None:
    """Raise DbkitError where this process belongs to a side and has imported code of another one."""
    if foreign := foreign_modules(sys.modules):
        raise DbkitError(f"not imported from this revision: {'; '.join(foreign)}")


def process_number(runner: Any) -> int:
    """The number of this process among those that read pages; of one side, so that both sides read the same keys."""
    return int(os.environ.get(PROCESS_VARIABLE, runner.worker_index))


def keys_verified_by(runner: Any, options: argparse.Namespace) -> int:
    """How many keys this process verifies before it reads under load.

    A master of two sides has the code of one alone. A worker in the place of another one only has each class read a
    page, as all keys have been verified by then.
    """
    if isinstance(runner, MasterRunner) and options.sides:
        return 0
    return min(options.verify_keys, 1) if AGAIN_VARIABLE in os.environ else int(options.verify_keys)


def learn_sides(runner: Any, sides: dict[str, str]) -> None:
    """Have a master know to which side each worker belongs, by its Locust id. Before any message can come."""

    def on_side(msg: Any, **_: Any) -> None:
        sides[msg.data["client_id"]] = msg.data["side"]

    if isinstance(runner, MasterRunner):
        runner.register_message(SIDE, on_side)


def tell_side(runner: Any) -> None:
    """Have a worker tell its master to which side it belongs."""
    if isinstance(runner, WorkerRunner) and (side := os.environ.get(SIDE_VARIABLE)):
        runner.send_message(SIDE, {"client_id": runner.client_id, "side": side})


def start_again_when_asked(environment: Environment) -> None:
    """Have a worker end when its master asks for a new process in its place, which `dbkit diff` then starts."""
    runner = environment.runner

    def on_start_again(**_: Any) -> None:
        environment.process_exit_code = exit_codes.START_AGAIN
        gevent.spawn(runner.quit)  # type: ignore[union-attr]

    if isinstance(runner, WorkerRunner):
        runner.register_message(START_AGAIN, on_start_again)


def give_users_to(runner: Any, workers: set[str]) -> None:
    """Have a master's next users spawned in some of its workers alone, by their ids. There are no users now."""
    nodes = [client for client in runner.clients.values() if client.id in workers]
    # Locust makes one of all workers where it has none (2.47, runners.py, `MasterRunner.start`)
    runner._users_dispatcher = runner.environment.dispatcher_class(worker_nodes=nodes, user_classes=runner.user_classes)
