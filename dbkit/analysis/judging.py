"""Whether a result keeps its checks: counts exactly, times by their 95 % intervals.

A figure in time is known from the slots of rounds as well as they agree. A check on it passes where the complete
interval keeps it, fails where none of it does, and is undecided between. Against another condition of the same run it
is the ratio that has the interval, from the rounds that both met: see `dbkit.analysis.verdict`. Each check has an
interval of its own. What a check is, is in `dbkit.analysis.checks`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, isclose, log, sqrt
from statistics import fmean, stdev

from dbkit.analysis.baseline import Baseline, has_same_load, ratio_to
from dbkit.analysis.checks import BASELINE, BEFORE, EXACT, Check, CheckOutcome, State
from dbkit.analysis.comparisons import model_of
from dbkit.analysis.formats import decimals, interval, number
from dbkit.analysis.headline import disturbed_sentences
from dbkit.analysis.intervals import by_round, interval_around
from dbkit.analysis.limits import Limit
from dbkit.analysis.records import ClassRow, Verdict
from dbkit.analysis.result import Result
from dbkit.analysis.revisions import REVISION, PageChange
from dbkit.analysis.slot import has_ratio
from dbkit.analysis.verdict import CONFIDENCE, MIN_ROUNDS, Comparison, Model, quantile_of_t

MOST_ROUNDS_ADVISED = 1000
"""Where more rounds would be needed, none are advised: the figure is as good as at its limit."""

DECIMALS_OF_RATIO = 9
"""Further ones come from the arithmetic: where nothing scatters, a ratio is exactly 1."""

Found = tuple[State, str]
"""What came of a check, and what is said of it after the condition's name."""


@dataclass(frozen=True)
class Subject:
    """A condition that checks are on."""

    label: str
    workload: str
    user_class: str
    row: ClassRow | None
    """None where no load was put on it."""
    page: PageChange | None = None
    """In a before and after, the class's page on both sides."""


def judge(
    result: Result, checks: Iterable[Check], user_classes: Collection[str] = (), baseline: Baseline | None = None
) -> list[CheckOutcome]:
    """What came of the checks, in their order, for each condition; in a before and after for the revision after.

    `user_classes` were to be measured: one of them without a row has kept nothing. References of checks are classes of
    the result, `before` or `baseline`; what else they are is a check that fails.
    """
    found, judging = subjects(result), _Judging(result, baseline)
    outcomes = []
    for check in checks:
        names = [check.user_class] if check.user_class else [*dict.fromkeys([*_classes(found), *user_classes])]
        workload = next((each.workload for each in found if each.user_class == check.limit.reference), None)
        if workload is not None and not check.user_class:  # those that can be compared with that class
            comparable = {each.user_class for each in found if each.workload == workload}
            names = [name for name in names if name in comparable - {check.limit.reference}]
        for name in names:
            of_class = [each for each in found if each.user_class == name]
            for subject in of_class or [Subject(name, "", name, None)]:
                state, words = judging.of(subject, check.limit)
                outcomes.append(outcome(check, subject, state, words))
    return outcomes


def outcome(check: Check, subject: Subject, state: State, words: str) -> CheckOutcome:
    """The record of what came of a check."""
    return CheckOutcome(
        check=str(check),
        workload=subject.workload,
        user_class=subject.user_class,
        label=subject.label,
        state=state,
        sentence=f"{subject.label}: {words}",
    )


def subjects(result: Result) -> list[Subject]:
    """The conditions that checks are on: all, or those of the revision after; a class that has a page alone is one."""
    revisions = result.revisions
    if revisions is None:
        return [Subject(row.label, row.workload, row.user_class, row) for row in result.strategies]
    pages = {(page.workload, page.user_class): page for page in revisions.pages}
    after = f", {REVISION}={revisions.after.name}"
    found = [
        Subject(row.label.replace(after, ""), *key, row, pages.get(key))
        for row in result.strategies
        if row.settings.get(REVISION) == revisions.after.name
        for key in [(row.workload, row.user_class)]
    ]
    with_rows = {(each.workload, each.user_class) for each in found}
    return found + [Subject(page.user_class, *key, None, page) for key, page in pages.items() if key not in with_rows]


def _classes(found: Iterable[Subject]) -> list[str]:
    return [each.user_class for each in found]


