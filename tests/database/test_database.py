"""A database URL and settings mean the same on every stack, are refused in words, and never show a password."""

from __future__ import annotations

import itertools
import socket
import string
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import psycopg
import pytest
import sqlalchemy.exc
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from dbkit.database.engines import find_database
from dbkit.database.server import check_server, shortest_round_trip_ms
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.measure.cost import COUNTS
from dbkit.paging import STRATEGIES, RenderedPage
from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.hostile import hostile
from tests.stacks import DEFAULT_SETTINGS, open_stack
from tests.wire import upstream_of, wire_proxy

WHO = """
    SELECT current_user::text, current_database()::text, inet_server_port(),
           current_setting('application_name'), current_setting('work_mem'), current_setting('TimeZone'),
           current_setting('DateStyle'), current_setting('client_encoding'), current_setting('geqo')
"""
WORK_MEM = "-c work_mem=4321kB"


def ask(stack: str, url: str, statement: str, settings: Settings = DEFAULT_SETTINGS) -> tuple[Any, ...]:
    with open_stack(stack, url, settings) as engine:
        return engine.row(statement)


def with_query(url: str, **query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def refusal(text: str) -> str:
    """Why a URL is refused: one line."""
    with pytest.raises(DbkitError) as refused:
        DatabaseUrl.parse(text)
    assert str(refused.value).isprintable()
    return str(refused.value)


# The same database by every form of URL


@pytest.fixture(params=[
    "postgresql://{user}@/{database}?host={folder}&port={port}",
    "postgres://{user}@/{database}?host={folder}&port={port}",
    "postgresql+asyncpg://{user}@/{database}?host={folder}&port={port}",
    "postgresql+psycopg://{user}@/{database}?host={folder}&port={port}",
    "postgresql+psycopg_async://{user}@/{database}?host={folder}&port={port}",
    "postgresql+psycopg2://{user}@/{database}?host={folder}&port={port}",
    "postgresql://{user}@/{database}?async=1&host={folder}&port={port}",
    "postgresql://{user}@{encoded_folder}:{port}/{database}",
    "postgresql://{user}@:{port}/{database}?host={encoded_folder}",
    "postgresql://?user={user}&dbname={database}&host={folder}&port={port}",
    "  postgresql://{user}@/{database}?host={folder}&port={port}\n",
])  # fmt: skip
def socket_form(request: pytest.FixtureRequest, seeded_url: str) -> str:
    database = DatabaseUrl.parse(seeded_url)
    assert database.is_socket
    form: str = request.param
    return form.format(
        user=database.user,
        database=database.database,
        folder=database.host,
        encoded_folder=quote(database.host, safe=""),
        port=database.port,
    )


@pytest.mark.parametrize("stack", STACKS)
def test_every_form_of_a_socket_url_reaches_the_same_database(socket_form: str, stack: str) -> None:
    assert ask(stack, socket_form, WHO)[:4] == ("dbkit", "dbkit", None, "dbkit")


@pytest.mark.parametrize("form", [
    "postgresql://tester:{password}@127.0.0.1:{port}/dbkit",
    "postgres://tester:{password}@localhost:{port}/dbkit",
    "postgresql+asyncpg://tester:{password}@127.0.0.1:{port}/dbkit",
    "postgresql+psycopg://tester:{password}@127.0.0.1:{port}/dbkit?async=1",
    "postgresql://tester:{password}@127.0.0.1/dbkit?port={port}",
    "postgresql://127.0.0.1:{port}/dbkit?user=tester&password={password}",
    "postgresql://tester:{password}@127.0.0.1:{port}/dbkit?sslmode=disable",
    "postgresql://tester:{password}@127.0.0.1:{port}/dbkit?sslmode=allow",
    "postgresql://tester:{password}@127.0.0.1:{port}/dbkit?sslmode=prefer",
    "postgresql+asyncpg://tester:{password}@127.0.0.1:{port}/dbkit?ssl=prefer",
    "postgresql://tester:{password}@127.0.0.1:{port}/dbkit?connect_timeout=0",
])  # fmt: skip
@pytest.mark.parametrize("stack", STACKS)
def test_every_form_of_a_tcp_url_reaches_the_same_database(
    password_url: str, form: str, stack: str, tcp_port: int
) -> None:
    url = form.format(password=PASSWORD_IN_URL, port=tcp_port)
    assert ask(stack, url, WHO)[:4] == ("tester", "dbkit", tcp_port, "dbkit")


@pytest.mark.parametrize("stack", STACKS)
def test_a_server_without_tls_is_refused_by_those_who_require_it(password_url: str, stack: str) -> None:
    with pytest.raises(Exception, match=r"(?i)ssl"):
        ask(stack, with_query(password_url, sslmode="require"), WHO)


def test_the_same_page_is_read_by_both_ways_in_on_every_stack(each_url: str) -> None:
    pages: list[RenderedPage] = []
    for stack in STACKS:
        with open_stack(stack, each_url) as engine:
            pages.append(engine.read(STRATEGIES["joined"], 7, 20)[0])
    assert all(page == pages[0] for page in pages)
    assert pages[0][0][0] == "user2-task-40"


@pytest.mark.parametrize("stack", STACKS)
def test_names_that_need_percent_encoding_mean_the_same(seeded_url: str, tcp_port: int, stack: str) -> None:
    name, password = f"ü ser@%{uuid.uuid4().hex}", "%41?#:/&=+ é\\'\""
    with psycopg.connect(seeded_url, autocommit=True) as connection:
        identifier = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(identifier, password))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        try:
            encoded = quote(name, safe="")
            url = f"postgresql://{encoded}:{quote(password, safe='')}@127.0.0.1:{tcp_port}/{encoded}"
            assert ask(stack, url, WHO)[:2] == (name, name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
            connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


@pytest.mark.parametrize("stack", STACKS)
def test_the_application_name_is_seen_on_the_server(each_url: str, stack: str) -> None:
    name = f"my pages {uuid.uuid4().hex}"
    with open_stack(stack, with_query(each_url, application_name=name)) as engine:
        engine.connect()
        with psycopg.connect(each_url) as connection:
            found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name])
            assert found.fetchone() == (1,)


