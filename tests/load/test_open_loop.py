"""Pages that arrive at their times, in real runs: on every lane, in rounds, in a ramp and shared by processes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from tests.locust_runs import DEADLINE_S, LocustRun, locust, named

PAGES = '''
"""Pages that sleep in the server and note when they began and ended, by a clock of their own."""

import json, os, time
from time import perf_counter
from dbkit.load import Rounds, Workload, page_users
from locust import events
from sqlalchemy import text

SLEEP_S = float(os.environ["SLEEP_S"])
file = last = None
epoch_s = time.time() - perf_counter()

def remember(rendered, key):
    global last
    last = rendered

def nap(session, key):
    began_s = perf_counter()
    session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": SLEEP_S}).all()
    return {"began_s": began_s, "ended_s": perf_counter()}

naps = Workload("naps", range(100), check=remember)
page_users(naps, stacks=["psycopg", "psycopg-threads", "psycopg-async", "asyncpg"], nap=nap)

@events.request.add_listener
def record(start_time, response_time, context, exception, **_):
    global file
    file = file or open(f"{os.environ['RECORDS']}/{os.getpid()}", "w", 1)
    fields = ("user_class", "condition", "slot", "measured", "late", "queue_ms")
    page = {name: context[name] for name in fields} | {"failed": exception is not None}
    page |= {"asked_s": start_time - epoch_s, "response_ms": response_time, "process": os.getpid()}
    print(json.dumps(page | ({} if exception else last)), file=file)
'''
ROUNDS = "\nclass Compare(Rounds):\n    pass\n"
SHAPE = """
from locust import LoadTestShape

class Steps(LoadTestShape):
    def tick(self):
        return 2, 10
"""
CLASSES = ("PsycopgNap", "PsycopgThreadsNap", "PsycopgAsyncNap", "AsyncpgNap")
CLOCKS_S = 0.002
"""How far the time of day and the clock of the pages may move apart during a run."""


@dataclass
class Recorded:
    """A page, as the locustfile noted it."""

    user_class: str
    condition: str
    slot: int | None
    measured: bool
    late: bool
    queue_ms: float
    failed: bool
    asked_s: float
    response_ms: float
    process: int
    began_s: float
    ended_s: float

    @property
    def finished_s(self) -> float:
        return self.asked_s + self.response_ms / 1000


class Run:
    """A Locust of `PAGES`."""

    def __init__(self, run: LocustRun, records: Path) -> None:
        self.locust = run
        self._records = records

    @property
    def pages(self) -> list[Recorded]:
        """In the order in which they were due."""
        lines = [line for file in self._records.iterdir() for line in file.read_text().splitlines(keepends=True)]
        pages = [Recorded(**json.loads(line)) for line in lines if line.endswith("\n")]
        assert not any(page.failed for page in pages)
        return sorted(pages, key=lambda page: page.asked_s)

    def pages_of(self, *names: str) -> dict[tuple[Any, ...], list[Recorded]]:
        """By the fields of those names."""
        found: defaultdict[tuple[Any, ...], list[Recorded]] = defaultdict(list)
        for page in self.pages:
            found[tuple(getattr(page, name) for name in names)].append(page)
        return found

    @property
    def comparison(self) -> dict[str, Any]:
        return dict(json.loads((self.locust.folder / "run_comparison.json").read_text()))

    def slots(self) -> list[dict[str, str]]:
        with (self.locust.folder / "run_slots.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def end(self) -> None:
        assert self.locust.wait() == 0, self.locust.output
        assert "Traceback" not in self.locust.output, self.locust.output


@pytest.fixture
def start(tmp_path: Path, seeded_url: str) -> Iterator[Any]:
    runs: list[Any] = []

    def started(*arguments: str, sleep_s: float = 0.02, rounds: bool = True, shape: str = "", **options: Any) -> Run:
        (file := tmp_path / "naps.py").write_text(PAGES + (ROUNDS if rounds else shape))
        (records := tmp_path / "records").mkdir()
        environment = {"RECORDS": str(records), "SLEEP_S": str(sleep_s)}
        url = named(seeded_url, "open-loop")
        run = locust(tmp_path / "run", *arguments, url=url, locustfiles=str(file), environment=environment, **options)
        runs.append(run)
        return Run(run.__enter__(), records)

    yield started
    for run in reversed(runs):
        run.__exit__(None, None, None)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[ceil(share * len(values)) - 1]


def assert_evenly_asked(pages: Sequence[Recorded], rate_per_s: float) -> None:
    """Each page at its time, none left out and none twice."""
    asked_s = [page.asked_s for page in pages]
    assert [later - earlier for earlier, later in itertools.pairwise(asked_s)] == pytest.approx(
        [1 / rate_per_s] * (len(asked_s) - 1), abs=1e-6
    )


class Frozen:
    """The server's processes that serve this run, stopped for a while."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'open-loop'"
            ).fetchall()
        self._pids = [int(pid) for (pid,) in rows]

    def __enter__(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)


