"""A closed queueing network of pages: how many come back in a millisecond, and where the others are meanwhile.

The network, from the inside out:

1. Processors. A page needs client CPU, for which the pages of one process queue, as one interpreter runs them all, and
   server CPU, of which a page uses one core. Client and server are on one machine. All that are ready to run, others
   included, share its cores alike.
2. Delays: the network, and whatever else a page waits for without keeping anybody else waiting.
3. The pool lets so many pages of a process into 1 and 2; the others wait.
4. Think time, before a user asks for the next page.

Each step is solved as a queue whose rate depends on how many are in it, and then takes part in the next one as a single
station with just these rates: the flow-equivalent method of Chandy, Herzog and Woo (1975), see Bolch, Greiner, de Meer
and Trivedi, "Queueing Networks and Markov Chains" (2nd ed., 2006), sections 8.3 and 10.1. Where no core is scarce and
no pool is at its limit the network has product form (Baskett, Chandy, Muntz and Palacios, 1975), and the answer is
exactly that of mean value analysis (Reiser and Lavenberg, 1980). It needs no approximation of a station with several
servers, such as Seidmann's (1987), as rates depend on the number anyway.

Several processes take turns on the same cores: each has what the others, which do the same, leave it on average (a
mean-field approximation), and no less than its share.

What goes into the network is decided in `dbkit.analysis.forecast`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ACCURACY = 1e-7
"""The accuracy of a share of the cores: more than enough for the digits that a result has."""


@dataclass(frozen=True)
class Network:
    """What a page needs, in ms, and what there is to serve it."""

    client_ms: float
    """CPU time of a load process; above 0."""
    server_ms: float
    """CPU time of the server; 0 where that is on another machine, and what it takes is a delay."""
    delay_ms: float
    """What it waits for without keeping others waiting."""
    think_ms: float
    """Before it."""
    processes: int
    """Load processes."""
    pool: int
    """How many connections each of them may have."""
    cores: float
    """Cores of the machine that there are for it and for the `others`."""
    others: float = 0.0
    """How many processes of others are ready to run, on average."""


@dataclass(frozen=True)
class Flow:
    """What passes through a network."""

    pages_per_ms: float
    response_ms: float
    """Mean, without the think time."""
    pool_ms: float
    """The part of it in which a page waits for a connection."""
    client_share: float
    """How much of one core a load process uses, on average; 1 at the most."""


def flow(network: Network, users: int) -> Flow:
    """What passes through the network with so many users, who are spread over its processes."""
    processes = min(network.processes, users)
    flows = _of_processes(network, users, processes, _cores_of_one(network, users, processes))
    rate = sum(count * each.pages_per_ms for count, each in flows)
    waiting = sum(count * each.pages_per_ms * each.pool_ms for count, each in flows)
    return Flow(
        pages_per_ms=rate,
        response_ms=users / rate - network.think_ms,
        pool_ms=waiting / rate,
        client_share=rate * network.client_ms / processes,
    )


def _cores_of_one(network: Network, users: int, processes: int) -> float:
    """The cores that are left to one process with its share of the users."""
    from scipy.optimize import brentq  # not before it is needed: it takes a while

    def too_many(share: float) -> float:
        # the more cores it has, the more the others, who have as many, use of them: one number fits
        flows = _of_processes(network, users, processes, network.cores * share)
        rate = sum(count * each.pages_per_ms for count, each in flows) / processes
        used = (processes - 1) * rate * (network.client_ms + network.server_ms)
        return used / network.cores + share - 1

    if processes == 1 or too_many(1.0) <= 0:
        return network.cores
    least = 1 / processes
    return network.cores * (least if too_many(least) >= 0 else float(brentq(too_many, least, 1.0, xtol=_ACCURACY)))


def _of_processes(network: Network, users: int, processes: int, cores: float) -> list[tuple[int, Flow]]:
    """What passes through each process, and how many processes are alike: some may have a user more than others."""
    fewest, more = divmod(users, processes)
    counts = {fewest: processes - more, fewest + 1: more}
    return [(count, _of_process(network, each, cores)) for each, count in counts.items() if count]


def _of_process(network: Network, users: int, cores: float) -> Flow:
    """What passes through one process."""
    admitted = min(users, network.pool)
    others = network.others * cores / network.cores  # of those that one of several processes shares cores with
    processors = processor_rates(replace(network, cores=cores, others=others), admitted)
    if network.think_ms == 0:  # then there are always so many
        rate, waiting = throughput(processors, network.delay_ms), float(users - admitted)
    else:
        inside = np.array([throughput(processors[:count], network.delay_ms) for count in range(1, admitted + 1)])
        # beyond the pool's size no page more is let in
        rates = np.concatenate([inside, np.full(users - admitted, inside[-1])])
        shares = _shares(rates, network.think_ms)
        rate = float(shares[1:] @ rates)
        waiting = float(shares @ np.maximum(np.arange(users + 1) - network.pool, 0))
    return Flow(rate, users / rate - network.think_ms, waiting / rate, rate * network.client_ms)


def processor_rates(network: Network, most: int) -> Floats:
    """How many pages a ms leave the processors while 1, 2, … `most` pages are there.

    A page goes from client to server and back. Of so many, `k` are at the server: a birth-death chain in `k`.
    """
    at_server, cores, others = np.arange(1, most + 1), network.cores, network.others
    # the interpreter and k backends are ready to run; where no page is at the client, k backends alone
    to_server = np.minimum(1, cores / (at_server + others)) / network.client_ms
    from_server = at_server * np.minimum(1, cores / (at_server + 1 + others))
    from_server_alone = at_server * np.minimum(1, cores / (at_server + others))
    if network.server_ms == 0:
        return np.asarray(np.full(most, to_server[0]))
    # in logarithms, as the numbers are too large otherwise
    steps = np.log(to_server * network.server_ms)
    weights = np.concatenate([[0.0], np.cumsum(steps - np.log(from_server))[:-1]])  # of 0, 1, … most - 1 at the server
    all_at_server = weights + steps - np.log(from_server_alone)
    flowing = np.logaddexp.accumulate(weights + np.log(to_server))
    return np.asarray(np.exp(flowing - np.logaddexp(np.logaddexp.accumulate(weights), all_at_server)))


def throughput(rates: Floats, delay_ms: float) -> float:
    """What passes through a station with a delay after it, in which there are as many pages as it has `rates`."""
    return float(rates[-1] if delay_ms == 0 else _shares(rates, delay_ms)[1:] @ rates)


def _shares(rates: Floats, delay_ms: float) -> Floats:
    """The shares of the time in which 0, 1, … all pages are at a station with these rates, the others in the delay."""
    arrivals = np.log(np.arange(len(rates), 0, -1) / delay_ms)
    weights = np.concatenate([[0.0], np.cumsum(arrivals - np.log(rates))])
    shares = np.exp(weights - weights.max())
    return np.asarray(shares / shares.sum())
