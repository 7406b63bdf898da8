"""Which conditions rounds compare, how long that takes, and what of it is refused before any user starts.

In which order they run is left to `dbkit.analysis.plan`. What each option alone may be is in `dbkit.cli.options`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from locust import User
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.analysis.condition import Condition, variants
from dbkit.analysis.formats import duration
from dbkit.analysis.plan import Schedule, fresh_rounds
from dbkit.analysis.sequential import ERROR_OF_A_QUANTITY, SequentialRounds
from dbkit.analysis.slot import UserClass
from dbkit.cli.values import AUTO
from dbkit.database.stacks import find_stack
from dbkit.errors import DbkitError
from dbkit.load.options import DATABASE, TestOptions
from dbkit.load.page_class import is_page_class, workload_of
from dbkit.load.users import PageUser
from dbkit.todo.workload import TODO_LIST

USERS_A_SECOND = 100
"""How fast users are spawned: as fast as Locust does without a warning."""
BETWEEN_SLOTS_S = 0.1
"""About how long one slot's users take to go and the next one's to come, where they are few."""
A_CLASS_S = 60.0
"""How long `--rounds auto` may take for each class without `--budget`."""
LEAST_BUDGET_S = 180.0
"""How long it may take for few classes."""
START_S = 2.0
"""About how long the processes of both sides take to start again; in a round they read for as long."""
HOUR_S = 3600.0
"""How long rounds of several loads or settings may take without `--budget`."""

OPTIONS_OF_ROUNDS = {
    **{"--loads": "loads", "--vary": "vary", "--budget": "budget"},
    **{"--limit": "limit", "--max-users": "max_users", "--max-arrivals": "max_arrivals"},
}
"""Flags that mean nothing without rounds, with their names in parsed options."""


def conditions_of(user_classes: Iterable[str], options: TestOptions) -> list[Condition]:
    """Each class under each load with each variant."""
    return [
        Condition(name, load, variant)
        for name in user_classes
        for load in options.loads_to_compare
        for variant in variants(options.variations)
    ]


def slot_seconds(users: int, options: TestOptions) -> float:
    """About how long a slot of so many users takes, with all that belongs to it, where it does not grow."""
    coming_and_going_s = 2 * (ceil(users / USERS_A_SECOND) - 1)
    return options.warm_up + options.slot_time + BETWEEN_SLOTS_S + coming_and_going_s


def before_and_after(
    conditions: Sequence[Condition], user_classes: Mapping[str, UserClass], options: TestOptions
) -> Schedule:
    """Two revisions in turns: as many rounds as were asked for, or as many as it takes."""
    slots_each = _slots_each(conditions, options)
    slots = slots_each * len(conditions)
    if options.rounds != AUTO:
        planner = fresh_rounds(conditions, options.seed, slots_each=slots_each, count=options.rounds)
        return Schedule(planner, options.rounds, options.rounds * slots, error=lambda: ERROR_OF_A_QUANTITY)
    sequential = SequentialRounds(
        conditions,
        user_classes,
        options.variations,
        end=options.end,
        slots_each=slots_each,
        round_s=_round_seconds(conditions, options),
        budget_s=options.budget or max(A_CLASS_S * len({each.user_class for each in conditions}), LEAST_BUDGET_S),
    )
    return Schedule(
        sequential.planner(options.seed),
        sequential.most_rounds,
        sequential.most_rounds * slots,
        budget_s=sequential.budget_s,
        error=lambda: sequential.error or ERROR_OF_A_QUANTITY,
    )


def _slots_each(conditions: Iterable[Condition], options: TestOptions) -> int:
    """How many slots each condition has in a round: in a before and after as many as take as long as the start."""
    return ceil(START_S / _once_seconds(conditions, options)) if options.sides else 1


def _once_seconds(conditions: Iterable[Condition], options: TestOptions) -> float:
    return sum(slot_seconds(each.load.users if each.load else 0, options) for each in conditions)


def _round_seconds(conditions: Collection[Condition], options: TestOptions) -> float:
    """About how long a round takes."""
    reading_s = _slots_each(conditions, options) * _once_seconds(conditions, options)
    return reading_s + (START_S if options.sides else 0.0)


def check_schedule(options: argparse.Namespace, user_classes: Mapping[str, type[User]], *, in_rounds: bool) -> None:
    """Raise DbkitError where loads and settings cannot be compared by these classes, or not in the time."""
    for flag, name in OPTIONS_OF_ROUNDS.items():
        if getattr(options, name) and not in_rounds:
            raise DbkitError(
                f"{flag} compares conditions that run one at a time: use a locustfile with rounds, such as"
                " locustfiles/rounds.py"
            )
    if options.arrivals or options.max_arrivals:
        _check_arrivals(options, user_classes, in_rounds=in_rounds)
    if options.rounds == AUTO and not options.sides:
        raise DbkitError("--rounds auto is for two revisions, with dbkit diff: give a number of rounds")
    if in_rounds:
        test = TestOptions.read(options)
        _check_variations(test, user_classes)
        if not test.limit:  # which has rules of its own: see `dbkit.load.searches`
            _check_time(test, user_classes)


def _check_arrivals(options: argparse.Namespace, user_classes: Mapping[str, type[User]], *, in_rounds: bool) -> None:
    flag = "--arrivals" if options.arrivals else "--max-arrivals"
    if options.num_users is None and (options.headless or options.autostart):
        raise DbkitError(f"{flag} needs -u: how many pages can be served at once, such as -u 50")
    if options.loads:
        raise DbkitError(f"--loads are of a closed loop, and {flag} of an open one: give one of them, and -u")
    if "," in options.arrivals and not in_rounds:
        raise DbkitError(
            "--arrivals with several rates compares conditions that run one at a time: use a locustfile with rounds,"
            " such as locustfiles/rounds.py, or give one rate"
        )
    if options.think_time:
        raise DbkitError(f"--think-time is of users who ask one page after the other; with {flag} leave it out")
    if options.calibrate:
        raise DbkitError("--calibrate compares pages a second, and --arrivals sets them; give one of the two")
    for name, user_class in user_classes.items():
        if issubclass(user_class, PageUser) and PageUser.read_pages not in user_class.tasks:
            raise DbkitError(f"{flag} cannot ask {name} for pages, as it has tasks of its own; choose other classes")


def _check_variations(options: TestOptions, user_classes: Mapping[str, type[User]]) -> None:
    for variation in options.variations:
        refuse = _REFUSALS.get(variation.name, _of_own_engines)
        for name, user_class in user_classes.items():
            if is_page_class(user_class) and (reason := refuse(user_class)):
                raise DbkitError(f"{variation.name} cannot vary for {name}: {reason}")


def _of_own_engines(user_class: Any) -> str:
    if user_class.engine is None:
        return ""
    return "it has an engine of its own, which stays as the application sets it up; choose classes without one"


def _of_the_end(user_class: Any) -> str:
    if user_class.end is None:
        return ""
    return f"its pages end by {user_class.end}, as it says itself; choose classes that do not say it"


def _of_sync_stacks(user_class: Any) -> str:
    if find_stack(user_class.stack).is_async:
        return ""
    return f"its stack, {user_class.stack}, has no async session; choose classes of async stacks"


def _of_page_sizes(user_class: Any) -> str:
    return "" if workload_of(user_class) is TODO_LIST else "only pages of the todo list have it; choose classes of that"


def _of_databases(user_class: Any) -> str:
    if not isinstance(user_class.engine, Engine | AsyncEngine):
        return ""
    return "its engine has a database already; give it a function of a URL that makes one"


_REFUSALS: dict[str, Callable[[Any], str]] = {
    "end": _of_the_end,
    "session-close": _of_sync_stacks,
    "page-size": _of_page_sizes,
    DATABASE: _of_databases,
}
"""Why a class cannot have a setting, in words, or nothing; for all others see `_of_own_engines`."""


def _check_time(options: TestOptions, user_classes: Iterable[str]) -> None:
    limit_s = options.budget or (HOUR_S if options.loads or options.arrivals or options.vary else 0.0)
    if not limit_s or options.rounds == AUTO:
        return
    conditions = conditions_of(user_classes, options)
    seconds = _round_seconds(conditions, options) * options.rounds * (2 if options.calibrate else 1)
    if seconds > limit_s:
        longer_than = f"longer than --budget {options.budget:g}" if options.budget else "longer than an hour"
        count = f"{len(conditions)} condition{'' if len(conditions) == 1 else 's'}"
        raise DbkitError(
            f"{count} in {options.rounds} rounds take about {duration(seconds)}, {longer_than}: take fewer classes,"
            f" loads, settings or rounds, or a longer --budget"
        )
