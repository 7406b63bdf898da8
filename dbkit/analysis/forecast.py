"""A forecast: pages a second and response time of a condition with other users, pools, processes and networks.

It rests on what one condition has measured. What a page takes is put into the closed network of
`dbkit.analysis.queueing`. What that network leaves unexplained is one number, found such that the forecast for the
measured setting is what was measured:

- Where something was at its limit (`bound_by` is client CPU, machine or database) it is a factor of the CPU times, as
  CPU time that is lost counts there: while the interpreter lock goes from thread to thread, or others use the caches.
- Else it is a wait for each page, which does not keep others waiting: for disks, for locks, for tasks to be woken up.

docs/forecast.md has the assumptions in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import Any

from dbkit.analysis.bound import CORE_SHARE, POOL_SHARE, THINK_SHARE
from dbkit.analysis.model_records import Forecast
from dbkit.analysis.queueing import Flow, Network, flow
from dbkit.analysis.records import ClassRow, SlotRow
from dbkit.analysis.rows import rounded
from dbkit.analysis.slot import mean
from dbkit.measure.cost import PARTS

DISTANCES_MS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Round trips of the network for which a result says how fast its classes would be."""
NETWORK_SHARE = 0.5
"""The share of the response time that the network takes where round trips are what keeps users waiting."""
MOST = 10_000
"""Users, connections and processes of a forecast, at the most."""
LONGEST_MS = 1e6
"""A time that goes into a forecast, at the most."""
LEAST_CORES = 0.1
"""What others leave of a machine at the least: load and server have run on it."""
LARGEST_FACTOR = 20.0
"""Of the CPU times, at the most and, upside down, at the least: beyond it the network is not what was measured."""

NO_WAIT = 0.1
"""The share of the pages that would wait for a connection: where fewer did, the pool was not that small."""

_POOL = ("pool_size", "max_overflow")
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
    """Cores of the machine, without what others used of them."""
    at_its_limit: bool


@dataclass(frozen=True)
class Forecaster:
    """Forecasts from what one condition has measured; made by `fit`."""

    network: Network
    """That of the measured setting, without the part of the database's distance."""
    round_trips: float
    """A page."""
    response_share: float
    """The share of the time between two pages of a user that is response time: the rest is the load generator's."""

    def at(self, setting: Setting) -> Flow:
        """What would pass with a setting."""
        passing = flow(self._network_at(setting), setting.users)
        return replace(passing, response_ms=passing.response_ms * self.response_share)

    def bound_by(self, setting: Setting, passing: Flow) -> str:
        """What would bind it, in the words of `dbkit.analysis.bound`; `round trips` where users wait for these."""
        network = self.network
        if passing.client_share >= CORE_SHARE:
            return "client CPU"
        if passing.pages_per_ms * (network.client_ms + network.server_ms) >= CORE_SHARE * network.cores:
            return "machine"
        if passing.pool_ms >= POOL_SHARE * passing.response_ms:
            return "pool"
        if network.think_ms >= THINK_SHARE * (network.think_ms + passing.response_ms):
            return "think time"
        if self.round_trips * setting.round_trip_ms >= NETWORK_SHARE * passing.response_ms:
            return "round trips"
        return "users"

    def _network_at(self, setting: Setting) -> Network:
        return replace(
            self.network,
            delay_ms=self.network.delay_ms + self.round_trips * setting.round_trip_ms,
            processes=setting.processes,
            pool=setting.pool_size,
        )


