"""The CPU time of all processes of a server on this machine, as finely as the system counts it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from dbkit.database.server import ServerProcesses
from dbkit.database.url import DatabaseUrl
from tests.locust_runs import DEADLINE_S, POLL_S

LONG = "SELECT count(*) FROM generate_series(1, 3000000) AS number WHERE number % 7 = 3"
TICK_S = 0.01
SHORT_STATEMENTS = 30


@pytest.fixture
def server(server_url: str) -> ServerProcesses:
    found = ServerProcesses.find(DatabaseUrl.parse(server_url))
    assert found is not None
    return found


@pytest.fixture
def connection(server_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server_url, autocommit=True) as opened:
        yield opened


def backend_of(connection: psycopg.Connection) -> psutil.Process:
    return psutil.Process(connection.info.backend_pid)


def ticks_s(processes: list[psutil.Process]) -> float:
    """Their CPU seconds, each to a tick of user and of system time."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def test_it_agrees_with_what_the_system_says_that_a_long_statement_took(
    server: ServerProcesses, connection: psycopg.Connection
) -> None:
    backends = [backend_of(connection)]
    server_s, backend_s = server.cpu_s(), ticks_s(backends)
    connection.execute(LONG)
    burnt_s, used_s = ticks_s(backends) - backend_s, server.cpu_s_since(server_s)
    assert used_s is not None
    assert burnt_s > 10 * TICK_S
    # other work of the server can only add to it
    assert used_s > burnt_s - 2 * TICK_S


def test_short_statements_are_not_lost_to_ticks(server: ServerProcesses, connection: psycopg.Connection) -> None:
    used_s = []
    for _ in range(SHORT_STATEMENTS):
        before_s = server.cpu_s()
        connection.execute("SELECT 1")
        used_s.append(server.cpu_s_since(before_s))
    assert all(each is not None and each > 0 for each in used_s), used_s
    # such a statement takes some ten microseconds
    assert min(each for each in used_s if each is not None) < TICK_S


def test_what_ended_backends_used_is_kept(server: ServerProcesses, server_url: str) -> None:
    before_s = server.cpu_s()
    with psycopg.connect(server_url, autocommit=True) as connection:
        backend = backend_of(connection)
        connection.execute(LONG)
        burnt_s = ticks_s([backend])
    deadline = time.monotonic() + DEADLINE_S
    while backend.is_running():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
    used_s = server.cpu_s_since(before_s)
    assert used_s is not None
    assert used_s > burnt_s - 2 * TICK_S


def test_a_figure_that_went_down_is_unknown(server: ServerProcesses) -> None:
    now_s = server.cpu_s()
    assert now_s is not None
    assert server.cpu_s_since(now_s + 1000) is None
    assert server.cpu_s_since(None) is None
