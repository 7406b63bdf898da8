"""From slots to the result: who is first and compared with whom, what counts, is warned of, and is unknown."""

from __future__ import annotations

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import exp, sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.mixed_run import result_of_mixed_run
from dbkit.analysis.records import ClassRow
from dbkit.analysis.result import Result
from dbkit.analysis.rounds import result_of_rounds
from dbkit.analysis.slot import ProcessSlot, Slot, UserClass
from dbkit.analysis.verdict import LARGEST_LOG
from dbkit.analysis.warnings import MIXED_WARNING
from dbkit.errors import DbkitError
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally
from dbkit.output.csv_files import FILES, write_file
from dbkit.output.writing import check_writable, write_text
from tests.slots import QUIET, known

USER_CLASSES = {name: UserClass(name, "psycopg", name.lower(), "todo list") for name in ("Fast", "Middle", "Slow")}
PAGES = {"Fast": 300, "Middle": 200, "Slow": 100}
USERS = 10


def tally(pages: int, response_ms: float, failures: int = 0, think_ms: float = 0.0, **parts: float) -> Tally:
    """Pages that are all alike, of three round trips; the rest of their time is the database's."""
    cost: dict[str, float] = dict.fromkeys((*COUNTS, *PARTS), 0) | {"statements": 1.0, "rows": 40.0}
    cost |= {"round_trips": 3, "think_ms": think_ms, **parts}
    cost["db_ms"] = response_ms - sum(parts.get(part, 0) for part in PARTS)
    made = Tally()
    for number in range(pages):
        made.add(cost, response_ms, failed=number < failures)
    made.page_equivalents = pages - failures
    return made


def slot(number: int, round_number: int, user_class: str, measured: Tally | None = None, **changes: Any) -> Slot:
    """A second with ten users, on a quiet machine with a server of its own."""
    pages = PAGES[user_class]
    made = Slot(
        number,
        round_number,
        Condition(user_class, Users(USERS)),
        began_s=number * 1.5,
        server_cpu_s=0.1,
        server_seconds=1.3,
        server_machine="here",
        server_cores=4,
        processes=[QUIET],
        measured=tally(pages, 1000 * USERS / pages) if measured is None else measured,
        warm_up=tally(30, 30),
    )
    return replace(made, **changes)


def schedule(rounds: int) -> list[Slot]:
    """Complete rounds, each a little faster than the one before."""
    slots: list[Slot] = []
    for number in range(rounds):
        for name in ("Slow", "Fast", "Middle"):
            slots.append(slot(len(slots), number + 1, name, tally(PAGES[name] + number, 30)))
    return slots


def result_of(slots: list[Slot], planned: int | None = None, reference: str | None = None) -> Result:
    result = result_of_rounds(
        slots,
        USER_CLASSES,
        end="rollback",
        planned_slots=len(slots) if planned is None else planned,
        measured_on={"seed": 1},
        reference=reference,
    )
    assert result.missing == []
    return result


def reference_of(result: Result) -> str:
    """The reference of the only workload."""
    [[reference]] = result.references.values()
    return reference.label


def write_files(result: Result, prefix: str) -> None:
    for name in FILES:
        write_file(result, name, f"{prefix}_{name}")


def written(folder: Path) -> list[Path]:
    return [folder / f"run_{name}" for name in ("strategies.csv", "slots.csv", "comparison.json")]


def rows_by_class(result: Result) -> dict[str, ClassRow]:
    return {row.user_class: row for row in result.strategies}


# Who is first, and who is compared with whom


def test_classes_are_in_the_order_of_the_pages_they_serve() -> None:
    assert [row.user_class for row in result_of(schedule(3)).strategies] == ["Fast", "Middle", "Slow"]


def test_slots_are_in_the_order_in_which_they_ran() -> None:
    slots = schedule(3)
    assert [row.slot for row in result_of(slots).slots] == [slot.number for slot in slots]


@pytest.mark.parametrize(("reference", "compared_with"), [(None, "Slow"), ("Fast", "Fast"), ("Middle", "Middle")])
def test_classes_are_compared_with_the_reference_or_else_the_slowest(reference: str | None, compared_with: str) -> None:
    result = result_of(schedule(4), reference=reference)
    assert reference_of(result) == compared_with
    assert {verdict.reference for verdict in result.verdicts} == {compared_with}
    assert {verdict.label for verdict in result.verdicts} == USER_CLASSES.keys() - {compared_with}


