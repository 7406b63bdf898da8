"""From slots and tallies to the result: a row a slot, a row a class, verdicts between classes, and what to beware of.

Everything that any output shows is computed here, once, into plain values that JSON can hold: outputs format and
compute nothing. What one slot tells is `dbkit.slot`'s, the statistics of a verdict `dbkit.verdict`'s, the answer in
words `dbkit.headline`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dbkit.bound import bound_by
from dbkit.cost import COUNTS, PARTS
from dbkit.formats import number
from dbkit.headline import headline, headline_of_mixed_run, headline_of_one_class
from dbkit.slot import HUB_STACK, PERCENTILES, Row, Slot, UserClass, mean_figures, per
from dbkit.tally import Tally
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

FORMAT = 1
"""Of `<prefix>_comparison.json`; to be raised when what is in it changes its meaning."""

State = Literal["running", "cut short", "whole"]
"""Of a result: made while the test ran on, of a test that ended before its time, or of one that ran to its end."""

QUANTITIES: dict[str, Quantity] = {
    "pages_per_s": PAGES_PER_S,
    **{name: response_time(name.removesuffix("_ms")) for name in PERCENTILES},
    "client_cpu_ms": CLIENT_CPU_MS,
    "server_cpu_ms": SERVER_CPU_MS,
}
"""What classes are compared by, under the name of the column that holds it."""

CURVE_SHARES = (0.0, *(step / 20 for step in range(1, 19)), 0.925, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9999)
"""Where the curve of a class's response times is read; as far as it has pages enough for."""

CONNECTING_SHARE = 0.05
"""Of the response time: beyond this the pool is too small for the users, and its connections come and go."""
SIGNIFICANT_DIGITS = 6
"""Of every figure in a result, so that all outputs say the same; more would be noise."""

MIXED_WARNING = (
    "run mixed: these classes shared one interpreter, where they hold each other up and their ranking can invert;"
    " compare them one at a time with locustfiles/rounds.py"
)


@dataclass
class Result:
    """Everything there is to say of one run, in plain values."""

    strategies: list[Row]
    """A row a class, the one that serves the most pages first."""
    slots: list[Row]
    """A row a slot, in the order in which they ran; none in a run without rounds."""
    verdicts: list[Row]
    """Of every class against the reference, for each of `QUANTITIES`."""
    reference: str | None
    """The class that the others are compared with."""
    warnings: list[str]
    measured_on: dict[str, Any]
    """Versions, settings, options, machine: see the documentation of results."""
    state: State = "whole"
    mixed: bool = False
    """Whether several classes ran at once, so that their figures tell nothing of which is faster."""
    headline: list[str] = field(default_factory=list)
    """The answer in words, a sentence each."""
    against_fastest: list[Row] = field(default_factory=list)
    """Verdicts on pages a second against the class that serves the most."""
    timeline: dict[str, Any] | None = None
    """A run without rounds over time: see `dbkit.timeline`."""
    plans: list[Row] = field(default_factory=list)
    """Each strategy's SQL and how the server ran it: see `dbkit.plans`."""

    def take_verdicts(self, earlier: Result) -> None:
        """Have the verdicts of an `earlier` result of the same run, as long as none are made anew."""
        self.reference, self.verdicts = earlier.reference, earlier.verdicts
        self.against_fastest = [
            verdict
            for verdict in earlier.against_fastest
            if verdict["reference"] == self.strategies[0]["user_class"]  # another may have come to be the fastest
        ]
        self.headline = headline(self.strategies, self.verdicts, self.against_fastest)

    def as_json(self) -> dict[str, Any]:
        """The content of `<prefix>_comparison.json`."""
        return {
            "dbkit_comparison": FORMAT,
            "state": self.state,
            "mixed": self.mixed,
            "headline": self.headline,
            "warnings": self.warnings,
            "measured_on": self.measured_on,
            "reference": self.reference,
            "strategies": self.strategies,
            "verdicts": self.verdicts,
            "against_fastest": self.against_fastest,
            "slots": self.slots,
            "timeline": self.timeline,
            "plans": self.plans,
        }


