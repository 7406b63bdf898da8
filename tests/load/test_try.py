"""`dbkit try` as users run it: in a folder of their own, beside models of a small shop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from dbkit.database.stacks import STACKS, stacks_of
from dbkit.database.url import DatabaseUrl
from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.locust_runs import DEADLINE_S, POLL_S, REPOSITORY, connections, named
from tests.started import TRY_PAGES, StartedProcess, finished
from tests.terminal import on_a_terminal

TRY = (sys.executable, "-m", "dbkit", "try")
STARTED = (sys.executable, *TRY_PAGES)
SYNC_STACKS = tuple(stack for stack in STACKS if stack not in stacks_of("tasks"))
ASYNC_STACKS = stacks_of("tasks")

SHOP = """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

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
"""

TABLES = """
CREATE TABLE album (id serial PRIMARY KEY, title text NOT NULL);
CREATE TABLE track (id serial PRIMARY KEY, album_id int NOT NULL REFERENCES album, name text NOT NULL);
INSERT INTO album (title) SELECT 'album ' || n FROM generate_series(1, 30) n;
INSERT INTO track (album_id, name) SELECT 1 + n / 3, 'track ' || n FROM generate_series(0, 89) n;
"""

HEAD = """
import asyncio, os, uuid
from sqlalchemy import NullPool, create_engine, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, joinedload, lazyload, raiseload, selectinload
from dbkit.load import AsyncPageUser, PageUser, Rounds, SyncPageUser, Workload, own_session, page_users
from locust import HttpUser, TaskSet, between, task
from shop import Album, Track

albums = Workload("albums", keys=range(6))
first = select(Album).order_by(Album.id).limit(2)
SYNC, ASYNC = ["psycopg", "psycopg-threads"], ["psycopg-async", "asyncpg"]
"""

COMPARED = """
def albums_page(load):
    def page(session, number):
        query = select(Album).options(load(Album.tracks)).order_by(Album.id).limit(5).offset(5 * number)
        return [
            (album.title, [track.name for track in album.tracks])  # touched
            for album in session.scalars(query).unique()  # listed
        ]
    return page

page_users(albums, selectin=albums_page(selectinload), joined=albums_page(joinedload), lazy=albums_page(lazyload))

class Compare(Rounds): pass
"""


def new_database(server_url: str) -> Iterator[str]:
    """The shop's database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = DatabaseUrl.parse(server_url)
    url = f"postgresql://{server.user}@/{name}?host={server.host}&port={server.port}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(url) as shop:
            shop.execute(TABLES)
        yield url
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def shop_url(server_url: str) -> Iterator[str]:
    """Thirty albums of three tracks, which are only read."""
    yield from new_database(server_url)


@pytest.fixture
def own_shop_url(server_url: str) -> Iterator[str]:
    """The same, to write to."""
    yield from new_database(server_url)


@dataclass(frozen=True)
class Tried:
    """What `dbkit try` said."""

    exit_code: int
    stdout: str
    stderr: str

    def about(self, name: str) -> str:
        """What is said of a class, as one line: it is wrapped at some width."""
        sections = re.split(r"\n\n(?=\w+(?:  |\n)|user class )", self.stdout.lstrip("\n"))
        found = [each for each in sections if re.match(rf"{name}(  |\n)", each)]
        assert len(found) == 1, self.stdout + self.stderr
        return " ".join(found[0].split())

    @property
    def summary(self) -> dict[str, str]:
        """The lines of the table at the end, by class."""
        _, _, table = self.stdout.partition("\nuser class ")
        lines = [re.split("  +", line.strip()) for line in table.partition("\n\n")[0].splitlines()[1:]]
        return {cells[0]: " ".join(cells[1:-2] + cells[-1:]) for cells in lines}

    @property
    def end(self) -> str:
        """What is said below the table, as one line."""
        return " ".join(self.stdout.partition("\nuser class ")[2].partition("\n\n")[2].split())


def environment(url: str | None, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not re.match("DBKIT_|LOCUST_|PG|COLUMNS", name)}
    database = {} if url is None else {"DBKIT_DATABASE_URL": url}
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(REPOSITORY))))
    return {**kept, **database, "PYTHONPATH": path, **variables}


