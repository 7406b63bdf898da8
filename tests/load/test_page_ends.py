"""How pages end that take too long, end themselves or their process, or lose the network: always, and by name.

Each is a failed page with the name of what ended it, on every stack; the run goes on, and ends at its time.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from dbkit.database.stacks import STACKS
from tests.faulty_network import FaultyNetwork, faulty_network
from tests.locust_runs import DEADLINE_S, POLL_S, LocustRun, connections, locust, named

PAGES = """
import asyncio, os

from dbkit.database.stacks import STACKS
from dbkit.load import PageUser, Rounds
from dbkit.paging import core
from locust import task
from sqlalchemy import text

def make(strategy, function):
    for stack in STACKS:
        own = {"stack": stack, "strategy": strategy, "page_function": staticmethod(function)}
        name = strategy.title() + stack.title().replace("-", "")
        globals()[name] = type(name, (PageUser,), {"__module__": __name__, **own})

def seldom(end):
    count = 0
    def page(session, number, page_size):
        nonlocal count
        count += 1
        if count % 5 == 0:
            end(session)
        return core(session, number, page_size)
    return page

def throw(error):
    raise error
"""

HANGS = PAGES + 'make("hang", seldom(lambda session: session.execute(text("SELECT pg_sleep(1000)"))))'
ROUNDS = "\nclass Compare(Rounds): pass\n"
PAGE_TIMEOUT = "PageTimeout: the page took longer than --page-timeout"
CUT_OFF = "CutOff: the page had not come back when its user was stopped, nor within --drain-timeout"
OUTPUTS = ("run_stats.csv", "run_strategies.csv", "run_comparison.json", "report.html")


@contextmanager
def started(folder: Path, url: str, locustfile: str, *arguments: str) -> Iterator[LocustRun]:
    """Start Locust with the locustfile, and all outputs."""
    folder.mkdir(exist_ok=True)
    file = folder / "locustfile.py"
    file.write_text(locustfile)
    arguments = ("-r", "100", "--report", str(folder / "run" / "report.html"), "--verify-keys", "0", *arguments)
    with locust(folder / "run", *arguments, url=url, locustfiles=str(file), record=True) as run:
        yield run


def comparison(run: LocustRun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "run_comparison.json").read_text())
    return found


def failures_by_stack(run: LocustRun) -> dict[str, Counter[str]]:
    """How often each message was seen, by stack, in Locust's own file."""
    found: dict[str, Counter[str]] = {stack: Counter() for stack in STACKS}
    for row in run.rows("failures"):
        found[row["Method"]][row["Error"]] += int(row["Occurrences"])
    return found


def statements(url: str, name: str) -> int:
    """How many run on the server that contain the name."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query ~ %s"
    with psycopg.connect(url) as connection:
        row = connection.execute(sql, [name]).fetchone()
    assert row is not None
    return int(row[0])


def assert_no_statement_is_left(url: str, name: str) -> None:
    """None runs on the server that contains the name; a cancel reaches a busy machine's server a moment later."""
    until_at_s = time.monotonic() + DEADLINE_S
    while statements(url, name):
        assert time.monotonic() < until_at_s
        time.sleep(POLL_S)


def assert_every_output_is_there(run: LocustRun) -> None:
    assert [name for name in OUTPUTS if not (run.folder / name).exists()] == []
    assert "Traceback" not in run.stderr, run.output
    assert run.leftovers() == []


def wait_for_pages(run: LocustRun, count: int, *failures: str) -> None:
    """Wait until every stack has served so many pages, and has had each of these failures."""

    def are_there() -> bool:
        seen = Counter((page.stack, page.failure) for page in run.pages)
        return all(seen[stack, None] >= count and all(seen[stack, failure] for failure in failures) for stack in STACKS)

    run.wait_until(are_there)


# Pages that take too long


