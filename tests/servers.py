"""A PostgreSQL of a test's own, which may be killed, frozen and started again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from dbkit.database.embedded import serve
from dbkit.database.embedded.postmaster import find_postmaster, has_ended
from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import DEADLINE_S, POLL_S


class Server:
    """A server with its data in a folder. Made by `server`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = serve(folder)
        """By its socket, also after it was started again."""

    @property
    def postmaster(self) -> psutil.Process:
        """Its first process, while it runs."""
        postmaster = find_postmaster(self._folder / "data")
        assert postmaster is not None
        return postmaster

    def kill(self) -> None:
        """End it as a crash does. Its last backend is gone when this returns, so that it can be started again."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as its administrator does, at once, whoever is connected."""
        self._end(signal.SIGINT)

    def start(self) -> None:
        """Start it again."""
        assert serve(self._folder) == self.url

    def terminate_connections(self, application_name: str = "%") -> int:
        """End all its connections but the one that asks; how many these were."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name LIKE %s",
                [application_name],
            ).fetchall()
        return len(rows)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have none of its processes run meanwhile."""
        postmaster = self.postmaster
        stopped = [postmaster]
        try:
            postmaster.suspend()  # first, so that it makes no more of them
            for process in postmaster.children():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
                    stopped.append(process)
            yield
        finally:
            for process in reversed(stopped):
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def _end(self, how: signal.Signals) -> None:
        postmaster = self.postmaster
        processes = [postmaster, *postmaster.children()]
        postmaster.send_signal(how)
        deadline = time.monotonic() + DEADLINE_S
        while not all(map(has_ended, processes)):
            assert time.monotonic() < deadline
            time.sleep(POLL_S)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Start a server with the default dataset."""
    made = Server(folder)
    try:
        create(DatabaseUrl.parse(made.url), Shape(), replace=False)
        yield made
    finally:
        with suppress(AssertionError):  # a test has ended it
            made.stop()
