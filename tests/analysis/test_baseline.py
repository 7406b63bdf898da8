"""A run beside a file of an earlier one: counts on any machine, times where both were measured alike."""

from __future__ import annotations

from typing import Any

import pytest

from dbkit.analysis.baseline import Baseline, check_baseline, notes_beside, outcomes_beside
from dbkit.analysis.checks import read_checks
from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.judging import judge
from dbkit.analysis.result import Result
from dbkit.analysis.rounds import result_of_rounds
from dbkit.errors import DbkitError
from tests.analysis.test_result import PAGES, USER_CLASSES, USERS, slot
from tests.analysis.test_result import tally as pages
from tests.slots import WORKLOAD, class_row, plain_result

HERE: dict[str, Any] = {
    "measured_at": "2026-11-22T14:45:24+00:00",
    "machine": "a1b2",
    "python": "3.11.2",
    "packages": {"SQLAlchemy": "2.1.9"},
    "server": {"postgresql": "18.6", "settings": {"jit": "on"}, "round_trip_ms": 0.1},
    "options": {"num_users": 10, "rounds": 5, "pool_size": 5},
}


def mixed(counts: dict[str, float], measured_on: dict[str, Any] = HERE) -> Result:
    """A class of a run without rounds."""
    row = class_row("Fast", users=10, pages=99, **{"statements": 1.0, "rows": 40.0, **counts})
    return plain_result(strategies=[row], measured_on=measured_on)


def in_rounds(rounds: int = 5, faster: float = 1.0, **of_page: Any) -> Result:
    """Fast and Slow in rounds, each a little faster than the one before."""
    slots = [
        slot(
            number * 2 + place,
            number + 1,
            name,
            pages(int(PAGES[name] * (1 + 0.01 * (number % 3)) * faster), 30, **of_page),
        )
        for number in range(rounds)
        for place, name in enumerate(("Fast", "Slow"))
    ]
    return result_of_rounds(slots, USER_CLASSES, end="rollback", planned_slots=len(slots), measured_on=HERE)


def lines(result: Result, before: Result) -> list[str]:
    return [each.line for each in outcomes_beside(result, Baseline(before, "main.json"))]


# Counts


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ({}, {}, "✓ Fast: counts as in the baseline"),
        ({}, {"statements": 2.0}, "✗ Fast: more than in the baseline: statements 2 (baseline 1)"),
        (
            {"round_trips": 3.0},
            {"statements": 2.0, "round_trips": 4.0, "rows": 20.0},
            "✗ Fast: more than in the baseline: statements 2 (baseline 1), round_trips 4 (baseline 3),"
            " rows 20 (baseline 40)",
        ),
        ({}, {"rows": 20.0}, "✓ Fast: fewer than in the baseline: rows 20 (baseline 40); renew main.json"),
        # where each page took one, one page in a hundred that takes more is more
        ({}, {"statements": 1.01}, "✗ Fast: more than in the baseline: statements 1.01 (baseline 1)"),
        # connections decide on these, and pages on how many rows they have
        ({"round_trips": 3.0}, {"round_trips": 3.02}, "✓ Fast: counts as in the baseline"),
        ({"connections": 0.01}, {"connections": 0.05}, "✓ Fast: counts as in the baseline"),
        ({"rows": 40.3}, {"rows": 41.9}, "✓ Fast: counts as in the baseline"),
        ({"rows": 40.3}, {"rows": 47.1}, "✗ Fast: more than in the baseline: rows 47.1 (baseline 40.3)"),
        (
            {"round_trips": 3.0},
            {"round_trips": 23.4},
            "✗ Fast: more than in the baseline: round_trips 23.4 (baseline 3)",
        ),
        # not known on one side
        ({}, {"round_trips": 3.0}, "✓ Fast: counts as in the baseline"),
    ],
)
def test_counts_are_compared_on_any_machine(before: dict[str, float], now: dict[str, float], line: str) -> None:
    elsewhere = {**HERE, "machine": "c3d4", "cores": 64}
    assert lines(mixed(now, elsewhere), mixed(before)) == [line]