def test_a_class_of_which_nothing_was_measured_is_not_what_others_are_compared_with() -> None:
    slots = [
        replace(slot, measured=Tally(), warm_up=Tally()) if slot.user_class == "Slow" else slot for slot in schedule(3)
    ]
    result = result_of(slots)
    assert reference_of(result) == "Middle"
    assert {verdict.label for verdict in result.verdicts} == {"Fast"}


def test_one_class_alone_has_figures_and_no_verdict() -> None:
    result = result_of([slot for slot in schedule(3) if slot.user_class == "Fast"])
    assert [row.user_class for row in result.strategies] == ["Fast"]
    assert (result.verdicts, result.references) == ([], {})


def test_a_verdict_is_on_the_figures_of_the_slots() -> None:
    result = result_of(schedule(5), reference="Slow")
    [verdict] = [v for v in result.verdicts if (v.label, v.quantity) == ("Fast", "pages_per_s")]
    assert verdict.rounds == 5
    # from 300 : 100 in the first round to 304 : 104 in the last
    assert 304 / 104 < known(verdict.ratio) < 300 / 100
    assert known(verdict.low) < known(verdict.ratio) < known(verdict.high)
    assert verdict.shown


def test_no_result_at_all_is_a_result() -> None:
    result = result_of([], planned=3)
    assert (result.strategies, result.slots, result.verdicts, result.references) == ([], [], [], {})


# What counts


def test_the_figures_of_a_class_are_those_of_its_slots_together() -> None:
    slots = [
        slot(0, 1, "Fast", tally(100, 40.0, pool_ms=10.0), processes=[replace(QUIET, cpu_s=0.2)]),
        slot(1, 2, "Fast", tally(300, 20.0, pool_ms=2.0), processes=[replace(QUIET, cpu_s=0.3)]),
    ]
    [row] = result_of(slots).strategies
    assert (row.rounds, row.pages, row.users, row.statements, row.rows) == (2, 400, USERS, 1, 40)
    assert row.pages_per_s == pytest.approx(sqrt(100 * 300))
    assert (row.p50_ms, row.p95_ms, row.max_ms) == (20.0, 40.0, 40.0)
    assert row.pool_ms == pytest.approx((100 * 10 + 300 * 2) / 400)
    assert row.client_cpu_ms == pytest.approx(1000 * (0.2 + 0.3) / 400)
    assert sum(getattr(row, part) for part in PARTS) == pytest.approx((100 * 40 + 300 * 20) / 400)


def test_the_cpu_time_of_all_processes_counts() -> None:
    one, other = replace(QUIET, cpu_s=0.4), replace(QUIET, cpu_s=0.2, machine="elsewhere")
    [row] = result_of([slot(0, 1, "Fast", tally(200, 50), processes=[one, other])]).slots
    assert row.client_cpu_ms == pytest.approx(3.0)
    assert row.client_cpu_share == pytest.approx(0.4)


def test_failed_pages_are_counted_and_in_no_other_figure() -> None:
    result = result_of([slot(0, 1, "Fast", tally(100, 10, failures=30))])
    [row] = result.strategies
    assert (row.pages, row.failures, row.pages_per_s) == (100, 30, 70)
    assert row.statements == 1
    assert any(warning.startswith("Fast: 30 of 100 pages failed") for warning in result.warnings)


def test_a_slot_that_was_run_again_is_in_its_table_and_nowhere_else() -> None:
    good = schedule(4)
    strange = slot(99, 2, "Fast", tally(7, 900, failures=3), replaced=True)
    with_it, without = result_of([*good, strange], planned=len(good)), result_of(good)
    assert with_it.strategies == without.strategies
    assert with_it.verdicts == without.verdicts
    assert [row.slot for row in with_it.slots if row.replaced] == [99]
    assert any("run again: 1" in warning for warning in with_it.warnings)


def test_the_warm_up_is_in_no_figure() -> None:
    cold = [replace(slot, warm_up=tally(5000, 1)) for slot in schedule(3)]
    assert result_of(cold).strategies == [
        changed(row, server_cpu_ms=rows_by_class(result_of(cold))[row.user_class].server_cpu_ms)
        for row in result_of(schedule(3)).strategies
    ]
    assert {row.warm_up_pages for row in result_of(cold).slots} == {5000}