class Rounds:
    """The slots of a schedule as they come in; the result of those so far can be asked for at any time.

    Without a `reference` the others are compared with the slowest class.
    """

    def __init__(self, user_classes: Mapping[str, UserClass], *, end: str, reference: str | None = None) -> None:
        self._totals = {name: _ClassTotal(user_class, end) for name, user_class in user_classes.items()}
        self._reference = reference
        self._slots: list[Slot] = []
        self._rows: list[Row] = []

    def __len__(self) -> int:
        """How many slots there are so far, those that were replaced included."""
        return len(self._slots)

    @property
    def counted(self) -> int:
        """How many of them were not replaced."""
        return sum(not slot.replaced for slot in self._slots)

    def add(self, slot: Slot) -> None:
        """Take in the next slot; nothing will be added to it any more, but it may be replaced later."""
        total = self._totals[slot.user_class]
        row = _rounded(slot.row(total.user_class) | {"bound_by": bound_by([slot])})
        self._slots.append(slot)
        self._rows.append(row)
        total.add(slot, row)

    def result(
        self,
        planned_slots: int,
        measured_on: dict[str, Any],
        quantities: Collection[str] = tuple(QUANTITIES),
    ) -> Result:
        """The result of the slots so far, with verdicts on the `quantities`."""
        for slot, row in zip(self._slots, self._rows, strict=True):
            if slot.replaced and not row["replaced"]:
                row["replaced"] = True
                self._totals[slot.user_class].leave_replaced_out()
        strategies = [made for total in self._totals.values() if (made := total.row()) is not None]
        strategies.sort(key=lambda row: -(row["pages_per_s"] or 0))
        counted = [row for row in self._rows if not row["replaced"]]
        without_pages = {row["user_class"] for row in counted if not row["pages_per_s"]}
        comparable = [row["user_class"] for row in strategies if row["user_class"] not in without_pages]
        reference = self._reference or (comparable[-1] if comparable else None)
        verdicts: list[Row] = []
        against_fastest: list[Row] = []
        if len(strategies) > 1 and reference is not None:
            verdicts = _verdicts(counted, reference, quantities)
            if "pages_per_s" in quantities and comparable:
                against_fastest = _verdicts(counted, comparable[0], ["pages_per_s"])
        return Result(
            strategies=strategies,
            slots=[dict(row) for row in self._rows],
            verdicts=verdicts,
            reference=reference if len(strategies) > 1 else None,
            warnings=[
                *_warnings_of_rounds(self._rows, planned_slots),
                *_warnings_of_classes(strategies),
                *_warnings_of_empty_slots(counted),
            ],
            measured_on=measured_on,
            state="cut short" if self.counted < planned_slots else "whole",
            headline=headline(strategies, verdicts, against_fastest),
            against_fastest=against_fastest,
        )


class _ClassTotal:
    """The slots of one class together."""

    def __init__(self, user_class: UserClass, end: str) -> None:
        self.user_class = user_class
        self._end = end
        self._own: list[tuple[Slot, Row]] = []
        self._whole = Tally()
        self._row: Row | None = None

    def add(self, slot: Slot, row: Row) -> None:
        if not slot.replaced:
            self._own.append((slot, row))
            self._whole.merge(slot.measured)
            self._row = None

    def leave_replaced_out(self) -> None:
        """Some of its slots count no more."""
        own, self._own, self._whole, self._row = self._own, [], Tally(), None
        for slot, row in own:
            self.add(slot, row)

    def row(self) -> Row | None:
        """The class's row; None where no slot counts."""
        if self._row is None and self._own:
            self._row = _rounded(self._make_row())
        return self._row

    def _make_row(self) -> Row:
        whole, rows = self._whole, [row for _, row in self._own]
        return _blank_row(self.user_class, self._end) | {
            "users": max(row["users"] for row in rows),
            "rounds": len({row["round"] for row in rows}),
            "pages": whole.pages,
            "failures": whole.failures,
            "unfinished": sum(row["unfinished"] for row in rows),
            "pages_per_s": per(whole.measured_pages, sum(row["seconds"] for row in rows)),
            **_class_figures(whole, _answer_wait_ms(slot for slot, _ in self._own)),
            "client_cpu_ms": _weighted(rows, "client_cpu_ms"),
            "server_cpu_ms": _weighted(rows, "server_cpu_ms"),
            "bound_by": bound_by(slot for slot, _ in self._own),
        }


