"""A database server: connecting to it directly, whether it can be used, and the CPU time that it takes."""

from __future__ import annotations

import ipaddress
import math
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from dbkit.database.embedded.postmaster import has_ended
from dbkit.database.pooler import set_directly
from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import URL_VARIABLE, DatabaseUrl
from dbkit.errors import DbkitError, pooler_advice


@dataclass(frozen=True)
class ServerInfo:
    """Facts that a server reports about itself."""

    version: str
    connections_allowed: int
    """Connections that ordinary users may have at the same time: `max_connections` less those reserved."""
    identity: tuple[Any, ...]
    """What distinguishes the database from every other one: a row of `IDENTITY`."""
    is_pooled: bool
    """Whether there is a pooler before the server, as far as that can be seen: see `is_pooled`."""


MOST_ROUND_TRIPS = 50
"""How often a round trip is tried for its shortest time."""
MOST_ROUND_TRIPS_S = 0.5
"""For about how long at the most."""

SAME_START_S = 5
"""Two accounts of when a process has started may differ by so much: they are rounded, and clocks are set."""

IDENTITY = "SELECT current_database(), pg_postmaster_start_time()"


def connect_directly(database: DatabaseUrl, *, writes: bool = False) -> psycopg.Connection[Any]:
    """A connection that no engine and no meter takes part in, for what is no page. Raises psycopg.Error.

    The server lets it only read, unless it says that it `writes`.
    """
    settings = Settings(read_only=not writes)
    connection = psycopg.connect(**STACKS["psycopg"].connect_args(database, settings))
    set_directly(connection, database, settings)
    return connection


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether who answers a connection is another one than who made it: then there is a pooler between.

    A server says its process at the start, for cancelling; so does PgBouncer, which makes a number up. A pooler that
    hands on what the server says is not seen.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return bool(row[0] != connection.info.backend_pid)


def shortest_round_trip_ms(database: DatabaseUrl) -> float:
    """How long the server takes to answer a query without words: the shortest time of several. Raises psycopg.Error.

    It is the network's round trip, and on top of it what both ends take to send, to be woken up and to receive.
    """
    shortest_s = math.inf
    with connect_directly(database) as connection:
        until_at_s = time.perf_counter() + MOST_ROUND_TRIPS_S
        for _ in range(MOST_ROUND_TRIPS):
            began_at_s = time.perf_counter()
            connection.pgconn.exec_(b"")
            ended_at_s = time.perf_counter()
            shortest_s = min(shortest_s, ended_at_s - began_at_s)
            if ended_at_s > until_at_s:
                break
    return shortest_s * 1000


def check_server(database: DatabaseUrl) -> ServerInfo:
    """Connect once. Raises DbkitError where that fails, with a hint."""
    try:
        with connect_directly(database) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), current_setting('max_connections')::int"
                " - current_setting('superuser_reserved_connections')::int"
                " - coalesce(current_setting('reserved_connections', true)::int, 0)"
            ).fetchone()
            identity = connection.execute(IDENTITY).fetchone()
            pooled = is_pooled(connection)
    except (psycopg.Error, UnicodeError) as error:  # UnicodeError: a host name that no name could be
        raise DbkitError(f"cannot use {database}: {why_unusable(error)} (--database-url or {URL_VARIABLE})") from None
    assert row is not None and identity is not None
    return ServerInfo(version=row[0], connections_allowed=row[1], identity=tuple(identity), is_pooled=pooled)


def why_unusable(error: BaseException) -> str:
    """The message of the server or of libpq on one line, with a hint for the common ones."""
    message = " ".join(str(error).split())
    # the last attempt of several addresses comes last; the words before "failed:" only repeat the URL
    message = message.rsplit("failed: ", 1)[-1].partition(" Is the server running")[0]
    hints = {
        r"password|authentication|no pg_hba": "check user and password",
        r"database .* does not exist": "create it with createdb, or name another",
        r"role .* does not exist": "check the user",
        r"refused|call failed|timeout|resolve|No such file|unreachable|not known": "is the server running there?",
    }
    hint = next((hint for pattern, hint in hints.items() if re.search(pattern, message)), "check the URL")
    hint = pooler_advice(message) or hint
    return f"{message}; {hint}"


