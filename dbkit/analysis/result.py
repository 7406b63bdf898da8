"""From slots and tallies to the result: a row a slot, a row a class, verdicts between classes, and what to beware of.

Everything that any output shows is computed here, once, into plain values that JSON can hold: outputs format and
compute nothing. For what one slot tells see `dbkit.analysis.slot`, for the statistics of a verdict
`dbkit.analysis.verdict`, for the answer in words `dbkit.analysis.headline`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean
from typing import Any, Literal

from dbkit.analysis.bound import bound_by
from dbkit.analysis.formats import harness_share, listed, number
from dbkit.analysis.headline import headline, headline_of_mixed_run, headline_of_one_class
from dbkit.analysis.slot import HUB_STACK, PERCENTILES, Row, Slot, UserClass, mean_figures, per
from dbkit.analysis.verdict import (
    CLIENT_CPU_MS,
    PAGES_PER_S,
    SERVER_CPU_MS,
    Comparison,
    Model,
    Observation,
    Quantity,
    response_time,
    sentence,
)
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally

FORMAT = 2
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
HARNESS_SHARES = ("harness_share", "harness_share_low", "harness_share_high")
"""The columns that tell what the harness takes of a class's pages a second, and its 95 % interval."""
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
    """A row a class, the one that serves the most pages first. Of rounds `pages_per_s` is the level of the verdicts'
    model, so that the ratio of two rows is their verdict; of a class that has no ratio it is pages by time."""
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
    reference_named: bool = False
    """Whether the reference was named before the run: then intervals hold together for comparisons with it alone."""
    against_fastest: list[Row] = field(default_factory=list)
    """Verdicts on pages a second against the class that serves the most; none where the reference was named."""
    calibration: list[Row] = field(default_factory=list)
    """A row a slot in which a page function was called bare."""
    timeline: dict[str, Any] | None = None
    """A run without rounds over time: see `dbkit.measure.timeline`."""
    plans: list[Row] = field(default_factory=list)
    """Each strategy's SQL and how the server ran it: see `dbkit.plans`."""

    def take_verdicts(self, earlier: Result) -> None:
        """Have the verdicts of an `earlier` result of the same run, until they are computed again."""
        self.reference, self.verdicts = earlier.reference, earlier.verdicts
        self.against_fastest = earlier.against_fastest
        shares = {row["user_class"]: {name: row[name] for name in HARNESS_SHARES} for row in earlier.strategies}
        self.strategies = [row | shares.get(row["user_class"], {}) for row in self.strategies]
        self.make_headline()

    def make_headline(self) -> None:
        """Make the headline of a run of rounds."""
        self.headline = headline(
            self.strategies,
            self.slots,
            self.verdicts,
            self.against_fastest,
            self.reference if self.reference_named else None,
        )

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
            "reference_named": self.reference_named,
            "strategies": self.strategies,
            "verdicts": self.verdicts,
            "against_fastest": self.against_fastest,
            "slots": self.slots,
            "calibration": self.calibration,
            "timeline": self.timeline,
            "plans": self.plans,
        }


