"""Looks for the load, or the value of a setting, up to which classes keep a limit: a planner, and what its slots say.

All searches advance together: in each round each class has a slot of what it measures next, in random order. What that
is follows from the slots alone, by `dbkit.analysis.edge`, so that the answer can be made from the slots of a run that
was cut short. The answer in words is left to `dbkit.analysis.found`.

Shares of the best are taken of the value whose slots have been the best so far. It has a slot in every round, so that
other values are compared with it in the same round. Beyond the best value nothing is searched.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log
from statistics import fmean
from typing import Literal

from dbkit.analysis.condition import Condition
from dbkit.analysis.edge import FAR, Edge
from dbkit.analysis.limits import Limit
from dbkit.analysis.plan import Planner, Turn, Turns
from dbkit.analysis.records import SlotRow
from dbkit.analysis.rows import slot_row
from dbkit.analysis.slot import Slot, UserClass, sustained

Sought = Literal["largest", "smallest"]

SETTINGS_SOUGHT: dict[str, Sought] = {"pool-size": "smallest", "max-overflow": "smallest", "page-size": "largest"}
"""The settings that can be searched: the smallest that is enough, and the largest that can be asked for."""


@dataclass(frozen=True)
class Line:
    """Conditions of one class that differ in one number alone, which ascends: a load, or a setting."""

    name: str
    """The class, with what else differs between the lines of a search."""
    conditions: Sequence[Condition]
    values: Sequence[float]
    """The number of each."""

    @property
    def user_class(self) -> str:
        return self.conditions[0].user_class

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each condition, from 1, by its key."""
        return {condition.key: place for place, condition in enumerate(self.conditions, 1)}


@dataclass(frozen=True)
class Measured:
    """What the slots of a line say."""

    edge: Edge
    """Where the limit stops being kept; where the smallest value is sought, where it begins."""
    bound: float | None
    """What the figure is compared with; None where nothing is known yet."""
    best: int | None
    """The position whose figure is the best, where the limit is a share of that."""


@dataclass(frozen=True)
class Search:
    """What is searched, in which lines, and for how long."""

    limit: Limit
    along: str
    """`users`, or the name of a setting."""
    sought: Sought
    lines: Sequence[Line]
    budget_s: float
    cost_s: Callable[[Condition], float]
    """About how long a slot takes, with all that belongs to it."""

    def planner(self, seed: int) -> Planner:
        """Rounds until each edge is found, or the next round would not fit into the budget any more."""
        shuffled = random.Random(f"search/{seed}")
        rows: list[SlotRow] = []
        run: dict[str, list[Slot]] = {}
        for number in itertools.count(1):
            overrun = {key for key, its in run.items() if sustained(its) is False}
            turns = [Turn(condition) for line in self.lines for condition in self._next(line, rows, overrun)]
            spent_s = max((row.began_s + row.seconds for row in rows), default=0.0)
            if not turns or spent_s + sum(self.cost_s(turn.condition) for turn in turns) > self.budget_s:
                return
            slots = yield Turns(number, shuffled.sample(turns, len(turns)))
            for slot in slots:
                rows.append(slot_row(slot, UserClass(slot.user_class, "", "", "")))
                run.setdefault(slot.condition.key, []).append(slot)

    @property
    def least_s(self) -> float:
        """How long it takes at the least, where only the last values keep the limit: all of them are doubled up to."""
        return sum(self.cost_s(each) for line in self.lines for each in _doubled(line.conditions))

    def measured(self, line: Line, rows: Iterable[SlotRow], overrun: Collection[str] = ()) -> Measured:
        """What slots say of a line; those of other lines may be among them.

        `overrun` are the keys of conditions of an open loop that were not sustained, by all their slots together: no
        limit is kept there.
        """
        known = [
            (line.positions[row.condition], row.round, value)
            for row in rows
            if row.condition in line.positions and not row.replaced
            if (value := self._worst if row.condition in overrun else self._value(row)) is not None
        ]
        if not self.limit.reference:
            excesses = [(position, self._excess(value, self.limit.number)) for position, _, value in known]
            return Measured(self._edge(line, excesses), self.limit.number, None)
        levels = {
            place: fmean(log(value) for position, _, value in known if position == place and 0 < value < inf)
            for place in {position for position, _, value in known if 0 < value < inf}
        }
        if not levels:
            return Measured(self._edge(line, []), None, None)
        best = (min if self.limit.is_upper else max)(levels, key=levels.__getitem__)
        in_round = {round_number: value for position, round_number, value in known if position == best}
        excesses = []
        for position, round_number, value in known:
            if (position - best) * (1 if self.sought == "smallest" else -1) >= 0:
                excesses.append((position, -FAR))
            else:
                reference = in_round.get(round_number) or exp(levels[best])
                excesses.append((position, self._excess(value, self.limit.number * reference)))
        return Measured(self._edge(line, excesses), self.limit.number * exp(levels[best]), best)

    def _next(self, line: Line, rows: Sequence[SlotRow], overrun: Collection[str]) -> Iterator[Condition]:
        """What is measured next in a line; nothing where its edge is found, or the figure is not known here."""
        measured = self.measured(line, rows, overrun)
        if not measured.edge.slots and any(row.condition in line.positions for row in rows):
            return
        position = measured.edge.next(spread=bool(self.limit.reference))
        if position is not None:
            is_spread = len({place for place, _ in measured.edge.slots}) < len([*_doubled(line.conditions)])
            places = {position} if measured.best is None or is_spread else {position, measured.best}
            yield from (line.conditions[place - 1] for place in sorted(places))

    def _edge(self, line: Line, excesses: Iterable[tuple[int, float]]) -> Edge:
        sign = 1 if self.sought == "largest" else -1
        slots = [(position, sign * excess) for position, excess in excesses]
        return Edge(len(line.conditions), slots, is_exact=self.limit.is_exact, falls=sign < 0)

    def _value(self, row: SlotRow) -> float | None:
        """The figure of a slot; None where it is not known.

        It is the worst there is where no page came back well, or pages were not served as fast as they arrived. Where
        none has arrived it is the best.
        """
        value: float | None = getattr(row, self.limit.figure)
        if row.sustained is False:
            return self._worst
        if value is not None or row.pages > row.failures:
            return value
        has_arrivals = row.pages or row.unfinished or row.not_begun
        return 0.0 if row.sustained and not has_arrivals and self.limit.is_upper else self._worst

    @property
    def _worst(self) -> float:
        return 0.0 if self.limit.is_lower else inf

    def _excess(self, value: float, bound: float) -> float:
        """By how much a value exceeds a bound, as a logarithm: below 0 where the limit is kept."""
        if self.limit.is_exact:
            return -1.0 if self.limit.is_kept(value) else 1.0
        if value == 0:
            return -FAR if self.limit.is_upper else FAR
        if value == inf:
            return FAR
        return log(value / bound) if self.limit.is_upper else log(bound / value)


def _doubled(conditions: Sequence[Condition]) -> Iterator[Condition]:
    position = 1
    while position < len(conditions):
        yield conditions[position - 1]
        position *= 2
    yield conditions[-1]
