"""Checks on figures: how they are read, what comes of them for each kind of result, and the exit code for it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from dbkit.analysis.checks import EXACT, Check, CheckOutcome, read_check, read_checks, tally
from dbkit.analysis.condition import Condition, Users, Variation
from dbkit.analysis.exit_codes import Undecided, exit_code, exit_code_of_checks
from dbkit.analysis.judging import judge
from dbkit.analysis.limits import FIGURES, Limit
from dbkit.analysis.records import Verdict
from dbkit.analysis.regressions import changes
from dbkit.analysis.result import Result
from dbkit.analysis.revisions import REVISION, PageChange, Revisions, Side
from dbkit.analysis.rounds import result_of_rounds
from dbkit.analysis.slot import Slot
from dbkit.errors import DbkitError
from tests.analysis.test_result import PAGES, USER_CLASSES, USERS, result_of, schedule, slot
from tests.analysis.test_result import tally as pages
from tests.slots import QUIET, WORKLOAD, class_row, plain_result, verdict_row

BEFORE_AND_AFTER = Revisions(before=Side(name="main"), after=Side(name="HEAD"), only_before=[], only_after=[], pages=[])


def outcomes(result: Result, text: str, *user_classes: str) -> list[CheckOutcome]:
    return judge(result, read_checks(text), user_classes)


def lines(result: Result, text: str, *user_classes: str) -> list[str]:
    return [each.line for each in outcomes(result, text, *user_classes)]


def change(user_class: str, before: dict[str, int], after: dict[str, int], **more: Any) -> PageChange:
    about: dict[str, Any] = {"key": "3", "keys": 20, "keys_changed": int(before != after), "added": [], "removed": []}
    return PageChange(workload=WORKLOAD, user_class=user_class, before=before, after=after, **about | more)


# How they are read


@pytest.mark.parametrize(
    ("text", "read", "written"),
    [
        ("statements <= 2", Check(Limit("statements", "<=", 2)), "statements <= 2"),
        (" AsyncpgJoined:p95_ms<50 ", Check(Limit("p95_ms", "<", 50), "AsyncpgJoined"), "AsyncpgJoined: p95_ms < 50"),
        (
            "pages_per_s >= 0.95 * before",
            Check(Limit("pages_per_s", ">=", 0.95, "before")),
            "pages_per_s >= 0.95 * before",
        ),
        ("statements <= before", Check(Limit("statements", "<=", 1, "before")), "statements <= before"),
        ("rows <= 110 % of Slow", Check(Limit("rows", "<=", 1.1, "Slow")), "rows <= 1.1 * Slow"),
    ],
)
def test_a_check_is_read_and_has_one_text(text: str, read: Check, written: str) -> None:
    assert read_check(text) == read
    assert str(read) == written
    assert read_check(written) == read


def test_several_checks_have_semicolons_or_ends_of_lines_between_them() -> None:
    read = read_checks("statements <= 2; rows < 50\n\n A: failures = 0 ;statements<=2;")
    assert [*map(str, read)] == ["statements <= 2", "rows < 50", "A: failures = 0"]
    assert read_checks(" ; \n") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("statements", "expected a figure"),
        ("Fast: ", "expected a figure"),
        ("Fast: speed > 3", "there is no figure speed"),
        ("p95_ms = 50", "a time is never exactly that; write p95_ms <= or >="),
        ("rows < 0", "no figure is below 0"),
    ],
)
def test_what_is_no_check_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(DbkitError, match=re.escape(said)):
        read_checks(f"rows < 5; {text}")


def test_what_is_counted_is_exact_and_what_takes_time_is_not() -> None:
    assert {"statements", "round_trips", "rows", "connections", "failures", "unfinished", "max_ms"} <= EXACT
    assert FIGURES.keys() - EXACT >= {"pages_per_s", "p50_ms", "p95_ms", "p99_ms", "client_cpu_ms", "db_ms"}


# What comes of them


def test_counts_are_compared_exactly_for_each_class() -> None:
    assert lines(result_of(schedule(1)), "statements <= 1; Fast: round_trips < 3; failures = 0; Slow: rows = 40") == [
        *(f"✓ {name}: statements 1 <= 1" for name in ("Fast", "Middle", "Slow")),
        "✗ Fast: round_trips 3, not < 3",
        *(f"✓ {name}: failures 0 = 0" for name in ("Fast", "Middle", "Slow")),
        "✓ Slow: rows 40 = 40",
    ]


def test_a_count_is_compared_with_that_of_another_class() -> None:
    slots = [each for each in schedule(1) if each.user_class != "Slow"]
    slots.append(slot(9, 1, "Slow", pages(100, 30, round_trips=30)))
    assert lines(result_of(slots), "round_trips <= 0.1 * Slow; Fast: round_trips < 0.1 * Slow") == [
        "✓ Fast: round_trips 3 (Slow 30) <= 0.1 * Slow",
        "✓ Middle: round_trips 3 (Slow 30) <= 0.1 * Slow",
        "✗ Fast: round_trips 3 (Slow 30), not < 0.1 * Slow",
    ]


@pytest.mark.parametrize(
    ("check", "line"),
    [
        ("pages_per_s > 250", r"✓ Fast: pages_per_s 30\d \[29\d, 30\d\] > 250"),
        ("pages_per_s > 350", r"✗ Fast: pages_per_s 30\d \[29\d, 30\d\], not > 350"),
        (
            "pages_per_s > 301.5",
            r"\? Fast: pages_per_s 30\d \[29\d, 30\d\], not shown to be > 301.5: it is .*",
        ),
        (
            "pages_per_s > 300",
            r"\? Fast: pages_per_s 30\d \[29\d, 30\d\], not shown to be > 300: about \d+ rounds would tell",
        ),
        ("queue_ms < 1", r"✓ Fast: queue_ms 0 \[0, 0\] < 1"),
        ("queue_ms = 0", None),
        ("pages_per_s >= 2 * Slow", r"✓ Fast: pages_per_s 2\.9\d \[2\.\d+, 3\.\d+\] \* Slow >= 2 \* Slow"),
        ("pages_per_s > 4 * Slow", r"✗ Fast: pages_per_s 2\.9\d \[2\.\d+, 3\.\d+\] \* Slow, not > 4 \* Slow"),
        ("p95_ms <= Middle", r"✓ Fast: p95_ms 1\.00 \[1\.00, 1\.00\] \* Middle <= Middle"),
        ("queue_ms <= Middle", r"\? Fast: queue_ms <= Middle: there is no ratio, as it is 0 .*"),
        ("server_cpu_ms < 1", r"✓ Fast: server_cpu_ms .*"),
        ("relay_cpu_ms < 1", r"✗ Fast: relay_cpu_ms < 1: it is not known in this run"),
    ],
)
def test_a_time_is_judged_by_its_interval(check: str, line: str | None) -> None:
    if line is None:
        with pytest.raises(DbkitError):
            read_check(f"Fast: {check}")
        return
    slots = schedule(4)
    [found] = lines(result_of(slots), f"Fast: {check}")
    assert re.fullmatch(line, found)


def test_more_rounds_tell_what_was_advised() -> None:
    def found(rounds: int) -> str:
        slots = [slot(n, n + 1, "Fast", pages(300 + (-1) ** n * 10, 30)) for n in range(rounds)]
        return lines(result_of(slots), "pages_per_s > 297")[0]

    advised = re.search(r"about (\d+) rounds would tell", found(4))
    assert advised
    assert found(4).startswith("?") and found(int(advised[1])).startswith("✓")


def test_a_time_on_a_machine_that_others_use_may_pass_and_does_not_fail() -> None:
    slots = [replace(each, processes=[replace(QUIET, steal_share=0.6)]) for each in schedule(4)]
    failed, passed, counted, compared = lines(
        result_of(slots), "Fast: p95_ms < 3; Fast: p95_ms < 3000; Fast: rows < 3; Fast: pages_per_s < Slow"
    )
    assert failed.startswith("? Fast: p95_ms 30 [") and "others took much of the machine" in failed
    assert passed.startswith("✓") and counted.startswith("✗") and compared.startswith("✗")


@pytest.mark.parametrize("rounds", [1, 2])
def test_fewer_than_three_rounds_do_not_decide_on_a_time(rounds: int) -> None:
    assert lines(result_of(schedule(rounds)), "Fast: p95_ms < 5000; Fast: p95_ms < Slow") == [
        "? Fast: p95_ms 30, not shown to be < 5000: it takes 3 rounds",
        "? Fast: p95_ms < Slow: it takes 3 rounds",
    ]


def test_without_rounds_a_count_is_known_and_a_time_is_not() -> None:
    mixed = plain_result(mixed=True, strategies=[class_row("Fast", pages=9, statements=2.5, p95_ms=3.0)])
    assert lines(mixed, "statements < 2.5; statements <= 2.5; p95_ms < 50; client_cpu_ms < 1") == [
        "✗ Fast: statements 2.5, not < 2.5",
        "✓ Fast: statements 2.5 <= 2.5",
        "? Fast: p95_ms 3, not shown to be < 50: it takes rounds, in which classes run one at a time",
        "? Fast: client_cpu_ms < 1: it takes rounds, in which classes run one at a time",
    ]


def test_what_was_not_measured_has_kept_nothing() -> None:
    result = result_of([each for each in schedule(3) if each.user_class == "Fast"])
    checks = "statements <= 1; p95_ms < 90; Fast: pages_per_s > Slow; Fast: statements <= before"
    assert lines(result, checks, "Fast", "Slow") == [
        "✓ Fast: statements 1 <= 1",
        "✗ Slow: statements <= 1: it was not measured",
        "✓ Fast: p95_ms 30 [30, 30] < 90",
        "✗ Slow: p95_ms < 90: it was not measured",
        "✗ Fast: pages_per_s > Slow: there is no such figure of Slow",
        "✗ Fast: statements <= before: there is no such figure of before",
    ]
    cut_short = result_of(schedule(3)[1:2], planned=9)
    assert lines(cut_short, "Slow: statements <= 1") == ["? Slow: statements <= 1: it was not measured"]


def test_what_is_unknown_is_said_with_its_reason() -> None:
    failed = result_of([slot(n, n + 1, "Slow", pages(5, 30, failures=5)) for n in range(3)])
    assert lines(failed, "statements <= 1; p95_ms < 90") == [
        "✗ Slow: statements <= 1: every page failed",
        "✗ Slow: p95_ms < 90: every page failed",
    ]
    overrun = plain_result(strategies=[class_row("Fast", arrivals_per_s=9.0, sustained=False, pages=9)])
    [line] = lines(overrun, "p95_ms < 90")
    assert "the arrivals were not kept up with" in line and line.startswith("✗")


def test_each_load_and_setting_is_judged_for_itself() -> None:
    slots = [
        slot(n * 2 + place, n + 1, "Fast", condition=Condition("Fast", Users(users), (("pool-size", "5"),)))
        for n in range(3)
        for place, users in enumerate((1, USERS))
    ]
    result = result_of_rounds(
        slots,
        USER_CLASSES,
        end="rollback",
        planned_slots=6,
        measured_on={},
        variations=[Variation("pool-size", ("5",))],
    )
    assert lines(result, "rows = 40; p95_ms < 40") == [
        "✓ Fast, 1 user, pool-size=5: rows 40 = 40",
        "✓ Fast, 10 users, pool-size=5: rows 40 = 40",
        "✓ Fast, 1 user, pool-size=5: p95_ms 33.3 [33.3, 33.3] < 40",
        "✓ Fast, 10 users, pool-size=5: p95_ms 33.3 [33.3, 33.3] < 40",
    ]


def before_and_after(rounds: int = 5) -> Result:
    """Fast serves as many pages after, and Slow a third less, with more round trips."""
    slots: list[Slot] = []
    for number in range(rounds):
        for name in ("Fast", "Slow"):
            for revision in ("main", "HEAD"):
                count, trips = PAGES[name] + number % 3, 3
                if (name, revision) == ("Slow", "HEAD"):
                    count, trips = count * 2 // 3, 23
                condition = Condition(name, Users(USERS), ((REVISION, revision),))
                measured = pages(count, 30, round_trips=trips)
                slots.append(slot(len(slots), number + 1, name, measured, condition=condition))
    result = result_of_rounds(
        slots,
        USER_CLASSES,
        end="rollback",
        planned_slots=len(slots),
        measured_on={},
        variations=[Variation(REVISION, ("main", "HEAD"))],
    )
    result.revisions = BEFORE_AND_AFTER
    return result


def test_of_a_before_and_after_the_revision_after_is_judged() -> None:
    checks = "round_trips <= before; rows = 40; pages_per_s >= 0.9 * before; Slow: p95_ms < Fast"
    found = lines(before_and_after(), checks)
    assert found[:4] == [
        "✓ Fast: round_trips 3 (before 3) <= before",
        "✗ Slow: round_trips 23 (before 3), not <= before",
        "✓ Fast: rows 40 = 40",
        "✓ Slow: rows 40 = 40",
    ]
    assert re.fullmatch(r"✓ Fast: pages_per_s 1\.00 \[\S+, \S+\] \* before >= 0\.9 \* before", found[4])
    assert re.fullmatch(r"✗ Slow: pages_per_s 0\.6\d \[\S+, \S+\] \* before, not >= 0\.9 \* before", found[5])
    assert found[6].startswith("✗ Slow: p95_ms 1.00")


def test_a_share_of_before_has_the_interval_of_the_table() -> None:
    """One that holds together with the others, and for as many looks as were taken."""
    result = before_and_after()
    for verdict in result.verdicts:
        verdict.low, verdict.high = 0.8, 1.2
    [line] = lines(result, "Fast: pages_per_s >= 0.9 * before")
    assert line.startswith("? Fast: pages_per_s 1.00 [0.80, 1.20] * before, not shown to be >= 0.9 * before: about ")


def test_counts_of_a_before_and_after_are_those_of_the_page_and_need_no_load() -> None:
    counted = plain_result(
        revisions=replace_pages(
            change("Fast", {"statements": 2, "rows": 40}, {"statements": 21, "rows": 40}),
            change("Slow", {}, {}, error_after="ValueError: no page", error_before="ImportError"),
        )
    )
    assert lines(counted, "statements <= before; rows <= 1.5 * before; Fast: p95_ms < 9; Fast: statements < Slow") == [
        "✗ Fast: statements 21 (before 2), not <= before",
        "✗ Slow: statements <= before: its page could not be read: ValueError: no page",
        "✓ Fast: rows 40 (before 40) <= 1.5 * before",
        "✗ Slow: rows <= 1.5 * before: its page could not be read: ValueError: no page",
        "✗ Fast: p95_ms < 9: it was not measured",
        "✗ Fast: statements < Slow: there is no such figure of Slow",
    ]


def replace_pages(*changes: PageChange) -> Revisions:
    return Revisions(before=Side(name="main"), after=Side(name="HEAD"), only_before=[], only_after=[], pages=[*changes])


def test_a_tally_says_what_came_of_all() -> None:
    mixed = plain_result(strategies=[class_row("Fast", pages=9, statements=2.0)])
    assert tally(outcomes(mixed, "statements < 3; statements <= 3; statements < 2; p95_ms < 3")) == (
        "4 checks: 2 pass, 1 fails, 1 is undecided"
    )
    assert tally(outcomes(mixed, "statements < 3")) == "1 check: 1 passes"


# The exit code


def revision_verdict(user_class: str, low: float | None, high: float | None, quantity: str = "pages_per_s") -> Verdict:
    return verdict_row(user_class, "main", low, high, differs_in=REVISION, quantity=quantity)


ALIKE = [revision_verdict("A", 0.99, 1.01, quantity) for quantity in ("pages_per_s", "p95_ms", "client_cpu_ms")]
AFTER = class_row("A", settings={REVISION: "HEAD"})
SAME = change("A", {"statements": 2, "round_trips": 4}, {"statements": 2, "round_trips": 4})
MORE = change("A", {"statements": 2, "round_trips": 4}, {"statements": 2, "round_trips": 5})


@pytest.mark.parametrize(
    ("page", "verdicts", "state"),
    [
        (SAME, [], "pass"),
        (SAME, ALIKE, "pass"),
        (MORE, [], "fail"),
        (MORE, ALIKE, "fail"),
        (MORE, [revision_verdict("A", 1.1, 1.2), *ALIKE[1:]], "pass"),
        (SAME, [*ALIKE[:1], revision_verdict("A", 1.1, 1.2, "p95_ms"), ALIKE[2]], "fail"),
        (SAME, [revision_verdict("A", 0.8, 0.9)], "fail"),
        (SAME, [revision_verdict("A", 0.8, 1.2), ALIKE[2]], "undecided"),
        (SAME, [ALIKE[0], revision_verdict("A", 0.8, 1.2, "client_cpu_ms")], "undecided"),
        (SAME, [ALIKE[0], revision_verdict("A", 0.8, 1.2, "p95_ms"), ALIKE[2]], "pass"),
        (SAME, [revision_verdict("A", 0.8, 1.2), revision_verdict("A", 0.8, 1.2, "client_cpu_ms")], "undecided"),
        (SAME, [revision_verdict("A", None, None)], "undecided"),
    ],
)
def test_a_regression_is_what_is_slower_or_takes_more(page: PageChange, verdicts: list[Verdict], state: str) -> None:
    result = plain_result(strategies=[AFTER], verdicts=verdicts, revisions=replace_pages(page))
    assert [each.state for each in changes(result)] == [state]
    assert exit_code(result) == {"pass": 0, "fail": 3, "undecided": 4}[state]


def test_a_page_that_cannot_be_read_after_has_failed() -> None:
    assert exit_code(plain_result(revisions=replace_pages(change("A", {}, {}, error_after="ValueError")))) == 1
    assert exit_code(plain_result(revisions=replace_pages(change("A", {}, {}, error_before="ValueError")))) == 0


def test_a_before_and_after_that_was_cut_short_before_any_verdict_is_undecided() -> None:
    assert exit_code(plain_result(state="cut short", revisions=replace_pages(SAME))) == 4
    assert exit_code(plain_result(state="complete", revisions=replace_pages(SAME))) == 0
    assert exit_code(plain_result(state="cut short", revisions=replace_pages(MORE))) == 3


def test_in_an_open_loop_p95_decides_and_not_pages_a_second() -> None:
    rows = [class_row("A", settings={REVISION: "HEAD"}, arrivals_per_s=50.0)]
    wide = [revision_verdict("A", 0.8, 1.2, quantity) for quantity in ("p95_ms", "client_cpu_ms")]
    result = plain_result(strategies=rows, verdicts=[ALIKE[0], *wide], revisions=replace_pages(SAME))
    assert exit_code(result) == 4


def test_verdicts_on_other_settings_are_no_regressions() -> None:
    slower = verdict_row("A", "B", 0.5, 0.6)
    result = plain_result(strategies=[AFTER], verdicts=[slower], revisions=replace_pages(SAME))
    assert exit_code(result) == 0
    assert changes(plain_result(strategies=[class_row("A")], verdicts=[slower])) == []


@pytest.mark.parametrize(
    ("checks", "failures", "undecided", "code"),
    [
        ("statements <= 2", 0, None, 0),
        ("statements <= 1", 0, None, 3),
        ("p95_ms < 5", 0, None, 4),
        ("p95_ms < 5", 0, "pass", 0),
        ("p95_ms < 5", 0, "fail", 3),
        ("p95_ms < 5; statements <= 1", 0, None, 3),
        ("p95_ms < 5; statements <= 1", 0, "pass", 3),
        ("p95_ms < 5; statements <= 1", 1, None, 1),
        ("", 0, "fail", 0),
        ("", 1, None, 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst(checks: str, failures: int, undecided: Undecided, code: int) -> None:
    result = plain_result(strategies=[class_row("A", pages=9, failures=failures, statements=2.0, p95_ms=1.0)])
    result.checks = outcomes(result, checks)
    assert exit_code(result, undecided) == code
    if not failures:
        assert exit_code_of_checks(result, undecided) == code
