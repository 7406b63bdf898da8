"""What the pages of every example count, held against the wire and the server's own pg_stat_statements.

They are right with every release of SQLAlchemy that dbkit supports: `make test` runs this file with the oldest as well.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy

from tests.examples import CLASSES, STATEMENTS, FindShop, file_of, run_python, shop_databases
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.started import finished


@pytest.fixture(scope="module")
def find_shop(server_url: str) -> Iterator[FindShop]:
    with shop_databases(server_url) as find:
        yield find


@pytest.fixture(scope="module")
def statistics_url(server_url: str) -> str:
    """A database in which the server's counts of statements can be read."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    return server_url


def test_what_is_started_has_the_same_sqlalchemy() -> None:
    assert run_python("-c", "import sqlalchemy; print(sqlalchemy.__version__)").strip() == sqlalchemy.__version__


@pytest.mark.parametrize("example", CLASSES)
def test_every_class_counts_what_the_wire_and_the_server_count(
    find_shop: FindShop, statistics_url: str, example: str
) -> None:
    module = file_of(example).removesuffix(".py").replace("/", ".")
    variables = {**os.environ, "DBKIT_DATABASE_URL": find_shop(example), "STATISTICS_URL": statistics_url}
    done = finished((sys.executable, "-m", "tests.example_pages", module), REPOSITORY, variables, DEADLINE_S)
    assert done.returncode == 0, done.stderr
    pages: list[dict[str, Any]] = json.loads(done.stdout)
    assert {page["user_class"] for page in pages} == CLASSES[example]
    for page in pages:
        statements, _, rows, _ = page["page"]
        assert page["error"] is None
        assert page["page"] == page["wire"], page
        assert [statements, rows] == page["server"], page
        assert statements > 0 and rows > 0
    if example == "shop/albums":
        found = {page["user_class"]: page["page"][0] for page in pages}
        assert {name: found[name] for name in STATEMENTS} == STATEMENTS
