"""The rows of a result: what was measured in one slot, or in all slots of a condition, as records.

What the columns mean is in `dbkit.analysis.records`. Recording is left to `dbkit.measure`, and comparing rows to
`dbkit.analysis.comparisons`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from dbkit.analysis.bound import bound_by
from dbkit.analysis.columns import columns
from dbkit.analysis.condition import Arrivals, Condition
from dbkit.analysis.intervals import by_round, interval_around
from dbkit.analysis.records import BareRow, ClassRow, CurvePoint, SlotRow
from dbkit.analysis.slot import Slot, UserClass, largest, mean, per, sustained
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import SHOWN_PARTS, Tally, db_parts

PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
CURVE_SHARES = (0.0, *(step / 20 for step in range(1, 19)), 0.925, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9999)
"""The shares of pages for which a response curve has a point; as far as there are pages enough."""
STALLED_CYCLES = 10
"""How many times the mean time from one page of a user to the next a page takes where it met a stall."""
SIGNIFICANT_DIGITS = 6
"""Digits of every figure in a result, so that all outputs say the same; more would be noise."""

_HEADINGS = {column.name: column.heading for column in columns(ClassRow)}

Record = TypeVar("Record", bound=Struct)


def slot_row(slot: Slot, user_class: UserClass) -> SlotRow:
    """The row of one slot."""
    measured, processes = slot.measured, slot.processes
    seconds = fmean(process.seconds for process in processes) if processes else 0.0
    client_cpu_s = sum(process.cpu_s for process in processes) if processes else None
    relay_cpu_s = sum(process.relay_cpu_s for process in processes)
    all_pages = measured.pages + slot.warm_up.pages
    row = SlotRow(
        **_names(slot.condition, user_class),
        slot=slot.number,
        round=slot.round,
        users=slot.users,
        processes=len(slot.processes),
        began_s=slot.began_s,
        seconds=seconds,
        pages=measured.pages,
        failures=measured.failures,
        unfinished=slot.unfinished,
        warm_up_pages=slot.warm_up.pages,
        pages_per_s=per(measured.page_equivalents, seconds),
        **arrival_figures(measured, slot.sustained, sum(each.waiting for each in processes)),
        **_percentiles(measured),
        **({} if isinstance(slot.condition.load, Arrivals) else _stall(measured, slot.unfinished)),
        **_mean_figures(measured, slot.answer_wait_ms),
        client_cpu_ms=None if client_cpu_s is None else per(client_cpu_s * 1000, measured.page_equivalents),
        server_cpu_ms=None if slot.server_cpu_s is None else per(slot.server_cpu_s * 1000, all_pages),
        relay_cpu_ms=per(relay_cpu_s * 1000, measured.page_equivalents) if relay_cpu_s else None,
        bound_by=bound_by([slot]),
        client_cpu_share=slot.client_cpu_share,
        core_wait_share=slot.core_wait_share,
        server_cpu_share=slot.server_cpu_share,
        hub_lag_ms=mean(process.hub_lag_ms for process in processes),
        lane_lag_ms=mean(process.lane_lag_ms for process in processes),
        hub_stall_ms=largest(process.hub_stall_ms for process in processes),
        steal_share=slot.steal_share,
        pressure_share=slot.pressure_share,
        other_cpu_share=slot.other_cpu_share,
        disturbed=slot.is_disturbed,
        incomplete=slot.incomplete,
        replaced=slot.replaced,
    )
    if row.sustained is False:
        without_times(row)
    return rounded(row)


def bare_row(slot: Slot, label: str) -> BareRow:
    """The row of a slot in which pages were read bare."""
    seconds = fmean(process.seconds for process in slot.processes) if slot.processes else 0.0
    pages = sum(process.bare_pages or 0.0 for process in slot.processes)
    row = BareRow(
        slot=slot.number,
        round=slot.round,
        condition=slot.condition.key,
        label=label,
        user_class=slot.user_class,
        seconds=seconds,
        pages_per_s=per(pages, seconds),
        client_cpu_ms=per(1000 * sum(process.cpu_s for process in slot.processes), pages),
        steal_share=slot.steal_share,
    )
    return rounded(row)


def class_row(condition: Condition, user_class: UserClass, tally: Tally, end: str, **figures: Any) -> ClassRow:
    """The row of a condition whose pages are all in `tally`.

    `figures` are other columns by name, such as the known `answer_wait_ms`; those that are not given are unknown.
    """
    unknown: dict[str, Any] = dict.fromkeys(ClassRow.__struct_fields__)
    row = ClassRow(
        **unknown
        | _names(condition, user_class)
        | {"rounds": 0, "pages": tally.pages, "failures": tally.failures, "unfinished": tally.unfinished, "end": end}
        | _percentiles_and_curve(tally)
        | _mean_figures(tally, figures.get("answer_wait_ms"))
        | figures
    )
    if row.sustained is False:
        without_times(row)
    return rounded(row)


class ConditionTotal:
    """The slots of one condition together."""

    def __init__(self, condition: Condition, user_class: UserClass, end: str) -> None:
        self.condition = condition
        self.user_class = user_class
        self._end = end
        self._slots: list[tuple[Slot, SlotRow]] = []
        self._tally = Tally()
        self._row: ClassRow | None = None

    def add(self, slot: Slot, row: SlotRow) -> None:
        """Add a slot, unless it was replaced."""
        if not slot.replaced:
            self._slots.append((slot, row))
            self._tally.merge(slot.measured)
            self._row = None

    def leave_replaced_out(self) -> None:
        """Add up again, as slots that are here have been replaced."""
        slots, self._slots, self._tally, self._row = self._slots, [], Tally(), None
        for slot, row in slots:
            self.add(slot, row)

    def with_intervals(self, row: ClassRow) -> ClassRow:
        """The row of the condition with the intervals around its figures, as far as its slots have these."""
        slots = [slot for _, slot in self._slots]
        served = all(each.pages_per_s for each in slots)
        if served and (ends := interval_around(row.pages_per_s, by_round(slots, "pages_per_s"))):
            row.pages_per_s_low, row.pages_per_s_high = map(round_figure, ends)
        if ends := interval_around(row.p95_ms, by_round(slots, "p95_ms")):
            row.p95_ms_low, row.p95_ms_high = map(round_figure, ends)
        return row

    def row(self) -> ClassRow | None:
        """The row of the condition; None where no slot counts."""
        if self._row is None and self._slots:
            self._row = self._make_row()
        return self._row

    def _make_row(self) -> ClassRow:
        slots, rows = [slot for slot, _ in self._slots], [row for _, row in self._slots]
        return class_row(
            self.condition,
            self.user_class,
            self._tally,
            dict(self.condition.variant).get("end", self._end),
            users=max(row.users or 0 for row in rows),
            processes=max(row.processes or 0 for row in rows),
            rounds=len({row.round for row in rows}),
            unfinished=sum(row.unfinished for row in rows),
            pages_per_s=per(self._tally.page_equivalents, sum(row.seconds for row in rows)),
            **arrival_figures(self._tally, sustained(slots), sum(row.waiting or 0 for row in rows)),
            answer_wait_ms=_answer_wait_ms(slots),
            client_cpu_ms=_weighted(rows, "client_cpu_ms"),
            server_cpu_ms=_weighted(rows, "server_cpu_ms"),
            relay_cpu_ms=_weighted(rows, "relay_cpu_ms"),
            bound_by=bound_by(slots),
        )


def rounded(record: Record) -> Record:
    """The same record, its figures rounded to `SIGNIFICANT_DIGITS`."""
    for name, value in asdict(record).items():
        if isinstance(value, float):
            setattr(record, name, round_figure(value))
    return record


def round_figure(value: float) -> float:
    """A figure as a result has it, rounded to `SIGNIFICANT_DIGITS`."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def arrival_figures(tally: Tally, is_sustained: bool | None, waiting: int) -> dict[str, Any]:
    """The columns of arrivals; none in a closed loop, where it is None whether pages were served as fast as asked for.

    `waiting` are the pages that were due at the end and waited for a user.
    """
    if is_sustained is None:
        return {}
    return {
        "sustained": is_sustained,
        "late": tally.late,
        "waiting": waiting,
        "not_begun": tally.not_begun,
        "longest_lag_ms": tally.longest_lag_ms,
        "generator_lag_ms": per(tally.lag_ms, tally.pages - tally.late),
    }


