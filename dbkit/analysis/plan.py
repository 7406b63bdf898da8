"""What a test runs, slot by slot: planners, which are pure.

A planner yields the next turns, is sent the slots that they became, and ends where nothing is left to run. So it can
run a slot again, stop early or look for something. One executor runs any planner: see `dbkit.load.conductor`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass

from dbkit.analysis.condition import Condition
from dbkit.analysis.slot import Slot

REPEATS_SHARE = 0.05
"""How many disturbed or incomplete slots may be run again: this share of all that are planned, rounded up."""


@dataclass(frozen=True)
class Turn:
    """What one slot runs."""

    condition: Condition
    bare: bool = False
    """Whether its page function is called bare, to measure the harness: see `--calibrate`."""


@dataclass(frozen=True)
class Turns:
    """What is run next, one slot a turn."""

    round: int
    """The round that the slots belong to, from 1."""
    turns: Sequence[Turn]
    again: bool = False
    """Whether the slots replace those of the same turns in the same round."""
    fresh: bool = False
    """Whether the processes that read pages are started again before."""


Planner = Generator[Turns, list[Slot], None]
"""Yields turns, and is sent the slots that were run for them, in the same order."""


@dataclass(frozen=True)
class Schedule:
    """A planner, and how much it will run as far as that is known before: without the slots that are run again."""

    planner: Planner
    rounds: int
    slots: int
    bare_slots: int = 0
    """How many of them are bare."""
    budget_s: float | None = None
    """After so long no further round begins, so that rounds and slots are the most that there can be."""
    error: Callable[[], float] | None = None
    """The error that the intervals of one quantity may have, as far as it has been run; None for 0.05."""


def rounds(conditions: Collection[Condition], count: int, seed: int, *, calibrate: bool = False) -> Schedule:
    """Every condition once a round, in an order shuffled from `seed`; to `calibrate`, once more bare.

    A slot that was disturbed or incomplete is run again at the end of its round, as long as `REPEATS_SHARE` allows.
    """
    in_order = _in_order(conditions)
    turns = [Turn(condition, bare) for bare in ((False, True) if calibrate else (False,)) for condition in in_order]
    slots = count * len(turns)
    return Schedule(_rounds(turns, count, seed), count, slots, slots // 2 if calibrate else 0)


def fresh_rounds(conditions: Collection[Condition], seed: int, *, slots_each: int, count: int | None = None) -> Planner:
    """Rounds that are each read by processes of their own: every condition has `slots_each` slots in it.

    In each part of a round every condition has one slot, in an order shuffled from `seed`. None for `count` stands for
    rounds without an end.
    """
    shuffled = random.Random(f"rounds/{seed}")
    turns = [Turn(condition) for condition in _in_order(conditions)]
    for number in itertools.count(1) if count is None else range(1, count + 1):
        parts = [shuffled.sample(turns, len(turns)) for _ in range(slots_each)]
        yield Turns(number, [turn for part in parts for turn in part], fresh=number > 1)


def _in_order(conditions: Collection[Condition]) -> list[Condition]:
    # Locust passes class names through a set: sorted first, the same seed gives the same order
    return sorted(conditions, key=lambda condition: condition.key)


def _rounds(turns: Sequence[Turn], count: int, seed: int) -> Planner:
    shuffled = random.Random(f"rounds/{seed}")
    repeats = math.ceil(count * len(turns) * REPEATS_SHARE)
    for number in range(1, count + 1):
        order = shuffled.sample(turns, len(turns))
        slots = yield Turns(number, order)
        again = [turn for turn, slot in zip(order, slots, strict=True) if slot.is_disturbed or slot.incomplete]
        again = again[:repeats]
        if again:  # once: where others disturb all the time, that is what is measured
            repeats -= len(again)
            yield Turns(number, again, again=True)
