"""What a pooler says of itself: PgBouncer does, to those whom it lets into its console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl

CONSOLE = "pgbouncer"
"""The database that is PgBouncer's console."""


@dataclass(frozen=True)
class PoolerInfo:
    """Facts that a pooler reports about itself, as far as they bear on one database and user."""

    version: str
    mode: str
    """When a server connection is handed on: after a `session`, a `transaction` or a `statement`."""
    pool_size: int | None
    """The most connections to the server that it keeps for the database and user; None for no limit."""
    clients_allowed: int
    """The most connections of clients, to all databases together."""
    statements_kept: int
    """Prepared statements that it keeps on each connection to the server, for all clients: 0 before 1.21."""

    def described(self) -> dict[str, Any]:
        """It in plain values."""
        return asdict(self)


def ask_pooler(database: DatabaseUrl) -> PoolerInfo | None:
    """What PgBouncer says of the pool of `database`; None where it does not let its user in, or is another pooler.

    It lets in whom its `stats_users` or `admin_users` name. Somebody must have connected to the database before.
    """
    console = replace(database, database=CONSOLE, options="", pooler="none")
    try:
        arguments = STACKS["psycopg"].connect_args(console, Settings())
        with psycopg.connect(**arguments, autocommit=True, row_factory=dict_row) as connection:

            def show(what: str) -> list[dict[str, Any]]:
                return connection.execute(f"SHOW {what}".encode()).fetchall()

            version = next(iter(show("VERSION")[0].values()))
            config = {row["key"]: row["value"] for row in show("CONFIG")}
            of_database = next(row for row in show("DATABASES") if row["name"] == database.database)
            user = of_database["force_user"] or database.user
            of_user = next((row for row in show("USERS") if row["name"] == user), {})
            return PoolerInfo(
                version=str(version),
                mode=of_user.get("pool_mode") or of_database["pool_mode"] or config["pool_mode"],
                pool_size=_smallest(of_database, of_user),
                clients_allowed=int(config["max_client_conn"]),
                statements_kept=int(config.get("max_prepared_statements", 0)),
            )
    except (psycopg.Error, KeyError, IndexError, StopIteration, ValueError, TypeError):
        return None  # what it says may differ in other versions


def _smallest(of_database: Mapping[str, Any], of_user: Mapping[str, Any]) -> int | None:
    limits = (
        of_user.get("pool_size") or of_database["pool_size"],
        of_database["max_connections"],
        of_user.get("max_user_connections"),
    )
    # 0 is for none, also as a pool's size since 1.24
    return min((int(limit) for limit in limits if limit and int(limit)), default=None)
