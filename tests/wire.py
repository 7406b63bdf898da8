"""A PostgreSQL proxy that counts what passes on the wire, and can make each round trip slower.

It is the witness that dbkit's own numbers are held against, so it shares nothing with dbkit: it reads the protocol
(https://www.postgresql.org/docs/current/protocol-message-formats.html), and it runs in a process of its own, where
neither gevent nor the interpreter lock of the measured process can bend it. It speaks plain text only, changes no byte
and takes no part in the log-in. What the counts ought to be is left to the tests.

This file is also the program of that process, which is why it imports the standard library alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from urllib.parse import parse_qsl, urlencode, urlsplit

Upstream = str | tuple[str, int]  # path of a Unix socket, or (host, port)


@dataclass(frozen=True)
class WireCounts:
    """Totals over all connections, open or closed. Subtract two readings to get what happened between them.

    A **round trip**: the client asked for an answer (Query, Sync, Flush, FunctionCall, or the end of a COPY), and the
    server spoke next. So a burst of messages is one, a prepare that waits on its own is one, a result of any size is
    one, and a COPY from the client is two. A pipeline of several requests, sent without waiting, is one until the
    server speaks between them, so that the number depends on timing; psycopg's `executemany` sends such.

    What a completed command is goes by the server's word for it: the COMMIT of a failed transaction is a ROLLBACK, and
    so is a ROLLBACK TO SAVEPOINT. SET, RESET, SAVEPOINT and RELEASE are not statements here, nor counted elsewhere.

    A statement that is read in parts is one: its DECLARE, or the Bind of a named portal. What fetches from it, FETCH or
    Execute, and what closes it are not statements; their round trips and rows are counted.
    """

    connections: int  # log-ins that the server accepted
    statements: int  # completed, without transaction control and what else is named above and below
    round_trips: int  # as defined above; those of the log-in are left out
    rows: int  # rows sent to the client, without those of a COPY
    prepares: int  # statements prepared under a name; an unnamed Parse is a part of executing
    begins: int
    commits: int
    rollbacks: int
    deallocates: int  # DEALLOCATE completed (ALL is one), or Close sent for a named statement
    bytes_from_server: int = field(default=0, compare=False)  # those of the log-in are left out, here and below
    bytes_to_server: int = field(default=0, compare=False)

    def __sub__(self, earlier: WireCounts) -> WireCounts:
        return WireCounts(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))


class WireProxy:
    """The proxy as its users see it: where to connect, and what has passed so far. Made by `wire_proxy`."""

    host = "127.0.0.1"
    port: int

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self.port = int(self._read_line())

    def counts(self) -> WireCounts:
        """Totals since the start. Includes every message that a client has received by the time of the call."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return WireCounts(**json.loads(self._read_line()))

    def url(self, server_url: str) -> str:
        """`server_url` led through the proxy: the same user, password, database and options at another address."""
        return led_through(server_url, self.host, self.port)

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the wire proxy's process has ended; its error stands on stderr")
        return line


@contextmanager
def wire_proxy(upstream: Upstream, delay_ms: float = 0.0) -> Iterator[WireProxy]:
    """Run a proxy to `upstream` on a free loopback port; it ends with the block, or with this process.

    `delay_ms` is added to each round trip once, as a longer cable would: whatever the client sends is passed on that
    much later, however many messages or segments it is. The round trips of a log-in are delayed too.
    """
    # Isolated (-I), so that no module beside this file hides one of the standard library. A session of its own, so that
    # a signal to the group of the measured process leaves the witness alone.
    command = [sys.executable, "-I", __file__, json.dumps([upstream, delay_ms])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield WireProxy(process)
        finally:
            process.terminate()  # the end of stdin is not enough: a child forked since then would hold it open


def led_through(server_url: str, host: str, port: int) -> str:
    """The same user, password, database and options at another address."""
    parts = urlsplit(server_url)
    user_at = "".join(parts.netloc.rpartition("@")[:2])
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in ("host", "port")]
    return parts._replace(netloc=f"{user_at}{host}:{port}", query=urlencode(query)).geturl()


def upstream_of(server_url: str) -> Upstream:
    """Where a PostgreSQL URL points: `…@host:port/db`, or `…@/db?host=/socket/dir`; the port in either place."""
    parts = urlsplit(server_url)
    query = dict(parse_qsl(parts.query))
    host = query.get("host") or parts.hostname or "localhost"
    port = int(query.get("port") or parts.port or 5432)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


# The rest runs in the proxy's own process.

ENCRYPTION_REQUESTS = {80877103, 80877104}  # SSLRequest, GSSENCRequest
ASKS_FOR_AN_ANSWER = {b"Q", b"S", b"H", b"F", b"c", b"f"}  # Query, Sync, Flush, FunctionCall, CopyDone, CopyFail
FIELD_OF_TAG: dict[bytes, str | None] = {  # by the first word; any other tag is a statement's
    b"BEGIN": "begins",
    b"START": "begins",
    b"COMMIT": "commits",
    b"ROLLBACK": "rollbacks",
    b"DEALLOCATE": "deallocates",
    b"SET": None,
    b"RESET": None,
    b"SAVEPOINT": None,
    b"RELEASE": None,
    b"FETCH": None,
    b"CLOSE": None,
}
CHUNK_BYTES = 1 << 16
HEAD = b"Q\0\0\0\4"  # of a message: its type, and a length


