"""The result of rounds: a row a slot, a row a condition, verdicts, warnings, and the answer in words.

Everything that any output shows is computed once: here, and in `dbkit.analysis.rows`, `dbkit.analysis.comparisons`,
`dbkit.analysis.warnings` and `dbkit.analysis.headline`, whose results are put together here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from dbkit.analysis.comparisons import QUANTITIES, add_harness_shares, compare_rows, model_of
from dbkit.analysis.condition import Condition, labels
from dbkit.analysis.forecast import distances
from dbkit.analysis.headline import headline_of_rounds
from dbkit.analysis.parts import parts
from dbkit.analysis.records import BareRow, ClassRow, SlotRow
from dbkit.analysis.result import Reference, Result, WorkloadInfo
from dbkit.analysis.rows import ConditionTotal, bare_row, round_figure, slot_row
from dbkit.analysis.scaling import laws
from dbkit.analysis.slot import Slot, UserClass
from dbkit.analysis.warnings import (
    warnings_of_classes,
    warnings_of_empty_slots,
    warnings_of_rounds,
    warnings_of_users,
    warnings_of_workloads,
)


class Rounds:
    """The slots of a schedule as they come in; the result of those so far can be asked for at any time.

    Conditions are compared within their workload, as if the others had not been run: what slows the one down from
    round to round need not slow the other. A `reference` is a class named before the run. In workloads without it the
    others are compared with the slowest.
    """

    def __init__(
        self,
        user_classes: Mapping[str, UserClass],
        *,
        end: str,
        reference: str | None = None,
        workloads: Sequence[WorkloadInfo] = (),
    ) -> None:
        self._user_classes = user_classes
        self._end = end
        self._reference = reference
        self._workloads = workloads
        self._totals: dict[Condition, ConditionTotal] = {}
        self._slots: list[Slot] = []
        self._rows: list[SlotRow] = []
        self._bare: list[Slot] = []

    def __len__(self) -> int:
        """How many slots there are so far, with those that were replaced and those in which pages were read bare."""
        return len(self._slots) + len(self._bare)

    @property
    def counted(self) -> int:
        """How many slots were not replaced; those in which pages were read bare are not among them."""
        return sum(not slot.replaced for slot in self._slots)

    def add(self, slot: Slot) -> None:
        """Take in the next slot; nothing will be added to it any more, but it may be replaced later."""
        if slot.bare:
            self._bare.append(slot)
            return
        user_class = self._user_classes[slot.user_class]
        total = self._totals.setdefault(slot.condition, ConditionTotal(slot.condition, user_class, self._end))
        row = slot_row(slot, user_class)
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

        `planned_slots` counts the slots of the conditions, and none in which pages are read bare.
        """
        self._leave_replaced_out()
        names = labels({slot.condition for slot in (*self._slots, *self._bare)})
        slots = [copy(row) for row in self._rows]
        for slot, row in zip(self._slots, slots, strict=True):
            row.label = names[slot.condition]
        counted = [row for row in slots if not row.replaced]
        result = Result(
            state="cut short" if self.counted < planned_slots else "complete",
            mixed=False,
            headline=[],
            warnings=[],
            measured_on=measured_on,
            workloads=[*self._workloads],
            references={},
            strategies=[],
            verdicts=[],
            against_fastest=[],
            slots=slots,
            calibration=[bare_row(slot, names[slot.condition]) for slot in self._bare if not slot.replaced],
            timeline=None,
            plans=[],
            failures=[],
        )
        for workload in sorted({row.workload for row in slots}):
            self._add_workload(result, workload, names, quantities)
        result.warnings = [
            *warnings_of_rounds(slots, planned_slots),
            *warnings_of_workloads(self._workloads, in_slots=True),
            *warnings_of_classes(result.strategies),
            *warnings_of_empty_slots(counted),
            *warnings_of_users([slot for slot in self._slots if not slot.replaced], names),
        ]
        make_headline(result)
        return result

    def _add_workload(
        self, result: Result, workload: str, names: Mapping[Condition, str], quantities: Collection[str]
    ) -> None:
        """Add the rows of a workload's conditions, and how they compare with each other."""
        counted = [row for row in result.slots if not row.replaced and row.workload == workload]
        on_pages = model_of(counted, "pages_per_s")
        levels = on_pages.levels()
        rows = self._class_rows(workload, names, levels)
        result.strategies += rows
        if "pages_per_s" in quantities:
            add_harness_shares(rows, counted, self._bare_rows(workload, result.calibration))
        named = self._named_reference(workload, names)
        comparable = [row.label for row in rows if row.label in levels]
        reference = named or (comparable[-1] if comparable else None)
        if len(rows) > 1 and reference is not None:
            result.references[workload] = Reference(label=reference, named=named is not None)
            verdicts = compare_rows(counted, on_pages, rows, reference, quantities, named=named is not None)
            result.verdicts += verdicts.against_reference
            result.against_fastest += verdicts.against_fastest

    def _leave_replaced_out(self) -> None:
        for slot, row in zip(self._slots, self._rows, strict=True):
            if slot.replaced and not row.replaced:
                row.replaced = True
                self._totals[slot.condition].leave_replaced_out()

    def _bare_rows(self, workload: str, rows: Iterable[BareRow]) -> list[BareRow]:
        return [row for row in rows if self._user_classes[row.user_class].workload == workload]

    def _class_rows(self, workload: str, names: Mapping[Condition, str], levels: Mapping[str, float]) -> list[ClassRow]:
        """A row a condition, the one that serves the most pages first; one without a level has pages by time."""
        rows = []
        for total in self._totals_in_order(workload):
            if (made := total.row()) is not None:
                row = copy(made)
                row.label = names[total.condition]
                if row.label in levels:
                    row.pages_per_s = round_figure(levels[row.label])
                rows.append(row)
        return sorted(rows, key=lambda row: -(row.pages_per_s or 0))

    def _totals_in_order(self, workload: str) -> list[ConditionTotal]:
        """The workload's totals in the order of their classes, whichever slot came first."""
        places = {name: place for place, name in enumerate(self._user_classes)}
        totals = [total for total in self._totals.values() if total.user_class.workload == workload]
        return sorted(totals, key=lambda total: (places[total.condition.user_class], total.condition.key))

    def _named_reference(self, workload: str, names: Mapping[Condition, str]) -> str | None:
        """The label of the reference that was named: a condition by its key or label, or else the class's first.

        None where it does not belong to the workload, as far as that is known: it may not have been measured yet.
        """
        if self._reference is None:
            return None
        conditions = [total.condition for total in self._totals_in_order(workload)]
        exact = [names[each] for each in conditions if self._reference in (each.key, names[each])]
        of_class = [names[each] for each in conditions if each.user_class == self._reference]
        if found := [*exact, *of_class]:
            return found[0]
        user_class = self._user_classes.get(self._reference)
        return self._reference if user_class and user_class.workload == workload else None