@pytest.mark.parametrize("stack", STACKS)
def test_options_are_given_to_the_server(each_url: str, stack: str) -> None:
    url = with_query(each_url, options=f"{WORK_MEM} -c geqo=off")
    settings = Settings(statement_timeout_s=12.5)  # which travels by the same way
    assert ask(stack, url, "SHOW work_mem", settings) == ("4321kB",)
    assert ask(stack, url, "SHOW geqo", settings) == ("off",)
    assert ask(stack, url, "SHOW statement_timeout", settings) == ("12500ms",)


READ_ONLY_ENDS = [Settings(read_only=True), Settings(read_only=True, end="autocommit")]


@pytest.mark.parametrize("settings", READ_ONLY_ENDS, ids=["in transactions", "in autocommit"])
@pytest.mark.parametrize("stack", STACKS)
def test_what_only_reads_cannot_write_whatever_the_url_says(each_url: str, stack: str, settings: Settings) -> None:
    url = with_query(each_url, options="-c default_transaction_read_only=off")
    assert ask(stack, url, "SHOW transaction_read_only", settings) == ("on",)
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="cannot execute CREATE TABLE in a read-only transaction"):
        ask(stack, url, "CREATE TABLE left_behind (id int)", settings)
    assert ask(stack, url, "SHOW transaction_read_only", Settings()) == ("off",)


@pytest.mark.parametrize("stack", STACKS)
def test_only_to_read_costs_a_page_nothing(seeded_url: str, stack: str) -> None:
    counts = []
    for read_only in (False, True):
        with open_stack(stack, seeded_url, Settings(read_only=read_only)) as engine:
            costs = [engine.read(STRATEGIES["selectin"], 3, 20)[1].as_dict() for _ in range(3)]
        counts.append([{name: cost[name] for name in COUNTS} for cost in costs])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(("name", "value"), [
    ("PGOPTIONS", WORK_MEM),
    ("PGAPPNAME", "other"),
    ("PGHOST", "127.0.0.9"),
    ("PGHOSTADDR", "127.0.0.9"),
    ("PGPORT", "1"),
    ("PGUSER", "other"),
    ("PGPASSWORD", "other"),
    ("PGDATABASE", "other"),
    ("PGSSLMODE", "require"),
    ("PGCONNECT_TIMEOUT", "other"),
    ("PGCLIENTENCODING", "LATIN1"),
    ("PGTARGETSESSIONATTRS", "standby"),
])  # fmt: skip
def test_the_environment_of_libpq_has_no_effect_on_any_stack(
    password_url: str, monkeypatch: pytest.MonkeyPatch, stack: str, name: str, value: str
) -> None:
    url = with_query(password_url, sslmode="disable")
    without = ask(stack, url, WHO)
    monkeypatch.setenv(name, value)
    assert ask(stack, url, WHO) == without


