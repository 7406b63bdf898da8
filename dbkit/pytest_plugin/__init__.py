"""The pytest plugin: what a page costs, held in a test. See docs/pytest.md.

pytest imports this module in every run: SQLAlchemy and the drivers are imported by the first test that uses a fixture.
How a page is measured is in `dbkit.pytest_plugin.pages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dbkit.errors import DbkitError

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from dbkit.pytest_plugin.pages import PageReader

UPDATE = "--dbkit-update"
"""The option by which costs are written instead of compared."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("dbkit", "costs of SQLAlchemy pages").addoption(
        UPDATE, action="store_true", help="write what `dbkit_page(…).costs()` measures to dbkit_costs.json"
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    return "dbkit: costs are written, not compared" if config.getoption(UPDATE) else None


@pytest.fixture(scope="session")
def dbkit_engine() -> Iterator[Engine | AsyncEngine]:
    """The engine that pages are read with. Override it with your application's own, an Engine or an AsyncEngine.

    As it is, it is one of dbkit's, on psycopg and the database of DBKIT_DATABASE_URL, else the embedded one.
    """
    from dbkit.database.engines import find_database, make_engine
    from dbkit.database.server import check_server
    from dbkit.database.settings import Settings

    with _failing_in_one_line():
        database = find_database()
        check_server(database)
        engine = make_engine(database, Settings())
    yield engine
    engine.dispose()


@pytest.fixture
def dbkit_page(request: pytest.FixtureRequest, dbkit_engine: Engine | AsyncEngine) -> Iterator[PageReader]:
    """Measures a page: `dbkit_page(albums, 3).costs(statements=1, rows=40)`."""
    from dbkit.pytest_plugin.pages import PageReader
    from dbkit.pytest_plugin.stored import StoredCosts

    stored = StoredCosts(request.path, request.node.nodeid, update=request.config.getoption(UPDATE))
    with _failing_in_one_line():
        reader = PageReader(dbkit_engine, stored)
    yield reader
    reader.close()
    with _failing_in_one_line():
        stored.save()


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except DbkitError as mistake:
        raise pytest.fail.Exception(f"dbkit: {mistake}", pytrace=False) from None
