"""The result of a run without rounds: classes that ran at once, or a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import convert

from dbkit.analysis.condition import Condition
from dbkit.analysis.formats import listed
from dbkit.analysis.headline import headline_of_mixed_run, headline_of_one_class
from dbkit.analysis.result import OverTime, Result, WorkloadInfo
from dbkit.analysis.rows import arrival_figures, class_row
from dbkit.analysis.slot import UserClass, per
from dbkit.analysis.warnings import MIXED_WARNING, warnings_of_classes, warnings_of_workloads
from dbkit.measure.arrivals import is_sustained
from dbkit.measure.tally import Tally


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
    workloads: Sequence[WorkloadInfo] = (),
    open_loop: bool = False,
) -> Result:
    """The result of a run without rounds: `tallies` by class, over `seconds`, with up to `users` users of all classes.

    It is mixed where several classes were `chosen`, whether or not all have served pages, or read any. It was cut short
    where it ran for `ran_s`, a second or more less than `planned_s`. For `timeline` see
    `dbkit.measure.timeline.Timeline.columns`. In an `open_loop` pages arrive, and users read those that are due.
    """
    strategies = [
        class_row(
            Condition(name),
            user_classes[name],
            tally,
            end,
            users=users if chosen == 1 else None,
            pages_per_s=per(tally.page_equivalents, seconds),
            **(_arrivals(tally, seconds) if open_loop else {}),
        )
        for name, tally in tallies.items()
    ]
    strategies.sort(key=lambda row: (row.workload, -(row.pages_per_s or 0)))
    cut_short = planned_s is not None and ran_s <= planned_s - 1
    warnings = [f"cut short: {ran_s:.0f} of {planned_s:.0f} seconds were run"] if cut_short else []
    if unfinished := sum(row.unfinished for row in strategies):
        warnings.append(f"pages cut off, and failed, as they did not come back within --drain-timeout: {unfinished}")
    if overrun := [row.label for row in strategies if row.sustained is False]:
        warnings.append(
            f"not sustained: {listed(overrun)} did not keep up with the arrivals, so that response times, which would"
            " have grown with the length of the test, are left empty"
        )
    mixed = chosen > 1
    if len(strategies) > 1:
        warnings.append(MIXED_WARNING)
    if len(strategies) == 1 < chosen or 1 < len(strategies) <= users < chosen:
        only = strategies[0].label if len(strategies) == 1 else len(strategies)
        warnings.append(f"of {chosen} classes only {only} read pages; give {chosen} users or more, or name the classes")
    return Result(
        state="cut short" if cut_short else "complete",
        mixed=mixed,
        headline=headline_of_mixed_run(strategies) if mixed else headline_of_one_class(strategies),
        warnings=[*warnings, *warnings_of_workloads(workloads, in_slots=False), *warnings_of_classes(strategies)],
        measured_on=measured_on,
        workloads=[*workloads],
        references={},
        strategies=strategies,
        verdicts=[],
        against_fastest=[],
        slots=[],
        calibration=[],
        timeline=None if timeline is None else convert(timeline, OverTime),
        plans=[],
        failures=[],
    )


def _arrivals(tally: Tally, seconds: float) -> dict[str, Any]:
    """The columns of arrivals. How many were asked for a second is what was: in a ramp that rises with the users."""
    asked = tally.pages + tally.not_begun
    kept_up = is_sustained(asked, tally.not_begun)
    return {"arrivals_per_s": per(asked, seconds), **arrival_figures(tally, kept_up, tally.not_begun)}