class Messages:
    """Cuts one direction of a connection into its messages, whatever segments they come in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, segment: bytes) -> list[tuple[bytes, bytes]]:
        """The messages that this segment completes, as (type, payload)."""
        buffer = self._buffer
        buffer += segment
        messages = []
        start = 0
        while len(buffer) >= start + 5:
            end = start + 1 + int.from_bytes(buffer[start + 1 : start + 5], "big")  # the type is not in the length
            if len(buffer) < end:
                break
            messages.append((bytes(buffer[start : start + 1]), bytes(buffer[start + 5 : end])))
            start = end
        del buffer[:start]
        return messages


class Tally:
    """Adds what passes on one connection, after the client's start-up packet, to `totals`."""

    def __init__(self, totals: dict[str, int]) -> None:
        self._totals = totals
        self._client = Messages()
        self._server = Messages()
        self._logged_in = False
        self._asked = False
        self._unanswered = deque[tuple[bytes, bool]]()  # Bind, Execute and Sync; whether the portal has a name

    def client_sent(self, segment: bytes) -> None:
        for kind, payload in self._client.feed(segment):
            if self._logged_in:
                self._totals["bytes_to_server"] += len(HEAD) + len(payload)
            if kind in b"BE":  # Bind, Execute
                self._unanswered.append((kind, not payload.startswith(b"\0")))
            elif kind in b"SQ":  # Sync, Query
                self._unanswered.append((b"S", False))
            if kind in ASKS_FOR_AN_ANSWER:
                self._asked = True
            elif kind == b"P" and not payload.startswith(b"\0"):  # Parse, under a name
                self._totals["prepares"] += 1
            elif kind == b"C" and payload.startswith(b"S") and payload != b"S\0":  # Close, of a named statement
                self._totals["deallocates"] += 1

    def server_sent(self, segment: bytes) -> None:
        for kind, payload in self._server.feed(segment):
            if self._logged_in:
                self._totals["bytes_from_server"] += len(HEAD) + len(payload)
            if self._asked:
                self._asked = False
                self._totals["round_trips"] += 1
            if kind == b"D":  # DataRow
                self._totals["rows"] += 1
            elif kind == b"2":  # BindComplete
                self._totals["statements"] += self._answered(b"B")
            elif kind == b"s":  # PortalSuspended
                self._answered(b"E")
            elif kind == b"C" and not self._answered(b"E"):  # CommandComplete, with the command's tag
                field = FIELD_OF_TAG.get(payload.rstrip(b"\0").split(b" ")[0], "statements")
                if field is not None:
                    self._totals[field] += 1
            elif kind == b"I":  # EmptyQueryResponse
                self._answered(b"E")
                self._totals["statements"] += 1
            elif kind == b"Z":  # ReadyForQuery
                while self._unanswered and self._unanswered.popleft()[0] != b"S":
                    pass  # left out after an error
                if not self._logged_in:
                    self._logged_in = True
                    self._totals["connections"] += 1

    def _answered(self, kind: bytes) -> bool:
        """Whether the message that is answered now, if it is of this kind, is about a named portal."""
        if not self._unanswered or self._unanswered[0][0] != kind:
            return False
        return self._unanswered.popleft()[1]


async def start_up_packet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The client's first packet proper, a start-up or a cancel request, after encryption was declined."""
    while True:
        head = await reader.readexactly(8)
        if int.from_bytes(head[4:], "big") not in ENCRYPTION_REQUESTS:
            return head + await reader.readexactly(int.from_bytes(head[:4], "big") - 8)
        writer.write(b"N")


async def relay(
    upstream: Upstream,
    delay_s: float,
    tally: Tally,
    client_reader: asyncio.StreamReader,
    client_writer: asyncio.StreamWriter,
) -> None:
    """Carry one connection to its end. (asyncio sets TCP_NODELAY on both sides by itself.)"""
    loop = asyncio.get_running_loop()

    async def client_to_server(segment: bytes) -> None:
        # A delay line: each segment leaves `delay_s` after it came, while the next ones are already being read. To
        # sleep here instead would delay a burst once per segment. Timers of rising times fire in order.
        while segment:
            loop.call_at(loop.time() + delay_s, server_writer.write, segment)
            await server_writer.drain()
            segment = await client_reader.read(CHUNK_BYTES)
            tally.client_sent(segment)
        loop.call_at(loop.time() + delay_s, server_writer.close)

    async def server_to_client() -> None:
        while segment := await server_reader.read(CHUNK_BYTES):
            tally.server_sent(segment)  # before it is passed on: an answer that has arrived is counted
            client_writer.write(segment)
            await client_writer.drain()
        client_writer.close()

    with closing(client_writer):
        try:
            first_packet = await start_up_packet(client_reader, client_writer)
            if isinstance(upstream, str):
                server_reader, server_writer = await asyncio.open_unix_connection(upstream)
            else:
                server_reader, server_writer = await asyncio.open_connection(*upstream)
            with closing(server_writer):
                await asyncio.gather(client_to_server(first_packet), server_to_client())
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # One side closed without a word. Closing both shows it to the other, as without a proxy.


async def serve(upstream: Upstream, delay_s: float) -> None:
    """Answer each byte on stdin with a line of totals on stdout, until stdin ends: the parent closed it, or died."""
    totals = dict.fromkeys((f.name for f in fields(WireCounts)), 0)
    ended = asyncio.Event()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(upstream, delay_s, Tally(totals), reader, writer)

    def on_request() -> None:
        requests = os.read(sys.stdin.fileno(), CHUNK_BYTES)
        if not requests:
            ended.set()
        for _ in requests:
            print(json.dumps(totals), flush=True)

    server = await asyncio.start_server(on_connect, WireProxy.host, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), on_request)
    await ended.wait()


if __name__ == "__main__":
    upstream_argument, delay_ms_argument = json.loads(sys.argv[1])
    asyncio.run(serve(upstream_argument, delay_ms_argument / 1000))