def try_(
    folder: Path,
    locustfile: str,
    *arguments: str,
    url: str | None,
    command: tuple[str, ...] = STARTED,
    **variables: str,
) -> Tried:
    """Write a locustfile beside its models, and try its classes: by another command, in a process of its own."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "shop_load.py").write_text(HEAD + locustfile)
    line = [*command, "shop_load.py", *arguments]
    run = finished(line, folder, environment(url, **variables), DEADLINE_S, fresh=command != STARTED)
    return Tried(run.returncode, run.stdout, run.stderr)


def line_of(locustfile: str, mark: str) -> str:
    """Where in the locustfile a mark stands."""
    (number,) = [n for n, line in enumerate((HEAD + locustfile).splitlines(), 1) if line.endswith(f"# {mark}")]
    return f"shop_load.py:{number}"


# Pages as they should be


def test_the_file_of_a_comparison_on_all_stacks(tmp_path: Path, shop_url: str) -> None:
    tried = try_(tmp_path, COMPARED, url=shop_url)
    assert (tried.exit_code, tried.stderr) == (0, ""), tried.stdout + tried.stderr
    assert max(map(len, tried.stdout.splitlines())) <= 80
    assert "\x1b" not in tried.stdout
    listed, touched = line_of(COMPARED, "listed"), line_of(COMPARED, "touched")
    for stack in STACKS:
        name = "".join(part.title() for part in stack.split("-"))
        lazy, joined = tried.about(f"{name}Lazy"), tried.about(f"{name}Joined")
        assert lazy.startswith(f"{name}Lazy albums by lazy, on {stack}, key 0 The page, ")
        assert re.search(r"6 statements, \d+ round trips, 20 rows; [\d.]+ ms: .*db [\d.]+, client [\d.]+ 1\. ", lazy)
        assert f" ms {listed} in albums_page.page SELECT album.id, album.title FROM album" in lazy
        assert re.search(rf"2\. × 5, 15 rows, [\d.]+ ms {touched} in albums_page.page SELECT track.id", lazy)
        assert "1 statement, " in joined and "× 1, 15 rows, " in joined
        assert "(%(primary_keys_1)s::INTEGER, … 5 values)" in tried.about("PsycopgSelectin")
    assert "[ ('album 1', ['track 0', 'track 1', 'track 2'])," in tried.about("PsycopgSelectin")
    assert "bytes, is as PsycopgSelectin gave it." in tried.about("AsyncpgLazy")
    assert len(tried.summary) == 12
    assert set(tried.summary.values()) >= {"6 10 20 given", "1 3 15 given"}
    assert tried.end == "The 12 classes give the same page of albums for key 0."


def test_the_todo_list(seeded_url: str) -> None:
    run = subprocess.run(
        [*TRY, "locustfiles/users.py", "PsycopgLazy", "--key", "(99, 20)", "AsyncpgCore", "--end", "autocommit"],
        cwd=REPOSITORY,
        env=environment(seeded_url),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    tried = Tried(run.returncode, run.stdout, run.stderr)
    assert tried.exit_code == 0, run.stdout + run.stderr
    assert "on psycopg, key (99, 20)" in tried.about("PsycopgLazy")
    assert re.search(r"× 20, .* dbkit/todo/strategies.py:\d+ in _render SELECT", tried.about("PsycopgLazy"))
    assert tried.summary == {"PsycopgLazy": "21 22 60 given", "AsyncpgCore": "1 2 20 given"}
    assert tried.end == "The 2 classes give the same page of todo list for key (99, 20)."


KEYS = """
ids = Workload("ids", keys=[uuid.UUID(int=7), uuid.UUID(int=8)])
names = Workload("names", keys=["1", "2"])
pairs = Workload("pairs", keys="SELECT id, title FROM album ORDER BY id")
feed = Workload("feed", keys=[0], next_key=lambda rows, after: rows[-1] if rows else None)

def echo(session, *key):
    return [str(each) for each in key] + [session.scalar(text("SELECT 1"))]

page_users(ids, stacks="psycopg", prefix="Ids", echo=echo)
page_users(names, stacks="psycopg", prefix="Names", echo=echo)
page_users(pairs, stacks="psycopg", prefix="Pairs", echo=echo)
page_users(feed, stacks="psycopg", feed=lambda session, after: session.scalars(
    select(Album.id).where(Album.id > after).order_by(Album.id).limit(3)).all())
"""


def test_keys(tmp_path: Path, shop_url: str) -> None:
    of_each = try_(tmp_path, KEYS, url=shop_url)
    assert of_each.exit_code == 0
    assert "['00000000-0000-0000-0000-000000000007', 1]" in of_each.about("IdsPsycopgEcho")
    assert "key (1, 'album 1') The page, 17 bytes: ['1', 'album 1', 1]" in of_each.about("PairsPsycopgEcho")
    assert "The next key is 3." in of_each.about("PsycopgFeed")

    printed = "00000000-0000-0000-0000-000000000008"
    assert printed in try_(tmp_path, KEYS, "IdsPsycopgEcho", "--key", printed, url=shop_url).about("IdsPsycopgEcho")
    assert "key '2' " in try_(tmp_path, KEYS, "--key=2", "NamesPsycopgEcho", url=shop_url).about("NamesPsycopgEcho")
    literal = try_(tmp_path, KEYS, "PairsPsycopgEcho", "--key", "(3, None)", url=shop_url)
    assert "['3', 'None', 1]" in literal.about("PairsPsycopgEcho")


REMARKS = """
other = create_engine(os.environ["PSYCOPG_URL"])
unchecked = Workload("unchecked", keys=[1], check=None)

def elsewhere(session, number):
    session.execute(text("SELECT 1"))
    with Session(other) as mine:
        return mine.scalars(select(Album.title).limit(2)).all()

def unsaid(session, number):
    session.execute(insert(Track).values(album_id=1, name="new"))

def several(session, number):
    session.execute(text("UPDATE album SET title = title WHERE id = :id"), [{"id": 1}, {"id": 2}])
    session.connection().connection.cursor().execute("SELECT 3")
    with session.begin_nested():
        return session.execute(select(Album.title, Track.name).limit(1)).all()

async def streamed(session, number):
    query = select(Track.name).execution_options(yield_per=10).limit(35)
    return [name async for name in await session.stream_scalars(query)]

async def forgets(session, number):
    session.commit()
    return (await session.scalars(select(Album.title).limit(1))).all()

