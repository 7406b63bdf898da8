"""The network of pages, held against mean value analysis, against a simulation, and against what no network can do."""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkit.analysis.queueing import Network, flow

PLENTY = 10**9
PAGE = Network(client_ms=2.2, server_ms=1.2, delay_ms=3.0, think_ms=0.0, processes=1, pool=PLENTY, cores=PLENTY)
"""On a machine on which no core is scarce, with a connection for everybody."""

NETWORKS = st.builds(
    Network,
    client_ms=st.floats(0.1, 50),
    server_ms=st.one_of(st.just(0.0), st.floats(0.01, 50)),
    delay_ms=st.one_of(st.just(0.0), st.floats(0.01, 500)),
    think_ms=st.one_of(st.just(0.0), st.floats(0.1, 1000)),
    processes=st.integers(1, 4),
    pool=st.integers(1, 20),
    cores=st.one_of(st.integers(1, 8), st.floats(0.2, 8)),
    others=st.one_of(st.just(0.0), st.floats(0.1, 8)),
)
USERS = st.integers(1, 40)


def mean_value_analysis(network: Network, users: int) -> float:
    """Pages a ms by Reiser and Lavenberg's exact algorithm: a queue for the client, and delays."""
    delays_ms = network.server_ms + network.delay_ms + network.think_ms
    queue = rate = 0.0
    for count in range(1, users + 1):
        client_ms = network.client_ms * (1 + queue)
        rate = count / (client_ms + delays_ms)
        queue = rate * client_ms
    return rate


