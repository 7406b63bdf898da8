"""The pytest plugin, in test suites of a user's own that pytest runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbkit.database.url import URL_VARIABLE
from dbkit.measure.cost import COUNTS
from tests.locust_runs import DEADLINE_S, free_port

pytest_plugins = ["pytester"]

REPOSITORY = Path(__file__).parents[1]
PLUGIN = "dbkit.pytest_plugin"
APPLICATION = "users-tests"
"""The application name of the users' engines."""

Run = Callable[..., pytest.RunResult]

# What a user has: an engine of the application's own. When the page is measured, nothing is left of it.
CONFTEST = """
import os, threading

import psycopg, pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

URL, DRIVER = os.environ["USERS_URL"], os.environ["USERS_DRIVER"]

def make_engine():
    url = URL.replace("postgresql:", f"postgresql+{DRIVER}:")
    if DRIVER == "psycopg":
        return create_engine(url, connect_args={"application_name": "users-tests"})
    named = {"server_settings": {"application_name": "users-tests"}}
    return create_async_engine(
        url, connect_args=named if DRIVER == "asyncpg" else {"application_name": "users-tests"}
    )

@pytest.fixture
def dbkit_engine():
    yield make_engine()
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    with psycopg.connect(URL) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'users-tests'"
            " AND datname = current_database()"
        ).fetchone() == (0,)
"""


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest, in a process and a folder of its own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # those of others take half of the time
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv(URL_VARIABLE, raising=False)

    def run(*arguments: str, **variables: str) -> pytest.RunResult:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return pytester.runpytest_subprocess(
            *("-p", PLUGIN, "-p", "no:cacheprovider", "--color=no", *arguments), timeout=DEADLINE_S
        )

    return run


def failures_of(result: pytest.RunResult) -> dict[str, str]:
    """What pytest shows of each test that did not pass, by the test's name."""
    parts = re.split(r"^_{3,} (?:ERROR at \w+ of )?([\w.\[\]-]+) _{3,}$", result.stdout.str(), flags=re.MULTILINE)
    shown = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: text.partition("\n====")[0].strip() for name, text in shown.items()}


def said_by(failure: str) -> list[str]:
    """The lines of an error's message."""
    return [line[1:].strip() for line in failure.splitlines() if line.startswith("E ")]


PAGES = """
import pytest
from sqlalchemy import select
from sqlalchemy.orm import joinedload, lazyload

from dbkit.paging import joined, lazy, selectin
from dbkit.todo.models import Todo
from tests_environment import LAZY_ROUND_TRIPS

def test_exact_counts(dbkit_page):
    page = dbkit_page(joined, 3, 20).costs(statements=1, rows=40, round_trips=3, connections=0).same_as(lazy, selectin)
    assert len(page.rendered) == 20
    assert page.counts["rows"] == page.cost.rows == 40
    dbkit_page(lazy, 3, 20).costs(statements=21, round_trips=LAZY_ROUND_TRIPS, rows=60)
    dbkit_page(joined, 3, 5).costs(rows=10)

def test_a_page_that_commits_is_warm_too(dbkit_page):
    for _ in range(2):
        dbkit_page(lazy, 3, 20, end="commit").costs(statements=21, round_trips=23, rows=60)

def test_too_many(dbkit_page):
    dbkit_page(lazy, 3, 20).costs(statements=1, rows=40, connections=0)

def todos(session, number, load=lazyload):
    query = select(Todo).options(load(Todo.comments)).order_by(Todo.id).limit(10).offset(10 * number)
    return [(todo.title, [each.body for each in todo.comments]) for todo in session.scalars(query).unique()]  # here

def test_the_line(dbkit_page):
    dbkit_page(todos, 1).costs(statements=1)

def test_another_page(dbkit_page):
    dbkit_page(todos, 1).same_as(lambda session, number: todos(session, number, joinedload), lambda session, n: [])
"""

