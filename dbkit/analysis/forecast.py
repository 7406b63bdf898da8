"""A forecast: pages a second and response time of a condition with other users, pools, processes and networks.

It rests on what one condition has measured. What a page takes is put into the closed network of
`dbkit.analysis.queueing`. What that network leaves unexplained is one number, found such that the forecast for the
measured setting is what was measured:

- Where something was at its limit (`bound_by` is client CPU, machine or database) it is a factor of the CPU times, as
  CPU time that is lost counts there: while the interpreter lock goes from thread to thread, or others use the caches.
- Else it is a wait for each page, which does not keep others waiting: for disks, for locks, for tasks to be woken up.

A load process that has slept begins with cold caches, and takes more CPU time for what comes next. How much was
measured when the run began, without any page (`dbkit.database.wakeups`). How often it has slept, and for how long, is
what the network says, which is solved a few times for it.

docs/forecast.md has the assumptions in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any

from dbkit.analysis.bound import CORE_SHARE, POOL_SHARE, THINK_SHARE
from dbkit.analysis.measured import SETTINGS_FORECAST, Measured, NoForecast, Setting, Wakeups, what_was_measured
from dbkit.analysis.model_records import Forecast
from dbkit.analysis.queueing import Flow, Network, flow
from dbkit.analysis.records import ClassRow, SlotRow
from dbkit.analysis.rows import rounded

DISTANCES_MS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Round trips of the network for which a result says how fast its classes would be."""
NETWORK_SHARE = 0.5
"""The share of the response time that the network takes where round trips are what keeps users waiting."""
_TIMES = 3
"""The network is solved so often for how long load processes sleep."""
LEAST_CPU = 0.5
"""The share of the client CPU time that is not put down to sleeping in any case."""
LARGEST_FACTOR = 20.0
"""How far CPU times are scaled, up or down: beyond it the network is not what was measured."""


@dataclass(frozen=True)
class Forecaster:
    """Forecasts from what one condition has measured; made by `fit`."""

    network: Network
    """That of the measured setting, without the part of the database's distance."""
    round_trips: float
    """A page."""
    wakeups: Wakeups
    response_share: float
    """The share of the time between two pages of a user that is response time: the rest is the load generator's."""

    def at(self, setting: Setting) -> Flow:
        """What would pass with a setting."""
        network = self._network_at(setting)
        passing = flow(network, setting.users)
        for _ in range(_TIMES if self.wakeups.more_ms else 0):
            inside = _pages_inside(setting, passing.response_ms, network.think_ms)
            more_ms = wakeups_ms(
                self.wakeups,
                pieces=self.round_trips,
                pages_per_ms=passing.pages_per_ms / setting.processes,
                client_share=passing.client_share,
                pages_inside=inside,
            )
            passing = flow(replace(network, client_ms=network.client_ms + more_ms), setting.users)
        return replace(passing, response_ms=passing.response_ms * self.response_share)

    def beside(self, measured: Measured) -> Forecaster:
        """The same on the machine as it was in another measurement, with a relay's CPU time and what others used."""
        return replace(self, network=replace(self.network, cores=measured.cores, others=measured.others))

    def bound_by(self, setting: Setting, passing: Flow) -> str:
        """What would bind it, in the words of `dbkit.analysis.bound`; `round trips` where users wait for these."""
        network = self.network
        if passing.client_share >= CORE_SHARE:
            return "client CPU"
        client_cores = passing.client_share * min(setting.processes, setting.users)
        used = client_cores + passing.pages_per_ms * network.server_ms + network.others
        if used >= CORE_SHARE * network.cores:
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


def wakeups_ms(
    wakeups: Wakeups,
    *,
    pieces: float,
    pages_per_ms: float,
    client_share: float,
    pages_inside: float,
) -> float:
    """What a page takes more, in ms, as its load process has slept before some of the `pieces` of its work.

    A piece finds the process asleep where no other page keeps it busy, which `1 / pages_inside` of the pages do
    themselves (the arrival theorem, as approximated by Schweitzer, 1979). All sleeps together take what the process
    leaves of a core.
    """
    pieces = max(pieces, 1.0)
    asleep = 1 - min(client_share, 1.0) * (1 - 1 / pages_inside)
    sleep_ms = (1 - min(client_share, 1.0)) / (pages_per_ms * pieces * asleep) if asleep > 0 else 0.0
    return pieces * asleep * wakeups.more_after(sleep_ms)


def _pages_inside(setting: Setting, response_ms: float, think_ms: float) -> float:
    """How many pages of a process have a connection, at the most, and are not yet done; 1 at the least."""
    asked_for = setting.users / setting.processes * response_ms / (response_ms + think_ms)
    return max(min(asked_for, setting.pool_size), 1.0)


