"""Load tests as users run them: what Locust reports, what a killed user leaves behind, and what is shown to whom."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.paging import STRATEGIES, RenderedPage
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import DEADLINE_S, POLL_S, LocustRun, connections, free_port, locust, named, pages_by_class

SECRET = "s3cret"  # of the password, in the URL and out of it
CLASS_PREFIX = {
    "psycopg": "Psycopg",
    "psycopg-threads": "PsycopgThreads",
    "psycopg-async": "PsycopgAsync",
    "asyncpg": "Asyncpg",
}
CLASSES = {
    f"{CLASS_PREFIX[stack]}{strategy.title()}": (stack, strategy)
    for stack, strategy in itertools.product(STACKS, STRATEGIES)
}
BOTH = [("asyncpg", "joined"), ("psycopg", "joined")]
TWENTY_USERS = ("-u", "20", "-r", "20", "-t", "5s", "PsycopgJoined", "AsyncpgJoined")
# all that is logged is looked at for passwords
DEBUG = ("--loglevel", "DEBUG")

# One class a stack and way to fail.
FAILING = """
from sqlalchemy import text
from dbkit.database.stacks import STACKS
from dbkit.load import PageUser
from dbkit.paging import joined

def sleeps(session, page, page_size):
    session.execute(text("SELECT pg_sleep(300)"))

def raises(session, page, page_size):
    raise ValueError("no page today\\nand what else there is to say")

def misspells(session, page, page_size):
    session.execute(text("SELECT hidden_column FROM no_such_table WHERE x = :x"), {"x": "hidden parameter"})

def mistypes(session, page, page_size):
    session.execute(text("SELECT CAST(:x AS integer)"), {"x": "hidden parameter"})

def forgets(session, page, page_size):
    session.execute(text("SELECT :x"), {"y": "hidden parameter"})

def loses(session, page, page_size):
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

def shows_another_page(session, page, page_size):
    return joined(session, page, page_size)

for function in (sleeps, raises, misspells, mistypes, forgets, loses, shows_another_page):
    for stack in STACKS:
        name = f"{function.__name__} {stack}"
        attributes = {"stack": stack, "strategy": function.__name__, "page_function": function}
        globals()[name] = type(name, (PageUser,), attributes)
"""
# psycopg and asyncpg may notice the same mistake at different places
FAILURES = {
    "sleeps": {"57014 QueryCanceled: statement timeout"},
    "raises": {"ValueError: no page today"},
    "misspells": {"42P01 UndefinedTable"},
    "mistypes": {"22P02 InvalidTextRepresentation", "22000 DataException", "DataError"},
    "forgets": {"StatementError", "InvalidRequestError"},
    "loses": {"57P01 AdminShutdown"},
    "shows_another_page": {"wrong page: not what the dataset holds; see seed.py --check"},
}
# Rendered into something that no web application could send.
UNSENDABLE = """
from datetime import date
from dbkit.load import SyncPageUser

class Dates(SyncPageUser):
    def page_function(session, page, page_size):
        return [(date.today(), [])]
"""

HIDDEN = ("hidden", "no_such_table", "SELECT", "postgresql://", "what else")

HOLDING = """
from sqlalchemy import text
from dbkit.load import AsyncPageUser, SyncPageUser, ThreadPageUser

class PsycopgHolds(SyncPageUser):
    def page_function(session, page, page_size):
        session.execute(text("SELECT pg_sleep(300)"))

class PsycopgThreadsHolds(ThreadPageUser):
    def page_function(session, page, page_size):
        session.execute(text("SELECT pg_sleep(300)"))

class PsycopgAsyncHolds(AsyncPageUser):
    stack = "psycopg-async"
    async def page_function(session, page, page_size):
        await session.execute(text("SELECT pg_sleep(300)"))

class AsyncpgHolds(AsyncPageUser):
    stack = "asyncpg"
    page_function = lambda session, page, page_size: session.execute(text("SELECT pg_sleep(300)"))
"""

OWN = """
from sqlalchemy import select, text
from sqlalchemy.orm import selectinload
from dbkit.load import AsyncPageUser, SyncPageUser
from dbkit.todo.models import Todo

def render(todos):
    return [(todo.title, [comment.body for comment in todo.comments]) for todo in todos]

