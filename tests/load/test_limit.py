"""`--limit` in real runs: a knee that is known is found, and a pool that is enough; on Ctrl-C what is known is kept."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.locust_runs import LocustRun, locust

PAGES = '''
"""Pages that sleep: under a semaphore of a few places, and in the server, for as long as a connection is had."""

import gevent
from dbkit.load import Rounds, SyncPageUser, Workload
from gevent.lock import BoundedSemaphore
from sqlalchemy import text

PLACES = BoundedSemaphore(3)

def semaphore(session, key):
    with PLACES:
        gevent.sleep(0.15)

def server(session, key):
    return session.execute(text("SELECT 1 FROM pg_sleep(0.15)")).scalar_one()

class Sleeping(SyncPageUser):
    workload = Workload("semaphore", range(50), check=None)
    page_function = semaphore

class Slow(SyncPageUser):
    workload = Sleeping.workload
    page_function = server

class Compare(Rounds):
    pass
'''
SHORT = ("--slot-time", "0.3", "--warm-up", "0.1", "--verify-keys", "0")


def comparison(run: LocustRun) -> dict[str, Any]:
    return dict(json.loads((run.folder / "run_comparison.json").read_text()))


@contextmanager
def search(folder: Path, url: str, *arguments: str, web: bool = False) -> Iterator[LocustRun]:
    folder.mkdir()
    file = folder / "pages.py"
    file.write_text(PAGES)
    files = () if web else ("--report", str(folder / "run" / "report.html"))
    with locust(folder / "run", *SHORT, *files, *arguments, url=url, locustfiles=str(file), web=web) as run:
        yield run


@pytest.fixture(scope="module")
def knee(seeded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustRun]:
    """Up to three users a page takes 150 ms, and with four p95 is 300 ms; one class takes 150 ms with any number."""
    folder = tmp_path_factory.mktemp("limit") / "knee"
    arguments = ("--limit", "p95_ms < 230", "--max-users", "12", "--budget", "90", "--pool-size", "12")
    with search(folder, seeded_url, *arguments) as run:
        assert run.wait() == 0, run.output
        yield run


def test_a_knee_is_found_and_a_class_without_one_keeps_the_limit(knee: LocustRun) -> None:
    limits = {each["user_class"]: each for each in comparison(knee)["limits"]}
    assert abs(limits["Sleeping"]["at"] - 3) <= 1
    assert limits["Sleeping"]["low"] <= 3 <= limits["Sleeping"]["high"]
    assert limits["Slow"]["at"] == 12, knee.output
    assert "keeps p95 under 230 ms up to the largest that may be tried, 12 users" in limits["Slow"]["sentence"]
    assert {each["state"] for each in limits.values()} <= {"found", "budget spent"}


def test_classes_are_searched_in_turns(knee: LocustRun) -> None:
    result = comparison(knee)
    assert result["state"] == "complete"
    rounds: dict[int, list[str]] = {}
    for slot in result["slots"]:
        rounds.setdefault(slot["round"], []).append(slot["user_class"])
    assert all(len(names) == len({*names}) for names in rounds.values())
    assert sum(len(names) == 2 for names in rounds.values()) >= 5
    assert (result["verdicts"], result["laws"]) == ([], [])


def test_outputs_have_the_answer_and_the_limits_line(knee: LocustRun) -> None:
    result = comparison(knee)
    for sentence in result["headline"]:
        assert sentence in knee.stdout
    report = (knee.folder / "report.html").read_text()
    assert "How far the limit is kept" in report
    assert 'data-chart="ladder"' in report and r'"limit":"p95_ms \u003c 230"' in report
    assert result["measured_on"]["options"]["limit"] == "p95_ms < 230"


def test_the_smallest_pool_that_is_enough_is_found(seeded_url: str, tmp_path: Path) -> None:
    """Four users, whose pages sleep on the server: with a pool of three they are served three quarters of the most."""
    arguments = ("--limit", "pages_per_s > 61 % of best", "--vary", "pool-size=1..4", "--max-overflow", "0", "-u", "4")
    with search(tmp_path / "pool", seeded_url, *arguments, "--budget", "30", "Slow") as run:
        assert run.wait() == 0, run.output
        [limit] = comparison(run)["limits"]
    assert (limit["along"], limit["sought"]) == ("pool-size", "smallest")
    assert abs(limit["at"] - 3) <= 1
    assert limit["low"] <= 3 <= (limit["high"] or 4)
    assert f"from pool-size={limit['at']:g} on" in limit["sentence"]
    assert "That holds for a round trip of" in limit["sentence"]
    assert limit["round_trip_ms"] > 0


def test_arrivals_that_cannot_be_served_do_not_keep_a_limit(seeded_url: str, tmp_path: Path) -> None:
    """Two users can serve 13 arrivals a second."""
    arguments = ("--limit", "failures = 0", "--max-arrivals", "400", "--arrival-spacing", "even", "-u", "2")
    with search(tmp_path / "arrivals", seeded_url, *arguments, "--budget", "30", "--slot-time", "1.5", "Slow") as run:
        assert run.wait() == 0, run.output
        [limit] = comparison(run)["limits"]
    assert limit["along"] == "arrivals/s"
    assert 0 < limit["at"] <= 24
    assert "arrivals/s [" in limit["sentence"]


def test_what_was_measured_is_kept_when_a_search_is_ended(seeded_url: str, tmp_path: Path) -> None:
    arguments = (
        "--limit",
        "p95_ms < 230",
        "--max-users",
        "200",
        "--processes",
        "2",
        "--slot-time",
        "1",
        "--budget",
        "2h",
    )
    with search(tmp_path / "cut", seeded_url, *arguments) as run:
        run.wait_until(lambda: "round 3" in run.output)
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output
        result = comparison(run)
        assert run.leftovers() == []
    assert result["state"] == "cut short"
    assert result["warnings"][0].startswith("cut short: the search ended after ")
    assert {each["user_class"] for each in result["limits"]} == {"Sleeping", "Slow"}
    for each in result["limits"]:
        assert each["state"] == "cut short"
        assert each["low"] <= (each["at"] or 0) <= each["high"]
        assert "the search was cut short" in each["sentence"]


def test_a_search_is_run_from_the_web_form(seeded_url: str, tmp_path: Path) -> None:
    with ExitStack() as exits:
        run = exits.enter_context(search(tmp_path / "web", seeded_url, web=True))
        answer = run.swarm(limit="p95_ms ! 50", max_users=4)
        assert not answer["success"] and "--limit: invalid value" in answer["message"]
        answer = run.swarm(limit="p95_ms < 230", max_users=0)
        assert not answer["success"] and "needs something to search in" in answer["message"]
        answer = run.swarm(limit="failures = 0", max_users=3)
        assert answer["success"], answer
        state: dict[str, Any] = {}

        def has_ended() -> bool:
            state.update(run.get("/dbkit/state?version=none").json())
            return bool(state["status"]["words"] == "the run has ended")

        run.wait_until(has_ended)
        [workload] = state["result"]["workloads"]
        assert {(each["figure"], each["at"], each["state"]) for each in workload["limits"]} == {
            ("failures", 3, "found")
        }
        assert {row["failures"] for row in workload["all"]} == {0}
        assert all("keeps failures at 0 up to" in each["sentence"] for each in workload["limits"])
        assert run.terminate() == 0
