"""The counting proxy against truths known from the protocol: it is the witness, so nothing here asks dbkit."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests import waiting
from tests.wire import Tally, WireCounts, WireProxy, upstream_of, wire_proxy

Connection = psycopg.Connection[tuple[Any, ...]]
DEADLINE_S = 30
NOTHING = WireCounts(0, 0, 0, 0, 0, 0, 0, 0, 0)


def counts(**named: int) -> WireCounts:
    """The counts named, and nothing else: what a test leaves out must not have happened."""
    return WireCounts(**{**asdict(NOTHING), **named})


def seen(proxy: WireProxy, action: Callable[[], object]) -> WireCounts:
    before = proxy.counts()
    action()
    return proxy.counts() - before


wait_until = partial(waiting.wait_until, deadline_s=DEADLINE_S)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def proxy(server_url: str) -> Iterator[WireProxy]:
    with wire_proxy(upstream_of(server_url)) as running:
        yield running


@pytest.fixture
def url(proxy: WireProxy, server_url: str) -> str:
    return proxy.url(server_url)


@pytest.fixture
def direct(server_url: str) -> Iterator[Connection]:
    """A connection past the proxy, to look at the server itself."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        yield connection


# psycopg


def test_psycopg_login_is_one_connection_and_no_round_trip(proxy: WireProxy, url: str) -> None:
    assert seen(proxy, lambda: psycopg.connect(url).close()) == counts(connections=1)


def test_a_refused_login_is_not_a_connection(proxy: WireProxy, url: str) -> None:
    def connect() -> None:
        with pytest.raises(psycopg.OperationalError, match="no_such_database"):
            psycopg.connect(url, dbname="no_such_database")

    assert seen(proxy, connect) == NOTHING


