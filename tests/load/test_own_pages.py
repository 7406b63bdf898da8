"""Pages of people's own: any models, any key, any engine; and what is said where something does not fit.

Each locustfile is written as a user would write it, beside models of a small shop.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.locust_runs import LocustRun, connections, free_port, locust, named

SHOP = """
import os
from sqlalchemy import ForeignKey, create_engine, func, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, lazyload, mapped_column, relationship, selectinload
from dbkit.load import AsyncPageUser, PageUser, Rounds, SyncPageUser, Workload, own_session, page_users
from locust import task

class Base(DeclarativeBase):
    pass

class Album(Base):
    __tablename__ = "album"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    tracks: Mapped[list["Track"]] = relationship(order_by="Track.id")

class Track(Base):
    __tablename__ = "track"
    id: Mapped[int] = mapped_column(primary_key=True)
    album_id: Mapped[int] = mapped_column(ForeignKey("album.id"))
    name: Mapped[str]

albums = Workload("albums", keys=range(6))

def albums_page(load):
    def page(session, number):
        query = select(Album).options(load(Album.tracks)).order_by(Album.id).limit(5).offset(5 * number)
        return [(album.title, [track.name for track in album.tracks]) for album in session.scalars(query).unique()]
    return page

joined = albums_page(joinedload)
"""

TABLES = """
CREATE TABLE album (id serial PRIMARY KEY, title text NOT NULL);
CREATE TABLE track (id serial PRIMARY KEY, album_id int NOT NULL REFERENCES album, name text NOT NULL);
INSERT INTO album (title) SELECT 'album ' || n FROM generate_series(1, 30) n;
INSERT INTO track (album_id, name) SELECT 1 + n / 3, 'track ' || n FROM generate_series(0, 89) n;
CREATE TABLE invoice (id serial PRIMARY KEY, album_id int NOT NULL REFERENCES album);
"""

ALL_STACKS = ("psycopg", "psycopg-threads", "psycopg-async", "asyncpg")


@pytest.fixture
def shop_url(database_url: str) -> str:
    """A database with thirty albums of three tracks, and nothing of dbkit's."""
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    return database_url


@contextmanager
def shop_run(
    folder: Path, url: str | None, locustfile: str, *arguments: str, web: bool = False, **environment: str
) -> Iterator[LocustRun]:
    file = folder / "shop_load.py"
    file.write_text(SHOP + locustfile)
    with locust(
        folder / "run", *arguments, url=url, locustfiles=str(file), web=web, record=True, environment=environment
    ) as run:
        yield run


SHORT = ("-u", "4", "-r", "100", "-t", "60s")


def comparison(run: LocustRun) -> dict[str, Any]:
    return dict(json.loads((run.folder / "run_comparison.json").read_text()))


def read_until(run: LocustRun, classes: int, pages: int = 3) -> None:
    """Wait until so many classes have each read so many pages without a failure, and end the run."""

    def have_read() -> bool:
        read: dict[str, int] = {}
        for page in run.pages:
            assert page.failure is None, (page, run.output)
            read[page.context["user_class"]] = read.get(page.context["user_class"], 0) + 1
        return len(read) == classes and min(read.values()) >= pages

    run.wait_until(have_read)
    assert run.terminate() == 0, run.output


# The file that people write