@pytest.mark.parametrize(("name", "value"), [
    ("PGSERVICE", "other"),
    ("PGTZ", "Asia/Tokyo"),
    ("PGDATESTYLE", "German"),
    ("PGGEQO", "off"),
])  # fmt: skip
def test_what_libpq_alone_takes_from_the_environment_is_refused_or_has_no_effect(
    seeded_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """libpq cannot be kept from reading these, and asyncpg does not know them."""
    without = ask("asyncpg", seeded_url, WHO)
    monkeypatch.setenv(name, value)
    try:
        found = {ask(stack, seeded_url, WHO) for stack in STACKS}
    except DbkitError as mistake:
        assert name in str(mistake)
    else:
        assert found == {without}


def test_without_a_url_it_is_the_embedded_server_whatever_other_variables_say(
    monkeypatch: pytest.MonkeyPatch, seeded_url: str
) -> None:
    served: list[Path] = []

    def serve(folder: Path) -> str:
        served.append(folder)
        return seeded_url

    monkeypatch.setattr("dbkit.database.engines.serve", serve)
    monkeypatch.setenv("DATABASE_URL", "postgresql://production/")  # set for something else
    monkeypatch.delenv("DBKIT_DATABASE_URL", raising=False)
    monkeypatch.delenv("DBKIT_EMBEDDED_FOLDER", raising=False)
    assert find_database() == DatabaseUrl.parse(seeded_url)
    monkeypatch.setenv("DBKIT_DATABASE_URL", "")
    assert find_database() == DatabaseUrl.parse(seeded_url)
    monkeypatch.setenv("DBKIT_EMBEDDED_FOLDER", "/elsewhere")
    assert find_database() == DatabaseUrl.parse(seeded_url)
    assert served == [Path(".dbkit"), Path(".dbkit"), Path("/elsewhere")]
    monkeypatch.setenv("DBKIT_DATABASE_URL", "postgresql://u@h/db")
    assert find_database().host == "h"


# Settings


@pytest.mark.parametrize("stack", STACKS)
def test_a_statement_over_its_time_is_cancelled_by_the_server(seeded_url: str, stack: str) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError) as cancelled:
        ask(stack, seeded_url, "SELECT pg_sleep(300)", Settings(statement_timeout_s=1))
    assert cancelled.value.orig is not None
    assert getattr(cancelled.value.orig, "sqlstate") == "57014"  # noqa: B009  # of the drivers' errors, not of DBAPI's


@pytest.mark.parametrize("stack", STACKS)
def test_no_statement_timeout_is_no_limit(seeded_url: str, stack: str) -> None:
    assert ask(stack, seeded_url, "SHOW statement_timeout") == ("0",)


def test_an_empty_pool_is_an_error_after_the_pool_timeout_on_every_stack(seeded_url: str) -> None:
    settings = Settings(pool_size=1, max_overflow=0, pool_timeout_s=0.05)
    for stack in STACKS:
        with open_stack(stack, seeded_url, settings) as engine:
            with engine.holding_a_connection(), pytest.raises(sqlalchemy.exc.TimeoutError):
                engine.row("SELECT 1")
            assert engine.row("SELECT 1") == (1,)


@pytest.mark.parametrize("stack", STACKS)
def test_overflow_connections_come_on_top_of_the_pool(seeded_url: str, stack: str) -> None:
    settings = Settings(pool_size=1, max_overflow=1, pool_timeout_s=0.05)
    assert settings.pool_capacity == 2
    with open_stack(stack, seeded_url, settings) as engine, engine.holding_a_connection():
        assert engine.row("SELECT 1") == (1,)
        with engine.holding_a_connection(), pytest.raises(sqlalchemy.exc.TimeoutError):
            engine.row("SELECT 1")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_says_nothing_is_given_up_after_connect_timeout_on_every_stack(silent_port: int) -> None:
    by_settings = f"postgresql://u:{PASSWORD_IN_URL}@127.0.0.1:{silent_port}/db?sslmode=disable"
    url = f"{by_settings}&connect_timeout=2"

    def connect(stack: str, url: str, timeout_s: int) -> BaseException:
        with pytest.raises((sqlalchemy.exc.DBAPIError, TimeoutError)) as failed:
            ask(stack, url, "SELECT 1", Settings(connect_timeout_s=timeout_s))
        return failed.value

    def check() -> DbkitError:
        with pytest.raises(DbkitError, match="timeout expired") as failed:
            check_server(DatabaseUrl.parse(url))
        return failed.value

    with ThreadPoolExecutor() as pool:
        failures = [pool.submit(connect, stack, url, 10_000) for stack in STACKS]  # which would take too long
        failures += [pool.submit(connect, stack, by_settings, 2) for stack in STACKS]
        checked = pool.submit(check)
        assert all(PASSWORD not in str(failure.result()) for failure in failures)
        assert PASSWORD not in str(checked.result())


