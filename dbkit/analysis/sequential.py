"""Rounds of a before and after that go on until it is decided, without more false alarms for looking often.

Whoever looks at a test of 5 % again and again, and stops when it shows something, is wrong far more often than in 5 of
100 runs. So the looks are planned, and each may spend a part of the error alone: a group sequential test.

1. What is repeated are rounds, and the processes of both sides are started again for each. Two processes of the same
   code differ by several percent in speed for as long as they live (see Mytkowicz, Diwan, Hauswirth and Sweeney, 2009,
   for how little it takes), so that no number of slots shows what the code takes. A round's value is the mean of its
   slots, and the intervals are those of rounds (the highest level of Kalibera and Jones, 2013).
2. A look may come after each of `LOOKS` equal parts of the rounds that fit into the budget. By then the share t of the
   error, t squared, may have been spent (the power family of Kim and DeMets, 1987, within the spending functions of Lan
   and DeMets, 1983): a large difference is found early, and at the end nearly all of the error is left.
3. How small the p-value at a look must be follows from the joint distribution of all looks, which is that of Brownian
   motion at those times (Jennison and Turnbull, 2000, chapter 3). It is simulated, and put in the place of 5 % in the
   t intervals of `dbkit.analysis.verdict` (the significance level approach, their chapter 11.5).
4. The error is shared equally among the quantities that are compared (Bonferroni), and the classes of one quantity hold
   together as in any result. So of 100 runs in which nothing has changed, at most 5 show any difference.

The last look, when the budget is spent, may use up what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import ceil

import numpy as np

from dbkit.analysis.before_after import COMPARED, is_decided
from dbkit.analysis.condition import Condition, Variation
from dbkit.analysis.plan import Planner, fresh_rounds
from dbkit.analysis.rounds import Rounds
from dbkit.analysis.slot import Slot, UserClass
from dbkit.analysis.verdict import CONFIDENCE, MIN_ROUNDS

LOOKS = 8
LEAST_ROUNDS = 2 * MIN_ROUNDS
"""Before so many rounds there is no look: the scatter is a guess."""
PATHS = 400_000
"""How many paths are simulated: the error of a level of 0.001 is then a twentieth of it."""
SEED = 1
"""The simulation's seed, so that the same looks have the same levels."""
ERROR_OF_A_QUANTITY = (1 - CONFIDENCE) / len(COMPARED)


def spent(share: float, error: float) -> float:
    """How much of the `error` may be spent when this share, 0 to 1, of all rounds has been run."""
    return error * min(share, 1.0) ** 2


@cache
def levels(shares: tuple[float, ...], spendings: tuple[float, ...]) -> list[float]:
    """The two-sided p-value below which a difference is shown, at each look.

    `shares` are the looks, as shares of all rounds, ascending; `spendings` the error that may have been spent by each.
    """
    from scipy import special

    drawn = np.random.default_rng(SEED)
    alive = np.zeros(PATHS)
    found, gone = [], 0
    for (before, now), spending in zip(pairwise((0.0, *shares)), spendings, strict=True):
        alive = alive + np.sqrt(now - before) * drawn.standard_normal(len(alive))
        deviates = np.abs(alive) / np.sqrt(now)
        crossing = min(max(round(spending * PATHS) - gone, 1), len(alive) - 1)
        boundary = np.partition(deviates, len(alive) - crossing)[len(alive) - crossing]
        found.append(min(2 * float(special.ndtr(-boundary)), spending))
        alive = alive[deviates < boundary]
        gone += crossing
    return found


def level(looks: Sequence[int], most_rounds: int, *, is_last: bool, error: float = ERROR_OF_A_QUANTITY) -> float:
    """The error that an interval of one quantity may have at the last of the `looks`, which are numbers of rounds.

    `is_last` says that none can follow, so that all of the `error` may be used up.
    """
    most = max(most_rounds, looks[-1])
    shares = tuple(look / most for look in looks)
    spendings = [spent(share, error) for share in shares]
    if is_last:
        spendings[-1] = error
    return levels(shares, tuple(spendings))[-1]


class SequentialRounds:
    """Rounds that end when each class is decided, or when the next one would not fit into the budget."""

    def __init__(
        self,
        conditions: Collection[Condition],
        user_classes: Mapping[str, UserClass],
        variations: Sequence[Variation],
        *,
        end: str,
        slots_each: int,
        round_s: float,
        budget_s: float,
    ) -> None:
        self.error = 0.0
        """The error of an interval of one quantity: what the looks so far leave of it; 0 before the first look."""
        self.budget_s = budget_s
        self.most_rounds = max(int(budget_s / round_s), LEAST_ROUNDS)
        self._conditions = conditions
        self._slots_each = slots_each
        self._rounds = Rounds(user_classes, end=end, variations=variations)
        self._looks: list[int] = []

    def planner(self, seed: int) -> Planner:
        """Runs `fresh_rounds`, in an order shuffled from `seed`."""
        every = max(ceil(self.most_rounds / LOOKS), 1)
        for turns in fresh_rounds(self._conditions, seed, slots_each=self._slots_each):
            number, slots = turns.round, (yield turns)
            for slot in slots:
                self._rounds.add(slot)
            is_last = self._is_last(number, slots)
            if not is_last and (number < LEAST_ROUNDS or number % every):
                continue
            self._looks.append(number)
            self.error = level(self._looks, self.most_rounds, is_last=is_last)
            if is_last or self._is_decided(len(slots) * number):
                return

    def _is_last(self, number: int, slots: Sequence[Slot]) -> bool:
        """Whether the next round would go beyond the budget; as long as the mean of those before."""
        ended_s = max(slot.began_s + max((each.seconds for each in slot.processes), default=0.0) for slot in slots)
        return number >= LEAST_ROUNDS and ended_s * (number + 1) / number > self.budget_s

    def _is_decided(self, slots: int) -> bool:
        return is_decided(self._rounds.result(slots, {}, COMPARED, error=self.error).verdicts)
