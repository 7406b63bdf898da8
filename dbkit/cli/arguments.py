"""The options that more than one command line has: `seed.py`, `python -m dbkit` and Locust's.

Each is defined once, with its environment variable, its help and a check of its values. Options of Locust alone are
`dbkit.load.options`'s; what the values do is `dbkit.database`'s.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import configargparse

from dbkit.database.settings import PAGE_ENDS, SESSION_CLOSES, Settings
from dbkit.database.url import URL_VARIABLE, DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.paging import DEFAULT_PAGE_SIZE


class ArgumentParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """A parser whose errors are one line, without the usage in front, with exit code 2; options are not abbreviated."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, add_config_file_help=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        sys.exit(_fail(f"{self.prog}: error: {message}", 2))


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argument type: a whole number, `minimum` or more."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is no good; give a whole number, {minimum} or more")
        return number

    return parse


def seconds(minimum: float, *, above: bool = False) -> Callable[[str], float]:
    """An argument type: a number of seconds, `minimum` or more, or only what is above it."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < minimum or (above and number == minimum):
            bound = f"above {minimum:g}" if above else f"{minimum:g} or more"
            raise argparse.ArgumentTypeError(f"{text!r} is no good; give a number of seconds, {bound}")
        return number

    return parse


def share(text: str) -> float:
    """An argument type: a share, 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected a share from 0 to 1")
    return value


def add_database_url(parser: argparse.ArgumentParser) -> argparse.Action:
    """`--database-url`. Returns the action, for parsers that would show it somewhere."""
    return parser.add_argument(
        "--database-url",
        type=_database_url,
        metavar="<url>",
        env_var=URL_VARIABLE,
        help="PostgreSQL to use, as postgresql://user:password@host:port/database; "
        "without it an embedded server is started, with its data in .dbkit/",
    )


def add_page_size(parser: argparse.ArgumentParser) -> None:
    """`--page-size`."""
    parser.add_argument(
        "--page-size",
        type=whole_number(1),
        default=DEFAULT_PAGE_SIZE,
        metavar="<rows>",
        env_var="DBKIT_PAGE_SIZE",
        help=f"todos on a page; default {DEFAULT_PAGE_SIZE}",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The options of `dbkit.database.settings.Settings`."""
    default = Settings()
    parser.add_argument(
        "--pool-size",
        type=whole_number(1),
        default=default.pool_size,
        metavar="<connections>",
        env_var="DBKIT_POOL_SIZE",
        help=f"connections that each pool keeps (one pool a stack and process); default {default.pool_size}",
    )
    parser.add_argument(
        "--max-overflow",
        type=whole_number(0),
        default=default.max_overflow,
        metavar="<connections>",
        env_var="DBKIT_MAX_OVERFLOW",
        help=f"connections that a pool may open beyond those, closed on return; default {default.max_overflow}",
    )
    parser.add_argument(
        "--pool-timeout",
        type=seconds(0, above=True),
        default=default.pool_timeout_s,
        metavar="<seconds>",
        env_var="DBKIT_POOL_TIMEOUT",
        help=f"how long a page waits for a connection before it fails; default {default.pool_timeout_s:g}",
    )
    parser.add_argument(
        "--statement-timeout",
        type=seconds(0),
        default=default.statement_timeout_s,
        metavar="<seconds>",
        env_var="DBKIT_STATEMENT_TIMEOUT",
        help="how long the server lets a statement run; default 0, without limit",
    )
    parser.add_argument(
        "--end",
        choices=PAGE_ENDS,
        default=default.end,
        env_var="DBKIT_END",
        help="how a page ends: rollback is what closing a session does, commit costs the same round trip, "
        f"autocommit opens no transaction; default {default.end}",
    )

    parser.add_argument(
        "--session-close",
        choices=SESSION_CLOSES,
        default=default.close,
        env_var="DBKIT_SESSION_CLOSE",
        help="how async sessions are closed: by `async with`, as people write it, or by `await session.close()` in a"
        f" `finally`, which saves a task a page; default {default.close}",
    )


def read_settings(options: argparse.Namespace) -> Settings:
    """The `Settings` that parsed options ask for."""
    return Settings(
        pool_size=options.pool_size,
        max_overflow=options.max_overflow,
        pool_timeout_s=options.pool_timeout,
        statement_timeout_s=options.statement_timeout,
        end=options.end,
        close=options.session_close,
    )


def _database_url(text: str) -> DatabaseUrl | None:
    if not text:  # an empty variable is one that is not set
        return None
    try:
        return DatabaseUrl.parse(text)
    except DbkitError as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None


def exit_on_mistake(prog: str, command: Callable[[], None]) -> NoReturn:
    """Run a command and exit: 0, or 2 with one line on stderr for a `DbkitError`, or 130 on Ctrl-C."""
    try:
        command()
    except DbkitError as mistake:
        sys.exit(_fail(f"{prog}: error: {mistake}", 2))
    except KeyboardInterrupt:
        sys.exit(_fail(f"{prog}: interrupted", 130))
    sys.exit(0)


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