def test_a_page_that_takes_too_long_fails_by_name_on_every_stack_and_leaves_nothing(
    seeded_url: str, tmp_path: Path
) -> None:
    with started(tmp_path, seeded_url, HANGS, "-u", "8", "--page-timeout", "1") as run:
        wait_for_pages(run, 10, PAGE_TIMEOUT)
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 1
        assert {stack: {*messages} for stack, messages in failures_by_stack(run).items()} == {
            stack: {PAGE_TIMEOUT} for stack in STACKS
        }
        assert_no_statement_is_left(seeded_url, "pg_sleep.1000")
        assert_every_output_is_there(run)


def test_a_page_that_hangs_before_the_run_is_a_line_that_says_so(seeded_url: str, tmp_path: Path) -> None:
    hangs = """
from dbkit.workload import Workload
PageUser.workload = Workload("numbers", keys=range(3))
make("hang", lambda session, key: session.execute(text("SELECT pg_sleep(1000)")))
"""
    arguments = ("--verify-keys", "1", "--page-timeout", "1")
    for stack in STACKS:
        name = f"Hang{stack.title().replace('-', '')}"
        with started(tmp_path / stack, seeded_url, PAGES + hangs, *arguments, name) as run:
            assert run.wait() == 2
            assert f"{name} cannot read the page of key" in run.stderr
            assert "the page took longer than --page-timeout; see dbkit try for where" in run.stderr
            assert "Traceback" not in run.stderr
            assert_no_statement_is_left(seeded_url, "pg_sleep.1000")


def test_a_page_that_waits_for_a_connection_for_too_long_fails_by_the_same_name(
    seeded_url: str, tmp_path: Path
) -> None:
    pool = ("--pool-size", "1", "--max-overflow", "0", "--page-timeout", "2")
    with started(tmp_path, seeded_url, HANGS.replace("% 5", "% 2"), "-u", "16", *pool) as run:
        wait_for_pages(run, 3, PAGE_TIMEOUT)
        assert run.terminate() == 1
        assert {*Counter(page.failure for page in run.pages)} <= {None, PAGE_TIMEOUT}
        assert_every_output_is_there(run)


@pytest.mark.parametrize("shape", ["", ROUNDS], ids=["mixed", "rounds"])
def test_pages_that_do_not_come_back_within_the_drain_timeout_fail_by_name(
    seeded_url: str, tmp_path: Path, shape: str
) -> None:
    length = ("--rounds", "1", "--slot-time", "0.5", "--max-slot-time", "0.5") if shape else ("-t", "3s")
    with started(tmp_path, seeded_url, HANGS + shape, "-u", "8", "--drain-timeout", "1", *length) as run:
        assert run.wait() == 1
        found = failures_by_stack(run)
        assert {stack: {*messages} for stack, messages in found.items()} == {stack: {CUT_OFF} for stack in STACKS}
        rows = comparison(run)["slots" if shape else "strategies"]  # a disturbed slot is run again
        assert sum(row["unfinished"] for row in rows) == sum(messages[CUT_OFF] for messages in found.values())
        assert_no_statement_is_left(seeded_url, "pg_sleep.1000")
        assert_every_output_is_there(run)


REPLACES_ITS_KILL = """
def replace(session, *key):
    try:
        session.execute(text("SELECT pg_sleep(1000)"))
    except BaseException:
        raise ConnectionError("in the place of what ended it")

def keep(session, *key):
    try:
        session.execute(text("SELECT pg_sleep(1000)"))
    except BaseException:
        return None

make("replace", replace)
make("keep", keep)
"""


@pytest.mark.parametrize("option", ["--stop-timeout", "--drain-timeout"])
def test_a_page_that_hides_what_ended_it_is_cut_off_all_the_same(seeded_url: str, tmp_path: Path, option: str) -> None:
    with started(tmp_path, seeded_url, PAGES + REPLACES_ITS_KILL, "-u", "8", option, "1", "--plans", "none") as run:
        run.wait_until(lambda: statements(seeded_url, "pg_sleep.1000") == 8)
        assert run.terminate() == 1
        found = failures_by_stack(run)
        assert found == {stack: Counter({CUT_OFF: 2}) for stack in STACKS}
        assert_no_statement_is_left(seeded_url, "pg_sleep.1000")
        assert_every_output_is_there(run)


