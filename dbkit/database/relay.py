"""A database that is farther away: a relay, through which each round trip takes longer, and which counts bytes.

The relay is a process of its own, so that neither gevent nor the interpreter lock of the load process holds it up, and
it ends with the process that has started it. What it does is in `dbkit.database.relay_process`. All that is said on a
connection is delayed, also when it is opened; TLS passes through. Opening it takes no round trip more.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg

from dbkit.database.server import read_cpu_s, shortest_round_trip_ms
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError

logger = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("relay_process.py")
_FOLDER = "dbkit-relay-"
_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107
_MOST_MORE = 0.1
"""The share of a round trip by which it may be longer than it is meant to be without a warning."""


class Relay:
    """A relay to a database, started here and now.

    Its delay is set such that the shortest round trip takes `round_trip_s` longer than without it; 0 for as little as
    a relay takes.

    Raises DbkitError where it cannot be started, or where the server cannot be reached through it.
    """

    def __init__(self, server: DatabaseUrl, round_trip_s: float) -> None:
        if server.tls.get("sslmode") == "verify-full":
            raise DbkitError(
                "--round-trip connects through a relay, whose name is not in the server's certificate: write"
                " sslmode=verify-ca in the database URL, or leave --round-trip out"
            )
        self._process = _start(server, round_trip_s / 2)
        self._psutil = psutil.Process(self._process.pid)
        try:
            self.database = self._read_address(server)
            """The same database, through the relay."""
            if round_trip_s:
                self._set(server, round_trip_s)
        except psycopg.Error as error:
            self.stop()
            raise DbkitError(f"the relay of --round-trip cannot reach {server}: {type(error).__name__}") from None

    def cpu_s(self) -> float:
        """CPU seconds that its process has used so far."""
        try:
            return read_cpu_s(self._psutil)
        except psutil.NoSuchProcess:
            return 0.0

    def bytes_from_server(self) -> int:
        """Bytes that the server has sent so far, on all connections; encrypted ones where they are encrypted."""
        return int(self._ask("bytes"))

    def stop(self) -> None:
        """End it, and with it all connections through it."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read_address(self, server: DatabaseUrl) -> DatabaseUrl:
        line = self._read_line()
        address = json.loads(line)
        if isinstance(address, str):
            return replace(server, host=str(Path(address).parent))
        return replace(server, host=address[0], port=address[1])

    def _set(self, server: DatabaseUrl, round_trip_s: float) -> None:
        """Take out of the delay what the relay takes by itself."""
        direct_ms, through_ms = shortest_round_trip_ms(server), shortest_round_trip_ms(self.database)
        own_s = max((through_ms - direct_ms) / 1000 - round_trip_s, 0.0)
        self._ask(str(max(round_trip_s - own_s, 0.0) / 2))
        if (more_s := own_s - round_trip_s) > _MOST_MORE * round_trip_s:
            logger.warning("round trips are %.2f ms longer than --round-trip: a relay is no quicker", more_s * 1000)

    def _ask(self, line: str) -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        return self._read_line()

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise DbkitError("the relay of --round-trip did not start: its error is above")
        return line


def _start(server: DatabaseUrl, delay_s: float) -> subprocess.Popen[bytes]:
    address: str | tuple[str, int] = (server.host, server.port)
    at: str | tuple[str, int] = ("127.0.0.1", 0)
    if server.is_socket:
        name = f".s.PGSQL.{server.port}"
        folder = server.host.replace("@", "\0", 1) if server.host.startswith("@") else server.host  # in no folder
        address = f"{folder}/{name}"
        at = str(Path(_make_folder(name), name))
    # isolated (-I), so that no module in the working directory hides one of the standard library; a session of its own,
    # so that Ctrl-C leaves it to the pages that are still to come
    return subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM), json.dumps([at, address, delay_s])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def _make_folder(name: str) -> str:
    """A folder of this user alone in which the path of a socket of that name is no longer than systems allow."""
    parents = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    fitting = [each for each in parents if len(os.fsencode(f"{each}/{_FOLDER}12345678/{name}")) <= _SOCKET_PATH_BYTES]
    return tempfile.mkdtemp(prefix=_FOLDER, dir=fitting[0])


class Relays:
    """The relays of one process: one for each database and distance, started when it is first asked for."""

    def __init__(self) -> None:
        self.count_bytes = False
        """Whether databases that are to be no farther away are read through a relay too, which counts."""
        self._started: list[tuple[DatabaseUrl, float, Relay]] = []

    def to(self, server: DatabaseUrl, round_trip_s: float) -> DatabaseUrl:
        """The same database with round trips that take so much longer. Raises DbkitError: see `Relay`."""
        if round_trip_s == 0 and not (self.count_bytes and server.tls.get("sslmode") != "verify-full"):
            return server
        for database, away_s, relay in self._started:
            if (database, away_s) == (server, round_trip_s):
                return relay.database
        relay = Relay(server, round_trip_s)
        self._started.append((server, round_trip_s, relay))
        return relay.database

    def cpu_s(self) -> float:
        """CPU seconds that they have used so far."""
        return sum(relay.cpu_s() for _, _, relay in self._started)

    def bytes_from_server(self) -> int:
        """Bytes that servers have sent through them so far."""
        return sum(relay.bytes_from_server() for _, _, relay in self._started)

    def stop(self) -> None:
        """End them, and with them all connections through them. They end with this process in any case."""
        for _, _, relay in self._started:
            relay.stop()
        self._started.clear()


class RelayCpuProbe:
    """The CPU time of the relays of this process: a probe, see `dbkit.measure.probes`."""

    def __init__(self, relays: Relays) -> None:
        self._relays = relays

    def start(self) -> None:
        self._before_s = self._relays.cpu_s()

    def stop(self) -> Mapping[str, Any]:
        return {"relay_cpu_s": max(self._relays.cpu_s() - self._before_s, 0.0)}
