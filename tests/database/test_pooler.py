"""Connections through a real PgBouncer: what drivers may do there, and what is known of the server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy.exc
from psycopg.rows import tuple_row
from sqlalchemy import text
from sqlalchemy.orm import Session

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.pooler_limits import ask_pooler
from dbkit.database.provenance import describe_server
from dbkit.database.relay import Relay
from dbkit.database.server import ServerProcesses, check_server, connect_directly, shortest_round_trip_ms
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.database.wakeups import cpu_by_wait_ms
from dbkit.errors import DbkitError
from dbkit.paging import STRATEGIES
from dbkit.plans import PageToExplain, explain_pages
from dbkit.todo.dataset import Shape, check, create
from dbkit.workload import Workload
from tests.pgbouncer import Mode, pgbouncer, through
from tests.stacks import open_stack

MODES: tuple[Mode, ...] = ("session", "transaction")
ONE = {"default_pool_size": 1}
"""All clients of a database share one connection to the server."""
HAS = (
    "SELECT current_setting('statement_timeout'), current_setting('jit'), current_setting('search_path'),"
    " current_setting('transaction_read_only'), current_setting('work_mem'), current_setting('application_name')"
)
OPTIONS = r"-c search_path=dbkit,\ public --default-transaction-read-only=on -cwork_mem=5MB"
WITH_OPTIONS = ("1500ms", "off", "dbkit, public", "on", "5MB", "mine")
SETTINGS = Settings(statement_timeout_s=1.5, jit="off", pool_size=1, max_overflow=0)


@pytest.fixture(scope="module")
def urls(password_url: str) -> Iterator[dict[Mode, str]]:
    with pgbouncer(password_url, "session", ONE) as session, pgbouncer(password_url, "transaction", ONE) as transaction:
        yield {"session": session, "transaction": transaction}


def with_options(url: str, mode: Mode) -> DatabaseUrl:
    return replace(through(url, mode), options=OPTIONS, application_name="mine")


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("mode", MODES)
def test_settings_and_options_reach_pages_through_it_and_nobody_else(
    urls: dict[Mode, str], mode: Mode, stack: str
) -> None:
    of_server = ask(urls[mode])
    with open_stack(stack, with_options(urls[mode], mode), SETTINGS) as engine:
        assert engine.row(HAS) == WITH_OPTIONS
        if mode == "transaction":  # in session mode nobody else is served meanwhile
            assert ask(urls[mode]) == of_server
        assert engine.row(HAS) == WITH_OPTIONS
        assert engine.row("SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE '\\_\\_asyncpg%'") == (0,)
    assert ask(urls[mode]) == of_server
    assert of_server[0] == "0" and of_server[3] == "off"


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("mode", MODES)
def test_a_statement_over_its_time_is_cancelled(urls: dict[Mode, str], mode: Mode, stack: str) -> None:
    with open_stack(stack, through(urls[mode], mode), Settings(statement_timeout_s=0.2)) as engine:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as cancelled:
            engine.row("SELECT pg_sleep(300)")
        assert cast(Any, cancelled.value.orig).sqlstate == "57014"
        assert engine.row("SHOW statement_timeout") == ("200ms",)


@pytest.mark.parametrize("stack", STACKS)
def test_in_transaction_mode_nothing_is_prepared_and_settings_take_no_round_trip(
    urls: dict[Mode, str], stack: str
) -> None:
    """Clients take turns on one connection to the server, where what one prepares would meet what another does."""
    database = through(urls["transaction"], "transaction")
    costs = []
    with (
        open_stack(stack, database, Settings(pool_size=1)) as one,
        open_stack(stack, with_options(urls["transaction"], "transaction"), SETTINGS) as other,
    ):
        one.read(STRATEGIES["lazy"], 0, 20)  # asyncpg looks up types at the first
        other.read(STRATEGIES["lazy"], 0, 20)
        for number in range(3):
            costs += [engine.read(STRATEGIES["lazy"], number, 20)[1] for engine in (one, other)]
    assert {cost.prepares for cost in costs} == {0}
    assert {cost.statements for cost in costs} == {21}
    assert len({cost.round_trips for cost in costs}) == 1
    with psycopg.connect(urls["transaction"], prepare_threshold=None) as connection:
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.parametrize("stack", STACKS)
def test_without_transactions_pages_are_read_unless_there_is_something_to_set(
    urls: dict[Mode, str], stack: str
) -> None:
    ends = Settings(end="autocommit")
    database = through(urls["transaction"], "transaction")
    with open_stack(stack, database, ends) as engine:
        assert len(engine.read(STRATEGIES["lazy"], 0, 20)[0]) == 20
    with pytest.raises(DbkitError, match="statement_timeout, jit cannot be set: with --pooler transaction"):
        open_stack(stack, database, replace(SETTINGS, end="autocommit")).__enter__()
    with open_stack(stack, through(urls["session"], "session"), replace(SETTINGS, end="autocommit")) as engine:
        assert engine.row("SHOW statement_timeout") == ("1500ms",)


@pytest.mark.parametrize("written", ["-B 5", "work_mem=5MB", "-c work_mem", "-c", "-c ;=1"])
@pytest.mark.parametrize("stack", STACKS)
def test_options_that_are_no_settings_cannot_be_set(urls: dict[Mode, str], stack: str, written: str) -> None:
    database = replace(through(urls["transaction"], "transaction"), options=written)
    with pytest.raises(DbkitError, match="write each as -c name=value"):
        open_stack(stack, database).__enter__()


def test_values_of_options_are_values(urls: dict[Mode, str]) -> None:
    value = r"'); DROP TABLE dbkit.todo; --\x"
    options = "-c dbkit.test=" + value.replace("\\", r"\\").replace(" ", r"\ ")
    for mode in MODES:
        with open_stack("asyncpg", replace(through(urls[mode], mode), options=options)) as engine:
            assert engine.row("SHOW dbkit.test") == (value,)
        with connect_directly(replace(through(urls[mode], mode), options=options)) as connection:
            assert connection.execute("SHOW dbkit.test").fetchone() == (value,)


def test_many_rows_at_once_have_the_settings_too(urls: dict[Mode, str]) -> None:
    """They are psycopg's pipeline, in which each message is one statement."""
    engine = make_engine(with_options(urls["transaction"], "transaction"), SETTINGS)
    try:
        with Session(engine) as session:
            values = [{"n": number} for number in range(3)]
            session.connection().exec_driver_sql(
                "SELECT set_config('dbkit.seen', current_setting('statement_timeout') || %(n)s::text, false)", values
            )
            assert session.scalar(text("SHOW dbkit.seen")) == "1500ms2"
    finally:
        engine.dispose()


