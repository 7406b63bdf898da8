"""`python -m dbkit diff`: two revisions of somebody's pages in turns. The command line; what it does is in
`dbkit.cli.diff`.

Locust's own options, and dbkit's for Locust, are handed on as they are, and checked there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from dbkit.analysis.change_words import change_lines
from dbkit.analysis.revisions import Revisions
from dbkit.cli.arguments import ArgumentParser
from dbkit.cli.diff import Request, Terminated, judge_counts, read_facts, run_load
from dbkit.cli.options import OPTIONS, options_of
from dbkit.cli.values import ValueType, database_url, integer
from dbkit.errors import DbkitError
from dbkit.sides.checkouts import checkouts

_OF_MASTER = ("report", "summary", "junit", "check", "baseline", "undecided", "plans")
"""Options of dbkit that are the master's alone, as it has the result."""
_LOCUSTS_OF_MASTER = {
    **{"--csv": 1, "--html": 1, "--json-file": 1, "--exit-code-on-error": 1},
    **{"--csv-full-history": 0, "--only-summary": 0},
}
"""Such of Locust, with how many values they take."""
_LOCUSTS_OF_ALL = {"-u": 1, "--users": 1, "-L": 1, "--loglevel": 1}
"""Options of Locust that each process gets."""
_LARGEST = 64
_DATABASES = {
    "--database-url": "PostgreSQL to use",
    "--database-before": "that of the code before, where each has a schema of its own",
    "--database-after": "that of the code after",
}


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "diff",
        help="compare two revisions of your pages, in turns",
        usage="%(prog)s [<revisions>] [<option> ...] -- <locustfile> [<class> ...] [<option of locust> ...]",
        description="Compare two revisions of your pages: main..HEAD, main...HEAD from where they part, or main alone "
        "with the working tree. First what their pages send, count and show, which is exact on any machine; then their "
        "times, in turns with intervals. The exit code is 0 where nothing is worse, 1 if pages failed, 2 for what "
        "cannot be compared, 3 for a regression or a check that failed, 4 where it is undecided.",
    )
    command.add_argument("revisions", metavar="<revisions>", nargs="?", help="such as main..HEAD, or main")
    for side in ("before", "after"):
        command.add_argument(f"--{side}", metavar="<folder>", type=Path, help=f"folder with the code {side}")
    for side in ("before", "after"):
        words = f"requirements of the packages {side}, with their versions; an environment of its own is made for them"
        command.add_argument(f"--lock-{side}", metavar="<file>", type=Path, help=words)
    command.add_argument(
        "--processes",
        metavar="<number>",
        type=integer(1, maximum=_LARGEST),
        default=1,
        help="load processes of each side; default 1",
    )
    command.add_argument("--counts-only", action="store_true", help="compare what is exact, and run no load")
    for flag, words in _DATABASES.items():
        command.add_argument(flag, metavar="<url>", type=_checked(database_url()), default="", help=words)
    _forward(command)
    command.after_dashes = ArgumentParser(prog=command.prog)
    command.after_dashes.intermixed = True
    command.after_dashes.add_argument("locustfile", metavar="<locustfile>", nargs="?")
    command.after_dashes.add_argument("classes", metavar="<class>", nargs="*", default=[])
    _forward(command.after_dashes)
    command.set_defaults(command=_run)


def _checked(value_type: ValueType) -> ValueType:
    """The text itself, where it is a value of that type."""

    def read(text: str) -> str:
        value_type.read(text)
        return text

    return ValueType(value_type.expected, value_type.unit, read)


def _forward(parser: Any) -> None:
    """Add the options that are for Locust."""
    parser.set_defaults(of_all=[], of_master=[])
    for option in options_of("locust"):
        if not option.is_internal and option.name != "database_url":
            target = "of_master" if option.name in _OF_MASTER else "of_all"
            value_type = _checked(option.type) if option.type else None
            parser.add_argument(
                option.flag, action=_Forwarded, target=target, type=value_type, nargs=1 if option.type else 0
            )
    for target, flags in (("of_master", _LOCUSTS_OF_MASTER), ("of_all", _LOCUSTS_OF_ALL)):
        for flag, values in flags.items():
            parser.add_argument(flag, action=_Forwarded, target=target, nargs=values)


class _Forwarded(argparse.Action):
    """Keeps an option with its values, for another command line."""

    def __init__(self, *, target: str, **options: Any) -> None:
        super().__init__(**(options | {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}))
        self._target = target

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        kept = getattr(namespace, self._target)
        setattr(namespace, self._target, [*kept, option_string, *(values or ())])


def _run(options: argparse.Namespace) -> None:
    if importlib.util.find_spec("locust") is None:
        raise DbkitError("Locust is not installed: install dbkit with its extra, dbkit[load]")
    others = options.after_dashes
    if not others.locustfile:
        raise DbkitError("name the locustfile after --, such as: dbkit diff main..HEAD -- shop_load.py")
    of_all = [*options.of_all, *others.of_all]
    if OPTIONS["rounds"].flag not in of_all and OPTIONS["rounds"].variable not in os.environ:
        of_all += [OPTIONS["rounds"].flag, "auto"]
    request = Request(
        locustfile=others.locustfile,
        classes=others.classes,
        options=of_all,
        master_options=[*options.of_master, *others.of_master],
        processes=options.processes,
        databases=(
            options.database_before or options.database_url,
            options.database_after or options.database_url,
        ),
    )
    _end_well_on_signals()
    sides = checkouts(
        options.revisions,
        options.before,
        options.after,
        options.lock_before,
        options.lock_after,
    )
    with sides as (before, after):
        words = f"dbkit: reading pages of {before.name} and {after.name}, without load …"
        print(words, file=sys.stderr, flush=True)  # it may take some seconds
        revisions = read_facts((before, after), request)
        known = _on_both(revisions, request)
        if options.counts_only:
            code = judge_counts((before, after), request, revisions, known)
        else:
            _show(revisions)
            code = run_load((before, after), request, revisions, _readable(revisions))
    sys.exit(code)


def _show(revisions: Revisions) -> None:
    for line in change_lines(revisions):
        print(line)
    print(flush=True)


def _on_both(revisions: Revisions, request: Request) -> list[str]:
    """The classes that are on both sides. Raises DbkitError where there are none, or for one that is unknown."""
    found = [change.user_class for change in revisions.pages]
    known = {*revisions.only_before, *revisions.only_after, *found}
    for name in request.classes:
        if name not in known:
            expected = f": expected one of {', '.join(sorted(known))}" if known else ""
            raise DbkitError(f"there is no class {name} on either side{expected}")
    if not found:
        on_one = [f"{name} is on one side alone" for name in sorted(known)]
        raise DbkitError(f"no class can be compared: {', '.join(on_one)}")
    return found


def _readable(revisions: Revisions) -> list[str]:
    """The classes whose pages both sides can read. Raises DbkitError where there are none."""
    found = [each.user_class for each in revisions.pages if not (each.error_before or each.error_after)]
    if not found:
        raise DbkitError("no class can be compared under load: its pages can be read on one side at most, see above")
    return found


def _end_well_on_signals() -> None:
    """Have SIGTERM and a closed terminal end it as Ctrl-C does, so that nothing is left behind."""

    def end(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)
