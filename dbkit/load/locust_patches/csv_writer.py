"""Locust's own CSV files, to the last page, and without formulas.

Locust writes them once a second and not at the end, so that the last pages are missing; its writer, woken once more
after the files are closed, ends with a traceback; and `--json` and `--json-file` empty the statistics, so that files
written later hold zeros. Names and messages stand in them as they are, so that a spreadsheet would run one that begins
like a formula. What is in the files is left to Locust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gevent
from locust import stats
from locust.stats import CSV_STATS_INTERVAL_SEC, StatsCSV, StatsCSVFileWriter

from dbkit.output.csv_files import harmless

_writers: list[gevent.Greenlet] = []


def track_csv_writer() -> None:
    """Have the writer of this process known from its start on; before Locust starts it."""
    write, close = StatsCSVFileWriter.stats_writer, StatsCSVFileWriter.close_files

    def known_writer(writer: StatsCSVFileWriter) -> None:
        if writer.requests_csv_filehandle.closed:
            return  # the process ended before its writer had begun
        _writers.append(gevent.getcurrent())
        write(writer)

    def close_files(writer: StatsCSVFileWriter) -> None:
        _end_writers()
        close(writer)

    StatsCSVFileWriter.stats_writer = known_writer  # type: ignore[assignment, method-assign]
    StatsCSVFileWriter.close_files = close_files  # type: ignore[method-assign, assignment]
    stats.print_stats_json = _after_the_csv(stats.print_stats_json)
    stats.save_stats_json = _after_the_csv(stats.save_stats_json)


def write_no_formulas() -> None:
    """Have names and messages written so that no spreadsheet takes them for formulas, also those of downloads."""
    for made, name in (
        *((StatsCSV, f"_{table}_data_rows") for table in ("requests", "failures", "exceptions")),
        (StatsCSVFileWriter, "_stats_history_data_rows"),
    ):
        setattr(made, name, _harmless_rows(getattr(made, name)))


def _harmless_rows(write_rows: Callable[..., None]) -> Callable[..., None]:
    def write_harmless(stats_csv: StatsCSV, csv_writer: Any, *args: Any) -> None:
        write_rows(stats_csv, _HarmlessRows(csv_writer), *args)

    return write_harmless


class _HarmlessRows:
    """A CSV writer in whose rows text is no formula."""

    def __init__(self, csv_writer: Any) -> None:
        self._csv_writer = csv_writer

    def writerow(self, row: Iterable[Any]) -> None:
        self._csv_writer.writerow(harmless(each) if isinstance(each, str) else each for each in row)


def _after_the_csv(empty: Callable[..., None]) -> Callable[..., None]:
    def finish_and_empty(*args: Any) -> None:
        finish_writing()
        empty(*args)

    return finish_and_empty


def finish_writing() -> None:
    """Let the writer write once more, and end it; the files are still open. Takes a second where there is one."""
    if _writers:
        gevent.sleep(CSV_STATS_INTERVAL_SEC * 1.1)
        _end_writers()


def _end_writers() -> None:
    gevent.killall(_writers)
    _writers.clear()