page_users(unchecked, stacks="psycopg", nothing=lambda session, number: "x" * 100, elsewhere=elsewhere)
own = dict(
    engine=create_engine(os.environ["PSYCOPG_URL"]), async_engine=create_async_engine(os.environ["ASYNCPG_URL"])
)
page_users(unchecked, stacks="psycopg", **own, unsaid=unsaid)
page_users(unchecked, stacks=["psycopg", "asyncpg"], **own, several=several)
page_users(unchecked, stacks=["psycopg", "asyncpg"], prefix="Refused", unsaid=unsaid)
page_users(unchecked, stacks=ASYNC, streamed=streamed, forgets=forgets)
"""


def test_remarks_on_pages_that_were_given(tmp_path: Path, shop_url: str) -> None:
    psycopg_url, asyncpg_url = (shop_url.replace(":", f"+{driver}:", 1) for driver in ("psycopg", "asyncpg"))
    tried = try_(tmp_path, REMARKS, url=shop_url, PSYCOPG_URL=psycopg_url, ASYNCPG_URL=asyncpg_url)
    assert tried.exit_code == 1, tried.stdout + tried.stderr
    for name in ("RefusedPsycopgUnsaid", "RefusedAsyncpgUnsaid"):
        assert "a class only read unless it says that it writes: give it writes = True" in tried.about(name)
    assert "warning: it sent no statement" in tried.about("PsycopgNothing")
    assert "1 statement went by another engine than the class's, which is not measured" in tried.about(
        "PsycopgElsewhere"
    )
    assert "warning: it writes, but the class does not say so" in tried.about("PsycopgUnsaid")
    for name in ("PsycopgSeveral", "AsyncpgSeveral"):
        assert "1. × 2, 0 rows, " in tried.about(name)
        assert "for 2 savepoints." in tried.about(name)
        assert "1 statement went by a cursor of the driver's, so that the SQL is not seen" in tried.about(name)
        assert "warning: SAWarning: SELECT statement has a cartesian product between" in tried.about(name)
    for name in ("PsycopgAsyncStreamed", "AsyncpgStreamed"):
        assert " 35 rows; " in tried.about(name) and "× 1, rows in parts, " in tried.about(name)
    for name in ("PsycopgAsyncForgets", "AsyncpgForgets"):
        assert "warning: RuntimeWarning: coroutine 'AsyncSession.commit' was never awaited" in tried.about(name)
    assert "give different pages of unchecked for key 1" in tried.end
    assert "A run does not mind" in tried.end
    assert tried.stderr == ""


DIFFERING = """
def titles(session, number):
    return [[title, 1] for title in session.scalars(select(Album.title).order_by(Album.id).limit(3))]

def other(session, number):
    return [[title, 1 + (title == "album 2")] for title, _ in titles(session, number)]

page_users(albums, stacks=["psycopg", "asyncpg"], titles=titles, other=other)
"""


def test_pages_that_differ(tmp_path: Path, shop_url: str) -> None:
    tried = try_(tmp_path, DIFFERING, url=shop_url, command=TRY)
    assert tried.exit_code == 1
    words = "PsycopgTitles and {} give different pages of albums for key 0: [1][1] is 1 and 2."
    assert tried.end == f"{words.format('PsycopgOther')} {words.format('AsyncpgOther')}"
    assert "['album 2', 2]" in tried.about("PsycopgOther")
    assert "is as PsycopgTitles gave it" in tried.about("AsyncpgTitles")


def test_on_a_terminal(tmp_path: Path, shop_url: str) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "shop_load.py").write_text(HEAD + COMPARED)
    shown = on_a_terminal(
        *TRY, str(tmp_path / "shop_load.py"), "AsyncpgLazy", width=80, variables=environment(shop_url, TERM="xterm")
    )
    assert "\x1b[1mAsyncpgLazy\x1b[0m" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80


# Pages that fail

FAILING = """
two_arguments = Workload("pairs", keys=[(1, 2)])
nowhere = Workload("nowhere", keys="SELECT id FROM nowhere")

async def lazy(session, number):
    found = (await session.scalars(first)).all()
    return [(album.title, [track.name for track in album.tracks]) for album in found]  # lazy

async def expired(session, number):
    found = (await session.scalars(first)).all()
    await session.commit()
    return [album.title for album in found]  # expired

async def sync_session(session, number):
    return session.sync_session.scalars(first).all()

def not_unique(session, number):
    return [album.title for album in session.scalars(first.options(joinedload(Album.tracks))).all()]  # not unique

async def not_unique_async(session, number):
    return [album.title for album in (await session.scalars(first.options(joinedload(Album.tracks)))).all()]

def title_and_tracks(album):
    return [album.title, len(album.tracks)]  # detached

@own_session
def detached(make_session, number):
    with make_session() as session:
        found = session.scalars(first).all()
    return [title_and_tracks(album) for album in found]

@own_session
async def detached_async(make_session, number):
    async with make_session() as session:
        found = (await session.scalars(first)).all()
    return [title_and_tracks(album) for album in found]

async def not_awaited(session, number):
    return [album.title for album in session.scalars(first).all()]

async def not_awaited_loop(session, number):
    return [album.title for album in session.scalars(first)]

async def awaited_twice(session, number):
    return await (await session.scalars(first)).all()

def returns_coroutine(session, number):
    return lazy(session, number)

async def at_once(session, number):
    return await asyncio.gather(*(session.execute(text("SELECT pg_sleep(0.1)")) for _ in range(3)))

engine = create_async_engine(os.environ["ASYNCPG_URL"])

async def connect():
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))

def read_once_in_a_loop_of_its_own():
    import uvloop
    uvloop.new_event_loop().run_until_complete(connect())