# What a server says of itself, and why it cannot be used


def test_a_server_is_asked_for_its_version_and_connections(seeded_url: str) -> None:
    with psycopg.connect(seeded_url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    info = check_server(DatabaseUrl.parse(seeded_url))
    assert row == (info.version,)
    assert info.connections_allowed == 97  # PostgreSQL's own defaults: 100, 3 of them for superusers


def test_the_shortest_round_trip_is_as_long_as_the_way_to_the_server(seeded_url: str) -> None:
    near_ms = shortest_round_trip_ms(DatabaseUrl.parse(seeded_url))
    with wire_proxy(upstream_of(seeded_url), delay_ms=60.0) as proxy:
        far_ms = shortest_round_trip_ms(DatabaseUrl.parse(proxy.url(seeded_url)))
    assert 0 < near_ms < 60 <= far_ms


@pytest.mark.parametrize(("change", "said"), [
    ({"netloc": "tester:wr0ng@127.0.0.1:{port}"}, "check user and password"),
    ({"netloc": "nobody_here:wr0ng@127.0.0.1:{port}"}, "check user and password"),
    ({"path": "/nothing_here"}, "create it with createdb"),
    ({"netloc": "tester:wr0ng@127.0.0.1:1"}, "is the server running there?"),
    ({"netloc": "tester:wr0ng@nowhere.invalid:1"}, "is the server running there?"),
    ({"netloc": "tester:wr0ng@127.0.0.1:{port}", "query": "sslmode=bogus"}, "sslmode"),
    ({"netloc": "tester:wr0ng@an..empty.label:1"}, "check the URL"),
    ({"netloc": f"tester:wr0ng@{'long' * 16}:1"}, "check the URL"),
    ({"netloc": "tester:wr0ng@", "query": "host=/nowhere"}, "is the server running there?"),
])  # fmt: skip
def test_a_server_that_cannot_be_used_is_an_error_of_one_line_with_a_hint(
    password_url: str, tcp_port: int, change: dict[str, str], said: str
) -> None:
    parts = {name: text.format(port=tcp_port) for name, text in change.items()}
    database = DatabaseUrl.parse(urlsplit(password_url)._replace(**parts).geturl())
    with pytest.raises(DbkitError) as refused:
        check_server(database)
    message = str(refused.value)
    assert message.isprintable()
    assert said in message
    assert "--database-url or DBKIT_DATABASE_URL" in message
    assert "wr0ng" not in message
    assert PASSWORD not in message


# URLs that are refused


@pytest.mark.parametrize(("text", "said"), [
    ("mysql://u:s3cret@h/db", "'mysql'"),
    ("sqlite:///todos.db", "'sqlite'"),
    ("postgresqlx://h/db", "'postgresqlx'"),
    ("", "malformed"),
    ("s3cret", "malformed"),
    ("postgresql", "malformed"),
    ("postgresql:/h/db", "malformed"),
    ("postgresql://u:s3cret", "malformed"),  # no host: what follows the colon is taken for a port
    ("postgresql://u:s3cret@h:port/db", "malformed"),
    ("host=h user=u password=s3cret", "malformed"),
    ("postgresql://u:s3cret@h:70000/db", "port"),
    ("postgresql://u:s3cret@h:-1/db", "port"),
    ("postgresql://u:s3cret@h/db?port=70000", "port"),
    ("postgresql://u:s3cret@h/db?port=x", "port"),
    ("postgresql://u:s3cret@h/db?connect_timeout=soon", "connect_timeout"),
    ("postgresql://u:s3cret@h/db?connect_timeout=-1", "connect_timeout"),
    ("postgresql://u:s3cret@h/db?keepalives=2", "expected an integer from 0 to 1"),
    ("postgresql://u:s3cret@h/db?keepalives_idle=32768", "expected an integer from 0 to 32767"),
    ("postgresql://u:s3cret@h/db?tcp_user_timeout=2s", "tcp_user_timeout"),
    ("postgresql://u:s3cret@h/db?connect_timeout=" + "9" * 5000, "connect_timeout"),
    ("postgresql://u:s3cret@h1,h2/db", "several hosts"),
    ("postgresql://u:s3cret@/db?host=h1,h2", "several hosts"),
    ("postgresql://u:s3cret@h/db?host=h1&host=h2", "'host' more than once"),
    ("postgresql://u:s3cret@h/db?ssl=disable&sslmode=require", "more than once"),
    ("postgresql://u:s3cret@h/db?prepared_statement_cache_size=0", "'prepared_statement_cache_size'"),
    ("postgresql://u:s3cret@h/db?command_timeout=1", "'command_timeout'"),
    ("postgresql://u:s3cret@h/db?gssencmode=disable", "'gssencmode'"),
    ("postgresql://u:s3cret@h/db?hostaddr=127.0.0.1", "'hostaddr'"),
    ("postgresql://u:s3cret@h/db?pasword=s3cret", "'pasword'"),
    ("postgresql://u:s3cret@rest@h/db", "%40"),
    ("postgresql://u:s3cret@rest@h:5432/db", "%40"),
    ("postgresql://u:a@s3cret/rest@h/db", "%40"),
    ("postgresql://u:a@b/s3cret@h/db", "%40"),
    ("postgresql://u:a@b?s3cret@h/db", "%40"),
])  # fmt: skip
def test_a_url_that_could_mean_two_things_is_refused_without_its_password(text: str, said: str) -> None:
    reason = refusal(text)
    assert said in reason
    assert "s3cret" not in reason


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\udce9"])
@pytest.mark.parametrize("text", ["postgresql://u:s3cret@h/d{}b", "postgresql://u{}:s3cret@h/db",
                                  "postgresql://u:s3cret@h{}/db", "postgresql://u:s3cret{}@h/db"])  # fmt: skip
def test_characters_that_no_url_holds_are_refused(text: str, character: str) -> None:
    # \udce9 is what Python makes of a Latin-1 é in the environment
    assert "s3cret" not in refusal(text.format(character))


@pytest.mark.parametrize("text", ["postgresql://u:s3cret@h/d%00b", "postgresql://u%00:s3cret@h/db",
                                  "postgresql://u:s3cret@h%00/db", "postgresql://u:s3cret%00@h/db",
                                  "postgresql://u:s3cret@h/db?application_name=%00"])  # fmt: skip
def test_a_null_character_which_would_cut_a_name_short_is_refused(text: str) -> None:
    assert "s3cret" not in refusal(text)


# What a URL leaves out


def test_what_a_url_leaves_out_follows_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbkit.database.url.SOCKET_FOLDERS", ())
    monkeypatch.setenv("LOGNAME", "somebody")
    database = DatabaseUrl.parse("postgresql://")
    assert (database.host, database.port, database.user, database.database) == (
        "localhost",
        5432,
        "somebody",
        "somebody",
    )
    assert database.password is None
    assert DatabaseUrl.parse("postgresql://me@h").database == "me"
    assert DatabaseUrl.parse("postgresql://[::1]:6543/db").host == "::1"


def test_a_local_server_is_found_by_its_socket(seeded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = DatabaseUrl.parse(seeded_url)
    monkeypatch.setattr("dbkit.database.url.SOCKET_FOLDERS", ("/nowhere", server.host))
    assert DatabaseUrl.parse(f"postgresql://:{server.port}/db").host == server.host


# Whatever is typed

MARKER = "s3cr3tMarker"
texts = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates too
separators = st.sampled_from(["://", *":@/?&=,[]%# ;+", "%40", "%00", "%0A"])
words = st.sampled_from(
    ["postgresql", "postgres", "postgresql+asyncpg", "mysql", "user", "host", "port", "5432", "password", "dbname",
     "sslmode", "ssl", "options", "connect_timeout", "keepalives_idle", "application_name", "async",
     "1", "-1", "²", "9" * 5000, "::1", "pooler", "session"]
)  # fmt: skip
url_like = st.lists(separators | words | texts, max_size=14).map("".join)
headed = st.builds("postgresql://{}".format, url_like)


def test_a_socket_in_a_folder_with_a_space_is_shown_as_libpq_reads_it() -> None:
    shown = str(DatabaseUrl.parse("postgresql://someone@/shop?host=/tmp/a folder&port=5433"))
    assert shown == "postgresql://someone@/shop?host=/tmp/a%20folder&port=5433"
    assert conninfo_to_dict(shown)["host"] == "/tmp/a folder"


@hostile
@given(texts | url_like | headed)
@example("postgresql://[")
@example("postgresql://[]/")
@example("postgresql://h:²/")
@example("postgresql://h/d%0Ab")
def test_any_text_is_a_database_or_a_mistake_of_one_line(text: str) -> None:
    try:
        database = DatabaseUrl.parse(text)
    except DbkitError as mistake:
        assert str(mistake).isprintable()
        return
    assert str(database).isprintable()
    for stack in STACKS:
        STACKS[stack].connect_args(database, Settings(statement_timeout_s=1))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.sampled_from(["in", "behind"]))
def test_a_percent_encoded_password_arrives_as_it_is_and_is_shown_nowhere(rest: str, place: str) -> None:
    password = MARKER + rest
    encoded = quote(password, safe="")
    database = DatabaseUrl.parse(
        f"postgresql://user:{encoded}@host:5432/db"
        if place == "in"
        else f"postgresql://user@host:5432/db?password={encoded}"
    )
    for stack in STACKS:
        arguments = STACKS[stack].connect_args(database, Settings())
        assert arguments["password"] == password
        assert MARKER not in str({key: value for key, value in arguments.items() if key != "password"})
    assert (database.user, database.host, database.port, database.database) == ("user", "host", 5432, "db")
    assert MARKER not in f"{database} {database!r}"


@given(
    st.lists(st.text(string.punctuation + string.digits + "é ", max_size=3), min_size=2, max_size=4),
    st.sampled_from(
        [
            "postgresql://user:{}@host:5432/db",
            "postgresql+asyncpg://user:{}@host/db?sslmode=disable",
            "postgresql://user@host/db?password={}",
            "postgresql://user@host/db?sslpassword={}",
            "postgresql://host?password={}",
            "postgresql://host:5432?password={}",
            "postgresql://user:{}@/db?host=/tmp",
        ]
    ),
)
@example(["", "@", "/", ""], "postgresql://user:{}@host:5432/db")
@example(["", "@", "?", "="], "postgresql://user:{}@host:5432/db")
@example(["", "@"], "postgresql://host?password={}")
def test_no_part_of_a_password_that_was_not_encoded_is_shown(between: list[str], form: str) -> None:
    password = MARKER.join(between)
    # in a query, what follows an & is the next key, and a key that is not known is named
    assume("&" not in password or not form.endswith("={}"))
    try:
        database = DatabaseUrl.parse(form.format(password))
    except DbkitError as mistake:
        shown = str(mistake)
    else:
        shown = f"{database} {database!r}"
    assert MARKER not in shown


def test_a_password_that_was_not_encoded_is_the_password_or_refused() -> None:
    """Never another host: the password would be sent there, or a part of it looked up as a name."""
    for left, separator, right in itertools.product("ab", string.punctuation, "yz"):
        try:
            database = DatabaseUrl.parse(f"postgresql://user:{left}{separator}{right}@host:5432/db")
        except DbkitError:
            continue
        assert (database.host, database.database, database.user) == ("host", "db", "user")


@given(
    user=st.text("uU%@:/é ", min_size=1, max_size=8),
    database=st.text("dD%?é ", min_size=1, max_size=8),
    application_name=st.text("aA&=+é ", max_size=8),
    options=st.text("-c =&%", max_size=8),
)
def test_percent_encoded_parts_arrive_as_they_are(
    user: str, database: str, application_name: str, options: str
) -> None:
    text = f"postgresql://{quote(user, safe='')}@h/{quote(database, safe='')}"
    parsed = DatabaseUrl.parse(with_query(text, **({"application_name": application_name} if application_name else {}),
                                          **({"options": options} if options else {})))  # fmt: skip
    assert parsed.user == user
    assert parsed.database == database
    assert parsed.application_name == application_name or not application_name
    assert parsed.options == options
