"""What came of a run as JUnit XML, which CI services show as tests: pages, checks, regressions of a before and after.

A case is one check of one class. For what came of it see `dbkit.analysis.judging` and `dbkit.analysis.regressions`.
"""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

from dbkit.analysis.checks import CheckOutcome
from dbkit.analysis.exit_codes import Undecided
from dbkit.analysis.regressions import changes, outcomes
from dbkit.analysis.result import Result

PAGES = "every page is read"
"""The case that each class has."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def junit(result: Result, undecided: Undecided = None) -> str:
    """The XML. What is undecided is an error, as the job fails by it; or as `undecided` says, skipped or a failure."""
    of_undecided = {"pass": "skipped", "fail": "failure"}.get(undecided or "", "error")
    kinds = {"pass": "", "fail": "failure", "undecided": of_undecided}
    found = [*_of_pages(result), *outcomes(changes(result)), *result.checks]
    count = Counter(kinds[each.state] for each in found)
    totals = {"tests": len(found), "failures": count["failure"], "errors": count["error"], "skipped": count["skipped"]}
    suites = ElementTree.Element("testsuites", name="dbkit")
    suite = ElementTree.SubElement(suites, "testsuite", name="dbkit")
    for name, number in totals.items():
        suite.set(name, str(number))
    for each in found:
        case = ElementTree.SubElement(suite, "testcase", classname=_text(_class_name(each)), name=_text(_name(each)))
        if kind := kinds[each.state]:
            ElementTree.SubElement(case, kind, message=_text(each.sentence)).text = _text(each.sentence)
    ElementTree.indent(suites)
    return f"{_DECLARATION}{ElementTree.tostring(suites, encoding='unicode')}\n"


def _of_pages(result: Result) -> list[CheckOutcome]:
    """Whether pages failed, for each condition."""
    reasons = {failure.condition: failure.message for failure in reversed(result.failures)}
    return [
        CheckOutcome(
            check=PAGES,
            workload=row.workload,
            user_class=row.user_class,
            label=row.label,
            state="fail" if row.failures else "pass",
            sentence=f"{row.label}: {row.failures} of {row.pages} pages failed: {reasons.get(row.condition, '')}",
        )
        for row in result.strategies
    ]


def _class_name(outcome: CheckOutcome) -> str:
    """Services group cases by it, at its dots: the workload, then the condition."""
    return ".".join(name.replace(".", "·") for name in (outcome.workload, outcome.label) if name)


def _name(outcome: CheckOutcome) -> str:
    return outcome.check.removeprefix(f"{outcome.user_class}: ")


def _text(text: str) -> str:
    """Text without the characters that XML cannot have."""
    return _NO_XML.sub("�", text)
