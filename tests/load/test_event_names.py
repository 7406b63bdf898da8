"""One event has one name, whichever stack meets it: in the log, and in the failures of a result."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from dbkit.database.stacks import STACKS
from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.load.faulty_servers import cut_at, hanging_up, never_answering, refusing
from tests.locust_runs import free_port, locust

# Each class has an engine of its own, which is led astray once the test has begun: before, it must reach the database.
LOCUSTFILE = """
import json, os
from locust import events
from sqlalchemy import event, text
from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.load import Workload, page_users

HIDDEN = "hid" + "den"
running = False

@events.test_start.add_listener
def start(**_):
    global running
    running = True

def engine_of(stack, url, settings):
    make = make_async_engine if STACKS[stack].is_async else make_engine
    def engine(_):
        made = make(DatabaseUrl.parse(os.environ["DBKIT_DATABASE_URL"]), settings, stack)
        @event.listens_for(getattr(made, "sync_engine", made), "do_connect")
        def lead_astray(dialect, record, arguments, parameters):
            if running:
                parameters.clear()
                parameters.update(STACKS[stack].connect_args(DatabaseUrl.parse(url), settings))
        return made
    return engine

def one(session, number):
    return session.execute(text("SELECT 1")).all()

def sleeps(session, number):
    session.execute(text(f"SELECT pg_sleep(300), '{HIDDEN}'"))

def naps(session, number):
    session.execute(text(f"SELECT pg_sleep(0.5), '{HIDDEN}'"))

def terminates(session, number):
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

def is_cut(session, number):
    session.execute(text(f"SELECT 'please cut', '{HIDDEN}'"))

def fills_the_disk(session, number):
    session.execute(text(f"DO $$ BEGIN RAISE disk_full USING MESSAGE = 'no space for {HIDDEN}'; END $$"))

pages = Workload("pages", keys=range(10), check=None)
for name, (url, page) in json.loads(os.environ["EVENTS"]).items():
    settings = Settings(pool_size=1, max_overflow=0, pool_timeout_s=0.1 if name == "pool_timeout" else 30,
                        statement_timeout_s=0.1 if page == "sleeps" else 0)
    for stack in STACKS:
        engine = engine_of(stack, url, settings)
        page_users(pages, [stack], engine=engine, async_engine=engine, **{name: globals()[page]})