def statement(page, page_size):
    return (
        select(Todo).options(selectinload(Todo.comments)).order_by(Todo.id).limit(page_size).offset(page * page_size)
    )

class InTheClass(SyncPageUser):
    def page_function(session, page, page_size):
        return render(session.scalars(statement(page, page_size)))

async def awaited(session, page, page_size):
    return render(await session.scalars(statement(page, page_size)))

class Awaited(AsyncPageUser):
    stack = "asyncpg"
    page_function = awaited

class AwaitedPsycopg(AsyncPageUser):
    stack = "psycopg-async"
    page_function = awaited
"""


def write(folder: Path, locustfile: str) -> str:
    path = folder / "locustfile.py"
    path.write_text(locustfile)
    return str(path)


def rows_by_request(run: LocustRun) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["Type"], row["Name"]): row for row in run.rows() if row["Name"] != "Aggregated"}


def assert_shows_no_password(run: LocustRun) -> None:
    for path in run.files():
        assert SECRET not in path.read_text(), path


def assert_ended_well(run: LocustRun, exit_code: int = 0) -> None:
    assert run.wait() == exit_code, run.output
    assert "Traceback" not in run.output, run.output
    assert run.leftovers() == []
    assert_shows_no_password(run)


# Runs that several tests look at, all at once


@pytest.fixture(scope="module")
def runs(password_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LocustRun]]:
    folder = tmp_path_factory.mktemp("runs")
    html = {name: ("--html", str(folder / name / "report.html")) for name in ("one process", "two processes")}
    with ExitStack() as exits:

        def start(name: str, *arguments: str, url: str | None = password_url) -> LocustRun:
            return exits.enter_context(locust(folder / name, *DEBUG, *arguments, url=url, record=True))

        port = str(free_port())
        master = ("--master", "--master-bind-port", port, "--expect-workers", "2", "-u", "6", "-r", "6")
        runs = {
            "one process": start("one process", *TWENTY_USERS, *html["one process"]),
            "two processes": start(
                "two processes", *TWENTY_USERS, "-t", "300s", *html["two processes"], "--processes", "2"
            ),
            "worker 1": start("worker 1", "--worker", "--master-port", port),
            "worker 2": start("worker 2", "--worker", "--master-port", port),
            # it reads no pages, and has no database
            "master": start("master", *master, "PsycopgCore", "AsyncpgCore", url=None),
        }
        # as soon as pages of both classes were read by both processes: a busy machine may take more than a few seconds
        for leader, readers in {"two processes": ["two processes"], "master": ["worker 1", "worker 2"]}.items():
            runs[leader].wait_until(partial(have_read, [runs[reader] for reader in readers]))
            runs[leader].process.send_signal(signal.SIGTERM)
        yield runs


def have_read(runs: list[LocustRun]) -> bool:
    """Whether two processes, and users of two classes, have read pages."""
    pages = [page for run in runs for page in run.pages]
    return len({page.process for page in pages}) == len({page.stack for page in pages}) == 2


@pytest.mark.parametrize("name", ["one process", "two processes"])
def test_both_classes_are_reported_without_failures(runs: dict[str, LocustRun], name: str) -> None:
    run = runs[name]
    assert_ended_well(run)
    rows = rows_by_request(run)
    assert sorted(rows) == BOTH
    for row in rows.values():
        assert int(row["Request Count"]) > 0
        assert row["Failure Count"] == "0"
    assert run.rows("failures") == run.rows("exceptions") == []
    assert (run.folder / "report.html").stat().st_size > 0


@pytest.mark.parametrize("name", ["one process", "two processes"])
def test_what_is_reported_is_the_sum_of_what_each_process_read(runs: dict[str, LocustRun], name: str) -> None:
    run = runs[name]
    assert run.wait() == 0, run.output
    pages = run.pages
    assert len({page.process for page in pages}) == (1 if name == "one process" else 2)
    for request, row in rows_by_request(run).items():
        own = [page for page in pages if (page.stack, page.strategy) == request]
        assert int(row["Request Count"]) == len(own)
        assert float(row["Average Content Size"]) == pytest.approx(sum(page.bytes for page in own) / len(own))
        average_ms = sum(page.response_ms for page in own) / len(own)
        assert float(row["Average Response Time"]) == pytest.approx(average_ms)
        assert float(row["Average Response Time"]) % 1 != 0


def test_each_request_is_a_page_with_its_size_and_cost(runs: dict[str, LocustRun]) -> None:
    run = runs["one process"]
    assert run.wait() == 0, run.output
    shape = Shape()
    parts = ("queue_ms", "pool_ms", "connect_ms", "db_ms", "client_ms")
    for page in run.pages:
        expected: RenderedPage = shape.expected_page(*page.context["key"])
        assert page.bytes == len(json.dumps(expected, ensure_ascii=False, separators=(",", ":")).encode())
        assert page.failure is None
        assert CLASSES[page.context["user_class"]] == (page.stack, page.strategy)
        assert sum(page.context[part] for part in parts) == pytest.approx(page.response_ms)
        assert all(page.context[part] >= 0 for part in parts)
        assert (page.context["statements"], page.context["rows"]) == (1, 40)


def test_separate_workers_add_up_and_keep_their_database_to_themselves(runs: dict[str, LocustRun]) -> None:
    master, workers = runs["master"], (runs["worker 1"], runs["worker 2"])
    for run in (master, *workers):
        assert_ended_well(run)
    read = Counter((page.stack, page.strategy) for worker in workers for page in worker.pages)
    assert {request: int(row["Request Count"]) for request, row in rows_by_request(master).items()} == read
    assert sorted(read) == [("asyncpg", "core"), ("psycopg", "core")]
    assert all(worker.pages for worker in workers)


# The classes of users.py


def test_all_classes_are_listed_and_read_what_their_names_say(seeded_url: str, tmp_path: Path) -> None:
    with (
        locust(tmp_path / "list", "--list", url=None) as listing,
        locust(tmp_path / "run", "-u", "20", "-r", "100", "-t", "60s", url=seeded_url, record=True) as run,
    ):
        run.wait_until(lambda: len(pages_by_class(run)) == len(CLASSES))
        assert run.terminate() == 0
        assert {page.context["user_class"]: (page.stack, page.strategy) for page in run.pages} == CLASSES
        assert [page for page in run.pages if page.failure] == []
        assert listing.wait() == 0
        assert sorted(listing.stdout.split()[2:]) == sorted(CLASSES)


def test_page_functions_of_ones_own_are_a_class_of_few_lines(seeded_url: str, tmp_path: Path) -> None:
    locustfile = write(tmp_path, OWN)
    arguments = ("-u", "3", "-r", "3", "-t", "60s", "--page-size", "7")
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=locustfile, record=True) as run:
        run.wait_until(lambda: len(pages_by_class(run)) == 3)
        assert run.terminate() == 0, run.output
        assert {(page.stack, page.strategy, page.failure) for page in run.pages} == {
            ("psycopg", "InTheClass", None),
            ("psycopg-async", "AwaitedPsycopg", None),
            ("asyncpg", "Awaited", None),
        }


# Which pages, and when


def test_pages_come_in_the_asked_order_which_a_seed_repeats(seeded_url: str, tmp_path: Path) -> None:
    orders = {
        "first": ("--seed", "7"),
        "again": ("--seed", "7"),
        "other": ("--seed", "8"),
        "sequential": ("--page-order", "sequential", "--page-size", "300"),
    }
    pages, arguments = 30, ("-u", "2", "-t", "60s", "--think-time", "0.02", "PsycopgCore", "AsyncpgCore")
    with ExitStack() as exits:
        started = {
            name: exits.enter_context(locust(tmp_path / name, *order, *arguments, url=seeded_url, record=True))
            for name, order in orders.items()
        }

        def have_been_read(run: LocustRun) -> bool:
            by_class = pages_by_class(run)
            return len(by_class) == 2 and min(map(len, by_class.values())) >= pages

        read: dict[str, list[int]] = {}
        for name, run in started.items():
            run.wait_until(partial(have_been_read, run))
            run.process.terminate()
            one, other = (numbers[:pages] for numbers in pages_by_class(run).values())
            assert one == other  # every class is given the same work
            read[name] = one
        assert [run.wait() for run in started.values()] == [0, 0, 0, 0]
    assert read["first"] == read["again"] != read["other"]
    assert len(set(read["first"])) > pages / 2
    assert all(0 <= page < 100 for page in read["first"])
    assert read["sequential"] == [index % 7 for index in range(pages)]  # 2,000 todos are 7 pages of 300


def test_users_wait_for_the_think_time_between_pages(seeded_url: str, tmp_path: Path) -> None:
    think_time_s = 0.2
    think = ("--think-time", str(think_time_s), "--think-time-spread", "0")
    arguments = ("-u", "1", "-t", "60s", *think, "PsycopgCore")
    with locust(tmp_path / "run", *arguments, url=seeded_url, record=True) as run:
        run.wait_until(lambda: len(run.pages) >= 4)
        run.terminate()
        reported_s = [page.reported_s for page in run.pages]
        waits_s = [later - earlier for earlier, later in itertools.pairwise(reported_s)]
        assert min(waits_s) >= 0.9 * think_time_s  # timers may be a little early


def test_think_times_are_drawn_around_their_mean_and_users_start_at_random_phases(
    seeded_url: str, tmp_path: Path
) -> None:
    users, classes = 8, [name for name in CLASSES if name.endswith("Core")]
    arguments = ("-u", str(users), "-r", "100", "-t", "60s", "--think-time", "0.1", *classes)
    thought: dict[str, list[list[float]]] = {}

    def enough(run: LocustRun) -> bool:
        pages = pages_by_class(run)
        return len(pages) == len(classes) and min(map(len, pages.values())) >= 8

    with ExitStack() as exits:
        runs = {
            spread: exits.enter_context(
                locust(tmp_path / spread, *arguments, "--think-time-spread", spread, url=seeded_url, record=True)
            )
            for spread in ("0", "0.5")
        }
        for spread, run in runs.items():
            run.wait_until(partial(enough, run))
            run.terminate()
            assert pages_by_class(run).keys() == {*classes}
            thought[spread] = [
                [page.context["think_ms"] for page in run.pages if page.context["user_class"] == user_class]
                for user_class in classes
            ]
    # two users a class, each with a wait of its own before its first page; one may read two before the other reads one
    for of_class in map(sorted, thought["0"]):
        first, others = of_class[:2], of_class[2:]
        assert len({*first}) == 2 and all(0 <= ms < 100 for ms in first)
        assert others == pytest.approx([100] * len(others), abs=2)  # timers may be a little early
    for of_class in map(sorted, thought["0.5"]):
        others = of_class[2:]
        assert len({*others}) == len(others)
        assert all(50 <= ms <= 150 for ms in others)


# Failures


@pytest.fixture
def changed_url(database_url: str, tcp_port: int, password_url: str) -> str:
    """A small dataset in which a comment was changed, by TCP with the password."""
    create(DatabaseUrl.parse(database_url), Shape(users=2, todos=10), replace=False)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE dbkit.comment SET body = 'changed' WHERE id = 5")
    return urlsplit(password_url)._replace(path=urlsplit(database_url).path).geturl()


def test_failures_are_grouped_under_messages_that_give_nothing_away(changed_url: str, tmp_path: Path) -> None:
    locustfile = write(tmp_path, FAILING)
    users = len(FAILURES) * len(STACKS)
    arguments = ("-u", str(users), "-r", "100", "-t", "60s", "--statement-timeout", "1", "--think-time", "0.1")
    with locust(tmp_path / "run", *DEBUG, *arguments, url=changed_url, locustfiles=locustfile, record=True) as run:

        def all_have_failed_twice() -> bool:
            by_class = pages_by_class(run)
            return len(by_class) == users and min(map(len, by_class.values())) >= 2

        run.wait_until(all_have_failed_twice)
        assert run.terminate() == 1  # Locust's own exit code for runs with failures
        for name, expected in FAILURES.items():
            reported = {page.failure for page in run.pages if page.strategy == name}
            assert reported <= expected, name
        report = run.stderr[run.stderr.index("Error report") :]
        assert all(name in report for name in FAILURES)
        messages = {row["Error"] for row in run.rows("failures")} | {str(page.failure) for page in run.pages}
        warnings = json.loads((run.folder / "run_comparison.json").read_text())["warnings"]
        assert "raises psycopg failed most often with: ValueError: no page today" in warnings
        for message, hidden in itertools.product(messages, HIDDEN):
            assert hidden not in message
        # every failure is a page's, and none goes round Locust's statistics
        assert run.rows("exceptions") == []
        assert_shows_no_password(run)
        assert run.leftovers() == []


def test_a_page_that_is_no_json_is_a_wrong_page_too(seeded_url: str, tmp_path: Path) -> None:
    arguments, locustfile = ("-u", "1", "-t", "60s", "--think-time", "0.1"), write(tmp_path, UNSENDABLE)
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=locustfile, record=True) as run:
        run.wait_until(lambda: "Traceback" in run.stderr or len(run.pages) >= 3)
        assert run.terminate() == 1
        assert {page.failure for page in run.pages} == FAILURES["shows_another_page"], run.stderr
        assert run.rows("exceptions") == []


def test_users_share_one_small_pool_and_have_an_error_when_it_stays_empty(seeded_url: str, tmp_path: Path) -> None:
    locustfile, name = write(tmp_path, HOLDING), "small pool"
    arguments = ("-u", "12", "-r", "100", "-t", "60s", "--pool-size", "1", "--max-overflow", "1",
                 "--pool-timeout", "0.1", "--think-time", "0.1", "--drain-timeout", "1")  # fmt: skip
    seen = 0
    with locust(tmp_path / "run", *arguments, url=named(seeded_url, name), locustfiles=locustfile, record=True) as run:

        def all_stacks_have_failed() -> bool:
            nonlocal seen
            seen = max(seen, connections(seeded_url, name))
            return len(pages_by_class(run)) == len(STACKS)

        run.wait_until(lambda: connections(seeded_url, name, "active") == 8)
        run.wait_until(all_stacks_have_failed)
        assert run.terminate() == 1
        assert {page.failure for page in run.pages} == {
            "PoolTimeout: no connection became free within the pool timeout",
            "CutOff: the page had not come back when its user was stopped, nor within --drain-timeout",
        }
        assert seen == 8  # of each stack a pool of two, though there are three users
        assert_ended_well(run, exit_code=1)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_pages_before_all_users_are_there_are_left_out_where_locust_leaves_them_out(
    seeded_url: str, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    arguments = ("-u", "6", "-r", "3", "-t", "5s", "--think-time", "0.05", "--reset-stats", *processes)
    with locust(tmp_path / "run", *arguments, "AsyncpgJoined", url=seeded_url, record=True) as run:
        assert run.wait() == 0, run.output
        pages = json.loads((run.folder / "run_comparison.json").read_text())["measured_on"]["pages_in_all"]
        assert pages == int(run.rows()[-1]["Request Count"]) < len(run.pages)


# Killed users, and the web UI


def test_users_killed_in_a_query_leave_no_query_on_the_server(password_url: str, tmp_path: Path) -> None:
    locustfile, name = write(tmp_path, HOLDING), "killed in a query"

    def active() -> int:
        return connections(password_url, name, "active")

    with locust(tmp_path / "run", *DEBUG, url=named(password_url, name), locustfiles=locustfile, web=True) as run:
        assert run.swarm(user_count=8)["success"] is True
        run.wait_until(lambda: active() == 8)
        assert run.stop()["success"] is True
        run.wait_until(lambda: active() == 0)
        run.wait_until(lambda: connections(password_url, name) == 0)

        assert run.swarm(user_count=4)["success"] is True
        run.wait_until(lambda: active() == 4)
        for path in ("/", "/stats/requests", "/stats/requests/csv", "/stats/failures/csv", "/stats/report",
                     "/exceptions", "/exceptions/csv", "/tasks", "/logs"):  # fmt: skip
            answer = run.get(path)
            assert answer.ok, path
            assert SECRET not in answer.text, path
        run.terminate()
        deadline = time.monotonic() + DEADLINE_S
        while active():
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
        assert_shows_no_password(run)
        assert run.leftovers() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_ended_by_a_signal_leaves_no_query_and_no_process(seeded_url: str, tmp_path: Path, how: int) -> None:
    locustfile, name = write(tmp_path, HOLDING), f"ended by signal {how}"
    arguments = ("--processes", "2", "-u", "8", "-r", "100", "-t", "60s", "--drain-timeout", "1")
    with locust(tmp_path / "run", *arguments, url=named(seeded_url, name), locustfiles=locustfile) as run:
        run.wait_until(lambda: connections(seeded_url, name, "active") == 8)
        run.process.send_signal(how)
        assert_ended_well(run, exit_code=1)  # pages that hold on are cut off, and so have failed
        deadline = time.monotonic() + DEADLINE_S
        while connections(seeded_url, name):
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
