"""Where a limit stops being kept: found in simulated slots with as much scatter as real ones have, and how surely."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkit.analysis.edge import CLEAN_SLOTS, Edge

Curve = Callable[[int], float]

POSITIONS = 200
SEEDS = 100


def knee(places: int, limit: float = 1.25) -> Curve:
    """A page that sleeps under a semaphore, with a limit on its response time in units of one sleep."""
    return lambda users: log(max(1.0, users / places) / limit)


def line(alone: float, each: float, limit: float) -> Curve:
    """Response times that grow with each user."""
    return lambda users: log((alone + each * users) / limit)


def edge_of(curve: Curve, positions: int = POSITIONS) -> int:
    """The last position that keeps the limit."""
    return max((each for each in range(1, positions + 1) if curve(each) <= 0), default=0)


def search(curve: Curve, scatter: float, seed: int, most: int, positions: int = POSITIONS) -> Edge:
    """The search at its end, or after so many slots."""
    chance = random.Random(seed)
    slots: list[tuple[int, float]] = []
    while len(slots) < most and (position := Edge(positions, slots).next()) is not None:
        slots.append((position, curve(position) + chance.gauss(0, scatter)))
    return Edge(positions, slots)


CURVES = {
    "a knee at 1": knee(1),
    "a knee at 4": knee(4),
    "a knee at 16, its limit between two users": knee(16, 1.03),
    "each user costs a little": line(2, 3, 50.5),
    "each user costs very little": line(2, 0.5, 52.3),
    "the limit is what 16 users have": lambda users: log(users / 16),
    "a step": lambda users: -1.0 if users <= 7 else 1.0,
    "kept by all": line(1, 0.1, 50),
    "kept by none": line(60, 1, 50),
}


@pytest.mark.parametrize("scatter", [0.03, 0.1])
@pytest.mark.parametrize("name", CURVES)
def test_intervals_contain_the_edge(name: str, scatter: float) -> None:
    curve = CURVES[name]
    intervals = [search(curve, scatter, seed, most=60).interval for seed in range(SEEDS)]
    assert sum(low <= edge_of(curve) <= high for low, high in intervals) >= 0.95 * SEEDS


@pytest.mark.parametrize("places", [1, 2, 3, 5, 8, 12])
def test_a_knee_is_found_within_one_user_in_nine_of_ten_searches(places: int) -> None:
    curve = knee(places)
    found = [search(curve, 0.06, seed, most=80).kept for seed in range(SEEDS)]
    assert sum(abs(each - edge_of(curve)) <= 1 for each in found) >= 0.9 * SEEDS


@settings(max_examples=60)
@given(st.integers(0, 60), st.integers(1, 60))
def test_without_scatter_the_edge_is_found_in_few_slots(true: int, positions: int) -> None:
    true = min(true, positions)
    found = search(lambda position: -1.0 if position <= true else 1.0, 0, 1, most=40, positions=positions)
    assert found.is_found
    assert (found.kept, found.broken) == (true, true + 1)
    assert found.interval[0] <= true <= found.interval[1] <= 1.1 * found.interval[0] + 1
    assert len(found.slots) <= 20


def test_positions_are_doubled_and_then_halved() -> None:
    found = search(lambda position: -1.0 if position <= 13 else 1.0, 0, 1, most=40)
    assert [position for position, _ in found.slots][:8] == [1, 2, 4, 8, 16, 12, 14, 13]


def test_all_positions_of_the_doubling_can_be_measured_first() -> None:
    slots: list[tuple[int, float]] = []
    for _ in range(6):
        position = Edge(20, slots).next(spread=True)
        assert position is not None
        slots.append((position, -1.0 if position <= 3 else 1.0))
    assert [position for position, _ in slots] == [1, 2, 4, 8, 16, 20]
    assert Edge(20, slots).next(spread=True) == 3


def test_a_slot_that_is_off_is_put_right() -> None:
    for off in range(4):  # at 1, 2, 4 or 8 users, of which 13 are served
        slots: list[tuple[int, float]] = []
        while len(slots) < 80 and (position := Edge(POSITIONS, slots).next()) is not None:
            excess = -0.6 if position <= 13 else 0.6
            slots.append((position, 0.9 if len(slots) == off else excess))
        assert abs(Edge(POSITIONS, slots).kept - 13) <= 1


@pytest.mark.parametrize("true", [0, 1, 9, POSITIONS])
def test_one_slot_that_breaks_an_exact_limit_is_enough(true: int) -> None:
    slots: list[tuple[int, float]] = []
    while (position := Edge(POSITIONS, slots, is_exact=True).next()) is not None:
        slots.append((position, -1.0 if position <= true else 1.0))
    found = Edge(POSITIONS, slots, is_exact=True)
    assert true - 1 <= found.interval[0] <= true == found.interval[1]
    if true < POSITIONS:
        assert [position for position, _ in slots].count(true + 1) == 1
    assert sum(position >= found.interval[0] for position, excess in slots if excess < 0) >= (
        CLEAN_SLOTS if true else 0
    )
    # a later slot that breaks it outweighs all those that did not
    if true:
        assert Edge(POSITIONS, [*slots, (true, 1.0)], is_exact=True).kept < true


def test_an_exact_limit_may_be_kept_from_a_position_on() -> None:
    slots: list[tuple[int, float]] = []
    while (position := Edge(20, slots, is_exact=True, falls=True).next()) is not None:
        slots.append((position, -1.0 if position < 6 else 1.0))
    found = Edge(20, slots, is_exact=True, falls=True)
    assert (found.kept, found.broken, found.interval) == (5, 6, (5, 5))
    assert [position for position, _ in slots].count(5) == 1


def test_nothing_is_known_before_the_first_slot() -> None:
    nothing = Edge(20, [])
    assert (nothing.kept, nothing.broken, nothing.interval, nothing.is_found, nothing.next()) == (
        0,
        21,
        (0, 20),
        False,
        1,
    )
