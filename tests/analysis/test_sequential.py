"""Looking often makes no more false alarms: looks spend the error, on simulated rounds in which nothing has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dbkit.analysis.before_after import COMPARED
from dbkit.analysis.condition import Condition, Users, Variation
from dbkit.analysis.plan import Turn, Turns, fresh_rounds
from dbkit.analysis.revisions import REVISION
from dbkit.analysis.rounds import Rounds
from dbkit.analysis.sequential import ERROR_OF_A_QUANTITY, LEAST_ROUNDS, LOOKS, SequentialRounds, level, spent
from dbkit.analysis.slot import ProcessSlot, Slot, UserClass
from dbkit.measure.tally import Tally
from tests.slots import QUIET

RUNS = 20_000
EVERY = 8


@cache
def levels() -> list[float]:
    """Those of all looks. They take a while, and so not where tests are collected."""
    return [level([*range(EVERY, look + 1, EVERY)], 64, is_last=look == 64) for look in range(EVERY, 65, EVERY)]


def shown_at_any_look(effect: float, quantiles: Callable[[int], float]) -> float:
    """The share of runs in which a t interval leaves out 0 at any look; `effect` in standard deviations."""
    rounds = np.random.default_rng(5).standard_normal((RUNS, 64)) + effect
    shown = np.zeros(RUNS, bool)
    for place, look in enumerate(range(EVERY, 65, EVERY)):
        seen = rounds[:, :look]
        t = np.abs(seen.mean(axis=1)) / (seen.std(axis=1, ddof=1) / np.sqrt(look))
        shown |= t > stats.t.ppf(1 - quantiles(place) / 2, look - 1)
    return float(shown.mean())


def test_all_looks_together_have_the_error_of_one() -> None:
    assert shown_at_any_look(0.0, lambda place: levels()[place]) == pytest.approx(ERROR_OF_A_QUANTITY, rel=0.25)
    each_with_all = shown_at_any_look(0.0, lambda _: ERROR_OF_A_QUANTITY)  # what looking often does
    assert each_with_all > 3 * ERROR_OF_A_QUANTITY


def test_looks_cost_little_of_what_can_be_seen() -> None:
    """A difference that one look at the end would find in 90 of 100 runs is found in nearly as many."""
    effect = (stats.norm.ppf(1 - ERROR_OF_A_QUANTITY / 2) + stats.norm.ppf(0.9)) / 8
    assert 0.85 < shown_at_any_look(effect, lambda place: levels()[place]) < 0.93


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 100))
def test_a_look_never_has_more_than_may_be_spent(steps: list[int], most: int) -> None:
    looks = [*np.cumsum(steps)]
    for is_last in (False, True):
        allowed = ERROR_OF_A_QUANTITY if is_last else spent(looks[-1] / max(most, looks[-1]), ERROR_OF_A_QUANTITY)
        assert 0 < level([int(look) for look in looks], most, is_last=is_last) <= allowed


# The planner


SIDES = Variation(REVISION, ("main", "HEAD"))
CONDITIONS = [Condition("Page", Users(2), ((REVISION, name),)) for name in SIDES.values]


USER_CLASSES = {"Page": UserClass("Page", "psycopg", "joined", "albums")}
SLOTS_EACH = 3


def sequential(budget_s: float) -> SequentialRounds:
    return SequentialRounds(
        CONDITIONS,
        USER_CLASSES,
        [SIDES],
        end="rollback",
        slots_each=SLOTS_EACH,
        round_s=2.0 * SLOTS_EACH,
        budget_s=budget_s * SLOTS_EACH,
    )


def run(planner_of: SequentialRounds, effect: float, seed: int = 1) -> int:
    """Run slots of a second that serve pages at random around 1,000, after times `effect`; the number of rounds.

    What scatters are the processes, of which each round has others.
    """
    random = np.random.default_rng(seed)
    planner = planner_of.planner(seed)
    turns, slots_run = next(planner), 0
    while True:
        assert turns.fresh is (turns.round > 1)
        assert Counter(turn.condition for turn in turns.turns) == dict.fromkeys(CONDITIONS, SLOTS_EACH)
        slots = slots_of(turns, slots_run, random, effect)
        slots_run += len(slots)
        try:
            turns = planner.send(slots)
        except StopIteration:
            return turns.round


def slots_of(turns: Turns, first: int, random: np.random.Generator, effect: float = 1.0) -> list[Slot]:
    speeds = {each: np.exp(0.05 * random.standard_normal()) for each in CONDITIONS}
    speeds[CONDITIONS[1]] *= effect
    return [
        _slot(turn, number, turns.round, speeds[turn.condition]) for number, turn in enumerate(turns.turns, start=first)
    ]


def _slot(turn: Turn, number: int, round_number: int, factor: float) -> Slot:
    tally = Tally(pages=1000, page_equivalents=1000 * factor)
    for _ in range(20):
        tally.response.add(2.0 / factor)
    process = ProcessSlot(**{**QUIET.__dict__, "cpu_s": 0.5})
    return Slot(number, round_number, turn.condition, float(number), processes=[process], measured=tally)


def intervals_of(slots_each: int) -> list[float | None]:
    """The ends of all intervals of eight rounds."""
    random, result = np.random.default_rng(7), Rounds(USER_CLASSES, end="rollback", variations=[SIDES])
    for turns in fresh_rounds(CONDITIONS, 1, slots_each=slots_each, count=8):
        for slot in slots_of(turns, len(result), random):
            result.add(slot)
    found = result.result(len(result), {}, COMPARED).verdicts
    assert {each.rounds for each in found} == {8}
    return [end for each in found for end in (each.low, each.high)]


def test_more_slots_of_the_same_processes_show_no_more() -> None:
    """Two processes that are not equally fast are so in every slot: only other processes tell more."""
    assert intervals_of(4) == pytest.approx(intervals_of(1))


def test_rounds_end_at_the_first_look_that_decides() -> None:
    planner_of = sequential(budget_s=200.0)
    assert run(planner_of, effect=0.8) == 100 // LOOKS + 1
    assert 0 < planner_of.error < ERROR_OF_A_QUANTITY / 20


def test_rounds_end_with_the_budget_where_nothing_decides() -> None:
    """The last look has what the others left."""
    planner_of = sequential(budget_s=40.0)
    assert 19 <= run(planner_of, effect=0.99) <= 20
    assert ERROR_OF_A_QUANTITY / 2 < planner_of.error < ERROR_OF_A_QUANTITY


def test_a_budget_for_no_more_than_a_few_rounds_still_has_enough_to_know_the_scatter() -> None:
    assert run(sequential(budget_s=3.0), effect=1.0) == LEAST_ROUNDS
