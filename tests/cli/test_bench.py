"""`python -m dbkit bench` as users run it, against a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from dbkit.cli.bench import BENCH_STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.paging import STRATEGIES
from dbkit.todo.dataset import Shape, create
from dbkit.todo.models import SCHEMA
from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.started import finished

DBKIT = (sys.executable, "-m", "dbkit")
REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60
LINE = re.compile(r"(?P<strategy>\w+): (?P<pages>\d+) pages in (?P<ms>\d+\.\d) ms — (?P<rows>\d+) rows rendered")
SHORT = ("--pages", "3", "--concurrency", "2")


def run(url: str, *arguments: str, command: tuple[str, ...] = DBKIT) -> subprocess.CompletedProcess[str]:
    """Run it: by another command, in a process of its own."""
    full = [*command, "bench", "--database-url", url, *arguments]
    return finished(full, REPOSITORY, {**os.environ}, DEADLINE_S, fresh=command != DBKIT)


def bench(url: str, *arguments: str) -> list[str]:
    """The lines that a run prints which went well."""
    done = run(url, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a run that could not go well."""
    assert done.returncode == 2
    assert re.fullmatch(r"python -m dbkit( bench)?: error: .+\n", done.stderr)
    for shown in (done.stdout, done.stderr):
        assert PASSWORD not in shown
        assert PASSWORD_IN_URL not in shown
    return done.stderr


def timings(lines: list[str]) -> list[tuple[str, int, int]]:
    """Strategy, pages and rows of each line with a time."""
    found = [match for line in lines if (match := LINE.fullmatch(line))]
    assert all(float(match["ms"]) > 0 for match in found)
    return [(match["strategy"], int(match["pages"]), int(match["rows"])) for match in found]


def test_every_strategy_is_timed_on_every_stack(each_url: str) -> None:
    lines = bench(each_url, *SHORT)

    headings = ["psycopg-threads, 2 threads", "psycopg-async, 2 asyncio tasks", "asyncpg, 2 asyncio tasks"]
    assert [line for line in lines if line in headings] == headings
    for heading in headings:
        first = lines.index(heading) + 1
        assert timings(lines[first : first + 5]) == [(strategy, 3, 60) for strategy in STRATEGIES]
    assert len(timings(lines)) == 15


def test_a_database_that_is_farther_away_takes_its_round_trips_longer(each_url: str) -> None:
    one = ("--stack", "asyncpg", "--strategy", "core", "--pages", "3", "--concurrency", "1")
    lines = bench(each_url, *one, "--round-trip", "40ms")
    assert "round trips take 40 ms longer, by a relay" in lines
    [match] = [match for line in lines if (match := LINE.fullmatch(line))]
    assert float(match["ms"]) > 0.9 * 3 * 3 * 40  # three round trips a page
    assert match["rows"] == "60"


def test_25_pages_are_500_rows(seeded_url: str) -> None:
    lines = bench(seeded_url, "--stack", "asyncpg", "--strategy", "joined")

    assert lines[-1].startswith("joined: 25 pages in ")
    assert timings(lines) == [("joined", 25, 500)]


def test_it_says_what_was_measured(seeded_url: str) -> None:
    chosen = ("--stack", "psycopg-threads", "--strategy", "core")
    settings = ("--page-size", "7", "--pool-size", "4", "--end", "commit")
    text = "\n".join(bench(seeded_url, *SHORT, *chosen, *settings))

    assert "3 pages of 7 todos, 2 at a time" in text
    assert "pool 4 + 10, end commit" in text
    assert str(DatabaseUrl.parse(seeded_url)) in text


@pytest.mark.parametrize("stack", BENCH_STACKS)
def test_after_the_last_page_comes_the_first(seeded_url: str, stack: str) -> None:
    # 2,000 todos are pages of 600, 600, 600 and 200
    lines = bench(seeded_url, "--stack", stack, "--strategy", "core", "--pages", "6", "--page-size", "600")

    assert timings(lines) == [("core", 6, 2000 + 600 + 600)]


@pytest.mark.parametrize("end", ["rollback", "commit", "autocommit"])
def test_pages_may_end_in_each_way(seeded_url: str, end: str) -> None:
    lines = bench(seeded_url, *SHORT, "--strategy", "joined", "--end", end)

    assert timings(lines) == [("joined", 3, 60)] * 3


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (("--pool-size", "6", "--max-overflow", "0"), None),
        (("--pool-size", "5", "--max-overflow", "1"), "pages open connections and close them again"),
        (("--pool-size", "2", "--max-overflow", "1"), "pages wait for a connection: the pool has 3 for 6 at a time"),
    ],
)
def test_a_pool_smaller_than_the_concurrency_is_mentioned(
    seeded_url: str, pool: tuple[str, ...], said: str | None
) -> None:
    lines = bench(seeded_url, "--concurrency", "6", "--stack", "psycopg-threads", "--strategy", "core", *pool)

    assert [line for line in lines if line.startswith("pages ")] == ([] if said is None else [lines[2]])
    assert said is None or said in lines[2]


def test_without_a_command_it_prints_help() -> None:
    done = subprocess.run(DBKIT, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S)

    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: python -m dbkit" in done.stdout
    assert "bench" in done.stdout


SCRIPT = """
import sys, tomllib
from importlib.metadata import EntryPoint

with open("pyproject.toml", "rb") as file:
    scripts = tomllib.load(file)["project"]["scripts"]
sys.argv[0] = "/somewhere/bin/dbkit"
EntryPoint("dbkit", scripts["dbkit"], "console_scripts").load()()
"""