# What is warned of


def test_a_good_run_has_no_warnings() -> None:
    assert result_of(schedule(3)).warnings == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"measured": replace(tally(200, 50), unfinished=2)}, "they did not come back within --drain-timeout: 2"),
        ({"warm_up": replace(tally(9, 50), unfinished=3)}, "they did not come back within --drain-timeout: 3"),
        ({"processes": [replace(QUIET, steal_share=0.5)]}, "disturbed by others on the machine, and counted: 1 of 1"),
        ({"processes": [replace(QUIET, busy_share=0.8)]}, "disturbed by others on the machine, and counted: 1 of 1"),
        ({"incomplete": True}, "a worker was lost, and counted: 1 of 1"),
        ({"measured": Tally()}, "no page of Fast began in its slots' measured time, so that response times and costs"),
        ({"measured": tally(99, 50)}, "these are no more than the slowest page: p99 of Fast (99 pages)"),
        ({"measured": tally(19, 50)}, "these are no more than the slowest page: p95 and p99 of Fast (19 pages)"),
        ({"measured": tally(120, 50, failures=119)}, "p50, p95 and p99 of Fast (1 page)"),
        (
            {"processes": [replace(QUIET, users_short=3), replace(QUIET, users_short=1)]},
            "4 of 10 users of Fast read fewer than 3 pages in a slot; raise --max-slot-time",
        ),
    ],
)
def test_what_makes_figures_doubtful_is_warned_of(changes: dict[str, Any], said: str) -> None:
    assert any(said in warning for warning in result_of([slot(0, 1, "Fast", **changes)]).warnings)


def test_users_that_read_little_are_counted_in_the_slot_where_they_were_the_most() -> None:
    slots = [
        slot(number, number, "Slow", processes=[replace(QUIET, users_short=short)])
        for number, short in enumerate((2, 7, 3))
    ]
    [warning] = result_of(slots).warnings
    assert warning.startswith("7 of 10 users of Slow read fewer than 3 pages in a slot")


def test_a_schedule_cut_short_says_how_far_it_came() -> None:
    [warning] = result_of(schedule(2), planned=45).warnings
    assert warning.startswith("cut short: 6 of 45 slots")


def test_a_mixed_run_says_what_it_gets_wrong() -> None:
    def mixed(*names: str) -> Result:
        tallies = {name: tally(PAGES[name], 30) for name in names}
        return result_of_mixed_run(
            tallies, USER_CLASSES, seconds=2, users=5, chosen=len(names), end="rollback", measured_on={}
        )

    assert MIXED_WARNING in mixed("Fast", "Slow").warnings
    assert mixed("Fast").warnings == []
    assert [(row.user_class, row.pages_per_s) for row in mixed("Slow", "Fast").strategies] == [
        ("Fast", 150),
        ("Slow", 50),
    ]
    assert mixed("Slow", "Fast").verdicts == []


# What keeps a comparison from being one


def test_pages_that_spent_time_on_opening_connections_are_warned_of() -> None:
    slots = [slot(0, 1, "Fast", tally(100, 50, connect_ms=4.0)), slot(1, 1, "Slow", tally(100, 50, connect_ms=1.0))]
    [warning] = [each for each in result_of(slots).warnings if "opening connections" in each]
    assert warning.startswith("pages of Fast spent time on opening connections; raise --pool-size")


def test_of_several_classes_those_that_did_not_run_are_missed() -> None:
    tallies = {"Fast": tally(300, 30)}
    result = result_of_mixed_run(tallies, USER_CLASSES, seconds=2, users=1, chosen=3, end="rollback", measured_on={})
    assert (result.mixed, MIXED_WARNING in result.warnings) == (True, False)
    assert result.warnings == ["of 3 classes only Fast read pages; give 3 users or more, or name the classes"]


@pytest.mark.parametrize(("users", "is_said"), [(2, True), (3, False)])
def test_fewer_users_than_classes_are_warned_of(users: int, is_said: bool) -> None:
    tallies = {name: tally(300, 30) for name in ("Fast", "Slow")}
    result = result_of_mixed_run(
        tallies, USER_CLASSES, seconds=2, users=users, chosen=3, end="rollback", measured_on={}
    )
    said = "of 3 classes only 2 read pages; give 3 users or more, or name the classes"
    assert (said in result.warnings) is is_said


