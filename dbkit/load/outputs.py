"""When a test has ended: its result, made once, to the files and the terminal.

What a result holds is `dbkit.result`'s, and how it looks `dbkit.files`' and `dbkit.console`'s.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from typing import Any

import psycopg
from locust.env import Environment

from dbkit.console import print_result
from dbkit.errors import DbkitError
from dbkit.files import write_files
from dbkit.load.locust_csv import finish_writing
from dbkit.load.options import OPTIONS_TOLD
from dbkit.load.schedule import Conductor, RoundsShape
from dbkit.load.state import Load
from dbkit.provenance import describe_client, describe_server
from dbkit.result import Result, result_of_mixed_run, result_of_rounds
from dbkit.tally import Tally

logger = logging.getLogger(__name__)


class Outputs:
    """The outputs of a single process or a master."""

    def __init__(self, load: Load, conductor: Conductor) -> None:
        self.result: Result | None = None
        """Of the last test that has ended."""
        self._load = load
        self._conductor = conductor
        self._printed = False

    def on_test_stop(self, environment: Environment, **_: Any) -> None:
        """Make the result and write its files."""
        self.result = self._rounds() if isinstance(environment.shape_class, RoundsShape) else self._mixed_run()
        self._printed = False
        if prefix := self._load.options.csv_prefix:
            try:
                write_files(self.result, prefix)
            except DbkitError as mistake:
                logger.error("%s", mistake)
                environment.process_exit_code = 2
        if not self._load.options.headless:
            self._print()

    def on_quit(self, **_: Any) -> None:
        """Print the last result: after Locust's own tables, so that it is what one sees."""
        finish_writing()
        self._print()

    def _print(self) -> None:
        if self.result is not None and self.result.strategies and not self._printed:
            self._printed = True
            sys.stderr.flush()
            print_result(self.result)
            sys.stdout.flush()

    def _rounds(self) -> Result:
        load = self._load
        return result_of_rounds(
            self._conductor.collect(),
            load.user_classes,
            end=load.test_options.end,
            planned_slots=self._conductor.planned,
            measured_on=self._measured_on(),
            reference=load.test_options.reference or None,
        )

    def _mixed_run(self) -> Result:
        load = self._load
        tallies: defaultdict[str, Tally] = defaultdict(Tally)
        for key, tally in load.recorder.tallies.items():
            tallies[key.user_class].merge(tally)
        return result_of_mixed_run(
            tallies,
            load.user_classes,
            seconds=load.ended_s - load.began_s,
            users=load.test_options.num_users,
            end=load.test_options.end,
            measured_on=self._measured_on(),
        )

    def _measured_on(self) -> dict[str, Any]:
        load = self._load
        server: dict[str, Any] | None = None
        if load.needs_database:
            try:
                server = describe_server(load.database)
            except psycopg.Error as error:
                logger.warning("the server could not be asked for its settings: %s", type(error).__name__)
        return {
            **describe_client(),
            "server": server,
            "pages_in_all": sum(tally.pages for tally in load.recorder.tallies.values()),
            "options": {name: getattr(load.test_options, name) for name in OPTIONS_TOLD},
        }
