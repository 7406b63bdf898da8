"""Whether the connections of a test fit the server, and the pooler that may be before it, before any user starts.

What else is proved before a run is in `dbkit.load.verification`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.application import pool_capacity
from dbkit.database.pooler import check_pooler, has_no_transaction
from dbkit.database.pooler_limits import PoolerInfo, ask_pooler
from dbkit.database.server import ServerInfo
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load.page_class import PageClass
from dbkit.load.resources import Resources

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demand:
    """How much a test asks of the server."""

    processes: int
    users: int | None
    """The most that there can be; None where nobody knows."""
    in_rounds: bool
    """Whether one class reads at a time."""
    among: str
    """The settings that vary, in words, where the test has several conditions."""


def check_connections(
    database: DatabaseUrl,
    server: ServerInfo,
    page_classes: Collection[PageClass],
    resources: Resources,
    settings: Settings,
    demand: Demand,
) -> list[str]:
    """Raise DbkitError where settings do not fit the pooler, or pools could open more connections than are allowed.

    That is by the server, or by the pooler before it, where it is known how many that allows. A pool without a limit
    opens one for each user. The answer are warnings.
    """
    own = [each for each in page_classes if each.engine is None]
    for page_class in own:
        check_pooler(database, replace(settings, end=page_class.end))
    pooler = ask_pooler(database) if server.is_pooled else None
    if pooler is not None and pooler.mode != "session" and database.pooler == "session":
        raise DbkitError(
            f"--pooler session would set up connections that others get next, as {pooler.version} hands them on after"
            f" each {pooler.mode}; use --pooler transaction"
        )
    pools = {resources.key_of(each): each for each in page_classes}
    needed_of = [_needed(each, resources, settings, demand) for each in pools.values()]
    condition = ", ".join(filter(None, (demand.among, "" if demand.users is None else f"{demand.users} users")))
    where = f"with {condition} " if demand.among else ""
    most = _Allowed.by(server, pooler)
    if most.connections is not None and sum(needed_of) > most.connections:
        limit = "without limit" if settings.pool_capacity is None else f"{settings.pool_size} + {settings.max_overflow}"
        raise DbkitError(
            f"{where}the pools could open {sum(needed_of)} connections ({demand.processes} processes, {len(pools)}"
            f" pools in each, dbkit's own of {limit}), but the {most.whose} allows {most.connections}; lower"
            f" --pool-size or --max-overflow, take fewer users, choose classes of fewer stacks, or raise {most.setting}"
        )
    warnings = (
        _of_waiting(pooler, needed_of, demand, where) if pooler else None,
        _of_writing(database, own, settings),
        _of_no_option(database, pooler) if server.is_pooled and "pooler=" not in demand.among else None,
    )
    return [warning for warning in warnings if warning is not None]


def warn_once(warnings: Iterable[str], known: list[str], *, is_quiet: bool) -> None:
    """Add to `known` the warnings that are not in it, and log them unless another process does."""
    for warning in warnings:
        if warning not in known:
            known.append(warning)
            if not is_quiet:
                logger.warning("%s", warning)


class _Allowed(NamedTuple):
    connections: int | None
    whose: str
    setting: str

    @classmethod
    def by(cls, server: ServerInfo, pooler: PoolerInfo | None) -> _Allowed:
        if server.is_pooled:
            return cls(pooler.clients_allowed if pooler else None, "pooler", "max_client_conn of the pooler")
        return cls(server.connections_allowed, "server", "max_connections")


def _of_waiting(pooler: PoolerInfo, needed_of: list[int], demand: Demand, where: str) -> str | None:
    keeps_them = pooler.mode == "session"
    # an idle connection needs none of the pooler's but in session mode
    used = max(needed_of, default=0) if demand.in_rounds and not keeps_them else sum(needed_of)
    if pooler.pool_size is None or used <= pooler.pool_size:
        return None
    consequence = (
        "a connection waits in the pooler until another one is closed, and some pages may never be read"
        if keeps_them
        else "pages wait in the pooler, which their time in the database includes"
    )
    return (
        f"{where}pages could use {used} connections at a time, and {pooler.version} has {pooler.pool_size} for them:"
        f" {consequence}; lower --pool-size and --max-overflow, or raise the pooler's pool_size"
    )


def _of_writing(database: DatabaseUrl, own: Iterable[PageClass], settings: Settings) -> str | None:
    free = [
        each.name for each in own if not each.writes and has_no_transaction(database, replace(settings, end=each.end))
    ]
    if not free:
        return None
    return (
        f"{', '.join(free)}: with --pooler transaction and --end autocommit the server does not keep pages from"
        " writing; use a user that may only read"
    )


def _of_no_option(database: DatabaseUrl, pooler: PoolerInfo | None) -> str | None:
    if database.pooler != "none" or (pooler and pooler.statements_kept):
        return None
    if pooler is None:
        return f"{database} is behind a pooler: use --pooler session or --pooler transaction, as it is set up"
    option = "session" if pooler.mode == "session" else "transaction"
    return (
        f"{database} is behind {pooler.version}, which hands connections on after each {pooler.mode}:"
        f" use --pooler {option}"
    )


def _needed(page_class: PageClass, resources: Resources, settings: Settings, demand: Demand) -> int:
    engine = page_class.engine
    if engine is None:
        capacity: int | None = settings.pool_capacity
    else:
        given = isinstance(engine, Engine | AsyncEngine)
        capacity = pool_capacity(engine.pool if given else resources.lane(page_class).pool)
    of_all = demand.users or 0 if capacity is None else demand.processes * capacity
    return of_all if demand.users is None else min(of_all, demand.users)
