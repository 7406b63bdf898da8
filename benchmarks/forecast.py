"""How good forecasts are: pages a second and response times that were forecast, beside what was measured by a relay.

    python -m benchmarks.forecast
    python -m benchmarks.forecast --strategies core lazy --stacks asyncpg --round-trips 1ms --users 1,10 --rounds 9

For each class `locust -f locustfiles/rounds.py` runs all combinations of users, pools and distances of the database in
turns. All of them but the near ones are forecast from one near one: with `--rest-on` users, and the largest pool. For
forecasts see `dbkit.analysis.forecast`, for the relay `dbkit.database.relay`.

It prints the cells that are off by more than 15 %, the median error, and the share of the cells within 15 %. Exit code
1 where those are fewer than 90 %. With all classes it takes about half an hour.

No forecast is better than what it is held against. Users without a connection only wait, so that 10 and 50 users with
10 connections are the same twice, as is one user with any pool. How far such measurements lie apart is printed too: it
is what the machine and short turns add to any error. On a quiet machine, or with more rounds, it is little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.readers import user_class
from dbkit.analysis.forecast import Forecasts, Wanted
from dbkit.analysis.formats import number
from dbkit.analysis.measured import NoForecast
from dbkit.analysis.model_records import Forecast
from dbkit.analysis.result import Result
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.values import duration, integer, round_trip, several
from dbkit.database.engines import find_database
from dbkit.database.stacks import STACKS
from dbkit.errors import DbkitError
from dbkit.output.json_file import read_comparison
from dbkit.output.terminal import output_console
from dbkit.paging import STRATEGIES
from dbkit.todo.dataset import read_shape

PROG = "python -m benchmarks.forecast"
WITHIN = 0.15
"""The error that a forecast may have."""
SHARE = 0.9
"""The share of the cells that should be within it."""
ROUND_TRIPS_S = (0.0005, 0.001, 0.005)
USERS = (1, 10, 50)
POOL_SIZES = (2, 10)
WARM_UP = "0.2"


def main() -> None:
    options = _parse()
    read_shape(find_database())
    console = output_console(piped_width=110)
    cells: list[Forecast] = []
    classes = [user_class(stack, strategy) for strategy in options.strategies for stack in options.stacks]
    began_at_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for count, name in enumerate(classes, 1):
            found = _cells(_measure(name, options, Path(options.keep or folder)), name, options)
            cells += found
            minutes = (time.monotonic() - began_at_s) / 60
            console.print(f"{minutes:.0f} min, {count} of {len(classes)}: {name}: {_summary(map(error, found))}")
    _print(console, cells, show_all=options.all)
    if sum(abs(error(cell)) <= WITHIN for cell in cells) < max(SHARE * len(cells), 1):
        sys.exit(1)


def error(cell: Forecast) -> float:
    """By which share more pages a second were forecast than were measured; below 0 for fewer."""
    assert cell.pages_per_s_error is not None
    return cell.pages_per_s_error


def response_error(cell: Forecast) -> float:
    """The same of the mean response time."""
    assert cell.response_ms_error is not None
    return cell.response_ms_error


def _measure(name: str, options: argparse.Namespace, folder: Path) -> Result:
    """What a class did in each cell, and near; read from the folder where that is there already."""
    prefix = folder / name
    users = sorted({*options.users, options.rest_on})
    varied = [f"round-trip=0,{','.join(f'{1000 * each:g}ms' for each in options.round_trips)}"]
    pools = sorted(options.pool_sizes)
    if len(pools) > 1:
        varied.append(f"pool-size={','.join(map(str, pools))}")
    command = [
        *(sys.executable, "-m", "locust", "-f", "locustfiles/rounds.py", "--headless", "--csv", str(prefix)),
        *("--loads", ",".join(map(str, users)), "--vary", " ".join(varied), "--pool-size", str(pools[0])),
        *("--max-overflow", "0", "--rounds", str(options.rounds), "--slot-time", str(options.slot_time)),
        # where users get no connection, a slot would last until each has read several pages
        *(
            "--max-slot-time",
            str(options.slot_time),
            "--warm-up",
            WARM_UP,
            "--budget",
            "86400",
            "--plans",
            "none",
            name,
        ),
    ]
    if not Path(f"{prefix}_comparison.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        if run.returncode:
            raise DbkitError(f"Locust ended with {run.returncode}: {run.stderr.strip()}")
    return read_comparison(f"{prefix}_comparison.json")


def _cells(result: Result, name: str, options: argparse.Namespace) -> list[Forecast]:
    """The forecasts of what was measured farther away."""
    forecasts = Forecasts(result.strategies, result.slots, result.measured_on)
    wanted = Wanted(
        users=options.users,
        pool_sizes=options.pool_sizes,
        round_trips_ms=[1000 * seconds for seconds in options.round_trips],
    )
    most = str(max(options.pool_sizes))
    for row in result.strategies:
        is_near = row.settings["round-trip"] == "0ms" and row.settings.get("pool-size", most) == most
        if is_near and row.users == options.rest_on:
            try:
                return [cell for cell in forecasts.of(row, wanted) if cell.measured_pages_per_s]
            except NoForecast as reason:
                raise DbkitError(f"no forecast of {row.label}: {reason}") from None
    raise DbkitError(f"{name} was not measured near: it failed, or the run was cut short")


def _summary(errors: Iterable[float]) -> str:
    off = [abs(each) for each in errors]
    within = sum(each <= WITHIN for each in off)
    return (
        f"median error {100 * median(off):.1f} %, {within} of {len(off)} cells ({within / len(off):.0%}) "
        f"within {WITHIN:.0%}"
        if off
        else "no cell was measured"
    )


def _print(console: Console, cells: Sequence[Forecast], *, show_all: bool) -> None:
    shown = [cell for cell in cells if show_all or abs(error(cell)) > WITHIN]
    if shown:
        table = Table(title="pages/s, forecast and measured" + ("" if show_all else f", off by more than {WITHIN:.0%}"))
        for heading in ("class", "users", "pool", "round trip", "forecast", "measured", "error", "error of ms"):
            table.add_column(heading, justify="left" if heading == "class" else "right")
        for cell in shown:
            settings = cell.user_class, str(cell.users), str(cell.pool_size), f"{cell.round_trip_ms:g} ms"
            figures = number(cell.pages_per_s), number(cell.measured_pages_per_s)
            table.add_row(*settings, *figures, f"{error(cell):+.0%}", f"{response_error(cell):+.0%}")
        console.print(table)
    _print_settings(console, cells)
    console.print(f"pages a second: {_summary(map(error, cells))}")
    # where users wait for a connection, those that never get one are in no response time that was measured
    all_connected = [cell for cell in cells if cell.users <= cell.pool_size]
    console.print(f"mean response times, where all have a connection: {_summary(map(response_error, all_connected))}")
    console.print(f"the same measured twice, as if one were the forecast: {_summary(_repeats(cells))}")


def _print_settings(console: Console, cells: Sequence[Forecast]) -> None:
    """The errors of all classes by the setting: what is wrong with the model has one sign there."""
    table = Table(title="all classes")
    for heading in ("users", "pool", "round trip", "cells", f"within {WITHIN:.0%}", "median, with its sign", "median"):
        table.add_column(heading, justify="right")
    for users, pool, away_ms in sorted({(cell.users, cell.pool_size, cell.round_trip_ms) for cell in cells}):
        its = [error(c) for c in cells if (c.users, c.pool_size, c.round_trip_ms) == (users, pool, away_ms)]
        within = sum(abs(each) <= WITHIN for each in its)
        off = f"{median(its):+.0%}", f"{median(map(abs, its)):.0%}"
        table.add_row(str(users), str(pool), f"{away_ms:g} ms", str(len(its)), str(within), *off)
    console.print(table)


def _repeats(cells: Sequence[Forecast]) -> list[float]:
    """How far measurements of the same lie apart: where as many users have a connection."""
    first: dict[tuple[str, float, int], float] = {}
    found = []
    for cell in cells:
        rate = cell.measured_pages_per_s
        if rate:
            alike = cell.user_class, cell.round_trip_ms, min(cell.users, cell.pool_size)
            if alike in first:
                found.append(rate / first[alike] - 1)
            else:
                first[alike] = rate
    return found


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROG,
        description="Forecasts beside what was measured by a relay. Other settings are read from the environment, as "
        "DBKIT_END=commit.",
    )
    parser.add_argument("--strategies", choices=tuple(STRATEGIES), nargs="+", default=tuple(STRATEGIES))
    parser.add_argument("--stacks", choices=tuple(STACKS), nargs="+", default=tuple(STACKS))
    lists = {
        "--round-trips": (several(round_trip()), ROUND_TRIPS_S, "default 0.5ms,1ms,5ms"),
        "--users": (several(integer(1)), USERS, "default 1,10,50"),
        "--pool-sizes": (several(integer(1)), POOL_SIZES, "default 2,10"),
    }
    for flag, (kind, default, words) in lists.items():
        parser.add_argument(flag, type=kind, default=default, metavar=f"<{kind.unit}>", help=words)
    parser.add_argument(
        "--rest-on",
        type=integer(1),
        default=10,
        metavar="<users>",
        help="of the near setting that forecasts rest on; default 10",
    )
    parser.add_argument(
        "--keep",
        metavar="<folder>",
        help="keep what was measured there; classes that are there already are not measured again",
    )
    parser.add_argument("--rounds", type=integer(1), default=2, metavar="<number>", help="default 2")
    parser.add_argument(
        "--slot-time", type=duration(positive=True), default=0.5, metavar="<seconds>", help="default 0.5"
    )
    parser.add_argument("--all", action="store_true", help="print all cells, and not only those that are off")
    options: argparse.Namespace = parser.parse_args()
    if 0 in options.round_trips:
        parser.error("--round-trips has 0, which is what forecasts rest on: leave it out")
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
