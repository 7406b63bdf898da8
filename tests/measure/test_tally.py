"""Adding page costs up: the same pages give the same tables, by whichever workers and in whichever order they come."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import to_builtins

from dbkit.analysis.mixed_run import result_of_mixed_run
from dbkit.analysis.slot import UserClass
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Distribution, Tally, round_significant

USER_CLASSES = {name: UserClass(name, "psycopg", name.lower(), "albums") for name in ("Fast", "Slow")}
SHARES = (0.5, 0.95, 0.99)
LONGEST_MS = 1e7

times_ms = st.floats(0, LONGEST_MS) | st.sampled_from([0.0, 0.001, 0.55, 1.0, 99.95, 100.0, 1234.5])


@dataclass(frozen=True)
class Page:
    user_class: str
    cost: dict[str, float]
    response_ms: float
    failed: bool
    measured_share: float


pages = st.lists(
    st.builds(
        Page,
        user_class=st.sampled_from(sorted(USER_CLASSES)),
        cost=st.fixed_dictionaries(
            {
                **{name: st.integers(0, 10**6) for name in COUNTS},
                **{name: times_ms for name in (*PARTS, "think_ms")},
            }
        ),
        response_ms=times_ms,
        failed=st.booleans(),
        measured_share=st.floats(0, 1),
    ),
    max_size=30,
)

Tallies = dict[str, Tally]


def tallies_of(pages: list[Page]) -> Tallies:
    tallies: Tallies = {}
    for page in pages:
        tally = tallies.setdefault(page.user_class, Tally())
        tally.add(page.cost, page.response_ms, page.failed)
        tally.page_equivalents += page.measured_share
    return tallies


def sent(tallies: Tallies) -> Tallies:
    """What arrives of them at the other end of Locust's wire."""
    packed = msgpack.dumps({name: tally.as_message() for name, tally in tallies.items()})
    return {name: Tally.from_message(message) for name, message in msgpack.loads(packed, strict_map_key=False).items()}


def merge(tallies: Tallies, others: Tallies) -> None:
    for name, tally in others.items():
        tallies.setdefault(name, Tally()).merge(tally)


def table(tallies: Tallies) -> dict[str, Any]:
    result = result_of_mixed_run(
        tallies, USER_CLASSES, seconds=3, users=10, chosen=len(tallies), end="rollback", measured_on={}
    )
    return {row.user_class: to_builtins(row) for row in result.strategies}


def differing(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two tables differ by more than the order in which floats were added can make them."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [line for key in one for line in differing(one[key], other[key], f"{path}/{key}")]
    # figures have six digits: where the last one is a tie, the order decides it
    if isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-12):
        return []
    return [] if one == other else [f"{path}: {one} and {other}"]


# Merging


@given(pages=pages, data=st.data())
def test_the_same_pages_through_one_process_and_split_over_workers_give_equal_tables(
    pages: list[Page], data: st.DataObject
) -> None:
    whole = tallies_of(pages)
    workers = data.draw(st.integers(1, 6), label="workers")
    worker_of = data.draw(st.lists(st.integers(0, workers - 1), min_size=len(pages), max_size=len(pages)))
    parts = [
        tallies_of([page for page, its_worker in zip(pages, worker_of, strict=True) if its_worker == worker])
        for worker in range(workers)
    ]
    while len(parts) > 1:  # in any order and grouping, some of it over the wire
        taken = parts.pop(data.draw(st.integers(0, len(parts) - 1), label="taken"))
        into = data.draw(st.integers(0, len(parts) - 1), label="into")
        merge(parts[into], sent(taken) if data.draw(st.booleans(), label="sent") else taken)
    assert differing(table(whole), table(parts[0])) == []
    assert sum(tally.pages for tally in parts[0].values()) == len(pages)


@given(pages=pages, reports=st.integers(1, 5))
def test_pages_reported_in_many_messages_are_those_reported_in_one(pages: list[Page], reports: int) -> None:
    master: Tallies = {}
    for number in range(reports):
        merge(master, sent(tallies_of(pages[number::reports])))
    assert differing(table(tallies_of(pages)), table(master)) == []
    assert sum(tally.page_equivalents for tally in master.values()) == pytest.approx(
        math.fsum(page.measured_share for page in pages)
    )


@given(pages=pages)
def test_a_message_holds_all_of_a_tally(pages: list[Page]) -> None:
    tallies = tallies_of(pages)
    for tally in tallies.values():
        tally.unfinished = 3
    assert sent(tallies) == tallies


@given(pages=pages)
def test_merging_leaves_what_is_merged_as_it_was(pages: list[Page]) -> None:
    taken, untouched = tallies_of(pages), tallies_of(pages)
    master: Tallies = {}
    merge(master, taken)
    merge(master, taken)
    assert taken == untouched
    assert sum(tally.pages for tally in master.values()) == 2 * len(pages)


