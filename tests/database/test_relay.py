"""The relay: it keeps bytes and their order, makes round trips longer, holds nothing for long, and leaves nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from dbkit.database.relay import Relay, Relays
from dbkit.database.server import ServerProcesses, shortest_round_trip_ms
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.paging import STRATEGIES
from tests import waiting
from tests.locust_runs import DEADLINE_S, REPOSITORY, free_port
from tests.stacks import DEFAULT_SETTINGS, open_stack
from tests.wire import upstream_of, wire_proxy

PROGRAM = REPOSITORY / "dbkit" / "database" / "relay_process.py"
AWAY_S = 0.05


@contextmanager
def relay_to(url: str, round_trip_s: float = AWAY_S) -> Iterator[Relay]:
    relay = Relay(DatabaseUrl.parse(url), round_trip_s)
    try:
        yield relay
    finally:
        relay.stop()


wait_until = partial(waiting.wait_until, deadline_s=DEADLINE_S)


# To a server


def test_round_trips_take_so_much_longer(each_url: str) -> None:
    near_ms = shortest_round_trip_ms(DatabaseUrl.parse(each_url))
    with relay_to(each_url) as relay:
        far_ms = shortest_round_trip_ms(relay.database)
    assert far_ms - near_ms > 0.9 * AWAY_S * 1000


@pytest.mark.parametrize("stack", STACKS)
def test_pages_are_the_same_through_it_on_every_stack(each_url: str, stack: str) -> None:
    with relay_to(each_url, 0.001) as relay:
        pages = []
        for database in (DatabaseUrl.parse(each_url), relay.database):
            with open_stack(stack, database, DEFAULT_SETTINGS) as engine:
                pages.append(engine.read(STRATEGIES["selectin"], 3, 20)[0])
    assert pages[0] == pages[1]
    assert pages[0]


@pytest.mark.parametrize("stack", STACKS)
def test_bytes_are_those_on_the_wire(seeded_url: str, stack: str) -> None:
    with (
        wire_proxy(upstream_of(seeded_url)) as proxy,
        relay_to(proxy.url(seeded_url), 0) as relay,
        open_stack(stack, relay.database, DEFAULT_SETTINGS) as engine,
    ):
        engine.connect()
        for function, page in itertools.product(STRATEGIES.values(), range(8)):
            wire, counted = proxy.counts().bytes_from_server, relay.bytes_from_server()
            engine.read(function, page, 20)
            assert relay.bytes_from_server() - counted == proxy.counts().bytes_from_server - wire > 0


def test_a_folder_for_temporary_files_may_be_too_long_for_a_socket(
    seeded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deep := tmp_path / ("d" * 100)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with relay_to(seeded_url, 0.0) as relay:
        assert shortest_round_trip_ms(relay.database) > 0
    assert [*deep.iterdir()] == []


def test_one_is_started_for_each_distance_and_kept(seeded_url: str) -> None:
    relays, server = Relays(), DatabaseUrl.parse(seeded_url)
    try:
        near, far = relays.to(server, 0.001), relays.to(server, 0.02)
        assert relays.to(server, 0) == server
        assert relays.to(server, 0.001) == near != far != server
        assert shortest_round_trip_ms(near) < shortest_round_trip_ms(far)
        assert relays.cpu_s() > 0
    finally:
        relays.stop()
    assert relays.cpu_s() == 0


def test_the_server_behind_it_is_found(seeded_url: str) -> None:
    with relay_to(seeded_url, 0.001) as relay:
        assert ServerProcesses.find(relay.database) is not None


def test_a_server_that_cannot_be_reached_is_an_error_of_one_line() -> None:
    with pytest.raises(DbkitError) as refused:
        Relay(DatabaseUrl.parse(f"postgresql://user@127.0.0.1:{free_port()}/shop"), AWAY_S)
    assert "cannot" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_in_a_certificate_cannot_be_verified_through_it() -> None:
    with pytest.raises(DbkitError, match="sslmode=verify-ca"):
        Relay(DatabaseUrl.parse("postgresql://user@db.example/shop?sslmode=verify-full"), AWAY_S)


# Its bytes


@pytest.fixture(params=["socket", "tcp"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A server of the test's own."""
    if request.param == "socket":
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(tmp_path / "server"))
    else:
        made = socket.socket()
        made.bind(("127.0.0.1", 0))
    with closing(made):
        made.listen(100)
        yield made