COMPARE = """
page_users(albums, selectin=albums_page(selectinload), joined=joined, lazy=albums_page(lazyload))

class Compare(Rounds):
    pass
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_file_of_ones_own_is_compared_on_all_stacks(shop_url: str, tmp_path: Path, processes: str) -> None:
    arguments = ("-u", "4", "--rounds", "1", "--slot-time", "0.2", "--warm-up", "0.1")
    processes_arguments = ("--processes", processes) if processes != "1" else ()
    with shop_run(tmp_path, shop_url, COMPARE, *arguments, *processes_arguments) as run:
        assert run.wait() == 0, run.output
        rows = {row["user_class"]: row for row in comparison(run)["strategies"]}
        names = ("Psycopg", "PsycopgThreads", "PsycopgAsync", "Asyncpg")
        assert rows.keys() == {f"{stack}{strategy}" for stack in names for strategy in ("Selectin", "Joined", "Lazy")}
        for row in rows.values():
            assert row["failures"] == 0
            if row["pages"]:
                assert row["statements"] == {"selectin": 2, "joined": 1, "lazy": 6}[row["strategy"]]
                assert row["rows"] == {"selectin": 20, "joined": 15, "lazy": 20}[row["strategy"]]
        assert {page.context["key"] for page in run.pages} <= set(range(6))
        # each strategy is explained, with a page in the middle and the last one
        assert {plan["strategy"] for plan in comparison(run)["plans"]} >= {"selectin", "joined", "lazy"}
        assert run.leftovers() == []


def test_a_run_in_the_web_ui_needs_no_dataset(shop_url: str, tmp_path: Path) -> None:
    file = "page_users(albums, stacks=['psycopg', 'asyncpg'], joined=joined)"
    with shop_run(tmp_path, shop_url, file, web=True) as run:
        assert run.swarm(user_count=4)["success"]
        read_until(run, classes=2)


# Keys

KEYS = {
    "a list": ("['3', 3, None]", {"'3'", "3", "None"}),
    "an iterator": ("(n * n for n in range(3))", {"0", "1", "4"}),
    "tuples": ("[(1, 'a'), (2, 'b')]", {"(1, 'a')", "(2, 'b')"}),
    "SQL": ("'SELECT id FROM album WHERE id < 4 ORDER BY id'", {"1", "2", "3"}),
    "SQL with two columns": ("'SELECT id, title FROM album WHERE id = 7'", {"(7, 'album 7')"}),
    "a function": ("lambda session: session.scalars(select(Album.id).where(Album.id > 28))", {"29", "30"}),
}


def test_keys_of_any_kind_are_arguments_of_the_page_function(shop_url: str, tmp_path: Path) -> None:
    file = """
def page(session, *key):
    session.execute(text("SELECT 1"))
    return repr(key[0] if len(key) == 1 else key)

def read(kind, keys):
    say = lambda rendered, *key: print(f"seen by {kind}: {rendered}", flush=True)
    page_users(Workload(kind, keys=keys, check=say), stacks=["psycopg", "asyncpg"], prefix=f"K{len(kinds)}", page=page)
    kinds.append(kind)

kinds = []
""" + "".join(f"read({name!r}, {keys})\n" for name, (keys, _) in KEYS.items())
    expected = {(name, key) for name, (_, found) in KEYS.items() for key in found}

    def seen() -> set[tuple[str, str]]:
        return {*re.findall(r"^seen by (.+?): (.+)$", run.stdout, re.MULTILINE)}

    with shop_run(tmp_path, shop_url, file, "-u", str(2 * len(KEYS)), "-r", "100", "-t", "60s") as run:
        run.wait_until(lambda: seen() >= expected)
        assert run.terminate() == 0, run.output
        assert seen() == expected


def test_keyset_pages_follow_one_another(shop_url: str, tmp_path: Path) -> None:
    file = """
def feed(session, after):
    query = select(Album.id, Album.title).where(Album.id > after).order_by(Album.id).limit(7)
    return [tuple(row) for row in session.execute(query)]

class Feed(Workload):
    def next_key(self, rendered, after):
        return rendered[-1][0] if len(rendered) == 7 else None

page_users(Feed("feed", keys=[0]), feed=feed)
"""
    with shop_run(tmp_path, shop_url, file, *SHORT) as run:
        read_until(run, classes=4, pages=12)
        for stack in ALL_STACKS:
            # one user a stack
            keys = [page.context["key"] for page in run.pages if page.stack == stack]
            assert keys[:10] == [0, 7, 14, 21, 28] * 2


# Right pages


def test_pages_are_compared_with_those_verified_before(shop_url: str, tmp_path: Path) -> None:
    file = "page_users(albums, stacks=['psycopg', 'asyncpg'], joined=joined)"
    with shop_run(tmp_path, shop_url, file, *SHORT) as run:
        run.wait_until(lambda: len(run.pages) > 10)
        with psycopg.connect(shop_url) as connection:
            connection.execute("UPDATE track SET name = 'changed' WHERE album_id = 1")
        run.wait_until(lambda: {page.stack for page in run.pages if page.failure} == {"psycopg", "asyncpg"})
        assert run.terminate() == 1
        failed = [page for page in run.pages if page.failure]
        assert {page.failure for page in failed} == {"wrong page: not as it was read before"}
        assert {page.context["key"] for page in failed} == {0}


def test_a_check_of_ones_own_decides(shop_url: str, tmp_path: Path) -> None:
    file = """
