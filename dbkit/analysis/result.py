"""The result of one run: one record, which is also the content of its JSON file.

Outputs show it and compute nothing. It is made in `dbkit.analysis.rounds` or `dbkit.analysis.mixed_run`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, to_builtins

from dbkit.analysis.checks import CheckOutcome
from dbkit.analysis.model_records import Forecast, Law, LimitFound
from dbkit.analysis.records import BareRow, ClassRow, Count, Figure, Number, SlotRow, Verdict
from dbkit.analysis.revisions import Revisions

FORMAT = 5
"""The format of `<prefix>_comparison.json`; raised when what is in it changes its meaning."""

State = Literal["running", "cut short", "complete"]
"""A result was made while the test ran, from a test that ended before its time, or from one that ran to its end."""

Setting = str | Annotated[int, Meta(ge=-(10**15), le=10**15)] | Number | bool | None
Settings = dict[str, Setting]


class WorkloadInfo(Struct, kw_only=True):
    """What is read, in words."""

    name: str
    pages: str
    """Which pages, such as `20 todos, random order`."""
    check: str
    """How it was checked that pages are right: a clause that begins in lower case and has no full stop."""
    writing_classes: list[str]
    """The user classes whose pages write."""
    reset_classes: list[str] = field(default_factory=list)
    """Those of them whose data are put back: before each slot, or before a run without slots."""


class Reference(Struct, kw_only=True):
    """What the other conditions of a workload are compared with, where they differ in one thing alone."""

    differs_in: str
    """As in the verdicts: `class`, `load` or the name of a setting."""
    label: str
    """A class, `1 user` or `pool-size=5`."""
    named: bool
    """Whether it was named before the run: then intervals hold together for comparisons with it alone."""


class FailureRow(Struct, kw_only=True):
    """A message with which pages of one condition failed."""

    workload: str
    condition: str
    label: str
    user_class: str
    message: str
    """What such failures have in common: numbers and quoted values are replaced by `…`."""
    count: Count
    """How many pages failed with it, those of warm-ups and of slots that were run again included."""
    traceback: str | None
    """That of the first one, as frames and its own message; None where there is nothing to show."""


class Statement(Struct, kw_only=True):
    """A statement that a page executed, with its plan."""

    sql: str
    source: str | None
    """The line that sent it first, such as `shop/pages.py:12 in page`; None where it is not known."""
    times: Count
    execution_ms: Figure
    """By the plan."""
    parameters: str | None
    """Those of the first execution, as JSON."""
    plan: str | None
    note: str | None
    """Why there is no plan."""


class Plan(Struct, kw_only=True):
    """What one strategy sends for one page."""

    workload: str
    strategy: str
    which: str
    """`typical` or `last`."""
    key: str
    """The key of the page, as text."""
    note: str | None
    """Why the page could not be read."""
    statements: list[Statement]


class Windows(Struct, kw_only=True, forbid_unknown_fields=True):
    """One class in a run without rounds: a value for each window."""

    pages_per_s: list[Figure]
    p95_ms: list[Figure]


class OverTime(Struct, kw_only=True, forbid_unknown_fields=True):
    """A run without rounds over time: see `dbkit.measure.timeline`."""

    window_s: Number
    began_s: list[Number]
    users: list[Figure]
    classes: dict[str, Windows]


class Result(Struct, kw_only=True):
    """Everything that is known of one run: the content of `<prefix>_comparison.json`."""

    dbkit_comparison: int = FORMAT
    state: State
    mixed: bool
    """Whether several classes ran at once, so that their figures do not show which is faster."""
    headline: list[str]
    """The answer in words, a sentence each."""
    warnings: list[str]
    measured_on: dict[str, Setting | dict[str, Setting | Settings]]
    """Versions, settings, options, machine: see the documentation of results."""
    workloads: list[WorkloadInfo]
    """What was read. One whose classes have no rows may be among them."""
    references: dict[str, list[Reference]]
    """By workload; none for one in which there is nothing to compare."""
    strategies: list[ClassRow]
    """A row a condition, by workload, and in each the class first that serves the most pages, its settings and loads in
    order. In rounds `pages_per_s` is the level of the verdicts' model, so that the ratio of two rows of a
    workload is their verdict; without a ratio it is pages by time."""
    verdicts: list[Verdict]
    """Conditions against their workload's references, for each of `dbkit.analysis.comparisons.QUANTITIES`."""
    against_fastest: list[Verdict]
    """Verdicts on pages a second against the one that serves the most of those that differ from it in the same thing
    alone; none where the reference was named."""
    slots: list[SlotRow]
    """A row a slot, in the order in which they ran; none in a run without rounds."""
    calibration: list[BareRow]
    timeline: OverTime | None
    plans: list[Plan]
    """Each strategy's SQL and how the server ran it: see `dbkit.plans`."""
    failures: list[FailureRow]
    """Why pages failed."""
    forecasts: list[Forecast] = []
    """How fast each condition would be if the database were nearer or farther away; none in a run without rounds."""
    laws: list[Law] = []
    """How each class scales that was measured with several numbers of users."""
    limits: list[LimitFound] = []
    """How far each class keeps the limit that was searched for; none in other runs."""
    revisions: Revisions | None = None
    """Both sides of a before and after; their rows have the setting `revision`."""
    checks: list[CheckOutcome] = []
    """What came of the checks that were asked for, one for each condition."""
    missing: list[str] = []
    """Which parts could not be made, and why: see `dbkit.analysis.surviving`. They are among the warnings, too."""

    def slots_of(self, row: ClassRow) -> list[SlotRow]:
        """The slots that a row rests on."""
        return [slot for slot in self.slots if slot.condition == row.condition and not slot.replaced]

    def as_json(self) -> dict[str, Any]:
        """The content of `<prefix>_comparison.json`, as plain values."""
        content: dict[str, Any] = to_builtins(self)
        return content


def empty_result() -> Result:
    """A complete result with nothing in it, to be filled by those that measure less than a run does."""
    return Result(
        state="complete",
        mixed=False,
        headline=[],
        warnings=[],
        measured_on={},
        workloads=[],
        references={},
        strategies=[],
        verdicts=[],
        against_fastest=[],
        slots=[],
        calibration=[],
        timeline=None,
        plans=[],
        failures=[],
    )
