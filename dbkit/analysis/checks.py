"""Checks on the figures of a run, as people write them, and what came of them.

A check is a limit on a figure (`dbkit.analysis.limits`), of every class or of one that is named before it. Whether a
result keeps it is found in `dbkit.analysis.judging`; where checks come from is left to `dbkit.load.figure_checks`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from msgspec import Struct

from dbkit.analysis.columns import Group
from dbkit.analysis.limits import FIGURES, Limit, read_limit
from dbkit.analysis.revisions import PAGE_COUNTS
from dbkit.errors import DbkitError

BEFORE = "before"
"""What a figure can be a share of in a before and after: that of the same class before."""
BASELINE = "baseline"
"""The same of the class in a file of an earlier run."""

OF_REVISIONS = tuple(name for name in PAGE_COUNTS if name not in FIGURES)
"""Figures that are known of the pages of a before and after alone."""
EXACT = {
    name
    for name, column in FIGURES.items()
    if column.group is Group.COUNTS or (column.group is Group.PAGES and not column.unit)
} | {"max_ms", *OF_REVISIONS}
"""Figures that are compared as they are: what was counted, and the longest time seen. Others have intervals."""

State = Literal["pass", "fail", "undecided"]
MARKS: dict[State, str] = {"pass": "✓", "fail": "✗", "undecided": "?"}

_CLASS = re.compile(r"\s*([^:<>=]*[^:<>=\s])\s*:(.*)", re.DOTALL)


@dataclass(frozen=True)
class Check:
    """What a figure is to keep."""

    limit: Limit
    """Its `reference` is `BEFORE`, `BASELINE` or the name of a class."""
    user_class: str = ""
    """The class whose figure it is; empty for all."""

    def of(self, user_class: str) -> Check:
        """The same check of one class."""
        return replace(self, user_class=user_class)

    def __str__(self) -> str:
        """The check as it can be read again, in one form."""
        return f"{self.user_class}: {self.limit}" if self.user_class else str(self.limit)


class CheckOutcome(Struct, kw_only=True):
    """What came of a check for one condition."""

    check: str
    """As it can be written again."""
    workload: str
    user_class: str
    label: str
    """The condition, by its name in tables; in a before and after without the revision."""
    state: State
    sentence: str
    """What was found, in one line, such as `PsycopgJoined: statements 1 <= 2`."""

    @property
    def mark(self) -> str:
        """One character for what came of it."""
        return MARKS[self.state]

    @property
    def line(self) -> str:
        """The sentence with its mark."""
        return f"{self.mark} {self.sentence}"


def tally(outcomes: Collection[CheckOutcome]) -> str:
    """How many checks there are, and what came of them, in a few words: `3 checks: 2 pass, 1 is undecided`."""
    count = {state: sum(each.state == state for each in outcomes) for state in MARKS}
    words = {"pass": ("passes", "pass"), "fail": ("fails", "fail"), "undecided": ("is undecided", "are undecided")}
    found = ", ".join(f"{number} {words[state][number > 1]}" for state, number in count.items() if number)
    return f"{len(outcomes)} check{'s' if len(outcomes) > 1 else ''}: {found}"


def read_checks(text: str) -> list[Check]:
    """Checks with `;` or ends of lines between them. Raises DbkitError for one that says nothing."""
    return list(dict.fromkeys(read_check(each) for each in re.split(r"[;\n]", text) if each.strip()))


def read_check(text: str) -> Check:
    """A check as it is written: `[CLASS: ]FIGURE COMPARISON NUMBER`, or `… FACTOR * REFERENCE`.

    Which classes there are is not known here. Raises DbkitError for a text that is no check.
    """
    named = _CLASS.fullmatch(text)
    limit = read_limit(named[2].strip() if named else text.strip(), references=None, more=OF_REVISIONS)
    if limit.comparison == "=" and limit.figure not in EXACT:
        raise DbkitError(f"invalid value {text.strip()!r}: a time is never exactly that; write {limit.figure} <= or >=")
    return Check(limit, named[1] if named else "")