class _Judging:
    """A result as checks see it."""

    def __init__(self, result: Result, baseline: Baseline | None) -> None:
        self._result = result
        self._baseline = baseline
        self._models: dict[tuple[str, str], Model] = {}
        """By workload and figure."""

    def of(self, subject: Subject, limit: Limit) -> Found:
        """What came of a limit for one condition."""
        if subject.page is not None and subject.page.error_after:
            return "fail", f"{limit}: its page could not be read: {subject.page.error_after}"
        if subject.row is None and (subject.page is None or limit.figure not in subject.page.after):
            state: State = "undecided" if self._result.state != "complete" else "fail"
            return state, f"{limit}: it was not measured"
        if limit.figure in EXACT:
            return self._count(subject, limit)
        assert subject.row is not None
        return self._time(subject.row, limit)

    def _count(self, subject: Subject, limit: Limit) -> Found:
        value = count_of(subject, limit.figure)
        if value is None:
            return "fail", f"{limit}: {_why_unknown(subject.row, limit.figure)}"
        of_reference = 1.0
        words = f"{limit.figure} {value:g}"
        if limit.reference:
            known = self._reference_count(subject, limit)
            if isinstance(known, str):
                return "fail", f"{limit}: {known}"
            of_reference = known
            words += f" ({limit.reference} {known:g})"
        # a share of a count is no count: 0.1 * 30 is 3
        is_equal = isclose(value, limit.number * of_reference, rel_tol=1e-12)
        kept = limit.comparison in ("<=", ">=", "=") if is_equal else limit.is_kept(value, of_reference)
        return ("pass", f"{words} {_bound(limit)}") if kept else ("fail", f"{words}, not {_bound(limit)}")

    def _reference_count(self, subject: Subject, limit: Limit) -> float | str:
        """What the reference has, or why that is not known."""
        page, row = subject.page, subject.row
        if limit.reference == BEFORE and page is not None:
            if page.error_before:
                return f"its page could not be read before: {page.error_before}"
            if limit.figure in page.before:
                return page.before[limit.figure]
        if limit.reference == BASELINE and self._baseline is not None:
            other = self._baseline.row(row) if row else self._baseline.row_of(subject.workload, subject.user_class)
            value = getattr(other, limit.figure, None)
        elif row is None:  # only the pages were read
            others = [each for each in subjects(self._result) if each.user_class == limit.reference]
            value = count_of(others[0], limit.figure) if others else None
        else:
            other = reference_row(self._result, row, limit.reference)
            value = getattr(other, limit.figure, None)
        return f"there is no such figure of {limit.reference}" if value is None else float(value)

    def _time(self, row: ClassRow, limit: Limit) -> Found:
        figure = getattr(row, limit.figure)
        slots = self._result.slots_of(row)
        if figure is None and (row.sustained is False or slots):
            return "fail", f"{limit}: {_why_unknown(row, limit.figure)}"
        if row.rounds < MIN_ROUNDS or not slots:
            rounds = f"{MIN_ROUNDS} rounds" if slots else "rounds, in which classes run one at a time"
            if figure is None or limit.reference:
                return "undecided", f"{limit}: it takes {rounds}"
            return "undecided", f"{limit.figure} {number(figure)}, not shown to be {_bound(limit)}: it takes {rounds}"
        if limit.reference == BASELINE and self._baseline is not None:
            return self._beside(row, limit, self._baseline)
        if limit.reference:
            return self._ratio(row, limit)
        if (ends := interval_of(figure, by_round(slots, limit.figure))) is None:
            return "undecided", f"{limit}: it is not known in every slot"
        words = f"{limit.figure} {number(figure)} [{number(ends[0])}, {number(ends[1])}]"
        state, found = by_interval(limit, figure, ends, words, row.rounds)
        if state == "fail" and disturbed_sentences(self._result.slots):
            return "undecided", f"{found}: others took much of the machine; run it again when that is quiet"
        return state, found

    def _ratio(self, row: ClassRow, limit: Limit) -> Found:
        other = reference_row(self._result, row, limit.reference)
        if other is None:
            return "fail", f"{limit}: there is no such figure of {limit.reference}"
        if not all(
            has_ratio(getattr(slot, limit.figure)) for each in (row, other) for slot in self._result.slots_of(each)
        ):
            return "undecided", f"{limit}: there is no ratio, as it is 0 or not known in some slot"
        found = self._compared(row, other, limit)
        if found.ratio is None or found.low is None or found.high is None:
            return "undecided", f"{limit}: it takes {MIN_ROUNDS} rounds"
        ratio = f"{found.ratio:.{decimals(found.low, found.high)}f} {interval(found.low, found.high)}"
        words = f"{limit.figure} {ratio} * {limit.reference}"
        ends = round(found.low, DECIMALS_OF_RATIO), round(found.high, DECIMALS_OF_RATIO)
        return by_interval(limit, found.ratio, ends, words, found.rounds)

    def _compared(self, row: ClassRow, other: ClassRow, limit: Limit) -> Comparison | Verdict:
        """A row against another one: on two revisions by the verdict that tables show, where there is one."""
        for verdict in self._result.verdicts if limit.reference == BEFORE else ():
            if (verdict.differs_in, verdict.condition, verdict.quantity) == (REVISION, row.condition, limit.figure):
                return verdict
        if (model := self._models.get((row.workload, limit.figure))) is None:
            slots = [slot for slot in self._result.slots if not slot.replaced and slot.workload == row.workload]
            model = self._models[row.workload, limit.figure] = model_of(slots, limit.figure)
        return model.compare(row.label, other.label, 1 - CONFIDENCE)

    def _beside(self, row: ClassRow, limit: Limit, baseline: Baseline) -> Found:
        other = baseline.row(row)
        if other is None or not has_same_load(other, row):
            return "fail", f"{limit}: {baseline.name} does not have it with this load"
        if different := baseline.differences(self._result):
            reason = f"the baseline has {different[0]}, and times are of one machine and its settings"
            return "undecided", f"{limit}: {reason}"
        if disturbed_in := baseline.disturbed(self._result):
            return "undecided", f"{limit}: others took much of the machine in {disturbed_in}"
        if (found := ratio_to(self._result, row, baseline, other, limit.figure)) is None:
            return "undecided", f"{limit}: it takes {MIN_ROUNDS} rounds in both, and a figure above 0 in each slot"
        ratio, low, high = found
        words = f"{limit.figure} {ratio:.{decimals(low, high)}f} {interval(low, high)} * {BASELINE}"
        return by_interval(limit, ratio, (low, high), words, row.rounds)