# Slots in which no page was served


def test_a_class_with_an_empty_slot_has_no_ratio_of_pages_a_second_and_a_warning_says_so() -> None:
    slots = schedule(4)
    slots[1] = slot(1, 1, "Fast", Tally())  # in which the fastest served nothing
    result = result_of(slots)
    on_pages = {verdict.label for verdict in result.verdicts if verdict.quantity == "pages_per_s"}
    assert on_pages == {"Middle"}
    assert "Fast served no page in 1 of 4 slots, and so has no ratio of pages a second" in result.warnings
    assert not any("raise --slot-time" in warning for warning in result.warnings)
    assert rows_by_class(result)["Fast"].pages_per_s == pytest.approx((301 + 302 + 303) / 4)
    assert (
        result.headline[0] == "Middle serves the most pages, 201 a second; every other class is shown to serve fewer."
    )
    assert result.headline[-1] == "Without a ratio, as no page was served in some slot: Fast."


def test_the_others_are_not_compared_with_a_class_that_has_an_empty_slot() -> None:
    slots = schedule(4)
    slots[0] = slot(0, 1, "Slow", Tally())
    assert reference_of(result_of(slots)) == "Middle"


def test_a_class_that_served_no_page_was_bound_by_nothing() -> None:
    slots = [slot(number, 1, name, Tally() if name == "Slow" else None) for number, name in enumerate(("Fast", "Slow"))]
    result = result_of(slots)
    assert rows_by_class(result)["Slow"].bound_by is None
    assert [row.bound_by is None for row in result.slots] == [False, True]


# What an answer waited for


def test_of_db_the_wait_of_an_answer_for_python_is_told_apart() -> None:
    # three round trips a page, each of which ends with an answer that waits for 10 ms, for nine of the ten users
    late = replace(QUIET, lane_lag_ms=10.0)
    result = result_of([slot(0, 1, "Fast", tally(200, 50, client_ms=15.0), processes=[late])])
    for row in (*result.slots, *result.strategies):
        assert (row.db_ms, row.answer_wait_ms, row.server_wait_ms) == (35, 27, 8)
        assert row.largest_part == "answer wait"


def test_an_answer_waits_no_longer_than_db_took() -> None:
    late = replace(QUIET, lane_lag_ms=1000.0)
    [row] = result_of([slot(0, 1, "Fast", tally(200, 50, client_ms=15.0), processes=[late])]).strategies
    assert (row.answer_wait_ms, row.server_wait_ms) == (35, 0)


def test_the_answer_wait_of_a_class_is_that_of_its_pages() -> None:
    slots = [
        slot(0, 1, "Fast", tally(100, 40.0), processes=[replace(QUIET, lane_lag_ms=2.0)]),
        slot(1, 2, "Fast", tally(300, 20.0), processes=[replace(QUIET, lane_lag_ms=1.0)]),
    ]
    [row] = result_of(slots).strategies
    assert row.answer_wait_ms == pytest.approx(0.9 * (100 * 3 * 2.0 + 300 * 3 * 1.0) / 400)  # of ten users nine others
    assert known(row.answer_wait_ms) + known(row.server_wait_ms) == pytest.approx(row.db_ms)


def test_a_run_without_rounds_does_not_know_what_an_answer_waited_for() -> None:
    tallies = {"Fast": tally(300, 30)}
    [row] = result_of_mixed_run(
        tallies, USER_CLASSES, seconds=2, users=1, chosen=1, end="rollback", measured_on={}
    ).strategies
    assert (row.server_wait_ms, row.answer_wait_ms, row.largest_part) == (row.db_ms, None, None)


# Where the machine matters


@pytest.mark.parametrize(("cores", "other"), [(4, 0.3), (16, 0.45)])
def test_what_others_used_is_a_share_of_the_cores_of_the_machine_it_was_on(cores: int, other: float) -> None:
    elsewhere = replace(QUIET, machine="elsewhere", cores=cores, cpu_s=0.8, busy_share=0.5)
    [row] = result_of([slot(0, 1, "Fast", processes=[elsewhere])]).slots
    assert row.other_cpu_share == pytest.approx(other)


