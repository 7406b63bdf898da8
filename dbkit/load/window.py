"""A slot as the pages see it that are read in it. Who may read is left to `dbkit.load.gate`."""

from __future__ import annotations

import math

from dbkit.load.arrivals import ArrivalStream


class BarePages:
    """How many pages a user has called bare, each by its measured share."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0.0


class Window:
    """A slot as one process sees it, by `time.perf_counter`: when its warm-up ended, and when its gate closed.

    A page belongs to the window in which it was asked for, and knows it from then on.
    """

    __slots__ = ("arrivals", "bare", "bare_pages", "condition", "measured_from_at_s", "measured_until_at_s", "slot")

    def __init__(
        self,
        slot: int | None,
        condition: str | None = None,
        *,
        bare: bool = False,
        arrivals: ArrivalStream | None = None,
    ) -> None:
        self.slot = slot
        """The slot's number in its schedule, from 0; None without a schedule."""
        self.condition = condition
        """The key of the condition that is run; None without a schedule."""
        self.bare = bare
        """Whether page functions are called bare: see `dbkit.load.bare_stint.BareStint`."""
        self.bare_pages: list[BarePages] = []
        """Those of each user."""
        self.arrivals = arrivals
        """The pages that are asked for in an open loop; None in a closed one, and without a schedule."""
        self.measured_from_at_s = -math.inf if slot is None else math.inf
        self.measured_until_at_s = math.inf

    def measures(self, asked_at_s: float) -> bool:
        """Whether a page that was asked for at that time counts, or belongs to the warm-up."""
        return asked_at_s >= self.measured_from_at_s

    def share(self, began_at_s: float, ended_at_s: float) -> float:
        """The share, 0 to 1, of this time of a page that lies in the measured part of its slot, or before the stop.

        Pages a second are the sum of these divided by the measured time. Counting pages would do for fast ones. Slow
        ones begin together when the gate opens, and as many complete pages would fit in each slot whatever their speed.
        """
        if self.slot is None and ended_at_s <= self.measured_until_at_s:
            return 1.0
        inside_s = min(ended_at_s, self.measured_until_at_s) - max(began_at_s, self.measured_from_at_s)
        return max(inside_s, 0.0) / max(ended_at_s - began_at_s, 1e-9)
