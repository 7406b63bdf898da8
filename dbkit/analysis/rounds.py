"""The result of rounds: a row a slot, a row a condition, verdicts, warnings, and the answer in words.

Everything that any output shows is computed once: here, and in `dbkit.analysis.rows`, `dbkit.analysis.comparisons`,
`dbkit.analysis.warnings` and `dbkit.analysis.headline`, whose results are put together here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from dbkit.analysis.answer import headline_of_rounds
from dbkit.analysis.comparisons import QUANTITIES, add_harness_shares, compare_rows, model_of
from dbkit.analysis.condition import Condition, Users, Variation, labels
from dbkit.analysis.forecast import Forecasts, sentence_on_errors
from dbkit.analysis.found import State, limits_found
from dbkit.analysis.headline import disturbed_sentences
from dbkit.analysis.pairs import pairings, values_in_order
from dbkit.analysis.parts import parts
from dbkit.analysis.records import BareRow, ClassRow, SlotRow
from dbkit.analysis.result import Reference, Result, WorkloadInfo
from dbkit.analysis.revisions import REVISION
from dbkit.analysis.rows import ConditionTotal, bare_row, round_figure, slot_row, without_times
from dbkit.analysis.scaling import laws
from dbkit.analysis.search import Search
from dbkit.analysis.slot import Slot, UserClass
from dbkit.analysis.surviving import surviving
from dbkit.analysis.varied import leading_quantity
from dbkit.analysis.verdict import CONFIDENCE, Model
from dbkit.analysis.warnings import (
    warnings_of_classes,
    warnings_of_empty_slots,
    warnings_of_rounds,
    warnings_of_users,
    warnings_of_workloads,
)

MOST_LAWS = 4
"""Laws that are put into words in the headline; more of them are in the report alone."""


class Rounds:
    """The slots of a schedule as they come in; the result of those so far can be asked for at any time.

    Conditions are compared within their workload, as if the others had not been run: what slows the one down from
    round to round need not slow the other. A `reference` is a class named before the run. In workloads without it the
    others are compared with the slowest. `variations` are the settings that vary, with their values in order. The slots
    of a `search` were run where it needed them and not once a round, so that it has answers and no verdicts.
    """

    def __init__(
        self,
        user_classes: Mapping[str, UserClass],
        *,
        end: str,
        reference: str | None = None,
        workloads: Sequence[WorkloadInfo] = (),
        variations: Sequence[Variation] = (),
        search: Search | None = None,
    ) -> None:
        self._search = search
        self._user_classes = user_classes
        self._end = end
        self._reference = reference
        self._variations = variations
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
        *,
        goes_on: bool = False,
        error: float | None = None,
    ) -> Result:
        """The result of the slots so far, with verdicts on the `quantities`.

        The intervals of one quantity miss in a share `error` of runs, 0.05 where none is given: for that of a before
        and after see `dbkit.analysis.sequential`. `planned_slots` counts the slots of the conditions, and none in which
        pages are read bare. `goes_on` says that there will be more.
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
            self._add_workload(result, workload, names, quantities, 1 - CONFIDENCE if error is None else error)
        with surviving(result, "warnings"):
            result.warnings += [
                *warnings_of_rounds(slots, planned_slots, are_planned=self._search is None),
                *warnings_of_workloads(self._workloads, in_slots=True),
                *warnings_of_classes(result.strategies),
                *warnings_of_empty_slots(counted),
                *warnings_of_users([slot for slot in self._slots if not slot.replaced], names),
            ]
        if self._search is not None:
            state: State = "searching" if goes_on else "cut short" if result.state == "cut short" else "budget spent"
            with surviving(result, "the limits"):
                result.limits = limits_found(self._search, result.strategies, counted, measured_on, state)
        with surviving(result, "the answer in words"):
            make_headline(result)
        return result

    def _add_workload(
        self, result: Result, workload: str, names: Mapping[Condition, str], quantities: Collection[str], error: float
    ) -> None:
        """Add the rows of a workload's conditions, and how they compare with each other."""
        counted = [row for row in result.slots if not row.replaced and row.workload == workload]
        if self._search is not None:
            result.strategies += in_order(self._class_rows(workload, names, {}), self._variations)
            return
        models: dict[str, Model] = {}
        levels: Mapping[str, float] = {}
        with surviving(result, f"the levels of {workload}"):
            models["pages_per_s"] = model_of(counted, "pages_per_s")
            levels = models["pages_per_s"].levels()
        rows = self._class_rows(workload, names, levels)
        unsustained = {row.label for row in rows.values() if row.sustained is False}
        for slot in counted:
            if slot.label in unsustained:  # those of its slots that happened to keep up would flatter it
                without_times(slot)
        result.strategies += in_order(rows, self._variations)
        if not models:
            return
        if "pages_per_s" in quantities:
            with surviving(result, f"the harness's shares of {workload}"):
                add_harness_shares([*rows.values()], counted, self._bare_rows(workload, result.calibration))
        with surviving(result, f"the verdicts on {workload}"):
            self._add_verdicts(result, workload, counted, rows, models, quantities, error)

    def _add_verdicts(
        self,
        result: Result,
        workload: str,
        counted: Sequence[SlotRow],
        rows: Mapping[Condition, ClassRow],
        models: dict[str, Model],
        quantities: Collection[str],
        error: float,
    ) -> None:
        leading = leading_quantity(rows.values())
        if leading not in models:
            models[leading] = model_of(counted, leading)
            quantities = {leading, *quantities} if quantities else ()
            if any(REVISION in row.settings for row in counted):  # how much is asked for is no merit of a revision
                quantities = {*quantities} - {"pages_per_s"}
        by_label = models[leading].levels()
        if leading != "pages_per_s":  # a time: the shorter the faster
            by_label = {label: 1 / level for label, level in by_label.items()}
        levels = {condition: by_label[row.label] for condition, row in rows.items() if row.label in by_label}
        found = pairings(rows, levels, self._variations, self._named_reference(workload))
        verdicts = compare_rows(counted, models, rows, found, quantities, leading, error)
        result.verdicts += verdicts.against_reference
        result.against_fastest += verdicts.against_fastest
        if references := [
            Reference(differs_in=each.differs_in, label=each.reference, named=each.named) for each in found
        ]:
            result.references[workload] = references

    def _leave_replaced_out(self) -> None:
        for slot, row in zip(self._slots, self._rows, strict=True):
            if slot.replaced and not row.replaced:
                row.replaced = True
                self._totals[slot.condition].leave_replaced_out()

    def _bare_rows(self, workload: str, rows: Iterable[BareRow]) -> list[BareRow]:
        return [row for row in rows if self._user_classes[row.user_class].workload == workload]

    def _class_rows(
        self, workload: str, names: Mapping[Condition, str], levels: Mapping[str, float]
    ) -> dict[Condition, ClassRow]:
        """A row a condition; one without a level has pages by time."""
        rows = {}
        for total in self._totals_in_order(workload):
            if (made := total.row()) is not None:
                row = copy(made)
                row.label = names[total.condition]
                if row.label in levels:
                    row.pages_per_s = round_figure(levels[row.label])
                rows[total.condition] = total.with_intervals(row)
        return rows

    def _totals_in_order(self, workload: str) -> list[ConditionTotal]:
        """The workload's totals in the order of their classes, whichever slot came first."""
        places = {name: place for place, name in enumerate(self._user_classes)}
        totals = [total for total in self._totals.values() if total.user_class.workload == workload]
        return sorted(totals, key=lambda total: (places[total.condition.user_class], total.condition.key))

    def _named_reference(self, workload: str) -> str | None:
        """The class that was named, where it belongs to the workload; it may not have been measured yet."""
        user_class = self._user_classes.get(self._reference or "")
        return user_class.name if user_class and user_class.workload == workload else None


