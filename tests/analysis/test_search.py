"""Searches over simulated slots: what is run, when it ends, and what is said of what was found."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any

import pytest

from dbkit.analysis.condition import Arrivals, Condition, Users, Variation
from dbkit.analysis.limits import read_limit
from dbkit.analysis.model_records import LimitFound
from dbkit.analysis.parts import parts
from dbkit.analysis.result import Result
from dbkit.analysis.rounds import Rounds, result_of_rounds
from dbkit.analysis.search import Line, Search, Sought
from dbkit.analysis.slot import Slot, UserClass
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally
from tests.slots import QUIET

USER_CLASSES = {name: UserClass(name, "psycopg", name.lower(), "albums") for name in ("Fast", "Slow")}
SLOT_S = 1.5
Served = Callable[[Condition], tuple[float, float]]
"""The response time in ms and pages a second of a condition."""


def knees(condition: Condition) -> tuple[float, float]:
    """Pages that take 10 ms, or 20, with eight places for them; nothing is faster with more users."""
    assert condition.load is not None
    alone_ms = 10.0 if condition.user_class == "Fast" else 20.0
    response_ms = alone_ms * max(1.0, condition.load.users / 8)
    return response_ms, 1000 * condition.load.users / response_ms


def pools(condition: Condition) -> tuple[float, float]:
    """Twenty users of a pool in which six connections are as good as any more."""
    size = min(int(dict(condition.variant)["pool-size"]), 6)
    return 200.0 / size, 100.0 * size


def slot(number: int, round_number: int, condition: Condition, served: tuple[float, float], **more: Any) -> Slot:
    response_ms, rate = served
    failed = more.pop("failed", 0)
    measured = Tally()
    for place in range(30):
        cost = dict.fromkeys((*COUNTS, *PARTS, "think_ms"), 1.0)
        measured.add(cost, response_ms, failed=place < failed)
    measured.page_equivalents = rate
    return Slot(number, round_number, condition, SLOT_S * number, processes=[QUIET], measured=measured, **more)


def search_of(
    limit: str,
    *classes: str,
    most_users: int = 0,
    pool_sizes: int = 0,
    sought: Sought = "largest",
    budget_s: float = 1e4,
) -> Search:
    lines = []
    for name in classes or ("Fast",):
        if most_users:
            conditions = [Condition(name, Users(users)) for users in range(1, most_users + 1)]
        else:
            sizes = range(1, pool_sizes + 1)
            conditions = [Condition(name, Users(20), (("pool-size", str(size)),)) for size in sizes]
        lines.append(Line(name, conditions, [float(place) for place in range(1, len(conditions) + 1)]))
    along = "users" if most_users else "pool-size"
    return Search(read_limit(limit), along, sought, lines, budget_s, cost_s=lambda _: SLOT_S)


def run(
    search: Search, served: Served = knees, *, scatter: float = 0.02, seed: int = 1, most: int = 10_000
) -> tuple[list[Slot], bool]:
    """The slots of a search, and whether it came to its end by itself."""
    chance = random.Random(seed)
    planner = search.planner(seed)
    slots: list[Slot] = []
    turns = next(planner)
    while len(slots) < most:
        new: list[Slot] = []
        for turn in turns.turns:
            response_ms, rate = served(turn.condition)
            factor = exp(chance.gauss(0, scatter))
            new.append(slot(len(slots) + len(new), turns.round, turn.condition, (response_ms * factor, rate / factor)))
        slots += new
        try:
            turns = planner.send(new)
        except StopIteration:
            return slots, True
    return slots, False


def result_of(search: Search, slots: list[Slot], *, ended: bool = True, **more: Any) -> Result:
    """The result of a run that was to have no more slots, or more."""
    planned = len(slots) + (not ended)
    measured_on = more.pop("measured_on", {})
    return result_of_rounds(
        slots, USER_CLASSES, end="rollback", planned_slots=planned, measured_on=measured_on, search=search, **more
    )


def found(search: Search, served: Served = knees, **more: Any) -> LimitFound:
    slots, ended = run(search, served, **more)
    [limit] = result_of(search, slots, ended=ended).limits
    return limit


# What is run


def test_the_searches_of_all_classes_advance_together() -> None:
    search = search_of("p95_ms < 30", "Fast", "Slow", most_users=200)
    slots, ended = run(search)
    assert ended
    rounds = [[each.user_class for each in members] for _, members in itertools.groupby(slots, lambda each: each.round)]
    both = [sorted(names) for names in rounds if len(names) > 1]
    assert both == [["Fast", "Slow"]] * len(both)
    assert rounds[: len(both)] == rounds[: len(both)] and all(len(names) == 1 for names in rounds[len(both) :])
    assert {*map(tuple, rounds[: len(both)])} == {("Fast", "Slow"), ("Slow", "Fast")}  # shuffled
    assert [each.users for each in slots if each.user_class == "Fast"][:6] == [1, 2, 4, 8, 16, 32]


def test_the_same_seed_runs_the_same() -> None:
    search = search_of("p95_ms < 30", "Fast", "Slow", most_users=50)
    assert [each.condition for each in run(search)[0]] == [each.condition for each in run(search)[0]]


def test_no_round_begins_that_does_not_fit_into_the_budget() -> None:
    search = search_of("p95_ms < 12.5", "Fast", "Slow", most_users=200, budget_s=30)
    slots, ended = run(search, scatter=0.1)
    assert ended
    assert 30 - 2 * SLOT_S <= SLOT_S * len(slots) <= 30


def test_the_least_time_is_that_of_doubling() -> None:
    search = search_of("p95_ms < 1000", "Fast", "Slow", most_users=200)
    slots, _ = run(search, scatter=0.0)
    assert search.least_s == 2 * 9 * SLOT_S  # 1, 2, 4, … 128, 200
    assert [each.users for each in slots if each.user_class == "Slow"][:9] == [1, 2, 4, 8, 16, 32, 64, 128, 200]


def test_a_share_of_the_best_is_taken_in_the_same_round() -> None:
    slots, ended = run(search_of("pages_per_s > 90 % of best", pool_sizes=20, sought="smallest"), pools, scatter=0.01)
    assert ended
    rounds = [[each.condition for each in members] for _, members in itertools.groupby(slots, lambda each: each.round)]
    assert [len(conditions) for conditions in rounds[:6]] == [1] * 6  # 1, 2, 4, 8, 16, 20
    assert all(len(conditions) == 2 for conditions in rounds[6:])


# What is found


def test_the_answer_is_one_sentence_a_class() -> None:
    search = search_of("p95_ms < 25.6", "Fast", "Slow", most_users=200)
    result = result_of(search, run(search)[0])
    assert result.state == "complete"
    fast, slow = result.headline
    form = r"{} keeps p95 under 25.6 ms up to {} users \[\d+, {}\], \d+ pages/s; then users, mostly queue."
    assert re.fullmatch(form.format("Fast", "20", r"2\d"), fast)
    assert re.fullmatch(form.format("Slow", "10", "10"), slow)
    assert (result.verdicts, result.references, result.laws) == ([], {}, [])
    [part] = parts(result)
    assert part.quantities_charted == ["pages_per_s", "p95_ms"]


@pytest.mark.parametrize("seed", range(20))
def test_the_knee_is_within_its_interval(seed: int) -> None:
    limit = found(search_of("p95_ms < 23", most_users=200), scatter=0.05, seed=seed)
    assert limit.low is not None and limit.high is not None and limit.at is not None
    assert limit.low <= 18 <= limit.high
    assert abs(limit.at - 18) <= 2
    assert limit.condition == f"Fast, {limit.at:g} users"
    assert limit.then and limit.slots > 10


def test_a_limit_that_all_loads_keep_says_so() -> None:
    limit = found(search_of("p95_ms < 1000", most_users=20))
    assert (limit.at, limit.low, limit.high, limit.then, limit.state) == (20, 20, 20, None, "found")
    assert "keeps p95 under 1000 ms up to the largest that may be tried, 20 users [20, 20]" in limit.sentence


def test_a_limit_that_no_load_keeps_says_so() -> None:
    limit = found(search_of("p95_ms < 5", most_users=20))
    assert (limit.at, limit.low, limit.high, limit.condition, limit.state) == (None, 0, 0, None, "found")
    assert limit.sentence.startswith("Fast does not keep p95 under 5 ms at any load: with 1 user it is ")


def test_the_smallest_load_that_serves_so_many_pages() -> None:
    limit = found(search_of("pages_per_s > 550", most_users=50, sought="smallest"))
    assert (limit.at, limit.low, limit.high) == (6, 6, 6)
    assert "keeps pages/s over 550 from 6 users on [6, 6]" in limit.sentence
    none = found(search_of("pages_per_s > 5500", most_users=50, sought="smallest"))
    assert (none.at, none.low, none.high) == (None, 0, None)
    assert "does not keep pages/s over 5500 at any load: with 50 users it is" in none.sentence
    every = found(search_of("pages_per_s > 50", most_users=50, sought="smallest"))
    assert (every.at, every.low, every.high) == (1, 1, 1)
    assert "from the smallest on, 1 user [1, 1]" in every.sentence


@pytest.mark.parametrize("seed", range(10))
def test_the_smallest_pool_that_is_enough(seed: int) -> None:
    search = search_of("pages_per_s > 90 % of best", pool_sizes=20, sought="smallest")
    slots, _ = run(search, pools, scatter=0.03, seed=seed, most=150)
    measured_on = {"server": {"round_trip_ms": 1.06}, "options": {"round_trip": 0.001}}
    [limit] = result_of(search, slots, measured_on=measured_on).limits
    assert limit.low is not None and limit.low <= 6 <= (limit.high or 20)
    assert limit.at in (5, 6, 7)
    assert limit.round_trip_ms == 1.06
    assert limit.bound == pytest.approx(540, rel=0.05)
    assert f"from pool-size={limit.at:g} on" in limit.sentence
    assert limit.sentence.endswith("That holds for a round trip of 1.06 ms.")


def test_pools_beyond_the_best_one_are_not_taken_for_too_small() -> None:
    def falling(condition: Condition) -> tuple[float, float]:
        size = int(dict(condition.variant)["pool-size"])
        return 10.0, 100.0 * min(size, 8) / (1 + max(size - 8, 0) / 10)

    limit = found(search_of("pages_per_s > 80 % of best", pool_sizes=32, sought="smallest"), falling)
    assert limit.at == 7


def test_the_round_trip_that_varies_is_the_one_that_is_named() -> None:
    variant = (("pool-size", "1"), ("round-trip", "2ms"))
    line = Line("Fast, round-trip=2ms", [Condition("Fast", Users(20), variant)], [1.0])
    search = replace(search_of("p95_ms < 300", pool_sizes=2, sought="smallest"), lines=[line])
    measured_on = {"server": {"round_trip_ms": 0.5}, "options": {"round_trip": 0.0}}
    [limit] = result_of(search, run(search, pools)[0], measured_on=measured_on).limits
    assert (limit.label, limit.round_trip_ms) == ("Fast, round-trip=2ms", 2.5)


def test_failures_are_an_exact_limit() -> None:
    search = search_of("failures = 0", most_users=40)
    planner = search.planner(1)
    turns = next(planner)
    slots: list[Slot] = []
    while True:
        [turn] = turns.turns
        failed = int(turn.condition.load is not None and turn.condition.load.users > 11)
        slots.append(slot(len(slots), turns.round, turn.condition, knees(turn.condition), failed=failed))
        try:
            turns = planner.send(slots[-1:])
        except StopIteration:
            break
    [limit] = result_of(search, slots).limits
    assert (limit.at, limit.low, limit.high, limit.state) == (11, 10, 11, "found")
    assert limit.sentence.startswith("Fast keeps failures at 0 up to 11 users [10, 11]")
    assert Counter(each.users for each in slots)[12] == 1


def test_pages_that_failed_are_said_beside_a_limit_on_others() -> None:
    search = search_of("p95_ms < 12", most_users=1)
    [condition] = search.lines[0].conditions
    slots = [slot(number, number + 1, condition, knees(condition), failed=3) for number in range(5)]
    [limit] = result_of(search, slots).limits
    assert ", where 15 of 150 pages failed" in limit.sentence


def test_a_load_at_which_nothing_comes_back_does_not_keep_a_limit() -> None:
    search = search_of("p95_ms < 500", most_users=40)
    planner = search.planner(1)
    turns = next(planner)
    slots: list[Slot] = []
    for _ in range(40):
        [turn] = turns.turns
        failed = 30 if turn.condition.load is not None and turn.condition.load.users > 5 else 0
        slots.append(slot(len(slots), turns.round, turn.condition, knees(turn.condition), failed=failed))
        try:
            turns = planner.send(slots[-1:])
        except StopIteration:
            break
    [limit] = result_of(search, slots).limits
    assert (limit.at, limit.low, limit.high) == (5, 5, 5)


def test_a_rate_that_is_not_sustained_by_all_its_slots_together_keeps_no_limit() -> None:
    """Twelve pages a second are served; those that wait grow by the rest, which one slot alone may not show."""
    conditions = [Condition("Fast", Arrivals(float(rate), 4)) for rate in range(1, 101)]
    line = Line("Fast", conditions, [float(rate) for rate in range(1, 101)])
    search = replace(search_of("failures = 0", most_users=1), along="arrivals/s", lines=[line])
    planner = search.planner(1)
    turns = next(planner)
    slots: list[Slot] = []
    while True:
        [turn] = turns.turns
        assert isinstance(turn.condition.load, Arrivals)
        rate = turn.condition.load.rate_per_s
        made = slot(len(slots), turns.round, turn.condition, (10.0, min(rate, 12)))
        made.processes = [replace(QUIET, waiting=round(max(rate - 12, 0)))]
        slots.append(made)
        try:
            turns = planner.send(slots[-1:])
        except StopIteration:
            break
    [limit] = result_of(search, slots).limits
    # 30 pages of a slot: one shows 17 pages that wait as too many, and five show 8
    assert limit.at is not None and 12 <= limit.at < 12 + 17
    assert limit.along == "arrivals/s"
    assert f"up to {limit.at:g} arrivals/s [" in limit.sentence
    assert "then not sustained" in limit.sentence


def test_a_figure_that_is_not_known_ends_the_search_and_is_said() -> None:
    search = search_of("server_cpu_ms < 5", "Fast", "Slow", most_users=40)
    slots, ended = run(search)
    assert ended and len(slots) == 2
    result = result_of(search, slots)
    assert [each.at for each in result.limits] == [None, None]
    assert result.headline[0] == "Fast: server_cpu_ms is not known here, so no limit on it can be searched for."


# What is not found


def test_a_spent_budget_gives_what_is_known() -> None:
    limit = found(search_of("p95_ms < 25", most_users=200, budget_s=15), scatter=0.1)
    assert limit.state == "budget spent"
    assert limit.low is not None and limit.high is not None and limit.low <= 20 <= limit.high
    assert limit.sentence.endswith("; the budget is spent, and a longer one narrows the interval.")


def test_a_search_that_is_cut_short_gives_what_is_known() -> None:
    search = search_of("p95_ms < 25", "Fast", "Slow", most_users=200)
    slots, ended = run(search, most=8)
    assert not ended
    result = result_of(search, slots, ended=False)
    assert result.state == "cut short"
    assert result.warnings[0] == "cut short: the search ended after 8 slots"
    assert [(each.at, each.low, each.high, each.state) for each in result.limits] == [
        (8, 0, 200, "cut short"),
        (8, 0, 200, "cut short"),
    ]
    assert result.headline[0].endswith("; the search was cut short.")
    assert "up to the largest that was tried, 8 users [0, 200]" in result.headline[0]


def test_a_running_search_says_that_it_goes_on() -> None:
    search = search_of("p95_ms < 25", "Fast", "Slow", most_users=200)
    rounds = Rounds(USER_CLASSES, end="rollback", search=search)
    first, *_ = run(search, most=2)[0]
    rounds.add(first)
    result = rounds.result(1, {}, goes_on=True)
    assert [(each.user_class, each.state) for each in result.limits] == [(first.user_class, "searching")]
    assert result.headline[0].endswith("; the search goes on.")


def test_the_values_of_the_search_are_in_order_in_the_tables() -> None:
    search = search_of("pages_per_s > 90 % of best", pool_sizes=20, sought="smallest")
    variation = Variation("pool-size", tuple(map(str, range(1, 21))))
    result = result_of(search, run(search, pools)[0], variations=[variation])
    sizes = [int(row.settings["pool-size"]) for row in result.strategies]
    assert sizes == sorted(sizes) and len(sizes) > 5
