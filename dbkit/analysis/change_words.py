"""Before and after in words: the counts of each page first, which are exact, then times, and what decides.

Words for what is in the records; every output shows the same ones. For what a verdict means see
`dbkit.analysis.before_after`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbkit.analysis.before_after import by_condition, deciding_of, finding, finding_of
from dbkit.analysis.formats import decimals, interval, listed, shortened
from dbkit.analysis.limits import FIGURES
from dbkit.analysis.page_facts import differs
from dbkit.analysis.records import Verdict
from dbkit.analysis.result import Result
from dbkit.analysis.revisions import REVISION, PageChange, Revisions, SentStatement

MOST_SPOKEN_OF = 4
"""Statements that were added or removed and are named one by one; the report has all of them."""

LONGEST_SQL = 70


def change_lines(revisions: Revisions) -> list[str]:
    """Both sides, a line for each class on its pages with the lines that send what is new, and what is not compared."""
    lines = [f"before: {revisions.before.words}", f"after:  {revisions.after.words}", ""]
    for change in revisions.pages:
        lines.append(f"{change.user_class}: {change_sentence(change)}")
        lines += [f"    {each}" for each in statement_lines(change)]
    for names, side, other in (
        (revisions.only_before, revisions.before, revisions.after),
        (revisions.only_after, revisions.after, revisions.before),
    ):
        if names:
            lines.append(f"on {side.name} alone, and so not compared with {other.name}: {', '.join(names)}")
    return lines


def change_sentence(change: PageChange) -> str:
    """What differs between the pages of a class: `statements 2 → 21, round trips 4 → 25, at 20 of 20 keys`."""
    if change.error_after and change.error_after == change.error_before:
        return f"its page can be read on neither side: {change.error_after}"
    if change.error_after or change.error_before:
        failed = [("after", change.error_after), ("before", change.error_before)]
        return "; ".join(f"its page cannot be read {when}: {error}" for when, error in failed if error)
    others = f"; under load it reads other keys than before ({change.other_keys})" if change.other_keys else ""
    if not (change.keys_changed or change.plans):
        return f"the same statements, counts and pages, at {_keys(change)}{others}"
    parts = [counts_of_change(change)]
    if not parts[0]:
        parts = ["the same counts, of other SQL" if change.added or change.removed else "the same statements"]
    if change.page_diff:
        parts.append("another page")
    if change.plans:
        parts.append(f"another plan of {len(change.plans)} statement{'' if len(change.plans) == 1 else 's'}")
    where = f", at {change.keys_changed} of {_keys(change)}, such as {change.key}" if change.keys_changed else ""
    return f"{', '.join(parts)}{where}{others}"


def _keys(change: PageChange) -> str:
    return f"{change.keys} key{'' if change.keys == 1 else 's'}"


def counts_of_change(change: PageChange) -> str:
    """The counts that are not the same: `statements 2 → 21, round trips 4 → 25`; nothing where all are."""
    return ", ".join(changed_counts(change))


def changed_counts(change: PageChange) -> list[str]:
    """The counts that are not the same, each as `statements 2 → 21`."""
    names = [name for name in change.before if change.before[name] != change.after.get(name)]
    return [f"{name.replace('_', ' ')} {change.before[name]} → {change.after.get(name, 0)}" for name in names]


def statement_lines(change: PageChange) -> list[str]:
    """The statements that were added or removed, each with its line: `+ 20 × shop/pages.py:12 in page: SELECT …`."""
    found = [*(("+", each) for each in change.added), *(("-", each) for each in change.removed)]
    lines = [f"{sign} {_statement(each)}" for sign, each in found[:MOST_SPOKEN_OF]]
    more = len(found) - MOST_SPOKEN_OF
    return [*lines, *([f"and {more} more"] if more > 0 else ())]


def _statement(statement: SentStatement) -> str:
    sql = shortened(" ".join(statement.sql.split()), LONGEST_SQL)
    times = "" if statement.times == 1 else f"{statement.times} × "
    return f"{times}{statement.source or 'outside of the application'}: {sql}"


def headline_of_revisions(result: Result) -> list[str]:
    """Sentences on a before and after: what each class came to."""
    revisions = result.revisions
    assert revisions is not None
    of_conditions = by_condition(result.verdicts)
    names = {key: _name(key, result) for key in of_conditions}
    slower = [key for key, verdicts in of_conditions.items() if finding_of(verdicts) == "slower"]
    faster = [key for key, verdicts in of_conditions.items() if finding_of(verdicts) == "faster"]
    others = [key for key in of_conditions if key not in (*slower, *faster)]
    undecided = [key for key in others if finding_of(of_conditions[key]) == "undecided"]
    alike = [key for key in others if key not in undecided]
    after = revisions.after.name
    sentences = [f"{names[key]} is slower on {after}: {_shown(of_conditions[key])}." for key in slower]
    sentences += [f"{names[key]} is faster on {after}: {_shown(of_conditions[key])}." for key in faster]
    if alike:
        which = listed([names[key] for key in alike])
        sentences.append(f"No difference larger than 3 % between {revisions.before.name} and {after}: {which}.")
    sentences += [f"{names[key]} is undecided: {_open(of_conditions[key])}." for key in undecided]
    sentences += list(_changed(revisions))
    return sentences


def _name(condition: str, result: Result) -> str:
    """What a condition is called where the revision is said besides: its class, and what else varies."""
    row = next(row for row in result.strategies if row.condition == condition)
    setting = f"{REVISION}={row.settings[REVISION]}"
    return ", ".join(part for part in row.label.split(", ") if part != setting)


def _shown(verdicts: Sequence[Verdict]) -> str:
    """The differences that are shown: `pages/s 0.91× [0.88, 0.94], client CPU 1.1× [1.06, 1.14]`."""
    return ", ".join(f"{heading(each.quantity)} {ratio_words(each)}" for each in verdicts if each.shown)


def ratio_words(verdict: Verdict) -> str:
    """A ratio after ÷ before with its interval; `unknown` without a ratio."""
    if verdict.ratio is None:
        return "unknown"
    if verdict.low is None or verdict.high is None:
        return f"{verdict.ratio:.2f}×"
    return f"{verdict.ratio:.{decimals(verdict.low, verdict.high)}f}× {interval(verdict.low, verdict.high)}"


def heading(quantity: str) -> str:
    """What tables call a quantity that is compared."""
    return FIGURES[quantity].heading


def _open(verdicts: Sequence[Verdict]) -> str:
    """What is not decided, and how many rounds would tell."""
    deciding = deciding_of(each.quantity for each in verdicts)
    still_open = [each for each in verdicts if each.quantity in deciding and finding(each) == "undecided"]
    needed = max((each.rounds_needed or 0 for each in still_open), default=0)
    rounds = f"; about {needed} rounds would tell" if needed else ""
    return f"{', '.join(f'{heading(each.quantity)} {ratio_words(each)}' for each in still_open)}{rounds}"


def _changed(revisions: Revisions) -> Iterator[str]:
    """What is exact, in a sentence for all classes in which it differs."""
    changed = [change for change in revisions.pages if differs(change)]
    if revisions.pages and not changed:
        yield "Statements, counts and pages are the same on both sides."
    for change in changed:
        yield f"{change.user_class}: {change_sentence(change)}."
