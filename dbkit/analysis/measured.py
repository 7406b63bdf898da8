"""What one condition has measured, as far as a forecast needs it: from its row, its slots, and what it was measured on.

All of it may come from a file of somebody else's, so that nothing is taken for granted. The forecast is made in
`dbkit.analysis.forecast`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Any

import numpy as np

from dbkit.analysis.records import ClassRow, SlotRow
from dbkit.analysis.slot import mean
from dbkit.measure.cost import PARTS

MOST = 10_000
"""Users, connections and processes of a forecast, at the most."""
LONGEST_MS = 1e6
"""A time that goes into a forecast, at the most."""
LEAST_CORES = 0.1
"""What others leave of a machine at the least: load and server have run on it."""
MANY_INSIDE = 1.5
"""Pages in progress, as a share of the connections that the options give: with more, there were more connections. A
page is in progress for a while after it has handed its connection back."""

POOL_SIZE, OVERFLOW, POOL_CLASS, ROUND_TRIP = "pool-size", "max-overflow", "pool-class", "round-trip"
SETTINGS_FORECAST = (POOL_SIZE, OVERFLOW, ROUND_TRIP)
"""The settings that vary and that a forecast knows the effect of."""

_AT_ITS_LIMIT = ("client CPU", "machine", "database")


class NoForecast(Exception):
    """Why there is no forecast of a condition, in words."""


@dataclass(frozen=True)
class Setting:
    """What a forecast is for."""

    users: int
    pool_size: int
    """How many connections each process may have."""
    processes: int
    round_trip_ms: float
    """What the network takes of each round trip."""


@dataclass(frozen=True)
class Wakeups:
    """How much more CPU time a piece of work takes after its process has slept: see `dbkit.database.wakeups`."""

    sleep_ms: tuple[float, ...] = ()
    """Ascending."""
    more_ms: tuple[float, ...] = ()
    """After each of these; never less after a longer one."""

    def more_after(self, sleep_ms: float) -> float:
        """What it takes more after such a sleep: nothing after none, and no more after a longer one than was tried."""
        return float(np.interp(sleep_ms, (0.0, *self.sleep_ms), (0.0, *self.more_ms)))


NO_WAKEUPS = Wakeups()


@dataclass(frozen=True)
class Measured:
    """What one condition has measured, as far as a forecast needs it. Times are means a page."""

    setting: Setting
    pages_per_s: float
    response_ms: float
    think_ms: float
    round_trips: float
    client_cpu_ms: float
    server_cpu_ms: float
    """0 where the server is on another machine, so that its CPU time is not known."""
    overhead_ms: float
    """What a round trip of the shortest statement takes, without the network's part."""
    cores: float
    """Cores of the machine, without those that the hypervisor gave to others and those that a relay used."""
    others: float
    """How many cores other processes used, on average."""
    at_its_limit: bool
    wakeups: Wakeups = NO_WAKEUPS
    """What sleeping costs on that machine; nothing where it is not known."""


