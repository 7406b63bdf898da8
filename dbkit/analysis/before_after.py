"""What the verdicts on two revisions say of the one after: slower, faster, alike, or not decided yet.

For how ratios and intervals are found see `dbkit.analysis.verdict`; for when rounds end, `dbkit.analysis.sequential`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from dbkit.analysis.records import Verdict
from dbkit.analysis.revisions import REVISION
from dbkit.analysis.verdict import SMALLEST_RATIO

COMPARED = ("pages_per_s", "p50_ms", "p95_ms", "client_cpu_ms", "server_cpu_ms")
"""The columns that two revisions are compared by. Their intervals hold together."""
DECIDING = ("pages_per_s", "client_cpu_ms")
"""Where these show no difference, a class is decided: response times scatter more, and follow from them."""

Finding = Literal["slower", "faster", "no difference larger than 3 %", "undecided"]
"""What a verdict with `differs_in` `dbkit.analysis.revisions.REVISION` says of the revision after."""


def finding(verdict: Verdict) -> Finding:
    """What a verdict says of the revision after, by its interval."""
    if verdict.low is None or verdict.high is None:
        return "undecided"
    if verdict.shown:
        return "faster" if (verdict.low > 1) == (verdict.quantity == "pages_per_s") else "slower"
    if verdict.low >= 1 / SMALLEST_RATIO and verdict.high <= SMALLEST_RATIO:
        return "no difference larger than 3 %"
    return "undecided"


def finding_of(verdicts: Iterable[Verdict]) -> Finding:
    """What the verdicts on one condition say together: slower where any of them does, then faster."""
    found = {each.quantity: finding(each) for each in verdicts}
    for difference in ("slower", "faster"):
        if difference in found.values():
            return difference
    alike: Finding = "no difference larger than 3 %"
    deciding = [found[name] for name in deciding_of(found) if name in found]
    return alike if deciding and all(each == alike for each in deciding) else "undecided"


def deciding_of(quantities: Iterable[str]) -> tuple[str, ...]:
    """The columns that must show no difference for a class to be alike: in an open loop pages a second say nothing."""
    return DECIDING if "pages_per_s" in quantities else ("p95_ms", "client_cpu_ms")


def by_condition(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts on revisions, by the key of the condition after."""
    found: defaultdict[str, list[Verdict]] = defaultdict(list)
    for each in verdicts:
        if each.differs_in == REVISION:
            found[each.condition].append(each)
    return dict(found)


def is_decided(verdicts: Sequence[Verdict]) -> bool:
    """Whether no condition is undecided; it is not where there are no verdicts."""
    found = by_condition(verdicts)
    return bool(found) and all(finding_of(each) != "undecided" for each in found.values())