async def other_loop(session, number):
    async with AsyncSession(engine) as mine:
        return [album.title for album in await mine.scalars(first)]

def runs_a_loop(session, number):
    return asyncio.run(lazy(session, number))

def no_table(session, number):
    return session.execute(text("SELECT * FROM nothing")).all()

async def no_table_async(session, number):
    return (await session.execute(text("SELECT * FROM nothing"))).all()

def no_column(session, number):
    return session.execute(text("SELECT subtitle FROM album")).all()

async def on_sync(session, number):
    return []

def takes_two(session, one, two):
    return []

def objects(session, number):
    return session.scalars(first).all()

def hold_two(make_session):
    with make_session() as one, make_session() as two:
        one.scalars(first).all()
        return [album.title for album in two.scalars(first)]  # second

@own_session
def two_sessions(make_session, number):
    return hold_two(make_session)

def none_there(session, number):
    return session.scalars(select(Album.title).where(Album.id == -1)).one()

def raised(session, number):
    return session.scalars(first.options(raiseload(Album.tracks))).first().tracks

def fails(session, number):
    return {}["title"]

def slow(session, number):
    session.execute(text("SELECT pg_sleep(60)"))

def statement_lost(session, number):
    session.execute(text("EXECUTE what_another_connection_has_prepared"))

def refuse(rendered, number):
    return False

read_once_in_a_loop_of_its_own()
page_users(albums, stacks=ASYNC, lazy=lazy, expired=expired, sync_session=sync_session, not_unique=not_unique_async,
           detached=detached_async, not_awaited=not_awaited, not_awaited_loop=not_awaited_loop,
           awaited_twice=awaited_twice, returns_coroutine=returns_coroutine, runs_a_loop=runs_a_loop,
           no_table=no_table_async)
page_users(albums, stacks="asyncpg", other_loop=other_loop)
page_users(albums, stacks=ASYNC, async_engine=lambda url: create_async_engine(url, poolclass=NullPool), at_once=at_once)
page_users(albums, stacks=SYNC, not_unique=not_unique, detached=detached, no_table=no_table, no_column=no_column,
           on_sync=on_sync, takes_two=takes_two, objects=objects, two_sessions=two_sessions, none_there=none_there,
           raised=raised, fails=fails, awaits=runs_a_loop, returns_coroutine=returns_coroutine, slow=slow,
           statement_lost=statement_lost)
page_users(nowhere, stacks="asyncpg", nowhere=fails)
page_users(Workload("refused", keys=[1], check=refuse), stacks="asyncpg", refused=lambda session, number: number)
page_users(Workload("next", keys=[1], next_key=lambda rows, key: rows[7]), stacks="asyncpg", after=lambda *_: [])

class Unstacked(PageUser):
    workload = albums
    page_function = staticmethod(fails)

class NoFunction(SyncPageUser):
    workload = albums
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, shop_url: str) -> Tried:
    asyncpg_url = shop_url.replace("postgresql:", "postgresql+asyncpg:")
    options = ("--pool-size", "1", "--max-overflow", "0", "--pool-timeout", "0.2", "--statement-timeout", "2")
    return try_(tmp_path_factory.mktemp("failing"), FAILING, *options, url=shop_url, ASYNCPG_URL=asyncpg_url)


AT = {mark: line_of(FAILING, mark) for mark in ("lazy", "expired", "not unique", "detached", "second")}
ADVICE = {
    "AsyncLazy": f"Album.tracks was loaded lazily at {AT['lazy']} in lazy, which an async function cannot wait for."
    " Load it with the query, such as by .options(selectinload(Album.tracks));",
    "AsyncExpired": f"Album.title was loaded at {AT['expired']} in expired, outside of an await. Where a commit came",
    "AsyncSyncSession": "outside of an await, as by a plain session",
    "AsyncNotUnique": "call unique() on the result before reading it",
    "SyncNotUnique": f"so that rows repeat at {AT['not unique']} in not_unique: call unique()",
    "AsyncDetached": f"Album.tracks was loaded at {AT['detached']} in title_and_tracks after its session was closed",
    "SyncDetached": f"Album.tracks was loaded at {AT['detached']} in title_and_tracks after its session was closed",
    "AsyncNotAwaited": "in not_awaited: put await before the call whose result is used there.",
    "AsyncNotAwaitedLoop": "in not_awaited_loop: put await before the call whose result is used there.",
    "AsyncAwaitedTwice": "Something was awaited that is no coroutine at",
    "AsyncReturnsCoroutine": "but returns the coroutine of one: give the class the async def function",
    "SyncReturnsCoroutine": "but returns the coroutine of one: give the class the async def function",
    "AsyncAtOnce": "A session, or its connection, was used by several tasks at once",
    "AsyncpgOtherLoop": "Something belongs to another event loop at",
    "AsyncRunsALoop": "The page starts an event loop within one at",
    "SyncAwaits": "the session is a plain Session.",
    "AsyncNoTable": "has no table nothing: create and load it first",
    "SyncNoTable": "has no table nothing: create and load it first",
    "SyncNoColumn": "A column of the models is not in postgresql://",
    "SyncTakesTwo": "its page function takes (session, one, two), but is called with (a session, 0): missing a required"
    " argument: 'two' What to do: A page function is called with the session and the key",
    "SyncOnSync": "its page function is async def, which stack",
    "SyncObjects": "a page holds an Album of the ORM: render it to plain values",
    "SyncTwoSessions": f"No connection became free at {AT['second']} in hold_two, though nobody else reads",
    "SyncNoneThere": "There is no row of this key at",
    "SyncRaised": "Album.tracks must be loaded with the query at",
    "SyncSlow": "The server broke a statement off at",
    "SyncStatementLost": "A pooler in transaction mode keeps no prepared statements for its clients: use --pooler",
    "SyncFails": "KeyError: 'title', at",
}
"""What is said of failures on each of the sync or async stacks."""


