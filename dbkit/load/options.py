"""dbkit's options on Locust's command line, in its configuration and environment, and in the web form.

Values reach the workers with Locust's own spawn message; all but the database's URL, which each process keeps to itself
and which is in no form and no message. What is posted from the form is checked by `dbkit.load.web.form`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from locust import User
from locust.argument_parser import LocustArgumentParser

from dbkit.cli import arguments
from dbkit.database.stacks import ASYNC_STACKS, STACKS, Stack
from dbkit.errors import DbkitError
from dbkit.load.users import AsyncPageUser, PageUser, SyncPageUser, ThreadPageUser
from dbkit.output.writing import check_distinct, check_writable

PAGE_ORDERS = ("random", "sequential")
STACKS_OF: dict[type[PageUser], tuple[Stack, ...]] = {
    SyncPageUser: ("psycopg",),
    ThreadPageUser: ("psycopg-threads",),
    AsyncPageUser: ASYNC_STACKS,
}
"""The stacks that fit each base of user classes."""

OPTIONS_TOLD = (
    *("num_users", "page_size", "page_order", "think_time", "think_time_spread", "seed"),
    *("pool_size", "max_overflow", "pool_timeout", "statement_timeout", "end", "session_close"),
    *("rounds", "slot_time", "max_slot_time", "warm_up", "drain_timeout", "calibrate", "processes"),
)
"""Options that a result names, as they bear on its figures."""


def add_options(parser: LocustArgumentParser) -> None:
    """Add every option of dbkit to Locust's parser (a listener of `init_command_line_parser`)."""
    arguments.add_database_url(parser).include_in_web_ui = False  # type: ignore[attr-defined]
    arguments.add_page_size(parser)
    parser.add_argument(
        "--page-order",
        choices=PAGE_ORDERS,
        default="random",
        env_var="DBKIT_PAGE_ORDER",
        help="which page a user reads next: any, or each in turn from the first; default random",
    )
    parser.add_argument(
        "--think-time",
        type=arguments.seconds(0),
        default=0.0,
        metavar="<seconds>",
        env_var="DBKIT_THINK_TIME",
        help="how long a user waits between two pages, on average; default 0",
    )
    parser.add_argument(
        "--think-time-spread",
        type=arguments.share,
        default=0.5,
        metavar="<share>",
        env_var="DBKIT_THINK_TIME_SPREAD",
        help="how far a think time may lie from --think-time, as a share of it, 0 to 1; 0 is always the same; "
        "default 0.5: from half to one and a half of it",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="<number>",
        env_var="DBKIT_SEED",
        help="where random choices start, so that a run can be repeated: the same pages in the same order; default 1",
    )
    arguments.add_settings(parser)
    parser.add_argument(
        "--rounds",
        type=arguments.whole_number(1),
        default=5,
        metavar="<number>",
        env_var="DBKIT_ROUNDS",
        help="how many times each user class has its turn in a schedule of rounds; default 5",
    )
    parser.add_argument(
        "--slot-time",
        type=arguments.seconds(0, above=True),
        default=1.0,
        metavar="<seconds>",
        env_var="DBKIT_SLOT_TIME",
        help="how long pages are measured in each turn; default 1",
    )
    parser.add_argument(
        "--max-slot-time",
        type=arguments.seconds(0),
        default=10.0,
        metavar="<seconds>",
        env_var="DBKIT_MAX_SLOT_TIME",
        help="how long a turn may grow, until each user has read 3 pages in it; default 10",
    )
    parser.add_argument(
        "--warm-up",
        type=arguments.seconds(0),
        default=0.3,
        metavar="<seconds>",
        env_var="DBKIT_WARM_UP",
        help="how long users read before that, in no figure; default 0.3",
    )
    parser.add_argument(
        "--drain-timeout",
        type=arguments.seconds(0),
        default=10.0,
        metavar="<seconds>",
        env_var="DBKIT_DRAIN_TIMEOUT",
        help="how long a page may go on after its turn before it is cut off and counted as unfinished; default 10",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        env_var="DBKIT_CALIBRATE",
        help="in rounds, also measure each page function called bare, to see what the harness itself takes; "
        "doubles the time",
    )
    parser.add_argument(
        "--reference",
        default="",
        metavar="<class>",
        env_var="DBKIT_REFERENCE",
        help="user class that the others are compared with; default the slowest",
    )
    parser.add_argument(
        "--report",
        default="",
        metavar="<filename>",
        env_var="DBKIT_REPORT",
        include_in_web_ui=False,
        help="write an HTML report: one file that opens anywhere",
    )
    parser.add_argument(
        "--summary",
        default="",
        metavar="<filename>",
        env_var="DBKIT_SUMMARY",
        include_in_web_ui=False,
        help="write a summary in Markdown, for a pull request or a CI job's page",
    )


def check_together(options: argparse.Namespace, user_classes: Mapping[str, type[User]], *, in_rounds: bool) -> None:
    """Raise DbkitError for options that are good one by one but not together, or not for the chosen `user_classes`."""
    if options.num_users is not None and options.num_users < 1:
        raise DbkitError(f"{options.num_users} users read no page; give 1 or more with -u")
    for name, user_class in user_classes.items():
        if issubclass(user_class, PageUser):
            _check_class(name, user_class)
            if in_rounds and options.calibrate and PageUser.read_pages not in user_class.tasks:
                raise DbkitError(f"--calibrate cannot call tasks of one's own bare; choose other classes than {name}")
        elif in_rounds:
            raise DbkitError(f"{name} is no PageUser and cannot take part in rounds; choose the other classes by name")
    if options.reference and options.reference not in user_classes:
        names = ", ".join(sorted(user_classes))
        raise DbkitError(f"--reference {options.reference} is not among the classes: {names}")
    if in_rounds:
        for flag, is_given, advice in (
            ("--run-time", options.run_time, "rounds end by themselves: set --rounds and --slot-time"),
            ("--reset-stats", options.reset_stats, "warm-ups are left out anyway: set --warm-up"),
        ):
            if is_given:
                raise DbkitError(f"{flag} does not go with rounds; {advice}")


def check_files(options: argparse.Namespace) -> None:
    """Raise DbkitError where a file that is to be written at the end could not be, or would replace another."""
    comparison = f"{options.csv_prefix}_comparison.json" if options.csv_prefix else ""
    paths = {"--csv": comparison, "--report": options.report, "--summary": options.summary}
    check_distinct({flag: path for flag, path in paths.items() if path})
    for flag, name in (("--report", options.report), ("--summary", options.summary)):
        if name:
            check_writable(name, option=flag)


def _check_class(name: str, user_class: type[PageUser]) -> None:
    if not hasattr(user_class, "page_function"):
        raise DbkitError(f"{name} has no page_function; give it one, such as dbkit.paging.joined")
    stack = getattr(user_class, "stack", None)
    usable = next((stacks for base, stacks in STACKS_OF.items() if issubclass(user_class, base)), STACKS)
    if stack not in usable:
        raise DbkitError(f"{name} has stack = {stack!r}; set it to one of {', '.join(map(repr, usable))}")
