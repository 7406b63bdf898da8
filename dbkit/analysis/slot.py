"""One class's turn in one round: what was measured in it, as a row.

Recording is left to `dbkit.measure.tally` and `dbkit.measure.machine`, what bound it to `dbkit.analysis.bound`, and
what several slots say together to `dbkit.analysis.result`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from dbkit.analysis.condition import Condition
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.machine import CORES
from dbkit.measure.tally import SHOWN_PARTS, Distribution, Tally, db_parts

Row = dict[str, Any]

PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}

HUB_STACK = "psycopg"
"""The stack whose pages are read in greenlets, and so wait while the gevent hub stalls."""

DISTURBED_STEAL_SHARE = 0.25
"""The share of the machine's CPU time, stolen by the hypervisor, beyond which a slot is called disturbed."""
DISTURBED_OTHER_SHARE = 0.25
"""The same of what other processes than load and server used."""


@dataclass(frozen=True)
class UserClass:
    """A user class, as the tables name it."""

    name: str
    stack: str
    strategy: str


@dataclass
class ProcessSlot:
    """What one process that read pages measured in one slot, from the end of its warm-up until the gate was closed."""

    seconds: float
    cpu_s: float
    """CPU time of the process."""
    core_wait_s: float
    """Time that its threads were ready to run and waited for a core."""
    hub_lag_ms: float
    """Mean of how late the gevent hub woke a greenlet that had slept."""
    lane_lag_ms: float
    """Mean of how long an answer that has come waits for its turn where pages are read: on the hub, in the asyncio
    loop, or for the interpreter lock."""
    hub_stall_ms: float
    """The longest stall of the hub; 0 where there was none: see `dbkit.load.lag`."""
    machine: str
    """The name of the machine that it ran on. The following are about that machine, as far as the system tells."""
    cores: int
    """How many cores it has."""
    busy_share: float | None
    """The share of its CPU time that all its processes used together."""
    steal_share: float | None
    """The share of its CPU time that the hypervisor gave to others."""
    pressure_share: float | None
    """The share of the time in which some task waited for a core."""
    users_short: int = 0
    """Users of this process that read fewer than 3 pages in the measured time."""
    bare_pages: float | None = None
    """Pages read bare, each by the share of its time that lies in the measured time; see `Slot.bare`."""


