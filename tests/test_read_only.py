"""What dbkit runs against a database only reads, as the server sees to it, but for what says that it writes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from dbkit.database.url import DatabaseUrl
from tests.load.test_own_pages import SHOP, TABLES
from tests.locust_runs import DEADLINE_S, REPOSITORY, locust

SAY_AT_LOGIN = """
CREATE FUNCTION say_at_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE LOG 'login to % as %: read-only %', current_database(), current_setting('application_name'),
            current_setting('default_transaction_read_only');
    END
$$;
CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION say_at_login()
"""
SLOTS = ("-u", "2", "--rounds", "1", "--slot-time", "0.2", "--warm-up", "0", "--calibrate", "--verify-keys", "2")
CLASSES = ("PsycopgJoined", "PsycopgThreadsJoined", "PsycopgAsyncJoined", "AsyncpgJoined")


def sessions(server_folder: Path, url: str) -> Counter[str]:
    """Whether dbkit's sessions of a database were read-only, by the server's log: how many were `on`, and `off`."""
    said = rf"login to {DatabaseUrl.parse(url).database} as dbkit: read-only (\w+)"
    return Counter(re.findall(said, (server_folder / "server.log").read_text()))


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, "--database-url", url],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_every_session_only_reads_but_for_those_that_make_the_dataset(
    server_folder: Path, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(SAY_AT_LOGIN)
    assert run(database_url, "seed.py").returncode == 0
    assert sessions(server_folder, database_url)["off"] == 1
    report = ("--report", str(tmp_path / "report.html"))
    with locust(
        tmp_path / "run", *SLOTS, *report, *CLASSES, url=database_url, locustfiles="locustfiles/rounds.py"
    ) as rounds:
        assert rounds.wait() == 0, rounds.output
    assert "Limit" in (tmp_path / "report.html").read_text()  # the plans came
    for arguments in (
        ("seed.py", "--check"),
        ("-m", "dbkit", "bench", "--pages", "1", "--strategy", "core"),
        ("-m", "dbkit", "try", "locustfiles/users.py", "AsyncpgCore", "PsycopgCore"),
    ):
        done = run(database_url, *arguments)
        assert done.returncode == 0, done.stderr
    counts = sessions(server_folder, database_url)
    assert counts["off"] == 1
    assert counts["on"] > 20


WRITES = """
def order(session, album):
    session.execute(text("INSERT INTO invoice (album_id) VALUES (:album)"), {"album": album})
    session.commit()
    return 1

unchecked = Workload("orders", keys="SELECT id FROM album", check=None)
page_users(unchecked, prefix="Silent", order=order)
page_users(unchecked, prefix="Says", order=order, writes=True)
compared = Workload("compared", keys=[1])
page_users(compared, prefix="Compared", stacks=["asyncpg", "psycopg"], order=order)
"""
STACKS = ("Psycopg", "PsycopgThreads", "PsycopgAsync", "Asyncpg")


@pytest.fixture
def shop_url(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    return database_url


@pytest.fixture
def shop_file(tmp_path: Path) -> str:
    file = tmp_path / "shop_load.py"
    file.write_text(SHOP + WRITES)
    return str(file)


def invoices(url: str) -> int:
    with psycopg.connect(url) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM invoice").fetchall()
    return int(count)


def test_a_class_that_writes_and_does_not_say_so_fails_with_what_to_add(
    shop_url: str, shop_file: str, tmp_path: Path
) -> None:
    classes = [f"{prefix}{stack}Order" for prefix in ("Silent", "Says") for stack in STACKS]
    arguments = ("-u", "8", "-r", "100", "-t", "60s", *classes)
    with locust(tmp_path / "run", *arguments, url=shop_url, locustfiles=shop_file, record=True) as run:
        run.wait_until(lambda: {page.context["user_class"] for page in run.pages} == set(classes))
        assert run.terminate() == 1, run.output
    refused = "25006 ReadOnlySqlTransaction: for a page to write, its class needs writes = True"
    reasons = {(page.context["user_class"].startswith("Says"), page.failure) for page in run.pages}
    assert reasons == {(True, None), (False, refused)}
    assert refused in run.output
    # those that said it shared neither a connection nor a pool with the others of their stack
    assert invoices(shop_url) >= sum(page.failure is None for page in run.pages) > 0


def test_it_fails_before_the_run_where_pages_are_compared(shop_url: str, shop_file: str, tmp_path: Path) -> None:
    with locust(tmp_path / "run", "ComparedAsyncpgOrder", url=shop_url, locustfiles=shop_file) as run:
        assert run.wait() == 2
    assert run.stderr.splitlines()[-1] == (
        "dbkit: error: ComparedAsyncpgOrder cannot read the page of key 1: ReadOnlySQLTransactionError: cannot execute"
        " INSERT in a read-only transaction; for a page to write, its class needs writes = True;"
        " see dbkit try for where"
    )
    assert invoices(shop_url) == 0