def _stall(tally: Tally, unfinished: int) -> dict[str, Any]:
    """Whether a closed loop stalled, and what people who arrive would have seen.

    That is not known where pages failed or were cut off, as nobody knows how long these would have taken.
    """
    cycle_ms = tally.cycle_ms
    if not cycle_ms or tally.response.max_ms < STALLED_CYCLES * cycle_ms:
        return {}
    if tally.failures or unfinished:
        return {"stalled": True}
    arrivals = tally.response.with_those_who_would_have_come(cycle_ms)
    return {
        "stalled": True,
        "p95_arrivals_ms": arrivals.percentile(PERCENTILES["p95_ms"]),
        "p99_arrivals_ms": arrivals.percentile(PERCENTILES["p99_ms"]),
    }


def without_times(row: ClassRow | SlotRow) -> None:
    """Empty its response times: they would have been longer in a longer run, as pages pile up."""
    for name in (*PERCENTILES, "max_ms"):
        setattr(row, name, None)
    if isinstance(row, ClassRow):
        row.response_curve = []


def _names(condition: Condition, user_class: UserClass) -> dict[str, Any]:
    return {
        "condition": condition.key,
        "label": user_class.name,
        "workload": user_class.workload,
        "user_class": user_class.name,
        "settings": dict(condition.variant),
        "arrivals_per_s": condition.load.rate_per_s if isinstance(condition.load, Arrivals) else None,
        "stack": user_class.stack,
        "strategy": user_class.strategy,
    }


