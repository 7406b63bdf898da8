"""From tallies and slots to the result: a row a slot, a row a class, verdicts between classes, and what bound each.

Everything that any output shows is computed here, once, into plain values that JSON can hold: outputs format and
compute nothing. What is recorded is `dbkit.tally`'s and `dbkit.machine`'s, the statistics of a verdict
`dbkit.verdict`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from dbkit.cost import COUNTS
from dbkit.machine import CORES
from dbkit.tally import TIMES, Tally
from dbkit.verdict import (
    CLIENT_CPU_MS,
    PAGES_PER_S,
    SERVER_CPU_MS,
    Comparison,
    Observation,
    Quantity,
    compare,
    response_time,
    sentence,
)

Row = dict[str, Any]

PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}

QUANTITIES: dict[str, Quantity] = {
    "pages_per_s": PAGES_PER_S,
    **{name: response_time(name.removesuffix("_ms")) for name in PERCENTILES},
    "client_cpu_ms": CLIENT_CPU_MS,
    "server_cpu_ms": SERVER_CPU_MS,
}
"""What classes are compared by, under the name of the column that holds it."""

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

MIXED_WARNING = (
    "run mixed: these classes shared one interpreter, where they hold each other up and their ranking can invert;"
    " compare them one at a time with locustfiles/rounds.py"
)


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
            "pages_per_s": _ratio(self.measured.measured_pages, seconds),
            **_page_figures(self.measured),
            "client_cpu_ms": None
            if client_cpu_s is None
            else _ratio(client_cpu_s * 1000, self.measured.measured_pages),
            "server_cpu_ms": None if self.server_cpu_s is None else _ratio(self.server_cpu_s * 1000, all_pages),
            "client_cpu_share": client_cpu_share,
            "core_wait_share": core_wait_share,
            "server_cpu_share": None if self.server_cpu_s is None else _ratio(self.server_cpu_s, self.server_seconds),
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


@dataclass
class Result:
    """Everything there is to say of one run, in plain values."""

    strategies: list[Row]
    """A row a class, the one that serves the most pages first."""
    slots: list[Row]
    """A row a slot, in the order in which they ran; none in a run without rounds."""
    verdicts: list[Row]
    reference: str | None
    """The class that the others are compared with."""
    warnings: list[str]
    measured_on: dict[str, Any]
    """Versions, settings, options, machine: see the documentation of results."""

    def as_json(self) -> dict[str, Any]:
        """The content of `<prefix>_comparison.json`."""
        return {
            "warnings": self.warnings,
            "measured_on": self.measured_on,
            "reference": self.reference,
            "strategies": self.strategies,
            "verdicts": self.verdicts,
            "slots": self.slots,
        }


def result_of_rounds(
    slots: Sequence[Slot],
    user_classes: Mapping[str, UserClass],
    *,
    end: str,
    planned_slots: int,
    measured_on: dict[str, Any],
    reference: str | None = None,
) -> Result:
    """The result of isolated slots. Without a `reference` the others are compared with the slowest class."""
    rows = [slot.row(user_classes[slot.user_class]) for slot in slots]
    kept = [slot for slot in slots if not slot.replaced]
    strategies = []
    for user_class in user_classes.values():
        own = [slot for slot in kept if slot.user_class == user_class.name]
        if own:
            own_rows = [row for row in rows if row["user_class"] == user_class.name and not row["replaced"]]
            strategies.append(_strategy_row(user_class, own, own_rows, end))
    strategies.sort(key=lambda row: -(row["pages_per_s"] or 0))
    comparable = [row["user_class"] for row in strategies if row["pages_per_s"]]
    reference = reference or (comparable[-1] if comparable else None)
    return Result(
        strategies=strategies,
        slots=rows,
        verdicts=_verdicts([row for row in rows if not row["replaced"]], reference) if len(strategies) > 1 else [],
        reference=reference if len(strategies) > 1 else None,
        warnings=_warnings_of_rounds(rows, planned_slots) + _warnings_of_classes(strategies),
        measured_on=measured_on,
    )


def result_of_mixed_run(
    tallies: Mapping[str, Tally],
    user_classes: Mapping[str, UserClass],
    *,
    seconds: float,
    users: int,
    end: str,
    measured_on: dict[str, Any],
) -> Result:
    """The result of a run without rounds: `tallies` by class, over `seconds`, with `users` users of all classes."""
    strategies = []
    for name, tally in tallies.items():
        row = _blank_row(user_classes[name], end) | {
            "users": users if len(tallies) == 1 else None,
            "pages": tally.pages,
            "failures": tally.failures,
            "unfinished": tally.unfinished,
            "pages_per_s": _ratio(tally.good_pages, seconds),
            **_page_figures(tally),
        }
        strategies.append(row)
    strategies.sort(key=lambda row: -(row["pages_per_s"] or 0))
    warnings = [MIXED_WARNING] if len(strategies) > 1 else []
    return Result(strategies, [], [], None, warnings + _warnings_of_classes(strategies), measured_on)


def _strategy_row(user_class: UserClass, slots: Sequence[Slot], rows: Sequence[Row], end: str) -> Row:
    whole = Tally()
    for slot in slots:
        whole.merge(slot.measured)
    seconds = sum(row["seconds"] for row in rows)
    return _blank_row(user_class, end) | {
        "users": max(slot.users for slot in slots),
        "rounds": len({slot.round for slot in slots}),
        "pages": whole.pages,
        "failures": whole.failures,
        "unfinished": sum(row["unfinished"] for row in rows),
        "pages_per_s": _ratio(whole.measured_pages, seconds),
        **_page_figures(whole),
        "client_cpu_ms": _weighted(rows, "client_cpu_ms"),
        "server_cpu_ms": _weighted(rows, "server_cpu_ms"),
        "bound_by": Counter(row["bound_by"] for row in rows).most_common(1)[0][0],
    }


def _blank_row(user_class: UserClass, end: str) -> Row:
    """A class's row in every output, in the order of its columns."""
    return {
        "user_class": user_class.name,
        "stack": user_class.stack,
        "strategy": user_class.strategy,
        "users": None,
        "rounds": 0,
        "pages": 0,
        "failures": 0,
        "pages_per_s": None,
        **dict.fromkeys((*PERCENTILES, "max_ms", *COUNTS, *TIMES[1:])),
        "client_cpu_ms": None,
        "server_cpu_ms": None,
        "end": end,
        "bound_by": None,
        "unfinished": 0,
    }


