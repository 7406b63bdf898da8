"""Writes the result of a test that has ended, to the files that were asked for and to the terminal.

For what a result holds see `dbkit.analysis.result`; for how it looks, `dbkit.output`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from locust.env import Environment

from dbkit.errors import DbkitError
from dbkit.load.context import LoadContext
from dbkit.load.locust_patches.csv_writer import finish_writing
from dbkit.load.results import Results
from dbkit.output.console import print_result
from dbkit.output.csv_files import write_files
from dbkit.output.html import report
from dbkit.output.markdown import summary
from dbkit.output.writing import write_text

logger = logging.getLogger(__name__)


class Outputs:
    """The outputs of a single process or a master."""

    def __init__(self, context: LoadContext, results: Results) -> None:
        self._context = context
        self._results = results
        self._printed = False

    def on_test_stop(self, environment: Environment, **_: Any) -> None:
        """Make the final result, and write it."""
        options = self._context.options
        try:
            if self._results.finished:  # Locust stops a test also where none has begun
                return
            self._printed = False
            self._results.finish()
            self._write(environment)  # already now: the plans may take a while, and the process may be ended meanwhile
            if environment.web_ui is not None or options.csv_prefix or options.report:
                self._results.add_plans()
                self._write(environment)
            if not options.headless:
                self._print()
        finally:
            self._context.written.set()

    def on_quit(self, **_: Any) -> None:
        """Print the last result, after Locust's own tables, so that it is what people see first."""
        finish_writing()
        self._print()

    def _write(self, environment: Environment) -> None:
        options, result = self._context.options, self._results.result
        assert result is not None
        writers: dict[str, Callable[[str], None]] = {
            "csv_prefix": lambda prefix: write_files(result, prefix),
            "report": lambda path: write_text(path, report(result), option="--report"),
            "summary": lambda path: write_text(path, summary(result), option="--summary"),
        }
        for option, write in writers.items():
            try:
                if name := getattr(options, option):
                    write(name)
            except DbkitError as mistake:  # the others are still written
                logger.error("%s", mistake)
                environment.process_exit_code = 2

    def _print(self) -> None:
        result = self._results.result
        if result is not None and not self._printed:
            self._printed = True
            sys.stderr.flush()
            print_result(result)
            if self._context.options.report:
                print(f"report: {self._context.options.report}")
            sys.stdout.flush()
