"""A run over time: every page in one window, the same whichever process told of it, and long runs in bounded room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.timeline import MAX_WINDOWS, SHORTEST_S, WINDOW_S, Timeline

BEGAN_AT = 1_000_000.0
COST = dict.fromkeys((*COUNTS, *PARTS, "think_ms"), 1.0)
PARTS_MS = dict.fromkeys((*PARTS, "server_wait_ms"), 1.0)

Pages = list[tuple[float, str, float, bool]]
pages_of_runs: st.SearchStrategy[Pages] = st.lists(
    st.tuples(st.floats(0, 600), st.sampled_from(["One", "Two", "Three"]), st.floats(0.01, 5000), st.booleans()),
    max_size=80,
)


class Clock:
    """The time of the day, to be set."""

    def __init__(self) -> None:
        self.at = BEGAN_AT

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def add(timeline: Timeline, clock: Clock, pages: Pages) -> None:
    for second, user_class, response_ms, failed in pages:
        clock.at = BEGAN_AT + second
        timeline.add(user_class, COST, response_ms, failed)


def served(columns: dict[str, Any], ended_s: float) -> dict[str, float]:
    """Pages of each class, from the rates and the lengths of the windows."""
    ends = [begin + columns["window_s"] for begin in columns["began_s"]]
    spans = [
        min(end - end % columns["window_s"], ended_s) - begin
        for begin, end in zip(columns["began_s"], ends, strict=True)
    ]
    return {
        name: sum((rate or 0) * span for rate, span in zip(of_class["pages_per_s"], spans, strict=True))
        for name, of_class in columns["classes"].items()
    }


@given(pages_of_runs)
def test_every_page_that_did_not_fail_is_in_one_window(pages: Pages) -> None:
    clock = Clock()
    timeline = Timeline(clock)
    add(timeline, clock, pages)
    columns = timeline.columns(BEGAN_AT, BEGAN_AT + 602)
    for name, count in served(columns, 602).items():
        assert count == pytest.approx(sum(p[1] == name and not p[3] for p in pages), rel=1e-3)
    lengths = {len(columns["began_s"]), len(columns["users"])}
    lengths |= {len(column) for of_class in columns["classes"].values() for column in of_class.values()}
    assert len(lengths) == 1


@given(pages_of_runs, st.integers(0, 80))
def test_pages_told_by_several_processes_are_those_told_by_one(pages: Pages, cut: int) -> None:
    clock = Clock()
    one, first, second, master = Timeline(clock), Timeline(clock), Timeline(clock), Timeline(clock)
    add(one, clock, pages)
    add(first, clock, pages[:cut])
    add(second, clock, pages[cut:])
    for worker in (first, second, first):  # the first once more, with nothing new
        master.merge_message(worker.take_message())
    assert master.columns(BEGAN_AT, BEGAN_AT + 602) == one.columns(BEGAN_AT, BEGAN_AT + 602)
    assert master.recent_parts_ms() == one.recent_parts_ms()


def test_a_long_run_takes_no_more_room_and_loses_no_page(clock: Clock) -> None:
    timeline = Timeline(clock)
    seconds = round(MAX_WINDOWS * WINDOW_S * 5)
    for second in range(seconds):
        clock.at = BEGAN_AT + second
        timeline.add("One", COST, 10, False)
        timeline.note_users(second)
    columns = timeline.columns(BEGAN_AT, BEGAN_AT + seconds)
    assert len(columns["began_s"]) <= MAX_WINDOWS
    assert served(columns, seconds)["One"] == pytest.approx(seconds, rel=1e-3)
    assert columns["users"] == sorted(columns["users"])
    timeline.add("One", COST, 10, False)  # goes on in the longer windows
    assert served(timeline.columns(BEGAN_AT, BEGAN_AT + seconds), seconds)["One"] > seconds


def test_rates_at_the_beginning_and_the_end_are_by_the_time_that_there_was(clock: Clock) -> None:
    timeline = Timeline(clock)
    began_at = BEGAN_AT + WINDOW_S - 1
    for offset_s in (0.1, 0.5, 0.9, 1.5, 2.5, 3.1):
        clock.at = began_at + offset_s
        timeline.add("One", COST, 10, False)
    columns = timeline.columns(began_at, began_at + 1 + WINDOW_S + SHORTEST_S / 2)
    assert columns["began_s"] == [0, 1]  # the last one is too short
    assert columns["classes"]["One"]["pages_per_s"] == [3, 2 / WINDOW_S]


def test_a_class_that_served_nothing_in_a_window_has_no_percentile_there(clock: Clock) -> None:
    timeline = Timeline(clock)
    timeline.add("One", COST, 10, False)
    timeline.add("Two", COST, 10, True)
    clock.at += WINDOW_S
    timeline.add("Two", COST, 30, False)
    classes = timeline.columns(BEGAN_AT, BEGAN_AT + 2 * WINDOW_S)["classes"]
    assert classes["One"]["p95_ms"] == [10, None]
    assert classes["Two"]["p95_ms"] == [None, 30]


def test_recent_parts_forget_what_was_long_ago(clock: Clock) -> None:
    timeline = Timeline(clock)
    timeline.add("One", dict.fromkeys(COST, 900.0), 10, False)
    for _ in range(10):
        clock.at += WINDOW_S
        timeline.add("One", COST, 10, False)
    assert timeline.recent_parts_ms() == {"One": {**PARTS_MS, "answer_wait_ms": None}}
