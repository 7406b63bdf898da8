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
from dbkit.sides.files import changed_file
from dbkit.sides.redirect import foreign_modules, present_route

SIDE_VARIABLE = "DBKIT_SIDE_NAME"
"""The name of the side that a worker belongs to."""
PROCESS_VARIABLE = "DBKIT_SIDE_PROCESS"
"""The number of a worker's place among those of its side, from 0."""
AGAIN_VARIABLE = "DBKIT_SIDE_AGAIN"
"""How many workers were in the place of this one before it; not set for the first."""
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


def process_seed(runner: Any) -> str:
    """What tells the seeds of this process from those of others that read pages.

    Processes of both sides have the same, so that they read the same keys; those of another round have another.
    """
    if SIDE_VARIABLE not in os.environ:
        return str(runner.worker_index)
    return f"{os.environ[PROCESS_VARIABLE]}.{os.environ.get(AGAIN_VARIABLE, 0)}"


def process_name(runner: Any) -> str:
    """What a process is called among those that read pages; one in the place of another has the same name."""
    side = os.environ.get(SIDE_VARIABLE)
    return f"{side}/{os.environ[PROCESS_VARIABLE]}" if side else str(runner.client_id)


def keys_verified_by(runner: Any, options: argparse.Namespace) -> int:
    """How many keys this process verifies before it reads under load.

    A master of two sides has the code of one alone. A worker in the place of another one verifies one key, as the
    one before it has verified all.
    """
    if isinstance(runner, MasterRunner) and options.sides:
        return 0
    return min(options.verify_keys, 1) if AGAIN_VARIABLE in os.environ else int(options.verify_keys)


def tell_side(runner: Any) -> None:
    """Have a worker that is ready to read tell its master its side, and a file of it that has changed."""
    if isinstance(runner, WorkerRunner) and (side := os.environ.get(SIDE_VARIABLE)):
        about = {"client_id": runner.client_id, "side": side, "changed": changed_file(present_route())}
        runner.send_message(SIDE, about)


def start_again_when_asked(environment: Environment) -> None:
    """Have a worker end when its master asks for a new process in its place, which `dbkit diff` then starts."""
    runner = environment.runner

    def on_start_again(**_: Any) -> None:
        # after listeners of a locustfile that set an exit code of their own
        environment.events.quit.add_listener(lambda **_: sys.exit(exit_codes.START_AGAIN))
        gevent.spawn(runner.quit)  # type: ignore[union-attr]

    if isinstance(runner, WorkerRunner):
        runner.register_message(START_AGAIN, on_start_again)
