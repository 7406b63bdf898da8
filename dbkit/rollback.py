"""A page function whose writes are rolled back, also where it commits.

Its sessions join a transaction by a savepoint, and the transaction is never committed. But sequences do advance, and a
COMMIT that is sent as text cannot be undone. Who reads a page in this way, and when, is left to the callers.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from dbkit.database.settings import PageEnd
from dbkit.paging import PageFunction, is_async, own_session


def rolled_back(function: PageFunction, end: PageEnd) -> PageFunction:
    """A page function for the same pages, which leaves nothing behind. To be read with the end `rollback`.

    `end` is how the page would end: with `commit` it commits into its savepoint, with `autocommit` it has a transaction
    all the same.
    """
    return (_awaited if is_async(function) else _plain)(function, end)


def in_savepoint(function: PageFunction) -> dict[str, Any]:
    """The options of sessions that join a connection's transaction by a savepoint, for the pages of a function."""
    options = dict(function.session_options) if isinstance(function, own_session) else {}
    return options | {"join_transaction_mode": "create_savepoint"}


def _plain(function: PageFunction, end: PageEnd) -> PageFunction:
    def read(session: Session, *key: Any) -> Any:
        connection = session.connection(execution_options=_in_transaction(end))
        make_session = sessionmaker(connection, **in_savepoint(function))
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
        make_session = async_sessionmaker(connection, **in_savepoint(function))
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