ASYNC_PAGES = """
import asyncio

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import selectinload

from dbkit.paging import own_session, selectin
from dbkit.todo.models import Todo

async def awaited(session, number):
    query = select(Todo).options(selectinload(Todo.comments)).order_by(Todo.id).limit(20).offset(20 * number)
    return [(todo.title, [each.body for each in todo.comments]) for todo in await session.scalars(query)]

def in_words(session, number):
    return selectin(session, number, 20)

@own_session
async def two_at_once(make_session):
    async def read():
        async with make_session() as session:
            return await session.scalar(text("SELECT 1 FROM pg_sleep(0.01)"))
    return await asyncio.gather(read(), read())

def test_several_sessions_at_once(dbkit_page):
    dbkit_page(two_at_once, keep=True).costs(statements=2)
    with pytest.raises(Exception) as raised:
        dbkit_page(two_at_once)
    assert "With keep=True it is read as in the application." in raised.value.__notes__[0]

def test_in_a_plain_test(dbkit_page):
    dbkit_page(awaited, 3).costs(statements=2, rows=60).same_as(in_words)

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_in_a_loop(dbkit_page):
    await asyncio.sleep(0)
    dbkit_page(awaited, 3).costs(statements=2, rows=60).same_as(in_words)

@pytest.mark.anyio
async def test_too_many_in_a_loop(dbkit_page):
    dbkit_page(awaited, 3).costs(statements=1)

async def ends(session):
    raise SystemExit(4)

@pytest.mark.anyio
async def test_what_a_page_raises(dbkit_page):
    with pytest.raises(SystemExit):
        dbkit_page(ends)
    dbkit_page(awaited, 3).costs(statements=2)
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_a_page_on_the_applications_engine(
    pytester: pytest.Pytester, run_pytest: Run, seeded_url: str, driver: str
) -> None:
    is_async = driver != "psycopg"
    pytester.makeconftest(CONFTEST)
    lazy_round_trips = 23 if driver == "asyncpg" else 25
    pytester.makepyfile(tests_environment=f"LAZY_ROUND_TRIPS = {lazy_round_trips}", test_pages=PAGES)
    if is_async:
        pytester.makepyfile(test_async_pages=ASYNC_PAGES)
    result = run_pytest("-p", "anyio", USERS_URL=seeded_url, USERS_DRIVER=driver)
    result.assert_outcomes(passed=6 if is_async else 2, failed=4 if is_async else 3)
    failures = failures_of(result)

    first, counts, *sent, how = said_by(failures["test_too_many"])
    assert first == "AssertionError: lazy(3, 20): statements 21, expected 1; rows 60, expected 40"
    measured = {"statements": "21", "round_trips": str(lazy_round_trips), "rows": "60", "connections": "0"}
    assert dict(re.findall(r"(\w+)=(\d+)", counts)).items() >= measured.items()
    assert all(f" {name}=" in counts for name in COUNTS)
    assert [line for line in sent if "×" in line] == [
        f"1. × 1, rows 20, by {line_of('dbkit/todo/strategies.py', 'def lazy', 2)} in lazy",
        f"2. × 20, rows 40, by {line_of('dbkit/todo/strategies.py', 'todo.comments]', 0)} in _render",
    ]
    assert "SELECT dbkit.todo.id" in failures["test_too_many"]
    assert how == "If this is meant, write .costs(statements=21, rows=60, connections=0)"

    text = pytester.path.joinpath("test_pages.py").read_text().splitlines()
    here = next(number for number, line in enumerate(text, 1) if line.endswith("# here"))
    assert f"1. × 1, rows 10, by test_pages.py:{here} in todos" in failures["test_the_line"]
    assert f"2. × 10, rows 20, by test_pages.py:{here} in todos" in failures["test_the_line"]
    assert said_by(failures["test_another_page"]) == [
        "AssertionError: todos(1) and test_another_page.<lambda>(1) give different pages: the page has 10 items and 0"
    ]
    # what is shown is the test's line, and none of dbkit's
    assert not re.search(r"dbkit/\w+/\w+\.py:\d+:", result.stdout.str())
    if is_async:
        shown = failures["test_too_many_in_a_loop"]
        assert "statements 2, expected 1" in shown and "in awaited" in shown


def line_of(file: str, words: str, below: int) -> str:
    """`file:number` of the line so many below the one that has the words."""
    lines = (REPOSITORY / file).read_text().splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if words in line]
    return f"{file}:{found + below}"


WRITES = """
import pytest
from sqlalchemy import select, text
from dbkit.paging import own_session

SCHEMA = text("CREATE TABLE IF NOT EXISTS note (id serial PRIMARY KEY, words text)")
INSERT = text("INSERT INTO note (words) VALUES (:words) RETURNING words")

def add(session, words):
    (found,) = session.execute(INSERT, {"words": words}).one()
    session.commit()
    return found

async def add_async(session, words):
    (found,) = (await session.execute(INSERT, {"words": words})).one()
    await session.commit()
    return found