@given(one=st.integers(0, 10**6), other=st.integers(0, 10**6))
def test_unfinished_pages_add_up_and_are_in_no_other_figure(one: int, other: int) -> None:
    merged = Tally(unfinished=one)
    merged.merge(Tally.from_message(Tally(unfinished=other).as_message()))
    assert merged == Tally(unfinished=one + other)


# What a tally says


@given(pages=pages)
def test_figures_are_the_sums_and_means_of_the_pages_that_did_not_fail(pages: list[Page]) -> None:
    tally = Tally()
    for page in pages:
        tally.add(page.cost, page.response_ms, page.failed)
    good = [page for page in pages if not page.failed]
    assert (tally.pages, tally.failures, tally.succeeded) == (len(pages), len(pages) - len(good), len(good))
    assert tally.sums == Counter({name: sum(page.cost[name] for page in good) for name in COUNTS})
    for name in PARTS:
        times = [page.cost[name] for page in good]
        assert tally.mean_ms(name) == (pytest.approx(math.fsum(times) / len(times)) if times else None)
    responses = [page.response_ms for page in good]
    assert tally.response.mean_ms == (pytest.approx(math.fsum(responses) / len(responses)) if responses else None)
    assert tally.response.max_ms == max(responses, default=0.0)


@given(times=st.lists(times_ms, min_size=1, max_size=200))
def test_percentiles_are_those_of_the_times_at_round_significant(times: list[float]) -> None:
    distribution = Distribution()
    for ms in times:
        distribution.add(ms)
    rounded = [round_significant(ms) for ms in times]
    for share in (0, *SHARES, 1):
        assert distribution.percentile(share) == np.quantile(rounded, share, method="inverted_cdf")


def test_nothing_counted_has_no_mean_and_no_percentile() -> None:
    assert Distribution().mean_ms is None
    assert Distribution().percentile(0.5) is None


# Three digits


@given(ms=st.floats(0.001, LONGEST_MS))
@example(ms=99.95)
@example(ms=999.5)
@example(ms=0.001)
def test_a_time_keeps_three_significant_digits_at_any_scale(ms: float) -> None:
    assert round_significant(ms) == float(f"{ms:.2e}")


@given(ms=st.floats(0, 0.001))
def test_below_a_microsecond_a_time_keeps_a_tenth_of_one(ms: float) -> None:
    assert abs(round_significant(ms) - ms) <= 0.00005 * (1 + 1e-9)


@given(one=times_ms, other=times_ms)
def test_rounding_keeps_the_order_of_times(one: float, other: float) -> None:
    shorter, longer = sorted([one, other])
    assert round_significant(shorter) <= round_significant(longer)


@given(ms=times_ms)
def test_rounding_a_rounded_time_changes_nothing(ms: float) -> None:
    assert round_significant(round_significant(ms)) == round_significant(ms)


@pytest.mark.parametrize(("users", "cycle_ms"), [(10, 20.0), (1, 5.0), (40, 50.0)])
def test_a_stalled_closed_loop_tells_what_arrivals_would_have_seen(users: int, cycle_ms: float) -> None:
    """Pages that take a cycle each, of a server that stands still for 1 s in 12, and the same as they would arrive."""
    stall_ms, length_ms = 1000.0, 12_000.0
    begins_ms, ends_ms = 5000.0, 5000.0 + stall_ms

    def finished(asked_ms: float) -> float:
        done_ms = asked_ms + cycle_ms
        return done_ms if done_ms < begins_ms or asked_ms > ends_ms else max(done_ms, ends_ms)

    closed, arriving = Distribution(), Distribution()
    for user in range(users):
        asked_ms = user * cycle_ms / users
        while asked_ms < length_ms:
            closed.add(finished(asked_ms) - asked_ms)
            asked_ms = finished(asked_ms)
        due_ms = user * cycle_ms / users
        while due_ms < length_ms:
            arriving.add(finished(due_ms) - due_ms)
            due_ms += cycle_ms
    corrected = closed.with_those_who_would_have_come(cycle_ms)
    assert corrected.counts.total() == pytest.approx(arriving.counts.total(), abs=3 * users)
    for share in (0.5, 0.95, 0.99):
        expected, found, raw = (each.percentile(share) for each in (arriving, corrected, closed))
        assert expected is not None and found is not None and raw is not None
        assert found == pytest.approx(expected, rel=0.05)
        assert share != 0.95 or raw < found / 5


def test_without_a_stall_nothing_is_added() -> None:
    steady = Distribution()
    for _ in range(100):
        steady.add(12.5)
    assert steady.with_those_who_would_have_come(12.5).counts == steady.counts