# Stalls


@pytest.mark.parametrize(
    ("stack", "consequence"),
    [("psycopg", "its pages are read there, and waited for it"), ("asyncpg", "no page waited for it")],
)
@pytest.mark.parametrize("cpu_s", [0.1, 0.99])
def test_a_stall_of_the_hub_is_warned_of_with_what_it_did(stack: str, consequence: str, cpu_s: float) -> None:
    stalled = [replace(QUIET, cpu_s=cpu_s), replace(QUIET, hub_stall_ms=52.0, cpu_s=cpu_s)]
    slots = [slot(0, 1, "Fast", processes=stalled), slot(1, 2, "Fast")]
    user_classes = {"Fast": UserClass("Fast", stack, "joined", "todo list")}
    result = result_of_rounds(slots, user_classes, end="rollback", planned_slots=2, measured_on={})
    assert [row.hub_stall_ms for row in result.slots] == [52, 0]
    assert result.warnings == [f"the gevent hub stalled in 1 slot of Fast, for up to 52 ms: {consequence}"]


def test_a_figure_below_0_in_one_slot_takes_no_verdict_from_the_others() -> None:
    slots = schedule(4)
    slots[4] = replace(slots[4], server_cpu_s=-1.9)
    result = result_of(slots)
    [of_others] = [each for each in result.verdicts if (each.quantity, each.label) == ("server_cpu_ms", "Middle")]
    assert of_others.rounds == 4 and of_others.low is not None


# Pages that were cut off


def test_pages_cut_off_are_in_the_table_and_the_warnings_of_a_mixed_run(tmp_path: Path) -> None:
    tallies = {"Fast": replace(tally(300, 30), unfinished=4)}
    result = result_of_mixed_run(tallies, USER_CLASSES, seconds=2, users=4, chosen=1, end="rollback", measured_on={})
    write_files(result, str(tmp_path / "run"))
    [row] = csv.DictReader((tmp_path / "run_strategies.csv").read_text().splitlines())
    assert row["unfinished"] == "4"
    assert result.warnings == ["pages cut off, and failed, as they did not come back within --drain-timeout: 4"]


def test_think_time_is_told_of_all_pages() -> None:
    result = result_of([slot(0, 1, "Fast", tally(100, 10, failures=30, think_ms=20.0))])
    assert {row.think_ms for row in (*result.slots, *result.strategies)} == {20}


# Pages a second, their order and their ratios

levels = st.floats(10, 1000)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), rounds=st.integers(3, 5), steal=st.booleans())
def test_pages_a_second_divided_are_the_ratio_and_their_order_is_the_ranking(
    data: st.DataObject, rounds: int, steal: bool
) -> None:
    slots: list[Slot] = []
    for number in range(rounds):
        for name in USER_CLASSES:
            share = data.draw(st.floats(0, 0.2)) if steal else 0.0
            measured = replace(tally(200, 50), page_equivalents=data.draw(levels))
            slots.append(slot(len(slots), number, name, measured, processes=[replace(QUIET, steal_share=share)]))
    del slots[data.draw(st.integers(0, len(slots) - 1))]
    result = result_of(slots)
    rates = {row.user_class: known(row.pages_per_s) for row in result.strategies}
    assert [*rates.values()] == sorted(rates.values(), reverse=True)
    for verdict in (*result.verdicts, *result.against_fastest):
        if verdict.quantity == "pages_per_s":
            ratio = rates[verdict.label] / rates[verdict.reference]
            if exp(-LARGEST_LOG) < ratio < exp(LARGEST_LOG):  # further out the verdict's stays where it is
                assert verdict.ratio == pytest.approx(ratio, rel=1e-4)
    assert reference_of(result) == [*rates][-1]


def test_intervals_of_a_named_reference_are_narrower_and_others_are_not_compared() -> None:
    slots = [
        replace(each, measured=replace(each.measured, page_equivalents=each.measured.pages * (1 + 0.03 * (number % 4))))
        for number, each in enumerate(schedule(5))
    ]

    def width(result: Result) -> float:
        [verdict] = [v for v in result.verdicts if (v.label, v.quantity) == ("Fast", "pages_per_s")]
        return known(verdict.high) / known(verdict.low)

    found, named = result_of(slots), result_of(slots, reference="Slow")
    assert reference_of(found) == reference_of(named) == "Slow"
    assert width(named) < width(found)
    assert [result.references["todo list"][0].named for result in (found, named)] == [False, True]
    assert {verdict.reference for verdict in found.against_fastest} == {"Fast"}
    assert named.against_fastest == []