@dataclass
class Slot:
    """One class's turn, as it was run."""

    number: int
    round: int
    condition: Condition
    """What it ran."""
    began_s: float
    """Since the schedule began."""
    server_cpu_s: float | None = None
    """CPU time of the server for warm-up and measured pages; None where it is not on the conductor's machine."""
    server_seconds: float = 0.0
    """The time in which it used that."""
    server_machine: str | None = None
    """The machine that the server is on, where that is known: the conductor's."""
    server_cores: int = CORES
    """How many cores that has."""
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
    def user_class(self) -> str:
        """The name of the class whose turn it was."""
        return self.condition.user_class

    @property
    def users(self) -> int:
        """How many users read pages."""
        return self.condition.load.count if self.condition.load else 0

    @property
    def busiest(self) -> ProcessSlot | None:
        """The process that used the most of a core; None where none has reported."""
        return max(self.processes, key=lambda process: process.cpu_s / process.seconds, default=None)

    @property
    def client_cpu_share(self) -> float | None:
        """What the busiest process used, of one core."""
        return None if self.busiest is None else self.busiest.cpu_s / self.busiest.seconds

    @property
    def core_wait_share(self) -> float | None:
        """How long the busiest process waited for a core, of the time.

        An interpreter waits once, however many of its threads do: it is no more than what its use of a core leaves.
        """
        if self.busiest is None:
            return None
        left = max(1 - self.busiest.cpu_s / self.busiest.seconds, 0.0)
        return min(self.busiest.core_wait_s / self.busiest.seconds, left)

    @property
    def server_cpu_share(self) -> float | None:
        """What the server used, of one core."""
        return None if self.server_cpu_s is None else per(self.server_cpu_s, self.server_seconds)

    @property
    def server_machine_share(self) -> float | None:
        """What the server used, of all cores of its machine."""
        return None if self.server_cpu_share is None else self.server_cpu_share / self.server_cores

    @property
    def answer_wait_ms(self) -> float | None:
        """The part of a page's mean `db_ms` in which an answer had come and waited for Python, as an estimate.

        Each round trip ends with an answer, which waits in the lane as long as what has been sampled there; but for the
        share of its own user, who is waiting and holds nobody up.
        """
        lag_ms = _mean(process.lane_lag_ms for process in self.processes)
        others = 1 - len(self.processes) / self.users if self.users else 0.0
        db_ms = self.measured.mean_ms("db_ms")
        if lag_ms is None or db_ms is None:
            return None
        return min(db_ms, self.measured.sums["round_trips"] / self.measured.good_pages * lag_ms * max(others, 0.0))

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
            one = next(process for process in self.processes if process.machine == machine)
            if one.busy_share is None:
                return None
            shares.append(max(one.busy_share - self.own_cpu_share(one), 0.0))
        return max(shares, default=None)

    def own_cpu_share(self, process: ProcessSlot) -> float:
        """The share of the CPU time of that process's machine that the load, and the server if it is there, used."""
        here = [each for each in self.processes if each.machine == process.machine]
        used = sum(each.cpu_s / each.seconds for each in here)
        if process.machine == self.server_machine:
            used += self.server_cpu_share or 0.0
        return used / process.cores

    @property
    def is_disturbed(self) -> bool:
        """Whether neighbours of the machine, or on it, took much of its time."""
        return (self.steal_share or 0) > DISTURBED_STEAL_SHARE or (self.other_cpu_share or 0) > DISTURBED_OTHER_SHARE

    def row(self, user_class: UserClass) -> Row:
        """The slot's row in every output."""
        seconds = fmean(process.seconds for process in self.processes) if self.processes else 0.0
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
            **percentiles(self.measured.response),
            **mean_figures(self.measured, self.answer_wait_ms),
            "client_cpu_ms": None if client_cpu_s is None else per(client_cpu_s * 1000, self.measured.measured_pages),
            "server_cpu_ms": None if self.server_cpu_s is None else per(self.server_cpu_s * 1000, all_pages),
            "client_cpu_share": self.client_cpu_share,
            "core_wait_share": self.core_wait_share,
            "server_cpu_share": self.server_cpu_share,
            "hub_lag_ms": _mean(process.hub_lag_ms for process in self.processes),
            "lane_lag_ms": _mean(process.lane_lag_ms for process in self.processes),
            "hub_stall_ms": _largest(process.hub_stall_ms for process in self.processes),
            "steal_share": self.steal_share,
            "pressure_share": self.pressure_share,
            "other_cpu_share": self.other_cpu_share,
            "disturbed": self.is_disturbed,
            "incomplete": self.incomplete,
            "replaced": self.replaced,
        }


def mean_figures(tally: Tally, answer_wait_ms: float | None) -> Row:
    """The longest response time, means a page of counts and parts, and the name of the largest part.

    Which part is the largest is None where it is not known how much of `db_ms` was `answer_wait_ms`.
    """
    figures = {
        "max_ms": tally.response.max_ms if tally.good_pages else None,
        **{name: per(tally.sums[name], tally.good_pages) for name in COUNTS},
        **{name: tally.mean_ms(name) for name in PARTS},
        **db_parts(tally.mean_ms("db_ms"), answer_wait_ms),
        "think_ms": per(tally.think_ms, tally.pages),
    }
    largest = None if answer_wait_ms is None else max(SHOWN_PARTS, key=lambda part: figures[part] or 0)
    return {**figures, "largest_part": None if largest is None else SHOWN_PARTS[largest]}


def percentiles(times: Distribution) -> Row:
    """`PERCENTILES` of a time; None where there is none."""
    found = times.percentiles(tuple(PERCENTILES.values()))
    return dict(zip(PERCENTILES, found, strict=True)) if found else dict.fromkeys(PERCENTILES)


def per(value: float, by: float) -> float | None:
    """`value` divided by `by`; None where that is 0."""
    return value / by if by else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