GOES_ON = """
from _thread import get_native_id
from pathlib import Path

from dbkit.load import ThreadPageUser, Workload
from sqlalchemy import text

here = Path(__file__).parent

class GoesOn(ThreadPageUser):
    workload = Workload("numbers", keys=range(10), check=None)

    def page_function(session, number):
        (here / str(get_native_id())).touch()
        while True:
            try:
                session.execute(text("SELECT pg_sleep(1000)"))
            except ENDING:
                session.rollback()
"""


@pytest.mark.parametrize("ending", ["Exception", "BaseException"])
def test_a_page_of_a_thread_that_goes_on_when_it_is_cut_off_leaves_nothing_on_the_server(
    seeded_url: str, tmp_path: Path, ending: str
) -> None:
    url, file, threads = named(seeded_url, "goes_on"), tmp_path / "pages" / "goes_on.py", tmp_path / "pages"
    threads.mkdir()
    file.write_text(GOES_ON.replace("ENDING", ending))
    arguments = ("--drain-timeout", "0.2", "--verify-keys", "0", "--plans", "none")
    with locust(tmp_path / "run", *arguments, url=url, locustfiles=str(file), web=True) as run:
        assert run.swarm(user_count=2)["success"]
        run.wait_until(lambda: statements(seeded_url, "pg_sleep.1000") == 2)
        run.stop()
        run.wait_until(lambda: connections(seeded_url, "goes_on") == 0)
        if ending == "Exception":
            ids = {int(each.name) for each in threads.iterdir() if each.name.isdigit()}
            assert len(ids) == 2
            run.wait_until(lambda: not ids & {each.id for each in psutil.Process(run.process.pid).threads()})
        run.terminate()
        assert "Traceback" not in run.stderr, run.stderr


def test_a_process_has_no_more_pages_in_flight_than_it_may_and_the_others_queue(
    seeded_url: str, tmp_path: Path
) -> None:
    nap = """
def nap(session, *key):
    session.execute(text("SELECT pg_sleep(0.05)"))
    return core(session, *key)

make("nap", nap)
"""
    pool = ("--pool-size", "8", "--rounds", "1", "--slot-time", "1", "--max-in-flight", "2")
    with started(tmp_path, named(seeded_url, "in_flight"), PAGES + nap + ROUNDS, "-u", "8", *pool) as run:
        most = 0

        def has_ended() -> bool:
            nonlocal most
            most = max(most, connections(seeded_url, "in_flight", "active"))
            return "Shutting down" in run.output

        run.wait_until(has_ended)
        assert run.wait() == 0
        assert most == 2
        for row in comparison(run)["strategies"]:
            # two of eight are served at a time: a page waits for about three others, and for no connection
            assert row["queue_ms"] > 2 * row["db_ms"]
            assert row["pool_ms"] < row["db_ms"]
        assert_every_output_is_there(run)


# A network that is gone