# Conditions that differ in more than their class


def conditions_of_one_class(rounds: int = 4) -> list[Slot]:
    """Rounds of `Fast` with 5 and with 10 users, and of `Slow` with 10 users and with two sizes of the pool."""
    pages = {
        Condition("Fast", Users(5)): 300,
        Condition("Fast", Users(10)): 200,
        Condition("Slow", Users(10), (("pool-size", "5"),)): 100,
        Condition("Slow", Users(10), (("pool-size", "50"),)): 50,
    }
    return rounds_of(pages, rounds)


def rounds_of(pages: dict[Condition, int], rounds: int = 4) -> list[Slot]:
    """Rounds in which each condition serves so many pages a second, a few more in each."""
    slots: list[Slot] = []
    for number in range(rounds):
        for condition, count in pages.items():
            measured = tally(count + number, 30)
            slots.append(slot(len(slots), number + 1, condition.user_class, measured, condition=condition))
    return slots


def test_conditions_of_one_class_have_rows_of_their_own_and_are_compared_where_one_thing_alone_differs() -> None:
    result = result_of(conditions_of_one_class())
    assert [(row.condition, row.label, row.user_class, row.users, row.settings) for row in result.strategies] == [
        ("Fast, 5 users", "Fast, 5 users", "Fast", 5, {}),
        ("Fast, 10 users", "Fast, 10 users", "Fast", 10, {}),
        ("Slow, 10 users, pool-size=5", "Slow, 10 users, pool-size=5", "Slow", 10, {"pool-size": "5"}),
        ("Slow, 10 users, pool-size=50", "Slow, 10 users, pool-size=50", "Slow", 10, {"pool-size": "50"}),
    ]
    assert {row.rounds for row in result.strategies} == {4}
    assert [row.pages for row in result.strategies] == [4 * count + 6 for count in (300, 200, 100, 50)]
    on_pages = [verdict for verdict in result.verdicts if verdict.quantity == "pages_per_s"]
    assert [(verdict.label, verdict.reference, verdict.differs_in) for verdict in on_pages] == [
        ("Slow, 10 users, pool-size=50", "Slow, 10 users, pool-size=5", "pool-size")
    ]
    assert (
        result.headline[0]
        == "Fast serves the most pages with 5 users, 301 a second; with any other load fewer are shown."
    )


def test_conditions_that_differ_in_their_class_alone_are_called_by_it() -> None:
    for row in (*(result := result_of(schedule(3))).strategies, *result.slots):
        assert (row.label, row.condition) == (row.user_class, f"{row.user_class}, 10 users")


def test_the_files_say_which_condition_a_row_belongs_to_where_more_than_the_class_differs(tmp_path: Path) -> None:
    write_files(result_of(conditions_of_one_class(2)), str(tmp_path / "more"))
    write_files(result_of(schedule(2)), str(tmp_path / "classes"))
    for name, count in (("strategies", 4), ("slots", 8)):
        rows = list(csv.DictReader((tmp_path / f"more_{name}.csv").read_text().splitlines()))
        assert len(rows) == count
        assert len({row["condition"] for row in rows}) == 4
        assert "condition" not in (tmp_path / f"classes_{name}.csv").read_text()
    content = json.loads((tmp_path / "classes_comparison.json").read_text())
    assert {row["condition"] for row in content["slots"]} == {f"{name}, 10 users" for name in USER_CLASSES}


# What the harness takes

STACKS = {
    name: UserClass(name, stack, "joined", "todo list") for name, stack in (("Fast", "psycopg"), ("Middle", "asyncpg"))
}


