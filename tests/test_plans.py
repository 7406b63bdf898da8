"""Plans of what page functions send: every statement once, as the page sent it, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine, NullPool, StaticPool, create_engine, delete, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from dbkit import plans
from dbkit.database.settings import PAGE_ENDS, PageEnd, Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.paging import STRATEGIES, RenderedPage, lazy, own_session
from dbkit.plans import PageToExplain, explain_pages
from dbkit.todo.dataset import Shape, check, create
from dbkit.todo.models import Comment, Todo, User

REPOSITORY = Path(__file__).parents[1]
PAGE_SIZE = 20
PAGES = 100  # of the default dataset
TIMES = {"lazy": [1, PAGE_SIZE], "selectin": [1, 1], "joined": [1], "subquery": [1, 1], "core": [1]}
SMALL = Shape(users=2, todos=3)
DEFAULT_SETTINGS = Settings()
DEADLINE_S = 20
LIMIT_S = plans.STATEMENT_TIMEOUT_S


@pytest.fixture(scope="module")
def of_strategies(seeded_url: str) -> list[dict[str, Any]]:
    return explain_pages(DatabaseUrl.parse(seeded_url), Settings(), pages_of_strategies())


@pytest.fixture
def small_url(database_url: str) -> str:
    """A dataset of its own, for pages that write."""
    create(DatabaseUrl.parse(database_url), SMALL, replace=False)
    return database_url


def pages_of_strategies() -> list[PageToExplain]:
    keys = {"typical": (PAGES // 2, PAGE_SIZE), "last": (PAGES - 1, PAGE_SIZE)}
    return [PageToExplain("todo list", name, function, keys) for name, function in STRATEGIES.items()]


def explain(
    url: str,
    *functions: Callable[..., Any],
    settings: Settings = DEFAULT_SETTINGS,
    engine: Any = None,
    key: tuple[Any, ...] = (0, PAGE_SIZE),
    end: PageEnd = "rollback",
    writes: bool = False,
) -> list[dict[str, Any]]:
    """The first page by each of the functions, which are awaited if they are `async def`."""
    pages = [
        PageToExplain("a workload", each.__name__, each, {"typical": key}, engine=engine, end=end, writes=writes)
        for each in functions
    ]
    return explain_pages(DatabaseUrl.parse(url), settings, pages)


def assert_no_connections(url: str) -> None:
    """None but this one, once the server's processes have noticed: closing does not wait for that."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    until = time.monotonic() + DEADLINE_S
    with psycopg.connect(url, autocommit=True) as connection:
        while (row := connection.execute(others).fetchone()) != (0,):
            assert time.monotonic() < until, f"connections left open: {row}"
            time.sleep(0.02)


def assert_explained(statement: dict[str, Any]) -> None:
    """It has a plan that the server ran, and the time that the plan says."""
    assert statement["note"] is None, statement
    assert "actual" in statement["plan"]
    assert f"Execution Time: {statement['execution_ms']:.3f} ms" == statement["plan"].splitlines()[-1]


def assert_nothing_stays(url: str, shape: Shape) -> None:
    assert check(DatabaseUrl.parse(url)) == shape


async def lazy_async(session: AsyncSession, page: int, page_size: int) -> RenderedPage:
    return await session.run_sync(lazy, page, page_size)


def test_each_strategy_has_an_entry_for_each_of_its_keys(of_strategies: list[dict[str, Any]]) -> None:
    names = ("workload", "strategy", "which", "key")
    assert [tuple(entry[name] for name in names) for entry in of_strategies] == [
        ("todo list", strategy, which, key)
        for strategy in STRATEGIES
        for which, key in (("typical", "50, 20"), ("last", "99, 20"))
    ]


def test_equal_statements_are_explained_once_and_counted(of_strategies: list[dict[str, Any]]) -> None:
    for entry in of_strategies:
        assert entry["note"] is None
        assert [statement["times"] for statement in entry["statements"]] == TIMES[entry["strategy"]]
        for statement in entry["statements"]:
            assert_explained(statement)


def test_a_statement_is_explained_with_the_parameters_of_its_first_execution(
    of_strategies: list[dict[str, Any]],
) -> None:
    for entry in of_strategies:
        page = int(entry["key"].split(",")[0])
        first_id = page * PAGE_SIZE + 1
        values = [list(json.loads(statement["parameters"]).values()) for statement in entry["statements"]]
        if entry["strategy"] == "lazy":
            assert values[1] == [first_id]
            assert "rows=2" in entry["statements"][1]["plan"].splitlines()[0]
        elif entry["strategy"] == "selectin":
            assert values[1] == list(range(first_id, first_id + PAGE_SIZE))
        assert set(values[0]) == {PAGE_SIZE, page * PAGE_SIZE}


