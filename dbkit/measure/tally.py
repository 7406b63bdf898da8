"""Page costs added up: counts, parts, and the distribution of response times at three significant digits.

Tallies of parts of a load, such as those of several workers, merge in any order to the tally of all of it. Callers
decide which pages belong in which tally.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from msgspec import convert, to_builtins

from dbkit.measure.cost import COUNTS, PARTS

SHOWN_PARTS = ("queue_ms", "pool_ms", "connect_ms", "server_wait_ms", "answer_wait_ms", "client_ms")
"""The parts that tables and charts show, in the order in which they begin: `db_ms` as the two that `db_parts` gives."""


def db_parts(db_ms: float | None, answer_wait_ms: float | None) -> dict[str, float | None]:
    """The two parts of `db_ms`: `answer_wait_ms`, and the rest, all of it where that is not known."""
    rest_ms = None if db_ms is None else max(db_ms - (answer_wait_ms or 0), 0.0)
    return {"server_wait_ms": rest_ms, "answer_wait_ms": answer_wait_ms}


def round_significant(ms: float) -> float:
    """A time rounded to three significant digits, and to no less than a tenth of a microsecond."""
    if ms < 0.001:
        return round(ms, 4)
    return round(ms, 2 - math.floor(math.log10(ms)))


@dataclass
class Distribution:
    """How often each time occurred. Sum and maximum are exact, percentiles to three significant digits."""

    counts: Counter[float] = field(default_factory=Counter)
    sum_ms: float = 0.0
    max_ms: float = 0.0

    def add(self, ms: float) -> None:
        """Count one time."""
        self.counts[round_significant(ms)] += 1
        self.sum_ms += ms
        if ms > self.max_ms:
            self.max_ms = ms

    def merge(self, other: Distribution) -> None:
        """Count all that `other` counted."""
        self.counts.update(other.counts)
        self.sum_ms += other.sum_ms
        self.max_ms = max(self.max_ms, other.max_ms)

    def with_those_who_would_have_come(self, interval_ms: float) -> Distribution:
        """What it would be if nobody had waited for anybody: pages asked for every `interval_ms` in each user's place.

        While a page takes longer its user asks for no further ones, each of which would have waited for the rest of
        that time (coordinated omission; G. Tene, HdrHistogram, `copyCorrectedForCoordinatedOmission`).
        """
        corrected = Distribution(self.counts.copy(), self.sum_ms, self.max_ms)
        for ms, count in self.counts.items():
            for further in range(1, int(ms / interval_ms)):
                waited_ms = ms - further * interval_ms
                corrected.counts[round_significant(waited_ms)] += count
                corrected.sum_ms += count * waited_ms
        return corrected

    @property
    def mean_ms(self) -> float | None:
        """None where nothing was counted."""
        total = self.counts.total()
        return self.sum_ms / total if total else None

    def percentile(self, share: float) -> float | None:
        """The shortest time that at least `share` (0 to 1) of all did not exceed; None where nothing was counted."""
        return next(iter(self.percentiles([share])), None)

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """`percentile` of each of the `shares`, in one pass; empty where nothing was counted."""
        times = sorted(self.counts)
        if not times:
            return []
        so_far = list(accumulate(map(self.counts.__getitem__, times)))
        return [times[bisect_left(so_far, math.ceil(share * so_far[-1]))] for share in shares]


@dataclass
class Tally:
    """What many pages cost together."""

    pages: int = 0
    """Pages that were asked for and begun, failed ones included."""
    failures: int = 0
    """Pages that failed; what they cost is in no sum and no distribution."""
    page_equivalents: float = 0.0
    """Pages that did not fail, each by the share of its time that lies in the measured time."""
    unfinished: int = 0
    """Those of the pages that failed which were cut off: nobody waited for them any longer."""
    think_ms: float = 0.0
    """The users' think time before all pages, failed ones included."""
    backed_off_ms: float = 0.0
    """How long users waited beyond that, as connections had failed, before they asked for these pages."""
    not_begun: int = 0
    """In an open loop, pages that were asked for and never begun, in none of the other figures."""
    late: int = 0
    """In an open loop, pages for which no user was free when they were due, failed ones included."""
    lag_ms: float = 0.0
    """How late the others were begun: a free user was not woken up in time."""
    longest_lag_ms: float = 0.0
    """The longest that any of them waited to be begun."""
    failed_ms: float = 0.0
    """The response times of the pages that failed."""
    sums: Counter[str] = field(default_factory=Counter)
    """The `dbkit.measure.cost.COUNTS` of all pages that did not fail, added up."""
    parts_ms: Counter[str] = field(default_factory=Counter)
    """The `dbkit.measure.cost.PARTS` of those pages, added up."""
    response: Distribution = field(default_factory=Distribution)
    """Their response times."""

    @property
    def cycle_ms(self) -> float | None:
        """The mean time from one page of a user to the next; None without pages."""
        between_ms = self.think_ms + self.backed_off_ms
        return (self.response.sum_ms + self.failed_ms + between_ms) / self.pages if self.pages else None

    @property
    def succeeded(self) -> int:
        """Pages that did not fail."""
        return self.pages - self.failures

    def mean_ms(self, part: str) -> float | None:
        """The mean a page of one of the `dbkit.measure.cost.PARTS`; None where no page succeeded."""
        return self.parts_ms[part] / self.succeeded if self.succeeded else None

    def add(self, cost: Mapping[str, Any], response_ms: float, failed: bool) -> None:
        """Add one page.

        `cost` is `PageCost.as_dict()`, the `think_ms` and `backed_off_ms` before the page, in an open loop whether it
        was `late`, and where it was, that it was `cut_off`.
        """
        self.pages += 1
        self.think_ms += cost["think_ms"]
        self.backed_off_ms += cost.get("backed_off_ms", 0.0)
        if (late := cost.get("late")) is not None:
            self.late += late
            self.lag_ms += 0.0 if late else cost["queue_ms"]
            self.longest_lag_ms = max(self.longest_lag_ms, cost["queue_ms"])
        if failed:
            self.failures += 1
            self.unfinished += cost.get("cut_off", False)
            self.failed_ms += response_ms
            return
        self.response.add(response_ms)
        sums, parts_ms = self.sums, self.parts_ms
        for name in COUNTS:
            sums[name] += cost[name]
        for name in PARTS:
            parts_ms[name] += cost[name]

    def merge(self, other: Tally) -> None:
        """Add all that `other` holds."""
        self.pages += other.pages
        self.failures += other.failures
        self.unfinished += other.unfinished
        self.think_ms += other.think_ms
        self.backed_off_ms += other.backed_off_ms
        self.not_begun += other.not_begun
        self.late += other.late
        self.lag_ms += other.lag_ms
        self.longest_lag_ms = max(self.longest_lag_ms, other.longest_lag_ms)
        self.failed_ms += other.failed_ms
        self.page_equivalents += other.page_equivalents
        self.sums.update(other.sums)
        self.parts_ms.update(other.parts_ms)
        self.response.merge(other.response)

    def as_message(self) -> dict[str, Any]:
        """All of it in plain values, for sending."""
        message: dict[str, Any] = to_builtins(self)
        return message

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Tally:
        """The tally that `as_message` was made of."""
        return convert(message, cls, dec_hook=lambda counter, counts: Counter(counts))