@contextmanager
def process(listener: socket.socket, folder: Path, delay_s: float = 0.005) -> Iterator[Callable[[], socket.socket]]:
    """A relay to the listener; what makes connections to it."""
    import json

    is_socket = listener.family == socket.AF_UNIX
    at = str(folder / "of its own" / "relay") if is_socket else ["127.0.0.1", 0]
    if is_socket:
        (folder / "of its own").mkdir()
    command = [sys.executable, "-I", str(PROGRAM), json.dumps([at, listener.getsockname(), delay_s])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        address = json.loads(started.stdout.readline())

        def connect() -> socket.socket:
            made = socket.socket(listener.family)
            made.settimeout(DEADLINE_S)
            made.connect(address if is_socket else tuple(address))
            return made

        try:
            yield connect
        finally:
            started.stdin.close()
            assert started.wait(DEADLINE_S) == 0
    assert not (folder / "of its own").exists()


def everything_from(connection: socket.socket) -> bytes:
    """All bytes until the end."""
    blocks = []
    while block := connection.recv(2**20):
        blocks.append(block)
    return b"".join(blocks)


def test_bytes_keep_their_order_both_ways_on_many_connections(listener: socket.socket, tmp_path: Path) -> None:
    """Each client sends and ends; the server answers with what it got, reversed, and ends."""
    chance = random.Random(1)
    messages = [chance.randbytes(chance.choice((1, 1000, 300_000))) for _ in range(20)]

    def answer(connection: socket.socket) -> None:
        with closing(connection):
            connection.settimeout(DEADLINE_S)
            connection.sendall(everything_from(connection)[::-1])

    def serve() -> None:
        for _ in messages:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with process(listener, tmp_path) as connect:
        clients = [connect() for _ in messages]
        for client, message in zip(clients, messages, strict=True):
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
        for client, message in zip(clients, messages, strict=True):
            with closing(client):
                assert everything_from(client) == message[::-1]


def test_what_comes_in_pieces_arrives_in_their_order(listener: socket.socket, tmp_path: Path) -> None:
    pieces = [bytes([number]) * (number + 1) for number in range(200)]
    with process(listener, tmp_path, 0.001) as connect, closing(connect()) as client:
        server = listener.accept()[0]
        server.settimeout(DEADLINE_S)
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.0002)
        client.shutdown(socket.SHUT_WR)
        with closing(server):
            assert everything_from(server) == b"".join(pieces)


def test_who_does_not_read_holds_up_who_sends(listener: socket.socket, tmp_path: Path) -> None:
    """A relay that took all of it would need all of its memory."""
    block, sent = os.urandom(2**20), 0
    with process(listener, tmp_path) as connect, closing(connect()) as client:
        server = listener.accept()[0]
        server.settimeout(2.0)
        digest = hashlib.sha256()
        with suppress(TimeoutError):
            while sent < 2**27:
                count = server.send(block)
                digest.update(block[:count])
                sent += count
        assert 2**20 < sent < 2**26
        server.shutdown(socket.SHUT_WR)
        received = everything_from(client)
        server.close()
    assert len(received) == sent
    assert hashlib.sha256(received).digest() == digest.digest()


def test_a_connection_that_breaks_off_is_broken_off_on_the_other_side(listener: socket.socket, tmp_path: Path) -> None:
    with process(listener, tmp_path) as connect:
        for _ in range(3):
            client = connect()
            server = listener.accept()[0]
            server.settimeout(DEADLINE_S)
            client.sendall(b"before")
            assert server.recv(100) == b"before"
            client.close()
            assert server.recv(100) == b""
            server.close()
        with closing(connect()) as client:
            listener.accept()[0].close()
            assert client.recv(100) == b""


def test_where_the_server_has_gone_a_connection_ends_at_once(tmp_path: Path) -> None:
    with closing(socket.socket()) as gone:
        gone.bind(("127.0.0.1", 0))
        with process(gone, tmp_path) as connect, closing(connect()) as client, suppress(ConnectionError):
            assert client.recv(100) == b""


# Its end


def test_it_ends_with_the_process_that_started_it_however_that_ends(seeded_url: str) -> None:
    program = (
        "import sys, time; from dbkit.database.relay import Relay; from dbkit.database.url import DatabaseUrl\n"
        "relay = Relay(DatabaseUrl.parse(sys.argv[1]), 0.001); print(relay.database.host, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, seeded_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as starter:
        assert starter.stdout is not None
        folder = Path(starter.stdout.readline().strip())
        [relay] = psutil.Process(starter.pid).children()
        assert folder.stat().st_mode & 0o777 == 0o700
        starter.send_signal(signal.SIGKILL)
    wait_until(lambda: not relay.is_running() or relay.status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: not folder.exists())


def test_where_it_cannot_listen_it_says_so_in_a_line(tmp_path: Path) -> None:
    at = str(tmp_path / ("long" * 40))
    command = [sys.executable, "-I", str(PROGRAM), json.dumps([at, "/nowhere", 0])]
    run = subprocess.run(command, input="", capture_output=True, text=True, timeout=DEADLINE_S)
    assert run.returncode == 1
    assert run.stdout == ""
    [line] = run.stderr.splitlines()
    assert line.startswith(f"dbkit: the relay of --round-trip cannot listen at {at}: ")
