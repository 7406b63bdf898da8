"""One class's turn in one round: what was measured in it, as a row, and what it was bound by.

The rules are in the documentation of results, in the same words. What is recorded is `dbkit.tally`'s and
`dbkit.machine`'s; what several slots say together is `dbkit.result`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from dbkit.cost import COUNTS
from dbkit.machine import CORES
from dbkit.tally import PARTS_AND_HOP, Distribution, Tally

Row = dict[str, Any]

PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}

CLIENT_BOUND_SHARE = 0.85
"""Of one core, that the busiest load process used or waited for: from here on its interpreter lock is the limit."""
POOL_BOUND_SHARE = 0.25
"""Of the response time, spent waiting for a connection."""
THINK_BOUND_SHARE = 0.5
"""Of the users' time, spent between two pages."""
HARNESS_SHARE = 0.1
"""Of the response time: `hop_ms` beyond this means that the generator itself held the numbers back.

Not where client CPU is the limit: a user on the way back then leaves the core to the other users."""
DISTURBED_STEAL_SHARE = 0.25
"""Of the machine's CPU time, stolen by the hypervisor: beyond this a slot is called disturbed."""
DISTURBED_OTHER_SHARE = 0.25
"""Of the machine's CPU time, used by other processes than load and server."""


@dataclass(frozen=True)
class UserClass:
    """A user class, as the tables name it."""

    name: str
    stack: str
    strategy: str


@dataclass(frozen=True)
class ProcessSlot:
    """What one process that read pages tells of one slot, from the end of its warm-up until the gate was closed."""

    seconds: float
    cpu_s: float
    """CPU time of the process."""
    core_wait_s: float
    """Time that its threads were ready to run and waited for a core."""
    hub_lag_ms: float
    """Mean of how late the gevent hub woke a greenlet that had slept."""
    loop_lag_ms: float | None
    """The same of the asyncio loop, where pages are read in one."""
    machine: str
    """The name of the machine that it ran on, of which the following shares are, as far as the system tells."""
    busy_share: float | None
    """Of the machine's CPU time, used by all its processes together."""
    steal_share: float | None
    """Of the machine's CPU time, given to others by the hypervisor."""
    pressure_share: float | None
    """Of the time, in which some task waited for a core."""
    users_short: int = 0
    """Users of this process that read fewer than 3 pages in the measured time."""
    bare_pages: float | None = None
    """Pages read bare, each by the share of its time that lies in the measured time; see `Slot.bare`."""