def check(rendered, number):
    assert number % 2 == 0, "an odd page"

page_users(Workload("albums", keys=range(6), check=check), stacks=["psycopg"], joined=joined)
"""
    with shop_run(tmp_path, shop_url, file, *SHORT) as run:
        run.wait_until(lambda: len({page.context["key"] for page in run.pages}) == 6)
        assert run.terminate() == 1
        assert {(page.context["key"] % 2, page.failure) for page in run.pages} == {
            (0, None),
            (1, "AssertionError: an odd page"),
        }


def test_a_locustfile_may_use_what_another_one_has(shop_url: str, tmp_path: Path) -> None:
    # Locust then runs the other one twice
    (tmp_path / "own.py").write_text(SHOP + "page_users(albums, stacks=['psycopg'], joined=joined)")
    (tmp_path / "other.py").write_text(
        "from own import Workload, joined, page_users\n"
        "page_users(Workload('one album', keys=[1]), stacks=['asyncpg'], joined=joined)"
    )
    files = f"{tmp_path / 'other.py'},{tmp_path / 'own.py'}"
    with locust(tmp_path / "run", *SHORT, url=shop_url, locustfiles=files, record=True) as run:
        read_until(run, classes=2)


# Page functions

FUNCTIONS = """
import asyncio, functools

class Repository:
    def __init__(self, size):
        self.size = size
    def page(self, session, number):
        query = select(Album).order_by(Album.id).limit(self.size).offset(number)
        return [album.title for album in session.scalars(query)]
    async def awaited(self, session, number):
        query = select(Album).order_by(Album.id).limit(self.size).offset(number)
        return [album.title for album in await session.scalars(query)]
    def __call__(self, session, number):
        return self.page(session, number)

def in_its_own_session(make_session, number):
    with make_session() as session, session.begin():
        return Repository(5).page(session, number)

async def in_its_own_async_session(make_session, number):
    async with make_session() as session:
        return await Repository(5).awaited(session, number)

async def streamed(session, number):
    query = select(Album).order_by(Album.id).limit(5).offset(number)
    return [album.title async for album in await session.stream_scalars(query)]

def with_size(function):
    @functools.wraps(function)
    def injected(session, number):
        return function(session, number, size=5)
    return injected

def awaitable(function):
    @functools.wraps(function)
    async def wrapper(session, number):
        return await asyncio.to_thread(list, await session.run_sync(function, number))
    return wrapper

@with_size
def injected(session, number, size):
    return Repository(size).page(session, number)

five = Repository(5)
page_users(albums, method=five.page, callable=five, partial=functools.partial(Repository.page, five),
           closure=lambda session, number: five.page(session, number), own_session=own_session(in_its_own_session),
           injected=injected)
page_users(albums, awaited=five.awaited, awaited_own=own_session(in_its_own_async_session, expire_on_commit=False),
           streamed=streamed, decorated=awaitable(injected))
"""


def test_any_callable_is_a_page_function(shop_url: str, tmp_path: Path) -> None:
    with shop_run(tmp_path, shop_url, FUNCTIONS, "-u", "32", "-r", "100", "-t", "60s") as run:
        read_until(run, classes=6 * 4 + 4 * 2)
        assert {(page.context["statements"], page.context["rows"]) for page in run.pages} == {(1, 5)}


RAISING = """
import asyncio

class Odd(BaseException):
    pass

def raising(session, number):
    session.execute(text("SELECT 1"))
    raise [asyncio.CancelledError(), SystemExit(3), Odd("no"), StopIteration()][number]

page_users(Workload("odd", keys=range(4), check=None), x=raising)
"""


def test_whatever_a_page_raises_is_its_failure_and_its_user_goes_on(shop_url: str, tmp_path: Path) -> None:
    with shop_run(tmp_path, shop_url, RAISING, "-u", "4", "-r", "100", "--page-order", "sequential") as run:
        run.wait_until(lambda: min(Counter(page.stack for page in run.pages).get(each, 0) for each in ALL_STACKS) > 12)
        assert run.terminate() == 1
        for stack in ALL_STACKS:
            failures = [page.failure for page in run.pages if page.stack == stack][:8]
            assert [str(each).partition(":")[0] for each in failures[:3]] == ["CancelledError", "SystemExit", "Odd"]
            assert failures[:4] == failures[4:]
        assert "failed with" not in run.stderr  # gevent, of a user that has died


# Engines

ENGINES = """
URL = os.environ["SHOP_URL"]
engine = create_engine(f"postgresql+psycopg{URL}", pool_size=3, max_overflow=0, pool_pre_ping=True,
                       connect_args={"prepare_threshold": None}, isolation_level="REPEATABLE READ")