def test_the_answer_goes_into_json_as_it_is(of_strategies: list[dict[str, Any]]) -> None:
    assert json.loads(json.dumps(of_strategies)) == of_strategies


def test_any_values_are_a_key_and_are_shown_as_text(seeded_url: str) -> None:
    keys: list[tuple[Any, ...]] = [(), ("rock",), ("a\nb", None), (date(2024, 2, 29), 1.5, frozenset({1}))]
    seen = []

    def page(session: Session, *key: Any) -> None:
        seen.append(key)

    shown = [entry["key"] for key in keys for entry in explain(seeded_url, page, key=key)]
    assert seen == keys
    assert shown == ["", "rock", r"'a\nb', None", "2024-02-29, 1.5, frozenset({1})"]


def test_an_async_page_function_is_explained_like_a_plain_one(seeded_url: str) -> None:
    plain, awaited = explain(seeded_url, lazy, lazy_async)
    for statement in awaited["statements"]:
        assert_explained(statement)
    compared = [
        [(statement["sql"], statement["parameters"], statement["times"]) for statement in entry["statements"]]
        for entry in (plain, awaited)
    ]
    assert compared[0] == compared[1]


def test_a_statement_has_the_line_of_the_application_that_executed_it_first(seeded_url: str) -> None:
    def page(session: Session, page: int, page_size: int) -> None:
        for statement in ("SELECT 1", "SELECT 2", "SELECT 1"):
            session.execute(text(statement))

    async def awaited(session: AsyncSession, page: int, page_size: int) -> None:
        await session.execute(text("SELECT 1"))
        await session.run_sync(lambda session: session.execute(text("SELECT 2")))
        await session.execute(text("SELECT 1"))

    def line(function: Callable[..., Any], number: int, name: str = "") -> str:
        first = function.__code__.co_firstlineno
        return f"{__file__}:{first + number} in {function.__qualname__.replace('.<locals>', '')}{name}"

    for entry, lines in zip(
        explain(seeded_url, page, awaited),
        [[line(page, 2)] * 2, [line(awaited, 1), line(awaited, 2, ".<lambda>")]],
        strict=True,
    ):
        shown = [statement["source"] for statement in entry["statements"]]
        assert [str(Path(source).absolute()) for source in shown] == lines
        assert [statement["times"] for statement in entry["statements"]] == [2, 1]


def test_any_parameters_are_sent_again_and_shown(seeded_url: str) -> None:
    def page(session: Session, page: int, page_size: int) -> RenderedPage:
        session.scalars(select(Todo).where(Todo.id.in_([1, 2]))).all()
        session.execute(text("SELECT id FROM dbkit.todo WHERE id = ANY(:ids) AND title LIKE '%1%'"), {"ids": [1, 2]})
        session.execute(text("SELECT :bytes, :text"), {"bytes": b"\0\xff", "text": "ä'%"})
        session.connection().exec_driver_sql("SELECT %s::date, 'a%%'", ("2024-02-29",))
        session.execute(text("SELECT 'no parameters, 100%'"))
        return []

    (entry,) = explain(seeded_url, page)
    for statement in entry["statements"]:
        assert_explained(statement)
    assert [json.loads(statement["parameters"]) for statement in entry["statements"]] == [
        {"id_1_1": 1, "id_1_2": 2},
        {"ids": [1, 2]},
        {"bytes": str(b"\0\xff"), "text": "ä'%"},
        ["2024-02-29"],
        {},
    ]


@pytest.mark.parametrize("end", PAGE_ENDS)
def test_nothing_stays_of_a_page_that_commits_and_rolls_back(small_url: str, end: PageEnd) -> None:
    def write(session: Session, page: int, page_size: int) -> RenderedPage:
        session.add(User(id=1000, name="left behind"))
        session.commit()
        session.execute(delete(Comment).where(Comment.id == 1))
        session.rollback()
        session.execute(delete(Comment).where(Comment.id == 1))
        session.commit()
        assert session.scalar(select(func.count()).select_from(User)) == SMALL.users + 1, "the page sees its own"
        return []

    async def write_async(session: AsyncSession, page: int, page_size: int) -> RenderedPage:
        return await session.run_sync(write, page, page_size)

    for entry in explain(small_url, write, write_async, settings=Settings(end=end), end=end, writes=True):
        assert entry["note"] is None
        insert, *others = entry["statements"]
        assert (insert["plan"], insert["execution_ms"]) == (None, None)
        assert "duplicate key value violates unique constraint" in insert["note"]
        assert "\n" not in insert["note"]
        assert [(statement["sql"].split()[0], statement["times"]) for statement in others] == [
            ("DELETE", 2),
            ("SELECT", 1),
        ]
        for statement in others:
            assert_explained(statement)
    assert_nothing_stays(small_url, SMALL)


