"""A network between pages and the server that tests can cut silently, heal, and have connections reset by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.wire import led_through, upstream_of

HOST = "127.0.0.1"


class FaultyNetwork:
    """A relay to one server, on a port of its own. Its methods may be called from any thread."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._loop = asyncio.new_event_loop()
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._delay_s = 0.0
        self._works = asyncio.Event()
        self._works.set()
        self._serving = threading.Event()

    @property
    def url(self) -> str:
        """The server's URL, by way of this network."""
        return led_through(self._server_url, HOST, self._port)

    @property
    def connections(self) -> int:
        """How many clients it has."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """From now on nothing comes through, in neither direction, and nobody gets to know."""
        self._loop.call_soon_threadsafe(self._works.clear)

    def heal(self) -> None:
        """What was sent meanwhile arrives now."""
        self._loop.call_soon_threadsafe(self._works.set)

    def slow_down(self, seconds: float) -> None:
        """From now on whatever comes through takes so much longer, in each direction."""
        self._delay_s = seconds

    def reset(self) -> None:
        """End every connection at once, by a reset."""
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def run(self) -> None:
        """Serve, in this thread, until `end`."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._serve())

    def wait_until_serving(self) -> None:
        self._serving.wait()

    def end(self) -> None:
        """Serve no more, and close every connection."""

        def cancel_all() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        self._loop.call_soon_threadsafe(cancel_all)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, HOST, 0)
        self._port = server.sockets[0].getsockname()[1]
        self._serving.set()
        await asyncio.Event().wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._works.wait()
            server_reader, server_writer = await self._connect()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        try:
            with suppress(asyncio.CancelledError):  # by `end`
                await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer))
        finally:
            for each in (writer, server_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        upstream = upstream_of(self._server_url)
        if isinstance(upstream, str):
            return await asyncio.open_unix_connection(upstream)
        return await asyncio.open_connection(*upstream)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while segment := await reader.read(65536):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._works.wait()
                writer.write(segment)
                await writer.drain()
        writer.close()


@contextmanager
def faulty_network(server_url: str) -> Iterator[FaultyNetwork]:
    """A network to the server, for as long as it is entered."""
    network = FaultyNetwork(server_url)
    thread = threading.Thread(target=network.run)
    thread.start()
    network.wait_until_serving()
    try:
        yield network
    finally:
        network.end()
        thread.join()