async_engine = create_async_engine(f"postgresql+asyncpg{URL}", pool_size=2, max_overflow=1)

def isolation(session, number):
    level = session.scalar(text("SHOW transaction_isolation"))
    assert level == ("repeatable read" if session.get_bind().dialect.driver == "psycopg" else "read committed")
    return joined(session, number)

page_users(albums, stacks=["psycopg", "psycopg-threads", "asyncpg"], engine=engine, async_engine=async_engine,
           isolation=isolation)
"""


@pytest.mark.parametrize("with_url", [True, False])
def test_engines_of_the_application_are_used_as_they_are(shop_url: str, tmp_path: Path, with_url: bool) -> None:
    after_scheme = shop_url.removeprefix("postgresql")
    given = shop_url if with_url else None
    arguments = ("-u", "9", "-r", "100", "-t", "60s", "--pool-size", "1", "--max-overflow", "0")
    with shop_run(tmp_path, given, ENGINES, *arguments, SHOP_URL=after_scheme) as run:
        read_until(run, classes=3, pages=10)
        assert {page.context["statements"] for page in run.pages} == {2}
        # BEGIN, two statements and ROLLBACK; the pre-ping is one more where a connection was there already
        trips = {(page.stack, page.context["round_trips"]) for page in run.pages if not page.context["connections"]}
        assert trips >= {("psycopg", 5), ("psycopg-threads", 5), ("asyncpg", 4)}


USED_AT_IMPORT = """
import asyncio

engine = create_engine("postgresql+psycopg" + os.environ["SHOP_URL"])
async_engine = create_async_engine("postgresql+asyncpg" + os.environ["SHOP_URL"])
connection = engine.connect()
with engine.connect() as other:
    assert other.scalar(select(1)) == 1

async def look():
    async with async_engine.connect() as other:
        assert await other.scalar(select(1)) == 1

asyncio.run(look())
page_users(albums, stacks=["psycopg", "psycopg-threads", "asyncpg"], engine=engine, async_engine=async_engine,
           joined=joined)
"""


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_an_engine_may_have_been_used_before(shop_url: str, tmp_path: Path, processes: tuple[str, ...]) -> None:
    after_scheme = shop_url.removeprefix("postgresql")
    arguments = ("-u", "6", "-r", "100", "-t", "60s", *processes)
    with shop_run(tmp_path, shop_url, USED_AT_IMPORT, *arguments, SHOP_URL=after_scheme) as run:
        read_until(run, classes=3)
        assert "Traceback" not in run.output
        assert run.leftovers() == []


AUTOCOMMIT = """
engine = create_engine("postgresql+psycopg" + os.environ["SHOP_URL"]).execution_options(stream_results=False)
async_engine = create_async_engine("postgresql+asyncpg" + os.environ["SHOP_URL"])
page_users(albums, stacks=["psycopg", "psycopg-threads", "asyncpg"], engine=engine, async_engine=async_engine,
           end="autocommit", joined=joined, writes=False)
page_users(albums, stacks=["psycopg", "psycopg-threads", "asyncpg"], engine=engine, async_engine=async_engine,
           prefix="In", joined=joined)
"""


def test_classes_of_one_engine_may_end_their_pages_in_different_ways(shop_url: str, tmp_path: Path) -> None:
    after_scheme = shop_url.removeprefix("postgresql")
    arguments = ("-u", "12", "-r", "100", "-t", "60s")
    with shop_run(tmp_path, shop_url, AUTOCOMMIT, *arguments, SHOP_URL=after_scheme) as run:
        read_until(run, classes=6)
        warm = [page for page in run.pages if not page.context["connections"]]
        trips = {(page.context["user_class"].startswith("In"), page.context["round_trips"]) for page in warm}
        assert trips >= {(False, 1), (True, 3)}


@pytest.mark.parametrize("instead", ["return []", "raise LookupError"])
def test_a_user_is_gone_whose_page_keeps_the_kill_to_itself(shop_url: str, tmp_path: Path, instead: str) -> None:
    # as a pool may that tries its connection, and a driver that cleans up
    file = f"""