@pytest.mark.parametrize("case", ADVICE)
def test_a_failure_is_explained_on_each_stack(failing: Tried, case: str) -> None:
    kind, function = re.findall("^(Asyncpg|Async|Sync)(.*)", case)[0]
    stacks = {"Async": ("PsycopgAsync", "Asyncpg"), "Sync": ("Psycopg", "PsycopgThreads")}.get(kind, (kind,))
    for stack in stacks:
        said = failing.about(stack + function)
        assert " failed: " in said
        if earlier := re.search(r"This is the failure of (\w+), above\.$", said):
            said = failing.about(earlier[1])
        assert ADVICE[case] in said
        assert failing.summary[stack + function].endswith("failed")


def test_the_whole_traceback_of_a_failure(failing: Tried) -> None:
    said = failing.stdout.partition("\nPsycopgAsyncLazy ")[2]
    traceback = said[said.index("Traceback (most recent call last):") : said.index("What to do:")].splitlines()
    assert any(re.search(r'/shop_load.py", line \d+, in lazy$', line) for line in traceback)
    assert any("/sqlalchemy/" in line for line in traceback)
    assert any(line.startswith("sqlalchemy.exc.MissingGreenlet: ") for line in traceback)
    assert not any("/dbkit/load/" in line for line in traceback)


def test_what_the_page_sent_before_it_failed(failing: Tried) -> None:
    said = failing.about("AsyncpgLazy")
    assert "1. × 1, 2 rows, " in said
    assert f"1 not answered {AT['lazy']} in lazy SELECT track.id" in said


def test_failures_of_a_class_leave_the_others(failing: Tried) -> None:
    assert failing.exit_code == 1
    assert failing.stderr == ""
    assert "has no table nowhere: create and load it first" in failing.about("AsyncpgNowhere")
    assert "WrongPage: wrong page: refused by the check" in failing.about("AsyncpgRefused")
    assert "IndexError" in failing.about("AsyncpgAfter")
    assert "has stack = None" in failing.about("Unstacked")
    assert "has no page_function" in failing.about("NoFunction")


ENGINES = """
def elsewhere(url):
    return create_engine(url.set(database="postgres"))

def unreachable(url):
    return create_engine("postgresql+psycopg://someone:hunter22@127.0.0.1:1/shop")

def wrong(url):
    raise TypeError("no such argument")

def page(session, number):
    return session.scalars(select(Album.title).limit(1)).all()

page_users(albums, stacks="psycopg", prefix="Elsewhere", engine=elsewhere, page=page)
page_users(albums, stacks="psycopg", prefix="Unreachable", engine=unreachable, page=page)
page_users(albums, stacks="psycopg", prefix="Wrong", engine=wrong, page=page)
page_users(albums, stacks="psycopg", prefix="Other", engine=create_async_engine(os.environ["ASYNCPG_URL"]), page=page)
page_users(albums, stacks="asyncpg", async_engine=create_async_engine(os.environ["ASYNCPG_URL"]), page=page)
"""


def test_engines_of_the_application(tmp_path: Path, shop_url: str) -> None:
    asyncpg_url = shop_url.replace("postgresql:", "postgresql+asyncpg:")
    tried = try_(tmp_path, ENGINES, url=shop_url, ASYNCPG_URL=asyncpg_url)
    assert tried.exit_code == 1
    assert "its engine is connected to the database 'postgres'" in tried.about("ElsewherePsycopgPage")
    assert "its engine cannot connect" in tried.about("UnreachablePsycopgPage")
    assert "its engine function failed: TypeError: no such argument" in tried.about("WrongPsycopgPage")
    assert "stack psycopg needs an Engine" in tried.about("OtherPsycopgPage")
    assert tried.summary["AsyncpgPage"].endswith("given")


# Classes that write, and classes with tasks

WRITING = """
def count(session, title):
    return session.scalar(select(func.count()).select_from(Album).where(Album.title == title))

def order(session, title):
    session.add(album := Album(title=title, tracks=[Track(name="first")]))
    session.commit()
    session.refresh(album)
    return [album.title, len(album.tracks), count(session, title)]

async def order_async(session, title):
    session.add(album := Album(title=title, tracks=[Track(name="first")]))
    await session.commit()
    await session.refresh(album, ["title", "tracks"])
    return [album.title, len(album.tracks), await session.run_sync(count, title)]

@own_session
def order_own(make_session, title):
    with make_session.begin() as session:
        session.add(Album(title=title, tracks=[Track(name="first")]))
    with make_session() as session:
        return [title, 1, count(session, title)]

@own_session
async def order_own_async(make_session, title):
    async with make_session.begin() as session:
        session.add(Album(title=title, tracks=[Track(name="first")]))
    async with make_session() as session:
        return [title, 1, await session.run_sync(count, title)]

def order_at_the_end(session, title):
    session.add(Album(title=title, tracks=[Track(name="first")]))
    return [title, 1, 1]

orders = Workload("orders", keys=["an order"])
reset = "DELETE FROM track WHERE name = 'first'; DELETE FROM album WHERE title = 'an order'"
page_users(orders, order=order, own=order_own, writes=True, reset=reset)
page_users(orders, stacks=ASYNC, order_async=order_async, own_async=order_own_async, writes=True, reset=reset)
page_users(orders, at_the_end=order_at_the_end, end="commit", reset=reset)
page_users(orders, autocommit=order, end="autocommit", writes=True, reset=reset)
"""
WRITING_CLASSES = 4 * 2 + 2 * 2 + 4 + 4


