"""The result of one run: one record, which is also the content of its JSON file.

Outputs show it and compute nothing. It is made in `dbkit.analysis.rounds` or `dbkit.analysis.mixed_run`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, to_builtins

from dbkit.analysis.records import BareRow, ClassRow, Count, Figure, Number, SlotRow, Verdict

FORMAT = 3
"""The format of `<prefix>_comparison.json`; raised when what is in it changes its meaning."""

State = Literal["running", "cut short", "complete"]
"""A result was made while the test ran, from a test that ended before its time, or from one that ran to its end."""

Setting = str | Annotated[int, Meta(ge=-(10**15), le=10**15)] | Number | bool | None
Settings = dict[str, Setting]


class Statement(Struct, kw_only=True):
    """A statement that a page executed, with its plan."""

    sql: str
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

    strategy: str
    which: str
    """`typical` or `last`."""
    page: Count
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
    reference: str | None
    """The label of the condition that the others are compared with."""
    reference_named: bool
    """Whether the reference was named before the run: then intervals hold together for comparisons with it alone."""
    strategies: list[ClassRow]
    """A row a condition, the one that serves the most pages first. In rounds `pages_per_s` is the level of the
    verdicts' model, so that the ratio of two rows is their verdict; without a ratio it is pages by time."""
    verdicts: list[Verdict]
    """Every condition against the reference, for each of `dbkit.analysis.comparisons.QUANTITIES`."""
    against_fastest: list[Verdict]
    """Verdicts on pages a second against the one that serves the most; none where the reference was named."""
    slots: list[SlotRow]
    """A row a slot, in the order in which they ran; none in a run without rounds."""
    calibration: list[BareRow]
    timeline: OverTime | None
    plans: list[Plan]
    """Each strategy's SQL and how the server ran it: see `dbkit.plans`."""

    def as_json(self) -> dict[str, Any]:
        """The content of `<prefix>_comparison.json`, as plain values."""
        content: dict[str, Any] = to_builtins(self)
        return content
