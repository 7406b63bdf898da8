"""Forecasts: what was measured comes out for what was measured, known systems come out as they are, else none."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from dbkit.analysis.forecast import DISTANCES_MS, Forecasts, Wanted, fit, sentence_on_errors
from dbkit.analysis.measured import Measured, NoForecast, Setting, Wakeups, what_was_measured
from dbkit.analysis.model_records import Forecast
from dbkit.analysis.queueing import Network, flow
from dbkit.analysis.records import ClassRow
from dbkit.analysis.rounds import result_of_rounds
from dbkit.measure.cost import PARTS
from tests.analysis.test_result import USER_CLASSES, schedule
from tests.slots import class_row, slot_row

ROUND_TRIPS = 4.0
SYSTEM = Network(client_ms=2.0, server_ms=1.0, delay_ms=1.5, think_ms=0.0, processes=1, pool=10, cores=2)
"""A page as it is, its database near."""
NEAR = Setting(users=1, pool_size=10, processes=1, round_trip_ms=0.0)
MEASURED_ON: dict[str, Any] = {
    "cores": 2,
    "server": {"round_trip_ms": 0.06},
    "options": {"pool_size": 5, "max_overflow": 10, "processes": None},
}


def measured(system: Network, setting: Setting = NEAR, **changes: Any) -> Measured:
    """What is measured of a system whose parts are known, with this setting."""
    away_ms = ROUND_TRIPS * setting.round_trip_ms
    made = replace(system, delay_ms=system.delay_ms + away_ms, pool=setting.pool_size, processes=setting.processes)
    passing = flow(made, setting.users)
    known = Measured(
        setting=setting,
        pages_per_s=passing.pages_per_ms * 1000,
        response_ms=passing.response_ms,
        think_ms=system.think_ms,
        round_trips=ROUND_TRIPS,
        client_cpu_ms=system.client_ms,
        server_cpu_ms=system.server_ms,
        overhead_ms=0.05,
        cores=system.cores,
        others=system.others,
        at_its_limit=False,
    )
    return replace(known, **changes)


def row(name: str = "Some", **figures: Any) -> ClassRow:
    """What rounds have measured of a class that is bound by nothing."""
    known = {
        **{"users": 2, "processes": 1, "pages_per_s": 200.0, "round_trips": 4.0, "think_ms": 0.0},
        **{"client_cpu_ms": 2.0, "server_cpu_ms": 1.0, "bound_by": "users"},
        **dict(zip(PARTS, (0.1, 0.0, 0.0, 6.9, 3.0), strict=True)),
    }
    return class_row(name, **known | figures)


def forecasts(of: ClassRow, measured_on: dict[str, Any], wanted: Wanted) -> list[Forecast]:
    return Forecasts([of], [], measured_on).of(of, wanted)


# What it says


@pytest.mark.parametrize("wait_ms", [0.0, 1.5, 50.0])
@pytest.mark.parametrize("setting", [NEAR, replace(NEAR, users=2), replace(NEAR, users=30, pool_size=3)])
def test_a_wait_that_is_not_cpu_time_is_found_from_a_light_load(setting: Setting, wait_ms: float) -> None:
    system = replace(SYSTEM, delay_ms=wait_ms)
    assert fit(measured(system, setting)).network.delay_ms == pytest.approx(wait_ms, abs=1e-3)


@pytest.mark.parametrize("think_ms", [0.0, 30.0])
@pytest.mark.parametrize("round_trip_ms", [0.0, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("users", [1, 10, 50])
@pytest.mark.parametrize("pool_size", [2, 10])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_known_system_is_forecast_as_it_is(
    think_ms: float, round_trip_ms: float, users: int, pool_size: int, processes: int
) -> None:
    setting = Setting(users, pool_size, processes, round_trip_ms)
    system = replace(SYSTEM, think_ms=think_ms)
    forecast = fit(measured(system)).at(setting)
    itself = measured(system, setting)
    assert forecast.pages_per_ms * 1000 == pytest.approx(itself.pages_per_s, rel=1e-4)
    assert forecast.response_ms == pytest.approx(itself.response_ms, rel=1e-4)


def test_a_distance_that_was_measured_is_taken_out_again() -> None:
    far = measured(SYSTEM, replace(NEAR, round_trip_ms=3.0))
    assert fit(far).at(NEAR).response_ms == pytest.approx(measured(SYSTEM).response_ms, rel=1e-6)


def test_cpu_time_that_is_lost_at_the_limit_is_lost_with_other_settings_too() -> None:
    lossy = replace(SYSTEM, client_ms=2.6, server_ms=1.3, delay_ms=0.2)
    at_limit = measured(lossy, replace(NEAR, users=10), client_cpu_ms=2.0, server_cpu_ms=1.0, at_its_limit=True)
    for setting in (NEAR, Setting(50, 10, 1, 0.0), Setting(10, 10, 2, 0.5)):
        expected = measured(lossy, setting).pages_per_s
        assert fit(at_limit).at(setting).pages_per_ms * 1000 == pytest.approx(expected, rel=1e-4)


def test_threads_that_use_cpu_time_at_once_take_less_than_the_sum() -> None:
    quicker = measured(replace(SYSTEM, client_ms=1.5, delay_ms=0.0), client_cpu_ms=2.0)
    assert fit(quicker).at(NEAR).response_ms == pytest.approx(quicker.response_ms)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (Setting(20, 20, 1, 0.0), "client CPU"),
        (Setting(20, 20, 4, 0.0), "machine"),
        (Setting(20, 2, 1, 3.0), "pool"),
        (Setting(1, 2, 1, 3.0), "round trips"),
        (Setting(1, 2, 1, 0.0), "users"),
    ],
)
def test_it_says_what_would_bind(setting: Setting, expected: str) -> None:
    forecaster = fit(measured(SYSTEM))
    assert forecaster.bound_by(setting, forecaster.at(setting)) == expected


def test_users_who_think_most_of_the_time_bind() -> None:
    forecaster = fit(measured(replace(SYSTEM, think_ms=100.0)))
    assert forecaster.bound_by(NEAR, forecaster.at(NEAR)) == "think time"


# From a result


def test_what_was_measured_comes_out_for_what_was_measured() -> None:
    [same] = forecasts(row(), MEASURED_ON, Wanted())
    assert (same.users, same.pool_size, same.processes, same.round_trip_ms) == (2, 15, 1, 0)
    assert same.pages_per_s == same.rests_on_pages_per_s == 200
    assert same.response_ms == same.rests_on_response_ms == 10


def test_every_combination_is_forecast_in_order() -> None:
    wanted = Wanted(users=[5, 1], pool_sizes=[2, 10], round_trips_ms=[0.0, 1.0])
    made = forecasts(row(), MEASURED_ON, wanted)
    settings = [(each.users, each.pool_size, each.processes, each.round_trip_ms) for each in made]
    assert settings == [(users, pool, 1, away) for users in (5, 1) for pool in (2, 10) for away in (0, 1)]


def test_a_relay_is_a_part_of_the_network_and_its_own_time_is_not() -> None:
    on = {**MEASURED_ON, "server": {"round_trip_ms": 1.1}}
    options = {**MEASURED_ON["options"], "round_trip": 0.001}
    found = what_was_measured(row(), [], {**on, "options": options})
    assert found.setting.round_trip_ms == 1.0
    assert found.overhead_ms == pytest.approx(0.1)


def test_of_a_server_elsewhere_all_of_a_round_trip_is_the_networks() -> None:
    on = {**MEASURED_ON, "server": {"round_trip_ms": 0.8}}
    found = what_was_measured(row(server_cpu_ms=None), [], on)
    assert (found.setting.round_trip_ms, found.overhead_ms, found.server_cpu_ms) == (0.8, 0.0, 0.0)


def test_others_on_the_machine_are_known() -> None:
    slots = [
        slot_row("Some", other_cpu_share=0.3, steal_share=0.1),
        slot_row("Some", other_cpu_share=0.5, steal_share=None),
        changed(slot_row("Some", other_cpu_share=1.0, steal_share=1.0), replaced=True),
        slot_row("Another", other_cpu_share=1.0, steal_share=1.0),
    ]
    found = what_was_measured(row(), slots, MEASURED_ON)
    assert [found.cores, found.others] == pytest.approx([2 * (1 - 0.1), 2 * 0.4])
    alone = what_was_measured(row(), [], MEASURED_ON)
    assert [alone.cores, alone.others] == [2, 0]
    stolen = [slot_row("Some", other_cpu_share=1.0, steal_share=1.0)]
    found = what_was_measured(row(), stolen, MEASURED_ON)
    assert 0 < found.cores < 1
    assert found.others == 2


@pytest.mark.parametrize(("db_ms", "connections"), [(12.0, 15), (41.0, 50)])
@pytest.mark.parametrize("pool_ms", [0.0, 30.0])
def test_where_more_pages_were_in_progress_the_pool_was_larger_than_its_option(
    db_ms: float, connections: int, pool_ms: float
) -> None:
    """As with a class that has an engine of its own. Users who never get a connection are in no time that is known."""
    many = row(users=50, pool_ms=pool_ms, pages_per_s=1000.0, db_ms=db_ms, client_cpu_ms=0.5)
    assert what_was_measured(many, [], MEASURED_ON).setting.pool_size == connections


@pytest.mark.parametrize(
    ("settings", "connections", "round_trip_ms"),
    [
        ({"pool-size": "3"}, 13, 0.5),
        ({"pool-size": "3", "max-overflow": "0"}, 3, 0.5),
        ({"round-trip": "2ms"}, 15, 2.0),
        ({"round-trip": "0ms", "end": "commit"}, 15, 0.0),
        ({"pool-class": "null"}, 20, 0.5),
    ],
)
def test_what_varies_takes_the_place_of_the_options(
    settings: dict[str, str], connections: int, round_trip_ms: float
) -> None:
    on = {**MEASURED_ON, "options": {**MEASURED_ON["options"], "round_trip": 0.0005}}
    many = row(users=20, pool_ms=500.0, settings=settings)
    found = what_was_measured(many, [], {**on, "server": {"round_trip_ms": 0.6}})
    assert (found.setting.pool_size, found.setting.round_trip_ms) == (connections, round_trip_ms)
    assert found.overhead_ms == pytest.approx(0.1)


@pytest.mark.parametrize("settings", [{"pool-size": "many"}, {"pool-size": "²"}, {"round-trip": "far"}])
def test_settings_that_are_none_have_no_forecast(settings: dict[str, str]) -> None:
    with pytest.raises(NoForecast, match="not known"):
        what_was_measured(row(settings=settings), [], MEASURED_ON)


def test_where_the_distance_varies_all_rests_on_the_nearest_beside_what_was_measured() -> None:
    known = {away: {"round-trip": f"{away}ms", "end": "commit"} for away in ("3", "0", "1")}
    rows = [row(settings=settings, condition=away, pages_per_s=200.0 - float(away)) for away, settings in known.items()]
    other = row(settings={"round-trip": "1ms", "end": "rollback"}, condition="other")
    found = Forecasts([*rows, other], [], MEASURED_ON).distances()
    of_commit = [each for each in found if each.condition == "0"]
    assert len(found) == len(of_commit) + len(DISTANCES_MS)
    assert [each.round_trip_ms for each in of_commit] == sorted({*DISTANCES_MS, 1.0, 3.0})
    measured_then = {each.round_trip_ms: each.measured_pages_per_s for each in of_commit}
    assert {away: rate for away, rate in measured_then.items() if rate} == {1.0: 199.0, 3.0: 197.0}
    errors = {each.round_trip_ms: each.pages_per_s_error for each in of_commit if each.pages_per_s_error is not None}
    by_rate = {each.round_trip_ms: each.pages_per_s for each in of_commit}
    assert errors == pytest.approx({1.0: by_rate[1.0] / 199 - 1, 3.0: by_rate[3.0] / 197 - 1}, rel=1e-4)
    said = sentence_on_errors(found)
    assert said is not None
    assert said.startswith("2 forecasts for the database farther away were off by ")
    assert f"{100 * max(map(abs, errors.values())):.0f} % at the most" in said
    assert sentence_on_errors(each for each in found if each.condition == "other") is None


def test_what_a_relay_used_while_it_was_measured_is_in_the_forecast_beside_it_alone() -> None:
    near = row(settings={"round-trip": "0ms"}, condition="near", pages_per_s=400.0, bound_by="client CPU", users=10)
    far = row(settings={"round-trip": "1ms"}, condition="far", pages_per_s=300.0, users=10)
    wanted = Wanted(round_trips_ms=[1.0])
    known = {}
    for relay_ms in (None, 0.5, 3.0):
        through = changed(far, relay_cpu_ms=relay_ms)
        [known[relay_ms]] = Forecasts([near, through], [], MEASURED_ON).of(near, wanted)
    [alone] = Forecasts([near], [], MEASURED_ON).of(near, wanted)
    assert alone.pages_per_s == known[None].pages_per_s > known[0.5].pages_per_s > known[3.0].pages_per_s
    assert known[3.0].pages_per_s_error == pytest.approx(known[3.0].pages_per_s / 300 - 1, rel=1e-4)


# What it costs to have slept

WAKEUPS = Wakeups((0.3, 1.0, 5.0), (0.1, 0.3, 0.5))


def test_work_takes_more_the_longer_the_sleep_before_it() -> None:
    assert WAKEUPS.more_after(0.0) == 0
    assert WAKEUPS.more_after(0.65) == pytest.approx(0.2)
    assert WAKEUPS.more_after(50.0) == 0.5


def test_one_user_far_away_pays_for_each_sleep() -> None:
    """Before each answer of a page the process sleeps for as long as a round trip takes."""
    system = Network(8.0, 0.0, 1e-6, 0.0, processes=1, pool=1, cores=2)
    known = measured(system, client_cpu_ms=8.0, overhead_ms=0.0)
    with_it = fit(replace(known, wakeups=WAKEUPS)).at(replace(NEAR, round_trip_ms=5.0))
    without = fit(known).at(replace(NEAR, round_trip_ms=5.0))
    assert with_it.response_ms - without.response_ms == pytest.approx(ROUND_TRIPS * 0.5, rel=0.05)


@pytest.mark.parametrize("work_ms", [0.5, 2.0])
@pytest.mark.parametrize("setting", [NEAR, replace(NEAR, users=10), replace(NEAR, users=10, processes=2)])
def test_what_was_slept_when_it_was_measured_is_taken_out_first(setting: Setting, work_ms: float) -> None:
    system = replace(SYSTEM, client_ms=4 * work_ms, delay_ms=8.0)
    known = replace(measured(system, setting, at_its_limit=False), wakeups=WAKEUPS)
    found = fit(known)
    assert found.at(setting).pages_per_ms * 1000 == pytest.approx(known.pages_per_s, rel=1e-4)
    assert 0 < found.network.client_ms <= known.client_cpu_ms


@pytest.mark.parametrize(
    "known",
    [None, "x", {}, {"1": 2.0}, {"0": 0.0, "1": 2.0}, {"0": 1.0, "far": 2.0}, {"0": 1.0, "1": None}, {"0": -1.0}],
)
def test_without_a_measurement_of_sleeps_they_cost_nothing(known: Any) -> None:
    assert (
        what_was_measured(
            row(), [], {**MEASURED_ON, "server": {"round_trip_ms": 0.06, "cpu_by_wait_ms": known}}
        ).wakeups.more_ms
        == ()
    )


def test_a_longer_sleep_costs_no_less() -> None:
    known = {"0": 1.0, "10": 1.4, "0.3": 0.9, "1": 1.5, "3": 1.3}
    found = what_was_measured(
        row(), [], {**MEASURED_ON, "server": {"round_trip_ms": 0.06, "cpu_by_wait_ms": known}}
    ).wakeups
    assert found.sleep_ms == (0.3, 1.0, 3.0, 10.0)
    assert found.more_ms == pytest.approx((0.0, 0.5, 0.5, 0.5))


def test_what_a_relay_uses_of_the_cores_is_not_there_for_pages() -> None:
    assert what_was_measured(row(relay_cpu_ms=1.0), [], MEASURED_ON).cores == pytest.approx(2 - 0.2)


@pytest.mark.parametrize(
    ("figures", "on", "why"),
    [
        ({"pages_per_s": None}, MEASURED_ON, "no page"),
        ({"pages_per_s": 0.0}, MEASURED_ON, "no page"),
        ({"users": None}, MEASURED_ON, "no page"),
        ({"arrivals_per_s": 100.0}, MEASURED_ON, "arrive at a rate"),
        ({"db_ms": None}, MEASURED_ON, "no page"),
        ({"client_cpu_ms": None}, MEASURED_ON, "client CPU"),
        ({}, {}, "cores"),
        ({}, {**MEASURED_ON, "options": "none"}, "cores"),
        ({"server_cpu_ms": None}, {**MEASURED_ON, "server": None}, "how far away"),
        ({"pages_per_s": 5000.0, "bound_by": "client CPU", "client_cpu_ms": 900.0}, MEASURED_ON, "do not go together"),
    ],
)
def test_without_what_it_needs_there_is_no_forecast_and_a_reason(
    figures: dict[str, Any], on: dict[str, Any], why: str
) -> None:
    with pytest.raises(NoForecast, match=why):
        forecasts(row(**figures), on, Wanted())


def test_a_result_of_rounds_has_its_classes_at_each_distance() -> None:
    slots = schedule(3)
    result = result_of_rounds(
        slots, USER_CLASSES, end="rollback", planned_slots=len(slots), measured_on={**MEASURED_ON, "cores": 4}
    )
    assert [(each.label, each.round_trip_ms) for each in result.forecasts] == [
        (row.label, away) for row in result.strategies for away in DISTANCES_MS
    ]
    for name in USER_CLASSES:
        rates = [each.pages_per_s for each in result.forecasts if each.label == name]
        assert rates == sorted(rates, reverse=True)


FIGURES = st.one_of(st.none(), st.sampled_from([0.0, 1e-9, 1e15, -1.0]), st.floats(-1e15, 1e15))
COUNTS = st.one_of(st.none(), st.integers(0, 10**15), st.integers(0, 50))


@given(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("pages_per_s", "think_ms", "client_cpu_ms", "server_cpu_ms", "round_trips"), FIGURES),
            **dict.fromkeys(PARTS, FIGURES),
            **dict.fromkeys(("users", "processes"), COUNTS),
            "bound_by": st.sampled_from(["client CPU", "users", None, "<b>"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "cores": st.one_of(COUNTS, st.booleans(), st.text()),
            "server": st.one_of(st.none(), st.fixed_dictionaries({"round_trip_ms": FIGURES})),
            "options": st.fixed_dictionaries(
                {"pool_size": COUNTS, "max_overflow": COUNTS, "round_trip": st.one_of(FIGURES, st.text())}
            ),
        }
    ),
)
def test_whatever_a_file_says_there_are_numbers_or_none(figures: dict[str, Any], on: dict[str, Any]) -> None:
    for each in Forecasts([row(**figures)], [], on).distances():
        assert 0 < each.pages_per_s < inf
        assert 0 <= each.response_ms < inf