def what_was_measured(row: ClassRow, slots: Iterable[SlotRow], measured_on: Mapping[str, Any]) -> Measured:
    """What a forecast needs of a condition: its row, its slots, and `Result.measured_on`.

    Raises NoForecast where something is not known.
    """
    options, server = _settings(measured_on, "options"), _settings(measured_on, "server")
    parts = [_number(getattr(row, part)) for part in PARTS]
    if row.arrivals_per_s is not None:
        raise NoForecast("its pages arrive at a rate; forecasts are for users who ask for one page after the other")
    users, pages_per_s = _count(row.users), _number(row.pages_per_s)
    if not users or not pages_per_s or None in parts:
        raise NoForecast("no page of it was served in rounds")
    client_cpu_ms, round_trips = _number(row.client_cpu_ms), _number(row.round_trips)
    if not client_cpu_ms or round_trips is None:
        raise NoForecast("its client CPU is not known, as one class at a time in rounds has it")
    cores, processes = _count(measured_on.get("cores")), _count(row.processes) or 1
    connections = _connections(row, options, processes)
    if not cores or not connections:
        raise NoForecast("the machine's cores or the pool's size are not known")
    is_near = row.server_cpu_ms is not None
    # how far away it was when the run began, by the option, and how far in the slots of this condition
    shortest_ms, option_ms = _number(server.get("round_trip_ms")), 1000 * (_number(options.get("round_trip")) or 0)
    relay_ms = _milliseconds(row.settings[ROUND_TRIP]) if ROUND_TRIP in row.settings else option_ms
    if relay_ms is None or (shortest_ms is None and not is_near):
        raise NoForecast("it is not known how far away its database was")
    both_ends_ms = max((shortest_ms or 0.0) - option_ms, 0.0)
    network_ms = relay_ms if is_near else relay_ms + both_ends_ms
    relay_share = pages_per_s * (_number(row.relay_cpu_ms) or 0) / 1000  # of one core
    return Measured(
        setting=Setting(users, connections, processes, network_ms),
        pages_per_s=pages_per_s,
        response_ms=sum(filter(None, parts)),
        think_ms=_number(row.think_ms) or 0.0,
        round_trips=round_trips,
        client_cpu_ms=client_cpu_ms,
        server_cpu_ms=_number(row.server_cpu_ms) or 0.0,
        overhead_ms=both_ends_ms if is_near else 0.0,
        cores=max(cores * (1 - _share(row, slots, "steal_share")) - relay_share, LEAST_CORES),
        others=min(cores * _share(row, slots, "other_cpu_share"), cores),
        at_its_limit=row.bound_by in _AT_ITS_LIMIT,
        wakeups=_wakeups(_settings(server, "cpu_by_wait_ms")),
    )


def _connections(row: ClassRow, options: Mapping[str, Any], processes: int) -> int | None:
    """How many connections each process could have; None where that is not known.

    It is more than the options say where a class has an engine of its own.
    """
    users = ceil((row.users or 0) / processes)
    if row.settings.get(POOL_CLASS, options.get("pool_class")) == "null":
        return users
    known = [row.settings.get(name, options.get(name.replace("-", "_"))) for name in (POOL_SIZE, OVERFLOW)]
    pool_size, overflow = map(_count, known)
    if not pool_size or overflow is None:
        return None
    # by Little's law; pages that wait to the end of a slot are never done, so that time in the pool does not show them
    inside_ms = sum(getattr(row, part) or 0 for part in PARTS if part not in ("queue_ms", "pool_ms"))
    inside = inside_ms * (row.pages_per_s or 0) / 1000
    known_most = pool_size + overflow
    return users if inside > (MANY_INSIDE * known_most + 1) * processes else known_most


def _share(row: ClassRow, slots: Iterable[SlotRow], name: str) -> float:
    """The mean of this share of the machine in the condition's slots."""
    return mean(getattr(slot, name) for slot in slots if slot.condition == row.condition and not slot.replaced) or 0.0


def _wakeups(known: Mapping[str, Any]) -> Wakeups:
    """What sleeping costs; nothing where it was not measured, or not as dbkit does it."""
    cpu_ms = {_milliseconds(wait_ms): _number(cpu_ms) for wait_ms, cpu_ms in known.items()}
    at_once_ms = cpu_ms.get(0.0)
    if not at_once_ms or None in cpu_ms or None in cpu_ms.values():
        return NO_WAKEUPS
    sleeps_ms = sorted(filter(None, cpu_ms))
    # a longer sleep costs no less, whatever the scatter of the measurement
    more_ms = accumulate((max((cpu_ms[each] or 0) - at_once_ms, 0.0) for each in sleeps_ms), max)
    return Wakeups(tuple(sleeps_ms), tuple(more_ms))


def _settings(measured_on: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of this name; none where it is something else, as the file may be somebody else's."""
    value = measured_on.get(name)
    return value if isinstance(value, dict) else {}


def _milliseconds(text: str) -> float | None:
    """A time such as `1ms`, or `1`."""
    try:
        return _number(float(text.removesuffix("ms")))
    except ValueError:
        return None


def _count(value: object) -> int | None:
    """A count within bounds, or None; one that varies is text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def _number(value: object) -> float | None:
    """A figure of at least 0, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_MS:
        return float(value)
    return None