class ServerProcesses:
    """The processes of a PostgreSQL server on this machine."""

    def __init__(self, postmaster: psutil.Process) -> None:
        self._postmaster = postmaster

    @classmethod
    def find(cls, database: DatabaseUrl) -> ServerProcesses | None:
        """The server of `database`, or None where it is not (known to be) on this machine.

        Behind a pooler or a forwarded port it may be on another one, where a process has the same number as one here.
        """
        if not (database.is_socket or _is_loopback(database.host)):
            return None
        with connect_directly(database) as connection:
            row = connection.execute(
                "SELECT pid, extract(epoch FROM backend_start)::float"
                " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ).fetchone()
            assert row is not None
            pid, started_at = row
            try:
                backend = psutil.Process(pid)
                postmaster = backend.parent()
                is_it = abs(backend.create_time() - started_at) < SAME_START_S
            except psutil.NoSuchProcess:
                return None
        if not is_it or postmaster is None or not postmaster.name().startswith(("postgres", "postmaster")):
            return None
        return cls(postmaster)

    @property
    def have_ended(self) -> bool:
        """Whether the server has gone. One that was started in its place has other processes."""
        return has_ended(self._postmaster)

    def cpu_s(self) -> float | None:
        """CPU seconds of the server so far, those of ended backends included; None once it has gone.

        To the nanosecond, where the system has that: psutil's times tick in hundredths of a second, and would lose the
        short statements of many backends. A backend that ends between two looks at the list would be missed or counted
        twice, so the reading is taken again until the list of processes stays the same. Takes some 10 ms.
        """
        while not self.have_ended:
            with suppress(psutil.NoSuchProcess):  # one that has just ended
                before = {child.pid for child in self._postmaster.children()}
                children = self._postmaster.children()
                ended = self._postmaster.cpu_times()
                total_s = ended.children_user + ended.children_system
                total_s += sum(read_cpu_s(process) for process in (self._postmaster, *children))
                if before == {child.pid for child in self._postmaster.children()}:
                    return total_s
        return None

    def cpu_s_since(self, before_s: float | None) -> float | None:
        """CPU seconds since a reading of `cpu_s`; None where one of the two is unknown, or the later one is less.

        It can be: what a backend used is read in another way once the backend has ended.
        """
        now_s = self.cpu_s()
        return None if before_s is None or now_s is None or now_s < before_s else now_s - before_s


class ServerCpuProbe:
    """The CPU time of a database's server, if that is on this machine: a probe, see `dbkit.measure.probes`.

    A reading takes some 10 ms in which nothing else runs here. So it belongs where no page is in flight. What the
    server used is unknown where it ended meanwhile; the one that was started in its place is read from then on.
    """

    def __init__(self, database: DatabaseUrl) -> None:
        self._database = database
        self._server: ServerProcesses | None = None
        self._is_elsewhere = False
        self._before_s: float | None = None
        self._started_at_s = 0.0

    def start(self) -> None:
        if not self._is_elsewhere and (self._server is None or self._server.have_ended):
            self._find()
        self._before_s = None if self._server is None else self._server.cpu_s()
        self._started_at_s = time.perf_counter()

    def _find(self) -> None:
        self._server = None
        with suppress(psycopg.Error):  # it is down now: the next start looks again
            self._server = ServerProcesses.find(self._database)
            self._is_elsewhere = self._server is None

    def stop(self) -> Mapping[str, Any]:
        cpu_s = None if self._server is None else self._server.cpu_s_since(self._before_s)
        if cpu_s is None:
            return {}
        return {
            "server_cpu_s": cpu_s,
            "server_seconds": time.perf_counter() - self._started_at_s,
            "server_machine": socket.gethostname(),
        }


def read_cpu_s(process: psutil.Process) -> float:
    """CPU seconds that a process of one thread has used so far."""
    with suppress(OSError, ValueError, IndexError):
        # time on a core, time waiting for one, turns: the kernel's scheduler/sched-stats; all 0 where it keeps none
        if used_ns := int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]):
            return used_ns / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
