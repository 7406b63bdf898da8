"""What has changed between two revisions, for each class: whether it is a regression, in a line, and what to do.

A regression is slower by any quantity that is compared, or takes more statements or round trips a page and is not shown
to be faster. For single verdicts see `dbkit.analysis.before_after`, for exit codes `dbkit.analysis.exit_codes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dbkit.analysis.before_after import COMPARED, by_condition, deciding_of, finding, finding_of
from dbkit.analysis.change_words import change_sentence, changed_counts, heading
from dbkit.analysis.checks import CheckOutcome, State
from dbkit.analysis.formats import interval, listed, ratio_alone
from dbkit.analysis.judging import Subject, subjects
from dbkit.analysis.records import Verdict
from dbkit.analysis.result import Result
from dbkit.analysis.revisions import PAGE_COUNTS, PageChange, SentStatement

DECIDING = ("statements", "round_trips")
"""The counts of which more after is a regression."""
NO_REGRESSION = "no regression"
"""What an outcome has in the place of a check."""


@dataclass(frozen=True)
class Change:
    """A condition of both revisions."""

    subject: Subject
    verdicts: dict[str, Verdict]
    """By the column that is compared: the revision after against the one before."""
    was_cut_short: bool = False
    """Whether the run ended before it could be measured as planned."""

    @property
    def label(self) -> str:
        """The condition, by its name in tables, without the revision."""
        return self.subject.label

    @property
    def page(self) -> PageChange | None:
        """Its page on both sides; None where that was not read."""
        return self.subject.page

    @property
    def worse(self) -> list[str]:
        """Those of the `DECIDING` counts that are higher after."""
        return [name for name in DECIDING if name in self.counts and self.counts[name][0] < self.counts[name][1]]

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """What a page takes before and after, where both are known, by name."""
        page = self.page
        if page is None or page.error_before or page.error_after:
            return {}
        return {name: (count, page.after[name]) for name, count in page.before.items() if name in page.after}

    @property
    def state(self) -> State:
        """Whether it is a regression (`fail`), none (`pass`), or that cannot be decided."""
        page = self.page
        was_read = page is None or not (page.error_before or page.error_after)
        was_to_be_measured = bool(self.verdicts) or (self.was_cut_short and was_read)
        found = finding_of(self.verdicts.values()) if was_to_be_measured else None
        if (page is not None and page.error_after) or found == "slower" or (self.worse and found != "faster"):
            return "fail"
        return "undecided" if found == "undecided" else "pass"

    @property
    def words(self) -> str:
        """What has changed, counts first: `statements 2 → 21; pages/s 0.61 [0.58, 0.64], slower`."""
        page = self.page
        if page is not None and (page.error_after or page.error_before):
            return change_sentence(page)
        changed = [] if page is None else changed_counts(page)
        of_pages = ["the page itself has changed"] if page is not None and page.page_diff else []
        return "; ".join([*changed, *of_pages, *self._words_on_times()]) or "counts are the same"

    def _words_on_times(self) -> list[str]:
        said = [name for name, verdict in self.verdicts.items() if finding(verdict) in ("slower", "faster")]
        said = said or [name for name in deciding_of(self.verdicts)[:1] if name in self.verdicts]
        return [f"{heading(name)} {ratio_in_words(self.verdicts[name])}" for name in said]


def ratio_in_words(verdict: Verdict) -> str:
    """`0.61 [0.58, 0.64], slower`, or how many rounds would tell."""
    if verdict.low is None or verdict.high is None:
        return f"undecided: about {verdict.rounds_needed} rounds would tell" if verdict.rounds_needed else "undecided"
    rounds = f": about {verdict.rounds_needed} rounds would tell" if verdict.rounds_needed else ""
    found = finding(verdict)
    ratio = f"{ratio_alone(verdict)} {interval(verdict.low, verdict.high)}"
    return f"{ratio}, {found}{rounds if found == 'undecided' else ''}"


def changes(result: Result) -> list[Change]:
    """One for each condition of the revision after; none where a result is no before and after."""
    if result.revisions is None:
        return []
    known = by_condition(result.verdicts)
    return [
        Change(
            each,
            {verdict.quantity: verdict for verdict in known.get(each.row.condition if each.row else "", [])},
            was_cut_short=result.state == "cut short",
        )
        for each in subjects(result)
    ]


def compared(found: Sequence[Change]) -> dict[str, dict[str, str]]:
    """What a table of changes has columns of: counts and quantities that some class has, with their headings.

    A count that is 0 on both sides of all classes is left out.
    """
    counts = [name for name in PAGE_COUNTS if any(any(each.counts.get(name, ())) for each in found)]
    quantities = [name for name in COMPARED if any(name in each.verdicts for each in found)]
    return {
        "counts": {name: name.replace("_", " ") for name in counts},
        "quantities": {name: heading(name) for name in quantities},
    }


def outcomes(found: Iterable[Change]) -> list[CheckOutcome]:
    """The changes as if a check had been that there is no regression."""
    return [
        CheckOutcome(
            check=NO_REGRESSION,
            workload=each.subject.workload,
            user_class=each.subject.user_class,
            label=each.label,
            state=each.state,
            sentence=f"{each.label}: {each.words}",
        )
        for each in found
    ]


def advice(result: Result) -> str:
    """What to do about a before and after, in one line."""
    found = changes(result)
    failed = [each for each in found if each.state == "fail"]
    if broken := [each.label for each in failed if each.page is not None and each.page.error_after]:
        return f"Run `dbkit try` on {listed(broken)}: the page cannot be read, and it says what to do."
    if lines := [line for each in failed for line in _lines(added(each))]:
        return f"Look at {listed([*dict.fromkeys(lines)][:3])}, from where more statements are sent."
    if plans := [plan.source for each in failed if each.page for plan in each.page.plans if plan.source]:
        return f"Look at {listed([*dict.fromkeys(plans)][:3])}: the server runs its statement by another plan."
    if failed:
        more = "sends more" if any(each.worse for each in failed) else "is slower and sends the same statements"
        return f"Look at what {listed([each.label for each in failed])} does: it {more}."
    of_checks = {each.state for each in result.checks}
    if "fail" in of_checks:
        return "Look at the checks that fail."
    if undecided := [each for each in found if each.state == "undecided"]:
        needed = [
            each.verdicts[name].rounds_needed or 0
            for each in undecided
            for name in deciding_of(each.verdicts)
            if name in each.verdicts
        ]
        rounds = f"with --rounds {max(needed)}" if any(needed) else "with more rounds"
        return f"Run it again {rounds} to decide on {listed([each.label for each in undecided])}, on a quieter machine."
    if "undecided" in of_checks:
        return "Run it again with more rounds to decide on the checks that are undecided."
    if changed := [each.label for each in found if each.page is not None and each.page.page_diff]:
        return f"See whether the page of {listed(changed)} was meant to change."
    return "Nothing to do." if found else "No class is on both sides: there is nothing to compare."


def added(change: Change) -> list[SentStatement]:
    """The statements that a page sends more often after, those first that are sent the most."""
    return [] if change.page is None else sorted(change.page.added, key=lambda each: -each.times)


def _lines(sent: Iterable[SentStatement]) -> list[str]:
    return [each.source for each in sent if each.source]