def make_headline(result: Result) -> None:
    """Make the headline of a run of rounds."""
    result.headline = headline_of_rounds(parts(result))


def take_verdicts(result: Result, earlier: Result) -> None:
    """Give a result the verdicts of an `earlier` one of the same run, until they are computed again."""
    result.references, result.verdicts = earlier.references, earlier.verdicts
    result.against_fastest = earlier.against_fastest
    known = {row.condition: row for row in earlier.strategies}
    for row in result.strategies:
        if (before := known.get(row.condition)) is not None:
            row.harness_share = before.harness_share
            row.harness_share_low, row.harness_share_high = before.harness_share_low, before.harness_share_high
    make_headline(result)


def result_of_rounds(
    slots: Iterable[Slot],
    user_classes: Mapping[str, UserClass],
    *,
    end: str,
    planned_slots: int,
    measured_on: dict[str, Any],
    reference: str | None = None,
    workloads: Sequence[WorkloadInfo] = (),
) -> Result:
    """The result of isolated slots. A `reference` is a class named before the run; see `Rounds`."""
    rounds = Rounds(user_classes, end=end, reference=reference, workloads=workloads)
    for slot in slots:
        rounds.add(slot)
    result = rounds.result(planned_slots, measured_on)
    result.forecasts = distances(result.strategies, result.slots, measured_on)
    result.laws = laws(result.slots)
    return result