def test_counts_that_differ_from_page_to_page_are_compared_by_how_they_scatter() -> None:
    def result(*rows: float) -> Result:
        slots = [slot(n, n + 1, "Fast", pages(300, 30, rows=value)) for n, value in enumerate(rows)]
        return result_of_rounds(slots, USER_CLASSES, end="rollback", planned_slots=9, measured_on={})

    before = result(40.1, 40.3, 39.9, 40.2)
    assert lines(result(40.2, 40.4, 40.0, 40.2), before)[0] == "✓ Fast: counts as in the baseline"
    line = lines(result(41.2, 41.4, 41.0, 41.2), before)[0]
    assert line.startswith("✗ Fast: more than in the baseline: rows 41.2 (baseline 40.1")


def test_counts_are_compared_whatever_the_load_is() -> None:
    def loaded(users: int) -> Result:
        slots = [slot(0, 1, "Fast", condition=Condition("Fast", Users(users)))]
        return result_of_rounds(slots, USER_CLASSES, end="rollback", planned_slots=1, measured_on=HERE)

    assert lines(loaded(3), loaded(USERS)) == ["✓ Fast: counts as in the baseline"]


# Times


def test_times_are_compared_where_both_were_measured_alike() -> None:
    alike = lines(in_rounds(), in_rounds())
    assert alike[::2] == ["✓ Fast: counts as in the baseline", "✓ Slow: counts as in the baseline"]
    assert [line.partition(" [")[0] for line in alike[1::2]] == ["✓ Fast: pages/s 1.00", "✓ Slow: pages/s 1.00"]
    assert all(line.endswith(": no difference larger than 3 %") for line in alike[1::2])
    slower = lines(in_rounds(faster=0.5), in_rounds())
    assert slower[1].startswith("✗ Fast: pages/s 0.50 [0.")
    assert slower[1].endswith(": slower")
    faster = lines(in_rounds(faster=1.5), in_rounds())
    assert faster[1].startswith("✓ Fast: pages/s 1.50") and faster[1].endswith(": faster")


def test_a_wide_interval_is_undecided() -> None:
    def result(*counts: int) -> Result:
        slots = [slot(n, n + 1, "Fast", pages(count, 30)) for n, count in enumerate(counts)]
        return result_of_rounds(slots, USER_CLASSES, end="rollback", planned_slots=9, measured_on=HERE)

    [_, line] = lines(result(200, 300, 420), result(250, 310, 400))
    assert line.startswith("? Fast: pages/s ") and line.endswith("undecided")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "c3d4"}, "as that has machine a1b2 and now c3d4"),
        ({"python": "3.12.1"}, "as that has python 3.11.2 and now 3.12.1"),
        ({"packages": {"SQLAlchemy": "2.0.1", "x": "1"}}, "SQLAlchemy 2.1.9 and now 2.0.1; x unknown and now 1"),
        ({"server": {**HERE["server"], "settings": {"jit": "off"}}}, "server's jit on and now off"),
        ({"options": {**HERE["options"], "pool_size": 9}}, "pool-size 5 and now 9"),
    ],
)
def test_where_something_differs_it_says_what_and_judges_counts_alone(changes: dict[str, Any], said: str) -> None:
    result, before = in_rounds(), Baseline(in_rounds(), "main.json")
    result.measured_on = {**HERE, **changes}
    assert [each.check for each in outcomes_beside(result, before)] == [
        "Fast: counts as in the baseline",
        "Slow: counts as in the baseline",
    ]
    [note] = notes_beside(result, before)
    assert said in note and note.startswith("counts alone are compared with main.json, and no times, as that has ")


def test_how_long_and_when_it_was_measured_may_differ() -> None:
    result = in_rounds(7)
    result.measured_on = {
        **HERE,
        "measured_at": "2026-11-29T01:00:00+00:00",
        "options": {**HERE["options"], "rounds": 7},
    }
    before = Baseline(in_rounds(), "main.json")
    assert notes_beside(result, before) == [] and len(outcomes_beside(result, before)) == 4