def in_order(rows: Mapping[Condition, ClassRow], variations: Sequence[Variation]) -> list[ClassRow]:
    """The class first that serves the most pages, each with its settings in order, and these with their loads."""
    values = values_in_order(rows, variations)
    most: dict[str, float] = {}
    for condition, row in rows.items():
        most[condition.user_class] = max(row.pages_per_s or 0, most.get(condition.user_class, 0))
    classes = sorted(most, key=lambda name: -most[name])

    def place(condition: Condition) -> tuple[Any, ...]:
        settings = [values[name].index(value) for name, value in condition.variant]
        return classes.index(condition.user_class), settings, condition.load or Users(0)

    return [rows[condition] for condition in sorted(rows, key=place)]


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
    variations: Sequence[Variation] = (),
    search: Search | None = None,
    quantities: Collection[str] = tuple(QUANTITIES),
    error: float | None = None,
) -> Result:
    """The result of isolated slots; see `Rounds`."""
    rounds = Rounds(
        user_classes, end=end, reference=reference, workloads=workloads, variations=variations, search=search
    )
    for slot in slots:
        rounds.add(slot)
    result = rounds.result(planned_slots, measured_on, quantities, error=error)
    with surviving(result, "forecasts"):
        result.forecasts = Forecasts(result.strategies, result.slots, measured_on).distances()
    if search is None:  # whose rounds have different loads
        with surviving(result, "laws of scaling"):
            result.laws = laws(result.slots)
    if not disturbed_sentences(result.slots):
        result.headline += _sentences_on_models(result)
    return result


def _sentences_on_models(result: Result) -> list[str]:
    """How classes scale, and how far forecasts were off, where that is known."""
    fitted = [f"{law.sentence}." for law in result.laws if law.contention is not None]
    on_errors = sentence_on_errors(result.forecasts)
    return [*(fitted if len(fitted) <= MOST_LAWS else ()), *([on_errors] if on_errors else ())]
