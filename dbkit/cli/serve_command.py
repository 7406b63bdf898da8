"""`dbkit serve`: a PostgreSQL for people to try pages on, with a dump of theirs if they have one.

It is the embedded server, held until this process is ended: see `dbkit.database.embedded`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from dbkit.cli.options import add_options
from dbkit.database.embedded import embedded_folder, is_serving, serve
from dbkit.database.embedded.dump import check_dump, load_dump
from dbkit.database.url import URL_VARIABLE
from dbkit.errors import DbkitError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_S = 0.5
"""How often it looks whether the server is still there."""


class _Ended(BaseException):
    """A signal has ended it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "serve",
        help="start a PostgreSQL to try pages on, and hold it until Ctrl-C",
        description="Start the embedded PostgreSQL, load a dump into it if one is named, print its URL, and hold it "
        "until Ctrl-C. Its data stay for the next time.",
    )
    command.set_defaults(command=_run)
    add_options(command, "serve")


def _run(options: argparse.Namespace) -> None:
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    folder = Path(options.data) if options.data else embedded_folder()
    try:
        url = _start(folder, Path(options.load) if options.load else None)
    except _Ended as ended:
        with suppress(OSError):  # the terminal may be closed
            print(f"dbkit: {signal.Signals(ended.number).name} before the server was ready", file=sys.stderr)
        sys.exit(128 + ended.number)  # what a shell says of a process that this signal has ended
    with suppress(_Ended):
        print(url, flush=True)
        print(f"dbkit: serving {folder} until Ctrl-C; use it by {URL_VARIABLE}='{url}'", file=sys.stderr)
        while is_serving(folder):
            time.sleep(_WATCH_S)
        raise DbkitError(f"the server has ended: see {folder / 'server.log'}")


def _start(folder: Path, dump: Path | None) -> str:
    if dump is not None:
        check_dump(dump)
    with suppress(OSError):  # `serve` says what is wrong with it
        if any(folder.iterdir()) and not (folder / "users.lock").exists():
            raise DbkitError(f"{folder} holds other files: name a new folder by --data")
    url = serve(folder)
    if dump is not None:
        print(f"dbkit: loading {dump}", file=sys.stderr, flush=True)
        load_dump(url, dump)
    return url


def _end(number: int, _: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # it is ending already
    raise _Ended(number)
