"""The faults of the soak, each with how long it lasts. What a run makes of them is left to `tests.soak.run`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faulty_network import FaultyNetwork
from tests.servers import Server

LONGEST_S = 8.0
"""Longer than `--page-timeout` of the soak's runs, so that some pages run into it."""
PAUSES_S = (0.5, 6.0)
SLOW_S = 0.02


@dataclass(frozen=True)
class Fault:
    """One fault, as it was drawn."""

    name: str
    pause_s: float
    """How long all is well before it."""
    seconds: float
    """How long it lasts, where it lasts."""

    def __str__(self) -> str:
        return f"{self.name}, after {self.pause_s:.1f} s, for {self.seconds:.1f} s"


def draw(seed: int, run: str, number: int) -> Fault:
    """The fault of that number in that run: the same for the same seed, however busy the machine is."""
    source = random.Random(f"{seed}/{run}/{number}")
    return Fault(source.choice([*FAULTS]), source.uniform(*PAUSES_S), LONGEST_S * source.random() ** 2)


def inflict(fault: Fault, server: Server, network: FaultyNetwork) -> None:
    """Have it happen, and be over."""
    time.sleep(fault.pause_s)
    FAULTS[fault.name](fault, server, network)


def _kill(fault: Fault, server: Server, _: FaultyNetwork) -> None:
    server.kill()
    time.sleep(fault.seconds)
    server.start()


def _stop(fault: Fault, server: Server, _: FaultyNetwork) -> None:
    server.stop()
    time.sleep(fault.seconds)
    server.start()


def _terminate(fault: Fault, server: Server, _: FaultyNetwork) -> None:
    until_s = time.monotonic() + fault.seconds
    while True:
        server.terminate_connections()
        if time.monotonic() > until_s:
            return
        time.sleep(0.5)


def _freeze(fault: Fault, server: Server, _: FaultyNetwork) -> None:
    with server.frozen():
        time.sleep(fault.seconds)


def _cut(fault: Fault, _: Server, network: FaultyNetwork) -> None:
    network.cut()
    time.sleep(fault.seconds)
    network.heal()


def _reset(fault: Fault, _: Server, network: FaultyNetwork) -> None:
    network.reset()


def _cut_and_reset(fault: Fault, server: Server, network: FaultyNetwork) -> None:
    _cut(fault, server, network)
    network.reset()


def _slow(fault: Fault, _: Server, network: FaultyNetwork) -> None:
    network.slow_down(SLOW_S)
    time.sleep(fault.seconds)
    network.slow_down(0.0)


FAULTS: dict[str, Callable[[Fault, Server, FaultyNetwork], None]] = {
    "the server is killed and started again": _kill,
    "the server is stopped and started again": _stop,
    "connections are terminated": _terminate,
    "the server is frozen": _freeze,
    "the network is cut silently, and heals": _cut,
    "the network resets connections": _reset,
    "the network is cut silently, and resets connections": _cut_and_reset,
    "the network is slow": _slow,
}
