"""One turn of a condition: what was measured in it.

Recording is left to `dbkit.measure.tally` and `dbkit.measure.machine`, what bound it to `dbkit.analysis.bound`, and
its row to `dbkit.analysis.rows`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean

from dbkit.analysis.condition import Arrivals, Condition
from dbkit.measure.arrivals import is_sustained
from dbkit.measure.machine import CORES
from dbkit.measure.tally import Tally

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
    workload: str
    """The name of the workload whose pages it reads."""


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
    """The name of the machine that it ran on. The following are of that machine, as far as its system reports them."""
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
    relay_cpu_s: float = 0.0
    """CPU time of what makes the server farther away for this process: see `dbkit.database.relay`."""
    waiting_before: int = 0
    """In an open loop, pages that were due and that nobody read yet when the warm-up ended."""
    waiting: int = 0
    """The same when the gate was closed."""
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
        return self.condition.load.users if self.condition.load else 0

    @property
    def unfinished(self) -> int:
        """Pages that were cut off, those of the warm-up included."""
        return self.measured.unfinished + self.warm_up.unfinished

    @property
    def at_work(self) -> float:
        """How many users read a page at a time: all, or in an open loop those by Little's law."""
        if not isinstance(self.condition.load, Arrivals) or not self.measured.succeeded:
            return self.users
        page_s = (self.measured.response.sum_ms - self.measured.parts_ms["queue_ms"]) / 1000 / self.measured.succeeded
        seconds = mean(process.seconds for process in self.processes)
        return page_s * self.measured.page_equivalents / seconds if seconds else self.users

    @property
    def sustained(self) -> bool | None:
        """Whether pages were served as fast as they were asked for; None in a closed loop."""
        return sustained([self])

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
        lag_ms = mean(process.lane_lag_ms for process in self.processes)
        others = 1 - len(self.processes) / self.at_work if self.at_work else 0.0
        db_ms = self.measured.mean_ms("db_ms")
        if lag_ms is None or db_ms is None:
            return None
        return min(db_ms, self.measured.sums["round_trips"] / self.measured.succeeded * lag_ms * max(others, 0.0))

    @property
    def steal_share(self) -> float | None:
        """The share of the CPU time that was stolen meanwhile, of the machine that suffered most."""
        return largest(process.steal_share for process in self.processes)

    @property
    def pressure_share(self) -> float | None:
        """The share of the time in which some task waited for a core, of the machine that suffered most."""
        return largest(process.pressure_share for process in self.processes)

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
        used = sum((each.cpu_s + each.relay_cpu_s) / each.seconds for each in here)
        if process.machine == self.server_machine:
            used += self.server_cpu_share or 0.0
        return used / process.cores

    @property
    def is_disturbed(self) -> bool:
        """Whether neighbours of the machine, or on it, took much of its time."""
        return (self.steal_share or 0) > DISTURBED_STEAL_SHARE or (self.other_cpu_share or 0) > DISTURBED_OTHER_SHARE


def sustained(slots: Collection[Slot]) -> bool | None:
    """Whether pages of a condition were served as fast as they were asked for, in all its slots together."""
    if not any(isinstance(slot.condition.load, Arrivals) for slot in slots):
        return None
    growth = sum(each.waiting - each.waiting_before for slot in slots for each in slot.processes)
    not_begun = sum(slot.measured.not_begun for slot in slots)
    return is_sustained(sum(slot.measured.pages for slot in slots) + not_begun, growth, not_begun)


def per(value: float, by: float) -> float | None:
    """`value` divided by `by`; None where that is 0."""
    return value / by if by else None


def has_ratio(value: float | None) -> bool:
    """Whether ratios to a figure, or of it, say something: it is known, above 0 and finite."""
    return value is not None and isfinite(value) and value > 0


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def largest(values: Iterable[float | None]) -> float | None:
    """The largest of what is known; None where nothing is."""
    return max((value for value in values if value is not None), default=None)
