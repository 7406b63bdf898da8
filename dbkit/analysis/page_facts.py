"""What is exact of a page, and needs no load: what it sends, what it counts, and what it shows. Of two revisions, in
what these differ.

Reading the pages is left to `dbkit.load.page_facts`. Times are none of this: see `dbkit.analysis.before_after`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import unified_diff

from msgspec import Struct

from dbkit.analysis.records import Count
from dbkit.analysis.result import Plan
from dbkit.analysis.revisions import PageChange, PlanChange, Revisions, SentStatement, Side

MOST_DIFF_LINES = 60
"""How many lines of a page's diff are shown; a longer one says how much more there is."""

_FIGURES_OF_A_PLAN = re.compile(r"\s*\((?:cost|actual|never executed)[^)]*\)")
_KEPT_OF_A_PLAN = re.compile(r"(?:Sort Key|Group Key|.* Cond|.*Filter|Presorted Key|Workers Planned|Cache Key)\b")
_PLACEHOLDERS = re.compile(r"(?:%\(\w+\)s|%s|\$\d+)(?:::[\w ]+(?:\[\])?)?")


class FactStatement(Struct, kw_only=True):
    """A statement of a page; equal SQL is one that was sent several times."""

    sql: str
    times: Count
    source: str | None


class PageFacts(Struct, kw_only=True):
    """One page by one class, warm."""

    workload: str
    strategy: str
    user_class: str
    key: str
    """As text; of a class with tasks of its own, the task and the name of the page."""
    counts: dict[str, Count]
    """Those of `PAGE_COUNTS` that are known, by name. Empty where the page failed."""
    statements: list[FactStatement]
    rendered: str
    """The page as JSON, with a line for each value; empty where it is not compared, as it has no plain form."""
    error: str = ""


class Keys(Struct, kw_only=True):
    """The keys of a class, as far as it takes to see whether two are the same."""

    count: Count
    digest: str


class SideFacts(Struct, kw_only=True):
    """All pages of one side."""

    versions: dict[str, str]
    classes: list[str]
    """The user classes that were asked for, in order of their names; their pages may have failed."""
    pages: list[PageFacts]
    plans: list[Plan]
    keys: dict[str, Keys] = {}
    """All that a class may read, by its name; of one with tasks of its own they are not known."""


def compare_facts(before: SideFacts, after: SideFacts, sides: tuple[Side, Side]) -> Revisions:
    """Both sides, and for each class that is on both in what its pages differ."""
    names = [name for name in before.classes if name in after.classes]
    return Revisions(
        before=sides[0],
        after=sides[1],
        only_before=[name for name in before.classes if name not in names],
        only_after=[name for name in after.classes if name not in names],
        pages=[_change(name, before, after) for name in names],
    )


def differs(change: PageChange) -> bool:
    """Whether anything of a page is not as before."""
    failed = change.error_before or change.error_after
    return bool(change.keys_changed or change.plans or change.other_keys or failed)


def _change(user_class: str, before: SideFacts, after: SideFacts) -> PageChange:
    one = {page.key: page for page in before.pages if page.user_class == user_class}
    other = {page.key: page for page in after.pages if page.user_class == user_class}
    keys = [key for key in one if key in other]
    changed = [key for key in keys if _is_changed(one[key], other[key])]
    if keys:
        key = max(changed or keys, key=lambda key: _weight(one[key], other[key]))
        was, now = one[key], other[key]
    else:
        was, now = next(iter(one.values())), next(iter(other.values()))
    before_counts, after_counts = _comparable(was, now)
    error_before, error = (next((page.error for page in each.values() if page.error), "") for each in (one, other))
    if not (keys or error_before or error):
        error = f"it has other keys than before: {now.key} and not {was.key}"
    failed = bool(error_before or error)  # then nothing else is known of it
    sent_before, sent_after = ([], []) if failed else (was.statements, now.statements)
    plans_before, plans_after = _plans(was, before.plans), _plans(now, after.plans)
    change = PageChange(
        workload=now.workload or was.workload,
        user_class=user_class,
        key=now.key,
        keys=len(keys),
        keys_changed=len(changed),
        before=before_counts,
        after=after_counts,
        added=_more(sent_after, sent_before, plans_after),
        removed=_more(sent_before, sent_after, plans_before),
        page_diff="" if failed else _diff(was.rendered, now.rendered),
        other_keys=_other_keys(before.keys.get(user_class), after.keys.get(user_class)),
        error_before=error_before,
        error_after=error,
    )
    change.plans = _plan_changes(change, sent_after, plans_before, plans_after)
    return change