"""
LOST = "ConnectionLost: the connection was closed by the other side"
NAMES = {
    "refused": "ConnectionRefused: no server listens there",
    "no_socket": "ConnectionRefused: no server listens there",
    "no_such_host": "NoSuchHost: the name of the host could not be resolved",
    "wrong_password": "28P01 InvalidPassword",
    "no_password": "28P01 InvalidPassword",
    "no_such_database": "3D000 InvalidCatalogName",
    "not_allowed": "28000 InvalidAuthorizationSpecification",
    "too_many_clients": "53300 TooManyConnections",
    "too_many_of_role": "53300 TooManyConnections",
    "pooler_refuses": "ServerRefused: no more connections allowed (max_client_conn)",
    "pooler_knows_not": "ServerRefused: unsupported startup parameter: options",
    "starting_up": "57P03 CannotConnectNow",
    "shutting_down": "57P03 CannotConnectNow",
    "no_tls": "TlsFailed: no encrypted connection could be agreed on with the server",
    "hangs_up": LOST,
    "connect_timeout": "ConnectTimeout: the server did not let the client in within the connect timeout",
    "pool_timeout": "PoolTimeout: no connection became free within the pool timeout",
    "statement_timeout": "57014 QueryCanceled: statement timeout",
    "terminated": "57P01 AdminShutdown",
    "cut": LOST,
    "disk_full": "53100 DiskFull",
}
EVENT_OF_CLASS = {
    f"{stack}-{event}".replace("-", "_").title().replace("_", ""): event for stack in STACKS for event in NAMES
}


@pytest.fixture
def events(password_url: str, server_url: str, tcp_port: int, tmp_path: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """The URL that leads to each event, and the page."""

    def at(port: int, rest: str = "dbkit", user: str = f"tester:{PASSWORD_IN_URL}") -> str:
        return f"postgresql://{user}@127.0.0.1:{port}/{rest}"

    with psycopg.connect(server_url, autocommit=True) as connection, ExitStack() as servers:
        connection.execute("DROP ROLE IF EXISTS nobody_more, nobody")
        connection.execute("CREATE ROLE nobody_more LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        connection.execute("CREATE ROLE nobody NOLOGIN PASSWORD 'x'")

        def refused(sqlstate: str, words: str) -> str:
            return at(servers.enter_context(refusing(sqlstate, words)))

        yield {
            "refused": (at(free_port()), "one"),
            "no_socket": (f"postgresql:///dbkit?host={tmp_path}", "one"),
            "no_such_host": (f"postgresql://tester:{PASSWORD_IN_URL}@no-such-host.invalid/dbkit", "one"),
            "wrong_password": (at(tcp_port, user="tester:wrong"), "one"),
            "no_password": (at(tcp_port, user="tester"), "one"),
            "no_such_database": (at(tcp_port, "no_such_database"), "one"),
            "not_allowed": (at(tcp_port, user="nobody:x"), "one"),
            "too_many_clients": (refused("53300", "sorry, too many clients already"), "one"),
            "too_many_of_role": (at(tcp_port, user="nobody_more:x"), "one"),
            "pooler_refuses": (refused("08P01", "no more connections allowed (max_client_conn)"), "one"),
            "pooler_knows_not": (refused("08P01", "unsupported startup parameter: options"), "one"),
            "starting_up": (refused("57P03", "the database system is starting up"), "one"),
            "shutting_down": (refused("57P03", "the database system is shutting down"), "one"),
            "no_tls": (at(tcp_port, "dbkit?sslmode=require"), "one"),
            "hangs_up": (at(servers.enter_context(hanging_up())), "one"),
            "connect_timeout": (
                at(servers.enter_context(never_answering()), "dbkit?sslmode=disable&connect_timeout=2"),
                "one",
            ),
            "pool_timeout": (password_url, "naps"),
            "statement_timeout": (password_url, "sleeps"),
            "terminated": (password_url, "terminates"),
            "cut": (at(servers.enter_context(cut_at(tcp_port, b"please cut"))), "is_cut"),
            "disk_full": (password_url, "fills_the_disk"),
        }
        connection.execute("DROP ROLE nobody_more, nobody")


def test_each_event_has_one_name_on_every_stack(
    events: dict[str, tuple[str, str]], password_url: str, tmp_path: Path
) -> None:
    assert events.keys() == NAMES.keys()
    (tmp_path / "events.py").write_text(LOCUSTFILE)
    users = 2 * len(events) * len(STACKS)
    arguments = ("-u", str(users), "-r", str(users), "-t", "600s", "--think-time", "0.3", "--verify-keys", "0",
                 "--plans", "none")  # fmt: skip
    with locust(
        tmp_path / "run", *arguments, url=password_url, locustfiles=str(tmp_path / "events.py"), record=True,
        environment={"EVENTS": json.dumps(events)},
    ) as run:  # fmt: skip

        def each_has_failed() -> bool:
            return len({page.context["user_class"] for page in run.pages if page.failure}) == len(events) * len(STACKS)

        run.wait_until(each_has_failed)
        assert run.terminate() == 1
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for row in json.loads((run.folder / "run_comparison.json").read_text())["failures"]:
            if not row["message"].startswith("CutOff"):  # at the end of the test
                seen[EVENT_OF_CLASS[row["user_class"]]][row["message"]] += 1
        assert seen == {event: {name: len(STACKS)} for event, name in NAMES.items()}
        for file in run.files():
            said = file.read_text(errors="replace")
            for secret in (PASSWORD, PASSWORD_IN_URL, "hidden"):
                assert secret not in said, file
