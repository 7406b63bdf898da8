"""Checks on what a test is started with: options that must fit each other, the chosen classes and the files to write.

The value of each option alone has been checked when it was read: see `dbkit.cli.values`. The database is checked by
`dbkit.load.context`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from locust import User
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.application import check_engine
from dbkit.database.settings import PAGE_ENDS
from dbkit.database.stacks import STACKS, find_stack, stacks_of
from dbkit.errors import DbkitError, without_secrets
from dbkit.load.options import TestOptions
from dbkit.load.page_class import is_page_class, workload_of, writes
from dbkit.load.schedules import check_schedule
from dbkit.load.searches import check_search
from dbkit.load.users import AsyncPageUser, PageUser, SyncPageUser, ThreadPageUser, classes_made
from dbkit.output.writing import check_distinct, check_writable
from dbkit.paging import is_async
from dbkit.workload import Workload, shown

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
            check_class(name, user_class)
            if in_rounds and options.calibrate and PageUser.read_pages not in user_class.tasks:
                raise DbkitError(f"--calibrate cannot measure {name}, which has tasks of its own; choose other classes")
        elif in_rounds:
            raise DbkitError(
                f"{name} is not a PageUser and cannot take part in rounds; choose the other classes by name"
            )
    _check_names(user_classes.values())
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
    check_schedule(options, user_classes, in_rounds=in_rounds)
    if in_rounds:
        check_search(user_classes, TestOptions.read(options))


def check_files(options: argparse.Namespace) -> None:
    """Raise DbkitError where a file that is to be written at the end could not be, or would replace another."""
    comparison = f"{options.csv_prefix}_comparison.json" if options.csv_prefix else ""
    paths = {"--report": options.report, "--summary": options.summary, "--junit": options.junit}
    known = {"--csv": comparison, "--baseline": options.baseline, **paths}
    check_distinct({flag: path for flag, path in known.items() if path})
    for flag, name in paths.items():
        if name:
            check_writable(name, option=flag)


def check_class(name: str, user_class: type[PageUser]) -> None:
    """Raise DbkitError for a class whose attributes are not what they should be, or do not fit each other."""
    if classes_made[sys.modules.get(user_class.__module__), user_class.__qualname__] > 1:
        raise DbkitError(
            f"two classes in {user_class.__module__}.py have the name {name}, so that one hides the other: rename one,"
            " or give page_users a prefix"
        )
    stack = getattr(user_class, "stack", None)
    usable = next((stacks for base, stacks in STACKS_OF.items() if issubclass(user_class, base)), tuple(STACKS))
    if stack not in usable:
        raise DbkitError(f"{name} has stack = {stack!r}; set it to one of {', '.join(map(repr, usable))}")
    _check_workload(name, user_class.workload)
    if user_class.end not in (None, *PAGE_ENDS):
        raise DbkitError(f"{name} has end = {user_class.end!r}; expected one of {', '.join(map(repr, PAGE_ENDS))}")
    if not (isinstance(user_class.strategy, str) and f"{name}{user_class.strategy}".isprintable()):
        raise DbkitError(f"{name!r} has strategy = {user_class.strategy!r}; expected a text that can be printed")
    _check_function(name, user_class)
    if isinstance(user_class.engine, Engine | AsyncEngine):
        check_engine(user_class.engine, find_stack(stack), name)
    elif user_class.engine is not None and not callable(user_class.engine):
        given = without_secrets(shown(user_class.engine))
        raise DbkitError(f"{name} has engine = {given}; expected an engine, or a function of a URL")
    if user_class.reset is not None and not writes(user_class):
        raise DbkitError(f"{name} has a reset, but does not say that it writes: give it writes = True")
    if not (user_class.reset is None or isinstance(user_class.reset, str) or callable(user_class.reset)):
        raise DbkitError(f"{name} has reset = {shown(user_class.reset)}; expected SQL text, or a function of a session")


def _check_workload(name: str, workload: Any) -> None:
    if workload is None:
        return
    if not isinstance(workload, Workload):
        raise DbkitError(f"{name} has workload = {shown(workload)}; expected a dbkit.load.Workload")
    kind = type(workload).__name__
    if not hasattr(workload, "follows"):
        raise DbkitError(f"{name}: its workload is not set up: call super().__init__ in {kind}.__init__")
    if not (isinstance(workload.name, str) and workload.name and workload.name.isprintable()):
        raise DbkitError(f"invalid name {shown(workload.name)} of a workload: expected a text that can be printed")
    if not (workload.check in (None, "verified") or callable(workload.check)):
        raise DbkitError(
            f"invalid check {shown(workload.check)} of workload {workload.name!r}: expected a function"
            " (rendered, *key), or None"
        )
    if not callable(workload.next_key):
        raise DbkitError(
            f"invalid next_key {shown(workload.next_key)} of workload {workload.name!r}: expected a function"
            " (rendered, *key)"
        )


def _check_names(user_classes: Iterable[type[User]]) -> None:
    """Raise DbkitError for two workloads of one name, whose pages would be compared."""
    named: dict[str, tuple[str, Workload]] = {}
    for user_class in user_classes:
        if is_page_class(user_class) and (workload := workload_of(user_class)) is not None:
            first, known = named.setdefault(workload.name, (user_class.__name__, workload))
            if known is not workload:
                raise DbkitError(
                    f"{first} and {user_class.__name__} have two workloads of the name {workload.name!r}: rename one;"
                    " if it should be one, have a module of its own, which the locustfiles import"
                )


def _check_function(name: str, user_class: type[PageUser]) -> None:
    function: Any = user_class.page_function
    if function is None:
        if PageUser.read_pages in user_class.tasks:
            raise DbkitError(
                f"{name} has no page_function and no tasks of its own; give it one, such as dbkit.paging.joined, or"
                " methods with @task, which Locust finds in user classes alone"
            )
        return
    if not callable(function):
        raise DbkitError(f"{name} has page_function = {shown(function)}; expected a function (session, *key)")
    if is_async(function) and not STACKS[user_class.stack].is_async:
        usable = ", ".join(stacks_of("tasks"))
        raise DbkitError(
            f"{name}: its page function is async def, which stack {user_class.stack} cannot await; use {usable}"
        )
