"""`python -m dbkit forecast`: how fast the classes of a comparison would be with other settings, from its JSON file.

For the model see `dbkit.analysis.forecast`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from dbkit.analysis.forecast import Forecasts, Wanted
from dbkit.analysis.measured import MOST, NoForecast
from dbkit.analysis.records import ClassRow
from dbkit.analysis.result import Result
from dbkit.cli.values import integer, round_trip, several
from dbkit.errors import DbkitError
from dbkit.output.forecast_table import print_forecasts
from dbkit.output.json_file import read_comparison


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "forecast",
        help="say how fast the classes of a comparison would be with other settings, from its JSON file",
        description="From what rounds have measured, forecast pages a second and the mean response time with other "
        "users, pools, processes and round trips of the network. Several values with commas give all combinations; "
        "what is not named stays as it was measured. docs/forecast.md has the assumptions.",
    )
    command.intermixed = True
    command.set_defaults(command=_run)
    command.add_argument("comparison", metavar="<prefix>_comparison.json", help="the file to read")
    command.add_argument(
        "classes", metavar="<class>", nargs="*", default=[], help="user class, or condition; default all"
    )
    counts, times = several(integer(1, "number", MOST)), several(round_trip())
    options = {
        "--round-trip": (times, "what the network takes of each round trip to the database, such as 1ms"),
        "--users": (counts, "users at a time, of all processes together"),
        "--pool-size": (counts, "connections that each process may have, overflow included"),
        "--processes": (counts, "load processes"),
    }
    for flag, (kind, words) in options.items():
        command.add_argument(flag, type=kind, default=(), metavar=f"<{kind.unit}>", help=words)


def _run(options: argparse.Namespace) -> None:
    result = read_comparison(options.comparison)
    wanted = Wanted(
        users=options.users,
        pool_sizes=options.pool_size,
        processes=options.processes,
        round_trips_ms=[seconds * 1000 for seconds in options.round_trip],
    )
    if wanted == Wanted(round_trips_ms=[]):
        raise DbkitError("nothing to forecast: give --round-trip, --users, --pool-size or --processes")
    known = Forecasts(result.strategies, result.slots, result.measured_on)
    found, missing = [], []
    for row in _rows(result, options.classes, options.comparison):
        try:
            [measured] = known.of(row, Wanted())
            found.append((measured, known.of(row, wanted)))
        except NoForecast as reason:
            missing.append(f"no forecast of {row.label}: {reason}")
    if not found:
        raise DbkitError(missing[0] if missing else f"{options.comparison}: nothing was measured")
    print_forecasts(found, missing)


def _rows(result: Result, classes: Sequence[str], path: str) -> list[ClassRow]:
    """The rows of the classes, or of conditions by their names; all where none is named."""
    for name in classes:
        if not any(name in _names(row) for row in result.strategies):
            known = sorted({row.user_class for row in result.strategies})
            raise DbkitError(f"{path} has no class {name}: it has {', '.join(known) or 'none'}")
    return [row for row in result.strategies if not classes or _names(row) & {*classes}]


def _names(row: ClassRow) -> set[str]:
    return {row.user_class, row.label, row.condition}