def count_of(subject: Subject, figure: str) -> float | None:
    """A count after: that of the page alone where it was read without load, as it is the same for every reader."""
    if subject.page is not None and figure in subject.page.after:
        return subject.page.after[figure]
    return getattr(subject.row, figure, None)


def interval_of(figure: float, values: Sequence[float | None]) -> tuple[float, float] | None:
    """The 95 % interval around a figure by its rounds; of one that is 0 in some round not by logarithms."""
    known = [value for value in values if value is not None]
    if all(known):
        return interval_around(figure, values)
    if len(known) < max(len(values), MIN_ROUNDS):
        return None
    half_width = quantile_of_t(len(known) - 1, 1 - CONFIDENCE) * stdev(known) / sqrt(len(known))
    return max(fmean(known) - half_width, 0.0), fmean(known) + half_width


def by_interval(limit: Limit, figure: float, ends: tuple[float, float], words: str, rounds: int) -> Found:
    """What an interval says of a limit; `figure` and `ends` are ratios where the limit is a share."""
    kept = [limit.is_kept(end) for end in ends]
    if all(kept):
        return "pass", f"{words} {_bound(limit)}"
    if not any(kept):
        return "fail", f"{words}, not {_bound(limit)}"
    return "undecided", f"{words}, not shown to be {_bound(limit)}{_advice(limit.number, figure, ends, rounds)}"


def _advice(bound: float, figure: float, ends: tuple[float, float], rounds: int) -> str:
    """How many rounds would tell, as an interval's width falls with the root of their number."""
    if min(bound, figure, ends[0]) <= 0:
        return ""
    distance, half_width = abs(log(figure / bound)), log(ends[1] / ends[0]) / 2
    needed = ceil(rounds * (half_width / distance) ** 2) if distance else MOST_ROUNDS_ADVISED + 1
    if needed > MOST_ROUNDS_ADVISED:
        return ": it is too near to that to tell"
    return f": about {max(needed, rounds + 1)} rounds would tell"


def reference_row(result: Result, row: ClassRow, reference: str) -> ClassRow | None:
    """The row of another class, or of the revision before, that has all else in common with a row."""
    user_class, settings = reference, row.settings
    if reference == BEFORE and result.revisions is not None:
        user_class, settings = row.user_class, {**settings, REVISION: result.revisions.before.name}
    wanted = (row.workload, user_class, settings, row.arrivals_per_s, row.users)
    for other in result.strategies:
        if (other.workload, other.user_class, other.settings, other.arrivals_per_s, other.users) == wanted:
            return other
    return None


def _why_unknown(row: ClassRow | None, figure: str) -> str:
    if row is not None and row.pages and row.failures == row.pages:
        return "every page failed"
    if row is not None and row.sustained is False and figure.endswith("_ms"):
        return "the arrivals were not kept up with, so that times depend on how long it was measured"
    return "it is not known in this run"


def _bound(limit: Limit) -> str:
    """The comparison and what it is with, as they are written."""
    return str(limit).partition(" ")[2]