def simulated(network: Network, users: int, round_trips: int, pages: int) -> float:
    """Pages a ms of a simulation, in which each page goes to client, server and network in turns, so many times.

    All times are exponential, so that what happens next depends on the numbers alone.
    """
    random_ = random.Random(f"{network}/{users}")
    processes = network.processes
    thinking = [users // processes + (process < users % processes) for process in range(processes)]
    waiting, inside = [0] * processes, [0] * processes
    places = ("client", "server", "delay")
    at: dict[str, list[list[int]]] = {place: [[] for _ in range(processes)] for place in places}
    means_ms = {"client": network.client_ms, "server": network.server_ms, "delay": network.delay_ms}
    now_ms, finished, counted_from_ms, begin_at = 0.0, 0, 0.0, pages // 10

    def ask(process: int) -> None:
        thinking[process] -= 1
        if inside[process] < network.pool:
            inside[process] += 1
            at["client"][process].append(round_trips)
        else:
            waiting[process] += 1

    def go_on(place: str, process: int) -> None:
        nonlocal finished, counted_from_ms
        pages_here = at[place][process]
        left = pages_here.pop(random_.randrange(len(pages_here)))
        following = [each for each in places[places.index(place) + 1 :] if means_ms[each]]
        if following:
            at[following[0]][process].append(left)
        elif left > 1:
            at["client"][process].append(left - 1)
        else:
            finished += 1
            if finished == begin_at:
                counted_from_ms = now_ms
            thinking[process] += 1
            inside[process] -= 1
            if waiting[process]:
                waiting[process] -= 1
                inside[process] += 1
                at["client"][process].append(round_trips)
            if not network.think_ms:
                ask(process)

    if not network.think_ms:
        for process in range(processes):
            for _ in range(thinking[process]):
                ask(process)
    while finished < pages:
        ready = sum(bool(at["client"][each]) + len(at["server"][each]) for each in range(processes))
        speed = min(1.0, network.cores / (ready + network.others)) if ready else 1.0
        happens: list[tuple[float, str, int]] = []
        for each in range(processes):
            if at["client"][each]:
                happens.append((speed * round_trips / network.client_ms, "client", each))
            if at["server"][each]:
                happens.append((speed * round_trips * len(at["server"][each]) / network.server_ms, "server", each))
            if at["delay"][each]:
                happens.append((round_trips * len(at["delay"][each]) / network.delay_ms, "delay", each))
            if network.think_ms and thinking[each]:
                happens.append((thinking[each] / network.think_ms, "think", each))
        total = sum(rate for rate, _, _ in happens)
        now_ms += random_.expovariate(total)
        _, place, process = random_.choices(happens, [rate for rate, _, _ in happens])[0]
        if place == "think":
            ask(process)
        else:
            go_on(place, process)
    return (pages - begin_at) / (now_ms - counted_from_ms)


@pytest.mark.parametrize("think_ms", [0.0, 50.0])
@pytest.mark.parametrize("users", [1, 2, 3, 7, 10, 50, 1000])
def test_where_no_core_is_scarce_it_is_exactly_mean_value_analysis(users: int, think_ms: float) -> None:
    network = replace(PAGE, think_ms=think_ms)
    assert isclose(flow(network, users).pages_per_ms, mean_value_analysis(network, users), rel_tol=1e-9)


def test_one_server_for_all_is_a_machine_repair_model() -> None:
    """A pool of one: a page at a time, for which the others wait as machines wait for one repairman."""
    network = replace(PAGE, pool=1, think_ms=40.0)
    alone_ms = network.client_ms + network.server_ms + network.delay_ms
    repair = Network(alone_ms, 0.0, 0.0, network.think_ms, 1, PLENTY, PLENTY)
    for users in (1, 2, 5, 20):
        assert isclose(flow(network, users).pages_per_ms, mean_value_analysis(repair, users), rel_tol=1e-9)


@pytest.mark.parametrize(
    ("network", "users"),
    [
        (replace(PAGE, cores=2), 4),
        (replace(PAGE, cores=2, server_ms=2.2, delay_ms=1.0), 10),
        (replace(PAGE, cores=1, delay_ms=8.0), 5),
        (replace(PAGE, cores=2, pool=3, delay_ms=15.0), 10),
        (replace(PAGE, cores=2, pool=4, think_ms=20.0), 12),
        (replace(PAGE, cores=2, processes=2, delay_ms=10.0), 12),
        (replace(PAGE, cores=2, processes=2, pool=2, server_ms=3.0), 9),
        (replace(PAGE, cores=4, processes=3, think_ms=15.0, server_ms=4.0), 14),
        (replace(PAGE, cores=2, others=2.0), 1),
        (replace(PAGE, cores=2, others=0.7, pool=3), 10),
    ],
)
def test_it_is_near_a_simulation_where_cores_are_shared_and_pools_are_small(network: Network, users: int) -> None:
    """The simulation has a page's round trips, which the network has not, and chance of about 1 %."""
    assert flow(network, users).pages_per_ms == pytest.approx(simulated(network, users, 4, 6_000), rel=0.05)


@given(NETWORKS, USERS)
def test_no_law_of_operational_analysis_is_broken(network: Network, users: int) -> None:
    """The asymptotic bounds of Denning and Buzen (1978), and Little's law."""
    passing = flow(network, users)
    alone_ms = network.client_ms + network.server_ms + network.delay_ms
    processes = min(network.processes, users)
    inside = sum(min(network.pool, users // processes + (each < users % processes)) for each in range(processes))
    bounds = (
        users / (alone_ms + network.think_ms),
        inside / alone_ms,
        processes / network.client_ms,
        network.cores / (network.client_ms + network.server_ms),
    )
    assert 0 < passing.pages_per_ms <= min(bounds) * (1 + 1e-5)
    assert isclose(users, passing.pages_per_ms * (passing.response_ms + network.think_ms), rel_tol=1e-9)
    assert -1e-9 <= passing.pool_ms <= passing.response_ms
    assert 0 < passing.client_share <= 1 + 1e-6


@given(NETWORKS, USERS)
def test_more_users_a_larger_pool_or_a_nearer_database_serve_no_fewer_pages(network: Network, users: int) -> None:
    rate = flow(network, users).pages_per_ms * (1 - 1e-5)
    one = replace(network, processes=1)
    assert flow(one, users + 1).pages_per_ms >= flow(one, users).pages_per_ms * (1 - 1e-5)
    assert flow(replace(network, pool=network.pool + 1), users).pages_per_ms >= rate
    assert flow(replace(network, delay_ms=network.delay_ms / 2), users).pages_per_ms >= rate
    assert flow(replace(network, client_ms=network.client_ms / 2), users).pages_per_ms >= rate
    assert flow(replace(network, cores=network.cores + 1), users).pages_per_ms >= rate


@settings(max_examples=20)
@given(NETWORKS, st.integers(1, 10_000), st.integers(1, 10_000))
def test_many_users_and_extreme_times_give_numbers(network: Network, users: int, pool: int) -> None:
    for factor in (1e-6, 1.0, 1e6):
        made = replace(network, pool=min(pool, 500), delay_ms=network.delay_ms * factor, server_ms=factor)
        passing = flow(made, users)
        assert 0 < passing.pages_per_ms < inf
        assert 0 < passing.response_ms + made.think_ms < inf