def _page_figures(tally: Tally) -> Row:
    """Percentiles of the response time, and means a page of counts and parts."""
    response = tally.times["response_ms"]
    return {
        **{name: response.percentile(share) for name, share in PERCENTILES.items()},
        "max_ms": response.max_ms if tally.good_pages else None,
        **{name: _ratio(tally.sums[name], tally.good_pages) for name in COUNTS},
        **{name: tally.times[name].mean_ms for name in TIMES[1:]},
        "parts": {
            name: {column: tally.times[name].percentile(share) for column, share in PERCENTILES.items()}
            for name in TIMES[1:]
        },
    }


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


def _verdicts(rows: Sequence[Row], reference: str | None) -> list[Row]:
    verdicts = []
    for column, quantity in QUANTITIES.items():
        observations = [
            Observation(row["user_class"], row["round"], row[column], row["steal_share"]) for row in rows if row[column]
        ]
        if reference is None or not any(observation.user_class == reference for observation in observations):
            continue
        verdicts += [
            _verdict(column, quantity, comparison) for comparison in compare(observations, reference, quantity).values()
        ]
    return verdicts


def _verdict(column: str, quantity: Quantity, comparison: Comparison) -> Row:
    return {
        "quantity": column,
        "user_class": comparison.user_class,
        "reference": comparison.reference,
        "ratio": comparison.ratio,
        "low": comparison.low,
        "high": comparison.high,
        "shown": comparison.shown,
        "rounds": comparison.rounds,
        "rounds_needed": comparison.rounds_needed,
        "steal_adjusted": comparison.adjusted,
        "sentence": sentence(comparison, quantity),
    }


def _warnings_of_rounds(rows: Sequence[Row], planned_slots: int) -> list[str]:
    warnings = []
    done = sum(not row["replaced"] for row in rows)
    if done < planned_slots:
        warnings.append(f"cut short: {done} of {planned_slots} slots were run")
    if unfinished := sum(row["unfinished"] for row in rows):
        warnings.append(f"pages cut off after --drain-timeout, in no figure: {unfinished}")
    if replaced := sum(row["replaced"] for row in rows):
        warnings.append(f"slots disturbed by others on the machine, or incomplete, and run again: {replaced}")
    if disturbed := sum(row["disturbed"] and not row["replaced"] for row in rows):
        warnings.append(f"slots disturbed by others on the machine, and counted: {disturbed} of {done}")
    if incomplete := sum(row["incomplete"] and not row["replaced"] for row in rows):
        warnings.append(f"slots in which a worker was lost, and counted: {incomplete} of {done}")
    held_back = sorted({row["user_class"] for row in rows if row["harness_held_back"]})
    if held_back:
        warnings.append(f"the load generator itself held back the figures of {', '.join(held_back)}: see hop_ms")
    return warnings


def _warnings_of_classes(rows: Sequence[Row]) -> list[str]:
    warnings = [
        f"{row['user_class']}: {row['failures']} of {row['pages']} pages failed; other figures are of the others"
        for row in rows
        if row["failures"]
    ]
    if unmeasured := [row["user_class"] for row in rows if row["rounds"] and row["p50_ms"] is None]:
        warnings.append(f"no page of {', '.join(unmeasured)} began in its slots' measured time; raise --slot-time")
    return warnings


def _weighted(rows: Sequence[Row], column: str) -> float | None:
    """The mean a page of a column that is a mean a page in each row."""
    known = [row for row in rows if row[column] is not None and row["pages_per_s"] is not None]
    return _ratio(sum(row[column] * row["pages_per_s"] for row in known), sum(row["pages_per_s"] for row in known))


def _share(tally: Tally, part: str) -> float | None:
    """The share of a part in the response time of all pages."""
    return _ratio(tally.times[part].sum_ms, tally.times["response_ms"].sum_ms)


def _ratio(value: float, by: float) -> float | None:
    return value / by if by else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
