"""The parts of a result: what belongs to one workload. Conditions of different workloads are never compared.

Outputs show one part after the other; what is in a part is computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dbkit.analysis.model_records import Forecast, Law
from dbkit.analysis.records import ClassRow, SlotRow, Verdict
from dbkit.analysis.result import Plan, Reference, Result, WorkloadInfo


@dataclass(frozen=True)
class Part:
    """What a result says of one workload. For its fields see `dbkit.analysis.result.Result`."""

    workload: str
    """Its name; empty in the one part of a result without rows."""
    info: WorkloadInfo | None
    """None where nothing is known of it but its name."""
    reference: Reference | None
    strategies: list[ClassRow]
    verdicts: list[Verdict]
    against_fastest: list[Verdict]
    slots: list[SlotRow]
    plans: dict[str, list[Plan]]
    """By strategy."""
    forecasts: list[Forecast]
    laws: list[Law]

    @property
    def reference_label(self) -> str | None:
        """The label of what the others are compared with."""
        return self.reference.label if self.reference else None


def parts(result: Result) -> list[Part]:
    """A part for each workload that has rows, in order of their names; at least one, which may be empty."""
    names = sorted({row.workload for row in (*result.strategies, *result.slots)})
    if not names:
        names = [info.name for info in result.workloads[:1]] or [""]
    described = {info.name: info for info in result.workloads}
    return [
        Part(
            workload=name,
            info=described.get(name),
            reference=result.references.get(name),
            strategies=[row for row in result.strategies if row.workload == name],
            verdicts=[verdict for verdict in result.verdicts if verdict.workload == name],
            against_fastest=[verdict for verdict in result.against_fastest if verdict.workload == name],
            slots=[row for row in result.slots if row.workload == name],
            plans=_by_strategy(plan for plan in result.plans if plan.workload == name),
            forecasts=[forecast for forecast in result.forecasts if forecast.workload == name],
            laws=[law for law in result.laws if law.workload == name],
        )
        for name in names
    ]


def leading(result: Result) -> list[bool]:
    """Of each sentence of the headline, whether it is the first one, or the first one on one of several workloads."""
    names = [part.workload for part in parts(result)]
    beginnings = tuple(f"{name}: " for name in names) if len(names) > 1 else ()
    return [not place or sentence.startswith(beginnings) for place, sentence in enumerate(result.headline)]


def _by_strategy(plans: Iterable[Plan]) -> dict[str, list[Plan]]:
    found: dict[str, list[Plan]] = {}
    for plan in plans:
        found.setdefault(plan.strategy, []).append(plan)
    return found
