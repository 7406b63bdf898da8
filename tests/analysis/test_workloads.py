"""Classes of different workloads: in one result, each with a reference and words of its own, and never compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.headline import headline_of_mixed_run
from dbkit.analysis.mixed_run import result_of_mixed_run
from dbkit.analysis.parts import leading, parts
from dbkit.analysis.result import Result, WorkloadInfo
from dbkit.analysis.rounds import Rounds, result_of_rounds, take_verdicts
from dbkit.analysis.slot import Slot, UserClass
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally
from tests.slots import QUIET, class_row

PAGES = {
    "albums": {"AlbumsCore": 300.0, "AlbumsJoined": 200.0, "AlbumsLazy": 100.0},
    "orders": {"OrdersJoined": 30.0, "OrdersLazy": 10.0},
}
USER_CLASSES = {
    name: UserClass(name, stack, name, workload)
    for workload, classes in PAGES.items()
    for name, stack in zip(classes, ("psycopg", "asyncpg", "psycopg"), strict=False)
}


def slot(number: int, round_number: int, user_class: str, pages_per_s: float, **changes: Any) -> Slot:
    measured = Tally()
    for _ in range(5):
        measured.add(dict.fromkeys((*COUNTS, *PARTS, "think_ms"), 1.0), 1000 / pages_per_s, failed=False)
    measured.page_equivalents = pages_per_s
    made = Slot(number, round_number, Condition(user_class, Users(4)), began_s=number, processes=[QUIET])
    return replace(made, measured=measured, **changes)


def schedule(rounds: int = 4, *workloads: str) -> list[Slot]:
    """Rounds of all classes of the workloads, each a little faster than the one before."""
    slots: list[Slot] = []
    for number in range(rounds):
        for workload in workloads or PAGES:
            for name, pages_per_s in PAGES[workload].items():
                slots.append(slot(len(slots), number, name, pages_per_s * (1 + number / 50)))
    return slots


def result_of(slots: list[Slot], reference: str | None = None, **more: Any) -> Result:
    planned = sum(not (each.bare or each.replaced) for each in slots)
    return result_of_rounds(
        slots, USER_CLASSES, end="rollback", planned_slots=planned, measured_on={}, reference=reference, **more
    )


def info(name: str, *writing_classes: str) -> WorkloadInfo:
    return WorkloadInfo(name=name, pages="3 keys", check="pages are not checked", writing_classes=[*writing_classes])


def of_workload(slots: list[Slot], workload: str) -> list[Slot]:
    return [each for each in slots if USER_CLASSES[each.user_class].workload == workload]


# Each as if it had run alone


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rounds=st.integers(1, 4), named=st.sampled_from([None, *USER_CLASSES]))
def test_a_workload_has_the_rows_verdicts_and_words_that_it_would_have_alone(
    data: st.DataObject, rounds: int, named: str | None
) -> None:
    names = [*USER_CLASSES] * rounds
    values = data.draw(st.lists(st.floats(1, 1000) | st.just(0.0), min_size=len(names), max_size=len(names)))
    slots = [
        slot(number, number // len(USER_CLASSES), name, value or 1.0, replaced=not value)
        for number, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    together = result_of(slots, named)
    sentences = []
    for part in parts(together):
        own = of_workload(slots, part.workload)
        alone = result_of(own, named)
        assert part.strategies == alone.strategies
        assert part.verdicts == alone.verdicts
        assert part.against_fastest == alone.against_fastest
        assert part.slots == alone.slots
        assert part.references == alone.references.get(part.workload, [])
        sentences += [f"{part.workload}: {alone.headline[0]}", *alone.headline[1:]]
        members = {row.label for row in part.strategies}
        for verdict in (*part.verdicts, *part.against_fastest):
            assert {verdict.label, verdict.reference} <= members
    assert together.headline == sentences
    assert [row.workload for row in together.strategies] == sorted(row.workload for row in together.strategies)


def test_the_slowest_of_each_workload_is_its_reference_and_its_fastest_leads_its_sentences() -> None:
    result = result_of(schedule())
    assert {name: [each.label for each in found] for name, found in result.references.items()} == {
        "albums": ["AlbumsLazy"],
        "orders": ["OrdersLazy"],
    }
    assert [row.label for row in result.strategies] == [name for classes in PAGES.values() for name in classes]
    led = [sentence for sentence, leads in zip(result.headline, leading(result), strict=True) if leads]
    assert led == [
        "albums: AlbumsCore serves the most pages, 309 a second; every other class is shown to serve fewer.",
        "orders: OrdersJoined serves the most pages, 30.9 a second; every other class is shown to serve fewer.",
    ]


def test_a_reference_that_was_named_is_that_of_its_own_workload_alone() -> None:
    result = result_of(schedule(), "OrdersJoined")
    [orders], [albums] = result.references["orders"], result.references["albums"]
    assert (orders.label, orders.named, albums.label, albums.named) == ("OrdersJoined", True, "AlbumsLazy", False)
    # of the other workload the fastest was found in the data, and is spoken of
    assert {verdict.workload for verdict in result.against_fastest} == {"albums"}
    assert any(sentence.startswith("OrdersJoined serves") or "OrdersLazy" in sentence for sentence in result.headline)


def test_a_named_reference_that_has_not_been_measured_yet_is_known_to_be_of_its_workload() -> None:
    slots = [each for each in schedule() if each.user_class != "OrdersJoined"]
    slots.append(slot(99, 1, "OrdersJoined", 5.0, replaced=True))
    result = result_of(slots, "OrdersJoined")
    assert [verdict for verdict in result.verdicts if verdict.workload == "orders"] == []
    assert [each.label for each in result.references["albums"]] == ["AlbumsLazy"]


def test_a_workload_of_one_class_has_its_figures_in_words_and_no_reference() -> None:
    result = result_of([each for each in schedule() if each.user_class != "OrdersLazy"])
    assert [*result.references] == ["albums"]
    assert "orders: OrdersJoined serves 30.9 pages a second." in result.headline


def test_a_disturbed_run_says_once_that_nothing_is_claimed() -> None:
    busy = [replace(QUIET, steal_share=0.5)]
    result = result_of([replace(each, processes=busy) for each in schedule()])
    [sentence] = result.headline
    assert sentence.startswith("20 of 20 slots were disturbed")


def test_of_a_workload_whose_slots_were_disturbed_nothing_is_claimed() -> None:
    busy = [replace(QUIET, steal_share=0.5)]
    slots = schedule(5)
    for number in (3, 4):  # of the first round
        slots[number] = replace(slots[number], processes=busy)
        slots[number + 5] = replace(slots[number + 5], processes=busy)
    result = result_of(slots)
    assert "orders: 4 of 10 slots were disturbed by others on the machine, so nothing is claimed." in " ".join(
        result.headline
    )
    assert result.headline[0].startswith("albums: AlbumsCore serves the most pages")


def test_what_the_harness_takes_holds_together_within_a_workload() -> None:
    def calibrated(*workloads: str) -> list[Slot]:
        slots = schedule(4, *workloads)
        for each in [*slots]:
            process = replace(QUIET, bare_pages=1.1 * each.measured.page_equivalents * (1 + each.number % 3 / 100))
            bare = replace(each, number=100 + each.number, bare=True, measured=Tally(), processes=[process])
            slots.append(bare)
        return slots

    together = {row.label: row for row in result_of(calibrated()).strategies}
    for workload in PAGES:
        slots = [each for each in calibrated() if USER_CLASSES[each.user_class].workload == workload]
        for row in result_of(slots).strategies:
            assert row.harness_share is not None
            assert row == together[row.label]


# While it runs


def test_verdicts_of_an_earlier_result_are_taken_with_the_references_of_all_workloads() -> None:
    rounds = Rounds(USER_CLASSES, end="rollback")
    for each in schedule():
        rounds.add(each)
    earlier = rounds.result(20, {})
    later = rounds.result(20, {}, [])
    assert later.verdicts == []
    take_verdicts(later, earlier)
    assert (later.references, later.verdicts, later.headline) == (
        earlier.references,
        earlier.verdicts,
        earlier.headline,
    )


# Runs without rounds


def test_a_mixed_run_adds_up_the_pages_of_one_workload_only() -> None:
    rows = [class_row(name, workload=USER_CLASSES[name].workload, pages_per_s=10.0) for name in USER_CLASSES]
    rows.append(class_row("Failing", workload="views", pages_per_s=None))
    assert headline_of_mixed_run(rows) == [
        "albums: 3 user classes served 30 pages a second together.",
        "orders: 2 user classes served 20 pages a second together.",
        "views: no page was served.",
        "All of them ran at once. This does not show which class is faster.",
    ]
    [*_, only, _] = headline_of_mixed_run(rows[:4])
    assert only == "orders: 1 user class served 10 pages a second."


def test_the_rows_of_a_mixed_run_are_in_order_of_their_workloads() -> None:
    tallies = {name: slot(0, 1, name, value).measured for classes in PAGES.values() for name, value in classes.items()}
    result = result_of_mixed_run(
        dict(reversed(tallies.items())),
        USER_CLASSES,
        seconds=1,
        users=5,
        chosen=5,
        end="rollback",
        measured_on={},
        workloads=[info("albums"), info("orders", "OrdersJoined")],
    )
    assert [row.workload for row in result.strategies] == ["albums"] * 3 + ["orders"] * 2
    assert "pages of OrdersJoined write, and their tables grow during the run" in result.warnings


# What is said of workloads


@pytest.mark.parametrize(
    ("writing", "said"),
    [
        ((), []),
        (("OrdersJoined",), ["pages of OrdersJoined"]),
        (("OrdersLazy", "OrdersJoined"), ["pages of OrdersJoined and OrdersLazy"]),
        (("OrdersLazy", "OrdersJoined", "OrdersReset"), ["pages of OrdersJoined and OrdersLazy"]),
        (("OrdersReset",), []),
    ],
)
def test_pages_that_write_and_are_not_reset_are_warned_of(writing: tuple[str, ...], said: list[str]) -> None:
    orders = info("orders", *writing)
    orders.reset_classes = ["OrdersReset"]
    result = result_of(schedule(), workloads=[info("albums"), orders])
    assert [warning for warning in result.warnings if "write" in warning] == [
        f"{who} write, and their tables grow during the run; give them a reset, which runs before each slot"
        for who in said
    ]
    assert [each.name for each in result.workloads] == ["albums", "orders"]


def test_there_is_always_a_part() -> None:
    [empty] = parts(result_of([]))
    assert (empty.workload, empty.strategies, empty.info) == ("", [], None)
    [described] = parts(result_of([], workloads=[info("orders")]))
    assert (described.workload, described.info) == ("orders", info("orders"))


def test_in_a_run_of_one_workload_nobody_speaks_of_it() -> None:
    result = result_of(schedule(4, "albums"))
    assert leading(result) == [True, *([False] * (len(result.headline) - 1))]
    assert not any("albums" in sentence for sentence in result.headline)
