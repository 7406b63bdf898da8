"""A page function whose writes are rolled back, also where it commits.

Its sessions join a transaction by a savepoint, and the transaction is never committed. But sequences do advance, and a
COMMIT that is sent as text cannot be undone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from dbkit.database.settings import PageEnd
from dbkit.load.page_class import PageSource
from dbkit.paging import PageFunction, own_session


def rolled_back(source: PageSource) -> PageSource:
    """The same pages, which leave nothing behind."""
    make = _awaited if source.is_async else _plain
    return replace(source, function=make(source.function, source.end), end="rollback")


def _plain(function: PageFunction, end: PageEnd) -> PageFunction:
    def read(session: Session, *key: Any) -> Any:
        connection = session.connection(execution_options=_in_transaction(end))
        make_session = sessionmaker(connection, **_session_options(function))
        if isinstance(function, own_session):
            return function(make_session, *key)
        with make_session() as inner:
            rendered = function(inner, *key)
            if end == "commit":
                inner.commit()
        return rendered

    return read


def _awaited(function: PageFunction, end: PageEnd) -> PageFunction:
    async def read(session: AsyncSession, *key: Any) -> Any:
        connection = await session.connection(execution_options=_in_transaction(end))
        make_session = async_sessionmaker(connection, **_session_options(function))
        if isinstance(function, own_session):
            return await function(make_session, *key)
        async with make_session() as inner:
            rendered = await function(inner, *key)
            if end == "commit":
                await inner.commit()
        return rendered

    return read


def _in_transaction(end: PageEnd) -> dict[str, Any]:
    return {"isolation_level": "READ COMMITTED"} if end == "autocommit" else {}


def _session_options(function: PageFunction) -> dict[str, Any]:
    options = dict(function.session_options) if isinstance(function, own_session) else {}
    return options | {"join_transaction_mode": "create_savepoint"}
