"""The search that `--limit` asks for: in which loads or values, for how long, and what is refused before it starts.

How it is searched is in `dbkit.analysis.search`; what is compared without a limit, in `dbkit.load.schedules`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from dbkit.analysis.condition import Arrivals, Condition, Load, Users, Variant, variants
from dbkit.analysis.formats import duration, listed
from dbkit.analysis.limits import Limit, read_limit
from dbkit.analysis.plan import Schedule
from dbkit.analysis.search import SETTINGS_SOUGHT, Line, Search, Sought
from dbkit.analysis.varied import ARRIVALS, USERS
from dbkit.errors import DbkitError
from dbkit.load.options import TestOptions
from dbkit.load.schedules import slot_seconds

A_LINE_S = 60.0
"""How long a search may take for each class, and each value of a setting that varies besides, without `--budget`."""


def search_of(user_classes: Iterable[str], options: TestOptions) -> Search | None:
    """The search of a test; None where it has no limit to search for."""
    if not options.limit:
        return None
    limit = read_limit(options.limit)
    if options.max_users or options.max_arrivals:
        along = USERS if options.max_users else ARRIVALS
        lines = _lines_of_loads(user_classes, options)
        sought: Sought = "smallest" if limit.is_lower else "largest"
    else:
        along, lines = _lines_of_values(user_classes, options)
        sought = SETTINGS_SOUGHT[along]
    return Search(
        limit=limit,
        along=along,
        sought=sought,
        lines=lines,
        budget_s=options.budget or A_LINE_S * len(lines),
        cost_s=partial(_cost_s, options=options),
    )


def schedule_of(search: Search, options: TestOptions) -> Schedule:
    """How the search is run. How many slots it takes is not known before: no more than fit into its budget."""
    least_s = min(search.cost_s(condition) for line in search.lines for condition in line.conditions)
    most = int(search.budget_s / least_s) + 1
    rounds = most // len(search.lines) + 1
    return Schedule(search.planner(options.seed), rounds, most, budget_s=search.budget_s)


def check_search(user_classes: Iterable[str], options: TestOptions) -> None:
    """Raise DbkitError where the limit cannot be searched for, or not in the time; or where there is none to search."""
    if not options.limit:
        for flag, most in (("--max-users", options.max_users), ("--max-arrivals", options.max_arrivals)):
            if most:
                raise DbkitError(f"{flag} is for a search: say for what, as --limit 'p95_ms < 50'")
        return
    searches_in_loads = options.max_users or options.max_arrivals
    for flag, is_given, reason in (
        ("--loads", options.loads, "a search chooses the loads itself: set --max-users"),
        ("--arrivals", options.arrivals and searches_in_loads, "a search chooses the rates itself"),
        ("--arrivals with several rates", "," in options.arrivals, "a search chooses the rates: set --max-arrivals"),
        ("--max-arrivals", options.max_users and options.max_arrivals, "--max-users is given too: take one of them"),
        ("--calibrate", options.calibrate, "a search has too few slots of each load for it"),
        ("--reference", options.reference, "a search compares no classes"),
    ):
        if is_given:
            raise DbkitError(f"{flag} does not go with --limit: {reason}")
    _check_line(read_limit(options.limit), options)
    search = search_of(user_classes, options)
    assert search is not None
    if search.least_s > search.budget_s:
        given = f"--budget {options.budget:g}" if options.budget else f"the {A_LINE_S:g} s a class without --budget"
        raise DbkitError(
            f"a search up to the largest value takes {duration(search.least_s)} or more for {_how_many(search)}, longer"
            f" than {given}: give a longer --budget, or search less"
        )


def _how_many(search: Search) -> str:
    classes, lines = len({line.user_class for line in search.lines}), len(search.lines)
    words = f"{classes} class{'' if classes == 1 else 'es'}"
    return words if lines == classes else f"{words} with {lines // classes} settings each"


def _check_line(limit: Limit, options: TestOptions) -> None:
    """Raise DbkitError unless there is one thing to search in."""
    if options.max_arrivals and limit.is_lower:
        raise DbkitError(
            f"--limit '{limit}' does not go with --max-arrivals: as many pages are served as arrive, so take a limit"
            " that more arrivals break, such as p95_ms < 50"
        )
    if options.max_users or options.max_arrivals:
        return
    settings = [variation.name for variation in options.variations if variation.name in SETTINGS_SOUGHT]
    if not settings:
        raise DbkitError(
            f"--limit '{limit}' needs something to search in: set --max-users or --max-arrivals, or --vary with one of"
            f" {', '.join(SETTINGS_SOUGHT)}, such as --vary pool-size=1..20"
        )
    if len(settings) > 1:
        raise DbkitError(f"--limit searches in one setting, and {listed(settings)} vary: vary one of them")


def _lines_of_loads(user_classes: Iterable[str], options: TestOptions) -> list[Line]:
    """A line for each class with each variant, of all loads up to the largest."""
    numbers = range(1, (options.max_users or options.max_arrivals) + 1)

    def load(count: int) -> Load:
        if options.max_users:
            return Users(count)
        return Arrivals(float(count), options.num_users or 1, options.arrival_spacing)

    return [
        Line(
            _name(name, variant),
            [Condition(name, load(count), variant) for count in numbers],
            [float(count) for count in numbers],
        )
        for name in sorted(user_classes)
        for variant in variants(options.variations)
    ]


def _lines_of_values(user_classes: Iterable[str], options: TestOptions) -> tuple[str, list[Line]]:
    """The setting that is searched in, and a line for each class with each value of the others."""
    [searched] = [variation for variation in options.variations if variation.name in SETTINGS_SOUGHT]
    others = [variation for variation in options.variations if variation != searched]
    values = sorted(map(int, searched.values))
    [load] = options.loads_to_compare
    lines = [
        Line(
            _name(name, others_of_line),
            [Condition(name, load, (*before, (searched.name, str(value)), *after)) for value in values],
            [float(value) for value in values],
        )
        for name in sorted(user_classes)
        for others_of_line in variants(others)
        for before, after in [_around(searched.name, others_of_line)]
    ]
    return searched.name, lines


def _around(name: str, variant: Variant) -> tuple[Variant, Variant]:
    """The settings that come before one of this name, and those after it, as they stand in order of their names."""
    before = tuple(setting for setting in variant if setting[0] < name)
    return before, variant[len(before) :]


def _name(user_class: str, variant: Variant) -> str:
    return ", ".join([user_class, *(f"{name}={value}" for name, value in variant)])


def _cost_s(condition: Condition, options: TestOptions) -> float:
    return slot_seconds(condition.load.users if condition.load else 0, options)
