"""With which code a command ends, by its result: the table in docs/ci.md.

A mistake of the user, which ends with `BAD_INPUT`, has no result. Where a
part of a result is missing, that code is the first, too. Pages that failed are counted by Locust as well.
"""

from __future__ import annotations

from typing import Literal

from dbkit.analysis.regressions import changes
from dbkit.analysis.result import Result

PASSED = 0
PAGES_FAILED = 1
BAD_INPUT = 2
FAILED = 3
UNDECIDED = 4
START_AGAIN = 75
"""With which a load process of a before and after asks `dbkit diff` to start it again; no command ends with it."""

Undecided = Literal["pass", "fail"] | None
"""What counts for what is undecided: as if it had passed, or failed, or neither."""


def exit_code(result: Result, undecided: Undecided = None) -> int:
    """The exit code for a result: see docs/ci.md. Of several that apply it is the first of 2, 1, 3 and 4."""
    if not result.missing and any(row.failures for row in result.strategies):
        return PAGES_FAILED
    return exit_code_of_checks(result, undecided)


def exit_code_of_checks(result: Result, undecided: Undecided = None) -> int:
    """The exit code for the checks and the regressions of a result, whether or not pages failed under load."""
    if result.missing:
        return BAD_INPUT
    if result.revisions is not None and any(page.error_after for page in result.revisions.pages):
        return PAGES_FAILED
    states = {each.state for each in result.checks} | {each.state for each in changes(result)}
    if "fail" in states or ("undecided" in states and undecided == "fail"):
        return FAILED
    return UNDECIDED if "undecided" in states and undecided is None else PASSED
