"""A user in an open loop: each page that is due is read once, whatever became of the last one, or is given back."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace
from typing import Any

import pytest

from dbkit.analysis.condition import Arrivals
from dbkit.load.arrivals import PARKED_S, ArrivalStream
from dbkit.load.gate import Gate
from dbkit.load.lanes import read_pages
from dbkit.load.native import sleep
from dbkit.load.stint import ArrivalStint, Page

SOURCE: Any = None


def stint_of(stream: ArrivalStream, pages: list[Page], *, room: bool = True) -> ArrivalStint:
    reader: Any = SimpleNamespace(keys=itertools.repeat(()), pages_asked=0, key_after=lambda page: None)

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