def calibrated(through: dict[str, float], bare: dict[str, float], rounds: int = 5) -> list[Slot]:
    """Slots in which classes serve `through` and `bare` pages a second, give or take 1 %."""
    slots: list[Slot] = []
    for number in range(rounds):
        for place, name in enumerate(through):
            scatter = 1 + 0.01 * ((number * 2 + place) % 3 - 1)
            measured = replace(tally(200, 50), page_equivalents=through[name] * scatter)
            slots.append(slot(len(slots), number, name, measured))
        for place, name in enumerate(bare):
            process = replace(QUIET, bare_pages=bare[name] * (1 + 0.01 * ((number + place) % 3 - 1)))
            slots.append(slot(len(slots), number, name, Tally(), warm_up=Tally(), processes=[process], bare=True))
    return slots


def result_of_calibrated(slots: list[Slot]) -> Result:
    planned = sum(not slot.bare for slot in slots)
    return result_of_rounds(slots, STACKS, end="rollback", planned_slots=planned, measured_on={})


def test_bare_slots_are_in_no_row_verdict_or_warning_and_give_what_the_harness_takes() -> None:
    slots = calibrated({"Fast": 300, "Middle": 200}, {"Fast": 310, "Middle": 250})
    # neither their disturbance nor their missing pages are the classes'
    slots = [replace(each, incomplete=each.bare) for each in slots]
    result, without = result_of_calibrated(slots), result_of_calibrated([each for each in slots if not each.bare])
    assert result.warnings == [] and result.state == "complete"
    assert [row.slot for row in result.slots] == [each.number for each in slots if not each.bare]
    assert [row.slot for row in result.calibration] == [each.number for each in slots if each.bare]
    assert {row.user_class for row in result.calibration} == {"Fast", "Middle"}
    shares = ("harness_share", "harness_share_low", "harness_share_high")
    for row, plain in zip(result.strategies, without.strategies, strict=True):
        assert [getattr(plain, name) for name in shares] == [None] * 3
        assert row == changed(plain, **{name: getattr(row, name) for name in shares})
        expected = 1 - 300 / 310 if row.user_class == "Fast" else 1 - 200 / 250
        assert known(row.harness_share_low) < expected < known(row.harness_share_high)
        assert row.harness_share == pytest.approx(expected, abs=0.01)
    assert [row.pages_per_s for row in result.calibration][:2] == pytest.approx([310 * 0.99, 250])
    assert [v.ratio for v in result.verdicts] == [v.ratio for v in without.verdicts]


def test_a_class_with_an_empty_bare_slot_has_no_harness_share() -> None:
    slots = calibrated({"Fast": 300, "Middle": 200}, {"Fast": 310, "Middle": 250})
    first_bare = next(place for place, each in enumerate(slots) if each.bare)
    slots[first_bare] = replace(slots[first_bare], processes=[replace(QUIET, bare_pages=0.0)])
    rows = rows_by_class(result_of_calibrated(slots))
    assert rows["Fast"].harness_share is None
    assert rows["Middle"].harness_share == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("bare", "within"),
    [
        ({"Fast": 300, "Middle": 300}, True),  # the harness takes a third of the one alone
        ({"Fast": 310, "Middle": 320}, True),  # bare it is the other way round
        ({"Fast": 310, "Middle": 210}, False),
        ({}, False),  # not calibrated
    ],
)
def test_a_difference_between_stacks_within_what_the_harness_takes_says_so(
    bare: dict[str, float], within: bool
) -> None:
    result = result_of_calibrated(calibrated({"Fast": 300, "Middle": 200}, bare))
    [verdict] = [verdict for verdict in result.verdicts if verdict.quantity == "pages_per_s"]
    assert verdict.shown
    assert verdict.within_harness == within
    assert ("the harness can account for this difference" in verdict.sentence) == within
    assert any("can account for the difference from Fast to Middle" in said for said in result.headline) == within
    others = [verdict for verdict in result.verdicts if verdict.quantity != "pages_per_s"]
    assert not any(verdict.within_harness for verdict in others)


# What is unknown


def test_a_server_elsewhere_has_no_cpu_time() -> None:
    elsewhere = [replace(slot, server_cpu_s=None, server_machine=None) for slot in schedule(3)]
    result = result_of(elsewhere)
    for row in (*result.slots, *result.strategies):
        assert row.server_cpu_ms is None
        assert known(row.client_cpu_ms) > 0
    assert {row.other_cpu_share for row in result.slots} == {None}
    assert "server_cpu_ms" not in {verdict.quantity for verdict in result.verdicts}
    assert "client_cpu_ms" in {verdict.quantity for verdict in result.verdicts}


