"""The command line of the dataset: make it, replace it, check it. See `python seed.py --help`.

The work is done in `dbkit.todo.dataset`.
"""

import argparse
import os
import sys
from dataclasses import fields

from rich.console import Console

from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.options import add_options
from dbkit.cli.values import integer
from dbkit.database.engines import find_database
from dbkit.database.url import URL_VARIABLE, DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.output.terminal import progress_bar
from dbkit.todo.dataset import OnProgress, Shape, check, create

QUIET_ROWS = 1_000_000
"""Up to this number of rows, which take seconds, no progress is reported where output is piped."""


def main() -> None:
    options = _parse()
    # only the options given: a check compares these alone, and making takes the others from the default
    asked = {field.name: getattr(options, field.name) for field in fields(Shape) if field.name in options}
    shape = Shape(**asked)
    is_embedded = not (options.database_url or os.environ.get(URL_VARIABLE))
    database = (options.database_url or find_database()).through(options.pooler)
    if options.reset and not (options.yes or is_embedded):
        _ask(database)
    if options.check:
        found = check(database)
        if differing := [name for name, value in asked.items() if getattr(found, name) != value]:
            raise DbkitError(f"{database} has {found}, which differs in {' and '.join(differing)}: see --reset")
        print(f"{database}: every row is right: {found}")
    elif _create(database, shape, options.reset):
        print(f"seeded {database}: {shape}")
    else:
        print(f"{database} already has {shape}: nothing to do")


def _ask(database: DatabaseUrl) -> None:
    """Ask whether to replace what is there. Raises DbkitError for any answer but yes, and where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise DbkitError(f"--reset replaces the dataset in {database}, and there is no terminal to ask on: add --yes")
    print(f"Replace the dataset in {database}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise DbkitError(f"{database} is left as it is")


def _create(database: DatabaseUrl, shape: Shape, reset: bool) -> bool:
    console = Console(stderr=True)
    if not console.is_interactive:
        return create(database, shape, replace=reset, on_progress=_report_tenths())
    with progress_bar(console) as progress:
        task = progress.add_task("rows", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, description="rows" if done < total else "indexes")

        return create(database, shape, replace=reset, on_progress=show)


def _report_tenths() -> OnProgress:
    """Write a line to standard error for each tenth of the rows that is done, where there are many."""
    reported = 0

    def report(done: int, total: int) -> None:
        nonlocal reported
        tenths = done * 10 // total
        if total > QUIET_ROWS and tenths > reported:
            reported = tenths
            print(
                f"{done:,} of {total:,} rows" if done < total else f"{total:,} rows; now keys and indexes",
                file=sys.stderr,
            )

    return report


def _parse() -> argparse.Namespace:
    default = Shape()
    parser = ArgumentParser(
        prog="seed.py",
        description="Make the dataset that pages are read from, in a database schema of its own. "
        "A dataset of the same shape that exists already is not changed.",
    )
    group = parser.add_argument_group("shape", argument_default=argparse.SUPPRESS)
    group.add_argument("--users", type=integer(1), metavar="<number>", help=f"default {default.users}")
    group.add_argument("--todos", type=integer(1), metavar="<number>", help=f"for each user; default {default.todos}")
    group.add_argument(
        "--comments", type=integer(0), metavar="<number>", help=f"for each todo; default {default.comments}"
    )
    group.add_argument(
        "--no-indexes",
        action="store_false",
        dest="indexes",
        help="leave the foreign keys without indexes, to see what that costs",
    )
    add_options(parser, "seed")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--reset",
        action="store_true",
        help="replace a dataset that has another shape or is damaged; never one that seed.py did not make",
    )
    mode.add_argument(
        "--check", action="store_true", help="compare every row with what it should be, and change nothing"
    )
    parser.add_argument(
        "--yes", action="store_true", help="replace it without asking, where the server is not the embedded one"
    )
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake("seed.py", main)
