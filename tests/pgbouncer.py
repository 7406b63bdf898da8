"""A real PgBouncer before the tests' server: on a free loopback port, with users and settings of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psycopg

from dbkit.database.url import DatabaseUrl
from tests.locust_runs import DEADLINE_S, POLL_S, free_port

Mode = Literal["session", "transaction"]
_USER = "nobody"
"""For root, as whom PgBouncer refuses to run."""


@contextmanager
def pgbouncer(server_url: str, mode: Mode, settings: Mapping[str, object] | None = None) -> Iterator[str]:
    """The URL of the same database behind a PgBouncer that ends with the block.

    `server_url` is one over TCP, whose user and password it takes too. `settings` are more of its own.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "these tests need PgBouncer; on Debian: apt-get install pgbouncer"
    server, port = DatabaseUrl.parse(server_url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="dbkit-pgbouncer-"))
    (folder / "users").write_text(f'"{server.user}" "{server.password}"\n')
    options = {
        **{"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "logfile": folder / "log"},
        **{"auth_type": "scram-sha-256", "auth_file": folder / "users", "pool_mode": mode},
        **(settings or {}),
    }
    lines = [f"{name} = {value}" for name, value in options.items()]
    at = f"host={server.host} port={server.port}"
    (folder / "ini").write_text("\n".join(("[databases]", f"* = {at}", "[pgbouncer]", *lines)))
    as_root = os.getuid() == 0
    for path in (folder, *folder.iterdir()) if as_root else ():
        shutil.chown(path, _USER)
    process = subprocess.Popen(
        [program, "--quiet", str(folder / "ini")], stdin=subprocess.DEVNULL, user=_USER if as_root else None
    )
    try:
        url = urlsplit(server_url)
        address = f"{url.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
        _wait_until_it_answers(process, url._replace(netloc=address).geturl())
        yield url._replace(netloc=address).geturl()
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        shutil.rmtree(folder)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
        assert process.poll() is None, "PgBouncer has ended: what it says is above"
        assert time.monotonic() < deadline, "PgBouncer does not answer"
        time.sleep(POLL_S)


def through(url: str, mode: Mode) -> DatabaseUrl:
    """The database of a URL, known to be behind a pooler."""
    return replace(DatabaseUrl.parse(url), pooler=mode)