def test_a_frozen_server_shows_in_the_response_times_of_all_who_arrive_meanwhile(start: Any, seeded_url: str) -> None:
    rate, frozen_s = 30, 0.5
    arguments = ("-u", "22", "--pool-size", "22", "--arrivals", str(rate), "--arrival-spacing", "even")
    run = start(*arguments, "--rounds", "1", "--slot-time", "6", "--warm-up", "0.5", sleep_s=0.001)
    freezes: dict[int, tuple[float, float]] = {}
    for _ in CLASSES:
        run.locust.wait_until(lambda: {page.slot for page in run.pages if page.measured} - {*freezes})
        [slot] = {page.slot for page in run.pages if page.measured} - {*freezes}
        with Frozen(seeded_url):
            began_s = time.perf_counter()
            time.sleep(frozen_s)
            freezes[slot] = began_s, time.perf_counter()
    run.end()
    slots = {int(row["slot"]): row for row in run.slots()}
    for (slot,), pages in run.pages_of("slot").items():
        assert_evenly_asked(pages, rate)
        measured = [page for page in pages if page.measured]
        row = slots[slot]
        assert int(row["pages"]) == len(measured)
        assert abs(len(measured) - rate * float(row["seconds"])) <= 1.5
        assert row["sustained"] == "yes"
        assert float(row["longest_lag_ms"]) == pytest.approx(max(page.queue_ms for page in measured), rel=1e-4)
        if slot not in freezes:
            continue  # it was disturbed by others on the machine, and this is it once more
        # what the times of arrival demand: nobody who comes meanwhile is served before the server is back
        began_s, ended_s = freezes[slot]
        met = [page for page in measured if began_s < page.asked_s < ended_s]
        assert len(met) >= rate * frozen_s - 2
        assert all(page.finished_s > ended_s - CLOCKS_S for page in met)
        demanded_ms = [max(ended_s - page.asked_s, 0) * 1000 if page in met else 0 for page in measured]
        response_ms = [page.response_ms for page in measured]
        assert all(page.finished_s > page.ended_s - CLOCKS_S for page in measured)
        for column, share in (("p95_ms", 0.95), ("p99_ms", 0.99)):
            assert float(row[column]) > percentile(demanded_ms, share) - 1000 * CLOCKS_S > 1000 * frozen_s / 4
            assert float(row[column]) == pytest.approx(percentile(response_ms, share), rel=0.006)


def test_one_user_reads_in_order_and_what_is_due_meanwhile_is_late(start: Any) -> None:
    run = start("-u", "1", "--arrivals", "15,40,500", "--rounds", "1", "--slot-time", "2")
    run.end()
    of_slots = run.pages_of("slot")
    assert len(of_slots) >= len(CLASSES) * 3  # a disturbed one is run again
    for pages in of_slots.values():
        for earlier, page in itertools.pairwise(pages):
            assert page.began_s > earlier.ended_s
            assert page.late is (page.asked_s < earlier.finished_s)
            assert page.queue_ms < (page.began_s - page.asked_s + CLOCKS_S) * 1000
    for slot in run.slots():
        pages = of_slots[(int(slot["slot"]),)]
        measured = [page for page in pages if page.measured]
        assert int(slot["pages"]) == len(measured)
        assert int(slot["late"]) == sum(page.late for page in measured)
    rows = {(row["user_class"], row["arrivals_per_s"]): row for row in run.comparison["strategies"]}
    for name in CLASSES:
        easy, hopeless = rows[name, 15], rows[name, 500]
        assert easy["sustained"] is True and easy["not_begun"] == 0
        assert easy["p50_ms"] >= 20
        assert hopeless["sustained"] is False
        assert hopeless["p50_ms"] is hopeless["p95_ms"] is hopeless["p99_ms"] is hopeless["max_ms"] is None
        assert hopeless["response_curve"] == []
        asked = hopeless["pages"] + hopeless["not_begun"]
        its_slots = [slot for slot in run.slots() if slot["condition"] == hopeless["condition"]]
        seconds = sum(float(slot["seconds"]) for slot in its_slots if slot["replaced"] == "no")
        assert asked == pytest.approx(500 * seconds, rel=0.2)  # as many as arrive by chance
        assert hopeless["pages_per_s"] < 50
        assert f"{name}, 500 arrivals/s" in {row["label"] for row in rows.values()}
    assert "not sustained" in run.locust.stdout


