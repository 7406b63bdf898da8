"""`--round-trip`: pages are read through a relay, all else is asked of the server itself, and nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.load.test_own_pages import BEFORE_ANY_USER, SHORT, TABLES, Case, read_until, shop_run
from tests.locust_runs import locust

AWAY_MS = 30
ROUNDS = ("--slot-time", "0.3", "--warm-up", "0", "--rounds", "1", "--verify-keys", "2", "-u", "2")
CLASSES = ("PsycopgJoined", "PsycopgThreadsCore", "PsycopgAsyncCore", "AsyncpgCore")


def comparison(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run_comparison.json").read_text()))


def relays() -> list[psutil.Process]:
    """Those that run on this machine now, whoever has started them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(part.endswith("relay_process.py") for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_pages_are_farther_away_and_all_else_is_asked_of_the_server(
    each_url: str, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    before = {process.pid for process in relays()}
    arguments = ("--round-trip", f"{AWAY_MS}ms", *ROUNDS, *processes, *CLASSES)
    with locust(tmp_path / "run", *arguments, url=each_url, locustfiles="locustfiles/rounds.py") as run:
        run.wait_until(lambda: [each for each in relays() if each.pid not in before])
        started = [each for each in relays() if each.pid not in before]
        assert run.wait() == 0, run.output
    gone, alive = psutil.wait_procs(started, timeout=60)
    assert not alive, gone

    result = comparison(tmp_path / "run")
    assert result["measured_on"]["options"]["round_trip"] == AWAY_MS / 1000
    assert result["measured_on"]["server"]["round_trip_ms"] > 0.9 * AWAY_MS
    assert "relay" not in result["measured_on"]["server"]["database"]
    assert {row["user_class"] for row in result["strategies"]} == {*CLASSES}
    for row in result["strategies"]:
        assert row["failures"] == 0
        assert row["db_ms"] > 0.9 * AWAY_MS * row["round_trips"]
        assert row["relay_cpu_ms"] > 0
        assert row["server_cpu_ms"] is not None  # of the server's processes, which no relay hides
    [forecast, *_] = result["forecasts"]
    assert forecast["rests_on_round_trip_ms"] == AWAY_MS
    statements = [statement for plan in result["plans"] for statement in plan["statements"]]
    assert statements
    assert all(statement["execution_ms"] < AWAY_MS for statement in statements)


def test_it_can_vary_and_the_forecast_stands_beside_what_was_measured(seeded_url: str, tmp_path: Path) -> None:
    arguments = ("--vary", f"round-trip=0,{AWAY_MS}ms", "--calibrate", *ROUNDS, "AsyncpgCore")
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles="locustfiles/rounds.py") as run:
        assert run.wait() == 0, run.output
    result = comparison(tmp_path / "run")
    rows = {row["settings"]["round-trip"]: row for row in result["strategies"]}
    assert rows["0ms"]["db_ms"] < AWAY_MS < rows[f"{AWAY_MS}ms"]["db_ms"]
    assert rows["0ms"]["relay_cpu_ms"] is None
    assert {forecast["condition"] for forecast in result["forecasts"]} == {rows["0ms"]["condition"]}
    beside = {each["round_trip_ms"]: each["measured_pages_per_s"] for each in result["forecasts"]}
    assert beside[AWAY_MS] == rows[f"{AWAY_MS}ms"]["pages_per_s"]
    assert beside[0.5] is None
    [error] = [each["pages_per_s_error"] for each in result["forecasts"] if each["round_trip_ms"] == AWAY_MS]
    [forecast] = [each["pages_per_s"] for each in result["forecasts"] if each["round_trip_ms"] == AWAY_MS]
    assert error == pytest.approx(forecast / beside[AWAY_MS] - 1, rel=1e-3, abs=1e-4)
    assert [*result["measured_on"]["server"]["cpu_by_wait_ms"]] == ["0", "0.5", "1", "3", "10"]
    [bare_near, bare_far] = sorted(row["pages_per_s"] for row in result["calibration"])
    assert bare_near <= 1000 / AWAY_MS * 2 * 1.02  # two users, a round trip or more each; in half a second
    assert bare_near < bare_far


def test_a_plain_ramp_is_farther_away_too(seeded_url: str, tmp_path: Path) -> None:
    arguments = ("--round-trip", f"{AWAY_MS}ms", "-u", "2", "-t", "600s", "PsycopgCore", "AsyncpgCore")
    with locust(tmp_path / "run", *arguments, url=seeded_url, record=True) as run:
        read_until(run, classes=2)
        for page in run.pages:
            assert page.context["round_trips"] >= 1
            assert page.response_ms > 0.9 * AWAY_MS * page.context["round_trips"]


def test_an_engine_that_a_function_of_the_url_makes_is_farther_away(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    locustfile = (
        "page_users(albums, stacks=['psycopg', 'asyncpg'], joined=joined, engine=create_engine,\n"
        "           async_engine=create_async_engine)\n"
    )
    with shop_run(tmp_path, database_url, locustfile, *SHORT, "--round-trip", f"{AWAY_MS}ms") as run:
        read_until(run, classes=2)
        assert all(page.response_ms > AWAY_MS for page in run.pages)


MISTAKES = {
    "an engine with a URL of its own": Case(
        "page_users(albums, stacks=['psycopg'], joined=joined,\n"
        "           engine=create_engine('postgresql+psycopg' + os.environ['SAME_URL']))",
        "give the class a function of a URL that makes the engine",
    ),
    "an engine's function that has a URL of its own": Case(
        "page_users(albums, stacks=['psycopg'], joined=joined,\n"
        "           engine=lambda url: create_engine('postgresql+psycopg' + os.environ['SAME_URL']))",
        "--round-trip has no effect on it; have the function use that URL",
    ),
    "a time without its unit": Case(
        "page_users(albums, x=joined)", "--round-trip: invalid value '5'", ("--round-trip", "5")
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_it_cannot_reach_is_one_line_before_any_user_starts(database_url: str, tmp_path: Path, name: str) -> None:
    assert name not in BEFORE_ANY_USER
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    case = MISTAKES[name]
    arguments = ("-u", "1", "-t", "2s", *(case.arguments or ("--round-trip", f"{AWAY_MS}ms")))
    same_url = database_url.removeprefix("postgresql")
    with shop_run(tmp_path, database_url, case.locustfile, *arguments, SAME_URL=same_url) as run:
        assert run.wait() == 2, run.output
        lines = [line for line in run.stderr.splitlines() if "error" in line]
        assert len(lines) == 1, run.stderr
        assert case.said in lines[0]
        assert "Traceback" not in run.stderr