def _weight(was: PageFacts, now: PageFacts) -> tuple[int, ...]:
    """How much the pages of a key say of a change: failures first, then how much more they take."""
    more = (now.counts.get(name, 0) - was.counts.get(name, 0) for name in ("statements", "round_trips"))
    return bool(now.error), bool(was.error), *more


def _other_keys(before: Keys | None, after: Keys | None) -> str:
    return "" if before is None or after is None or before == after else f"{before.count} → {after.count}"


def _is_changed(was: PageFacts, now: PageFacts) -> bool:
    before_counts, after_counts = _comparable(was, now)
    if (before_counts, was.rendered, was.error) != (after_counts, now.rendered, now.error):
        return True
    return _times(was.statements) != _times(now.statements)


def _comparable(was: PageFacts, now: PageFacts) -> tuple[dict[str, Count], dict[str, Count]]:
    """The counts of both, without those that are known of one alone, unless the other one failed."""
    if not (was.counts and now.counts):
        return was.counts, now.counts
    known = [name for name in was.counts if name in now.counts]
    return {name: was.counts[name] for name in known}, {name: now.counts[name] for name in known}


def _times(statements: Iterable[FactStatement]) -> Counter[str]:
    return Counter({each.sql: each.times for each in statements})


def _more(
    statements: Sequence[FactStatement], others: Sequence[FactStatement], plans: dict[str, str]
) -> list[SentStatement]:
    """The statements that are sent more often than among the others."""
    known = _times(others)
    return [
        SentStatement(
            sql=each.sql, times=each.times - known[each.sql], source=each.source, plan=plans.get(_bare(each.sql))
        )
        for each in statements
        if each.times > known[each.sql]
    ]


def _plans(page: PageFacts, plans: Iterable[Plan]) -> dict[str, str]:
    """The plans of what a class sends for a typical page, by the SQL without the driver's form of parameters."""
    own = [each for each in plans if each.workload == page.workload and each.strategy == page.strategy]
    return {_bare(each.sql): each.plan for plan in reversed(own) for each in plan.statements if each.plan}


def _bare(sql: str) -> str:
    return " ".join(_PLACEHOLDERS.sub("?", sql).split())


def _plan_changes(
    change: PageChange, statements: Iterable[FactStatement], before: dict[str, str], after: dict[str, str]
) -> list[PlanChange]:
    """The statements that have another plan than before: the same SQL, or what its line sends in its place."""
    replaced = {each.source: each.sql for each in change.removed if each.source}
    added = {each.sql for each in change.added}
    changes = []
    for each in statements:
        is_rewritten = each.sql in added
        earlier = replaced.get(each.source or "", each.sql) if is_rewritten else each.sql
        was, now = before.get(_bare(earlier)), after.get(_bare(each.sql))
        shape = nodes_of if is_rewritten else shape_of  # its conditions are other ones anyway
        if was and now and shape(was) != shape(now):
            changes.append(PlanChange(sql=each.sql, source=each.source, before=was, after=now))
    return changes


def shape_of(plan: str) -> list[str]:
    """The nodes of a plan with their conditions: what stays the same from run to run, without costs, times and rows."""
    lines = [_FIGURES_OF_A_PLAN.sub("", line).strip() for line in plan.splitlines()]
    return [
        line
        for place, line in enumerate(lines)
        if place == 0 or line.startswith(("->", "InitPlan", "SubPlan", "CTE")) or _KEPT_OF_A_PLAN.match(line)
    ]


def nodes_of(plan: str) -> list[str]:
    """The nodes of a plan alone."""
    return [line for place, line in enumerate(shape_of(plan)) if place == 0 or line.startswith("->")]


def _diff(was: str, now: str) -> str:
    if was == now:
        return ""
    lines = [*unified_diff(was.splitlines(), now.splitlines(), "before", "after", lineterm="", n=2)]
    more = len(lines) - MOST_DIFF_LINES
    return "\n".join([*lines[:MOST_DIFF_LINES], *([f"… and {more} lines more"] if more > 0 else ())])
