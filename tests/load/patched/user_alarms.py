"""Alarms of both event loops: each rings once, not before its time, in the order of the times, unless cancelled."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations

import gevent
import pytest
import uvloop

import dbkit.load  # noqa: F401  # first, as it patches the process
from dbkit.load.alarms import Alarms
from dbkit.load.lanes import _watch_in_loop, _watch_on_hub
from dbkit.load.loop_thread import LoopThread

DEADLINE_S = 60


def on_hub(test: Callable[[Alarms], None], reached: Callable[[], bool]) -> None:
    alarms = Alarms(_watch_on_hub)
    test(alarms)
    with gevent.Timeout(DEADLINE_S):
        while not reached():
            gevent.sleep(0.001)
    alarms.close()


def in_loop(test: Callable[[Alarms], None], reached: Callable[[], bool]) -> None:
    async def run() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        alarms = Alarms(_watch_in_loop)
        test(alarms)
        async with asyncio.timeout(DEADLINE_S):
            while not reached():
                await asyncio.sleep(0.001)
        alarms.close()

    thread = LoopThread()
    thread.run(run)
    thread.stop()


@pytest.mark.parametrize("run", [on_hub, in_loop])
def test_each_rings_once_at_its_time_in_their_order(run: Callable[..., None]) -> None:
    rung: list[tuple[int, float]] = []
    due_s: list[tuple[float, float]] = []  # no sooner than, no later than: a busy machine may pass between two calls

    def ring(number: int) -> None:
        rung.append((number, time.perf_counter()))

    def set_all(alarms: Alarms) -> None:
        for number, after_s in enumerate((0.03, 0.01, 0.05, 0.01, 0.0, 0.02, 0.04)):
            called_s = time.perf_counter()
            alarms.after(after_s, partial(ring, number))
            due_s.append((called_s + after_s, time.perf_counter() + after_s))

    run(set_all, lambda: len(rung) >= 7)
    assert len(rung) == 7
    assert all(at_s >= due_s[number][0] for number, at_s in rung)
    assert all(due_s[first][0] <= due_s[later][1] for (first, _), (later, _) in combinations(rung, 2))


@pytest.mark.parametrize("run", [on_hub, in_loop])
def test_one_that_is_cancelled_does_not_ring_and_others_do(run: Callable[..., None]) -> None:
    rung: list[str] = []

    def set_three(alarms: Alarms) -> None:
        first = alarms.after(0.01, lambda: rung.append("first"))
        alarms.after(0.02, lambda: rung.append("second"))
        last = alarms.after(0.03, lambda: rung.append("last"))
        alarms.after(0.04, lambda: rung.append("end"))
        first.cancel()
        last.cancel()

    run(set_three, lambda: "end" in rung)
    assert rung == ["second", "end"]


@pytest.mark.parametrize("run", [on_hub, in_loop])
def test_an_alarm_may_set_the_next_one(run: Callable[..., None]) -> None:
    rung: list[int] = []

    def set_first(alarms: Alarms) -> None:
        def ring() -> None:
            rung.append(len(rung))
            if len(rung) < 50:
                alarms.after(0.0005, ring)

        alarms.after(0.001, ring)

    run(set_first, lambda: len(rung) >= 50)
    assert rung == [*range(50)]


def test_closed_they_leave_no_descriptor() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def set_one(alarms: Alarms) -> None:
        alarms.after(60, lambda: None)

    on_hub(set_one, lambda: True)
    before = descriptors()
    for _ in range(5):
        on_hub(set_one, lambda: True)
    assert descriptors() == before
