"""A stream of arrivals in one process: each page is read once, in its order, by whoever is free."""

from __future__ import annotations

import itertools
import time

import pytest

from dbkit.analysis.condition import Arrivals
from dbkit.load.arrivals import PARKED_S, ArrivalStream
from dbkit.load.native import sleep, start_new_thread


class User:
    """A free user that can be woken up."""

    def __init__(self) -> None:
        self.is_woken = False

    def wake(self) -> None:
        self.is_woken = True


def wait_for(stream: ArrivalStream, count: int) -> None:
    while stream.waiting() < count:
        sleep(0.001)


def every(rate_per_s: float, users: int) -> ArrivalStream:
    return ArrivalStream(Arrivals(rate_per_s, users, "even"), "1", users)


def test_pages_that_wait_are_taken_in_their_order() -> None:
    stream, user = every(1000, 2), User()
    wait_for(stream, 20)
    taken = [stream.take(user) for _ in range(20)]
    gaps = [after - before for before, after in itertools.pairwise(filter(None, taken))]
    assert gaps == pytest.approx([0.001] * 19)


def test_one_free_user_waits_for_the_next_page_and_the_others_for_that_user() -> None:
    stream, users = every(10, 3), [User() for _ in range(3)]
    assert [stream.take(user) for user in users] == [None] * 3
    sleeps_s = [stream.sleep_s(user) for user in users]
    assert 0 < sleeps_s[0] <= 0.1
    assert sleeps_s[1:] == [PARKED_S] * 2
    wait_for(stream, 1)
    assert not any(user.is_woken for user in users)
    assert stream.take(users[0]) is not None
    assert [user.is_woken for user in users] == [False, True, False]


def test_where_a_page_waits_nobody_sleeps() -> None:
    stream, user = every(1000, 1), User()
    assert stream.take(user) is None
    wait_for(stream, 1)
    assert stream.sleep_s(user) == 0


def test_who_leaves_gives_its_page_back_and_passes_the_watch_on() -> None:
    stream, watching, parked = every(100, 2), User(), User()
    for user in (watching, parked):
        assert stream.take(user) is None
        stream.sleep_s(user)
    wait_for(stream, 2)
    asked_at_s = stream.take(watching)
    assert parked.is_woken
    parked.is_woken = False
    stream.leave(watching, asked_at_s)
    assert parked.is_woken
    assert stream.take(parked) == asked_at_s


def test_a_user_that_comes_or_goes_changes_the_rate_and_when_the_next_page_is_due() -> None:
    stream, user = ArrivalStream(Arrivals(20, 10, "even"), "1"), User()
    assert stream.sleep_s(user) == PARKED_S
    stream.add_users(1)
    assert user.is_woken
    assert 0.4 < stream.sleep_s(user) <= 0.5
    stream.add_users(9)
    assert stream.sleep_s(user) <= 0.05
    stream.add_users(-10)
    assert stream.sleep_s(user) == PARKED_S


def test_once_closed_no_page_is_due_and_those_that_wait_are_still_to_be_had() -> None:
    stream, user = every(1000, 1), User()
    wait_for(stream, 5)
    closed_at_s = time.perf_counter()
    stream.close(closed_at_s)
    waiting = stream.waiting()
    sleep(0.01)
    assert stream.waiting() == waiting
    taken = [stream.take(user) for _ in range(waiting)]
    assert all(asked_at_s is not None and asked_at_s <= closed_at_s for asked_at_s in taken)
    assert stream.take(user) is None


def test_pages_are_given_up_only_where_most_of_those_asked_for_wait() -> None:
    stream, user = every(1000, 1), User()
    wait_for(stream, 20)
    stream.close(time.perf_counter())
    waiting = stream.waiting()
    assert len(stream.drop_where_hopeless()) == waiting
    assert stream.waiting() == 0

    stream = every(1000, 1)
    wait_for(stream, 20)
    stream.close(time.perf_counter())
    waiting = stream.waiting()
    for _ in range(waiting - 2):
        stream.take(user)
    assert stream.drop_where_hopeless() == []
    assert len(stream.drop()) == 2


def test_of_a_few_pages_most_may_wait_by_chance() -> None:
    stream = every(1, 1)
    wait_for(stream, 1)
    stream.close(time.perf_counter())
    waiting = stream.waiting()
    assert stream.drop_where_hopeless() == []
    # and one that was asked for before, where none was since
    assert stream.drop_where_hopeless() == []
    assert len(stream.drop()) == waiting


def test_many_threads_take_each_page_once() -> None:
    stream = ArrivalStream(Arrivals(5000, 8), "1", 8)
    taken: list[float] = []
    ended: list[None] = []
    stop: list[None] = []

    def read() -> None:
        user = User()
        while not stop:
            if (asked_at_s := stream.take(user)) is not None:
                taken.append(asked_at_s)
            else:
                sleep(min(stream.sleep_s(user), 0.001))
        ended.append(None)

    for _ in range(8):
        start_new_thread(read, ())
    while len(taken) < 2000:
        sleep(0.01)
    stream.close(time.perf_counter())
    while stream.waiting():
        sleep(0.01)
    stop.append(None)
    while len(ended) < 8:
        sleep(0.01)
    assert len({*taken}) == len(taken)
    # and none of the seed's times is left out
    again = ArrivalStream(Arrivals(5000, 8), "1", 8)
    wait_for(again, 2000)
    same = [asked_at_s for _ in range(2000) if (asked_at_s := again.take(User())) is not None]
    distances = [later - earlier for earlier, later in itertools.pairwise(same)]
    assert distances == pytest.approx([b - a for a, b in itertools.pairwise(sorted(taken)[:2000])], abs=1e-6)