def _percentiles(tally: Tally) -> dict[str, Any]:
    found = tally.response.percentiles(tuple(PERCENTILES.values()))
    return dict(zip(PERCENTILES, found, strict=True)) if found else dict.fromkeys(PERCENTILES)


def _percentiles_and_curve(tally: Tally) -> dict[str, Any]:
    # beyond the share that one page is of all, every further point would be the slowest page again
    shares = [share for share in CURVE_SHARES if (1 - share) * tally.succeeded >= 1]
    # in one pass, as it is done for the web UI while users read
    times = tally.response.percentiles((*PERCENTILES.values(), *shares))
    points = zip(map(round_figure, shares), map(round_figure, times[len(PERCENTILES) :]), strict=True)
    return {
        **(dict(zip(PERCENTILES, times, strict=False)) if times else dict.fromkeys(PERCENTILES)),
        "response_curve": [CurvePoint(*point) for point in points],
    }


def _mean_figures(tally: Tally, answer_wait_ms: float | None) -> dict[str, Any]:
    """The longest response time, means a page of counts and parts, and the heading of the largest part.

    Which part is the largest is None where it is not known how much of `db_ms` was `answer_wait_ms`.
    """
    figures = {
        "max_ms": tally.response.max_ms if tally.succeeded else None,
        **{name: per(tally.sums[name], tally.succeeded) for name in COUNTS},
        **{name: tally.mean_ms(name) for name in PARTS},
        **db_parts(tally.mean_ms("db_ms"), answer_wait_ms),
        "think_ms": per(tally.think_ms, tally.pages),
        "backed_off_s": tally.backed_off_ms / 1000,
    }
    longest = None if answer_wait_ms is None else max(SHOWN_PARTS, key=lambda part: figures[part] or 0)
    return {**figures, "largest_part": None if longest is None else _HEADINGS[longest]}


def _answer_wait_ms(slots: Iterable[Slot]) -> float | None:
    """The mean a page; each slot counts by its pages, as it does in the condition's `db_ms`."""
    known = [(slot.answer_wait_ms, slot.measured.succeeded) for slot in slots if slot.answer_wait_ms is not None]
    return per(sum(ms * pages for ms, pages in known), sum(pages for _, pages in known))


def _weighted(rows: Sequence[SlotRow], column: str) -> float | None:
    """The mean a page of a column that is a mean a page in each row."""
    known = [(getattr(row, column), row.pages_per_s) for row in rows]
    weighted = [(value, rate) for value, rate in known if value is not None and rate is not None]
    return per(sum(value * rate for value, rate in weighted), sum(rate for _, rate in weighted))
