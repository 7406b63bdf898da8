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
from dbkit.machine import CORES, MachineReading
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
    loop_lag_ms: float
    """The same of the asyncio loop; 0 where none runs."""


@dataclass
class Slot:
    """One class's turn, as it was run."""

    number: int
    round: int
    user_class: str
    users: int
    began_s: float
    """Since the schedule began."""
    before: MachineReading
    after: MachineReading
    server_cpu_s: float | None = None
    """CPU time of the server between the two readings; None where it is not on this machine."""
    processes: list[ProcessSlot] = field(default_factory=list)
    measured: Tally = field(default_factory=Tally)
    warm_up: Tally = field(default_factory=Tally)
    replaced: bool = False
    """Disturbed and run again: it stays in the tables, and out of the classes' figures and the verdicts."""

    @property
    def steal_share(self) -> float | None:
        """The share of the machine's CPU time that was stolen meanwhile."""
        return self._machine_share("steal_s", CORES)

    @property
    def pressure_share(self) -> float | None:
        """The share of the time in which some task waited for a core."""
        return self._machine_share("pressure_s", 1)

    @property
    def other_cpu_share(self) -> float | None:
        """The share of the machine's CPU time that went to neither the load nor the server."""
        busy = self._machine_share("busy_s", CORES)
        if busy is None or self.server_cpu_s is None:
            return None
        ours_s = self.server_cpu_s + sum(process.cpu_s for process in self.processes)
        return max(busy - ours_s / (self.after.at_s - self.before.at_s) / CORES, 0.0)

    @property
    def is_disturbed(self) -> bool:
        """Whether neighbours of the machine, or on it, took much of its time."""
        return (self.steal_share or 0) > DISTURBED_STEAL_SHARE or (self.other_cpu_share or 0) > DISTURBED_OTHER_SHARE

    def row(self, user_class: UserClass) -> Row:
        """The slot's row in every output."""
        seconds = fmean(process.seconds for process in self.processes) if self.processes else 0.0
        client_cpu_s = sum(process.cpu_s for process in self.processes)
        client_cpu_share = max((process.cpu_s / process.seconds for process in self.processes), default=None)
        core_wait_share = max((process.core_wait_s / process.seconds for process in self.processes), default=None)
        response_s = self.measured.times["response_ms"].sum_ms / 1000
        think_share = 1 - response_s / (self.users * seconds) if seconds else None
        bound_by = _bound_by(self.measured, client_cpu_share, core_wait_share, think_share, self.steal_share)
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
            "unfinished": self.measured.unfinished,
            "warm_up_pages": self.warm_up.pages,
            "pages_per_s": _ratio(self.measured.pages, seconds),
            **_page_figures(self.measured),
            "client_cpu_ms": _ratio(client_cpu_s * 1000, self.measured.pages),
            "server_cpu_ms": None
            if self.server_cpu_s is None
            else _ratio(self.server_cpu_s * 1000, self.measured.pages),
            "client_cpu_share": client_cpu_share,
            "core_wait_share": core_wait_share,
            "server_cpu_share": None if self.server_cpu_s is None else _ratio(self.server_cpu_s, seconds),
            "hub_lag_ms": _mean(process.hub_lag_ms for process in self.processes),
            "loop_lag_ms": _mean(process.loop_lag_ms for process in self.processes),
            "steal_share": self.steal_share,
            "pressure_share": self.pressure_share,
            "other_cpu_share": self.other_cpu_share,
            "bound_by": bound_by,
            "harness_held_back": bound_by != "client CPU" and (_share(self.measured, "hop_ms") or 0) > HARNESS_SHARE,
            "disturbed": self.is_disturbed,
            "replaced": self.replaced,
        }

    def _machine_share(self, counter: str, whole: float) -> float | None:
        before, after = getattr(self.before, counter), getattr(self.after, counter)
        if before is None or after is None:
            return None
        return float((after - before) / (self.after.at_s - self.before.at_s) / whole)


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
    reference = reference or (strategies[-1]["user_class"] if strategies else None)
    return Result(
        strategies=strategies,
        slots=rows,
        verdicts=_verdicts([row for row in rows if not row["replaced"]], reference) if len(strategies) > 1 else [],
        reference=reference if len(strategies) > 1 else None,
        warnings=_warnings_of_rounds(rows, planned_slots),
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
            "pages_per_s": _ratio(tally.pages, seconds),
            **_page_figures(tally),
        }
        strategies.append(row)
    strategies.sort(key=lambda row: -(row["pages_per_s"] or 0))
    return Result(strategies, [], [], None, [MIXED_WARNING] if len(strategies) > 1 else [], measured_on)


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
        "unfinished": whole.unfinished,
        "pages_per_s": _ratio(whole.pages, seconds),
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
        "max_ms": response.max_ms if tally.pages else None,
        **{name: _ratio(tally.sums[name], tally.pages) for name in COUNTS},
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
    if not tally.pages or client_cpu_share is None or core_wait_share is None:
        return None
    if (client_cpu_share + core_wait_share) / (1 - (steal_share or 0)) >= CLIENT_BOUND_SHARE:
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
        warnings.append(f"{unfinished} pages were cut off at the end of their slot and are in no figure")
    if replaced := sum(row["replaced"] for row in rows):
        warnings.append(f"{replaced} slots were disturbed by others on this machine, and run again")
    if disturbed := sum(row["disturbed"] and not row["replaced"] for row in rows):
        warnings.append(
            f"{disturbed} slots were disturbed by others on this machine, and count: there was no time left"
        )
    held_back = sorted({row["user_class"] for row in rows if row["harness_held_back"]})
    if held_back:
        warnings.append(f"the load generator itself held back the figures of {', '.join(held_back)}: see hop_ms")
    return warnings


def _weighted(rows: Sequence[Row], column: str) -> float | None:
    """The mean a page of a column that is a mean a page in each row."""
    if any(row[column] is None and row["pages"] for row in rows):
        return None
    return _ratio(sum(row[column] * row["pages"] for row in rows if row["pages"]), sum(row["pages"] for row in rows))


def _share(tally: Tally, part: str) -> float | None:
    """The share of a part in the response time of all pages."""
    return _ratio(tally.times[part].sum_ms, tally.times["response_ms"].sum_ms)


def _ratio(value: float, by: float) -> float | None:
    return value / by if by else None


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return fmean(values) if values else None
