"""What a code review shows beside the lines of the code: checks that are not kept, and statements that are new.

How a service has it written is left to `dbkit.output.github`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dbkit.analysis.checks import CheckOutcome, State
from dbkit.analysis.columns import Group
from dbkit.analysis.exit_codes import Undecided
from dbkit.analysis.formats import shortened
from dbkit.analysis.limits import FIGURES
from dbkit.analysis.regressions import NO_REGRESSION, Change, added, changes, outcomes
from dbkit.analysis.result import Result, Statement

Level = Literal["error", "warning"]

MOST_LETTERS_OF_SQL = 200

_LINE = re.compile(r"(.+):(\d+)(?: in .*)?", re.DOTALL)


@dataclass(frozen=True)
class Annotation:
    """A message at a line of the code, or at none."""

    level: Level
    title: str
    message: str
    file: str = ""
    """As it is in the result: relative to where the run was started, where the file is below that."""
    line: int = 0


def annotations_of(result: Result, undecided: Undecided = None) -> list[Annotation]:
    """What is to be seen of a result, errors first; what has passed is not. Each line has one annotation."""
    found = [*_of_changes(result, undecided), *_of_checks(result, undecided)]
    known: dict[tuple[object, ...], Annotation] = {}
    for each in found:
        known.setdefault((each.file, each.line) if each.file else (each.title, each.message), each)
    return sorted(known.values(), key=lambda each: each.level != "error")


def level_of(state: State, undecided: Undecided) -> Level | None:
    """How an outcome is shown: nothing for one that passes, or counts as if it did."""
    if state == "pass" or (state == "undecided" and undecided == "pass"):
        return None
    return "error" if state == "fail" or undecided == "fail" else "warning"


def _of_changes(result: Result, undecided: Undecided) -> Iterator[Annotation]:
    for change in changes(result):
        level = level_of(change.state, undecided)
        at_lines = [*_added_lines(change, level or "warning")]
        yield from at_lines
        if level is not None and not at_lines:
            [outcome] = outcomes([change])
            yield Annotation(level, f"dbkit: {NO_REGRESSION}", outcome.sentence)


def _added_lines(change: Change, level: Level) -> Iterator[Annotation]:
    """The lines from which a page sends more statements after."""
    before, after = change.counts.get("statements", (0, 0))
    if change.state == "pass" and after <= before:
        return  # a statement in the place of another one
    title = f"{change.label}: {before} → {after} statements" if before != after else f"{change.label}: other statements"
    for sent in added(change):
        if sent.source and (at := _LINE.fullmatch(sent.source)):
            times = f"{sent.times} more a page" if sent.times > 1 else "one more a page"
            yield Annotation(level, title, f"sent from here, {times}: {_short(sent.sql)}", at[1], int(at[2]))


def _of_checks(result: Result, undecided: Undecided) -> Iterator[Annotation]:
    for outcome in result.checks:
        if (level := level_of(outcome.state, undecided)) is not None:
            sent = _most_sent(result, outcome)
            at = _LINE.fullmatch(sent.source or "") if sent else None
            about = Annotation(level, f"dbkit: {outcome.check}", outcome.sentence)
            yield Annotation(level, about.title, about.message, at[1], int(at[2])) if at else about


def _most_sent(result: Result, outcome: CheckOutcome) -> Statement | None:
    """The statement that the class's page sends most often, where a check on what is counted failed."""
    figure = outcome.check.rpartition(": ")[2].split()[0]
    strategies = {row.strategy for row in result.strategies if row.user_class == outcome.user_class}
    if outcome.state != "fail" or figure not in FIGURES or FIGURES[figure].group is not Group.COUNTS:
        return None
    sent = [
        statement
        for plan in result.plans
        if plan.workload == outcome.workload and plan.strategy in strategies
        for statement in plan.statements
    ]
    return max(sent, key=lambda each: each.times, default=None)


def _short(sql: str) -> str:
    one_line = " ".join(sql.split())
    return shortened(one_line, MOST_LETTERS_OF_SQL)