def result_of_rounds(
    slots: Iterable[Slot],
    user_classes: Mapping[str, UserClass],
    *,
    end: str,
    planned_slots: int,
    measured_on: dict[str, Any],
    reference: str | None = None,
) -> Result:
    """The result of isolated slots. Without a `reference` the others are compared with the slowest class."""
    rounds = Rounds(user_classes, end=end, reference=reference)
    for slot in slots:
        rounds.add(slot)
    return rounds.result(planned_slots, measured_on)


def result_of_mixed_run(
    tallies: Mapping[str, Tally],
    user_classes: Mapping[str, UserClass],
    *,
    seconds: float,
    users: int,
    chosen: int,
    end: str,
    measured_on: dict[str, Any],
    ran_s: float = 0.0,
    planned_s: float | None = None,
    timeline: dict[str, Any] | None = None,
) -> Result:
    """The result of a run without rounds: `tallies` by class, over `seconds`, with up to `users` users of all classes.

    It is mixed where several classes were `chosen`, whether or not all have served pages, or read any.
    It was cut short where it ran for `ran_s`, a second or more less than `planned_s`.
    """
    strategies = []
    for name, tally in tallies.items():
        row = _blank_row(user_classes[name], end) | {
            "users": users if chosen == 1 else None,
            "pages": tally.pages,
            "failures": tally.failures,
            "unfinished": tally.unfinished,
            "pages_per_s": per(tally.good_pages, seconds),
            **_class_figures(tally, answer_wait_ms=None),
        }
        strategies.append(_rounded(row))
    strategies.sort(key=lambda row: -(row["pages_per_s"] or 0))
    cut_short = planned_s is not None and ran_s <= planned_s - 1
    warnings = [f"cut short: {ran_s:.0f} of {planned_s:.0f} seconds were run"] if cut_short else []
    if unfinished := sum(row["unfinished"] for row in strategies):
        warnings.append(f"pages cut off when their users were stopped, in no other figure: {unfinished}")
    mixed = chosen > 1
    if len(strategies) > 1:
        warnings.append(MIXED_WARNING)
    elif mixed and strategies:
        only = strategies[0]["user_class"]
        warnings.append(f"of {chosen} classes only {only} read pages; give {chosen} users or more, or name the classes")
    return Result(
        strategies=strategies,
        slots=[],
        verdicts=[],
        reference=None,
        warnings=warnings + _warnings_of_classes(strategies),
        measured_on=measured_on,
        state="cut short" if cut_short else "whole",
        mixed=mixed,
        headline=headline_of_mixed_run(strategies) if mixed else headline_of_one_class(strategies),
        timeline=timeline,
    )


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
        "unfinished": 0,
        "pages_per_s": None,
        **dict.fromkeys((*PERCENTILES, "max_ms", *COUNTS, *PARTS, "server_wait_ms", "answer_wait_ms", "think_ms")),
        "client_cpu_ms": None,
        "server_cpu_ms": None,
        "end": end,
        "bound_by": None,
        "largest_part": None,
    }


def _class_figures(tally: Tally, answer_wait_ms: float | None) -> Row:
    """What is told of a class's pages; `response_curve` is the curve of their response times: `[share, ms]` pairs."""
    # beyond the share that one page is of all, every further point would be the slowest page again
    shares = [share for share in CURVE_SHARES if (1 - share) * tally.good_pages >= 1]
    # in one pass, as it is done for the web UI while users read
    times = tally.response.percentiles((*PERCENTILES.values(), *shares))
    curve = zip(shares, times[len(PERCENTILES) :], strict=True)
    return {
        **(dict(zip(PERCENTILES, times, strict=False)) if times else dict.fromkeys(PERCENTILES)),
        **mean_figures(tally, answer_wait_ms),
        "response_curve": [list(point) for point in curve],
    }


