"""The program of a process that reads pages of one example by every class, and prints what each cost, by three counts.

Each page is counted by dbkit, by a proxy on the wire and by the server's pg_stat_statements. What the counts ought to
be is left to `tests.test_example_counts`. It is a process by itself because Locust patches the one that imports a
locustfile.

    python -m tests.example_pages examples.shop.albums
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any

import locust  # noqa: F401  # patches the process, before psycopg is imported
import psycopg
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.relay import Relays
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.load.back_off import BackOff
from dbkit.load.gate import Gate
from dbkit.load.page import Page
from dbkit.load.page_class import KeysOfWorkloads, PageClass, page_classes, request_names
from dbkit.load.resources import Resources
from dbkit.load.stint import Stint
from dbkit.load.users import PageUser
from dbkit.workload import Key, as_key, plain_key
from tests.wire import WireProxy, upstream_of, wire_proxy

WARM_PAGES = 12
"""So many that psycopg and asyncpg have prepared what they prepare of a page."""
PAGES = 6
TASKS_TURNS = 3

# Without what sets a transaction, as on the wire; rows of an INSERT without RETURNING stay at the server.
SERVER_COUNTS = """
SELECT coalesce(sum(calls), 0)::int,
       coalesce(sum(rows) FILTER (WHERE query ~* '^\\s*(SELECT|WITH)' OR query ~* 'RETURNING'), 0)::int
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = %s)
AND query !~* '^\\s*(BEGIN|COMMIT|ROLLBACK|DEALLOCATE|SET|SHOW)\\M'
"""
FORGET = "SELECT pg_stat_statements_reset(dbid => oid) FROM pg_database WHERE datname = %s"


@dataclass(frozen=True)
class CountedPage:
    """One page by one class: `(statements, round trips, rows, prepares)` as dbkit and the wire have them.

    `server` are the statements and rows that the server itself counts.
    """

    user_class: str
    name: str
    key: Any
    error: str | None
    page: tuple[float, float, float, float]
    wire: tuple[int, int, int, int]
    server: tuple[int, int]


class Reader:
    """Reads one page at a time by one class, as its user would."""

    pages_asked = 0
    back_off = BackOff()

    def __init__(self, page_class: PageClass, resources: Resources, witnesses: Witnesses) -> None:
        self.keys: Iterator[Key] = cycle(islice(page_class.keys, 3) if page_class.keys else [()])
        self.counted: list[CountedPage] = []
        self._page_class = page_class
        self._lane = resources.lane(page_class)
        self._witnesses = witnesses
        self._next_key: Key | None = None

    def wait_time(self) -> float:
        return 0.0

    def first_wait_share(self) -> float:
        return 0.0

    def key_after(self, page: Page) -> Key | None:
        workload = self._page_class.workload
        if workload is None or not workload.follows:
            return None
        following = workload.next_key(page.rendered, *page.key)
        return None if following is None else as_key(following)

    def read_page(self, function: Any = None, *key: Any, name: str | None = None) -> Any:
        """As `PageUser.read_page`; the page is counted."""
        chosen = function or self._page_class.function
        assert chosen is not None
        source = self._page_class.source_of(chosen, name)
        stint = Stint(self, source, Gate(), lambda page: True, limit=1, key=key or self._next_key)
        self._witnesses.look_away()
        self._lane.read_pages(stint)
        self._next_key = stint.next_key
        page = stint.last
        assert page is not None
        cost = page.cost
        self.counted.append(
            CountedPage(
                user_class=self._page_class.name,
                name=source.name,
                key=plain_key(page.key),
                error=None if page.error is None else repr(page.error),
                page=(cost.statements, cost.round_trips, cost.rows, cost.prepares),
                wire=self._witnesses.wire_counts(pings(self._page_class.engine)),
                server=self._witnesses.server_counts(),
            )
        )
        return page.rendered


class Witnesses:
    """What counts besides dbkit."""

    def __init__(self, proxy: WireProxy, connection: psycopg.Connection[Any], database: str) -> None:
        self._proxy = proxy
        self._connection = connection
        self._database = database

    def look_away(self) -> None:
        """Begin to count at 0."""
        self._connection.execute(FORGET, [self._database])
        self._before = self._proxy.counts()

    def wire_counts(self, pings: int) -> tuple[int, int, int, int]:
        """Statements without the `pings` of the pool, round trips with them, rows, and prepares."""
        seen = self._proxy.counts() - self._before
        return seen.statements - pings, seen.round_trips, seen.rows, seen.prepares

    def server_counts(self) -> tuple[int, int]:
        """Statements and rows."""
        row = self._connection.execute(SERVER_COUNTS, [self._database]).fetchone()
        assert row is not None
        return tuple(row)


def pings(engine: Any) -> int:
    """The empty statements by which a pool asks whether a connection is alive; the server does not count them."""
    if engine is not None and not isinstance(engine, Engine | AsyncEngine):
        engine = engine("postgresql+asyncpg://")  # the application's function, which sets its pool up alike
    return 0 if engine is None else int(engine.pool._pre_ping)


def read_tasks(user_class: Any, reader: Reader) -> None:
    """Run each task of a user some times, as it is written."""

    class Stand(user_class):  # type: ignore[misc]
        abstract = True
        read_page = reader.read_page

    user = object.__new__(Stand)
    for _ in range(TASKS_TURNS):
        for task in dict.fromkeys(user_class.tasks):
            task(user)


def main(module_name: str) -> None:
    """Read and count; `DBKIT_DATABASE_URL` names the database, and `STATISTICS_URL` one with pg_stat_statements."""
    url = os.environ["DBKIT_DATABASE_URL"]
    with wire_proxy(upstream_of(url)) as proxy, psycopg.connect(os.environ["STATISTICS_URL"], autocommit=True) as own:
        os.environ["DBKIT_DATABASE_URL"] = proxy.url(url)  # the application's engine goes through it too
        database = DatabaseUrl.parse(proxy.url(url))
        module = importlib.import_module(module_name)
        user_classes = [
            each
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, PageUser) and not each.abstract
        ]
        find_keys = partial(KeysOfWorkloads(database).of, page_size=20)
        found = page_classes(user_classes, request_names(user_classes), "rollback", find_keys, {})
        resources = Resources(database, Settings(), Relays(), 60.0)
        counted: list[CountedPage] = []
        try:
            for user_class in user_classes:
                page_class = found[user_class.__name__]
                reader = Reader(page_class, resources, Witnesses(proxy, own, database.database))
                if page_class.function is None:
                    for _ in range(WARM_PAGES // TASKS_TURNS):
                        read_tasks(user_class, reader)
                else:
                    for _ in range(WARM_PAGES + PAGES):
                        reader.read_page()
                counted += reader.counted[-PAGES:]
        finally:
            resources.close()
    print(json.dumps([asdict(each) for each in counted]))


if __name__ == "__main__":
    main(sys.argv[1])