def _without_wakeups(measured: Measured) -> float:
    """The client CPU time of a page if its load process never slept."""
    setting = measured.setting
    pages_per_ms = measured.pages_per_s / 1000 / setting.processes
    more_ms = wakeups_ms(
        measured.wakeups,
        pieces=measured.round_trips,
        pages_per_ms=pages_per_ms,
        client_share=pages_per_ms * measured.client_cpu_ms,
        pages_inside=_pages_inside(setting, measured.response_ms, measured.think_ms),
    )
    return max(measured.client_cpu_ms - more_ms, LEAST_CPU * measured.client_cpu_ms)


def fit(measured: Measured) -> Forecaster:
    """The network that serves as many pages as were measured, with the setting of the measurement.

    Raises NoForecast where none does: then what was measured does not fit together.
    """
    setting = measured.setting
    known = Network(
        client_ms=_without_wakeups(measured),
        server_ms=measured.server_cpu_ms,
        delay_ms=measured.round_trips * measured.overhead_ms,
        think_ms=measured.think_ms,
        processes=setting.processes,
        pool=setting.pool_size,
        cores=measured.cores,
        others=measured.others,
    )

    def with_cpu_times(factor: float) -> Network:
        return replace(known, client_ms=known.client_ms * factor, server_ms=known.server_ms * factor)

    def with_delay(delay_ms: float) -> Network:
        return replace(known, delay_ms=delay_ms)

    def forecaster(network: Network) -> Forecaster:
        return Forecaster(network, measured.round_trips, measured.wakeups, 1.0)

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
    return changed(float(brentq(lambda number: too_many(changed(number)), low, high, rtol=1e-7)))


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


class Forecasts:
    """Forecasts from the conditions of a result, with what was measured of the same setting where it was."""

    def __init__(self, rows: Iterable[ClassRow], slots: Sequence[SlotRow], measured_on: Mapping[str, Any]) -> None:
        self._slots, self._measured_on = slots, measured_on
        self._rows = list(rows)
        self._measured: dict[Hashable, tuple[ClassRow, Measured]] = {}
        for row in self._rows:
            with suppress(NoForecast):
                measured = what_was_measured(row, slots, measured_on)
                self._measured[_line(row), measured.setting] = row, measured

    def of(self, row: ClassRow, wanted: Wanted) -> list[Forecast]:
        """Forecasts from a condition's row: see `what_was_measured`, which says what raises NoForecast."""
        measured = what_was_measured(row, self._slots, self._measured_on)
        forecaster = fit(measured)
        return [self._record(row, measured, forecaster, setting) for setting in wanted.settings(measured.setting)]

    def distances(self) -> list[Forecast]:
        """How fast conditions would be if the database were as far away as `DISTANCES_MS`; none where unknown.

        Where the distance varies the forecasts are those from the nearest, also for the other ones.
        """
        lines: dict[Hashable, list[tuple[float, ClassRow]]] = {}
        for row, measured in self._measured.values():
            setting = measured.setting
            lines.setdefault((_line(row), replace(setting, round_trip_ms=0)), []).append((setting.round_trip_ms, row))
        found: list[Forecast] = []
        for members in lines.values():
            nearest_ms, row = min(members, key=lambda member: member[0])
            others_ms = [away_ms for away_ms, _ in members if away_ms != nearest_ms]
            with suppress(NoForecast):
                found += self.of(row, Wanted(round_trips_ms=sorted({*DISTANCES_MS, *others_ms})))
        return found

    def _record(self, row: ClassRow, measured: Measured, forecaster: Forecaster, setting: Setting) -> Forecast:
        _, actual = self._measured.get((_line(row), setting), (row, None))
        if actual is not None:  # what a relay and others used of the machine then is no error of the forecast
            forecaster = forecaster.beside(actual)
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
            rests_on_round_trip_ms=measured.setting.round_trip_ms,
            rests_on_pages_per_s=measured.pages_per_s,
            rests_on_response_ms=measured.response_ms,
            measured_pages_per_s=None if actual is None else actual.pages_per_s,
            measured_response_ms=None if actual is None else actual.response_ms,
            pages_per_s_error=None if actual is None else passing.pages_per_ms * 1000 / actual.pages_per_s - 1,
            response_ms_error=None if actual is None else passing.response_ms / actual.response_ms - 1,
        )
        return rounded(record)


def sentence_on_errors(forecasts: Iterable[Forecast]) -> str | None:
    """How far forecasts were off where the same was measured; None where nothing was.

    What a forecast rests on is none: it comes out as it was measured.
    """
    errors = [
        abs(each.pages_per_s_error)
        for each in forecasts
        if each.pages_per_s_error is not None and each.round_trip_ms != each.rests_on_round_trip_ms
    ]
    if not errors:
        return None
    if len(errors) == 1:
        return f"The forecast for the database farther away was off by {100 * errors[0]:.0f} %."
    return (
        f"{len(errors)} forecasts for the database farther away were off by {100 * median(errors):.0f} % (median), "
        f"{100 * max(errors):.0f} % at the most."
    )


def _line(row: ClassRow) -> Hashable:
    """What a forecast leaves as it is."""
    kept = sorted((name, value) for name, value in row.settings.items() if name not in SETTINGS_FORECAST)
    return row.workload, row.user_class, tuple(kept)
