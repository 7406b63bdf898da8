"""The URL that an application's function makes its engine from: what the driver knows is kept, on a real server."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from dbkit.database.application import engine_url
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError

SETTINGS = "SELECT current_setting('application_name'), current_setting('work_mem'), current_database()"


def settings_of(url: URL) -> tuple[str, ...]:
    if "async" not in url.drivername:
        with create_engine(url).connect() as connection:
            return tuple(connection.execute(text(SETTINGS)).one())

    async def read() -> tuple[str, ...]:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            row = (await connection.execute(text(SETTINGS))).one()
        await engine.dispose()
        return tuple(row)

    return asyncio.run(read())


@pytest.mark.parametrize("stack", [name for name in STACKS if name != "asyncpg"])
def test_psycopgs_url_keeps_the_parameters(each_url: str, stack: str) -> None:
    separator = "&" if "?" in each_url else "?"
    database = DatabaseUrl.parse(f"{each_url}{separator}application_name=shop&options=-c%20work_mem%3D5MB")
    assert settings_of(engine_url(database, STACKS[stack])) == ("shop", "5MB", "dbkit")


def test_asyncpgs_url_leads_to_the_same_database(each_url: str) -> None:
    assert settings_of(engine_url(DatabaseUrl.parse(each_url), STACKS["asyncpg"]))[2] == "dbkit"


def test_what_asyncpg_knows_by_no_url_is_refused(each_url: str) -> None:
    separator = "&" if "?" in each_url else "?"
    for parameter in ("options=-c%20work_mem%3D5MB", "sslrootcert=/ca.pem"):
        database = DatabaseUrl.parse(f"{each_url}{separator}{parameter}")
        with pytest.raises(DbkitError, match=f"asyncpg knows no {parameter.partition('=')[0]} in a URL"):
            engine_url(database, STACKS["asyncpg"])
