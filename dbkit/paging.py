"""The contract of a page function, how one is called, and the page functions of the todo list.

A page function is `(session, page, page_size) -> rendered page`, a plain function on a `Session`. Sync and async stacks
use the same one: `read_page_async` runs it through `AsyncSession.run_sync`, so that all stacks do the same work. For
the engine under the session see `dbkit.database`; timing and repeating pages is left to the callers.

Pages are numbered from 0. A page past the end is empty; the last one may be short.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import cast

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from dbkit.database.engines import default_engine
from dbkit.database.settings import PageEnd, SessionClose
from dbkit.todo.strategies import STRATEGIES, RenderedPage, core, joined, lazy, selectin, subquery

__all__ = (
    "DEFAULT_PAGE_SIZE",
    "STRATEGIES",
    "AnyPageFunction",
    "AsyncPageFunction",
    "PageFunction",
    "RenderedPage",
    "core",
    "joined",
    "lazy",
    "page_joined",
    "page_lazy",
    "read_page",
    "read_page_async",
    "selectin",
    "subquery",
)

PageFunction = Callable[[Session, int, int], RenderedPage]
AsyncPageFunction = Callable[[AsyncSession, int, int], Awaitable[RenderedPage]]
AnyPageFunction = PageFunction | AsyncPageFunction
DEFAULT_PAGE_SIZE = 20


def read_page(
    engine: Engine, function: PageFunction, page: int, page_size: int, end: PageEnd = "rollback"
) -> RenderedPage:
    """Read one page in a session of its own and hand the connection back.

    `end` is how the page ends (see `dbkit.database.settings.Settings.end`). Raises what the driver and SQLAlchemy
    raise.
    """
    with Session(engine) as session:
        rendered = function(session, page, page_size)
        if end == "commit":
            session.commit()
    return rendered


async def read_page_async(
    engine: AsyncEngine,
    function: AnyPageFunction,
    page: int,
    page_size: int,
    end: PageEnd = "rollback",
    close: SessionClose = "with",
) -> RenderedPage:
    """`read_page` for an async engine. A page function that is `async def` gets the `AsyncSession` and is awaited.

    `close` is how the session is closed (see `dbkit.database.settings.Settings.close`).
    """
    session = AsyncSession(engine)
    if close == "with":
        async with session:
            return await _read_in(session, function, page, page_size, end)
    try:
        return await _read_in(session, function, page, page_size, end)
    finally:
        await session.close()


async def _read_in(
    session: AsyncSession, function: AnyPageFunction, page: int, page_size: int, end: PageEnd
) -> RenderedPage:
    if inspect.iscoroutinefunction(function):
        rendered = await cast(AsyncPageFunction, function)(session, page, page_size)
    else:
        rendered = await session.run_sync(cast(PageFunction, function), page, page_size)
    if end == "commit":
        await session.commit()
    return rendered


def page_lazy(page: int, page_size: int = DEFAULT_PAGE_SIZE) -> RenderedPage:
    """One page by `lazy` from the database that `dbkit.database.engines.default_engine` finds."""
    return read_page(default_engine(), lazy, page, page_size)


def page_joined(page: int, page_size: int = DEFAULT_PAGE_SIZE) -> RenderedPage:
    """One page by `joined` from the database that `dbkit.database.engines.default_engine` finds."""
    return read_page(default_engine(), joined, page, page_size)
