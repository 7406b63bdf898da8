"""Writes the result of a test that has ended, to the files that were asked for and to the terminal.

For what a result holds see `dbkit.analysis.result`; for how it looks, `dbkit.output`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from locust import log
from locust.env import Environment

from dbkit.analysis.exit_codes import BAD_INPUT, exit_code_of_checks
from dbkit.analysis.result import Result
from dbkit.analysis.surviving import line_of_mistake, note_mistake
from dbkit.errors import DbkitError
from dbkit.load.context import LoadContext
from dbkit.load.locust_patches.csv_writer import finish_writing
from dbkit.load.results import Results
from dbkit.output.console import print_result
from dbkit.output.csv_files import FILES, write_file
from dbkit.output.github import print_annotations
from dbkit.output.html import report
from dbkit.output.junit import junit
from dbkit.output.markdown import summary
from dbkit.output.writing import write_text

logger = logging.getLogger(__name__)


def write_outputs(result: Result, options: argparse.Namespace) -> list[str]:
    """Write a result to the files that were asked for; a line for each that could not be written."""
    lines = []
    for path, write in _writers(result, options).items():
        try:
            write(path)
        except DbkitError as mistake:  # the others are still written
            lines.append(str(mistake))
        except Exception as error:
            lines.append(line_of_mistake(f"{path} could not be made", error))
    return lines


def _writers(result: Result, options: argparse.Namespace) -> dict[str, Callable[[str], None]]:
    """What writes each file that was asked for, by its path."""
    writers: dict[str, Callable[[str], None]] = {}
    if options.csv_prefix:
        writers |= {f"{options.csv_prefix}_{name}": partial(write_file, result, name) for name in FILES}
    contents: dict[str, Callable[[], str]] = {
        "report": lambda: report(result),
        "summary": lambda: summary(result),
        "junit": lambda: junit(result, options.undecided),
    }
    for option, content in contents.items():
        if path := getattr(options, option):
            writers[path] = partial(_write_content, content, f"--{option}")
    return writers


def _write_content(content: Callable[[], str], option: str, path: str) -> None:
    write_text(path, content(), option=option)


class Outputs:
    """The outputs of a single process or a master."""

    def __init__(self, context: LoadContext, results: Results) -> None:
        self._context = context
        self._results = results
        self._printed = False
        self._said: set[str] = set()
        """The lines on files that could not be written in this test: they are written twice."""

    def on_test_stop(self, environment: Environment, **_: Any) -> None:
        """Make the final result, and write it."""
        options = self._context.options
        try:
            if self._results.finished:  # Locust stops a test also where none has begun
                return
            self._printed = False
            self._said.clear()
            self._results.finish()
            self._set_exit_code(environment)
            self._write(environment)  # already now: the plans may take a while, and the process may be ended meanwhile
            if environment.web_ui is not None or options.csv_prefix or options.report:
                self._results.add_plans()
                self._set_exit_code(environment)
                self._write(environment)
            if not options.headless:
                self._print()
        finally:
            self._context.written.set()

    def on_quit(self, **_: Any) -> None:
        """Print the last result, after Locust's own tables, so that it is what people see first."""
        finish_writing()
        if not self._print():
            sys.exit(BAD_INPUT)  # what Locust ends with has been decided

    def _write(self, environment: Environment) -> None:
        assert self._results.result is not None
        for line in write_outputs(self._results.result, self._context.options):
            environment.process_exit_code = BAD_INPUT
            if line not in self._said:
                self._said.add(line)
                logger.error("%s", line)

    def _set_exit_code(self, environment: Environment) -> None:
        """Have the process end as docs/ci.md says: for pages that failed, and its own errors, Locust has a code."""
        result, runner = self._results.result, environment.runner
        assert result is not None and runner is not None
        if result.missing:
            environment.process_exit_code = BAD_INPUT
        if environment.process_exit_code == BAD_INPUT:
            return
        has_failed = bool(runner.errors or runner.exceptions) and self._context.options.exit_code_on_error != 0
        code = exit_code_of_checks(result, self._context.options.undecided)
        is_locusts = has_failed or log.unhandled_greenlet_exception
        environment.process_exit_code = None if is_locusts else code or None

    def _print(self) -> bool:
        """Print the result, once; whether that could be done."""
        result, options = self._results.result, self._context.options
        if result is None or self._printed:
            return True
        self._printed = True
        sys.stderr.flush()
        try:
            print_result(result)
            if options.report:
                print(f"report: {options.report}")
            print_annotations(result, options.undecided)
            sys.stdout.flush()
        except OSError as error:  # where standard output goes is full, or gone
            logger.error("cannot print the result: %s", error.strerror)
            return False
        except Exception as error:
            note_mistake("the result could not be printed", error)
            return False
        return True