def test_how_a_page_begins_its_transaction_goes_before_the_options(urls: dict[Mode, str]) -> None:
    options = "-c default_transaction_isolation=serializable -c default_transaction_read_only=on"
    database = replace(through(urls["transaction"], "transaction"), options=options)
    how = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    own = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": False}

    async def on_asyncpg() -> list[tuple[Any, ...]]:
        engine = make_async_engine(database, Settings(), "asyncpg")
        async with engine.connect() as connection:
            first = tuple((await connection.execute(text(how))).one())
        async with engine.connect() as connection:
            await connection.execution_options(**own)
            second = tuple((await connection.execute(text(how))).one())
        await engine.dispose()
        return [first, second]

    engine = make_engine(database, Settings())
    with engine.connect() as connection:
        assert tuple(connection.execute(text(how)).one()) == ("serializable", "on")
    with engine.connect() as connection:
        connection.execution_options(**own)
        assert tuple(connection.execute(text(how)).one()) == ("repeatable read", "off")
    engine.dispose()
    # asyncpg cannot say READ WRITE
    assert asyncio.run(on_asyncpg()) == [("serializable", "on"), ("repeatable read", "on")]


def test_asyncpg_leaves_jit_alone_when_it_looks_up_a_type(urls: dict[Mode, str], server_url: str) -> None:
    """It would be set on one connection to the server, and back on whichever comes next."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("SELECT pg_stat_statements_reset()")
        database = through(urls["transaction"], "transaction")
        with open_stack("asyncpg", database, Settings(end="autocommit")) as engine:
            assert engine.row("SELECT ARRAY[]::information_schema.sql_identifier[]") == ([],)
        looked_up = connection.execute(
            "SELECT count(*) FILTER (WHERE query LIKE '%typeinfo_tree%'),"
            " count(*) FILTER (WHERE query LIKE '%set_config%') FROM pg_stat_statements"
        ).fetchone()
    assert looked_up is not None and looked_up[0] > 0 and looked_up[1] == 0


# The server behind it


@pytest.mark.parametrize("mode", MODES)
def test_it_is_seen_and_its_server_is_known(urls: dict[Mode, str], password_url: str, mode: Mode) -> None:
    direct, pooled = DatabaseUrl.parse(password_url), through(urls[mode], mode)
    assert not check_server(direct).is_pooled
    assert check_server(pooled).is_pooled
    assert check_server(pooled).identity == check_server(direct).identity
    relay = Relay(direct, 0.0)
    try:
        assert not check_server(relay.database).is_pooled
    finally:
        relay.stop()
    here, behind = ServerProcesses.find(direct), ServerProcesses.find(pooled)
    assert here is not None and behind is not None and here._postmaster == behind._postmaster
    assert shortest_round_trip_ms(pooled) > 0
    assert [*cpu_by_wait_ms(pooled)] == ["0", "0.5", "1", "3", "10"]


def test_a_process_of_the_same_number_is_not_taken_for_the_server(
    urls: dict[Mode, str], database_url: str, server_url: str
) -> None:
    """As of a server on another machine, behind a pooler here: its backends began at other times than those here."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "CREATE VIEW public.pg_stat_activity AS"
            " SELECT pid, backend_start - interval '1 hour' AS backend_start FROM pg_catalog.pg_stat_activity"
        )
    database = DatabaseUrl.parse(database_url)
    assert ServerProcesses.find(database) is not None
    assert ServerProcesses.find(replace(database, options="-c search_path=public,pg_catalog")) is None


