"""A user in an open loop: each page that is due is read once, whatever became of the last one, or is given back."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace
from typing import Any

import pytest

from dbkit.analysis.condition import Arrivals
from dbkit.load.arrivals import PARKED_S, ArrivalStream
from dbkit.load.back_off import FIRST_S, LEAST_SHARE, LONGEST_S, BackOff
from dbkit.load.gate import Gate
from dbkit.load.lanes import read_pages
from dbkit.load.native import sleep
from dbkit.load.page import Page
from dbkit.load.stint import ArrivalStint
from dbkit.measure.cost import current_cost

SOURCE: Any = None


def stint_of(stream: ArrivalStream, pages: list[Page], *, room: bool = True) -> ArrivalStint:
    reader: Any = SimpleNamespace(
        keys=itertools.repeat(()), pages_asked=0, key_after=lambda page: None, back_off=BackOff()
    )

    def put(page: Page) -> bool:
        pages.append(page)
        return room

    return ArrivalStint(reader, SOURCE, Gate(), put, stream)


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_pages_that_do_not_wait_for_the_server_are_read_each_once(fails: bool, room: bool) -> None:
    stream = ArrivalStream(Arrivals(500, 1, "even"), "1", 1)
    pages: list[Page] = []
    stint = stint_of(stream, pages, room=room)

    def read(*_: object) -> None:
        if len(pages) == 49:
            stint.stop()
        if fails:
            raise ValueError

    read_pages(stint, read, sleep)
    stint.leave()
    asked_at_s = [page.cost.asked_at_s for page in pages]
    assert len(asked_at_s) == 50
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(asked_at_s)]
    assert gaps_s == pytest.approx([1 / 500] * 49)


def waiting_for(stream: ArrivalStream, stint: ArrivalStint) -> None:
    while stint.further_pause_s() is not None:
        sleep(0.001)


def test_a_user_who_is_gone_gives_back_what_it_has_not_begun_and_nothing_else() -> None:
    stream = ArrivalStream(Arrivals(1000, 1, "even"), "1", 1)
    begun, not_begun = stint_of(stream, []), stint_of(stream, [])
    waiting_for(stream, begun)
    assert begun.ask() is not None
    waiting_for(stream, not_begun)
    stream.close(time.perf_counter())
    waiting = stream.waiting()
    for stint in (begun, not_begun):
        in_flight = stint.abandon()
        assert isinstance(in_flight, Page) is (stint is begun)
        stint.leave()
        stint.leave()
    assert stream.waiting() == waiting + 1


def test_who_is_gone_while_its_lane_goes_on_takes_no_page_and_does_not_watch() -> None:
    stream = ArrivalStream(Arrivals(100, 2, "even"), "1", 2)
    gone, other = stint_of(stream, []), stint_of(stream, [])
    gone.abandon()
    gone.leave()
    assert gone.further_pause_s() is None and gone.ask() is None
    assert other.first_pause_s() != PARKED_S


def test_what_is_due_while_a_user_waits_to_connect_again_is_not_tried() -> None:
    stream = ArrivalStream(Arrivals(1000, 1, "even"), "1", 1)
    pages: list[Page] = []
    stint = stint_of(stream, pages)

    def read(*_: object) -> None:
        if len(pages) == 5:
            stint.stop()
        cost = current_cost.get()
        assert cost is not None
        cost.connect_failed = len(pages) < 4
        raise ConnectionRefusedError

    read_pages(stint, read, sleep)
    stint.leave()
    stream.close(time.perf_counter())
    for page, failed in zip(pages, range(6), strict=True):
        # the first failure is tried again at once, and who has connected waits no more
        most_ms = 1000 * FIRST_S * 2 ** (failed - 2) if 2 <= failed <= 4 else 0
        assert LEAST_SHARE * most_ms <= page.backed_off_ms <= most_ms
    dropped = stream.drop()
    waited = sum(page.backed_off_ms for page in pages)
    assert len(dropped) >= waited - 4  # of a thousand a second
    assert not {page.cost.asked_at_s for page in pages} & {*dropped}
    assert stream.drop() == []


def test_waits_grow_to_a_limit() -> None:
    back_off = BackOff()
    waits = [back_off.after(True) for _ in range(2000)]
    assert waits[0] == 0 and all(LEAST_SHARE * LONGEST_S <= wait <= LONGEST_S for wait in waits[7:])
    assert len({*waits[7:]}) > 1000
    assert back_off.after(False) == back_off.after(True) == 0
