"""When pages are asked for in an open loop, and whether what serves them keeps up.

Who serves which page is left to the caller. It is arithmetic alone: callers say what time it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

NOISE = 3.0
"""How many standard deviations of a Poisson count more pages may wait at the end than at the beginning."""


class ArrivalTimes:
    """Intended times, by `time.perf_counter`, at a rate that may change; none while it is 0.

    With `is_even` they are at equal distances, else a Poisson process. The same `seed` gives the same times.
    """

    def __init__(self, *, is_even: bool, seed: str) -> None:
        self._draw = random.Random(seed)
        self._is_even = is_even
        self._rate_per_s = 0.0
        self._at_s = 0.0
        """Up to when all is settled."""
        self._left = self._gap()
        """How much of the mean distance is left from then until the next one."""

    @property
    def next_at_s(self) -> float:
        """The next time that `due` has not given yet; infinite while the rate is 0."""
        return self._at_s + self._left / self._rate_per_s if self._rate_per_s else math.inf

    def due(self, now_at_s: float) -> Iterator[float]:
        """Those times up to `now_at_s` that have not been given yet."""
        while (next_at_s := self.next_at_s) <= now_at_s:
            self._at_s, self._left = next_at_s, self._gap()
            yield next_at_s

    def set_rate(self, rate_per_s: float, now_at_s: float) -> None:
        """Have another rate from now on. All that is due has been taken."""
        self._left -= (now_at_s - self._at_s) * self._rate_per_s
        self._at_s, self._rate_per_s = now_at_s, rate_per_s

    def _gap(self) -> float:
        return 1.0 if self._is_even else self._draw.expovariate(1.0)


def is_sustained(arrivals: int, growth: int, not_begun: int = 0) -> bool:
    """Whether what serves `arrivals` keeps up: as good as no more of them wait at the end than at the beginning.

    `growth` is by how much the number of those that wait has grown meanwhile. As arrivals come at random it may grow by
    `NOISE` standard deviations of their number, whose variance is its mean. Of those asked for none may be `not_begun`.
    """
    return not not_begun and growth <= NOISE * math.sqrt(arrivals)