def add_by_itself(make_session, words):
    with make_session.begin() as session:
        return session.execute(INSERT, {"words": words}).scalar_one()

def add_and_leave(session, words):
    return session.execute(INSERT, {"words": words}).scalar_one()

async def add_by_itself_async(make_session, words):
    async with make_session.begin() as session:
        return (await session.execute(INSERT, {"words": words})).scalar_one()

@pytest.fixture
def each_page(dbkit_engine):
    return [add, own_session(add_by_itself)] if not hasattr(dbkit_engine, "sync_engine") else [
        add, add_async, own_session(add_by_itself_async)
    ]

def test_nothing_is_kept(dbkit_page, each_page):
    for page in each_page:
        measured = dbkit_page(page, "lost").costs(statements=1, rows=1)
        assert measured.rendered == "lost"
    dbkit_page(add_and_leave, "lost", end="commit").costs(statements=1, rows=1)

def test_the_savepoints_are_named(dbkit_page):
    dbkit_page(add, "lost").costs(statements=2)

def test_it_is_kept(dbkit_page):
    dbkit_page(add, "kept", keep=True).costs(statements=1, round_trips=3, rows=1)
    dbkit_page(add_and_leave, "kept", keep=True, end="commit").costs(statements=1, round_trips=3, rows=1)
    dbkit_page(add_and_leave, "lost", keep=True).costs(statements=1, rows=1)