def stubborn(session, number):
    try:
        session.execute(text("SELECT pg_sleep(300)"))
    except BaseException:
        {instead}

page_users(Workload("albums", keys=range(6), check=None), stacks=["psycopg"], stubborn=stubborn)
"""
    name = "stubborn"
    with shop_run(tmp_path, named(shop_url, name), file, *SHORT, "--drain-timeout", "0") as run:
        run.wait_until(lambda: connections(shop_url, name, "active") == 4)
        assert run.terminate() == 1, run.output
        assert [row["unfinished"] for row in comparison(run)["strategies"]] == [4]


def test_an_engine_is_made_by_a_function_of_the_url(shop_url: str, tmp_path: Path) -> None:
    file = """
from sqlalchemy.pool import NullPool
page_users(albums, engine=lambda url: create_engine(url, poolclass=NullPool), joined=joined,
           async_engine=lambda url: create_async_engine(url, poolclass=NullPool))
"""
    with shop_run(tmp_path, shop_url, file, *SHORT) as run:
        read_until(run, classes=4)
        assert {page.context["connections"] for page in run.pages} == {1}


# Tasks, and pages that write

TASKS = """
async def count(session, least):
    return await session.scalar(select(func.count()).select_from(Album).where(Album.id >= least))

def buy(session, album):
    session.execute(text("INSERT INTO invoice (album_id) VALUES (:album)"), {"album": album})
    return session.scalar(text("SELECT count(*) FROM invoice"))

class Sync(SyncPageUser):
    end = "commit"
    @task(3)
    def look(self):
        assert len(self.read_page(joined, 2)) == 5
    @task(1)
    def order(self):
        assert self.read_page(buy, 7) > 0

class Async(AsyncPageUser):
    stack = "asyncpg"
    @task
    def look(self):
        assert self.read_page(count, 11) == 20
"""


def test_tasks_read_pages_of_any_function_by_any_key(shop_url: str, tmp_path: Path) -> None:
    with shop_run(tmp_path, shop_url, TASKS, *SHORT) as run:
        names = {("psycopg", "albums_page.page"), ("psycopg", "buy"), ("asyncpg", "count")}
        run.wait_until(lambda: {(page.stack, page.strategy) for page in run.pages} == names)
        assert run.terminate() == 0, run.output
        assert run.rows("exceptions") == []
        assert {page.failure for page in run.pages} == {None}
        with psycopg.connect(shop_url) as connection:
            [(bought,)] = connection.execute("SELECT count(*) FROM invoice").fetchall()
        assert bought >= sum(page.strategy == "buy" for page in run.pages) > 0


WRITES = """
def order(session, album):
    session.execute(text("INSERT INTO invoice (album_id) VALUES (:album)"), {"album": album})
    return session.scalar(text("SELECT count(*) FROM invoice"))

def empty(session):
    session.execute(text("DELETE FROM invoice"))

def few(rendered, album):
    assert rendered <= 100_000

orders = Workload("orders", keys="SELECT id FROM album", check=few)
page_users(orders, stacks=["psycopg", "asyncpg"], end="commit", reset=RESET, order=order)

class Compare(Rounds):
    pass
"""


@pytest.mark.parametrize("reset", ["empty", '"DELETE FROM invoice; SELECT 1"', None])
def test_pages_that_write_are_reset_before_each_slot(shop_url: str, tmp_path: Path, reset: str | None) -> None:
    with psycopg.connect(shop_url) as connection:
        connection.execute("INSERT INTO invoice (album_id) SELECT 1 FROM generate_series(1, 1000)")
    arguments = ("-u", "2", "--rounds", "1", "--slot-time", "0.2", "--warm-up", "0")
    with shop_run(tmp_path, shop_url, WRITES.replace("RESET", str(reset)), *arguments) as run:
        assert run.wait() == 0, run.output
        with psycopg.connect(shop_url) as connection:
            [(left,)] = connection.execute("SELECT count(*) FROM invoice").fetchall()
        last = comparison(run)["slots"][-1]
        read = [page for page in run.pages if page.context["slot"] == last["slot"]]
        if reset is None:
            assert left == 1000 + len(run.pages)
        else:
            assert left == len(read)
        assert {page.failure for page in run.pages} == {None}


def test_a_reset_that_fails_ends_the_run_in_one_line(shop_url: str, tmp_path: Path) -> None:
    file = "page_users(albums, stacks=['psycopg'], joined=joined, writes=True, reset=lambda session: 1 / 0)"
    with shop_run(tmp_path, shop_url, file, *SHORT) as run:
        assert run.wait() == 2
        assert "the reset of PsycopgJoined failed: ZeroDivisionError: division by zero" in run.stderr
        assert "Traceback" not in run.output
        assert run.pages == []


# Ending early


def test_a_class_whose_every_page_fails_in_its_first_slot_ends_the_run(shop_url: str, tmp_path: Path) -> None:
    file = """
