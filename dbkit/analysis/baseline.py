"""A run beside a file of an earlier one: counts on any machine, times where both were measured alike.

Two runs have met no rounds together. So a ratio of times has a Welch interval (Welch, 1947), of the logarithms of the
slots' values of either run. It knows how slots scatter within each run, and not how the machine differs from one day to
the next: a before and after in turns (`dbkit.analysis.revisions`) does. Checks that name the baseline are judged in
`dbkit.analysis.judging`; reading the file is left to `dbkit.output.json_file`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isclose, log, sqrt
from statistics import fmean, variance

from dbkit.analysis.before_after import finding_of
from dbkit.analysis.checks import BASELINE, CheckOutcome, State
from dbkit.analysis.columns import Group
from dbkit.analysis.formats import listed
from dbkit.analysis.headline import disturbed_sentences
from dbkit.analysis.intervals import by_round
from dbkit.analysis.limits import FIGURES
from dbkit.analysis.records import ClassRow, SlotRow, Verdict
from dbkit.analysis.result import Result
from dbkit.analysis.revisions import REVISION
from dbkit.analysis.slot import has_ratio
from dbkit.analysis.varied import leading_quantity
from dbkit.analysis.verdict import CONFIDENCE, MIN_ROUNDS, ROUNDING, quantile_of_t
from dbkit.errors import DbkitError

COUNTS = tuple(name for name, column in FIGURES.items() if column.group is Group.COUNTS)
OF_THE_PAGE = ("statements", "rows", "discarded_rows")
"""Counts that the page alone decides: where each page took the same, any more is more. Others depend on connections."""
LARGEST_SCATTER = 0.1
"""Without rounds, the share by which a mean of counts that differ from page to page may differ between two runs."""
LENGTH_ALONE = {"rounds", "budget", "seed", "slot_time", "max_slot_time", "calibrate", "drain_timeout"}
"""Options that say how long and in which order it was measured: other ones change what is measured."""
MACHINE = ("machine", "system", "processor", "cores", "python", "packages")


@dataclass(frozen=True)
class Baseline:
    """The result in the file, beside which a run is seen."""

    result: Result
    name: str
    """That of the file."""

    def row(self, row: ClassRow) -> ClassRow | None:
        """The row of the same class with the same settings: under the same load, or else under another one."""
        settings = {name: value for name, value in row.settings.items() if name != REVISION}
        known = [
            each
            for each in self.result.strategies
            if (each.workload, each.user_class, each.settings) == (row.workload, row.user_class, settings)
        ]
        return next((each for each in known if has_same_load(each, row)), known[0] if known else None)

    def row_of(self, workload: str, user_class: str) -> ClassRow | None:
        """The first row of a class."""
        rows = self.result.strategies
        return next((each for each in rows if (each.workload, each.user_class) == (workload, user_class)), None)

    def disturbed(self, result: Result) -> str:
        """Which of the two is too disturbed by others for its times to say anything; empty where none is."""
        runs = {"this run": result, self.name: self.result}
        return listed([name for name, run in runs.items() if disturbed_sentences(run.slots)])

    def differences(self, result: Result) -> list[str]:
        """In what the two were measured differently, such as `python 3.11.2 and now 3.12.1`; times need none."""
        before, now = facts(self.result), facts(result)
        return [
            f"{name} {_shown(before.get(name))} and now {_shown(now.get(name))}"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]


def has_same_load(one: ClassRow, other: ClassRow) -> bool:
    """Whether both rows are of one load."""
    return (one.users, one.arrivals_per_s) == (other.users, other.arrivals_per_s)


def check_baseline(baseline: Baseline, workloads: Collection[str]) -> None:
    """Raise DbkitError where a run of the `workloads` has nothing in common with the file."""
    known = sorted({row.workload for row in baseline.result.strategies})
    if not known:
        raise DbkitError(f"{baseline.name}: no class was measured in it; name the file of another run with --baseline")
    if not {*known} & {*workloads}:
        raise DbkitError(
            f"{baseline.name}: it is of the workload {listed(known)}, and this run reads {listed(sorted(workloads))};"
            " name the file of a run that reads the same with --baseline"
        )


def facts(result: Result) -> dict[str, object]:
    """What times depend on besides the pages: machine, versions, settings of the server, options."""
    about = result.measured_on
    server, options = _mapping(about.get("server")), _mapping(about.get("options"))
    found = {name: about.get(name) for name in MACHINE} | {"PostgreSQL": server.get("postgresql")}
    found |= {f"server's {name}": value for name, value in _mapping(server.get("settings")).items()}
    found |= {name.replace("_", "-"): value for name, value in options.items() if name not in LENGTH_ALONE}
    flat: dict[str, object] = {}
    for name, value in found.items():
        flat |= {part: each for part, each in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def outcomes_beside(result: Result, baseline: Baseline) -> list[CheckOutcome]:
    """What came of each class beside the file: of its counts, and of its times where both were measured alike."""
    alike = not baseline.differences(result) and not baseline.disturbed(result)
    revisions, found = result.revisions, []
    for row in result.strategies:
        before = baseline.row(row)
        if revisions is not None and row.settings.get(REVISION) != revisions.after.name:
            continue
        if before is not None and row.pages > row.failures:
            found.append(_outcome(row, "counts", *_counts(result, row, baseline, before)))
            if alike and has_same_load(row, before) and (times := _times(result, row, baseline, before)):
                found.append(_outcome(row, "times", *times))
    return found


def notes_beside(result: Result, baseline: Baseline) -> list[str]:
    """What is not compared, and why: a sentence each, without a full stop."""
    now, before = ({row.user_class for row in each.strategies} for each in (result, baseline.result))
    notes = []
    if only_now := sorted(now - before):
        notes.append(f"not compared, as {baseline.name} does not have it: {listed(only_now)}")
    if only_before := sorted(before - now):
        notes.append(f"in {baseline.name}, and not measured in this run: {listed(only_before)}")
    if different := baseline.differences(result):
        of_both = "; ".join(different)
        notes.append(f"counts alone are compared with {baseline.name}, and no times, as that has {of_both}")
    elif disturbed_in := baseline.disturbed(result):
        notes.append(f"times are not compared with {baseline.name}: others took much of the machine in {disturbed_in}")
    elif not all(rounds_enough(each) for each in (result, baseline.result)):
        notes.append(f"times are not compared with {baseline.name}: it takes {MIN_ROUNDS} rounds or more in both")
    return notes


def rounds_enough(result: Result) -> bool:
    """Whether a result has the rounds that an interval takes."""
    return bool(result.slots) and min((row.rounds for row in result.strategies), default=0) >= MIN_ROUNDS


def _outcome(row: ClassRow, what: str, state: State, words: str) -> CheckOutcome:
    return CheckOutcome(
        check=f"{row.user_class}: {what} as in the baseline",
        workload=row.workload,
        user_class=row.user_class,
        label=row.label,
        state=state,
        sentence=f"{row.label}: {words}",
    )


def _counts(result: Result, row: ClassRow, baseline: Baseline, before: ClassRow) -> tuple[State, str]:
    """What came of all counts of a class together."""
    slots = baseline.result.slots_of(before), result.slots_of(row)
    more: list[str] = []
    fewer: list[str] = []
    for name in COUNTS:
        was, now = getattr(before, name), getattr(row, name)
        if was is None or now is None:
            continue
        if difference := _difference(name, was, now, *slots):
            (more if difference > 0 else fewer).append(f"{name} {now:g} (baseline {was:g})")
    if more:
        return "fail", f"more than in the baseline: {', '.join(more + fewer)}"
    if fewer:
        return "pass", f"fewer than in the baseline: {', '.join(fewer)}; renew {baseline.name}"
    return "pass", "counts as in the baseline"


def _difference(
    name: str, before: float, now: float, slots_before: Sequence[SlotRow], slots_now: Sequence[SlotRow]
) -> int:
    """1 where a count is shown to be more than before, -1 where less, else 0."""
    if isclose(before, now, rel_tol=1e-5):
        return 0
    sign = 1 if now > before else -1
    was_even, is_even = _is_even(name, before, slots_before), _is_even(name, now, slots_now)
    if was_even and (is_even or name in OF_THE_PAGE):
        return sign
    of_rounds = [by_round(slots, name) for slots in (slots_before, slots_now)]
    known = [[value for value in values if value is not None] for values in of_rounds]
    if all(len(values) >= MIN_ROUNDS for values in known):
        low, high = _welch(*known)
        return sign if low > 0 or high < 0 else 0
    return sign if abs(now - before) >= max(1.0, LARGEST_SCATTER * before) else 0


def _is_even(name: str, mean: float, slots: Sequence[SlotRow]) -> bool:
    """Whether each page took the same, as far as means say."""
    return mean.is_integer() and all(getattr(slot, name) == mean for slot in slots)


def _times(result: Result, row: ClassRow, baseline: Baseline, before: ClassRow) -> tuple[State, str] | None:
    """What came of a class's times; None below the rounds that it takes."""
    verdicts, words = [], []
    for name in (leading_quantity(result.strategies), "client_cpu_ms"):
        if (found := ratio_to(result, row, baseline, before, name)) is None:
            continue
        ratio, low, high = found
        verdicts.append(_verdict(row, name, *found))
        words.append(f"{FIGURES[name].heading} {ratio:.2f} [{low:.2f}, {high:.2f}] of the baseline's")
    if not verdicts:
        return None
    said = finding_of(verdicts)
    state: State = "fail" if said == "slower" else "undecided" if said == "undecided" else "pass"
    return state, f"{', '.join(words)}: {said}"