def test_the_command_names_itself_as_it_was_called() -> None:
    done = run("postgresql://", "--pages", "0", command=(sys.executable, "-c", SCRIPT))

    said = "argument --pages: invalid value '0': expected an integer of at least 1"
    assert (done.returncode, done.stderr) == (2, f"dbkit bench: error: {said}\n")


OF_LOCUST = ("locust", "gevent", "uvloop", "flask")


def test_no_part_of_locust_is_imported(seeded_url: str) -> None:
    script = f"""
import runpy, sys
try:
    runpy.run_module("dbkit", run_name="__main__", alter_sys=True)
finally:
    print("imported:", sorted(sys.modules.keys() & {set(OF_LOCUST)}))
"""
    done = run(seeded_url, *SHORT, "--strategy", "core", command=(sys.executable, "-c", script))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "imported: []"
    assert len(timings(done.stdout.splitlines())) == 3


def test_it_works_where_locust_cannot_be_imported(seeded_url: str) -> None:
    script = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({OF_LOCUST}))  # importing one of them raises ImportError from here on
runpy.run_module("dbkit", run_name="__main__", alter_sys=True)
"""
    done = run(seeded_url, *SHORT, "--strategy", "core", command=(sys.executable, "-c", script))

    assert (done.returncode, done.stderr) == (0, "")
    assert len(timings(done.stdout.splitlines())) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pages", "0"), "--pages: invalid value '0': expected an integer of at least 1"),
        (("--concurrency", "many"), "--concurrency: invalid value 'many': expected an integer of at least 1"),
        (("--page-size", "-1"), "--page-size: invalid value '-1': expected an integer of at least 1"),
        (("--stack", "mysql"), "--stack: invalid value 'mysql': expected psycopg-threads, psycopg-async or asyncpg"),
        (
            ("--strategy", "eager"),
            "--strategy: invalid value 'eager': expected lazy, selectin, joined, subquery or core",
        ),
        (("--users", "5"), "unrecognized arguments: --users 5"),
        (("--pages", "500", "--concurrency", "500", "--pool-size", "500"), "lower --concurrency or --pool-size"),
    ],
)
def test_a_bad_option_is_one_line(password_url: str, arguments: tuple[str, ...], said: str) -> None:
    done = run(password_url, *arguments)

    assert said in mistake(done)
    assert done.stdout == ""


def test_a_bad_database_is_one_line(password_url: str, database_url: str) -> None:
    address = password_url.split("@")[1]
    bad = {
        f"postgresql://tester:{PASSWORD_IN_URL}x@{address}": "check user and password",
        f"postgresql://tester:{PASSWORD_IN_URL}@{address}x": "create it with createdb",
        f"postgresql://tester:{PASSWORD_IN_URL}@127.0.0.1:1/dbkit": "is the server running there?",
        f"mysql://tester:{PASSWORD_IN_URL}@{address}": "dbkit works with PostgreSQL",
        f"postgresql://tester:{PASSWORD}@{address}": "database URL",
        database_url: "make it with python seed.py",
    }
    for url, said in bad.items():
        done = run(url)
        assert said in mistake(done)
        assert done.stdout == ""


@pytest.fixture
def unreadable_url(database_url: str) -> Iterator[str]:
    """A dataset for a user who may look at its ids but at no comment's body."""
    create(DatabaseUrl.parse(database_url), Shape(users=1, todos=40), replace=False)
    role = sql.Identifier(name := f"reader_{uuid.uuid4().hex[:12]}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        for grant in ("USAGE ON SCHEMA {}", "SELECT ON {}.app_user, {}.todo", "SELECT (id, todo_id) ON {}.comment"):
            what = sql.SQL(grant.replace("{}", SCHEMA))
            connection.execute(sql.SQL("GRANT {} TO {}").format(what, role))
        yield re.sub(r"//\w+@", f"//{name}@", database_url)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.mark.parametrize("stack", BENCH_STACKS)
def test_a_page_that_cannot_be_read_is_one_line(unreadable_url: str, stack: str) -> None:
    said = mistake(run(unreadable_url, "--stack", stack, "--strategy", "joined"))

    assert f"joined on {stack}: permission denied for table comment; to learn more, run python seed.py --check" in said
    assert "SELECT" not in said


@pytest.mark.parametrize("stack", BENCH_STACKS)
def test_waiting_too_long_for_a_connection_is_one_line(seeded_url: str, stack: str) -> None:
    # the one connection is busy with 1,001 statements
    slow = ("--strategy", "lazy", "--page-size", "1000", "--pages", "2", "--pool-size", "1", "--max-overflow", "0")
    said = mistake(run(seeded_url, "--stack", stack, *slow, "--pool-timeout", "0.001"))

    assert f"lazy on {stack}: no connection became free in time; raise --pool-timeout or --pool-size" in said


@pytest.mark.parametrize("stack", BENCH_STACKS)
def test_ctrl_c_ends_it_at_once(seeded_url: str, stack: str) -> None:
    name = f"bench_{uuid.uuid4().hex[:12]}"
    arguments = ["--database-url", f"{seeded_url}&application_name={name}", "--stack", stack, "--pages", "100000"]
    with subprocess.Popen(
        [*DBKIT, "bench", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for_readers(seeded_url, name, process)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()

    assert (process.returncode, said) == (130, "python -m dbkit: interrupted\n")


def wait_for_readers(url: str, application_name: str, process: subprocess.Popen[str]) -> None:
    """Wait until pages are being read, several at a time."""
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(url, autocommit=True) as connection:
        while process.poll() is None and time.monotonic() < deadline:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [application_name]
            ).fetchone()
            if row is not None and row[0] >= 3:
                return
            time.sleep(0.02)
    raise AssertionError("no pages were read")
