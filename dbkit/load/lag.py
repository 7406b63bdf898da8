"""What waiting for a turn costs: how late the hub wakes a sleeper, and how long an answer waits in a lane.

Samples are taken every `SAMPLE_S`. A lane is sampled by a byte in a pipe, which is there at once: what passes until the
lane goes on with it is what an answer of the server, too, waits for after it has come.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean, median
from time import perf_counter
from typing import NoReturn

import gevent

from dbkit.load.native import close
from dbkit.measure.probes import Figures

SAMPLE_S = 0.02
STALL_MS = 25.0
"""What is later than this, and than `STALL_FACTOR` times the usual lag, is a stall."""
STALL_FACTOR = 4


class LagMeter:
    """The samples of one sampler."""

    def __init__(self) -> None:
        self._lags_ms: list[float] = []

    def add(self, since_at_s: float) -> None:
        """Note that what could have gone on at `since_at_s` has gone on now."""
        self._lags_ms.append(max(perf_counter() - since_at_s, 0.0) * 1000)

    @property
    def mean_ms(self) -> float:
        """Mean lag so far; 0 where nothing was sampled."""
        return fmean(self._lags_ms) if self._lags_ms else 0.0

    @property
    def stall_ms(self) -> float:
        """The longest lag, where that is a stall; else 0.

        Where many users wait for one interpreter everybody is late, so that a stall is what stands out from the others:
        more than `STALL_FACTOR` times the median, and more than `STALL_MS`.
        """
        longest = max(self._lags_ms, default=0.0)
        return longest if longest > STALL_MS and longest > STALL_FACTOR * median(self._lags_ms) else 0.0

    def sample_hub(self) -> NoReturn:
        """Sample how late the hub wakes a sleeper, until the calling greenlet is killed."""
        while True:
            since_at_s = perf_counter() + SAMPLE_S
            gevent.sleep(SAMPLE_S)
            self.add(since_at_s)


class Echo:
    """A byte in a pipe: sent, and there at once for who waits to read it."""

    def __init__(self) -> None:
        self.reading_end, self._writing_end = os.pipe()

    def send(self) -> float:
        """Put the byte in; the time at which that was, by `time.perf_counter`."""
        os.write(self._writing_end, b"?")
        return perf_counter()

    def receive(self) -> None:
        """Take it out."""
        os.read(self.reading_end, 1)

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Echo]:
        """An echo for the length of the block."""
        echo = cls()
        try:
            yield echo
        finally:
            close(echo.reading_end)
            close(echo._writing_end)


class LagProbe:
    """How late the hub and a lane wake sleepers: a probe, see `dbkit.measure.probes`."""

    def __init__(self, measure_lane: Callable[[LagMeter], None]) -> None:
        self._measure_lane = measure_lane

    def start(self) -> None:
        self._hub, self._answers = LagMeter(), LagMeter()
        self._samplers = [
            gevent.spawn(self._hub.sample_hub),
            gevent.spawn(self._measure_lane, self._answers),
        ]

    def stop(self) -> Figures:
        gevent.killall(self._samplers, block=False)
        return {
            "hub_lag_ms": self._hub.mean_ms,
            "hub_stall_ms": self._hub.stall_ms,
            "lane_lag_ms": self._answers.mean_ms,
        }