def _answer_wait_ms(slots: Iterable[Slot]) -> float | None:
    """The mean a page; each slot counts by its pages, as it does in the class's `db_ms`."""
    known = [(slot.answer_wait_ms, slot.measured.good_pages) for slot in slots if slot.answer_wait_ms is not None]
    return per(sum(ms * pages for ms, pages in known), sum(pages for _, pages in known))


def _rounded(row: Row) -> Row:
    return {column: _round(value) for column, value in row.items()}


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, dict):
        return _rounded(value)
    return [_round(item) for item in value] if isinstance(value, list) else value


def _verdicts(rows: Sequence[Row], reference: str, quantities: Iterable[str]) -> list[Row]:
    verdicts = []
    for column in quantities:
        quantity = QUANTITIES[column]
        observations = [
            Observation(row["user_class"], row["round"], row[column], row["steal_share"]) for row in rows if row[column]
        ]
        if column == "pages_per_s":
            # a slot in which no page was served has no ratio; the others alone would speak for the class
            empty = {row["user_class"] for row in rows if not row[column]}
            observations = [observation for observation in observations if observation.user_class not in empty]
        if not any(observation.user_class == reference for observation in observations):
            continue
        verdicts += [
            _verdict(column, quantity, comparison) for comparison in compare(observations, reference, quantity).values()
        ]
    return verdicts


def _verdict(column: str, quantity: Quantity, comparison: Comparison) -> Row:
    row = {
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
    return _rounded(row)


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
    return warnings + _warnings_of_stalls([row for row in rows if not row["replaced"]])


def _warnings_of_stalls(rows: Sequence[Row]) -> list[str]:
    warnings = []
    for on_hub, consequence in (
        (True, "its pages are read there, and waited for it"),
        (False, "no page waited for it"),
    ):
        own = [row for row in rows if (row["stack"] == HUB_STACK) is on_hub]
        if stalled := [row for row in own if row["hub_stall_ms"]]:
            classes = ", ".join(sorted({row["user_class"] for row in stalled}))
            longest_ms = number(max(row["hub_stall_ms"] for row in stalled))
            warnings.append(
                f"the gevent hub stalled in {len(stalled)} slot{'' if len(stalled) == 1 else 's'} of {classes},"
                f" for up to {longest_ms} ms: {consequence}"
            )
    return warnings


def _warnings_of_classes(rows: Sequence[Row]) -> list[str]:
    warnings = [
        f"{row['user_class']}: {row['failures']} of {row['pages']} pages failed; other figures are of the others"
        for row in rows
        if row["failures"]
    ]
    connecting = [row["user_class"] for row in rows if _connecting_share(row) >= CONNECTING_SHARE]
    if connecting:
        warnings.append(f"pages of {', '.join(connecting)} spent time on opening connections; raise --pool-size")
    if unmeasured := [row["user_class"] for row in rows if row["rounds"] and not row["pages"] + row["unfinished"]]:
        warnings.append(f"no page of {', '.join(unmeasured)} began in its slots' measured time; raise --slot-time")
    return warnings


def _warnings_of_empty_slots(rows: Sequence[Row]) -> list[str]:
    slots = Counter(row["user_class"] for row in rows)
    empty = Counter(row["user_class"] for row in rows if not row["pages_per_s"])
    return [
        f"{user_class} served no page in {count} of {slots[user_class]} slots, and so has no ratio of pages a second"
        for user_class, count in sorted(empty.items())
        if count < slots[user_class]  # of one that served none at all other warnings tell
    ]


def _connecting_share(row: Row) -> float:
    """The share of the mean response time in which connections were opened."""
    return (row["connect_ms"] or 0) / (sum(row[part] or 0 for part in PARTS) or 1)


def _weighted(rows: Sequence[Row], column: str) -> float | None:
    """The mean a page of a column that is a mean a page in each row."""
    known = [row for row in rows if row[column] is not None and row["pages_per_s"] is not None]
    return per(sum(row[column] * row["pages_per_s"] for row in known), sum(row["pages_per_s"] for row in known))
