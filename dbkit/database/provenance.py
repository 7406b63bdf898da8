"""Describes what a result was measured on: versions, the server and its settings, the machine. Never a password.

It is kept with every result. The callers add the options that were chosen.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbkit.database.pooler_limits import ask_pooler
from dbkit.database.server import connect_directly, is_pooled
from dbkit.database.url import DatabaseUrl
from dbkit.measure.machine import CORES

PACKAGES = ("dbkit", "SQLAlchemy", "psycopg", "asyncpg", "locust", "gevent", "uvloop")

SERVER_SETTINGS = (
    "effective_cache_size",
    "fsync",
    "jit",
    "max_connections",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "random_page_cost",
    "shared_buffers",
    "synchronous_commit",
    "work_mem",
)
"""PostgreSQL settings that change how fast a page is read."""


def describe_client() -> dict[str, Any]:
    """The date, and this process and its machine: versions, processor, cores."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": CORES,
        "machine": _machine(),
    }


def describe_server(database: DatabaseUrl, settings: Sequence[str] = SERVER_SETTINGS) -> dict[str, Any]:
    """The server of `database`: version, settings, and where it is. Raises psycopg.Error.

    Where a pooler is seen before it, `pooler` is what that says of itself: nothing, where it does not let its user ask.
    """
    with connect_directly(database) as connection:
        version = connection.execute("SELECT current_setting('server_version')").fetchone()
        assert version is not None
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name", [list(settings)]
        ).fetchall()
        pooled = is_pooled(connection)
    described = {"database": str(database), "postgresql": version[0], "settings": dict(rows)}
    if pooled:
        pooler = ask_pooler(database)
        described["pooler"] = pooler.described() if pooler else {}
    return described


def _machine() -> str:
    """A name by which two results are known to be of one machine, and which says nothing of it."""
    identity = platform.node()
    with suppress(OSError):
        identity += Path("/etc/machine-id").read_text(encoding="utf-8")
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
