"""Planners: which slots a test runs, in which order, and which of them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from dbkit.analysis.condition import Condition, Users, labels
from dbkit.analysis.plan import Schedule, Turn, Turns, rounds
from dbkit.analysis.slot import Slot

CONDITIONS = [Condition(name, Users(10)) for name in ("Fast", "Middle", "Slow")]


def run(schedule: Schedule, is_incomplete: Callable[[int], bool] = lambda number: False) -> list[tuple[Turns, Slot]]:
    """Every slot that a planner has run, with the turns that it was among; `is_incomplete` by the slot's number."""
    ran: list[tuple[Turns, Slot]] = []
    turns: Turns | None = next(schedule.planner)
    while turns is not None:
        slots = []
        for turn in turns.turns:
            slot = Slot(len(ran), turns.round, turn.condition, 0.0, incomplete=is_incomplete(len(ran)), bare=turn.bare)
            slots.append(slot)
            ran.append((turns, slot))
        try:
            turns = schedule.planner.send(slots)
        except StopIteration:
            turns = None
    return ran


@given(count=st.integers(1, 8), seed=st.integers(), calibrate=st.booleans())
def test_every_round_has_each_condition_once_and_once_more_bare_to_calibrate(
    count: int, seed: int, calibrate: bool
) -> None:
    schedule = rounds(CONDITIONS, count, seed, calibrate=calibrate)
    ran = Counter((turns.round, Turn(slot.condition, slot.bare)) for turns, slot in run(schedule))
    bare = [False, True] if calibrate else [False]
    assert ran == Counter(
        (number, Turn(condition, is_bare))
        for number in range(1, count + 1)
        for condition in CONDITIONS
        for is_bare in bare
    )
    assert (schedule.rounds, schedule.slots) == (count, ran.total())
    assert schedule.bare_slots == sum(turn.bare for _, turn in ran)


@given(order=st.permutations(CONDITIONS), seed=st.integers())
def test_the_same_seed_gives_the_same_order_however_the_conditions_come(order: list[Condition], seed: int) -> None:
    one, other = (
        [slot.condition for _, slot in run(rounds(conditions, 5, seed))] for conditions in (CONDITIONS, order)
    )
    assert one == other


def test_orders_differ_between_rounds_and_between_seeds() -> None:
    orders = {
        tuple(slot.condition.user_class for turns, slot in run(rounds(CONDITIONS, 20, seed)) if turns.round == number)
        for seed in (1, 2)
        for number in range(1, 21)
    }
    assert len(orders) == 6


def test_a_slot_that_was_incomplete_is_run_again_at_the_end_of_its_round() -> None:
    ran = run(rounds(CONDITIONS, 2, seed=1), is_incomplete=lambda number: number == 1)
    again = [(turns, slot) for turns, slot in ran if turns.again]
    assert [(slot.number, slot.round, slot.condition) for _, slot in again] == [(3, 1, ran[1][1].condition)]


@given(count=st.integers(1, 30))
def test_no_more_slots_are_run_again_than_a_share_of_those_planned(count: int) -> None:
    ran = run(rounds(CONDITIONS, count, seed=1), is_incomplete=lambda number: True)
    again = sum(turns.again for turns, _ in ran)
    assert again == -(-count * len(CONDITIONS) // 20)  # 5 %, rounded up


def test_conditions_that_differ_in_their_class_alone_are_called_by_it() -> None:
    assert [*labels(CONDITIONS).values()] == ["Fast", "Middle", "Slow"]


def test_what_varies_is_part_of_a_label() -> None:
    few, many = Condition("Fast", Users(1)), Condition("Fast", Users(20))
    small = Condition("Fast", Users(20), (("pool-size", "5"),))
    assert labels([few, many, small]) == {
        few: "Fast, 1 user",
        many: "Fast, 20 users",
        small: "Fast, 20 users, pool-size=5",
    }
    assert small.key == "Fast, 20 users, pool-size=5"
    assert CONDITIONS[0].key == "Fast, 10 users"
