"""Where a limit stops being kept along a line of positions, from noisy slots, and which position to measure next.

Positions are 1, 2, 3 and so on. The limit is kept up to some position, the edge, and not beyond it; the edge is 0 where
no position keeps it. A slot says by how much its figure exceeds the limit, as a logarithm: below 0 before the edge,
above 0 beyond it. What the positions are is left to `dbkit.analysis.search`. The method, fixed before any result is
seen:

1. Slots of a position scatter around its mean. The scatter is the same everywhere and not known: it begins with a guess
   that weighs as one degree of freedom, so that a first slot shows nothing alone. An excess beyond `FAR` says no more
   than that; where there is one, the scatter is taken to be as guessed.
2. Positions are doubled until one lies beyond the edge. Then the gap around the edge is halved. On which side a
   position lies is said by its mean after isotonic regression (Barlow et al., "Statistical Inference under Order
   Restrictions", 1972), so that a slot that is off is put right by later ones, and the gap opens again.
3. Where the two positions beside the edge are next to each other both are measured again, until each is shown to lie
   on its side. Where `PATIENCE` slots do not show it, because the figure there is almost the limit, positions farther
   from the edge are measured too, at twice the distance each time.
4. A position is shown to lie before the edge where the slots from there up to some later position have a mean below 0
   by a one-sided t test: what is below 0 later is below 0 before. Beyond the edge it is the same the other way round.
   The interval goes from the last position that is shown to lie before the edge to the one before the first that is
   shown to lie beyond it. The tests are repeated, and on positions that were chosen by their slots, so that each is
   made at `ERROR`: tests/analysis/test_edge.py holds that 95 of 100 intervals contain the edge.
5. The search has ended where the interval is not wider than `RESOLUTION`.

With exact limits, such as no failures, a slot says only whether it keeps the limit. One slot that breaks it shows on
which side its position lies. `CLEAN_SLOTS` that keep it show the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import sqrt
from statistics import fmean

from dbkit.analysis.verdict import quantile_of_t

FAR = 1.5
"""The largest excess that counts: 4.5 times the limit."""
ERROR = 0.0025
"""The error of each one-sided test."""
RESOLUTION = 0.1
"""How wide an interval may be where a search ends, as a share of its edge; below 10 positions it is one."""
GUESSED_SCATTER = 0.15
"""The standard deviation of the logarithm of a figure between slots, before it is known."""
PATIENCE = 4
"""After so many slots of a position that show nothing, one farther out is measured."""
CLEAN_SLOTS = 5


@dataclass(frozen=True)
class Edge:
    """What slots say of the edge among so many positions."""

    positions: int
    slots: Sequence[tuple[int, float]]
    """The position and the excess of each slot."""
    is_exact: bool = False
    falls: bool = False
    """Whether the limit is broken before the edge and kept beyond it; an excess then has the other sign."""

    @property
    def kept(self) -> int:
        """The last position that was measured and lies before the edge as far as is known; 0 for none."""
        return max((each for each, level in self._levels.items() if level <= 0), default=0)

    @property
    def broken(self) -> int:
        """The first position that was measured and lies beyond it; one more than there are positions for none."""
        return min((each for each, level in self._levels.items() if level > 0), default=self.positions + 1)

    @cached_property
    def interval(self) -> tuple[int, int]:
        """The 95 % interval of the edge, from 0 for no position to all of them."""
        ascending = sorted(self._by_position)
        before = [each for each in ascending if self._is_shown([one for one in ascending if one >= each], -1)]
        beyond = [each for each in ascending if self._is_shown([one for one in ascending[::-1] if one <= each], 1)]
        low, high = max(before, default=0), min(beyond, default=self.positions + 1) - 1
        # a contradiction, as of limits that are kept again beyond a load that breaks them: nothing is known between
        return min(low, self.kept, high), max(high, self.kept)

    @property
    def is_found(self) -> bool:
        """Whether the interval is as narrow as it has to be."""
        low, high = self.interval
        return bool(self.slots) and high - low <= RESOLUTION * self.kept

    def next(self, *, spread: bool = False) -> int | None:
        """The position to measure next; None where the edge is found.

        With `spread` all positions that doubling comes to are measured first, on whichever side of the edge.
        """
        largest = max(self._by_position, default=0)
        if largest < self.positions and (spread or self.broken > self.positions):
            return min(2 * largest, self.positions) if largest else 1
        if self.is_found:
            return None
        if self.broken - self.kept > 1:
            return (self.kept + self.broken) // 2
        return self._to_be_shown()

    def _to_be_shown(self) -> int:
        """The position beside the edge, or farther out, that has been measured too little."""
        low, high = self.interval
        distance, patience = 0, PATIENCE
        while True:
            before, beyond = self.kept - distance, self.broken + distance
            open_ones = [*([before] if before > low else []), *([beyond] if beyond <= high else [])]
            if not open_ones:  # all of those have been measured: once more from the edge
                distance, patience = 0, 2 * patience
                continue
            least = min(open_ones, key=self._count)
            if self._count(least) < patience:
                return least
            distance = 2 * distance or 1

    def _count(self, position: int) -> int:
        return len(self._by_position.get(position, ()))

    @cached_property
    def _by_position(self) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for position, excess in self.slots:
            found.setdefault(position, []).append(max(-FAR, min(excess, FAR)))
        return found

    @cached_property
    def _levels(self) -> dict[int, float]:
        """The excess at each position that was measured, made to rise."""
        ascending = dict(sorted(self._by_position.items()))
        if self.is_exact:
            broken = [each for each, excesses in ascending.items() if self._breaks(excesses)]
            first = max(broken, default=0) + 1 if self.falls else min(broken, default=self.positions + 1)
            return {each: 1.0 if each >= first else -1.0 for each in ascending}
        return dict(zip(ascending, _made_to_rise(ascending.values()), strict=True))

    def _breaks(self, excesses: Iterable[float]) -> bool:
        """Whether one of the slots breaks an exact limit."""
        return any(excess < 0 if self.falls else excess > 0 for excess in excesses)

    @cached_property
    def _scatter(self) -> tuple[float, int]:
        """The standard deviation between slots of a position, and its degrees of freedom."""
        squares, freedom = GUESSED_SCATTER**2, 1
        for excesses in self._by_position.values():
            mean, more = fmean(excesses), len(excesses) - 1
            is_far = any(abs(each) == FAR for each in excesses)
            squares += more * GUESSED_SCATTER**2 if is_far else sum((each - mean) ** 2 for each in excesses)
            freedom += more
        return sqrt(squares / freedom), freedom

    def _is_shown(self, positions: Iterable[int], sign: int) -> bool:
        """Whether the first of the positions is shown to lie beyond the edge (`sign` 1) or before it (-1).

        The others follow in the direction of the edge.
        """
        excesses: list[float] = []
        scatter, freedom = self._scatter
        for position in positions:
            excesses += self._by_position[position]
            if self.is_exact:
                broken = self._breaks(excesses)
                if broken if (sign < 0) is self.falls else not broken and len(excesses) >= CLEAN_SLOTS:
                    return True
            elif sign * sum(excesses) > _quantile(freedom) * scatter * sqrt(len(excesses)):
                return True
        return False


@cache
def _quantile(freedom: int) -> float:
    return quantile_of_t(freedom, 2 * ERROR)


def _made_to_rise(groups: Iterable[Sequence[float]]) -> list[float]:
    """The mean of each group, made to rise by pooling neighbours that fall."""
    blocks: list[tuple[float, int, int]] = []
    for group in groups:
        total, count, width = sum(group), len(group), 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before = blocks.pop()
            total, count, width = total + before[0], count + before[1], width + before[2]
        blocks.append((total, count, width))
    return [total / count for total, count, width in blocks for _ in range(width)]