def fit(measured: Measured) -> Forecaster:
    """The network that serves as many pages as were measured, with the setting of the measurement.

    Raises NoForecast where none does: then what was measured does not fit together.
    """
    setting = measured.setting
    known = Network(
        client_ms=measured.client_cpu_ms,
        server_ms=measured.server_cpu_ms,
        delay_ms=measured.round_trips * measured.overhead_ms,
        think_ms=measured.think_ms,
        processes=setting.processes,
        pool=setting.pool_size,
        cores=measured.cores,
    )

    def with_cpu_times(factor: float) -> Network:
        return replace(known, client_ms=known.client_ms * factor, server_ms=known.server_ms * factor)

    def with_delay(delay_ms: float) -> Network:
        return replace(known, delay_ms=delay_ms)

    def forecaster(network: Network) -> Forecaster:
        return Forecaster(network, measured.round_trips, 1.0)

    def pages_too_many(network: Network) -> float:
        return forecaster(network).at(setting).pages_per_ms * 1000 - measured.pages_per_s

    if not measured.at_its_limit and pages_too_many(with_delay(0.0)) >= 0:
        longest_ms = 1000 * setting.users / measured.pages_per_s
        network = _root(with_delay, pages_too_many, 0.0, longest_ms)
    else:
        if not measured.at_its_limit:
            known = with_delay(0.0)  # less CPU time than was used: threads used some of it at the same time
        network = _root(with_cpu_times, pages_too_many, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    modelled_ms = forecaster(network).at(setting).response_ms
    response_share = min(measured.response_ms / modelled_ms, 1.0) if modelled_ms > 0 else 1.0
    return replace(forecaster(network), response_share=response_share)


def _root(
    changed: Callable[[float], Network], too_many: Callable[[Network], float], low: float, high: float
) -> Network:
    """The changed network with which pages are neither too many nor too few; the larger the change, the fewer."""
    from scipy.optimize import brentq  # not before it is needed: it takes a while

    if too_many(changed(low)) < 0 or too_many(changed(high)) > 0:
        raise NoForecast("its pages a second do not go together with what a page took")
    return changed(float(brentq(lambda number: too_many(changed(number)), low, high, xtol=1e-9)))


def what_was_measured(row: ClassRow, slots: Iterable[SlotRow], measured_on: Mapping[str, Any]) -> Measured:
    """What a forecast needs of a condition: its row, its slots, and `Result.measured_on`.

    Raises NoForecast where something is not known.
    """
    options, server = _settings(measured_on, "options"), _settings(measured_on, "server")
    parts = [_number(getattr(row, part)) for part in PARTS]
    users, pages_per_s = _count(row.users), _number(row.pages_per_s)
    if not users or not pages_per_s or None in parts:
        raise NoForecast("no page of it was served in rounds")
    client_cpu_ms, round_trips = _number(row.client_cpu_ms), _number(row.round_trips)
    if not client_cpu_ms or round_trips is None:
        raise NoForecast("its client CPU is not known, as one class at a time in rounds has it")
    cores, pool_size, overflow = (_count(each) for each in (measured_on.get("cores"), *map(options.get, _POOL)))
    processes = _count(row.processes) or 1
    if not cores or not pool_size or overflow is None:
        raise NoForecast("the machine's cores or the pool's size are not known")
    is_near = row.server_cpu_ms is not None
    shortest_ms, added_ms = _number(server.get("round_trip_ms")), 1000 * (_number(options.get("round_trip")) or 0)
    if shortest_ms is None and not is_near:
        raise NoForecast("it is not known how far away its database was")
    network_ms = added_ms if is_near or shortest_ms is None else shortest_ms
    return Measured(
        setting=Setting(users, _connections(row, pool_size + overflow, processes), processes, network_ms),
        pages_per_s=pages_per_s,
        response_ms=sum(filter(None, parts)),
        think_ms=_number(row.think_ms) or 0.0,
        round_trips=round_trips,
        client_cpu_ms=client_cpu_ms,
        server_cpu_ms=_number(row.server_cpu_ms) or 0.0,
        overhead_ms=max((shortest_ms or 0.0) - network_ms, 0.0),
        cores=max(cores * (1 - _others(row, slots)), LEAST_CORES),
        at_its_limit=row.bound_by in _AT_ITS_LIMIT,
    )


@dataclass(frozen=True)
class Wanted:
    """Which settings a forecast is wanted for: all combinations. What is empty stays as it was measured."""

    users: Sequence[int] = ()
    pool_sizes: Sequence[int] = ()
    processes: Sequence[int] = ()
    round_trips_ms: Sequence[float] = ()

    def settings(self, measured: Setting) -> list[Setting]:
        """The settings, in order."""
        each = product(
            self.users or [measured.users],
            self.pool_sizes or [measured.pool_size],
            self.processes or [measured.processes],
            self.round_trips_ms or [measured.round_trip_ms],
        )
        return [Setting(*setting) for setting in each]


def forecasts(
    row: ClassRow, slots: Iterable[SlotRow], measured_on: Mapping[str, Any], wanted: Wanted
) -> list[Forecast]:
    """Forecasts from a condition's row: see `what_was_measured`, which says what raises NoForecast."""
    measured = what_was_measured(row, slots, measured_on)
    forecaster = fit(measured)
    return [_record(row, measured, forecaster, setting) for setting in wanted.settings(measured.setting)]


def distances(rows: Iterable[ClassRow], slots: Sequence[SlotRow], measured_on: Mapping[str, Any]) -> list[Forecast]:
    """How fast each condition would be if the database were as far away as `DISTANCES_MS`; none where unknown."""
    found: list[Forecast] = []
    for row in rows:
        with suppress(NoForecast):
            found += forecasts(row, slots, measured_on, Wanted(round_trips_ms=DISTANCES_MS))
    return found


def _record(row: ClassRow, measured: Measured, forecaster: Forecaster, setting: Setting) -> Forecast:
    passing = forecaster.at(setting)
    record = Forecast(
        workload=row.workload,
        condition=row.condition,
        label=row.label,
        user_class=row.user_class,
        users=setting.users,
        pool_size=setting.pool_size,
        processes=setting.processes,
        round_trip_ms=setting.round_trip_ms,
        pages_per_s=passing.pages_per_ms * 1000,
        response_ms=passing.response_ms,
        pool_ms=passing.pool_ms,
        bound_by=forecaster.bound_by(setting, passing),
        measured_round_trip_ms=measured.setting.round_trip_ms,
        measured_pages_per_s=measured.pages_per_s,
        measured_response_ms=measured.response_ms,
    )
    return rounded(record)


def _connections(row: ClassRow, pool_size: int, processes: int) -> int:
    """How many connections each process could have: more than the option says where a class has its own engine."""
    users = ceil((row.users or 0) / processes)
    waited = (row.pool_ms or 0) * (row.pages_per_s or 0) / 1000
    # by Little's law; without a pool of its own so many would always wait
    return users if users > pool_size and waited < NO_WAIT * (users - pool_size) * processes else pool_size


def _others(row: ClassRow, slots: Iterable[SlotRow]) -> float:
    """The share of the machine that others used, in the condition's slots."""
    counted = [slot for slot in slots if slot.condition == row.condition and not slot.replaced]
    return sum(mean(getattr(slot, name) for slot in counted) or 0 for name in ("other_cpu_share", "steal_share"))


def _settings(measured_on: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of this name; none where it is something else, as the file may be somebody else's."""
    value = measured_on.get(name)
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    """A count within bounds, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def _number(value: object) -> float | None:
    """A figure of at least 0, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_MS:
        return float(value)
    return None