def test_an_explained_statement_leaves_the_next_ones_as_the_page_left_them(small_url: str) -> None:
    def insert_and_count(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("INSERT INTO dbkit.app_user (name) VALUES ('new')"))
        session.execute(text("SELECT id FROM dbkit.app_user"))
        return []

    (entry,) = explain(small_url, insert_and_count, writes=True)
    for statement in entry["statements"]:
        assert_explained(statement)
    assert f"rows={SMALL.users + 1}" in entry["statements"][1]["plan"].splitlines()[0].partition("actual")[2]
    assert_nothing_stays(small_url, SMALL)


@pytest.mark.parametrize(("end", "verbs"), [("rollback", []), ("commit", ["INSERT"])])
def test_what_only_the_end_of_a_page_sends_is_explained_too(small_url: str, end: PageEnd, verbs: list[str]) -> None:
    def add(session: Session, page: int, page_size: int) -> RenderedPage:
        session.add(User(name="new"))
        return []

    (entry,) = explain(small_url, add, end=end, writes=True)
    assert [statement["sql"].split()[0] for statement in entry["statements"]] == verbs
    assert_nothing_stays(small_url, SMALL)


def test_many_rows_at_once_are_explained_by_the_first(small_url: str) -> None:
    def rename(session: Session, page: int, page_size: int) -> RenderedPage:
        rows = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
        session.execute(text("UPDATE dbkit.app_user SET name = :name WHERE id = :id"), rows)
        return []

    (refused,) = explain(small_url, rename)
    assert "cannot execute UPDATE in a read-only transaction" in refused["note"]
    (entry,) = explain(small_url, rename, writes=True)
    (statement,) = entry["statements"]
    assert_explained(statement)
    assert (json.loads(statement["parameters"]), statement["times"]) == ({"id": 1, "name": "one"}, 1)
    assert_nothing_stays(small_url, SMALL)


def test_what_the_server_cannot_explain_is_listed_and_says_so(seeded_url: str) -> None:
    utilities = ["SET LOCAL work_mem = '1MB'", "LOCK TABLE dbkit.todo IN ACCESS SHARE MODE"]

    def page(session: Session, page: int, page_size: int) -> RenderedPage:
        for utility in utilities:
            session.execute(text(utility))
        with session.begin_nested():
            session.execute(text("SELECT current_setting('work_mem')"))
        return []

    (entry,) = explain(seeded_url, page)
    *refused, explained = entry["statements"]
    assert [statement["sql"] for statement in refused] == utilities
    assert [(statement["plan"], statement["note"]) for statement in refused] == [
        (None, f'no plan: SyntaxError: syntax error at or near "{word}"') for word in ("SET", "LOCK")
    ]
    assert_explained(explained)