def test_what_it_says_of_itself_is_known_to_those_whom_it_lets_ask(urls: dict[Mode, str], password_url: str) -> None:
    for mode in MODES:
        assert ask_pooler(through(urls[mode], mode)) is None
        assert describe_server(through(urls[mode], mode))["pooler"] == {}
    assert "pooler" not in describe_server(DatabaseUrl.parse(password_url))
    settings = {"stats_users": "tester", "default_pool_size": 7, "max_db_connections": 6, "max_client_conn": 50}
    with pgbouncer(password_url, "transaction", settings) as url:
        pooler = ask_pooler(through(url, "transaction"))
        described = describe_server(through(url, "transaction"))
    assert pooler is not None and pooler.version.startswith("PgBouncer 1.")
    assert (pooler.mode, pooler.pool_size, pooler.clients_allowed) == ("transaction", 6, 50)
    assert described["pooler"] == pooler.described()
    assert pooler.statements_kept == (0 if int(pooler.version.split(".")[1]) < 21 else 200)
    assert described["settings"]["max_connections"] == "100"


def test_what_is_no_page_works_through_it(urls: dict[Mode, str], seeded_url: str) -> None:
    for mode in MODES:
        database = with_options(urls[mode], mode)
        assert Workload("w", "SELECT id FROM todo ORDER BY id LIMIT 3").find_keys(database, 20) == [(1,), (2,), (3,)]
        page = PageToExplain("todos", "lazy", STRATEGIES["lazy"], {"typical": (5, 20)})
        [entry] = explain_pages(database, SETTINGS, [page])
        assert entry["note"] is None
        assert [statement["times"] for statement in entry["statements"]] == [1, 20]
        assert all(statement["plan"] for statement in entry["statements"])


@pytest.mark.parametrize("mode", MODES)
def test_the_dataset_is_made_and_checked_through_it(mode: Mode, database_url: str, password_url: str) -> None:
    name = DatabaseUrl.parse(database_url).database
    with pgbouncer(password_url, mode) as url:
        database = replace(through(url, mode), database=name, options="-c work_mem=5MB")
        create(database, Shape(users=2, todos=10), replace=False)
        assert check(database) == Shape(users=2, todos=10)


def ask(url: str) -> tuple[Any, ...]:
    """What another client of the pooler has, without options of its own."""
    with psycopg.connect(url, prepare_threshold=None, row_factory=tuple_row) as connection:
        row = connection.execute(HAS.removesuffix(", current_setting('application_name')").encode()).fetchone()
    assert row is not None
    return row
