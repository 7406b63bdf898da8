"""A file of Locust's that cannot be written costs one line and the exit code, and nothing else.

Where a disk is full, Locust (2.47) ends with a traceback: out of its CSV writer (stats.py), `--json-file` (stats.py) or
`--html` (main.py), and what comes after that is not done. Where the folder is deleted meanwhile, it writes CSV files
that nobody sees. So its CSV files go on without those that fail; and its HTML report is written before the exit code is
decided. dbkit's own files are left to `dbkit.load.outputs`.
"""

from __future__ import annotations

import csv
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from locust import stats
from locust.env import Environment
from locust.html import get_html_report, process_html_filename
from locust.stats import StatsCSV, StatsCSVFileWriter

from dbkit.analysis.exit_codes import BAD_INPUT
from dbkit.errors import DbkitError
from dbkit.output.writing import unwritable, write_text

logger = logging.getLogger(__name__)

_CSV_FILES = ("requests", "stats_history", "failures", "exceptions")

_not_written: set[str] = set()


def survive_unwritable_files() -> None:
    """Have Locust's CSV and JSON files take errors of the system for what they are; before Locust opens any."""
    file_writer: Any = StatsCSVFileWriter
    no_writer: Any = StatsCSV
    make, close = file_writer.__init__, file_writer.close_files

    def make_and_guard(writer: Any, *arguments: Any, **options: Any) -> None:
        make(writer, *arguments, **options)
        for name in _CSV_FILES:
            file = _Guarded(getattr(writer, f"{name}_csv_filehandle"))
            setattr(writer, f"{name}_csv_filehandle", file)
            setattr(writer, f"{name}_csv_writer", csv.writer(file))

    def close_and_look(writer: Any) -> None:
        close(writer)
        for name in _CSV_FILES:
            getattr(writer, f"{name}_csv_filehandle").look()
        end_where_unwritten(writer)

    def end_where_unwritten(_: Any) -> None:
        if _not_written:
            sys.exit(BAD_INPUT)  # Locust is about to end with what it has decided before

    file_writer.__init__, file_writer.close_files = make_and_guard, close_and_look
    no_writer.close_files = end_where_unwritten
    stats.save_stats_json = _guarded_json(stats.save_stats_json)


def take_html_report(environment: Environment) -> None:
    """Write the file of `--html` in Locust's place, when the process ends in whichever way."""
    options = environment.parsed_options
    if options is None or not options.html_file:
        return
    process_html_filename(options)
    path, options.html_file = options.html_file, None

    def on_quitting(**_: Any) -> None:
        try:
            write_text(path, get_html_report(environment, show_download_link=False), option="--html")
        except DbkitError as mistake:
            logger.error("%s", mistake)
            environment.process_exit_code = BAD_INPUT

    environment.events.quitting.add_listener(on_quitting)


def _guarded_json(save: Callable[..., None]) -> Callable[..., None]:
    def save_if_possible(numbers: Any, name: str) -> None:
        try:
            save(numbers, name)
        except OSError as error:
            note_unwritten(f"{name}.json", error.strerror, "--json-file")

    return save_if_possible


def note_unwritten(path: str, reason: str | None, option: str, say: Callable[[str], object] = logger.error) -> None:
    """Say once of a file that it cannot be written, and have Locust end with that exit code."""
    if path not in _not_written:
        _not_written.add(path)
        say(unwritable(path, reason, option))


class _Guarded:
    """A file of text whose errors are noted, once, and raised nowhere."""

    def __init__(self, file: Any) -> None:
        self._file = file

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def write(self, text: str) -> int:
        self._attempt(self._file.write, text)
        return len(text)

    def seek(self, place: int) -> int:
        return int(self._attempt(self._file.seek, place) or 0)

    def tell(self) -> int:
        return int(self._attempt(self._file.tell) or 0)

    def truncate(self) -> None:
        self._attempt(self._file.truncate)

    def flush(self) -> None:
        self._attempt(self._file.flush)

    def close(self) -> None:
        self._attempt(self._file.close)

    def look(self) -> None:
        """Note where the file is there no more under its name."""
        if not os.path.exists(self._file.name):
            note_unwritten(self._file.name, "it was deleted meanwhile", "--csv")

    def _attempt(self, do: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except OSError as error:
            note_unwritten(self._file.name, error.strerror, "--csv")
            return None
