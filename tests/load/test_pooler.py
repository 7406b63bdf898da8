"""Tests through a real PgBouncer: every class, settings, limits, and what is said where no option names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbkit.database.stacks import STACKS
from dbkit.paging import STRATEGIES
from tests.locust_runs import LocustRun, locust, named
from tests.pgbouncer import Mode, pgbouncer

MODES: tuple[Mode, ...] = ("session", "transaction")
ROUNDS_FILE = "locustfiles/rounds.py"
SHORT = ("--rounds", "1", "--slot-time", "0.3", "--warm-up", "0.1")
FEW = ("-u", "2", "--pool-size", "2", "--max-overflow", "0")
OWN = """
from sqlalchemy import create_engine, text
from dbkit.load import Rounds, SyncPageUser, ThreadPageUser, Workload

def settings(session, key):
    row = session.execute(text("SELECT current_setting('statement_timeout'), current_setting('jit')")).one()
    if row != ("7s", "off"):
        raise ValueError(f"settings: {row}")
    session.execute(text("SELECT pg_sleep(300)") if key == 0 else text("SELECT 1"))
    return [*row]

class Plain(SyncPageUser):
    workload = Workload("settings", range(1, 5))
    page_function = settings

class Slow(SyncPageUser):
    workload = Workload("slow", [0], check=None)
    @staticmethod
    def page_function(session, key):
        session.execute(text("SELECT pg_sleep(300)"))

class OfAnApplication(Plain):
    engine = staticmethod(lambda url: create_engine(url))

class Compare(Rounds):
    pass