def broken(session, number):
    raise LookupError("no such album")

page_users(Workload("albums", keys=range(6), check=None), stacks=["psycopg"], joined=joined, broken=broken)

class Compare(Rounds):
    pass
"""
    with shop_run(tmp_path, shop_url, file, "-u", "2", "--rounds", "500", "--slot-time", "0.1") as run:
        assert run.wait() == 1, run.output
        assert "every page of PsycopgBroken failed in its first slot: LookupError: no such album" in run.stderr
        assert comparison(run)["state"] == "cut short"
        assert len(comparison(run)["slots"]) <= 2


def test_a_master_waits_for_no_worker_that_has_given_up(shop_url: str, tmp_path: Path) -> None:
    file = "page_users(Workload('none', keys='SELECT id FROM invoice'), stacks=['psycopg'], joined=joined)"
    (tmp_path / "shop_load.py").write_text(SHOP + file)
    port = str(free_port())
    files = str(tmp_path / "shop_load.py")
    master_arguments = ("--master", "--expect-workers", "2", "-t", "5s", "--master-bind-port", port)
    worker_arguments = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
    with (
        locust(tmp_path / "master", *master_arguments, url=None, locustfiles=files) as master,
        locust(tmp_path / "worker", *worker_arguments, url=shop_url, locustfiles=files) as worker,
    ):
        assert worker.wait() == 2
        assert "workload 'none' has no keys" in worker.stderr
        master.wait_until(lambda: "quit. 0 workers ready" in master.stderr)


# What does not fit


@dataclass(frozen=True)
class Case:
    """A mistake in a locustfile, and a part of the line that reports it."""

    locustfile: str
    said: str
    arguments: tuple[str, ...] = ()


DIFFERENT = """
def shouting(session, number):
    return [(title.upper(), tracks) for title, tracks in joined(session, number)]
