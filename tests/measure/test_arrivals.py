"""Times at which pages are due: as many and as random as they should be, and what queues they make."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from dbkit.measure.arrivals import ArrivalTimes, is_sustained

CUSTOMERS = 400_000


def times(rate_per_s: float, until_at_s: float, *, is_even: bool = False, seed: str = "1") -> list[float]:
    made = ArrivalTimes(is_even=is_even, seed=seed)
    made.set_rate(rate_per_s, 0.0)
    return [*made.due(until_at_s)]


def test_even_arrivals_are_at_equal_distances_from_the_beginning_on() -> None:
    assert times(100, 1.005, is_even=True) == pytest.approx([number / 100 for number in range(1, 101)])


def test_poisson_arrivals_have_exponential_distances_that_know_nothing_of_each_other() -> None:
    gaps = np.diff(times(100, 500))
    assert kstest(gaps, "expon", args=(0, 0.01)).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


def test_the_same_seed_gives_the_same_times_and_another_one_others() -> None:
    assert times(50, 5, seed="a") == times(50, 5, seed="a") != times(50, 5, seed="b")


def test_twice_the_rate_gives_the_same_times_in_half_the_time() -> None:
    assert times(100, 5) == pytest.approx([2 * at for at in times(200, 2.5)])


@given(
    st.lists(st.floats(0.001, 2), min_size=1, max_size=20),
    st.lists(st.sampled_from([0.0, 1.0, 20.0, 300.0]), min_size=1, max_size=5),
    st.booleans(),
)
def test_whenever_one_asks_the_times_are_the_same_and_ascend(
    steps: list[float], rates: list[float], is_even: bool
) -> None:
    def asked(fine: bool) -> list[float]:
        made = ArrivalTimes(is_even=is_even, seed="1")
        found: list[float] = []
        now_at_s = 0.0
        for rate, step in zip(itertools.cycle(rates), steps, strict=False):
            made.set_rate(rate, now_at_s)
            for part in range(1, 4) if fine else (3,):
                found += made.due(now_at_s + step * part / 3)
            now_at_s += step
            found += made.due(now_at_s)
        return found

    assert asked(fine=True) == pytest.approx(asked(fine=False))
    assert asked(fine=True) == sorted(asked(fine=True))


@given(st.lists(st.sampled_from([0.0, 5.0, 50.0]), min_size=1, max_size=10))
def test_even_arrivals_are_as_many_as_the_rates_ask_for(rates: list[float]) -> None:
    made = ArrivalTimes(is_even=True, seed="1")
    found = 0
    for second, rate in enumerate(rates):
        made.set_rate(rate, second)
        found += len([*made.due(second + 1)])
    assert abs(found - sum(rates)) <= 1


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("service", ["constant", "exponential"])
def test_waits_for_one_server_are_those_of_queueing_theory(share: float, service: str) -> None:
    """M/D/1 and M/M/1: Pollaczek and Khinchine, as in Kleinrock, "Queueing Systems", volume 1, 1975, section 5.7."""
    at_s = np.array([*itertools.islice(stream(share), CUSTOMERS)])
    draw = np.random.default_rng(2)
    service_s = np.ones(CUSTOMERS) if service == "constant" else draw.exponential(1.0, CUSTOMERS)
    # Lindley: a customer waits for what the last one waited and took, without the time between the two
    sums = np.concatenate(([0.0], np.cumsum(service_s[:-1] - np.diff(at_s))))
    waits_s = sums - np.minimum.accumulate(sums)
    square_variation = 0 if service == "constant" else 1
    expected = share / (1 - share) * (1 + square_variation) / 2
    assert fmean(waits_s) == pytest.approx(expected, rel=0.1)


def stream(rate_per_s: float) -> itertools.chain[float]:
    made = ArrivalTimes(is_even=False, seed="3")
    made.set_rate(rate_per_s, 0.0)
    return itertools.chain.from_iterable(made.due(step * 1000) for step in itertools.count(1))


@given(st.integers(0, 10**6), st.integers(-1000, 10**6))
def test_who_keeps_up_has_no_more_waiting_than_chance_brings(arrivals: int, growth: int) -> None:
    assert is_sustained(arrivals, growth) is (growth <= 3 * math.sqrt(arrivals))
    assert not is_sustained(arrivals, growth, not_begun=1)
