"""Checks on what a test is started with: options that must fit each other, the chosen classes and the files to write.

The value of each option alone has been checked when it was read: see `dbkit.cli.values`. The database is checked by
`dbkit.load.context`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from locust import User

from dbkit.database.stacks import STACKS, stacks_of
from dbkit.errors import DbkitError
from dbkit.load.users import AsyncPageUser, PageUser, SyncPageUser, ThreadPageUser
from dbkit.output.writing import check_distinct, check_writable

STACKS_OF: dict[type[PageUser], tuple[str, ...]] = {
    SyncPageUser: stacks_of("greenlets"),
    ThreadPageUser: stacks_of("threads"),
    AsyncPageUser: stacks_of("tasks"),
}
"""The stacks that fit each base of user classes."""


def check_together(options: argparse.Namespace, user_classes: Mapping[str, type[User]], *, in_rounds: bool) -> None:
    """Raise DbkitError for options that contradict each other or do not fit the chosen `user_classes`."""
    if options.num_users is not None and options.num_users < 1:
        raise DbkitError(f"{options.num_users} users read no page; set -u to at least 1")
    for name, user_class in user_classes.items():
        if issubclass(user_class, PageUser):
            _check_class(name, user_class)
            if in_rounds and options.calibrate and PageUser.read_pages not in user_class.tasks:
                raise DbkitError(f"--calibrate cannot measure {name}, which has tasks of its own; choose other classes")
        elif in_rounds:
            raise DbkitError(
                f"{name} is not a PageUser and cannot take part in rounds; choose the other classes by name"
            )
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
    usable = next((stacks for base, stacks in STACKS_OF.items() if issubclass(user_class, base)), tuple(STACKS))
    if stack not in usable:
        raise DbkitError(f"{name} has stack = {stack!r}; set it to one of {', '.join(map(repr, usable))}")
