"""The program of a relay's process: what comes from either side is passed on later, byte for byte and in order.

It is started by `dbkit.database.relay`, and needs the standard library alone. Its argument is JSON: where to listen,
the server's address, and the seconds by which each way is longer. It prints where it listens. A line on standard input
sets other seconds, or is `bytes`: then it prints how many have come from the server. It ends with standard input, which
is when the process that has started it ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import selectors
import socket
import sys
from collections import deque
from contextlib import suppress
from time import perf_counter

Address = str | tuple[str, int]
"""The path of a Unix socket, or a host and a port."""

BLOCK = 65536
HOW_MANY_BYTES = b"bytes\n"
MOST_WAITING = 4 * 1024 * 1024
"""Bytes on their way to one side, beyond which nothing more is read from the other for a while."""
CONNECT_TIMEOUT_S = 10
PR_SET_TIMERSLACK = 29


class Side:
    """One end of a connection: the socket of the client, or that to the server."""

    __slots__ = ("ended", "events", "is_open", "is_server", "other", "socket", "unsent", "waiting")

    def __init__(self, connection: socket.socket, is_server: bool) -> None:
        self.socket = connection
        self.is_server = is_server
        self.other: Side = self
        self.unsent: deque[bytes] = deque()
        """What is due and did not fit into the socket; no bytes stand for the end."""
        self.waiting = 0
        """Bytes on their way to it, `unsent` ones included."""
        self.ended = False
        """Nothing more comes from it."""
        self.is_open = True
        """More may go to it."""
        self.events = 0
        """What is waited for."""


class Relay:
    """Accepts connections, and passes on what comes when it is due."""

    def __init__(self, listener: socket.socket, server: Address, delay_s: float) -> None:
        self._listener = listener
        self._server = server
        self._delay_s = delay_s
        self._bytes_from_server = 0
        self._selector = selectors.DefaultSelector()
        self._due: deque[tuple[float, Side, bytes]] = deque()
        """When what is to go where: in order, as each way takes the same time."""
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    def run(self) -> None:
        """Until standard input ends."""
        due = self._due
        while True:
            something_came = self._wait()
            now_at_s = perf_counter()
            for key, events in self._selector.select(0) if something_came else ():
                side = key.data
                if side is None:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif not self._obey():
                        return
                elif side.events:  # not closed since
                    if events & selectors.EVENT_READ:
                        self._receive(side, now_at_s + self._delay_s)
                    if events & selectors.EVENT_WRITE and side.events:
                        self._send_more(side)
            now_at_s = perf_counter()
            while due and due[0][0] <= now_at_s:
                _, side, data = due.popleft()
                if side.events or side.is_open:
                    self._pass_on(side, data)

    def _wait(self) -> bool:
        """Until something comes, or is due: to the microsecond, where a selector alone waits for milliseconds."""
        timeout_s = max(self._due[0][0] - perf_counter(), 0.0) if self._due else None
        return bool(select.select([self._selector.fileno()], [], [], timeout_s)[0])

    def _obey(self) -> bool:
        line = os.read(sys.stdin.fileno(), BLOCK)
        if line == HOW_MANY_BYTES:
            print(self._bytes_from_server, flush=True)
        elif line:
            self._delay_s = float(line)
            print("set", flush=True)
        return bool(line)

    def _accept(self) -> None:
        with suppress(OSError):  # it has gone again
            client = self._listener.accept()[0]
            try:
                server = connect(self._server)
            except OSError:
                client.close()
                return
            sides = Side(client, False), Side(server, True)
            for side, other in zip(sides, reversed(sides), strict=True):
                side.other = other
                side.socket.setblocking(False)
                if side.socket.family != socket.AF_UNIX:
                    side.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._watch(side)

    def _receive(self, side: Side, due_at_s: float) -> None:
        try:
            data = side.socket.recv(BLOCK)
        except BlockingIOError:
            return
        except OSError:
            self._close(side)
            return
        side.ended = not data
        if side.is_server:
            self._bytes_from_server += len(data)
        other = side.other
        other.waiting += len(data)
        if not data or other.waiting > MOST_WAITING:
            self._watch(side)
        self._due.append((due_at_s, other, data))

    def _pass_on(self, side: Side, data: bytes) -> None:
        if side.unsent:
            side.unsent.append(data)
            return
        try:
            if data:
                sent = side.socket.send(data)
            else:
                sent = 0
                self._end(side)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(side)
            return
        self._sent(side, sent)
        if sent < len(data):
            side.unsent.append(data[sent:])
            self._watch(side)

    def _send_more(self, side: Side) -> None:
        unsent, side.unsent = side.unsent, deque()
        while unsent and side.is_open and not side.unsent:
            self._pass_on(side, unsent.popleft())
        side.unsent.extend(unsent)
        if side.is_open:
            self._watch(side)

    def _sent(self, side: Side, count: int) -> None:
        before, side.waiting = side.waiting, side.waiting - count
        if before > MOST_WAITING >= side.waiting:
            self._watch(side.other)

    def _end(self, side: Side) -> None:
        """Nothing more goes to this side; where that is so of both, all is over."""
        side.is_open = False
        side.socket.shutdown(socket.SHUT_WR)
        if not side.other.is_open:
            self._close(side)

    def _close(self, side: Side) -> None:
        for each in (side, side.other):
            if each.events:
                self._selector.unregister(each.socket)
            each.events, each.is_open, each.ended = 0, False, True
            each.unsent.clear()
            each.socket.close()

    def _watch(self, side: Side) -> None:
        """Wait for what this side is waited for now."""
        if side.socket.fileno() < 0:
            return
        events = 0
        if not side.ended and side.other.waiting <= MOST_WAITING:
            events |= selectors.EVENT_READ
        if side.unsent:
            events |= selectors.EVENT_WRITE
        if events and side.events:
            self._selector.modify(side.socket, events, side)
        elif events:
            self._selector.register(side.socket, events, side)
        elif side.events:
            self._selector.unregister(side.socket)
        side.events = events


def connect(server: Address) -> socket.socket:
    """A connection to the server."""
    if not isinstance(server, str):
        return socket.create_connection(server, CONNECT_TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(server)
    except OSError:
        connection.close()
        raise
    return connection


def listen(at: Address) -> socket.socket:
    """A listener at a path, or at a host and a port."""
    listener = socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET)
    listener.bind(at)
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def be_punctual() -> None:
    """Be woken up at once, and to the microsecond, where the system allows it: a network waits for no processor."""
    with suppress(OSError, AttributeError):  # of Linux alone
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    with suppress(OSError, AttributeError):  # root may
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def allow_many_connections() -> None:
    """Each takes two files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """See the module."""
    at, server, delay_s = json.loads(sys.argv[1])
    try:
        listener = listen(at if isinstance(at, str) else tuple(at))
    except OSError as error:
        sys.exit(f"dbkit: the relay of --round-trip cannot listen at {at}: {error}")
    try:
        be_punctual()
        allow_many_connections()
        print(json.dumps(listener.getsockname()), flush=True)
        Relay(listener, server if isinstance(server, str) else tuple(server), delay_s).run()
    finally:
        if isinstance(at, str):  # in a folder of its own
            os.unlink(at)
            os.rmdir(os.path.dirname(at))


if __name__ == "__main__":
    main()
