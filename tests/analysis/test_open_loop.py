"""What is said of rounds in which pages arrive: who keeps up, and how long pages take where they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbkit.analysis.condition import Arrivals, Condition, Users, labels
from dbkit.analysis.mixed_run import result_of_mixed_run
from dbkit.analysis.result import Result
from dbkit.analysis.rounds import result_of_rounds
from dbkit.analysis.slot import ProcessSlot, Slot, UserClass
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally

CLASSES = {name: UserClass(name, "psycopg", name.lower(), "albums") for name in ("Fast", "Slow")}
SERVICE_MS = {"Fast": 4.0, "Slow": 9.0}
CAPACITY_PER_S = {"Fast": 250.0, "Slow": 110.0}
ROUNDS = 5


def process(waiting: int) -> ProcessSlot:
    return ProcessSlot(
        seconds=2.0, cpu_s=1.0, core_wait_s=0.0, hub_lag_ms=0.1, lane_lag_ms=0.0, hub_stall_ms=0.0, machine="one",
        cores=4, busy_share=0.3, steal_share=0.0, pressure_share=0.0, waiting=waiting,
    )  # fmt: skip


def tally(pages: int, response_ms: float, queue_ms: float, not_begun: int = 0) -> Tally:
    made = Tally(not_begun=not_begun, page_equivalents=float(pages))
    cost = {**dict.fromkeys((*COUNTS, *PARTS), 1.0), "think_ms": 0.0, "queue_ms": queue_ms}
    for number in range(pages):
        made.add(cost | {"late": number % 10 == 0}, response_ms * (1 + number / pages / 10), failed=False)
    return made


def slot(number: int, name: str, rate_per_s: float, round_number: int) -> Slot:
    served = int(2 * min(rate_per_s, CAPACITY_PER_S[name]))
    left = int(2 * rate_per_s) - served
    condition = Condition(name, Arrivals(rate_per_s, 10))
    wobble = 1 + 0.01 * ((7 * number) % 5)
    return Slot(
        number, round_number, condition, number * 2.3, server_cpu_s=0.1, server_seconds=2.3, server_machine="one",
        server_cores=4, processes=[process(left)], measured=tally(served, SERVICE_MS[name] * wobble, 2.0, left),
    )  # fmt: skip


def result(*rates: float, names: tuple[str, ...] = ("Fast", "Slow")) -> Result:
    turns = [(name, rate, number) for number in range(1, ROUNDS + 1) for rate in rates for name in names]
    slots = [slot(place, *turn) for place, turn in enumerate(turns)]
    return result_of_rounds(slots, CLASSES, end="rollback", planned_slots=len(slots), measured_on={})


def test_classes_are_compared_by_their_p95_and_who_is_faster_stands_first_in_words() -> None:
    found = result(50)
    assert {row.arrivals_per_s for row in found.strategies} == {50}
    assert all(row.sustained and row.pages_per_s == pytest.approx(50) for row in found.strategies)
    [reference] = found.references["albums"]
    assert reference.label == "Slow"
    [verdict] = [each for each in found.verdicts if each.quantity == "p95_ms"]
    assert verdict.label == "Fast" and verdict.shown
    assert verdict.ratio == pytest.approx(4 / 9, rel=0.05)
    first, second, times, compared, bound = found.headline
    assert first == "Fast keeps up with 50 arrivals a second."
    assert second == "Slow keeps up with 50 arrivals a second."
    assert times.startswith("Where 50 pages a second are due, for 10 users at the most, half of Fast's came within 4.")
    assert compared.startswith("Slow's p95 is 2.") and compared.endswith("].")
    assert bound == "Nothing limits Fast but that no more pages were asked for."


def test_what_is_not_kept_up_with_has_no_response_times_and_says_so() -> None:
    found = result(50, 200)
    rows = {(row.user_class, row.arrivals_per_s): row for row in found.strategies}
    broken = rows["Slow", 200]
    assert broken.sustained is False and broken.not_begun == broken.waiting == ROUNDS * 180
    assert broken.p50_ms is broken.p95_ms is broken.p99_ms is broken.max_ms is broken.p95_ms_low is None
    assert broken.response_curve == []
    assert broken.pages_per_s == pytest.approx(110)
    assert all(row.p95_ms is None for row in found.slots if row.label == "Slow, 200 arrivals/s")
    assert "Slow, 200 arrivals/s" not in {each.label for each in found.verdicts if each.quantity == "p95_ms"}
    assert found.headline[:2] == [
        "Fast keeps up with 200 arrivals a second.",
        "Slow keeps up with 50 arrivals a second, and not with 200, where it serves 110.",
    ]
    assert found.headline[2].startswith("Where 200 pages a second are due")


def test_where_nobody_keeps_up_that_is_all_that_is_said() -> None:
    assert result(900).headline == [
        "Fast does not keep up with 900 arrivals a second, where it serves 250.",
        "Slow does not keep up with 900 arrivals a second, where it serves 110.",
    ]


def test_slots_that_happened_to_keep_up_do_not_flatter_a_class_that_does_not() -> None:
    slots = [slot(place, "Slow", 115, place + 1) for place in range(ROUNDS)]
    slots += [replace(slot(ROUNDS, "Slow", 100, ROUNDS + 1), condition=slots[0].condition)]
    found = result_of_rounds(slots, CLASSES, end="rollback", planned_slots=len(slots), measured_on={})
    [row] = found.strategies
    assert found.slots[-1].sustained is True
    assert row.sustained is False
    assert row.p95_ms is found.slots[-1].p95_ms is None


def test_one_rate_is_in_no_label_and_several_are() -> None:
    one = [Condition(name, Arrivals(50, 10)) for name in CLASSES]
    assert {*labels(one).values()} == {*CLASSES}
    several = [Condition("Fast", Arrivals(rate, 10)) for rate in (50, 100)]
    assert {*labels(several).values()} == {"Fast, 50 arrivals/s", "Fast, 100 arrivals/s"}
    assert several[0].key == "Fast, 50 arrivals/s, 10 users"
    assert Condition("Fast", Users(10)).key == "Fast, 10 users"


def test_columns_of_arrivals_are_empty_in_a_closed_loop() -> None:
    slots = [replace(slot(place, "Fast", 50, place + 1), condition=Condition("Fast", Users(10))) for place in range(3)]
    found = result_of_rounds(slots, CLASSES, end="rollback", planned_slots=3, measured_on={})
    [row] = found.strategies
    assert row.arrivals_per_s is row.sustained is row.late is row.waiting is row.generator_lag_ms is None


def test_without_rounds_it_is_said_who_did_not_keep_up() -> None:
    tallies = {"Fast": tally(400, 4.0, 2.0, not_begun=2), "Slow": tally(200, 9.0, 2.0, not_begun=200)}
    mixed = result_of_mixed_run(
        tallies, CLASSES, seconds=4, users=10, chosen=2, end="rollback", measured_on={}, open_loop=True
    )
    fast, slow = mixed.strategies
    assert (fast.sustained, fast.arrivals_per_s) == (True, 100.5) and fast.p95_ms is not None
    assert (slow.sustained, slow.arrivals_per_s) == (False, 100) and slow.p95_ms is None
    [said] = [warning for warning in mixed.warnings if warning.startswith("not sustained: ")]
    assert said.startswith("not sustained: Slow did not keep up with the arrivals")


@pytest.mark.parametrize(("not_begun", "is_said"), [(0, True), (100, False)])
def test_longer_slots_are_advised_where_no_page_was_due_and_not_where_they_pile_up(
    not_begun: int, is_said: bool
) -> None:
    slots = [
        replace(
            slot(number, "Fast", 50, number + 1), processes=[process(not_begun)], measured=Tally(not_begun=not_begun)
        )
        for number in range(ROUNDS)
    ]
    found = result_of_rounds(slots, CLASSES, end="rollback", planned_slots=ROUNDS, measured_on={})
    assert any("raise --slot-time" in warning for warning in found.warnings) is is_said