@dataclass
class Slot:
    """One class's turn, as it was run."""

    number: int
    round: int
    user_class: str
    users: int
    began_s: float
    """Since the schedule began."""
    server_cpu_s: float | None = None
    """CPU time of the server for warm-up and measured pages; None where it is not on the conductor's machine."""
    server_seconds: float = 0.0
    """The time in which it used that."""
    server_machine: str | None = None
    """The machine that the server is on, where that is known."""
    processes: list[ProcessSlot] = field(default_factory=list)
    measured: Tally = field(default_factory=Tally)
    warm_up: Tally = field(default_factory=Tally)
    incomplete: bool = False
    """A process that took part was lost, or did not report in time."""
    replaced: bool = False
    """Disturbed or incomplete, and run again: it stays in the tables, and out of the classes' figures and verdicts."""
    bare: bool = False
    """The page function was called bare in its lane: no Locust request, no check, no recorder."""

    @property
    def steal_share(self) -> float | None:
        """The share of the CPU time that was stolen meanwhile, of the machine that suffered most."""
        return _largest(process.steal_share for process in self.processes)

    @property
    def pressure_share(self) -> float | None:
        """The share of the time in which some task waited for a core, of the machine that suffered most."""
        return _largest(process.pressure_share for process in self.processes)

    @property
    def other_cpu_share(self) -> float | None:
        """The share of the CPU time that went to neither the load nor the server, of the machine that suffered most."""
        if self.server_machine is None:
            return None
        shares = []
        for machine in {process.machine for process in self.processes}:
            here = [process for process in self.processes if process.machine == machine]
            if here[0].busy_share is None:
                return None
            ours = sum(process.cpu_s / process.seconds for process in here)
            if machine == self.server_machine and self.server_cpu_s is not None:
                ours += self.server_cpu_s / self.server_seconds
            shares.append(max(here[0].busy_share - ours / CORES, 0.0))
        return max(shares, default=None)

    @property
    def is_disturbed(self) -> bool:
        """Whether neighbours of the machine, or on it, took much of its time."""
        return (self.steal_share or 0) > DISTURBED_STEAL_SHARE or (self.other_cpu_share or 0) > DISTURBED_OTHER_SHARE

    def row(self, user_class: UserClass) -> Row:
        """The slot's row in every output."""
        seconds = fmean(process.seconds for process in self.processes) if self.processes else 0.0
        client_cpu_share = _largest(process.cpu_s / process.seconds for process in self.processes)
        core_wait_share = _largest(process.core_wait_s / process.seconds for process in self.processes)
        page_ms = sum(self.measured.times[part].mean_ms or 0 for part in ("response_ms", "hop_ms"))
        think_share = 1 - page_ms / 1000 * self.measured.measured_pages / (self.users * seconds) if seconds else None
        bound_by = None
        if self.measured.good_pages:
            bound_by = _bound_by(self.measured, client_cpu_share, core_wait_share, think_share, self.steal_share)
        client_cpu_s = sum(process.cpu_s for process in self.processes) if self.processes else None
        all_pages = self.measured.pages + self.warm_up.pages
        return {
            "slot": self.number,
            "round": self.round,
            "user_class": user_class.name,
            "stack": user_class.stack,
            "strategy": user_class.strategy,
            "users": self.users,
            "began_s": self.began_s,
            "seconds": seconds,
            "pages": self.measured.pages,
            "failures": self.measured.failures,
            "unfinished": self.measured.unfinished + self.warm_up.unfinished,
            "warm_up_pages": self.warm_up.pages,
            "pages_per_s": per(self.measured.measured_pages, seconds),
            **percentiles(self.measured.times["response_ms"]),
            **mean_figures(self.measured),
            "parts": part_percentiles(self.measured),
            "client_cpu_ms": None if client_cpu_s is None else per(client_cpu_s * 1000, self.measured.measured_pages),
            "server_cpu_ms": None if self.server_cpu_s is None else per(self.server_cpu_s * 1000, all_pages),
            "client_cpu_share": client_cpu_share,
            "core_wait_share": core_wait_share,
            "server_cpu_share": None if self.server_cpu_s is None else per(self.server_cpu_s, self.server_seconds),
            "hub_lag_ms": _mean(process.hub_lag_ms for process in self.processes),
            "loop_lag_ms": _mean(process.loop_lag_ms for process in self.processes),
            "steal_share": self.steal_share,
            "pressure_share": self.pressure_share,
            "other_cpu_share": self.other_cpu_share,
            "bound_by": bound_by,
            "harness_held_back": bound_by != "client CPU" and (_share(self.measured, "hop_ms") or 0) > HARNESS_SHARE,
            "disturbed": self.is_disturbed,
            "incomplete": self.incomplete,
            "replaced": self.replaced,
        }


def mean_figures(tally: Tally) -> Row:
    """The longest response time, and means a page of counts and parts."""
    return {
        "max_ms": tally.times["response_ms"].max_ms if tally.good_pages else None,
        **{name: per(tally.sums[name], tally.good_pages) for name in COUNTS},
        **{name: tally.times[name].mean_ms for name in PARTS_AND_HOP},
    }


def part_percentiles(tally: Tally) -> Row:
    """Percentiles of each part of the response time, and of the hop."""
    return {name: percentiles(tally.times[name]) for name in PARTS_AND_HOP}


def percentiles(times: Distribution) -> Row:
    """`PERCENTILES` of a time; None where there is none."""
    found = times.percentiles(tuple(PERCENTILES.values()))
    return dict(zip(PERCENTILES, found, strict=True)) if found else dict.fromkeys(PERCENTILES)


def _bound_by(
    tally: Tally,
    client_cpu_share: float | None,
    core_wait_share: float | None,
    think_share: float | None,
    steal_share: float | None,
) -> str | None:
    """What kept the slot from serving more pages; the rule is in the documentation of results, in these words.

    The share of `db` in the response time is no part of it: under load most of that is an answer that has come and
    waits for the interpreter.
    """
    if client_cpu_share is None or core_wait_share is None:
        return None
    if client_cpu_share + core_wait_share >= CLIENT_BOUND_SHARE * (1 - (steal_share or 0)):
        return "client CPU"
    if (_share(tally, "pool_ms") or 0) >= POOL_BOUND_SHARE:
        return "pool"
    if think_share is not None and think_share >= THINK_BOUND_SHARE:
        return "think time"
    return "database"


def _share(tally: Tally, part: str) -> float | None:
    """The share of a part in the response time of all pages."""
    return per(tally.times[part].sum_ms, tally.times["response_ms"].sum_ms)


def per(value: float, by: float) -> float | None:
    """`value` divided by `by`; None where that is 0."""
    return value / by if by else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