def orders(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM album WHERE title = 'an order'").fetchone()
    assert row is not None
    return int(row[0])


def test_what_a_page_writes_is_rolled_back_on_every_stack(tmp_path: Path, own_shop_url: str) -> None:
    tried = try_(tmp_path, WRITING, url=own_shop_url)
    assert tried.exit_code == 0, tried.stdout + tried.stderr
    assert len(tried.summary) == WRITING_CLASSES
    assert tried.stdout.count("What it writes is rolled back. With --writes it commits.") == WRITING_CLASSES
    assert "['an order', 1, 1]" in tried.about("PsycopgOrder")
    assert "savepoints, which keep it uncommitted" in tried.about("PsycopgOrder")
    # each class saw its own order, and none of another one's
    assert tried.stdout.count("is as PsycopgOrder gave it") == WRITING_CLASSES - 1
    assert orders(own_shop_url) == 0


def test_with_writes_a_page_commits_after_the_reset_of_its_class(tmp_path: Path, own_shop_url: str) -> None:
    tried = try_(tmp_path, WRITING, "--writes", "PsycopgOrder", "AsyncpgOrder", "AsyncpgAtTheEnd", url=own_shop_url)
    assert tried.exit_code == 0, tried.stdout + tried.stderr
    assert "rolled back" not in tried.stdout
    assert "savepoint" not in tried.stdout
    assert orders(own_shop_url) == 1


TASKS = """
def titles(session, number=0):
    return session.scalars(select(Album.title).order_by(Album.id).offset(number).limit(2)).all()

def broken(session):
    return 1 / 0

async def awaited(session, number):
    return [number, (await session.execute(text("SELECT 1"))).scalar()]

class Shopper(AsyncPageUser):
    stack = "asyncpg"
    wait_time = between(1000, 2000)

    def on_start(self):
        self.seen = None

    @task(10)
    def browse(self):
        self.seen = self.read_page(titles, 3)
        self.read_page(titles)

    @task
    def buy(self):
        assert self.seen == ["album 4", "album 5"]
        self.wait()
        self.gone = self.read_page(broken)

    @task
    def look_on(self):
        assert self.gone is None

    @task
    class Nested(TaskSet):
        @task
        def look(self):
            self.user.read_page(awaited, 5)

        @task
        def leave(self):
            self.interrupt()

class Keyed(SyncPageUser):
    workload = albums
    page_function = titles

    @task
    def read(self):
        self.read_page()

feed = Workload("feed", keys=[0], next_key=lambda rows, after: after + len(rows) if rows else None)

class Reader(SyncPageUser):
    workload = feed
    page_function = titles

    def on_start(self):
        self.read_page()

    @task
    def read_on(self):
        self.read_page()

class NoFunction(SyncPageUser):
    @task
    def read(self):
        self.read_page()

class Wrong(SyncPageUser):
    @task
    def fails(self):
        raise ValueError("my own mistake")

    @task
    async def never(self):
        pass

class NeverStarts(SyncPageUser):
    def on_start(self):
        raise ValueError("no luck")

    @task
    def read(self):
        self.read_page(titles)

class Site(HttpUser):
    host = "http://127.0.0.1:1"

    @task
    def get(self):
        pass
"""


def test_each_task_of_a_class_runs_once(tmp_path: Path, shop_url: str) -> None:
    tried = try_(tmp_path, TASKS, "--key", "2", url=shop_url)
    assert tried.exit_code == 1
    shopper = tried.about("Shopper")
    assert shopper.count("task browse: titles, key 3 ") == 1
    assert "task browse: titles The page, " in shopper
    assert "task buy: broken 0 statements" in shopper
    assert "failed: ZeroDivisionError: division by zero, at shop_load.py" in shopper
    assert "task Nested.look: awaited, key 5 The page, 5 bytes: [5, 1]" in shopper
    assert "task look_on read no page. task Nested.leave read no page." in shopper
    assert "task read: albums Keyed, key 2 The page, 21 bytes: ['album 3', 'album 4']" in tried.about("Keyed")
    reader = tried.about("Reader")
    assert "task on_start: feed Reader, key 2 The page, 21 bytes: ['album 3', 'album 4']" in reader
    assert "The next key is 4. task read_on: feed Reader, key 4 The page, 21 bytes: ['album 5', 'album 6']" in reader
    assert "failed in task read: NoFunction has no page_function: call read_page" in tried.about("NoFunction")
    assert "failed in task fails: ValueError: my own mistake" in tried.about("Wrong")
    assert "failed in task never: TypeError: the task is async def" in tried.about("Wrong")
    assert "failed in task on_start: ValueError: no luck" in tried.about("NeverStarts")
    assert "task read" not in tried.about("NeverStarts")
    assert tried.end == "Not tried, as it reads no pages: Site."


# Pages that take too long

HANGING = """
import threading, time

def waits(session, number):
    session.execute(text("SELECT pg_sleep(300)"))

async def waits_async(session, number):
    await session.execute(text("SELECT pg_sleep(300)"))

def spins(session, number):
    while True:
        pass

async def sleeps(session, number):
    await asyncio.sleep(300)

def title(session, number):
    return session.scalars(select(Album.title).limit(1)).all()

class Idler(SyncPageUser):
    @task
    def idle(self):
        time.sleep(300)

page_users(albums, waits=waits)
page_users(albums, stacks="asyncpg", prefix="Async", waits=waits_async, sleeps=sleeps)
page_users(albums, stacks="psycopg", spins=spins)
page_users(albums, stacks="asyncpg", prefix="Last", title=title)
"""


def test_a_page_that_takes_too_long_is_broken_off(tmp_path: Path, shop_url: str) -> None:
    url = named(shop_url, "broken_off")
    tried = try_(tmp_path, HANGING, "--page-timeout", "2", url=url)
    assert tried.exit_code == 1
    said = "failed: TookTooLong: it took longer than 2 s"
    waited = "It waited for the server to answer the statement of shop_load.py:"
    waiting = [f"{name}Waits" for name in ("Psycopg", "PsycopgThreads", "PsycopgAsync", "Asyncpg")]
    for name in (*waiting, "AsyncAsyncpgWaits"):
        about = tried.about(name)
        assert said in about
        assert waited in about or "This is the failure of PsycopgWaits, above." in about
        assert "1 not answered" in about
    assert "It was at shop_load.py:" in tried.about("PsycopgSpins")
    assert "in spins, and did not wait for the database" in tried.about("PsycopgSpins")
    assert "It did not wait for the database" in tried.about("AsyncAsyncpgSleeps")
    assert "failed in task idle: TookTooLong: it took longer than 2 s" in tried.about("Idler")
    assert tried.summary["LastAsyncpgTitle"].endswith("given")
    wait_until_gone(shop_url, "broken_off")


@pytest.mark.parametrize("stack", ["psycopg-threads", "asyncpg"])
def test_a_page_that_cannot_be_broken_off_is_left_behind(tmp_path: Path, shop_url: str, stack: str) -> None:
    locustfile = HANGING + f'page_users(albums, stacks="{stack}", a=spins, prefix="Left")\n'
    name = f"Left{''.join(part.title() for part in stack.split('-'))}A"
    tried = try_(tmp_path, locustfile, name, "LastAsyncpgTitle", "--page-timeout", "3", url=shop_url)
    assert tried.exit_code == 1
    assert "in spins, and did not wait for the database" in tried.about(name)
    assert tried.about(name).endswith("Its page could not be ended. It goes on, beside the classes that follow.")
    assert "LastAsyncpgTitle" in tried.summary


def wait_until_gone(url: str, application_name: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while connections(url, application_name) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    assert connections(url, application_name) == 0


@pytest.mark.parametrize("name", ["PsycopgWaits", "PsycopgThreadsWaits", "AsyncpgWaits", "PsycopgSpins"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_runs_on_the_server(
    tmp_path: Path, shop_url: str, name: str, number: signal.Signals
) -> None:
    application = f"{name} {number.name}"
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "shop_load.py").write_text(HEAD + HANGING)
    files = tmp_path / "stdout", tmp_path / "stderr"
    variables = environment(named(shop_url, application))
    process = StartedProcess([*STARTED, "shop_load.py", name], tmp_path, variables, *files)
    try:
        deadline = time.monotonic() + DEADLINE_S
        begun = "active" if "Waits" in name else "idle"
        while not connections(shop_url, application, begun) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        process.send_signal(number)
        exit_code = process.wait(DEADLINE_S)
    finally:
        process.kill()
    stdout, stderr = (file.read_text() for file in files)
    assert exit_code == 128 + number, stdout + stderr
    assert stderr == ("python -m dbkit try: interrupted\n" if number == signal.SIGINT else "")
    wait_until_gone(shop_url, application)


# What cannot be tried at all

BAD_INPUT = {
    "no such file": ((), "nowhere.py", "there is no locustfile 'nowhere.py': name a file that ends in .py"),
    "a class that is not there": (("Nobody",), None, "there is no class 'Nobody': expected one of PsycopgTitles, "),
    "an option": (("--page-timeout", "0"), None, "argument --page-timeout: invalid value '0': expected a time"),
    "a key": (("--key", "[1]"), None, "argument --key: invalid value '[1]': expected a Python literal"),
    "a key that is no literal": (("--key", "abc"), None, "argument --key: invalid value 'abc': expected a Python"),
    "a database": (("--database-url", "postgresql://me@127.0.0.1:1/shop"), None, "is the server running there?"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line(tmp_path: Path, shop_url: str, case: str) -> None:
    arguments, file, said = BAD_INPUT[case]
    if file is None:
        command = TRY if case == "an option" else STARTED
        tried = try_(tmp_path, DIFFERING, *arguments, url=shop_url, command=command)
    else:
        tried = try_(tmp_path, DIFFERING, url=shop_url, command=(*TRY, file))
    assert tried.exit_code == 2, tried.stdout + tried.stderr
    assert tried.stderr.count("\n") == 1
    assert tried.stderr.startswith("python -m dbkit try: error: ") and said in tried.stderr
    assert not tried.stdout.strip()


def test_no_file_at_all(tmp_path: Path) -> None:
    run = subprocess.run(TRY, cwd=tmp_path, env=environment(None), capture_output=True, text=True, timeout=DEADLINE_S)
    assert run.returncode == 2
    assert run.stderr == "python -m dbkit try: error: the following arguments are required: <locustfile>\n"


def test_a_file_that_cannot_be_imported(tmp_path: Path, shop_url: str) -> None:
    tried = try_(tmp_path, "from shop import Artist\n", url=shop_url)
    assert tried.exit_code == 2
    traceback, last = tried.stderr.strip().splitlines()[:-1], tried.stderr.strip().splitlines()[-1]
    assert traceback[1].endswith('/shop_load.py", line 13, in <module>')
    assert re.search(r"shop_load.py cannot be imported: ImportError at shop_load.py:13 in <module>$", last)

    ending = try_(tmp_path, 'raise SystemExit("no shop here")\n', url=shop_url)
    assert (ending.exit_code, ending.stderr.count("\n")) == (2, 1)
    assert "shop_load.py ends the process when it is imported: no shop here" in ending.stderr


def test_a_file_without_classes_that_read_pages(tmp_path: Path, shop_url: str) -> None:
    nothing = try_(tmp_path, "", url=shop_url)
    assert nothing.exit_code == 2 and "shop_load.py has no user class" in nothing.stderr
    site = try_(tmp_path, TASKS, "Site", url=shop_url)
    assert site.exit_code == 2 and "Site: no such class reads pages" in site.stderr


# As Locust loads a file


def test_several_files_and_a_folder(tmp_path: Path, shop_url: str) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "sibling.py").write_text("number = 7\n")
    (tmp_path / "more" / "more_load.py").write_text(
        "import sibling\nfrom dbkit.load import Workload, page_users\nfrom sqlalchemy import text\n"
        'page_users(Workload("more", keys=[1]), stacks="asyncpg",'
        ' more=lambda session, _: session.scalar(text("SELECT 7")) == sibling.number)\n'
    )
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "shop_load.py").write_text(HEAD + DIFFERING)
    (tmp_path / "more" / "shop_load.py").write_text((tmp_path / "shop_load.py").read_text())
    folder = subprocess.run(
        [*TRY, "more", "PsycopgTitles", "AsyncpgMore"],
        cwd=tmp_path,
        env=environment(shop_url),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert folder.returncode == 0, folder.stdout + folder.stderr
    files = subprocess.run(
        [*TRY, "more/more_load.py,shop_load.py", "PsycopgTitles", "AsyncpgMore"],
        cwd=tmp_path,
        env=environment(shop_url),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert files.returncode == 0, files.stdout + files.stderr
    assert list(Tried(0, files.stdout, "").summary) == ["PsycopgTitles", "AsyncpgMore"]


OWN_OPTION = """
from locust import events

@events.init_command_line_parser.add_listener
def add(parser):
    parser.add_argument("--tenant", default="nobody")

class Tenant(SyncPageUser):
    @task
    def read(self):
        self.read_page(lambda session: [self.environment.parsed_options.tenant, session.scalar(text("SELECT 1"))])
"""


def test_locusts_configuration_counts(tmp_path: Path, shop_url: str) -> None:
    (tmp_path / "locust.conf").write_text(f"database-url = {shop_url}\nusers = 3\nheadless = true\ntenant = acme\n")
    tried = try_(tmp_path, OWN_OPTION, url=None)
    assert tried.exit_code == 0, tried.stdout + tried.stderr
    assert "['acme', 1]" in tried.about("Tenant")


def test_files_beside_it_are_not_taken_for_libraries(tmp_path: Path, shop_url: str) -> None:
    for name in ("locust.py", "psycopg.py", "rich.py"):
        (tmp_path / name).write_text("raise SystemExit('taken for a library')\n")
    program = "import sys; sys.argv[0] = 'dbkit'; sys.path[0] = '/nowhere'; from dbkit.cli.main import main; main()"
    tried = try_(tmp_path, DIFFERING, "PsycopgTitles", url=shop_url, command=(sys.executable, "-c", program, "try"))
    assert tried.exit_code == 0, tried.stdout + tried.stderr


# Secrets

SECRET = f"""
def mistaken(session, number):
    engine = create_engine("postgresql+psycopg://tester:{PASSWORD_IN_URL}@127.0.0.1:1/dbkit")
    password = "{PASSWORD}"
    with engine.connect(): pass

def reveals(session, number):
    raise ValueError("cannot reach postgresql://tester:{PASSWORD_IN_URL}@host/shop by {PASSWORD}")

def shows(session, number):
    return [session.scalar(text("SELECT 1")), "{PASSWORD}", "{PASSWORD_IN_URL}"]

page_users(albums, stacks=["psycopg", "asyncpg"], mistaken=mistaken, reveals=reveals, shows=shows)
"""


def test_no_password_is_shown(tmp_path: Path, password_url: str) -> None:
    tried = try_(tmp_path, SECRET, url=password_url)
    assert tried.exit_code == 1
    assert "tester:***@" in tried.stdout
    assert PASSWORD not in tried.stdout + tried.stderr
    assert PASSWORD_IN_URL not in tried.stdout + tried.stderr
    broken = try_(tmp_path, f'create_engine("postgresql+psycopg://me:{PASSWORD_IN_URL}@host/x", wrong=1)', url=None)
    assert broken.exit_code == 2
    assert PASSWORD_IN_URL not in broken.stderr
