"""How much of a page counts for its slot: what was done for it there, and no wait."""

from __future__ import annotations

from typing import Any, cast

import pytest

import dbkit.load  # noqa: F401  # first, as it patches the process
from dbkit.load.page import Page
from dbkit.load.window import Window
from dbkit.measure.cost import PageCost

FROM_AT_S, UNTIL_AT_S = 10.0, 20.0


def page(window: Window, asked_at_s: float, finished_at_s: float, *, queue_s: float = 0, pool_s: float = 0) -> Page:
    cost = PageCost(asked_at_s)
    cost.started_at_s, cost.pool_s, cost.finished_at_s = asked_at_s + queue_s, pool_s, finished_at_s
    return Page(None, cast(Any, None), (1,), window, cost, 0.0)


def slot() -> Window:
    window = Window(0)
    window.measured_from_at_s, window.measured_until_at_s = FROM_AT_S, UNTIL_AT_S
    return window


@pytest.mark.parametrize(
    ("asked_at_s", "finished_at_s", "waits", "share"),
    [
        (11, 13, {}, 1.0),
        (9, 11, {}, 0.5),
        (19, 23, {}, 0.25),
        (5, 25, {}, 0.5),
        (5, 9, {}, 0.0),
        # it waits for all of the slot, and is read when others have gone
        (9, 22, {"pool_s": 12}, 0.0),
        (9, 22, {"queue_s": 6, "pool_s": 6}, 0.0),
        (9, 22, {"queue_s": 5, "pool_s": 4}, 0.5),
        # it waited before
        (5, 14, {"queue_s": 3, "pool_s": 4}, 1.0),
        # a connection that never came
        (5, 14, {"pool_s": 9}, 0.0),
    ],
)
def test_a_page_counts_by_what_was_done_for_it_in_the_slot(
    asked_at_s: float, finished_at_s: float, waits: dict[str, float], share: float
) -> None:
    assert page(slot(), asked_at_s, finished_at_s, **waits).measured_share == pytest.approx(share, abs=1e-9)


def test_without_slots_each_page_counts_until_the_stop() -> None:
    window = Window(None)
    assert page(window, 5, 14, pool_s=9).measured_share == 1
    window.measured_until_at_s = 14
    assert page(window, 5, 14, pool_s=9).measured_share == 1
    assert page(window, 10, 18).measured_share == pytest.approx(0.5)