def ratio_to(
    result: Result, row: ClassRow, baseline: Baseline, before: ClassRow, figure: str
) -> tuple[float, float, float] | None:
    """How many times the baseline's figure a row has, with a 95 % interval; None where that cannot be said."""
    slots = baseline.result.slots_of(before), result.slots_of(row)
    values = [by_round(each, figure) for each in slots]
    if any(len(each) < MIN_ROUNDS or not all(map(has_ratio, each)) for each in values):
        return None
    logs = [[log(value) for value in each if value] for each in values]
    low, high = _welch(*logs)
    return exp(fmean(logs[1]) - fmean(logs[0])), exp(low), exp(high)


def _welch(before: Sequence[float], now: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the difference of two means, each with its own scatter."""
    difference = fmean(now) - fmean(before)
    parts = [variance(values) / len(values) for values in (before, now)]
    if not sum(parts):
        return difference - ROUNDING, difference + ROUNDING
    spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (before, now), strict=True))
    half_width = quantile_of_t(sum(parts) ** 2 / spread, 1 - CONFIDENCE) * sqrt(sum(parts))
    return difference - half_width, difference + half_width


def _verdict(row: ClassRow, quantity: str, ratio: float, low: float, high: float) -> Verdict:
    """The ratio as if the baseline were the revision before."""
    return Verdict(
        workload=row.workload,
        quantity=quantity,
        differs_in=BASELINE,
        condition=row.condition,
        label=row.label,
        reference=BASELINE,
        ratio=ratio,
        low=low,
        high=high,
        shown=not low <= 1 <= high,
        within_harness=False,
        rounds=row.rounds,
        rounds_needed=None,
        steal_adjusted=False,
        sentence="",
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)