class Rounds:
    """The slots of a schedule as they come in; the result of those so far can be asked for at any time.

    A `reference` is a class named before the run. Without one the others are compared with the slowest class.
    """

    def __init__(self, user_classes: Mapping[str, UserClass], *, end: str, reference: str | None = None) -> None:
        self._totals = {name: _ClassTotal(user_class, end) for name, user_class in user_classes.items()}
        self._reference = reference
        self._slots: list[Slot] = []
        self._rows: list[Row] = []
        self._bare: list[Slot] = []

    def __len__(self) -> int:
        """How many slots there are so far, with those that were replaced and those in which pages were read bare."""
        return len(self._slots) + len(self._bare)

    @property
    def counted(self) -> int:
        """How many slots of the classes were not replaced; those in which pages were read bare are not among them."""
        return sum(not slot.replaced for slot in self._slots)

    def add(self, slot: Slot) -> None:
        """Take in the next slot; nothing will be added to it any more, but it may be replaced later."""
        if slot.bare:
            self._bare.append(slot)
            return
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
        """The result of the slots so far, with verdicts on the `quantities`.

        `planned_slots` counts the slots of the classes, and none in which pages are read bare.
        """
        for slot, row in zip(self._slots, self._rows, strict=True):
            if slot.replaced and not row["replaced"]:
                row["replaced"] = True
                self._totals[slot.user_class].leave_replaced_out()
        counted = [row for row in self._rows if not row["replaced"]]
        calibration = [_bare_row(slot) for slot in self._bare if not slot.replaced]
        on_pages = _model(counted, "pages_per_s")
        levels = on_pages.levels()
        # a class that has no ratio has the plain rate
        strategies = [
            made | {"pages_per_s": _round(levels.get(made["user_class"], made["pages_per_s"]))}
            for total in self._totals.values()
            if (made := total.row()) is not None
        ]
        strategies.sort(key=lambda row: -(row["pages_per_s"] or 0))
        if "pages_per_s" in quantities:
            shares = _harness_shares(counted, calibration)
            strategies = [row | shares.get(row["user_class"], {}) for row in strategies]
        comparable = [row["user_class"] for row in strategies if row["user_class"] in levels]
        reference = self._reference or (comparable[-1] if comparable else None)
        verdicts: list[Row] = []
        against_fastest: list[Row] = []
        if len(strategies) > 1 and reference is not None:
            for column in quantities:
                model = on_pages if column == "pages_per_s" else _model(counted, column)
                if reference not in model.names:
                    continue
                # which classes are the slowest and the fastest is seen in the data: then any pair could have been it
                pairs = [(name, reference) for name in model.names if name != reference] if self._reference else None
                error = model.error_of_each(pairs)
                verdicts += _verdicts(column, model, reference, error, strategies)
                if column == "pages_per_s" and self._reference is None:
                    against_fastest = _verdicts(column, model, comparable[0], error, strategies)
        result = Result(
            strategies=strategies,
            slots=[dict(row) for row in self._rows],
            verdicts=verdicts,
            reference=reference if len(strategies) > 1 else None,
            warnings=[
                *_warnings_of_rounds(self._rows, planned_slots),
                *_warnings_of_classes(strategies),
                *_warnings_of_empty_slots(counted),
                *_warnings_of_users([slot for slot in self._slots if not slot.replaced]),
            ],
            measured_on=measured_on,
            state="cut short" if self.counted < planned_slots else "whole",
            reference_named=self._reference is not None,
            against_fastest=against_fastest,
            calibration=calibration,
        )
        result.make_headline()
        return result


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
    """The result of isolated slots. A `reference` is a class named before the run; see `Rounds`."""
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
        **dict.fromkeys(HARNESS_SHARES),
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


def _bare_row(slot: Slot) -> Row:
    """The row of a slot in which pages were read bare."""
    seconds = fmean(process.seconds for process in slot.processes) if slot.processes else 0.0
    pages = sum(process.bare_pages or 0.0 for process in slot.processes)
    row = {
        "slot": slot.number,
        "round": slot.round,
        "user_class": slot.user_class,
        "seconds": seconds,
        "pages_per_s": per(pages, seconds),
        "client_cpu_ms": per(1000 * sum(process.cpu_s for process in slot.processes), pages),
        "steal_share": slot.steal_share,
    }
    return _rounded(row)


def _harness_shares(rows: Sequence[Row], calibration: Sequence[Row]) -> dict[str, Row]:
    """What the harness takes of each class's pages a second: 1 - pages/s ÷ pages/s bare, paired by rounds.

    The intervals of all classes hold together. A class that served no page in some slot has none.
    """
    bare_names = {row["user_class"]: f"{row['user_class']}, bare" for row in calibration}
    model = _model(
        [
            *(row for row in rows if row["user_class"] in bare_names),
            *(row | {"user_class": bare_names[row["user_class"]]} for row in calibration),
        ],
        "pages_per_s",
    )
    pairs = [(name, bare) for name, bare in bare_names.items() if name in model.names and bare in model.names]
    error = model.error_of_each(pairs)
    shares = {}
    for name, bare in pairs:
        comparison = model.compare(name, bare, error)
        # the lowest ratio is the highest share
        ratios = (comparison.ratio, comparison.high, comparison.low)
        shares[name] = _rounded(
            {column: None if ratio is None else 1 - ratio for column, ratio in zip(HARNESS_SHARES, ratios, strict=True)}
        )
    return shares