def test_a_page_that_fails_is_noted_in_one_line_and_the_others_are_explained(seeded_url: str) -> None:
    def wrong_sql(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT 1"))
        session.execute(text("SELECT secret_column FROM dbkit.todo WHERE id = :id"), {"id": 1})
        return []

    def wrong_python(session: Session, page: int, page_size: int) -> RenderedPage:
        raise ValueError("first line\nsecond line")

    def wrong_and_silent(session: Session, page: int, page_size: int) -> RenderedPage:
        raise NotImplementedError

    async def wrong_async(session: AsyncSession, page: int, page_size: int) -> RenderedPage:
        await session.execute(text("SELECT 1 / 0"))
        return []

    def cut_off(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return []

    def out_of_reach(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("COMMIT"))
        return []

    pages = (wrong_sql, wrong_python, wrong_and_silent, wrong_async, cut_off, out_of_reach)
    *failed, right = explain(seeded_url, *pages, lazy)
    assert [entry["note"] for entry in failed] == [
        'UndefinedColumn: column "secret_column" does not exist',
        "ValueError: first line",
        "NotImplementedError",
        "DivisionByZero: division by zero",
        "AdminShutdown: terminating connection due to administrator command",
        'InvalidSavepointSpecification: savepoint "sa_savepoint_1" does not exist',
    ]
    assert all(entry["statements"] == [] for entry in failed)
    assert [statement["times"] for statement in right["statements"]] == TIMES["lazy"]


def test_a_page_that_goes_on_after_a_failed_statement_is_listed_without_plans(seeded_url: str) -> None:
    def page(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT 1"))
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT 1 / 0"))
        return []

    (entry,) = explain(seeded_url, page)
    assert [(statement["sql"], statement["plan"]) for statement in entry["statements"]] == [
        ("SELECT 1", None),
        ("SELECT 1 / 0", None),
    ]
    assert all("current transaction is aborted" in statement["note"] for statement in entry["statements"])


def test_a_statement_longer_than_the_settings_allow_is_noted(seeded_url: str) -> None:
    def slow(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT pg_sleep(60)"))
        return []

    (entry,) = explain(seeded_url, slow, settings=Settings(statement_timeout_s=0.1))
    assert (entry["statements"], entry["note"]) == (
        [],
        "QueryCanceled: canceling statement due to statement timeout",
    )


@pytest.mark.parametrize(("timeout_s", "shown"), [(0, f"{LIMIT_S}s"), (0.5, "500ms"), (600, f"{LIMIT_S}s")])
def test_statements_have_a_time_limit_also_where_the_settings_allow_more(
    seeded_url: str, timeout_s: float, shown: str
) -> None:
    limits = []

    def page(session: Session, page: int, page_size: int) -> RenderedPage:
        limits.append(session.scalar(text("SHOW statement_timeout")))
        return []

    explain(seeded_url, page, settings=Settings(statement_timeout_s=timeout_s))
    assert limits == [shown]


def test_what_takes_longer_than_all_may_take_together_is_noted(
    seeded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_all_along(session: Session, page: int, page_size: int) -> RenderedPage:
        for _ in range(3):
            session.execute(text("SELECT 1"))
            late_by_s[0] = 1000
        return []

    def slow_to_explain(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT 1"))
        late_by_s[0] = 1000
        return []

    def late(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT 1"))
        return []

    late_by_s = [0]
    monkeypatch.setattr(plans, "_now", lambda: time.monotonic() + late_by_s[0])
    over = f"TimeoutError: the strategies' statements together took longer than {plans.BUDGET_S} s"
    (entry,) = explain(seeded_url, slow_to_explain)
    late_by_s[0] = 0
    assert [(statement["plan"], statement["note"]) for statement in entry["statements"]] == [(None, f"no plan: {over}")]
    first, second = explain(seeded_url, slow_all_along, late)
    assert [(entry["statements"], entry["note"]) for entry in (first, second)] == [([], over)] * 2


Engines = dict[str, Callable[[], Engine | AsyncEngine]]


@pytest.fixture
def engines(small_url: str) -> Engines:
    """An application's engines, each as a function that makes it."""
    database = DatabaseUrl.parse(small_url)
    host = {"host": database.host, "port": str(database.port)}
    url = URL.create("postgresql", database.user, database=database.database, query=host)
    sync, psycopg_async, asyncpg = (
        url.set(drivername=f"postgresql+{name}") for name in ("psycopg", "psycopg", "asyncpg")
    )
    return {
        "psycopg": lambda: create_engine(sync),
        "psycopg in autocommit": lambda: create_engine(sync, isolation_level="AUTOCOMMIT"),
        "psycopg with options": lambda: create_engine(sync).execution_options(isolation_level="AUTOCOMMIT"),
        "psycopg with one connection": lambda: create_engine(sync, poolclass=StaticPool),
        "psycopg-async": lambda: create_async_engine(psycopg_async, poolclass=NullPool),
        "psycopg-async with options": lambda: create_async_engine(
            psycopg_async, execution_options={"isolation_level": "AUTOCOMMIT"}
        ),
        "asyncpg": lambda: create_async_engine(asyncpg),
        "asyncpg in autocommit": lambda: create_async_engine(asyncpg, isolation_level="AUTOCOMMIT"),
    }


ENGINES = (
    *("psycopg", "psycopg in autocommit", "psycopg with options", "psycopg with one connection"),
    *("psycopg-async", "psycopg-async with options", "asyncpg", "asyncpg in autocommit"),
)


def rename(session: Session, number: int, name: str) -> None:
    user = session.scalars(select(User).where(User.id == number)).one()
    user.name = name
    session.commit()
    session.execute(select(func.count()).select_from(User).where(User.name == name)).one()


async def rename_async(session: AsyncSession, number: int, name: str) -> None:
    await session.run_sync(rename, number, name)


@own_session
def rename_by_own_session(make_session: sessionmaker[Session], number: int, name: str) -> None:
    with make_session() as session:
        rename(session, number, name)
    with make_session.begin() as session:
        session.execute(select(User.id).where(User.name == name)).one()  # what the first one has committed


@own_session
async def rename_by_own_async_session(make_session: async_sessionmaker[AsyncSession], number: int, name: str) -> None:
    async with make_session() as session:
        await rename_async(session, number, name)
    async with make_session.begin() as session:
        (await session.execute(select(User.id).where(User.name == name))).one()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("is_made", [True, False], ids=["function", "engine"])
def test_pages_are_explained_on_an_engine_of_the_application_and_nothing_stays(
    small_url: str, engines: Engines, name: str, is_made: bool
) -> None:
    engine = engines[name] if is_made else engines[name]()
    functions: list[Callable[..., Any]] = [rename, rename_by_own_session]
    if "async" in name:
        functions += [rename_async, rename_by_own_async_session]
    for entry in explain(small_url, *functions, engine=engine, key=(1, "renamed")):
        assert (entry["note"], entry["key"]) == (None, "1, renamed")
        verbs = [statement["sql"].split()[0] for statement in entry["statements"]]
        assert verbs[:3] == ["SELECT", "UPDATE", "SELECT"]
        assert len(verbs) == (4 if "own" in entry["strategy"] else 3)
        for statement in entry["statements"]:
            assert_explained(statement)
            assert "test_plans.py:" in statement["source"]
    assert_nothing_stays(small_url, SMALL)
    assert_no_connections(small_url)


def test_an_applications_engine_keeps_its_settings_and_its_connections(small_url: str, engines: Engines) -> None:
    engine = engines["psycopg"]()
    assert isinstance(engine, Engine)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: object) -> None:
        connection.execute("SET work_mem = '7MB'")
        connection.commit()

    def page(session: Session) -> None:
        work_mem.append(session.scalar(text("SHOW work_mem")))

    work_mem: list[str] = []
    with engine.connect() as connection:
        before = connection.connection.dbapi_connection
    explain(small_url, page, engine=engine, key=())
    assert work_mem == ["7MB"]
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection is before
    engine.dispose()
    assert_no_connections(small_url)


def test_an_async_engine_may_have_connections_of_a_loop_that_has_ended(small_url: str, engines: Engines) -> None:
    engine = engines["asyncpg"]()
    assert isinstance(engine, AsyncEngine)

    async def connect() -> None:
        async with engine.connect():
            pass

    asyncio.run(connect())
    (entry,) = explain(small_url, rename, engine=engine, key=(1, "renamed"))
    assert entry["note"] is None
    assert len(entry["statements"]) == 3


def test_an_interrupt_ends_it_and_leaves_nothing(small_url: str) -> None:
    def interrupted(session: Session, page: int, page_size: int) -> RenderedPage:
        session.add(User(name="left behind"))
        session.commit()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(small_url, interrupted, writes=True)
    assert_nothing_stays(small_url, SMALL)
    assert_no_connections(small_url)


def test_its_connections_are_closed(database_url: str) -> None:
    def select_one(session: Session, page: int, page_size: int) -> RenderedPage:
        session.execute(text("SELECT 1"))
        return []

    async def select_one_async(session: AsyncSession, page: int, page_size: int) -> RenderedPage:
        return await session.run_sync(select_one, page, page_size)

    entries = explain(database_url, select_one, select_one_async)
    assert [len(entry["statements"]) for entry in entries] == [1, 1]
    assert_no_connections(database_url)


def test_a_server_that_cannot_be_connected_to_is_an_error_of_one_line(database_url: str) -> None:
    gone = database_url.replace("/test_", "/no_such_test_")
    with pytest.raises(DbkitError, match="does not exist") as error:
        explain(gone, lazy)
    assert "\n" not in str(error.value)


def test_it_works_in_a_process_that_gevent_has_patched(seeded_url: str) -> None:
    script = f"""
import locust, json
from dataclasses import replace
from dbkit.load.loop_thread import LoopThread
from {__name__} import DatabaseUrl, Settings, explain_pages, lazy_async, pages_of_strategies
thread = LoopThread()
pages = pages_of_strategies()
pages.append(replace(pages[0], strategy="lazy_async", function=lazy_async))
entries = explain_pages(DatabaseUrl.parse({seeded_url!r}), Settings(), pages, thread.run)
thread.stop()
print(json.dumps(entries))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    entries = json.loads(done.stdout)
    times = TIMES | {"lazy_async": TIMES["lazy"]}
    assert [entry["strategy"] for entry in entries] == [strategy for strategy in times for _ in range(2)]
    for entry in entries:
        assert [statement["times"] for statement in entry["statements"]] == times[entry["strategy"]]
        for statement in entry["statements"]:
            assert_explained(statement)