"""
BEFORE_ANY_USER = {
    "too few arguments": Case(
        "page_users(albums, stacks=['psycopg'], x=lambda session: [])", "its page function takes"
    ),
    "too many arguments": Case(
        "page_users(Workload('w', keys=[(1, 2)]), stacks=['asyncpg'], x=lambda session, one: [])",
        "is called with (a session, 1, 2)",
    ),
    "no keys": Case("page_users(Workload('none', keys=[]), joined=joined)", "workload 'none' has no keys"),
    "no keys by SQL": Case(
        "page_users(Workload('none', keys='SELECT id FROM album WHERE id < 0'), joined=joined)", "has no keys"
    ),
    "keys by wrong SQL": Case(
        "page_users(Workload('w', keys='SELECT nothing FROM album'), joined=joined)",
        'column "nothing" does not exist',
    ),
    "keys by a function that fails": Case(
        "page_users(Workload('w', keys=lambda session: 1 / 0), joined=joined)", "ZeroDivisionError: division by zero"
    ),
    "keys without end": Case(
        "import itertools; page_users(Workload('w', keys=itertools.count()), joined=joined)", "more than 1,000,000 keys"
    ),
    "a key that is not hashable": Case(
        "page_users(Workload('w', keys=[[1]]), joined=joined)", "invalid key ([1],) of workload 'w': unhashable"
    ),
    "keys that are a number": Case("page_users(Workload('w', keys=7), joined=joined)", "expected an iterable"),
    "no stack": Case(
        "class NoStack(PageUser):\n    workload = albums\n    page_function = joined", "NoStack has stack = None"
    ),
    "an unknown stack of page_users": Case(
        "page_users(albums, stacks='mysql', x=joined)", "MysqlX has stack = 'mysql'"
    ),
    "an unknown stack": Case(
        "class Odd(PageUser):\n    stack = 'mysql'\n    page_function = joined", "Odd has stack = 'mysql'"
    ),
    "two classes of one name": Case(
        "page_users(albums, stacks=['psycopg'], x=joined)\npage_users(albums, stacks=['psycopg'], x=joined)",
        "the name PsycopgX",
    ),
    "an async function on a sync stack": Case(
        "async def page(session, number): pass\npage_users(albums, stacks=['psycopg'], x=page)", "is async def"
    ),
    "no page function": Case("class Empty(SyncPageUser):\n    workload = albums", "Empty has no page_function"),
    "a page function that is none": Case("page_users(albums, stacks=['psycopg'], x=3)", "has page_function = 3"),
    "a workload that is none": Case("page_users('albums', stacks=['psycopg'], x=joined)", "has workload = 'albums'"),
    "a workload without a name": Case(
        "page_users(Workload('', keys=[1]), stacks=['psycopg'], x=joined)", "invalid name '' of a workload"
    ),
    "a workload that is not set up": Case(
        "class Lazy(Workload):\n    def __init__(self):\n        self.name = 'lazy'\n"
        "page_users(Lazy(), stacks=['psycopg'], x=joined)",
        "its workload is not set up: call super().__init__ in Lazy.__init__",
    ),
    "two workloads of one name": Case(
        "page_users(albums, stacks=['psycopg'], x=joined)\n"
        "page_users(Workload('albums', keys=[7]), stacks=['psycopg'], prefix='Other', x=joined)",
        "PsycopgX and OtherPsycopgX have two workloads of the name 'albums'",
    ),
    "a check that is none": Case(
        "page_users(Workload('w', keys=[1], check='verifed'), stacks=['psycopg'], x=joined)",
        "invalid check 'verifed' of workload 'w'",
    ),
    "a next key that is none": Case(
        "page_users(Workload('w', keys=[1], next_key=7), stacks=['psycopg'], x=joined)", "invalid next_key 7"
    ),
    "a strategy that cannot be printed": Case(
        "page_users(albums, stacks=['psycopg'], **{'a\\nb': joined})", "has strategy = 'a\\nb'; expected a text"
    ),
    "a wrong end": Case("page_users(albums, stacks=['psycopg'], end='later', x=joined)", "has end = 'later'"),
    "a reset of what does not write": Case(
        "page_users(albums, stacks=['psycopg'], reset='SELECT 1', x=joined)", "does not say that it writes"
    ),
    "pages that differ": Case(
        DIFFERENT + "page_users(albums, stacks=['psycopg'], joined=joined, loud=shouting)",
        "pages differ: of key 0 by PsycopgJoined and PsycopgLoud, [0][0] is 'album 1' and 'ALBUM 1'",
    ),
    "pages that differ, two processes": Case(
        DIFFERENT + "page_users(albums, stacks=['psycopg'], joined=joined, loud=shouting)",
        "pages differ: of key 0",
        ("--processes", "2"),
    ),
    "pages of the ORM": Case(
        "page_users(albums, stacks=['psycopg'], x=lambda session, n: session.scalars(select(Album)).all())",
        "a page holds an Album of the ORM",
    ),
    "a page that nobody has read": Case(
        "page_users(albums, stacks=['psycopg'], x=lambda session, n: (each for each in [1]))", "return a list"
    ),
    "pages that are equal to nothing": Case(
        "page_users(albums, stacks=['psycopg'], x=lambda session, n: [object()])",
        "a page holds an object, which cannot be compared",
    ),
    "a page that exits": Case(
        "page_users(Workload('w', keys=[10**5000]), stacks=['psycopg'], x=lambda session, n: exit('no way'))",
        "PsycopgX cannot read the page of key <int>: SystemExit: no way",
    ),
    "a page that is cancelled": Case(
        "async def page(session, n):\n    import asyncio\n    raise asyncio.CancelledError\n"
        "page_users(albums, stacks=['asyncpg'], x=page)",
        "AsyncpgX cannot read the page of key 0: CancelledError",
    ),
    "a coroutine that nobody awaits": Case(
        "async def page(session, n): return []\n"
        "page_users(albums, stacks=['asyncpg'], x=lambda session, n: page(session, n))",
        "write it as `async def`",
    ),
    "tables that are missing": Case(
        "class Ghost(Base):\n    __tablename__ = 'ghost'\n    id: Mapped[int] = mapped_column(primary_key=True)\n"
        "page_users(albums, stacks=['asyncpg'], x=lambda session, n: session.scalars(select(Ghost.id)).all())",
        'relation "ghost" does not exist; load its tables first',
    ),
    "an engine of another database": Case(
        "page_users(albums, stacks=['psycopg'], joined=joined,\n"
        "           engine=create_engine('postgresql+psycopg' + os.environ['OTHER_URL']))",
        "its engine is connected to the database 'postgres'",
    ),
    "an engine of another driver": Case(
        "page_users(albums, stacks=['psycopg-async'], joined=joined,\n"
        "           async_engine=create_async_engine('postgresql+asyncpg' + os.environ['OTHER_URL']))",
        "reads with postgresql+psycopg_async, but its engine is one of postgresql+asyncpg",
    ),
    "a sync engine for an async stack": Case(
        "page_users(albums, stacks=['asyncpg'], joined=joined, async_engine=create_engine('postgresql+psycopg://'))",
        "stack asyncpg needs an AsyncEngine",
    ),
    "an engine that is a URL": Case(
        "page_users(albums, stacks=['psycopg'], joined=joined, engine='postgresql://u:secret@h/d')", "has engine = '…'"
    ),
    "an engine of one connection": Case(
        "from sqlalchemy import StaticPool\n"
        "page_users(albums, stacks=['asyncpg'], joined=joined, async_engine=lambda url: create_async_engine("
        "url, poolclass=StaticPool))",
        "its engine has a StaticPool, whose one connection pages cannot share",
    ),
    "an engine function that fails": Case(
        "def make(url):\n    raise RuntimeError(f'no {url} for postgresql://u:secret@h/d')\n"
        "page_users(albums, stacks=['psycopg'], joined=joined, engine=make)",
        "PsycopgJoined: its engine function failed: RuntimeError: no … for …",
    ),
    "a page whose error has a password": Case(
        "def page(session, n):\n    raise RuntimeError('postgresql://u:secret@h/d')\n"
        "page_users(albums, stacks=['psycopg'], joined=page)",
        "cannot read the page of key 0: RuntimeError: …",
    ),
    "an engine that is none": Case("page_users(albums, stacks=['psycopg'], joined=joined, engine=3)", "has engine = 3"),
}


@pytest.fixture(scope="module")
def mistakes_url(server_url: str) -> Iterator[str]:
    """As `shop_url`, for all mistakes together."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE mistakes")
        url = server_url.replace("/dbkit?", "/mistakes?")
        with psycopg.connect(url) as shop:
            shop.execute(TABLES)
        yield url
        connection.execute("DROP DATABASE mistakes WITH (FORCE)")


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, mistakes_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[tuple[int, str, str, list[str]]]]]:
    """How each ends: exit code, stdout, stderr and processes left. They run side by side, as each is short."""
    other = mistakes_url.replace("/mistakes?", "/postgres?").removeprefix("postgresql")

    def run(name: str) -> tuple[int, str, str, list[str]]:
        case, folder = BEFORE_ANY_USER[name], tmp_path_factory.mktemp("case")
        with shop_run(
            folder, mistakes_url, case.locustfile, "-u", "2", "-t", "2s", *case.arguments, OTHER_URL=other
        ) as process:
            return process.wait(), process.stdout, process.stderr, process.leftovers()

    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames
    ]
    with ThreadPoolExecutor(max_workers=3) as pool:
        yield {name: pool.submit(run, name) for name in chosen}


@pytest.mark.parametrize("name", BEFORE_ANY_USER)
def test_a_mistake_in_a_locustfile_is_one_line_before_any_user_starts(
    outcomes: dict[str, Future[tuple[int, str, str, list[str]]]], name: str
) -> None:
    exit_code, stdout, stderr, leftovers = outcomes[name].result()
    lines = {line for line in stderr.splitlines() if line and not re.match(r"\[\d{4}-\d\d-\d\d ", line)}
    assert exit_code == 2, stderr
    assert len(lines) == 1, stderr
    [line] = lines
    assert line.startswith("dbkit: error: ")
    assert BEFORE_ANY_USER[name].said in line
    assert stdout == ""
    for sign_of_a_start in ("pawn", "Ramping", "Traceback"):
        assert sign_of_a_start not in stderr
    assert leftovers == []