def test_psycopg_statement_in_autocommit_is_one_round_trip(proxy: WireProxy, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        simple = seen(proxy, lambda: connection.execute("select 1").fetchall())
        extended = seen(proxy, lambda: connection.execute("select %s", [1]).fetchall())
    assert simple == counts(statements=1, round_trips=1, rows=1)
    assert extended == counts(statements=1, round_trips=1, rows=1)  # Parse, Bind, Describe, Execute, Sync in one burst


def test_bytes_of_a_statement_are_those_of_its_messages(proxy: WireProxy, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        one = seen(proxy, lambda: connection.execute("select 1").fetchall())
    assert one.bytes_to_server == len(b"Q....select 1.")
    row_description = len(b"T....nn?column?.ttttccttttssmmmmff")
    data_row, command_complete, ready = len(b"D....nnllll1"), len(b"C....SELECT 1."), len(b"Z....I")
    assert one.bytes_from_server == row_description + data_row + command_complete + ready


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_psycopg_transaction_is_three_round_trips(proxy: WireProxy, url: str, end: str) -> None:
    with psycopg.connect(url) as connection:

        def transaction() -> None:
            connection.execute("select 1")
            getattr(connection, end)()

        assert seen(proxy, transaction) == counts(statements=1, round_trips=3, rows=1, begins=1, **{f"{end}s": 1})


def test_psycopg_prepare_is_a_round_trip_once_until_rollback_drops_it(proxy: WireProxy, url: str) -> None:
    with psycopg.connect(url) as connection:

        def execute() -> None:
            connection.execute("select %s::int", [1], prepare=True)

        execution = counts(statements=1, round_trips=1, rows=1)
        connection.execute("select 1")  # opens the transaction
        assert seen(proxy, execute) - execution == counts(prepares=1, round_trips=1)
        assert seen(proxy, execute) == execution
        connection.commit()
        connection.execute("select 1")
        assert seen(proxy, execute) == execution
        assert seen(proxy, connection.rollback) == counts(rollbacks=1, deallocates=1, round_trips=2)


def test_failed_statement_is_a_round_trip_and_not_a_statement(proxy: WireProxy, url: str) -> None:
    with psycopg.connect(url) as connection:

        def fail() -> None:
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("select 1 / %s", [0])

        assert seen(proxy, fail) == counts(begins=1, round_trips=2)
        # The server answers the COMMIT of a failed transaction with ROLLBACK.
        assert seen(proxy, connection.commit) == counts(rollbacks=1, round_trips=1)


def test_transaction_control_and_settings_are_no_statements(proxy: WireProxy, url: str) -> None:
    script = "start transaction; set local work_mem = '1MB'; savepoint s; rollback to s; release s; reset work_mem; end"
    with psycopg.connect(url, autocommit=True) as connection:
        assert seen(proxy, lambda: connection.execute(script)) == counts(
            round_trips=1, begins=1, rollbacks=1, commits=1
        )
        assert seen(proxy, lambda: connection.execute("")) == counts(round_trips=1, statements=1)  # an empty query
        assert seen(proxy, lambda: connection.execute("select 1; select 2")) == counts(
            round_trips=1, statements=2, rows=2
        )


def test_copy_is_two_round_trips_in_and_one_out_and_its_lines_are_no_rows(proxy: WireProxy, url: str) -> None:
    lines = 20_000
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create temp table numbers (n int)")

        def copy_in() -> None:
            with connection.cursor().copy("copy numbers from stdin") as copy:
                for n in range(lines):
                    copy.write_row([n])

        def copy_out() -> None:
            with connection.cursor().copy("copy numbers to stdout") as copy:
                assert sum(1 for _ in copy.rows()) == lines

        assert seen(proxy, copy_in) == counts(statements=1, round_trips=2)
        assert seen(proxy, copy_out) == counts(statements=1, round_trips=1)


def test_psycopg_reads_a_declared_statement_in_parts(proxy: WireProxy, url: str) -> None:
    with psycopg.connect(url) as connection:
        cursor = connection.cursor("parts")

        def declare() -> None:
            cursor.execute("select generate_series(1, 5)")

        assert seen(proxy, declare) == counts(statements=1, round_trips=3, begins=1)  # BEGIN, DECLARE, Describe
        assert seen(proxy, lambda: cursor.fetchmany(3)) == counts(round_trips=1, rows=3)
        assert seen(proxy, cursor.fetchall) == counts(round_trips=1, rows=2)
        assert seen(proxy, cursor.close) == counts(round_trips=1)


def test_libpq_own_trace_agrees_message_by_message(proxy: WireProxy, url: str, tmp_path: Path) -> None:
    def session() -> None:
        for n in range(7):  # psycopg prepares a statement at its sixth execution
            connection.execute("select * from generate_series(1, %s)", [n])
        connection.commit()
        for n in range(7):
            connection.execute("select 'BEGIN COMMIT DataRow', %s::int", [n])
        connection.rollback()
        connection.execute("select 1")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select * from no_such_table")
        connection.rollback()

    with psycopg.connect(url) as connection, (tmp_path / "trace").open("w+b") as trace:
        connection.pgconn.trace(trace.fileno())
        connection.pgconn.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)
        counted = seen(proxy, session)
        connection.pgconn.untrace()
        trace.seek(0)
        messages = [line.decode().rstrip("\n").split("\t") for line in trace]

    senders = [message[0] for message in messages]
    tags = [message[3].strip().strip('"').split()[0] for message in messages if message[2] == "CommandComplete"]
    controls = {"BEGIN": "begins", "COMMIT": "commits", "ROLLBACK": "rollbacks", "DEALLOCATE": "deallocates"}
    assert counted == counts(
        round_trips=sum(pair == ("F", "B") for pair in itertools.pairwise(senders)),
        rows=sum(message[2] == "DataRow" for message in messages),
        prepares=sum(message[2] == "Parse" and not message[3].startswith(' ""') for message in messages),
        statements=sum(tag not in controls for tag in tags),
        **{name: tags.count(tag) for tag, name in controls.items()},
    )
    assert 0 not in astuple(counted - counts(connections=-1))  # the session showed the proxy something of everything


# asyncpg


def test_asyncpg_prepares_in_a_round_trip_of_its_own_and_once(proxy: WireProxy, url: str) -> None:
    async def main() -> None:
        before = proxy.counts()
        connection = await asyncpg.connect(url)
        readings = [proxy.counts()]
        for _ in range(2):
            assert await connection.fetch("select $1::int", 1) == [(1,)]
            readings.append(proxy.counts())
        await connection.close()
        assert readings[0] - before == counts(connections=1)
        assert readings[1] - readings[0] == counts(statements=1, round_trips=2, rows=1, prepares=1)
        assert readings[2] - readings[1] == counts(statements=1, round_trips=1, rows=1)

    asyncio.run(main())


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_asyncpg_transaction_is_three_round_trips(proxy: WireProxy, url: str, end: str) -> None:
    async def main() -> WireCounts:
        connection = await asyncpg.connect(url)
        await connection.fetch("select 1")  # prepares it
        before = proxy.counts()
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch("select 1")
        await getattr(transaction, end)()
        after = proxy.counts()
        await connection.close()
        return after - before

    assert asyncio.run(main()) == counts(statements=1, round_trips=3, rows=1, begins=1, **{f"{end}s": 1})


def test_asyncpg_failing_statements(proxy: WireProxy, url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(url)
        readings = [proxy.counts()]
        with pytest.raises(asyncpg.UndefinedTableError):  # fails in the prepare, so that there is nothing to execute
            await connection.fetch("select * from no_such_table")
        readings.append(proxy.counts())
        with pytest.raises(asyncpg.DivisionByZeroError):  # fails in the execution
            await connection.fetch("select 1 / $1::int", 0)
        readings.append(proxy.counts())
        await connection.close()
        # After an error in the prepare asyncpg sends a Sync, and waits for that as well.
        assert readings[1] - readings[0] == counts(round_trips=2, prepares=1)
        assert readings[2] - readings[1] == counts(round_trips=2, prepares=1)

    asyncio.run(main())


def test_asyncpg_reads_a_portal_in_parts(proxy: WireProxy, url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            statement = await connection.prepare("select generate_series(1, 5)")
            readings = [proxy.counts()]
            one = await statement.cursor()
            readings.append(proxy.counts())
            assert len(await one.fetch(3)) == 3  # the server answers PortalSuspended
            readings.append(proxy.counts())
            other = await statement.cursor()
            assert len(await other.fetch(4)) == 4
            assert len(await one.fetch(3)) == 2  # CommandComplete
            readings.append(proxy.counts())
        await connection.close()
        assert readings[1] - readings[0] == counts(statements=1, round_trips=1)
        assert readings[2] - readings[1] == counts(round_trips=1, rows=3)
        assert readings[3] - readings[2] == counts(statements=1, round_trips=3, rows=6)

    asyncio.run(main())


def test_a_portal_that_fails_leaves_later_counts_right(proxy: WireProxy, url: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(url)
        readings = []
        statement = await connection.prepare("select $1::int / n from generate_series(0, 1) n")
        for _ in range(2):
            readings.append(proxy.counts())
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await (await statement.cursor(1)).fetch(1)
        readings.append(proxy.counts())
        await connection.fetch("select 1")
        readings.append(proxy.counts())
        await connection.close()
        failed = counts(statements=1, round_trips=4, begins=1, rollbacks=1)  # the portal was there
        assert [readings[1] - readings[0], readings[2] - readings[1]] == [failed] * 2
        assert readings[3] - readings[2] == counts(statements=1, round_trips=2, rows=1, prepares=1)

    asyncio.run(main())


# Many rows, many parameters, many connections


@pytest.mark.parametrize("rows", [0, 1, 10_000])
def test_result_of_any_size_is_one_round_trip(proxy: WireProxy, url: str, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        query = f"select n, repeat('x', 100) from generate_series(1, {rows}) n"
        assert seen(proxy, lambda: connection.execute(query).fetchall()) == counts(
            statements=1, round_trips=1, rows=rows
        )


def test_one_message_of_many_megabytes_passes_both_ways(proxy: WireProxy, url: str) -> None:
    value = "x" * 20_000_000

    def echo() -> None:
        assert connection.execute("select %s::text", [value]).fetchall() == [(value,)]

    with psycopg.connect(url, autocommit=True) as connection:
        assert seen(proxy, echo) == counts(statements=1, round_trips=1, rows=1)


def test_executemany_is_a_statement_a_parameter_set(proxy: WireProxy, url: str) -> None:
    parameter_sets = [(n,) for n in range(1_000)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create temp table numbers (n int)")
        by_psycopg = seen(
            proxy, lambda: connection.cursor().executemany("insert into numbers values (%s)", parameter_sets)
        )

    async def main() -> WireCounts:
        connection = await asyncpg.connect(url)
        await connection.execute("create temp table numbers (n int)")
        before = proxy.counts()
        await connection.executemany("insert into numbers values ($1)", parameter_sets)
        after = proxy.counts()
        await connection.close()
        return after - before

    assert by_psycopg.statements == len(parameter_sets)
    # asyncpg: a prepare, then one burst with one Sync at its end, whatever the server says before that.
    assert asyncio.run(main()) == counts(statements=len(parameter_sets), round_trips=2, prepares=1)


def test_an_answer_received_is_an_answer_counted(proxy: WireProxy, url: str) -> None:
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(300):
            assert seen(proxy, lambda: connection.execute("select 1")) == counts(statements=1, round_trips=1, rows=1)


def test_many_connections_at_once_lose_no_count(proxy: WireProxy, url: str) -> None:
    clients, statements = 20, 25

    def by_psycopg(_: int) -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            for _ in range(statements):
                connection.execute("select * from generate_series(1, 3)").fetchall()

    async def by_asyncpg() -> None:
        async def client() -> None:
            connection = await asyncpg.connect(url)
            for _ in range(statements):
                await connection.fetch("select * from generate_series(1, 3)")
            await connection.close()

        await asyncio.gather(*(client() for _ in range(clients)))

    def both() -> None:
        with ThreadPoolExecutor(clients) as threads:
            results = threads.map(by_psycopg, range(clients))
            asyncio.run(by_asyncpg())
            list(results)

    executed = 2 * clients * statements
    assert seen(proxy, both) == counts(
        connections=2 * clients,
        statements=executed,
        round_trips=executed + clients,
        rows=3 * executed,
        prepares=clients,
    )


# SQLAlchemy, whose connections are the ones that matter


def warm_sqlalchemy(url: str, driver: str, isolation_level: str | None, proxy: WireProxy) -> WireCounts:
    """What `select 1` in a connection block costs the second time, on a pooled connection."""
    options: dict[str, Any] = {} if isolation_level is None else {"isolation_level": isolation_level}
    driver_url = url.replace("postgresql://", f"postgresql+{driver}://")
    readings = []
    if driver == "psycopg":
        engine = create_engine(driver_url, **options)
        for _ in range(2):
            with engine.connect() as connection:
                assert connection.execute(text("select 1")).scalar_one() == 1
            readings.append(proxy.counts())
        engine.dispose()
    else:

        async def main() -> None:
            engine = create_async_engine(driver_url, **options)
            for _ in range(2):
                async with engine.connect() as connection:
                    assert (await connection.execute(text("select 1"))).scalar_one() == 1
                readings.append(proxy.counts())
            await engine.dispose()

        asyncio.run(main())
    return readings[1] - readings[0]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_warm_sqlalchemy_block_is_three_round_trips_and_one_in_autocommit(
    proxy: WireProxy, url: str, driver: str
) -> None:
    statement = counts(statements=1, round_trips=1, rows=1)
    assert warm_sqlalchemy(url, driver, None, proxy) - statement == counts(begins=1, rollbacks=1, round_trips=2)
    assert warm_sqlalchemy(url, driver, "AUTOCOMMIT", proxy) == statement


# A client that speaks the protocol by hand


class RawClient:
    """A client that sends chosen messages in chosen segments."""

    def __init__(self, proxy: WireProxy, server_url: str) -> None:
        with psycopg.connect(server_url) as connection:
            user, database = connection.info.user, connection.info.dbname
        self.socket = socket.create_connection((proxy.host, proxy.port), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"".join(part.encode() + b"\0" for part in ("user", user, "database", database, ""))
        self.socket.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
        self.read_until(b"Z")

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def send_in_single_bytes(self, *messages: bytes) -> None:
        for byte in b"".join(messages):
            self.socket.sendall(bytes([byte]))

    def read_until(self, last: bytes) -> list[bytes]:
        """The types of the messages up to the first of type `last`."""
        kinds: list[bytes] = []
        while last not in kinds:
            head = self._read(5)
            kinds.append(head[:1])
            self._read(int.from_bytes(head[1:], "big") - 4)
        return kinds

    def _read(self, size: int) -> bytes:
        data = self.socket.recv(size, socket.MSG_WAITALL)
        assert len(data) == size
        return data


def message(kind: bytes, payload: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(payload) + 4) + payload


def parse(name: bytes, query: bytes) -> bytes:
    return message(b"P", name + b"\0" + query + b"\0" + struct.pack("!H", 0))


def bind(name: bytes) -> bytes:
    return message(b"B", b"\0" + name + b"\0" + struct.pack("!HHH", 0, 0, 0))


def execute(max_rows: int = 0) -> bytes:
    return message(b"E", b"\0" + struct.pack("!I", max_rows))


FLUSH, SYNC = message(b"H"), message(b"S")


@pytest.fixture
def raw(proxy: WireProxy, server_url: str) -> Iterator[RawClient]:
    client = RawClient(proxy, server_url)
    with client.socket:
        yield client


@pytest.mark.parametrize("send", [RawClient.send, RawClient.send_in_single_bytes])
def test_a_burst_is_one_round_trip_in_whatever_segments(
    proxy: WireProxy, raw: RawClient, send: Callable[..., None]
) -> None:
    def conversation() -> None:
        send(raw, parse(b"s", b"select generate_series(1, 5)"), message(b"D", b"Ss\0"), FLUSH)
        raw.read_until(b"T")
        send(raw, bind(b"s"), execute(), SYNC)
        raw.read_until(b"Z")
        send(raw, parse(b"", b"select 1"), bind(b""), execute(), SYNC)
        raw.read_until(b"Z")
        send(raw, message(b"C", b"Ss\0"), SYNC)
        raw.read_until(b"Z")

    assert seen(proxy, conversation) == counts(statements=2, round_trips=4, rows=6, prepares=1, deallocates=1)


def test_a_portal_fetched_in_parts_is_one_statement(proxy: WireProxy, raw: RawClient) -> None:
    def conversation() -> None:
        raw.send(parse(b"", b"select generate_series(1, 5)"), bind(b""), execute(max_rows=3), FLUSH)
        assert raw.read_until(b"s").count(b"D") == 3
        raw.send(execute(), SYNC)
        assert raw.read_until(b"Z").count(b"D") == 2

    assert seen(proxy, conversation) == counts(statements=1, round_trips=2, rows=5)


def test_copy_by_the_extended_protocol_is_two_round_trips(proxy: WireProxy, raw: RawClient) -> None:
    raw.send(message(b"Q", b"create temp table numbers (n int)\0"))
    raw.read_until(b"Z")

    def conversation() -> None:
        raw.send(parse(b"", b"copy numbers from stdin"), bind(b""), execute(), SYNC)  # this Sync is never answered
        raw.read_until(b"G")
        raw.send(*(message(b"d", b"1\n") for _ in range(1_000)), message(b"c"), SYNC)
        raw.read_until(b"Z")

    assert seen(proxy, conversation) == counts(statements=1, round_trips=2)


def test_a_cancel_request_is_passed_on_and_not_counted(proxy: WireProxy, url: str, direct: Connection) -> None:
    def cancelled() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(f"select pg_sleep({10 * DEADLINE_S})")

    def cancel() -> None:
        sleeper = threading.Thread(target=cancelled)
        sleeper.start()
        active = "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
        wait_until(lambda: direct.execute(active, [connection.info.backend_pid]).fetchone() is not None)
        connection.cancel_safe(timeout=DEADLINE_S)
        sleeper.join()

    with psycopg.connect(url, autocommit=True) as connection:
        assert seen(proxy, cancel) == counts(round_trips=1)
        assert seen(proxy, lambda: connection.execute("select 1")).statements == 1


@pytest.mark.parametrize(("rows", "read_until", "state"), [(1, b"Z", "idle"), (100_000_000, b"D", "active")])
def test_a_client_that_vanishes_leaves_no_server_process(
    raw: RawClient, direct: Connection, rows: int, read_until: bytes, state: str
) -> None:
    query = f"select 'vanishing', generate_series(1, {rows}), repeat('x', 1000)"

    def server_process() -> tuple[Any, ...] | None:
        of_query = "select pid from pg_stat_activity where query = %s and state = %s"
        return direct.execute(of_query, [query, state]).fetchone()

    raw.send(message(b"Q", query.encode() + b"\0"))
    raw.read_until(read_until)
    wait_until(lambda: server_process() is not None)
    raw.socket.close()
    wait_until(lambda: server_process() is None)


# A message is a message wherever the stream is cut


CLIENT_MESSAGES = [message(b"Q", b"x\0"), parse(b"s", b"x"), parse(b"", b"x"), bind(b"s"), execute(), FLUSH, SYNC]
SERVER_MESSAGES = [message(b"1"), message(b"Z", b"I"), message(b"D", b"SCZ" * 100), message(b"E", b"D" * 50)] + [
    message(b"C", tag + b"\0") for tag in (b"SELECT 1", b"BEGIN", b"COMMIT", b"ROLLBACK", b"DEALLOCATE ALL", b"SET")
]


@given(
    turns=st.lists(
        st.tuples(st.lists(st.sampled_from(CLIENT_MESSAGES)), st.lists(st.sampled_from(SERVER_MESSAGES))), max_size=8
    ),
    data=st.data(),
)
def test_counts_do_not_depend_on_segmentation(
    turns: list[tuple[list[bytes], list[bytes]]], data: st.DataObject
) -> None:
    def segments(stream: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
        return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    totals = [asdict(NOTHING), asdict(NOTHING)]
    by_message, by_segment = Tally(totals[0]), Tally(totals[1])
    for client, server in turns:
        for sent in client:
            by_message.client_sent(sent)
        for segment in segments(b"".join(client)):
            by_segment.client_sent(segment)
        for sent in server:
            by_message.server_sent(sent)
        for segment in segments(b"".join(server)):
            by_segment.server_sent(segment)
    assert totals[0] == totals[1]


# Delay


def test_each_round_trip_is_delayed_once(server_url: str) -> None:
    """A conversation of short and long bursts and results takes 20 ms a round trip longer at 40 ms than at 20 ms."""
    upstream = upstream_of(server_url)
    with (
        wire_proxy(upstream, delay_ms=20) as near,
        wire_proxy(upstream, delay_ms=40) as far,
        psycopg.connect(near.url(server_url)) as near_connection,
        psycopg.connect(far.url(server_url)) as far_connection,
    ):

        def conversation(connection: Connection) -> None:
            connection.execute("select 1").fetchall()
            connection.execute("select %s, %s", [1, "two"]).fetchall()
            connection.execute("select length(%s)", ["x" * 300_000]).fetchall()  # many segments from the client
            connection.execute("select n, repeat('x', 100) from generate_series(1, 2000) n")  # and from the server
            connection.commit()

        def conversation_ms(connection: Connection) -> float:
            start = time.perf_counter()
            conversation(connection)
            return (time.perf_counter() - start) * 1000

        round_trips = seen(near, lambda: conversation(near_connection)).round_trips
        assert seen(far, lambda: conversation(far_connection)).round_trips == round_trips == 6

        def added_ms() -> float:
            return min(times[far_connection]) - min(times[near_connection])

        # other work of the machine only makes a conversation longer: the shortest ones come to be as they should
        times: dict[Connection, list[float]] = {near_connection: [], far_connection: []}
        expected_ms = pytest.approx(round_trips * 20, rel=0.05)
        deadline = time.monotonic() + DEADLINE_S
        while len(times[near_connection]) < 5 or added_ms() != expected_ms:
            assert time.monotonic() < deadline, added_ms()
            for connection, taken_ms in times.items():
                taken_ms.append(conversation_ms(connection))


# Beginning and end


def test_ends_with_its_block_and_keeps_the_counts_of_closed_connections(server_url: str) -> None:
    with wire_proxy(upstream_of(server_url)) as proxy:
        assert proxy.counts() == NOTHING
        with psycopg.connect(proxy.url(server_url)) as connection:
            connection.execute("select 1")
        assert proxy.counts() == counts(connections=1, statements=1, round_trips=3, rows=1, begins=1, commits=1)
        assert is_listening(proxy.port)
    assert not is_listening(proxy.port)


def test_ends_when_its_parent_is_killed(server_url: str) -> None:
    parent_program = (
        "import sys; from tests.wire import *\n"
        "with wire_proxy(upstream_of(sys.argv[1])) as proxy: print(proxy.port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_program, server_url],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert is_listening(port)
        parent.kill()
    wait_until(lambda: not is_listening(port))


def test_a_server_that_is_not_there_closes_the_connection(tmp_path: Path) -> None:
    with (
        wire_proxy(str(tmp_path / "no_server")) as proxy,
        pytest.raises(psycopg.OperationalError, match="closed the connection"),
    ):
        psycopg.connect(proxy.url("postgresql://nobody@/nothing"))


@pytest.mark.parametrize(
    ("server_url", "upstream"),
    [
        ("postgresql://u@/d?host=/a/b", "/a/b/.s.PGSQL.5432"),
        ("postgresql://u@:6000/d?host=/a/b", "/a/b/.s.PGSQL.6000"),
        ("postgresql://u@/d?host=%2Fa%20b&port=6000", "/a b/.s.PGSQL.6000"),
        ("postgresql://u:p%40@db.example/d", ("db.example", 5432)),
        ("postgresql://u@[::1]:6000/d", ("::1", 6000)),
    ],
)
def test_upstream_of_a_url(server_url: str, upstream: str | tuple[str, int]) -> None:
    assert upstream_of(server_url) == upstream


def test_url_through_the_proxy_keeps_all_but_the_address(proxy: WireProxy) -> None:
    through = proxy.url("postgresql://u:p%40@/d?host=/a/b&port=6000&application_name=x")
    assert through == f"postgresql://u:p%40@127.0.0.1:{proxy.port}/d?application_name=x"
