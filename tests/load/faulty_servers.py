"""Servers that fail in one way each, on free ports of this process: what a client is to see of them.

They speak as much of PostgreSQL's protocol as that takes. A real server is to be had by the fixtures.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress

from tests.locust_runs import free_port

ENCRYPTION_REQUESTS = {80877103, 80877104}  # SSLRequest, GSSENCRequest
AUTHENTICATION_OK = b"R\0\0\0\x08\0\0\0\0"
Serve = Callable[[socket.socket], object]


@contextmanager
def listening(serve: Serve, port: int = 0, host: str = "127.0.0.1") -> Iterator[int]:
    """The port of a server that serves each connection in a thread of its own; all are closed at the block's end."""
    accepted: list[socket.socket] = []

    def run() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                accepted.append(listener.accept()[0])
                threading.Thread(target=one, args=(accepted[-1],), daemon=True).start()

    def one(client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            serve(client)

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(100)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for client in accepted:
                _close(client)
            thread.join()


def never_answering() -> AbstractContextManager[int]:
    """A server that takes connections, and says nothing."""

    def serve(client: socket.socket) -> None:
        while client.recv(1 << 16):
            pass

    return listening(serve)


def refusing(sqlstate: str, words: str) -> AbstractContextManager[int]:
    """A server that lets nobody in, and says why."""

    def serve(client: socket.socket) -> None:
        _read_start_up(client)
        fields = (b"SFATAL", b"VFATAL", f"C{sqlstate}".encode(), f"M{words}".encode())
        body = b"".join(field + b"\0" for field in fields) + b"\0"
        client.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)

    return listening(serve)


def hanging_up() -> AbstractContextManager[int]:
    """A server that closes each connection without a word."""
    return listening(_read_start_up)


def cut_at(port: int, word: bytes) -> AbstractContextManager[int]:
    """A way to the real server that is cut where the client sends `word`."""

    def serve(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            while (sent := client.recv(1 << 16)) and word not in sent:
                server.sendall(sent)
            _close(server)

    return listening(serve)


def _read_start_up(client: socket.socket) -> None:
    while True:
        head = client.recv(8, socket.MSG_WAITALL)
        if len(head) < 8:
            raise OSError("the client has gone")
        if int.from_bytes(head[4:], "big") not in ENCRYPTION_REQUESTS:
            client.recv(int.from_bytes(head[:4], "big") - 8, socket.MSG_WAITALL)
            return
        client.sendall(b"N")


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while sent := source.recv(1 << 16):
            target.sendall(sent)
    _close(target)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


class Door:
    """A way to the real server that can be closed: then connections are cut, and new ones are refused."""

    def __init__(self, server_port: int, host: str = "127.0.0.1") -> None:
        self._host = host
        self._server_port = server_port
        self._opened: ExitStack | None = None
        self.port = free_port()

    def open(self) -> None:
        """Let everybody pass."""

        def serve(client: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()
                _pump(client, server)

        self._opened = ExitStack()
        self._opened.enter_context(listening(serve, self.port, self._host))

    def close(self) -> None:
        """Cut all who have passed, and refuse others."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class Waiting:
    """A way to the real server where nobody hears that they have been let in: the server has, and they wait for it.

    It is so for connections that come once `holds` is set.
    """

    port: int

    def __init__(self) -> None:
        self.holds = False
        self.open = 0
        """Connections of clients that have been held, and that they have not closed."""
        self._lock = threading.Lock()

    def _count(self, change: int) -> None:
        with self._lock:
            self.open += change


@contextmanager
def waiting(server_port: int) -> Iterator[Waiting]:
    """See `Waiting`."""
    way = Waiting()

    def serve(client: socket.socket) -> None:
        holds = way.holds
        with socket.create_connection(("127.0.0.1", server_port)) as server:

            def answer() -> None:
                with suppress(OSError):
                    while sent := server.recv(1 << 16):
                        if holds and AUTHENTICATION_OK in sent:
                            way._count(1)
                            client.recv(1)  # until the client has gone
                            way._count(-1)
                            break
                        client.sendall(sent)
                _close(client)
                _close(server)

            answering = threading.Thread(target=answer, daemon=True)
            answering.start()
            if not holds:
                _pump(client, server)
            else:
                while answering.is_alive() and (sent := client.recv(1 << 16)):
                    server.sendall(sent)
            answering.join()

    with listening(serve) as way.port:
        yield way