def test_processes_share_the_rate_by_their_users(start: Any) -> None:
    arguments = ("-u", "4", "--arrivals", "40", "--arrival-spacing", "even", "--processes", "2")
    run = start(*arguments, "--rounds", "2", "--slot-time", "1", "PsycopgNap", "AsyncpgNap")
    run.end()
    of_slots = run.pages_of("slot", "process")
    slots = {slot for slot, _ in of_slots}
    assert len(slots) >= 2 * 2  # a disturbed one is run again
    assert len(of_slots) == 2 * len(slots)
    for pages in of_slots.values():
        assert_evenly_asked(pages, 20)
    for row in run.comparison["strategies"]:
        assert row["arrivals_per_s"] == 40
        assert row["users"] == 4 and row["processes"] == 2


def test_in_a_ramp_the_rate_grows_with_the_users(start: Any) -> None:
    arguments = ("-u", "8", "-r", "4", "--arrivals", "80", "--arrival-spacing", "even", "-t", "5s")
    run = start(*arguments, rounds=False)
    run.end()
    pages = run.pages_of("user_class")
    assert {name for (name,) in pages} == {*CLASSES}
    rows = {row["user_class"]: row for row in run.comparison["strategies"]}
    for (name,), asked in pages.items():
        gaps_s = [later.asked_s - earlier.asked_s for earlier, later in itertools.pairwise(asked)]
        # once its users are there, and but for pages that were cut off or not begun at the end
        assert sum(gap_s == pytest.approx(1 / 20, abs=1e-6) for gap_s in gaps_s) >= 20
        assert all(gap_s >= 1 / 20 - 1e-6 for gap_s in gaps_s)
        row = rows[name]
        assert row["pages"] == len(asked)
        assert row["sustained"] is True
        assert 5 < row["arrivals_per_s"] < 20.5
    assert "arrivals" in (run.locust.folder / "run_strategies.csv").read_text()


def test_the_web_form_takes_a_rate_and_refuses_what_is_none(start: Any) -> None:
    run = start("--processes", "2", "--pool-size", "2", "--max-overflow", "0", web=True, rounds=False)
    for arrivals in ("0", "x", "20,40"):
        refused = run.locust.swarm(user_count=4, spawn_rate=100, arrivals=arrivals)
        assert refused["success"] is False and "rrivals" in refused["message"], refused
    started = run.locust.swarm(user_count=4, spawn_rate=100, arrivals="40", arrival_spacing="even")
    assert started["success"] is True, started
    run.locust.wait_until(lambda: len(run.pages) > 40)
    run.locust.stop()
    for pages in run.pages_of("user_class").values():
        assert_evenly_asked(pages, 10)


def test_a_shape_of_ones_own_needs_to_know_how_many_users_have_all_of_the_rate(start: Any) -> None:
    run = start(web=True, rounds=False, shape=SHAPE)
    form = {"arrivals": "40"}  # Locust shows no number of users beside such a shape
    answer = requests.post(f"{run.locust.web_url}/swarm", data=form, timeout=DEADLINE_S).json()
    assert answer["success"] is False and "--arrivals needs -u" in answer["message"], answer
    assert run.locust.template_arguments()["state"] == "ready"


def test_users_with_tasks_of_their_own_cannot_be_asked(seeded_url: str, tmp_path: Path) -> None:
    lines = (
        "from locust import task",
        "from dbkit.load import SyncPageUser",
        "class Visitor(SyncPageUser):",
        "    @task",
        "    def visit(self): self.read_page(lambda session: 1)",
    )
    (file := tmp_path / "tasks.py").write_text("\n".join(lines))
    arguments = ("-u", "1", "--arrivals", "10", "-t", "2s")
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=str(file)) as run:
        assert run.wait() == 2
    assert "--arrivals cannot ask Visitor for pages, as it has tasks of its own; choose other classes" in run.stderr
