"""The worked examples: which classes each has, and databases with the rows of its script.

How they run is tested in `tests.test_examples`, and what their pages count in `tests.test_example_counts`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.locust_runs import DEADLINE_S, REPOSITORY

ALL_STACKS = ("Psycopg", "PsycopgThreads", "PsycopgAsync", "Asyncpg")
CLASSES = {
    "shop/albums": {f"{stack}{way}" for stack in ("Psycopg", "Asyncpg") for way in ("Selectin", "Joined", "Lazy")},
    "shop/artists": {
        *("PsycopgSelectin", "PsycopgJoined", "PsycopgThreadsSelectin", "AsyncpgSelectin", "AsyncpgJoined"),
        *("AsyncpgAwaited", "PsycopgAsyncAwaited"),
    },
    "shop/feed": {f"{stack}{way}" for stack in ALL_STACKS for way in ("Selectin", "Joined")},
    "shop/customers": {
        f"{prefix}{stack}{way}"
        for prefix in ("", "Norwegian", "Best")
        for stack in ("Psycopg", "Asyncpg")
        for way in ("Selectin", "Joined")
    },
    "shop/orders": {f"{stack}{way}" for stack in ALL_STACKS for way in ("UnitOfWork", "Inserts")},
    "shop/shoppers": {"PsycopgShopper", "AsyncpgShopper"},
    "fastapi_app/load": {
        *("AsyncpgAsItIs", "AsyncpgJoined", "PsycopgAsyncAsItIs", "PsycopgAsyncJoined"),
        *("AsyncpgInvoices", "AsyncpgOrder"),
    },
}
"""Each example with the user classes that its file names."""
WRITING = ("shop/orders", "shop/shoppers", "fastapi_app/load")
STATEMENTS = {"PsycopgLazy": 21, "AsyncpgSelectin": 2, "AsyncpgJoined": 1}
"""Those of a page of albums."""

FindShop = Callable[[str], str]
"""Gives the URL of a database for an example: a new one where its pages write."""


def file_of(example: str) -> str:
    """Its locustfile."""
    return f"examples/{example}.py"


def run_python(*arguments: str, url: str | None = None, folder: Path = REPOSITORY, **variables: str) -> str:
    """What a program of the repository prints; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not re.match("DBKIT_|SHOP_|PG", name)}
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment | ({} if url is None else {"DBKIT_DATABASE_URL": url}) | variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def database_at(server_url: str, name: str) -> str:
    """The URL of another database of the server."""
    return server_url.replace("/dbkit?", f"/{name}?")


@contextmanager
def shop_databases(server_url: str) -> Iterator[FindShop]:
    """Databases with the shop's rows, as its script fills an empty one; they are dropped at the block's end."""
    filled = f"shop_{uuid.uuid4().hex[:12]}"
    names = [filled]
    with closing(psycopg.connect(server_url, autocommit=True)) as connection:

        def copy() -> str:
            names.append(f"{filled}_{len(names)}")
            new, old = sql.Identifier(names[-1]), sql.Identifier(filled)
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(new, old))
            return database_at(server_url, names[-1])

        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(filled)))
        assert "the shop is filled" in run_python("-m", "examples.shop.data", url=database_at(server_url, filled))
        to_read = copy()
        yield lambda example: copy() if example in WRITING else to_read
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