def test_times_of_a_machine_that_others_used_are_not_compared() -> None:
    before = in_rounds()
    for each in before.slots:
        each.disturbed = True
    baseline = Baseline(before, "main.json")
    assert notes_beside(in_rounds(), baseline) == [
        "times are not compared with main.json: others took much of the machine in main.json"
    ]
    assert len(outcomes_beside(in_rounds(), baseline)) == 2
    [found] = judge(in_rounds(), read_checks("Fast: p95_ms < 3 * baseline"), (), baseline)
    assert found.line == "? Fast: p95_ms < 3 * baseline: others took much of the machine in main.json"


def test_without_rounds_on_both_sides_times_are_not_compared() -> None:
    before = Baseline(in_rounds(2), "main.json")
    assert notes_beside(in_rounds(), before) == [
        "times are not compared with main.json: it takes 3 rounds or more in both"
    ]
    assert len(outcomes_beside(in_rounds(), before)) == 2


def test_classes_of_one_side_are_named_on_one_line_each() -> None:
    before = Baseline(plain_result(strategies=[class_row("Gone"), class_row("Lost")]), "main.json")
    result = plain_result(strategies=[class_row("New", pages=1)])
    assert notes_beside(result, before)[:2] == [
        "not compared, as main.json does not have it: New",
        "in main.json, and not measured in this run: Gone and Lost",
    ]
    assert outcomes_beside(result, before) == []


# Checks that name it


@pytest.mark.parametrize(
    ("check", "line"),
    [
        ("statements <= baseline", "✓ Fast: statements 1 (baseline 1) <= baseline"),
        ("rows < baseline", "✗ Fast: rows 40 (baseline 40), not < baseline"),
        ("pages_per_s >= 0.9 * baseline", "✓ Fast: pages_per_s 1.00 ["),
        ("pages_per_s >= 1.2 * baseline", "✗ Fast: pages_per_s 1.00 ["),
        ("pages_per_s >= baseline", "? Fast: pages_per_s 1.00 ["),
        ("queue_ms <= baseline", "? Fast: queue_ms <= baseline: it takes 3 rounds in both, and a figure above 0"),
    ],
)
def test_checks_can_be_a_share_of_it(check: str, line: str) -> None:
    [found] = judge(in_rounds(), read_checks(f"Fast: {check}"), (), Baseline(in_rounds(), "main.json"))
    assert found.line.startswith(line)


def test_a_check_on_a_time_of_another_machine_is_undecided_and_on_what_it_does_not_have_fails() -> None:
    result = in_rounds()
    result.measured_on = {**HERE, "machine": "c3d4"}
    before = in_rounds()
    before.strategies = [row for row in before.strategies if row.user_class == "Fast"]
    found = judge(result, read_checks("p95_ms < 2 * baseline; rows <= baseline"), (), Baseline(before, "main.json"))
    assert [each.line for each in found] == [
        "? Fast: p95_ms < 2 * baseline: the baseline has machine a1b2 and now c3d4, and times are of one machine and"
        " its settings",
        "✗ Slow: p95_ms < 2 * baseline: main.json does not have it with this load",
        "✓ Fast: rows 40 (baseline 40) <= baseline",
        "✗ Slow: rows <= baseline: there is no such figure of baseline",
    ]


# Mistakes


def test_a_file_of_another_workload_is_refused() -> None:
    with pytest.raises(DbkitError, match=r"main\.json: it is of the workload albums, and this run reads books"):
        check_baseline(Baseline(plain_result(strategies=[class_row("A")]), "main.json"), {"todo list", "books"})
    with pytest.raises(DbkitError, match=r"main\.json: no class was measured in it"):
        check_baseline(Baseline(plain_result(), "main.json"), {"todo list"})
    check_baseline(Baseline(plain_result(strategies=[class_row("A")]), "main.json"), {"books", WORKLOAD})