def test_a_page_that_reads_has_no_savepoints(dbkit_page):
    dbkit_page(lambda session: session.scalar(text("SELECT count(*) FROM note"))).costs(round_trips=3)
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_what_a_page_writes_is_kept_where_it_is_asked_for_alone(
    pytester: pytest.Pytester, run_pytest: Run, database_url: str, driver: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE note (id serial PRIMARY KEY, words text)")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_writes=WRITES)
    result = run_pytest(USERS_URL=database_url, USERS_DRIVER=driver)
    result.assert_outcomes(passed=3, failed=1)
    assert (
        "are for savepoints, as what it writes is rolled back." in failures_of(result)["test_the_savepoints_are_named"]
    )
    with psycopg.connect(database_url) as connection:
        words = connection.execute("SELECT DISTINCT words FROM note").fetchall()
    assert words == [("kept",)]


SETTINGS = """
import os

import pytest
from sqlalchemy import NullPool, StaticPool, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from dbkit.paging import joined

SETTINGS = {
    "null": dict(poolclass=NullPool),
    "static": dict(poolclass=StaticPool),
    "pre_ping": dict(pool_pre_ping=True),
    "autocommit": dict(isolation_level="AUTOCOMMIT"),
    "repeatable_read": dict(isolation_level="REPEATABLE READ"),
    "option": {},
}
EXPECTED = {
    "null": dict(round_trips=3, connections=1),
    "static": dict(round_trips=3, connections=0),
    "pre_ping": dict(round_trips=4, connections=0),
    "autocommit": dict(round_trips=1, connections=0),
    "repeatable_read": dict(round_trips=3, connections=0),
    "option": dict(round_trips=1, connections=0),
}
ON_ASYNCPG = {
    "null": dict(round_trips=4, connections=1),  # the statement is prepared on each connection
    "pre_ping": dict(round_trips=6, connections=0),
}

@pytest.fixture(params=["psycopg", "psycopg_async", "asyncpg"])
def driver(request):
    return request.param

@pytest.fixture(params=list(SETTINGS))
def settings(request):
    return request.param

@pytest.fixture
def dbkit_engine(driver, settings):
    make = create_engine if driver == "psycopg" else create_async_engine
    engine = make(os.environ["USERS_URL"].replace("postgresql", f"postgresql+{driver}", 1), **SETTINGS[settings])
    return engine.execution_options(isolation_level="AUTOCOMMIT") if settings == "option" else engine

def test_reads(dbkit_page, driver, settings):
    expected = EXPECTED[settings] | (ON_ASYNCPG.get(settings, {}) if driver == "asyncpg" else {})
    for _ in range(2):
        dbkit_page(joined, 3, 20).costs(statements=1, **expected)

def test_writes(dbkit_page):
    def rename(session):
        renamed = text("UPDATE dbkit.app_user SET name = 'lost' WHERE id = 1 RETURNING name")
        return session.execute(renamed).scalar_one()

    assert dbkit_page(rename, end="commit").costs(statements=1).rendered == "lost"
    lost = dbkit_page(lambda session: session.scalar(text("SELECT count(*) FROM dbkit.app_user WHERE name = 'lost'")))
    assert lost.rendered == 0
"""


def test_engines_are_used_as_they_are_set_up(pytester: pytest.Pytester, run_pytest: Run, seeded_url: str) -> None:
    pytester.makepyfile(test_settings=SETTINGS)
    run_pytest(USERS_URL=seeded_url).assert_outcomes(passed=36)


STORED = """
import os, pytest
from dbkit.paging import STRATEGIES

strategy = STRATEGIES[os.environ.get("STRATEGY", "joined")]

@pytest.mark.parametrize("number", [0, 1])
def test_todos(dbkit_page, number):
    dbkit_page(strategy, number, 20).costs()

class TestTwice:
    def test_todos(self, dbkit_page):
        dbkit_page(strategy, 3, 20).costs()
        dbkit_page(strategy, 3, 20).costs()
"""


def test_stored_costs(pytester: pytest.Pytester, run_pytest: Run, seeded_url: str) -> None:
    pytester.makepyfile(test_one=STORED, test_other=STORED)
    file = pytester.path / "dbkit_costs.json"
    result = run_pytest(DBKIT_DATABASE_URL=seeded_url)
    result.assert_outcomes(failed=6)
    assert said_by(failures_of(result)["TestTwice.test_todos"]) == [
        "AssertionError: dbkit_costs.json has no costs of joined(3, 20) in this test: run pytest --dbkit-update"
        ' "test_other.py::TestTwice::test_todos"'
    ]
    assert not file.exists()

    file.write_text('{"test_gone.py::test": {"page(1)": {"statements": 1}}, "test_one.py::test_todos[0]": {"old": {}}}')
    result = run_pytest("-p", "xdist.plugin", "-n", "2", "--dbkit-update")
    result.assert_outcomes(passed=6)
    written = file.read_bytes()
    stored: dict[str, Any] = json.loads(written)
    assert list(stored) == sorted(stored)
    assert set(stored) == {
        "test_gone.py::test",
        *(
            f"test_{module}.py::{test}"
            for module in ("one", "other")
            for test in ("test_todos[0]", "test_todos[1]", "TestTwice::test_todos")
        ),
    }
    assert list(stored["test_one.py::TestTwice::test_todos"]) == ["joined(3, 20)", "joined(3, 20) #2"]
    assert set(stored["test_one.py::test_todos[0]"]) == {"joined(0, 20)"}
    counts = stored["test_one.py::test_todos[1]"]["joined(1, 20)"]
    assert counts.items() >= {"statements": 1, "round_trips": 3, "rows": 40, "connections": 0}.items()
    assert {path.name for path in pytester.path.iterdir() if "costs" in path.name} == {"dbkit_costs.json"}

    run_pytest().assert_outcomes(passed=6)

    # the counts that the file has are compared, and no others
    stored["test_one.py::test_todos[0]"] = {"selectin(0, 20)": {"statements": 2}}
    stored["test_one.py::test_todos[1]"] = {"selectin(1, 20)": {"statements": 1, "rows": 60}}
    stored["test_other.py::test_todos[0]"] = {"selectin(0, 20)": {"frames": 1}}
    file.write_text(json.dumps(stored))
    result = run_pytest("-k", "test_todos and not Twice and not (other and 1)", STRATEGY="selectin")
    result.assert_outcomes(passed=1, failed=2)
    failures = failures_of(result)
    first, *_, last = said_by(failures["test_todos[1]"])
    assert first == "AssertionError: selectin(1, 20): statements 2, expected 1"
    assert last == 'If this is meant, run pytest --dbkit-update "test_one.py::test_todos[1]"'
    assert said_by(failures["test_todos[0]"]) == [
        "dbkit.errors.DbkitError: dbkit_costs.json has 'frames' of selectin(0, 20), which this dbkit does not count:"
        ' run pytest --dbkit-update "test_other.py::test_todos[0]"'
    ]
    result = run_pytest("--dbkit-update", "-k", "test_todos and not Twice", STRATEGY="selectin")
    result.assert_outcomes(passed=4)
    updated = json.loads(file.read_bytes())
    assert updated["test_one.py::test_todos[0]"] == {"selectin(0, 20)": {"statements": 2}}
    assert updated["test_one.py::test_todos[1]"] == {"selectin(1, 20)": {"statements": 2, "rows": 60}}
    assert set(updated["test_other.py::test_todos[0]"]["selectin(0, 20)"]) == set(COUNTS)


@pytest.mark.parametrize("content", ["{", '{"test_costs.py::test_one": {"joined(3)": 3}}', b"\xff"])
def test_a_file_of_costs_that_is_none_is_left_as_it_is(
    pytester: pytest.Pytester, run_pytest: Run, seeded_url: str, content: str | bytes
) -> None:
    pytester.makepyfile(
        test_costs="""
        from dbkit.paging import joined

        def test_one(dbkit_page):
            dbkit_page(joined, 0, 20).costs()
        """
    )
    file = pytester.path / "dbkit_costs.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = file.read_bytes()
    option = "--dbkit-update" if content == "{" else "-q"
    shown = " ".join(run_pytest(option, DBKIT_DATABASE_URL=seeded_url).stdout.lines)
    assert f"{file} does not hold costs of pages: " in shown
    assert "put it right, or delete it and run pytest --dbkit-update" in shown
    assert "Traceback" not in shown
    assert file.read_bytes() == before


MISTAKES = """
import os

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from dbkit.paging import joined
from dbkit.todo.models import Todo

def page(session):
    return session.scalar(text("SELECT 1"))

async def awaited(session):
    return await session.scalar(text("SELECT 1"))

def orm_objects(session):
    return session.scalars(select(Todo).limit(1)).all()

def test_no_count(dbkit_page):
    dbkit_page(page).costs(statement=1)

@pytest.mark.parametrize("value", [True, -1, "1", 1.0])
def test_value(dbkit_page, value):
    dbkit_page(page).costs(statements=value)

def test_end(dbkit_page):
    dbkit_page(page, end="autocommit")

def test_awaited(dbkit_page):
    dbkit_page(awaited)

def test_same_as_awaited(dbkit_page):
    dbkit_page(page).same_as(awaited)

def test_orm_objects(dbkit_page):
    dbkit_page(orm_objects).costs(statements=1).same_as(orm_objects)

def test_another_engine(dbkit_page, dbkit_engine):
    engine = create_engine(os.environ["DBKIT_DATABASE_URL"].replace("postgresql", "postgresql+psycopg", 1))
    def by_itself(session):
        session.scalar(text("SELECT 1"))
        with Session(engine) as other:
            return other.scalar(text("SELECT 2"))
    dbkit_page(by_itself)

def test_missing_argument(dbkit_page):
    dbkit_page(joined, 1)

def test_failing_page(dbkit_page):
    def failing(session):
        return [][0]
    dbkit_page(failing)

class TestNoEngine:
    @pytest.fixture
    def dbkit_engine(self):
        return "postgresql://app:s3cret@localhost/app"

    def test_it(self, dbkit_page):
        dbkit_page(page)

class TestAnotherDatabase(TestNoEngine):
    @pytest.fixture
    def dbkit_engine(self):
        return create_engine("sqlite://")
"""
SAID_OF_MISTAKES = {
    "test_no_count": f"costs() knows no 'statement': expected one of {', '.join(COUNTS)}",
    "test_value[True]": "invalid value statements=True: expected an integer of at least 0",
    "test_value[-1]": "invalid value statements=-1: expected an integer of at least 0",
    "test_value[1]": "invalid value statements='1': expected an integer of at least 0",
    "test_value[1.0]": "invalid value statements=1.0: expected an integer of at least 0",
    "test_end": "invalid end 'autocommit': expected one of rollback, commit",
    "test_awaited": "awaited is async def, and the fixture dbkit_engine gives an Engine: override it to give an",
    "test_same_as_awaited": "awaited is async def, and the fixture dbkit_engine gives an Engine: override it to give",
    "test_orm_objects": "orm_objects() and orm_objects() cannot be compared: a page holds a Todo of the ORM: render it",
    "test_another_engine": "test_another_engine.by_itself() read by another session than the one that it is given, whe",
    "test_missing_argument": "TypeError: joined() missing 1 required positional argument: 'page_size'",
    "test_failing_page": "IndexError: list index out of range",
    "TestNoEngine.test_it": "the fixture dbkit_engine gives str: expected an Engine or an AsyncEngine",
    "TestAnotherDatabase.test_it": "cannot measure pages on sqlite+pysqlite: make the engine with one of postgresql+",
}


def test_mistakes_are_one_line(pytester: pytest.Pytester, run_pytest: Run, seeded_url: str) -> None:
    pytester.makepyfile(test_mistakes=MISTAKES)
    result = run_pytest(DBKIT_DATABASE_URL=seeded_url)
    result.assert_outcomes(failed=12, errors=2)
    failures = failures_of(result)
    assert set(failures) == set(SAID_OF_MISTAKES)
    for test, words in SAID_OF_MISTAKES.items():
        lines = failures[test].splitlines()
        assert words in failures[test], failures[test]
        assert len(lines) < 20, failures[test]
    line = next(number for number, line in enumerate(MISTAKES.strip().splitlines(), 1) if "SELECT 2" in line)
    assert f"by test_mistakes.py:{line} in test_another_engine.by_itself: " in failures["test_another_engine"]
    assert "s3cret" not in result.stdout.str()


UNREACHABLE = """
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

URL = "postgresql+{driver}://app:s3cret@127.0.0.1:{port}/app"

@pytest.fixture(params=["psycopg", "psycopg_async", "asyncpg"])
def dbkit_engine(request):
    make = create_engine if request.param == "psycopg" else create_async_engine
    return make(URL.format(driver=request.param, port=PORT))

def test_it(dbkit_page):
    dbkit_page(lambda session: None)
"""


def test_a_database_that_cannot_be_reached_is_one_line(pytester: pytest.Pytester, run_pytest: Run) -> None:
    port = free_port()
    pytester.makepyfile(
        test_engines=f"PORT = {port}\n{UNREACHABLE}",
        test_dbkits=UNREACHABLE.partition("@pytest")[0]
        + """
def test_default(dbkit_page):
    dbkit_page(lambda session: None)
""",
    )
    result = run_pytest(DBKIT_DATABASE_URL=f"postgresql://app:s3cret@127.0.0.1:{port}/app")
    result.assert_outcomes(failed=3, errors=1)
    failures = failures_of(result)
    assert failures.pop("test_default").startswith(f"dbkit: cannot use postgresql://app@127.0.0.1:{port}/app: ")
    assert {name.partition("[")[2][:-1] for name in failures} == {"psycopg", "psycopg_async", "asyncpg"}
    for name, failure in failures.items():
        driver = name.partition("[")[2][:-1]
        (line,) = said_by(failure)
        assert line.startswith(
            "dbkit.errors.DbkitError: the engine of the fixture dbkit_engine,"
            f" postgresql+{driver}://app:***@127.0.0.1:{port}/app, cannot connect: "
        )
        assert line.endswith("; is the server running there?")
    assert "s3cret" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_page_that_hangs_ends_with_ctrl_c(
    pytester: pytest.Pytester, run_pytest: Run, database_url: str, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_hanging="""
        from sqlalchemy import text

        def test_it(dbkit_page):
            dbkit_page(lambda session: session.execute(text("SELECT pg_sleep(600)")))
        """
    )
    monkeypatch.setenv("USERS_URL", database_url)
    monkeypatch.setenv("USERS_DRIVER", driver)
    with psycopg.connect(database_url, autocommit=True) as connection:

        def are_running(number: int) -> None:
            deadline_s = time.monotonic() + DEADLINE_S
            query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
            while connection.execute(query).fetchone() != (number,):
                assert time.monotonic() < deadline_s
                time.sleep(0.05)

        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider"]
        process = pytester.popen(command, stdin=subprocess.DEVNULL)
        are_running(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == pytest.ExitCode.INTERRUPTED
        are_running(0)


def test_the_plugin_is_found_and_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester, run_pytest: Run) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}  # `-p` and the entry point are one plugin by it
    pytester.makepyfile(
        """
        import sys

        def test_imports():
            imported = {name.partition(".")[0] for name in sys.modules}
            assert not imported & {"sqlalchemy", "psycopg", "asyncpg", "msgspec", "locust", "gevent"}
        """
    )
    run_pytest().assert_outcomes(passed=1)
    run_pytest("--help").stdout.fnmatch_lines(["*costs of SQLAlchemy pages*", "*--dbkit-update *"])


def test_locust_is_never_imported(pytester: pytest.Pytester, run_pytest: Run, seeded_url: str) -> None:
    pytester.makepyfile(
        """
        import sys
        from dbkit.paging import joined

        def test_imports(dbkit_page):
            dbkit_page(joined, 0, 20).costs(statements=1)
            assert not {"locust", "gevent"} & set(sys.modules)
        """
    )
    run_pytest(DBKIT_DATABASE_URL=seeded_url).assert_outcomes(passed=1)