def _model(rows: Sequence[Row], column: str) -> Model:
    """Of one column of the slots' rows; `pages_per_s` without the classes that served no page in some slot."""
    # the others of their slots alone would speak for them
    empty = {row["user_class"] for row in rows if not row[column]} if column == "pages_per_s" else set()
    observations = [
        Observation(row["user_class"], row["round"], row[column], row["steal_share"])
        for row in rows
        if row[column] and row["user_class"] not in empty
    ]
    return Model(observations, QUANTITIES[column])


def _verdicts(column: str, model: Model, reference: str, error: float, strategies: Sequence[Row]) -> list[Row]:
    """A row for each of the other classes."""
    rows = {row["user_class"]: row for row in strategies}
    verdicts = []
    for name in model.names:
        if name == reference:
            continue
        comparison = model.compare(name, reference, error)
        words = sentence(comparison, QUANTITIES[column])
        within = column == "pages_per_s" and _within_harness(comparison, rows[name], rows[reference])
        if within:
            takes = listed([f"{harness_share(rows[each])} of {each}'s" for each in (name, reference)])
            words += f"; the harness can account for this difference, as it takes {takes} pages a second"
        row = {
            "quantity": column,
            "user_class": name,
            "reference": reference,
            "ratio": comparison.ratio,
            "low": comparison.low,
            "high": comparison.high,
            "shown": comparison.shown,
            "within_harness": within,
            "rounds": comparison.rounds,
            "rounds_needed": comparison.rounds_needed,
            "steal_adjusted": comparison.adjusted,
            "sentence": words,
        }
        verdicts.append(_rounded(row))
    return verdicts


def _within_harness(comparison: Comparison, one: Row, other: Row) -> bool:
    """Whether a difference between two stacks that is shown could be what the harness takes from the two.

    Bare, their ratio is the ratio seen, times what the harness leaves of the other's pages, by what it leaves of the
    one's. Of all three the ends of the intervals count that make the difference smallest: 1 can lie between them.
    """
    shares = (*(one[name] for name in HARNESS_SHARES), *(other[name] for name in HARNESS_SHARES))
    if comparison.low is None or comparison.high is None or not comparison.shown or None in shares:
        return False
    if one["stack"] == other["stack"]:
        return False
    (least_of_one, most_of_one), (least_of_other, most_of_other) = (
        (1 - row["harness_share_high"], 1 - row["harness_share_low"]) for row in (one, other)
    )
    return bool(comparison.low * least_of_other <= most_of_one and comparison.high * most_of_other >= least_of_one)


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
        warnings.append(
            f"no page of {', '.join(unmeasured)} began in its slots' measured time, so that response times and costs"
            " are missing; raise --slot-time"
        )
    if one_page := [words for row in rows if (words := _percentiles_of_one_page(row))]:
        warnings.append(f"too few pages, so that these are no more than the slowest page: {', '.join(one_page)}")
    return warnings


def _percentiles_of_one_page(row: Row) -> str | None:
    """The percentiles beyond which no page lies, in words: `p95 and p99 of PsycopgLazy (12 pages)`."""
    good_pages = row["pages"] - row["failures"]
    names = [
        name.removesuffix("_ms") for name, share in PERCENTILES.items() if 0 < good_pages <= ceil(share * good_pages)
    ]
    pages = "1 page" if good_pages == 1 else f"{good_pages} pages"
    return f"{listed(names)} of {row['user_class']} ({pages})" if names else None


def _warnings_of_users(slots: Iterable[Slot]) -> list[str]:
    """Of each class in whose slots users read too few pages, with the slot in which they were the most."""
    worst: dict[str, tuple[int, int]] = {}
    for slot in slots:
        short = sum(process.users_short for process in slot.processes)
        if short > worst.get(slot.user_class, (0, 0))[0]:
            worst[slot.user_class] = (short, slot.users)
    return [
        f"{short} of {users} users of {user_class} read fewer than 3 pages in a slot; raise --max-slot-time"
        for user_class, (short, users) in sorted(worst.items())
    ]


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