def test_a_system_that_tells_nothing_of_the_machine_is_not_disturbed_and_not_adjusted_for() -> None:
    silent = replace(QUIET, busy_share=None, steal_share=None, pressure_share=None)
    result = result_of([replace(slot, processes=[silent]) for slot in schedule(6)])
    for row in result.slots:
        assert (row.steal_share, row.pressure_share, row.other_cpu_share) == (None, None, None)
        assert not row.disturbed
    assert {verdict.steal_adjusted for verdict in result.verdicts} == {False}


def test_a_slot_that_no_process_reported_has_no_figures() -> None:
    [row] = result_of([slot(0, 1, "Fast", Tally(), processes=[], warm_up=Tally())]).slots
    figures = ("pages_per_s", "p50_ms", "max_ms", "statements", "db_ms", "client_cpu_ms", "bound_by", "hub_lag_ms")
    assert {name: getattr(row, name) for name in figures} == dict.fromkeys(figures)


# What is written

shares = st.none() | st.floats(0, 1)
processes = st.builds(
    ProcessSlot,
    seconds=st.floats(0.001, 100),
    cpu_s=st.floats(0, 100),
    core_wait_s=st.floats(0, 100),
    hub_lag_ms=st.floats(0, 1000),
    lane_lag_ms=st.floats(0, 1000),
    hub_stall_ms=st.floats(0, 1000),
    machine=st.sampled_from(["here", "elsewhere"]),
    cores=st.integers(1, 64),
    busy_share=shares,
    steal_share=shares,
    pressure_share=shares,
)
tallies = st.builds(tally, pages=st.integers(0, 5), response_ms=st.floats(0, 1e6), failures=st.integers(0, 5)).map(
    lambda made: replace(made, page_equivalents=max(made.page_equivalents, 0.0))
)
any_slots = st.lists(
    st.builds(
        Slot,
        number=st.integers(0, 100),
        round=st.integers(1, 4),
        condition=st.builds(
            Condition, st.sampled_from(sorted(USER_CLASSES)), st.builds(Users, st.integers(1, 50)), st.just(())
        ),
        began_s=st.floats(0, 1000),
        server_cpu_s=st.none() | st.floats(0, 100),
        server_seconds=st.floats(0.001, 100),
        server_machine=st.sampled_from([None, "here"]),
        processes=st.lists(processes, max_size=3),
        measured=tallies,
        warm_up=tallies,
        incomplete=st.booleans(),
        replaced=st.booleans(),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(slots=any_slots, reference=st.none() | st.sampled_from(sorted(USER_CLASSES)))
def test_any_result_is_plain_json(slots: list[Slot], reference: str | None) -> None:
    told = result_of(slots, reference=reference).as_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_the_files_hold_the_result(tmp_path: Path) -> None:
    result = result_of(schedule(3))
    write_files(result, str(tmp_path / "new folder" / "run"))
    paths = written(tmp_path / "new folder")
    assert [path.name for path in paths] == ["run_strategies.csv", "run_slots.csv", "run_comparison.json"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)
    assert json.loads(paths[2].read_text()) == result.as_json()
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["user_class"] for row in rows] == ["Fast", "Middle", "Slow"]
    assert [float(row["pages_per_s"]) for row in rows] == [row.pages_per_s for row in result.strategies]


def test_the_files_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    write_files(result_of(schedule(5)), str(tmp_path / "run"))
    write_files(result_of(schedule(1)), str(tmp_path / "run"))
    paths = written(tmp_path)
    assert len(paths[1].read_text().splitlines()) == 1 + 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_place_that_cannot_be_written_is_told_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DbkitError, match="--csv") as mistake:
        write_files(result_of(schedule(1)), str(tmp_path / "file" / "run"))
    assert "\n" not in str(mistake.value)


def test_a_link_stays_and_its_target_gets_the_text_with_the_mode_that_it_had(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(str(link), "after", option="--report")
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "after", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_a_pipe_takes_the_text_and_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(str(pipe), option="--report")
    with ThreadPoolExecutor() as executor:
        read = executor.submit(pipe.read_text)
        write_text(str(pipe), "the report", option="--report")
        assert (read.result(60), pipe.is_fifo()) == ("the report", True)