"""


def comparison(run: LocustRun) -> dict[str, Any]:
    return dict(json.loads((run.folder / "run_comparison.json").read_text()))


@pytest.mark.parametrize("mode", MODES)
def test_every_class_reads_pages_through_it_in_two_processes(tmp_path: Path, password_url: str, mode: Mode) -> None:
    """With a statement timeout; in transaction mode by half as many connections as there are clients at a time."""
    size = {"default_pool_size": 2 if mode == "transaction" else 40}
    options = ("--pooler", mode, "--statement-timeout", "60", "-u", "4", "--pool-size", "4", "--max-overflow", "0")
    arguments = (*options, *SHORT, "--processes", "2", "--verify-keys", "3")
    with (
        pgbouncer(password_url, mode, size) as url,
        locust(tmp_path / "run", *arguments, url=url, locustfiles=ROUNDS_FILE) as run,
    ):
        assert run.wait() == 0, run.output
        assert run.leftovers() == []
        result = comparison(run)
    assert result["state"] == "complete"
    assert result["failures"] == []
    rows = result["strategies"]
    assert {(row["stack"], row["strategy"]) for row in rows} == {(one, other) for one in STACKS for other in STRATEGIES}
    read = [row for row in rows if row["pages"]]  # on a machine that stalls for as long as a slot takes there are none
    assert all(row["server_cpu_ms"] for row in read)
    assert all(row["prepares"] == 0 or mode == "session" for row in read)
    assert {plan["note"] for plan in result["plans"]} == {None}
    assert all(statement["plan"] for plan in result["plans"] for statement in plan["statements"])
    assert result["measured_on"]["server"]["pooler"] == {}
    assert result["measured_on"]["options"]["pooler"] == mode
    assert "use --pooler" not in run.output


def test_a_failure_by_it_names_the_option(tmp_path: Path, password_url: str) -> None:
    """Where it ignores the options that are sent to it; else nothing starts."""
    asyncpg = (*SHORT, "-u", "4", "--verify-keys", "0", "AsyncpgLazy")
    # psycopg forgets at a ROLLBACK what it has prepared; else four prepare once each, on two connections to the server
    psycopg = (*SHORT, "-u", "4", "--verify-keys", "0", "--end", "commit", "PsycopgLazy")
    ignoring = {"default_pool_size": 2, "ignore_startup_parameters": "options"}
    with pgbouncer(password_url, "transaction", ignoring) as url:
        for name, arguments in {"Asyncpg": asyncpg, "Psycopg": psycopg}.items():
            with locust(tmp_path / name, *arguments, url=url, locustfiles=ROUNDS_FILE) as run:
                assert run.wait() == 1, run.output
                warnings = comparison(run)["warnings"]
            assert "is behind a pooler: use --pooler session or --pooler transaction" in run.stderr
            [line] = [line for line in warnings if "--pooler transaction (for an engine of your own" in line]
            assert line.startswith(f"{name}Lazy failed as a pooler in transaction mode keeps no prepared statements")
    with pgbouncer(password_url, "transaction") as url:
        for name, arguments in {"locust": ("AsyncpgCore",), "varied": ("--vary", "end=rollback,commit")}.items():
            with locust(tmp_path / name, *arguments, url=url, locustfiles=ROUNDS_FILE) as run:
                assert run.wait() == 2
                said = "unsupported startup parameter: options; a pooler takes no server options: use --pooler"
                assert run.output.count(said) == 1


def test_settings_hold_in_its_pages_and_are_compared(tmp_path: Path, password_url: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    options = ("--statement-timeout", "7", "--jit", "off", *SHORT, *FEW)
    for mode in MODES:
        arguments = ("--pooler", mode, *options, "Plain")
        with (
            # one for what dbkit asks itself: in session mode users would wait for it, as docs/poolers.md has it
            pgbouncer(password_url, mode, {"default_pool_size": 3}) as url,
            locust(tmp_path / mode, *arguments, url=url, locustfiles=str(file)) as run,
        ):
            assert run.wait() == 0, run.output
            assert comparison(run)["failures"] == []
    with pgbouncer(password_url, "transaction", {"default_pool_size": 2}) as url:
        timeout = ("--statement-timeout", "0.2", "--pooler", "transaction", *SHORT, *FEW)
        with locust(tmp_path / "slow", *timeout, "Slow", url=url, locustfiles=str(file)) as run:
            assert run.wait() == 1
            assert {row["message"] for row in comparison(run)["failures"]} == {"57014 QueryCanceled: statement timeout"}


def test_what_prepared_statements_are_worth_is_compared_by_it(tmp_path: Path, password_url: str) -> None:
    """On a server without a pooler too; and a database behind one beside the server itself."""
    varied = ("--vary", "pooler=none,transaction", *SHORT, *FEW, "AsyncpgLazy")
    with locust(tmp_path / "run", *varied, url=password_url, locustfiles=ROUNDS_FILE) as run:
        assert run.wait() == 0, run.output
        trips = {row["settings"]["pooler"]: row["round_trips"] for row in comparison(run)["strategies"]}
    assert trips["none"] < trips["transaction"]
    with pgbouncer(password_url, "transaction", {"default_pool_size": 2}) as url:
        pooled = {"DBKIT_DATABASE_URL_POOLED": f"{url}?pooler=transaction&options=-c%20work_mem%3D5MB"}
        varied = ("--vary", "database=direct,pooled", *SHORT, *FEW, "AsyncpgLazy")
        with locust(tmp_path / "pooled", *varied, url=password_url, locustfiles=ROUNDS_FILE, environment=pooled) as run:
            assert run.wait() == 0, run.output
            rows = comparison(run)["strategies"]
    assert {row["settings"]["database"]: row["round_trips"] for row in rows} == {
        "direct": trips["none"],
        "pooled": trips["transaction"],
    }


def test_more_connections_than_it_has_are_known_before_the_run(tmp_path: Path, password_url: str) -> None:
    asks = {"stats_users": "tester", "default_pool_size": 3, "max_client_conn": 20}
    classes = ("PsycopgCore", "AsyncpgCore")
    said = {}
    with pgbouncer(password_url, "transaction", asks) as url:
        for name, users, code, pooler in (
            ("fits", "3", 0, "transaction"),
            ("waits", "4", 0, "transaction"),
            ("too many", "15", 2, "transaction"),
            ("wrong", "3", 2, "session"),
        ):
            end = "autocommit" if name == "fits" else "rollback"
            arguments = ("-u", users, "--pooler", pooler, "--end", end, *SHORT, *classes)
            with locust(tmp_path / name, *arguments, url=url, locustfiles=ROUNDS_FILE) as run:
                assert run.wait() == code, run.output
                said[name] = run.stderr
                if code == 0:
                    server = comparison(run)["measured_on"]["server"]
                    assert server["pooler"]["pool_size"] == 3
                    warned = [line for line in comparison(run)["warnings"] if "could use" in line]
                    assert len(warned) == (name == "waits")
    assert "could use" not in said["fits"]
    assert "with --pooler transaction and --end autocommit the server does not keep pages from" in said["fits"]
    assert "does not keep pages from" not in said["waits"]
    assert "pages could use 4 connections at a time, and PgBouncer 1." in said["waits"]
    assert "pages wait in the pooler" in said["waits"]
    assert "could open 30 connections" in said["too many"]
    assert "but the pooler allows 20" in said["too many"] and "max_client_conn" in said["too many"]
    assert "use --pooler transaction" in said["wrong"]
    in_session = ("-u", "2", "--pooler", "session", *SHORT, *classes)
    with (
        pgbouncer(password_url, "session", asks) as url,
        locust(tmp_path / "session", *in_session, url=url, locustfiles=ROUNDS_FILE) as run,
    ):  # which may take long, as it says
        run.wait_until(lambda: "pages could use 4 connections at a time" in run.stderr)
        assert "some pages may never be read" in run.stderr


REFUSED = {
    "statement_timeout cannot be set: with --pooler transaction": (
        *("--pooler", "transaction", "--end", "autocommit", "--statement-timeout", "1", "Plain"),
    ),
    "pooler cannot vary for OfAnApplication: it has an engine of its own": (
        *("--vary", "pooler=none,transaction", "OfAnApplication"),
    ),
    "--pooler: invalid value 'all': expected none, session or transaction": ("--pooler", "all", "Plain"),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_is_one_line(tmp_path: Path, password_url: str, said: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    arguments = (*SHORT, *REFUSED[said])
    with locust(tmp_path / "run", *arguments, url=named(password_url, "refused"), locustfiles=str(file)) as run:
        assert run.wait() == 2
        assert said in run.output
        assert "Traceback" not in run.output
