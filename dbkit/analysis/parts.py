"""The parts of a result: what belongs to one workload. Conditions of different workloads are never compared.

Outputs show one part after the other; what is in a part is computed elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from dbkit.analysis.formats import ratio
from dbkit.analysis.ladders import Ladder, ladder
from dbkit.analysis.model_records import Forecast, Law, LimitFound
from dbkit.analysis.pairs import CLASS, LOAD
from dbkit.analysis.records import ClassRow, PageFigures, SlotRow, Verdict
from dbkit.analysis.result import Plan, Reference, Result, WorkloadInfo
from dbkit.analysis.varied import leading_load, leading_quantity, load, varied

Figures = TypeVar("Figures", bound=PageFigures)


@dataclass(frozen=True)
class Comparison:
    """How conditions compare that differ in one thing alone. For its fields see `dbkit.analysis.result.Result`."""

    quantity: str
    """The column that they are compared by first: see `dbkit.analysis.varied.leading_quantity`."""
    reference: Reference
    verdicts: list[Verdict]
    against_fastest: list[Verdict]

    @property
    def words(self) -> str:
        """What is compared first, in words."""
        return "pages a second" if self.quantity == "pages_per_s" else self.quantity.removesuffix("_ms")

    @property
    def heading(self) -> str:
        """The heading of the column of ratios, such as `× PsycopgLazy`, or `p95 × PsycopgLazy`."""
        of = "" if self.quantity == "pages_per_s" else f"{self.words} "
        return f"{of}× {self.reference.label}"

    def cell(self, row: ClassRow) -> str:
        """A row's ratio by the leading quantity, with its interval, as people read it."""
        verdict = self.leading(row)
        return "reference" if verdict is None and self._is_reference(row) else ratio(verdict)

    def leading(self, row: ClassRow) -> Verdict | None:
        """The verdict on a row by the leading quantity."""
        found = (each for each in self.verdicts if each.quantity == self.quantity and each.condition == row.condition)
        return next(found, None)

    def _is_reference(self, row: ClassRow) -> bool:
        differs_in, label = self.reference.differs_in, self.reference.label
        if differs_in == CLASS:
            return row.user_class == label
        if differs_in == LOAD:
            return load(row) == label
        return f"{differs_in}={row.settings.get(differs_in)}" == label


@dataclass(frozen=True)
class Part:
    """What a result says of one workload. For its fields see `dbkit.analysis.result.Result`."""

    workload: str
    """Its name; empty in the one part of a result without rows."""
    info: WorkloadInfo | None
    """None where nothing is known of it but its name."""
    references: list[Reference]
    strategies: list[ClassRow]
    verdicts: list[Verdict]
    against_fastest: list[Verdict]
    slots: list[SlotRow]
    plans: dict[str, list[Plan]]
    """By strategy."""
    forecasts: list[Forecast]
    laws: list[Law]
    limits: list[LimitFound]

    @property
    def quantity(self) -> str:
        """The column that its conditions are compared by first."""
        return leading_quantity(self.strategies)

    @property
    def comparisons(self) -> list[Comparison]:
        """One for each reference."""
        return [
            Comparison(
                self.quantity,
                each,
                [verdict for verdict in self.verdicts if verdict.differs_in == each.differs_in],
                [verdict for verdict in self.against_fastest if verdict.differs_in == each.differs_in],
            )
            for each in self.references
        ]

    @property
    def comparisons_shown(self) -> list[Comparison]:
        """Those that tables have a column of: of loads only where there is no other."""
        return [each for each in self.comparisons if each.reference.differs_in != LOAD or len(self.references) == 1]

    @property
    def varied(self) -> list[str]:
        """In what rows differ besides their classes: see `dbkit.analysis.varied`."""
        return varied(self.strategies)

    @property
    def ladder(self) -> Ladder | None:
        """The lines of charts along what varies: see `dbkit.analysis.ladders`."""
        return ladder(self.strategies)

    @property
    def quantities_charted(self) -> list[str]:
        """What charts along the ladder show: pages a second, p95, and the figure of a limit."""
        return [*dict.fromkeys(("pages_per_s", "p95_ms", *(limit.figure for limit in self.limits)))]

    @property
    def leading_load(self) -> str | None:
        """The load at which the most pages were served, where loads vary: charts of single conditions show that one."""
        return leading_load(self.strategies)

    @property
    def verdicts_charted(self) -> list[Verdict]:
        """Those by the leading quantity against the first reference, of the conditions that charts show."""
        conditions = {row.condition for row in self.charted(self.strategies)}
        verdicts = [each for shown in self.comparisons_shown[:1] for each in shown.verdicts]
        return [each for each in verdicts if each.quantity == self.quantity and each.condition in conditions]

    def charted(self, rows: Iterable[Figures]) -> list[Figures]:
        """Those of the rows that charts of single conditions show."""
        chosen = self.leading_load
        return [row for row in rows if chosen is None or load(row) == chosen]


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
            references=result.references.get(name, []),
            strategies=[row for row in result.strategies if row.workload == name],
            verdicts=[verdict for verdict in result.verdicts if verdict.workload == name],
            against_fastest=[verdict for verdict in result.against_fastest if verdict.workload == name],
            slots=[row for row in result.slots if row.workload == name],
            plans=_by_strategy(plan for plan in result.plans if plan.workload == name),
            forecasts=[forecast for forecast in result.forecasts if forecast.workload == name],
            laws=[law for law in result.laws if law.workload == name],
            limits=[limit for limit in result.limits if limit.workload == name],
        )
        for name in names
    ]


def leading(result: Result) -> list[bool]:
    """Whether each sentence of the headline is the first one, or the first one on one of several workloads."""
    names = [part.workload for part in parts(result)]
    beginnings = tuple(f"{name}: " for name in names) if len(names) > 1 else ()
    return [not place or sentence.startswith(beginnings) for place, sentence in enumerate(result.headline)]


def _by_strategy(plans: Iterable[Plan]) -> dict[str, list[Plan]]:
    found: dict[str, list[Plan]] = {}
    for plan in plans:
        found.setdefault(plan.strategy, []).append(plan)
    return found