@pytest.fixture
def network(seeded_url: str) -> Iterator[FaultyNetwork]:
    with faulty_network(seeded_url) as network:
        yield network


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_run_ends_at_its_time_though_the_network_is_gone(
    network: FaultyNetwork, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    with started(
        tmp_path, network.url, PAGES + 'make("core", core)', "-u", "8", "-t", "20s", "--drain-timeout", "1", *processes
    ) as run:
        wait_for_pages(run, 3)
        network.cut()
        assert run.wait() == 1
        found = failures_by_stack(run)
        assert {stack: {*messages} for stack, messages in found.items()} == {stack: {CUT_OFF} for stack in STACKS}
        assert sum(row["pages"] for row in comparison(run)["strategies"]) == len(run.pages)
        assert_every_output_is_there(run)


def test_a_signal_ends_rounds_though_the_network_is_gone(network: FaultyNetwork, tmp_path: Path) -> None:
    file = PAGES + 'make("core", core)' + ROUNDS
    with started(tmp_path, network.url, file, "-u", "4", "--drain-timeout", "1", "--slot-time", "0.3") as run:
        wait_for_pages(run, 3)
        network.cut()
        run.process.send_signal(signal.SIGTERM)
        run.wait()
        assert_every_output_is_there(run)


def test_pages_fail_by_name_while_the_network_is_gone_and_come_back_with_it(
    network: FaultyNetwork, tmp_path: Path
) -> None:
    file = PAGES + 'make("core", core)'
    with started(tmp_path, network.url, file, "-u", "8", "--page-timeout", "1") as run:
        wait_for_pages(run, 3)
        network.cut()
        wait_for_pages(run, 3, PAGE_TIMEOUT)
        network.heal()
        before = Counter(page.stack for page in run.pages if page.failure is None)
        wait_for_pages(run, max(before.values()) + 5)
        assert run.terminate() == 1
        assert_every_output_is_there(run)


# Pages that leave something behind

LEAVES_A_GENERATOR = """
import asyncio

from dbkit.load import Workload, page_users
from sqlalchemy import text

async def parts(session):
    try:
        yield await session.execute(text("SELECT 1"))
    finally:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

left = []

async def leave(session, number):
    left.append(parts(session))
    await anext(left[-1])

page_users(Workload("numbers", keys=range(10), check=None), leave=leave)
"""


def test_a_run_ends_though_its_pages_leave_generators_that_never_do(seeded_url: str, tmp_path: Path) -> None:
    with started(tmp_path, seeded_url, LEAVES_A_GENERATOR, "-u", "2", "--plans", "none") as run:
        run.wait_until(lambda: len({page.stack for page in run.pages}) == 2)
        assert run.terminate() == 0
        assert_every_output_is_there(run)


# Pages that end what they have no right to end

ENDS_ITSELF = (
    PAGES
    + """
make("cancel", seldom(lambda session: throw(asyncio.CancelledError())))
make("exit", seldom(lambda session: throw(SystemExit(3))))
make("interrupt", seldom(lambda session: throw(KeyboardInterrupt())))
"""
)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_page_that_ends_its_task_or_its_process_is_a_failed_page_and_the_run_goes_on(
    seeded_url: str, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    with started(tmp_path, seeded_url, ENDS_ITSELF, "-u", "24", *processes) as run:
        wait_for_pages(run, 50, "CancelledError", "SystemExit: …", "KeyboardInterrupt")
        assert run.terminate() == 1
        assert run.rows("exceptions") == []
        assert_every_output_is_there(run)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_user_that_dies_is_named_once_and_the_others_go_on(
    seeded_url: str, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    file = """
make("core", core)

class Dies(PageUser):
    abstract = True
    stack = "psycopg"

class DiesInATask(Dies):
    @task
    def die(self):
        raise SystemExit("in a task")

class DiesAtItsStart(Dies):
    def on_start(self):
        raise LookupError("at its start")
    @task
    def live(self): pass

class DiesAtItsEnd(Dies):
    def on_stop(self):
        raise LookupError("at its end")
    @task
    def live(self): pass
"""
    with started(tmp_path, seeded_url, PAGES + file, "-u", "7", *processes) as run:
        run.wait_until(lambda: "a user of DiesInATask has died: SystemExit" in run.stderr)
        wait_for_pages(run, 20)
        assert run.terminate() == 1
        assert {row["Message"]: row["Count"] for row in run.rows("exceptions")} == {
            "in a task": "1",
            "at its start": "1",
            "at its end": "1",
        }
        assert "a user of DiesAtItsEnd has died: LookupError: at its end" in run.stderr
        assert run.leftovers() == []
