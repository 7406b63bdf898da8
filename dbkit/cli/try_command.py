"""`python -m dbkit try`: read one page by each class of a locustfile, without load.

Classes of a locustfile need Locust, which must be imported before all else. So the same interpreter is started again
with `dbkit.load.try_pages`, which does what is asked for here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from dbkit.cli.options import add_options
from dbkit.errors import DbkitError

_PROGRAM = "dbkit.load.try_pages"


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "try",
        help="read one page by each class of a locustfile, without load",
        description="Read one page by each class of a locustfile, without load. Print the page, its SQL with the line "
        "that sent each statement, what it cost, and where and why it failed. The exit code is 0 if every class gave "
        "its page, and the classes of a workload the same one; 1 if not; 2 for what cannot be tried at all.",
    )
    add_arguments(command)
    command.set_defaults(command=lambda options: _run(command.prog))


def add_arguments(parser: Any) -> None:
    """Add the arguments and options of the command to a parser."""
    parser.intermixed = True  # as in `dbkit try shop_load.py --key 3 AsyncpgJoined`
    parser.add_argument(
        "locustfile",
        metavar="<locustfile>",
        help="file with the classes; several with commas, or a folder, as locust -f",
    )
    parser.add_argument(
        "classes", metavar="<class>", nargs="*", default=[], help="class to try; default all that read pages"
    )
    add_options(parser, "try")


def _run(prog: str) -> None:
    if importlib.util.find_spec("locust") is None:
        raise DbkitError("Locust is not installed: install dbkit with its extra, dbkit[load]")
    # the working directory stays off the path unless it is there already: a file of the user's own, such as locust.py,
    # would be taken for a library
    path = [] if sys.path[0] in ("", os.getcwd()) else ["-P"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *path, "-m", _PROGRAM, prog, *sys.argv[2:]])
